"""Square attack: random search over squares at the edge of the ball. It reads scores, never a gradient.

Source: Andriushchenko, Croce, Flammarion and Hein, 2020, arXiv:1912.00049. One pass per query and row that
still stands, squares drawn for each row on its own, fooled rows leave the batch.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from audit.attack.chance import below, flag, keys, words
from audit.attack.loop import Found
from audit.attack.loss import margin, wrong
from audit.attack.norm import Ball, displaced, in_units, per_row
from audit.dataset import Ints
from audit.errors import NotApplicable
from audit.model import Model

_EARLY_SHARE = 0.75
_QUERIES_BETWEEN_COMPACTIONS = {"cpu": 1}
_QUERIES_BETWEEN_COMPACTIONS_ELSEWHERE = 20
_WORDS_AT_ONCE = 2**16
_HALVINGS_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SCHEDULE_QUERIES = 10_000
_TILES = 5
_SMALLEST_SQUARE_L2 = 3
_IMAGE_AXES = 4


@dataclass(frozen=True, kw_only=True)
class Square:
    """How Square searches.

    Attributes:
        norm: the ball's norm; `l2` is for images alone.
        queries: passes spent on a row that does not fall, the starting point among them.
        p_init: share of the input that the first changes cover, above 0 and at most 1; it is halved nine
            times on the way, as in the paper.
    """

    norm: Literal["linf", "l2"] = "linf"
    queries: int = 1000
    p_init: float = 0.8

    def share(self, query: int) -> float:
        """Share of the input that the change of this query (1 or more) covers."""
        at = int(query / self.queries * _SCHEDULE_QUERIES)
        return math.ldexp(self.p_init, -bisect_left(_HALVINGS_AT, at))


def square(
    model: Model, labels: Tensor, inside: Ball, attack: Square, rows: Ints, seed: int, attempt: int = 0
) -> Found:
    """Random changes at the edge of the ball, each kept if it raises the margin.

    Images [C, H, W] change in squares, series [C, T] in stretches of time; each channel goes to one edge of
    the ball as a whole. Flat rows [D] change in sets of coordinates, each to an edge of its own. What a
    query draws depends on the row, the seed and the attempt alone. With epsilon 0 the row itself is asked.

    Args:
        model: the network.
        labels: [n] true classes.
        inside: the ball around the rows, in the attack's norm.
        attack: how to search.
        rows: [n] row indices of the data set, for the random draws.
        seed: seed of the audit.
        attempt: restart number.

    Returns:
        What was found; `points` holds the best point of a row that was not fooled, `zero` and `nan` are
        False because no gradient is read, `late` counts queries as it counts steps elsewhere.

    Raises:
        NotApplicable: l2 and no image of at least 3 x 3 pixels.
    """
    shape = inside.centre.shape[1:]
    if attack.norm == "l2" and (len(shape) != _IMAGE_AXES - 1 or min(shape[1:]) < _SMALLEST_SQUARE_L2):
        raise NotApplicable(
            f"Square in l2 moves squares of images [C, H, W] of at least 3 x 3 pixels, not rows of shape "
            f"{list(shape)}; use norm = 'linf'."
        )
    search = _begin(labels, inside, rows, seed, attempt)
    every = _QUERIES_BETWEEN_COMPACTIONS.get(model.device.type, _QUERIES_BETWEEN_COMPACTIONS_ELSEWHERE)
    queries = attack.queries if inside.epsilon > 0 else 1
    for query in range(queries):
        _ask(search, model, _change(search, attack, query))
        if query < _EARLY_SHARE * queries:
            search.early = search.fooled
        if (query + 1) % every == 0:
            _compact(search)
        if not len(search.index):
            return search.found
    _write(search)
    return search.found


@dataclass
class _Search:
    """The rows that still stand, and what has been found for all rows.

    `index` [k] says which of the n rows the other [k, ...] tensors hold. `bits` [k, steps, per] are the
    random words of the queries from `drawn` on. `free` [...] marks what may move, `movable` [F] are its flat
    indices, and `per_unit` [...] is 1 / unit there and 0 elsewhere.
    """

    points: Tensor
    best: Tensor
    labels: Tensor
    inside: Ball
    index: Tensor
    fooled: Tensor
    early: Tensor
    start_keys: Tensor
    step_keys: Tensor
    free: Tensor
    movable: Tensor
    per_unit: Tensor
    bits: Tensor
    drawn: int
    found: Found


def _begin(labels: Tensor, inside: Ball, rows: Ints, seed: int, attempt: int) -> _Search:
    device = labels.device
    none = torch.zeros_like(labels, dtype=torch.bool)
    return _Search(
        points=inside.centre,
        best=torch.full_like(labels, -torch.inf, dtype=torch.float32),
        labels=labels,
        inside=inside,
        index=torch.arange(len(labels), device=device),
        fooled=none,
        early=none,
        start_keys=keys(seed, "square_start", attempt, rows, device),
        step_keys=keys(seed, "square_step", attempt, rows, device),
        free=inside.unit > 0,
        movable=inside.unit.flatten().nonzero().squeeze(1),
        per_unit=in_units(torch.ones_like(inside.unit), inside.unit),
        bits=torch.empty((len(labels), 0, 0), dtype=torch.int64, device=device),
        drawn=0,
        found=Found(none.clone(), inside.centre.clone(), none.clone(), none.clone(), none.clone()),
    )


@dataclass(frozen=True)
class _Change:
    """What a query asks about.

    Attributes:
        candidate: [k, ...] the points; a network may write into them.
        cells: [k, m] flat indices of what differs from the best point so far; None where all may.
        before: values of the cells now; of all of the points where `cells` is None.
        after: values asked about, in the same shape.
    """

    candidate: Tensor
    cells: Tensor | None
    before: Tensor
    after: Tensor


def _ask(search: _Search, model: Model, change: _Change) -> None:
    """One pass. A point that fools, or whose margin is higher than the best so far, is kept."""
    with torch.no_grad():
        scores = model.scores(change.candidate)
    value = margin(scores, search.labels).float()
    falls = wrong(scores, search.labels)
    better = ~search.fooled & (falls | (value > search.best))
    now = torch.where(per_row(better, change.after), change.after, change.before)
    if change.cells is None:
        # Contiguous, so that the flat view below is a view.
        search.points = now.contiguous()
    else:
        search.points.flatten(1).scatter_(1, change.cells, now)
    search.best = torch.where(better, value, search.best)
    search.fooled = search.fooled | falls


def _compact(search: _Search) -> None:
    """Let fooled rows leave the batch. The only place that waits for an accelerator."""
    keep = ~search.fooled
    if bool(keep.all()):
        return
    _write(search)
    search.inside = search.inside.take(keep)
    for name in ("points", "best", "labels", "index", "fooled", "early", "start_keys", "step_keys", "bits"):
        setattr(search, name, getattr(search, name)[keep])


def _write(search: _Search) -> None:
    search.found.fooled[search.index] = search.fooled
    search.found.points[search.index] = search.points
    search.found.late[search.index] = search.fooled & ~search.early


def _change(search: _Search, attack: Square, query: int) -> _Change:
    """What this query asks about, for all rows that stand."""
    if query > 0 and search.points.ndim == 2:  # noqa: PLR2004 - rows and coordinates
        return _coordinates(search, attack, query)
    if query > 0 and attack.norm == "linf":
        return _squares_linf(search, attack, query)
    if query > 0:
        candidate = _squares_l2(search, attack, query)
    else:
        candidate = _start_l2(search) if attack.norm == "l2" else _start_linf(search)
    return _Change(candidate.clone(), None, search.points, candidate)


def _start_linf(search: _Search) -> Tensor:
    """Vertical stripes: each column of each channel goes to one edge. Flat: each coordinate on its own."""
    shape = search.points.shape
    across = shape[1:] if len(shape) < _IMAGE_AXES else (shape[1], 1, shape[3])
    bits = words(search.start_keys, 0, math.prod(across)).view(len(search.points), *across)
    return torch.where(flag(bits, 0), search.inside.high, search.inside.low)


def _drawn(search: _Search, query: int, per: int) -> Tensor:
    """[k, per] random words of this query, drawn for many queries at a time."""
    _, steps, width = search.bits.shape
    if width != per or not search.drawn <= query < search.drawn + steps:
        steps = max(1, _WORDS_AT_ONCE // (len(search.index) * per))
        search.bits = words(search.step_keys, query * per, steps * per).view(-1, steps, per)
        search.drawn = query
    return search.bits[:, query - search.drawn]


def _coordinates(search: _Search, attack: Square, query: int) -> _Change:
    """Flat rows: a random set of coordinates, each to an edge of its own."""
    size = max(1, round(attack.share(query) * len(search.movable)))
    if size == 1:
        bits = _drawn(search, query, 1)
        chosen = below(bits, len(search.movable))
    else:
        every = _drawn(search, query, len(search.movable))
        # The words' order chooses, their low bits say where to: independent of each other.
        bits, chosen = every.topk(size, dim=1)
    return _at_edges(search, bits, search.movable[chosen][:, :, None])


def _squares_linf(search: _Search, attack: Square, query: int) -> _Change:
    """Images and series: one square (stretch of time), each channel to one edge."""
    height, width = _extent(search.points)
    if search.points.ndim == _IMAGE_AXES:
        side = round(math.sqrt(attack.share(query) * height * width))
        high = wide = min(max(side, 1), max(1, min(height, width) - 1))
    else:
        high, wide = 1, min(max(round(attack.share(query) * width), 1), max(1, width - 1))
    bits = _drawn(search, query, 2 + search.points.shape[1])
    return _at_edges(search, bits[:, 2:], _window(search.points, bits[:, :2], high, wide))


def _at_edges(search: _Search, bits: Tensor, cells: Tensor) -> _Change:
    """Some cells moved to the highest or lowest corner of the ball.

    A draw that says what the point already is would waste its query: then at least one group is turned.

    Args:
        search: the rows.
        bits: [k, groups] random words.
        cells: [k, groups, m] flat indices of the cells of each group.
    """
    flat, (k, groups, m) = cells.flatten(1), cells.shape
    top, bottom, now = (
        values.flatten(1).gather(1, flat).view(k, groups, m)
        for values in (search.inside.high, search.inside.low, search.points)
    )
    up = flag(bits, 0)
    same = (torch.where(up[:, :, None], top, bottom) == now).flatten(1).all(dim=1, keepdim=True)
    turned = flag(bits, 1) | (bits == bits.amax(dim=1, keepdim=True))
    up = up ^ (same & turned)
    after = torch.where(up[:, :, None], top, bottom).flatten(1)
    candidate = search.points.flatten(1).scatter(1, flat, after).view_as(search.points)
    return _Change(candidate, flat, now.flatten(1), after)


def _start_l2(search: _Search) -> Tensor:
    """Tiles of bumps, about 5 x 5 to an image, each with a sign of its own."""
    (n, channels), (height, width) = search.points.shape[:2], _extent(search.points)
    side = max(1, min(height, width) // _TILES)
    down, across = height // side, width // side
    bits = words(search.start_keys, 0, channels * down * across).view(n, channels, down, across)
    signs = _sign(bits).repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    tiles = signs * _bumps(side).to(signs.device).repeat(down, across)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    offset = torch.zeros_like(search.points)
    offset[:, :, top : top + down * side, left : left + across * side] = tiles
    return displaced(search.inside, _unit_length(offset * search.free))


def _squares_l2(search: _Search, attack: Square, query: int) -> Tensor:
    """Two squares: the second gives its part of the budget to the first, where a bump is added."""
    inside, (height, width) = search.inside, _extent(search.points)
    channels, least = search.points.shape[1], min(height, width)
    side = max(round(math.sqrt(attack.share(query) * height * width)), _SMALLEST_SQUARE_L2)
    side = min(side + 1 - side % 2, least - 1 + least % 2)
    bits = _drawn(search, query, 5 + channels)
    into, out_of = (_window(search.points, bits[:, at : at + 2], side, side) for at in (0, 2))
    offset = ((search.points - inside.centre) * search.per_unit).flatten(1)
    spare = (inside.epsilon**2 - _squared(offset, 1)).clamp_min(0) / channels
    now = offset.gather(1, into.flatten(1)).view_as(into)
    offset.scatter_(1, into.flatten(1), 0)
    # Where the squares overlap this counts nothing twice: the first is empty by now.
    given = offset.gather(1, out_of.flatten(1)).view_as(out_of)
    offset.scatter_(1, out_of.flatten(1), 0)
    budget = (spare[:, None] + _squared(now, 2) + _squared(given, 2)).sqrt()
    bumps = _turned_bumps(side, bits[:, 4]) * _sign(bits[:, 5:])[:, :, None]
    added = _unit_length(bumps + _unit_length(now, 2), 2) * budget[:, :, None]
    offset.scatter_(1, into.flatten(1), added.flatten(1))
    step = _unit_length(offset.view_as(search.points) * search.free) * (inside.unit * inside.epsilon)
    return torch.clamp(inside.centre + step, inside.low, inside.high)


def _turned_bumps(side: int, bits: Tensor) -> Tensor:
    """[k, 1, side * side] bumps, lying or standing by a bit of each row."""
    bumps = _bumps(side).to(bits.device)
    return torch.where(flag(bits, 0)[:, None], bumps.flatten(), bumps.T.flatten())[:, None]


@cache
def _bumps(side: int) -> Tensor:
    """[side, side] of length 1: a bump upwards in the upper half and one downwards in the lower half."""
    if side == 1:
        return torch.ones(1, 1)
    upper = side // 2
    both = torch.cat([_bump(upper, side), -_bump(side - upper, side)])
    return _unit_length(both, 0)


def _bump(height: int, width: int) -> Tensor:
    """[height, width] of length 1, falling from the middle as the paper's equation 2 says."""
    rise = torch.zeros(height, width)
    for ring in range(max(height, width) // 2 + 1):
        top, left = height // 2 - ring, width // 2 - ring
        reach = 2 * ring + 1
        rise[max(top, 0) : top + reach, max(left, 0) : left + reach] += 1 / (ring + 1) ** 2
    return _unit_length(rise, 0)


def _window(points: Tensor, bits: Tensor, high: int, wide: int) -> Tensor:
    """[k, C, high * wide] flat indices of a window that two random words [k, 2] place in each row."""
    height, width = _extent(points)
    corner = below(bits[:, 0], height - high + 1) * width + below(bits[:, 1], width - wide + 1)
    down, across = (torch.arange(length, device=points.device) for length in (high, wide))
    cells = (down[:, None] * width + across).flatten()
    channels = torch.arange(points.shape[1], device=points.device) * (height * width)
    return corner[:, None, None] + channels[:, None] + cells


def _extent(points: Tensor) -> tuple[int, int]:
    """Height and width of images [n, C, H, W]; 1 and length of series [n, C, T]."""
    return (points.shape[2], points.shape[3]) if points.ndim == _IMAGE_AXES else (1, points.shape[2])


def _sign(bits: Tensor) -> Tensor:
    """1 or -1 from a bit of each word."""
    return flag(bits, 0).float() * 2 - 1


def _squared(values: Tensor, first: int) -> Tensor:
    """Squared length over the axes from `first` on."""
    length: Tensor = torch.linalg.vector_norm(values, dim=tuple(range(first, values.ndim)))
    return length.square()


def _unit_length(values: Tensor, first: int = 1) -> Tensor:
    """The same directions with length 1 over the axes from `first` on; zero stays zero."""
    axes = tuple(range(first, values.ndim))
    length: Tensor = torch.linalg.vector_norm(values, dim=axes, keepdim=True)
    return values / length.clamp_min(torch.finfo(values.dtype).tiny)
