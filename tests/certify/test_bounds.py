"""Certified rows: the published certificate of a real network, one output, cheap bounds first."""

import numpy as np
import pytest
import torch
from networks import MLP, fgsm_trained, seeded
from torch import nn

from audit.certify.bounds import affordable, contrasts, margins, threshold
from audit.certify.graph import trace
from audit.certify.interval import Box
from audit.errors import NotApplicable

EPSILON = 0.1


def published(shared_data, rows):
    net = fgsm_trained().eval()
    net.load_state_dict(
        torch.load(shared_data / "mnist" / "certified.pth", weights_only=True, map_location="cpu")
    )
    held = np.load(shared_data / "mnist" / "mnist_test.npz")
    images = torch.from_numpy(held["images"][:rows, None] / 255).float()
    return net, images, torch.from_numpy(held["labels"][:rows].astype(np.int64))


def around(images, epsilon=EPSILON):
    return Box((images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1))


def attacked(net, images, labels, box, steps=20):
    """[n] whether plain sign steps inside the box reach another class."""
    points, fooled = images.clone(), torch.zeros(len(images), dtype=torch.bool)
    for _ in range(steps):
        points.requires_grad_()
        scores = net(points)
        fooled |= scores.argmax(1) != labels
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(scores, labels, reduction="sum"), points)
        points = torch.minimum(torch.maximum(points.detach() + 0.02 * slope.sign(), box.low), box.high)
    return fooled


def test_the_first_500_rows_of_the_published_network(shared_data):
    net, images, labels = published(shared_data, 500)
    box = around(images)
    read = trace(net, images[:8])
    assert affordable(read) == "crown"
    safe = margins(read, box, labels, "crown") > 0
    fooled = attacked(net, images, labels, box)
    assert not (safe & fooled).any()
    assert 0.93 < safe.float().mean() <= 1 - fooled.float().mean()


@pytest.mark.slow
def test_all_10000_rows_lie_between_the_attack_and_the_published_certificate(shared_data):
    net, images, labels = published(shared_data, 10_000)
    least = margins(trace(net, images[:8]), around(images), labels, "crown")
    error = 1 - (least > 0).float().mean().item()
    assert 0.0404 <= error <= 0.0583  # PGD-40 by hand; Wong and Kolter's own certificate, 5.82 %


def test_tighter_bounds_certify_no_fewer_rows():
    torch.manual_seed(2)
    net = seeded(MLP, inputs=4, outputs=3, hidden=24)
    rows = torch.rand(200, 4)
    labels = net(rows).argmax(1)
    read, box = trace(net, rows), Box(rows - 0.05, rows + 0.05)
    by = {method: margins(read, box, labels, method) > 0 for method in ("ibp", "crown_ibp", "crown")}
    assert (by["crown_ibp"] | ~by["ibp"]).all()
    assert (by["crown"] | ~by["crown_ibp"]).all()
    assert by["crown"].sum() > by["ibp"].sum()


def test_a_linear_classifier_is_certified_exactly_up_to_its_distance():
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(6, 3)).eval()
    rows = torch.randn(100, 6)
    scores = net(rows).detach()
    labels = scores.argmax(1)
    weight = net[0].weight.detach()
    gap = scores.gather(1, labels[:, None]) - scores
    length = (weight[labels][:, None] - weight).abs().sum(2)
    distance = torch.where(length > 0, gap / length, torch.inf).amin(1)  # l1 is the dual of linf
    read = trace(net, rows)
    for factor, safe in ((0.999, True), (1.001, False)):
        step = (factor * distance)[:, None]
        least = margins(read, Box(rows - step, rows + step), labels, "crown")
        assert ((least > 0) == safe).float().mean() > 0.97  # rounding decides for rows at the boundary
        if not safe:
            assert not (least > 0).any()


def test_a_wrong_row_is_never_certified():
    net = seeded(MLP)
    rows = torch.rand(50, 5)
    wrong = (net(rows).argmax(1) + 1) % 3
    assert not (margins(trace(net, rows), Box(rows, rows), wrong, "crown") > 0).any()


def single(*last):
    """A probability that rises with the sum of two inputs: class 1 above a sum of 1."""
    layer = nn.Linear(2, 1)
    layer.weight.data, layer.bias.data = torch.ones(1, 2), -torch.ones(1)
    return nn.Sequential(layer, *last).eval()


@pytest.mark.parametrize(
    ("last", "output"),
    [
        ((), "single_logit"),
        ((nn.Sigmoid(),), "single_probability"),
        ((nn.Sigmoid(), nn.Flatten(0)), "single_probability"),
    ],
)
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_one_output_has_two_classes(last, output, method):
    net = trace(single(*last), torch.rand(3, 2))
    rows, labels = torch.tensor([[0.9, 0.9], [0.1, 0.1], [0.55, 0.55]]), torch.tensor([1, 0, 1])
    least = margins(net, Box(rows - 0.1, rows + 0.1), labels, method, threshold(net, output))
    assert torch.allclose(least, torch.tensor([0.6, 0.6, -0.1]), atol=1e-5)


def test_a_probability_without_a_sigmoid_changes_at_one_half():
    net = trace(single(), torch.rand(3, 2))
    assert threshold(net, "single_probability") == 0.5
    rows = torch.tensor([[0.6, 0.7]])
    for label, wanted in ((1, -0.4), (0, 0.0)):
        least = margins(net, Box(rows - 0.1, rows + 0.1), torch.tensor([label]), "crown", 0.5)
        assert least.item() == pytest.approx(wanted, abs=1e-4)


def test_a_logit_that_ends_in_a_sigmoid_is_refused():
    with pytest.raises(NotApplicable, match="declared as a logit"):
        threshold(trace(single(nn.Sigmoid()), torch.rand(3, 2)), "single_logit")


def test_contrasts_by_hand():
    net = trace(seeded(MLP), torch.rand(1, 5))
    functions, offset = contrasts(net, torch.tensor([1]), torch.rand(1), 0.0)
    assert functions.tolist() == [[[-1, 1, 0], [0, 1, -1]]]
    assert offset.tolist() == [0]


def test_large_networks_get_the_affordable_bounds():
    small = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten())
    assert affordable(trace(small, torch.rand(1, 1, 12, 12))) == "crown"
    assert affordable(trace(small, torch.rand(1, 1, 90, 90))) == "crown_ibp"
