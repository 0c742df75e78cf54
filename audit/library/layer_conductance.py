"""Layer conductance as captum computes it: what each hidden unit passes on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset
from audit.explain.attribution import Doubles
from audit.explain.explained import Baseline, Explained, baseline_row, scores_of
from audit.explain.gradients import completeness_error
from audit.explain.quantity import mean_by_class, quantity
from audit.library.copied import copied
from audit.library.layers import Layer, by_unit, find_layer
from audit.library.validity import require_layers
from audit.model import Model

NAME = "Layer conductance (captum)"
MOST = 200


def layer_conductance(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    layer: str = "",
    baseline: Baseline = "auto",
    steps: int = 64,
    max_steps: int = 512,
    bound: float = 0.05,
) -> dict[str, Any]:
    """Conductance of the units of one layer; the features are these units, channels as one.

    The values of a layer that all information passes through add up to the difference to the baseline; where
    something goes around it (a shortcut), the completeness error shows that. Costs (steps + 1) rows forward
    and backward for each row.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        layer: name of a layer, whose output is taken; empty for the input of the last linear layer.
        baseline: where the path starts; see `integrated_gradients`.
        steps: parts that the path is cut into at first, doubled where completeness is not met.
        max_steps: most parts.
        bound: largest completeness error that counts as met.

    Raises:
        ConfigError: the layer is unknown.
        NotApplicable: the network has no layers, or calls this one several times.
    """
    del seed
    start = model.tensor(baseline_row(model, data, baseline))
    require_layers(model, NAME)
    base = mean_by_class(scores_of(model, start), explained.classes, explained.output)
    with copied(model, NAME) as own:
        place = find_layer(own, layer, explained.inputs[:2], NAME)
        path = _Path(own, explained, start, place)
        values, error = _until_met(path, torch.from_numpy(explained.fx) - base, steps, max_steps, bound)
    units, names = largest_units(values.double().numpy())
    return {
        "values": units,
        "features": names,
        "base": base.numpy(),
        "completeness": error,
        "notes": (f"Units are those of the {place.place}.",),
    }


def largest_units(values: Doubles, most: int = MOST) -> tuple[Doubles, tuple[str, ...]]:
    """[n, U] values by unit and the units' names; of more than `most` the smallest are added up as one."""
    names = tuple(f"unit {index + 1}" for index in range(values.shape[1]))
    if len(names) <= most:
        return values, names
    order = np.argsort(-np.abs(values).mean(axis=0), kind="stable")
    kept, others = np.sort(order[: most - 1]), order[most - 1 :]
    left = values[:, others].sum(axis=1, keepdims=True)
    return np.hstack([values[:, kept], left]), (*(names[i] for i in kept), f"{len(others)} other units")


@dataclass(frozen=True)
class _Path:
    model: Model
    explained: Explained
    start: Tensor
    layer: Layer


def _until_met(
    path: _Path, differences: Tensor, steps: int, most: int, bound: float
) -> tuple[Tensor, Doubles]:
    """[n, U] values and [n] completeness error; rows above the bound are computed again with more steps."""
    values = _values(path, torch.arange(len(differences)), steps)
    error = completeness_error(values, differences)
    while (error > bound).any() and 2 * steps <= most:
        steps *= 2
        left = torch.from_numpy(np.flatnonzero(error > bound))
        values[left] = _values(path, left, steps)
        error[left.numpy()] = completeness_error(values[left], differences[left])
    return values, error


def _values(path: _Path, chosen: Tensor, steps: int) -> Tensor:
    from captum.attr import LayerConductance

    model, explained = path.model, path.explained

    def number(rows: Tensor, classes: Tensor) -> Tensor:
        return quantity(model.scores(rows), classes, explained.output)

    method = LayerConductance(number, path.layer.module)

    def work(part: slice) -> tuple[Tensor]:
        at = chosen[part].to(model.device)
        rows = explained.inputs[at]
        before = model.passes.forward
        found = method.attribute(
            rows,
            path.start.expand_as(rows),
            additional_forward_args=(explained.classes[at],),
            n_steps=steps,
            # Trapezoids reach both ends of the path; captum's default leaves them out and the sum with them.
            method="riemann_trapezoid",
            attribute_to_layer_input=path.layer.before,
            # Conductance is of differences between neighbours on the path, so two points are the least.
            internal_batch_size=max(2 * len(rows), model.passes.batch),
        )
        model.passes.backward += model.passes.forward - before
        return (by_unit(found.detach()).float().cpu(),)

    return model.in_batches(work, len(chosen), rows_each=steps + 1)[0]
