"""LIME against a regression written out row by row, and against the reference package."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from torch import nn

from audit.dataset import Dataset, Feature
from audit.explain.lime import (
    draw_masks,
    draw_noise,
    fit_surrogates,
    image_neighbourhood,
    image_values,
    segment_means,
    table_neighbourhood,
    table_values,
)
from audit.explain.quantity import quantity
from audit.model import Model

JOB = Feature(name="job", kind="categorical", columns=(3, 4, 5), categories=("x", "y", "z"))


def model_of(network, batch=256):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def table(rows=60, seed=0):
    """Columns of scales 1, 10 and 0 (constant), then a category of three."""
    random = np.random.default_rng(seed)
    job = np.eye(3)[random.integers(3, size=rows)]
    numbers = random.normal(size=(rows, 3)) * [1, 10, 0] + [0, 50, 7]
    features = (*(Feature(name=n, columns=(i,)) for i, n in enumerate(("age", "pay", "same"))), JOB)
    inputs = np.concatenate([numbers, job], axis=1).astype(np.float32)
    return Dataset(
        inputs=inputs,
        labels=np.zeros(rows, dtype=np.int64),
        modality="tabular",
        classes=("a", "b"),
        features=features,
    )


def table_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    with torch.no_grad():
        net[0].weight[:, 1] /= 10
    return net


def explain_table(model, data, rows=5, samples=400, seed=0, output="log_odds"):
    inputs = model.tensor(data.inputs[:rows])
    with torch.no_grad():
        scores = model.module(inputs)
    classes = scores.argmax(dim=1)
    owner = torch.from_numpy(data.feature_of_column())
    noise = draw_noise(data, owner, len(data.features), samples, seed)
    values = table_values(model, inputs, classes, noise, output)
    values = torch.cat([quantity(scores, classes, output)[:, None], values], dim=1)
    block = table_neighbourhood(inputs, noise)
    return fit_surrogates(block, values, len(data.features)), block, values, noise


def test_neighbours_keep_categories_whole_and_leave_constant_columns_alone():
    data = table()
    noise = draw_noise(data, torch.from_numpy(data.feature_of_column()), 4, 500, 0)
    neighbours = data.inputs[0] * noise.keep.numpy() + noise.offset.numpy()
    assert (neighbours[:, 3:].sum(axis=1) == 1).all()
    assert (neighbours[:, 2] == data.inputs[0, 2]).all()
    assert neighbours[:, 1].std() == pytest.approx(data.inputs[:, 1].std(), rel=0.1)
    assert neighbours[:, 3:].mean(axis=0) == pytest.approx(data.inputs[:, 3:].mean(axis=0), abs=0.08)


def test_surrogates_are_weighted_ridge_regressions_of_each_row():
    found, block, values, noise = explain_table(model_of(table_network()), table())
    for index in range(5):
        z, weights = (item[0].numpy() for item in block(slice(index, index + 1)))
        y = values[index].double().numpy()
        slow = Ridge(alpha=1.0).fit(z, y, sample_weight=weights)
        assert found.coefficients[index] == pytest.approx(slow.coef_, abs=1e-8)
        assert found.intercept[index] == pytest.approx(slow.intercept_, abs=1e-8)
        assert found.local[index] == pytest.approx(slow.predict(z[:1])[0], abs=1e-8)
        assert found.r2[index] == pytest.approx(slow.score(z, y, sample_weight=weights), abs=1e-8)
    assert (found.coefficients[:, 2] == 0).all()
    assert (noise.units[:, 3] == 0).all()


def test_weights_are_the_references_kernel_on_standardised_distances():
    data = table()
    _, block, _, noise = explain_table(model_of(table_network()), data)
    z, weights = (item[0].numpy() for item in block(slice(0, 1)))
    kept = (data.inputs[0] * noise.keep.numpy() + noise.offset.numpy())[:, 3:] == data.inputs[0, 3:]
    assert z[0].tolist() == [0, 0, 0, 1]
    assert z[1:, 3].astype(bool).tolist() == kept.all(axis=1).tolist()
    distance = np.sqrt(((z - z[0]) ** 2).sum(axis=1))
    width = 0.75 * np.sqrt(4)
    assert weights == pytest.approx(np.sqrt(np.exp(-(distance**2) / width**2)))


def test_a_linear_model_is_described_by_its_slopes():
    net = nn.Linear(6, 2)
    data = table(rows=400)
    found, *_ = explain_table(model_of(net), data, samples=4000)
    with torch.no_grad():
        sign = 2 * net(torch.from_numpy(data.inputs[:5])).argmax(dim=1) - 1
    slope = (net.weight[1] - net.weight[0]).detach()[:3] * sign[:, None]
    slope = slope.numpy() * data.inputs[:, :3].std(axis=0)
    assert found.coefficients[:, :3] == pytest.approx(slope, rel=0.02, abs=0.02)
    assert found.r2.min() > 0.95


def test_it_agrees_with_lime_tabular_up_to_the_noise_of_seeds():
    from lime.lime_tabular import LimeTabularExplainer

    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
    inputs = (np.random.default_rng(2).normal(size=(300, 8)) * 2).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(8))
    labels = np.zeros(300, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("a", "b"), features=features)

    def probabilities(x):
        with torch.no_grad():
            return net(torch.from_numpy(x).float()).softmax(dim=1).numpy()

    def reference(seed):
        explainer = LimeTabularExplainer(
            inputs, discretize_continuous=False, sample_around_instance=True, random_state=seed
        )
        found = []
        for row in inputs[:5]:
            target = int(probabilities(row[None]).argmax())
            said = explainer.explain_instance(
                row, probabilities, labels=(target,), num_features=8, num_samples=3000
            )
            found.append([weight for _, weight in sorted(said.as_map()[target])])
        return np.array(found)

    found, *_ = explain_table(model_of(net, 4096), data, samples=3000, output="probability")
    one, two = reference(0), reference(1)
    assert np.abs(found.coefficients - one).max() < 2 * np.abs(one - two).max()
    for ours, theirs in zip(found.coefficients, one, strict=True):
        assert spearmanr(ours, theirs).statistic > 0.9
        assert np.abs(ours).argmax() == np.abs(theirs).argmax()


def test_the_sampling_error_is_of_the_right_size():
    model, data = model_of(table_network(), 4096), table()
    runs = [explain_table(model, data, samples=400, seed=seed)[0] for seed in range(24)]
    spread = np.stack([run.coefficients for run in runs]).std(axis=0, ddof=1)
    claimed = np.sqrt(np.mean([run.standard_error**2 for run in runs], axis=0))
    assert 0.6 < np.sqrt((spread**2).mean() / (claimed**2).mean()) < 1.6


def test_a_model_that_does_not_vary_has_no_r2():
    net = nn.Linear(6, 2)
    nn.init.zeros_(net.weight)
    found, *_ = explain_table(model_of(net), table())
    assert np.isnan(found.r2).all()
    assert np.abs(found.coefficients).max() < 1e-12


@pytest.mark.parametrize("batch", [8, 1024])
def test_the_batch_size_changes_nothing(batch):
    data = table()
    one, *_ = explain_table(model_of(table_network(), 100), data)
    other, *_ = explain_table(model_of(table_network(), batch), data)
    assert one.coefficients == pytest.approx(other.coefficients, abs=1e-5)


def test_passes_are_rows_times_samples_and_the_seed_fixes_all():
    model = model_of(table_network())
    one, *_ = explain_table(model, table(), samples=300, seed=3)
    assert model.passes.forward == 5 * 300
    same, *_ = explain_table(model, table(), samples=300, seed=3)
    other, *_ = explain_table(model, table(), samples=300, seed=4)
    assert np.array_equal(one.coefficients, same.coefficients)
    assert not np.array_equal(one.coefficients, other.coefficients)


def image_case():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
    rows = torch.from_numpy(np.random.default_rng(0).random((2, 3, 4, 4))).float()
    halves = torch.tensor([[0, 0, 1, 1]] * 4)
    thirds = torch.tensor([[0, 0, 1, 2]] * 4)
    return model_of(net), rows, torch.stack([halves, thirds])


def test_hidden_segments_show_their_mean_colour():
    _, rows, segments = image_case()
    found = segment_means(rows, segments)
    for row, owner, hidden in zip(rows, segments, found, strict=True):
        for segment in owner.unique():
            inside = owner == segment
            assert torch.allclose(
                hidden[:, inside], row[:, inside].mean(dim=1, keepdim=True).expand(-1, inside.sum())
            )


def test_image_values_are_those_of_images_masked_one_by_one():
    model, rows, segments = image_case()
    masks, fill = draw_masks(20, 3, 0), segment_means(rows, segments)
    classes = torch.tensor([0, 1])
    found = image_values(model, rows, classes, masks, segments, fill, "log_odds")
    for r in range(2):
        for s in range(20):
            image = rows[r].clone()
            for segment in range(3):
                if not masks[s, segment]:
                    image[:, segments[r] == segment] = fill[r][:, segments[r] == segment]
            with torch.no_grad():
                slow = quantity(model.module(image[None]), classes[r : r + 1], "log_odds").item()
            assert found[r, s].item() == pytest.approx(slow, abs=1e-5)


def test_image_weights_are_the_references_cosine_kernel_over_the_segments_an_image_has():
    from sklearn.metrics import pairwise_distances

    _, _, segments = image_case()
    masks = draw_masks(30, 3, 0)
    for index, count in enumerate((2, 3)):
        z, weights = (
            item[0].numpy() for item in image_neighbourhood(masks, segments)(slice(index, index + 1))
        )
        assert (z[:, count:] == 0).all()
        distance = pairwise_distances(z[:, :count], np.ones((1, count)), metric="cosine").ravel()
        assert weights == pytest.approx(np.sqrt(np.exp(-(distance**2) / 0.25**2)))


def test_a_segment_that_an_image_lacks_gets_no_weight():
    model, rows, segments = image_case()
    masks, fill, classes = draw_masks(50, 3, 0), segment_means(rows, segments), torch.tensor([0, 1])
    values = image_values(model, rows, classes, masks, segments, fill, "log_odds")
    with torch.no_grad():
        own = quantity(model.module(rows), classes, "log_odds")
    found = fit_surrogates(image_neighbourhood(masks, segments), torch.cat([own[:, None], values], dim=1), 3)
    assert found.coefficients[0, 2] == pytest.approx(0, abs=1e-12)
    assert np.abs(found.coefficients[1]).min() > 1e-4


def test_rows_that_share_their_neighbourhood_are_fitted_as_each_by_itself():
    random = np.random.default_rng(0)
    z, weights = torch.from_numpy(random.normal(size=(1, 401, 5))), torch.from_numpy(random.random((1, 401)))
    values = torch.from_numpy(random.normal(size=(7, 401)))
    shared = fit_surrogates(lambda _: (z, weights), values, 5)

    def apart(part):
        count = part.stop - part.start
        return z.expand(count, -1, -1), weights.expand(count, -1)

    single = fit_surrogates(apart, values, 5)
    for name in ("coefficients", "intercept", "local", "r2", "standard_error"):
        assert getattr(shared, name) == pytest.approx(getattr(single, name), abs=1e-9), name
    assert shared.coefficients.shape == (7, 5)


def test_rows_are_fitted_in_blocks_that_bound_the_memory():
    asked = []

    def neighbourhood(part):
        asked.append(part.stop - part.start)
        z = torch.zeros(1, 1001, 50, dtype=torch.float64)
        return z.expand(part.stop - part.start, -1, -1) + 1, torch.ones(part.stop - part.start, 1001).double()

    fit_surrogates(neighbourhood, torch.zeros(170, 1001), 50)
    assert sum(asked) == 170
    assert max(asked) * 51 * 1001 <= 2**22
