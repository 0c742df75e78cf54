"""The number that is explained: the log-odds or the probability of one class, from any kind of output."""

from typing import Literal

import torch
from torch import Tensor

from audit.model import log_odds

Output = Literal["log_odds", "probability"]


def quantity(scores: Tensor, classes: Tensor, output: Output) -> Tensor:
    """[N] the explained number of class `classes[i]` in row i, from [N, C] scores."""
    if output == "log_odds":
        return log_odds(scores, classes)
    return scores.softmax(dim=1).gather(1, classes[:, None]).squeeze(1)


def mean_by_class(scores: Tensor, classes: Tensor, output: Output) -> Tensor:
    """[N] mean over the rows of `scores` [B, C] of the explained number of class `classes[i]`, float64."""
    means = torch.zeros(scores.shape[1], dtype=torch.float64)
    for item in torch.unique(classes).tolist():
        wanted = torch.full((len(scores),), item, device=scores.device)
        means[item] = quantity(scores, wanted, output).cpu().double().mean()
    return means[classes.cpu()]
