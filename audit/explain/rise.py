"""RISE: how the explained number goes with what random smooth masks let through.

Source: Petsiuk, Das and Saenko 2018. Their estimate, the mean of f(x * mask) * mask over E[mask], is taken
around its mean: what a place adds to the mean answer over all masks. That leaves the order of the places as
it is and takes a constant, and its sampling error, away.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from audit.dataset import Ints
from audit.draws import Draws
from audit.explain.hidden import ELEMENTS_AT_ONCE, values_under_masks
from audit.explain.quantity import Output
from audit.explain.subdesigns import accurate, dealt, for_sums, group_count, group_sizes, standard_error
from audit.model import Model


@dataclass(frozen=True)
class Masks:
    """Masks by number: mask i is the same whatever others are made, on every device.

    Attributes:
        shape: of a mask: (1, H, W) for images, (C, T) for series, whose channels are masked on their own.
        cells: cells of the coarse grid on each axis but the first.
        keep: chance that a cell is seen, in (0, 1).
        seed: seed of the audit.
        device: where masks are made.
    """

    shape: tuple[int, ...]
    cells: int
    keep: float
    seed: int
    device: torch.device

    def made(self, numbers: Ints) -> Tensor:
        """[k, *shape] masks in [0, 1]: a random coarse grid, enlarged linearly and shifted at random."""
        axes = self.shape[1:]
        coarse = tuple(min(self.cells, length) for length in axes)
        steps = [-(-length // cells) for length, cells in zip(axes, coarse, strict=True)]
        draws = Draws(numbers, self.seed, "rise", self.device)
        grid = (draws.uniform((self.shape[0], *coarse), "grid") < self.keep).float()
        size = [(cells + 1) * step for cells, step in zip(coarse, steps, strict=True)]
        masks = interpolate(grid, size=size, mode="bilinear" if len(axes) > 1 else "linear")
        shifts = draws.uniform((len(axes),), "shift") * torch.tensor(steps, device=self.device)
        for axis, length in enumerate(axes):
            at = shifts[:, axis].long()[:, None] + torch.arange(length, device=self.device)
            view = [len(numbers), *(length if i == axis + 1 else 1 for i in range(masks.ndim - 1))]
            wanted = [length if i == axis + 2 else extent for i, extent in enumerate(masks.shape)]
            masks = masks.gather(axis + 2, at.view(view).expand(wanted))
        return masks


@dataclass(frozen=True)
class Importance:
    """RISE of N rows: values [N, *shape of a mask] and their standard error [N, M] by feature; on the CPU."""

    values: Tensor
    standard_error: Tensor


def masked_values(
    model: Model, rows: Tensor, classes: Tensor, fill: Tensor, masks: Masks, samples: int, output: Output
) -> Tensor:
    """[N, S] the explained number of each row under each mask. Costs N * samples rows forward.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        fill: [1, ...] raw row that is seen where a mask is 0.
        masks: the masks; the same ones for all rows.
        samples: number of masks.
        output: which number is explained.
    """

    def seen(mask: Tensor, own: Tensor) -> Tensor:
        return torch.lerp(fill, own, mask)

    return values_under_masks(model, rows, classes, samples, masks.made, seen, output)


def importance(values: Tensor, masks: Masks, member: Tensor) -> Importance:
    """How far the mean answer rises where a mask lets a place through.

    Args:
        values: [N, S] the explained number under each mask.
        masks: the masks, made again a block at a time.
        member: [places, M] 1 where a place of a mask belongs to a feature.
    """
    samples = values.shape[1]
    groups = group_count(samples)
    centred = for_sums(values) - for_sums(values).mean(dim=1, keepdim=True)
    places = for_sums(member)
    total = centred.new_zeros(len(values), len(member))
    parts = centred.new_zeros(groups, len(values), member.shape[1])
    for numbers, flat in _blocks(masks, samples):
        inside = centred[:, numbers]
        total += inside @ flat
        parts += (dealt(numbers, groups)[:, None] * inside) @ (flat @ places)
    total /= samples * masks.keep
    parts /= (group_sizes(samples, groups, values.device) * masks.keep)[:, None, None]
    shaped = total.view(len(values), *masks.shape)
    return Importance(shaped.cpu().double(), standard_error(parts).cpu().double())


def _blocks(masks: Masks, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of masks and the masks around their mean, flat, in blocks that bound the memory."""
    at_once = max(1, ELEMENTS_AT_ONCE // int(np.prod(masks.shape)))
    for numbers in torch.split(torch.arange(samples), at_once):
        flat = masks.made(numbers.numpy()).flatten(1)
        yield numbers.to(masks.device), flat.to(accurate(flat)) - masks.keep
