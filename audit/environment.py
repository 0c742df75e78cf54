"""Environment: on what the numbers were measured."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "pandas", "captum", "shap", "lime", "fairlearn",
    "adversarial-robustness-toolbox", "safetensors", "skops", "jinja2",
)  # fmt: skip


def tool() -> dict[str, str]:
    """Name and version of this tool."""
    return {"name": "model-audit", "version": version_of("model-audit") or "unknown"}


def patient() -> dict[str, str]:
    """The process environment with threads that sleep while they wait, unless the user says otherwise.

    OpenMP threads spin by default. On a machine whose cores are busy that made a forward pass of a small
    convolutional network 30 times slower (133 against 4.4 ms a row, two cores under load).
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}


def version_of(package: str) -> str | None:
    """Installed version of a package, None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def library_versions() -> dict[str, str | None]:
    """Installed versions of the libraries that compute numbers; None for one that is not installed."""
    return {name: version_of(name) for name in _PACKAGES}


def _processor() -> str:
    """The processor as it names itself: another one may round sums in another order."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named[0] if named else "") or platform.processor() or platform.machine()


def describe_environment(device: Any) -> dict[str, Any]:
    """Versions, processor and accelerator: facts for the record.

    Args:
        device: the torch device the model computes on.
    """
    import torch

    cuda = device.type == "cuda"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "accelerator": torch.cuda.get_device_name(device) if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "packages": library_versions(),
    }
