"""Attacks over many rows and radii: worked out by hand, and the same for every batch size."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack import curve
from audit.attack.curve import Attempt, Target, fgsm_curve, noise_curve, pgd_attempts, pgd_curve, walk
from audit.attack.loop import Found, Pgd
from audit.attack.space import Space
from audit.model import Model, Passes, state_hash

POINTS = np.array([[0.10], [0.45], [0.55], [0.90]], np.float32)
RADII = (0.0, 0.1, 0.5)


class Tight(nn.Module):
    """Runs out of memory above a number of rows."""

    def __init__(self, network, most):
        super().__init__()
        self.network, self.most = network, most

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("planted")
        return self.network(x)


def boundary():
    """One input; class 1 above .5, exactly."""
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0], [1.0]]))
        network.bias.copy_(torch.tensor([0.0, -0.5]))
    return network.eval()


def curved():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3)).eval()


def model(network, batch=256):
    return Model(module=network, device=torch.device("cpu"), passes=Passes(batch=batch))


def unit_space(shape):
    return Space(
        scale="input",
        unit=np.ones(shape, np.float32),
        low=np.zeros(shape, np.float32),
        high=np.ones(shape, np.float32),
        epsilons=(),
    )


def line():
    return Target(
        model(boundary()),
        POINTS,
        np.array([0, 0, 1, 1]),
        np.arange(4),
        np.ones(4, bool),
        unit_space((1,)),
        0,
    )


def cloud(batch=256, network=None, seed=0):
    """90 rows around a curved boundary, labelled by the network itself."""
    net = curved()
    inputs = np.random.default_rng(1).random((90, 6), dtype=np.float32)
    with torch.no_grad():
        labels = net(torch.from_numpy(inputs)).argmax(1).numpy()
    used = model(network(net) if network else net, batch)
    correct = np.ones(90, bool)
    correct[::10] = False
    return Target(used, inputs, labels, np.arange(90), correct, unit_space((6,)), seed)


ATTACKS = {
    "fgsm": lambda t: fgsm_curve(t, (0.0, 0.05, 0.1), "linf", "cross_entropy"),
    "pgd": lambda t: pgd_curve(t, (0.0, 0.05, 0.1), Pgd(steps=5, restarts=2)),
    "l2": lambda t: pgd_curve(t, (0.0, 0.1, 0.2), Pgd(steps=5, norm="l2", loss="margin")),
    "noise": lambda t: noise_curve(t, (0.0, 0.05, 0.1), "linf", 3),
}


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_line_worked_out_by_hand(name):
    entries = {
        "fgsm": lambda: fgsm_curve(line(), RADII, "linf", "cross_entropy"),
        "pgd": lambda: pgd_curve(line(), RADII, Pgd(steps=4)),
    }[name]()
    assert [entry.fooled.tolist() for entry in entries] == [
        [False, False, False, False],
        [False, True, True, False],
        [True, True, True, True],
    ]
    assert all(sum(entry.rejected.values()) == 0 for entry in entries)
    assert not any(entry.zero.any() or entry.nan.any() for entry in entries)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_batch_size_changes_nothing(name):
    whole, small = ATTACKS[name](cloud()), ATTACKS[name](cloud(batch=7))
    for one, other in zip(whole, small, strict=True):
        assert np.array_equal(one.fooled, other.fooled)
        assert np.array_equal(one.kept, other.kept)
        np.testing.assert_allclose(one.examples, other.examples, atol=1e-6)
    assert whole[2].fooled.any()
    assert not whole[2].fooled.all()


@pytest.mark.parametrize("name", ATTACKS)
def test_running_out_of_memory_changes_nothing(name):
    tight = cloud(network=lambda net: Tight(net, 11))
    plain, squeezed = ATTACKS[name](cloud()), ATTACKS[name](tight)
    assert [e.fooled.tolist() for e in plain] == [e.fooled.tolist() for e in squeezed]
    assert tight.model.passes.batch == 8


@pytest.mark.parametrize("name", ATTACKS)
def test_every_example_is_inside_and_fools(name):
    target = cloud()
    for entry in ATTACKS[name](target):
        source = target.inputs[entry.kept]
        offset = np.abs(entry.examples.astype(np.float64) - source)
        length = np.linalg.norm(offset, axis=1) if name == "l2" else offset.max(axis=1, initial=0)
        assert (length <= entry.epsilon * (1 + 1e-5) + 1e-6).all()
        assert entry.examples.size == 0 or (entry.examples.min() >= 0 and entry.examples.max() <= 1)
        with torch.no_grad():
            answers = target.model.module(torch.from_numpy(entry.examples)).argmax(1).numpy()
        assert (answers != target.labels[entry.kept]).all()


def test_rows_already_wrong_are_not_attacked():
    target = cloud()
    for entry in ATTACKS["fgsm"](target):
        assert not entry.fooled[~target.correct].any()
    assert target.model.passes.backward == int(target.correct.sum())


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_correct_costs_nothing(name):
    target = cloud()
    target.correct[:] = False
    entries = ATTACKS[name](target)
    assert len(entries) == 3
    assert not any(e.fooled.any() or e.zero.any() or len(e.kept) for e in entries)
    assert target.model.passes.forward == 0


def test_pgd_leaves_broken_rows_alone_and_costs_less_than_its_steps():
    target = cloud()
    entries = pgd_curve(target, (0.0, 0.05, 0.1, 0.3), Pgd(steps=20))
    assert (entries[1].fooled <= entries[2].fooled).all()
    assert set(entries[1].kept).isdisjoint(entries[2].kept)
    assert target.model.passes.backward < 0.8 * 3 * 20 * target.correct.sum()


def test_restarts_are_kept_per_row_and_never_hurt():
    attack = {"steps": 2, "step_size": 0.3}
    once = pgd_curve(cloud(), (0.06,), Pgd(**attack))[0].fooled
    often = pgd_curve(cloud(), (0.06,), Pgd(**attack, restarts=6))[0].fooled
    assert (once <= often).all()
    assert often.sum() > once.sum()


def test_restarts_without_a_random_start_are_not_repeated():
    single, many = cloud(), cloud()
    pgd_curve(single, (0.05,), Pgd(steps=3, random_start=False))
    pgd_curve(many, (0.05,), Pgd(steps=3, random_start=False, restarts=9))
    assert single.model.passes == many.model.passes


def test_the_seed_decides():
    attack = Pgd(steps=1, step_size=0.05)
    first, again, other = (
        pgd_curve(cloud(seed=seed), (0.1,), attack)[0].examples.tobytes() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_examples_are_kept_only_as_memory_allows(monkeypatch):
    monkeypatch.setattr(curve, "KEPT_BYTES", 40 * 6 * 4)
    entry = pgd_curve(cloud(), (0.3,), Pgd(steps=5))[0]
    assert len(entry.kept) == len(entry.examples) == int(entry.fooled[:40].sum()) < entry.fooled.sum()


def test_claims_that_do_not_hold_are_counted_and_do_not_count():
    class Moody(nn.Module):
        """Misclassifies every second call, so that a fresh pass disagrees with the attack's own."""

        calls = 0

        def forward(self, x):
            self.calls += 1
            flip = 1.0 if self.calls % 2 else -1.0
            return torch.cat([x * 0 - flip, x * 0 + flip], 1)

    target = line()
    moody = Target(model(Moody()), POINTS, np.zeros(4, np.int64), *vars_of(target))
    entry = noise_curve(moody, (0.1,), "linf", 1)[0]
    assert not entry.fooled.any()
    assert entry.rejected == {
        "outside epsilon": 0,
        "outside the valid range": 0,
        "not misclassified in a fresh pass": 4,
    }


def test_the_examples_kept_are_those_that_hold():
    """One that claims to fool every row by moving it up."""

    def boast(positions, labels, inside):
        none = torch.zeros_like(labels, dtype=torch.bool)
        return Found(~none, inside.high, none, none, none)

    (entry,) = walk(line(), (0.1,), "linf", [Attempt("boast", boast)])
    assert entry.fooled.tolist() == [False, True, False, False]
    assert entry.rejected["not misclassified in a fresh pass"] == 3
    assert entry.kept.tolist() == [1]
    np.testing.assert_allclose(entry.examples, [[0.55]], rtol=1e-6)


def vars_of(target):
    return target.rows, target.correct, target.space, target.seed


def test_gradient_flags_speak_of_the_rows_that_withstood():
    class HalfBlind(nn.Module):
        """The second input decides; the slope of the first is not a number."""

        def forward(self, x):
            return torch.stack([x[:, 0] * 0, x[:, 1] - 0.5 + torch.sqrt(x[:, 0] * 0)], 1)

    inputs = np.array([[0.5, 0.1], [0.5, 0.45]], np.float32)
    labels, rows = np.zeros(2, np.int64), np.arange(2)
    target = Target(model(HalfBlind()), inputs, labels, rows, np.ones(2, bool), unit_space((2,)), 0)
    for entries in (
        fgsm_curve(target, (0.1,), "linf", "margin"),
        pgd_curve(target, (0.1,), Pgd(loss="margin")),
    ):
        assert entries[0].fooled.tolist() == [False, True]
        assert entries[0].nan.tolist() == [True, False]


def test_the_model_and_the_data_are_left_as_they_were():
    target = cloud()
    before, inputs = state_hash(target.model.module), target.inputs.tobytes()
    for attack in ATTACKS.values():
        attack(target)
    assert (state_hash(target.model.module), target.inputs.tobytes()) == (before, inputs)


class Notch(nn.Module):
    """One input; wrong only at .04 to .07 above .5, and that way leads up on the near side, down beyond."""

    def forward(self, x):
        lead = 0.015 - (x - 0.555).abs()
        return torch.cat([torch.zeros_like(x), lead], dim=1)


def notched(rows=80):
    inputs = np.full((rows, 1), 0.5, np.float32)
    labels, correct = np.zeros(rows, np.int64), np.ones(rows, bool)
    return Target(model(Notch()), inputs, labels, np.arange(rows), correct, unit_space((1,)), 0)


LEAP = Pgd(steps=4, step_size=1.0, random_start=False, loss="margin")


def walked(target, radii, attack, again):
    return walk(target, radii, attack.norm, pgd_attempts(target, attack), again)


def test_an_attack_that_leaps_over_what_it_found_is_told_by_its_raw_successes():
    """With .05 the step ends in the notch, with .3 far beyond it: walked counts hide it, raw ones do not."""
    near, far = walked(notched(), (0.05, 0.3), LEAP, 64)
    assert near.fooled.all()
    assert far.fooled.all()
    assert (near.raw.fresh, near.raw.fell, near.raw.broken, near.raw.again) == (80, 80, 0, 0)
    assert (far.raw.fresh, far.raw.fell, far.raw.broken) == (0, 0, 80)
    assert (far.raw.again, far.raw.fell_again) == (64, 0)
    assert (far.raw.tried, far.raw.fooled) == (64, 0)


def test_an_attack_that_steps_finely_falls_in_again():
    *_, far = walked(notched(), (0.05, 0.3), Pgd(steps=40, random_start=False, loss="margin"), 64)
    assert (far.raw.again, far.raw.fell_again) == (64, 64)


def test_raw_successes_are_those_of_each_radius_alone():
    """Slowly: every radius attacked on its own; the rows that were broken before are all tried again."""
    radii, attack = (0.0, 0.02, 0.05, 0.1), Pgd(steps=3, step_size=0.9, restarts=2)
    for entry in walked(cloud(), radii, attack, 10_000):
        (alone,) = pgd_curve(cloud(), (entry.epsilon,), attack)
        assert entry.raw.tried == 81
        assert entry.raw.fooled == alone.fooled.sum()
        assert entry.raw.broken == entry.raw.again


def test_trying_again_changes_nothing_of_what_is_found():
    radii, attack = (0.0, 0.05, 0.1, 0.3), Pgd(steps=5, restarts=2)
    plain, again = cloud(), cloud()
    for one, other in zip(walked(plain, radii, attack, 0), walked(again, radii, attack, 7), strict=True):
        for name in ("fooled", "zero", "nan", "kept", "examples"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert (one.late, one.rejected) == (other.late, other.rejected)
        assert one.raw is None
        assert other.raw.again == min(7, other.raw.broken)


def test_what_trying_again_costs_is_counted_and_small():
    radii, attack = (0.0, 0.05, 0.1, 0.3), Pgd(steps=20)
    plain, again = cloud(), cloud()
    walked(plain, radii, attack, 0)
    found = walked(again, radii, attack, 64)
    more = again.model.passes.backward - plain.model.passes.backward
    assert more == sum(entry.raw.backward for entry in found) > 0
    assert again.model.passes.forward - plain.model.passes.forward == sum(e.raw.forward for e in found)
    assert more <= 20 * sum(entry.raw.again for entry in found) / 4, "broken rows fall within a few steps"


def test_the_rows_tried_again_are_drawn_by_the_seed_and_whatever_the_batch():
    asked = []

    def attempt(target):
        def once(positions, labels, inside):
            asked[-1].extend(positions.tolist())
            none = torch.zeros(len(positions), dtype=torch.bool)
            points = (inside.centre + inside.epsilon).clamp(0, 1)
            return Found(target.model.scores(points).argmax(1) != labels, points, none, none, none)

        return Attempt("all up", once)

    for seed, batch in ((0, 256), (0, 3), (1, 256)):
        asked.append([])
        target = cloud(batch, seed=seed)
        found = walk(target, (0.2, 0.5), "linf", [attempt(target)], 3)
        assert found[0].fooled.sum() > 10
        assert found[1].raw.again == 3
    assert asked[0] == asked[1] != asked[2]
    assert len(set(asked[0][-3:])) == 3
    assert found[0].fooled[asked[2][-3:]].all()


def test_one_step_is_on_its_own_at_every_radius():
    for entry in ATTACKS["fgsm"](cloud()):
        assert (entry.raw.tried, entry.raw.fooled) == (81, entry.fooled.sum())
    nobody = cloud()
    nobody.correct[:] = False
    assert {entry.raw.tried for entry in ATTACKS["fgsm"](nobody)} == {0}


def test_a_row_tried_again_may_fall_to_any_attempt():
    """The first attempt never finds anything: the rows that fell to the second fall to it again."""

    def nothing(positions, labels, inside):
        none = torch.zeros(len(positions), dtype=torch.bool)
        return Found(none, inside.centre, none, none, none)

    target = cloud()
    attempts = [Attempt("nothing", nothing), *pgd_attempts(target, Pgd(steps=10))]
    _, near, far = walk(target, (0.0, 0.1, 0.3), "linf", attempts, 64)
    assert near.fooled.sum() > 10
    assert far.raw.fell_again == far.raw.again == near.fooled.sum()
