"""RISE against the paper's formula in a slow loop; masks that depend on their number alone."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.explain.quantity import quantity
from audit.explain.rise import Masks, importance, masked_values
from audit.model import Model

CPU = torch.device("cpu")


def model_of(network, batch=64):
    found = Model(module=network.eval(), device=CPU)
    found.passes.batch = batch
    return found


def convolution():
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def images(n=3):
    return torch.from_numpy(np.random.default_rng(0).random((n, 3, 8, 8))).float()


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 9, 5), (3, 10), (1, 2, 2)])
def test_masks_are_smooth_fair_and_their_own(shape):
    masks = Masks(shape, 4, 0.3, 1, CPU)
    made = masks.made(np.arange(3000))
    assert made.shape == (3000, *shape)
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made[[7, 2999]], masks.made(np.array([7, 2999])))
    # A cell's chance has a standard deviation of at most sqrt(.3 * .7 / 3000) = .0084.
    assert (made.mean(dim=0) - 0.3).abs().max() < 4.5 * 0.0084
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], Masks(shape, 4, 0.3, 2, CPU).made(np.arange(1))[0])


def test_cells_have_no_fixed_place():
    """Without the random shift a place at the edge of a cell would always be half of two cells."""
    made = Masks((1, 32), 4, 0.5, 0, CPU).made(np.arange(6000))[:, 0]
    spread = made.var(dim=0)[9:23]
    assert spread.max() / spread.min() < 1.25


def test_channels_of_series_are_masked_on_their_own():
    made = Masks((2, 12), 4, 0.5, 0, CPU).made(np.arange(500))
    together = np.corrcoef(made[:, 0, 5], made[:, 1, 5])[0, 1]
    assert abs(together) < 4 / 500**0.5


def test_importance_is_the_papers_formula_around_its_mean():
    model, rows, classes = model_of(convolution()), images(), torch.tensor([0, 2, 1])
    masks, samples, fill = Masks((1, 8, 8), 4, 0.4, 3, CPU), 50, torch.full((1, 3, 8, 8), 0.2)
    values = masked_values(model, rows, classes, fill, masks, samples, "log_odds")
    assert model.passes.forward == 150
    cells = (torch.arange(8) // 4)[:, None] * 2 + torch.arange(8) // 4
    member = (cells.flatten()[:, None] == torch.arange(4)).float()
    found = importance(values, masks, member)
    made = masks.made(np.arange(samples)).double()
    for place, (row, target) in enumerate(zip(rows, classes, strict=True)):
        answers = []
        for mask in made.float():
            seen = row * mask + (1 - mask) * fill[0]
            with torch.no_grad():
                answers.append(quantity(model.scores(seen[None]), target[None], "log_odds")[0].double())
        answers = torch.stack(answers)
        assert torch.allclose(values[place].double(), answers, atol=1e-5)
        paper = (answers[:, None, None] * made[:, 0]).sum(dim=0) / (samples * 0.4)
        constant = answers.mean() * made[:, 0].mean(dim=0) / 0.4
        assert torch.allclose(found.values[place, 0], paper - constant, atol=1e-5)
        parts = []
        for group in range(8):
            inside = made[group::8, 0] - 0.4
            each = ((answers[group::8] - answers.mean())[:, None, None] * inside).sum(dim=0)
            parts.append((each / (len(inside) * 0.4)).flatten() @ member.double())
        error = torch.stack(parts).std(dim=0) / 8**0.5
        assert torch.allclose(found.standard_error[place], error, atol=1e-5)


class Corner(nn.Module):
    """Log-odds: the sum of the pixels of the top left quarter."""

    def forward(self, x):
        total = x[:, :, :4, :4].sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(total), total], dim=1)


def test_the_place_that_counts_stands_out_and_the_error_is_the_spread_over_seeds():
    rows, classes = torch.ones(1, 3, 8, 8), torch.tensor([1])
    member = torch.zeros(64, 2)
    corner = torch.zeros(8, 8, dtype=torch.bool)
    corner[:4, :4] = True
    member[corner.flatten(), 0], member[~corner.flatten(), 1] = 1 / 16, 1 / 48
    runs = []
    for seed in range(30):
        masks = Masks((1, 8, 8), 4, 0.5, seed, CPU)
        model = model_of(Corner(), 512)
        values = masked_values(model, rows, classes, torch.zeros(1, 3, 8, 8), masks, 200, "log_odds")
        runs.append(importance(values, masks, member))
    means = torch.stack([run.values[0, 0].flatten().float() @ member for run in runs])
    assert (means[:, 0] > 2 * means[:, 1].abs()).all()
    told = torch.stack([run.standard_error[0] for run in runs]).square().mean(dim=0).sqrt()
    assert 0.6 < float(told[0] / means[:, 0].std()) < 1.6
    assert 0.6 < float(told[1] / means[:, 1].std()) < 1.6


@pytest.mark.parametrize("batch", [1, 5, 1024])
def test_the_batch_changes_nothing_and_bounds_each_pass(batch):
    sizes = []
    inner = convolution()

    class Watched(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return inner(x)

    masks, classes = Masks((1, 8, 8), 4, 0.5, 0, CPU), torch.tensor([0, 2, 1])
    fill = torch.zeros(1, 3, 8, 8)
    one = masked_values(model_of(inner), images(), classes, fill, masks, 20, "log_odds")
    other = masked_values(model_of(Watched(), batch), images(), classes, fill, masks, 20, "log_odds")
    assert torch.allclose(one, other, atol=1e-5)
    assert max(sizes) <= batch
    assert sum(sizes) == 60
