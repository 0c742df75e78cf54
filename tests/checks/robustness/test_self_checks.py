"""Masked gradients must be found, a plain model must not be accused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import betaincinv
from torch import nn

from audit.attack.result import AtEpsilon, AttackResult, Raw
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


class Notch(nn.Module):
    """Class 1 only at .04 to .07 above .5; up to there its score rises, beyond it falls."""

    def forward(self, x):
        lead = 0.015 - (x - 0.555).abs()
        return torch.cat([torch.zeros_like(x), lead], dim=1)


def notched(step_size):
    points = np.full((100, 1), 0.5, np.float32)
    points[1::2] = 0.1  # too far away at any of the radii
    data = Dataset(inputs=points, labels=np.zeros(100, np.int64), modality="series", classes=("in", "out"))
    model = Model(module=Notch().eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    shared = adversaries(model, data, predictions(model, data), 0)
    settings = {
        "epsilon": [0.05, 0.3, 0.35], "steps": 40, "step_size": step_size, "random_start": False,
        "loss": "margin",
    }  # fmt: skip
    return pgd.measure(data, shared, **pgd.settings(settings))


def test_steps_that_leap_over_the_nearby_error_make_the_larger_radii_unreliable():
    """Steps of a whole epsilon: at .05 half of the rows fall, at .3 none would, on its own."""
    evidence = notched(1.0)
    assert outcomes(evidence)["more epsilon fools no fewer"] == "failed"
    told = {m.settings["epsilon"]: m.unreliable for m in attacked(evidence) if m.name == "robust_accuracy"}
    assert told[0.05] == ""
    assert "on its own it fools 50 rows fewer than at the smaller epsilon 0.05" in told[0.3]
    assert told[0.35] != ""
    assert [m.value for m in evidence.measures if m.name == "robust_accuracy"] == [0.5] * 3
    (counts,) = [t for t in evidence.tables if t.name == "counts"]
    places = [counts.columns.index(f"{name} on its own") for name in ("tried", "fooled")]
    assert [tuple(row[i] for i in places) for row in counts.rows] == [(100, 0), (100, 50), (100, 0), (100, 0)]


def test_steps_that_fit_are_not_accused():
    evidence = notched(0.05)
    assert outcomes(evidence)["more epsilon fools no fewer"] == "held"
    assert [m.unreliable for m in attacked(evidence)] == [""] * 6


def test_an_audit_of_several_radii_of_a_plain_model_is_not_accused(trained):
    from audit.checks.robustness.worst_case import worst_case

    net, data = trained
    model = Model(module=net, device=torch.device("cpu"), input_range=(0.0, 1.0))
    shared = adversaries(model, data, predictions(model, data), 0)
    radii = [0.02, 0.05, 0.08, 0.1, 0.15, 0.2]
    strong = worst_case.settings({"epsilon": radii, "steps": 10, "queries": 20, "targets": 2, "rows": 100})
    for evidence in (
        pgd.measure(data, shared, **pgd.settings({"epsilon": radii})),
        worst_case.measure(data, shared, **strong),
    ):
        assert set(outcomes(evidence).values()) == {"held"}
        assert {m.unreliable for m in attacked(evidence)} == {""}
        (counts,) = [t for t in evidence.tables if t.name == "counts"]
        (line,) = [row for row in counts.rows if row[0] == 0.1]
        tried, fooled = line[-2:]
        assert fooled <= line[3]
        assert tried > line[1] - line[2] - line[3], "rows that were broken before were tried again"


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


def on_its_own(*raws, attacked=1000):
    """A walked attack with these raw counts: (fresh, fell, broken, tried again, fell again) at 0, .1, ..."""
    fooled = [fell + broken for _, fell, broken, _, _ in raws]
    names = ("fresh", "fell", "broken", "again", "fell_again")
    plain = result(fooled, attacked=attacked, walked=True)
    at = [
        replace(entry, raw=Raw(**dict(zip(names, raw, strict=True))))
        for entry, raw in zip(plain.at, raws, strict=True)
    ]
    return replace(plain, at=tuple(at))


def test_a_walked_attack_is_judged_by_what_it_does_on_its_own():
    """50 of 100 fall at .1; all 50 are tried again at .2, where 20 fall, and 6 new ones: 24 fewer."""
    found = self_checks.monotone(
        on_its_own((100, 0, 0, 0, 0), (100, 50, 0, 0, 0), (50, 6, 50, 50, 20), attacked=100)
    )
    assert set(found.failed) == {0.2}
    assert found.failed[0.2] == "on its own it fools 24 rows fewer than at the smaller epsilon 0.1"
    assert "20 of 50 fell again at 0.2 (50 broken before)" in found.evidence
    assert "26 of 100 at 0.2" in found.evidence


@pytest.mark.parametrize(("again", "failed"), [(50, False), (44, False), (43, False), (42, True)])
def test_what_is_lost_may_be_made_up_for_by_new_ones_and_one_row(again, failed):
    raws = ((100, 0, 0, 0, 0), (100, 50, 0, 0, 0), (50, 6, 50, 50, again))
    assert bool(self_checks.monotone(on_its_own(*raws, attacked=100)).failed) == failed


@pytest.mark.parametrize(("again", "failed"), [(64, False), (60, False), (40, True), (0, True)])
def test_a_sample_is_allowed_for(again, failed):
    """900 broken before, 64 of them tried again, 100 stand and 20 of them fall."""
    raws = ((1000, 0, 0, 0, 0), (1000, 900, 0, 0, 0), (100, 20, 900, 64, again))
    found = self_checks.monotone(on_its_own(*raws))
    assert bool(found.failed) == failed
    if failed:
        high = (1 - 0.005 ** (1 / 64)) if again == 0 else float(betaincinv(again + 1, 64 - again, 0.995))
        assert f"at least {int(900 - (20 + 900 * high))} rows fewer" in found.failed[0.2]


def test_a_larger_radius_that_makes_up_for_it_is_not_accused():
    raws = (
        (100, 0, 0, 0, 0), (100, 50, 0, 0, 0), (50, 0, 50, 50, 20), (50, 40, 50, 50, 50),
        (10, 0, 90, 64, 0),
    )  # fmt: skip
    assert set(self_checks.monotone(on_its_own(*raws, attacked=100)).failed) == {0.2, 0.4}


def test_without_raw_counts_the_reader_is_told_that_nothing_could_fall():
    assert "by construction" in self_checks.monotone(result([0, 10, 20], walked=True)).evidence


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
