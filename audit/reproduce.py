"""Reproduce: run an audit again from its record, and say which numbers came out the same.

The same seed, plan, settings and batch size are used; the device may be another. A number is `identical` when
value, interval and the counts behind it are. Otherwise it is held against a tolerance, which is printed:

* on the same machine (processor, device, threads and versions as recorded), 1e-6;
* elsewhere, for a check that draws nothing, also a tenth of the half width of its recorded interval: about
  what one row on the edge of a decision changes, when sums are rounded in another order;
* elsewhere, for a check that draws at random or attacks, anything inside its recorded interval.

1e-6 is relative, and absolute for numbers below 1. Tables are compared on the same machine
alone: their counts carry no interval that would say how far they may move.
"""

import hashlib
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from audit.check import Check, asked_products
from audit.config import Config
from audit.environment import tool
from audit.errors import (
    EXIT_CANNOT_SAY_YES,
    EXIT_LIMIT_BROKEN,
    EXIT_OK,
    ConfigError,
    LoadError,
)
from audit.evidence import Measure, Table
from audit.plainfile import real_path
from audit.plan import Options
from audit.record import Finding, LeftOut, Planned, Record, canonical, plain, read_record
from audit.registry import Broken, installed_checks, installed_products
from audit.rerun import configured, refuse_other_facts, refuse_other_files, starts_at, trusted
from audit.supervisor import Notify, run

RELATIVE = 1e-6
EDGE = 0.1
State = Literal["identical", "within tolerance", "differs", "only in the record", "only here"]
_DRAWN_BY = "seed"
_ROUNDED = 1e-5
_NOT_A_PLACE = ("cores",)


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of the record beside the same number measured again.

    Attributes:
        check: full name of the check.
        name: the measure, or the table and cell.
        group: of whom.
        settings: settings of the measure.
        recorded: its value in the record; None where it is undefined or not there.
        now: its value measured again.
        state: how they stand to each other.
    """

    check: str
    name: str
    group: Mapping[str, Any]
    settings: Mapping[str, Any]
    recorded: Any
    now: Any
    state: State


@dataclass(frozen=True, kw_only=True)
class Again:
    """What one check gave again.

    Attributes:
        check: full name.
        drawn: whether it draws at random or attacks.
        numbers: all of its numbers.
        lost: why it could not be measured again; empty where it was, or gave no number before either.
        note: what else a reader must know, e.g. another version of the check.
    """

    check: str
    drawn: bool
    numbers: tuple[Number, ...]
    lost: str = ""
    note: str = ""

    def count(self, state: State) -> int:
        """How many numbers came out like this."""
        return sum(item.state == state for item in self.numbers)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A run beside its repetition.

    Attributes:
        run: the run folder.
        again: the folder of the repetition.
        checks: each planned check.
        elsewhere: what is another machine, device or version here: name, recorded, here.
        tolerance: the tolerance in words.
    """

    run: Path
    again: Path
    checks: tuple[Again, ...]
    elsewhere: tuple[tuple[str, str, str], ...]
    tolerance: str

    @property
    def counts(self) -> Counter[State]:
        """How many numbers came out how."""
        return Counter(item.state for check in self.checks for item in check.numbers)

    @property
    def exit_code(self) -> int:
        """1 where a number differs, else 2 where one could not be measured again, else 0."""
        counts = self.counts
        if counts["differs"] or counts["only here"]:
            return EXIT_LIMIT_BROKEN
        missing = counts["only in the record"] or any(item.lost for item in self.checks)
        return EXIT_CANNOT_SAY_YES if missing or not counts else EXIT_OK

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        counts = self.counts
        total = sum(counts.values())
        said = {
            "identical": "identical",
            "within tolerance": "within tolerance",
            "differs": "differ beyond it",
            "only in the record": "could not be measured again",
            "only here": "are not in the record",
        }
        parts = [f"{counts[state]} {words}" for state, words in said.items() if counts[state]]  # type: ignore[index]
        lost = sum(bool(item.lost) for item in self.checks)
        more = f"; {lost} checks could not be measured again" if lost else ""
        return f"Of {total} numbers {', '.join(parts) or 'none was compared'}{more}."

    def plain(self) -> dict[str, Any]:
        """The result as JSON values; of the numbers, those that are not identical."""
        states: tuple[State, ...] = (
            "identical", "within tolerance", "differs", "only in the record", "only here",
        )  # fmt: skip
        return {
            "run": str(self.run),
            "again": str(self.again),
            "exit_code": self.exit_code,
            "result": self.sentence,
            "tolerance": self.tolerance,
            "elsewhere": [list(item) for item in self.elsewhere],
            "counts": {state: self.counts[state] for state in states},
            "checks": [
                {"check": item.check, "drawn": item.drawn, "lost": item.lost, "note": item.note}
                | {state: item.count(state) for state in states}
                for item in self.checks
            ],
            "numbers": [
                plain(number)
                for item in self.checks
                for number in item.numbers
                if number.state != "identical"
            ],
        }


def reproduce(
    folder: Path, out: Path | None = None, *, config: Path | None = None, notify: Notify | None = None
) -> Reproduction:
    """Run an audit again from its record and compare the numbers.

    Args:
        folder: the run folder.
        out: the folder of the repetition, which must be new; `FOLDER-reproduced` where None.
        config: an audit.toml beside which the recorded paths start; the recorded place where None.
        notify: told of the progress.

    Raises:
        ConfigError: the record was not made by `model-audit run`, contradicts itself, or `out` exists.
        LoadError: model or data are missing or not those of the record; both digests are named.
    """
    record = read_record(folder)
    source = folder if folder.is_dir() else folder.parent
    place = f"the record of {source}"
    settings = _config(record, source, place, config)
    target = out or real_path(source).with_name(f"{real_path(source).name}-reproduced")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists; name another folder for the repetition with --out.")
    refuse_other_files(settings, record.model, record.data, place)
    trusted(settings, place, config, source, {item.check: item.settings for item in record.plan})
    plan, lost = _plan(record)
    again = _run(record, settings, config, target, plan, notify, place) if plan else None
    return _compared(record, again, lost, source, target)


def _config(record: Record, source: Path, place: str, config: Path | None) -> Config:
    """The configuration of the record, checked against what the record says of it."""
    told, file = record.run.get("config"), record.run.get("config_file")
    if not isinstance(told, Mapping):
        raise ConfigError(
            f"{place} holds no configuration; only what `model-audit run` made can be run again."
        )
    if hashlib.sha256(canonical(told)).hexdigest() != record.run.get("config_sha256"):
        raise ConfigError(
            f"{place} was altered: its configuration does not have the config_sha256 it states."
        )
    if told.get("seed") != record.run.get("seed"):
        raise ConfigError(
            f"{place} contradicts itself: its run has the seed {record.run.get('seed')}, its configuration "
            f"{told.get('seed')}."
        )
    if config is None and not file:
        raise ConfigError(f"{place} does not say where its audit.toml lies; name it with --config.")
    beside = starts_at(config, (source / str(file)).parent)
    found = configured(told, place, record.model.get("batch_size"), beside)
    # Waivers change no number, and their file need not be on this machine.
    return found.model_copy(update={"policy": found.policy.model_copy(update={"waivers": None})})


def _plan(record: Record) -> tuple[tuple[Planned, ...], dict[str, str]]:
    """The checks of the record with their settings, and why some of them cannot be run here."""
    installed, lost, plan = installed_checks(), {}, []
    for item in record.plan:
        found = installed.get(item.check)
        if not isinstance(found, Check):
            lost[item.check] = "it is not installed here" if found is None else found.reason
            continue
        try:
            plan.append(replace(item, settings=found.settings(item.settings)))
        except ConfigError as error:
            lost[item.check] = f"its settings are not those of the version here: {error}"
    return tuple(plan), lost


def _run(
    record: Record,
    settings: Config,
    config: Path | None,
    target: Path,
    plan: tuple[Planned, ...],
    notify: Notify | None,
    place: str,
) -> Record:
    """The repetition; a model or data that are not those of the record stop it and leave no folder."""
    fresh = not target.exists()

    def watch(event: str, fields: Mapping[str, Any]) -> None:
        if event == "ready":
            refuse_other_facts(fields, {"model": record.model, "data": record.data}, place)
        if notify is not None:
            notify(event, fields)

    planned = {item.check for item in plan}
    left = [
        LeftOut(check=item.check, title=item.title, reason="it cannot be run here")
        for item in record.plan
        if item.check not in planned
    ]
    options = Options(
        profile=str(record.run.get("profile") or Options.profile),
        overrides=tuple(record.run.get("overrides") or ()),
        model=str(record.run.get("model_name") or ""),
        exactly=plan,
        left_out=(*record.left_out, *left),
    )
    file = config or settings.folder / Path(str(record.run.get("config_file"))).name
    try:
        return run(settings, file, target, notify=watch, options=options)
    except LoadError:
        if fresh:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _compared(
    record: Record, again: Record | None, lost: Mapping[str, str], source: Path, target: Path
) -> Reproduction:
    here = again.environment if again else {}
    elsewhere = tuple(_elsewhere(record, here))
    installed, products = installed_checks(), installed_products()
    now = {item.check: item for item in again.findings} if again else {}
    checks = []
    for item in record.findings:
        rule = _Rule(draws(installed.get(item.check), products), bool(elsewhere))
        checks.append(_check(item, now.get(item.check), rule, lost.get(item.check, "")))
    words = _tolerance(elsewhere=bool(elsewhere))
    return Reproduction(run=source, again=target, checks=tuple(checks), elsewhere=elsewhere, tolerance=words)


def _elsewhere(record: Record, here: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What of the environment is not as recorded."""
    if not here:
        return
    before, now = dict(record.environment), dict(here)
    pairs = [
        (key, before.get(key), now.get(key)) for key in before | now if key not in ("packages", *_NOT_A_PLACE)
    ]
    packages = [part.get("packages") or {} for part in (before, now)]
    pairs += [(name, packages[0].get(name), packages[1].get(name)) for name in packages[0] | packages[1]]
    pairs.append((tool()["name"], record.tool.get("version"), tool()["version"]))
    yield from ((name, str(old), str(new)) for name, old, new in pairs if old != new)


def _tolerance(*, elsewhere: bool) -> str:
    same = (
        f"Machine, device and versions are as recorded, so a number may differ by {RELATIVE:g} (relative; "
        "absolute below 1)."
    )
    other = (
        f"Machine, device or versions are not as recorded. A number may differ by {RELATIVE:g} (relative; "
        "absolute below 1); that of a check that draws nothing also by a tenth of the half width of its "
        "recorded interval, about what one row on the edge changes; that of a check that draws at random or "
        "attacks may lie anywhere inside its recorded interval. Tables carry none and are not compared."
    )
    return other if elsewhere else same


def draws(check: Check | Broken | None, products: Mapping[str, Any]) -> bool:
    """Whether a check draws at random: it asks for the seed, itself or through a product."""
    asked, seen = list(check.asks) if isinstance(check, Check) else [], set()
    while asked:
        name = asked.pop()
        if name == _DRAWN_BY:
            return True
        if name not in seen and callable(products.get(name)):
            seen.add(name)
            asked += asked_products(products[name])
    return False


@dataclass(frozen=True)
class _Rule:
    """What decides the tolerance: whether a check draws, and whether this is another machine."""

    drawn: bool
    elsewhere: bool


def _check(old: Finding, new: Finding | None, rule: _Rule, lost: str) -> Again:
    """Numbers of one check side by side."""
    if old.status != "measured":
        extra = new is not None and new.status == "measured"
        numbers = tuple(_numbers(replace(old, measures=(), tables=()), new, rule)) if extra else ()
        return Again(check=old.check, drawn=rule.drawn, numbers=numbers, note=f"gave no number: {old.reason}")
    if new is None or new.status != "measured":
        why = lost or (new.reason if new is not None else "it was not run again")
        bare = replace(old, measures=(), tables=())
        return Again(check=old.check, drawn=rule.drawn, lost=why,
                     numbers=tuple(_numbers(old, bare, rule)))  # fmt: skip
    note = f"version {new.version} here, {old.version} in the record" if new.version != old.version else ""
    return Again(check=old.check, drawn=rule.drawn, note=note,
                 numbers=tuple(_numbers(old, new, rule)))  # fmt: skip


def _numbers(old: Finding, new: Finding | None, rule: _Rule) -> Iterator[Number]:
    """Every measure, and every number in a table."""
    after = new.measures if new is not None else ()
    for before, now in _rounded(list(_paired(old.measures, after, _key))):
        item = before or now
        if item is not None:
            yield Number(
                check=old.check,
                name=item.name,
                group=item.group,
                settings=item.settings,
                recorded=None if before is None else before.value,
                now=None if now is None else now.value,
                state=_measure_state(before, now, rule),
            )
    if not rule.elsewhere:
        after_tables = new.tables if new is not None else ()
        for one, two in _paired(old.tables, after_tables, lambda table: table.name):
            yield from _cells(old.check, one, two)


def _paired(old: Sequence[Any], new: Sequence[Any], key: Any) -> Iterator[tuple[Any, Any]]:
    """Items of the same key, in order; None on the side where there is none."""
    left: dict[str, list[Any]] = {}
    for item in new:
        left.setdefault(key(item), []).append(item)
    for item in old:
        same = left.get(key(item))
        yield item, same.pop(0) if same else None
    yield from ((None, item) for items in left.values() for item in items)


def _rounded(pairs: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """The pairs; two that stand alone are joined where only measured settings were rounded otherwise."""
    alone = [now for before, now in pairs if before is None]
    for before, now in pairs:
        if before is None:
            continue
        found = next((item for item in alone if now is None and _alike(before, item)), now)
        if found is not now:
            alone = [item for item in alone if item is not found]
        yield before, found
    yield from ((None, item) for item in alone)


def _alike(old: Measure, new: Measure) -> bool:
    """Whether two numbers are the same one: a setting such as the mean score of a bin is itself measured."""
    sides = [(item.name, dict(item.group), set(item.settings)) for item in (old, new)]
    if sides[0] != sides[1]:
        return False
    return all(_same_setting(old.settings[key], new.settings[key]) for key in old.settings)


def _same_setting(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=_ROUNDED)
    return bool(old == new)


def _key(item: Measure) -> str:
    return canonical([item.name, item.group, item.settings]).decode()


def _measure_state(old: Measure | None, new: Measure | None, rule: _Rule) -> State:
    if old is None or new is None:
        return "only here" if old is None else "only in the record"
    if canonical(old) == canonical(new):
        return "identical"
    pairs = [(old.value, new.value), (old.low, new.low), (old.high, new.high)]
    if all(near(before, now, _slack(old, rule)) for before, now in pairs):
        inside = not (rule.elsewhere and rule.drawn) or _inside(old, new)
        return "within tolerance" if inside and _same_counts(old, new, rule) else "differs"
    return "differs"


def _same_counts(old: Measure, new: Measure, rule: _Rule) -> bool:
    """Whether what the number follows from may have changed: on the same machine it may not."""
    same = _close(plain(old.statistics), plain(new.statistics)) and old.n == new.n
    return rule.elsewhere or same


def _close(old: Any, new: Any) -> bool:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_close(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_close, old, new))
    if _is_number(old) and _is_number(new):
        return near(old, new, 0.0)
    return bool(old == new)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def near(old: float | None, new: float | None, slack: float) -> bool:
    """Whether two numbers differ by no more than 1e-6 or `slack`; an undefined one is near another only.

    Args:
        old: the recorded number.
        new: the number measured again.
        slack: what it may differ by, in its own unit.
    """
    if old is None or new is None:
        return old is new
    return abs(old - new) <= max(slack, RELATIVE * max(1.0, abs(old), abs(new)))


def _slack(item: Measure, rule: _Rule) -> float:
    """What value and ends may differ by; what was drawn must also lie inside the recorded interval."""
    if not rule.elsewhere or item.low is None or item.high is None:
        return 0.0
    width = item.high - item.low
    return width if rule.drawn else EDGE * width / 2


def _inside(old: Measure, new: Measure) -> bool:
    """Whether a number lies inside its recorded interval, where it has one."""
    if old.low is None or old.high is None or new.value is None:
        return near(old.value, new.value, 0.0)
    return old.low <= new.value <= old.high


def _cells(check: str, old: Table | None, new: Table | None) -> Iterator[Number]:
    """Numbers of a table by row and column: identical, near, or not; a table on one side is one number."""
    table = old or new
    if table is None:
        return
    common: dict[str, Any] = {"check": check, "group": {}, "settings": {}}
    name = f"table '{table.name}'"
    if old is None or new is None:
        state: State = "only here" if old is None else "only in the record"
        yield Number(name=name, recorded=None, now=None, state=state, **common)
        return
    if [list(old.columns), len(old.rows)] != [list(new.columns), len(new.rows)]:
        sizes = (f"{len(old.rows)} rows", f"{len(new.rows)} rows")
        yield Number(name=name, recorded=sizes[0], now=sizes[1], state="differs", **common)
        return
    for place, (before, now) in enumerate(zip(old.rows, new.rows, strict=True)):
        for column, one, two in zip(old.columns, before, now, strict=True):
            if _is_number(one) or _is_number(two) or one != two:
                where = f"{name}, row {place + 1}, {column}"
                yield Number(name=where, recorded=one, now=two, state=_cell_state(one, two), **common)


def _cell_state(old: Any, new: Any) -> State:
    if canonical([old]) == canonical([new]):
        return "identical"
    return "within tolerance" if _is_number(old) and _is_number(new) and near(old, new, 0.0) else "differs"
