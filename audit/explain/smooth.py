"""Gradients at noisy copies of each row: their mean is SmoothGrad, their variance VarGrad.

Sources: Smilkov, Thorat, Kim, Viegas and Wattenberg 2017 (SmoothGrad); Adebayo, Gilmer, Goodfellow and Kim
2018 (VarGrad). For SmoothGrad the noise of a copy depends on the seed and the number of the copy alone and is
shared by all rows; a row takes it with a sign of its own for each copy. So the sampling errors of two rows
are uncorrelated as far as gradients follow the noise linearly; what does not change with the sign of the
noise they share. A variance does not change with it, so for VarGrad each row has noise of its own: else the
errors of all rows would go the same way, and no interval over rows would show it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Ints
from audit.draws import Draws
from audit.explain.quantity import Output, quantity
from audit.explain.subdesigns import dealt, for_sums, group_count, group_sizes, standard_error
from audit.model import Model, evenly

_MOST_SAMPLES = 2**20
_ELEMENTS_KEPT = 2**20
Moves = Callable[[Tensor], tuple[Tensor, Tensor]]
"""For numbers [S] of copies of k rows: noise [S, k or 1, ...] and the factor it is multiplied by."""


@dataclass(frozen=True)
class Copies:
    """How noisy copies are made, and what is explained at them.

    Attributes:
        spread: [1, ...] standard deviation of the noise of each element, broadcastable to a row.
        scale: [1, ...] what slopes are multiplied by, broadcastable to a row.
        samples: copies of a row.
        seed: seed of the audit.
        output: which number is explained.
    """

    spread: Tensor
    scale: Tensor
    samples: int
    seed: int
    output: Output = "log_odds"


@dataclass(frozen=True)
class Estimate:
    """What the gradients at the noisy copies of N rows have in common; on the CPU, float64.

    Attributes:
        values: [N, ...] by element of the input.
        standard_error: [N, M] of the sum of |values| over the elements of each feature.
    """

    values: Tensor
    standard_error: Tensor


def smoothed_gradients(
    model: Model, rows: Tensor, classes: Tensor, index: Ints, copies: Copies, member: Tensor
) -> Estimate:
    """SmoothGrad: mean gradient of the explained number over noisy copies of each row.

    Costs N * samples rows forward and backward. No more than a batch of copies is held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        index: [N] indices of the rows in the data set.
        copies: how the copies are made.
        member: [elements, M] 1 where an element belongs to a feature.
    """
    return _estimated(model, rows, classes, index, copies, member, 1)


def gradient_variances(
    model: Model, rows: Tensor, classes: Tensor, index: Ints, copies: Copies, member: Tensor
) -> Estimate:
    """VarGrad: variance of the gradients over such copies, divided by their number; arguments as above."""
    return _estimated(model, rows, classes, index, copies, member, 2)


def _estimated(
    model: Model, rows: Tensor, classes: Tensor, index: Ints, copies: Copies, member: Tensor, powers: int
) -> Estimate:
    """From the sums of the first `powers` powers of the gradients in each sub-design."""
    numbers = torch.arange(copies.samples)
    share = dealt(numbers.to(rows.device), group_count(copies.samples))
    sizes = group_sizes(copies.samples, len(share), rows.device).view(-1, *([1] * rows.ndim))
    member, scale = for_sums(member), for_sums(copies.scale)
    finish = _mean if powers == 1 else _variance
    drawn = (_shared_noise if powers == 1 else _own_noise)(copies, rows)

    def work(part: slice) -> tuple[Tensor, Tensor]:
        own = rows[part]
        sums = member.new_zeros(powers, len(share), own.numel())
        at_once = evenly(copies.samples, max(1, model.passes.batch // len(own)))
        moves = drawn(index[part])
        parts = (torch.split(item, at_once, dim=-1) for item in (numbers, share))
        for some, of_groups in zip(*parts, strict=True):
            noisy = torch.addcmul(own, *moves(some))
            slopes = for_sums(_slopes(model, noisy, classes[part], copies.output))
            sums[0].addmm_(of_groups, slopes)
            for squares in sums[1:]:
                squares.addmm_(of_groups, slopes.square_())
        scaled = [total.mul_(scale**power) for power, total in enumerate(_shaped(sums, own), 1)]
        values, by_group = finish(scaled, sizes)
        return values, standard_error(by_group.flatten(2) @ member)

    found = model.in_batches(work, len(rows), rows_each=copies.samples)
    return Estimate(*(item.cpu().double() for item in found))


def _shaped(sums: Tensor, rows: Tensor) -> Tensor:
    """[powers, groups, k, ...] from [powers, groups, elements of k rows]."""
    return sums.view(*sums.shape[:2], *rows.shape)


def _shared_noise(copies: Copies, rows: Tensor) -> Callable[[Ints], Moves]:
    """For indices [k] of rows, noise that all rows share, and its spread with the signs of each row."""
    noise = _noise(copies, tuple(rows.shape[1:]), rows.device)

    def of_rows(index: Ints) -> Moves:
        spread = _signs(index, copies, rows) * copies.spread
        return lambda numbers: (noise(numbers)[:, None], spread[numbers])

    return of_rows


def _own_noise(copies: Copies, rows: Tensor) -> Callable[[Ints], Moves]:
    """For indices [k] of rows, noise of each row's own, and its spread."""
    shape = tuple(rows.shape[1:])

    def of_rows(index: Ints) -> Moves:
        def moves(numbers: Tensor) -> tuple[Tensor, Tensor]:
            streams = numbers.numpy()[:, None] + index * _MOST_SAMPLES
            draws = Draws(streams.reshape(-1), copies.seed, "vargrad", rows.device)
            return draws.normal(shape).view(*streams.shape, *shape), copies.spread

        return moves

    return of_rows


def _noise(copies: Copies, shape: tuple[int, ...], device: torch.device) -> Callable[[Tensor], Tensor]:
    """For numbers [S] of copies their noise [S, *shape]; kept where all of it is small, else made again."""

    def made(numbers: Tensor) -> Tensor:
        return Draws(numbers.numpy(), copies.seed, "smoothgrad", device).normal(shape)

    if copies.samples * prod(shape) > _ELEMENTS_KEPT:
        return made
    kept = made(torch.arange(copies.samples))
    return lambda numbers: kept[numbers[0] : numbers[-1] + 1]


def _signs(index: Ints, copies: Copies, rows: Tensor) -> Tensor:
    """[S, k, 1, ...] 1 or -1 for each copy of k rows."""
    streams = np.arange(copies.samples)[:, None] + index * _MOST_SAMPLES
    bits = Draws(streams.reshape(-1), copies.seed, "smoothgrad sign", rows.device).integers(1) & 1
    return (1 - 2 * bits).to(rows.dtype).view(*streams.shape, *([1] * (rows.ndim - 1)))


def _slopes(model: Model, noisy: Tensor, classes: Tensor, output: Output) -> Tensor:
    """[S, elements of k rows] gradients at the copies [S, k, ...] of k rows."""
    explained = partial(quantity, classes=classes.repeat(len(noisy)), output=output)
    return model.input_gradient(noisy.flatten(0, 1), explained)[0].reshape(len(noisy), -1)


def _mean(sums: list[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor]:
    """[k, ...] mean, and [groups, k, ...] what each group says of its absolute value; uses the sums up."""
    (first,) = sums
    mean = first.sum(dim=0).div_(sizes.sum())
    # Where the signs hold, |mean| is the mean times its sign: linear, so that groups can be compared.
    return mean, first.div_(sizes).mul_(mean.sign())


def _variance(sums: list[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor]:
    """[k, ...] variance, and [groups, k, ...] that of each group, unbiased; uses the sums up."""
    first, second = sums
    mean = first.sum(dim=0).div_(sizes.sum())
    variance = second.sum(dim=0).div_(sizes.sum()).sub_(mean.square()).clamp_min_(0)
    within = second.div_(sizes).sub_(first.div_(sizes).square_())
    return variance, within.mul_(sizes / (sizes - 1).clamp_min(1))
