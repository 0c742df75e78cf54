"""Accidental changes of table rows at severities 1 to 5: the idea of image corruptions, for columns.

No published benchmark has these; the strengths are this product's own, and the table below states them.

* `numeric_noise`: a measuring error. Normal noise of so many standard deviations of the column; values may
  leave the range of the data.
* `rounding`: a coarser instrument. Values rounded to steps of so many standard deviations.
* `unit_errors`: this share of the numeric values is ten times, or a tenth of, what it should be, in the
  model's own input units; values may leave the range of the data, as such errors do.
* `missing_values`: this share of the values of a feature is lost and replaced by the column's mean, or by the
  most frequent value of a categorical or ordinal feature.
* `category_swaps`: this share of the values of a categorical or ordinal feature is replaced by that of a
  row drawn at random, so that a value comes as often as it does in the data.

The columns of a one-hot group move as one. A constant column has no standard deviation and gets no noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audit.dataset import Dataset, Feature, Floats, Ints
from audit.errors import ConfigError, NotApplicable, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from audit.draws import Draws

STRENGTHS: Mapping[str, Sequence[float]] = {
    "numeric_noise": (0.1, 0.2, 0.3, 0.5, 1.0),
    "rounding": (0.25, 0.5, 1.0, 1.5, 2.0),
    "unit_errors": (0.01, 0.02, 0.05, 0.1, 0.2),
    "missing_values": (0.05, 0.1, 0.2, 0.3, 0.5),
    "category_swaps": (0.05, 0.1, 0.2, 0.3, 0.5),
}
FACTOR = 10.0


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the corruptions know of a table [N, D], as numpy.

    Attributes:
        inputs: [N, D] the rows from which swapped values are drawn.
        numeric: numeric features that may change.
        coded: categorical and ordinal features that may change.
        spread: [D] standard deviation of each column.
        centre: [D] mean of each column of a numeric feature, the most frequent value of the others.
    """

    inputs: Floats
    numeric: tuple[Feature, ...]
    coded: tuple[Feature, ...]
    spread: Floats
    centre: Floats


def columns(data: Dataset, *, keep_immutable: bool = False) -> Columns:
    """What the corruptions need to know of the data; columns without a description are numeric.

    Args:
        data: a table.
        keep_immutable: leave features alone that a person cannot change. An accident respects nobody: a
            clerk may mistype an age.

    Raises:
        NotApplicable: the data are no table [N, D], hold no row, or nothing may change.
    """
    if data.modality != "tabular" or data.inputs.ndim != 2 or not data.inputs.size:  # noqa: PLR2004 - [N, D]
        raise NotApplicable(
            f"the inputs are {data.modality} of the shape {list(data.inputs.shape)}; these corruptions need "
            "a table of rows and columns."
        )
    described = data.features or tuple(
        Feature(name=f"column {index}", columns=(index,)) for index in range(data.inputs.shape[1])
    )
    free = [f for f in described if f.columns and not (keep_immutable and f.immutable)]
    if not free:
        raise NotApplicable("every feature is immutable, so no value may change.")
    centre = data.inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    for feature in described:
        if feature.kind != "numeric":
            centre[list(feature.columns)] = _most_frequent(data.inputs[:, list(feature.columns)])
    return Columns(
        inputs=data.inputs,
        numeric=tuple(f for f in free if f.kind == "numeric"),
        coded=tuple(f for f in free if f.kind != "numeric"),
        spread=data.inputs.std(axis=0, dtype=np.float64).astype(np.float32),
        centre=centre,
    )


def _most_frequent(values: Floats) -> Floats:
    """The row that occurs most often; of equals the smallest."""
    found, counts = np.unique(values, axis=0, return_counts=True)
    most: Floats = found[counts.argmax()]
    return most


def fits(name: str, table: Columns) -> bool:
    """Whether the table has a feature that a corruption of this name could change."""
    wanted: tuple[Feature, ...] = (*table.numeric, *table.coded)
    if name in {"numeric_noise", "rounding", "unit_errors"}:
        wanted = table.numeric
    elif name == "category_swaps":
        wanted = table.coded
    return bool(wanted)


def corrupt(inputs: Tensor, name: str, severity: int, rows: Ints, seed: int, table: Columns) -> Tensor:
    """Corrupted copies of table rows, on the same device.

    A row's result depends on its values, its index, the seed, the name and the severity; not on the batch.
    Draws are the same at every severity, so a severity adds to the one below it.

    Args:
        inputs: [n, D] float; not changed.
        name: a key of `STRENGTHS`.
        severity: 1 to 5.
        rows: [n] indices of the rows in the data set.
        seed: seed of the audit.
        table: what is known of the columns; see `columns`.

    Raises:
        ConfigError: there is no such corruption or severity.
    """
    from audit.draws import Draws

    if name not in STRENGTHS:
        raise ConfigError(f"there is no tabular corruption '{name}'{nearest(name, list(STRENGTHS))}")
    if not 1 <= severity <= len(STRENGTHS[name]):
        raise ConfigError(f"the severity {severity} is not one of 1, 2, 3, 4, 5.")
    draws = Draws(rows, seed, name, inputs.device)
    return _FUNCTIONS[name](inputs.clone(), draws, STRENGTHS[name][severity - 1], table)


def _numeric_noise(values: Tensor, draws: Draws, sds: float, table: Columns) -> Tensor:
    where = _places(table.numeric)
    spread = values.new_tensor(table.spread[where])
    values[:, where] += sds * spread * draws.normal((len(where),))
    return values


def _rounding(values: Tensor, draws: Draws, sds: float, table: Columns) -> Tensor:
    """Steps are counted from the column's mean; a constant column stays."""
    del draws
    where = [place for place in _places(table.numeric) if table.spread[place] > 0]
    step = values.new_tensor(table.spread[where]) * sds
    centre = values.new_tensor(table.centre[where])
    values[:, where] = ((values[:, where] - centre) / step).round() * step + centre
    return values


def _unit_errors(values: Tensor, draws: Draws, share: float, table: Columns) -> Tensor:
    where = _places(table.numeric)
    hit = draws.uniform((len(where),), "hit") < share
    larger = draws.uniform((len(where),), "larger") < 0.5  # noqa: PLR2004 - an even chance
    factor = values.new_tensor([FACTOR, 1 / FACTOR])[(~larger).long()]
    values[:, where] = values[:, where] * factor.where(hit, 1.0)
    return values


def _missing_values(values: Tensor, draws: Draws, share: float, table: Columns) -> Tensor:
    features = (*table.numeric, *table.coded)
    lost = draws.uniform((len(features),)) < share
    for index, feature in enumerate(features):
        where = list(feature.columns)
        filled = values.new_tensor(table.centre[where])
        values[:, where] = filled.where(lost[:, index : index + 1], values[:, where])
    return values


def _category_swaps(values: Tensor, draws: Draws, share: float, table: Columns) -> Tensor:
    hit = draws.uniform((len(table.coded),), "hit") < share
    donors = draws.integers(len(table.coded), "donor") % len(table.inputs)
    for index, feature in enumerate(table.coded):
        where = list(feature.columns)
        given = values.new_tensor(table.inputs[donors[:, index].cpu().numpy()][:, where])
        values[:, where] = given.where(hit[:, index : index + 1], values[:, where])
    return values


def _places(features: Sequence[Feature]) -> list[int]:
    return [column for feature in features for column in feature.columns]


_FUNCTIONS: Mapping[str, Callable[[Tensor, Draws, float, Columns], Tensor]] = {
    "numeric_noise": _numeric_noise,
    "rounding": _rounding,
    "unit_errors": _unit_errors,
    "missing_values": _missing_values,
    "category_swaps": _category_swaps,
}
