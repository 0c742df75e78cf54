"""How often a fair model is failed, and an unfair one found: the full simulation. Run by hand.

python benchmarks/null_simulation.py            1,000 audits each; a few minutes

Fourteen groups with the sizes of the worked example of the New York City rule (2,571 people), all with the
same selection rate, judged against the four-fifths limit and against .999, where every FAIL is wrong by the
narrowest margin; then fourteen groups of 30,000 people of which one has a true ratio of .6. A percentile
bootstrap of the smallest ratio fails 99.9 % of the first kind at a rate of .4755. The last column judges
with Koopman's interval alone, which is not widened by exact limits where events are few.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audit.evidence import Measure
from audit.fairness.cells import Cells
from audit.fairness.derive import derive
from audit.policy import Limit, Verdict, judge_measures

SIZES = (205, 190, 412, 226, 87, 321, 24, 115, 385, 164, 32, 295, 17, 98)
RATE, RATIO, LARGE = 0.4755, 0.6, 30_000
RATES = (0.01, 0.03, 0.1, RATE, 0.9, 0.97)
FOUR_FIFTHS, EQUAL = (
    Limit(check="fairness.groups", measure="selection_rate_ratio", at_least=least) for least in (0.8, 0.999)
)
MOST_WRONG = 0.05


def main() -> None:
    """Run both simulations and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000)
    audits = parser.parse_args().audits
    started = time.process_time()
    noise = 2 * (MOST_WRONG * (1 - MOST_WRONG) / audits) ** 0.5
    most = f"at most 5 %, {5 + 100 * noise:.1f} % with noise"
    print(f"all groups equal: share of {audits} audits that FAIL ({most})")
    print(f"{'rate':>8}{'limit .8':>10}{'limit .999':>12}{'.999, Koopman alone':>21}")
    for rate in RATES:
        shares = _fair(rate, audits)
        print(f"{rate:>8g}{shares[0]:>10.1%}{shares[1]:>12.1%}{shares[2]:>21.1%}", flush=True)
    for rate in (RATE, 0.1):
        _unfair(rate, audits)
    print(f"{time.process_time() - started:.0f} s CPU")


def _fair(rate: float, audits: int) -> list[float]:
    """Share of audits of equal groups with a FAIL: at .8, at .999, at .999 by Koopman's interval alone."""
    wrong = np.zeros(3)
    for seed in range(audits):
        measures = _measured(np.array(SIZES), np.full(14, rate), seed)
        plain = [replace(m, method="koopman") if m.value is not None else m for m in measures]
        asked = ((measures, FOUR_FIFTHS), (measures, EQUAL), (plain, EQUAL))
        wrong += [bool(_failed(found, limit)) for found, limit in asked]
    return list(wrong / audits)


def _unfair(rate: float, audits: int) -> None:
    """How often the one group that is selected less is found, and another with it."""
    rates = np.full(14, rate)
    rates[3] = RATIO * rate
    failed = [
        _failed(_measured(np.full(14, LARGE // 14), rates, seed), FOUR_FIFTHS) for seed in range(audits)
    ]
    found, others = (
        np.mean(each) for each in zip(*(("3" in f, bool(f - {"3"})) for f in failed), strict=True)
    )
    print(f"one true ratio .6 at a rate of {rate:g}: found in {found:.1%} of {audits}; "
          f"another group failed with it in {others:.1%}")  # fmt: skip


def _measured(sizes: np.ndarray, rates: np.ndarray, seed: int) -> list[Measure]:
    """The ratios to the best group of a seeded audit."""
    selected = np.random.default_rng(seed).binomial(sizes, rates)
    table = np.zeros((len(sizes), 2, 2), dtype=np.int64)
    table[:, 0, 0], table[:, 0, 1] = sizes - selected, selected
    groups = tuple({"group": str(number)} for number in range(len(sizes)))
    return derive(Cells("group", groups, table, 10), "best", ["selection_rate_ratio"])


def _failed(measures: Sequence[Measure], limit: Limit) -> set[str]:
    """The groups that fail a limit."""
    verdicts = judge_measures(measures, [limit], 0.95)
    return {item.group["group"] for item in verdicts if item.verdict is Verdict.FAIL}


if __name__ == "__main__":
    main()
