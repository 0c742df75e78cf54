"""The same explanation under one change: other points, another seed, other rows, other weights."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Dataset
from audit.errors import ConfigError, NotApplicable
from audit.model import Model
from audit.products.attributions import METHODS, attributions
from audit.products.elsewhere import again


def case():
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    inputs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(50, np.int64), modality="tabular", classes=("a", "b", "c"))
    source = attributions(Model(module=network, device=torch.device("cpu")), data, 0)
    return source, source.explained(rows=9, output="log_odds", target="predicted")


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "kernel_shap", "lime"])
def test_without_a_change_it_is_the_same(method):
    source, explained = case()
    known = source.of(method, rows=9)
    found = again(source, explained, method)
    assert found.values == pytest.approx(known.values, abs=1e-6)
    assert found.rows.tolist() == known.rows.tolist()
    part = np.array([2, 5])
    some = again(source, explained, method, part=part)
    assert some.rows.tolist() == known.rows[part].tolist()
    assert some.values == pytest.approx(known.values[part], abs=1e-5)


def test_another_seed_keeps_the_rows():
    source, explained = case()
    known, other = (again(source, explained, "lime", seed=seed) for seed in (0, 1))
    assert known.rows.tolist() == other.rows.tolist()
    assert known.fx == pytest.approx(other.fx)
    assert np.abs(known.values - other.values).max() > 1e-4


def test_other_points_are_explained_for_the_same_class():
    source, explained = case()
    points = -explained.inputs
    found = again(source, explained, "saliency", inputs=points)
    classes = explained.classes
    leaf = points.clone().requires_grad_()
    scores = source.model.scores(leaf)
    chosen = scores.gather(1, classes[:, None]).squeeze(1)
    rest = scores.scatter(1, classes[:, None], -torch.inf).logsumexp(dim=1)
    (slope,) = torch.autograd.grad((chosen - rest).sum(), leaf)
    assert found.values == pytest.approx(slope.abs().numpy() * source.data.inputs.std(axis=0), rel=1e-4)
    assert found.fx == pytest.approx((chosen - rest).detach().numpy(), rel=1e-4)
    assert found.targets.tolist() == classes.tolist()


def test_nothing_is_kept_for_other_checks():
    source, explained = case()
    known = source.of("saliency", rows=9)
    again(source, explained, "saliency", inputs=explained.inputs * 2)
    assert source.of("saliency", rows=9) is known
    assert source.explained(rows=9, output="log_odds", target="predicted") is explained


def test_settings_are_those_of_the_method():
    source, explained = case()
    zero, mean = (again(source, explained, "integrated_gradients", baseline=b) for b in ("zero", "mean"))
    assert np.abs(zero.values - mean.values).max() > 1e-4
    with pytest.raises(ConfigError, match="not a setting"):
        again(source, explained, "saliency", baselin="zero")


@pytest.mark.parametrize("modality", ["tabular", "image"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_the_points_that_it_is_given(method, modality):
    """Not the rows of the data that they stand for: the explanation nearby would be alike by construction."""
    source, explained = case() if modality == "tabular" else pictures()
    try:
        known = again(source, explained, method)
    except NotApplicable:
        assert (method, modality) in {("rise", "tabular"), ("gradcam", "tabular")}
        return
    moved = again(source, explained, method, inputs=explained.inputs.flip(-1) + 0.3)
    assert np.abs(known.fx - moved.fx).max() > 1e-3
    assert np.abs(known.values - moved.values).max() > 1e-3 * np.abs(known.values).max()


def pictures():
    torch.manual_seed(1)
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()),
        nn.Linear(4 * 36, 3),
    ).eval()
    inputs = np.random.default_rng(0).random((9, 3, 8, 8)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(9, np.int64), modality="image", classes=("a", "b", "c"))
    source = attributions(Model(module=network, device=torch.device("cpu"), input_range=(0.0, 1.0)), data, 0)
    return source, source.explained(rows=3, output="log_odds", target="predicted")


@pytest.mark.parametrize("modality", ["tabular", "image"])
@pytest.mark.parametrize("method", METHODS)
def test_no_pass_is_larger_than_the_batch(method, modality):
    """Peak memory is that of a batch, whatever the number of rows, steps, samples or background rows."""
    source, explained = case() if modality == "tabular" else pictures()
    seen = []
    source.model.passes.batch = 16
    # Libraries run on a copy, which takes the hook along.
    handle = source.model.module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        again(source, explained, method)
    except NotApplicable:
        assert (method, modality) in {("rise", "tabular"), ("gradcam", "tabular")}
        return
    finally:
        handle.remove()
    assert 0 < max(seen) <= 16
