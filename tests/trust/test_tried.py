"""One method's tests: which of two leads counts, and how rows of a group weigh."""

from dataclasses import dataclass

import numpy as np
import pytest

from audit.dataset import Dataset, Sensitive
from audit.explain.explained import Explained
from audit.stats import mean
from audit.trust.curves import Gains
from audit.trust.pooling import pooled
from audit.trust.study import Subject
from audit.trust.tried import Close, MadeUp, Shared, Tried, group_differences

SURE = mean("on_manifold_lead", [0.5, 0.6, 0.55, 0.5])
OPEN = mean("off_manifold_lead", [0.5, -0.4, 0.3, -0.2])


@pytest.mark.parametrize(("on", "off", "flagged"), [
    (SURE, OPEN, False), (OPEN, SURE, False), (SURE, SURE, True),
])  # fmt: skip
def test_a_model_is_flagged_only_where_both_leads_are_shown(on, off, flagged):
    """Where one feature leads on the data and none leads elsewhere, nothing is hidden."""
    found = MadeUp(on, off, SURE, ("a", "b"))
    assert found.flagged is flagged
    assert found.weaker is (SURE if flagged else OPEN)


@dataclass
class Known:
    """Gains that are known, of rows that all count."""

    known: Gains

    def usable(self, method):
        return np.ones(len(self.known.size), dtype=bool)

    def gains(self, method):
        return self.known


def test_rows_of_a_group_weigh_by_what_there_is_to_explain_in_them():
    random = np.random.default_rng(0)
    size = random.exponential(size=24) ** 2
    first, second = (Gains(*random.normal(size=(2, 24)), np.zeros(24), size) for _ in range(2))
    codes = np.arange(24) % 2
    data = Dataset(
        inputs=np.zeros((24, 2), np.float32),
        modality="tabular",
        classes=("a", "b"),
        sensitive={"sex": Sensitive(name="sex", groups=("f", "m"), codes=codes)},
    )
    explained = Explained(np.arange(24), None, None, np.zeros(24), "log_odds")
    subject = Subject(None, data, explained, None, None, 0, 2)
    shared = Shared({"mean": Known(first), "background": Known(second)}, Close(None), "")
    found = group_differences(subject, Tried("x", None, np.zeros((24, 2))), shared)
    for code, item in enumerate(found):
        sides = [
            np.mean([pooled(gain.total[rows], size[rows]).mean() for gain in (first, second)])
            for rows in (codes == code, codes != code)
        ]
        assert item.value == pytest.approx(sides[0] - sides[1])
        plain = [np.mean([gain.total[codes == c].mean() for gain in (first, second)]) for c in (0, 1)]
        assert abs(item.value) != pytest.approx(abs(plain[0] - plain[1]))
