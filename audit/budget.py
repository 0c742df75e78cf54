"""Budget: which checks fit into a given time, by what each cost before and what a row costs here.

A check's time is the rows that it sends through the model, at the price that a row of this model has on this
machine, plus the seconds that it spends beside the model. Both numbers come from an earlier run of the same
model, or else from `costs.toml`. Where a setting differs, rows, steps and the like are taken to cost in
proportion.

Order: the checks that a limit speaks of, in the order of the plan; those whose doubts could take such a limit
its PASS; the cheapest check of each pillar that has none yet; then all others, the cheapest first. Each is
taken while it fits. This is also the order in which they run.
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.check import Check
from audit.errors import ConfigError
from audit.plainfile import real_path
from audit.record import Finding, LeftOut, Planned, Record, read_record
from audit.registry import Broken

# Settings in proportion to which a check sends more rows or spends more time.
SIZES = (
    "rows", "steps", "restarts", "samples", "permutations", "queries", "draws", "repeats", "searched",
    "local_rows", "shuffles", "beam", "angles",
)  # fmt: skip
_FILE = Path(__file__).with_name("costs.toml")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])")
_MOST_RUNS = 50
_MINUTE, _SHORT = 60, 10


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a check cost once.

    Attributes:
        forward_rows: rows sent forward through the model.
        backward_rows: those of which the gradient was taken.
        other_seconds: seconds beside these passes.
        at: the settings it ran with.
        data_rows: rows of the data it ran on.
        source: where this was measured, in words.
    """

    forward_rows: int
    backward_rows: int
    other_seconds: float
    at: Mapping[str, Any] = field(default_factory=dict)
    data_rows: int = 0
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a check should take here: seconds, and where that is known from."""

    check: str
    seconds: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Here:
    """The model, the data and the machine of a run, as far as its costs depend on them.

    Attributes:
        row_seconds: seconds of one forward row and of one forward-and-gradient row.
        data_rows: rows of the data.
        modality: kind of input.
        task: task of the model.
        capabilities: what the model can do.
    """

    row_seconds: tuple[float, float]
    data_rows: int
    modality: str = "tabular"
    task: str = "classification"
    capabilities: frozenset[str] = frozenset()


def read_duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `1.5h` or `1h 30m`.

    Raises:
        ConfigError: it is none of these, or zero.
    """
    parts = _AMOUNT.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if _AMOUNT.sub("", text).strip() or not seconds:
        raise ConfigError(f"--budget {text} is not a time; write 90s, 10m, 1.5h or 1h30m.")
    return seconds


def told(seconds: float) -> str:
    """A time for a reader: `0.4 s`, `35 s`, `10 min`, `1 h 30 min`."""
    if seconds < _SHORT:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if round(seconds) < _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def known_from_run(record: Record, source: str) -> dict[str, Known]:
    """What each check cost in an earlier run; what did not fit or broke cost what it took."""
    rows = int(record.data.get("rows") or 0)
    return {finding.check: _known(finding, rows, source) for finding in record.findings}


def _known(finding: Finding, rows: int, source: str) -> Known:
    cost = finding.cost
    passes = cost.seconds / cost.overhead if cost.overhead else 0.0
    return Known(
        forward_rows=cost.forward_rows,
        backward_rows=cost.backward_rows,
        other_seconds=max(cost.seconds - passes, 0.0),
        at=finding.settings,
        data_rows=rows,
        source=source,
    )


def known_by_table(modality: str) -> dict[str, Known]:
    """The declared costs for a kind of input; for a check that its table lacks those of another table."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))["tables"]
    found: dict[str, Known] = {}
    for name in sorted(tables, key=lambda name: name != modality):
        table = tables[name]
        for check, facts in table["checks"].items():
            shared = {"data_rows": table["data_rows"], "source": f"costs.toml: {table['source']}"}
            found.setdefault(check, Known(**facts, **shared))
    return found


def earlier_run(model_sha256: str, folders: Sequence[Path], own: Path) -> Path | None:
    """The newest run of the same model among the run folders below `folders`; not the run `own` itself."""
    found: dict[Path, float] = {}
    places = [
        place for folder in folders for at in ("*", "*/*") for place in folder.glob(f"{at}/record.json")
    ]
    for path in places:
        with suppress(OSError):
            found[real_path(path)] = path.stat().st_mtime
    newest = sorted(found, key=lambda path: found[path], reverse=True)[:_MOST_RUNS]
    for path in newest:
        if path.parent != real_path(own) and _model_of(path) == model_sha256:
            return path.parent
    return None


def _model_of(path: Path) -> Any:
    try:
        return read_record(path).model.get("sha256")
    except ConfigError:
        return None


def expected(
    plan: Sequence[Planned], checks: Mapping[str, Check | Broken], known: Mapping[str, Known], here: Here
) -> dict[str, Expected]:
    """What each planned check should take here, in seconds."""
    assumed = tomllib.loads(_FILE.read_text(encoding="utf-8"))["assumed_seconds"]
    return {item.check: _expected(item, checks[item.check], known, here, assumed) for item in plan}


def _expected(
    item: Planned, check: Check | Broken, known: Mapping[str, Known], here: Here, assumed: float
) -> Expected:
    cost = known.get(item.check)
    if isinstance(check, Broken) or not _fits(check, here):
        return Expected(check=item.check, seconds=0.0, source="it will not be run")
    if cost is None:
        return Expected(check=item.check, seconds=assumed, source="assumed: nothing is known of it")
    factor = _factor(item.settings, cost, here.data_rows)
    forward, gradient = here.row_seconds
    passes = (cost.forward_rows - cost.backward_rows) * forward + cost.backward_rows * gradient
    seconds = factor * (max(passes, 0.0) + cost.other_seconds)
    return Expected(check=item.check, seconds=seconds, source=cost.source)


def _fits(check: Check, here: Here) -> bool:
    """Whether the check fits the input, the task and the model, as far as it says what it needs."""
    return (
        (not check.modality or here.modality in check.modality)
        and (not check.tasks or here.task in check.tasks)
        and check.needs <= here.capabilities
    )


def _factor(settings: Mapping[str, Any], cost: Known, data_rows: int) -> float:
    """How much more a check does here than where its cost was measured."""
    factor = 1.0
    for key in SIZES:
        now, then = settings.get(key), cost.at.get(key)
        if key == "rows":
            now, then = _within(now, data_rows), _within(then, cost.data_rows)
        factor *= _ratio(now, then)
    # A check that takes no number of rows goes over all of the data.
    if "rows" not in settings and data_rows and cost.data_rows:
        factor *= data_rows / cost.data_rows
    return factor


def _ratio(now: Any, then: Any) -> float:
    """How many times as much; 1 where either is no amount, such as a setting left to the check."""
    return float(now / then) if _counts(now) and _counts(then) else 1.0


def _within(rows: Any, data_rows: int) -> Any:
    return min(rows, data_rows) if _counts(rows) and data_rows else rows


def _counts(value: Any) -> bool:
    """Whether a setting is an amount."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def fit(
    plan: Sequence[Planned], costs: Mapping[str, Expected], limited: Collection[str], seconds: float
) -> tuple[tuple[Planned, ...], tuple[LeftOut, ...]]:
    """The checks of a plan that fit into `seconds`, in the order in which they run, and the others."""
    left, kept, out = seconds, [], []
    for item in _ordered(plan, costs, limited):
        needed = costs[item.check].seconds
        if needed <= left:
            left -= needed
            kept.append(item)
        else:
            reason = f"it should take {told(needed)}, and {told(max(left, 0))} of the budget were left"
            out.append(LeftOut(check=item.check, title=item.title, reason=reason))
    return tuple(kept), tuple(out)


def _ordered(
    plan: Sequence[Planned], costs: Mapping[str, Expected], limited: Collection[str]
) -> Iterator[Planned]:
    first = [item for item in plan if item.check in limited]
    # What could take the number of a limit its PASS comes next.
    guards = {name for item in first for name in item.doubted_by}
    first += [item for item in plan if item.check in guards and item.check not in limited]
    yield from first
    rest = [item for item in plan if item not in first]
    rest.sort(key=lambda item: costs[item.check].seconds)
    seen = {item.check.partition(".")[0] for item in first}
    openers = []
    for item in rest:
        pillar = item.check.partition(".")[0]
        if pillar not in seen and costs[item.check].seconds:
            seen.add(pillar)
            openers.append(item)
    yield from openers
    yield from (item for item in rest if item not in openers)
