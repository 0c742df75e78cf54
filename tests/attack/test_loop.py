"""FGSM and PGD over one batch, against the Adversarial Robustness Toolbox and by hand."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.loop import Pgd, fgsm, guess, pgd
from audit.attack.norm import Reach, ball
from audit.model import Model, Passes, state_hash

EPSILON = 0.1


def network(seed=0):
    """A small convolutional net with random weights: 1 x 8 x 8 inputs, 5 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 32), nn.ReLU(), nn.Linear(32, 5)
    ).eval()


@pytest.fixture(scope="module")
def trained():
    """The network, taught to tell five noisy patterns apart, and 200 rows of them."""
    net, draw = network(), np.random.default_rng(0)
    labels = draw.integers(0, 5, 200)
    patterns = draw.random((5, 1, 8, 8))
    inputs = np.clip(patterns[labels] * 0.5 + draw.random((200, 1, 8, 8)) * 0.5, 0, 1).astype(np.float32)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    optimiser.zero_grad()
    return net, x, y


def target(net, **fields):
    return Model(module=net, device=torch.device("cpu"), input_range=(0.0, 1.0), **fields)


def unit_reach(x):
    return Reach(torch.ones_like(x[0]), torch.zeros_like(x[0]), torch.ones_like(x[0]))


def art_classifier(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART warns about optional packages while it is imported
        from art.estimators.classification import PyTorchClassifier

        return PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 5, clip_values=(0.0, 1.0))


def art_points(attack, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART uses deprecated numpy calls while it attacks
        return attack.generate(x.numpy(), nn.functional.one_hot(y, 5).numpy())


def test_fgsm_equals_art_exactly(trained):
    from art.attacks.evasion import FastGradientMethod

    net, x, y = trained
    found = fgsm(target(net), x, y, [ball(x, EPSILON, "linf", unit_reach(x))], "cross_entropy")[0]
    theirs = art_points(FastGradientMethod(art_classifier(net), eps=EPSILON, batch_size=200), x, y)
    np.testing.assert_array_equal(found.points.numpy(), theirs)
    assert 0.05 < found.fooled.float().mean() < 0.95


@pytest.mark.parametrize(("norm", "order", "epsilon"), [("linf", np.inf, 0.08), ("l2", 2, 0.5)])
def test_pgd_agrees_with_art(trained, norm, order, epsilon):
    from art.attacks.evasion import ProjectedGradientDescentPyTorch

    net, x, y = trained
    attack = Pgd(norm=norm, steps=10, step_size=0.25, random_start=False)
    found = pgd(target(net), y, ball(x, epsilon, norm, unit_reach(x)), attack, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART's constructor warns about tensorboard
        other = ProjectedGradientDescentPyTorch(
            art_classifier(net),
            norm=order,
            eps=epsilon,
            eps_step=0.25 * epsilon,
            max_iter=10,
            batch_size=200,
            verbose=False,
        )
    theirs = torch.from_numpy(art_points(other, x, y))
    fooled = net(theirs).argmax(1) != y
    assert 20 < fooled.sum() < 180
    assert abs(int(found.fooled.sum()) - int(fooled.sum())) <= 2


def test_radii_share_one_gradient_pass(trained):
    net, x, y = trained
    model = target(net)
    fgsm(model, x, y, [ball(x, e, "linf", unit_reach(x)) for e in (0.0, 0.1, 0.2)], "cross_entropy")
    assert (model.passes.backward, model.passes.forward) == (200, 4 * 200)


def test_fooled_rows_leave_the_batch(trained):
    net, x, y = trained
    model = target(net)
    found = pgd(model, y, ball(x, 0.3, "linf", unit_reach(x)), Pgd(steps=20, random_start=False), None)
    assert found.fooled.all()
    assert model.passes.backward < 0.5 * 20 * 200


def test_the_point_kept_is_one_that_fools(trained):
    net, x, y = trained
    found = pgd(target(net), y, ball(x, 0.1, "linf", unit_reach(x)), Pgd(steps=7, random_start=False), None)
    with torch.no_grad():
        assert torch.equal(net(found.points).argmax(1) != y, found.fooled)
    assert 0 < found.fooled.sum() < 200


def test_dropping_changes_no_result(trained, monkeypatch):
    from audit.attack import loop

    net, x, y = trained
    inside = ball(x, 0.1, "linf", unit_reach(x))
    dropped = pgd(target(net), y, inside, Pgd(steps=7, random_start=False), None)
    monkeypatch.setitem(loop._STEPS_BETWEEN_COMPACTIONS, "cpu", 5)
    seldom = pgd(target(net), y, inside, Pgd(steps=7, random_start=False), None)
    assert torch.equal(dropped.fooled, seldom.fooled)
    torch.testing.assert_close(dropped.points, seldom.points)


@pytest.mark.parametrize("every", [1, 5])
def test_free_places_are_taken_by_waiting_rows(trained, monkeypatch, every):
    from audit.attack import loop

    net, x, y = trained
    monkeypatch.setitem(loop._STEPS_BETWEEN_COMPACTIONS, "cpu", every)
    inside, few, all_at_once = ball(x, 0.1, "linf", unit_reach(x)), target(net), target(net)
    mine = [y, x, inside.centre, inside.low, inside.high]
    before = [tensor.clone() for tensor in mine]
    few.passes.batch, sizes = 24, []
    handle = net.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    waited = pgd(few, y, inside, Pgd(steps=7, random_start=False), None)
    handle.remove()
    together = pgd(all_at_once, y, inside, Pgd(steps=7, random_start=False), None)
    assert torch.equal(waited.fooled, together.fooled)
    assert torch.equal(waited.late, together.late)
    assert torch.equal(waited.zero, together.zero)
    assert not together.zero.any(), "that of a fooled row is not its own"
    torch.testing.assert_close(waited.points, together.points)
    assert all(map(torch.equal, mine, before)), "rows sit down on copies"
    assert max(sizes) == 24
    walking = sizes[: sizes.index(next(size for size in reversed(sizes) if size == 24)) + 1]
    assert min(walking) >= 24 - 24 // 8 - (24 if every > 1 else 0)
    if every == 1:
        assert few.passes.backward == pytest.approx(all_at_once.passes.backward, rel=0.02)


def test_rows_that_stay_in_the_batch_cost_every_step(trained):
    net, x, y = trained
    model = target(net)
    stay = pgd(
        model, y, ball(x, 0.1, "linf", unit_reach(x)), Pgd(steps=7, random_start=False, drop=False), None
    )
    assert model.passes.backward == 7 * 200
    left = pgd(target(net), y, ball(x, 0.1, "linf", unit_reach(x)), Pgd(steps=7, random_start=False), None)
    assert torch.equal(stay.fooled, left.fooled)
    assert torch.equal(stay.late, left.late)
    torch.testing.assert_close(stay.points, left.points)


def test_late_rows_fall_in_the_last_quarter(trained):
    net, x, y = trained
    model, reach = target(net), unit_reach(x)
    slow = Pgd(steps=8, step_size=0.125, random_start=False)
    whole = pgd(model, y, ball(x, 0.12, "linf", reach), slow, None)
    first = Pgd(steps=5, step_size=0.125, random_start=False)  # 5 steps and a look are 6 looks, as 3/4 of 8
    early = pgd(model, y, ball(x, 0.12, "linf", reach), first, None)
    assert torch.equal(whole.late, whole.fooled & ~early.fooled)
    assert 0 < whole.late.sum() < whole.fooled.sum()


def test_a_gradient_that_is_zero_or_not_a_number_is_noted_and_moves_nothing():
    class Sick(nn.Module):
        def forward(self, x):
            dead = (x[:, 0] < 1).float()  # row 0 has no gradient, row 1 an undefined one
            root = torch.sqrt(x[:, 1] * 0) * (1 - dead)
            return torch.stack([root * 0 + x.sum(1) * 0 + 1, root], 1)

    rows = torch.tensor([[0.0, 0.5], [1.0, 0.5]])
    inside = ball(rows, 0.1, "linf", Reach(torch.ones(2), torch.zeros(2), torch.ones(2)))
    found = pgd(target(Sick()), torch.tensor([0, 0]), inside, Pgd(steps=3, random_start=False), None)
    assert found.nan.any()
    assert found.points.isfinite().all()
    assert not found.fooled.any()


def test_zero_gradients_are_noted():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum(1) * 0 + 1, x.sum(1) * 0], 1)

    rows = torch.full((3, 2), 0.5)
    inside = ball(rows, 0.1, "linf", Reach(torch.ones(2), torch.zeros(2), torch.ones(2)))
    single = fgsm(target(Flat()), rows, torch.zeros(3, dtype=torch.long), [inside], "margin")[0]
    assert single.zero.all()
    assert not single.nan.any()


def test_a_fixed_coordinate_with_a_slope_is_no_usable_gradient():
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    rows = torch.full((1, 2), 0.5)
    inside = ball(rows, 0.1, "linf", Reach(torch.tensor([0.0, 1.0]), torch.zeros(2), torch.ones(2)))
    assert fgsm(target(net), rows, torch.tensor([0]), [inside], "margin")[0].zero.all()


def test_a_guess_is_the_displaced_row():
    rows = torch.tensor([[0.45, 0.5]])
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        net.bias.copy_(torch.tensor([0.0, -0.5]))
    inside = ball(rows, 0.1, "linf", Reach(torch.ones(2), torch.zeros(2), torch.ones(2)))
    found = guess(target(net), torch.tensor([0]), inside, torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(found.points, torch.tensor([[0.55, 0.4]]))
    assert found.fooled.tolist() == [True]


def test_the_model_is_left_as_it_was(trained):
    net, x, y = trained
    before = state_hash(net)
    inside = ball(x, 0.1, "linf", unit_reach(x))
    fgsm(target(net), x, y, [inside], "cross_entropy")
    pgd(target(net), y, inside, Pgd(steps=3), torch.zeros_like(x))
    assert state_hash(net) == before


@pytest.mark.parametrize("kind", ["log_probabilities", "probabilities"])
def test_the_kind_of_output_does_not_matter(trained, kind):
    net, x, y = trained
    last = nn.LogSoftmax(1) if kind == "log_probabilities" else nn.Softmax(1)
    wrapped = nn.Sequential(net, last)
    inside = ball(x, 0.08, "linf", unit_reach(x))
    plain = fgsm(target(net), x, y, [inside], "cross_entropy")[0].fooled
    other = fgsm(target(wrapped, output=kind), x, y, [inside], "cross_entropy")[0].fooled
    assert torch.equal(plain, other)


def test_a_single_logit_works_with_either_loss():
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(4.0)
        net.bias.fill_(-2.0)
    rows, labels = torch.tensor([[0.10], [0.45], [0.55], [0.90]]), torch.tensor([0, 0, 1, 1])
    inside = ball(rows, 0.1, "linf", Reach(torch.ones(1), torch.zeros(1), torch.ones(1)))
    model = target(net, output="single_logit")
    for loss in ("cross_entropy", "margin"):
        assert fgsm(model, rows, labels, [inside], loss)[0].fooled.tolist() == [False, True, True, False]
        walked = pgd(model, labels, inside, Pgd(loss=loss, random_start=False), None)
        assert walked.fooled.tolist() == [False, True, True, False]


def test_default_step_is_two_and_a_half_epsilon_over_steps():
    assert Pgd(steps=10).share == 0.25
    assert Pgd(steps=10, step_size=0.1).share == 0.1


class Total(nn.Module):
    """Two scores that see the sum of the row alone: its gradient is one number for all coordinates."""

    def forward(self, rows):
        total = rows.flatten(1).sum(dim=1)
        return torch.stack([total - 2, 2 - total], dim=1)


def test_a_gradient_that_is_one_number_for_all_coordinates_is_walked_along():
    x = torch.full((3, 4), 0.6)
    found = pgd(
        target(Total()),
        torch.zeros(3, dtype=torch.long),
        ball(x, 0.2, "linf", unit_reach(x)),
        Pgd(steps=4, loss="margin"),
        None,
    )
    assert found.fooled.all()
    assert (found.points < x).all()


def test_rows_that_withstand_a_linear_model_end_in_the_corner_of_the_ball():
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 0.5, -0.25]]))
        net.bias.copy_(torch.tensor([50.0, 0.0]))
    x = torch.from_numpy(np.random.default_rng(0).random((20, 4), dtype=np.float32))
    inside = ball(x, 0.1, "linf", unit_reach(x))
    labels, start = torch.zeros(20, dtype=torch.long), torch.rand(20, 4) * 2 - 1
    found = pgd(target(net), labels, inside, Pgd(steps=20, loss="margin"), start)
    up = torch.tensor([True, False, True, False])
    torch.testing.assert_close(found.points, torch.where(up, inside.high, inside.low), rtol=0, atol=0)
    assert not found.fooled.any()


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_pgd_notes_zero_gradients_row_by_row(batch):
    class Threshold(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] * 0 + 1, torch.relu(x[:, 0] - 0.5)], 1)

    rows = torch.tensor([[0.2], [0.8], [0.7], [0.3], [0.9]])
    inside = ball(rows, 0.05, "linf", unit_reach(rows))
    model = target(Threshold(), passes=Passes(batch=batch))
    how = Pgd(steps=3, loss="margin", random_start=False)
    found = pgd(model, torch.zeros(5, dtype=torch.long), inside, how, None)
    assert found.zero.tolist() == [True, False, False, True, False]
    assert not found.nan.any()
    assert not found.fooled.any()
