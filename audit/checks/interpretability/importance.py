"""Importance: which features the model uses most, over all rows, by class and by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence, Figure, Table
from audit.explain.names import MethodName
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.stats import bonferroni, interval_at, mean, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from audit.dataset import Dataset, Ints, Sensitive
    from audit.evidence import Cell, Measure
    from audit.explain.attribution import Attribution, Doubles
    from audit.products.attributions import Attributions

FLOOR = 10
BINS = 24
SHADE_FLOOR = 5
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEVEL = 0.95


@check(
    "interpretability.importance",
    needs={"logits"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "mean_abs_attribution_difference"},
)
def importance(
    data: Dataset,
    attributions: Attributions,
    *,
    method: MethodName = "kernel_shap",
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    top: Annotated[int, Field(ge=1, le=30)] = 10,
) -> Evidence:
    """Importance: which features the model uses most, over all rows, by class and by group.

    This takes the attributions of single decisions by one method (SHAP where nothing else is set) and looks
    at them together: `mean_abs_attribution` is the mean size of a feature's attribution, whatever its sign,
    over all rows, over the rows of each explained class, and over each sensitive group.
    `mean_abs_attribution_difference` compares a group with the largest one: a feature that matters more for
    one group than for another is used differently for them. That need not be unfair, and should be
    understood. The figure shows for each feature how its signed attributions are spread over the rows, and
    whether high or low values of the feature push up or down.

    It answers what the model uses, as far as the method can tell: how far that can be trusted, another check
    says (the trust card). It does not speak of what the feature does to the quality of the model, which
    permutation importance asks, nor of causes. A group below ten rows is shown and not compared.

    Settings: `method` (any attribution method), `rows` explained, `output` and `target` that are explained,
    `top`, number of features that are followed by class and by group.

    Lundberg et al.: From Local Explanations to Global Understanding with Explainable AI for Trees, 2020.
    Welch: The Generalization of Student's Problem, 1947.
    """
    found = attributions.of(method, rows=rows, output=output, target=target)
    require_explanation(found)
    size = np.abs(found.values[found.usable()])
    order = np.argsort(-size.mean(axis=0), kind="stable").tolist()[:top]
    parts = list(_parts(found, data))
    differences = _differences(found, data, order)
    base = evidence(found, data, [], finding="moved the decisions most", examples=0)
    return Evidence(
        measures=[*base.measures, *_by_part(found, size, order, parts), *differences],
        tables=[
            *base.tables,
            _distribution(found, order),
            *_ranks(found, size, order, parts),
            *_settled(differences),
        ],
        figures=[*base.figures, *_swarm(found, data, order)],
        caveats=[*base.caveats, *_words(differences)],
    )


def _parts(item: Attribution, data: Dataset) -> Iterator[tuple[dict[str, str], Ints]]:
    """Each explained class and each sensitive group, with the usable rows that are in it."""
    usable = item.usable()
    targets = item.targets[usable]
    for target in np.unique(targets).tolist():
        name = data.classes[target] if target < len(data.classes) else f"class {target}"
        yield {"class": name}, np.flatnonzero(targets == target)
    for part in data.sensitive.values():
        for code, group in enumerate(part.groups):
            yield {part.name: group}, np.flatnonzero(part.codes[item.rows[usable]] == code)


def _by_part(
    item: Attribution, size: Doubles, order: Sequence[int], parts: Sequence[tuple[dict[str, str], Ints]]
) -> list[Measure]:
    measures = []
    for group, rows in parts:
        few = f"{len(rows)} rows, fewer than {FLOOR}" if 0 < len(rows) < FLOOR else ""
        for i in order:
            fields = {"group": {"feature": item.features[i], **group}, "unit": item.unit, "too_few": few}
            measures.append(mean("mean_abs_attribution", size[rows, i].tolist(), **fields))
    return measures


def _differences(item: Attribution, data: Dataset, order: Sequence[int]) -> list[Measure]:
    """Each group against the largest known one of its sensitive feature, for each leading feature."""
    from audit.dataset import UNKNOWN

    usable = item.usable()
    size, measures = np.abs(item.values[usable]), []
    for part in data.sensitive.values():
        codes = part.codes[item.rows[usable]]
        counts = np.bincount(codes, minlength=len(part.groups))
        known = [code for code, name in enumerate(part.groups) if name != UNKNOWN and counts[code] >= FLOOR]
        if len(known) < 2:  # noqa: PLR2004 - two groups
            continue
        base = max(known, key=lambda code: int(counts[code]))
        for code in known:
            if code != base:
                measures += [_welch(item, size, codes, part, code, base, i) for i in order]
    return measures


def _welch(
    item: Attribution, size: Doubles, codes: Ints, part: Sensitive, code: int, base: int, index: int
) -> Measure:
    one, other = size[codes == code, index], size[codes == base, index]
    statistics = {
        "n1": len(one), "mean1": float(one.mean()), "sd1": float(one.std(ddof=1)),
        "n0": len(other), "mean0": float(other.mean()), "sd0": float(other.std(ddof=1)),
    }  # fmt: skip
    return measure(
        "mean_abs_attribution_difference",
        "welch",
        statistics,
        n=len(one) + len(other),
        group={"feature": item.features[index], part.name: part.groups[code]},
        settings={"reference": part.groups[base]},
        unit=item.unit,
        better="zero",
    )


def _apart(differences: Sequence[Measure]) -> list[bool]:
    """Whether each difference is not 0 at a level that all of them share."""
    found = []
    for item in differences:
        low, high = interval_at(item, bonferroni(LEVEL, len(differences)))
        found.append(low is not None and high is not None and (low > 0 or high < 0))
    return found


def _settled(differences: Sequence[Measure]) -> list[Table]:
    if not differences:
        return []
    rows: list[list[Cell]] = []
    for item, apart in zip(differences, _apart(differences), strict=True):
        name, group = next((k, v) for k, v in item.group.items() if k != "feature")
        against = f"{group} against {item.settings['reference']}"
        rows.append([item.group["feature"], name, against, item.value, item.low, item.high, apart])
    return [
        Table(
            name="differences",
            title="How much more a feature matters for one group than for another",
            columns=["feature", "by", "groups", "difference", "low", "high", "settled"],
            rows=rows,
            note="Welch's 95 % interval for each by itself; settled: not 0 with the error of 5 % shared "
            f"by all {len(rows)} comparisons.",
        )
    ]


def _words(differences: Sequence[Measure]) -> list[str]:
    apart = [item for item, yes in zip(differences, _apart(differences), strict=True) if yes]
    if not apart:
        return []
    top = max(apart, key=lambda item: abs(item.value or 0.0))
    group = next(value for key, value in top.group.items() if key != "feature")
    word = "more" if (top.value or 0.0) > 0 else "less"
    return [
        (
            f"{len(apart)} of {len(differences)} comparisons of a feature's importance between groups are "
            f"settled; most of all {top.group['feature']} matters {word} for {group} than for "
            f"{top.settings['reference']}."
        )
    ]


def _ranks(
    item: Attribution, size: Doubles, order: Sequence[int], parts: Sequence[tuple[dict[str, str], Ints]]
) -> list[Table]:
    """The rank of each leading feature in each class and group, among all features."""
    kept = [(group, rows) for group, rows in parts if len(rows) >= FLOOR]
    if not kept:
        return []
    columns = [", ".join(f"{key} {value}" for key, value in group.items()) for group, _ in kept]
    ranks = [_rank(size.mean(axis=0)), *(_rank(size[rows].mean(axis=0)) for _, rows in kept)]
    return [
        Table(
            name="ranks",
            title="Rank of each leading feature by class and by group",
            columns=["feature", "all rows", *columns],
            rows=[[item.features[i], *(int(rank[i]) for rank in ranks)] for i in order],
            note="1 is the largest mean absolute attribution. Ranks of close values are a matter of "
            "chance: see the intervals.",
        )
    ]


def _rank(values: Doubles) -> Ints:
    found = np.empty(len(values), dtype=np.int64)
    found[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return found


def _distribution(item: Attribution, order: Sequence[int]) -> Table:
    values = item.values[item.usable()]
    rows: list[list[Cell]] = []
    for i in order:
        quantiles = [float(q) for q in np.quantile(values[:, i], QUANTILES)]
        rows.append([item.features[i], *quantiles, float((values[:, i] > 0).mean())])
    return Table(
        name="distribution",
        title="How the signed attributions of each leading feature are spread over the rows",
        columns=["feature", *(f"quantile {q:g}" for q in QUANTILES), "share above 0"],
        rows=rows,
        note=f"In {item.unit}, {len(values)} rows.",
    )


def _swarm(item: Attribution, data: Dataset, order: Sequence[int]) -> list[Figure]:
    values = item.values[item.usable()]
    ends = np.quantile(values[:, order], (0.005, 0.995))
    low, high = min(0.0, float(ends[0])), max(0.0, float(ends[1]))
    if not high > low:
        return []
    edges = np.linspace(low, high, BINS + 1)
    place = np.clip(np.searchsorted(edges, values[:, order], side="right") - 1, 0, BINS - 1)
    counts = [np.bincount(place[:, k], minlength=BINS).tolist() for k in range(len(order))]
    ranks = [_own_ranks(item, data, i) for i in order]
    shades = [_shades(place[:, k], rank) for k, rank in enumerate(ranks)]
    labels = [item.features[i] for i in order]
    middle = ", ".join(f"{n} {np.median(values[:, i]):.2g}" for n, i in zip(labels, order, strict=True))
    return [
        Figure(
            name="swarm",
            title="How each leading feature's attributions are spread over the rows",
            kind="swarm",
            alt=f"Histograms of the signed attribution ({item.unit}) of each feature; medians: {middle}.",
            data={
                "x_label": f"attribution ({item.unit}): left speaks against the explained class, right for",
                "labels": labels,
                "edges": edges.tolist(),
                "counts": counts,
                "shades": shades,
            },
        )
    ]


def _own_ranks(item: Attribution, data: Dataset, index: int) -> Doubles | None:
    """[n] rank from 0 to 1 of the rows' own value of a number; None where the feature has no order."""
    from audit.explain.partial import features_of

    if data.modality != "tabular":
        return None
    feature = {part.name: part for part in features_of(data)}.get(item.features[index])
    if feature is None or feature.kind == "categorical" or len(feature.columns) != 1:
        return None
    from scipy.stats import rankdata

    own = data.inputs.reshape(len(data), -1)[item.rows[item.usable()], feature.columns[0]]
    ranks: Doubles = rankdata(own if (feature.unit or 1) > 0 else -own)
    return (ranks - 1) / max(1, len(ranks) - 1)


def _shades(place: Ints, rank: Doubles | None) -> list[float | None]:
    """Mean rank of the feature's own value in each bin; None for fewer than five rows: they are people."""
    if rank is None:
        return [None] * BINS
    inside = [rank[place == b] for b in range(BINS)]
    return [float(part.mean()) if len(part) >= SHADE_FLOOR else None for part in inside]
