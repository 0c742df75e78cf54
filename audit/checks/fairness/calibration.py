"""fairness.calibration: does a score mean the same for every group, and rank equally well in each."""

from __future__ import annotations

from collections.abc import Iterator
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

_BETTER: dict[str, Any] = {"auc": "higher", "ks": "higher", "brier": "lower", "ece": "lower"}
_DIFFERENCES = {metric: f"{metric}_difference" for metric in _BETTER}


@dataclass(frozen=True)
class _Scored:
    """Rows with a finite score.

    Attributes:
        scores: [N] probability of the favourable outcome.
        fine: [N] one of the many bins for ranks.
        coarse: [N] one of the few bins for calibration.
        labels: [N] 1 where the outcome was favourable.
        rows: [N] their indices in the data.
    """

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

    def sides(self) -> tuple[int, int]:
        """Rows with the unfavourable and with the favourable outcome."""
        return int(self.coarse[0].sum()), int(self.coarse[1].sum())


@check("fairness.calibration")
def calibration(
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    bins: Annotated[int, Field(ge=2, le=65536)] = 1024,
    curve: Annotated[int, Field(ge=2, le=100)] = 10,
    draws: Annotated[int, Field(ge=200)] = 1000,
    floor: Annotated[int, Field(ge=2)] = 10,
) -> Evidence:
    """Scores by group: ranking and calibration.

    Asks of the probability that the model gives to the favourable outcome whether it means the same for
    every group, and whether it ranks people equally well within each.

    `auc` is the share of pairs, one person with the favourable outcome and one without, in which the first
    has the higher score (ties count half). `ks` is the largest distance between the score distributions of
    the two (Kolmogorov-Smirnov). `brier` is the mean squared difference between score and outcome. `ece`,
    the expected calibration error, is the mean distance between the score and the observed rate, over bins
    that hold equal shares of all rows (equal mass, not equal width), the same bins for every group.
    `observed_rate` is the share of favourable outcomes among people of one group in one such bin, to be
    read against their `mean_score`: where the score overstates one group and understates another, the same
    threshold treats them differently. The `_difference` numbers are the largest difference between any two
    known groups, with an interval that holds for all pairs at once.

    AUC and KS come from counts of rows by group, outcome and score bin; with no more different scores than
    bins they are exact. Their intervals, and that of ECE, are a bootstrap of these counts, drawn by the
    audit's seed; KS and ECE can only be pushed upwards by noise, so the noise that the draws show is taken
    off at the lower end. A group with fewer rows of an outcome than the floor has no AUC or KS, and with
    fewer rows in all no number; it is shown and not compared, and neither are people whose group is not
    known. Calibration
    within groups and equal error rates cannot in general hold together where base rates differ (Kleinberg,
    Mullainathan and Raghavan, 2017, arXiv:1609.05807), so neither alone says that a model is fair.

    Settings: `bins` (for ranks), `curve` (bins for calibration), `draws` (of the bootstrap), `floor` (rows).
    """
    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    if data.favourable is None:
        raise NotApplicable("no outcome is named as favourable; set [data] favourable to one of the classes")
    scored = _scored(data, predictions, bins, curve)
    how = {"draws": draws, "seed": seed}
    (whole,) = _groups(scored, None, bins, curve)
    measures = [*_numbers(whole, how, floor), *_rates(whole)]
    by_feature = {item.name: _groups(scored, item, bins, curve) for item in _groupings(data)}
    for name, groups in by_feature.items():
        for group in groups:
            measures += [*_numbers(group, how, floor), *_rates(group)]
        measures += [_difference(metric, name, groups, how, floor) for metric in _BETTER]
    return Evidence(
        measures=measures,
        tables=tuple(_table(name, groups) for name, groups in by_feature.items()),
        figures=tuple(_figure(name, groups) for name, groups in by_feature.items()),
        caveats=tuple(_caveats(data, scored, whole, by_feature, floor)),
    )


def _groupings(data: Dataset) -> list[Grouping]:
    from audit.groups import groupings

    return list(groupings(data, 1))


def _scored(data: Dataset, predictions: Predictions, bins: int, curve: int) -> _Scored:
    """Scores of the favourable class, ranked by log-odds: probabilities of float32 tie near 0 and 1."""
    import numpy as np

    from audit.scores import equal_mass_bins

    rows = np.flatnonzero(predictions.finite)
    if not len(rows):
        raise NotEvaluable(f"none of the {len(data)} rows has scores that are finite numbers")
    scores = np.asarray(predictions.scores, dtype=np.float64)[rows]
    others = np.delete(scores, data.favourable or 0, axis=1)
    odds = scores[:, data.favourable or 0] - np.logaddexp.reduce(others, axis=1)
    return _Scored(
        scores=np.exp(-np.logaddexp(0.0, -odds)),
        fine=equal_mass_bins(odds, bins),
        coarse=equal_mass_bins(odds, curve),
        labels=(data.labels[rows] == data.favourable).astype(np.int64),
        rows=rows,
    )


def _groups(scored: _Scored, grouping: Grouping | None, bins: int, curve: int) -> list[_Group]:
    """The groups that occur; one group of all rows for no grouping."""
    import numpy as np

    from audit.scores import count_scores

    codes = np.zeros_like(scored.rows) if grouping is None else grouping.codes[scored.rows]
    count = 1 if grouping is None else len(grouping.groups)
    fine = count_scores(codes, scored.labels, scored.fine, count, bins)
    coarse = count_scores(codes, scored.labels, scored.coarse, count, curve)
    place = codes * curve + scored.coarse
    sums = np.bincount(place, weights=scored.scores, minlength=count * curve).reshape(count, curve)
    losses = (scored.scores - scored.labels) ** 2
    means = sums / np.maximum(coarse.sum(axis=1), 1)
    return [
        _Group(
            who={} if grouping is None else dict(grouping.groups[g]),
            known=grouping is None or grouping.known[g],
            fine=fine[g],
            coarse=coarse[g],
            means=[float(mean) for mean in means[g]],
            brier=_moments(losses[codes == g]),
        )
        for g in range(count)
        if coarse[g].sum()
    ]


def _moments(values: Doubles) -> dict[str, float]:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return {"n": len(values), "mean": float(values.mean()), "sd": spread}


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
        common: dict[str, Any] = {"n": group.size, "group": group.who, "better": better, "unit": ""}
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
                settings={"bin": k + 1, "mean_score": group.means[k]},
            )


def _difference(metric: str, feature: str, groups: list[_Group], how: dict[str, int], floor: int) -> Measure:
    compared = [g for g in groups if g.known and not _lacking(g, metric, floor)]
    common: dict[str, Any] = {
        "n": sum(g.size for g in compared),
        "settings": {"feature": feature},
        "unit": "difference",
        "better": "zero",
    }
    if len(compared) < 2:  # noqa: PLR2004 - a difference needs two groups
        counts = "; ".join(f"{g.name}: {g.sides()[1]} favourable, {g.sides()[0]} not" for g in groups)
        reason = f"fewer than two known groups have the number, so there is nothing to compare ({counts})"
        return Measure(name=_DIFFERENCES[metric], value=None, reason=reason, **common)
    statistics = {"metric": metric, "groups": [_cells(g, metric) for g in compared], **how}
    return measure(_DIFFERENCES[metric], "score_bins", statistics, **common)


def _table(feature: str, groups: list[_Group]) -> Table:
    rows: list[list[Cell]] = []
    for group in groups:
        for k, (negative, positive) in enumerate(group.coarse.T.tolist()):
            if negative + positive:
                rows.append([group.name, k + 1, group.means[k], negative + positive, positive])
    return Table(
        name=f"calibration: {feature}",
        title=f"Score and outcome by {feature} and score bin",
        columns=["group", "bin", "mean score", "rows", "favourable outcome"],
        rows=rows,
        note="The bins hold equal shares of all rows, from the lowest scores to the highest.",
    )


def _figure(feature: str, groups: list[_Group]) -> Figure:
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


def _caveats(
    data: Dataset, scored: _Scored, whole: _Group, by_feature: dict[str, list[_Group]], floor: int
) -> Iterator[str]:
    if len(scored.rows) < len(data):
        left = len(data) - len(scored.rows)
        yield f"{left} of {len(data)} rows have scores that are not finite numbers and are left out."
    unfavourable, favourable = whole.sides()
    if unfavourable and favourable:
        tied = float((whole.fine[0] * whole.fine[1]).sum()) / (unfavourable * favourable)
        yield f"{tied:.2g} of the pairs behind the overall AUC share a score bin and count half."
    for feature, groups in by_feature.items():
        unknown = sum(g.size for g in groups if not g.known)
        if unknown:
            yield f"By {feature}, {unknown} rows have no known group; they are shown, not compared."
        without = [g.name for g in groups if g.known and _lacking(g, "auc", floor)]
        if without:
            yield f"By {feature}, {'; '.join(without)} have too few rows of an outcome and are not compared."
