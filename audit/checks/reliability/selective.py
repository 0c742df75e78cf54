"""reliability.selective: what a model gets wrong when it may pass its doubtful rows to a person."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.check import check
from audit.dataset import UNKNOWN, Dataset, Doubles
from audit.errors import NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.reliability.answers import log_odds
from audit.reliability.risk import risk_cells
from audit.shift.outcome import groups
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.products.predictions import Predictions

Flags = npt.NDArray[np.bool_]
Share = Annotated[float, Field(gt=0, le=1)]
_POINTS = 20
_FEW_WRONG = 20


@dataclass(frozen=True)
class _Ranked:
    """Rows by confidence.

    Attributes:
        rank: [N] log-odds of the decision, minus infinity where a score is not a finite number.
        right: [N] whether the decision is right.
    """

    rank: Doubles
    right: Flags

    def kept(self, coverage: float) -> Flags:
        """[N] the most confident rows, at least this share of all; rows tied with the last are kept too."""
        count = math.ceil(coverage * len(self.rank) - 1e-9)
        least = np.sort(self.rank)[::-1][count - 1]
        return np.asarray(self.rank >= least)


@check(
    "reliability.selective",
    measures={
        "aurc",
        "excess_aurc",
        "coverage_at_risk",
        "selective_accuracy",
        "kept_share",
        "kept_less_passed_accuracy",
        "selective_accuracy_difference",
        "kept_share_difference",
    },
)
def selective(
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    coverages: Annotated[list[Share], Field(min_length=1)] | None = None,
    risks: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=1)] | None = None,
    bins: Annotated[int, Field(ge=10, le=65536)] = 256,
    draws: Annotated[int, Field(ge=200)] = 1000,
    floor: Annotated[int, Field(ge=2)] = 50,
) -> Evidence:
    """Leaving doubtful rows to a person: risk and coverage.

    Where a person decides the rows that the model is least sure of, two numbers matter: how many rows the
    model keeps (coverage) and how many of those it gets wrong (risk). The curve shows one over the other.

    `aurc` is the area under the curve: the mean risk over all coverages, 0 at best. `excess_aurc` is what of
    it is due to the order alone, that is AURC less that of a model with as many errors, all of them least
    confident: it says whether the confidence knows where the errors are. `selective_accuracy` is the accuracy
    on the most confident share of rows, `coverage_at_risk` the largest share of rows with no more than
    a stated risk.

    One threshold for all can harm a group: it may keep few of its rows (`kept_share`), and it can make
    a group worse off while the whole gains (Jones and others, 2021). So all is measured for each sensitive
    group under the threshold of all; `kept_less_passed_accuracy` is the accuracy on the rows kept less that
    on the rows passed on: where it is below 0, abstaining removes what the model does well there.
    `selective_accuracy_difference` and `kept_share_difference` are the largest differences between two
    groups.

    It does not say how well a person decides the rows passed on, nor whether the order holds on other rows. A
    row with a score that is no finite number counts as wrong and as the least confident.

    Settings: `coverages` (.8 and .9 unless given), `risks` (.05 unless given), `bins` (of the confidence;
    rows of one bin count as tied in AURC), `draws` (of the bootstrap), `floor` (rows below which a group is
    shown and not judged).

    Sources: Geifman and El-Yaniv, 2017, arXiv:1705.08500; Geifman, Uziel and El-Yaniv, 2019,
    arXiv:1805.08206 (E-AURC); Jones and others, 2021, arXiv:2010.14134. Intervals: bootstrap of the counts by
    confidence; Wilson and Newcombe for the rows kept, whose threshold is taken as given.
    """
    ranked = _ranked(predictions)
    shares = sorted(set(coverages or (0.8, 0.9)))
    limits = sorted(set(risks or (0.05,)))
    how = {"draws": draws, "seed": seed, "bins": bins}
    measures: list[Measure] = []
    for who, members in groups(data, np.arange(len(data))):
        inside = _Ranked(ranked.rank[members], ranked.right[members])
        few = f"{len(inside.rank)} rows, fewer than the floor of {floor}" if members.sum() < floor else ""
        measures += _curve_numbers(inside, who, limits, how, few)
    for share in shares:
        kept = ranked.kept(share)
        for who, members in groups(data, np.arange(len(data))):
            measures += _kept_numbers(ranked, kept, who, members, share, floor)
        measures += _differences(data, ranked, kept, share, floor)
    return Evidence(
        measures=measures,
        tables=(_table(data, ranked, shares),),
        figures=tuple(_figures(data, ranked, floor)),
        caveats=list(_caveats(predictions, ranked)),
    )


def _ranked(predictions: Predictions) -> _Ranked:
    finite = np.asarray(predictions.finite)
    if not finite.any():
        raise NotEvaluable(f"none of the {len(finite)} rows has scores that are finite numbers")
    rank = np.full(len(finite), -np.inf)
    scores = np.asarray(predictions.scores, dtype=np.float64)
    # where the data state decisions, one need not be for the most probable class
    rank[finite] = log_odds(scores[finite], np.asarray(predictions.predicted)[finite])
    return _Ranked(rank, np.asarray(predictions.correct))


def _curve_numbers(
    inside: _Ranked, who: Mapping[str, str], risks: Sequence[float], how: Mapping[str, int], few: str
) -> Iterator[Measure]:
    cells = risk_cells(inside.rank, inside.right, how["bins"])
    common: dict[str, Any] = {**cells, "draws": how["draws"], "seed": how["seed"]}
    fields: dict[str, Any] = {"n": len(inside.rank), "group": who, "too_few": few, "reason": "0 rows"}
    for name, metric in (("aurc", "aurc"), ("excess_aurc", "excess")):
        statistics = {**common, "metric": metric}
        yield measure(name, "risk_coverage", statistics, unit="", better="lower", **fields)
    for risk in risks:
        statistics = {**common, "metric": "coverage", "risk": risk}
        settings = {"risk": risk}
        yield measure(
            "coverage_at_risk", "risk_coverage", statistics, settings=settings, better="higher", **fields
        )


def _kept_numbers(
    ranked: _Ranked, kept: Flags, who: Mapping[str, str], members: Flags, share: float, floor: int
) -> Iterator[Measure]:
    inside, passed = members & kept, members & ~kept
    x1, n1, x0, n0 = (int(v) for v in (ranked.right[inside].sum(), inside.sum(),
                                       ranked.right[passed].sum(), passed.sum()))  # fmt: skip
    few = f"{n1} rows kept, fewer than the floor of {floor}" if who and n1 < floor else ""
    fields: dict[str, Any] = {"group": who, "settings": {"coverage": share}, "better": "higher"}
    yield proportion("selective_accuracy", x1, n1, too_few=few, **fields)
    if who:
        yield proportion("kept_share", n1, n1 + n0, **fields)
    yield measure(
        "kept_less_passed_accuracy",
        "newcombe",
        {"x1": x1, "n1": n1, "x0": x0, "n0": n0},
        n=n1 + n0,
        unit="difference",
        too_few=few,
        reason=f"{n1} rows are kept and {n0} passed on; it takes both",
        **fields,
    )


def _differences(data: Dataset, ranked: _Ranked, kept: Flags, share: float, floor: int) -> Iterator[Measure]:
    for name, feature in data.sensitive.items():
        parts = [feature.codes == c for c, group in enumerate(feature.groups) if group != UNKNOWN]
        large = [part for part in parts if (part & kept).sum() >= floor]
        rights = [int((ranked.right & part & kept).sum()) for part in large]
        stays = [int((part & kept).sum()) for part in large]
        reason = f"{len(large)} of {len(parts)} known groups have {floor} rows kept, and it takes two"
        fields: dict[str, Any] = {
            "settings": {"coverage": share, "feature": name},
            "unit": "difference",
            "better": "zero",
            "reason": reason,
        }
        counts = {"x": rights, "n": stays}
        label = "selective_accuracy_difference"
        yield measure(label, "largest_difference", counts, n=sum(stays), **fields)
        sizes = [int(part.sum()) for part in large]
        counts = {"x": stays, "n": sizes}
        yield measure("kept_share_difference", "largest_difference", counts, n=sum(sizes), **fields)


def _steps(inside: _Ranked) -> Iterator[tuple[float, Measure]]:
    """Coverage and risk at up to twenty shares of the rows, the least last."""
    for step in range(1, _POINTS + 1):
        kept = inside.kept(step / _POINTS)
        n = int(kept.sum())
        yield n / len(kept), proportion("risk", n - int(inside.right[kept].sum()), n)


def _figures(data: Dataset, ranked: _Ranked, floor: int) -> Iterator[Figure]:
    """All rows; then, for each sensitive feature, its groups of enough rows beside them."""
    whole = ("all rows", np.ones(len(data), dtype=np.bool_))
    yield _figure("risk and coverage", ranked, [whole])
    for name, feature in data.sensitive.items():
        parts = [(group, feature.codes == code) for code, group in enumerate(feature.groups)]
        large = [(group, members) for group, members in parts if members.sum() >= floor]
        if large:
            yield _figure(f"risk and coverage by {name}", ranked, [whole, *large])


def _figure(name: str, ranked: _Ranked, parts: Sequence[tuple[str, Flags]]) -> Figure:
    series, told = [], []
    for who, members in parts:
        inside = _Ranked(ranked.rank[members], ranked.right[members])
        points = list(_steps(inside))
        line = {
            "name": who,
            "x": [x for x, _ in points],
            "y": [m.value for _, m in points],
            "low": [m.low for _, m in points],
            "high": [m.high for _, m in points],
        }
        series.append(line)
        told.append(_told(who, inside))
    title = f"Errors, on every row and on the more confident half: {'; '.join(told)}"
    sizes = "; ".join(f"{who}: n = {int(members.sum())}" for who, members in parts)
    return Figure(
        name=name,
        title=title,
        kind="curve",
        alt=f"{title}. Share of errors among the rows kept, over the share of rows kept ({sizes}).",
        data={"x_label": "share of rows kept", "y_label": "share of errors among them", "series": series},
    )


def _told(who: str, inside: _Ranked) -> str:
    full, half = 1 - inside.right.mean(), 1 - inside.right[inside.kept(0.5)].mean()
    return f"{who} {full:.3f} and {half:.3f}"


def _table(data: Dataset, ranked: _Ranked, shares: Sequence[float]) -> Table:
    rows: list[list[Cell]] = []
    for share in shares:
        kept = ranked.kept(share)
        for who, members in groups(data, np.arange(len(data))):
            inside, passed = members & kept, members & ~kept
            counts = [int(v) for v in (inside.sum(), ranked.right[inside].sum(),
                                       passed.sum(), ranked.right[passed].sum())]  # fmt: skip
            rows.append([share, ", ".join(who.values()) or "all rows", *counts])
    return Table(
        name="kept",
        title="Rows kept and passed on, under one threshold for all",
        columns=("coverage asked for", "who", "kept", "of these right", "passed on", "of these right"),
        rows=rows,
    )


def _caveats(predictions: Predictions, ranked: _Ranked) -> Iterator[str]:
    lost = int((~np.asarray(predictions.finite)).sum())
    if lost:
        yield (
            f"{lost} of {len(ranked.rank)} rows got a score that is not a finite number; they count as wrong "
            "and as the least confident."
        )
    wrong = int((~ranked.right).sum())
    if wrong < _FEW_WRONG:
        yield f"Only {wrong} rows are wrong; what is said of the order of the errors rests on few."
