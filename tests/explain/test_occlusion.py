"""Occlusion against captum at every size and stride, and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audit.explain.occlusion import boxes, falls, inside_boxes, spread_over_boxes
from audit.explain.quantity import quantity
from audit.model import Model


def model_of(network, batch=64):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def images(n=3, size=8):
    return torch.from_numpy(np.random.default_rng(0).random((n, 3, size, size))).float()


def convolution(size=8):
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (size - 2) ** 2, 3))


def values_of(model, rows, classes):
    with torch.no_grad():
        return quantity(model.scores(rows), classes, "log_odds").double().numpy()


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (4, 2), (3, 2), (2, 1), (8, 8), (3, 3)])
def test_images_are_captums(window, stride):
    from captum.attr import Occlusion

    model, rows, classes = model_of(convolution()), images(), torch.tensor([0, 2, 1])
    windows = boxes((1, 8, 8), (1, window, window), (1, stride, stride))
    fill = torch.full((1, 3, 8, 8), 0.3)
    hidden = inside_boxes(windows, (1, 8, 8), torch.device("cpu"))
    fallen = falls(model, rows, classes, values_of(model, rows, classes), fill, len(windows), hidden)
    found = spread_over_boxes(fallen, windows, (1, 8, 8))
    oracle = (
        Occlusion(lambda x: quantity(model.scores(x), classes, "log_odds"))
        .attribute(rows, (3, window, window), (3, stride, stride), baselines=fill.expand_as(rows))[:, 0]
        .numpy()
    )
    whole = (windows[:, 1:, 1] - windows[:, 1:, 0]).prod(axis=1) == window**2
    if whole.all():
        assert found[:, 0] * window**2 == pytest.approx(oracle, abs=1e-5)
        return
    # captum gives a window that is cut off at the border its whole fall; here its fewer places share it.
    inside = np.ones((8, 8), dtype=bool)
    for (_, down, across), full in zip(windows.tolist(), whole, strict=True):
        if not full:
            inside[slice(*down), slice(*across)] = False
    assert inside.any()
    assert found[:, 0][:, inside] * window**2 == pytest.approx(oracle[:, inside], abs=1e-5)


@given(length=st.integers(1, 12), data=st.data())
@settings(deadline=None, max_examples=60)
def test_windows_cover_every_place_and_no_fall_is_lost(length, data):
    size = data.draw(st.integers(1, length))
    stride = data.draw(st.integers(1, size))
    windows = boxes((2, length), (1, size), (1, stride))
    masks = inside_boxes(windows, (2, length), torch.device("cpu"))(torch.arange(len(windows))).numpy()
    assert masks.any(axis=0).all()
    assert masks.any(axis=(1, 2)).all()
    slow = np.zeros((1, 2, length))
    values = np.random.default_rng(0).normal(size=(1, len(windows)))
    for place in np.ndindex(2, length):
        over = [i for i in range(len(windows)) if masks[i][place]]
        slow[0][place] = np.mean([values[0, i] / masks[i].sum() for i in over])
    assert spread_over_boxes(values, windows, (2, length)) == pytest.approx(slow)


def test_windows_that_do_not_overlap_keep_their_falls():
    windows = boxes((1, 6), (1, 3), (1, 3))
    found = spread_over_boxes(np.array([[3.0, -6.0]]), windows, (1, 6))
    assert found.tolist() == [[[1.0, 1.0, 1.0, -2.0, -2.0, -2.0]]]


def test_a_linear_model_falls_by_what_was_hidden():
    torch.manual_seed(0)
    network = nn.Linear(4, 2)
    model, rows = model_of(network, batch=3), torch.randn(5, 4)
    fill, classes = torch.randn(1, 4), torch.ones(5, dtype=torch.int64)
    owner = torch.tensor([0, 1, 1, 2])
    found = falls(
        model, rows, classes, values_of(model, rows, classes), fill, 3, lambda k: owner == k[:, None]
    )
    weight = (network.weight[1] - network.weight[0]).detach()
    each = (weight * (rows - fill)).numpy()
    expected = np.stack([each[:, 0], each[:, 1] + each[:, 2], each[:, 3]], axis=1)
    assert found == pytest.approx(expected, abs=1e-5)
    assert model.passes.forward == 5 + 15
