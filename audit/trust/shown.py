"""The trust card as tables and figures. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from audit.evidence import Cell, Figure, Measure, Table
from audit.explain.attribution import Doubles
from audit.stats import DEFAULT_LEVEL, student_t
from audit.trust.pooling import pooled
from audit.trust.rule import RULE, Card

if TYPE_CHECKING:
    from audit.trust.curves import Curves
    from audit.trust.study import Faithfulness

_TAIL = 0.025
_MOST_METHODS = 6
_WORDS = {"deletion": ("falls as features go", "gone"), "insertion": ("rises as features come", "shown")}
FILLS = {
    "mean": "the mean of the data",
    "background": "rows of the data",
    "blur": "the blurred image",
}


def conclusions(cards: Sequence[Card], shared: tuple[int, int]) -> Table:
    """One row a method: its conclusion and what it cost; and what the curves of all of them cost.

    Args:
        cards: one a method.
        shared: rows sent forward and backward for all methods together.
    """
    return Table(
        name="conclusions",
        title="May the explanations be believed?",
        columns=("method", "conclusion", "why", "forward_rows", "backward_rows"),
        rows=[
            *((c.method, c.conclusion, "; ".join(c.why), *c.passes) for c in cards),
            ("all together", "", "curves, points nearby and made-up rows serve all methods", *shared),
        ],
        note=f"{RULE} Forward and backward rows: what the method and its own tests sent through the model.",
    )


def untried_table(reasons: Mapping[str, str]) -> list[Table]:
    """One row a method without a card; no table where there is none.

    Args:
        reasons: why each was not tried, by method.
    """
    if not reasons:
        return []
    return [
        Table(
            name="not_tried",
            title="Methods without a card",
            columns=("method", "why"),
            rows=sorted(reasons.items()),
            note="Any of them that fits is judged when it is named in the setting `methods`.",
        )
    ]


def card_table(card: Card) -> Table:
    """One row a test."""
    rows: list[list[Cell]] = []
    for test in card.tests:
        item = test.measure
        numbers = (None, None, None) if item is None else (item.value, item.low, item.high)
        result = "told" if test.bound is None and item is not None else test.outcome
        rows.append([test.name, *numbers, test.asked, result, test.reason or (item.reason if item else "")])
    return Table(
        name=f"card_{card.method}",
        title=f"Trust card of {card.method.replace('_', ' ')}: {card.conclusion}",
        columns=("test", "number", "low", "high", "asked", "result", "note"),
        rows=rows,
        note="Low and high: 95 % interval. Held, failed and undecided are told by the interval alone.",
    )


def agreement_table(pairs: Sequence[tuple[str, str, Measure, Measure]]) -> Table:
    """One row a pair of methods."""
    return Table(
        name="agreement",
        title="Do the methods agree?",
        columns=("method", "other", "rank_correlation", "low", "high", "top_overlap"),
        rows=[(a, b, rank.value, rank.low, rank.high, overlap.value) for a, b, rank, overlap in pairs],
        note="Magnitudes are compared, over rows. Agreement is not truth; where methods disagree there is no "
        "single ranking of the features.",
    )


def curve_figures(found: Mapping[str, Faithfulness], held: Mapping[str, set[str]]) -> list[Figure]:
    """Deletion and insertion under each fill, with the band of the random rankings.

    Args:
        found: the curves by fill.
        held: the methods that are shown to beat random rankings, by fill.
    """
    figures: list[Figure] = []
    for fill, item in found.items():
        for by_size in (False, True):
            methods = [method for method, sized in item.methods.items() if sized is by_size]
            judged = item.sized if by_size else item.signed
            if methods and judged.usable.any():
                beaten = f"{len(held[fill] & set(methods))} of {len(methods)} methods beat random rankings"
                parts = np.array_split(methods, -(-len(methods) // _MOST_METHODS))
                figures += [
                    _figure(item, part.tolist(), judged, kind, (fill, beaten, f"_{at}" if at else ""))
                    for at, part in enumerate(parts)
                    for kind in _WORDS
                ]
    return figures


def _figure(
    item: Faithfulness, methods: Sequence[str], judged: Curves, kind: str, found: tuple[str, str, str]
) -> Figure:
    what = "closeness to the row's answer" if judged is item.sized else "answer"
    words, end = _WORDS[kind]
    where = f"filled by {FILLS[found[0]]}: {found[1]}"
    return Figure(
        name=f"{kind}_{found[0]}_{'size' if judged is item.sized else 'sign'}{found[2]}",
        title=f"How fast the {what} {words}, {where}",
        kind="curve",
        alt=f"Mean {kind} curve of {', '.join(methods)}, of the control that asks no model and of random "
        f"rankings with their band, {where}.",
        data={
            "x_label": f"share of the features {end}",
            "y_label": f"{what}, as a share of the row's range",
            "series": _series(item, methods, judged, kind),
        },
    )


def _series(item: Faithfulness, methods: Sequence[str], judged: Curves, kind: str) -> list[dict[str, object]]:
    usable = judged.usable
    mine, reverse = (
        (judged.deletion, judged.insertion) if kind == "deletion" else (judged.insertion, judged.deletion)
    )
    drawn = list(item.draws)
    # The reverse of a ranking has its other curve, read from the other end.
    means = np.array(
        [pooled(mine[draw][usable], judged.size[usable]).mean(axis=0) for draw in drawn]
        + [pooled(reverse[draw][usable], judged.size[usable]).mean(axis=0)[::-1] for draw in drawn]
    )
    x = judged.shares.tolist()
    low, high = np.quantile(means, [_TAIL, 1 - _TAIL], axis=0)
    band = {"name": "random", "x": x, "y": means.mean(axis=0).tolist()}
    series: list[dict[str, object]] = [{**band, "low": low.tolist(), "high": high.tolist()}]
    for name, index in [("no model", 0), *((method, item.index(method)) for method in methods)]:
        curve = _mean_curve(pooled(mine[index][usable], judged.size[usable]))
        series.append({"name": name.replace("_", " "), "x": x, **curve})
    return series


def _mean_curve(curve: Doubles) -> dict[str, list[float | None]]:
    """Mean over rows of numbers [m, K] with its Student t interval."""
    spread = curve.std(axis=0, ddof=1) if len(curve) > 1 else np.zeros(curve.shape[1])
    ends = [
        student_t({"n": len(curve), "mean": float(centre), "sd": float(sd)}, DEFAULT_LEVEL)
        for centre, sd in zip(curve.mean(axis=0), spread, strict=True)
    ]
    return {
        "y": [value for value, _, _ in ends],
        "low": [low for _, low, _ in ends],
        "high": [high for _, _, high in ends],
    }
