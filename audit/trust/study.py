"""What an explanation is put through: other seeds, another baseline, random weights, a point nearby.

Each function asks for the explanation again under one change and compares it, row by row, with the first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.attack.nearby import Nearby
from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.explain.attribution import Attribution, Doubles
from audit.explain.explained import Explained
from audit.explain.features import Layout, sum_by_owner
from audit.model import Model
from audit.trust.curves import (
    Bools,
    Curves,
    Gains,
    Masked,
    answers,
    curves,
    gains,
    order_of,
    random_orders,
)
from audit.trust.fills import fills, plain_values
from audit.trust.randomise import randomised
from audit.trust.similarity import rank_correlation, sign_change, top_overlap

_FROM_BLACK = {True: {"baseline": "mean"}, False: {"baseline": "zero"}}
_FROM_THE_MEAN = {True: {"baseline": "lowest"}, False: {"baseline": "zero"}}
OTHER_BASELINE: Mapping[str, Mapping[bool, Mapping[str, Any]]] = {
    "integrated_gradients": _FROM_BLACK,
    "deep_lift": _FROM_BLACK,
    "occlusion": _FROM_THE_MEAN,
    "rise": _FROM_THE_MEAN,
}
"""For methods with a baseline: the other one, by whether the data are images."""
SLOPES = frozenset({"saliency", "smoothgrad", "vargrad", "lime", "lime_library"})


@dataclass(frozen=True)
class Subject:
    """What is explained, and how to ask for the explanation again.

    Attributes:
        model: the network.
        data: its data.
        explained: the n rows.
        parts: their M features.
        explain: `explain(method, seed=, inputs=, part=, **settings)`, see `audit.products.elsewhere.again`.
        seed: the audit's seed.
        top: features that count as leading.
    """

    model: Model
    data: Dataset
    explained: Explained
    parts: Layout
    explain: Callable[..., Attribution]
    seed: int
    top: int


@dataclass(frozen=True)
class Likeness:
    """How alike two explanations are in each row: rank correlation [n] and overlap of the leading [n]."""

    rank: Doubles
    overlap: Doubles


@dataclass(frozen=True)
class Faithfulness:
    """All rankings under one fill.

    Attributes:
        signed: the curves of the answer: the control that asks no model, the random ones, the methods.
        sized: the same, of how close the answer is to that of the whole row.
        random: how many random rankings were drawn; each serves with its reverse.
        methods: the methods in the order of the curves, and whether they are judged by size.
        finite: [n] whether a method's attribution of a row is finite, by method.
    """

    signed: Curves
    sized: Curves
    random: int
    methods: Mapping[str, bool]
    finite: Mapping[str, Bools]

    def curves(self, method: str) -> Curves:
        """The curves that a method is judged by."""
        return self.sized if self.methods[method] else self.signed

    @property
    def draws(self) -> range:
        """Indices of the random rankings."""
        return range(1, 1 + self.random)

    def index(self, method: str) -> int:
        """Index of a method's curves."""
        return 1 + self.random + list(self.methods).index(method)

    def usable(self, method: str) -> Bools:
        """[n] rows that a method can be judged by: they answer, and its attribution is finite."""
        return self.curves(method).usable & self.finite[method]

    def gains(self, method: str) -> Gains:
        """Gains of a method over the random rankings, for its usable rows."""
        return gains(self.curves(method), self.index(method), self.draws, self.usable(method))

    def control(self, method: str) -> Gains:
        """Gains of the control that asks no model, by the curves and for the rows of a method."""
        return gains(self.curves(method), 0, self.draws, self.usable(method))


def values_of(item: Attribution, parts: Layout) -> Doubles:
    """[n, M] the attribution in the features that are deleted and inserted.

    Raises:
        NotApplicable: the method speaks of other features.
    """
    count = len(parts.names)
    if item.maps is not None:
        return sum_by_owner(item.maps.astype(np.float64), parts.owner, count)
    if item.values.shape[1] != count:
        raise NotApplicable(
            f"{item.method} speaks of {item.values.shape[1]} features and the data have {count}, so the two "
            "cannot be compared"
        )
    return item.values


def is_slope(subject: Subject, method: str, values: Doubles) -> bool:
    """Whether a method says how much each feature matters and not which way it pushed the answer.

    Saliency has no sign. LIME's weight of a number in a table is a slope: its sign says where the answer
    would go, not where the value of this row has moved it.
    """
    return bool((values >= 0).all()) or (method in SLOPES and subject.data.modality != "image")


def faithfulness(
    subject: Subject,
    values: Mapping[str, Doubles],
    *,
    rankings: int,
    steps: int,
    background: int,
) -> dict[str, Faithfulness]:
    """Curves of all methods, of random rankings and of the control, under each of two fills.

    Costs for each of n rows about 2 (methods + 1 + rankings / 2) (steps - 1) masked rows a fill, each as
    often as the fill has rows.

    Args:
        subject: the rows.
        values: [n, M] by method.
        rankings: random rankings, those that serve in reverse counted.
        steps: parts of a curve.
        background: rows of the background fill.
    """
    import torch

    explained, parts = subject.explained, subject.parts
    pairs = -(-rankings // 2)
    drawn = random_orders(len(explained.index), len(parts.names), pairs, subject.seed)
    plain = order_of(plain_values(subject.data, explained.index, parts))
    sized = {method: is_slope(subject, method, item) for method, item in values.items()}
    finite = {name: np.asarray(np.isfinite(item).all(axis=1)) for name, item in values.items()}
    mine = [order_of(np.abs(item) if sized[method] else item)[None] for method, item in values.items()]
    orders = np.concatenate([plain[None], drawn, *mine])
    owner = torch.from_numpy(parts.owner).to(explained.inputs.device)
    stands = fills(subject.model, subject.data, explained.inputs, background, subject.seed + 1)
    found = {}
    for name, fill in stands.items():
        masked = Masked(subject.model, explained.inputs, explained.classes, owner, fill, explained.output)
        said = answers(masked, orders, steps)
        signed, size = (curves(said, range(1 + pairs), by_size=by_size) for by_size in (False, True))
        found[name] = Faithfulness(signed, size, pairs, sized, finite)
    return found


def between_seeds(subject: Subject, method: str, values: Doubles, seeds: int) -> tuple[Likeness, Doubles]:
    """Likeness of magnitudes with the same explanation by other seeds, and [n] change of its signs.

    Both are averages over `seeds` of them; for signs see `sign_change`. The two are asked apart, because in
    one number a sign that hangs on the draw would outweigh all ranks: in a row close to the background the
    leading feature falls from the first place to the last.
    """
    others = [
        values_of(subject.explain(method, seed=subject.seed + 1 + number), subject.parts)
        for number in range(seeds)
    ]
    likeness = _mean([agreement(values, other, subject.top) for other in others])
    return likeness, np.mean([sign_change(values, other) for other in others], axis=0)


def between_baselines(subject: Subject, method: str, values: Doubles) -> Likeness | None:
    """Likeness of magnitudes with the explanation from another baseline; None for a method without one."""
    if method not in OTHER_BASELINE:
        return None
    settings = OTHER_BASELINE[method][subject.data.modality == "image"]
    other = values_of(subject.explain(method, **settings), subject.parts)
    return agreement(values, other, subject.top)


def under_random_weights(subject: Subject, method: str, values: Doubles, draws: int) -> Doubles:
    """[draws] mean rank correlation with the explanation of the model with random weights.

    Each draw of weights explains its own share of the rows, so that all draws together cost one explanation
    and the draws are independent. NaN where no row of the share has a ranking.

    Raises:
        NotApplicable: the model holds no weights that could be drawn again.
    """
    found = []
    for number, part in enumerate(np.array_split(np.arange(len(values)), min(draws, len(values)))):
        with randomised(subject.model.module, subject.seed + number):
            other = values_of(subject.explain(method, part=part), subject.parts)
        rank = rank_correlation(values[part], other)
        known = rank[np.isfinite(rank)]
        found.append(float(known.mean()) if len(known) else np.nan)
    return np.array(found)


def at_points_nearby(subject: Subject, method: str, values: Doubles, nearby: Nearby) -> Likeness:
    """Likeness with the explanation of a point nearby with the same answer; NaN where there is none."""
    points = subject.model.tensor(nearby.points)
    likeness = _likeness(subject, values, subject.explain(method, inputs=points))
    return Likeness(*(np.where(nearby.found, item, np.nan) for item in (likeness.rank, likeness.overlap)))


def agreement(one: Doubles, other: Doubles, top: int) -> Likeness:
    """Likeness of two explanations' magnitudes: which features matter, whatever their sign."""
    first, second = np.abs(one), np.abs(other)
    return Likeness(rank_correlation(first, second), top_overlap(first, second, top))


def _likeness(subject: Subject, values: Doubles, other: Attribution) -> Likeness:
    changed = values_of(other, subject.parts)
    return Likeness(rank_correlation(values, changed), top_overlap(values, changed, subject.top))


def _mean(found: Sequence[Likeness]) -> Likeness:
    return Likeness(
        np.mean([item.rank for item in found], axis=0), np.mean([item.overlap for item in found], axis=0)
    )
