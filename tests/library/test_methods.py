"""captum, shap and lime through the attributions contract: closed forms, the libraries, the state."""

from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.explain.summary import require_explanation
from audit.model import Model, state_hash
from audit.products.attributions import attributions

METHODS = ("deep_lift", "deep_shap", "lrp", "layer_conductance", "permutation_shap", "lime_library")
DEEP = ("deep_lift", "deep_shap", "lrp", "layer_conductance")
pytestmark = pytest.mark.filterwarnings(
    "ignore:The set_:PendingDeprecationWarning",  # shap colours its plots on import
    "ignore:Setting forward, backward hooks:UserWarning",  # captum, called directly as the oracle
    "ignore:Input Tensor 0 did not already:UserWarning",  # the same
)


def table(columns=6, rows=60, classes=3):
    inputs = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(columns))
    names = tuple("abc"[:classes])
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=names, features=features)


def images(channels=3, side=8, rows=10):
    inputs = np.random.default_rng(0).random((rows, channels, side, side)).astype(np.float32)
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b"))


def seeded(*layers, gain=1.0):
    torch.manual_seed(0)
    network = nn.Sequential(*layers)
    for part in network.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(gain)
    return network.eval()


def mlp(inputs=6, classes=3):
    return seeded(
        *(nn.Linear(inputs, 16), nn.ReLU(inplace=True), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, classes)),
        gain=2,
    )


def cnn(channels=3):
    return seeded(
        *(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 2)),
    )


def of(network, data, method, **settings):
    model = Model(module=network, device=torch.device("cpu"), **settings.pop("model", {}))
    return attributions(model, data, 0).of(method, **settings)


def log_odds_difference(network, item, inputs):
    """[n, M] weight of each input in the log-odds of the explained class of a linear two-class network."""
    weight = (network[0].weight[1] - network[0].weight[0]).detach().double().numpy()
    return weight * (2 * item.targets - 1)[:, None] * inputs


@pytest.mark.parametrize("method", ["deep_lift", "deep_shap", "permutation_shap"])
def test_a_linear_model_has_the_values_known_in_closed_form(method):
    data, network = table(classes=2), seeded(nn.Linear(6, 2))
    item = of(network, data, method, rows=12)
    if method == "deep_lift":
        reference = data.inputs.mean(axis=0, dtype=np.float64)
    else:
        chosen = np.sort(np.random.default_rng(1).choice(60, size=20, replace=False))
        reference = data.inputs[chosen].mean(axis=0, dtype=np.float64)
    expected = log_odds_difference(network, item, data.inputs[item.rows] - reference)
    assert np.abs(item.values - expected).max() < 1e-6
    assert item.completeness.max() < 1e-4


def test_the_relevance_of_a_linear_model_without_bias_is_weight_times_input():
    data, network = table(classes=2), seeded(nn.Linear(6, 2, bias=False))
    item = of(network, data, "lrp", rows=12)
    expected = network[0].weight.detach().numpy()[item.targets] * data.inputs[item.rows]
    assert np.abs(item.values - expected).max() < 1e-5
    assert item.fx == pytest.approx(expected.sum(axis=1), abs=1e-5)
    assert item.unit == "logit"


@pytest.mark.parametrize("output", ["log_odds", "probability"])
@pytest.mark.parametrize("method", ["deep_lift", "deep_shap"])
def test_contributions_add_up_for_curved_networks_and_three_classes(method, output):
    item = of(mlp(), table(), method, rows=20, output=output)
    assert item.completeness.max() < 2e-3
    assert np.abs(item.values).max() > 0.01


@pytest.mark.parametrize("network", [mlp(), cnn()], ids=["table", "images"])
def test_deep_lift_of_logits_is_captums(network):
    from captum.attr import DeepLift

    data = table() if isinstance(network[0], nn.Linear) else images()
    plain = {"model": {"output": "logits"}, "baseline": "zero", "rows": 6}
    item = of(network, data, "deep_lift", **plain)
    rows = torch.from_numpy(data.inputs[item.rows])

    def by_captum(target):
        return DeepLift(network).attribute(rows.clone(), torch.zeros_like(rows), target=target).detach()

    classes = torch.from_numpy(item.targets)
    if data.modality == "image":
        expected = (by_captum(classes) - by_captum(1 - classes)).sum(dim=1)
        assert np.abs(item.maps - expected.numpy()).max() < 1e-5
        return
    with torch.no_grad():
        own, other = network(rows), network(torch.zeros_like(rows))
    places = torch.linspace(0, 1, 2001)[:, None, None]
    line = (other + (own - other) * places).requires_grad_()
    left = line.gather(2, classes[None, :, None].expand(2001, -1, 1)).squeeze(2)
    rest = line.masked_fill(nn.functional.one_hot(classes, 3).bool(), -torch.inf).logsumexp(2)
    slope = torch.autograd.grad((left - rest).sum(), line)[0].mean(dim=0)
    expected = sum(by_captum(k) * slope[:, k, None] for k in range(3))
    assert np.abs(item.values - expected.numpy()).max() < 1e-3


def test_relevance_is_captums():
    from captum.attr import LRP

    data, network = table(), seeded(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), gain=2)
    item = of(network, data, "lrp", rows=9)
    rows = torch.from_numpy(data.inputs[item.rows])
    expected = LRP(network).attribute(rows, target=torch.from_numpy(item.targets)).detach().numpy()
    assert np.abs(item.values - expected).max() < 1e-6


def test_normalisation_is_undone_for_relevance_and_kept_for_contributions():
    inside = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    data, network = images(), cnn()
    normal = Dataset(
        **{
            **vars(data),
            "inputs": (data.inputs - np.array(inside["mean"], np.float32)[:, None, None])
            / np.array(inside["std"], np.float32)[:, None, None],
        }
    )
    for method, settings in (("lrp", {}), ("deep_lift", {"baseline": "mean"}), ("deep_shap", {})):
        raw = of(network, data, method, rows=4, model=inside, **settings)
        same = of(network, normal, method, rows=4, **settings)
        assert np.abs(raw.maps - same.maps).max() < 1e-5, method


def test_conductance_is_captums_and_adds_up_over_every_layer():
    from captum.attr import LayerConductance

    data, network = table(classes=2), mlp(classes=2)
    item = of(network, data, "layer_conductance", rows=8, layer="2", baseline="zero", steps=200, bound=1.0)
    rows = torch.from_numpy(data.inputs[item.rows])
    method = LayerConductance(lambda x: network(x) @ torch.tensor([-1.0, 1.0]), network[2])
    expected = method.attribute(rows, torch.zeros_like(rows), n_steps=200, method="riemann_trapezoid")
    signed = expected.detach().numpy() * (2 * item.targets - 1)[:, None]
    assert np.abs(item.values - signed).max() < 1e-5
    assert item.features == tuple(f"unit {i + 1}" for i in range(8))
    last = of(network, data, "layer_conductance", rows=8, baseline="zero", steps=2)
    assert last.completeness.max() < 1e-4
    assert "input of '4'" in last.notes[0]
    met, coarse = (
        of(network, data, "layer_conductance", rows=8, layer="2", steps=2, bound=0.02, max_steps=most)
        for most in (2048, 2)
    )
    assert met.completeness.max() < 0.02 < coarse.completeness.max()


def test_conductance_takes_channels_together_and_names_unknown_layers():
    item = of(cnn(), images(), "layer_conductance", rows=3, layer="0")
    assert item.values.shape == (3, 4)
    with pytest.raises(ConfigError, match="'layer' = '9' is no layer"):
        of(cnn(), images(), "layer_conductance", rows=3, layer="9")


def test_many_units_are_added_up_as_one():
    from audit.library.layer_conductance import largest_units

    values = np.arange(12.0).reshape(2, 6)
    kept, names = largest_units(values, 3)
    assert names == ("unit 5", "unit 6", "4 other units")
    assert kept.tolist() == [[4, 5, 6], [10, 11, 30]]


def by_definition(number, row, background, owner, features):
    """Shapley values from their definition, over all coalitions (Shapley 1953)."""

    def value(kept):
        mixed = np.where(np.isin(owner, list(kept)), row, background)
        return number(mixed).mean()

    found = []
    for feature in range(features):
        others = [other for other in range(features) if other != feature]
        total = 0.0
        for size in range(features):
            share = factorial(size) * factorial(features - size - 1) / factorial(features)
            for kept in combinations(others, size):
                total += share * (value({*kept, feature}) - value(set(kept)))
        found.append(total)
    return np.array(found)


def one_hot_table():
    random = np.random.default_rng(3)
    numeric = random.normal(size=(40, 4)).astype(np.float32)
    inputs = np.hstack([numeric, np.eye(3, dtype=np.float32)[random.integers(3, size=40)]])
    features = (
        *(Feature(name=f"f{i}", columns=(i,)) for i in range(4)),
        Feature(name="job", kind="categorical", columns=(4, 5, 6), categories=("x", "y", "z")),
    )
    labels = np.zeros(40, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)


def test_permutations_give_the_shapley_values_with_categories_as_one_feature():
    data, network = one_hot_table(), mlp(7, 2)
    item = of(network, data, "permutation_shap", rows=4, permutations=60, background=5)
    background = data.inputs[np.sort(np.random.default_rng(1).choice(40, size=5, replace=False))]
    gaps = []
    for index, row in enumerate(item.rows):
        sign = 2 * item.targets[index] - 1

        def number(rows, sign=sign):
            with torch.no_grad():
                logits = network(torch.from_numpy(rows.astype(np.float32))).double().numpy()
            return sign * (logits[:, 1] - logits[:, 0])

        expected = by_definition(number, data.inputs[row], background, np.array([0, 1, 2, 3, 4, 4, 4]), 5)
        gaps.append((item.values[index] - expected) / np.maximum(item.standard_error[index], 1e-6))
        assert np.abs(item.values[index] - expected).max() < 0.1 * np.abs(expected).max()
    assert np.sqrt(np.mean(np.square(gaps))) < 1.6
    assert item.features == ("f0", "f1", "f2", "f3", "job")
    assert item.completeness.max() < 1e-5


def test_the_lime_package_gives_the_same_numbers_as_when_called_directly():
    from lime.lime_tabular import LimeTabularExplainer

    data, network = table(classes=2), mlp(classes=2)
    item = of(network, data, "lime_library", rows=1, samples=500)
    explainer = LimeTabularExplainer(
        data.inputs.astype(float),
        mode="regression",
        discretize_continuous=False,
        feature_selection="none",
        sample_around_instance=True,
        random_state=0,
    )

    def number(rows):
        with torch.no_grad():
            logits = network(torch.from_numpy(rows.astype(np.float32))).double().numpy()
        return (logits[:, 1] - logits[:, 0]) * (2 * item.targets[0] - 1)

    found = explainer.explain_instance(data.inputs[item.rows[0]].astype(float), number, num_samples=500)
    assert dict(found.local_exp[1]) == pytest.approx(dict(enumerate(item.values[0])), abs=1e-4)
    assert item.extras["r2"][0] == pytest.approx(found.score, abs=1e-4)


def test_the_lime_package_and_the_native_kernel_agree_within_seed_noise():
    data, network = one_hot_table(), mlp(7, 2)
    library = of(network, data, "lime_library", rows=6, samples=4000)
    native = of(network, data, "lime", rows=6, samples=4000)
    same = [np.corrcoef(a[:4], b[:4])[0, 1] for a, b in zip(library.values, native.values, strict=True)]
    assert min(same) > 0.98
    cut = of(network, data, "lime_library", rows=6, samples=4000, discretize=True)
    assert not np.allclose(cut.values, library.values, atol=1e-3)
    assert "discretised" in cut.notes[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_lime_package_explains_images(channels, capsys):
    item = of(cnn(channels), images(channels), "lime_library", rows=2, samples=64, grid=2, fill=0.0)
    assert item.values.shape == (2, 4)
    assert item.maps.shape == (2, 8, 8)
    assert item.passes == (2 * 64, 0)
    assert capsys.readouterr().err == ""


def test_the_lime_package_takes_grey_or_colour_alone():
    with pytest.raises(NotApplicable, match="5 channels"):
        of(cnn(5), images(5), "lime_library", rows=2)


def shaken(network):
    """Gradients, a frozen parameter and a hook, all of which a library could lose."""
    network[0].weight.grad = torch.ones_like(network[0].weight)
    network[0].bias.requires_grad_(False)
    network[0].register_forward_hook(lambda *_: None)
    return network


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_handed_back_untouched(method):
    network = shaken(mlp())
    before, drawn = state_hash(network), (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002 - the libraries draw from it
    first = of(network, table(), method, rows=4)
    assert state_hash(network) == before
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert np.array_equal(np.random.get_state()[1], drawn[1])  # noqa: NPY002 - as above
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - as above
    assert np.array_equal(of(network, table(), method, rows=4).values, first.values)


class Broken(nn.Module):
    """Answers without gradients, as the trace asks, and fails with them."""

    def forward(self, rows):
        if torch.is_grad_enabled():
            raise RuntimeError("no gradients here")
        return rows


@pytest.mark.parametrize("method", DEEP)
def test_the_model_is_untouched_after_a_library_failed(method):
    broken = Broken() if method != "lrp" else nn.MaxPool1d(2)
    network = shaken(seeded(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), broken))
    before, drawn = state_hash(network), torch.get_rng_state()
    if method == "lrp":
        network[3].forward = lambda rows: rows if not torch.is_grad_enabled() else rows.nothing
        before = state_hash(network)
    with pytest.raises(NotApplicable, match="failed on this model"):
        of(network, table(), method, rows=4)
    assert state_hash(network) == before
    assert torch.equal(torch.get_rng_state(), drawn)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, rows):
        return self.last(relu(self.first(rows)))


@pytest.mark.parametrize("method", ["deep_lift", "deep_shap", "lrp"])
def test_a_trap_stops_the_method_before_it_runs(method):
    torch.manual_seed(0)
    with pytest.raises(NotApplicable, match="'relu' is called in the network's own code"):
        of(Functional().eval(), table(classes=2), method, rows=4)


def test_passes_are_counted():
    assert of(mlp(), table(), "deep_lift", rows=5).passes == (1 + 2 + 2 * 5, 2 * 5)
    assert of(mlp(), table(), "deep_shap", rows=5, background=7).passes[1] == 2 * 5 * 7
    assert of(mlp(), table(), "layer_conductance", rows=5, steps=9, bound=9.0).passes == (
        1 + 2 + 5 * 10,
        5 * 10,
    )


@pytest.mark.parametrize("method", ["deep_lift", "deep_shap", "layer_conductance"])
def test_the_batch_changes_nothing(method):
    found = []
    for batch in (2, 7, 256):
        model = Model(module=mlp(), device=torch.device("cpu"))
        model.passes.batch = batch
        found.append(attributions(model, table(), 0).of(method, rows=9).values)
    assert np.abs(found[0] - found[1]).max() < 1e-5
    assert np.abs(found[0] - found[2]).max() < 1e-5


def test_rows_with_neighbours_that_get_no_finite_answer_are_left_out_by_the_lime_package():
    class Broken(nn.Module):
        def forward(self, rows):
            answer = torch.where(rows[:, 0] > 90, torch.nan, rows[:, 1])
            return torch.stack([0 * answer, answer], dim=1)

    inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    inputs[0, 0] = 100
    data = Dataset(inputs=inputs, labels=np.zeros(40, np.int64), modality="tabular", classes=("a", "b"))
    item = of(Broken(), data, "lime_library", rows=40, samples=200)
    finite = np.isfinite(item.values).all(axis=1)
    assert item.rows[~finite].tolist() == [0]
    with pytest.raises(NotEvaluable, match="0 of 40 rows have a finite output"):
        require_explanation(of(Broken(), replace(data, inputs=inputs + 200), "lime_library", rows=40))
