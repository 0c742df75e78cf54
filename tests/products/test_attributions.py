"""The shared attributions: one computation each, the same answer for any output kind, batch or run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.explain.explained import baseline_row
from audit.explain.quantity import quantity
from audit.explain.rise import Masks, importance, masked_values
from audit.model import Model, state_hash
from audit.products.attributions import attributions

SHARED = Path(__file__).parents[3] / "shared" / "data"
FOR_TABLES = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "vargrad",
    "expected_gradients",
    "occlusion",
    "kernel_shap",
    "lime",
)
FOR_IMAGES = (*FOR_TABLES, "rise", "gradcam")
EVERY = pytest.mark.parametrize("method", FOR_TABLES)
EACH = pytest.mark.parametrize(
    ("kind", "method"),
    [*(("tabular", name) for name in FOR_TABLES), *(("image", name) for name in FOR_IMAGES)],
)
FEATURES = (
    Feature(name="age", columns=(0,)),
    Feature(name="job", kind="categorical", columns=(1, 2, 3), categories=("x", "y", "z")),
    Feature(name="pay", columns=(4,)),
    Feature(name="debt", columns=(5,)),
)


def table(rows=80, **fields):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(rows, 6)) * [1, 1, 1, 1, 3, 0.2]
    inputs[:, 1:4] = np.eye(3)[random.integers(3, size=rows)]
    return Dataset(
        inputs=inputs.astype(np.float32),
        labels=random.integers(2, size=rows),
        modality="tabular",
        classes=("no", "yes"),
        features=FEATURES,
        **fields,
    )


def pictures(rows=12, channels=3, size=8):
    inputs = np.random.default_rng(1).random((rows, channels, size, size)).astype(np.float32)
    labels = np.zeros(rows, dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="image", classes=("a", "b", "c"))


def table_network():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2)).eval()


def image_network():
    torch.manual_seed(8)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()


def model_of(network, batch=256, **fields):
    found = Model(module=network, device=torch.device("cpu"), **fields)
    found.passes.batch = batch
    return found


def case(kind, batch=256):
    if kind == "image":
        return model_of(image_network(), batch, input_range=(0.0, 1.0)), pictures()
    return model_of(table_network(), batch), table()


@EACH
def test_values_come_in_the_users_features(method, kind):
    model, data = case(kind)
    found = attributions(model, data, 0).of(method, rows=5)
    assert found.values.shape == (5, 4 if kind == "tabular" else 16)
    assert found.values.dtype == np.float64
    assert np.isfinite(found.values).all()
    assert found.rows.tolist() == sorted(set(found.rows.tolist()))
    if kind == "tabular":
        assert found.features == ("age", "job", "pay", "debt")
        assert found.maps is None
    else:
        assert found.features[5] == "row 2, column 2"
        assert found.maps.shape == (5, 8, 8)
        assert found.maps.sum(axis=(1, 2)) == pytest.approx(found.values.sum(axis=1), abs=1e-4)


@EACH
def test_a_method_is_computed_once_a_run(method, kind):
    model, data = case(kind)
    source = attributions(model, data, 0)
    one = source.of(method, rows=6)
    forward = model.passes.forward
    assert source.of(method, rows=6, output="log_odds") is one
    assert model.passes.forward == forward
    assert source.of(method, rows=7) is not one


def test_passes_are_those_of_the_design():
    model, data = case("tabular")
    source = attributions(model, data, 0)
    counts = {
        "saliency": (9, 9),
        "input_x_gradient": (9 + 1, 9),
        "smoothgrad": (9 * 50, 9 * 50),
        "vargrad": (9 * 50, 9 * 50),
        "expected_gradients": (9 * 200 + 80, 9 * 200),
        "occlusion": (9 * 4, 0),
        "kernel_shap": (9 * 14 * 20 + 20, 0),
        "lime": (9 * 300, 0),
        "integrated_gradients": (1 + 9 * 32, 9 * 32),
    }
    extra = {"lime": {"samples": 300}, "integrated_gradients": {"bound": 10.0}}
    for method, expected in counts.items():
        assert source.of(method, rows=9, **extra.get(method, {})).passes == expected
    assert model.passes.forward == 9 + sum(forward for forward, _ in counts.values())
    assert model.passes.backward == sum(backward for _, backward in counts.values())


@EACH
def test_the_batch_size_changes_nothing(method, kind):
    one, other = (attributions(*case(kind, batch), 0).of(method, rows=6) for batch in (8, 1024))
    assert one.values == pytest.approx(other.values, abs=2e-5)
    assert one.passes == other.passes


@EACH
def test_a_seed_fixes_everything_and_the_model_is_left_alone(method, kind):
    model, data = case(kind)
    before = state_hash(model.module)
    one, same = (attributions(model, data, 3).of(method, rows=6) for _ in range(2))
    assert np.array_equal(one.values, same.values)
    assert state_hash(model.module) == before
    assert not np.array_equal(attributions(model, data, 4).of(method, rows=6).rows, one.rows)


class Wrapped(nn.Module):
    def __init__(self, inner, last):
        super().__init__()
        self.inner, self.last = inner, last

    def forward(self, x):
        return self.last(self.inner(x))


@EVERY
@pytest.mark.parametrize("output", ["log_odds", "probability"])
@pytest.mark.parametrize(
    ("kind", "last"), [("log_probabilities", nn.LogSoftmax(dim=1)), ("probabilities", nn.Softmax(dim=1))]
)
def test_the_kind_of_output_changes_nothing(method, output, kind, last):
    data = table()
    logits = attributions(model_of(table_network()), data, 0).of(method, rows=8, output=output)
    model = model_of(Wrapped(table_network(), last).eval(), output=kind)
    wrapped = attributions(model, data, 0).of(method, rows=8, output=output)
    assert logits.values == pytest.approx(wrapped.values, abs=1e-4)
    assert logits.fx == pytest.approx(wrapped.fx, abs=1e-4)


@EVERY
@pytest.mark.parametrize("planted", ["age", "job", "debt"])
def test_a_planted_feature_comes_first(method, planted):
    network = table_network()
    columns = list(next(item.columns for item in FEATURES if item.name == planted))
    with torch.no_grad():
        kept = network[0].weight[:, columns].clone()
        network[0].weight.zero_()
        network[0].weight[:, columns] = kept * 3
    found = attributions(model_of(network), table(), 0).of(method, rows=30)
    sizes = dict(zip(found.features, np.abs(found.values).mean(axis=0), strict=True))
    others = [size for name, size in sizes.items() if name != planted]
    assert sizes[planted] > 20 * max(others)


@pytest.mark.parametrize("method", [name for name in FOR_TABLES if name != "vargrad"])
def test_a_planted_cell_comes_first(method):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3)).eval()
    torch.manual_seed(0)
    weight = torch.zeros(3, 3, 8, 8)
    weight[:, :, 2:4, 6:8] = torch.randn(3, 3, 2, 2)
    with torch.no_grad():
        network[1].weight.copy_(weight.flatten(1))
    extra = {"fill": 0.0} if method == "lime" else {}
    source = attributions(model_of(network), pictures(), 0)
    found = source.of(method, rows=8, **extra)
    sizes = np.abs(found.values).mean(axis=0)
    assert found.features[int(sizes.argmax())] == "row 2, column 4"
    assert sizes.max() > 20 * np.sort(sizes)[-2]
    # What RISE samples is noisy, and its masks spill over the border of a cell.
    sampled = np.abs(source.of("rise", rows=8, baseline="zero").values).mean(axis=0)
    assert found.features[int(sampled.argmax())] == "row 2, column 4"


def linear():
    torch.manual_seed(1)
    return nn.Linear(6, 2).eval()


def test_methods_agree_on_a_linear_model_as_theory_says():
    data, network = table(), linear()
    source = attributions(model_of(network), data, 0)
    slope = (network.weight[1] - network.weight[0]).detach().numpy()
    sign = 2 * source.of("saliency", rows=80).targets - 1
    inside = (data.inputs - data.inputs.mean(axis=0)) * slope * sign[:, None]
    expected = np.stack([inside[:, list(item.columns)].sum(axis=1) for item in FEATURES], axis=1)
    path = source.of("integrated_gradients", rows=80)
    assert path.values == pytest.approx(expected, abs=1e-5)
    assert path.completeness.max() < 1e-3
    shap = source.of("kernel_shap", rows=80, background=80)
    assert shap.values == pytest.approx(expected, abs=1e-5)
    steep = source.of("saliency", rows=80, per="unit")
    assert steep.values[0] == pytest.approx(
        [np.abs(slope[list(item.columns)]).sum() for item in FEATURES], abs=1e-5
    )
    assert steep.extras["signed"][0, 0] == pytest.approx(slope[0] * sign[0], abs=1e-5)
    scaled = source.of("saliency", rows=80)
    assert scaled.values[0, 2] == pytest.approx(abs(slope[4]) * data.inputs[:, 4].std(), rel=1e-4)
    assert scaled.unit == "log-odds per standard deviation"


def test_the_favourable_outcome_can_be_explained():
    data = table(favourable=1)
    source = attributions(model_of(table_network()), data, 0)
    predicted = source.of("kernel_shap", rows=20)
    wanted = source.of("kernel_shap", rows=20, target="favourable")
    sign = np.where(predicted.targets == 1, 1, -1)[:, None]
    assert set(predicted.targets.tolist()) == {0, 1}
    assert wanted.values == pytest.approx(predicted.values * sign, abs=1e-5)
    with pytest.raises(NotApplicable, match="no favourable outcome"):
        attributions(model_of(table_network()), table(), 0).of("lime", target="favourable")


def test_baselines_are_what_they_are_called():
    model, data = case("image")
    assert (baseline_row(model, data, "auto") == 0).all()
    assert (baseline_row(model_of(image_network(), input_range=(-1.0, 1.0)), data, "lowest") == -1).all()
    assert (baseline_row(model_of(image_network()), data, "lowest") == data.inputs.min()).all()
    mean = baseline_row(model, data, "mean")
    assert mean.shape == (1, 3, 8, 8)
    assert mean[0, :, 3, 5] == pytest.approx(data.inputs.mean(axis=(0, 2, 3)), abs=1e-6)
    model, data = case("tabular")
    assert baseline_row(model, data, "auto")[0] == pytest.approx(data.inputs.mean(axis=0), abs=1e-6)
    assert baseline_row(model, data, "lowest")[0] == pytest.approx(data.inputs.min(axis=0))
    assert (baseline_row(model, data, "zero") == 0).all()


def test_superpixels_serve_as_segments_of_lime():
    model, data = case("image")
    found = attributions(model, data, 0).of("lime", rows=4, segments="slic", samples=100)
    assert found.features[0] == "segment 1"
    assert found.values.shape[1] == len(found.features)
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(found.values.sum(axis=1), abs=1e-4)


def test_too_few_samples_are_raised_and_told():
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(12))
    inputs = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    labels = np.zeros(30, dtype=np.int64)
    data = Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("a", "b"), features=features)
    torch.manual_seed(0)
    model = model_of(nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2)).eval())
    found = attributions(model, data, 0).of("kernel_shap", rows=3, samples=5, background=2)
    assert any("too few" in note for note in found.notes)
    assert found.passes[0] == 3 * 48 * 2 + 2
    assert (found.standard_error > 0).any()


@pytest.mark.parametrize(
    ("method", "given", "sentence"),
    [
        ("saliencey", {}, "the nearest is 'saliency'"),
        ("lime", {"sample": 5}, "the nearest is 'samples'"),
        ("lime", {"samples": 0}, "'samples' = 0"),
        ("kernel_shap", {"background": -1}, "'background' = -1"),
        ("integrated_gradients", {"steps": 0}, "'steps' = 0"),
    ],
)
def test_wrong_settings_are_named(method, given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        attributions(*case("tabular"), 0).of(method, **given)


@pytest.mark.parametrize("rows", [0, -3])
def test_no_rows_are_not_evaluable(rows):
    with pytest.raises(NotEvaluable, match="0 rows"):
        attributions(*case("tabular"), 0).of("saliency", rows=rows)


def test_a_model_without_classes_is_not_applicable():
    with pytest.raises(NotApplicable, match="one output"):
        attributions(model_of(nn.Linear(6, 1).eval()), table(), 0).of("saliency")


class Shortcut(nn.Module):
    """A residual block with the option-A shortcut: every second pixel, channels padded with zeros."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        short = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(y + short)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        for index, (inputs, outputs, stride) in enumerate(widths, start=1):
            blocks = [Shortcut(inputs, outputs, stride), *(Shortcut(outputs, outputs, 1) for _ in range(2))]
            setattr(self, f"layer{index}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def cifar():
    if not (SHARED / "cifar10").is_dir():
        pytest.skip("the CIFAR-10 images and ResNet-20 weights of shared/data are not here")
    weights = torch.load(SHARED / "cifar10" / "resnet20.th", map_location="cpu", weights_only=True)
    network = ResNet20()
    network.load_state_dict({k.removeprefix("module."): v for k, v in weights["state_dict"].items()})
    file = np.load(SHARED / "cifar10" / "test_2000.npz")
    images = file["images"][:200].transpose(0, 3, 1, 2).astype(np.float32) / 255
    classes = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    labels = file["labels"][:200].astype(np.int64)
    data = Dataset(inputs=images, labels=labels, modality="image", classes=classes)
    model = model_of(
        network.eval(),
        64,
        input_range=(0.0, 1.0),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    return model, data


@pytest.mark.parametrize("method", FOR_IMAGES)
def test_a_real_network_is_explained(cifar, method):
    model, data = cifar
    small = {"kernel_shap": {"samples": 128, "background": 2}, "lime": {"samples": 128}}
    small |= {"rise": {"samples": 200}, "occlusion": {"window": 8, "stride": 4}}
    before = state_hash(model.module)
    found = attributions(model, data, 0).of(method, rows=3, **small.get(method, {}))
    assert state_hash(model.module) == before
    assert found.maps.shape == (3, 32, 32)
    assert (np.abs(found.values).max(axis=1) > 0).all()
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(found.values.sum(axis=1), rel=1e-3, abs=1e-3)
    if method == "integrated_gradients":
        met = found.completeness <= 0.01
        assert (met | (found.extras["steps"] == 512)).all()
        assert met.any()
    if method == "kernel_shap":
        assert found.completeness.max() < 1e-6
    if method == "lime":
        assert found.extras["r2"].min() > 0.2
    if method == "gradcam":
        assert found.settings["layer"] == "layer3.2.conv2"
    if method == "expected_gradients":
        distance = np.abs(found.values.sum(axis=1) - (found.fx - found.base))
        assert (distance < 4 * found.extras["sum_error"]).all()


@pytest.mark.parametrize("method", ["rise", "gradcam"])
def test_a_method_for_places_names_one_for_tables(method):
    with pytest.raises(NotApplicable, match="tables"):
        attributions(*case("tabular"), 0).of(method)


def test_grad_cam_needs_layers_that_can_be_seen():
    model, data = case("image")
    hidden = replace(model, capabilities=frozenset({"logits", "gradients"}))
    with pytest.raises(NotApplicable, match="none of the network's layers"):
        attributions(hidden, data, 0).of("gradcam")
    with pytest.raises(ConfigError, match="'layer' = '00' is not a layer"):
        attributions(model, data, 0).of("gradcam", layer="00")


@pytest.mark.parametrize(
    ("kind", "method", "given", "sentence"),
    [
        ("tabular", "occlusion", {"window": 2}, "leave them out"),
        ("image", "occlusion", {"window": 9}, "at most 8"),
        ("image", "occlusion", {"window": 2, "stride": 3}, "'stride' = 3"),
        ("image", "rise", {"keep": 1.0}, "'keep' = 1.0"),
        ("image", "rise", {"samples": 0}, "'samples' = 0"),
        ("tabular", "smoothgrad", {"noise": 0.0}, "'noise' = 0.0"),
        ("tabular", "smoothgrad", {"noise": float("nan")}, "'noise' = nan"),
    ],
)
def test_settings_that_cannot_be_used_are_named(kind, method, given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        attributions(*case(kind), 0).of(method, rows=3, **given)


def test_categories_get_no_noise():
    """One-hot columns stay as they are: a step between two categories is never explained by a mixture."""
    seen = []
    inner = table_network()

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(x.detach()[:, 1:4])
            return inner(x)

    attributions(model_of(Watched().eval()), table(), 0).of("smoothgrad", rows=5)
    columns = torch.cat(seen)
    assert ((columns == 0) | (columns == 1)).all()


def test_methods_agree_on_a_linear_model_whatever_they_sample():
    data, network = table(), linear()
    source = attributions(model_of(network), data, 0)
    slope = (network.weight[1] - network.weight[0]).detach().numpy()
    sign = 2 * source.of("saliency", rows=80).targets - 1
    inside = (data.inputs - data.inputs.mean(axis=0)) * slope * sign[:, None]
    expected = np.stack([inside[:, list(item.columns)].sum(axis=1) for item in FEATURES], axis=1)
    assert source.of("occlusion", rows=80).values == pytest.approx(expected, abs=1e-5)
    sampled = source.of("expected_gradients", rows=80, background=80)
    assert (np.abs(sampled.values - expected) < 4 * sampled.standard_error).mean() > 0.97
    products = data.inputs * slope * sign[:, None]
    found = source.of("input_x_gradient", rows=80)
    assert found.values[:, 2] == pytest.approx(products[:, 4], abs=1e-5)
    # With a bias f(x) - f(0) is still w x: the gap is that of a curved network alone.
    assert found.extras["zero_gap"].max() < 1e-3
    steep, smooth = source.of("saliency", rows=80), source.of("smoothgrad", rows=80)
    assert smooth.values == pytest.approx(steep.values, abs=1e-5)
    assert smooth.unit == steep.unit
    assert source.of("vargrad", rows=80).values.max() < 1e-10


def test_lime_on_a_linear_table_is_slope_times_deviation_with_its_sign():
    data, network = table(), linear()
    found = attributions(model_of(network), data, 0).of("lime", rows=80)
    slope = (network.weight[1] - network.weight[0]).detach().numpy()
    sign = 2 * found.targets - 1
    assert set(found.targets.tolist()) == {0, 1}
    for place, column in ((0, 0), (2, 4)):
        expected = sign * slope[column] * data.inputs[:, column].std()
        assert found.values[:, place] == pytest.approx(expected, rel=0.02)


def test_lime_on_a_linear_image_is_what_each_cell_adds_with_its_sign():
    torch.manual_seed(3)
    network, data = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).eval(), pictures()
    found = attributions(model_of(network), data, 0).of("lime", rows=8, fill=0.0, samples=2000)
    slope = (network[1].weight[1] - network[1].weight[0]).detach().numpy().reshape(3, 8, 8)
    added = (data.inputs[found.rows] * slope).sum(axis=1) * (2 * found.targets - 1)[:, None, None]
    cells = added.reshape(8, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(8, 16)
    assert found.values == pytest.approx(cells, abs=0.05 * np.abs(cells).max())


def test_input_x_gradient_is_captums():
    from captum.attr import InputXGradient

    model, data = case("image")
    found = attributions(model, data, 0).of("input_x_gradient", rows=6)
    rows, classes = torch.from_numpy(data.inputs[found.rows]), torch.from_numpy(found.targets)
    oracle = InputXGradient(lambda x: quantity(model.scores(x), classes, "log_odds")).attribute(
        rows.requires_grad_()
    )
    assert found.maps == pytest.approx(oracle.detach().sum(dim=1).numpy(), abs=1e-6)


def test_occlusion_of_an_image_is_captums_shared_out_over_the_window():
    from captum.attr import Occlusion

    model, data = case("image")
    found = attributions(model, data, 0).of("occlusion", rows=6, window=4, stride=2, baseline="zero")
    rows, classes = torch.from_numpy(data.inputs[found.rows]), torch.from_numpy(found.targets)
    oracle = Occlusion(lambda x: quantity(model.scores(x), classes, "log_odds")).attribute(
        rows, (3, 4, 4), (3, 2, 2), baselines=0.0
    )
    assert found.maps * 16 == pytest.approx(oracle[:, 0].numpy(), abs=1e-5)
    assert found.passes == (6 * 9, 0)


def test_variance_where_the_slope_changes_most_comes_first():
    class Bent(nn.Module):
        def forward(self, x):
            answer = 3 * x[:, 0] + (4 * x[:, 4] / 3).sin() + x[:, 5]
            return torch.stack([torch.zeros_like(answer), answer], dim=1)

    found = attributions(model_of(Bent().eval()), table(), 0).of("vargrad", rows=20)
    assert found.features[int(found.values.mean(axis=0).argmax())] == "pay"
    assert found.values[:, [0, 1, 3]].max() < 1e-10
    assert found.unit == "squared log-odds per standard deviation"


def test_slopes_per_deviation_go_with_the_deviation_and_variances_with_its_square():
    model, data = case("tabular")
    spread = data.inputs.std(axis=0, dtype=np.float64)
    for method, power in (("smoothgrad", 1), ("vargrad", 2)):
        source = attributions(model, data, 0)
        scaled = source.of(method, rows=5)
        plain = source.of(method, rows=5, per="unit")
        for feature, column in ((2, 4), (3, 5)):
            expected = plain.values[:, feature] * spread[column] ** power
            np.testing.assert_allclose(scaled.values[:, feature], expected, rtol=1e-4)
            error = plain.standard_error[:, feature] * spread[column] ** power
            np.testing.assert_allclose(scaled.standard_error[:, feature], error, rtol=1e-4)


def test_the_order_of_the_data_does_not_make_expected_gradients_less_certain():
    """Sub-designs take the background in turn: of sorted rows each would see one end of the data."""
    model, data = case("tabular")
    ordered = replace(data, inputs=data.inputs[np.argsort(data.inputs[:, 4])])
    found = [
        attributions(model, rows, 0).of("expected_gradients", rows=80, samples=80).standard_error[:, 2].mean()
        for rows in (data, ordered)
    ]
    assert found[1] < 1.3 * found[0]


def test_rise_gives_a_cell_the_mean_of_its_places():
    model, data = case("image")
    item = attributions(model, data, 0).of("rise", rows=3, samples=64, cells=4)
    masks = Masks((1, 8, 8), 4, 0.5, 0, torch.device("cpu"))
    rows = model.tensor(data.inputs[item.rows])
    fill = model.tensor(baseline_row(model, data, "mean"))
    targets = torch.from_numpy(item.targets)
    answers = masked_values(model, rows, targets, fill, masks, 64, "log_odds")
    places = importance(answers, masks, torch.eye(64)).values.numpy().reshape(3, 4, 2, 4, 2)
    np.testing.assert_allclose(item.values, places.mean(axis=(2, 4)).reshape(3, 16), rtol=1e-5, atol=1e-8)
