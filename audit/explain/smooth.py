"""Gradients at noisy copies of each row: their mean is SmoothGrad, their variance VarGrad.

Sources: Smilkov, Thorat, Kim, Viegas and Wattenberg 2017 (SmoothGrad); Adebayo, Gilmer, Goodfellow and Kim
2018 (VarGrad). The noise of a row depends on the seed, the row and the number of the copy alone.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from audit.dataset import Ints
from audit.draws import Draws
from audit.explain.quantity import Output, quantity
from audit.explain.subdesigns import dealt, for_sums, group_count, group_sizes, standard_error
from audit.model import Model, evenly

_MOST_SAMPLES = 2**20


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
class NoisyGradients:
    """What the gradients at the noisy copies of N rows have in common; on the CPU, float64.

    Attributes:
        mean: [N, ...] their mean.
        variance: [N, ...] their variance, divided by the number of copies.
        mean_error: [N, M] standard error of the sum of |mean| over the elements of each feature.
        variance_error: [N, M] the same of the variance.
    """

    mean: Tensor
    variance: Tensor
    mean_error: Tensor
    variance_error: Tensor


def noisy_gradients(
    model: Model,
    rows: Tensor,
    classes: Tensor,
    index: Ints,
    copies: Copies,
    member: Tensor,
) -> NoisyGradients:
    """Gradients of the explained number at noisy copies of each row.

    Costs N * samples rows forward and backward. No more than a batch of copies is held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        index: [N] indices of the rows in the data set.
        copies: how the copies are made.
        member: [elements, M] 1 where an element belongs to a feature.
    """
    samples = copies.samples
    groups = group_count(samples)
    member, scale = for_sums(member), for_sums(copies.scale)

    def work(part: slice) -> tuple[Tensor, ...]:
        own = rows[part]
        first = for_sums(own.new_zeros(groups, own.numel()))
        second = first.clone()
        at_once = evenly(samples, max(1, model.passes.batch // len(own)))
        for numbers in torch.split(torch.arange(samples), at_once):
            slopes = for_sums(_slopes(model, own, classes[part], index[part], numbers, copies).flatten(1))
            share = dealt(numbers.to(rows.device), groups)
            first.addmm_(share, slopes)
            second.addmm_(share, slopes.square_())
        sums = (total.view(groups, *own.shape).mul_(by) for total, by in ((first, scale), (second, scale**2)))
        return _moments(*sums, samples, member)

    found = model.in_batches(work, len(rows), rows_each=samples)
    return NoisyGradients(*(item.cpu().double() for item in found))


def _slopes(
    model: Model, rows: Tensor, classes: Tensor, index: Ints, numbers: Tensor, copies: Copies
) -> Tensor:
    """[S, k, ...] gradients at the copies with these numbers of k rows."""
    streams = numbers.numpy()[:, None] + index * _MOST_SAMPLES
    draws = Draws(streams.reshape(-1), copies.seed, "smoothgrad", rows.device)
    noise = draws.normal(tuple(rows.shape[1:])).view(len(numbers), *rows.shape)
    noisy = torch.addcmul(rows, noise, copies.spread).flatten(0, 1)
    explained = partial(quantity, classes=classes.repeat(len(numbers)), output=copies.output)
    return model.input_gradient(noisy, explained)[0].view_as(noise)


def _moments(first: Tensor, second: Tensor, samples: int, member: Tensor) -> tuple[Tensor, ...]:
    """Mean, variance and the standard errors of both by feature, from sums [groups, k, ...]."""
    sizes = group_sizes(samples, len(first), first.device).view(-1, *([1] * (first.ndim - 1)))
    mean = first.sum(dim=0) / samples
    variance = (second.sum(dim=0) / samples - mean.square()).clamp_min(0)
    means = first / sizes
    # Where the signs hold, |mean| is the mean times its sign: linear, so that groups can be compared.
    signed = (means * mean.sign()).flatten(2) @ member
    variances = (second / sizes - means.square()) * sizes / (sizes - 1).clamp_min(1)
    return mean, variance, standard_error(signed), standard_error(variances.flatten(2) @ member)
