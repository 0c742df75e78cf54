"""TCAV: does a concept that people name push the decision, and does a random one push it as well?

captum's own class writes activations and classifiers to disk and unpickles them again, and has one random
concept; here everything stays in memory and there are as many random concepts as asked for. Source: Kim et
al., Interpretability Beyond Feature Attribution, 2018.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Floats, Ints
from audit.explain.attribution import Doubles
from audit.explain.explained import Explained
from audit.explain.quantity import quantity
from audit.library.copied import copied
from audit.library.layers import Layer, find_layer, in_float64, reading
from audit.model import Model

NAME = "TCAV"
_HELD_OUT = 3
_POOL = 4


@dataclass(frozen=True)
class Concept:
    """Examples of a concept [P, ...] and rows without it [Q, ...], raw inputs."""

    examples: Floats
    others: Floats


@dataclass(frozen=True)
class Direction:
    """A concept's direction among the hidden values, and how well it tells held-out examples apart.

    Attributes:
        vector: [H] of length 1, towards the concept.
        distance: how far held-out examples lie from held-out others along it; about 0 for a concept that
            the layer does not hold.
        right: held-out examples on their side of the plane.
        held_out: number of held-out examples.
    """

    vector: Doubles
    distance: float
    right: int
    held_out: int


@dataclass(frozen=True)
class Pushes:
    """What TCAV found for the rows explained.

    Attributes:
        place: where the hidden values were read.
        pushed: for each concept [n], whether a step towards it raises the explained number.
        strength: for each concept [n], by how much the way from others to the concept raises it, to first
            order. A random direction pushes all rows one way as well where the network is nearly linear,
            but there is no way to go along it.
        directions: the concepts' directions.
        controls: [K, n] the same as `strength` for random concepts.
        usable: [n] whether the row has a finite slope that is not zero.
    """

    place: str
    pushed: Mapping[str, Ints]
    strength: Mapping[str, Doubles]
    directions: Mapping[str, Direction]
    controls: Doubles
    usable: Ints


def tcav(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    concepts: Mapping[str, Concept],
    *,
    layer: str = "",
    controls: int = 20,
    examples: int = 100,
) -> Pushes:
    """Whether, and how much, each concept raises the explained number of each row, beside random ones.

    Args:
        model: the network.
        data: random concepts are drawn from its rows.
        seed: draws examples and random concepts.
        explained: the rows.
        concepts: examples by name.
        layer: name of a layer, whose output is read; empty for the input of the last linear layer.
        controls: random concepts: so many rows of the data against so many others.
        examples: at most so many examples and counter-examples of each concept.

    Raises:
        ConfigError: the layer is unknown.
        NotApplicable: the network has no layers, or calls this one several times.
    """
    random = np.random.default_rng(seed)
    with copied(model, NAME) as own:
        place = find_layer(own, layer, explained.inputs[:2], NAME)
        slopes = _slopes(own, place, explained)
        found = {}
        for name, concept in concepts.items():
            inside = _hidden(own, place, _drawn(concept.examples, examples, random))
            outside = _hidden(own, place, _drawn(concept.others, examples, random))
            found[name] = direction(inside, outside, random)
        pool = _hidden(own, place, _drawn(data.inputs, _POOL * examples, random))
    chance = [random_direction(pool, examples, random) for _ in range(controls)]
    usable = np.isfinite(slopes).all(axis=1) & (slopes != 0).any(axis=1)
    pushed = {name: (slopes @ item.vector > 0).astype(np.int64) for name, item in found.items()}
    strength = {name: slopes @ item.vector * item.distance for name, item in found.items()}
    by_chance = np.stack([slopes @ item.vector * item.distance for item in chance])
    return Pushes(place.place, pushed, strength, found, by_chance, usable.astype(np.int64))


def direction(examples: Doubles, others: Doubles, random: np.random.Generator) -> Direction:
    """The normal of a logistic regression between hidden values [P, H] and [Q, H]; a third is held out.

    It is fitted on values of variance 1, so that a unit of large values does not decide alone.
    """
    from sklearn.linear_model import LogisticRegression

    values = np.concatenate([examples, others])
    labels = np.repeat([1, 0], [len(examples), len(others)])
    apart = np.zeros(len(values), dtype=bool)
    for label in (0, 1):
        members = random.permutation(np.flatnonzero(labels == label))
        apart[members[: len(members) // _HELD_OUT]] = True
    scale = values[~apart].std(axis=0)
    scale[scale == 0] = 1
    centre = values[~apart].mean(axis=0)
    fit = LogisticRegression(max_iter=1000).fit((values[~apart] - centre) / scale, labels[~apart])
    right = int((fit.predict((values[apart] - centre) / scale) == labels[apart]).sum())
    vector = fit.coef_[0] / scale
    vector = vector / (np.linalg.norm(vector) or 1.0)
    along = values @ vector
    distance = along[apart & (labels == 1)].mean() - along[apart & (labels == 0)].mean()
    return Direction(vector, float(distance), right, int(apart.sum()))


def random_direction(pool: Doubles, count: int, random: np.random.Generator) -> Direction:
    """The direction of a concept that is none: rows of the pool [N, H] against others, none in both."""
    order = random.permutation(len(pool))
    each = min(count, len(pool) // 2)
    return direction(pool[order[:each]], pool[order[each : 2 * each]], random)


def _drawn(rows: Floats, count: int, random: np.random.Generator) -> Floats:
    chosen: Floats = rows[np.sort(random.permutation(len(rows))[:count])]
    return chosen


def _hidden(model: Model, layer: Layer, rows: Floats) -> Doubles:
    """[n, H] hidden values of raw rows."""

    def work(part: slice) -> tuple[Tensor]:
        with torch.no_grad(), reading(layer) as read:
            model.scores(model.tensor(rows[part]))
            return (in_float64(read()).flatten(1),)

    found: Doubles = model.in_batches(work, len(rows))[0].numpy()
    return found


def _slopes(model: Model, layer: Layer, explained: Explained) -> Doubles:
    """[n, H] gradient of the explained number at the hidden values."""

    def work(part: slice) -> tuple[Tensor]:
        with torch.enable_grad(), reading(layer) as read:
            rows = explained.inputs[part].clone().requires_grad_()
            numbers = quantity(model.scores(rows), explained.classes[part], explained.output)
            (slope,) = torch.autograd.grad(numbers.sum(), read())
        model.passes.backward += len(rows)
        return (in_float64(slope).flatten(1),)

    found: Doubles = model.in_batches(work, len(explained.inputs))[0].numpy()
    return found
