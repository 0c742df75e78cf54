"""`model-audit waive`: put a broken limit on record, with who answers for it and until when."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.commands.options import Json, Run, print_json
from audit.commands.writing import write_file
from audit.errors import EXIT_OK, ConfigError, nearest

if TYPE_CHECKING:
    from audit.policy import Judgement
    from audit.record import Record

    Broken = Mapping[str, tuple[str, Judgement]]


def waive(
    run: Run,
    finding: Annotated[
        list[str] | None, typer.Argument(help="Fingerprints of broken limits; without one they are listed.")
    ] = None,
    owner: Annotated[str, typer.Option(help="Who answers for it, and how to reach them.")] = "",
    reason: Annotated[str, typer.Option(help="Why the limit may stay broken until then.")] = "",
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day on which it holds, by UTC.")
    ] = None,
    file: Annotated[Path, typer.Option(help="The file to add to.")] = Path("waivers.toml"),
    as_json: Json = False,
) -> int:
    """Waive a broken limit for this model until a day, or list what is broken with its fingerprints."""
    from audit.judge import judge
    from audit.record import read_record
    from audit.waiver import waived_today

    measured = read_record(run)
    record = judge(measured, None, waived_today(measured.waivers.given))
    broken = _broken(record)
    if not finding:
        _list(broken, as_json=as_json)
        return EXIT_OK
    said = {"owner": _said("--owner", owner), "reason": _said("--reason", reason)}
    last = _day(expires)
    for name in finding:
        if name not in broken:
            raise ConfigError(f"'{name}' is no broken limit of {run}{nearest(name, broken)}.")
    for name in finding:
        _add(file, name, broken, record, last, said)
    if as_json:
        print_json({"file": str(file), "waived": finding, "expires": str(last)})
    else:
        print(f'{file}: {len(finding)} waived until {last}; audit.toml names the file: waivers = "{file}"')  # noqa: T201
    return EXIT_OK


def _broken(record: "Record") -> "Broken":
    from audit.policy import Verdict
    from audit.waiver import fingerprint

    return {
        fingerprint(item.check, judged): (item.check, judged)
        for item in record.findings
        for judged in item.verdicts
        if judged.verdict is Verdict.FAIL
    }


def _list(broken: "Broken", *, as_json: bool) -> None:
    from audit.terminal import console, show_list

    columns = ("finding", "check", "limit", "group", "waived")
    rows = [
        (name, check, item.limit, ", ".join(f"{k} = {v}" for k, v in item.group.items()), item.waived)
        for name, (check, item) in broken.items()
    ]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        show_list(rows, columns, console())
    else:
        print("no limit is broken")  # noqa: T201 - this is the command line


def _said(name: str, value: str) -> str:
    text = " ".join(value.split())
    if not text:
        raise ConfigError(f"{name} is missing: a waiver says who answers for it and why.")
    return text


def _day(expires: datetime | None) -> date:
    if expires is None:
        raise ConfigError("--expires is missing: a waiver ends on a day such as 2027-01-31.")
    if expires.date() < datetime.now(UTC).date():
        raise ConfigError(f"--expires = {expires.date()} has passed; a waiver must end in the future.")
    return expires.date()


def _add(
    file: Path, name: str, broken: "Broken", record: "Record", last: date, said: Mapping[str, str]
) -> None:
    from audit.waiver import Waiver, model_digest, settings_digest, with_waiver

    check, item = broken[name]
    model = model_digest(record.model)
    if not model:
        raise ConfigError("the record does not say which model it is of, so nothing of it can be waived.")
    whom = ", ".join(f"{key} = {value}" for key, value in item.group.items())
    limit = f"{item.limit} ({whom})" if whom else item.limit
    aim = {"finding": name, "model": model, "settings": settings_digest(record.model)}
    one = Waiver(**aim, expires=last, check=check, limit=limit, **said)
    write_file(file, with_waiver(file, one).encode())
