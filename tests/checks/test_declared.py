"""The watch over what the tests of checks measure finds what is not declared, and nothing else."""

import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np

from audit.check import check
from audit.dataset import Dataset, Sensitive
from audit.evidence import Evidence
from audit.fairness.derive import METRICS
from audit.registry import installed_checks
from audit.stats import proportion

undeclared = run_path(str(Path(__file__).with_name("conftest.py")))["undeclared"]
SEEN = []


def evidence(*names):
    found = Evidence(measures=[proportion(name, 1, 2) for name in names])
    SEEN.append(undeclared(found.measures, sys._getframe(1), KNOWN))
    return found


@check("mine.outer", measures={"recall"})
def outer(*, names: tuple[str, ...] = ()) -> Evidence:
    """Measures what it is told to, by way of another function."""
    return evidence(*names)


KNOWN = {outer.measure.__code__: outer}


def test_what_is_not_declared_is_found_through_the_functions_in_between():
    SEEN.clear()
    outer.measure(names=("recall",))
    outer.measure(names=("recall", "precision"))
    evidence("precision")
    assert SEEN == [[], ["mine.outer: precision"], []], "what no check measured is nobody's"


def test_a_built_in_check_that_declared_less_would_be_found():
    item = installed_checks()["fairness.representation"]
    codes = np.array([0, 1, 1], np.int64)
    data = Dataset(
        inputs=np.zeros((3, 1), np.float32), labels=np.array([0, 1, 1]), modality="tabular",
        classes=("a", "b"), sensitive={"g": Sensitive(name="g", groups=("x", "y"), codes=codes)},
    )  # fmt: skip
    measured = item.measure(data, **item.settings({})).measures
    assert {m.name for m in measured} <= item.measures
    frame = item.measure.__code__
    lesser = replace(item, measures=item.measures - {"share"})
    assert _as_if_within(frame, measured, lesser) == ["fairness.representation: share"]
    assert _as_if_within(frame, measured, item) == []


def _as_if_within(code, measured, item):
    return undeclared(measured, SimpleNamespace(f_code=code, f_back=None), {code: item})


def test_the_rates_by_group_are_all_that_can_be_derived():
    assert installed_checks()["fairness.groups"].measures == set(METRICS)
