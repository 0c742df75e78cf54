"""Integrated gradients from one baseline."""

from typing import Any

import torch

from audit.dataset import Dataset
from audit.explain.explained import Baseline, Explained, baseline_row, elementwise
from audit.explain.features import layout
from audit.explain.gradients import Rule
from audit.explain.gradients import integrated_gradients as integrate
from audit.explain.quantity import mean_by_class
from audit.model import Model


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
    bound: float = 0.01,
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
    fields = elementwise(found.values.double().numpy(), layout(data, grid))
    return {
        **fields,
        "base": base.numpy(),
        "completeness": found.completeness,
        "extras": {"steps": found.steps},
    }
