"""Rows under a corruption: the model sees what the corruption says, row by row."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.reliability.shifted import Condition, clean, lost_caveats, scores_under, spoiler, spoilt
from audit.dataset import Dataset
from audit.errors import ConfigError, NotApplicable
from audit.model import Model


def model(batch=7):
    found = Model(module=nn.Identity(), device=torch.device("cpu"), classes=("a", "b", "c"))
    found.passes.batch = batch
    return found


def table(rows=40):
    random = np.random.default_rng(0)
    return Dataset(
        inputs=random.normal(size=(rows, 3)).astype(np.float32),
        labels=random.integers(0, 3, rows),
        modality="tabular",
        classes=("a", "b", "c"),
    )


def test_scores_are_those_of_the_changed_rows_in_order_and_are_counted():
    data, network = table(), model()
    rows = np.array([3, 1, 30, 12, 5, 6, 7, 8, 9])
    found = scores_under(
        network, data, rows, lambda inputs, chosen: inputs * 2 + torch.tensor(chosen)[:, None]
    )
    assert found == pytest.approx(data.inputs[rows] * 2 + rows[:, None], abs=1e-4)
    assert network.passes.forward == len(rows)


def test_every_severity_once_and_ascending():
    data = table()
    found = spoilt(model(), data, 1, "", [5, 1, 5], np.arange(40))
    assert [dict(item.settings) for item in found] == [
        {"corruption": "numeric_noise", "severity": 1},
        {"corruption": "numeric_noise", "severity": 5},
    ]
    as_is = clean(data, SimpleNamespace(scores=data.inputs))
    near, far = (np.abs(f.answers.log_probabilities - as_is.answers.log_probabilities).mean() for f in found)
    assert 0 < near < far


def test_what_does_not_fit_is_said():
    series = Dataset(inputs=np.zeros((4, 2, 9), np.float32), modality="series", classes=())
    with pytest.raises(NotApplicable, match="series"):
        spoiler(model(), series, 0, "")
    with pytest.raises(NotApplicable, match="category_swaps"):
        spoiler(model(), table(), 0, "category_swaps")
    with pytest.raises(ConfigError, match="nearest is 'rounding'"):
        spoiler(model(), table(), 0, "roundin")
    images = Dataset(inputs=np.zeros((4, 1, 9, 9), np.float32), modality="image", classes=())
    with pytest.raises(ConfigError, match="nearest is 'fog'"):
        spoiler(model(), images, 0, "fogg")


def test_lost_rows_are_told():
    scores = np.array([[0.0, np.nan, 1.0], [0.0, 1.0, 2.0]])
    data = Dataset(
        inputs=np.zeros((2, 3), np.float32),
        labels=np.array([0, 1]),
        modality="tabular",
        classes=("a", "b", "c"),
    )
    found = clean(data, SimpleNamespace(scores=scores))
    assert isinstance(found, Condition)
    assert "1 of 2" in lost_caveats([found])[0]
