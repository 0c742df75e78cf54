"""Does the model lean on other features for rows that do not occur than for rows of the data?

Slack et al. 2020, arXiv:1911.02508, hide a biased model behind one that answers harmlessly whenever a row
looks made up, as the rows are that LIME and SHAP ask about. What gives it away: the same change of the same
feature of the same row moves the answer while the other features stay as they are, and does not once they
are perturbed; and another feature does the opposite. In a model that adds its features up both changes are
equal, whatever the data. So the test does not ask whether perturbed rows are strange, only whether the
model leads with another feature there.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Floats, Ints
from audit.explain.attribution import Doubles
from audit.explain.features import TINY
from audit.explain.lime import draw_noise
from audit.explain.quantity import Output, quantity
from audit.model import Model

Perturbation = Literal["lime", "shap"]
PERTURBATIONS: tuple[Perturbation, ...] = ("lime", "shap")
_POOL = 2000
_SAME = 1e-6
_NOTHING = 1e-6


@dataclass(frozen=True)
class Lead:
    """Which feature leads on rows of the data and which on perturbed rows, and by how much.

    The two features are chosen on one half of the rows and compared on the other, so that being chosen does
    not make them differ.

    Attributes:
        on: index of the feature that leads on rows of the data.
        off: index of the feature that leads on perturbed rows.
        on_lead: [m] share of `on` minus share of `off` in the reaction of each row of the data.
        off_lead: [m] share of `off` minus share of `on` in the reaction of each perturbed row.
        left_out: rows that react to nothing, on one side or the other.
    """

    on: int
    off: int
    on_lead: Doubles
    off_lead: Doubles
    left_out: int


@dataclass(frozen=True)
class Asked:
    """Rows that are asked about.

    Attributes:
        model: the network.
        data: where neighbours and perturbations come from.
        index: [n] the rows.
        classes: [n] class whose number is followed.
        owner: [D] feature of each column.
        output: which number is followed.
    """

    model: Model
    data: Dataset
    index: Ints
    classes: Tensor
    owner: Ints
    output: Output


def leads(asked: Asked, *, draws: int = 4, neighbours: int = 2, seed: int = 0) -> dict[Perturbation, Lead]:
    """For each way to perturb, which features lead on the data and off it.

    Costs n M (K + 1) (1 + 2 draws) rows forward for n rows, M features and K neighbours.

    Args:
        asked: rows of a table.
        draws: perturbed versions of each row, for each way to perturb.
        neighbours: changes of each feature, taken from the nearest rows that differ in it.
        seed: draws the perturbations.
    """
    flat = asked.data.inputs.reshape(len(asked.data), -1)
    features = int(asked.owner.max()) + 1
    donors = nearest_donors(flat, asked.index, asked.owner, neighbours, seed)
    own = flat[asked.index]
    on = _reaction(asked, own[:, None], donors, features)
    found: dict[Perturbation, Lead] = {}
    for kind in PERTURBATIONS:
        strange = perturbed(asked.data, own, asked.owner, kind, draws, seed)
        found[kind] = _lead(on, _reaction(asked, strange, donors, features))
    return found


def nearest_donors(flat: Floats, index: Ints, owner: Ints, count: int, seed: int) -> Ints:
    """[n, M, K] rows that a feature's other value is taken from: nearest in all other features.

    Only rows that differ in the feature are asked, out of at most 2,000 drawn by the seed; the row itself
    where there is none. Distances are in standard deviations of each column.
    """
    from scipy.spatial.distance import cdist

    random = np.random.default_rng(seed)
    pool = random.permutation(len(flat))[:_POOL]
    spread = flat.std(axis=0, dtype=np.float64)
    scaled = flat / np.where(spread > 0, spread, 1.0)
    mine, others = scaled[index], scaled[pool]
    total = cdist(mine, others, "sqeuclidean")
    columns = [np.flatnonzero(owner == feature) for feature in range(int(owner.max()) + 1)]
    found = np.empty((len(index), len(columns), count), dtype=np.int64)
    for feature, own in enumerate(columns):
        here = cdist(mine[:, own], others[:, own], "sqeuclidean")
        distance = np.where(here > _SAME, total - here, np.inf)
        nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
        nearest = np.pad(nearest, ((0, 0), (0, count - nearest.shape[1])), mode="edge")
        usable = np.isfinite(np.take_along_axis(distance, nearest, axis=1))
        found[:, feature] = np.where(usable, pool[nearest], index[:, None])
    return found


def perturbed(data: Dataset, own: Floats, owner: Ints, kind: Perturbation, draws: int, seed: int) -> Floats:
    """[n, draws, D] rows as LIME makes them (noise on every feature) or SHAP (features of another row).

    Args:
        data: where noise and other rows come from.
        own: [n, D] the rows.
        owner: [D] feature of each column.
        kind: whose way.
        draws: versions of each row.
        seed: draws them.
    """
    features = int(owner.max()) + 1
    count = len(own) * draws
    if kind == "lime":
        noise = draw_noise(data, torch.from_numpy(owner), features, count, seed)
        offset = noise.offset.numpy().reshape(len(own), draws, -1)
        noisy: Floats = (own[:, None] * noise.keep.numpy() + offset).astype(np.float32)
        return noisy
    random = np.random.default_rng(seed)
    flat = data.inputs.reshape(len(data), -1)
    others = flat[random.integers(len(data), size=(len(own), draws))]
    stay = (random.random((len(own), draws, features)) < 1 / 2)[:, :, owner]
    mixed: Floats = np.where(stay, own[:, None], others).astype(np.float32)
    return mixed


def off_manifold(flat: Floats, rows: Floats, seed: int, pool: int = 1000) -> tuple[int, int]:
    """How many of `rows` [m, D] lie further from the data than 95 % of the data's own rows do, and m.

    Distance is to the nearest of at most `pool` rows of the data, in standard deviations of each column; a
    row of the data is not its own neighbour.
    """
    from scipy.spatial.distance import cdist

    spread = flat.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1.0)
    known = flat[np.random.default_rng(seed).permutation(len(flat))[:pool]] / scale
    within = cdist(known, known)
    np.fill_diagonal(within, np.inf)
    limit = np.quantile(within.min(axis=1), 0.95)
    far = cdist(rows / scale, known).min(axis=1) > limit * (1 + _SAME)
    return int(far.sum()), len(far)


def _reaction(asked: Asked, places: Floats, donors: Ints, features: int) -> Doubles:
    """[n, M] mean change of the number when a feature goes from the row's own value to a neighbour's.

    `places` [n, P, D] say what the other features are meanwhile.
    """
    flat = asked.data.inputs.reshape(len(asked.data), -1)
    own = flat[asked.index]
    total = np.zeros((len(own), features))
    for feature in range(features):
        columns = np.flatnonzero(asked.owner == feature)
        before = places.copy()
        before[:, :, columns] = own[:, None, columns]
        start = _numbers(asked, before)
        for donor in donors[:, feature].T:
            after = before.copy()
            after[:, :, columns] = flat[donor][:, None, columns]
            total[:, feature] += np.abs(_numbers(asked, after) - start).mean(axis=1)
    average: Doubles = total / donors.shape[2]
    return average


def _numbers(asked: Asked, rows: Floats) -> Doubles:
    """[n, P] the number that is followed at rows [n, P, D]."""
    count, draws = rows.shape[:2]
    scores = asked.model.predict(rows.reshape(count * draws, *asked.data.inputs.shape[1:]))
    wanted = asked.classes.cpu().repeat_interleave(draws)
    found: Doubles = quantity(scores, wanted, asked.output).double().numpy().reshape(count, draws)
    return found


def _lead(on: Doubles, off: Doubles) -> Lead:
    on_size, off_size = (values.sum(axis=1) for values in (on, off))
    reacts = np.isfinite(on_size) & np.isfinite(off_size) & (on_size > _NOTHING) & (off_size > _NOTHING)
    on_share, off_share = (
        values[reacts] / np.maximum(values[reacts].sum(axis=1, keepdims=True), TINY) for values in (on, off)
    )
    chosen, tested = slice(0, None, 2), slice(1, None, 2)
    if len(on_share) < 2:  # noqa: PLR2004 - one row to choose on and one to compare
        return Lead(0, 0, np.zeros(0), np.zeros(0), int((~reacts).sum()))
    first, second = _first(on_share[chosen]), _first(off_share[chosen])
    on_lead = on_share[tested, first] - on_share[tested, second]
    off_lead = off_share[tested, second] - off_share[tested, first]
    return Lead(first, second, on_lead, off_lead, int((~reacts).sum()))


def _first(shares: Doubles) -> int:
    return int(shares.mean(axis=0).argmax())
