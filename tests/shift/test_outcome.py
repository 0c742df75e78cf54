"""What a model still gets right: counted by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Dataset, Sensitive
from audit.model import Model, Passes
from audit.shift.outcome import curve, groups, mean_share, right, still_right
from audit.stats import mean, measure, proportion


class Sign(nn.Module):
    """Class 1 above 0. It writes into its input, as a careless network does."""

    def forward(self, x):
        scores = torch.cat([torch.zeros_like(x), x], dim=1)
        x.zero_()
        return scores


@pytest.fixture
def data():
    inputs = np.array([[-2.0], [-1], [1], [2], [3]], np.float32)
    sex = Sensitive(name="sex", groups=("f", "m"), codes=np.array([0, 1, 0, 1, 1]))
    return Dataset(
        inputs=inputs,
        labels=np.array([0, 0, 1, 1, 0]),
        modality="tabular",
        classes=("0", "1"),
        sensitive={"sex": sex},
    )


def test_rows_are_changed_counted_and_judged(data):
    model = Model(module=Sign(), device=torch.device("cpu"), passes=Passes(batch=2))
    rows = np.array([0, 2, 3, 4])
    seen = []

    def change(inputs, mine):
        seen.extend(mine.tolist())
        return inputs - 1.5

    flags, sizes = still_right(model, data, rows, change)
    assert flags.tolist() == [True, False, True, False]
    assert sizes.tolist() == [1.5] * 4
    assert seen == rows.tolist()
    assert model.passes.forward == 4
    assert still_right(model, data, rows[:0], change)[0].tolist() == []


def test_a_score_that_is_no_number_is_wrong():
    scores = torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [0.0, float("inf")], [1.0, 0.0]])
    assert right(scores, torch.ones(4, dtype=torch.int64)).tolist() == [True, False, False, False]


def test_groups_are_the_whole_and_then_each_group(data):
    found = [(group, members.tolist()) for group, members in groups(data, np.array([0, 1, 4]))]
    assert found == [
        ({}, [True, True, True]),
        ({"sex": "f"}, [True, False, False]),
        ({"sex": "m"}, [False, True, True]),
    ]


def test_a_mean_share_has_students_interval_and_wilsons_where_there_is_no_spread():
    shares = [0.0, 0.5, 1.0, 0.75]
    assert mean_share("a", shares).low == mean("a", shares).low
    assert mean_share("a", shares).unit == "share"
    all_right = mean_share("a", [1.0] * 50)
    assert (all_right.value, all_right.high) == (1.0, 1.0)
    assert all_right.low == proportion("a", 50, 50).low
    again = measure("a", all_right.method, all_right.statistics)
    assert (again.low, again.high) == (all_right.low, all_right.high)
    empty = mean_share("a", [])
    assert empty.value is None
    assert empty.reason


def test_students_interval_over_rows_covers_and_one_over_trials_would_not():
    """100 rows of 40 trials that are all right or all wrong: the rows decide how sure we are."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        shares = (generator.random(100) < 0.7).astype(float)
        found = mean_share("a", shares.tolist())
        covered += found.low <= 0.7 <= found.high
    assert covered / 300 > 0.91
    naive = proportion("a", 2800, 4000)
    assert naive.high - naive.low < 0.4 * (found.high - found.low)


def test_a_curve_leaves_undefined_points_out():
    known, unknown = proportion("a", 3, 12), proportion("a", 0, 0)
    figure = curve("c", "Title", "severity", [("x", [(0.0, known), (1.0, unknown)]), ("y", [(1.0, unknown)])])
    first, second = figure.data["series"]
    assert (first["x"], first["y"]) == ([0.0], [0.25])
    assert second["x"] == []
    assert "0.250 at 0" in figure.alt
