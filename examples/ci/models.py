"""The network of this repository: built here, its weights saved as safetensors."""

from torch import nn

FEATURES = ("income", "debt", "years", "children")


def build(width: int = 16) -> nn.Module:
    """Four features in, two logits out: refused, granted."""
    return nn.Sequential(nn.Linear(len(FEATURES), width), nn.ReLU(), nn.Linear(width, 2))
