"""Record: the whole run as JSON. Everything before it computes; everything after it is a function of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from audit.errors import ConfigError, nearest
from audit.evidence import Doubt, Figure, Measure, Scalar, Table
from audit.jsontext import parse_json
from audit.plainfile import plain_file
from audit.policy import Judgement, Limit, Policy, Verdict
from audit.waiver import Waiver, Waivers

SCHEMA = "model-audit/record/1"
Status = Literal["measured", "not_applicable", "not_evaluable", "broken"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a check cost.

    Attributes:
        forward_rows: rows sent forward through the model.
        backward_rows: rows whose gradient with respect to the input was taken.
        seconds: wall time of the check.
        overhead: `seconds` over the time that the same rows take as plain passes of this model on this
            machine; None where no row was sent.
        peak_bytes: peak memory on the accelerator; None on the CPU.
    """

    forward_rows: int = 0
    backward_rows: int = 0
    seconds: float = 0.0
    overhead: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file of the run folder that a finding refers to."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One check that the audit set out to run.

    Attributes:
        check: full name.
        title: what the check calls itself.
        asked: `name` when asked for by its full name or spoken of by a limit, `pattern` otherwise.
        settings: the settings it is run with, defaults filled in.
        doubted_by: the installed checks that can show its numbers not to be relied on, each with the names of
            those measures.
    """

    check: str
    title: str = ""
    asked: Literal["name", "pattern"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    doubted_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def unheard(
        self, measures: Collection[str], measured: Collection[str]
    ) -> Iterator[tuple[str, list[str]]]:
        """Who could have spoken against some of its `measures` and is not among the checks `measured`."""
        for other, doubted in sorted(self.doubted_by.items()):
            about = sorted(set(measures).intersection(doubted))
            if about and other not in measured:
                yield other, about


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One check that was asked for and that a profile, a budget or the command line took out of the plan.

    Attributes:
        check: full name.
        reason: why it was not run, in words.
        title: what the check calls itself.
    """

    check: str
    reason: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check's evidence, or the reason there is none, and its verdicts.

    Attributes:
        check: full name of the check.
        version: its version.
        title: first line of its docstring.
        text: the rest of its docstring, the explanation that a reviewer reads.
        settings: what it ran with.
        status: whether it measured, did not fit, could not be answered, or broke.
        reason: one sentence, empty when measured.
        doubts: numbers of other findings that this one makes unfit to pass.
        verdicts: one judgement a limit and measure; empty when nothing was asked of it.
    """

    check: str
    version: str
    title: str
    status: Status
    text: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    measures: tuple[Measure, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    caveats: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    cost: Cost = field(default_factory=Cost)
    verdicts: tuple[Judgement, ...] = ()

    def measure(self, name: str, group: Mapping[str, str] | None = None, **settings: Scalar) -> Measure:
        """The one number of this name: of the whole, or of a group, and at these settings.

        Raises:
            ConfigError: there is none, or more than one.
        """
        whom = {} if group is None else dict(group)
        named = [item for item in self.measures if item.name == name and dict(item.group) == whom]
        found = [item for item in named if settings.items() <= dict(item.settings).items()]
        if len(found) != 1:
            known = nearest(name, {item.name for item in self.measures}) if not named else ""
            asked = ", ".join(f"{key} = {value}" for key, value in {**whom, **settings}.items())
            raise ConfigError(
                f"{self.check} has {len(found)} numbers '{name}'{f' where {asked}' if asked else ''}{known}; "
                "say which by its group and settings."
            )
        return found[0]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of this finding; NOT_JUDGED when it measured and nothing was asked."""
        if self.status == "broken":
            return Verdict.BROKEN
        if self.status == "not_applicable":
            return Verdict.NOT_APPLICABLE
        if self.status == "not_evaluable":
            return Verdict.NOT_EVALUABLE
        order = (Verdict.FAIL, Verdict.NOT_EVALUABLE, Verdict.INCONCLUSIVE, Verdict.PASS)
        given = {judgement.verdict for judgement in self.verdicts}
        return next((verdict for verdict in order if verdict in given), Verdict.NOT_JUDGED)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The answer of the whole audit.

    Attributes:
        verdict: PASS, FAIL, INCONCLUSIVE, NOT_EVALUABLE, BROKEN, NOT_APPLICABLE or NOT_JUDGED.
        exit_code: what the command line returns, under every output format.
        reasons: sentences that explain it, the gravest first.
        counts: how many limits (or checks that gave none) ended in each verdict.
        planned: checks planned.
        measured: checks measured.
        waived: broken limits that somebody answers for; they are among the FAILs of `counts`.
    """

    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    planned: int = 0
    measured: int = 0
    waived: int = 0


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure of a run beside the same measure of its baseline.

    Attributes:
        check: full name of the check.
        measure: the difference, new less base, with its interval at the family-wise level and the statistics
            that it follows from. Where no direction is better but nearness to 0 or to 1 is, it is the
            difference of how near both are: of |value|, and of the smaller of value and 1/value.
        base: the value in the baseline; None where it has none.
        new: the value in this run.
        moved: `worse` or `better` where the interval leaves out 0, `changed` where neither direction is
            better, `unchanged` where it does not; empty where nothing was compared.
        state: what a reader is told first. `fixed` and `new` are a FAIL before that is a PASS now, and a
            FAIL that was none; `added` and `no longer tested` stand in one run alone; `not comparable` was
            measured in another way; `not compared` has no interval. Otherwise what it `moved`.
        reason: why it was not compared, or how it was where the rows could not be paired.
        was: the verdict of the baseline under the policy of this run.
        now: the verdict of this run, change aside.
    """

    check: str
    measure: Measure
    base: float | None = None
    new: float | None = None
    moved: Literal["worse", "better", "changed", "unchanged", ""] = ""
    state: Literal[
        "fixed", "new", "worse", "better", "changed", "unchanged", "added", "no longer tested",
        "not comparable", "not compared",
    ] = "not compared"  # fmt: skip
    reason: str = ""
    was: str = ""
    now: str = ""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The run that this one is compared with, and what changed.

    Attributes:
        run: id of the baseline's run.
        record_sha256: hash of its canonical record.
        model: file and `sha256` of its model.
        paired: whether both models were asked about the same rows and the answers to each were kept.
        why: one sentence on that.
        level: one minus the chance of any wrong `worse`, `better` or `changed`.
        comparisons: how many numbers share that level (Holm).
        alike: how many more were compared and could not differ, because every row was answered alike.
        changes: one for each measure of either run.
    """

    run: str
    record_sha256: str
    model: Mapping[str, Any]
    paired: bool
    why: str
    level: float
    comparisons: int = 0
    alike: int = 0
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """The whole run. Top-level keys are fixed by the published schema (`model-audit schema`)."""

    schema: str
    tool: Mapping[str, Any]
    run: Mapping[str, Any]
    environment: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    policy: Policy
    plan: tuple[Planned, ...]
    findings: tuple[Finding, ...]
    verdict: Outcome
    system: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    waivers: Waivers = field(default_factory=Waivers)
    baseline: Baseline | None = None

    def _repr_html_(self) -> str:
        """The technical report, for a notebook."""
        from audit.render import render

        return render(self)


_NOUNS = (
    Doubt, Measure, Table, Figure, Limit, Policy, Judgement, Cost, Artifact, Planned, LeftOut, Finding,
    Outcome, Change, Baseline, Record, Waiver, Waivers,
)  # fmt: skip


_JSON_SCALARS = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """A noun as JSON values: dataclasses become objects, tuples arrays, dates and numpy scalars plain.

    A field that is kept beside the record, as a file of its own, is left out.
    """
    if type(value) in _JSON_SCALARS:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in _kept(type(value))}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bytes):
        return str(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    method = next((name for name in ("isoformat", "item") if hasattr(value, name)), None)
    return getattr(value, method)() if method else value


@cache
def _kept(noun: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(noun) if "beside" not in item.metadata)


def canonical(value: Any) -> bytes:
    """Canonical JSON (RFC 8785): the same value gives the same bytes; NaN and infinity are refused."""
    import rfc8785

    return rfc8785.dumps(plain(value))


@cache
def _adapter(noun: type) -> Any:
    from pydantic import ConfigDict, TypeAdapter, with_config

    for part in _NOUNS:
        with_config(ConfigDict(extra="forbid"))(part)
    return TypeAdapter(noun)


def finding_from(value: Any) -> Finding:
    """A finding from its JSON value, as a journal line holds it."""
    finding: Finding = _adapter(Finding).validate_python(value)
    return finding


def record_from(value: Any, where: str) -> Record:
    """A record from its JSON value; `where` names the file in the error."""
    from pydantic import ValidationError

    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise ConfigError(f"{where} is not a record of this tool: its schema is {found!r}, not '{SCHEMA}'.")
    try:
        record: Record = _adapter(Record).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where} is damaged at '{place}': {first['msg']}.") from None
    return record


def read_record(run: Path) -> Record:
    """The record of a run folder (or the record file itself)."""
    path = run / "record.json" if run.is_dir() else run
    try:
        content = plain_file(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; a run folder holds a record.json.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return record_from(parse_json(content, str(path)), str(path))


def as_read(record: Record) -> Record:
    """The record as it comes back from its file: keys in canonical order, whole numbers as such.

    What is drawn from a record is then the same before and after it was written. A text that has no
    canonical form (half a surrogate pair) leaves the record as it is.
    """
    if _is_as_read(record):
        return record
    try:
        return record_from(parse_json(canonical(record), "the record"), "the record")
    except ValueError:
        return record


def _is_as_read(value: Any) -> bool:
    """Whether a noun, or what a field of one holds, is as a file brings it back."""
    if type(value) in _JSON_SCALARS:
        return True
    if isinstance(value, Mapping):
        return _is_in_order(value) and _are_as_read(value.values())
    if is_dataclass(value):
        return all(map(_is_as_read, vars(value).values()))
    return not isinstance(value, Sequence) or isinstance(value, str) or _are_as_read(value)


def _are_as_read(values: Iterable[Any]) -> bool:
    """The same for what no type of a field brings back: a whole number written as 1.0 is read as 1."""
    for value in values:
        if type(value) is float:
            if value.is_integer():
                return False
        elif type(value) not in _JSON_SCALARS and not _is_as_read(value):
            return False
    return True


def _is_in_order(value: Mapping[str, Any]) -> bool:
    keys: list[Any] = [str(key) for key in value]
    if not all(map(str.isascii, keys)):
        keys = [key.encode("utf-16-be", "surrogatepass") for key in keys]
    return keys == sorted(keys)


def write_record(record: Record, run: Path) -> Path:
    """Write `record.json` into the run folder, whole or not at all."""
    path = run / "record.json"
    part = path.with_suffix(".part")
    part.write_bytes(canonical(record))
    part.replace(path)
    return path


def json_schema() -> dict[str, Any]:
    """The published JSON schema of a record."""
    schema: dict[str, Any] = _adapter(Record).json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA
    return schema
