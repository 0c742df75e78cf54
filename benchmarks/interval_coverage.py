"""How often the intervals of AUC, KS, Brier and ECE hold the truth. Run by hand.

python benchmarks/interval_coverage.py                   1,000 data sets each; below two minutes
python benchmarks/interval_coverage.py --draws 1000 --bins 1024    with the defaults of the check; much longer

Log-odds of scores are normal, so that the true numbers follow from integrals over a fine grid. Scores are
calibrated, or overstate (log-odds of the truth = .7 x log-odds of the score - .5). The calibration error
is that of ten bins of equal mass. Nominal coverage is 95 %; the Monte-Carlo error of a share is .7 %.
Then two groups of 200 and 2,000 rows with the same true numbers, half as many data sets: how often a
difference is seen.
"""

import argparse
import time
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np

from audit.scores import compact, count_scores, equal_mass_bins, estimate, moments

SPREAD, CURVE = 1.5, 10
SIZES, RATES, PAIR = (200, 2_000, 20_000), (0.5, 0.1), (200, 2_000)
POINTS, EXACT = 2_000, 1e-9
KINDS = {"calibrated": (0.0, 1.0), "overstated": (-0.5, 0.7)}
METRICS = ("auc", "ks", "brier", "ece")


def main() -> None:
    """Print the coverage of every case, and how often the truth lies below and above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--bins", type=int, default=64)
    given = parser.parse_args()
    started = time.process_time()
    print(f"{given.sets:,} data sets each, {given.draws} draws, {given.bins} bins for ranks, level .95")
    print(f"{'scores':<11}{'rate':>5}{'rows':>7}  metric  truth   held   below   above  mean value  width")
    for line in lines(given.sets, given.draws, given.bins):
        print(line, flush=True)
    print("\ntwo groups of 200 and 2,000 rows, the same in truth")
    for line in pair_lines(given.sets // 2, given.draws, given.bins):
        print(line, flush=True)
    print(f"{time.process_time() - started:.0f} s CPU")


def lines(sets: int, draws: int, bins: int) -> Iterator[str]:
    """One line for each case and metric."""
    for kind, rate, centre, truth in cases():
        for size in SIZES:
            found = [
                intervals([cells(size, centre, KINDS[kind], bins, seed)], draws, seed) for seed in range(sets)
            ]
            for place, metric in enumerate(METRICS):
                ends = np.array([item[place] for item in found], dtype=float)
                yield f"{kind:<11}{rate:>5}{size:>7}  {told(metric, truth[metric], ends)}"


def pair_lines(sets: int, draws: int, bins: int) -> Iterator[str]:
    """One line for each case: how often two groups with the same truth are shown to differ."""
    for kind, rate, centre, _ in cases():
        found = [
            intervals([cells(n, centre, KINDS[kind], bins, seed) for n in PAIR], draws, seed)
            for seed in range(sets)
        ]
        lows = np.array([[ends[1] for ends in item] for item in found], dtype=float)
        shares = zip(METRICS, (lows > 0).mean(axis=0), strict=True)
        yield f"{kind:<11}{rate:>5}  seen to differ: {', '.join(f'{m} {part:.1%}' for m, part in shares)}"


def cases() -> Iterator[tuple[str, float, float, dict[str, float]]]:
    """Kind of scores, rate of the favourable outcome, centre of the log-odds, and the true numbers."""
    for kind, (shift, slope) in KINDS.items():
        for rate in RATES:
            yield kind, rate, *population(rate, shift, slope)


def told(metric: str, truth: float, ends: np.ndarray) -> str:
    """Coverage of [S, 3] values, lows and highs in words."""
    ends = ends[~np.isnan(ends).any(axis=1)]
    below, above = (truth < ends[:, 1]).mean(), (truth > ends[:, 2]).mean()
    width = (ends[:, 2] - ends[:, 1]).mean()
    return (
        f"{metric:<6}{truth:>7.4f}{1 - below - above:>7.1%}{below:>8.1%}{above:>8.1%}"
        f"{ends[:, 0].mean():>12.4f}{width:>7.4f}"
    )


def population(rate: float, shift: float, slope: float) -> tuple[float, dict[str, float]]:
    """The centre of the log-odds at which `rate` of the outcomes are favourable, and the true numbers."""
    low, high = -12.0, 12.0
    while high - low > EXACT:
        middle = (low + high) / 2
        odds, weight = grid(middle)
        low, high = (middle, high) if (weight * share(shift + slope * odds)).sum() < rate else (low, middle)
    odds, weight = grid(low)
    true, score = share(shift + slope * odds), share(odds)
    positive, negative = weight * true / rate, weight * (1 - true) / (1 - rate)
    parts = np.array_split(np.arange(len(odds)), CURVE)
    return low, {
        "auc": float((positive * (np.cumsum(negative) - negative / 2)).sum()),
        "ks": float(np.abs(np.cumsum(positive) - np.cumsum(negative)).max()),
        "brier": float((weight * (true * (1 - true) + (true - score) ** 2)).sum()),
        "ece": float(sum(abs((weight * (true - score))[part].sum()) for part in parts)),
    }


def grid(centre: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds and weights of points of equal mass."""
    normal = NormalDist(centre, SPREAD)
    points = np.array([normal.inv_cdf((k + 0.5) / POINTS) for k in range(POINTS)])
    return points, np.full(len(points), 1 / len(points))


def share(odds: np.ndarray) -> np.ndarray:
    """Log-odds as probabilities."""
    return 1 / (1 + np.exp(-odds))


def cells(size: int, centre: float, truth: tuple[float, float], bins: int, seed: int) -> dict[str, Any]:
    """What the check would put into the record for one drawn group, by metric."""
    random = np.random.default_rng([size, seed])
    odds = random.normal(centre, SPREAD, size)
    labels = (random.random(size) < share(truth[0] + truth[1] * odds)).astype(np.int64)
    one = np.zeros(size, dtype=np.int64)
    ranks = compact(count_scores(one, labels, equal_mass_bins(odds, bins), 1, bins)[0])
    places = equal_mass_bins(odds, CURVE)
    coarse = count_scores(one, labels, places, 1, CURVE)[0]
    means = np.bincount(places, weights=share(odds), minlength=CURVE) / np.bincount(places, minlength=CURVE)
    curve = {"negatives": coarse[0].tolist(), "positives": coarse[1].tolist(), "scores": means.tolist()}
    losses = moments((share(odds) - labels) ** 2, one, 1)[0]
    return {"auc": ranks, "ks": ranks, "brier": losses, "ece": curve}


def intervals(groups: list[dict[str, Any]], draws: int, seed: int) -> list[tuple[float | None, ...]]:
    """Value, low and high of each metric, or of its difference between two groups."""
    how = {"draws": draws, "seed": seed}
    return [
        estimate({"metric": metric, "groups": [group[metric] for group in groups], **how}, 0.95)
        for metric in METRICS
    ]


if __name__ == "__main__":
    main()
