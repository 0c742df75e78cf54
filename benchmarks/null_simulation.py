"""How often a fair model is failed, and an unfair one found: the full simulation. Run by hand.

python benchmarks/null_simulation.py            1,000 audits each; about a minute

Fourteen groups with the sizes of the worked example of the New York City rule (2,571 people), all with the
same selection rate, judged against the four-fifths limit; then fourteen groups of 30,000 people of which
one has a true ratio of .6. A percentile bootstrap of the smallest ratio fails 99.9 % of the first kind.
"""

import argparse
import time

import numpy as np

from audit.fairness.cells import Cells
from audit.fairness.derive import derive
from audit.policy import Limit, Verdict, judge_measures

SIZES = (205, 190, 412, 226, 87, 321, 24, 115, 385, 164, 32, 295, 17, 98)
RATE, RATIO, LARGE = 0.4755, 0.6, 30_000
LIMIT = Limit(check="fairness.groups", measure="selection_rate_ratio", at_least=0.8)


def main() -> None:
    """Run both simulations and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000)
    audits = parser.parse_args().audits
    started = time.process_time()
    fair = [_failed(np.array(SIZES), np.full(14, RATE), seed) for seed in range(audits)]
    print(f"all groups equal: {np.mean([any(f) for f in fair]):.1%} of {audits} audits FAIL (at most 5 %)")
    sizes, rates = np.full(14, LARGE // 14), np.full(14, RATE)
    rates[3] = RATIO * RATE
    unfair = [_failed(sizes, rates, seed) for seed in range(audits)]
    print(f"one true ratio .6: found in {np.mean([f[3] for f in unfair]):.1%} of {audits} (at least 99 %)")
    others = np.mean([any(f[:3] + f[4:]) for f in unfair])
    print(f"   another group failed with it in {others:.1%}; {time.process_time() - started:.0f} s CPU")


def _failed(sizes: np.ndarray, rates: np.ndarray, seed: int) -> list[bool]:
    """Which of the groups a seeded audit fails."""
    selected = np.random.default_rng(seed).binomial(sizes, rates)
    table = np.zeros((len(sizes), 2, 2), dtype=np.int64)
    table[:, 0, 0], table[:, 0, 1] = sizes - selected, selected
    groups = tuple({"group": str(number)} for number in range(len(sizes)))
    measures = derive(Cells("group", groups, table, 10), "best", ["selection_rate_ratio"])
    verdicts = judge_measures(measures, [LIMIT], 0.95)
    failed = {item.group["group"] for item in verdicts if item.verdict is Verdict.FAIL}
    return [group["group"] in failed for group in groups]


if __name__ == "__main__":
    main()
