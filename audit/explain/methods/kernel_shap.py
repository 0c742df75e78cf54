"""Shapley values by KernelSHAP."""

from typing import Any

import torch

from audit.dataset import Dataset, sample_rows
from audit.explain.explained import Explained, scores_of, segmentwise
from audit.explain.features import layout
from audit.explain.gradients import completeness_error
from audit.explain.kernel_shap import coalition_values, least_samples, make_design, shapley_values
from audit.explain.quantity import mean_by_class
from audit.model import Model

SAMPLES = {"tabular": 512, "image": 256, "series": 512}
BACKGROUND = {"tabular": 20, "image": 4, "series": 20}


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
        samples: coalitions; default 512, for images 256.
        background: rows that stand in for left-out features; default 20, for images 4.
        grid: an image is cut into `grid` x `grid` cells, each channel of a series into `grid` stretches.
    """
    samples = samples or SAMPLES[data.modality]
    background = background or BACKGROUND[data.modality]
    parts = layout(data, grid)
    design = make_design(len(parts.names), samples, seed)
    others = model.tensor(data.inputs[sample_rows(data, background, seed + 1)])
    base = mean_by_class(scores_of(model, others), explained.classes, explained.output).numpy()
    owner = torch.from_numpy(parts.owner).to(model.device)
    values = coalition_values(
        model, explained.inputs, explained.classes, others, owner, design.masks, explained.output
    )
    found = shapley_values(design, values, base, explained.fx)
    total = torch.from_numpy(found.values)
    return {
        **segmentwise(found.values, parts.names, data, parts.owner),
        "base": base,
        "completeness": completeness_error(total, torch.from_numpy(explained.fx - base)),
        "standard_error": found.standard_error,
        "settings": {"samples": samples, "background": background},
        "notes": _design_notes(len(parts.names), samples, len(design.masks), design.groups),
    }


def _design_notes(features: int, samples: int, coalitions: int, groups: int) -> tuple[str, ...]:
    if groups == 0:
        return (f"All {coalitions} coalitions of {features} features were computed: no sampling error.",)
    found = f"{coalitions} of 2^{features} coalitions were computed; the same ones for every row."
    if samples < least_samples(features):
        return (found, f"{samples} samples are too few for {features} features and were raised.")
    return (found,)
