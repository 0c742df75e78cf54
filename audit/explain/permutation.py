"""Permutation importance: how much worse the model becomes when one feature's values change rows.

Sources: Breiman 2001; Fisher, Rudin and Dominici 2019 (model reliance, a statistic of pairs of rows).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Ints
from audit.explain.attribution import Doubles
from audit.model import Model


@dataclass(frozen=True)
class Losses:
    """Losses of n rows, as they are and with each of M features permuted K times.

    Attributes:
        clean: [2, n] whether the decision is wrong (0 or 1), and the log loss.
        permuted: [2, M, K, n] the same with the feature's values taken from another row.
        donors: [K, n] the row that each row's value came from.
    """

    clean: Doubles
    permuted: Doubles
    donors: Ints

    def increase(self) -> Doubles:
        """[2, M] mean increase of the error and of the log loss."""
        found: Doubles = (self.permuted - self.clean[:, None, None]).mean(axis=(2, 3))
        return found

    def influence(self) -> Doubles:
        """[2, M, n] what each row adds to the increase, as the row that is judged and as the row that gives.

        The mean over rows is `increase`. A row takes part in two ways, and an interval over the judged
        rows alone would leave out the chance of who gave (the projection of a statistic of pairs).
        """
        pairs = self.permuted - self.clean[:, None, None]
        given = np.empty_like(pairs)
        for repeat, donor in enumerate(self.donors):
            given[:, :, repeat, donor] = pairs[:, :, repeat]
        centre = pairs.mean(axis=(2, 3))[..., None]
        found: Doubles = pairs.mean(axis=2) + given.mean(axis=2) - centre
        return found


def permuted_losses(
    model: Model, rows: Tensor, labels: Tensor, owner: Tensor, features: int, repeats: int, seed: int
) -> Losses:
    """Losses with each feature permuted; every column of a feature moves together.

    Costs n * (1 + M * K) rows forward. The permutations are drawn before, so that the result does not depend
    on the batch; all features share them.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        labels: [n] true classes.
        owner: feature of each input element, of the shape of a row.
        features: number of features M.
        repeats: number of permutations K.
        seed: draws the permutations.
    """
    count = len(rows)
    random = np.random.default_rng(seed)
    donors = np.stack([random.permutation(count) for _ in range(repeats)])
    source = torch.from_numpy(donors).to(rows.device).view(-1)

    def work(part: slice) -> tuple[Tensor]:
        index = torch.arange(part.start, part.stop, device=rows.device)
        row, cell = index % count, index // count
        feature = (cell // repeats).view(-1, *[1] * owner.ndim)
        given = rows[source[(cell % repeats) * count + row]]
        mixed = torch.where(owner[None] == feature, given, rows[row])
        return (_losses(model, mixed, labels[row]),)

    with torch.no_grad():
        (clean,) = model.in_batches(lambda part: (_losses(model, rows[part], labels[part]),), count)
        (moved,) = model.in_batches(work, features * repeats * count)
    return Losses(
        clean.T.cpu().double().numpy(),
        moved.T.reshape(2, features, repeats, count).cpu().double().numpy(),
        donors,
    )


def _losses(model: Model, rows: Tensor, labels: Tensor) -> Tensor:
    """[n, 2] whether the decision is wrong, and the log loss; not a number where a score is not finite."""
    scores = model.scores(rows)
    wrong = (scores.argmax(dim=1) != labels).to(scores.dtype)
    loss = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    found = torch.stack([wrong, loss], dim=1)
    return torch.where(scores.isfinite().all(dim=1, keepdim=True), found, torch.nan)
