"""Attribution: what one method said about each of some rows, in the user's own features. Numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Floats, Ints

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """One method's attributions for n rows and M features.

    Attributes:
        method: name of the method, a key of `audit.products.attributions.METHODS`.
        features: [M] the user's names of the features; grid cells of an image.
        rows: [n] which rows of the data set.
        values: [n, M] signed attribution of each feature, in `unit`; saliency is never negative.
        unit: what one unit of a value is, e.g. `log-odds`.
        targets: [n] the class that is explained.
        fx: [n] the explained quantity at the row.
        base: [n] the same quantity at the baseline (the background's mean for SHAP, the intercept for
            LIME); None where the method has no baseline.
        completeness: [n] |sum of the values - (fx - base)| / (|fx - base| + eps); None where the
            values need not add up.
        standard_error: [n, M] sampling error of the values; None where nothing was sampled.
        maps: [n, H, W] the same per pixel, adding up to the values; None for tabular rows.
        elements: [n, C, T] the same per channel and step of series (C is 1 where channels go together),
            adding up to the values; None where the method does not tell steps apart, and for all else.
        extras: further arrays by name, [n, ...], e.g. `r2`.
        settings: every setting it was computed with, defaults filled in.
        passes: rows that the method sent forward and backward through the model.
        notes: sentences a reader must know, about this run of the method.
    """

    method: str
    features: tuple[str, ...]
    rows: Ints
    values: Doubles
    unit: str
    targets: Ints
    fx: Doubles
    base: Doubles | None = None
    completeness: Doubles | None = None
    standard_error: Doubles | None = None
    maps: Floats | None = None
    elements: Floats | None = None
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    passes: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()

    def usable(self) -> npt.NDArray[np.bool_]:
        """[n] whether a row's value at the model and all its attributions are finite."""
        finite: npt.NDArray[np.bool_] = np.isfinite(self.values).all(axis=1) & np.isfinite(self.fx)
        return finite
