"""What is read off the data and the description of its features, worked out by hand."""

import numpy as np
import pytest

from audit.attack.constraints import constraints, user_step
from audit.dataset import Dataset, Feature, Relation
from audit.errors import NotApplicable

ROWS = np.array(
    [[20, 0.5, 1, 0, 7], [30, 1.5, 0, 1, 7], [40, 2.25, 0, 0, 7], [50, 3.5, 1, 0, 7]], dtype=np.float32
)
AGE, PAY = Feature(name="age", columns=(0,)), Feature(name="pay", columns=(1,))
JOB = Feature(name="job", kind="categorical", columns=(2, 3), categories=("x", "y"))
SAME = Feature(name="same", columns=(4,))


def table(*features, rows=ROWS, relations=()):
    return Dataset(
        inputs=rows,
        labels=np.zeros(len(rows), np.int64),
        modality="tabular",
        classes=("a", "b"),
        features=features,
        relations=relations,
    )


def number(data, name, protected=()):
    (found,) = [n for n in constraints(data, protected).numbers if n.name == name]
    return found


def test_a_number_costs_one_for_a_standard_deviation_and_stays_in_the_data():
    age, pay = (number(table(AGE, PAY, JOB, SAME), name) for name in ("age", "pay"))
    assert (age.column, age.low, age.high, age.sense) == (0, 20, 50, 0)
    assert age.rate == pytest.approx(1 / np.std([20, 30, 40, 50]))
    assert age.step == 1  # whole numbers, by the data
    assert pay.step == 0
    assert (pay.low, pay.high) == (0.5, 3.5)


def test_what_is_stated_is_in_the_users_units_and_kept_in_those_of_the_input():
    told = Feature(
        name="age",
        columns=(0,),
        unit=-2.0,
        zero=5.0,
        direction="increase",
        step=3.0,
        cost=0.25,
        low=0.0,
        high=60.0,
    )
    age = number(table(told, PAY, JOB, SAME), "age")
    assert age.sense == -1  # the encoder turns the scale over
    assert age.step == 1.5
    assert age.rate == 0.5
    assert (age.low, age.high) == (0, 60)


def test_what_is_held_and_why():
    held = constraints(table(Feature(name="age", columns=(0,), immutable=True), PAY, JOB, SAME), ("pay",))
    assert [n.name for n in held.numbers] == []
    assert [g.name for g in held.groups] == ["job"]
    text = " ".join(held.space.caveats)
    for part in ("because immutable: age", "because protected: pay", "because constant: same"):
        assert part in text
    assert held.space.unit.tolist() == [0, 0, 1, 1, 0]


def test_what_cannot_be_kept_is_held():
    several = Feature(name="several", columns=(0, 1))
    codes = Feature(name="codes", kind="categorical", columns=(4,))
    crooked = Feature(name="crooked", kind="ordinal", columns=(4,), unit=None)
    rows = ROWS.copy()
    rows[:, 4] = [1, 2, 3, 4]
    text = " ".join(constraints(table(several, JOB, codes, rows=rows)).space.caveats)
    assert "made into several inputs: several" in text
    assert "not one-hot: codes" in text
    text = " ".join(constraints(table(several, JOB, crooked, rows=rows)).space.caveats)
    assert "of steps that its encoder does not keep: crooked" in text


def test_nothing_that_may_change_does_not_fit():
    fixed = tuple(
        Feature(name=n, columns=c, immutable=True, kind=k)
        for n, c, k in (("a", (0,), "numeric"), ("j", (2, 3), "categorical"))
    )
    with pytest.raises(NotApplicable, match=r"no feature may change\. Held because immutable: a, j"):
        constraints(table(*fixed, rows=ROWS))


def test_a_group_knows_whether_none_of_its_columns_is_a_category():
    one = Feature(name="male", kind="categorical", columns=(3,))
    dropped = Feature(name="job", kind="categorical", columns=(2, 3), dropped="z", cost=2.5)
    zeros = {
        g.name: (g.zeros, g.price)
        for data in (table(AGE, PAY, one), table(AGE, PAY, dropped), table(AGE, PAY, JOB))
        for g in constraints(data).groups
        if g.name != "job" or data.features[2].dropped
    }
    assert zeros == {"male": (True, 1), "job": (True, 2.5)}
    (plain,) = constraints(table(AGE, PAY, JOB)).groups
    assert not plain.zeros
    assert "keeps having none" in " ".join(constraints(table(AGE, PAY, JOB)).space.caveats)


def test_a_relation_speaks_of_the_users_units():
    """2 age - 4 pay >= 10 with age = 3 + 10 x: 20 x - 4 pay >= 4."""
    age = Feature(name="age", columns=(0,), unit=10.0, zero=3.0)
    told = constraints(
        table(age, PAY, JOB, SAME, relations=(Relation(terms=(("age", 2.0), ("pay", -4.0)), low=10.0),))
    )
    assert told.weights.tolist() == [[20, -4, 0, 0, 0]]
    assert told.least.tolist() == [4]
    assert told.most.tolist() == [np.inf]
    assert "2 age - 4 pay >= 10" in " ".join(told.space.caveats)


@pytest.mark.parametrize(
    ("feature", "values", "step"),
    [
        (Feature(name="x", columns=(0,)), [1, 2, 5], 1),
        (Feature(name="x", columns=(0,)), [1, 2.5, 5], None),
        (Feature(name="x", columns=(0,), step=0.5), [1, 2, 5], 0.5),
        (Feature(name="x", columns=(0,), kind="ordinal"), [0.5, 1.5], 1),
        (Feature(name="x", columns=(0,), unit=7.3, zero=12.0), [(v - 12) / 7.3 for v in (3, 12, 88)], 1),
        (Feature(name="x", columns=(0,), unit=None), [1, 2, 5], None),
        (Feature(name="x", columns=(0,)), [1e9, 2e9], None),  # single precision cannot tell
    ],
)
def test_steps_are_stated_or_read_off_the_data(feature, values, step):
    rows = np.array(values, np.float32)[:, None]
    assert user_step(table(feature, rows=rows), feature) == step


def test_the_reader_is_told_what_nobody_stated():
    stated = Feature(name="age", columns=(0,), direction="increase", step=1.0, low=0.0, high=99.0, cost=2.0)
    text = " ".join(constraints(table(stated, PAY, JOB, SAME)).space.caveats)
    for part in (
        "age may only increase",
        "whole steps of 1",
        "age stays in its stated range",
        "age costs 2",
        "Nothing is stated of pay, job",
        "in the range that these rows show, for want of a stated one: pay",
    ):
        assert part in text


def test_columns_without_a_description_are_numbers():
    assert [n.name for n in constraints(table()).numbers] == [f"column {i}" for i in range(4)]
