"""LIME by the reference package itself, as another engine beside the native one."""

import contextlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from audit.dataset import Dataset, Feature, Floats, Ints
from audit.errors import NotApplicable
from audit.explain.attribution import Doubles
from audit.explain.explained import Explained, segmentwise
from audit.explain.features import grid_cells, layout, spread_over_pixels, superpixels
from audit.explain.methods.lime import SAMPLES, Segments
from audit.explain.quantity import Output, quantity
from audit.library.copied import undisturbed
from audit.model import Model

_EVERY = 10**6
_COLOURS = (1, 3)
Line = tuple[Doubles, float, float, float]


class _NotFiniteError(Exception):
    """An answer about a neighbour is no number, and the package can fit none."""


def lime_library(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int | None = None,
    discretize: bool = False,
    segments: Segments = "grid",
    grid: int = 4,
    fill: float | Literal["mean"] = "mean",
) -> dict[str, Any]:
    """LIME by `lime_tabular` or `lime_image`, one row at a time; `extras` holds `r2` and `local_prediction`.

    Costs `samples` rows forward for each row, and much more time than that: see benchmarks/explanations.py.

    Args:
        model: the network.
        data: what it is explained on; scales and categories come from it.
        seed: draws the perturbations.
        explained: the rows.
        samples: perturbed rows, the row itself included; default 1000 for tables, 256 for images.
        discretize: numeric features are cut at their quartiles, as the package does by default; a weight is
            then that of staying in the row's own quarter, not of a standard deviation.
        segments: image parts: a `grid`, superpixels by `slic`, about as many as the grid has cells, or by
            `quickshift`, as many as it finds.
        grid: cells on a side.
        fill: raw value that hides a part of an image, or its `mean` colour.

    Raises:
        NotApplicable: the package does not take this kind of input.
    """
    samples = samples or SAMPLES.get(data.modality, SAMPLES["tabular"])
    with undisturbed():
        if data.modality == "image":
            fields = _images(model, data, seed, explained, samples, segments, grid, fill)
        else:
            fields = _tables(model, data, seed, explained, samples, discretize=discretize)
    return {**fields, "settings": {"samples": samples}}


def _tables(
    model: Model, data: Dataset, seed: int, explained: Explained, samples: int, *, discretize: bool
) -> dict[str, Any]:
    from lime.lime_tabular import LimeTabularExplainer

    if data.inputs.ndim != 2:  # noqa: PLR2004 - [N, D]
        raise NotApplicable(
            f"the lime package takes tables, not inputs of shape {data.inputs.shape[1:]}; "
            "interpretability.shap and interpretability.occlusion explain series."
        )
    parts = layout(data)
    features = data.features or tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(parts.names))
    coded = encoded(data.inputs, features)
    explainer = LimeTabularExplainer(
        coded,
        mode="regression",
        categorical_features=[i for i, item in enumerate(features) if item.kind == "categorical"],
        feature_selection="none",
        discretize_continuous=discretize,
        sample_around_instance=True,
        random_state=seed,
    )
    lines = []
    own = encoded(explained.inputs.cpu().numpy(), features)
    for row, wanted in zip(own, explained.classes.tolist(), strict=True):
        number = _asking(model, wanted, explained.output)
        explain = partial(
            explainer.explain_instance,
            row,
            lambda rows, number=number: number(decoded(rows, features, data.inputs.shape[1])),
            num_features=_EVERY,
            num_samples=samples,
        )
        lines.append(_line(explain, 1, len(features)))
    notes = [f"Perturbed by the lime package{', discretised at quartiles' if discretize else ''}."]
    if still := int((data.inputs.std(axis=0) == 0).sum()):
        notes.append(f"{still} columns never vary in the data; the package adds noise of 1 to them.")
    return _fields(lines, segmentwise(_weights(lines), parts.names, data, parts.owner), tuple(notes))


def encoded(inputs: Floats, features: tuple[Feature, ...]) -> Doubles:
    """[N, M] one column for each feature: its value, or the index of its category (0 for the dropped one).

    Raises:
        NotApplicable: a feature that is not categorical has several columns.
    """
    columns = []
    for item in features:
        block = inputs[:, list(item.columns)]
        if item.kind == "categorical":
            columns.append(np.where(block.any(axis=1), block.argmax(axis=1) + 1, 0))
        elif block.shape[1] == 1:
            columns.append(block[:, 0])
        else:
            raise NotApplicable(f"the lime package takes one column a feature; '{item.name}' has several.")
    return np.stack(columns, axis=1).astype(np.float64)


def decoded(coded: Doubles, features: tuple[Feature, ...], width: int) -> Floats:
    """[N, width] the model's input of the coded features; one-hot columns are 0 or 1."""
    found = np.zeros((len(coded), width), dtype=np.float32)
    for index, item in enumerate(features):
        columns = list(item.columns)
        if item.kind == "categorical":
            found[:, columns] = coded[:, index, None] == np.arange(1, len(columns) + 1)
        else:
            found[:, columns[0]] = coded[:, index]
    return found


def _images(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    samples: int,
    segments: Segments,
    grid: int,
    fill: float | Literal["mean"],
) -> dict[str, Any]:
    from lime.lime_image import LimeImageExplainer

    images = explained.inputs.cpu().numpy()
    if images.shape[1] not in _COLOURS:
        raise NotApplicable(f"the lime package takes grey or RGB images, not {images.shape[1]} channels.")
    cells = _cells(data.inputs[explained.index], segments, grid)
    explainer = LimeImageExplainer(feature_selection="none", random_state=seed)
    lines = []
    for index, wanted in enumerate(explained.classes.tolist()):
        number = _asking(model, wanted, explained.output)
        explain = partial(
            explainer.explain_instance,
            _colours(images[index]),
            lambda rows, number=number: number(_channels(rows, images.shape[1]))[:, None],
            labels=(0,),
            top_labels=None,
            hide_color=None if fill == "mean" else fill,
            num_features=_EVERY,
            num_samples=samples,
            batch_size=model.passes.batch,
            segmentation_fn=lambda _, own=cells[index]: own,
        )
        with contextlib.redirect_stderr(io.StringIO()):
            lines.append(_line(explain, 0, int(cells.max()) + 1))
    names = layout(data, grid).names
    if segments != "grid":
        names = tuple(f"segment {index + 1}" for index in range(int(cells.max()) + 1))
    fields = {
        "values": _weights(lines),
        "features": names,
        "maps": spread_over_pixels(_weights(lines), cells),
    }
    return _fields(lines, fields, ("Perturbed by the lime package.",))


def _cells(images: Floats, segments: Segments, grid: int) -> Ints:
    if segments != "grid":
        return superpixels(images, grid * grid, segments)
    cells = grid_cells(grid, *images.shape[-2:])
    return np.broadcast_to(cells, (len(images), *cells.shape))


def _colours(image: Floats) -> Doubles:
    """[H, W, 3] as the package works on; it hides parts by three colours."""
    return np.repeat(image, 3 // len(image), axis=0).transpose(1, 2, 0).astype(np.float64)


def _channels(rows: Doubles, channels: int) -> Floats:
    return np.ascontiguousarray(rows[..., :channels].transpose(0, 3, 1, 2), dtype=np.float32)


def _asking(model: Model, wanted: int, output: Output) -> Callable[[Floats], Doubles]:
    def number(rows: Floats) -> Doubles:
        scores = model.predict(rows)
        found: Doubles = quantity(scores, torch.full((len(scores),), wanted), output).double().numpy()
        if not np.isfinite(found).all():
            raise _NotFiniteError
        return found

    return number


def _line(explain: Callable[[], Any], label: int, count: int) -> Line:
    """Weights, intercept, local prediction and R2 of one row's straight line; NaN where there is none."""
    try:
        found = explain()
    except _NotFiniteError:
        return np.full(count, np.nan), np.nan, np.nan, np.nan
    weights = np.zeros(count)
    for index, weight in found.local_exp[label]:
        weights[index] = weight
    return weights, float(found.intercept[label]), float(np.ravel(found.local_pred)[0]), float(found.score)


def _weights(lines: list[Line]) -> Doubles:
    return np.stack([line[0] for line in lines])


def _fields(lines: list[Line], fields: dict[str, Any], notes: tuple[str, ...]) -> dict[str, Any]:
    _, intercept, local, r2 = zip(*lines, strict=True)
    extras = {"r2": np.array(r2), "local_prediction": np.array(local)}
    return {**fields, "base": np.array(intercept), "extras": extras, "notes": notes}
