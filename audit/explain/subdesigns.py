"""Standard errors from sub-designs of the same passes: samples are dealt to groups, which are compared."""

import math

import torch
from torch import Tensor

_GROUPS = 8
_LEAST_EACH = 2


def group_count(samples: int) -> int:
    """How many groups `samples` are dealt to: 8, fewer where a group would have fewer than two."""
    return max(1, min(_GROUPS, samples // _LEAST_EACH))


def dealt(samples: Tensor, groups: int) -> Tensor:
    """[groups, S] 1 where a sample belongs to a group; sample s belongs to group s modulo `groups`.

    Args:
        samples: [S] numbers of the samples.
        groups: number of groups.
    """
    return (samples % groups == torch.arange(groups, device=samples.device)[:, None]).to(accurate(samples))


def group_sizes(samples: int, groups: int, device: torch.device) -> Tensor:
    """[groups] how many of `samples` each group has."""
    counts = torch.bincount(torch.arange(samples) % groups, minlength=groups).to(device)
    return counts.to(accurate(counts))


def standard_error(estimates: Tensor) -> Tensor:
    """Standard error of the mean of [groups, ...] independent estimates; NaN for one group."""
    if len(estimates) == 1:
        return torch.full_like(estimates[0], torch.nan)
    return estimates.std(dim=0) / math.sqrt(len(estimates))


def accurate(tensor: Tensor) -> torch.dtype:
    """The dtype that sums are kept in: float64 where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def for_sums(values: Tensor) -> Tensor:
    """The tensor in the dtype that sums are kept in."""
    return values.to(accurate(values))
