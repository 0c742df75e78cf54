"""The model with random weights in place of what it learned, handed back exactly as it was.

An explanation of a model must change when what the model learned is gone. Source: Adebayo et al. 2018,
arXiv:1810.03292.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from audit.errors import NotApplicable
from audit.model import state_hash


@contextmanager
def randomised(module: nn.Module, seed: int) -> Iterator[None]:
    """Inside, every weight is drawn from a normal distribution with its tensor's mean and spread.

    Buffers (running means) stay. Afterwards, also after an exception, every tensor holds its bits again,
    which is proven by the hash of the whole state.

    Args:
        module: the network; changed in place, so that no second copy of its activations is needed.
        seed: seed of the draws; the global generator is not touched.

    Raises:
        NotApplicable: the network holds no weight that could be drawn again.
        RuntimeError: the state after it was put back is not the state before.
    """
    before = state_hash(module)
    kept = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    try:
        with torch.no_grad():
            _draw(module, seed)
        yield
    finally:
        with torch.no_grad():
            for name, tensor in module.named_parameters():
                tensor.copy_(kept[name])
        if state_hash(module) != before:
            raise RuntimeError("the weights could not be put back: the hash of the state has changed")


def _draw(module: nn.Module, seed: int) -> None:
    """Draw on the CPU, so that every device gets the same weights."""
    source = torch.Generator().manual_seed(seed)
    changed = False
    for tensor in module.parameters():
        if not tensor.is_floating_point() or tensor.numel() < 2:  # noqa: PLR2004 - one number has no spread
            continue
        plain = tensor.detach().float().cpu()
        spread = plain.std()
        if not bool(spread.isfinite()) or float(spread) == 0:
            continue
        tensor.copy_(_normal(plain, spread, source))
        changed = True
    if not changed:
        raise NotApplicable("the model holds no weights that could be drawn again")


def _normal(like: Tensor, spread: Tensor, source: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, generator=source)
    return like.mean() + spread * drawn
