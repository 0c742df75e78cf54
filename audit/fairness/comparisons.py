"""Comparisons: each group against a reference, and the largest difference between any two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from audit.evidence import Measure
from audit.fairness.cells import RATES, Cells, below
from audit.stats import measure

COMPARED = tuple(RATES)
ERROR_RATIO, TREATMENT = "false_negatives_per_false_positive", "treatment_equality_difference"
LARGEST = {
    "demographic_parity_difference": ("selection_rate",),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "predictive_parity_difference": ("positive_predictive_value",),
    "predictive_equality_difference": ("false_positive_rate",),
    "overall_accuracy_equality_difference": ("accuracy",),
    "conditional_use_accuracy_equality_difference": (
        "positive_predictive_value",
        "negative_predictive_value",
    ),
}


@dataclass(frozen=True)
class Pair:
    """A group and the one it is compared with; no `base`, with the reason, when there is none.

    `picked_from` counts the comparisons that this one was picked from by the data: of G groups the best
    could have been any, so the G - 1 comparisons with it stand for all G (G - 1) / 2 pairs.
    """

    group: int
    base: int | None
    reason: str = ""
    picked_from: int = 1


def named(item: Cells, reference: str | Sequence[str]) -> list[int]:
    """Groups that a reference names: by the whole name, or by a list that holds every part of it."""
    names = {reference} if isinstance(reference, str) else set(reference)
    return [g for g in item.known() if item.label(g) in names or names.issuperset(item.groups[g].values())]


def pairs(item: Cells, reference: str | Sequence[str]) -> list[Pair]:
    """Who is compared with whom.

    Args:
        item: the counts.
        reference: `best` (highest selection rate), `largest`, `all` (every unordered pair once, the less
            selected against the more selected), or the name of a group. Where no group has that name,
            the best is taken.
    """
    compared = item.compared()
    small = [
        Pair(g, None, f"{item.size(g)} rows are fewer than the floor of {item.floor}")
        for g in item.known()
        if g not in compared
    ]
    if len(compared) < 2:  # noqa: PLR2004 - a comparison needs two groups
        return [*small, *(Pair(g, None, "there is no second group to compare with") for g in compared)]
    if reference == "all":
        both = ((min(p, key=lambda g: _rank(item, g)), p) for p in combinations(compared, 2))
        return [*small, *(Pair(low, p[0] if low == p[1] else p[1]) for low, p in both)]
    base = _base(item, compared, reference)
    by_data = reference != "largest" and base not in ([] if reference == "best" else named(item, reference))
    return [*small, *_against(item, base, (len(compared) + 1) // 2 if by_data else 1)]


def _against(item: Cells, base: int, picked_from: int) -> list[Pair]:
    compared = item.compared()
    if base in compared:
        return [Pair(g, base, picked_from=picked_from) for g in compared if g != base]
    few = f"the reference group {item.label(base)} has {item.size(base)} rows, fewer than {item.floor}"
    return [Pair(g, None, few) for g in compared]


def _base(item: Cells, compared: Sequence[int], reference: str | Sequence[str]) -> int:
    if reference == "largest":
        return max(compared, key=lambda g: (item.size(g), _rank(item, g)))
    found = [] if reference == "best" else named(item, reference)
    return found[0] if found else max(compared, key=lambda g: _rank(item, g))


def _rank(item: Cells, group: int) -> tuple[float, int]:
    x, n = item.counts(group, "selection_rate")
    return x / n, n


def comparisons(item: Cells, reference: str | Sequence[str], names: Sequence[str]) -> list[Measure]:
    """Ratios and differences of `COMPARED` rates against the reference, and of FN/FP, where named."""
    found = []
    for pair in pairs(item, reference):
        for rate in COMPARED:
            if f"{rate}_ratio" in names:
                found.append(_ratio(item, pair, rate))
            if f"{rate}_difference" in names:
                found.append(_difference(item, pair, rate))
        if TREATMENT in names:
            found.append(_treatment(item, pair))
    return found


def _compared(item: Cells, pair: Pair, name: str, method: str, statistics: Mapping[str, int], n: int,
              reason: str, too_few: str) -> Measure:  # fmt: skip
    """The measure of a pair that can be compared."""
    base = item.label(pair.base) if pair.base is not None else ""
    if pair.picked_from > 1:
        statistics = {**statistics, "picked_from": pair.picked_from}
    ratio = name.endswith("_ratio")
    found = measure(
        name,
        method,
        statistics,
        n=n,
        group=item.groups[pair.group],
        settings={"reference": base, **item.settings},
        unit="ratio" if ratio else "difference",
        better="one" if ratio else "zero",
        reason=reason,
    )
    return found if found.value is None else replace(found, too_few=too_few)


def _none(item: Cells, pair: Pair, name: str) -> Measure:
    ratio = name.endswith("_ratio")
    return Measure(
        name=name,
        value=None,
        n=item.size(pair.group),
        group=item.groups[pair.group],
        settings=item.settings,
        unit="ratio" if ratio else "difference",
        better="one" if ratio else "zero",
        reason=pair.reason,
    )


def _two(item: Cells, group: int, base: int, rate: str) -> tuple[dict[str, int], str]:
    """The counts of a rate in two groups, and why one of them lacks it."""
    x1, n1 = item.counts(group, rate)
    x0, n0 = item.counts(base, rate)
    words = rate.replace("_", " ")
    reason = ""
    if not n0:
        reason = f"the reference group has no {words}: {x0} of {n0} rows"
    elif not n1:
        reason = f"the group has no {words}: {x1} of {n1} rows"
    return {"x1": x1, "n1": n1, "x0": x0, "n0": n0}, reason


def _few(item: Cells, group: int, base: int, rate: str) -> str:
    return item.too_few(group, rate) or item.too_few(base, rate)


def _ratio(item: Cells, pair: Pair, rate: str) -> Measure:
    name = f"{rate}_ratio"
    if pair.base is None:
        return _none(item, pair, name)
    statistics, reason = _two(item, pair.group, pair.base, rate)
    if not reason and not statistics["x0"]:
        words = rate.replace("_", " ")
        reason = f"the {words} of the reference group is 0 of {statistics['n0']} rows"
        if rate == "selection_rate":
            reason = "nobody in the reference group was selected"
    few = _few(item, pair.group, pair.base, rate)
    return _compared(item, pair, name, "koopman_exact", statistics, statistics["n1"], reason, few)


def _difference(item: Cells, pair: Pair, rate: str) -> Measure:
    name = f"{rate}_difference"
    if pair.base is None:
        return _none(item, pair, name)
    statistics, reason = _two(item, pair.group, pair.base, rate)
    few = _few(item, pair.group, pair.base, rate)
    return _compared(item, pair, name, "newcombe", statistics, statistics["n1"], reason, few)


def _treatment(item: Cells, pair: Pair) -> Measure:
    if pair.base is None:
        return _none(item, pair, TREATMENT)
    x1, y1 = item.errors(pair.group)
    x0, y0 = item.errors(pair.base)
    statistics = {"x1": x1, "y1": y1, "x0": x0, "y0": y0}
    reason = "the reference group has" if not y0 else "the group has"
    reason += f" {x0 if not y0 else x1} false negatives and 0 false positives, so no ratio of the two"
    few = _few_errors(item, pair.group) or _few_errors(item, pair.base)
    return _compared(item, pair, TREATMENT, "odds_difference", statistics, item.size(pair.group), reason, few)


def _few_errors(item: Cells, group: int) -> str:
    """The sentence where fewer errors than the floor stand behind a ratio of false negatives to positives."""
    missed, wrongly = item.errors(group)
    errors = missed + wrongly
    return below(missed, errors, item.floor, f"share of false negatives among errors of {item.label(group)}")


def error_ratios(item: Cells) -> list[Measure]:
    """False negatives over false positives in every group; undefined without false positives."""
    found = []
    for g in item.occurring():
        x, y = item.errors(g)
        odds = measure(
            ERROR_RATIO,
            "odds",
            {"x": x, "y": y},
            n=x + y,
            group=item.groups[g],
            settings=item.settings,
            unit="ratio",
            reason=f"{x} false negatives and {y} false positives: the denominator is 0",
        )
        found.append(odds if odds.value is None else replace(odds, too_few=_few_errors(item, g)))
    return found


def largest(item: Cells, names: Sequence[str]) -> list[Measure]:
    """Those of `LARGEST` that are named: the largest difference between any two groups that have the rate.

    A group whose denominator is below the floor takes no part, nor do people of unknown group; the measure
    names them.
    """
    found = []
    for name, compared in LARGEST.items():
        if name not in names:
            continue
        series = [_series(item, rate) for rate in compared]
        two = len(series) > 1
        found.append(
            measure(
                name,
                "larger_of_two" if two else "largest_difference",
                {"first": series[0], "second": series[1]} if two else series[0],
                n=int(item.table.sum()),
                settings={"feature": item.name, **item.settings},
                better="zero",
                unit="difference",
                reason="fewer than two groups have the rate, so there is nothing to compare",
                left_out=item.left_out(compared, item.occurring()),
            )
        )
    return found


def _series(item: Cells, rate: str) -> dict[str, list[int]]:
    counts = [item.counts(g, rate) for g in item.having(rate)]
    return {"x": [x for x, _ in counts], "n": [n for _, n in counts]}
