"""Numbers from score bins against scikit-learn and scipy on the rows themselves."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, skew
from sklearn.metrics import roc_auc_score

from audit import scores, stats
from audit.evidence import Measure

COUNTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40)


def drawn(rows, seed, shift=1.0, ties=False):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(np.int64)
    values = random.normal(size=rows) * 3 + shift * labels
    return (np.round(values) if ties else values), labels


def cells(values, labels, bins=scores.BINS):
    places = scores.equal_mass_bins(values, bins)
    return scores.count_scores(np.zeros_like(labels), labels, places, 1, bins)[0]


def statistics(metric, *groups, draws=400, seed=3):
    return {"metric": metric, "groups": list(groups), "draws": draws, "seed": seed}


@pytest.mark.parametrize(("rows", "seed"), [(200_000, 1), (20_000, 2), (3_000, 3)])
def test_auc_of_1024_bins_is_that_of_the_rows(rows, seed):
    values, labels = drawn(rows, seed)
    assert abs(scores.auc(*cells(values, labels)) - roc_auc_score(labels, values)) < 1e-4


def test_auc_stays_exact_where_nearly_all_scores_are_close_to_0():
    """Bins of equal width would put 99 % of these rows into one."""
    values, labels = drawn(50_000, 4, shift=4)
    probabilities = 1 / (1 + np.exp(-(values * 3 - 40)))
    assert (probabilities < 1 / 1024).mean() > 0.95
    assert abs(scores.auc(*cells(probabilities, labels)) - roc_auc_score(labels, probabilities)) < 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_few_different_scores_lose_nothing(seed):
    values, labels = drawn(5_000, seed, ties=True)
    table = cells(values, labels)
    assert scores.auc(*table) == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
    expected = ks_2samp(values[labels == 0], values[labels == 1], method="asymp").statistic
    assert scores.ks(*table) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=300), st.integers(1, 20))
def test_bins_rise_with_the_score_and_never_part_equal_scores(values, bins):
    values = np.array(values)
    places = scores.equal_mass_bins(values, bins)
    order = np.argsort(values, kind="stable")
    assert (np.diff(places[order]) >= 0).all()
    assert places.min() >= 0
    assert places.max() < bins
    for value in values:
        assert len(set(places[values == value])) == 1


def test_bins_hold_equal_shares():
    places = scores.equal_mass_bins(np.random.default_rng(0).normal(size=10_000), 10)
    assert np.bincount(places).tolist() == [1000] * 10


@given(COUNTS)
def test_joining_bins_changes_neither_auc_nor_ks(counts):
    table = np.array(counts, dtype=np.int64).T
    joined = scores.compact(table)
    short = np.array([joined["negatives"], joined["positives"]], dtype=np.int64)
    assert short.sum() == table.sum()
    if (table.sum(axis=1) > 0).all():
        assert short.shape[1] <= table.shape[1]
        for metric in (scores.auc, scores.ks):
            assert metric(*short) == pytest.approx(metric(*table), abs=1e-12)


@pytest.mark.parametrize("metric", ["auc", "ks"])
def test_the_cell_bootstrap_has_the_quantiles_of_the_row_bootstrap(metric):
    values, labels = drawn(400, 7)
    table = scores.compact(cells(values, labels))
    by_cells = scores.replicates(table, metric, 4000, 1)
    random = np.random.default_rng(2)
    oracle = {
        "auc": lambda v, y: roc_auc_score(y, v),
        "ks": lambda v, y: ks_2samp(v[y == 0], v[y == 1], method="asymp").statistic,
    }[metric]
    by_rows = []
    for _ in range(1000):
        pick = random.integers(0, 400, 400)
        by_rows.append(oracle(values[pick], labels[pick]))
    spread = np.std(by_rows)
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        # Standard error of a quantile: sqrt(p (1 - p) / draws) / density; the normal density is enough here.
        density = np.exp(-(np.abs(stats.normal_quantile(abs(2 * share - 1))) ** 2) / 2) / 2.507 / spread
        error = np.sqrt(share * (1 - share) * (1 / 4000 + 1 / 1000)) / density
        assert abs(np.quantile(by_cells, share) - np.quantile(by_rows, share)) < 4 * error
    assert by_cells.std() == pytest.approx(spread, rel=0.08)


def test_the_interval_covers_the_true_auc_about_as_often_as_it_says():
    """Scores of the labels lie a standard deviation apart: AUC = Phi(1 / sqrt 2) = .7602."""
    held = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 100)
        table = scores.compact(cells(random.normal(size=200) + labels, labels))
        _, low, high = scores.estimate(statistics("auc", table, seed=seed), 0.95)
        held += low <= 0.76025 <= high
    assert 135 <= held <= 149


def test_the_interval_covers_the_true_ks_distance():
    """Scores of the labels lie a standard deviation apart: KS = 2 Phi(1 / 2) - 1."""
    truth, held, lows = 2 * NormalDist().cdf(0.5) - 1, 0, 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], [150, 50])
        table = scores.compact(cells(random.normal(size=200) + labels, labels))
        _, low, high = scores.estimate(statistics("ks", table, seed=seed), 0.95)
        held += low <= truth <= high
        lows += low > 0
    assert held >= 140
    assert lows == 150


def ece_of_sample(seed, gap):
    """600 rows whose observed rate lies `gap` above the mean score in every other of ten bins."""
    means = np.linspace(0.1, 0.9, 10)
    rates = means + gap * (np.arange(10) % 2)
    positives = np.random.default_rng(seed).binomial(60, rates)
    cell = {"positives": positives.tolist(), "negatives": (60 - positives).tolist(), "scores": means.tolist()}
    return scores.estimate(statistics("ece", cell, seed=seed), 0.95)


def test_a_calibrated_score_is_not_shown_to_be_miscalibrated():
    """The calibration error of any sample is above 0; its interval must hold 0, the truth."""
    found = [ece_of_sample(seed, 0.0) for seed in range(100)]
    assert min(value for value, _, _ in found) > 0.01
    assert sum(low > 0 for _, low, _ in found) <= 6


@pytest.mark.parametrize("gap", [0.02, 0.05, 0.1])
def test_the_interval_holds_the_true_calibration_error(gap):
    held = [low <= gap / 2 <= high for _, low, high in (ece_of_sample(seed, gap) for seed in range(100))]
    assert sum(held) >= 92


def rare_and_calibrated(seed, rows=200):
    """Scores of a rare outcome that say the truth: bins of the lowest scores often hold no such outcome."""
    random = np.random.default_rng(seed)
    odds = random.normal(-3.1, 1.5, rows)
    score = 1 / (1 + np.exp(-odds))
    labels = (random.random(rows) < score).astype(np.int64)
    places = scores.equal_mass_bins(odds, 10)
    table = scores.count_scores(np.zeros(rows, np.int64), labels, places, 1, 10)[0]
    means = np.bincount(places, weights=score) / np.bincount(places)
    curve = {"negatives": table[0].tolist(), "positives": table[1].tolist(), "scores": means.tolist()}
    return curve, (score - labels) ** 2


def test_calibrated_scores_of_a_rare_outcome_are_not_shown_to_be_miscalibrated():
    """A bootstrap of the counts alone shows it in 7 of 100: bins without the outcome never vary in it."""
    lows = []
    for seed in range(400):
        curve, _ = rare_and_calibrated(seed)
        lows.append(scores.estimate(statistics("ece", curve, draws=200, seed=seed), 0.95)[1])
    assert sum(low > 0 for low in lows) <= 14


def test_the_interval_of_a_skew_brier_score_holds_the_truth():
    """Student's interval alone holds it in 92 of 100 samples."""
    truth = np.mean([rare_and_calibrated(10_000 + seed, 20_000)[1].mean() for seed in range(40)])
    held = student = 0
    for seed in range(1000):
        _, losses = rare_and_calibrated(seed, 100)
        (cell,) = scores.moments(losses, np.zeros(100, np.int64), 1)
        _, low, high = scores.estimate(statistics("brier", cell), 0.95)
        _, plain_low, plain_high = stats.student_t(cell, 0.95)
        assert low <= max(plain_low, 0.0) + 1e-12
        assert high >= plain_high - 1e-12
        held += low <= truth <= high
        student += plain_low <= truth <= plain_high
    assert student < 935 <= held


def test_moments_by_group_are_those_of_numpy_and_scipy():
    random = np.random.default_rng(3)
    values, codes = random.random(500) ** 3, random.integers(0, 4, 500)
    codes[codes == 2] = 3
    codes[0], values[codes == 1] = 0, 0.25
    found = scores.moments(values, codes, 4)
    for group in (0, 3):
        mine = values[codes == group]
        assert found[group] == pytest.approx(
            {"n": len(mine), "mean": mine.mean(), "sd": mine.std(ddof=1),
             "skew": skew(mine) * (mine.std() / mine.std(ddof=1)) ** 3}, rel=1e-9)  # fmt: skip
    assert found[1] == {"n": int((codes == 1).sum()), "mean": 0.25, "sd": 0.0, "skew": 0.0}
    assert found[2] == {"n": 0, "mean": 0.0, "sd": 0.0, "skew": 0.0}


def test_losses_that_do_not_vary_are_not_a_point():
    """Twelve perfect answers: a loss of 1 in a share of 1 - .025^(1 / 12) of all rows cannot be ruled out."""
    (cell,) = scores.moments(np.zeros(12), np.zeros(12, np.int64), 1)
    value, low, high = scores.estimate(statistics("brier", cell), 0.95)
    assert (value, low) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 12))


@pytest.mark.parametrize("skewness", [-2.0, -0.3, 0.4, 3.0])
@pytest.mark.parametrize("quantile", [-3.5, -1.96, 0.5, 2.8])
def test_the_quantile_of_a_skew_mean_inverts_halls_transformation(skewness, quantile):
    """g(T) = T + (T^2 / 3 + 1 / 6) skew / sqrt n + T^3 skew^2 / (27 n) (Hall, 1992)."""
    n = 50
    t = scores._unskewed(quantile, n, skewness)
    back = t + (t * t / 3 + 1 / 6) * skewness / n**0.5 + t**3 * skewness**2 / (27 * n)
    assert back == pytest.approx(quantile, abs=1e-9)
    assert scores._unskewed(quantile, n, 0.0) == quantile


def test_groups_of_unequal_size_with_the_same_truth_are_not_shown_to_differ():
    """A small group's calibration error is pushed up more than a large one's."""
    seen = 0
    for seed in range(150):
        small, _ = rare_and_calibrated(seed)
        large, _ = rare_and_calibrated(seed + 5000, 2000)
        value, low, _ = scores.estimate(statistics("ece", small, large, draws=200, seed=seed), 0.95)
        assert value > 0
        seen += low > 0
    assert seen <= 7


def test_equal_score_distributions_are_not_shown_to_lie_apart():
    """The KS distance of any two samples is above 0."""
    lows = []
    for seed in range(100):
        labels = np.repeat([0, 1], 80)
        values = np.random.default_rng(seed).normal(size=160)
        value, low, _ = scores.estimate(
            statistics("ks", scores.compact(cells(values, labels)), seed=seed), 0.95
        )
        assert value > 0
        lows.append(low)
    assert sum(low > 0 for low in lows) <= 6


def test_equal_groups_are_not_shown_to_differ():
    """max - min over six equal groups is above 0 always; the joint interval holds 0."""
    excluded = 0
    for seed in range(60):
        groups = []
        for part in range(6):
            values, labels = drawn(300, 1000 * seed + part, shift=3)
            groups.append(scores.compact(cells(values, labels)))
        value, low, high = scores.estimate(statistics("auc", *groups, draws=300, seed=seed), 0.95)
        assert value > 0
        assert low <= value <= high
        excluded += low > 0
    assert excluded <= 6


def test_perfect_separation_is_not_a_point():
    table = {"negatives": [12, 0], "positives": [0, 15]}
    for metric in ("auc", "ks"):
        value, low, high = scores.estimate(statistics(metric, table), 0.95)
        assert (value, high) == (1.0, 1.0)
        assert low == pytest.approx(0.025 ** (1 / 12))


@pytest.mark.parametrize(
    "table", [{"negatives": [5], "positives": [0]}, {"negatives": [0], "positives": [5]}]
)
def test_one_label_alone_has_no_auc(table):
    assert scores.estimate(statistics("auc", table), 0.95) == (None, None, None)
    good = {"negatives": [5, 5], "positives": [1, 9]}
    assert scores.estimate(statistics("auc", good, table), 0.95) == (None, None, None)


@given(COUNTS, st.sampled_from(["auc", "ks"]))
@settings(max_examples=40, deadline=None)
def test_a_higher_level_is_wider_and_holds_the_value(counts, metric):
    table = np.array(counts, dtype=np.int64).T
    cell = {"negatives": table[0].tolist(), "positives": table[1].tolist()}
    ends = [scores.estimate(statistics(metric, cell, draws=200), level) for level in (0.8, 0.95, 0.9999)]
    if ends[0][0] is None:
        return
    for value, low, high in ends:
        assert 0 <= low <= value <= high <= 1
    assert ends[2][1] <= ends[1][1] <= ends[0][1]
    assert ends[2][2] >= ends[1][2] >= ends[0][2]


def test_the_record_alone_gives_the_interval_again():
    values, labels = drawn(600, 9)
    item = stats.measure("auc", "score_bins", statistics("auc", scores.compact(cells(values, labels))))
    assert isinstance(item, Measure)
    again = stats.METHODS[item.method](item.statistics, 0.95)
    scores._replicates.cache_clear()
    assert again == (item.value, item.low, item.high) == stats.METHODS["score_bins"](item.statistics, 0.95)


def test_the_auc_of_a_rare_class_is_not_surer_than_it_is():
    """10 positives among 1,000, true AUC .983: the percentile bootstrap alone holds it in 74 of 100."""
    random = np.random.default_rng(12)
    shift, held = 3.0, 0
    truth = NormalDist().cdf(shift / 2**0.5)
    for seed in range(100):
        drawn = np.concatenate([random.normal(size=1000), random.normal(shift, size=10)])
        labels = np.repeat([0, 1], [1000, 10])
        bins = np.argsort(np.argsort(drawn))
        negatives, positives = (np.bincount(bins[labels == k], minlength=1010) for k in (0, 1))
        group = {"negatives": negatives.tolist(), "positives": positives.tolist()}
        statistics = {"metric": "auc", "groups": [group], "draws": 200, "seed": seed}
        _, low, high = scores.estimate(statistics, 0.95)
        held += low <= truth <= high
    assert held >= 90


@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-9, -1e-9])
def test_a_skew_that_is_nearly_none_loses_no_digits(small):
    slope = small / 100**0.5 * (1.96**2 / 3 + 1 / 6)  # the first term of the series
    found = scores._unskewed(1.96, 100, small)
    assert found == pytest.approx(1.96 - slope, rel=1e-12, abs=1e-13 + 10 * small**2)
