"""Activation maximisation: inputs that a class or a unit answers to most, by gradient ascent.

Sources: Erhan et al. 2009; Simonyan, Vedaldi and Zisserman 2014 (for classes); Mahendran and Vedaldi 2015
(total variation); Mordvintsev, Olah and Tyka 2015 (jitter).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import ConfigError, NotApplicable, nearest
from audit.explain.attribution import Doubles
from audit.model import Model, first_tensor, log_odds

Objective = Callable[[Tensor], Tensor]
_NEIGHBOURS = 4
_SOFT = 0.05
_TINY = float(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class Ascent:
    """How the ascent is made.

    Attributes:
        steps: number of gradient steps.
        size: length of a step as a share of the range of values.
        smooth: weight of the total variation's slope against a gradient of root mean square 1.
        jitter: the image is shifted by up to so many pixels at each step.
    """

    steps: int = 64
    size: float = 0.02
    smooth: float = 1.0
    jitter: int = 2


@dataclass(frozen=True)
class Found:
    """What the ascent reached for n starts.

    Attributes:
        images: [n, C, H, W] raw images inside the range.
        reached: [n] the objective there, without jitter and penalty.
        start: [n] the same at the start.
        maps: [n, H, W] slope of the objective times the pixel's change since the start, colours added up.
    """

    images: Tensor
    reached: Doubles
    start: Doubles
    maps: Doubles


def maximise(
    model: Model,
    starts: Tensor,
    objectives: Callable[[slice], Objective],
    limits: tuple[float, float],
    how: Ascent,
    seed: int,
) -> Found:
    """Ascend from each start. Costs n * (steps + 2) rows forward and n * (steps + 1) backward.

    Each step follows the gradient divided by its root mean square over the image, so that images do not
    depend on each other; each start has shifts of its own, drawn before.

    Args:
        model: the network.
        starts: [n, C, H, W] raw images to start from.
        objectives: the per-row objective of a slice of the starts, from scores to [rows] values.
        limits: smallest and largest raw value; the images are kept there.
        how: steps and penalties.
        seed: draws the shifts.
    """
    shifts = np.random.default_rng(seed).integers(-how.jitter, how.jitter + 1, (len(starts), how.steps, 2))

    def work(part: slice) -> tuple[Tensor, ...]:
        objective = objectives(part)
        first = starts[part]
        images = first.clone()
        for step in range(how.steps):
            moved = _shifted(images, shifts[part, step])
            gradient, _ = model.input_gradient(moved, partial(_plain, objective))
            size = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(_TINY)
            back = _shifted(gradient / size, -shifts[part, step])
            direction = back - how.smooth * _slope(images, limits)
            images = _stepped(images, direction, limits, how.size)
        gradient, reached = _value(model, images, objective)
        _, before = _value(model, first, objective)
        return images, reached, before, (gradient * (images - first)).sum(dim=1)

    images, reached, start, maps = model.in_batches(work, len(starts))
    return Found(images, _array(reached), _array(start), _array(maps))


def _plain(objective: Objective, scores: Tensor) -> Tensor:
    return objective(scores)


def _array(values: Tensor) -> Doubles:
    found: Doubles = values.detach().cpu().double().numpy()
    return found


def _value(model: Model, images: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []

    def keeping(scores: Tensor) -> Tensor:
        kept.append(objective(scores))
        return kept[0]

    gradient, _ = model.input_gradient(images, keeping)
    return gradient, kept[0].detach()


def _shifted(images: Tensor, shifts: Any) -> Tensor:
    """Each image rolled by its own number of rows and columns; `shifts` is [n, 2]."""
    moved = images
    for axis, shift in ((2, shifts[:, 0]), (3, shifts[:, 1])):
        size = images.shape[axis]
        first = torch.as_tensor(shift, device=images.device)[:, None]
        place = torch.arange(size, device=images.device)[None] - first
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        moved = moved.gather(axis, (place % size).view(shape).expand_as(images))
    return moved


def _slope(images: Tensor, limits: tuple[float, float]) -> Tensor:
    """Slope of the total variation at each pixel, in [-1, 1]: differences of a few percent count in full."""
    width = limits[1] - limits[0]
    down, across = images.diff(dim=2) / width, images.diff(dim=3) / width
    total = torch.zeros_like(images)
    down, across = down / (down.abs() + _SOFT), across / (across.abs() + _SOFT)
    total[:, :, 1:] += down
    total[:, :, :-1] -= down
    total[:, :, :, 1:] += across
    total[:, :, :, :-1] -= across
    return total / _NEIGHBOURS


def _stepped(images: Tensor, direction: Tensor, limits: tuple[float, float], size: float) -> Tensor:
    low, high = limits
    moved: Tensor = (images + size * (high - low) * direction).clamp(low, high)
    return moved


def class_objective(classes: Tensor) -> Callable[[slice], Objective]:
    """The log-odds of class `classes[i]` of start i."""

    def of(part: slice) -> Objective:
        return lambda scores: log_odds(scores, classes[part])

    return of


@contextmanager
def watched(model: Model, layer: str) -> Iterator[list[Tensor]]:
    """A list that always holds the last output of the named layer; the hook is gone afterwards.

    Raises:
        ConfigError: the network has no such layer.
        NotApplicable: the network cannot be hooked into.
    """
    if "modules" not in model.capabilities:
        raise NotApplicable("this format does not let its layers be watched; leave 'layer' empty.")
    layers = {name: part for name, part in model.module.named_modules() if name}
    if layer not in layers:
        raise ConfigError(f"'layer' = '{layer}' is not a layer of the network{nearest(layer, layers)}.")
    held: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        held[:] = [first_tensor(output)]

    handle = layers[layer].register_forward_hook(keep)
    try:
        yield held
    finally:
        handle.remove()


def unit_objective(held: list[Tensor], units: Tensor) -> Callable[[slice], Objective]:
    """The mean activation of unit `units[i]` (a channel) of the watched layer, for start i."""

    def of(part: slice) -> Objective:
        return lambda scores: unit_means(held[0], len(scores)).gather(1, units[part, None]).squeeze(1)

    return of


def unit_means(output: Tensor, rows: int) -> Tensor:
    """[rows, units] mean of each unit's activation over its places."""
    return output.reshape(rows, output.shape[1], -1).mean(dim=2)
