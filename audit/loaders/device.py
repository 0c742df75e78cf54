"""Where a model computes: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""

import torch

from audit.errors import LoadError


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA where there is one, then MPS, then the CPU.

    Raises:
        LoadError: the device asked for is not on this machine.
    """
    if name == "auto":
        return torch.device(_best())
    device = torch.device(name)
    if device.type == "cuda":
        _refuse_absent_cuda(name, device.index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise LoadError("[model] device = 'mps', but this machine has no MPS device; use 'auto' or 'cpu'.")
    return device


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _refuse_absent_cuda(name: str, index: int | None) -> None:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found <= (index or 0):
        seen = f"{found} CUDA device{'s' if found > 1 else ''}" if found else "no CUDA device"
        raise LoadError(f"[model] device = '{name}', but this machine has {seen}; use 'auto' or 'cpu'.")
