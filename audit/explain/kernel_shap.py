"""KernelSHAP for many rows at once: one paired design of coalitions, one set of passes, one solve.

A coalition keeps some features of a row and takes the others from background rows. The Shapley values are
the weighted least-squares fit of an additive game to the coalitions' values, under the constraint that they
add up to f(x) minus the background's mean. Sources: Lundberg and Lee 2017 (the kernel); Covert and Lee 2021
(paired sampling, the constrained solution and standard errors from the same passes).
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.dataset import Ints
from audit.explain.attribution import Doubles
from audit.explain.quantity import Output, quantity
from audit.model import Model

Bools = npt.NDArray[np.bool_]
COMPLETE = -1
_DRAWS_A_PAIR = 4
_PAIRS_A_GROUP = 2


@dataclass(frozen=True)
class Design:
    """Coalitions shared by all rows.

    Attributes:
        masks: [S, M] which features a coalition keeps; never none, never all.
        weights: [S] Shapley kernel weight; a sampled coalition stands for others of its size.
        group: [S] sub-design of a sampled coalition, `COMPLETE` where its size was enumerated.
        groups: number of sub-designs; 0 when every coalition was enumerated.
    """

    masks: Bools
    weights: Doubles
    group: Ints
    groups: int = 0


@dataclass(frozen=True)
class ShapleyValues:
    """Shapley values [N, M] and their standard errors [N, M]: zero for a complete design."""

    values: Doubles
    standard_error: Doubles


def least_samples(features: int) -> int:
    """The smallest budget that is used: all coalitions of one and of all but one, and as many again."""
    return min(4 * features, (1 << features) - 2)


def make_design(features: int, samples: int, seed: int, groups: int = 8) -> Design:
    """Coalitions for `features` within a budget of `samples` (at least `least_samples`).

    All 2^M - 2 of them when they fit. Else whole sizes from the outside in, as long as a size gets at least
    as many of the budget as it has coalitions; the rest of the budget goes to pairs of a coalition and its
    complement, drawn by the kernel's weight.
    """
    budget = max(samples, least_samples(features))
    if 2**features - 2 <= budget:
        masks, weights = _sizes_in_full(features, range(1, features // 2 + 1))
        return Design(masks, weights, np.full(len(masks), COMPLETE, dtype=np.int64))
    sizes = _affordable_sizes(features, budget)
    masks, weights = _sizes_in_full(features, range(1, sizes + 1))
    drawn, counts = _drawn_pairs(features, sizes, (budget - len(masks)) // 2, seed)
    mass = 2 * sum(_size_weight(features, size) for size in range(sizes + 1, (features - 1) // 2 + 1))
    mass += _size_weight(features, features // 2) if features % 2 == 0 else 0
    half = mass * counts / counts.sum() / 2
    count = max(1, min(groups, len(drawn) // _PAIRS_A_GROUP))
    group = np.arange(len(drawn), dtype=np.int64) % count
    return Design(
        np.concatenate([masks, drawn, ~drawn]),
        np.concatenate([weights, half, half]),
        np.concatenate([np.full(len(masks), COMPLETE, dtype=np.int64), group, group]),
        count,
    )


def _size_weight(features: int, size: int) -> float:
    """Kernel weight of all coalitions of a size together."""
    return (features - 1) / (size * (features - size))


def _coalitions_of_pair(features: int, size: int) -> int:
    """How many coalitions have `size` or `features - size` members."""
    return math.comb(features, size) * (1 if 2 * size == features else 2)


def _affordable_sizes(features: int, budget: int) -> int:
    """The largest size that is enumerated, together with its complement; at least 1."""
    half = features // 2
    shares = [_size_weight(features, s) * (1 if 2 * s == features else 2) for s in range(1, half + 1)]
    left = budget - 2 * features
    for size in range(2, half + 1):
        count = _coalitions_of_pair(features, size)
        if left * shares[size - 1] / sum(shares[size - 1 :]) < count or left - count < _PAIRS_A_GROUP * 2:
            return size - 1
        left -= count
    return half - 1


def _sizes_in_full(features: int, sizes: range) -> tuple[Bools, Doubles]:
    """Every coalition of the given sizes and of their complements, with kernel weights."""
    parts, weights = [np.zeros((0, features), dtype=bool)], [np.zeros(0)]
    for size in sizes:
        chosen = np.array(list(combinations(range(features), size)))
        masks = np.zeros((len(chosen), features), dtype=bool)
        masks[np.arange(len(chosen))[:, None], chosen] = True
        both = masks if 2 * size == features else np.concatenate([masks, ~masks])
        parts.append(both)
        weights.append(np.full(len(both), _size_weight(features, size) / len(chosen)))
    return np.concatenate(parts), np.concatenate(weights)


def _drawn_pairs(features: int, above: int, pairs: int, seed: int) -> tuple[Bools, Doubles]:
    """Up to `pairs` coalitions of sizes beyond `above`, one of each pair, and how often each was drawn.

    Draws stop when one more distinct pair would be needed, so that counts stay proportional to the weights.
    """
    random = np.random.default_rng(seed)
    sizes = np.arange(above + 1, features - above)
    chance = np.array([_size_weight(features, int(size)) for size in sizes])
    draws = _DRAWS_A_PAIR * pairs
    size = random.choice(sizes, size=draws, p=chance / chance.sum())
    rank = random.random((draws, features)).argsort(axis=1).argsort(axis=1)
    masks = rank < size[:, None]
    masks ^= ~masks[:, :1]
    _, first, which = np.unique(np.packbits(masks, axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    stop = first[order[pairs]] if len(order) > pairs else draws
    kept = order[:pairs]
    counts = np.bincount(which.reshape(-1)[:stop], minlength=len(first))[kept]
    return masks[first[kept]], counts.astype(np.float64)


def coalition_values(
    model: Model,
    rows: Tensor,
    classes: Tensor,
    background: Tensor,
    owner: Tensor,
    masks: Bools,
    output: Output = "log_odds",
) -> Doubles:
    """[N, S] mean over the background of the explained number, for each row and coalition.

    Costs N * S * B rows forward. No more than a batch of them is held at once.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        background: [B, ...] rows that replace what a coalition leaves out.
        owner: feature of each input element, broadcastable to a row.
        masks: [S, M] what each coalition keeps.
        output: which number is explained.
    """
    count = len(masks)
    if not count:
        return np.zeros((len(rows), 0))
    kept = torch.from_numpy(masks).to(rows.device)[:, owner]

    def work(part: slice) -> tuple[Tensor]:
        pair = torch.arange(part.start, part.stop, device=rows.device)
        row = pair // count
        own, keep, wanted = rows[row], kept[pair % count], classes[row]
        total = own.new_zeros(len(pair))
        for other in torch.split(background, max(1, model.passes.batch // len(pair))):
            mixed = torch.where(keep[None], own[None], other[:, None])
            found = quantity(model.scores(mixed.flatten(0, 1)), wanted.repeat(len(other)), output)
            total += found.view(len(other), -1).sum(dim=0)
        return (total / len(background),)

    with torch.no_grad():
        (values,) = model.in_batches(work, len(rows) * count, rows_each=len(background))
    found: Doubles = values.view(len(rows), count).cpu().double().numpy()
    return found


def shapley_values(design: Design, values: Doubles, base: Doubles, fx: Doubles) -> ShapleyValues:
    """Solve for all rows at once, and for each sub-design to get standard errors.

    Args:
        design: the coalitions.
        values: [N, S] value of each coalition.
        base: [N] value of the empty coalition.
        fx: [N] value of the full one.
    """
    difference = fx - base
    if design.masks.shape[1] == 1:
        return ShapleyValues(difference[:, None], np.zeros((len(fx), 1)))
    gains = values - base[:, None]
    gram, moment = _sums(design, gains, COMPLETE)
    drawn = [_sums(design, gains, group) for group in range(design.groups)]
    whole = _solve(gram + sum(g for g, _ in drawn), moment + sum(m for _, m in drawn), difference)
    if design.groups < 2:  # noqa: PLR2004 - one sub-design has no spread
        return ShapleyValues(whole, np.full_like(whole, np.nan if design.groups else 0.0))
    mass = np.array([design.weights[design.group == group].sum() for group in range(design.groups)])
    parts = [
        _solve(gram + scale * g, moment + scale * m, difference)
        for scale, (g, m) in zip(mass.sum() / mass, drawn, strict=True)
    ]
    spread = np.std(np.stack(parts), axis=0, ddof=1)
    return ShapleyValues(whole, spread / math.sqrt(design.groups))


def _sums(design: Design, gains: Doubles, group: int) -> tuple[Doubles, Doubles]:
    """[M, M] and [N, M] sums over the coalitions of a sub-design that the least squares need."""
    inside = design.group == group
    z = design.masks[inside].astype(np.float64)
    weighted = z * design.weights[inside, None]
    return z.T @ weighted, gains[:, inside] @ weighted


def _solve(gram: Doubles, moment: Doubles, difference: Doubles) -> Doubles:
    """[N, M] weighted least squares with a given sum, by the Lagrangian (Covert and Lee, equation 7)."""
    free = np.linalg.solve(gram, np.concatenate([moment, np.ones((1, len(gram)))]).T).T
    fitted, ones = free[:-1], free[-1]
    excess = fitted.sum(axis=1) - difference
    result: Doubles = fitted - excess[:, None] * ones / ones.sum()
    return result
