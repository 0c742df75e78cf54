"""Masked gradients must be found, a plain model must not be accused."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.result import AtEpsilon, AttackResult
from audit.checks.robustness import self_checks
from audit.checks.robustness.fgsm import fgsm
from audit.checks.robustness.pgd import pgd
from audit.dataset import Dataset
from audit.model import Model
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions

CHECKS = {"fgsm": fgsm, "pgd": pgd}


class Louder(nn.Module):
    """Logits times 100: the gradient of the cross-entropy underflows."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 100 * self.network(x)


class Quantised(Louder):
    """Input rounded to 3 bits: no gradient passes."""

    def forward(self, x):
        return self.network(torch.round(x * 7) / 7)


class LabelsOnly(Louder):
    """Only the decision comes out."""

    def forward(self, x):
        scores = self.network(x)
        return nn.functional.one_hot(scores.argmax(1), scores.shape[1]) + 0 * scores


class Noisy(Louder):
    """Every answer is drawn anew."""

    def forward(self, x):
        return self.network(x + 0.3 * torch.randn_like(x))


MASKS = {"logits x 100": Louder, "quantised": Quantised, "labels only": LabelsOnly}


@pytest.fixture(scope="module")
def trained():
    """A small convolutional net on four noisy patterns, and 300 rows for it."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 300)
    patterns = draw.random((4, 1, 6, 6))
    inputs = (0.4 * patterns[labels] + 0.6 * draw.random((300, 1, 6, 6))).astype(np.float32)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    optimiser.zero_grad()
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=tuple("abcd"))
    return net.eval(), data


def measured(name, network, data, **settings):
    torch.manual_seed(1)
    model = Model(module=network.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    shared = adversaries(model, data, predictions(model, data), 0)
    return CHECKS[name].measure(data, shared, epsilon=[0.05, 0.1], **settings)


def attacked(evidence):
    return [m for m in evidence.measures if m.name in {"robust_accuracy", "attack_success_rate"}]


def outcomes(evidence):
    (table,) = [t for t in evidence.tables if t.name == "self_checks"]
    return {row[0]: row[1] for row in table.rows}


@pytest.mark.parametrize("name", CHECKS)
def test_a_plain_model_is_not_accused(trained, name):
    evidence = measured(name, *trained)
    assert set(outcomes(evidence).values()) == {"held"}
    assert [m.unreliable for m in attacked(evidence)] == [""] * 4
    accuracy = [m.value for m in evidence.measures if m.name == "robust_accuracy"]
    assert 0.95 > accuracy[0] > accuracy[1] > 0.02


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", CHECKS)
def test_a_masked_gradient_is_found(trained, name, mask):
    net, data = trained
    evidence = measured(name, MASKS[mask](net), data)
    assert outcomes(evidence)["the gradient is usable"] == "failed"
    assert all("no usable gradient" in m.unreliable for m in attacked(evidence))
    assert any("far too good" in caveat for caveat in evidence.caveats)


def test_the_margin_loss_repairs_loud_logits(trained):
    net, data = trained
    loud = measured("pgd", Louder(net), data, loss="margin")
    plain = measured("pgd", net, data, loss="margin")
    assert outcomes(loud)["the gradient is usable"] == "held"
    assert [m.value for m in attacked(loud)] == pytest.approx([m.value for m in attacked(plain)], abs=0.01)


def test_noise_that_beats_the_attack_is_found(trained):
    net, data = trained
    evidence = measured("fgsm", Quantised(net), data)
    assert outcomes(evidence)["not weaker than random noise"] == "failed"
    assert "random noise fools" in attacked(evidence)[-1].unreliable


def test_random_answers_are_found(trained):
    net, data = trained
    evidence = measured("fgsm", Noisy(net), data)
    assert outcomes(evidence)["epsilon 0 changes nothing"] == "failed"
    assert all("change their class with epsilon 0" in m.unreliable for m in attacked(evidence))
    assert outcomes(evidence)["every example was verified"] == "failed"


def test_pgd_with_too_small_steps_is_weaker_than_one_step(trained):
    evidence = measured("pgd", *trained, steps=2, step_size=0.01, random_start=False)
    assert outcomes(evidence)["not weaker than a single step (FGSM)"] == "failed"
    assert "a single step (FGSM) fools" in attacked(evidence)[0].unreliable


def result(fooled, zero=(), nan=(), rejected=(), attacked=1000, *, walked=False):
    """An attack on `attacked` rows; radii 0, .1, .2, ... with these counts."""

    def first(count):
        return np.arange(attacked) < count

    def last(count):
        return np.arange(attacked) >= attacked - count

    def at(counts, i):
        return counts[i] if i < len(counts) else 0

    return AttackResult(
        method="fgsm",
        rows=np.arange(attacked),
        correct=np.ones(attacked, bool),
        walked=walked,
        at=tuple(
            AtEpsilon(
                epsilon=i / 10,
                fooled=first(count),
                zero=last(at(zero, i)),
                nan=last(at(nan, i)),
                late=0,
                rejected={"outside epsilon": at(rejected, i)},
                kept=np.empty(0, np.int64),
                examples=np.empty((0, 1), np.float32),
            )
            for i, count in enumerate(fooled)
        ),
    )


@pytest.mark.parametrize(("changed", "failed"), [(0, False), (1, False), (2, True)])
def test_identity_allows_one_row_in_a_thousand(changed, failed):
    found = self_checks.identity(result([changed, 500])).failed
    assert set(found) == ({0.0, 0.1} if failed else set())


def test_identity_allows_nothing_on_few_rows():
    assert self_checks.identity(result([1, 5], attacked=100)).failed


@pytest.mark.parametrize(
    ("fooled", "zero", "nan", "failed"),
    [
        (0, 100, 0, False),
        (0, 101, 0, True),
        (0, 0, 101, True),
        (900, 10, 0, False),
        (900, 11, 0, True),
        (980, 10, 0, False),  # half of the 20 that withstood, but 1 % of all: the number cannot move by more
        (980, 11, 0, True),
    ],
)
def test_blind_rows_count_against_those_that_withstood(fooled, zero, nan, failed):
    found = self_checks.gradients(result([0, fooled], [0, zero], [0, nan]))
    assert bool(found.failed) == failed
    assert set(found.failed) <= {0.1}


def test_only_the_radius_at_fault_is_named():
    found = self_checks.gradients(result([0, 0, 500], [0, 200, 20]))
    assert set(found.failed) == {0.1}
    assert self_checks.unreliable([found], 0.1).startswith("200 of 1000 rows")
    assert self_checks.unreliable([found], 0.2) == ""


@pytest.mark.parametrize(("other", "failed"), [(300, False), (302, False), (303, True)])
def test_not_weaker_allows_two_rows_in_a_thousand(other, failed):
    found = self_checks.not_weaker(result([0, 300]), result([0, other]), "luck")
    assert bool(found.failed) == failed
    assert f"0.1: 300 and {other}" in found.evidence


def test_a_curve_that_rises_again_is_found_at_each_larger_radius():
    assert not self_checks.monotone(result([0, 100, 98, 200])).failed
    found = self_checks.monotone(result([0, 300, 200, 250, 400]))
    assert set(found.failed) == {0.2, 0.3}
    assert "100 rows fewer" in found.failed[0.2]
    assert "smaller epsilon 0.1" in found.failed[0.3]


def test_rejected_examples_are_found():
    assert not self_checks.verified(result([0, 300], rejected=[0, 2])).failed
    found = self_checks.verified(result([0, 300, 400], rejected=[0, 3, 0]))
    assert set(found.failed) == {0.1}
    assert "700 accepted; rejected: 3 outside epsilon" in found.evidence


def test_walked_examples_are_counted_once():
    assert "400 accepted" in self_checks.verified(result([0, 300, 400], walked=True)).evidence


def test_the_table_says_where_there_was_nothing_to_test():
    checks = [self_checks.gradients(result([0])), self_checks.monotone(result([0]))]
    assert [row[1] for row in self_checks.table(checks, 1000).rows] == ["nothing to test", "held"]
    assert {row[1] for row in self_checks.table(checks, 0).rows} == {"nothing to test"}
