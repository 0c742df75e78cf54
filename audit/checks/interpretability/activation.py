"""Activation maximisation: what a class, or a unit, answers to most."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Evidence, Figure, Table
from audit.explain.summary import AtLeastOne, as_bytes
from audit.stats import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from audit.dataset import Dataset
    from audit.evidence import Measure
    from audit.explain.activation import Ascent, Found
    from audit.explain.attribution import Doubles
    from audit.model import Model

MOST_CLASSES = 10
NOT_AN_EXPLANATION = (
    "These images are not examples of a class, and not what the model saw in any row: they are inputs made "
    "to raise one answer as far as it goes. They show what would be enough, not what is used in real "
    "images."
)


@check(
    "interpretability.activation",
    needs={"logits", "gradients"},
    modality={"image"},
    measures={"probability_reached", "activation_reached", "activation_over_data", "likeness"},
)
def activation(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    classes: tuple[str, ...] = (),
    layer: str = "",
    units: tuple[Annotated[int, Field(ge=0)], ...] = (),
    seeds: Annotated[int, Field(ge=1, le=20)] = 3,
    steps: AtLeastOne = 64,
    size: Annotated[float, Field(gt=0, le=1)] = 0.02,
    smooth: Annotated[float, Field(ge=0)] = 1.0,
    jitter: Annotated[int, Field(ge=0, le=16)] = 2,
    rows: AtLeastOne = 256,
    examples: Annotated[int, Field(ge=0, le=12)] = 8,
) -> Evidence:
    """Activation maximisation: images that a class, or a unit of a layer, answers to most.

    Starting from the mean colour of the data and a little noise, this moves the pixels step by step uphill in
    the log-odds of a class (or in the mean activation of a unit of the named layer), inside the valid range.
    Small random shifts and a penalty on differences of neighbours (total variation) keep the image from being
    noise. `probability_reached` is the model's probability of the class at the end, over several starts;
    `activation_reached` that of the unit, and `activation_over_data` how many times the strongest activation
    in real rows it is. `likeness` is the mean correlation between the images of different starts: where it is
    low, there are many ways to the same answer and one picture shows one of them.

    An image that reaches a high probability and looks like nothing is common: it shows that the class can be
    reached without looking like it, and it is not a defect that this check can judge. It does not say what
    the model uses in real images; saliency, integrated gradients and SHAP ask that.

    Settings: `classes` (the first ten), or `layer` and `units` of it (the first eight); `seeds`, number of
    starts; `steps` and their `size` as a share of the range; `smooth`, weight of the penalty; `jitter` in
    pixels (at most an eighth of a side); `rows` for the strongest activation in the data; `examples` shown.

    Erhan et al.: Visualizing Higher-Layer Features of a Deep Network, 2009. Simonyan, Vedaldi, Zisserman:
    Deep Inside Convolutional Networks, 2014. Mahendran, Vedaldi: Understanding Deep Image Representations,
    2015.
    """
    from audit.explain.activation import Ascent

    how = Ascent(steps, size, smooth, min(jitter, min(data.inputs.shape[-2:]) // 8))
    if units and not layer:
        raise ConfigError("'units' are named and no 'layer'; name the layer that they belong to.")
    limits = model.input_range or (float(data.inputs.min()), float(data.inputs.max()))
    if limits[0] == limits[1]:
        raise NotEvaluable(f"all values of the images are {limits[0]:g}, and no range of values is stated.")
    if layer:
        names, found, known = _units(model, data, seed, layer, units, how, limits, seeds, rows)
    else:
        names, found = _classes(model, data, seed, classes, how, limits, seeds)
        known = None
    images = found.images.detach().cpu().numpy()
    figure = _figure(names, found, images, seeds, limits, examples)
    return Evidence(
        measures=_measures(names, found, images, seeds, known),
        tables=[_table(names, found, seeds, known)],
        figures=[figure[0]] if figure else [],
        caveats=[NOT_AN_EXPLANATION, f"{seeds} starts, {steps} steps each; other starts give other images."],
        arrays=figure[1] if figure else {},
    )


def _starts(
    model: Model, data: Dataset, count: int, seeds: int, seed: int, limits: tuple[float, float]
) -> Tensor:
    """[count * seeds, C, H, W] the mean colour with a little noise, which is the same for every class."""
    shape = data.inputs.shape[1:]
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.05 * (limits[1] - limits[0]), (seeds, *shape))
    colour = data.inputs.mean(axis=(0, 2, 3), dtype=np.float64)[None, :, None, None]
    images = np.clip(colour + noise, *limits).astype(np.float32)
    return model.tensor(np.tile(images, (count, 1, 1, 1)))


def _classes(
    model: Model,
    data: Dataset,
    seed: int,
    classes: Sequence[str],
    how: Ascent,
    limits: tuple[float, float],
    seeds: int,
) -> tuple[list[str], Found]:
    """Names of the classes, and the ascent of each from each start."""
    import torch

    from audit.explain.activation import class_objective, maximise

    count = model.predict(data.inputs[:1]).shape[1]
    if count < 2:  # noqa: PLR2004 - log-odds are of one class against the others
        raise NotApplicable("the model has one output and no classes, so there are no log-odds to raise.")
    known = [data.classes[i] if i < len(data.classes) else f"class {i}" for i in range(count)]
    for name in classes:
        if name not in known:
            raise ConfigError(f"'classes' names '{name}', which is not a class{nearest(name, known)}.")
    names = list(classes) or known[:MOST_CLASSES]
    wanted = torch.tensor([known.index(name) for name in names], device=model.device).repeat_interleave(seeds)
    starts = _starts(model, data, len(names), seeds, seed, limits)
    return names, maximise(model, starts, class_objective(wanted), limits, how, seed)


def _units(
    model: Model,
    data: Dataset,
    seed: int,
    layer: str,
    units: Sequence[int],
    how: Ascent,
    limits: tuple[float, float],
    seeds: int,
    rows: int,
) -> tuple[list[str], Found, Doubles]:
    """Names of the units, the ascent of each from each start, and their strongest activation in the data."""
    import torch

    from audit.explain.activation import maximise, unit_means, unit_objective, watched

    index = sample_rows(data, rows, seed)
    with watched(model, layer) as held:

        def seen(part: slice) -> tuple[Tensor]:
            with torch.no_grad():
                model.scores(model.tensor(data.inputs[index[part]]))
            return (unit_means(held[0], len(index[part])),)

        (means,) = model.in_batches(seen, len(index))
        for unit in units:
            if unit >= means.shape[1]:
                raise ConfigError(
                    f"'units' names {unit}, and layer '{layer}' has units 0 to {means.shape[1] - 1}."
                )
        asked = list(units) or list(range(min(means.shape[1], 8)))
        wanted = torch.tensor(asked, device=model.device).repeat_interleave(seeds)
        starts = _starts(model, data, len(asked), seeds, seed, limits)
        found = maximise(model, starts, unit_objective(held, wanted), limits, how, seed)
    strongest: Doubles = means[:, asked].max(dim=0).values.cpu().double().numpy()
    return [f"{layer} {unit}" for unit in asked], found, strongest


def _measures(
    names: Sequence[str], found: Found, images: Doubles, seeds: int, strongest: Doubles | None
) -> list[Measure]:
    measures = []
    key = "class" if strongest is None else "unit"
    for place, name in enumerate(names):
        part = slice(place * seeds, (place + 1) * seeds)
        group = {key: name}
        reached = found.reached[part]
        if strongest is None:
            measures.append(
                mean("probability_reached", (1 / (1 + np.exp(-reached))).tolist(), group=group, unit="share")
            )
        else:
            measures.append(mean("activation_reached", reached.tolist(), group=group, unit="activation"))
            reason = "no real row activates the unit"
            times = (reached / strongest[place]).tolist() if strongest[place] > 0 else []
            measures.append(mean("activation_over_data", times, group=group, unit="ratio", reason=reason))
        measures.append(mean("likeness", _likeness(images[part]), group=group, unit="correlation",
                             reason="fewer than two starts that left a pattern"))  # fmt: skip
    return measures


def _likeness(images: Doubles) -> list[float]:
    """Correlation of each image with the mean of the other ones; empty where one of them has no pattern."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    size = np.linalg.norm(flat, axis=1)
    if len(flat) < 2 or (size == 0).any():  # noqa: PLR2004 - a pair
        return []
    table = (flat / size[:, None]) @ (flat / size[:, None]).T
    # One number a start, not a pair: pairs share their images and are no sample.
    pairs = list(combinations(range(len(flat)), 2))
    return [float(np.mean([table[p] for p in pairs if start in p])) for start in range(len(flat))]


def _table(names: Sequence[str], found: Found, seeds: int, strongest: Doubles | None) -> Table:
    rows = []
    for place, name in enumerate(names):
        part = slice(place * seeds, (place + 1) * seeds)
        known = None if strongest is None else float(strongest[place])
        reached = found.reached[part]
        ends = float(reached.min()), float(reached.max())
        rows.append([name, float(found.start[part].mean()), *ends, known])
    what = "log-odds of the class" if strongest is None else "mean activation of the unit"
    return Table(
        name="ascent",
        title="What the ascent reached from its starts",
        columns=["of", "start", "lowest", "highest", "strongest in the data"],
        rows=rows,
        note=f"In the {what}; {seeds} starts each.",
    )


def _figure(
    names: Sequence[str],
    found: Found,
    images: Doubles,
    seeds: int,
    limits: tuple[float, float],
    examples: int,
) -> tuple[Figure, dict[str, object]] | None:
    """The best start of each class or unit, beside the slope times the change of each pixel."""
    best = [p * seeds + int(found.reached[p * seeds : (p + 1) * seeds].argmax()) for p in range(len(names))]
    shown = best[:examples]
    if not shown:
        return None
    captions = [f"{name}: reached {found.reached[i]:.3g}, from {found.start[i]:.3g}"
                for name, i in zip(names, shown, strict=False)]  # fmt: skip
    figure = Figure(
        name="images",
        title=f"Images that {len(shown)} {'answers' if len(shown) > 1 else 'answer'} of the model were "
        "raised by",
        kind="heatmaps",
        alt=f"{len(shown)} made images, each with the pixels that raised the answer: {'; '.join(captions)}.",
        data={"captions": captions, "images": "activation_images", "values": "activation_values"},
    )
    return figure, {
        "activation_images": as_bytes(images[shown].astype(np.float32), limits),
        "activation_values": found.maps[shown].astype(np.float32),
    }
