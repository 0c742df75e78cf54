"""Layer conductance as captum computes it: what each hidden unit passes on."""

from typing import Any

import torch
from torch import Tensor

from audit.dataset import Dataset
from audit.explain.explained import Baseline, Explained, baseline_row, scores_of
from audit.explain.gradients import completeness_error
from audit.explain.quantity import mean_by_class, quantity
from audit.library.copied import copied
from audit.library.layers import Layer, by_unit, find_layer
from audit.library.validity import require_layers
from audit.model import Model

NAME = "Layer conductance (captum)"


def layer_conductance(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    layer: str = "",
    baseline: Baseline = "auto",
    steps: int = 64,
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
        steps: trapezoids on the path.

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
        values = _values(own, explained, start, place, steps)
    names = tuple(f"unit {index + 1}" for index in range(values.shape[1]))
    return {
        "values": values.double().numpy(),
        "features": names,
        "base": base.numpy(),
        "completeness": completeness_error(values, torch.from_numpy(explained.fx) - base),
        "notes": (f"Units are those of the {place.place}.",),
    }


def _values(model: Model, explained: Explained, start: Tensor, layer: Layer, steps: int) -> Tensor:
    from captum.attr import LayerConductance

    def number(rows: Tensor, classes: Tensor) -> Tensor:
        return quantity(model.scores(rows), classes, explained.output)

    method = LayerConductance(number, layer.module)

    def work(part: slice) -> tuple[Tensor]:
        rows = explained.inputs[part].clone()
        before = model.passes.forward
        found = method.attribute(
            rows,
            start.expand_as(rows),
            additional_forward_args=(explained.classes[part],),
            n_steps=steps,
            # Trapezoids reach both ends of the path; captum's default leaves them out and the sum with them.
            method="riemann_trapezoid",
            attribute_to_layer_input=layer.before,
        )
        model.passes.backward += model.passes.forward - before
        return (by_unit(found.detach()).float().cpu(),)

    return model.in_batches(work, len(explained.inputs), rows_each=steps + 1)[0]
