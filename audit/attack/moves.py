"""Moves: what one change of a row can be, what all changes cost, and the way back to a possible row.

Everything is batched over rows and counted from the row as it was: a move sets a feature anew, whatever an
earlier one made of it, so a move can also undo one.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.attack.constraints import Constraints, Number
from audit.model import Model

_FRACTIONS = (1.0, 0.5, 0.25, 0.125)
_STEP = -1.0
_ROUND = 1e-6
_COST_SLACK = 2e-6
_SUM_SLACK = 2 * float(torch.finfo(torch.float32).eps)
_MOST_MULTIPLES = 64
_WHOLE = 1e-6


@dataclass(frozen=True)
class Rules:
    """The constraints as tensors on the model's device, by input column.

    Attributes:
        rate: [D] cost of moving by one input unit; 0 where no number may move.
        step: [D] whole multiples of this; 0 for any distance.
        low: [D] smallest valid input.
        high: [D] largest valid input.
        sense: [D] 1 only up, -1 only down, 0 both.
        member: [D, G] 1 where a column belongs to a categorical feature that may change.
        price: [G] cost of a change of category.
        weights: [R, D] factor of each column in each relation.
        least: [R] smallest sum.
        most: [R] largest sum.
        clear: [C, D] for each change of category, 1 at the columns of its feature.
        target: [C, D] what these columns become.
        always: [C] whether every row may take it; else only one that had no category (and gets none back).
        shifts: for each number that may move alone or in a pair, see `Shifts`.
    """

    rate: Tensor
    step: Tensor
    low: Tensor
    high: Tensor
    sense: Tensor
    member: Tensor
    price: Tensor
    weights: Tensor
    least: Tensor
    most: Tensor
    clear: Tensor
    target: Tensor
    always: Tensor
    shifts: "Shifts"


@dataclass(frozen=True)
class Shifts:
    """Moves of numbers: of one, or of two that keep a relation as it was.

    Attributes:
        column: [M] the number that moves.
        partner: [M] the number that moves with it; the same column where it moves alone.
        ratio: [M] how far the partner moves for one input unit; 0 where there is none.
        quantum: [M] whole multiples of this keep the steps of both; 0 for any distance.
        sign: [M] up or down.
        fraction: [M] share of the way that is open; below 0 for one quantum.
    """

    column: Tensor
    partner: Tensor
    ratio: Tensor
    quantum: Tensor
    sign: Tensor
    fraction: Tensor


def rules(model: Model, told: Constraints) -> Rules:
    """The constraints as tensors on the model's device."""
    columns = {name: np.zeros(told.width, np.float32) for name in ("rate", "step", "low", "high", "sense")}
    for item in told.numbers:
        for name, values in columns.items():
            values[item.column] = getattr(item, name)
    member = np.zeros((told.width, len(told.groups)), np.float32)
    for index, group in enumerate(told.groups):
        member[list(group.columns), index] = 1
    clear, target, always = _categories(told)
    return Rules(
        **{name: model.tensor(values) for name, values in columns.items()},
        member=model.tensor(member),
        price=model.tensor(np.array([group.price for group in told.groups], np.float32)),
        weights=model.tensor(told.weights.astype(np.float32)),
        least=model.tensor(told.least.astype(np.float32)),
        most=model.tensor(told.most.astype(np.float32)),
        clear=model.tensor(clear),
        target=model.tensor(target),
        always=torch.from_numpy(always).to(model.device),
        shifts=_shifts(model, told),
    )


def cost(told: Rules, points: Tensor, rows: Tensor) -> Tensor:
    """[...] cost of all changes together, from points and rows [..., D] that broadcast."""
    moved = (points - rows).abs()
    changed = ((moved @ told.member) > 0).to(moved.dtype)
    total: Tensor = moved @ told.rate + changed @ told.price
    return total


def affordable(costs: Tensor, epsilon: float) -> Tensor:
    """[...] whether each cost is at most epsilon, but for rounding."""
    return costs <= epsilon * (1 + _COST_SLACK)


def keeps(told: Rules, points: Tensor) -> Tensor:
    """[...] whether points [..., D] keep every relation, but for rounding."""
    total = points @ told.weights.T
    slack = _SUM_SLACK * (points.abs() @ told.weights.abs().T)
    kept: Tensor = ((total >= told.least - slack) & (total <= told.most + slack)).all(dim=-1)
    return kept


def box(told: Rules, rows: Tensor) -> tuple[Tensor, Tensor]:
    """[n, D], [n, D] where each number of each row may go; the row itself in all other columns."""
    free = told.rate > 0
    low = torch.where(free & (told.sense <= 0), torch.minimum(told.low, rows), rows)
    high = torch.where(free & (told.sense >= 0), torch.maximum(told.high, rows), rows)
    return low, high


def whole(told: Rules, points: Tensor, rows: Tensor) -> Tensor:
    """Points [n, D] with each number at a whole step, rounded towards its row [n, D]."""
    step = torch.where(told.step > 0, told.step, 1)
    moved = points - rows
    back = rows + moved.sign() * (moved.abs() / step * (1 + _ROUND)).floor() * step
    low, high = box(told, rows)
    stepped = (told.step > 0) & (moved != 0) & (told.rate > 0)
    return torch.where(stepped, torch.clamp(back, low, high), points)


def drawn_back(told: Rules, points: Tensor, rows: Tensor) -> Tensor:
    """Points [n, D] moved straight towards their rows until every relation holds, as it does for the rows."""
    if not len(told.weights):
        return points
    at, way = rows @ told.weights.T, (points - rows) @ told.weights.T
    tiny = torch.finfo(way.dtype).tiny
    above = torch.where(way > 0, (told.most - at) / way.clamp_min(tiny), torch.inf)
    below = torch.where(way < 0, (told.least - at) / way.clamp_max(-tiny), torch.inf)
    share = torch.minimum(above, below).amin(dim=1, keepdim=True).clamp(0, 1)
    return rows + (points - rows) * share


def candidates(
    told: Rules, rows: Tensor, points: Tensor, epsilon: float, chosen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Single moves from each point: a category, a number by part of the open way, or a pair of numbers.

    Args:
        told: what is allowed.
        rows: [n, D] the rows as they were.
        points: [n, B, D] where the search stands.
        epsilon: largest cost of all changes together.
        chosen: [n, B, m] numbers of the moves to make, below `width`; all of them when not given.

    Returns:
        [n, B * m, D] points, and [n, B * m] whether each is possible and within epsilon.
    """
    if chosen is None:
        every = torch.arange(width(told), device=rows.device)
        chosen = every.expand(*points.shape[:2], -1)
    found = points[:, :, None].expand(-1, -1, chosen.shape[2], -1).clone()
    fine = torch.ones_like(chosen, dtype=torch.bool)
    categories = len(told.clear)
    if categories:
        _change_categories(told, rows, chosen, found, fine)
    if len(told.shifts.column):
        _move_numbers(told, rows, chosen - categories, _lengths(told, rows, points, epsilon), found)
    found, fine = found.flatten(1, 2), fine.flatten(1)
    fine &= affordable(cost(told, found, rows[:, None]), epsilon) & keeps(told, found)
    return found, fine


def promise(told: Rules, rows: Tensor, points: Tensor, slope: Tensor, epsilon: float) -> Tensor:
    """[n, B, M] how much each single move would raise what has this gradient, were it a straight line.

    Args:
        told: what is allowed.
        rows: [n, D] the rows as they were.
        points: [n, B, D] where the search stands.
        slope: [n, B, D] gradient there.
        epsilon: largest cost of all changes together.
    """
    moves = told.shifts
    category = slope @ told.target.T - (slope * points) @ told.clear.T
    length, start = _lengths(told, rows, points, epsilon), rows[:, None]
    first = (start - points)[..., moves.column] + length
    second = (start - points)[..., moves.partner] + moves.ratio * length
    number = slope[..., moves.column] * first
    number = number + torch.where(moves.ratio != 0, slope[..., moves.partner] * second, 0)
    return torch.cat([category, number], dim=2)


def width(told: Rules) -> int:
    """How many single moves there are from one point."""
    return len(told.clear) + len(told.shifts.column)


def _change_categories(told: Rules, rows: Tensor, chosen: Tensor, found: Tensor, fine: Tensor) -> None:
    """Make the moves that change a category; not possible where the row may not take it or has it."""
    index = chosen.clamp(max=len(told.clear) - 1)
    mine = chosen < len(told.clear)
    changed = found * (1 - told.clear[index]) + told.target[index]
    had_none = ((rows[:, None] * told.clear).sum(dim=-1) == 0)[:, None].expand(-1, chosen.shape[1], -1)
    allowed = (told.always[index] | had_none.gather(2, index)) & (changed != found).any(dim=-1)
    found.copy_(torch.where(mine[..., None], changed, found))
    fine &= allowed | ~mine


def _move_numbers(told: Rules, rows: Tensor, chosen: Tensor, lengths: Tensor, found: Tensor) -> None:
    """Make the moves that set one number, or two, anew."""
    moves = told.shifts
    index, mine = chosen.clamp(min=0), chosen >= 0
    one, two = moves.column[index], moves.partner[index]
    length = lengths.gather(2, index)
    low, high = (bound[:, None, None].expand_as(found) for bound in box(told, rows))
    start = rows[:, None, None].expand_as(found)
    for column, ratio in ((two, moves.ratio[index]), (one, torch.ones_like(length))):
        place = column[..., None]
        value = start.gather(3, place) + (ratio * length)[..., None]
        value = torch.clamp(value, low.gather(3, place), high.gather(3, place))
        alone = (column == one) & (ratio == 0)
        kept = found.gather(3, place)
        found.scatter_(3, place, torch.where((mine & ~alone)[..., None], value, kept))


def _lengths(told: Rules, rows: Tensor, points: Tensor, epsilon: float) -> Tensor:
    """[n, B, M] how far, and which way, each move of numbers goes from its row."""
    moves = told.shifts
    one, two = moves.column, moves.partner
    start = rows[:, None]
    spent = cost(told, points, start)[..., None]
    own = told.rate[one] * (points - start)[..., one].abs()
    other = told.rate[two] * (points - start)[..., two].abs()
    own = own + torch.where(moves.ratio != 0, other, 0)
    rate = told.rate[one] + told.rate[two] * moves.ratio.abs()
    way = ((epsilon - spent + own).clamp_min(0) / rate).clamp_max(_room(told, rows)[:, None])
    exact = torch.where(moves.quantum > 0, moves.quantum, 1)
    length = torch.where(moves.fraction >= 0, way * moves.fraction, torch.minimum(way, exact))
    stepped = (length / exact * (1 + _ROUND)).floor() * exact
    return torch.where(moves.quantum > 0, stepped, length) * moves.sign


def _room(told: Rules, rows: Tensor) -> Tensor:
    """[n, M] how far each number can go before it, or its partner, leaves its box."""
    moves = told.shifts
    low, high = box(told, rows)
    up, down = high - rows, rows - low
    own = torch.where(moves.sign > 0, up[:, moves.column], down[:, moves.column])
    risen = moves.sign * moves.ratio
    other = torch.where(risen > 0, up[:, moves.partner], down[:, moves.partner])
    other = other / torch.where(moves.ratio != 0, moves.ratio.abs(), 1)
    return torch.where(moves.ratio != 0, torch.minimum(own, other), own)


def _categories(told: Constraints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[C, D], [C, D], [C]: every category of every group, and none of them."""
    clear: list[np.ndarray] = []
    target: list[np.ndarray] = []
    always: list[bool] = []
    for group in told.groups:
        mask = np.zeros(told.width, np.float32)
        mask[list(group.columns)] = 1
        for column in (*group.columns, None):
            value = np.zeros(told.width, np.float32)
            if column is not None:
                value[column] = 1
            clear.append(mask)
            target.append(value)
            always.append(column is not None or group.zeros)
    blank = np.zeros((0, told.width), np.float32)
    return (
        np.stack(clear) if clear else blank,
        np.stack(target) if target else blank,
        np.array(always, bool),
    )


def _shifts(model: Model, told: Constraints) -> Shifts:
    lines = [
        (number.column, partner, ratio, quantum, sign, fraction)
        for number in told.numbers
        for partner, ratio, quantum in ((number.column, 0.0, number.step), *_partners(told, number))
        for sign in (1.0, -1.0)
        if number.sense * sign >= 0
        for fraction in (*_FRACTIONS, *([_STEP] if quantum else []))
    ]
    lines += [(number.column, number.column, 0.0, 0.0, 1.0, 0.0) for number in told.numbers]
    table = np.array(lines, dtype=np.float64).reshape(-1, 6)
    place, values = table[:, :2].astype(np.int64), model.tensor(table[:, 2:].astype(np.float32))
    column, partner = torch.from_numpy(place).to(model.device).unbind(dim=1)
    return Shifts(column, partner, *values.unbind(dim=1))


def _partners(told: Constraints, number: Number) -> list[tuple[int, float, float]]:
    """(column, ratio, quantum) of each number that can make up for this one in some relation."""
    found = []
    for weights in told.weights:
        if weights[number.column] == 0:
            continue
        for other in told.numbers:
            if other.column == number.column or weights[other.column] == 0:
                continue
            ratio = -weights[number.column] / weights[other.column]
            quantum = _common(number.step, other.step, abs(ratio))
            if quantum is not None:
                found.append((other.column, float(ratio), quantum))
    return found


def _common(own: float, others: float, ratio: float) -> float | None:
    """The least move in whole own steps whose `ratio`-fold is in whole steps of the other; None for none."""
    if not others:
        return own
    if not own:
        return others / ratio
    for times in range(1, _MOST_MULTIPLES + 1):
        steps = times * own * ratio / others
        if math.isclose(steps, round(steps), rel_tol=_WHOLE) and round(steps):
            return times * own
    return None
