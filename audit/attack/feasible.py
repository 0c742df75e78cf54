"""An attack on rows of a table that makes possible persons alone, at a cost of at most epsilon.

Three phases, fooled rows leave after each: a beam search over single changes (every category, parts of the
way that each number has open), projected gradient steps over all numbers at once with repair (after CAPGD,
Simonetto et al., 2024, arXiv:2406.00775), and for the rows that fell a way back: changes that are not
needed are undone and the others shortened. The last phase is what makes a cost small; it never makes a row
fall or stand. Nothing found here counts before `audit.attack.possible` has judged it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from audit.attack.constraints import Constraints
from audit.attack.loss import margin, wrong
from audit.attack.moves import (
    Rules,
    affordable,
    box,
    candidates,
    cost,
    drawn_back,
    keeps,
    promise,
    rules,
    whole,
    width,
)
from audit.attack.norm import Ball, direction, rising, within
from audit.attack.possible import ACCEPTED, REASONS, judged
from audit.attack.result import AtEpsilon, AttackResult, Flags
from audit.dataset import Dataset, Floats, Ints
from audit.model import Model

_VALUES_AT_ONCE = 2**22
_HALVINGS = 16
_MOST_CHANGED = 32
_GAIN = 1e-6
_FIRM = 1e-5
_SAME = 1e-6
_FIRST_STEP = 1.0
_LAST_STEP = 0.05


@dataclass(frozen=True, kw_only=True)
class Search:
    """How hard to search.

    Attributes:
        beam: how many points are kept for each row between two changes.
        changes: how many changes are tried one on top of the other.
        candidates: how many single changes are tried from each point; where there are more, those with the
            steepest gradient, or without gradients another part of them in each round.
        steps: gradient steps; 0 for none.
    """

    beam: int = 3
    changes: int = 4
    candidates: int = 256
    steps: int = 20


@dataclass(frozen=True)
class Aim:
    """What is attacked and by which rules.

    Attributes:
        model: the network.
        told: the constraints as tensors.
        search: how hard to search.
        loose: [D] how far one unit of cost moves each number in the gradient phase; 0 where it stays.
    """

    model: Model
    told: Rules
    search: Search
    loose: Tensor

    @property
    def gradients(self) -> bool:
        """Whether the model gives gradients."""
        return "gradients" in self.model.capabilities


def feasible(
    model: Model,
    data: Dataset,
    told: Constraints,
    rows: Ints,
    correct: Flags,
    epsilons: Sequence[float],
    search: Search,
    *,
    protected: Sequence[str] = (),
    fallen: AttackResult | None = None,
) -> AttackResult:
    """The attack at each cost, walked upwards: a row broken at a cost stays broken at the larger ones.

    Args:
        model: the network.
        data: the rows, tabular.
        told: what may change; made with the same `protected`.
        rows: [R] the data set rows that are looked at.
        correct: [R] classified correctly without an attack; only these are attacked.
        epsilons: largest costs, each at least 0.
        search: how hard to search.
        protected: names of features that are held besides the immutable ones.
        fallen: an attack on the same rows and costs under stricter rules; the rows it broke count as broken.
    """
    passes = model.passes
    forward, backward = passes.forward, passes.backward
    aim = _aim(model, told, search)
    broken = np.zeros(len(rows), dtype=np.bool_)
    found = []
    for epsilon in sorted({float(value) for value in epsilons}):
        if fallen is not None:
            broken = broken | fallen.at_epsilon(epsilon).fooled
        found.append(_at_cost(aim, data, rows, correct, broken, epsilon, protected))
        broken = found[-1].fooled
    return AttackResult(
        method="feasible",
        rows=rows,
        correct=correct,
        at=tuple(found),
        walked=True,
        settings={"protected": list(protected), **asdict(search)},
        forward_rows=passes.forward - forward,
        backward_rows=passes.backward - backward,
    )


def _aim(model: Model, told: Constraints, search: Search) -> Aim:
    limits = rules(model, told)
    tied = (limits.weights[limits.least == limits.most] != 0).any(dim=0)
    loose = torch.where((limits.rate > 0) & ~tied, 1 / limits.rate.clamp_min(torch.finfo().tiny), 0)
    return Aim(model, limits, search, loose)


def _at_cost(
    aim: Aim,
    data: Dataset,
    rows: Ints,
    correct: Flags,
    broken: Flags,
    epsilon: float,
    protected: Sequence[str],
) -> AtEpsilon:
    """One cost: search, judge, count."""
    positions = np.flatnonzero(correct & ~broken)
    points, claimed = _searched(aim, data, rows[positions], epsilon)
    codes = np.full(len(positions), -1, dtype=np.int8)
    codes[claimed] = judged(aim.model, data, rows[positions[claimed]], points[claimed], epsilon, protected)
    fooled = broken.copy()
    fooled[positions[codes == ACCEPTED]] = True
    nothing = np.zeros(len(rows), dtype=np.bool_)
    return AtEpsilon(
        epsilon=epsilon,
        fooled=fooled,
        zero=nothing,
        nan=nothing,
        late=0,
        rejected={reason: int((codes == code).sum()) for code, reason in REASONS.items()},
        kept=positions[codes == ACCEPTED],
        examples=points[codes == ACCEPTED],
    )


def _searched(aim: Aim, data: Dataset, rows: Ints, epsilon: float) -> tuple[Floats, Flags]:
    """[n, D] a point for each row, and [n] whether it is claimed to fool the model."""
    moves = min(width(aim.told), aim.search.candidates)
    wide = max(aim.search.beam * moves, data.inputs.shape[1]) * data.inputs.shape[1]
    chunk = max(1, _VALUES_AT_ONCE // wide)
    points, claimed = [np.empty((0, data.inputs.shape[1]), np.float32)], [np.empty(0, dtype=np.bool_)]
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        labels = torch.from_numpy(data.labels[part]).to(aim.model.device)
        best, fooled = _attacked(aim, aim.model.tensor(data.inputs[part]), labels, epsilon)
        points.append(best.cpu().numpy())
        claimed.append(fooled.cpu().numpy())
    return np.concatenate(points), np.concatenate(claimed)


def _attacked(aim: Aim, rows: Tensor, labels: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """[n, D] a point for each row, and [n] whether it fools the model."""
    if epsilon == 0:
        return rows, asked(aim.model, rows, labels)[1]
    best, fooled, beams = beam(aim, rows, labels, epsilon)
    left = (~fooled).nonzero().squeeze(1)
    if len(left) and aim.search.steps and aim.gradients and (aim.loose > 0).any():
        starts = torch.cat([rows[left, None], beams[left]], dim=1)
        more, fell = descend(aim, rows[left], labels[left], starts, epsilon)
        best[left[fell]] = more[fell]
        fooled[left[fell]] = True
    down = fooled.nonzero().squeeze(1)
    if len(down):
        best[down] = cheaper(aim, rows[down], labels[down], best[down])
    return best, fooled


def asked(model: Model, points: Tensor, labels: Tensor, *, firmly: bool = False) -> tuple[Tensor, Tensor]:
    """[n] margin of the best wrong class over the true one, minus infinity where undefined; [n] fooled.

    Args:
        model: the network; it is asked in batches.
        points: [n, D] on its device.
        labels: [n] true classes.
        firmly: count as fooled only what leads by more than rounding, so that it holds in another batch too.
    """

    def work(part: slice) -> tuple[Tensor, ...]:
        with torch.no_grad():
            scores = scores_of(model, points[part])
        lead = torch.nan_to_num(margin(scores, labels[part]), nan=-torch.inf)
        least = _FIRM * scores.abs().amax(dim=1) if firmly else -torch.inf
        return lead, wrong(scores, labels[part]) & (lead > least)

    if not len(points):
        return labels.new_zeros(0, dtype=torch.float32), labels.new_zeros(0, dtype=torch.bool)
    lead, fooled = model.in_batches(work, len(points))
    return lead, fooled


def scores_of(model: Model, points: Tensor) -> Tensor:
    """[n, C] scores in single precision; the network gets a copy, since it may write into its input."""
    return model.scores(points.clone()).float()


def beam(aim: Aim, rows: Tensor, labels: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Changes one on top of the other; of those that fool a row the cheapest counts.

    Args:
        aim: what is attacked.
        rows: [n, D] the rows.
        labels: [n] true classes.
        epsilon: largest cost.

    Returns:
        [n, D] points, [n] whether they fool the model, and [n, beam, D] where the search stood at last.
    """
    best, fooled = rows.clone(), torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    beams = rows[:, None].repeat(1, aim.search.beam, 1)
    active = torch.arange(len(rows), device=rows.device)
    reached = asked(aim.model, rows, labels)[0]
    points = rows[:, None]
    for turn in range(aim.search.changes):
        chosen = _chosen(aim, rows[active], labels[active], points, epsilon, turn)
        found, fine = candidates(aim.told, rows[active], points, epsilon, chosen)
        lead, fell = _spread(aim, found, fine, labels[active])
        price = cost(aim.told, found, rows[active, None])
        cheapest = torch.where(fell, price, torch.inf).min(dim=1)
        down = cheapest.values.isfinite()
        best[active[down]] = found[down, cheapest.indices[down]]
        fooled[active[down]] = True
        points = _kept(aim, found, lead, price, reached[active], rows[active])
        beams[active] = points
        top = lead.amax(dim=1)
        more_to_try = chosen is not None and not aim.gradients
        going = ~down & ((top > reached[active] + _GAIN) | more_to_try)
        reached[active] = torch.maximum(top, reached[active])
        active, points = active[going], points[going]
        if not len(active):
            break
    return best, fooled, beams


def _chosen(
    aim: Aim, rows: Tensor, labels: Tensor, points: Tensor, epsilon: float, turn: int
) -> Tensor | None:
    """[n, B, m] the single moves to try from each point; None for all, where they are few enough."""
    every, most = width(aim.told), aim.search.candidates
    if every <= most:
        return None
    if not aim.gradients:
        spread = torch.arange(most, device=rows.device) * every // most
        return ((spread + turn) % every).expand(*points.shape[:2], -1)
    slope = _slope(aim, points.flatten(0, 1), labels.repeat_interleave(points.shape[1]))[0]
    return promise(aim.told, rows, points, slope.view_as(points), epsilon).topk(most, dim=2).indices


def _slope(aim: Aim, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[n, D] gradient of the margin, 0 where it is no number; [n] margin; [n] fooled."""

    def work(part: slice) -> tuple[Tensor, ...]:
        gradient, scores = aim.model.input_gradient(points[part], partial(margin, labels=labels[part]))
        scores = scores.float()
        usable = torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        return usable, margin(scores, labels[part]), wrong(scores, labels[part])

    gradient, lead, fooled = aim.model.in_batches(work, len(points))
    return gradient, lead, fooled


def _spread(
    aim: Aim, found: Tensor, fine: Tensor, labels: Tensor, *, firmly: bool = False
) -> tuple[Tensor, Tensor]:
    """[n, K] margins, minus infinity where a candidate is not possible, and [n, K] fooled."""
    lead = torch.full(fine.shape, -torch.inf, device=fine.device)
    fell = torch.zeros_like(fine)
    wanted = labels[:, None].expand_as(fine)[fine]
    lead[fine], fell[fine] = asked(aim.model, found[fine], wanted, firmly=firmly)
    return lead, fell


def _kept(aim: Aim, found: Tensor, lead: Tensor, price: Tensor, before: Tensor, rows: Tensor) -> Tensor:
    """[n, beam, D] the candidates to go on from: half by margin, half by what they gain for their cost.

    Where there are too few possible ones the row itself stands in.
    """
    gain = (lead - before[:, None]) / price.clamp_min(torch.finfo(price.dtype).tiny)
    gain = torch.where(price > 0, gain, -torch.inf)
    half = -(-aim.search.beam // 2)
    chosen = _distinct(found, lead, half)
    if aim.search.beam > half:
        chosen = torch.cat([chosen, _distinct(found, gain, aim.search.beam - half)], dim=1)
    kept = found.gather(1, chosen[..., None].expand(-1, -1, found.shape[2]))
    return torch.where(lead.gather(1, chosen).isfinite()[..., None], kept, rows[:, None])


def _distinct(found: Tensor, value: Tensor, count: int) -> Tensor:
    """[n, count] the best candidates by value; of two with one margin and value the first alone."""
    best = value.topk(min(4 * count, value.shape[1]), dim=1)
    same = (best.values[:, :, None] - best.values[:, None, :]).abs() <= _SAME
    points = found.gather(1, best.indices[..., None].expand(-1, -1, found.shape[2]))
    same &= ((points[:, :, None] - points[:, None, :]).abs() <= _SAME).all(dim=-1)
    again = same.tril(diagonal=-1).any(dim=2)
    order = again.to(torch.uint8).sort(dim=1, stable=True).indices[:, :count]
    chosen = best.indices.gather(1, order)
    return chosen if chosen.shape[1] == count else chosen[:, :1].repeat(1, count)


def descend(aim: Aim, rows: Tensor, labels: Tensor, starts: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Projected gradient steps over all numbers at once, from several starts; categories stay as they start.

    The cost that categories leave is the radius of a weighted l1 ball. The model is asked at the repaired
    point (relations kept, whole steps, both towards the row) and its gradient there moves the free one.
    Numbers in a relation that is an equation stay: only pairs of moves keep it.

    Args:
        aim: what is attacked.
        rows: [n, D] the rows.
        labels: [n] true classes.
        starts: [n, S, D] possible points within epsilon.
        epsilon: largest cost.

    Returns:
        [n, D] the cheapest point found, and [n] whether it fools the model.
    """
    owner = torch.arange(len(rows), device=rows.device).repeat_interleave(starts.shape[1])
    best, least = rows.clone(), torch.full((len(rows),), torch.inf, device=rows.device)
    inside, radius = _around(aim, rows[owner], starts.flatten(0, 1), epsilon)
    free = starts.flatten(0, 1)
    for step in range(aim.search.steps):
        points = whole(aim.told, drawn_back(aim.told, free, inside.centre), inside.centre)
        slope, _, fell = _slope(aim, points, labels[owner])
        price = cost(aim.told, points, rows[owner])
        fell &= keeps(aim.told, points) & affordable(price, epsilon)
        _cheapest(best, least, owner[fell], points[fell], price[fell])
        going = least[owner].isinf()
        if not going.any():
            break
        owner, radius, inside = owner[going], radius[going], inside.take(going)
        slope = rising(inside, free[going], slope[going])
        way = direction("l2", slope, aim.loose) * _length(aim, step) * radius[:, None]
        free = within(inside, free[going] + way, radius)
    return best, least.isfinite()


def _length(aim: Aim, step: int) -> float:
    """Share of the radius that a step goes: falling evenly from all of it to a twentieth."""
    along = step / max(1, aim.search.steps - 1)
    return _FIRST_STEP + (_LAST_STEP - _FIRST_STEP) * along


def _around(aim: Aim, rows: Tensor, starts: Tensor, epsilon: float) -> tuple[Ball, Tensor]:
    """The ball of the numbers around each row with the categories of its start, and the radius left [m]."""
    held = aim.loose == 0
    centre = torch.where(held, starts, rows)
    radius = (epsilon - cost(aim.told, centre, rows)).clamp_min(0)
    low, high = box(aim.told, rows)
    low, high = torch.where(held, starts, low), torch.where(held, starts, high)
    return Ball("l1", epsilon, centre, aim.loose, low, high), radius


def _cheapest(best: Tensor, least: Tensor, owner: Tensor, points: Tensor, price: Tensor) -> None:
    """Put into `best` the cheapest of the points that fooled each row, and its cost into `least`."""
    lowest = least.scatter_reduce(0, owner, price, "amin")
    wins = (price == lowest[owner]) & (price < least[owner])
    best[owner[wins]] = points[wins]
    least.copy_(lowest)


def cheaper(aim: Aim, rows: Tensor, labels: Tensor, points: Tensor) -> Tensor:
    """[n, D] points that still fool the model, with changes undone or shortened where that is possible.

    Where more than 32 features changed they are shortened together and not looked at one by one.

    Args:
        aim: what is attacked.
        rows: [n, D] the rows.
        labels: [n] true classes.
        points: [n, D] possible points that fool the model.
    """
    numbers = aim.told.rate > 0
    points = points.clone()
    few = ((points != rows).sum(dim=1) <= _MOST_CHANGED).nonzero().squeeze(1)
    points[few] = _undone(aim, rows[few], labels[few], points[few])
    points = _shortened(aim, rows, labels, points, numbers)
    for column in ((points[few] != rows[few]) & numbers).any(dim=0).nonzero().flatten().tolist():
        mine = few[points[few, column] != rows[few, column]]
        alone = torch.zeros_like(numbers)
        alone[column] = True
        points[mine] = _shortened(aim, rows[mine], labels[mine], points[mine], alone)
    return points


def _undone(aim: Aim, rows: Tensor, labels: Tensor, points: Tensor) -> Tensor:
    """One feature after the other back to what it was, the dearest that is not needed first."""
    points = points.clone()
    parts = _parts(aim.told)
    active = torch.arange(len(rows), device=rows.device)
    while len(active):
        start, here = rows[active, None], points[active, None]
        back = torch.where(parts, start, here)
        fine = (back != here).any(dim=2) & keeps(aim.told, back)
        _, fell = _spread(aim, back, fine, labels[active], firmly=True)
        price = torch.where(fell, cost(aim.told, back, start), torch.inf).min(dim=1)
        undone = price.values.isfinite()
        active = active[undone]
        points[active] = back[undone, price.indices[undone]]
    return points


def _parts(told: Rules) -> Tensor:
    """[F, D] the columns of each feature that may change."""
    numbers = torch.diag(told.rate > 0)[told.rate > 0]
    return torch.cat([numbers, told.member.T > 0])


def _shortened(aim: Aim, rows: Tensor, labels: Tensor, points: Tensor, columns: Tensor) -> Tensor:
    """The shortest share of the moves in `columns` [D] that still fools, by halving; whole steps are kept."""
    low = torch.zeros(len(rows), 1, device=rows.device)
    high = torch.ones_like(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        part = torch.where(columns, rows + (points - rows) * middle, points)
        part = whole(aim.told, part, rows)
        fell = asked(aim.model, part, labels, firmly=True)[1] & keeps(aim.told, part)
        fell &= cost(aim.told, part, rows) <= cost(aim.told, points, rows)
        high = torch.where(fell[:, None], middle, high)
        low = torch.where(fell[:, None], low, middle)
    part = whole(aim.told, torch.where(columns, rows + (points - rows) * high, points), rows)
    return torch.where(high < 1, part, points)
