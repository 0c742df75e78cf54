"""Attributions of many rows as evidence: the global table, measures, and what to draw. Numpy only."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.dataset import Dataset, Floats
from audit.errors import NotEvaluable
from audit.evidence import Evidence, Figure, Measure, Table
from audit.explain.attribution import Attribution, Doubles
from audit.explain.features import TINY, cell_names, grid_cells, stretches, sum_by_owner
from audit.stats import DEFAULT_LEVEL, mean, student_t

AtLeastOne = Annotated[int, Field(ge=1)]
LEADING = 20
DRAWN = 10
NAMED = 3
GRID = 4
FLOAT_NOISE = 1e-9
_CHANNELS = (1, 3)
_MOST_LINES = 8
_MOST_POINTS = 200


def require_explanation(item: Attribution, *, exact: bool = False) -> None:
    """Refuse to go on where there is nothing to explain.

    Args:
        item: the attributions.
        exact: only an exact 0 counts as no attribution (gradients, whose unit can be tiny).

    Raises:
        NotEvaluable: no usable row, or every attribution of every row is zero.
    """
    usable = item.usable()
    if not usable.any():
        raise NotEvaluable(
            f"no explanation: 0 of {len(usable)} rows have a finite output and finite attributions."
        )
    noise = 0.0 if exact else FLOAT_NOISE * (1 + np.abs(item.fx[usable]))[:, None]
    if (np.abs(item.values[usable]) <= noise).all():
        raise NotEvaluable(
            f"no explanation: all attributions of all {int(usable.sum())} rows are zero, so the model's "
            "answer does not depend on its inputs there, or its gradients vanish."
        )


def sampling_error(item: Attribution) -> Measure:
    """`relative_standard_error`: the mean over rows of |standard errors| / |attributions|, both as lengths.

    Undefined where too few samples were drawn to compare sub-designs, or all attributions are zero.
    """
    usable = item.usable()
    size = np.linalg.norm(item.values[usable], axis=1)
    spread = (
        np.zeros(0) if item.standard_error is None else np.linalg.norm(item.standard_error[usable], axis=1)
    )
    known = (size > 0) & np.isfinite(spread)
    reason = "" if known.any() else "too few were sampled to tell the sampling error"
    relative = (spread[known] / size[known]).tolist()
    return mean("relative_standard_error", relative, unit="share", better="lower", reason=reason)


def mean_of_finite(name: str, values: Doubles, what: str, **fields: Any) -> Measure:
    """The mean of the values that are finite; the others are counted.

    Args:
        name: name of the measure.
        values: [n] values, infinite or NaN where there is none.
        what: what they are, for the reader: `completeness errors`.
        **fields: further fields of the measure.
    """
    known = values[np.isfinite(values)]
    left = len(values) - len(known)
    return mean(
        name,
        known.tolist(),
        reason=f"0 of {len(values)} {what} are finite",
        left_out=f"{left} of {len(values)} {what} are not finite" if left and len(known) else "",
        **fields,
    )


def resolution(data: Dataset, grid: int) -> list[str]:
    """What a reader must know of the parts that series are cut into; nothing for all else."""
    if data.modality != "series":
        return []
    return [f"Each channel of a series is cut into {grid} stretches of time, whose steps are added up."]


def evidence(
    item: Attribution,
    data: Dataset,
    measures: Sequence[Measure],
    *,
    finding: str,
    caveats: Sequence[str] = (),
    tables: Sequence[Table] = (),
    examples: int = 0,
    value_range: tuple[float, float] | None = None,
) -> Evidence:
    """Evidence of one method: its own measures, then what all methods have in common.

    Args:
        item: the attributions; rows that are not usable are left out, with a caveat.
        data: what they were computed on.
        measures: the method's own measures.
        finding: what leading features do, for the title: `moved the decision most`.
        caveats: what a reader must know of the method.
        tables: the method's own tables.
        examples: at most so many images are shown.
        value_range: raw values that are black and white.
    """
    names, values = _global_values(item)
    order = np.argsort(-np.abs(values).mean(axis=0), kind="stable").tolist()
    unit = item.unit if item.maps is None else "share"
    picture = heatmaps(item, data, examples, value_range) if item.maps is not None and examples > 0 else None
    bars = _bars(names, values, order[:DRAWN], finding, unit, item.maps is not None)
    return Evidence(
        measures=[*measures, *_leading(names, values, order[:LEADING], unit)],
        tables=[_global_table(names, values, order, item), *tables],
        figures=[bars, *([picture[0]] if picture else []), *_over_time(item)],
        caveats=[*_rows_caveats(item), *caveats, *item.notes],
        arrays=picture[1] if picture else {},
    )


def cell_shares(maps: Floats, grid: int = GRID) -> tuple[Doubles, Doubles]:
    """[n, cells] signed and absolute attribution in each cell, as shares of a map's absolute total.

    A map that is zero everywhere has no shares and is left out.
    """
    height, width = maps.shape[1:]
    cells = grid_cells(grid, height, width)
    count = int(cells.max()) + 1
    exact = maps.astype(np.float64)
    total = np.abs(exact).sum(axis=(1, 2))
    exact, total = exact[total > 0], total[total > 0][:, None]
    return sum_by_owner(exact, cells, count) / total, sum_by_owner(np.abs(exact), cells, count) / total


def _global_values(item: Attribution) -> tuple[tuple[str, ...], Doubles]:
    """Names and [n, M] what is averaged over rows: the values, or the absolute shares of image cells."""
    usable = item.usable()
    if item.maps is None:
        return item.features, item.values[usable]
    height, width = item.maps.shape[1:]
    return cell_names(GRID, height, width), cell_shares(item.maps[usable])[1]


def _interval(values: Doubles) -> tuple[float, float | None, float | None]:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    centre = float(values.mean())
    _, low, high = student_t({"n": len(values), "mean": centre, "sd": spread}, DEFAULT_LEVEL)
    return centre, low, high


def _global_table(names: Sequence[str], values: Doubles, order: Sequence[int], item: Attribution) -> Table:
    signed = values if item.maps is None else cell_shares(item.maps[item.usable()])[0]
    rows = [[names[i], float(signed[:, i].mean()), *_interval(np.abs(values[:, i]))] for i in order]
    what = f"in {item.unit}" if item.maps is None else "as shares of an image's whole attribution"
    return Table(
        name="global",
        title="Attribution of each feature over all explained rows",
        columns=["feature", "mean", "mean_abs", "low", "high"],
        rows=rows,
        note=f"{len(values)} rows, {what}; low and high: 95 % Student t interval of mean_abs over rows.",
    )


def _leading(names: Sequence[str], values: Doubles, order: Sequence[int], unit: str) -> list[Measure]:
    return [
        mean("mean_abs_attribution", np.abs(values[:, i]).tolist(), group={"feature": names[i]}, unit=unit)
        for i in order
    ]


def _bars(
    names: Sequence[str], values: Doubles, order: Sequence[int], finding: str, unit: str, image: bool
) -> Figure:
    intervals = [_interval(np.abs(values[:, i])) for i in order]
    labels = [names[i] for i in order]
    drawn = ", ".join(f"{name} {value:.3g}" for name, (value, _, _) in zip(labels, intervals, strict=True))
    return Figure(
        name="leading_features",
        title=_title(labels, intervals, finding, image),
        kind="bars",
        alt=f"Bar chart of the mean absolute attribution ({unit}): {drawn}.",
        data={
            "labels": labels,
            "values": [value for value, _, _ in intervals],
            "low": [low for _, low, _ in intervals],
            "high": [high for _, _, high in intervals],
        },
    )


def _title(
    labels: Sequence[str],
    intervals: Sequence[tuple[float, float | None, float | None]],
    finding: str,
    image: bool,
) -> str:
    """Name the first feature alone only where its interval stands above the second's."""
    first = f"Image cell {labels[0]}" if image else labels[0]
    floor = intervals[0][1]
    if floor is None:
        return f"{first} {finding} in the one row explained"
    level = [label for label, (_, _, high) in zip(labels, intervals, strict=True) if (high or 0) >= floor]
    if len(level) == 1:
        return f"{first} {finding}"
    others = len(level) - 1
    names = f"{', '.join(level[:-1])} and {level[-1]}"
    if image or len(level) > NAMED:
        names = f"{first} and {others} other{'s' if others > 1 else ''}"
    return f"{names} {finding}; these rows do not settle their order"


def _over_time(item: Attribution) -> list[Figure]:
    """Mean absolute attribution of each channel of series over time, with its interval over rows."""
    if item.elements is None:
        return []
    sizes = np.abs(item.elements[item.usable()].astype(np.float64))
    block = stretches(_MOST_POINTS, sizes.shape[2])
    at = [float(np.flatnonzero(block == part).mean() + 1) for part in range(block.max() + 1)]
    names = list(dict.fromkeys(name.rpartition(", ")[0] or "all channels" for name in item.features))
    lines = []
    for channel in np.argsort(-sizes.mean(axis=(0, 2)), kind="stable")[:_MOST_LINES].tolist():
        inside = [_interval(sizes[:, channel, block == part].mean(axis=1)) for part in range(len(at))]
        keys = zip(("y", "low", "high"), zip(*inside, strict=True), strict=True)
        lines.append({"name": names[channel], "x": at, **{key: list(values) for key, values in keys}})
    peaks = [(line["name"], at[int(np.argmax(line["y"]))]) for line in lines]
    said = "; ".join(f"{name} is highest at step {step:g}" for name, step in peaks)
    return [
        Figure(
            name="over_time",
            title=f"Attribution over time, highest at step {peaks[0][1]:g} of {peaks[0][0]}",
            kind="curve",
            alt=f"Mean absolute attribution ({item.unit}) over time, a line a channel: {said}.",
            data={"x_label": "step", "y_label": f"mean absolute attribution, {item.unit}", "series": lines},
        )
    ]


def heatmaps(
    item: Attribution, data: Dataset, examples: int, value_range: tuple[float, float] | None
) -> tuple[Figure, dict[str, object]] | None:
    """A figure of at most `examples` images beside their maps, and the arrays that it names.

    None where no row has a usable map that is not zero everywhere.
    """
    if item.maps is None:
        return None
    shown = np.flatnonzero(item.usable() & (np.abs(item.maps).sum(axis=(1, 2)) > 0))[:examples]
    if not len(shown):
        return None
    images = as_bytes(data.inputs[item.rows[shown]], value_range)
    captions = [_caption(item, data, int(index)) for index in shown]
    figure = Figure(
        name="examples",
        title=f"Where the attribution of {len(shown)} example images lies",
        kind="heatmaps",
        alt=f"{len(shown)} images, each with its attribution per pixel: {'; '.join(captions)}.",
        data={"captions": captions, "images": "images", "values": "values"},
    )
    return figure, {"images": images, "values": item.maps[shown].astype(np.float32)}


def as_bytes(images: Floats, value_range: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    """[k, H, W, C] uint8 of raw images [k, C, H, W]; other channel counts than 1 and 3 become grey."""
    low, high = value_range or (float(images.min()), float(images.max()))
    if images.shape[1] not in _CHANNELS:
        images = images.mean(axis=1, keepdims=True)
    scaled = (images - low) / max(high - low, TINY)
    grey: npt.NDArray[np.uint8] = np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey.transpose(0, 2, 3, 1)


def _caption(item: Attribution, data: Dataset, index: int) -> str:
    target = int(item.targets[index])
    name = data.classes[target] if target < len(data.classes) else f"class {target}"
    return f"row {int(item.rows[index])}: {name}, {item.fx[index]:.2f}"


def _rows_caveats(item: Attribution) -> list[str]:
    usable = item.usable()
    left_out = int((~usable).sum())
    found = [f"Computed on {int(usable.sum())} rows drawn by the seed; other rows may differ."]
    if left_out:
        found.append(f"{left_out} of {len(usable)} rows gave values that are not finite and are left out.")
    return found
