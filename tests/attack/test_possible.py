"""The verifier on its own: rows that break one rule each, and a model that can be worked out."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.possible import ACCEPTED, REASONS, costs, flaws, judged
from audit.dataset import Dataset, Feature, Relation
from audit.model import Model

FEATURES = (
    Feature(name="age", columns=(0,), direction="increase", low=18.0, high=99.0),
    Feature(name="rate", columns=(1,)),
    Feature(name="sex", kind="categorical", columns=(2, 3), immutable=True),
    Feature(name="job", kind="categorical", columns=(4, 5, 6), cost=0.5),
    Feature(name="loan", columns=(7,), step=100.0, unit=1000.0, cost=0.001),
)
ROWS = np.array(
    [
        [30, 0.25, 1, 0, 1, 0, 0, 1.0],
        [40, 0.50, 0, 1, 0, 1, 0, 2.0],
        [50, 0.90, 1, 0, 0, 0, 0, 3.5],
    ],
    dtype=np.float32,
)
RELATION = Relation(terms=(("loan", 1.0), ("age", -100.0)), high=0.0)
NAMES = {reason: code for code, reason in REASONS.items()}


def table(relations=(RELATION,)):
    return Dataset(
        inputs=ROWS,
        labels=np.array([0, 0, 0]),
        modality="tabular",
        classes=("a", "b"),
        features=FEATURES,
        relations=relations,
    )


def model(sign=1.0):
    """Class 1 for every row, or class 0 for every row."""
    network = nn.Linear(8, 2)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([0.0, sign]))
    return Model(module=network.eval(), device=torch.device("cpu"))


def changed(row, **columns):
    point = ROWS[[row]].copy()
    for name, value in columns.items():
        point[0, int(name[1:])] = value
    return np.array([row]), point


@pytest.mark.parametrize(
    ("row", "columns", "reason"),
    [
        (0, {"c0": 31}, None),
        (0, {"c0": 29}, "against its direction"),
        (0, {"c0": 30.5}, "not a whole step"),
        (0, {"c0": 100}, "outside its range"),
        (0, {"c1": 0.7}, None),
        (0, {"c1": 0.95}, "outside its range"),
        (0, {"c2": 0, "c3": 1}, "feature that must not change"),
        (0, {"c4": 0, "c5": 1}, None),
        (0, {"c4": 0}, "not one category"),
        (0, {"c5": 1}, "not one category"),
        (0, {"c4": 0.5, "c5": 0.5}, "not one category"),
        (2, {"c6": 1}, None),
        (2, {}, None),
        (0, {"c7": 1.1}, None),
        (0, {"c7": 1.15}, "not a whole step"),
        (0, {"c7": 3.1}, "breaks a relation"),
        (0, {"c7": 3.0}, None),
        (0, {"c1": np.nan}, "outside its range"),
    ],
)
def test_each_rule_finds_what_breaks_it(row, columns, reason):
    where, point = changed(row, **columns)
    broken = {REASONS[code] for code, bad in flaws(table(), where, point) if bad[0]}
    assert (reason in broken) if reason else not broken
    code = judged(model(), table(), where, point, 100.0)[0]
    assert REASONS[code] in broken if reason else code == ACCEPTED


def test_a_protected_feature_must_not_change():
    where, point = changed(0, c4=0, c5=1)
    assert judged(model(), table(), where, point, 9.0, ("job",))[0] == NAMES["feature that must not change"]
    assert judged(model(), table(), where, point, 9.0, ("age",))[0] == ACCEPTED


def test_a_row_that_does_not_fool_the_model_does_not_count():
    where, point = changed(0, c0=31)
    assert judged(model(-1.0), table(), where, point, 9.0)[0] == NAMES["not misclassified in a fresh pass"]


def test_costs_by_hand():
    """A year is 1 / std(30, 40, 50), a job .5, a unit of the loan .001, so 100 of them .1."""
    where, point = changed(0, c0=34, c4=0, c6=1, c7=1.1)
    wanted = 4 / np.std([30, 40, 50]) + 0.5 + 0.1
    assert costs(table(), where, point)[0] == pytest.approx(wanted, rel=1e-6)
    assert judged(model(), table(), where, point, wanted * 1.0001)[0] == ACCEPTED
    assert judged(model(), table(), where, point, wanted * 0.9999)[0] == NAMES["over the cost"]


def test_a_move_without_a_price_is_never_within_the_cost():
    rows = np.ones((2, 1), np.float32)
    data = Dataset(
        inputs=rows,
        labels=np.zeros(2, int),
        modality="tabular",
        classes=("a", "b"),
        features=(Feature(name="x", columns=(0,), low=0.0, high=5.0),),
    )
    assert costs(data, np.array([0]), np.array([[2.0]], np.float32))[0] == np.inf
    assert costs(data, np.array([0]), rows[:1])[0] == 0


def test_columns_without_a_description_stay_in_the_data_and_whole():
    data = Dataset(inputs=ROWS[:, :2], labels=np.zeros(3, int), modality="tabular", classes=("a", "b"))
    points = np.array([[31, 0.3], [31.5, 0.3], [31, 0.95]], np.float32)
    broken = np.zeros(3, bool)
    for _, bad in flaws(data, np.zeros(3, int), points):
        broken |= bad
    assert broken.tolist() == [False, True, True]


def test_an_equation_is_kept_but_for_rounding():
    data = table((Relation(terms=(("age", 0.1), ("loan", 0.01)), low=13.0, high=13.0),))
    for shift, broken in ((0.0, False), (0.1, True)):
        where, point = changed(0, c0=30, c7=1.0 + shift)
        found = [bad[0] for code, bad in flaws(data, where, point) if REASONS[code] == "breaks a relation"]
        assert found == [broken]


def test_no_claims_no_verdicts():
    assert judged(model(), table(), np.zeros(0, int), np.zeros((0, 8), np.float32), 1.0).tolist() == []
