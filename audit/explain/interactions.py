"""Which features work together: Friedman and Popescu's H for pairs, in the unit of the answer.

The interaction of a pair at a row is what the partial dependence on both has beyond the sum of the two
partial dependences, all centred: 0 everywhere for an answer that is a sum over features, for any rows and
any background. Sources: Friedman and Popescu 2008 (H); Jansen 1999 (the total effect that picks which
features are paired, so that a feature that acts in a pair alone is not overlooked); Inglis, Parnell and
Hurley 2022 (the unnormalised H, because the ratio is large where both features do next to nothing).
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from audit.explain.attribution import Doubles
from audit.explain.partial import answers
from audit.explain.quantity import Output
from audit.model import Model

Sets = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Pairs:
    """Interactions of pairs of features at n rows.

    Attributes:
        pairs: [P] the two features of each pair.
        joint: [P, n] what the pair does beyond the sum of its parts at each row, centred over rows.
        both: [P, n] the centred partial dependence on the pair.
    """

    pairs: tuple[tuple[int, int], ...]
    joint: Doubles
    both: Doubles

    def h_squared(self) -> Doubles:
        """[P] share of the pair's variance that is interaction; not a number where the pair does nothing."""
        total = (self.both**2).sum(axis=1)
        found: Doubles = np.divide(
            (self.joint**2).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0
        )
        return found


def dependence(
    model: Model,
    rows: Tensor,
    background: Tensor,
    owner: Tensor,
    sets: Sets,
    chosen: int,
    output: Output,
) -> Doubles:
    """[sets, n] partial dependence on each set of features at each row: the mean over the background.

    Costs sets * n * B rows forward.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        background: [B, ...] rows that the other features come from.
        owner: feature of each input element, of the shape of a row.
        sets: features whose values are the row's own.
        chosen: the class explained.
        output: which number is explained.
    """
    count, others = len(rows), len(background)
    members = torch.zeros(len(sets), int(owner.max()) + 1, dtype=torch.bool, device=rows.device)
    for index, features in enumerate(sets):
        members[index, list(features)] = True
    own = members[:, owner]

    def work(part: slice) -> tuple[Tensor]:
        index = torch.arange(part.start, part.stop, device=rows.device)
        mask, row = own[index // count], rows[index % count]
        total = row.new_zeros(len(index))
        for other in torch.split(background, max(1, model.passes.batch // len(index))):
            mixed = torch.where(mask[None], row[None], other[:, None])
            found = answers(model, mixed.flatten(0, 1), chosen, output)
            total += found.view(len(other), -1).sum(dim=0)
        return (total / others,)

    with torch.no_grad():
        (values,) = model.in_batches(work, len(sets) * count, rows_each=others)
    found: Doubles = values.view(len(sets), count).cpu().double().numpy()
    return found


def total_effects(
    model: Model, rows: Tensor, background: Tensor, owner: Tensor, features: int, chosen: int, output: Output
) -> Doubles:
    """[M] root mean square change of the answer when one feature is taken from another row (Jansen 1999).

    Each row is paired with the background row of the same place, over and over. Costs n * (M + 1) rows.
    """
    partner = background[torch.arange(len(rows), device=rows.device) % len(background)]
    count = len(rows)

    def work(part: slice) -> tuple[Tensor]:
        index = torch.arange(part.start, part.stop, device=rows.device)
        feature = (index // count).view(-1, *[1] * owner.ndim)
        mixed = torch.where(owner[None] == feature, partner[index % count], rows[index % count])
        return (answers(model, mixed, chosen, output),)

    with torch.no_grad():
        (moved,) = model.in_batches(work, features * count)
        (here,) = model.in_batches(lambda part: (answers(model, rows[part], chosen, output),), count)
    change = (moved.view(features, count) - here).double()
    found: Doubles = change.square().mean(dim=1).sqrt().cpu().numpy()
    return found


def pair_interactions(
    model: Model,
    rows: Tensor,
    background: Tensor,
    owner: Tensor,
    features: tuple[int, ...],
    chosen: int,
    output: Output,
) -> Pairs:
    """Interactions of every pair among `features`. Costs (k + k (k - 1) / 2) * n * B rows forward.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        background: [B, ...] rows that left-out features come from.
        owner: feature of each input element, of the shape of a row.
        features: the k features to pair.
        chosen: the class explained.
        output: which number is explained.
    """
    pairs = tuple(combinations(features, 2))
    sets: Sets = (*((item,) for item in features), *pairs)
    found = dependence(model, rows, background, owner, sets, chosen, output)
    centred = found - found.mean(axis=1, keepdims=True)
    alone = dict(zip(features, centred, strict=False))
    both = centred[len(features) :]
    sums = np.stack([alone[a] + alone[b] for a, b in pairs])
    return Pairs(pairs, both - sums, both)
