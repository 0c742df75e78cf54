"""Single moves, their cost and the way back, against loops that a reader can follow."""

import numpy as np
import pytest
import torch

from audit.attack.constraints import constraints
from audit.attack.moves import box, candidates, cost, drawn_back, keeps, rules, whole, width
from audit.dataset import Dataset, Feature, Relation
from audit.model import Model

ROWS = np.array(
    [[2, 0.5, 1, 0, 0, 8], [3, 1.5, 0, 1, 0, 7], [6, 2.25, 0, 0, 0, 4], [9, 3.5, 0, 0, 1, 1]], np.float32
)
YEARS = Feature(name="years", columns=(0,), cost=0.5)
PAY = Feature(name="pay", columns=(1,), cost=1.0, direction="decrease")
JOB = Feature(name="job", kind="categorical", columns=(2, 3, 4), cost=2.0)
LEFT = Feature(name="left", columns=(5,), cost=0.25)
SUM = Relation(terms=(("years", 1.0), ("left", 1.0)), low=10.0, high=10.0)


def model():
    return Model(module=torch.nn.Identity(), device=torch.device("cpu"))


def told(*features, relations=(), rows=ROWS):
    data = Dataset(
        inputs=rows,
        labels=np.zeros(len(rows), np.int64),
        modality="tabular",
        classes=("a", "b"),
        features=features,
        relations=relations,
    )
    return rules(model(), constraints(data))


ALL = (YEARS, PAY, JOB, LEFT)


def moves_from(limits, row, epsilon, start=None):
    rows = torch.tensor(ROWS[[row]])
    found, fine = candidates(limits, rows, rows[:, None] if start is None else start, epsilon)
    assert found.shape[1] == width(limits)
    return {tuple(round(v, 5) for v in point) for point in found[fine].tolist()}


def test_costs_add_up_and_a_category_costs_once():
    limits = told(*ALL)
    point = torch.tensor([[5.0, 0.25, 0, 0, 1, 8]])
    assert cost(limits, point, torch.tensor(ROWS[[0]])).item() == pytest.approx(3 * 0.5 + 0.25 + 2)


def test_moves_of_a_whole_number_and_of_a_category_by_hand():
    """Years cost .5 each; with 2 to spend four of them: 2 to 6, and 2 is the least in the data."""
    found = moves_from(told(YEARS, JOB, PAY, LEFT), 0, 2.0)
    years = {point[0] for point in found if point[1:] == (0.5, 1, 0, 0, 8)}
    assert years == {2, 6, 4, 3}
    jobs = {point[2:5] for point in found if point[:2] == (2, 0.5)}
    assert jobs == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}


def test_a_category_that_costs_too_much_is_not_tried():
    found = moves_from(told(*ALL), 0, 1.9)
    assert {point[2:5] for point in found} == {(1, 0, 0)}


def test_a_row_without_a_category_may_take_one_and_no_row_loses_its_own():
    limits = told(*ALL)
    assert {p[2:5] for p in moves_from(limits, 2, 9.0)} == {(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert (0, 0, 0) not in {p[2:5] for p in moves_from(limits, 0, 9.0)}
    dropped = Feature(name="job", kind="categorical", columns=(2, 3, 4), dropped="other")
    assert (0, 0, 0) in {p[2:5] for p in moves_from(told(YEARS, dropped), 0, 9.0)}


def test_one_way_only():
    limits = told(*ALL)
    pays = {point[1] for point in moves_from(limits, 1, 9.0)}
    assert min(pays) == 0.5
    assert max(pays) == 1.5
    low, high = box(limits, torch.tensor(ROWS[[1]]))
    assert (low[0, 1], high[0, 1]) == (0.5, 1.5)
    assert low[0, 2:5].tolist() == high[0, 2:5].tolist() == ROWS[1, 2:5].tolist()


def test_an_equation_is_kept_by_pairs_alone():
    found = moves_from(told(YEARS, LEFT, relations=(SUM,)), 1, 3.0)
    assert {point[0] + point[5] for point in found} == {10}
    assert {point[0] for point in found} == {2, 3, 4, 5, 7}  # a pair costs .75: four up at most, one down


def test_a_pair_moves_by_steps_of_both():
    """2 years - left: one year makes up for two of the other, and left moves by threes: years by threes."""
    relation = Relation(terms=(("years", 2.0), ("left", 1.0)), low=0.0, high=13.0)
    left = Feature(name="left", columns=(5,), cost=0.25, step=3.0)
    rows = ROWS.copy()
    rows[1] = [3, 0, 1, 0, 0, 7]
    rows[:, 5] = [4, 7, 1, -5]
    limits = told(YEARS, left, relations=(relation,), rows=rows)
    pairs = limits.shifts.ratio != 0
    assert pairs.any()
    found = set(zip(limits.shifts.ratio[pairs].tolist(), limits.shifts.quantum[pairs].tolist(), strict=True))
    assert found == {(-2.0, 3.0), (-0.5, 6.0)}


def test_a_second_move_counts_from_the_row_and_can_undo_the_first():
    limits = told(*ALL)
    start = torch.tensor([[[6.0, 0.5, 1, 0, 0, 8]]])
    found = moves_from(limits, 0, 2.0, start)
    assert tuple(ROWS[0].tolist()) in found
    assert {point[0] for point in found if point[5] != 8} <= {6.0}
    assert not [point for point in found if point[0] == 6 and point[5] != 8]  # nothing is left to spend


def test_rounding_goes_towards_the_row():
    limits = told(*ALL)
    rows = torch.tensor(ROWS[[1, 1]])
    points = rows.clone()
    points[0, 0], points[1, 0], points[1, 1] = 5.9, 2.1, 0.77
    assert whole(limits, points, rows)[:, :2].tolist() == [[5, 1.5], [3, pytest.approx(0.77)]]


def test_drawn_back_stops_at_the_relation():
    relation = Relation(terms=(("years", 1.0), ("pay", 2.0)), high=9.0)
    rows = ROWS.copy()
    rows[3, 0] = 2
    limits = told(YEARS, PAY, relations=(relation,), rows=rows[:3] * 0.5)
    row = torch.tensor([[1.0, 1.0, 0, 0, 0, 0]])
    point = torch.tensor([[9.0, 3.0, 0, 0, 0, 0]])  # 3 at the row, 15 at the point: half the way
    back = drawn_back(limits, point, row)
    assert back[0, :2].tolist() == [pytest.approx(5), pytest.approx(2)]
    assert keeps(limits, back).item()
    assert not keeps(limits, point).item()


def test_without_relations_everything_keeps_them():
    limits = told(*ALL)
    points = torch.tensor(ROWS)
    assert keeps(limits, points).tolist() == [True] * 4
    assert drawn_back(limits, points, points) is points
