"""Expected gradients: integrated gradients averaged over background rows instead of one baseline.

Sources: Erion, Janizek, Sturmfels, Lundberg and Lee 2021 (expected gradients); Lundberg and Lee 2017
(GradientSHAP, the same estimate). The samples of a row are dealt to independent sub-designs. Within one, the
positions between background and row are stratified and the background rows are taken in turn from a random
one, so that each sample by itself is uniform and their mean has less error than that of free draws.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audit.dataset import Ints
from audit.draws import Draws
from audit.explain.quantity import Output, quantity
from audit.explain.subdesigns import dealt, for_sums, group_count, standard_error
from audit.model import Model, evenly


@dataclass(frozen=True)
class ExpectedGradients:
    """Expected gradients of N rows: values [N, ...], standard error [N, M] of the features' sums, on the CPU.

    Attributes:
        values: attribution of each input element, float64.
        standard_error: by feature, from the sub-designs; NaN where there is one alone.
        samples: samples taken of each row: those asked for, without what the sub-designs cannot share evenly.
    """

    values: Tensor
    standard_error: Tensor
    samples: int


def expected_gradients(
    model: Model,
    rows: Tensor,
    classes: Tensor,
    index: Ints,
    background: Tensor,
    *,
    member: Tensor,
    samples: int,
    seed: int,
    output: Output = "log_odds",
) -> ExpectedGradients:
    """Mean of (x - b) * gradient at b + a (x - b) over background rows b and positions a in (0, 1).

    Costs N * samples rows forward and backward. No more than a batch of samples is held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        index: [N] indices of the rows in the data set; a row's draws depend on the seed and on it alone.
        background: [B, ...] raw rows.
        member: [elements, M] 1 where an element belongs to a feature.
        samples: samples of each row, at least 1.
        seed: seed of the audit.
        output: which number is explained.
    """
    groups = group_count(samples)
    each = samples // groups

    def work(part: slice) -> tuple[Tensor, ...]:
        own, wanted = rows[part], classes[part]
        position, other = _design(index[part], groups, each, len(background), seed, rows.device)
        total = for_sums(own.new_zeros(groups, own.numel()))
        at_once = evenly(groups * each, max(1, model.passes.batch // len(own)))
        for numbers in torch.split(torch.arange(groups * each, device=rows.device), at_once):
            start = background[other[numbers]]
            way = own - start
            at = position[numbers].view(len(numbers), -1, *([1] * (own.ndim - 1)))
            explained = partial(quantity, classes=wanted.repeat(len(numbers)), output=output)
            slope, _ = model.input_gradient((start + at * way).flatten(0, 1), explained)
            total.addmm_(dealt(numbers, groups), for_sums((slope.view_as(way) * way).flatten(1)))
        total = total.div_(each).view(groups, *own.shape)
        return total.mean(dim=0), standard_error(total.flatten(2) @ for_sums(member))

    values, error = model.in_batches(work, len(rows), rows_each=groups * each)
    return ExpectedGradients(values.cpu().double(), error.cpu().double(), groups * each)


def _design(
    index: Ints, groups: int, each: int, background: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """[S, k] position in [0, 1) and background row of each sample; sample s is of sub-design s % groups."""
    draws = Draws(index, seed, "expected gradients", device)
    stratum = draws.uniform((each, groups), "order").argsort(dim=1)
    position = (stratum + draws.uniform((each, groups), "position")) / each
    first = draws.integers(groups, "background")[:, None] % background
    other = (first + torch.arange(each, device=device)[:, None]) % background
    return tuple(item.flatten(1).T.contiguous() for item in (position, other))  # type: ignore[return-value]
