"""Probes count what is there: zero gradients, slopes that lie, answers that change, successes on the way."""

import numpy as np
import pytest
import torch
from masks import LabelsOnly, Louder, Noisy, Quantised
from networks import CNN, MLP, seeded
from torch import nn

from audit.attack import probes
from audit.attack.curve import Target, pgd_curve
from audit.attack.loop import Pgd
from audit.attack.space import Space
from audit.model import Model, state_hash


def target(network, inputs, labels=None, high=1.0, **fields):
    model = Model(module=network.eval(), device=torch.device("cpu"), **fields)
    shape, inputs = inputs.shape[1:], inputs.astype(np.float32)
    space = Space(
        scale="input",
        unit=np.ones(shape, np.float32),
        low=np.zeros(shape, np.float32),
        high=np.full(shape, high, np.float32),
        epsilons=(0.1,),
    )
    if labels is None:
        labels = model.predict(inputs).argmax(dim=1).numpy()
    correct = model.predict(inputs).argmax(dim=1).numpy() == labels
    return Target(model, inputs, labels, np.arange(len(inputs)), correct, space, 0)


def random_rows(rows=50, width=30):
    return np.random.default_rng(1).random((rows, width))


def network():
    return seeded(MLP, inputs=30, outputs=4, hidden=64)


class Straight(nn.Module):
    """Rounds its input and pretends not to have: the gradient is that of the network without rounding."""

    def __init__(self, inner, sign=1.0):
        super().__init__()
        self.inner, self.sign = inner, sign

    def forward(self, rows):
        rounded = (rows * 7).round() / 7
        return self.inner(self.sign * (rows - rows.detach()) + rounded.detach())


def test_zero_and_broken_gradients_are_counted():
    assert probes.slopes(target(network(), random_rows())) == probes.Slopes(50, 0, 0)
    assert probes.slopes(target(Quantised(network()), random_rows())) == probes.Slopes(50, 50, 0)

    class Root(nn.Module):
        """Its gradient is infinite where the first entry is 0."""

        def forward(self, rows):
            return torch.stack([rows[:, 0].sqrt(), rows[:, 1] + 2], dim=1)

    rows = np.array([[0.0, 0.5], [0.3, 0.5], [0.0, 0.1]])
    assert probes.slopes(target(Root(), rows)) == probes.Slopes(3, 0, 2)


def test_only_attacked_rows_are_counted():
    rows = random_rows()
    labels = target(network(), rows).labels.copy()
    labels[:20] = (labels[:20] + 1) % 4
    aim = target(Quantised(network()), rows, labels)
    assert probes.slopes(aim).rows == int(aim.correct.sum()) < 50


def test_a_confident_single_logit_still_has_a_gradient():
    """1 - p rounds to 0 from a lead of 17 in single precision; the cross-entropy of two classes must not."""
    net = nn.Linear(3, 1)
    with torch.no_grad():
        net.weight.fill_(20.0)
    aim = target(net, np.full((4, 3), 0.9), output="single_logit")
    assert probes.slopes(aim) == probes.Slopes(4, 0, 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("build", [network, lambda: Louder(network())])
def test_honest_gradients_agree_with_the_model(norm, build):
    seen = probes.agreement(target(build(), random_rows()), 0.1, norm)
    assert seen.rows == 50
    assert seen.unseen == 0
    assert seen.apart <= 2


def test_batch_norm_max_pooling_and_convolutions_agree():
    net = nn.Sequential(nn.MaxPool2d(2), seeded(CNN, channels=1, outputs=4))
    images = np.random.default_rng(0).random((40, 1, 12, 12))
    seen = probes.agreement(target(net, images), 0.1, "linf")
    assert (seen.rows, seen.unseen) == (40, 0)
    assert seen.apart <= 3


def test_a_gradient_that_sees_nothing_is_told_from_one_that_lies():
    quantised = probes.agreement(target(Quantised(network()), random_rows()), 0.3, "linf")
    assert quantised.unseen >= 40
    assert quantised.apart == 0
    backwards = probes.agreement(target(Straight(network(), sign=-1.0), random_rows()), 0.3, "linf")
    assert backwards.unseen == 0
    assert backwards.apart >= 40


def test_a_constant_model_hides_nothing():
    class Constant(nn.Module):
        def forward(self, rows):
            return torch.zeros(len(rows), 3) + 0 * rows[:, :3]

    seen = probes.agreement(target(Constant(), random_rows()), 0.1, "linf")
    assert (seen.unseen, seen.apart) == (0, 0)


def test_every_point_of_a_difference_is_a_valid_input():
    seen = []

    class Watched(MLP):
        def forward(self, rows):
            seen.append(rows.detach())
            return super().forward(rows)

    torch.manual_seed(0)
    rows = np.round(random_rows())
    probes.agreement(target(Watched(inputs=30, outputs=4), rows), 0.2, "linf")
    assert torch.cat(seen).min() >= -1e-6
    assert torch.cat(seen).max() <= 1 + 1e-6


def test_answers_that_change_are_counted():
    same = probes.repeats(target(network(), random_rows()))
    assert (same.rows, same.passes, same.changed, same.alone, same.farthest) == (50, 5, 0, 0, 0.0)
    torch.manual_seed(0)
    noisy = probes.repeats(target(Noisy(network()), random_rows()))
    assert noisy.changed == noisy.alone == 50
    assert noisy.farthest > probes.SAME


def test_an_answer_that_changes_in_a_late_pass_alone_is_counted():
    class Late(MLP):
        calls = 0

        def forward(self, rows):
            self.calls += 1
            return super().forward(rows) + (self.calls == 4)

    torch.manual_seed(0)
    late = Late(inputs=30, outputs=4)
    aim = target(late, random_rows())
    late.calls = 0
    seen = probes.repeats(aim)
    assert seen.changed == 50


def test_answers_that_depend_on_the_batch_are_counted_apart():
    class Whole(MLP):
        def forward(self, rows):
            return super().forward(rows - rows.mean(dim=0))

    torch.manual_seed(0)
    seen = probes.repeats(target(Whole(inputs=30, outputs=4), random_rows()))
    assert seen.changed == 0
    assert seen.alone == 50


def test_the_way_is_that_of_the_attack_with_the_stop_taken_out():
    rows = random_rows(80)
    aim, attack = target(network(), rows), Pgd(steps=7)
    (entry,) = pgd_curve(aim, [0.05], attack)
    way = probes.path(aim, 0.05, attack)
    assert way.rows == 80
    assert way.ever == int(entry.fooled.sum()) > 0
    assert way.last <= way.ever


def test_a_success_that_is_left_again_is_seen():
    """Class 1 only between .30 and .45, with a slope that leads from .2 straight through to .6."""

    class Band(nn.Module):
        def forward(self, rows):
            x = rows[:, 0]
            inside = ((x > 0.30) & (x < 0.45)).float()
            return torch.stack([1 - 2 * inside, 0.1 * x], dim=1)

    aim = target(Band(), np.array([[0.2], [0.2]]))
    attack = Pgd(steps=8, step_size=1 / 8, random_start=False)
    way = probes.path(aim, 0.4, attack)
    assert (way.rows, way.ever, way.last) == (2, 2, 0)
    (entry,) = pgd_curve(aim, [0.4], attack)
    assert entry.fooled.all()


def test_a_margin_that_still_rises_is_counted():
    """Steps too short to get to the edge rise to the last; longer ones arrive and stop."""
    far = nn.Linear(1, 2)
    with torch.no_grad():
        far.weight.copy_(torch.tensor([[0.0], [1.0]]))
        far.bias.copy_(torch.tensor([0.0, -5.0]))
    aim = target(far, np.array([[0.2], [0.3], [0.4]]))
    short = Pgd(steps=8, step_size=0.01, random_start=False)
    assert probes.path(aim, 0.1, short).rising == 3
    assert probes.path(aim, 0.1, Pgd(steps=8, step_size=0.5, random_start=False)).rising == 0


def test_labels_alone_are_recognised():
    rows = torch.tensor(random_rows()).float()
    with torch.no_grad():
        assert probes.labels_only(LabelsOnly(network())(rows).numpy())
        assert not probes.labels_only(network()(rows).numpy())
    assert probes.labels_only(np.array([[0.0, -87.3], [-87.3, 0.0]], np.float32))
    assert not probes.labels_only(np.array([[1.0, 1.0], [0.0, 1.0]], np.float32))


def test_the_model_and_the_batch_do_not_matter():
    whole, small = target(network(), random_rows()), target(network(), random_rows())
    small.model.passes.batch = 7
    before = state_hash(small.model.module)
    for probe in (
        probes.slopes,
        probes.repeats,
        lambda aim: probes.agreement(aim, 0.1, "linf"),
        lambda aim: probes.path(aim, 0.1, Pgd(steps=5)),
    ):
        assert probe(whole) == probe(small)
    assert state_hash(small.model.module) == before
