"""Interval bounds, by hand and against every corner."""

import copy
from itertools import product

import torch
from networks import CNN, seeded
from torch import nn

from audit.certify.graph import trace
from audit.certify.interval import Box, intervals, slack


def linear(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return layer


def test_by_hand():
    net = nn.Sequential(linear([[1.0, -2.0], [3.0, 1.0]], [0.5, -1.0]), nn.ReLU()).eval()
    read = trace(net, torch.zeros(1, 2))
    boxes = intervals(read, Box(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])))
    assert torch.allclose(boxes[1].low, torch.tensor([[-1.5, -1.0]]), atol=1e-5)
    assert torch.allclose(boxes[1].high, torch.tensor([[1.5, 3.0]]), atol=1e-5)
    assert torch.allclose(boxes[2].low, torch.tensor([[0.0, 0.0]]), atol=1e-5)
    assert (boxes[1].low < torch.tensor([[-1.5, -1.0]])).all()  # widened for rounding


def test_a_linear_layer_reaches_exactly_its_corners():
    torch.manual_seed(0)
    net = nn.Linear(6, 4).eval()
    low, high = torch.randn(3, 6), torch.rand(3, 6)
    high = low + high
    found = intervals(trace(nn.Sequential(net), low), Box(low, high))[-1]
    corners = torch.tensor(list(product([0.0, 1.0], repeat=6)))
    with torch.no_grad():
        values = net(low[:, None] + corners * (high - low)[:, None])
    assert torch.allclose(found.low, values.amin(1), atol=1e-4)
    assert torch.allclose(found.high, values.amax(1), atol=1e-4)


def test_random_points_stay_inside():
    module = seeded(CNN)
    rows = torch.rand(5, 1, 8, 8)
    box = Box(rows - 0.05, rows + 0.05)
    found = intervals(trace(module, rows), box)[-1]
    with torch.no_grad():
        for _ in range(200):
            values = module(box.low + torch.rand_like(rows).round() * (box.high - box.low))
            assert ((values >= found.low) & (values <= found.high)).all()


def test_rounding_is_covered():
    """Bounds in float32 hold those in float64, whose own rounding is a billionth of it."""
    module = seeded(CNN)
    rows = torch.rand(8, 1, 8, 8)
    exact = copy.deepcopy(module).double()
    single = intervals(trace(module, rows), Box(rows - 0.01, rows + 0.01))
    low, high = (rows - 0.01).double(), (rows + 0.01).double()
    double = intervals(trace(exact, low), Box(low, high))
    for found, wanted in zip(single, double, strict=True):
        assert (found.low <= wanted.low).all()
        assert (found.high >= wanted.high).all()
    assert slack(torch.float64) < 1e-8 * slack(torch.float32)
