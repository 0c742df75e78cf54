"""Expected gradients: exact where they can be worked out, captum within the standard error, honest errors."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.explain.expected import expected_gradients
from audit.explain.quantity import quantity
from audit.model import Model


def model_of(network, batch=256):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def curved(inputs=4):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 3))


def rows_of(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def found_of(network, rows, background, classes, samples=160, batch=256, index=None, member=None, seed=0):
    index = np.arange(len(rows)) if index is None else index
    member = torch.eye(rows[0].numel()) if member is None else member
    return expected_gradients(
        model_of(network, batch), rows, classes, index, background, member=member, samples=samples, seed=seed
    )


def exact(network, row, background, target):
    """The mean over background rows of integrated gradients, by 400 midpoints each."""
    total = torch.zeros_like(row)
    for start in background:
        at = ((torch.arange(400) + 0.5) / 400)[:, None]
        line = (start + at * (row - start)).requires_grad_()
        value = quantity(network(line), torch.full((400,), target), "log_odds").sum()
        total += torch.autograd.grad(value, line)[0].mean(dim=0) * (row - start)
    return total / len(background)


def test_one_background_row_and_a_linear_model_are_exact():
    network, rows, start = nn.Linear(5, 2), rows_of(6, 5), rows_of(1, 5, seed=1)
    found = found_of(network, rows, start, torch.ones(6, dtype=torch.int64), samples=16)
    weight = (network.weight[1] - network.weight[0]).detach()
    assert torch.allclose(found.values, (weight * (rows - start)).double(), atol=1e-6)
    assert found.standard_error.max() < 1e-6


def test_a_linear_model_is_exact_where_each_sub_design_goes_once_through_the_background():
    network, rows, background = nn.Linear(5, 2), rows_of(6, 5), rows_of(10, 5, seed=1)
    found = found_of(network, rows, background, torch.ones(6, dtype=torch.int64), samples=80)
    weight = (network.weight[1] - network.weight[0]).detach()
    assert torch.allclose(found.values, (weight * (rows - background.mean(dim=0))).double(), atol=1e-5)


def test_values_are_the_mean_integrated_gradients_within_their_error():
    network, rows, background = curved(), rows_of(8, 4), rows_of(9, 4, seed=2)
    classes = torch.arange(8) % 3
    found = found_of(network, rows, background, classes, samples=800)
    oracle = torch.stack(
        [exact(network, row, background, int(target)) for row, target in zip(rows, classes, strict=True)]
    )
    standardised = (found.values - oracle.double()).abs() / found.standard_error
    assert (standardised < 3).double().mean() > 0.9
    assert standardised.max() > 0.3
    assert found.standard_error.mean() < 0.05 * found.values.abs().mean()


def test_few_samples_still_use_every_background_row():
    """Two samples a sub-design see two of thirty rows; over many rows the mean must be that of all thirty."""
    network, background = nn.Linear(5, 2), rows_of(30, 5, seed=2)
    background[:3] += 10
    rows = rows_of(1, 5).expand(400, 5)
    found = found_of(network, rows, background, torch.ones(400, dtype=torch.int64), samples=16)
    weight = (network.weight[1] - network.weight[0]).detach()
    exact_values = (weight * (rows[0] - background.mean(dim=0))).double()
    error = found.values.std(dim=0) / 400**0.5
    assert ((found.values.mean(dim=0) - exact_values).abs() < 4 * error).all()


def test_the_standard_error_is_the_spread_over_seeds():
    network, rows, background = curved(), rows_of(4, 4), rows_of(20, 4, seed=2)
    classes = torch.zeros(4, dtype=torch.int64)
    runs = [found_of(network, rows, background, classes, 64, seed=seed) for seed in range(40)]
    spread = torch.stack([run.values for run in runs]).std(dim=0)
    told = torch.stack([run.standard_error for run in runs]).square().mean(dim=0).sqrt()
    assert 0.7 < float((told / spread).mean()) < 1.4


def test_captums_gradient_shap_agrees_within_the_standard_error():
    from captum.attr import GradientShap

    network, rows, background = curved(), rows_of(6, 4), rows_of(12, 4, seed=2)
    classes = torch.arange(6) % 3

    def explained(x):
        return quantity(network(x), classes.repeat_interleave(len(x) // len(classes)), "log_odds")

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - captum draws from the global generators
    oracle = GradientShap(explained).attribute(rows, background, n_samples=4000, stdevs=0.0)
    found = found_of(network, rows, background, classes, samples=400)
    # captum's own error: its draws are free, so that theirs is no smaller than ours at 400 free draws.
    allowed = 4 * found.standard_error + 0.05 * found.values.abs().mean()
    assert ((found.values - oracle.double()).abs() < allowed).double().mean() > 0.95


@pytest.mark.parametrize("batch", [1, 9, 1024])
def test_neither_the_batch_nor_the_other_rows_change_a_row(batch):
    network, rows, background = curved(), rows_of(5, 4), rows_of(7, 4, seed=2)
    classes = torch.arange(5) % 3
    one = found_of(network, rows, background, classes, 40)
    other = found_of(network, rows, background, classes, 40, batch=batch)
    alone = found_of(network, rows[2:3], background, classes[2:3], 40, batch=batch, index=np.array([2]))
    assert torch.allclose(one.values, other.values, atol=1e-6)
    assert torch.allclose(one.values[2:3], alone.values, atol=1e-6)
    assert torch.allclose(one.standard_error[2:3], alone.standard_error, atol=1e-6)


def test_samples_that_sub_designs_cannot_share_evenly_are_left_out_and_told():
    network, rows = curved(), rows_of(2, 4)
    found = found_of(network, rows, rows_of(5, 4), torch.zeros(2, dtype=torch.int64), samples=43)
    assert found.samples == 40
    one = found_of(network, rows, rows_of(5, 4), torch.zeros(2, dtype=torch.int64), samples=1)
    assert one.samples == 1
    assert one.standard_error.isnan().all()


def test_no_pass_is_larger_than_the_batch():
    sizes = []
    inner = curved()

    class Watched(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return inner(x)

    found_of(Watched(), rows_of(5, 4), rows_of(3, 4), torch.zeros(5, dtype=torch.int64), samples=32, batch=12)
    assert max(sizes) <= 12
    assert sum(sizes) == 160


class Square(nn.Module):
    """Two logits, 0 and the square of the one input."""

    def forward(self, rows):
        return torch.cat([torch.zeros_like(rows), rows**2], dim=1)


def test_few_positions_are_right_on_average():
    """At the left end of each stratum two samples of 2 a x^2 would give half of x^2."""
    rows, start = torch.full((2000, 1), 1.5), torch.zeros(1, 1)
    found = found_of(Square(), rows, start, torch.ones(2000, dtype=torch.int64), samples=4)
    error = found.values.std() / 2000**0.5
    assert abs(found.values.mean() - 1.5**2) < 4 * error
    assert error < 0.02
