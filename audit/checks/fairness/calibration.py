"""fairness.calibration: does a score mean the same for every group, and rank equally well in each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from audit.check import check
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset, Ints
    from audit.groups import Grouping
    from audit.products.predictions import Predictions
    from audit.scores import Doubles

_NAMED = 10
_BETTER: dict[str, Any] = {"auc": "higher", "ks": "higher", "brier": "lower", "ece": "lower"}
_DIFFERENCES = {metric: f"{metric}_difference" for metric in _BETTER}


@dataclass(frozen=True)
class _Scored:
    """Rows with a finite score, seen as one class against all others.

    Attributes:
        settings: `{"class": name}` where several classes are looked at; empty for the favourable one.
        scores: [N] probability of the class.
        fine: [N] one of the many bins for ranks.
        coarse: [N] one of the few bins for calibration.
        labels: [N] 1 where the outcome was of the class.
        rows: [N] their indices in the data.
    """

    settings: dict[str, str]
    scores: Doubles
    fine: Ints
    coarse: Ints
    labels: Ints
    rows: Ints


@dataclass(frozen=True)
class _Group:
    """One group: who, its [2, B] and [2, K] counts by label and bin, mean score [K], and its losses."""

    who: dict[str, str]
    known: bool
    settings: dict[str, str]
    fine: Ints
    coarse: Ints
    means: list[float]
    brier: dict[str, float]

    @property
    def size(self) -> int:
        return int(self.coarse.sum())

    @property
    def name(self) -> str:
        return ", ".join(self.who.values()) or "all rows"

    @property
    def single(self) -> bool:
        """Whether it is all rows, or a group by one feature alone."""
        return len(self.who) <= 1

    def sides(self) -> tuple[int, int]:
        """Rows with the unfavourable and with the favourable outcome."""
        return int(self.coarse[0].sum()), int(self.coarse[1].sum())


@check("fairness.calibration", version="2", measures={*_BETTER, *_DIFFERENCES.values(), "observed_rate"})
def calibration(
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    depth: Annotated[int, Field(ge=1)] = 2,
    classes: tuple[str, ...] = (),
    bins: Annotated[int, Field(ge=2, le=65536)] = 1024,
    curve: Annotated[int, Field(ge=2, le=100)] = 10,
    draws: Annotated[int, Field(ge=200)] = 1000,
    floor: Annotated[int, Field(ge=2)] = 10,
) -> Evidence:
    """Scores by group: ranking and calibration.

    Asks of the probability that the model gives to the favourable outcome whether it means the same for
    every group, and whether it ranks people equally well within each. Intersections (sex and race together)
    are groups of their own, up to `depth` features at once. Where no outcome is favourable and there are
    more than two classes, each class is set against all others.

    `auc` is the share of pairs, one person with the favourable outcome and one without, in which the first
    has the higher score (ties count half). `ks` is the largest distance between the score distributions of
    the two (Kolmogorov-Smirnov). `brier` is the mean squared difference between score and outcome. `ece`,
    the expected calibration error, is the mean distance between the score and the observed rate, over bins
    that hold equal shares of all rows (equal mass, not equal width), the same bins for every group.
    `observed_rate` is the share of favourable outcomes among people of one group in one such bin, to be
    read against their `mean_score`: where the score overstates one group and understates another, the same
    threshold treats them differently. For intersections the tables hold the counts behind it. The
    `_difference` numbers are the largest difference between any two known groups, with an interval that
    holds for all pairs at once.

    AUC and KS come from counts of rows by group, outcome and score bin; with no more different scores than
    bins they are exact. Their intervals, and that of ECE, are a bootstrap of these counts, drawn by the
    audit's seed. Noise can only push KS and ECE upwards: a well calibrated score has an `ece` above 0 in
    any sample, the more so the smaller the group (Kumar, Liang and Ma, 2019, arXiv:1909.10155). The value
    printed is the usual one, with that push; the interval has it taken off at both ends, and does not leave
    out 0 unless the gaps are larger than outcomes drawn from the scores themselves would show (consistency
    resampling: Broecker and Smith, 2007). The interval of `brier` allows for skewness (Hall, 1992).

    A group with fewer rows of an outcome than the floor has no AUC or KS, and with fewer rows in all no
    number; it is shown and not compared, and neither are people whose group is not known. Calibration
    within groups and equal error rates cannot in general hold together where base rates differ (Kleinberg,
    Mullainathan and Raghavan, 2017, arXiv:1609.05807), so neither alone says that a model is fair.

    Settings: `depth` (most features of an intersection), `classes` (set against the rest, in place of the
    favourable outcome), `bins` (for ranks), `curve` (bins for calibration), `draws` (of the bootstrap),
    `floor` (rows).
    """
    from audit.groups import groupings
    from audit.outcomes import answers

    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    scored = _scored(data, predictions, classes, bins, curve)
    how = {"draws": draws, "seed": seed}
    whole = [_groups(item, None, bins, curve)[0] for item in scored]
    measures = [m for group in whole for m in (*_numbers(group, how, floor), *_rates(group))]
    tables: list[Table] = []
    figures: list[Figure] = []
    caveats = list(_reading_caveats(data, scored, whole))
    for grouping in groupings(data, depth):
        by_class = [_groups(item, grouping, bins, curve) for item in scored]
        found = [m for groups in by_class for m in _measures(grouping.name, groups, how, floor)]
        measures += found
        tables.append(_table(grouping.name, by_class))
        figures += _figures(grouping.name, by_class, found)
        caveats += _caveats(grouping.name, by_class, floor)
    kept = answers(data, predictions)
    return Evidence(measures=measures, tables=tables, figures=figures, caveats=caveats, outcomes=kept)


def _scored(
    data: Dataset, predictions: Predictions, classes: Sequence[str], bins: int, curve: int
) -> list[_Scored]:
    """Scores of each class looked at, ranked by log-odds: probabilities of float32 tie near 0 and 1."""
    import numpy as np

    from audit.fairness.count import outcomes
    from audit.scores import equal_mass_bins

    found = outcomes(data, predictions.predicted, classes)
    labels = data.labels
    rows = np.flatnonzero(predictions.finite)
    if not len(rows):
        raise NotEvaluable(f"none of the {len(data)} rows has scores that are finite numbers")
    scores = np.asarray(predictions.scores, dtype=np.float64)[rows]
    names = [*data.classes, *(f"output {k}" for k in range(len(data.classes), scores.shape[1]))]
    result = []
    for place, name in enumerate(found.names):
        index = names.index(name)
        odds = scores[:, index] - np.logaddexp.reduce(np.delete(scores, index, axis=1), axis=1)
        one = _Scored(
            settings=dict(found.settings(place)),
            scores=np.exp(-np.logaddexp(0.0, -odds)),
            fine=equal_mass_bins(odds, bins),
            coarse=equal_mass_bins(odds, curve),
            labels=(labels[rows] == index).astype(np.int64),
            rows=rows,
        )
        result.append(one)
    return result


def _groups(scored: _Scored, grouping: Grouping | None, bins: int, curve: int) -> list[_Group]:
    """The groups that occur; one group of all rows for no grouping."""
    import numpy as np

    from audit.scores import count_scores, moments

    every = np.zeros_like(scored.rows) if grouping is None else grouping.codes[scored.rows]
    occurring, codes = np.unique(every, return_inverse=True)
    count = len(occurring)
    fine = count_scores(codes, scored.labels, scored.fine, count, bins)
    coarse = count_scores(codes, scored.labels, scored.coarse, count, curve)
    place = codes * curve + scored.coarse
    sums = np.bincount(place, weights=scored.scores, minlength=count * curve).reshape(count, curve)
    means = sums / np.maximum(coarse.sum(axis=1), 1)
    losses = moments((scored.scores - scored.labels) ** 2, codes, count)
    return [
        _Group(
            who={} if grouping is None else dict(grouping.groups[g]),
            known=grouping is None or grouping.known[g],
            settings=scored.settings,
            fine=fine[k],
            coarse=coarse[k],
            means=[float(mean) for mean in means[k]],
            brier=losses[k],
        )
        for k, g in enumerate(occurring.tolist())
    ]


def _measures(name: str, groups: list[_Group], how: dict[str, int], floor: int) -> Iterator[Measure]:
    for group in groups:
        yield from _numbers(group, how, floor)
        if group.single:
            yield from _rates(group)
    yield from (_difference(metric, name, groups, how, floor) for metric in _BETTER)


def _cells(group: _Group, metric: str) -> dict[str, Any]:
    """The sufficient statistics of one group for one number."""
    from audit.scores import compact

    if metric == "brier":
        return dict(group.brier)
    if metric != "ece":
        return dict(compact(group.fine))
    kept = group.coarse.sum(axis=0) > 0
    negatives, positives = (side[kept].tolist() for side in group.coarse)
    scores = [mean for mean, keep in zip(group.means, kept.tolist(), strict=True) if keep]
    return {"negatives": negatives, "positives": positives, "scores": scores}


def _lacking(group: _Group, metric: str, floor: int) -> str:
    """Why the group has no such number; empty when it has."""
    unfavourable, favourable = group.sides()
    counts = f"{favourable} rows with the favourable outcome and {unfavourable} without"
    if metric in ("auc", "ks") and min(unfavourable, favourable) < floor:
        return f"{counts}: it takes at least {floor} of each (the floor)"
    if group.size < floor:
        return f"{counts}, in all fewer than the floor of {floor}"
    return ""


def _numbers(group: _Group, how: dict[str, int], floor: int) -> Iterator[Measure]:
    """AUC, KS, Brier and ECE of one group."""
    for metric, better in _BETTER.items():
        lacking = _lacking(group, metric, floor)
        common: dict[str, Any] = {
            "n": group.size,
            "group": group.who,
            "settings": group.settings,
            "better": better,
            "unit": "",
        }
        if lacking:
            yield Measure(name=metric, value=None, reason=lacking, **common)
        else:
            statistics = {"metric": metric, "groups": [_cells(group, metric)], **how}
            yield measure(metric, "score_bins", statistics, **common)


def _rates(group: _Group) -> Iterator[Measure]:
    """Observed rate of the favourable outcome in each bin in which the group has rows."""
    for k, (negative, positive) in enumerate(group.coarse.T.tolist()):
        if negative + positive:
            yield proportion(
                "observed_rate",
                positive,
                negative + positive,
                group=group.who,
                settings={**group.settings, "bin": k + 1, "mean_score": group.means[k]},
            )


def _difference(metric: str, feature: str, groups: list[_Group], how: dict[str, int], floor: int) -> Measure:
    compared = [g for g in groups if g.known and not _lacking(g, metric, floor)]
    common: dict[str, Any] = {
        "n": sum(g.size for g in compared),
        "settings": {"feature": feature, **groups[0].settings},
        "unit": "difference",
        "better": "zero",
    }
    if len(compared) < 2:  # noqa: PLR2004 - a difference needs two groups
        counts = "; ".join(f"{g.name}: {g.sides()[1]} favourable, {g.sides()[0]} not" for g in groups)
        reason = f"fewer than two known groups have the number, so there is nothing to compare ({counts})"
        return Measure(name=_DIFFERENCES[metric], value=None, reason=reason, **common)
    statistics = {"metric": metric, "groups": [_cells(g, metric) for g in compared], **how}
    left_out = "; ".join(f"{g.name} ({g.size} rows)" for g in groups if g not in compared)
    return measure(_DIFFERENCES[metric], "score_bins", statistics, left_out=left_out, **common)


def _table(feature: str, by_class: list[list[_Group]]) -> Table:
    """The counts behind the curve of every group, and of every class where several are looked at."""
    rows: list[list[Cell]] = []
    for group in (group for groups in by_class for group in groups):
        for k, (negative, positive) in enumerate(group.coarse.T.tolist()):
            if negative + positive:
                who = (*group.who.values(), *group.settings.values())
                rows.append([*who, k + 1, group.means[k], negative + positive, positive])
    first = by_class[0][0]
    counted = "of the class" if first.settings else "favourable outcome"
    return Table(
        name=f"calibration: {feature}",
        title=f"Score and outcome by {feature} and score bin",
        columns=[*first.who, *first.settings, "bin", "mean score", "rows", counted],
        rows=rows,
        note="The bins hold equal shares of all rows, from the lowest scores to the highest.",
    )


def _figures(feature: str, by_class: list[list[_Group]], measures: list[Measure]) -> Iterator[Figure]:
    """One for each single feature: its curves, or what its classes differ by where there are several."""
    if not by_class[0][0].single:
        return
    if not by_class[0][0].settings:
        yield _curves(feature, by_class[0])
        return
    gaps = [m for m in measures if m.name == _DIFFERENCES["ece"] and m.value is not None]
    if gaps:
        yield _bars(feature, gaps)


def _bars(feature: str, gaps: list[Measure]) -> Figure:
    widest = max(gaps, key=lambda m: m.value or 0.0)
    title = (
        f"By {feature}, the calibration error differs most for class {widest.settings['class']} "
        f"({widest.value:.3f})"
    )
    return Figure(
        name=f"calibration by {feature}",
        title=title,
        kind="bars",
        alt=f"{title}. Largest difference of the calibration error between groups, by class, with 95 % "
        "intervals.",
        data={
            "labels": [f"{m.settings['class']} (n = {m.n})" for m in gaps],
            "values": [m.value for m in gaps],
            "low": [m.low for m in gaps],
            "high": [m.high for m in gaps],
        },
    )


def _curves(feature: str, groups: list[_Group]) -> Figure:
    series = []
    for group in groups:
        rates = list(_rates(group))
        line = {
            "name": f"{group.name} (n = {group.size})",
            "x": [m.settings["mean_score"] for m in rates],
            "y": [m.value for m in rates],
            "low": [m.low for m in rates],
            "high": [m.high for m in rates],
        }
        series.append(line)
    gaps = [(sum(g.coarse[1]) - _expected(g), g) for g in groups]
    told = "; ".join(f"{g.name} {gap / g.size:+.3f}" for gap, g in gaps)
    title = f"Observed rate less mean score, by {feature}: {told}"
    return Figure(
        name=f"calibration by {feature}",
        title=title,
        kind="curve",
        alt=f"Observed rate of the favourable outcome over the model's score, by {feature}. {title}.",
        data={"x_label": "mean score", "y_label": "observed rate", "series": series},
    )


def _expected(group: _Group) -> float:
    """Favourable outcomes that the scores promise."""
    counts = group.coarse.sum(axis=0).tolist()
    return float(sum(mean * count for mean, count in zip(group.means, counts, strict=True)))


def _reading_caveats(data: Dataset, scored: list[_Scored], whole: list[_Group]) -> Iterator[str]:
    left = len(data) - len(scored[0].rows)
    if left:
        yield f"{left} of {len(data)} rows have scores that are not finite numbers and are left out."
    if scored[0].settings:
        names = ", ".join(item.settings["class"] for item in scored)
        yield f"Each of these classes is set against all others: {names}."
    pairs = sum(math.prod(group.sides()) for group in whole)
    if pairs:
        tied = sum(float((group.fine[0] * group.fine[1]).sum()) for group in whole) / pairs
        yield f"{tied:.2g} of the pairs behind the overall AUC share a score bin and count half."


def _caveats(feature: str, by_class: list[list[_Group]], floor: int) -> Iterator[str]:
    unknown = sum(g.size for g in by_class[0] if not g.known)
    if unknown:
        yield f"By {feature}, {unknown} rows have no known group; they are shown, not compared."
    lacking = [g.name for groups in by_class for g in groups if g.known and _lacking(g, "auc", floor)]
    without = list(dict.fromkeys(lacking))
    if without:
        shown = "; ".join(without[:_NAMED])
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        have = "has" if len(without) == 1 else "have"
        side = "a class" if by_class[0][0].settings else "an outcome"
        yield (
            f"By {feature}, {shown}{more} {have} too few rows of {side} for AUC and KS, which are not "
            "compared there."
        )
