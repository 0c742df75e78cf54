"""Corruptions of table rows: what moves, by how much, and what never does."""

import numpy as np
import pytest
import torch

from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotApplicable
from audit.shift.tabular import STRENGTHS, columns, corrupt, fits

ROWS = 4000
FEATURES = (
    Feature(name="income", columns=(0,)),
    Feature(name="age", columns=(1,), immutable=True),
    Feature(name="grade", kind="ordinal", columns=(2,)),
    Feature(name="job", kind="categorical", columns=(3, 4, 5), categories=("a", "b", "c")),
    Feature(name="constant", columns=(6,)),
)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    job = np.eye(3)[generator.choice(3, ROWS, p=[0.6, 0.3, 0.1])]
    inputs = np.column_stack(
        [
            generator.normal(50, 20, ROWS),
            generator.normal(40, 10, ROWS),
            generator.choice([1.0, 2, 3], ROWS, p=[0.2, 0.2, 0.6]),
            job,
            np.full(ROWS, 7.0),
        ]
    )
    return Dataset(
        inputs=inputs.astype(np.float32), modality="tabular", classes=("0", "1"), features=FEATURES
    )


def done(data, name, severity, *, keep=False, rows=None, seed=0):
    rows = np.arange(len(data)) if rows is None else rows
    table = columns(data, keep_immutable=keep)
    before = torch.tensor(data.inputs[rows])
    after = corrupt(before, name, severity, rows, seed, table)
    assert torch.equal(before, torch.tensor(data.inputs[rows]))
    return after.numpy()


def test_noise_is_so_many_standard_deviations_of_numeric_columns_alone(data):
    for severity, sds in enumerate(STRENGTHS["numeric_noise"], 1):
        change = done(data, "numeric_noise", severity) - data.inputs
        spread = data.inputs.std(axis=0)
        np.testing.assert_allclose(change[:, :2].std(axis=0) / spread[:2], sds, rtol=0.06)
        assert abs(change[:, :2].mean(axis=0) / spread[:2]).max() < 0.05 * max(1, sds)
        assert not change[:, 2:].any()


def test_rounding_puts_values_on_a_grid_and_moves_them_half_a_step_at_most(data):
    for severity, sds in enumerate(STRENGTHS["rounding"], 1):
        made = done(data, "rounding", severity)
        step = sds * data.inputs.std(axis=0)[:2]
        grid = (made[:, :2] - data.inputs.mean(axis=0)[:2]) / step
        np.testing.assert_allclose(grid, grid.round(), atol=1e-3)
        assert (np.abs(made - data.inputs)[:, :2] <= step / 2 * 1.001).all()
        np.testing.assert_array_equal(made[:, 2:], data.inputs[:, 2:])


def test_unit_errors_are_ten_times_or_a_tenth_in_their_share(data):
    for severity, share in enumerate(STRENGTHS["unit_errors"], 1):
        numeric = [0, 1, 6]
        factor = done(data, "unit_errors", severity)[:, numeric] / data.inputs[:, numeric]
        larger, smaller = np.isclose(factor, 10).mean(), np.isclose(factor, 0.1).mean()
        assert larger == pytest.approx(share / 2, rel=0.3)
        assert smaller == pytest.approx(share / 2, rel=0.3)
        assert (np.isclose(factor, 1) | np.isclose(factor, 10) | np.isclose(factor, 0.1)).all()


def test_missing_values_become_the_mean_or_the_most_frequent_value(data):
    for severity, share in enumerate(STRENGTHS["missing_values"], 1):
        made = done(data, "missing_values", severity)
        mean = data.inputs.mean(axis=0)
        for column in (0, 1):
            lost = made[:, column] != data.inputs[:, column]
            assert lost.mean() == pytest.approx(share, rel=0.2)
            np.testing.assert_allclose(made[lost, column], mean[column], rtol=1e-5)
        lost = made[:, 2] != data.inputs[:, 2]
        assert set(made[lost, 2]) == {3.0}
        lost = (made[:, 3:6] != data.inputs[:, 3:6]).any(axis=1)
        assert lost.mean() == pytest.approx(share * 0.4, rel=0.25)
        assert (made[lost, 3:6] == [1, 0, 0]).all()


def test_swaps_keep_one_hot_groups_whole_and_the_marginals(data):
    for severity, share in enumerate(STRENGTHS["category_swaps"], 1):
        made = done(data, "category_swaps", severity)
        np.testing.assert_array_equal(made[:, [0, 1, 6]], data.inputs[:, [0, 1, 6]])
        assert (made[:, 3:6].sum(axis=1) == 1).all()
        assert set(made[:, 2]) == {1.0, 2.0, 3.0}
        np.testing.assert_allclose(made[:, 3:6].mean(axis=0), data.inputs[:, 3:6].mean(axis=0), atol=0.02)
        # A swapped value is another one with the chance that two draws differ.
        other = 1 - (0.6**2 + 0.3**2 + 0.1**2)
        changed = (made[:, 3:6] != data.inputs[:, 3:6]).any(axis=1).mean()
        assert changed == pytest.approx(share * other, rel=0.2)
        both = np.corrcoef(
            (made[:, 2] != data.inputs[:, 2]), (made[:, 3:6] != data.inputs[:, 3:6]).any(axis=1)
        )
        assert abs(both[0, 1]) < 0.06


@pytest.mark.parametrize("name", list(STRENGTHS))
def test_distortion_grows_and_a_row_does_not_depend_on_its_batch(data, name):
    found = [np.abs(done(data, name, severity) - data.inputs).mean() for severity in (1, 2, 3, 4, 5)]
    assert sorted(set(found)) == found
    rows = np.array([17, 3, 3999])
    np.testing.assert_allclose(done(data, name, 4, rows=rows), done(data, name, 4)[rows], rtol=1e-6)
    assert not np.array_equal(done(data, name, 4), done(data, name, 4, seed=1)) or name == "rounding"


@pytest.mark.parametrize("name", list(STRENGTHS))
def test_what_a_person_cannot_change_is_spared_only_when_asked(data, name):
    kept = done(data, name, 5, keep=True)
    np.testing.assert_array_equal(kept[:, 1], data.inputs[:, 1])
    if name != "category_swaps":
        assert (done(data, name, 5)[:, 1] != data.inputs[:, 1]).any()


def test_columns_without_a_description_are_numeric():
    data = Dataset(inputs=np.eye(4, dtype=np.float32), modality="tabular", classes=())
    table = columns(data)
    assert [f.columns for f in table.numeric] == [(0,), (1,), (2,), (3,)]
    assert [name for name in STRENGTHS if not fits(name, table)] == ["category_swaps"]


def test_what_fits_nothing_is_refused_with_the_reason(data):
    image = Dataset(inputs=np.zeros((2, 1, 8, 8), np.float32), modality="image", classes=())
    with pytest.raises(NotApplicable, match="need a table"):
        columns(image)
    fixed = Dataset(
        inputs=np.zeros((2, 1), np.float32),
        modality="tabular",
        classes=(),
        features=(Feature(name="age", columns=(0,), immutable=True),),
    )
    with pytest.raises(NotApplicable, match="immutable"):
        columns(fixed, keep_immutable=True)
    with pytest.raises(ConfigError, match="nearest is 'rounding'"):
        done(data, "roundin", 1)
    with pytest.raises(ConfigError, match="severity 0"):
        done(data, "rounding", 0)
