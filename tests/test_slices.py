"""The search for the worst slices, against counting them one by one."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.slices import Space, category_axis, numeric_axis, search


def rows_of(axis, term):
    return axis.members[axis.terms.index(term)][axis.codes]


def some_axes(random, n):
    return (
        numeric_axis("age", random.integers(18, 76, n).astype(np.float32), 4),
        numeric_axis("children", random.integers(0, 3, n).astype(np.float32), 4),
        category_axis("region", ("north", "south", "west"), random.integers(0, 3, n)),
    )


def test_every_count_equals_counting_the_rows_of_the_slice():
    random = np.random.default_rng(1)
    axes = some_axes(random, 500)
    outcome = random.random(500) < 0.3
    space = Space(axes, 2, 10)
    rows, having = space.rows, space.count(space.codes[:, outcome])
    terms = [(axis, k) for axis in axes for k in range(len(axis.terms))]
    compared = 0
    for i, (a, s) in enumerate(terms):
        for j in range(i, len(terms)):
            b, t = terms[j]
            if i != j and a is b:
                continue
            inside = a.members[s][a.codes] & b.members[t][b.codes]
            assert rows[i, j] == inside.sum()
            assert having[i, j] == (inside & outcome).sum()
            compared += 1
    assert compared > 50


def test_the_family_holds_each_slice_once_and_ignores_the_outcome():
    random = np.random.default_rng(2)
    axes = some_axes(random, 500)
    space = Space(axes, 2, 30)
    wanted = set()
    terms = [(axis, k) for axis in axes for k in range(len(axis.terms))]
    for i, (a, s) in enumerate(terms):
        for j in range(i, len(terms)):
            b, t = terms[j]
            inside = a.members[s][a.codes] & b.members[t][b.codes]
            smaller = inside.sum() < min(a.members[s][a.codes].sum(), b.members[t][b.codes].sum())
            if (i == j or (a is not b and smaller)) and 30 <= inside.sum() <= 470:
                wanted.add((i, j))
    assert set(zip(*np.nonzero(space.family), strict=True)) == wanted
    assert Space(axes, 1, 30).family.sum() == sum(i == j for i, j in wanted)


def test_the_same_feature_twice_adds_only_what_differs():
    """A pair with the same rows as one of its terms is that term."""
    codes = np.arange(400) % 4
    axes = [category_axis(name, tuple("abcd"), codes) for name in ("first", "second")]
    assert Space(tuple(axes), 2, 10).family.sum() == 8


def test_terms_are_told_in_values_that_occur():
    axis = numeric_axis("age", np.repeat(np.arange(20, 60, dtype=np.float32), 10), 4)
    assert axis.terms[:4] == ("below 30", "30 to below 40", "40 to below 50", "50 or more")
    assert set(axis.terms[4:]) == {"below 40", "below 50", "30 or more", "40 or more"}
    values = np.repeat(np.arange(20, 60), 10)
    assert (rows_of(axis, "30 or more") == (values >= 30)).all()
    few = numeric_axis("late", np.array([0, 1, 2, 2], np.float32), 4)
    assert few.terms == ("0", "1", "2", "below 2", "1 or more")


def test_a_feature_of_one_value_has_no_slice():
    axes = (numeric_axis("constant", np.ones(100, np.float32), 4),)
    assert not Space(axes, 2, 2).family.any()


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), bins=st.integers(2, 8))
@settings(max_examples=100, deadline=None)
def test_bins_divide_the_rows_and_terms_are_distinct(values, bins):
    axis = numeric_axis("x", np.array(values, np.float32), bins)
    count = axis.members.shape[1]
    assert count <= bins
    assert (axis.members[:count] == np.eye(count, dtype=bool)).all()
    assert axis.codes.min() >= 0
    assert axis.codes.max() < count
    for a, b in combinations(range(len(axis.terms)), 2):
        assert (axis.members[a] != axis.members[b]).any()
    order = np.argsort(values, kind="stable")
    assert (np.diff(axis.codes[order]) >= 0).all()


def test_the_worst_slice_is_the_planted_one_and_its_relatives_are_not_repeated():
    random = np.random.default_rng(3)
    axes = some_axes(random, 4000)
    inside = rows_of(axes[0], axes[0].terms[0]) & rows_of(axes[2], "south")
    outcome = (random.random(4000) < 0.1) | (inside & (random.random(4000) < 0.7))
    found = search(Space(axes, 2, 30), outcome, shown=5, shuffles=49, seed=0)
    first = found.slices[0]
    assert first.terms == {"age": axes[0].terms[0], "region": "south"}
    assert (first.x, first.n) == ((inside & outcome).sum(), inside.sum())
    assert (first.x0, first.n0) == ((~inside & outcome).sum(), (~inside).sum())
    assert found.shuffles == 49
    assert found.as_bad == 0
    assert len(found.slices) == 1, "a slice is shown that is only bad because of the planted one"


def test_two_planted_slices_are_both_found():
    random = np.random.default_rng(4)
    axes = some_axes(random, 4000)
    one = rows_of(axes[0], axes[0].terms[0]) & rows_of(axes[2], "south")
    two = rows_of(axes[1], "2") & rows_of(axes[2], "west")
    outcome = (random.random(4000) < 0.1) | one | (two & (random.random(4000) < 0.6))
    found = search(Space(axes, 2, 30), outcome, shown=2, shuffles=19, seed=0)
    assert [dict(item.terms) for item in found.slices] == [
        {"age": axes[0].terms[0], "region": "south"},
        {"children": "2", "region": "west"},
    ]


def test_a_single_term_is_preferred_where_a_second_adds_nothing():
    random = np.random.default_rng(5)
    axes = some_axes(random, 4000)
    outcome = (random.random(4000) < 0.1) | rows_of(axes[2], "south")
    found = search(Space(axes, 2, 30), outcome, shown=1, shuffles=19, seed=0)
    assert found.slices[0].terms == {"region": "south"}


@pytest.mark.parametrize("share", [0.15, 0.7])
def test_the_shuffle_null_is_uniform_on_clean_data(share):
    """The worst slice of clean data is as bad as that of a shuffle half of the time, rare or common."""
    random = np.random.default_rng(6)
    answers = []
    for seed in range(60):
        axes = some_axes(random, 400)
        outcome = random.random(400) < share
        found = search(Space(axes, 2, 20), outcome, shown=1, shuffles=39, seed=seed)
        answers.append((found.as_bad + 1) / (found.shuffles + 1))
    assert 0.38 < np.mean(answers) < 0.62
    assert sum(p <= 0.05 for p in answers) <= 9


@pytest.mark.parametrize("value", [False, True])
def test_an_outcome_that_never_varies_has_no_worst_slice(value):
    axes = some_axes(np.random.default_rng(7), 200)
    found = search(Space(axes, 2, 10), np.full(200, value), shown=5, shuffles=19, seed=0)
    assert found.slices == ()
    assert found.searched > 0


def test_a_search_is_repeated_by_its_seed():
    random = np.random.default_rng(8)
    space, outcome = Space(some_axes(random, 400), 2, 20), random.random(400) < 0.3
    first, second = (search(space, outcome, shown=3, shuffles=29, seed=5) for _ in range(2))
    assert first == second


def test_a_hundred_thousand_rows_and_twenty_features_take_a_second():
    random = np.random.default_rng(9)
    axes = tuple(numeric_axis(f"f{k}", random.normal(size=100_000), 8) for k in range(20))
    outcome = random.random(100_000) < 0.15
    started = time.process_time()
    found = search(Space(axes, 2, 30), outcome, shown=10, shuffles=19, seed=0)
    assert time.process_time() - started < 4, "about .6 s on a quiet core"
    assert found.searched > 50_000
