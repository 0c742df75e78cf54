"""Positive control: adversarial examples are planted inside the ball, and the attack must find them.

An attack that finds nothing on the audited model may be weak, or the model strong. So the model's read-out is
replaced by one of our own that says 1 for a chosen point of the ball and 0 for the row itself and for other
points around it: an adversarial example is then known to exist. The layers below, and whatever they do to the
gradient, stay. An attack that misses such examples cannot be relied on; one that finds them has passed a test
that many published evaluations fail, and proves nothing more.

Source: Zimmermann, Brendel, Tramer and Carlini, 2022, arXiv:2206.13991. The audited network is not changed:
its features are read, and the read-out is computed beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from audit.attack.curve import Target, noise_curve, pgd_curve
from audit.attack.loop import Pgd
from audit.attack.noise import Stream, displacements
from audit.attack.norm import Norm, ball, displaced
from audit.attack.result import AtEpsilon, Flags
from audit.attack.space import Space
from audit.dataset import Floats, Ints
from audit.model import Model, Passes, as_scores

SAMPLES = 64
"""Examples that are planted."""

_EDGE = 16
_INNER = 8
_CANDIDATES = 8
_INNER_RADIUS = 0.5
_RIDGE = 1.0
_CLEAR = 1e-2
_LEAST = 1e-30
_FIRST_DRAW = 1000
_SAME_ANSWER = 1e-4
Where = Literal["features before the last layer", "scores"]


@dataclass(frozen=True)
class Control:
    """What became of the planted examples.

    Attributes:
        asked: how many were to be planted.
        planted: how many could be, and were there in a fresh pass.
        found: how many of these the attack found, each verified.
        by_chance: how many one random point at the edge of the ball found.
        where: what the new read-out reads.
    """

    asked: int
    planted: int
    found: int
    by_chance: int
    where: Where


def control(target: Target, epsilon: float, attack: Pgd, samples: int = SAMPLES) -> Control:
    """Plant an example in the ball of each of `samples` rows and let the attack look for it.

    Around each row 16 points are drawn at the edge of the ball and 8 at half the radius. A linear read-out is
    fitted (ridge regression) that tells one of the 16 from all others and from the row. Where there are
    fewer attacked rows than samples, rows are used again with other draws.

    Args:
        target: the rows; at least one is correct. The model's state stays as it is.
        epsilon: the ball's radius.
        attack: the attack that is tested.
        samples: how many examples are planted.
    """
    positions = np.resize(np.flatnonzero(target.correct), samples)
    read, where = readable(target.model, target.inputs[target.rows[positions[:2]]])
    planted = _plant(target, positions, epsilon, attack.norm, read)
    altered = _altered(target, positions, planted, read)
    there = _there(altered, planted)
    altered = replace(altered, correct=there)
    if not there.any():
        return Control(samples, 0, 0, 0, where)
    found, by_chance = _attacked(altered, epsilon, attack)
    target.model.passes.backward += altered.model.passes.backward
    return Control(samples, int(there.sum()), int(found.fooled.sum()), int(by_chance.fooled.sum()), where)


def readable(model: Model, rows: Floats) -> tuple[Callable[[Tensor], Tensor], Where]:
    """What a new read-out may read: from inputs [n, ...] to [n, F].

    The input of the network's last linear layer, where the model's answer is that layer's output (or its
    softmax); otherwise the scores, so that nothing the model does to its scores is passed over.

    Args:
        model: the network.
        rows: [n, ...] a few raw inputs, to see what the layers do.
    """
    last = _last_layer(model, rows)
    if last is None:
        return model.scores, "scores"

    def features(inputs: Tensor) -> Tensor:
        with _heard([last]) as heard:
            model.raw(inputs)
        return heard[-1][1]

    return features, "features before the last layer"


def _last_layer(model: Model, rows: Floats) -> nn.Module | None:
    layers = [part for part in model.module.modules() if isinstance(part, nn.Linear)]
    if "modules" not in model.capabilities or not layers:
        return None
    with torch.no_grad(), _heard(layers) as heard:
        scores = model.scores(model.tensor(rows))
    if not heard:
        return None
    layer, given, answer = heard[-1]
    if given.ndim != 2 or len(given) != len(rows):  # noqa: PLR2004 - rows and features
        return None
    if answer.shape[1] == 1:
        answer = as_scores(answer, "single_logit")
    if answer.shape != scores.shape:
        return None
    same = (answer.softmax(dim=1) - scores.softmax(dim=1)).abs().max() <= _SAME_ANSWER
    return layer if bool(same) else None


@contextmanager
def _heard(layers: Sequence[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Layer, input and output of each call of these layers; the hooks are gone afterwards."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def listen(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        calls.append((layer, given[0], answer))

    handles = [layer.register_forward_hook(listen) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Planted:
    """Read-outs: weights [n, F] and bias [n], the points they single out [n, ...], whether clearly so [n]."""

    weights: Tensor
    bias: Tensor
    points: Tensor
    clear: Tensor


def _plant(
    target: Target, positions: Ints, epsilon: float, norm: Norm, read: Callable[[Tensor], Tensor]
) -> _Planted:
    """The read-out of each row, fitted to the points drawn around it."""

    def work(part: slice) -> tuple[Tensor, ...]:
        points = _around(target, positions[part], streams[part], epsilon, norm)
        with torch.no_grad():
            parts = torch.split(points.flatten(0, 1), max(1, target.model.passes.batch))
            felt = torch.cat([read(part) for part in parts]).view(*points.shape[:2], -1)
        # Not every device computes in double precision.
        weights, bias, best, clear = (of.to(points.device) for of in _fitted(felt.cpu()))
        return weights, bias, points[torch.arange(len(points), device=points.device), best], clear

    again = np.arange(len(positions)) // int(target.correct.sum())
    streams = target.rows[positions] + again * len(target.inputs)
    return _Planted(*target.model.in_batches(work, len(positions), rows_each=1 + _EDGE + _INNER))


def _around(target: Target, positions: Ints, streams: Ints, epsilon: float, norm: Norm) -> Tensor:
    """[n, 25, ...] points at the edge of the ball, then points well inside, then the row itself."""
    centre = target.model.tensor(target.inputs[target.rows[positions]])
    inside = ball(centre, epsilon, norm, target.space.reach(target.model))

    def point(number: int) -> Tensor:
        edge = number < _EDGE
        kind: Stream = "noise" if edge else "start"
        offset = displacements(norm, target.space.unit, streams, kind, _FIRST_DRAW + number, target.seed)
        return displaced(inside, target.model.tensor(offset) * (1.0 if edge else _INNER_RADIUS))

    return torch.stack([*map(point, range(_EDGE + _INNER)), centre], dim=1)


def _fitted(felt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights [n, F], bias [n], chosen point [n] and whether it stands clear [n], from features [n, P, F].

    One inverse of the points' Gram matrix gives the ridge regression for every candidate at once. The
    candidate with the widest gap to all other points is chosen; it is read as +1 and the nearest of the
    others as -1. The ridge is strong: a read-out that bends itself around one point could be missed by any
    attack, and would say nothing of the one that is tested.
    """
    felt = torch.nan_to_num(felt).double()
    mean = felt.mean(dim=1, keepdim=True)
    apart = felt - mean
    gram = apart @ apart.mT
    size = gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    dual = torch.linalg.inv(gram + (_RIDGE * size).clamp_min(_LEAST) * eye)
    told = gram @ dual
    mine = told.diagonal(dim1=1, dim2=2)
    others = told.masked_fill(eye.bool(), -torch.inf).amax(dim=1)
    gap, best = (mine - others)[:, :_CANDIDATES].max(dim=1)
    row = torch.arange(len(felt), device=felt.device)
    clear = gap > _CLEAR * mine[row, best]
    scale = torch.where(clear, 2 / gap, 0)
    weights = (apart.mT @ dual[row, :, best][..., None]).squeeze(2) * scale[:, None]
    middle = (mine + others)[row, best] / 2 * scale
    bias = -(weights * mean.squeeze(1)).sum(dim=1) - middle
    return weights.float(), bias.float(), best, clear


class _Readout(nn.Module):
    """Flat rows [n, D + 1] to one number, above 0 for class 1; the last entry says whose read-out to use."""

    def __init__(self, read: Callable[[Tensor], Tensor], planted: _Planted) -> None:
        super().__init__()
        self.read, self.planted = read, planted

    def forward(self, rows: Tensor) -> Tensor:
        whose = rows[:, -1].long()
        felt = self.read(rows[:, :-1].reshape(-1, *self.planted.points.shape[1:]))
        return (felt * self.planted.weights[whose]).sum(dim=1) + self.planted.bias[whose]


def _altered(target: Target, positions: Ints, planted: _Planted, read: Callable[[Tensor], Tensor]) -> Target:
    """The rows as a target of their own: flat, numbered by an entry that may not move, all of class 0."""
    model, count = target.model, len(positions)
    changed = Model(
        module=_Readout(read, planted).eval(),
        device=model.device,
        output="single_logit",
        passes=Passes(batch=model.passes.batch),
    )
    return Target(
        model=changed,
        inputs=_numbered(target.inputs[target.rows[positions]]),
        labels=np.zeros(count, np.int64),
        rows=np.arange(count),
        correct=np.ones(count, dtype=bool),
        space=_flat(target.space, count),
        seed=target.seed,
    )


def _numbered(rows: Floats) -> Floats:
    flat = rows.reshape(len(rows), -1)
    return np.concatenate([flat, np.arange(len(rows), dtype=np.float32)[:, None]], axis=1)


def _flat(space: Space, count: int) -> Space:
    def longer(values: Floats, last: int) -> Floats:
        return np.append(values.reshape(-1), np.float32(last))

    return replace(
        space, unit=longer(space.unit, 0), low=longer(space.low, 0), high=longer(space.high, count)
    )


def _there(altered: Target, planted: _Planted) -> Flags:
    """[n] whether a fresh pass says 0 for the row and 1 for the planted point."""
    points = _numbered(planted.points.cpu().numpy())
    rows, edge = (altered.model.predict(of).argmax(dim=1).numpy() for of in (altered.inputs, points))
    there: Flags = planted.clear.cpu().numpy() & (rows == 0) & (edge == 1)
    return there


def _attacked(altered: Target, epsilon: float, attack: Pgd) -> tuple[AtEpsilon, AtEpsilon]:
    (found,) = pgd_curve(altered, [epsilon], attack)
    (by_chance,) = noise_curve(altered, [epsilon], attack.norm, 1)
    return found, by_chance
