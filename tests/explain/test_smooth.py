"""SmoothGrad and VarGrad against a slow loop, against captum within the sampling error, and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from audit.draws import Draws
from audit.explain import smooth
from audit.explain.quantity import quantity
from audit.explain.smooth import Copies, gradient_variances, smoothed_gradients
from audit.model import Model

CPU = torch.device("cpu")


def model_of(network, batch=256):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def curved(inputs=4):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 3))


def rows_of(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def found_of(network, rows, classes, samples=40, noise=0.5, batch=256, index=None, scale=1.0, member=None):
    copies = Copies(
        spread=torch.full((1, *rows.shape[1:]), noise),
        scale=torch.full((1, *rows.shape[1:]), scale),
        samples=samples,
        seed=5,
    )
    count = rows[0].numel()
    index = np.arange(len(rows)) if index is None else index
    member = torch.eye(count) if member is None else member
    about = rows, classes, index, copies, member
    mean = smoothed_gradients(model_of(network, batch), *about)
    varied = gradient_variances(model_of(network, batch), *about)
    return SimpleNamespace(
        mean=mean.values,
        mean_error=mean.standard_error,
        variance=varied.values,
        variance_error=varied.standard_error,
    )


def slowly(network, row, target, number, samples, noise, own=False):
    """[S, D] the gradients of one row, one copy at a time; VarGrad's noise is the row's own."""
    out = []
    for sample in range(samples):
        stream = number * 2**20 + sample
        shared = Draws(np.array([sample]), 5, "smoothgrad", CPU).normal(tuple(row.shape))[0]
        odd = Draws(np.array([stream]), 5, "smoothgrad sign", CPU).integers(1).item() % 2
        move = -shared if odd else shared
        if own:
            move = Draws(np.array([stream]), 5, "vargrad", CPU).normal(tuple(row.shape))[0]
        leaf = (row + noise * move)[None].requires_grad_()
        value = quantity(network(leaf), torch.tensor([target]), "log_odds")
        out.append(torch.autograd.grad(value.sum(), leaf)[0][0].flatten())
    return torch.stack(out).double()


@pytest.mark.parametrize(("samples", "groups"), [(40, 8), (37, 8), (6, 3)])
def test_moments_and_errors_are_those_of_a_loop(samples, groups):
    network, rows, classes = curved(), rows_of(3, 4), torch.tensor([0, 2, 1])
    member = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = found_of(network, rows, classes, samples, member=member)
    for place in range(3):
        slopes = slowly(network, rows[place], int(classes[place]), place, samples, 0.5)
        own = slowly(network, rows[place], int(classes[place]), place, samples, 0.5, own=True)
        assert torch.allclose(found.mean[place], slopes.mean(dim=0), atol=1e-5)
        assert torch.allclose(found.variance[place], own.var(dim=0, unbiased=False), atol=1e-5)
        parts, own_parts = ([item[group::groups] for group in range(groups)] for item in (slopes, own))
        means = torch.stack(
            [(part.mean(dim=0) * slopes.mean(dim=0).sign()) @ member.double() for part in parts]
        )
        spreads = torch.stack([part.var(dim=0) @ member.double() for part in own_parts])
        assert torch.allclose(found.mean_error[place], means.std(dim=0) / groups**0.5, atol=1e-5)
        assert torch.allclose(found.variance_error[place], spreads.std(dim=0) / groups**0.5, atol=1e-5)


@pytest.mark.parametrize("kind", ["smoothgrad", "vargrad"])
def test_captum_agrees_within_the_sampling_error(kind):
    from captum.attr import NoiseTunnel, Saliency

    network, rows, classes = curved(), rows_of(6, 4), torch.arange(6) % 3
    found = found_of(network, rows, classes, samples=400)
    torch.manual_seed(0)

    def explained(x):
        return quantity(network(x), classes.repeat_interleave(len(x) // len(classes)), "log_odds")

    oracle = NoiseTunnel(Saliency(explained)).attribute(
        rows, nt_type=kind, nt_samples=4000, nt_samples_batch_size=1000, stdevs=0.5, abs=False
    )
    ours, error = (
        (found.mean, found.mean_error) if kind == "smoothgrad" else (found.variance, found.variance_error)
    )
    distance = (ours - oracle.double()).abs()
    assert (distance / error < 4).double().mean() > 0.95
    assert (error.mean() / ours.abs().mean()) < 0.1


def test_a_linear_model_has_its_own_slope_and_no_variance():
    network = nn.Linear(5, 2)
    rows = rows_of(4, 5)
    found = found_of(network, rows, torch.ones(4, dtype=torch.int64), samples=20, scale=2.0)
    weight = (network.weight[1] - network.weight[0]).detach().double()
    assert torch.allclose(found.mean, 2 * weight.expand(4, 5), atol=1e-6)
    assert found.variance.max() < 1e-12
    assert found.mean_error.max() < 1e-6


class Square(nn.Module):
    """Log-odds x^2 / 2: the slope at x is x, so that gradients at noisy copies vary as the noise does."""

    def forward(self, x):
        return torch.cat([torch.zeros(len(x), 1), x.square() / 2], dim=1)


def test_the_variance_is_that_of_the_noise_where_the_slope_is_the_input():
    rows = torch.tensor([[3.0], [-2.0]])
    found = found_of(Square(), rows, torch.ones(2, dtype=torch.int64), samples=4000, noise=0.5)
    assert (found.mean - rows).abs().max() < 4 * 0.5 / 4000**0.5
    assert found.variance.flatten().tolist() == pytest.approx([0.25, 0.25], rel=0.1)
    assert found.mean_error.flatten().tolist() == pytest.approx([0.5 / 4000**0.5] * 2, rel=0.7)


@pytest.mark.parametrize("batch", [1, 7, 1024])
def test_neither_the_batch_nor_the_other_rows_change_a_row(batch):
    network, rows, classes = curved(), rows_of(5, 4), torch.arange(5) % 3
    one = found_of(network, rows, classes, samples=20)
    other = found_of(network, rows, classes, samples=20, batch=batch)
    alone = found_of(network, rows[3:4], classes[3:4], samples=20, batch=batch, index=np.array([3]))
    for name in ("mean", "variance", "mean_error", "variance_error"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-6)
        assert torch.allclose(getattr(one, name)[3:4], getattr(alone, name), atol=1e-6)


def test_one_group_has_no_standard_error():
    found = found_of(curved(), rows_of(2, 4), torch.zeros(2, dtype=torch.int64), samples=3)
    assert found.mean_error.isnan().all()
    assert found.mean.isfinite().all()


def test_no_pass_is_larger_than_the_batch():
    sizes = []
    inner = curved()

    class Watched(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return inner(x)

    found_of(Watched(), rows_of(5, 4), torch.zeros(5, dtype=torch.int64), samples=30, batch=12)
    assert max(sizes) <= 12
    assert sum(sizes) == 2 * 150


def test_rows_share_the_noise_but_not_their_sampling_errors():
    """Where the slope is the input, the error of a row's mean is the mean of its noise."""
    rows = torch.zeros(40, 1)
    classes = torch.ones(40, dtype=torch.int64)
    found = found_of(Square(), rows, classes, samples=100, noise=1.0)
    errors = found.mean.flatten() * 100**0.5
    assert 0.6 < errors.std() < 1.5
    assert abs(errors.mean()) < 4 / 40**0.5
    assert len(set(errors.tolist())) == 40


def test_the_variances_of_rows_do_not_err_together():
    """The variance of a row is that of its noise, 1 with a standard deviation of sqrt(2 / 100): with noise
    that rows share, all of them would be too high or too low at once."""
    rows, classes = torch.zeros(400, 1), torch.ones(400, dtype=torch.int64)
    found = found_of(Square(), rows, classes, samples=100, noise=1.0)
    errors = (found.variance.flatten() - 0.99) / (2 / 100) ** 0.5
    assert 0.85 < errors.std() < 1.15
    assert abs(errors.mean()) < 4 / 400**0.5


def test_noise_that_is_not_kept_is_the_same(monkeypatch):
    network, rows, classes = curved(), rows_of(3, 4), torch.tensor([0, 2, 1])
    kept = found_of(network, rows, classes, batch=7)
    monkeypatch.setattr(smooth, "_ELEMENTS_KEPT", 0)
    again = found_of(network, rows, classes, batch=7)
    assert torch.equal(kept.mean, again.mean)
    assert torch.equal(kept.variance_error, again.variance_error)
