"""What an attack may change: the unit of epsilon, the valid range, and what stays fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from audit.dataset import Dataset, Floats
from audit.errors import NotApplicable, NotEvaluable

if TYPE_CHECKING:
    from audit.attack.norm import Reach
    from audit.model import Model

Scale = Literal["auto", "input", "std"]
_IMAGE_EPSILONS = (2 / 255, 4 / 255, 8 / 255)
_STD_EPSILONS = (0.1, 0.25, 0.5)
_RANGE_TOLERANCE = 1e-6
_NAMES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Space:
    """What an attack may change, for inputs of one shape.

    Attributes:
        scale: what one epsilon counts: `input` units or standard deviations of a column (`std`).
        unit: [...] how far one epsilon moves each coordinate; 0 where it is fixed.
        low: [...] smallest valid value.
        high: [...] largest valid value.
        epsilons: radii to use when none are given.
        caveats: sentences for the reader: what epsilon counts and what was not moved.
    """

    scale: Literal["input", "std"]
    unit: Floats
    low: Floats
    high: Floats
    epsilons: tuple[float, ...]
    caveats: tuple[str, ...] = ()

    def reach(self, model: Model) -> Reach:
        """The same as tensors on the model's device."""
        from audit.attack.norm import Reach

        return Reach(model.tensor(self.unit), model.tensor(self.low), model.tensor(self.high))


def space(model: Model, data: Dataset, scale: Scale = "auto") -> Space:
    """What an attack may change of this data.

    Images and series move in the user's raw units inside `[model] input_range`. Tabular columns move in
    standard deviations (`auto`); immutable, categorical, ordinal and constant ones are fixed.

    Raises:
        NotApplicable: the valid range of an image or series is not known, or nothing may move.
        NotEvaluable: the data lie outside the stated range, so epsilon would have another meaning.
    """
    return _tabular(model, data, scale) if data.modality == "tabular" else _signal(model, data, scale)


def _signal(model: Model, data: Dataset, scale: Scale) -> Space:
    if scale == "std":
        raise NotApplicable(
            f"scale = 'std' counts standard deviations of tabular columns and these are {data.modality} "
            "inputs; use scale = 'input'."
        )
    if model.input_range is None:
        raise NotApplicable(
            f"the valid range of the {data.modality} inputs is not known; set [model] input_range, for "
            "example [0.0, 1.0]."
        )
    low, high = model.input_range
    refuse_outside(data, low, high)
    shape = data.inputs.shape[1:]
    return Space(
        scale="input",
        unit=np.ones(shape, np.float32),
        low=np.full(shape, low, np.float32),
        high=np.full(shape, high, np.float32),
        epsilons=tuple(share * (high - low) for share in _IMAGE_EPSILONS),
        caveats=(f"Epsilon counts raw input units; valid inputs range from {low:g} to {high:g}.",),
    )


def refuse_outside(data: Dataset, low: float, high: float) -> None:
    """Refuse inputs that lie outside the stated range.

    Raises:
        NotEvaluable: the range found, and the one that was stated.
    """
    least, most = float(data.inputs.min()), float(data.inputs.max())
    slack = _RANGE_TOLERANCE * (high - low)
    if not (least >= low - slack and most <= high + slack):
        raise NotEvaluable(
            f"the inputs range from {least:g} to {most:g} but [model] input_range says [{low:g}, {high:g}]; "
            "state the range of the data as given, before any normalisation."
        )


def _tabular(model: Model, data: Dataset, scale: Scale) -> Space:
    flat = data.inputs.reshape(len(data), -1)
    spread = flat.std(axis=0, dtype=np.float64).astype(np.float32)
    constant = flat.min(axis=0) == flat.max(axis=0)
    fixed, caveats = _fixed(data, constant)
    counted: Literal["input", "std"] = "input" if scale == "input" else "std"
    unit = np.where(fixed, 0, spread if counted == "std" else 1).astype(np.float32)
    if not unit.any():
        raise NotApplicable(
            "no column may be moved: every feature is immutable, categorical, ordinal or constant."
        )
    low, high = _bounds(model, data)
    words = "standard deviations of each column" if counted == "std" else "raw input units"
    shape = data.inputs.shape[1:]
    return Space(
        scale=counted,
        unit=unit.reshape(shape),
        low=low.reshape(shape),
        high=high.reshape(shape),
        epsilons=_STD_EPSILONS,
        caveats=(f"Epsilon counts {words}; each column stays inside its range.", *caveats),
    )


def _bounds(model: Model, data: Dataset) -> tuple[Floats, Floats]:
    """[D], [D] valid range of each column: as stated for it, else the model's, else as seen in the data."""
    low, high = data.column_bounds()
    if model.input_range is None:
        return low, high
    _refuse_columns(model.input_range, data)
    owner = {column: feature for feature in data.features for column in feature.columns}
    for column in range(len(low)):
        feature = owner.get(column)
        if feature is None or feature.low is None:
            low[column] = model.input_range[0]
        if feature is None or feature.high is None:
            high[column] = model.input_range[1]
    return low, high


def _refuse_columns(stated: tuple[float, float], data: Dataset) -> None:
    """A column without a range of its own must lie in the model's."""
    flat = data.inputs.reshape(len(data), -1)
    least, most = flat.min(axis=0), flat.max(axis=0)
    low, high = stated
    slack = _RANGE_TOLERANCE * (high - low)
    owner = {column: feature for feature in data.features for column in feature.columns}
    for column in np.flatnonzero((least < low - slack) | (most > high + slack)):
        feature = owner.get(int(column))
        if feature is None or (feature.low is None and feature.high is None):
            name = f"column {column}" if feature is None else f"column '{feature.name}'"
            raise NotEvaluable(
                f"{name} ranges from {least[column]:g} to {most[column]:g} but [model] input_range says "
                f"[{low:g}, {high:g}]; state the range of the data as given, or the column's own in "
                "[data.features]."
            )


def _fixed(data: Dataset, constant: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """[D] which columns no attack moves, and a sentence for each reason."""
    fixed = constant.copy()
    kinds = ("immutable", "categorical", "ordinal", "free to go one way only", "constant")
    names: dict[str, list[str]] = {kind: [] for kind in kinds}
    for feature in data.features:
        columns = list(feature.columns)
        kind: str = "immutable" if feature.immutable else feature.kind
        if kind == "numeric" and feature.direction is not None:
            kind = "free to go one way only"
        if kind != "numeric":
            fixed[columns] = True
            names[kind].append(feature.name)
        elif columns and constant[columns].all():
            names["constant"].append(feature.name)
    if not data.features:
        names["constant"] = [f"column {index}" for index in np.flatnonzero(constant)]
    sentences = [f"Not moved because {kind}: {_listed(found)}." for kind, found in names.items() if found]
    return fixed, sentences


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
