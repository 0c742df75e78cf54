"""What an attack tries to raise: per-row losses over scores whose softmax is the model's probability."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["cross_entropy", "margin"]


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] -log p of the true class, from scores [n, C] and labels [n].

    In single precision its gradient vanishes where the true class leads by about 100 or more.
    """
    return functional.cross_entropy(scores, labels, reduction="none")


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] best wrong score minus the true class's score: above 0 means misclassified. Never saturates.

    Source: Carlini and Wagner, 2017, arXiv:1608.04644 (their f6). Works for two classes.
    """
    true = scores.gather(1, labels[:, None]).squeeze(1)
    return scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - true


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "margin": margin}


def wrong(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] whether each row is misclassified. A score that is not a number is no class, so not a success."""
    return (scores.argmax(dim=1) != labels) & scores.isfinite().all(dim=1)
