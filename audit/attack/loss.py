"""What an attack tries to raise: per-row losses over scores whose softmax is the model's probability."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audit.errors import NotApplicable

Loss = Literal["cross_entropy", "dlr", "margin"]
_BINARY = 2

_FEWEST_CLASSES: dict[Loss, int] = {"cross_entropy": 2, "dlr": 3, "margin": 2}
_FEWEST_CLASSES_TARGETED: dict[Loss, int] = {"cross_entropy": 2, "dlr": 4, "margin": 2}


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] -log p of the true class, from scores [n, C] and labels [n].

    In single precision its gradient vanishes where the true class leads by about 100 or more.
    """
    if scores.shape[1] == _BINARY:
        # The plain form rounds 1 - p to 0, and a single logit's gradient with it, from a lead of 17.
        return functional.softplus(margin(scores, labels))
    return functional.cross_entropy(scores, labels, reduction="none")


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] best wrong score minus the true class's score: above 0 means misclassified. Never saturates.

    Source: Carlini and Wagner, 2017, arXiv:1608.04644 (their f6). Works for two classes.
    """
    true = scores.gather(1, labels[:, None]).squeeze(1)
    return scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - true


def dlr(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] difference of logits ratio: `margin` over the gap of the best and the third best score.

    Neither scaling nor shifting the scores changes it. Its gradient is 0 where the true class is third.
    Source: Croce and Hein, 2020, arXiv:2003.01690.

    Raises:
        NotApplicable: fewer than 3 classes.
    """
    _ask("dlr", scores)
    best = scores.topk(3, dim=1).values
    return margin(scores, labels) / _gap(best[:, 0] - best[:, 2])


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dlr": dlr,
    "margin": margin,
}


def cross_entropy_targeted(scores: Tensor, labels: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001 - one signature for all
    """[n] log p of the target class, from scores [n, C], labels [n] and targets [n]."""
    return -cross_entropy(scores, targets)


def margin_targeted(scores: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """[n] the target's score minus the true class's score: above 0 means misclassified."""
    pair = scores.gather(1, torch.stack([targets, labels], dim=1))
    return pair[:, 0] - pair[:, 1]


def dlr_targeted(scores: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """[n] `margin_targeted` over the gap of the best and the mean of the third and fourth best score.

    Source: Croce and Hein, 2020, arXiv:2003.01690, equation 7.

    Raises:
        NotApplicable: fewer than 4 classes.
    """
    _ask("dlr", scores, targeted=True)
    best = scores.topk(4, dim=1).values
    return margin_targeted(scores, labels, targets) / _gap(best[:, 0] - (best[:, 2] + best[:, 3]) / 2)


TARGETED: dict[Loss, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy_targeted,
    "dlr": dlr_targeted,
    "margin": margin_targeted,
}


def objective(loss: Loss, labels: Tensor, targets: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """What an attack raises, from scores [n, C] to [n].

    Args:
        loss: which loss.
        labels: [n] true classes.
        targets: [n] class that each row is pushed to; None pushes away from the true class alone.
    """
    if targets is None:
        return lambda scores: LOSSES[loss](scores, labels)
    return lambda scores: TARGETED[loss](scores, labels, targets)


def loss_defined(loss: Loss, classes: int, *, targeted: bool = False) -> bool:
    """Whether this loss exists for so many classes; a model with one output has two."""
    return classes >= (_FEWEST_CLASSES_TARGETED if targeted else _FEWEST_CLASSES)[loss]


def likeliest_wrong(scores: Tensor, labels: Tensor, count: int) -> Tensor:
    """[n, k] the wrong classes with the largest scores, best first; k is `count`, at most C - 1."""
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, scores.shape[1] - 1), dim=1).indices


def wrong(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] whether each row is misclassified. A score that is not a number is no class, so not a success."""
    return (scores.argmax(dim=1) != labels) & scores.isfinite().all(dim=1)


def _ask(loss: Loss, scores: Tensor, *, targeted: bool = False) -> None:
    classes = scores.shape[1]
    if not loss_defined(loss, classes, targeted=targeted):
        needed = (_FEWEST_CLASSES_TARGETED if targeted else _FEWEST_CLASSES)[loss]
        kind = "the targeted loss" if targeted else "the loss"
        raise NotApplicable(
            f"{kind} '{loss}' is defined for {needed} classes or more and the model has {classes}; "
            "use loss = 'margin'."
        )


def _gap(gap: Tensor) -> Tensor:
    return gap.clamp_min(torch.finfo(gap.dtype).eps * torch.finfo(gap.dtype).eps)
