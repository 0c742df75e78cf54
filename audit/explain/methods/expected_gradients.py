"""Expected gradients, also known as GradientSHAP."""

from typing import Any

import numpy as np
import torch

from audit.dataset import Dataset, sample_rows
from audit.explain.expected import expected_gradients as expect
from audit.explain.explained import Explained, elementwise, scores_of
from audit.explain.features import layout, membership
from audit.explain.gradients import completeness_error
from audit.explain.quantity import mean_by_class
from audit.model import Model

SAMPLES = 200
BACKGROUND = {"tabular": 100, "image": 32, "series": 100}


def expected_gradients(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    samples: int = SAMPLES,
    background: int | None = None,
    grid: int = 4,
) -> dict[str, Any]:
    """Expected gradients; `extras["sum_error"]` is the standard error of the sum of a row's values.

    Args:
        model: the network.
        data: what it is explained on; the background is drawn from it.
        seed: draws background and samples.
        explained: the rows.
        samples: gradients a row.
        background: rows that the path starts from; default 100, for images 32.
        grid: cells that pixels, or stretches that steps, are added up in.
    """
    background = background or BACKGROUND[data.modality]
    # Samples take the background in turn, so its order must say nothing.
    drawn = np.random.default_rng(seed + 1).permutation(sample_rows(data, background, seed + 1))
    others = model.tensor(data.inputs[drawn])
    base = mean_by_class(scores_of(model, others), explained.classes, explained.output).numpy()
    parts = layout(data, grid)
    member = membership(parts, data.inputs.shape[1:])
    whole = np.ones((len(member), 1), dtype=np.float32)
    found = expect(
        model,
        explained.inputs,
        explained.classes,
        explained.index,
        others,
        member=torch.from_numpy(np.concatenate([member, whole], axis=1)).to(model.device),
        samples=samples,
        seed=seed,
        output=explained.output,
    )
    error = found.standard_error.numpy()
    return {
        **elementwise(found.values.numpy(), parts),
        "base": base,
        "completeness": completeness_error(found.values, torch.from_numpy(explained.fx - base)),
        "standard_error": error[:, :-1],
        "extras": {"sum_error": error[:, -1]},
        "settings": {"samples": found.samples, "background": len(others)},
    }
