"""Shapley values by shap's PermutationExplainer, in the user's own features."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from audit.dataset import Dataset, Floats, Ints, sample_rows
from audit.explain.attribution import Doubles
from audit.explain.explained import Explained, segmentwise
from audit.explain.features import layout
from audit.explain.gradients import completeness_error
from audit.explain.methods.kernel_shap import BACKGROUND
from audit.explain.quantity import Output, mean_by_class, quantity
from audit.library.copied import undisturbed
from audit.model import Model

Ask = Callable[[Floats], Doubles]


@dataclass(frozen=True)
class FeatureMasker:
    """Takes left-out features from background rows: all columns of a feature, all channels of a cell.

    shap's own maskers leave out one column at a time, which would tear a category apart.
    """

    others: Floats
    owner: Ints
    features: int
    immutable_outputs: bool = True
    clustering: None = None

    def shape(self, *_: Any) -> tuple[int, int]:
        """Rows that a masked row becomes, and the number of features."""
        return len(self.others), self.features

    def __call__(self, mask: npt.NDArray[np.bool_], row: Floats) -> tuple[Floats]:
        """([B, ...],) the row with each background row where `mask` [M] is False."""
        return (np.where(mask[self.owner], row, self.others),)


def permutation_shap(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    permutations: int = 10,
    background: int | None = None,
    grid: int = 4,
) -> dict[str, Any]:
    """Shapley values from random orders of the features, each walked forward and backward.

    Exact where no more than two features interact at once, whatever the number of orders. Costs
    `permutations` x (2 M + 1) x background rows forward for each row.

    Args:
        model: the network.
        data: what it is explained on; the background is drawn from it.
        seed: draws background and orders.
        explained: the rows.
        permutations: orders of the features.
        background: rows that stand in for left-out features; default 20 for tables, 4 for images.
        grid: an image is cut into `grid` x `grid` cells.
    """
    parts = layout(data, grid)
    background = background or BACKGROUND[data.modality]
    others = data.inputs[sample_rows(data, background, seed + 1)]
    masker = FeatureMasker(others, parts.owner, len(parts.names))
    with undisturbed():
        rows = explained.inputs.cpu().numpy()
        values, spread = _values(model, masker, rows, explained, permutations, seed)
    base = mean_by_class(model.predict(others), explained.classes, explained.output).numpy()
    draws = 2 * permutations
    return {
        **segmentwise(values, parts.names, data, parts.owner),
        "base": base,
        "completeness": completeness_error(torch.from_numpy(values), torch.from_numpy(explained.fx - base)),
        "standard_error": spread / math.sqrt(draws - 1),
        "settings": {"background": background},
        "notes": (f"{permutations} random orders of {len(parts.names)} features, forward and backward.",),
    }


def _values(
    model: Model, masker: FeatureMasker, rows: Floats, explained: Explained, permutations: int, seed: int
) -> tuple[Doubles, Doubles]:
    """[n, M] values and [n, M] standard deviations of single orders; row by row, as the library does."""
    import shap

    values, spread = np.zeros((2, len(rows), masker.features))
    budget = permutations * (2 * masker.features + 1)
    for index, wanted in enumerate(explained.classes.cpu()):
        ask = _asking(model, int(wanted), explained.output)
        explainer = shap.PermutationExplainer(ask, masker, seed=seed + index)
        found = explainer.explain_row(
            rows[index],
            max_evals=budget,
            main_effects=False,
            error_bounds=True,
            batch_size=max(1, model.passes.batch // len(masker.others)),
            outputs=None,
            silent=True,
        )
        values[index], spread[index] = found["values"], found["error_std"]
    return values, spread


def _asking(model: Model, wanted: int, output: Output) -> Ask:
    def ask(rows: Floats) -> Doubles:
        scores = model.predict(rows)
        classes = torch.full((len(scores),), wanted)
        found: Doubles = quantity(scores, classes, output).double().numpy()
        return found

    return ask
