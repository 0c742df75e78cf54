"""Calibration errors restated row by row; coverage of their intervals; the bias that is taken off."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from audit.reliability.bins import estimate, score_cells, squared_error
from audit.stats import interval_at, measure


def rows(count, seed, steepness=1.0):
    """Scores and outcomes; with steepness 1 the scores are the true probabilities."""
    random = np.random.default_rng(seed)
    odds = random.normal(1.0, 1.2, count)
    outcomes = random.random(count) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-steepness * odds)), outcomes


def statistics(cells, metric, draws=300, seed=0):
    return {"metric": metric, "cells": cells, "draws": draws, "seed": seed}


def test_cells_are_the_bins_of_scikit_learn():
    scores, outcomes = rows(1000, 1)
    cells = score_cells(scores, outcomes, 10)
    rates, means = calibration_curve(outcomes, scores, n_bins=10, strategy="quantile")
    counts = np.array([cells["negatives"], cells["positives"]])
    assert counts.sum(axis=0).tolist() == [100] * 10
    assert counts[1] / 100 == pytest.approx(rates, abs=1e-12)
    assert cells["scores"] == pytest.approx(means, abs=1e-12)


def test_squared_error_by_hand():
    # bin 1: 3 of 4, said .5; bin 2: 1 of 2, said .9
    first = (0.25**2 - 0.75 * 0.25 / 3) * 4
    second = (0.4**2 - 0.25 / 1) * 2
    assert float(squared_error([1, 1], [3, 1], [0.5, 0.9])) == pytest.approx((first + second) / 6)


def test_debiasing_takes_off_what_noise_adds():
    plain, debiased = [], []
    for seed in range(300):
        scores, outcomes = rows(300, seed)
        cells = score_cells(scores, outcomes, 15)
        counts = np.array([cells["negatives"], cells["positives"]])
        n = counts.sum(axis=0)
        plain.append(float(((counts[1] / n - cells["scores"]) ** 2 * n).sum() / n.sum()))
        debiased.append(float(squared_error(*counts, cells["scores"])))
    error = np.std(debiased) / np.sqrt(len(debiased))
    assert abs(np.mean(debiased)) < 4 * error
    assert np.mean(plain) > 20 * error


@pytest.mark.parametrize(("steepness", "true"), [(1.0, 0.0), (3.0, None)])
def test_the_interval_of_the_debiased_error_holds_the_truth(steepness, true):
    scores, _ = rows(400_000, 99)
    odds = np.log(scores / (1 - scores))
    promised = 1 / (1 + np.exp(-steepness * odds))
    order = np.argsort(promised)
    parts = np.array_split(order, 15)
    gaps = [(scores[p].mean() - promised[p].mean()) ** 2 for p in parts]
    truth = np.sqrt(np.mean(gaps)) if true is None else true
    held = 0
    for seed in range(150):
        cells = [score_cells(*rows(400, seed, steepness), 15)]
        _, low, high = estimate(statistics(cells, "debiased"), 0.95)
        held += low <= truth <= high
    assert held >= 138


def test_classwise_is_the_mean_over_classes_restated_on_the_rows():
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.ones(3), 600)
    labels = random.integers(0, 3, 600)
    cells = [score_cells(shares[:, c], labels == c, 10) for c in range(3)]
    slow = []
    for c in range(3):
        parts = np.array_split(np.argsort(shares[:, c], kind="stable"), 10)
        gaps = [len(p) * abs((labels[p] == c).mean() - shares[p, c].mean()) for p in parts]
        slow.append(sum(gaps) / 600)
    value, low, high = estimate(statistics(cells, "classwise"), 0.95)
    assert value == pytest.approx(np.mean(slow), abs=1e-12)
    assert 0 < low < value <= high


def test_a_calibrated_score_is_not_called_miscalibrated():
    flagged = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        shares = random.dirichlet([0.3, 0.3, 0.3, 0.3], 300)
        labels = (random.random((300, 1)) < shares.cumsum(axis=1)).argmax(axis=1)
        cells = [score_cells(shares[:, c], labels == c, 10) for c in range(4)]
        flagged += estimate(statistics(cells, "classwise"), 0.95)[1] > 0
        flagged += estimate(statistics(cells[:1], "debiased"), 0.95)[1] > 0
    assert flagged <= 9


def test_no_rows_give_no_number_and_levels_nest():
    nothing = score_cells(np.zeros(0), np.zeros(0, bool), 5)
    assert estimate(statistics([nothing], "classwise"), 0.95) == (None, None, None)
    item = measure("x", "calibration_bins", statistics([score_cells(*rows(200, 0), 10)], "debiased"))
    low, high = interval_at(item, 0.999)
    assert low <= item.low <= item.value <= item.high <= high
    assert interval_at(item, 0.95) == (item.low, item.high)
