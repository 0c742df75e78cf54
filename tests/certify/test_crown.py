"""Linear bounds: sound against every ReLU pattern, exact where the network is linear."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CNN, LeNet, seeded
from scipy.optimize import linprog
from torch import nn
from torch.nn import functional

from audit.certify.crown import least, refined, relax
from audit.certify.graph import trace
from audit.certify.interval import Box, intervals


def both(module, box, slope="chord"):
    """Lower bounds of every output and of its negative, with inner values bounded by linear functions."""
    net = trace(module, box.low)
    boxes = intervals(net, box, refined(net))
    one = torch.eye(net.outputs, dtype=box.low.dtype).expand(len(box.low), -1, -1)
    with torch.no_grad():
        return least(net, boxes, torch.cat([one, -one], dim=1), slope)


def exact_least(layers, low, high, function):
    """The exact minimum over a box: a linear program for each pattern of active ReLUs (2 linear layers)."""
    (w1, b1), (w2, b2) = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
    best = np.inf
    for pattern in product([0.0, 1.0], repeat=len(b1)):
        on = np.array(pattern)
        sign = np.where(on, -1.0, 1.0)  # active: w x + b >= 0
        slope, offset = function @ w2 @ (on[:, None] * w1), function @ (w2 @ (on * b1) + b2)
        found = linprog(slope, sign[:, None] * w1, -sign * b1, bounds=list(zip(low, high, strict=True)))
        if found.status == 0:
            best = min(best, found.fun + offset)
    return best


@given(st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_never_above_the_exact_minimum(seed):
    torch.manual_seed(seed)
    layers = (nn.Linear(3, 4).double(), nn.Linear(4, 2).double())
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    low = torch.randn(1, 3).double()
    box = Box(low, low + 0.8)
    wanted = [exact_least(layers, box.low[0].numpy(), box.high[0].numpy(), f) for f in np.eye(2)]
    for slope in ("chord", "smaller_area"):
        found = both(module, box, slope)[0, :2]
        assert (found.numpy() <= np.array(wanted) + 1e-12).all()


def test_a_network_without_open_relus_is_bounded_exactly():
    torch.manual_seed(1)
    first, last = nn.Linear(4, 6), nn.Linear(6, 3)
    first.bias.data += 10  # every ReLU stays active: the network is linear
    module = nn.Sequential(first, nn.ReLU(), last)
    low = torch.rand(5, 4)
    box = Box(low, low + 1)
    weight = (last.weight @ first.weight).detach()
    offset = (last.weight @ first.bias + last.bias).detach()
    middle = low + 0.5
    wanted = middle @ weight.T + offset - 0.5 * weight.abs().sum(1)
    assert torch.allclose(both(module, box)[:, :3], wanted, atol=1e-3)
    assert (both(module, box)[:, :3] <= wanted).all()
    assert (intervals(trace(module, low), box)[-1].low < wanted - 0.1).all()


def test_a_relu_lies_between_its_lines():
    low, high = torch.tensor([[-1.0, -3.0, 1.0, -2.0]]), torch.tensor([[3.0, 1.0, 2.0, -1.0]])
    points = low + torch.linspace(0, 1, 101)[:, None] * (high - low)
    for slope in ("chord", "smaller_area"):
        lines = relax(Box(low, high), slope)
        assert (points.relu() <= lines.slope * (points - lines.floor) + 1e-6).all()
        assert (points.relu() >= lines.lower * points - 1e-6).all()
    assert relax(Box(low, high), "smaller_area").lower.tolist() == [[1.0, 0.0, 1.0, 0.0]]
    assert relax(Box(low, high), "chord").slope.tolist() == [[0.75, 0.25, 1.0, 0.0]]


class Residual(nn.Module):
    """A shortcut, a difference and a concatenation."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(8, 3)

    def forward(self, images):
        hidden = functional.relu(self.conv1(images))
        inner = self.conv2(hidden)
        hidden = functional.relu(hidden + inner - 0.1)
        both = torch.cat([functional.avg_pool2d(hidden, 4), functional.max_pool2d(inner, 4)], dim=1)
        return self.last(functional.relu(both.flatten(1)))


@pytest.mark.parametrize(("build", "shape"), [(Residual, (2, 4, 4)), (CNN, (1, 6, 6)), (LeNet, (1, 28, 28))])
def test_no_point_of_the_box_leaves_the_bounds(build, shape):
    module = seeded(build)
    rows = torch.rand(3, *shape)
    box = Box(rows - 0.03, rows + 0.03)
    found = {slope: both(module, box, slope) for slope in ("chord", "smaller_area")}
    outputs = found["chord"].shape[1] // 2
    plain = module
    if build is LeNet:
        plain = trace(module, rows).forward  # logits, before the last softmax

    def objective(points):
        values = plain(points)
        return torch.cat([values, -values], dim=1)

    for goal in range(2 * outputs):
        points = box.low + torch.rand_like(rows) * (box.high - box.low)
        for _ in range(15):
            points.requires_grad_()
            values = objective(points)
            assert (values >= found["chord"]).all()
            assert (values >= found["smaller_area"]).all()
            (slope,) = torch.autograd.grad(values[:, goal].sum(), points)
            moved = points.detach() - 0.01 * slope.sign()
            points = torch.minimum(torch.maximum(moved, box.low), box.high)


def test_rounding_is_covered():
    module = seeded(CNN)
    rows = torch.rand(4, 1, 6, 6)
    box = Box(rows - 0.02, rows + 0.02)
    exact = both(copy.deepcopy(module).double(), Box(box.low.double(), box.high.double()))
    single = both(module, box)
    assert (single <= exact).all()
    assert torch.allclose(single.double(), exact, atol=1e-3)


def test_rows_do_not_disturb_each_other():
    module = seeded(Residual)
    rows = torch.rand(6, 2, 4, 4)
    whole = both(module, Box(rows - 0.1, rows + 0.1))
    for index in range(6):
        alone = both(module, Box(rows[index : index + 1] - 0.1, rows[index : index + 1] + 0.1))
        assert torch.allclose(whole[index], alone[0], atol=1e-4)
