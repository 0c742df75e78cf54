"""The cascade: what breaks a row counts, whoever broke it, and what still stands goes on to the next."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack import cascade as cascade_module
from audit.attack.apgd import Apgd, apgd
from audit.attack.cascade import Cascade, apgd_attempts, boundary_attempt, cascade_attempts
from audit.attack.curve import Target, pgd_curve, walk
from audit.attack.hopskipjump import HopSkipJump
from audit.attack.loop import Pgd
from audit.attack.space import Space
from audit.model import Model, Passes, state_hash

RADII = (0.0, 0.1, 0.25)


def cloud(batch=256, gain=1.0, classes=4, shape=(6,)):
    """90 rows around a curved boundary, labelled by the network itself."""
    torch.manual_seed(3)
    width = int(np.prod(shape))

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, classes))

        def forward(self, x):
            return self.body(x) * gain

    net = Scaled().eval()
    inputs = np.random.default_rng(1).random((90, *shape), dtype=np.float32)
    with torch.no_grad():
        labels = net(torch.from_numpy(inputs)).argmax(1).numpy()
    model = Model(module=net, device=torch.device("cpu"), passes=Passes(batch=batch))
    correct = np.ones(90, bool)
    correct[::10] = False
    low, unit = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    space = Space(scale="input", unit=unit, low=low, high=unit, epsilons=())
    return Target(model, inputs, labels, np.arange(90), correct, space, 0)


def run(target, cascade, classes=4, gradients=True):
    attempts = cascade_attempts(target, cascade, classes, gradients=gradients)
    return walk(target, RADII, cascade.norm, attempts)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_worst_case_is_at_least_each_attack(norm):
    cascade = Cascade(norm=norm, steps=10, queries=20)
    found = run(cloud(), cascade)
    alone = pgd_curve(cloud(), RADII, Pgd(norm=norm, steps=20, loss="margin"))
    for worst, single in zip(found, alone, strict=True):
        assert (worst.fooled | ~single.fooled).all()


def test_each_attack_is_tried_on_what_all_earlier_ones_left_standing():
    for entry in run(cloud(), Cascade(steps=10, queries=20))[1:]:
        for earlier, later in zip(entry.tallies, entry.tallies[1:], strict=False):
            assert later.tried == earlier.tried - earlier.fooled
    *_, middle, last = run(cloud(), Cascade(steps=10, queries=20))
    assert last.tallies[0].tried == 81 - middle.fooled.sum()
    assert sum(tally.fooled for tally in last.tallies) == last.fooled.sum() - middle.fooled.sum()


def test_the_tallies_add_up_to_the_passes():
    target = cloud()
    found = run(target, Cascade(steps=10, queries=20))
    tallies = [tally for entry in found for tally in entry.tallies]
    assert sum(t.forward for t in tallies) == target.model.passes.forward
    assert sum(t.backward for t in tallies) == target.model.passes.backward


def test_rows_tried_again_go_through_the_whole_cascade():
    """A row that fell to a late attack would be lost to the first alone; a sound cascade loses none."""
    cascade = Cascade(steps=10, queries=20)
    target = cloud()
    found = walk(target, RADII, "linf", cascade_attempts(target, cascade, 4, gradients=True), 64)
    plain = run(cloud(), cascade)
    for entry, other in zip(found, plain, strict=True):
        assert (entry.fooled == other.fooled).all()
        assert entry.raw.fell_again == entry.raw.again == entry.raw.broken
        assert entry.raw.fooled == entry.fooled.sum()
    assert found[-1].raw.again > 0
    spent = sum(t.forward for entry in found for t in entry.tallies) + sum(e.raw.forward for e in found)
    assert spent == target.model.passes.forward


@pytest.mark.parametrize("batch", [1, 7])
def test_the_batch_size_changes_nothing(batch):
    cascade = Cascade(steps=10, queries=20)
    small, large = run(cloud(batch), cascade), run(cloud(), cascade)
    for one, other in zip(small, large, strict=True):
        assert (one.fooled == other.fooled).all()


def test_a_loss_that_saturates_is_made_up_for():
    """Cross-entropy sees no gradient where the logits are 1,000 times as large; the others do."""
    plain = run(cloud(), Cascade(steps=10, queries=0))[-1]
    sharp = run(cloud(gain=1000.0), Cascade(steps=10, queries=0))[-1]
    assert (plain.fooled == sharp.fooled).mean() > 0.95
    assert plain.fooled.sum() >= 8


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (2, ["apgd, margin", "square", "apgd, targeted margin"]),
        (3, ["apgd, dlr", "square", "apgd, targeted margin"]),
        (4, ["apgd, dlr", "square", "apgd, targeted dlr"]),
    ],
)
def test_two_classes_have_no_dlr_and_use_the_margin(classes, names):
    target = cloud(classes=classes)
    attempts = cascade_attempts(target, Cascade(), classes, gradients=True)
    first = ["fgsm", "pgd, margin", "apgd, cross_entropy"]
    assert [attempt.name for attempt in attempts] == first + names
    assert run(target, Cascade(steps=5, queries=5), classes)[-1].fooled.any()


def test_without_gradients_only_what_asks_for_answers_is_tried():
    """Two inputs, class 1 where they sum above 1: noise finds half of the rows beside the line."""
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        net.bias.copy_(torch.tensor([0.0, -1.0]))
    model = Model(module=net.eval(), device=torch.device("cpu"))
    inputs = np.random.default_rng(0).uniform(0.3, 0.7, (80, 2)).astype(np.float32)
    labels = (inputs.sum(1) > 1).astype(np.int64)
    one = np.ones(2, np.float32)
    space = Space(scale="input", unit=one, low=one * 0, high=one, epsilons=())
    target = Target(model, inputs, labels, np.arange(80), np.ones(80, bool), space, 0)
    found = run(target, Cascade(queries=300), classes=2, gradients=False)
    assert [tally.attack for tally in found[1].tallies] == ["noise", "hopskipjump", "square"]
    assert found[1].tallies[0].fooled > 0
    assert found[1].tallies[1].fooled > 0
    assert found[1].fooled.sum() >= 0.9 * (np.abs(inputs.sum(1) - 1) < 0.2).sum()
    assert model.passes.backward == 0
    assert not found[-1].zero.any()


class ClassesAlone(nn.Module):
    """Class 1 where 30 inputs sum above 15; what comes out is the class, with a gradient of zero."""

    def forward(self, x):
        above = (x.sum(dim=1) > 15).float()
        return torch.stack([1 - above, above], dim=1) + 0 * x[:, :1]


def beside_a_plane():
    """60 rows .08 below the plane in every input: within .11 all must go up but for 4 of 30 at most."""
    model = Model(module=ClassesAlone().eval(), device=torch.device("cpu"))
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, (60, 30))
    inputs = (0.42 + jitter - jitter.mean(axis=1, keepdims=True)).astype(np.float32)
    one = np.ones(30, np.float32)
    space = Space(scale="input", unit=one, low=one * 0, high=one, epsilons=())
    rows = np.arange(60)
    return Target(model, inputs, np.zeros(60, np.int64), rows, np.ones(60, bool), space, 0)


def test_where_gradients_vanish_the_boundary_may_be_asked_for_last():
    shown = {}
    for asked in (False, True):
        target = beside_a_plane()
        cascade = Cascade(steps=5, queries=1500, boundary=asked)
        attempts = cascade_attempts(target, cascade, 2, gradients=True)
        (shown[asked],) = walk(target, [0.11], "linf", attempts)
    with_it, without = (shown[asked] for asked in (True, False))
    assert [t.attack for t in with_it.tallies[:-1]] == [t.attack for t in without.tallies]
    assert with_it.tallies[-1].attack == "hopskipjump"
    assert with_it.tallies[-1].tried == 60 - without.fooled.sum()
    assert with_it.fooled.sum() > without.fooled.sum() + 30
    assert (with_it.fooled | ~without.fooled).all()


@pytest.mark.parametrize("cascade", [Cascade(norm="l1", boundary=True), Cascade(queries=0, boundary=True)])
def test_the_boundary_is_left_out_where_it_is_not_defined_or_may_not_ask(cascade):
    names = [a.name for a in cascade_attempts(cloud(), cascade, 4, gradients=True)]
    assert "hopskipjump" not in names


class Corner(nn.Module):
    """Class 1 where both inputs are above .99: a random point is there once in 10,000."""

    def forward(self, x):
        lead = x.amin(dim=1) - 0.99
        return torch.stack([-lead, lead], dim=1)


def test_a_walk_starts_at_rows_of_the_other_class_wherever_they_stand_in_the_data():
    inputs = np.full((1040, 2), 0.9, np.float32)
    inputs[1000:] = 1.0
    labels = (inputs.min(1) > 0.99).astype(np.int64)
    model = Model(module=Corner().eval(), device=torch.device("cpu"))
    one = np.ones(2, np.float32)
    space = Space(scale="input", unit=one, low=one * 0, high=one, epsilons=())
    target = Target(model, inputs, labels, np.arange(1040), labels == 0, space, 0)
    attempt = boundary_attempt(target, HopSkipJump(norm="linf", iterations=1, evaluations=10))
    (found,) = walk(target, [0.095], "linf", [attempt])
    assert found.fooled.sum() == 1000


def test_square_is_left_out_where_it_has_no_meaning():
    for norm, shape, there in [("l1", (6,), False), ("l2", (6,), False), ("l2", (1, 4, 4), True)]:
        attempts = cascade_attempts(cloud(shape=shape), Cascade(norm=norm), 4, gradients=True)
        assert ("square" in [attempt.name for attempt in attempts]) is there


def test_the_model_is_left_as_it_was():
    target = cloud()
    before = state_hash(target.model.module)
    run(target, Cascade(steps=5, queries=5))
    assert state_hash(target.model.module) == before


def test_each_restart_of_a_cascade_starts_elsewhere(monkeypatch):
    seen = []

    def spy(model, labels, inside, attack, offset):
        seen.append(offset.clone())
        return apgd(model, labels, inside, attack, offset)

    monkeypatch.setattr(cascade_module, "apgd", spy)
    target = cloud()
    attempts = apgd_attempts(target, Apgd(steps=1, restarts=3))
    walk(target, (0.001,), "linf", attempts)
    assert len(seen) == 3
    assert not any(torch.equal(seen[i], seen[j]) for i in range(3) for j in range(i))


def test_a_walk_along_the_boundary_claims_no_point_beyond_the_radius():
    """Each row lies .08 from the plane, so nothing is within .06 and all nearest points are within .12."""
    attempts = [boundary_attempt(beside_a_plane(), HopSkipJump(norm="linf", iterations=6))]
    near, far = walk(beside_a_plane(), (0.06, 0.2), "linf", attempts)
    assert not near.fooled.any()
    assert near.rejected["outside epsilon"] == 0
    assert far.fooled.sum() > 30


@pytest.mark.parametrize(("targets", "classes", "walks"), [(9, 4, 3), (2, 4, 2), (1, 4, 1)])
def test_as_many_targets_are_tried_as_there_are(targets, classes, walks):
    """At a radius at which nothing falls every walk makes all of its steps."""
    target = cloud()
    (entry,) = walk(
        target,
        (1e-6,),
        "linf",
        cascade_attempts(target, Cascade(steps=4, targets=targets), classes, gradients=True),
    )
    (aimed,) = [tally for tally in entry.tallies if "targeted" in tally.attack]
    assert aimed.fooled == 0
    assert aimed.backward == 81 * 4 * walks
