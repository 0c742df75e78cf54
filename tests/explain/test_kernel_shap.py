"""KernelSHAP against the definition of the Shapley value, written out slowly, and against shap."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audit.explain.kernel_shap import (
    COMPLETE,
    coalition_values,
    least_samples,
    make_design,
    shapley_values,
)
from audit.explain.quantity import mean_by_class, quantity
from audit.model import Model


def model_of(network, batch=256):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def network(inputs, classes=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 24), nn.Tanh(), nn.Linear(24, classes))


def rows_of(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def explain(model, rows, background, owner, features, *, samples=4096, seed=0, output="log_odds"):
    with torch.no_grad():
        scores = model.module(rows)
        classes = scores.argmax(dim=1)
        base = mean_by_class(model.module(background), classes, output).numpy()
    fx = quantity(scores, classes, output).double().numpy()
    design = make_design(features, samples, seed)
    values = coalition_values(model, rows, classes, background, owner, design.masks, output)
    return shapley_values(design, values, base, fx), fx - base, classes


def by_definition(value_of, features):
    """Average marginal contribution over all coalitions, from the formula of Shapley (1953)."""
    found = []
    for feature in range(features):
        others = [other for other in range(features) if other != feature]
        total = 0.0
        for size in range(features):
            weight = factorial(size) * factorial(features - size - 1) / factorial(features)
            for chosen in combinations(others, size):
                total += weight * (value_of({*chosen, feature}) - value_of(set(chosen)))
        found.append(total)
    return found


@pytest.mark.parametrize("output", ["log_odds", "probability"])
def test_a_full_design_gives_the_shapley_values(output):
    owner = torch.tensor([0, 1, 1, 2, 3, 4, 4])
    model = model_of(network(7))
    rows, background = rows_of(3, 7), rows_of(4, 7, seed=5)
    found, _, classes = explain(model, rows, background, owner, 5, output=output)
    for row, wanted, values in zip(rows, classes, found.values, strict=True):

        def value_of(kept, row=row, wanted=wanted):
            total = 0.0
            for other in background:
                mixed = torch.stack([row[c] if int(owner[c]) in kept else other[c] for c in range(7)])
                with torch.no_grad():
                    total += quantity(model.module(mixed[None]), wanted[None], output).item()
            return total / len(background)

        assert values.tolist() == pytest.approx(by_definition(value_of, 5), abs=1e-5)
    assert (found.standard_error == 0).all()


@pytest.mark.parametrize("samples", [100, 4096])
def test_a_linear_model_has_the_values_known_in_closed_form(samples):
    net = nn.Linear(10, 2)
    rows, background = rows_of(6, 10), rows_of(5, 10, seed=1)
    found, _, classes = explain(model_of(net), rows, background, torch.arange(10), 10, samples=samples)
    weight = (net.weight[1] - net.weight[0]).detach() * (2 * classes - 1)[:, None]
    expected = weight * (rows - background.mean(dim=0))
    assert np.abs(found.values - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("features", [1, 2, 3, 6, 14])
def test_the_values_add_up_exactly(features):
    model = model_of(network(features))
    found, difference, _ = explain(
        model,
        rows_of(4, features),
        rows_of(3, features, seed=1),
        torch.arange(features),
        features,
        samples=64,
    )
    assert found.values.shape == (4, features)
    assert found.values.sum(axis=1) == pytest.approx(difference, abs=1e-9)


def test_the_sampling_error_is_told_honestly():
    model = model_of(network(12), batch=4096)
    rows, background, owner = rows_of(12, 12), torch.zeros(1, 12), torch.arange(12)
    exact, _, _ = explain(model, rows, background, owner, 12)
    squared, claimed = [], []
    for seed in range(12):
        found, _, _ = explain(model, rows, background, owner, 12, samples=200, seed=seed)
        squared.append(np.mean((found.values - exact.values) ** 2))
        claimed.append(np.mean(found.standard_error**2))
    assert 0.5 < np.mean(squared) / np.mean(claimed) < 2
    assert np.sqrt(np.mean(squared) / np.mean(exact.values**2)) < 0.2


@pytest.mark.parametrize(("features", "samples"), [(10, 600), (12, 1000)])
def test_drawn_coalitions_carry_the_kernels_weight_of_their_size(features, samples):
    """Also where so many pairs are drawn that sizes with few coalitions run out of new ones."""
    draws = 60
    carried = np.zeros(features)
    for seed in range(draws):
        design = make_design(features, samples, seed)
        assert design.groups > 0
        carried += np.bincount(design.masks.sum(axis=1), weights=design.weights, minlength=features) / draws
    sizes = np.arange(1, features)
    np.testing.assert_allclose(carried[1:], (features - 1) / (sizes * (features - sizes)), rtol=0.04)


def constrained_fit(design, weights, gains, difference):
    """Weighted least squares with a given sum, by the optimality conditions written out for one row."""
    z = design.masks.astype(float)
    count = z.shape[1]
    system = np.zeros((count + 1, count + 1))
    for row, weight in zip(z, weights, strict=True):
        system[:count, :count] += 2 * weight * np.outer(row, row)
    system[:count, count] = system[count, :count] = 1
    right = np.append(sum(2 * w * g * row for row, w, g in zip(z, weights, gains, strict=True)), difference)
    return np.linalg.solve(system, right)[:count]


@pytest.mark.parametrize(("features", "samples"), [(9, 60), (13, 120)])
def test_a_sampled_design_gives_the_constrained_fit_and_the_spread_of_its_groups(features, samples):
    random = np.random.default_rng(4)
    design = make_design(features, samples, seed=2)
    assert design.groups > 2
    values = random.normal(size=(3, len(design.masks)))
    base, fx = random.normal(size=3), random.normal(size=3)
    found = shapley_values(design, values, base, fx)
    drawn = design.group != COMPLETE
    for row in range(3):
        gains, difference = values[row] - base[row], fx[row] - base[row]
        whole = constrained_fit(design, design.weights, gains, difference)
        np.testing.assert_allclose(found.values[row], whole, rtol=1e-8, atol=1e-10)
        parts = []
        for group in range(design.groups):
            own = design.group == group
            scale = design.weights[drawn].sum() / design.weights[own].sum()
            weights = np.where(own, design.weights * scale, np.where(drawn, 0, design.weights))
            parts.append(constrained_fit(design, weights, gains, difference))
        variance = sum((part - np.mean(parts, axis=0)) ** 2 for part in parts) / (design.groups - 1)
        error = np.sqrt(variance / design.groups)
        np.testing.assert_allclose(found.standard_error[row], error, rtol=1e-8)


@pytest.mark.filterwarnings(
    "ignore:The set_:PendingDeprecationWarning"  # shap colours its plots on import
)
def test_it_agrees_with_shap_within_its_own_standard_error():
    import shap

    model = model_of(network(12, classes=2), batch=4096)
    rows, background = rows_of(6, 12), rows_of(8, 12, seed=3)
    found, _, classes = explain(model, rows, background, torch.arange(12), 12, samples=400)

    def log_odds_of_both(x):
        with torch.no_grad():
            scores = model.module(torch.from_numpy(x).float()).double()
        margin = scores[:, 1] - scores[:, 0]
        return torch.stack([-margin, margin], dim=1).numpy()

    oracle = shap.KernelExplainer(log_odds_of_both, background.numpy()).shap_values(
        rows.numpy(), nsamples=4094, l1_reg=False, silent=True
    )
    expected = oracle[np.arange(6), :, classes.numpy()]
    z = (found.values - expected) / found.standard_error
    assert np.sqrt(np.mean(z**2)) < 1.6
    exact, _, _ = explain(model, rows, background, torch.arange(12), 12)
    assert np.abs(exact.values - expected).max() < 1e-4


def test_image_cells_take_all_channels_together():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    rows, background = rows_of(2, 3, 2, 2), rows_of(3, 3, 2, 2, seed=4)
    owner = torch.tensor([[[0, 1], [2, 3]]])
    found, _, classes = explain(model_of(net), rows, background, owner, 4)
    weight = (net[1].weight[1] - net[1].weight[0]).detach().view(3, 2, 2) * (2 * classes - 1).view(
        -1, 1, 1, 1
    )
    expected = (weight * (rows - background.mean(dim=0))).sum(dim=1).flatten(1)
    assert np.abs(found.values - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("batch", [1, 3, 8, 1024])
def test_the_batch_size_changes_nothing_and_is_not_exceeded(batch):
    sizes = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(6)

        def forward(self, x):
            sizes.append(len(x))
            return self.inner(x)

    watched = Watched()
    rows, background, owner = rows_of(3, 6), rows_of(5, 6, seed=1), torch.arange(6)
    classes = torch.tensor([0, 1, 2])
    masks = make_design(6, 100, 0).masks
    found = coalition_values(model_of(watched, batch), rows, classes, background, owner, masks)
    assert max(sizes) <= batch
    assert sum(sizes) == 3 * 62 * 5
    again = coalition_values(model_of(network(6), 64), rows, classes, background, owner, masks)
    assert np.abs(found - again).max() < 1e-5


def test_passes_are_rows_times_coalitions_times_background():
    model = model_of(network(6))
    design = make_design(6, 100, 0)
    coalition_values(
        model, rows_of(3, 6), torch.tensor([0, 1, 2]), rows_of(5, 6), torch.arange(6), design.masks
    )
    assert len(design.masks) == 2**6 - 2
    assert model.passes.forward == 3 * 62 * 5
    assert model.passes.backward == 0


@settings(deadline=None, max_examples=60)
@given(features=st.integers(2, 24), samples=st.integers(1, 700), seed=st.integers(0, 99))
def test_every_design_is_paired_distinct_and_carries_the_kernels_whole_weight(features, samples, seed):
    design = make_design(features, samples, seed)
    budget = max(samples, least_samples(features))
    assert len(design.masks) <= budget
    assert len({row.tobytes() for row in design.masks}) == len(design.masks)
    assert {row.tobytes() for row in ~design.masks} == {row.tobytes() for row in design.masks}
    whole = sum((features - 1) / (size * (features - size)) for size in range(1, features))
    assert design.weights.sum() == pytest.approx(whole)
    assert (design.weights > 0).all()
    sizes = design.masks.sum(axis=1)
    assert {1, features - 1} <= set(sizes[design.group == COMPLETE])
    assert (design.groups == 0) == (2**features - 2 <= budget)


def test_a_design_is_fixed_by_its_seed():
    one, same, other = (make_design(16, 200, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.masks, same.masks)
    assert np.array_equal(one.weights, same.weights)
    assert not np.array_equal(one.masks, other.masks)
