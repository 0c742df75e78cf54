"""The explained number of rows of which a part is hidden: each row under each of some masks.

The masks are the same for all rows. They are made once, a block at a time, and passes are filled with rows
and masks as they come, so that each but the last of a block is a whole batch.
"""

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Ints
from audit.explain.quantity import Output, quantity
from audit.model import Model

ELEMENTS_AT_ONCE = 2**20


def values_under_masks(
    model: Model,
    rows: Tensor,
    classes: Tensor,
    count: int,
    masks: Callable[[Ints], Tensor],
    seen: Callable[[Tensor, Tensor], Tensor],
    output: Output,
) -> Tensor:
    """[N, count] the explained number of each row under each mask, on the device.

    Costs N * count rows forward. A batch of rows and a block of masks are held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        count: number of masks.
        masks: makes the masks with the numbers [k], [k, ...].
        seen: what the network is shown for masks [b, ...] over rows [b, ...].
        output: which number is explained.
    """
    total = len(rows)

    def work(part: slice) -> tuple[Tensor]:
        made = masks(np.arange(part.start, part.stop))
        pair = torch.arange(len(made) * total, device=rows.device)
        mask, row = pair // total, pair % total
        scores = []
        for over, under in zip(*(torch.split(item, model.passes.batch) for item in (mask, row)), strict=True):
            scores.append(model.scores(seen(made[over], rows[under])))
        return (quantity(torch.cat(scores), classes[row], output).view(len(made), total),)

    at_once = max(1, model.passes.batch // total)
    load = max(1, ELEMENTS_AT_ONCE // (prod(rows.shape[1:]) * at_once))
    with torch.no_grad():
        return model.in_batches(work, count, rows_each=total, load=load)[0].T
