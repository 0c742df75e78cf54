"""Grad-CAM: where the channels of a convolution that speak for a class are active.

Source: Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra 2017. Each channel's activation is weighted with
the mean over its places of the gradient of the explained number.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from audit.errors import ConfigError, NotApplicable, nearest
from audit.explain.quantity import Output, quantity
from audit.model import Model

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
Seen = dict[str, Tensor]


def last_convolution(model: Model, rows: Tensor) -> str:
    """Name of the convolution that ran last and has more than one place, found by one row forward.

    Raises:
        NotApplicable: the network shows no such layer, as for instance a compiled file does not.
    """
    layers = [name for name, part in model.module.named_modules() if isinstance(part, _CONVOLUTIONS)]
    ran: list[str] = []

    def keep(name: str, output: Any) -> Any:
        # Reading the shape here, not later, keeps no activation alive.
        if output[0, 0].numel() > 1:
            ran.append(name)
        return output

    if layers:
        with torch.no_grad():
            _watched(model, layers, keep, lambda: model.raw(rows[:1].clone()))
    if not ran:
        raise NotApplicable(
            "Grad-CAM reads a convolution's activations and this network shows no convolution with more than "
            "one place; integrated_gradients and occlusion need none."
        )
    return ran[-1]


def require_layer(model: Model, layer: str) -> None:
    """Refuse a layer that the network does not have.

    Raises:
        ConfigError: there is no layer of that name.
    """
    names = [name for name, _ in model.module.named_modules() if name]
    if layer not in names:
        raise ConfigError(
            f"gradcam: 'layer' = '{layer}' is not a layer of the network{nearest(layer, names)}."
        )


def gradcam(
    model: Model,
    rows: Tensor,
    classes: Tensor,
    layer: str,
    *,
    relu: bool = True,
    output: Output = "log_odds",
) -> Tensor:
    """[N, ...] the map of each row at the layer's own resolution, on the CPU.

    Costs N rows forward and backward. Hooks are removed even where the network raises.

    Args:
        model: the network.
        rows: [N, ...] raw rows.
        classes: [N] class explained.
        layer: name of a layer whose output is [N, channels, places...].
        relu: negative places are set to 0, as in the paper: only what speaks for the class is shown.
        output: which number is explained.

    Raises:
        ConfigError: the layer's output has no places, or the layer does not run.
    """

    def work(part: slice) -> tuple[Tensor]:
        activation, slope = _activation_and_slope(model, rows[part], classes[part], layer, output)
        weight = slope.flatten(2).mean(dim=2)
        found = (activation * weight.view(*weight.shape, *([1] * (slope.ndim - 2)))).sum(dim=1)
        return (found.relu() if relu else found,)

    return model.in_batches(work, len(rows))[0].float().cpu()


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """[N, *size] maps [N, ...] enlarged (bi)linearly to the places of the input."""
    mode = "bilinear" if len(size) > 1 else "linear"
    return interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def _activation_and_slope(
    model: Model, rows: Tensor, classes: Tensor, layer: str, output: Output
) -> tuple[Tensor, Tensor]:
    seen: Seen = {}

    def keep(name: str, found: Any) -> Any:
        if not isinstance(found, Tensor) or found.ndim < 3:  # noqa: PLR2004 - [N, channels, places...]
            raise ConfigError(
                f"gradcam: 'layer' = '{name}' does not put out [rows, channels, places]; name a convolution."
            )
        seen[name] = found
        # What follows may write into its input; the activation that is read must stay as it was.
        return found.clone()

    def explained() -> Tensor:
        leaf = rows.detach().clone().requires_grad_()
        return quantity(model.scores(leaf), classes, output)

    with model.differentiable():
        answer = _watched(model, [layer], keep, explained)
        if layer not in seen:
            raise ConfigError(f"gradcam: the layer '{layer}' takes no part in the answer; name another one.")
        (slope,) = torch.autograd.grad(answer.sum(), seen[layer], allow_unused=True)
    model.passes.backward += len(rows)
    return seen[layer].detach(), torch.zeros_like(seen[layer]) if slope is None else slope


def _watched(
    model: Model, layers: list[str], keep: Callable[[str, Any], Any], run: Callable[[], Tensor]
) -> Tensor:
    """What `run` gives, with the outputs of some layers handed to `keep`, which gives back what goes on."""
    parts = dict(model.module.named_modules())
    with ExitStack() as hooks:
        for name in layers:
            hook = parts[name].register_forward_hook(lambda _m, _i, found, name=name: keep(name, found))
            hooks.callback(hook.remove)
        return run()
