"""The attack of Slack et al. 2020 (arXiv:1911.02508) on explanations that ask about made-up rows.

A scaffolded model answers by one model where a row looks like the data and by another, harmless one where it
does not. Here a row looks like the data when a row of the data is near it, in standard deviations.
"""

import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn


class OneColumn(nn.Module):
    """Two logits that depend on the sign of one column alone, a little smoothed."""

    def __init__(self, column: int, steepness: float = 4.0, threshold: float = 0.0) -> None:
        super().__init__()
        self.column, self.threshold = column, threshold
        self.weight = nn.Parameter(torch.tensor([-steepness / 2, steepness / 2]))

    def forward(self, rows: Tensor) -> Tensor:
        return (rows[:, self.column, None] - self.threshold) * self.weight


class Scaffolded(nn.Module):
    """`biased` on rows near the data, `innocuous` elsewhere.

    Args:
        biased: the model that decides about people.
        innocuous: the model that explanations are to see.
        known: [N, D] rows of the data that the detector knows.
        share: share of the known rows that pass for real.
        ignored: columns that the detector does not look at, e.g. the sensitive one.
    """

    def __init__(
        self,
        biased: nn.Module,
        innocuous: nn.Module,
        known: Tensor,
        share: float = 0.99,
        ignored: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.biased, self.innocuous = biased, innocuous
        scale = known.std(dim=0).clamp_min(1e-6)
        scale[list(ignored)] = torch.inf
        self.register_buffer("scale", scale)
        self.register_buffer("known", known / scale)
        within = torch.cdist(self.known, self.known).fill_diagonal_(torch.inf).amin(dim=1)
        self.register_buffer("limit", within.quantile(share))

    def looks_real(self, rows: Tensor) -> Tensor:
        return torch.cdist(rows / self.scale, self.known).amin(dim=1) <= self.limit

    def forward(self, rows: Tensor) -> Tensor:
        return torch.where(self.looks_real(rows)[:, None], self.biased(rows), self.innocuous(rows))


class ForestScaffolded(nn.Module):
    """The same with the detector of the paper: a random forest that learned real rows from made-up ones.

    It has no gradients.

    Args:
        biased: the model that decides about people.
        innocuous: the model that explanations are to see.
        real: [N, D] rows of the data.
        made_up: [M, D] perturbed rows.
    """

    def __init__(self, biased: nn.Module, innocuous: nn.Module, real: Tensor, made_up: Tensor) -> None:
        super().__init__()
        self.biased, self.innocuous = biased, innocuous
        rows = torch.cat([real, made_up]).numpy()
        labels = [1] * len(real) + [0] * len(made_up)
        self.forest = RandomForestClassifier(30, random_state=0, class_weight="balanced").fit(rows, labels)

    def forward(self, rows: Tensor) -> Tensor:
        real = torch.tensor(self.forest.predict(rows.detach().numpy()) == 1)
        return torch.where(real[:, None], self.biased(rows), self.innocuous(rows))
