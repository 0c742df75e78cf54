"""The gate: up to one row in twenty may miss, more raise a doubt that stands at every attribution."""

import numpy as np
import pytest

from audit.evidence import Evidence, Measure
from audit.explain.attribution import Attribution
from audit.library.gate import gated, sums


def item(error):
    count = len(error)
    return Attribution(
        method="deep_lift",
        features=("a",),
        rows=np.arange(count),
        values=np.ones((count, 1)),
        unit="log-odds",
        targets=np.zeros(count, dtype=np.int64),
        fx=np.ones(count),
        completeness=np.array(error),
    )


@pytest.mark.parametrize(("missed", "doubted"), [(0, False), (1, False), (2, True), (20, True)])
def test_more_than_one_row_in_twenty_raises_a_doubt(missed, doubted):
    found = sums(item([0.2] * missed + [0.01] * (20 - missed)), 0.05)
    assert bool(found.doubt) == doubted
    share = found.measures[1]
    assert share.statistics == {"x": 20 - missed, "n": 20}
    if doubted:
        assert f"{missed} of 20 rows" in found.doubt


def test_an_error_that_is_not_finite_counts_as_missed_and_enters_no_mean():
    found = sums(item([np.nan, np.inf, 0.01, 0.01]), 0.05)
    assert found.measures[0].n == 2
    assert found.measures[0].value == pytest.approx(0.01)
    assert found.measures[1].statistics == {"x": 2, "n": 4}
    assert found.doubt
    nothing = sums(item([np.nan] * 3), 0.05)
    assert nothing.measures[0].value is None
    assert nothing.measures[0].reason == "no row has a finite completeness error"


def test_a_doubt_marks_the_attributions_alone():
    names = ("mean_abs_attribution", "completeness_error")
    found = Evidence(measures=[Measure(name=name, value=1.0) for name in names], caveats=["one"])
    marked = gated(found, "the sums miss")
    assert [item.unreliable for item in marked.measures] == ["the sums miss", ""]
    assert marked.caveats[0].startswith("Not to be relied on: the sums miss.")
    assert marked.caveats[1] == "one"
    assert gated(found, "") is found
