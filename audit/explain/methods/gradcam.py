"""Grad-CAM at a convolution of the network."""

from typing import Any

from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.explain.explained import Explained, elementwise
from audit.explain.features import Layout, layout, stretch_names, stretches
from audit.explain.gradcam import enlarged, last_convolution, require_layer
from audit.explain.gradcam import gradcam as activation_map
from audit.model import Model


def gradcam(
    model: Model,
    data: Dataset,
    seed: int,
    explained: Explained,
    *,
    layer: str | None = None,
    relu: bool = True,
    grid: int = 4,
) -> dict[str, Any]:
    """Activations of a convolution that speak for the class, enlarged linearly to the input.

    Args:
        model: the network.
        data: what it is explained on.
        seed: not used.
        explained: the rows.
        layer: name of the layer; default the convolution that runs last.
        relu: what speaks against the class is set to 0, as in the paper.
        grid: cells that pixels, or stretches that steps of all channels together, are added up in.
    """
    del seed
    if data.modality == "tabular":
        raise NotApplicable("Grad-CAM is for images and series; integrated_gradients explains tables.")
    if "modules" not in model.capabilities:
        raise NotApplicable("the file shows none of the network's layers, which Grad-CAM reads.")
    if layer is None:
        layer = last_convolution(model, explained.inputs)
    else:
        require_layer(model, layer)
    found = activation_map(
        model, explained.inputs, explained.classes, layer, relu=relu, output=explained.output
    )
    size = data.inputs.shape[2:]
    maps = enlarged(found, size).double().numpy().reshape(len(found), 1, *size)
    coarse = " x ".join(str(length) for length in found.shape[1:])
    return {
        **elementwise(maps, _places(data, grid)),
        "unit": "relative log-odds" if explained.output == "log_odds" else "relative probability",
        "settings": {"layer": layer},
        "notes": (f"Read at layer '{layer}', which has {coarse} places; nothing finer is resolved.",),
    }


def _places(data: Dataset, grid: int) -> Layout:
    """The cells of an image; stretches of all channels of a series together."""
    if data.modality == "image":
        return layout(data, grid)
    steps = data.inputs.shape[-1]
    return Layout(stretch_names(grid, steps), stretches(grid, steps)[None])
