"""Partial dependence: how the answer moves with one feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import ConfigError, NotEvaluable, nearest
from audit.evidence import Evidence, Figure, Table
from audit.explain.summary import AtLeastOne
from audit.stats import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from audit.dataset import Dataset, Feature, Floats
    from audit.evidence import Cell, Measure
    from audit.explain.attribution import Doubles
    from audit.explain.partial import LocalEffects, Places
    from audit.model import Model

Output = Literal["log_odds", "probability"]
UNITS = {"log_odds": "log-odds", "probability": "probability"}
SPREAD = (0.1, 0.5, 0.9)
TABLES = 20


@dataclass(frozen=True)
class Found:
    """What was found about one feature.

    Attributes:
        feature: the feature.
        places: where it was put.
        curves: [n, m] answer of each row with the feature put there.
        local: accumulated local effects; None for categories and constants.
        change: [n] slope of the answer in each row's bin, for one of the user's units.
        seen: rows of the whole data in each bin, or with each category.
    """

    feature: Feature
    places: Places
    curves: Doubles
    local: LocalEffects | None
    change: Doubles
    seen: list[int]

    @property
    def centred(self) -> Doubles:
        """[n, m] each row's curve minus its own mean."""
        found: Doubles = self.curves - self.curves.mean(axis=1, keepdims=True)
        return found


@check(
    "interpretability.partial_dependence",
    needs={"logits"},
    modality={"tabular"},
    measures={"partial_dependence_range", "average_marginal_effect"},
)
def partial_dependence(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    rows: Annotated[int, Field(ge=2)] = 200,
    bins: Annotated[int, Field(ge=1, le=60)] = 12,
    output: Output = "log_odds",
    outcome: str = "",
    features: tuple[str, ...] = (),
    figures: Annotated[int, Field(ge=0)] = 4,
    local_rows: AtLeastOne = 2000,
) -> Evidence:
    """Partial dependence and accumulated local effects: how the answer moves with one feature.

    The partial dependence puts the same value of a feature into every row and takes the mean answer, value
    by value. `partial_dependence_range` says how far apart the highest and the lowest mean answer are: the
    two values are picked on one half of the rows and compared on the other, so that chance alone gives 0 and
    not more; a value below 0 means that the halves do not agree. Individual rows may move
    differently; the table shows how the curves of single rows are spread (individual conditional
    expectations): where the spread is as wide as the curve is high, the mean hides more than it shows.

    The accumulated local effects move each row only to the ends of its own small bin and add up the changes.
    They never make a row that is far from any real one, and so can be trusted more where features go
    together; where both curves differ much, the partial dependence rests on unreal rows.
    `average_marginal_effect` is the mean slope over these small moves, per unit of the feature. Categories
    have no order, so they have no local effects.

    How many rows of the data lie behind each part of a curve is drawn below it: where there are few, the
    model answers by extrapolation. It shows what the model does, not what a change would cause in reality.

    Settings: `rows` that are moved everywhere (partial dependence) and `local_rows` that are moved inside
    their bins, number of `bins`, `output` and `outcome` that are explained (the favourable one), `features`
    to look at (all), number of `figures`.

    Friedman: Greedy Function Approximation, 2001. Goldstein et al.: Peeking Inside the Black Box, 2015.
    Apley, Zhu: Visualizing the Effects of Predictor Variables in Black Box Supervised Learning Models, 2020.
    """
    from audit.explain.partial import explained_class, features_of

    asked = _asked(features_of(data), features)
    drawn = _drawn(data, max(rows, local_rows), seed)
    chosen, name = explained_class(data, outcome, model.predict(drawn[:1]).shape[1])
    inputs = model.tensor(drawn)
    both = inputs[:rows], inputs[:local_rows]
    found = [_of(model, data, item, both, bins, chosen, output) for item in asked]
    found = [item for item in found if np.isfinite(item.curves).all()]
    if not found:
        raise NotEvaluable(f"0 of {len(asked)} features gave finite answers at every value.")
    shown = sorted(found, key=lambda item: -float(np.ptp(item.curves.mean(axis=0))))
    unit = UNITS[output]
    return Evidence(
        measures=[item for one in found for item in _measures(one, unit)],
        tables=[_table(item, unit) for item in shown[:TABLES]],
        figures=[_figure(item, unit, name) for item in shown[:figures]],
        caveats=_caveats(found, len(asked), len(found[0].curves), name, unit),
    )


def _drawn(data: Dataset, rows: int, seed: int) -> Floats:
    """Up to `rows` rows in an order drawn by the seed: the first ones are from all over the file."""
    index = sample_rows(data, rows, seed)
    if len(index) < 2:  # noqa: PLR2004 - two halves of the rows are compared
        raise NotEvaluable(f"{len(index)} rows are too few; at least 2 are needed.")
    found: Floats = data.inputs[np.random.default_rng(seed).permutation(index)]
    return found


def _asked(known: Sequence[Feature], names: Sequence[str]) -> list[Feature]:
    by_name = {item.name: item for item in known}
    for name in names:
        if name not in by_name:
            raise ConfigError(
                f"'features' names '{name}', which is not a feature of the data{nearest(name, by_name)}."
            )
    return [by_name[name] for name in names] if names else list(known)


def _of(
    model: Model,
    data: Dataset,
    item: Feature,
    rows: tuple[Tensor, Tensor],
    bins: int,
    chosen: int,
    output: Output,
) -> Found:
    from audit.errors import NotApplicable
    from audit.explain.partial import individual_curves, local_effects, places_of

    flat = data.inputs.reshape(len(data), -1).astype(np.float64)
    places = places_of(item, flat, bins)
    curves = individual_curves(model, rows[0], item.columns, places.inputs, chosen, output)
    local = None
    if not places.names and len(item.columns) == 1:
        try:
            local = local_effects(model, rows[1], item.columns[0], bins, chosen, output)
        except NotApplicable:
            local = None
    change = np.zeros(0)
    if local is not None:
        change = local.change / (np.diff(local.edges) * (item.unit or 1.0))[local.bin]
    return Found(item, places, curves, local, change, _seen(item, places, flat))


def _seen(item: Feature, places: Places, flat: Doubles) -> list[int]:
    """Rows of the data in each bin between the places, or with each category."""
    if not places.names:
        values = flat[:, item.columns[0]]
        inside = np.clip(np.searchsorted(places.model_values, values, side="left") - 1, 0, None)
        counts = np.bincount(inside, minlength=max(1, len(places.values) - 1))
        return [int(count) for count in counts]
    own = flat[:, list(item.columns)]
    return [int((np.abs(own - place).max(axis=1) < 0.5).sum()) for place in places.inputs]  # noqa: PLR2004 - one-hot


def _measures(item: Found, unit: str) -> list[Measure]:
    group = {"feature": item.feature.name}
    found = [mean("partial_dependence_range", _range(item.curves), group=group, unit=unit)]
    if item.local is not None:
        per = "" if item.feature.unit is None else f" per unit of {item.feature.name}"
        fields = {"group": group, "unit": f"{unit}{per or ' per unit of the input'}"}
        found.append(mean("average_marginal_effect", item.change.tolist(), **fields))
    return found


def _range(curves: Doubles) -> list[float]:
    """Each held row's answer at the place that was highest in the other half, minus that at its lowest."""
    first, second = curves[0::2], curves[1::2]
    if not len(second):
        return []
    average = first.mean(axis=0)
    found: list[float] = (second[:, average.argmax()] - second[:, average.argmin()]).tolist()
    return found


def _table(item: Found, unit: str) -> Table:
    """The curve with its interval, the spread of single rows, and the rows behind each value."""
    curve = item.curves.mean(axis=0)
    low, high = _band(item)
    spread = np.quantile(item.centred, SPREAD, axis=0)
    rows: list[list[Cell]] = []
    for place, value in enumerate(item.places.values):
        label: Cell = item.places.names[place] if item.places.names else float(value)
        seen = item.seen[place] if place < len(item.seen) else None
        numbers = [float(n) for n in (curve[place], low[place], high[place], *spread[:, place])]
        rows.append([label, *numbers, seen])
    what = "with this category" if item.places.names else "between this value and the next"
    return Table(
        name=f"dependence_{item.feature.name}",
        title=f"Partial dependence on {item.feature.name}",
        columns=["value", "mean answer", "low", "high", "single_10", "single_50", "single_90", "rows"],
        rows=rows,
        note=f"In {unit}, {len(item.curves)} rows. low and high: 95 % Student t interval of the curve's "
        "shape, which leaves out the level that all values share; single_10 to single_90: quantiles over "
        f"rows of each row's own curve around its mean; rows: how many in the data lie {what}.",
    )


def _band(item: Found) -> tuple[Doubles, Doubles]:
    """[m], [m] interval of the curve at each place, from the curves centred by row."""
    from scipy.special import stdtrit

    count = len(item.curves)
    half = stdtrit(count - 1, 0.975) * item.centred.std(axis=0, ddof=1) / np.sqrt(count)
    curve = item.curves.mean(axis=0)
    return curve - half, curve + half


def _figure(item: Found, unit: str, outcome: str) -> Figure:
    curve = item.curves.mean(axis=0)
    level = _level(item, curve)
    low, high = (end - level for end in _band(item))
    centred, name = curve - level, item.feature.name
    title = f"How the answer ({outcome}) moves with {name}"
    ends = f"between {centred.min():.3g} and {centred.max():.3g} {unit} around its mean"
    if item.places.names:
        labels = [f"{n} ({seen:,} rows)" for n, seen in zip(item.places.names, item.seen, strict=True)]
        data = {"labels": labels, "values": centred.tolist(), "low": low.tolist(), "high": high.tolist()}
        alt = f"Bar chart of the partial dependence on {name}, {ends}."
        return Figure(name=f"dependence_{name}", title=title, kind="bars", alt=alt, data=data)
    series = [_series("dependence", item.places.values, centred, low, high), *_local(item)]
    data = {"x_label": name, "y_label": f"{unit} of {outcome}, around the mean", "series": series}
    ascending = item.places.values if (item.feature.unit or 1) > 0 else item.places.values[::-1]
    if len(ascending) > 1:
        counts = item.seen if (item.feature.unit or 1) > 0 else item.seen[::-1]
        data["density"] = {"edges": ascending.tolist(), "counts": counts}
    alt = f"Curve of the answer over {name}: the partial dependence lies {ends}."
    return Figure(name=f"dependence_{name}", title=title, kind="curve", alt=alt, data=data)


def _local(item: Found) -> list[dict[str, object]]:
    from audit.explain.partial import in_user_units

    if item.local is None:
        return []
    values = in_user_units(item.feature, item.local.edges)
    return [_series("local effects", values, item.local.curve, item.local.low, item.local.high)]


def _level(item: Found, curve: Doubles) -> float:
    """Mean of the curve over the rows of the data, at which the local effects are 0 as well."""
    if not sum(item.seen):
        return float(curve.mean())
    middle = curve if len(item.seen) == len(curve) else (curve[:-1] + curve[1:]) / 2
    return float(np.average(middle, weights=item.seen))


def _series(name: str, x: Doubles, y: Doubles, low: Doubles, high: Doubles) -> dict[str, object]:
    lists = {"x": x.tolist(), "y": y.tolist(), "low": low.tolist(), "high": high.tolist()}
    return {"name": name, **lists}


def _caveats(found: Sequence[Found], asked: int, rows: int, outcome: str, unit: str) -> list[str]:
    sentences = [
        (
            f"The answer is the {unit} of {outcome}. Partial dependence was computed on {rows} rows drawn by "
            "the seed: it puts values into rows that may not go with them."
        )
    ]
    mixed = [item.feature.name for item in found if _hides(item)]
    if mixed:
        sentences.append(
            f"The mean curve hides how single rows move for {', '.join(mixed)}: the middle 80 % of rows are "
            "spread wider than the curve is high, so that other features decide what this one does."
        )
    if len(found) > TABLES:
        sentences.append(f"The curves of the {TABLES} features with the widest range are in the tables.")
    if len(found) < asked:
        sentences.append(f"{asked - len(found)} of {asked} features gave answers that are not finite.")
    return sentences


def _hides(item: Found) -> bool:
    low, _, high = np.quantile(item.centred, SPREAD, axis=0)
    return bool((high - low).max() > max(1e-6, float(np.ptp(item.curves.mean(axis=0)))))
