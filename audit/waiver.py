"""Waiver: a broken limit that somebody answers for, for one model and until a day. It is never a PASS.

`waivers.toml` holds one `[[waiver]]` for each. A waiver takes a FAIL out of the exit code and leaves the
verdict as it is; after its day, or for another model, it does nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from audit.errors import ConfigError
from audit.evidence import Scalar
from audit.policy import Judgement, Verdict
from audit.toml import day, known_keys, optional_text, read_toml, tables, text

FILE = "waivers.toml"
_KEYS = ("finding", "model", "settings", "owner", "reason", "expires", "check", "limit")
_SETTINGS = ("task", "output", "classes", "input_range", "normalize", "predictions")
_DIGITS = 16
_HEAD = """\
# Broken limits that somebody answers for. Each holds for one model and until its day, and never longer.
# `model-audit waive RUN` shows the fingerprints of a run and adds an entry here.
"""


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """One broken limit, and who answers for it.

    Attributes:
        finding: fingerprint of the judgement, see `fingerprint`.
        model: digest of the model, see `model_digest`.
        owner: who answers for it.
        reason: why it may stay broken.
        expires: the last day on which it holds, by UTC.
        check: full name of the check, for the reader of the file.
        limit: the limit in words, for the reader of the file.
        settings: digest of how the model was called, see `settings_digest`. A waiver that names none was
            written before they counted, and holds under any.
    """

    finding: str
    model: str
    owner: str
    reason: str
    expires: date
    check: str = ""
    limit: str = ""
    settings: str = ""


@dataclass(frozen=True, kw_only=True)
class Waivers:
    """The waivers that a record was held against.

    Attributes:
        given: all of the file, those too that do nothing.
        day: the day on which they were held against it, by UTC; None where there was no file.
    """

    given: tuple[Waiver, ...] = ()
    day: date | None = None


def waived_today(given: tuple[Waiver, ...]) -> Waivers:
    """These waivers, held against a record today."""
    return Waivers(given=given, day=datetime.now(UTC).date()) if given else Waivers()


def fingerprint(check: str, item: Judgement) -> str:
    """16 hexadecimal digits that stay the same from run to run: the check, the limit, of whom and where.

    Numbers and verdicts take no part, so that the same limit is found again on the next run.
    """
    whom = sorted((str(key), str(value)) for key, value in item.group.items())
    where = sorted((str(key), _as_json(value)) for key, value in item.settings.items())
    asked = repr((check, item.limit, item.measure, whom, where))
    return hashlib.sha256(asked.encode(errors="backslashreplace")).hexdigest()[:_DIGITS]


def _as_json(value: Scalar) -> str:
    """A setting as a text that is the same before and after it went through a file: 1.0 comes back as 1."""
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def model_digest(model: Mapping[str, Any]) -> str:
    """What tells one file from another: sha256 of the model, joined with that of a factory where it has one.

    Args:
        model: `model` of a record.
    """
    file, factory = str(model.get("sha256") or ""), str(model.get("factory_sha256") or "")
    return hashlib.sha256(f"{file} {factory}".encode()).hexdigest() if factory else file


def settings_digest(model: Mapping[str, Any]) -> str:
    """What of `[model]` changes the answers of the same file: sha256 of task, output, classes and the like.

    Args:
        model: `model` of a record.

    Returns:
        64 hexadecimal digits; empty where the record tells none of them.
    """
    told = {key: _whole(model[key]) for key in _SETTINGS if model.get(key) is not None}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest() if told else ""


def _whole(value: Any) -> Any:
    """A JSON value with its whole numbers as such, as they come back from a file."""
    if isinstance(value, Mapping):
        return {str(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def waive(
    check: str, verdicts: Sequence[Judgement], waivers: Waivers, model: Mapping[str, Any]
) -> tuple[Judgement, ...]:
    """The judgements of a check; a FAIL for which a waiver holds says who answers for it.

    Args:
        check: full name of the check.
        verdicts: its judgements.
        waivers: what to hold against them.
        model: `model` of the record.
    """
    held = {item.finding: item for item in waivers.given if not idle(item, model, waivers.day)}

    def waived(item: Judgement) -> str:
        found = held.get(fingerprint(check, item)) if item.verdict is Verdict.FAIL else None
        return f"waived by {found.owner} until {found.expires}: {found.reason}" if found else ""

    return tuple(replace(item, waived=waived(item)) for item in verdicts)


def idle(item: Waiver, model: Mapping[str, Any], today: date | None) -> str:
    """Why a waiver does nothing, as the end of a sentence; empty where it holds.

    Args:
        item: the waiver.
        model: `model` of the record at hand.
        today: the day, by UTC; without one no waiver holds.
    """
    digest = model_digest(model)
    if not digest or item.model != digest:
        return f"is for the model {item.model[:12]}, and this one is {digest[:12] or 'unknown'}"
    if item.settings and item.settings != settings_digest(model):
        named = ", ".join(_SETTINGS)
        return f"is for the same file under other settings of [model]: one of {named} was another"
    if today is None or item.expires < today:
        return f"expired on {item.expires}"
    return ""


def holds(item: Waiver) -> str:
    """How far a waiver that holds reaches, as the end of a sentence."""
    if item.settings:
        return "holds"
    return (
        "holds under any settings of [model], since it was written before they counted; `model-audit waive` "
        "writes one that is for these alone"
    )


def remarks(waivers: Waivers, model: Mapping[str, Any], failed: Sequence[str]) -> list[str]:
    """A sentence for each waiver that does nothing.

    Args:
        waivers: those given.
        model: `model` of the record.
        failed: fingerprints of the limits that are broken.
    """
    told = []
    for item in waivers.given:
        why = idle(item, model, waivers.day)
        if not why and item.finding not in failed:
            why = "matches no broken limit"
        if why:
            told.append(f"the waiver of {item.owner} for {item.check or 'the limit'} {item.finding} {why}.")
    return told


def read_waivers(path: Path) -> tuple[Waiver, ...]:
    """The waivers of a file, in its order.

    Raises:
        ConfigError: not TOML, an unknown key, a waiver without fingerprint, model, owner, reason or day, or
            two for the same limit and model.
    """
    values = read_toml(path, "`model-audit waive RUN` writes one")
    known_keys(values, ("waiver",), str(path))
    given = [
        _waiver(entry, f"{path}: waiver[{place}]")
        for place, entry in enumerate(tables(values, "waiver", str(path)))
    ]
    seen: set[tuple[str, ...]] = set()
    for item in given:
        if _aim(item) in seen:
            raise ConfigError(f"{path}: {item.finding} is waived twice for the same model; keep one.")
        seen.add(_aim(item))
    return tuple(given)


def _aim(item: Waiver) -> tuple[str, ...]:
    """What no two waivers of a file may share."""
    return item.finding, item.model, item.settings


def _waiver(entry: Mapping[str, Any], where: str) -> Waiver:
    known_keys(entry, _KEYS, where)
    said = {key: text(entry, key, where) for key in ("finding", "model", "owner", "reason")}
    notes = {key: optional_text(entry, key, where) for key in ("check", "limit", "settings")}
    return Waiver(**said, **notes, expires=day(entry, "expires", where))


def with_waiver(path: Path, item: Waiver) -> str:
    """The text of a waivers file with one more waiver at its end; what stands in it stays as it is.

    Raises:
        ConfigError: the file is no waivers file, or waives the same limit for the same model already.
    """
    import tomlkit

    before = ""
    if path.exists():
        for other in read_waivers(path):
            if _aim(other) == _aim(item):
                raise ConfigError(f"{path} waives {item.finding} until {other.expires}; change it there.")
        before = path.read_text(encoding="utf-8").rstrip() + "\n"
    told = {"check": item.check, "limit": item.limit, "finding": item.finding, "model": item.model}
    told |= {"settings": item.settings, "owner": item.owner, "reason": item.reason}
    lines = [f"{key} = {tomlkit.string(value).as_string()}" for key, value in told.items() if value]
    return "\n".join([before or _HEAD, "[[waiver]]", *lines, f"expires = {item.expires}", ""])
