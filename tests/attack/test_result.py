"""What the result of an attack hands on."""

import numpy as np
import pytest

from audit.attack.result import AtEpsilon, AttackResult, Raw


def entry(epsilon, fooled, kept):
    none = np.zeros(3, bool)
    return AtEpsilon(
        epsilon=epsilon,
        fooled=np.array(fooled, bool),
        zero=none,
        nan=none,
        late=0,
        rejected={},
        kept=np.array(kept),
        examples=np.array([[10 * k + epsilon] for k in kept], np.float32).reshape(-1, 1),
    )


def result(*, walked):
    second = entry(0.2, [1, 1, 0], [0] if walked else [0, 1])
    return AttackResult(
        method="pgd",
        rows=np.array([5, 6, 9]),
        correct=np.array([True, True, False]),
        at=(entry(0.1, [0, 1, 0], [1]), second),
        walked=walked,
    )


def test_robust_means_correct_and_not_fooled():
    found = result(walked=True)
    assert found.attacked == 2
    assert found.robust(0.1).tolist() == [True, False, False]
    assert found.robust(0.2).tolist() == [False, False, False]


def test_a_walked_attack_hands_on_what_broke_at_smaller_radii():
    rows, examples = result(walked=True).adversarial(0.2)
    assert rows.tolist() == [5, 6]
    np.testing.assert_allclose(examples, [[0.2], [10.1]], rtol=1e-6)


def test_radii_on_their_own_hand_on_their_own():
    rows, examples = result(walked=False).adversarial(0.2)
    assert rows.tolist() == [5, 6]
    np.testing.assert_allclose(examples, [[0.2], [10.2]], rtol=1e-6)


def test_a_radius_that_was_not_run():
    with pytest.raises(KeyError):
        result(walked=True).at_epsilon(0.15)


def test_raw_counts_add_up():
    raw = Raw(fresh=10, fell=4, broken=100, again=64, fell_again=60)
    assert (raw.tried, raw.fooled) == (74, 64)
