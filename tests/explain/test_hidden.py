"""Rows under masks against a slow loop: every pair once, whole batches, masks made once for all rows."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.explain import hidden
from audit.explain.hidden import values_under_masks
from audit.explain.quantity import quantity
from audit.model import Model


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def rows_of(count):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(count, 4))).float()


class Watched(nn.Module):
    """Remembers how many rows it was given at a time."""

    def __init__(self):
        super().__init__()
        self.inner, self.sizes = network(), []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.inner(x)


def masks_of(made):
    """Mask i is a function of i alone; notes which were asked for."""

    def masks(numbers):
        made.extend(numbers.tolist())
        return torch.from_numpy(np.stack([np.arange(4) * (i + 1) % 5 / 4 for i in numbers])).float()

    return masks


def found_of(module, rows, classes, count, batch, made, output="log_odds"):
    model = Model(module=module.eval(), device=torch.device("cpu"))
    model.passes.batch = batch
    fill = torch.full((1, 4), 0.5)

    def seen(mask, own):
        return torch.lerp(fill, own, mask)

    return model, values_under_masks(model, rows, classes, count, masks_of(made), seen, output)


@pytest.mark.parametrize("output", ["log_odds", "probability"])
@pytest.mark.parametrize("batch", [1, 4, 6, 64])
def test_every_row_is_seen_once_under_every_mask(batch, output):
    rows, classes, made = rows_of(5), torch.tensor([0, 2, 1, 1, 0]), []
    module = network()
    model, found = found_of(module, rows, classes, 7, batch, made, output)
    assert found.shape == (5, 7)
    assert model.passes.forward == 35
    for number, mask in enumerate(masks_of([])(np.arange(7))):
        for place, row in enumerate(rows):
            with torch.no_grad():
                scores = module((row * mask + (1 - mask) * 0.5)[None])
            value = quantity(scores, classes[place : place + 1], output)
            assert torch.allclose(found[place, number], value[0], atol=1e-5)
    assert made == list(range(7))


def test_passes_are_whole_batches_though_rows_do_not_fill_them():
    module = Watched()
    found_of(module, rows_of(5), torch.zeros(5, dtype=torch.int64), 7, 6, [])
    assert module.sizes == [6, 6, 6, 6, 6, 5]


def test_masks_are_made_in_blocks_that_bound_the_memory(monkeypatch):
    monkeypatch.setattr(hidden, "ELEMENTS_AT_ONCE", 12)
    blocks, module, classes = [], network(), torch.zeros(2, dtype=torch.int64)
    model = Model(module=module, device=torch.device("cpu"))
    model.passes.batch = 2

    def masks(numbers):
        blocks.append(len(numbers))
        return torch.ones(len(numbers), 4)

    found = values_under_masks(model, rows_of(2), classes, 10, masks, torch.mul, "log_odds")
    assert blocks == [3, 3, 3, 1]
    assert torch.allclose(found, found[:, :1].expand(2, 10))


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost():
    class Small(nn.Module):
        """Has memory for three rows."""

        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            if len(x) > 3:
                raise torch.OutOfMemoryError
            return self.inner(x)

    rows, classes = rows_of(3), torch.tensor([0, 1, 2])
    model, found = found_of(Small(), rows, classes, 5, 16, [])
    _, whole = found_of(network(), rows, classes, 5, 16, [])
    assert model.passes.halvings == 3
    assert torch.allclose(found, whole, atol=1e-6)
