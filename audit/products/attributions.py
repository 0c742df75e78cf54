"""The `attributions` product: each method is computed once a run and shared by all that ask for it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Ints, sample_rows
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.explain.attribution import Attribution, Doubles
from audit.explain.features import Layout, grid_cells, layout, spread_over_pixels, sum_by_owner, superpixels
from audit.explain.gradients import Rule, completeness_error, gradients
from audit.explain.gradients import integrated_gradients as integrate
from audit.explain.kernel_shap import coalition_values, least_samples, make_design, shapley_values
from audit.explain.lime import (
    RIDGE,
    Surrogates,
    draw_masks,
    draw_noise,
    fit_surrogates,
    image_neighbourhood,
    image_values,
    segment_means,
    table_neighbourhood,
    table_values,
)
from audit.explain.quantity import Output, mean_by_class, quantity
from audit.model import Model

Target = Literal["predicted", "favourable"]
Baseline = Literal["auto", "mean", "zero", "lowest"]
Segments = Literal["grid", "slic"]
ROWS = {"tabular": 256, "image": 16}
UNITS = {"log_odds": "log-odds", "probability": "probability"}


@dataclass(frozen=True)
class Explained:
    """Rows to explain: indices [n], raw inputs [n, ...], class [n] and value [n] explained."""

    index: Ints
    inputs: Tensor
    classes: Tensor
    fx: Doubles
    output: Output

    def facts(self) -> dict[str, Any]:
        """The fields of an `Attribution` that say what was explained."""
        return {
            "rows": self.index,
            "targets": self.classes.cpu().numpy(),
            "fx": self.fx,
            "unit": UNITS[self.output],
        }


@dataclass(eq=False)
class Attributions:
    """Attributions of one model on one data set, computed when first asked for.

    Attributes:
        model: the network.
        data: the rows; every method draws them by the same seed, so that methods can be compared.
        seed: fixes rows, coalitions, background and perturbations.
    """

    model: Model
    data: Dataset
    seed: int
    _found: dict[tuple[Any, ...], Attribution] = field(default_factory=dict, repr=False)
    _explained: dict[tuple[Any, ...], Explained] = field(default_factory=dict, repr=False)

    def of(self, method: str, **settings: Any) -> Attribution:
        """Attributions by `method`; the same method and settings are computed once.

        Args:
            method: `saliency`, `integrated_gradients`, `kernel_shap` or `lime`.
            **settings: settings of the method; see the function of that name in this file.

        Raises:
            ConfigError: the method or a setting is unknown or has a value that cannot be used.
            NotApplicable: the method does not fit this model or data.
            NotEvaluable: there are no rows.
        """
        if method not in METHODS:
            raise ConfigError(f"'{method}' is not an attribution method{nearest(method, METHODS)}.")
        filled = _filled(method, settings, self.data)
        key = (method, *sorted(filled.items()))
        if key not in self._found:
            self._found[key] = self._computed(method, filled)
        return self._found[key]

    def _computed(self, method: str, filled: Mapping[str, Any]) -> Attribution:
        what = {name: filled[name] for name in ("rows", "output", "target")}
        rest = {name: value for name, value in filled.items() if name not in what}
        explained = self.explained(**what)
        passes = self.model.passes
        before = passes.forward, passes.backward
        fields = METHODS[method](self.model, self.data, self.seed, explained, **rest)
        spent = passes.forward - before[0], passes.backward - before[1]
        return Attribution(method=method, settings=filled, passes=spent, **{**explained.facts(), **fields})

    def explained(self, *, rows: int, output: Output, target: Target) -> Explained:
        """The rows drawn, their class and its value: shared by all methods. Costs n rows forward once.

        Raises:
            NotApplicable: the favourable outcome is asked for and the data names none.
            NotEvaluable: there are no rows.
        """
        key = (rows, output, target)
        if key not in self._explained:
            self._explained[key] = _explained(self.model, self.data, self.seed, rows, output, target)
        return self._explained[key]


def attributions(model: Model, data: Dataset, seed: int) -> Attributions:
    """The attributions of a run, by any method, each computed once."""
    return Attributions(model, data, seed)


def _filled(method: str, settings: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """All settings of a method with the defaults of this kind of data, checked."""
    filled: dict[str, Any] = {"rows": None, "output": "log_odds", "target": "predicted"}
    filled |= inspect.getfullargspec(METHODS[method]).kwonlydefaults or {}
    for name in settings:
        if name not in filled:
            raise ConfigError(f"'{name}' is not a setting of {method}{nearest(name, filled)}.")
    filled |= settings
    if filled["rows"] is None:
        filled["rows"] = ROWS.get(data.modality, ROWS["tabular"])
    if filled.get("samples", 1) is None:
        filled["samples"] = SAMPLES[method, data.modality == "image"]
    if filled.get("background", 1) is None:
        filled["background"] = 4 if data.modality == "image" else 20
    for name in ("samples", "background", "steps", "grid"):
        if filled.get(name, 1) < 1:
            raise ConfigError(f"{method}: '{name}' = {filled[name]} is wrong; it must be at least 1.")
    return filled


def _explained(
    model: Model, data: Dataset, seed: int, rows: int, output: Output, target: Target
) -> Explained:
    index = sample_rows(data, rows, seed) if rows > 0 else np.zeros(0, dtype=np.int64)
    if not len(index):
        raise NotEvaluable(f"0 rows to explain: {rows} asked for, {len(data)} in the data.")
    if target == "favourable" and data.favourable is None:
        raise NotApplicable("the data names no favourable outcome, so it cannot be explained.")
    scores = model.predict(data.inputs[index])
    if scores.shape[1] < 2:  # noqa: PLR2004 - log-odds are of one class against the others
        raise NotApplicable("the model has one output and no classes, so there are no log-odds to explain.")
    classes = scores.argmax(dim=1)
    if target == "favourable":
        classes = torch.full_like(classes, data.favourable or 0)
    fx = quantity(scores, classes, output).double().numpy()
    return Explained(index, model.tensor(data.inputs[index]), classes.to(model.device), fx, output)


def saliency(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    per: Literal["deviation", "unit"] = "deviation",
    grid: int = 4,
) -> dict[str, Any]:
    """Absolute gradient of the explained number; the signed one is `extras["signed"]`.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        per: slope for a standard deviation of each table column, or for one raw unit. Images: one unit.
        grid: cells that pixels are added up in.
    """
    del seed
    slope = gradients(model, explained.inputs, explained.classes, explained.output).double().numpy()
    scaled = per == "deviation" and data.modality != "image"
    if scaled:
        slope = slope * data.inputs.std(axis=0, dtype=np.float64)
    parts = layout(data, grid)
    fields = _elementwise(np.abs(slope), parts)
    fields["extras"] = {"signed": sum_by_owner(_pixels(slope, parts), parts.owner, len(parts.names))}
    fields["unit"] = f"{UNITS[explained.output]} per {'standard deviation' if scaled else 'unit'}"
    return fields


def integrated_gradients(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    baseline: Baseline = "auto",
    rule: Rule = "gauss_legendre",
    steps: int = 32,
    max_steps: int = 512,
    bound: float = 0.05,
    grid: int = 4,
) -> dict[str, Any]:
    """Integrated gradients from one baseline; `extras["steps"]` is what each row needed.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        baseline: where the path starts: `mean` row (mean colour), `zero`, or `lowest` allowed values
            (black); `auto` is `mean` for tables and `lowest` for images.
        rule: quadrature rule.
        steps: points on the path at first, doubled where completeness is not met.
        max_steps: most points on the path.
        bound: largest completeness error that counts as met.
        grid: cells that pixels are added up in.
    """
    del seed
    start = model.tensor(baseline_row(model, data, baseline))
    with torch.no_grad():
        base = mean_by_class(model.scores(start), explained.classes, explained.output)
    found = integrate(
        model,
        explained.inputs,
        start,
        explained.classes,
        torch.from_numpy(explained.fx) - base,
        output=explained.output,
        rule=rule,
        steps=steps,
        max_steps=max_steps,
        bound=bound,
    )
    fields = _elementwise(found.values.double().numpy(), layout(data, grid))
    return {
        **fields,
        "base": base.numpy(),
        "completeness": found.completeness,
        "extras": {"steps": found.steps},
    }


def kernel_shap(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int | None = None,
    background: int | None = None,
    grid: int = 4,
) -> dict[str, Any]:
    """Shapley values by KernelSHAP, exact where all coalitions fit into `samples`.

    Args:
        model: the network.
        data: what it is explained on; the background is drawn from it.
        seed: draws background and coalitions.
        explained: the rows.
        samples: coalitions; default 512 for tables, 256 for images.
        background: rows that stand in for left-out features; default 20 for tables, 4 for images.
        grid: an image is cut into `grid` x `grid` cells.
    """
    samples, background = samples or 1, background or 1
    parts = layout(data, grid)
    design = make_design(len(parts.names), samples, seed)
    others = model.tensor(data.inputs[sample_rows(data, background, seed + 1)])
    base = mean_by_class(_scores(model, others), explained.classes, explained.output).numpy()
    owner = torch.from_numpy(parts.owner).to(model.device)
    values = coalition_values(
        model, explained.inputs, explained.classes, others, owner, design.masks, explained.output
    )
    found = shapley_values(design, values, base, explained.fx)
    total = torch.from_numpy(found.values)
    return {
        **_segmentwise(found.values, parts.names, data, parts.owner),
        "base": base,
        "completeness": completeness_error(total, torch.from_numpy(explained.fx - base)),
        "standard_error": found.standard_error,
        "notes": _design_notes(len(parts.names), samples, len(design.masks), design.groups),
    }


def lime(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int | None = None,
    segments: Segments = "grid",
    grid: int = 4,
    fill: float | Literal["mean"] = "mean",
) -> dict[str, Any]:
    """LIME; `extras` holds `r2` and `local_prediction`, the surrogate's own answer at each row.

    Args:
        model: the network.
        data: what it is explained on; scales and categories come from it.
        seed: draws the perturbations.
        explained: the rows.
        samples: perturbed rows; default 1000 for tables, 256 for images.
        segments: image parts: a `grid` or superpixels (`slic`), about as many as the grid has cells.
        grid: cells on a side.
        fill: raw value that hides a part of an image, or its `mean` colour.
    """
    samples = samples or 1
    parts = layout(data, grid)
    if data.modality != "image":
        owner = torch.from_numpy(parts.owner)
        noise = draw_noise(data, owner, len(parts.names), samples, seed)
        values = table_values(model, explained.inputs, explained.classes, noise, explained.output)
        block = table_neighbourhood(explained.inputs, noise)
        found = fit_surrogates(block, _with_itself(explained, values), len(parts.names))
        return _surrogate_fields(found, _segmentwise(found.coefficients, parts.names, data, parts.owner))
    cells = _image_segments(data, explained.index, segments, grid)
    found = _image_surrogates(model, explained, cells, samples, seed, fill)
    names = parts.names
    if segments == "slic":
        names = tuple(f"segment {index + 1}" for index in range(found.coefficients.shape[1]))
    return _surrogate_fields(found, _segmentwise(found.coefficients, names, data, cells))


METHODS: dict[str, Callable[..., dict[str, Any]]] = {
    "saliency": saliency,
    "integrated_gradients": integrated_gradients,
    "kernel_shap": kernel_shap,
    "lime": lime,
}
SAMPLES = {
    ("kernel_shap", False): 512,
    ("kernel_shap", True): 256,
    ("lime", False): 1000,
    ("lime", True): 256,
}


def baseline_row(model: Model, data: Dataset, baseline: Baseline) -> Any:
    """[1, ...] float32 raw row where integrated gradients start.

    `mean` is the mean row of a table and the mean colour of all images; `lowest` is the low end of the
    model's input range, else the lowest value that each table column, or any pixel, may take.
    """
    image = data.modality == "image"
    shape = (1, *data.inputs.shape[1:])
    if baseline == "zero":
        return np.zeros(shape, dtype=np.float32)
    if baseline == "mean" or (baseline == "auto" and not image):
        axes = (0, 2, 3) if image else 0
        centre = data.inputs.mean(axis=axes, keepdims=True, dtype=np.float64)
        return np.broadcast_to(centre, shape).astype(np.float32)
    if model.input_range is not None:
        return np.full(shape, model.input_range[0], dtype=np.float32)
    low = data.inputs.min() if image else data.column_bounds()[0].reshape(shape)
    return np.broadcast_to(low, shape).astype(np.float32)


def _scores(model: Model, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return model.in_batches(lambda part: (model.scores(rows[part]),), len(rows))[0]


def _pixels(values: Doubles, parts: Layout) -> Doubles:
    """Values of an image's channels added up; values of a table as they are."""
    summed: Doubles = values.sum(axis=1) if parts.owner.ndim == 3 else values  # noqa: PLR2004 - [1, H, W]
    return summed


def _elementwise(values: Doubles, parts: Layout) -> dict[str, Any]:
    """Values per input element [n, ...] as values per feature, and as maps for images."""
    pixels = _pixels(values, parts)
    maps = pixels.astype(np.float32) if pixels is not values else None
    return {
        "values": sum_by_owner(pixels, parts.owner, len(parts.names)),
        "maps": maps,
        "features": parts.names,
    }


def _segmentwise(values: Doubles, names: tuple[str, ...], data: Dataset, segments: Ints) -> dict[str, Any]:
    """Values per segment [n, M], and as maps for images."""
    maps = spread_over_pixels(values, segments) if data.modality == "image" else None
    return {"values": values, "features": names, "maps": maps}


def _surrogate_fields(found: Surrogates, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        **fields,
        "base": found.intercept,
        "standard_error": found.standard_error,
        "extras": {"r2": found.r2, "local_prediction": found.local},
        "notes": (f"Ridge penalty {RIDGE:g}, as the reference package has it.",),
    }


def _image_segments(data: Dataset, index: Ints, segments: Segments, grid: int) -> Ints:
    images = data.inputs[index]
    if segments == "slic":
        return superpixels(images, grid * grid)
    cells = grid_cells(grid, *images.shape[-2:])
    return np.broadcast_to(cells, (len(index), *cells.shape))


def _image_surrogates(
    model: Model,
    explained: Explained,
    cells: Ints,
    samples: int,
    seed: int,
    fill: float | Literal["mean"],
) -> Surrogates:
    images = explained.inputs
    owner = torch.from_numpy(np.ascontiguousarray(cells)).to(images.device)
    masks = draw_masks(samples, int(cells.max()) + 1, seed)
    hidden = segment_means(images, owner) if fill == "mean" else torch.full_like(images, fill)
    values = image_values(model, images, explained.classes, masks, owner, hidden, explained.output)
    block = image_neighbourhood(masks, owner)
    return fit_surrogates(block, _with_itself(explained, values), masks.shape[1])


def _with_itself(explained: Explained, values: Tensor) -> Tensor:
    """[n, S + 1] the value at the row itself, then at its neighbours."""
    return torch.cat([torch.from_numpy(explained.fx)[:, None], values.double()], dim=1)


def _design_notes(features: int, samples: int, coalitions: int, groups: int) -> tuple[str, ...]:
    if groups == 0:
        return (f"All {coalitions} coalitions of {features} features were computed: no sampling error.",)
    found = f"{coalitions} of 2^{features} coalitions were computed; the same ones for every row."
    if samples < least_samples(features):
        return (found, f"{samples} samples are too few for {features} features and were raised.")
    return (found,)
