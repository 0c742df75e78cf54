"""The evidence that FGSM and PGD share: robust accuracy over epsilon, whole and by group."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from audit.attack.result import AtEpsilon, AttackResult, Flags
from audit.attack.space import Space
from audit.checks.robustness.self_checks import SelfCheck, table, unreliable
from audit.checks.robustness.setting import setting
from audit.dataset import Dataset, Doubles, Floats, Ints
from audit.evidence import Altered, Evidence, Figure, Measure, Table
from audit.outcomes import attacked
from audit.stats import proportion

LARGEST = 1e9
"""Largest radius that may be asked for: the square of a much larger one is no number in single precision."""

Radii = Annotated[list[Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]], Field(min_length=1)]
Rows = Annotated[int, Field(ge=1)]
LATE_SHARE = 0.02

_COUNTED = (
    "epsilon",
    "rows",
    "already wrong",
    "fooled",
    "withstood",
    "claimed but rejected",
    "zero gradient",
    "gradient not finite",
    "tried on its own",
    "fooled on its own",
)


def robust_evidence(
    result: AttackResult,
    data: Dataset,
    space: Space,
    checks: Sequence[SelfCheck],
    epsilons: Sequence[float],
    justification: str,
) -> Evidence:
    """Measures, tables, figures and caveats of one attack.

    Args:
        result: what the attack found; epsilon 0 is among its radii.
        data: the rows that were attacked.
        space: what the attack might change.
        checks: the self-checks of the attack.
        epsilons: the radii that were asked for.
        justification: the user's sentence on why these radii; empty when there is none.
    """
    asked = [entry.epsilon for entry in result.at if entry.epsilon in set(epsilons)]
    measures = [
        item
        for group, members in _groups(result, data)
        for item in _measures(result, checks, asked, group, members)
    ]
    return Evidence(
        measures=measures,
        tables=(_counts(result), table(checks, result.attacked), setting(result)),
        figures=tuple(_figures(measures, data)),
        caveats=tuple(_caveats(result, data, space, checks, justification)),
        outcomes=attacked(data, result),
        attack=result,
    )


def nearest_first(
    rows: Ints, distances: Doubles, examples: Floats, reach: float, **how: str
) -> Iterator[Altered]:
    """The examples that lie within a distance, the nearest first; nothing where there is none.

    Args:
        rows: [K] indices in the data, ascending.
        distances: [K] how far the example of each lies.
        examples: [K, ...] the examples.
        reach: the largest distance.
        how: `method`, `norm` and `scale` of the search.
    """
    near = np.flatnonzero(distances <= reach)
    if not len(near):
        return
    order = near[np.argsort(distances[near], kind="stable")]
    farthest = float(distances[order[-1]])

    def make(chosen: Ints) -> Floats:
        found: Floats = examples[np.searchsorted(rows, chosen)]
        return found

    words = f"moved by up to {farthest:.4g} ({how['norm']})"
    yield Altered(words=words, rows=rows[order], make=make, attack={**how, "epsilon": farthest})


def why(justification: str) -> str:
    """What the reader is told of the reason for these radii; a warning where nobody has given one."""
    if justification:
        return f"Why these values of epsilon: {justification}"
    return (
        "Nobody has stated why these values of epsilon are the right ones; say what an attacker could "
        "change or a person would not notice in the setting 'justification'."
    )


def _groups(result: AttackResult, data: Dataset) -> Iterator[tuple[dict[str, str], Flags]]:
    """The whole, then every group of every sensitive feature, with its members among the rows [R]."""
    yield {}, np.ones(len(result.rows), dtype=bool)
    for name, feature in data.sensitive.items():
        codes = feature.codes[result.rows]
        for code, group in enumerate(feature.groups):
            yield {name: group}, codes == code


def _measures(
    result: AttackResult,
    checks: Sequence[SelfCheck],
    epsilons: Sequence[float],
    group: dict[str, str],
    members: Flags,
) -> Iterator[Measure]:
    """Clean accuracy, then robust accuracy and success rate at each radius, of some of the rows."""
    total, correct = int(members.sum()), int((result.correct & members).sum())
    nobody = "" if correct else f"0 of {total} rows are classified correctly, so none was attacked"
    yield proportion("clean_accuracy", correct, total, group=group, better="higher")
    for epsilon in epsilons:
        standing = int((result.robust(epsilon) & members).sum())
        common: dict[str, Any] = {
            "group": group,
            "settings": {"epsilon": epsilon},
            "unreliable": unreliable(checks, epsilon),
        }
        yield proportion("robust_accuracy", standing, total, better="higher", **common)
        yield proportion(
            "attack_success_rate", correct - standing, correct, better="lower", reason=nobody, **common
        )


def _counts(result: AttackResult) -> Table:
    return Table(
        name="counts",
        title="What became of the rows",
        columns=_COUNTED,
        rows=[_count(result, entry) for entry in result.at],
        note="Rows already wrong are not attacked and count as not robust. Each fooled row was judged again: "
        "it is inside epsilon, inside the valid range and misclassified in a fresh pass. On its own: what "
        "the attack does at this epsilon whatever it found at a smaller one, on the rows that still stood "
        "and on some of those broken before, tried again as if for the first time.",
    )


def _count(result: AttackResult, entry: AtEpsilon) -> tuple[float | int | None, ...]:
    """One row of the table, in the order of `_COUNTED`."""
    fooled = int(entry.fooled.sum())
    return (
        entry.epsilon,
        len(result.rows),
        len(result.rows) - result.attacked,
        fooled,
        result.attacked - fooled,
        sum(entry.rejected.values()),
        int(entry.zero.sum()),
        int(entry.nan.sum()),
        None if entry.raw is None else entry.raw.tried,
        None if entry.raw is None else entry.raw.fooled,
    )


def _figures(measures: Sequence[Measure], data: Dataset) -> Iterator[Figure]:
    """One curve for all rows, and one with a line for each group of each sensitive feature."""
    yield _curve("robust_accuracy", "Robust accuracy", [("all rows", _points(measures, {}))])
    for name, feature in data.sensitive.items():
        lines = [(group, _points(measures, {name: group})) for group in feature.groups]
        yield _curve(f"robust_accuracy_by_{name}", f"Robust accuracy by {name}", lines)


def _points(measures: Sequence[Measure], group: dict[str, str]) -> list[tuple[float, Measure]]:
    """(epsilon, measure) ascending, epsilon 0 being the clean accuracy; undefined ones left out."""
    mine = [m for m in measures if dict(m.group) == group and m.value is not None]
    clean = [(0.0, m) for m in mine if m.name == "clean_accuracy"]
    attacked = [(float(m.settings["epsilon"]), m) for m in mine if m.name == "robust_accuracy"]
    return clean + [(epsilon, m) for epsilon, m in attacked if epsilon > 0]


def _curve(name: str, title: str, lines: Sequence[tuple[str, list[tuple[float, Measure]]]]) -> Figure:
    told = "; ".join(
        f"{label}: " + ", ".join(f"{m.value:.3f} at {epsilon:.4g}" for epsilon, m in points)
        for label, points in lines
        if points
    )
    series = [
        {
            "name": label,
            "x": [epsilon for epsilon, _ in points],
            "y": [m.value for _, m in points],
            "low": [m.low for _, m in points],
            "high": [m.high for _, m in points],
        }
        for label, points in lines
    ]
    return Figure(
        name=name,
        title=f"{title}{_ends(lines)}",
        kind="curve",
        alt=f"{title} over epsilon. {told}.",
        data={"x_label": "epsilon", "y_label": "robust accuracy", "series": series},
    )


def _ends(lines: Sequence[tuple[str, list[tuple[float, Measure]]]]) -> str:
    """`: from .98 without an attack to .08 at epsilon 0.3`, or the least and most of several lines."""
    ends = [(points[-1][1].value or 0.0, label) for label, points in lines if points]
    if not ends:
        return ""
    furthest = max(points[-1][0] for _, points in lines if points)
    (low, lowest), (high, highest) = min(ends), max(ends)
    if len(lines) == 1:
        clean = lines[0][1][0][1].value
        return f": from {clean:.3f} without an attack to {low:.3f} at epsilon {furthest:.4g}"
    return f": {low:.3f} ({lowest}) to {high:.3f} ({highest}) at epsilon {furthest:.4g}"


def _caveats(
    result: AttackResult, data: Dataset, space: Space, checks: Sequence[SelfCheck], justification: str
) -> Iterator[str]:
    yield (
        "An attack that fails proves nothing: robust accuracy is an upper bound, and a stronger attack may "
        "lower it."
    )
    yield from space.caveats
    yield why(justification)
    if len(result.rows) < len(data):
        yield f"{len(result.rows)} of {len(data)} rows were looked at, drawn by the seed of the audit."
    failed = [item.name for item in checks if item.failed]
    if failed:
        yield f"The attack failed its own checks ({'; '.join(failed)}), so its numbers may be far too good."
    yield from _late(result)


def _late(result: AttackResult) -> Iterator[str]:
    for entry in result.at:
        if entry.epsilon > 0 and entry.late > LATE_SHARE * max(1, result.attacked):
            yield (
                f"At epsilon {entry.epsilon:g}, {entry.late} of {result.attacked} attacked rows fell only in "
                "the last quarter of the steps: more steps would lower robust accuracy further."
            )
