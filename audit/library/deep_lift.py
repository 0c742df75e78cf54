"""DeepLift (rescale rule) as captum computes it."""

from typing import Any

import torch
from torch import Tensor

from audit.dataset import Dataset
from audit.explain.explained import Baseline, Explained, baseline_row, elementwise, scores_of
from audit.explain.features import layout
from audit.explain.gradients import completeness_error
from audit.explain.quantity import mean_by_class
from audit.library.copied import copied
from audit.library.pairs import Pairs
from audit.library.validity import DEMANDS, require_layers, require_valid
from audit.model import Model

NAME = DEMANDS["deep_lift"].name


def deep_lift(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    baseline: Baseline = "auto",
    grid: int = 4,
) -> dict[str, Any]:
    """DeepLift from one baseline. Costs 2 rows forward and 2 backward for each row.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        baseline: what a row is compared with: `mean` row (mean colour), `zero`, or `lowest` allowed values
            (black); `auto` is `mean` for tables and `lowest` for images.
        grid: cells that pixels are added up in.

    Raises:
        NotApplicable: the network does something that DeepLift has no rule for.
    """
    del seed
    start = model.tensor(baseline_row(model, data, baseline))
    require_layers(model, NAME)
    base = mean_by_class(scores_of(model, start), explained.classes, explained.output)
    with copied(model, NAME) as own:
        require_valid(own, "deep_lift", explained.inputs[:2])
        values = _values(own, explained, start)
    difference = torch.from_numpy(explained.fx) - base
    return {
        **elementwise(values.double().numpy(), layout(data, grid)),
        "base": base.numpy(),
        "completeness": completeness_error(values, difference),
    }


def _values(model: Model, explained: Explained, start: Tensor) -> Tensor:
    from captum.attr import DeepLift

    pairs = Pairs(model, explained.output)
    method = DeepLift(pairs)

    def work(part: slice) -> tuple[Tensor]:
        rows = explained.inputs[part].clone()
        pairs.classes = explained.classes[part]
        found = method.attribute(rows, start.expand_as(rows).clone())
        model.passes.backward += 2 * len(rows)
        return (found.detach().float().cpu(),)

    return model.in_batches(work, len(explained.inputs), rows_each=2)[0]
