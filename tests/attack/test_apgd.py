"""APGD: it reaches the boundary of a linear model in every norm, and agrees with ART's."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import fgsm_trained
from torch import nn

from audit.attack.apgd import Apgd, apgd, checkpoints
from audit.attack.loop import Pgd, pgd
from audit.attack.noise import displacements
from audit.attack.norm import Reach, ball, distance
from audit.errors import NotApplicable
from audit.model import Model, Passes, state_hash

DUALS = {"linf": 1, "l2": 2, "l1": np.inf}
LOSSES = ("cross_entropy", "dlr", "margin")


def target(net, batch=256, **fields):
    return Model(module=net, device=torch.device("cpu"), passes=Passes(batch=batch), **fields)


def plane(inputs=6, seed=0):
    """Two classes on either side of w x + b = 0, and a third far below both."""
    torch.manual_seed(seed)
    net = nn.Linear(inputs, 3)
    with torch.no_grad():
        net.weight[[0, 2]] = 0
        net.bias[:] = torch.tensor([0.0, 0.1, -40.0])
    return net.eval(), net.weight[1].detach(), 0.1


def open_reach(unit):
    return Reach(unit, torch.full_like(unit, -100), torch.full_like(unit, 100))


def curved(classes=5):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, classes)).eval()


def cloud(net, rows=60):
    x = torch.from_numpy(np.random.default_rng(1).random((rows, 8), dtype=np.float32))
    with torch.no_grad():
        return x, net(x).argmax(1), Reach(torch.ones(8), torch.zeros(8), torch.ones(8))


@pytest.fixture(scope="module")
def digits(shared_data):
    """The FGSM-trained network and the first 200 test images."""
    net = fgsm_trained()
    weights = torch.load(shared_data / "mnist" / "fgsm_trained.pth", weights_only=True, map_location="cpu")
    net.load_state_dict(weights)
    with np.load(shared_data / "mnist" / "mnist_test.npz") as file:
        x = torch.from_numpy(file["images"][:200, None].astype(np.float32) / 255)
        y = torch.from_numpy(file["labels"][:200].astype(np.int64))
    one = torch.ones_like(x[0])
    return net.eval(), x, y, Reach(one, one * 0, one)


def starts(norm, x):
    shape = tuple(x.shape[1:])
    return torch.from_numpy(displacements(norm, np.ones(shape, np.float32), np.arange(len(x)), "start", 0, 0))


@pytest.mark.parametrize("norm", DUALS)
@pytest.mark.parametrize("loss", LOSSES)
def test_it_reaches_the_boundary_of_a_linear_model(norm, loss):
    net, weight, bias = plane()
    unit = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 1.0])
    x = torch.randn(8, 6)
    gap = (x @ weight + bias).abs() / torch.linalg.vector_norm(weight * unit, DUALS[norm])
    label = (x @ weight + bias > 0).long()
    attack = Apgd(norm=norm, loss=loss, steps=50)
    for row in range(8):
        part, model = slice(row, row + 1), target(net)
        for share, fooled in ((1.01, True), (0.99, False)):
            inside = ball(x[part], share * float(gap[row].detach()), norm, open_reach(unit))
            assert apgd(model, label[part], inside, attack, None).fooled.tolist() == [fooled]


@pytest.mark.parametrize("norm", DUALS)
def test_points_are_inside_and_fool_and_the_model_is_left_as_it_was(norm):
    net = curved()
    x, y, reach = cloud(net)
    before, epsilon = state_hash(net), {"linf": 0.1, "l2": 0.25, "l1": 0.4}[norm]
    found = apgd(target(net), y, ball(x, epsilon, norm, reach), Apgd(norm=norm, steps=20), starts(norm, x))
    assert 5 < found.fooled.sum() < 55
    assert (distance(norm, (found.points - x).double(), reach.unit.double()) <= epsilon * (1 + 1e-5)).all()
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    with torch.no_grad():
        assert torch.equal(net(found.points).argmax(1) != y, found.fooled)
    assert state_hash(net) == before


@pytest.mark.parametrize(
    "attack", [Apgd(steps=20), Apgd(norm="l1", steps=25), Apgd(norm="l2", steps=20, loss="dlr", targets=2)]
)
def test_neither_the_batch_nor_the_neighbours_change_anything(attack):
    x, y, reach = cloud(curved())
    # In double precision, for the rounding of another batch size grows along a walk in single precision.
    net, x, reach = curved().double(), x.double(), Reach(*(part.double() for part in vars(reach).values()))
    inside, start = (
        ball(x, 0.1 if attack.norm == "linf" else 0.3, attack.norm, reach),
        starts(attack.norm, x).double(),
    )
    whole = apgd(target(net), y, inside, attack, start)
    assert 0 < whole.fooled.sum() < 60
    small = apgd(target(net, batch=7), y, inside, attack, start)
    some = torch.tensor([40, 3, 17, 59, 21])
    alone = apgd(target(net), y[some], inside.take(some), attack, start[some])
    for name in ("fooled", "points", "late", "best", "before"):
        torch.testing.assert_close(getattr(whole, name), getattr(small, name))
        torch.testing.assert_close(getattr(whole, name)[some], getattr(alone, name))


def test_dropping_changes_no_result(monkeypatch):
    from audit.attack import apgd as module

    net = curved()
    x, y, reach = cloud(net)
    inside = ball(x, 0.1, "linf", reach)
    dropped = apgd(target(net), y, inside, Apgd(steps=18), None)
    monkeypatch.setitem(module._STEPS_BETWEEN_COMPACTIONS, "cpu", 5)
    seldom = apgd(target(net), y, inside, Apgd(steps=18), None)
    for name in ("fooled", "points", "late", "zero", "best", "before"):
        torch.testing.assert_close(getattr(dropped, name), getattr(seldom, name))


def test_what_it_costs():
    net = curved()
    x, y, reach = cloud(net)
    model = target(net)
    assert not apgd(model, y, ball(x, 1e-6, "linf", reach), Apgd(steps=9), None).fooled.any()
    assert (model.passes.backward, model.passes.forward) == (9 * 60, 10 * 60)
    model = target(net)
    assert not apgd(model, y, ball(x, 1e-6, "linf", reach), Apgd(steps=9, targets=3), None).fooled.any()
    assert (model.passes.backward, model.passes.forward) == (3 * 9 * 60, 60 + 3 * 10 * 60)


def test_epsilon_0_looks_once_and_changes_nothing():
    net = curved()
    x, y, reach = cloud(net)
    y[7] = (y[7] + 1) % 5
    model = target(net)
    found = apgd(model, y, ball(x, 0.0, "l2", reach), Apgd(norm="l2", targets=2), None)
    assert torch.equal(found.points, x)
    assert found.fooled.nonzero().flatten().tolist() == [7]
    assert (model.passes.backward, model.passes.forward) == (0, 60)


def test_the_best_point_is_kept():
    """The loss of one input rises up to .3 and falls after it: the ball reaches far beyond the top."""

    class Hill(nn.Module):
        def forward(self, x):
            height = 1 - (x[:, :1] - 0.3) ** 2
            return torch.cat([x[:, :1] * 0 + 5, height], 1)

    x = torch.zeros(1, 1)
    reach = Reach(torch.ones(1), torch.full((1,), -9.0), torch.full((1,), 9.0))
    model = target(Hill())
    found = apgd(model, torch.tensor([0]), ball(x, 2.0, "linf", reach), Apgd(steps=60, loss="margin"), None)
    assert found.points.item() == pytest.approx(0.3, abs=0.01)
    assert found.best.item() == pytest.approx(-4, abs=1e-4)
    assert found.before.item() <= found.best.item()
    assert not found.fooled.any()


def test_a_loss_that_still_rises_is_seen():
    net, weight, _ = plane()
    x = -weight[None] * 5 / weight.norm() ** 2
    inside = ball(x, 4 / float(weight.norm()), "l2", open_reach(torch.ones(6)))
    label = torch.tensor([0])
    done = apgd(target(net), label, inside, Apgd(norm="l2", steps=40, loss="margin"), None)
    cut = apgd(target(net), label, inside, Apgd(norm="l2", steps=1, loss="margin"), None)
    assert done.best.item() == pytest.approx(done.before.item())
    assert cut.best.item() == pytest.approx(cut.before.item() + 4, rel=1e-4)


def test_margin_walks_where_cross_entropy_is_saturated():
    class Loud(nn.Module):
        """Logits times 1000: in single precision the cross-entropy is exactly 0."""

        net = curved()

        def forward(self, x):
            return self.net(x) * 1000

    x, y, reach = cloud(Loud.net)
    keep = Loud.net(x).topk(2).values.diff().abs().flatten() > 0.11
    x, y = x[keep], y[keep]
    inside, model = ball(x, 0.3, "linf", reach), target(Loud())
    blind = apgd(model, y, inside, Apgd(steps=20), None)
    assert blind.zero.all()
    assert not blind.fooled.any()
    plain = apgd(target(Loud.net), y, inside, Apgd(steps=20, loss="margin"), None)
    loud = apgd(model, y, inside, Apgd(steps=20, loss="margin"), None)
    assert plain.fooled.sum() > 3
    assert abs(int(loud.fooled.sum()) - int(plain.fooled.sum())) <= 1
    scale_free = apgd(model, y, inside, Apgd(steps=20, loss="dlr"), None)
    assert scale_free.fooled.sum() > 3


def test_a_gradient_that_is_not_a_number_moves_nothing_and_is_noted():
    class Sick(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum(1) * 0 + 1, torch.sqrt(x[:, 0] * 0)], 1)

    x = torch.full((2, 2), 0.5)
    inside = ball(x, 0.1, "linf", Reach(torch.ones(2), torch.zeros(2), torch.ones(2)))
    found = apgd(target(Sick()), torch.tensor([0, 0]), inside, Apgd(steps=12), None)
    assert found.nan.all()
    assert found.points.isfinite().all()


def test_targets_given_are_the_targets_used():
    """Class 1 lies along the first input, class 2 along the second; both are within reach."""
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight[:] = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        net.bias[:] = torch.tensor([0.5, 0.0, 0.0])
    x, y = torch.zeros(2, 2), torch.tensor([0, 0])
    inside = ball(x, 1.0, "l2", open_reach(torch.ones(2)))
    aims = torch.tensor([1, 2])
    for loss in ("margin", "cross_entropy"):
        found = apgd(target(net), y, inside, Apgd(norm="l2", loss=loss), None, aims)
        assert found.fooled.all()
        with torch.no_grad():
            assert net(found.points).argmax(1).tolist() == [1, 2]


def test_dlr_of_two_classes_is_refused():
    x = torch.zeros(1, 8)
    inside = ball(x, 0.1, "linf", open_reach(torch.ones(8)))
    with pytest.raises(NotApplicable, match="use loss = 'margin'"):
        apgd(target(curved(2)), torch.tensor([0]), inside, Apgd(loss="dlr"), None)


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    share = [Fraction(0), Fraction(22, 100)]
    while share[-1] <= 1:
        share.append(share[-1] + max(share[-1] - share[-2] - Fraction(3, 100), Fraction(6, 100)))
    for steps in (1, 7, 20, 45):
        assert checkpoints(steps) == tuple(sorted({math.ceil(part * steps) for part in share[1:-1]}))


@pytest.mark.parametrize(
    "loss",
    ["cross_entropy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dlr", "margin"))],
)
def test_it_beats_pgd_on_a_network_whose_gradients_mislead(digits, loss):
    net, x, y, reach = digits
    inside, start = ball(x, 0.3, "linf", reach), starts("linf", x)
    robust = 200 - int(apgd(target(net), y, inside, Apgd(loss=loss), start).fooled.sum())
    walked = Pgd(steps=100, loss="margin" if loss == "margin" else "cross_entropy")
    assert robust <= 200 - int(pgd(target(net), y, inside, walked, start).fooled.sum())
    assert 0.83 * 200 <= robust <= 0.885 * 200


def test_sparse_steps_beat_pgd_in_l1(digits):
    net, x, y, reach = digits
    x, y = x[:40], y[:40]
    inside = ball(x, 10.0, "l1", reach)
    sparse = apgd(target(net), y, inside, Apgd(norm="l1", steps=50, loss="margin"), None)
    plain = pgd(target(net), y, inside, Pgd(norm="l1", steps=50, loss="margin", random_start=False), None)
    assert sparse.fooled.sum() > plain.fooled.sum() + 2


@pytest.mark.parametrize(("norm", "order", "epsilon"), [("linf", np.inf, 0.3), ("l2", 2, 2.0)])
def test_it_agrees_with_art(digits, norm, order, epsilon):
    net, x, y, reach = digits
    x, y = x[:50], y[:50]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART warns of optional packages and uses deprecated numpy calls
        from art.attacks.evasion import AutoProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier

        theirs = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0))
        np.random.seed(0)  # noqa: NPY002 - ART draws its starts from numpy's global generator
        points = AutoProjectedGradientDescent(
            theirs,
            norm=order,
            eps=epsilon,
            eps_step=2 * epsilon,
            max_iter=50,
            nb_random_init=1,
            batch_size=50,
            loss_type="cross_entropy",
            verbose=False,
        ).generate(x.numpy(), y.numpy())
    net.zero_grad()
    with torch.no_grad():
        other = net(torch.from_numpy(points)).argmax(1) != y
    ours = apgd(
        target(net), y, ball(x, epsilon, norm, reach), Apgd(norm=norm, steps=50), starts(norm, x)
    ).fooled
    assert other.any()
    assert abs(int(ours.sum()) - int(other.sum())) <= 3


class Doubled(nn.Module):
    """A network that computes in double precision."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, rows):
        return self.net(rows.double())


@pytest.mark.parametrize("how", [{}, {"loss": "margin", "targets": 2}])
def test_a_network_of_double_precision_is_climbed_as_one_of_single(how):
    x, y, reach = cloud(curved())
    inside, attack = ball(x, 0.05, "linf", reach), Apgd(steps=20, **how)
    single = apgd(target(curved()), y, inside, attack, None)
    double = apgd(target(Doubled(curved())), y, inside, attack, None)
    torch.testing.assert_close(double.best, single.best, atol=1e-4, rtol=0)
    assert double.points.dtype == torch.float32
    assert 0 < double.fooled.sum() < len(y)
    assert (double.fooled == single.fooled).float().mean() > 0.95


class Wavy(nn.Module):
    """Two classes, of which the first wins by far everywhere; the other's score goes up and down."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 12)

    def forward(self, rows):
        other = torch.sin(4 * self.first(rows)).sum(dim=1) - 60
        return torch.stack([other * 0, other], dim=1)


def wavy():
    torch.manual_seed(5)
    return Wavy().eval()


def slow_apgd(net, row, epsilon, steps, norm, rho):
    """The largest margin and its point for one row of class 0, by the text of the paper (algorithm 1)."""

    def look(point):
        leaf = point.clone().requires_grad_()
        value = (net(leaf[None])[0] * torch.tensor([-1.0, 1.0])).sum()
        (slope,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), slope

    def inward(point):
        moved = point - row
        if norm == "linf":
            return row + moved.clamp(-epsilon, epsilon)
        size = float(moved.norm())
        return row + moved * min(1.0, epsilon / size) if size else point

    def ahead(point, slope, length):
        return inward(point + length * (slope.sign() if norm == "linf" else slope / slope.norm()))

    length, halved, rises, at = 2 * epsilon, True, 0, 0
    here, before = row, row
    value, slope = look(here)
    top, top_slope, best, checked = here, slope, value, -math.inf
    for step in range(steps):
        if step in checkpoints(steps):
            halved, checked = (rises < rho * (step - at)) or (not halved and best == checked), best
            at, rises = step, 0
            if halved:
                length, here, slope = length / 2, top, top_slope
        moved = ahead(here, slope, length)
        if step:
            moved = inward(here + 0.75 * (moved - here) + 0.25 * (here - before))
        before, here, last = here, moved, value
        value, slope = look(here)
        rises += value > last
        if value > best:
            top, top_slope, best = here, slope, value
    return best, top


@pytest.mark.parametrize("rho", [0.75, 0.2])  # with .2 rows halve their step where the best has not moved
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.5), ("l2", 0.8)])
def test_the_way_is_that_of_the_paper(norm, epsilon, rho):
    net = wavy()
    rows = torch.from_numpy(np.random.default_rng(2).random((24, 3), dtype=np.float32))
    attack = Apgd(norm=norm, steps=40, loss="margin", rho=rho)
    inside = ball(rows, epsilon, norm, open_reach(torch.ones(3)))
    found = apgd(target(net), torch.zeros(24, dtype=torch.long), inside, attack, None)
    slow = [slow_apgd(net, row, epsilon, 40, norm, rho) for row in rows]
    assert not found.fooled.any()
    close = (found.best - torch.tensor([best for best, _ in slow])).abs() < 1e-3
    assert close.float().mean() >= 0.95  # a rounding may send a row another way
    points = torch.stack([top for _, top in slow])
    torch.testing.assert_close(found.points[close], points[close], atol=1e-2, rtol=0)


def test_the_point_of_a_row_that_falls_is_the_one_that_fools_though_its_loss_is_lower():
    class Detour(nn.Module):
        """At .5 the truth is likeliest and the cross-entropy .92; at 1 it is second and its loss is .8."""

        def forward(self, rows):
            x = rows[:, 0]
            start, end = torch.tensor([0.4, 0.3, 0.3]).log(), torch.tensor([0.45, 0.5, 0.05]).log()
            scores = start + (end - start) * (2 * x[:, None] - 1)
            bump = torch.tensor([0.0, 0.0, 10.0]) * ((x - 0.5) * (1 - x))[:, None]
            return scores + bump

    rows = torch.tensor([[0.5]])
    one = torch.ones(1)
    inside = ball(rows, 0.5, "linf", Reach(one, one * 0, one))
    found = apgd(target(Detour()), torch.tensor([0]), inside, Apgd(steps=10), None)
    assert found.fooled.tolist() == [True]
    assert found.points.tolist() == [[1.0]]


def test_what_a_target_finds_is_handed_on():
    x, y, reach = cloud(curved())
    inside = ball(x, 0.15, "linf", reach)
    found = apgd(target(curved()), y, inside, Apgd(steps=20, loss="margin", targets=3), None)
    with torch.no_grad():
        assert torch.equal(curved()(found.points).argmax(1) != y, found.fooled)
    assert 0 < found.fooled.sum() < len(y)
