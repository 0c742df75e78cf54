"""Saliency and integrated gradients against captum, and against what can be worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.explain.gradients import completeness_error, gradients, integrated_gradients, quadrature
from audit.explain.quantity import quantity
from audit.model import Model

BOTH = pytest.mark.parametrize("output", ["log_odds", "probability"])


def model_of(network, batch=256):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def smooth_network(inputs=6, classes=3):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, classes))


def convolution():
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def rows_of(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def difference(model, rows, baseline, classes, output="log_odds"):
    with torch.no_grad():
        ends = [quantity(model.scores(item), classes, output) for item in (rows, baseline.expand_as(rows))]
    return (ends[0] - ends[1]).double()


@BOTH
@pytest.mark.parametrize("shape", [(6,), (3, 8, 8)])
def test_gradients_are_captums(shape, output):
    from captum.attr import Saliency

    model = model_of(smooth_network() if len(shape) == 1 else convolution())
    rows, classes = rows_of(9, *shape), torch.arange(9) % 3
    found = gradients(model, rows, classes, output)
    oracle = Saliency(lambda x: quantity(model.scores(x), classes, output)).attribute(
        rows.clone().requires_grad_(), abs=False
    )
    assert torch.allclose(found, oracle, atol=1e-6)


@BOTH
@pytest.mark.parametrize("rule", [("gauss_legendre", "gausslegendre"), ("midpoint", "riemann_middle")])
@pytest.mark.parametrize("shape", [(6,), (3, 8, 8)])
def test_integrated_gradients_are_captums_at_the_same_steps(shape, rule, output):
    from captum.attr import IntegratedGradients

    model = model_of(smooth_network() if len(shape) == 1 else convolution(), batch=40)
    rows, classes = rows_of(7, *shape), torch.arange(7) % 3
    start = rows_of(1, *shape, seed=1)

    def explained(x):
        return quantity(model.scores(x), classes.repeat(len(x) // len(classes)), output)

    found = integrated_gradients(
        model,
        rows,
        start,
        classes,
        difference(model, rows, start, classes, output),
        output=output,
        rule=rule[0],
        steps=24,
        max_steps=24,
    )
    oracle = IntegratedGradients(explained).attribute(rows, start.expand_as(rows), n_steps=24, method=rule[1])
    assert found.values.shape == rows.shape
    assert torch.allclose(found.values, oracle.float(), atol=1e-6)


def test_a_linear_model_is_integrated_exactly():
    network = nn.Linear(5, 2)
    model = model_of(network)
    rows, start, classes = rows_of(8, 5), rows_of(1, 5, seed=2), torch.ones(8, dtype=torch.int64)
    found = integrated_gradients(
        model, rows, start, classes, difference(model, rows, start, classes), steps=2, max_steps=2
    )
    weight = (network.weight[1] - network.weight[0]).detach()
    assert torch.allclose(found.values, weight * (rows - start), atol=1e-6)
    assert found.completeness.max() < 1e-5


def sharp_step(sharpness):
    """Class 1's logit is tanh(sharpness * x0): nearly all of the path has no slope."""
    network = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[sharpness, 0.0]]))
        network[0].bias.zero_()
        network[2].weight.copy_(torch.tensor([[0.0], [1.0]]))
        network[2].bias.zero_()
    return network


def test_steps_are_doubled_only_for_rows_that_need_it():
    model = model_of(sharp_step(30.0))
    rows = torch.tensor([[1.0, 1.0], [0.01, 0.0], [1.5, 0.0]])
    start, classes = torch.tensor([[-0.7, 0.0]]), torch.ones(3, dtype=torch.int64)
    start = torch.cat([start, torch.zeros(1, 2), start])
    gap = difference(model, rows, start, classes)
    found = integrated_gradients(model, rows, start, classes, gap, steps=4, max_steps=512, bound=0.01)
    assert found.steps[1] == 4
    assert found.steps[0] > 4
    assert (found.completeness <= 0.01).all()
    assert found.values.sum(dim=1).tolist() == pytest.approx(gap.tolist(), rel=0.011)
    assert model.passes.backward == sum(
        sum(4 * 2**k for k in range(int(np.log2(used / 4)) + 1)) for used in found.steps
    )


def test_a_bound_that_is_not_met_is_told():
    model = model_of(sharp_step(3000.0))
    rows, start, classes = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.77, 0.0]]), torch.tensor([1])
    gap = difference(model, rows, start, classes)
    found = integrated_gradients(model, rows, start, classes, gap, steps=4, max_steps=16)
    assert found.steps.tolist() == [16]
    assert found.completeness[0] > 0.5


@pytest.mark.parametrize("rule", ["gauss_legendre", "midpoint"])
def test_quadrature_integrates_a_line_exactly(rule):
    at, weights = quadrature(rule, 7)
    assert weights.sum() == pytest.approx(1)
    assert (weights * (3 * at + 1)).sum() == pytest.approx(2.5)


def test_completeness_error_is_a_share_of_the_difference():
    values = torch.tensor([[1.0, 1.0], [0.5, 0.0]])
    found = completeness_error(values, torch.tensor([4.0, 0.5], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("batch", [1, 8, 1024])
def test_the_batch_size_changes_nothing(batch):
    rows, classes = rows_of(10, 6), torch.arange(10) % 3
    start = torch.zeros(1, 6)
    model = model_of(smooth_network())
    gap = difference(model, rows, start, classes)
    one = integrated_gradients(model, rows, start, classes, gap)
    model.passes.batch = batch
    other = integrated_gradients(model, rows, start, classes, gap)
    assert torch.allclose(one.values, other.values, atol=1e-5)
    assert one.steps.tolist() == other.steps.tolist()


def test_no_pass_is_larger_than_the_batch():
    sizes = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = smooth_network()

        def forward(self, x):
            sizes.append(len(x))
            return self.inner(x)

    model = model_of(Watched(), batch=10)
    rows, classes, start = rows_of(5, 6), torch.zeros(5, dtype=torch.int64), torch.zeros(1, 6)
    integrated_gradients(model, rows, start, classes, torch.ones(5, dtype=torch.float64), max_steps=32)
    assert max(sizes) <= 10
    assert sum(sizes) == 5 * 32


def test_nodes_are_computed_once():
    """Those of 512 points take a third of a second, and every explanation asks for them."""
    assert quadrature("gauss_legendre", 64) is quadrature("gauss_legendre", 64)


class Turned(nn.Module):
    """Works on the channels last, so that gradients do not lie in memory as the rows do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        return self.inner(x.permute(0, 2, 3, 1)).tanh().sum(dim=(1, 2))


def test_gradients_may_lie_in_memory_as_they_like():
    model, rows, classes = model_of(Turned(), batch=16), rows_of(4, 3, 5, 6), torch.tensor([0, 1, 1, 0])
    (slope,) = torch.autograd.grad(Turned()(leaf := rows.clone().requires_grad_()).sum(), leaf)
    assert not slope.is_contiguous()
    baseline = torch.zeros(1, 3, 5, 6)
    wanted = difference(model, rows, baseline, classes)
    found = integrated_gradients(model, rows, baseline, classes, wanted, bound=1e-4)
    assert found.completeness.max() < 1e-4
