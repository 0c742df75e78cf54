"""HopSkipJump: a walk along the decision boundary that asks for the predicted class alone.

Source: Chen, Jordan and Wainwright, 2020, arXiv:1904.02144. All rows of the batch walk together: their
binary searches, their gradient estimates and their steps share passes.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from audit.attack.chance import fractions, keys, normals, words
from audit.attack.loss import wrong
from audit.attack.norm import Reach, distance, per_row
from audit.dataset import Ints
from audit.model import Model

_DONORS_TRIED = 3
_HALVINGS = 20
_SEARCH_STEPS = (10, 20)
_FIRST_PROBE = 0.1


@dataclass(frozen=True, kw_only=True)
class HopSkipJump:
    """How HopSkipJump walks.

    Attributes:
        norm: how distance is measured.
        iterations: estimates of the boundary's direction, each followed by a step.
        evaluations: passes of the first estimate; estimate t takes sqrt(t) times as many.
        most_evaluations: passes of an estimate at most.
        starts: random valid points that are tried in search of a misclassified one.
        budget: no iteration is begun that could take a row beyond this many passes. The start itself costs
            at most `starts` + 43.
    """

    norm: Literal["linf", "l2"] = "l2"
    iterations: int = 10
    evaluations: int = 100
    most_evaluations: int = 1000
    starts: int = 20
    budget: int = 10_000

    def estimates(self, iteration: int) -> int:
        """Passes that the estimate of this iteration (1 or more) takes."""
        return min(int(self.evaluations * math.sqrt(iteration)), self.most_evaluations)


@dataclass(frozen=True)
class Donors:
    """Points at which a search may start: other rows of the data, and what the model says of them.

    Attributes:
        points: [m, ...] raw inputs.
        classes: [m] the model's own predictions.
    """

    points: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Nearest:
    """The nearest misclassified point found for n rows.

    Attributes:
        distance: [n] in units of `Reach.unit`, an upper bound of the smallest distance there is; infinite
            where no misclassified point was met. A row is fooled within a ball of epsilon where its
            distance is at most epsilon.
        points: [n, ...] those points; the row itself where none was met.
        queries: [n] passes spent on each row.
    """

    distance: Tensor
    points: Tensor
    queries: Tensor


def donors(model: Model, points: Tensor) -> Donors:
    """Starting points from rows of the data [m, ...], asked once and used for every batch of an attack."""
    size = max(1, model.passes.batch)
    parts = (points[start : start + size].clone() for start in range(0, len(points), size))
    with torch.no_grad():
        return Donors(points, torch.cat([model.scores(part).argmax(dim=1) for part in parts]))


def hopskipjump(
    model: Model,
    labels: Tensor,
    centre: Tensor,
    reach: Reach,
    attack: HopSkipJump,
    rows: Ints,
    seed: int,
    others: Donors | None = None,
) -> Nearest:
    """The nearest misclassified point that each row's walk along the decision boundary meets.

    A walk starts at the nearer of two points: the closest of `others` that the model puts into another
    class, and a random valid point; each is first drawn to the boundary. What a row's walk draws depends
    on the row and the seed alone.

    Args:
        model: the network; only the class with the highest score is used.
        labels: [n] true classes.
        centre: [n, ...] the rows, classified correctly.
        reach: what may change; coordinates with unit 0 stay.
        attack: how to walk.
        rows: [n] row indices of the data set, for the random draws.
        seed: seed of the audit.
        others: further points to start from; the same for every batch, or results depend on the batch.
    """
    walk = _begin(model, labels, centre, reach, attack, rows, seed)
    if others is not None:
        _from_donors(walk, others)
    _from_noise(walk)
    walk.point = walk.nearest.clone()
    for iteration in range(1, attack.iterations + 1):
        worst = attack.estimates(iteration) + _HALVINGS + _search_steps(walk)
        open_to_more = walk.distance.isfinite() & (walk.distance > 0) & (walk.used + worst <= attack.budget)
        at = open_to_more.nonzero().squeeze(1)
        if not len(at):
            break
        _iterate(walk, at, iteration)
    return Nearest(walk.distance, walk.nearest, walk.used)


@dataclass
class _Walk:
    """All n rows of the batch; the functions below work on the rows `at` [k].

    `point` is where each row's walk stands, `nearest` and `distance` the best that was met, `low` and
    `high` [n, ...] the valid range, in which fixed coordinates have no room.
    """

    model: Model
    attack: HopSkipJump
    seed: int
    rows: Ints
    labels: Tensor
    centre: Tensor
    low: Tensor
    high: Tensor
    unit: Tensor
    free: Tensor
    point: Tensor
    nearest: Tensor
    distance: Tensor
    used: Tensor


def _begin(
    model: Model, labels: Tensor, centre: Tensor, reach: Reach, attack: HopSkipJump, rows: Ints, seed: int
) -> _Walk:
    free = reach.unit > 0
    return _Walk(
        model=model,
        attack=attack,
        seed=seed,
        rows=rows,
        labels=labels,
        centre=centre,
        low=torch.where(free, torch.minimum(reach.low, centre), centre),
        high=torch.where(free, torch.maximum(reach.high, centre), centre),
        unit=torch.where(free, reach.unit, 1),
        free=free,
        point=centre,
        nearest=centre.clone(),
        distance=torch.full_like(labels, torch.inf, dtype=torch.float32),
        used=torch.zeros_like(labels),
    )


def _asked(walk: _Walk, points: Tensor, at: Tensor) -> Tensor:
    """[k] whether each point [k, ...] is misclassified, given the rows `at` it belongs to."""
    size = max(1, walk.model.passes.batch)
    answers = []
    with torch.no_grad():
        for part in range(0, len(points), size):
            # A copy: a network may write into its input.
            scores = walk.model.scores(points[part : part + size].clone())
            answers.append(wrong(scores, walk.labels[at[part : part + size]]))
    walk.used.index_add_(0, at, torch.ones_like(at))
    return torch.cat(answers)


def _from_donors(walk: _Walk, others: Donors) -> None:
    """Try the closest donors of another class, with the row's own values where it may not move."""
    order = 2.0 if walk.attack.norm == "l2" else torch.inf
    scale = torch.where(walk.free, 1 / walk.unit, 0)
    away = torch.cdist((walk.centre * scale).flatten(1), (others.points * scale).flatten(1), p=order)
    away = away.masked_fill(others.classes == walk.labels[:, None], torch.inf)
    near, which = away.topk(min(_DONORS_TRIED, away.shape[1]), dim=1, largest=False)
    start, found = walk.centre.clone(), torch.zeros_like(walk.labels, dtype=torch.bool)
    for choice in range(which.shape[1]):
        at = (~found & near[:, choice].isfinite()).nonzero().squeeze(1)
        candidate = _valid(walk, others.points[which[at, choice]], at)
        falls = _asked(walk, candidate, at) if len(at) else found[at]
        start[at[falls]], found[at[falls]] = candidate[falls], True
    _approach(walk, start, found)


def _from_noise(walk: _Walk) -> None:
    """Try random points of the valid range, drawn for each row on its own."""
    start, found = walk.centre.clone(), torch.zeros_like(walk.labels, dtype=torch.bool)
    streams = keys(walk.seed, "jump_start", 0, walk.rows, walk.labels.device)
    size = walk.unit.numel()
    for attempt in range(walk.attack.starts):
        at = (~found).nonzero().squeeze(1)
        if not len(at):
            break
        share = fractions(words(streams[at], attempt * size, size)).view_as(walk.centre[at])
        candidate = _valid(walk, walk.low[at] + share * (walk.high[at] - walk.low[at]), at)
        falls = _asked(walk, candidate, at)
        start[at[falls]], found[at[falls]] = candidate[falls], True
    _approach(walk, start, found)


def _approach(walk: _Walk, start: Tensor, found: Tensor) -> None:
    """Draw the starts that were found to the boundary; remember the nearer ones."""
    at = found.nonzero().squeeze(1)
    if len(at):
        _remember(walk, _to_boundary(walk, start[at], at), at)


def _remember(walk: _Walk, points: Tensor, at: Tensor) -> None:
    reached = _distance(walk, points, at)
    nearer = reached < walk.distance[at]
    walk.nearest[at[nearer]] = points[nearer]
    walk.distance[at[nearer]] = reached[nearer]


def _iterate(walk: _Walk, at: Tensor, iteration: int) -> None:
    """Estimate the boundary's direction, step along it, and come back to the boundary."""
    reached = _distance(walk, walk.point[at], at)
    direction = _direction(walk, at, _probe(walk, reached, at, iteration), iteration)
    length = reached / math.sqrt(iteration)
    moved, pending = walk.point[at].clone(), torch.arange(len(at), device=at.device)
    for _ in range(_HALVINGS):
        step = per_row(length[pending], moved) * direction[pending] * walk.unit
        candidate = _valid(walk, walk.point[at[pending]] + step, at[pending])
        falls = _asked(walk, candidate, at[pending])
        moved[pending[falls]] = candidate[falls]
        pending = pending[~falls]
        if not len(pending):
            break
        length = length / 2
    walk.point[at] = _to_boundary(walk, moved, at)
    _remember(walk, walk.point[at], at)


def _probe(walk: _Walk, reached: Tensor, at: Tensor, iteration: int) -> Tensor:
    """[k] how far the points of an estimate lie from the boundary point: distance / D, wider at first.

    The first boundary point comes from a coarse search, so that the paper's own code starts with a tenth
    of the valid range.
    """
    movable = int(walk.free.sum())
    if iteration > 1:
        return reached * min(_FIRST_PROBE, 1 / movable)
    span = ((walk.high[at] - walk.low[at]) / walk.unit).flatten(1).sum(dim=1) / movable
    return _FIRST_PROBE * torch.minimum(span, reached)


def _direction(walk: _Walk, at: Tensor, probe: Tensor, iteration: int) -> Tensor:
    """[k, ...] in units, of length 1: where misclassification lies, from random points around each row.

    Rows are taken in groups that fill a batch; a row's own sum does not depend on its group.
    """
    count = walk.attack.estimates(iteration)
    streams = keys(walk.seed, "jump_step", iteration, walk.rows[at.cpu().numpy()], at.device)
    group = max(1, walk.model.passes.batch // count)
    parts = [
        _slope(walk, at[one], streams[one], probe[one], count)
        for one in (slice(start, start + group) for start in range(0, len(at), group))
    ]
    slope = torch.cat(parts)
    return slope.sign() if walk.attack.norm == "linf" else _unit_length(slope)


def _slope(walk: _Walk, at: Tensor, streams: Tensor, probe: Tensor, count: int) -> Tensor:
    """The paper's estimate with its baseline: the mean of (answer - mean answer) x direction."""
    size = max(1, walk.model.passes.batch)
    weighted, plain = torch.zeros_like(walk.centre[at]), torch.zeros_like(walk.centre[at])
    answered = torch.zeros_like(probe)
    for first in range(0, count, size):
        many = min(size, count - first)
        owner = at.repeat_interleave(many)
        away = per_row(probe, plain)[:, None] * walk.unit
        here = walk.point[at][:, None]
        points = _valid(walk, (here + away * _around(walk, streams, first, many)).flatten(0, 1), owner)
        answers = (_asked(walk, points, owner).float() * 2 - 1).view(len(at), many)
        offset = torch.where(walk.free, (points.view(len(at), many, *plain.shape[1:]) - here) / away, 0)
        weighted += (answers.view(len(at), many, *([1] * (plain.ndim - 1))) * offset).sum(dim=1)
        plain += offset.sum(dim=1)
        answered += answers.sum(dim=1)
    mean = per_row(answered / count, plain)
    return torch.where(mean.abs() < 1, weighted - mean * plain, mean * plain) / count


def _around(walk: _Walk, streams: Tensor, first: int, many: int) -> Tensor:
    """[k, many, ...] random directions of length 1 over the coordinates that may move, in units."""
    shape, length = walk.unit.shape, walk.unit.numel()
    if walk.attack.norm == "l2":
        drawn = normals(streams, first, many, length)
    else:
        drawn = fractions(words(streams, first * length, many * length)) * 2 - 1
    return _unit_length(drawn.view(len(streams), many, *shape) * walk.free, 2)


def _to_boundary(walk: _Walk, beyond: Tensor, at: Tensor) -> Tensor:
    """[k, ...] misclassified points as near to their rows as a binary search finds, all rows at once.

    In l2 it follows the straight line; in linf it shrinks the box around the row.
    """
    centre, reached = walk.centre[at], _distance(walk, beyond, at)
    offset = beyond - centre
    low, high = torch.zeros_like(reached), torch.ones_like(reached)
    for _ in range(_search_steps(walk)):
        middle = (low + high) / 2
        if walk.attack.norm == "l2":
            moved = per_row(middle, offset) * offset
        else:
            room = per_row(middle * reached, offset) * walk.unit
            moved = torch.clamp(offset, -room, room)
        candidate = _valid(walk, centre + moved, at)
        falls = _asked(walk, candidate, at)
        beyond = torch.where(per_row(falls, beyond), candidate, beyond)
        low, high = torch.where(falls, low, middle), torch.where(falls, middle, high)
    return beyond


def _search_steps(walk: _Walk) -> int:
    """Halvings until the paper's tolerance is met: D to the power of -3/2 in l2 and of -2 in linf."""
    power = 1.5 if walk.attack.norm == "l2" else 2.0
    least, most = _SEARCH_STEPS
    return min(most, max(least, math.ceil(power * math.log2(max(1, int(walk.free.sum()))))))


def _valid(walk: _Walk, points: Tensor, at: Tensor) -> Tensor:
    return torch.clamp(points, walk.low[at], walk.high[at])


def _distance(walk: _Walk, points: Tensor, at: Tensor) -> Tensor:
    """[k] distance of each point from its row, in units; fixed coordinates do not differ."""
    return distance(walk.attack.norm, points - walk.centre[at], walk.unit)


def _unit_length(values: Tensor, first: int = 1) -> Tensor:
    """The same directions with length 1 over the axes from `first` on; zero stays zero."""
    axes = tuple(range(first, values.ndim))
    length: Tensor = torch.linalg.vector_norm(values, dim=axes, keepdim=True)
    return values / length.clamp_min(torch.finfo(values.dtype).tiny)
