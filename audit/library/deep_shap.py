"""DeepSHAP as shap's DeepExplainer computes it: DeepLift averaged over background rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, sample_rows
from audit.explain.attribution import Doubles
from audit.explain.explained import Explained, elementwise, scores_of
from audit.explain.features import layout
from audit.explain.gradients import completeness_error
from audit.explain.methods.kernel_shap import BACKGROUND
from audit.explain.quantity import mean_by_class
from audit.library.copied import copied
from audit.library.pairs import Pairs
from audit.library.validity import DEMANDS, require_layers, require_valid
from audit.model import Model

NAME = DEMANDS["deep_shap"].name


def deep_shap(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    background: int | None = None,
    grid: int = 4,
) -> dict[str, Any]:
    """Shapley values by DeepSHAP. Costs 2 rows forward and backward for each row and background row.

    The library's own check of additivity is left out: the completeness error of every row is given instead.

    Args:
        model: the network.
        data: what it is explained on; the background is drawn from it.
        seed: draws the background.
        explained: the rows.
        background: rows that each row is compared with; default 20 for tables, 4 for images.
        grid: cells that pixels are added up in.

    Raises:
        NotApplicable: the network does something that DeepSHAP has no rule for.
    """
    background = background or BACKGROUND[data.modality]
    others = model.tensor(data.inputs[sample_rows(data, background, seed + 1)])
    require_layers(model, NAME)
    base = mean_by_class(scores_of(model, others), explained.classes, explained.output).numpy()
    with copied(model, NAME) as own:
        require_valid(own, "deep_shap", explained.inputs[:2])
        values = _values(own, explained, others)
    total = torch.from_numpy(values)
    return {
        **elementwise(values, layout(data, grid)),
        "base": base,
        "completeness": completeness_error(total, torch.from_numpy(explained.fx - base)),
        "settings": {"background": background},
    }


def _values(model: Model, explained: Explained, others: Tensor) -> Doubles:
    """[n, ...] one row at a time, as the library does; each against as much background as fits a batch."""
    import shap

    pairs = Pairs(model, explained.output)
    parts = list(torch.split(others, max(1, model.passes.batch // 2)))
    explainers = [(len(part) / len(others), shap.DeepExplainer(pairs, part)) for part in parts]
    found = np.zeros(explained.inputs.shape)
    for index, wanted in enumerate(explained.classes):
        pairs.classes = wanted[None]
        row = explained.inputs[index : index + 1].clone()
        for share, explainer in explainers:
            found[index] += share * explainer.shap_values(row, check_additivity=False)[0, ..., 0]
    model.passes.backward += 2 * len(others) * len(found)
    return found
