"""Methods: every interval that follows from the statistics in a record, by the name it has there."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from audit.proof import means, paired, proportions, tables
from audit.proof.proportions import NOTHING, Estimate, Statistics, hybrid, known, normal

TOLERANCE = 1e-9
# Distributions that have no closed form are inverted here and there by two libraries of functions.
_LOOSE = {"cramers_v": 1e-6}
_MODULES = {
    proportions: (
        "wilson", "clopper_pearson", "newcombe", "difference_of_many", "koopman", "koopman_exact", "odds",
        "odds_difference", "wilson_against", "largest_difference", "larger_of_two", "mean_of_proportions",
    ),
    means: (
        "student_t", "root_student_t", "welch", "exact", "mantel_haenszel_ratio",
        "mantel_haenszel_difference", "r_squared",
    ),
    paired: ("paired_proportions", "mean_of_paired", "paired_auc"),
    tables: ("cramers_v", "quantile", "rate_at_rate"),
}  # fmt: skip
_DRAWN = ("bootstrap_quantiles", "score_bins", "calibration_bins", "risk_coverage", "paired_bootstrap")
_PLACES = {name: module for module, names in _MODULES.items() for name in names}
NAMES = frozenset({*_PLACES, *_DRAWN, "two_intervals"})


def method(name: str) -> Callable[[Statistics, float], Estimate]:
    """The function of a method; numpy is imported only for one that draws."""
    from importlib import import_module

    if name == "two_intervals":
        return _two_intervals
    module = import_module("audit.proof.draws") if name in _DRAWN else _PLACES[name]
    found: Callable[[Statistics, float], Estimate] = getattr(module, name)
    return found


def _two_intervals(statistics: Statistics, level: float) -> Estimate:
    """The difference of two numbers, or of how near each is to 0 or 1, from the interval of each alone."""
    parts = [known(derive(statistics[key], level)) for key in ("new", "base")]
    if None in parts:
        return NOTHING
    new, base = (_near(statistics["nearness"], part) for part in parts if part)
    return hybrid(new, base)


def _near(which: str, found: tuple[float, float, float]) -> tuple[float, float, float]:
    """A number and its interval as distances: |x| from zero, the smaller of x and 1/x from one."""
    value, low, high = found
    if which == "zero":
        inner = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        return abs(value), inner, max(abs(low), abs(high))
    if which == "one":
        near = [min(x, 1 / x) if x > 0 else 0.0 for x in found]
        return near[0], min(near[1:]), 1.0 if low <= 1 <= high else max(near[1:])
    return found


def can_derive(measure: Mapping[str, Any]) -> bool:
    """Whether a measure of a record holds what its value and interval follow from."""
    return measure["method"] in NAMES and bool(measure["statistics"])


def derive(measure: Mapping[str, Any], level: float) -> Estimate:
    """Value, low and high of a measure at a level, from its statistics alone."""
    return method(measure["method"])(measure["statistics"], level)


def interval_at(measure: Mapping[str, Any], level: float) -> tuple[float | None, float | None]:
    """Low and high at a level; without statistics the recorded interval is stretched as a normal one."""
    if can_derive(measure):
        return derive(measure, level)[1:]
    value, low, high, own = (measure[key] for key in ("value", "low", "high", "level"))
    if None in (value, low, high, own):
        return None, None
    stretch = normal(level) / normal(own)
    return value + (low - value) * stretch, value + (high - value) * stretch


def tolerance(name: str) -> float:
    """The relative difference that rounding may make to a number of this method."""
    return _LOOSE.get(name, TOLERANCE)


def same(a: float | None, b: float | None, within: float = TOLERANCE) -> bool:
    """Whether two numbers are one, but for rounding; None is the same as None alone."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=within, abs_tol=within * 1e-3)
