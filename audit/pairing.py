"""Pairing: from what two models did with the same rows to the difference of one measure, with its interval.

Each recipe gives the statistics of the difference, or None where the rows that are kept do not tell it, or do
not give the very numbers of the two records; then the difference rests on the two records alone.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Doubles, Ints
from audit.evidence import Measure
from audit.fairness.cells import RATES, Cells
from audit.fairness.comparisons import LARGEST
from audit.outcomes import Flags, Outcomes
from audit.replicates import quantiles
from audit.scores import equal_mass_bins
from audit.stats import from_records, nearness_to

DRAWS = 2000
FEWEST = 10
"""Rows that must be answered differently before a bootstrap of them is trusted."""
Found = tuple[str, dict[str, Any]]
_AGREES = 1e-4
_SHARES = ("accuracy", "clean_accuracy", "robust_accuracy", "attack_success_rate", "flip_rate")


@dataclass(frozen=True)
class Pair:
    """What both models did with the same rows, and the settings that both checks ran with.

    Attributes:
        base: the earlier model.
        new: the later one.
        settings: settings of the check.
        kept: what was counted or drawn already.
    """

    base: Outcomes
    new: Outcomes
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made only once."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


def difference(check: str, old: Measure, new: Measure, pair: Pair) -> Found | None:
    """Method and statistics of how the new measure differs from the old one on the same rows.

    Args:
        check: full name of the check that both are of.
        old: the measure of the baseline.
        new: the same measure of the later run.
        pair: what both models did with the rows.
    """
    if check == "fairness.groups":
        return _of_cells(old, new, pair)
    if new.name in _SHARES and check != "reliability.selective":
        return _share(old, new, pair)
    recipes = {
        ("performance.accuracy", "balanced_accuracy"): _balanced,
        ("fairness.calibration", "auc"): _auc,
        ("fairness.calibration", "brier"): _brier,
        ("fairness.calibration", "ece"): _score_ece,
        ("reliability.calibration", "expected_calibration_error"): _confidence_ece,
        ("reliability.calibration", "brier"): _brier,
    }
    recipe = recipes.get((check, new.name))
    return recipe(old, new, pair) if recipe else None


# Shares: each row is outside the denominator (0), in it (1), or counted (2), for either model.


def _share(old: Measure, new: Measure, pair: Pair) -> Found | None:
    sides = [_three(new, outcomes) for outcomes in (pair.base, pair.new)]
    if sides[0] is None or sides[1] is None:
        return None
    return of_table(_table(sides[0], sides[1]), old, new)


def _three(item: Measure, outcomes: Outcomes) -> Ints | None:
    """[R] 0, 1 or 2 for each row; None where the outcomes do not tell."""
    members = members_of(item.group, outcomes)
    correct = outcomes.flags.get("correct")
    hit = correct
    if item.name in ("robust_accuracy", "attack_success_rate", "flip_rate"):
        radius = item.settings.get("epsilon")
        alone = set(item.settings) == {"epsilon"} and not isinstance(radius, bool | str)
        hit = outcomes.flags.get(f"robust {float(radius or 0)!r}") if alone else None
    elif item.settings:
        return None
    if members is None or correct is None or hit is None:
        return None
    if item.name in ("attack_success_rate", "flip_rate"):
        members, hit = members & correct, ~hit
    return members.astype(np.int64) + (members & hit)


def members_of(group: Mapping[str, str], outcomes: Outcomes) -> Flags | None:
    """[R] which rows belong to a group or a class; None where that is not kept."""
    members: Flags = np.ones(len(outcomes), dtype=np.bool_)
    for name, value in group.items():
        known = f"group {name}" in outcomes.codes
        names, codes = outcomes.coded("label" if name == "class" and not known else f"group {name}")
        if codes is None or value not in names:
            return None
        members &= codes == names.index(value)
    return members


def _table(base: Ints, new: Ints) -> Ints:
    """[3, 3] rows by what they are for the baseline and for the new model."""
    found: Ints = np.bincount(base * 3 + new, minlength=9).reshape(3, 3)
    return found


def of_table(table: Ints, old: Measure, new: Measure) -> Found | None:
    """The difference of two shares from the [3, 3] counts of rows; None where they are not those recorded."""
    if not (_recorded(old, table.sum(axis=1)) and _recorded(new, table.sum(axis=0))):
        return None
    if not table[0, 1:].any() and not table[1:, 0].any():
        return "paired_proportions", _two_by_two(table)
    differ = int(table.sum() - np.trace(table))
    if differ < FEWEST:
        return from_records(old, new, differ=differ)
    drawn = _draw(table.ravel(), repr((new.name, dict(new.group), dict(new.settings)))).reshape(-1, 3, 3)
    shares = [
        _divided(part[:, 2], part[:, 1] + part[:, 2]) for part in (drawn.sum(axis=2), drawn.sum(axis=1))
    ]
    return _bootstrapped(old, new, shares[0], shares[1])


def _two_by_two(table: Ints) -> dict[str, int]:
    counts = (table[2, 2], table[2, 1], table[1, 2], table[1, 1])
    return dict(zip(("both", "base_only", "new_only", "neither"), map(int, counts), strict=True))


def _recorded(item: Measure, sums: Ints) -> bool:
    x, n = item.statistics.get("x"), item.statistics.get("n")
    return x == int(sums[2]) and n == int(sums[1] + sums[2])


def _balanced(old: Measure, new: Measure, pair: Pair) -> Found | None:
    names = pair.new.coded("label")[0]
    parts = []
    for place, name in enumerate(names):
        share = replace(new, name="accuracy", group={"class": name})
        sides = [_three(share, outcomes) for outcomes in (pair.base, pair.new)]
        if sides[0] is None or sides[1] is None:
            return None
        table = _table(sides[0], sides[1])
        for item, sums in ((old, table.sum(axis=1)), (new, table.sum(axis=0))):
            counts = [item.statistics.get(key, ()) for key in ("x", "n")]
            if [part[place : place + 1] for part in counts] != [[int(sums[2])], [int(sums[1] + sums[2])]]:
                return None
        parts.append(_two_by_two(table))
    return ("mean_of_paired", {"strata": parts}) if parts else None


# Cells: group x outcome x decision of either model say everything that fairness.groups knows.


def _of_cells(old: Measure, new: Measure, pair: Pair) -> Found | None:
    joint = _joint(_features(new), str(new.settings.get("class", "")), pair)
    if joint is None:
        return None
    if new.name in LARGEST:
        return _largest(old, new, joint, pair)
    place = joint.place(new.group)
    if place is None:
        return None
    if new.name in RATES:
        return of_table(_three_of_cells(joint.table[place], new.name), old, new)
    return _against_reference(old, new, joint, pair)


@dataclass(frozen=True)
class Joint:
    """[G, 2, 2, 2] rows by group, whether the outcome is the class, and whether each model decides so."""

    name: str
    groups: tuple[Mapping[str, str], ...]
    table: Ints

    def place(self, group: Mapping[str, str]) -> int | None:
        """Which of the groups this is."""
        return next((g for g, item in enumerate(self.groups) if dict(item) == dict(group)), None)

    def label(self, group: int) -> str:
        """A group in words: `Female, Black`."""
        return ", ".join(self.groups[group].values())

    def cells(self, side: int, floor: int, settings: Mapping[str, str]) -> Cells:
        """The counts of one model, the baseline (0) or the new one (1)."""
        table: Ints = self.table.sum(axis=3 - side)
        return Cells(self.name, self.groups, table, floor, settings)


def _features(item: Measure) -> tuple[str, ...]:
    return tuple(item.group) if item.group else tuple(str(item.settings.get("feature", "")).split(" x "))


def _joint(features: tuple[str, ...], of_class: str, pair: Pair) -> Joint | None:
    found: Joint | None = pair.once(("joint", features, of_class), lambda: _counted(features, of_class, pair))
    return found


def _counted(features: tuple[str, ...], of_class: str, pair: Pair) -> Joint | None:
    sides = ((pair.new, "label"), (pair.base, "predicted"), (pair.new, "predicted"))
    bits = [_bit(outcomes, key, of_class) for outcomes, key in sides]
    parts = [pair.new.codes.get(f"group {name}") for name in features]
    known = [part for part in parts if part is not None]
    if bits[1] is None or bits[2] is None or len(known) < len(parts):
        return None
    codes: Ints = np.zeros(len(pair.new), dtype=np.int64)
    groups: list[dict[str, str]] = [{}]
    for name, (names, values) in zip(features, known, strict=True):
        codes = codes * len(names) + values
        groups = [{**group, name: value} for group in groups for value in names]
    for bit in bits:
        codes = codes * 2 + (0 if bit is None else bit)
    table = np.bincount(codes, minlength=len(groups) * 8).reshape(-1, 2, 2, 2)
    return Joint(" x ".join(features), tuple(groups), table)


def _bit(outcomes: Outcomes, key: str, of_class: str) -> Ints | None:
    """[R] 1 where the label or the decision is the class, the favourable one where none is named."""
    names, codes = outcomes.coded(key)
    wanted = of_class or outcomes.favourable
    if codes is None or wanted not in names:
        return None
    found: Ints = (codes == names.index(wanted)).astype(np.int64)
    return found


def _three_of_cells(cells: Ints, rate: str) -> Ints:
    """[3, 3] rows of a group by what they are to a rate, from its [2, 2, 2] cells."""
    top, bottom = RATES[rate]
    kind = {place: (place in bottom) + (place in top) for place in np.ndindex(2, 2)}
    table = np.zeros((3, 3), dtype=np.int64)
    for actual, base, new in np.ndindex(2, 2, 2):
        table[kind[actual, base], kind[actual, new]] += int(cells[actual, base, new])
    return table


def _against_reference(old: Measure, new: Measure, joint: Joint, pair: Pair) -> Found | None:
    """A ratio or difference of a rate between a group and its reference, which may have changed sides."""
    rate, _, kind = new.name.rpartition("_")
    sides = [_with_reference(item, joint) for item in (old, new)]
    if rate not in RATES or kind not in ("ratio", "difference") or sides[0] is None or sides[1] is None:
        return None
    differ = _differing(joint, sides[1])
    if differ < FEWEST:
        return from_records(old, new, differ=differ)
    values, exact = [], []
    for side, both in enumerate(sides):
        drawn = [_rate(_cells_drawn(joint, g, pair), side, rate) for g in both or ()]
        counted = [_rate(joint.table[None, g], side, rate) for g in both or ()]
        values.append(_compared(drawn, kind))
        exact.append(float(_compared(counted, kind)[0]))
    return _bootstrapped(old, new, values[0], values[1], exact)


def _with_reference(item: Measure, joint: Joint) -> tuple[int, int] | None:
    """The group of a measure and its reference; None where either is not one of the groups."""
    place = joint.place(item.group)
    named = [g for g in range(len(joint.groups)) if joint.label(g) == item.settings.get("reference")]
    return (place, named[0]) if place is not None and len(named) == 1 else None


def _compared(both: Sequence[Doubles], kind: str) -> Doubles:
    mine, other = both
    return _divided(mine, other) if kind == "ratio" else mine - other


def _differing(joint: Joint, groups: Sequence[int]) -> int:
    cells = joint.table[list(groups)]
    return int(cells[:, :, 0, 1].sum() + cells[:, :, 1, 0].sum())


def _cells_drawn(joint: Joint, group: int, pair: Pair) -> Ints:
    """[D, 2, 2, 2] bootstrap draws of the cells of one group; the same for every number of the comparison."""
    cells = joint.table[group]
    key = (joint.name, group, cells.tobytes())
    found: Ints = pair.once(key, lambda: _draw(cells.ravel(), repr(joint.groups[group])).reshape(-1, 2, 2, 2))
    return found


def _rate(cells: Ints, side: int, rate: str) -> Doubles:
    """[D] a rate of one model from [D, 2, 2, 2] cells; NaN where its denominator is 0."""
    table = cells.sum(axis=3 - side)
    sums = [sum((table[:, a, s] for a, s in places), np.zeros(len(table))) for places in RATES[rate]]
    return _divided(sums[0], sums[1])


def _largest(old: Measure, new: Measure, joint: Joint, pair: Pair) -> Found | None:
    """The largest difference of a rate between any two groups of which enough rows have it."""
    differ = _differing(joint, range(len(joint.groups)))
    if differ < FEWEST:
        return from_records(old, new, differ=differ)
    floor = int(pair.settings.get("floor", 1))
    drawn, exact = [], []
    for side in (0, 1):
        having = [(rate, joint.cells(side, floor, {}).having(rate)) for rate in LARGEST[new.name]]
        if any(len(groups) < 2 for _, groups in having):  # noqa: PLR2004 - a difference needs two groups
            return None
        drawn.append(_spread(having, lambda g: _cells_drawn(joint, g, pair), side))
        exact.append(float(_spread(having, lambda g: joint.table[None, g], side)[0]))
    return _bootstrapped(old, new, drawn[0], drawn[1], exact, centred=True)


def _spread(having: Sequence[tuple[str, Sequence[int]]], cells: Callable[[int], Ints], side: int) -> Doubles:
    """[D] the largest difference between two groups, over all rates."""
    ends = []
    for rate, groups in having:
        values = np.stack([_rate(cells(g), side, rate) for g in groups])
        ends.append(np.max(values, axis=0) - np.min(values, axis=0))
    found: Doubles = np.max(np.stack(ends), axis=0)
    return found


# Scores: areas, squared errors and calibration errors.


def _scores(new: Measure, pair: Pair) -> tuple[Flags, list[Doubles], Ints] | None:
    """Rows of the group, the log-odds of both models and whether each row is favourable, for all rows."""
    members = members_of(new.group, pair.new)
    label = _bit(pair.new, "label", "")
    odds = [one.numbers.get("score") for one in (pair.base, pair.new)]
    if new.settings or members is None or label is None or odds[0] is None or odds[1] is None:
        return None
    both = [np.asarray(part, dtype=np.float64) for part in odds if part is not None]
    return (members, both, label) if all(np.isfinite(part).all() for part in both) else None


def _binned(odds: Doubles, side: int, bins: int, pair: Pair) -> Ints:
    """[R] bin of each row among all rows, as the check binned them."""
    found: Ints = pair.once(("bins", side, bins), lambda: equal_mass_bins(odds, bins))
    return found


def _auc(old: Measure, new: Measure, pair: Pair) -> Found | None:
    """DeLong's variance over the bins that the check ranked the rows by."""
    found = _scores(new, pair)
    if found is None:
        return None
    members, odds, label = found
    bins = int(pair.settings["bins"])
    places = [_binned(part, side, bins, pair)[members] for side, part in enumerate(odds)]
    favourable = label[members] == 1
    placed = [_placements(place, favourable) for place in places]
    above, below = (placed[1][k] - placed[0][k] for k in (0, 1))
    value = float(above.mean()) if len(above) else 0.0
    exact = [float(part[0].mean()) if len(part[0]) else math.nan for part in placed]
    if not _agree(old, new, exact) or min(len(above), len(below)) < 2:  # noqa: PLR2004 - no spread
        return None
    spreads = {"sd_positives": float(above.std(ddof=1)), "sd_negatives": float(below.std(ddof=1))}
    return "paired_auc", {"value": value, "positives": len(above), "negatives": len(below), **spreads}


def _placements(places: Ints, favourable: Flags) -> tuple[Doubles, Doubles]:
    """For each favourable row the share of others below it, for each other that above it; ties count half."""
    size = int(places.max(initial=0)) + 1
    for_it = np.bincount(places[favourable], minlength=size)
    against = np.bincount(places[~favourable], minlength=size)
    below = np.cumsum(against) - against / 2
    above = for_it.sum() - np.cumsum(for_it) + for_it / 2
    total = max(1, int(against.sum())), max(1, int(for_it.sum()))
    return below[places[favourable]] / total[0], above[places[~favourable]] / total[1]


def _brier(old: Measure, new: Measure, pair: Pair) -> Found | None:
    """The mean difference of squared errors of the same rows; of two classes each has the same error."""
    found = _scores(new, pair)
    names = pair.new.coded("label")[0]
    if found is None or len(names) != 2:  # noqa: PLR2004 - two classes
        return None
    members, odds, label = found
    losses = [(np.exp(-np.logaddexp(0.0, -part[members])) - label[members]) ** 2 for part in odds]
    if len(losses[0]) < 2 or not _agree(old, new, [float(part.mean()) for part in losses]):  # noqa: PLR2004
        return None
    gaps = losses[1] - losses[0]
    return "student_t", {"n": len(gaps), "mean": float(gaps.mean()), "sd": float(gaps.std(ddof=1))}


def _score_ece(old: Measure, new: Measure, pair: Pair) -> Found | None:
    found = _scores(new, pair)
    if found is None:
        return None
    members, odds, label = found
    curve = int(pair.settings["curve"])
    places = [_binned(part, side, curve, pair)[members] for side, part in enumerate(odds)]
    shares = [np.exp(-np.logaddexp(0.0, -part[members])) for part in odds]
    return _ece(old, new, places, shares, [label[members] == 1] * 2)


def _confidence_ece(old: Measure, new: Measure, pair: Pair) -> Found | None:
    members = members_of(new.group, pair.new)
    confidence = [_confidence(one) for one in (pair.base, pair.new)]
    right = [one.flags.get("correct") for one in (pair.base, pair.new)]
    if new.settings or members is None:
        return None
    shares = [part[members] for part in confidence if part is not None]
    outcomes = [part[members] for part in right if part is not None]
    if len(shares) < 2 or len(outcomes) < 2 or not all(np.isfinite(part).all() for part in shares):  # noqa: PLR2004
        return None
    places = [equal_mass_bins(part, int(pair.settings["bins"])) for part in shares]
    return _ece(old, new, places, shares, outcomes)


def _confidence(outcomes: Outcomes) -> Doubles | None:
    """[R] probability of the predicted class."""
    stated, odds = outcomes.numbers.get("confidence"), outcomes.numbers.get("score")
    if stated is not None:
        return np.asarray(stated, dtype=np.float64)
    if odds is None:
        return None
    found: Doubles = np.exp(-np.logaddexp(0.0, -np.abs(odds.astype(np.float64))))
    return found


def _ece(
    old: Measure, new: Measure, places: Sequence[Ints], shares: Sequence[Doubles], outcomes: Sequence[Flags]
) -> Found | None:
    """A bootstrap of the rows by both bins and both outcomes: all that the two errors depend on."""
    moved = (shares[0] != shares[1]) | (outcomes[0] != outcomes[1])
    if int(moved.sum()) < FEWEST:
        return from_records(old, new, differ=int(moved.sum()))
    sizes = [int(part.max()) + 1 for part in places]
    codes = ((places[0] * sizes[1] + places[1]) * 2 + outcomes[0]) * 2 + outcomes[1]
    kinds, counts = np.unique(codes, return_counts=True)
    drawn = _draw(counts, repr((new.name, dict(new.group), dict(new.settings))))
    kind_places = (kinds // 4 // sizes[1], kinds // 4 % sizes[1])
    kind_outcomes = (kinds // 2 % 2, kinds % 2)
    values, exact = [], []
    for side in (0, 1):
        sums = np.bincount(places[side], weights=shares[side], minlength=sizes[side])
        means = sums / np.maximum(1, np.bincount(places[side], minlength=sizes[side]))
        gap = kind_outcomes[side] - means[kind_places[side]]
        values.append(_absolute(drawn, gap, kind_places[side], sizes[side]))
        exact.append(float(_absolute(counts[None], gap, kind_places[side], sizes[side])[0]))
    return _bootstrapped(old, new, values[0], values[1], exact, centred=True)


def _absolute(counts: Ints, gap: Doubles, places: Ints, size: int) -> Doubles:
    """[D] sum over bins of the absolute gap of its rows, per row, from [D, K] counts of kinds of rows."""
    into = np.zeros((len(places), size))
    into[np.arange(len(places)), places] = gap
    found: Doubles = np.abs(counts @ into).sum(axis=1) / counts.sum(axis=1)
    return found


# What they share.


def _draw(counts: Ints, purpose: str) -> Ints:
    """[DRAWS, K] counts of bootstrap samples of the rows; the purpose alone decides the draws."""
    total = int(counts.sum())
    random = np.random.default_rng(zlib.crc32(purpose.encode("utf-8", "backslashreplace")))
    found: Ints = random.multinomial(total, counts / max(1, total), size=DRAWS)
    return found


def _bootstrapped(
    old: Measure,
    new: Measure,
    base: Doubles,
    later: Doubles,
    exact: Sequence[float] | None = None,
    *,
    centred: bool = False,
) -> Found | None:
    """The difference of how near two drawn numbers are to what is better.

    Args:
        old: the measure of the baseline.
        new: that of the later run.
        base: [D] draws of the first.
        later: [D] draws of the second, of the same rows.
        exact: both numbers as the rows give them; None where they were held against the records already.
        centred: a number that noise alone pushes up: the draws are moved to lie around the value.
    """
    values = (old.value, new.value)
    if values[0] is None or values[1] is None or (exact is not None and not _agree(old, new, exact)):
        return None
    near = [_near(new.better, np.asarray(part, dtype=np.float64)) for part in (base, later)]
    drawn = near[1] - near[0]
    finite = drawn[np.isfinite(drawn)]
    value = _near_one(new, values[1]) - _near_one(old, values[0])
    if len(finite) < DRAWS // 2 or not finite.std():
        return None
    return "paired_bootstrap", quantiles(value, drawn - (finite.mean() - value) if centred else drawn)


def _near(better: str, values: npt.NDArray[np.float64]) -> Doubles:
    """[D] `audit.stats.nearness_to` of each."""
    if better == "zero":
        return np.abs(values)
    if better != "one":
        return values
    found: Doubles = np.where(values > 0, np.minimum(values, _divided(np.ones(len(values)), values)), 0.0)
    return np.where(np.isfinite(values), found, np.nan)


def _near_one(item: Measure, value: float) -> float:
    return nearness_to(item.better, value)


def _agree(old: Measure, new: Measure, exact: Sequence[float]) -> bool:
    """Whether the rows give the numbers of the records."""
    pairs = zip((old.value, new.value), exact, strict=True)
    return all(value is not None and abs(value - found) <= _AGREES for value, found in pairs)


def _divided(top: Any, bottom: Any) -> Doubles:
    """The quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(top, dtype=np.float64) / np.asarray(bottom, dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)
