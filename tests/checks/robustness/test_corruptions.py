"""robustness.corruptions: planted weaknesses are found, a blind model loses nothing, real weights do."""

import networks
import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.robustness.corruptions import corruptions
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.model import Model, Passes, state_hash
from audit.products.predictions import predictions
from audit.stats import interval_at, student_t, wilson

CPU = torch.device("cpu")


class Contrast(nn.Module):
    """Class 1 where the left half is brighter than the right: a change of brightness cannot matter."""

    def forward(self, images):
        half = images.shape[3] // 2
        gap = images[..., :half].mean(dim=(1, 2, 3)) - images[..., half:].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(gap), gap], dim=1)


class OnePixel(nn.Module):
    """Class 1 where the pixel in the middle is bright."""

    def forward(self, images):
        value = images[:, 0, 5, 5] - 0.5
        return torch.stack([torch.zeros_like(value), value], dim=1)


def images_of(network, inputs, batch=256, **more):
    model = Model(module=network.eval(), device=CPU, input_range=(0.0, 1.0), passes=Passes(batch=batch))
    with torch.no_grad():
        labels = network(torch.tensor(inputs)).argmax(dim=1).numpy()
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=("0", "1"), **more)
    return model, data


def halves(rows=300):
    """Left or right half brighter, all grey levels between .1 and .6 so that brightness never clips."""
    generator = np.random.default_rng(0)
    inputs = generator.uniform(0.1, 0.3, (rows, 1, 12, 12)).astype(np.float32)
    side = generator.integers(0, 2, rows)
    for row, right in enumerate(side):
        inputs[row, :, :, 6 * right : 6 * right + 6] += 0.3
    return inputs


def measured(model, data, seed=0, **given):
    before = state_hash(model.module)
    evidence = corruptions.measure(model, data, predictions(model, data), seed, **corruptions.settings(given))
    assert state_hash(model.module) == before
    return evidence


def value(evidence, name, group=None, **settings):
    (found,) = [
        m
        for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and dict(m.settings) == settings
    ]
    return found


def test_a_model_that_is_blind_to_brightness_loses_nothing_under_brightness():
    evidence = measured(*images_of(Contrast(), halves()), corruptions=["brightness", "impulse_noise"])
    for severity in (1, 2, 3, 4, 5):
        found = value(evidence, "corruption_accuracy", corruption="brightness", severity=severity)
        assert found.value == 1.0


def test_a_model_that_reads_one_pixel_collapses_under_impulse_noise_by_what_the_noise_hits():
    """A pixel is hit with probability p, and then black or white: wrong half of the time."""
    inputs = np.random.default_rng(0).choice([0.2, 0.8], (4000, 1, 12, 12))
    model, data = images_of(OnePixel(), inputs.astype(np.float32))
    evidence = measured(model, data, corruptions=["impulse_noise"], rows=None)
    accuracies = []
    for severity, amount in enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1):
        found = value(evidence, "corruption_accuracy", corruption="impulse_noise", severity=severity)
        assert interval_at(found, 0.999)[0] <= 1 - amount / 2 <= interval_at(found, 0.999)[1]
        accuracies.append(found.value)
    assert sorted(accuracies, reverse=True) == accuracies
    assert accuracies[4] < 0.98


def test_the_means_are_over_rows_and_can_be_derived_again():
    model, data = images_of(OnePixel(), halves())
    evidence = measured(
        model, data, corruptions=["gaussian_noise", "shot_noise", "contrast"], severities=[3, 5]
    )
    cells = [m for m in evidence.measures if m.name == "corruption_accuracy"]
    assert len(cells) == 6
    whole = value(evidence, "mean_corruption_accuracy")
    assert whole.value == pytest.approx(np.mean([m.value for m in cells]))
    assert (whole.method, whole.n) == ("student_t", 300)
    assert (whole.value, whole.low, whole.high) == student_t(whole.statistics, whole.level)
    for severity in (3, 5):
        mine = [m.value for m in cells if m.settings["severity"] == severity]
        mean = value(evidence, "severity_accuracy", severity=severity)
        assert mean.value == pytest.approx(np.mean(mine))
        robust = value(evidence, "robust_accuracy", severity=severity)
        assert robust.value <= min(mine)
        assert (robust.value, robust.low, robust.high) == wilson(robust.statistics, robust.level)
        noise = value(evidence, "family_accuracy", family="noise", severity=severity)
        assert noise.value == pytest.approx(np.mean(mine[:2]))


def test_rows_that_were_wrong_count_as_not_robust_even_where_a_corruption_mends_them():
    model, data = images_of(OnePixel(), halves())
    flipped = Dataset(inputs=data.inputs, labels=1 - data.labels, modality="image", classes=("0", "1"))
    evidence = measured(model, flipped, corruptions=["impulse_noise"], severities=[5])
    assert value(evidence, "clean_accuracy").value == 0
    assert value(evidence, "robust_accuracy", severity=5).value == 0
    (row,) = evidence.tables[0].rows
    correct, fell, mended = row[4:7]
    assert correct == mended > 0
    assert fell == 0


def test_a_group_whose_pictures_are_fragile_is_seen_by_name():
    inputs = halves(400)
    weak = np.arange(400) % 4 == 0
    generator = np.random.default_rng(1)
    side = generator.integers(0, 2, 400)
    inputs[weak] = 0.4
    for row in np.flatnonzero(weak):
        inputs[row, :, 0, side[row] * 6] += 0.05
    sex = Sensitive(name="sex", groups=("f", "m"), codes=(~weak).astype(np.int64))
    model, data = images_of(Contrast(), inputs, sensitive={"sex": sex})
    evidence = measured(model, data, corruptions=["gaussian_noise"])
    weaker = value(evidence, "mean_corruption_accuracy", {"sex": "f"})
    stronger = value(evidence, "mean_corruption_accuracy", {"sex": "m"})
    assert weaker.high < stronger.low
    assert (weaker.n, stronger.n) == (100, 300)
    assert value(evidence, "clean_accuracy", {"sex": "f"}).value == 1
    assert [f.name for f in evidence.figures] == ["accuracy_by_family", "accuracy_by_sex"]
    assert [line["name"] for line in evidence.figures[1].data["series"]] == ["f", "m"]


def test_the_answer_does_not_depend_on_the_batch_and_every_pass_is_counted():
    first = images_of(OnePixel(), halves(60))
    second = images_of(OnePixel(), halves(60), batch=7)
    names = ["gaussian_noise", "glass_blur", "fog"]
    one, two = (measured(model, data, corruptions=names, rows=40) for model, data in (first, second))
    assert one.measures == two.measures
    for model, _ in (first, second):
        assert model.passes.forward == 60 + 40 * 15


def test_the_figure_has_a_line_for_each_family_from_the_clean_accuracy_on():
    evidence = measured(*images_of(Contrast(), halves(50)))
    figure = evidence.figures[0]
    assert [line["name"] for line in figure.data["series"]] == ["noise", "blur", "weather", "digital"]
    for line in figure.data["series"]:
        assert line["x"] == [0, 1, 2, 3, 4, 5]
        assert line["y"][0] == 1
    assert any("CIFAR-10-C" in caveat for caveat in evidence.caveats)
    assert any("Frost is a computed texture" in caveat for caveat in evidence.caveats)
    assert len(evidence.tables[0].rows) == 75


def test_real_cifar_weights_lose_accuracy_as_severity_grows(shared_data):
    network = networks.ResNet20()
    stored = torch.load(shared_data / "cifar10" / "resnet20.th", weights_only=True, map_location="cpu")
    network.load_state_dict({k.removeprefix("module."): v for k, v in stored["state_dict"].items()})
    held = np.load(shared_data / "cifar10" / "test_2000.npz")
    model = Model(
        module=network.eval(),
        device=CPU,
        input_range=(0.0, 1.0),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        passes=Passes(batch=50),
    )
    data = Dataset(
        inputs=(held["images"][::10].transpose(0, 3, 1, 2) / 255).astype(np.float32),
        labels=held["labels"][::10].astype(np.int64),
        modality="image",
        classes=tuple("abcdefghij"),
    )
    evidence = measured(model, data, rows=100, severities=[1, 3, 5])
    clean = value(evidence, "clean_accuracy").value
    means = [value(evidence, "severity_accuracy", severity=severity).value for severity in (1, 3, 5)]
    assert clean > means[0] > means[1] > means[2]
    assert means[2] < clean - 0.2
    bent = [
        value(evidence, "corruption_accuracy", corruption="elastic_transform", severity=severity).value
        for severity in (1, 5)
    ]
    assert bent[1] < bent[0] - 0.05  # as in the paper, though pixels change less
    assert any("100 of 200 rows" in caveat for caveat in evidence.caveats)


def people(rows=2000):
    """Income decides; job and grade do not. A second model reads the job alone."""
    generator = np.random.default_rng(0)
    job = np.eye(2)[generator.choice(2, rows)]
    grade = generator.choice([1.0, 2.0], rows)
    inputs = np.column_stack([generator.normal(0, 1, rows), job, grade]).astype(np.float32)
    return inputs, (
        Feature(name="income", columns=(0,), immutable=True),
        Feature(name="job", kind="categorical", columns=(1, 2), categories=("a", "b")),
        Feature(name="grade", kind="ordinal", columns=(3,)),
    )


def table_of(weights, **more):
    inputs, features = people()
    network = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * 4, weights]))
    model = Model(module=network.eval(), device=CPU)
    with torch.no_grad():
        labels = network(torch.tensor(inputs)).argmax(dim=1).numpy()
    given = {"features": features, **more}
    return model, Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("0", "1"), **given)


def test_a_table_gets_its_own_corruptions_and_the_one_that_matters_is_found():
    evidence = measured(*table_of([0.0, -1.0, 1.0, 0.0]), rows=None)
    names = {m.settings["corruption"] for m in evidence.measures if m.name == "corruption_accuracy"}
    assert names == {"numeric_noise", "rounding", "unit_errors", "missing_values", "category_swaps"}
    for name in ("numeric_noise", "rounding", "unit_errors"):
        assert value(evidence, "corruption_accuracy", corruption=name, severity=5).value == 1
    for severity, share in enumerate((0.05, 0.1, 0.2, 0.3, 0.5), 1):
        found = value(evidence, "corruption_accuracy", corruption="category_swaps", severity=severity)
        low, high = interval_at(found, 0.999)
        assert low <= 1 - share / 2 <= high  # a swapped job is the other one half of the time
    assert any("An accident" in c or "an accident" in c for c in evidence.caveats)


def test_noise_on_the_column_that_decides_costs_what_the_angle_between_two_normals_says():
    """x and x + s n have opposite signs with probability arctan(s) / pi."""
    evidence = measured(*table_of([1.0, 0, 0, 0]), rows=None, corruptions=["numeric_noise"])
    for severity, sds in enumerate((0.1, 0.2, 0.3, 0.5, 1.0), 1):
        found = value(evidence, "corruption_accuracy", corruption="numeric_noise", severity=severity)
        low, high = interval_at(found, 0.999)
        assert low <= 1 - np.arctan(sds) / np.pi <= high
    spared = measured(*table_of([1.0, 0, 0, 0]), keep_immutable=True)
    assert value(spared, "mean_corruption_accuracy").value == 1
    assert any("were spared" in caveat for caveat in spared.caveats)
    assert any("Left out" in caveat and "numeric_noise" in caveat for caveat in spared.caveats)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"corruptions": ["fogg"]}, ConfigError, "nearest is 'fog'"),
        ({"corruptions": ["rounding"]}, NotApplicable, "made for tables and these inputs are images"),
    ],
)
def test_a_wrong_name_for_images_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        measured(*images_of(Contrast(), halves(5)), **given)


def test_wrong_names_settings_and_inputs_are_refused_with_the_reason():
    with pytest.raises(NotApplicable, match="made for images and these inputs are tables"):
        measured(*table_of([1.0, 0, 0, 0]), corruptions=["fog"])
    with pytest.raises(ConfigError, match="severities"):
        corruptions.settings({"severities": [6]})
    with pytest.raises(ConfigError, match="corruptions"):
        corruptions.settings({"corruptions": []})
    model, data = images_of(Contrast(), halves(5))
    unknown = Model(module=model.module, device=CPU)
    with pytest.raises(NotApplicable, match="input_range"):
        measured(unknown, data)
    bytes_ = Dataset(inputs=data.inputs * 255, labels=data.labels, modality="image", classes=("0", "1"))
    with pytest.raises(NotEvaluable, match="input_range says"):
        measured(model, bytes_)
    series = Dataset(inputs=data.inputs[:, 0], labels=data.labels, modality="series", classes=("0", "1"))
    with pytest.raises(NotApplicable, match=r"robustness\.series"):
        corruptions.measure(model, series, predictions(model, data), 0, **corruptions.settings({}))
    assert corruptions.modality == {"image", "tabular"}


def test_the_reader_is_told_when_nobody_said_why():
    model, data = images_of(Contrast(), halves(5))
    said = measured(model, data, corruptions=["fog"], justification="Cameras stand outdoors.")
    assert "Why these corruptions: Cameras stand outdoors." in said.caveats
    silent = measured(model, data, corruptions=["fog"])
    assert any("Nobody has stated" in caveat for caveat in silent.caveats)
