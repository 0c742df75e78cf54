"""robustness.spatial: a model that can be worked out by hand, planted groups, and real weights."""

import networks
import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.robustness.spatial import spatial
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.model import Model, Passes, state_hash
from audit.products.predictions import predictions
from audit.shift.spatial import grid, moved

CPU = torch.device("cpu")


class Column(nn.Module):
    """Class 1 where the bright column stands right of the middle of 11 columns."""

    def forward(self, images):
        weights = torch.arange(11.0) - 5.2
        where = (images.mean(dim=(1, 2)) * weights).sum(dim=1)
        return torch.stack([torch.zeros_like(where), where], dim=1)


def bars(places):
    inputs = np.zeros((len(places), 1, 11, 11), np.float32)
    for row, place in enumerate(places):
        inputs[row, 0, :, place] = 1
    return inputs


def setup(inputs, labels, network=None, batch=256, **more):
    model = Model(
        module=(network or Column()).eval(), device=CPU, input_range=(0.0, 1.0), passes=Passes(batch=batch)
    )
    return model, Dataset(inputs=inputs, labels=labels, modality="image", classes=("0", "1"), **more)


def measured(model, data, seed=0, **given):
    before = state_hash(model.module)
    evidence = spatial.measure(model, data, predictions(model, data), seed, **spatial.settings(given))
    assert state_hash(model.module) == before
    return evidence


def value(evidence, name, rotation=None, translation=None, group=None):
    settings = {} if rotation is None else {"rotation": rotation, "translation": translation}
    (found,) = [
        m
        for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and dict(m.settings) == settings
    ]
    return found


def test_shifts_by_hand():
    """Bars at 2, 4, 6, 8 and a mislabelled one; shifts of two pixels. Only the bars at 4 and 6 cross."""
    model, data = setup(bars([2, 4, 6, 8, 8]), np.array([0, 0, 1, 1, 0]))
    evidence = measured(model, data, rotation=0, translation=2 / 11, padding="edge")
    robust = value(evidence, "robust_accuracy", 0, 2 / 11)
    success = value(evidence, "attack_success_rate", 0, 2 / 11)
    assert (robust.statistics["x"], robust.n) == (2, 5)
    assert (success.statistics["x"], success.n) == (2, 4)
    assert value(evidence, "clean_accuracy").statistics["x"] == 4
    (row,) = evidence.tables[0].rows
    assert row[1:] == (8, 5, 1, 2, 2, 0)


def test_turning_alone_shifting_alone_and_both_are_nested():
    places = np.random.default_rng(0).integers(0, 11, 80)
    model, data = setup(bars(places), (places > 5.2).astype(np.int64))
    evidence = measured(model, data, rotation=40, translation=0.1, padding="edge")
    turned = value(evidence, "robust_accuracy", 40, 0.0).value
    shifted = value(evidence, "robust_accuracy", 0.0, 0.1).value
    both = value(evidence, "robust_accuracy", 40, 0.1).value
    assert both <= min(turned, shifted)
    assert both < value(evidence, "average_accuracy", 40, 0.1).value <= 1


def test_the_worst_case_is_that_of_a_slow_search_over_the_whole_grid():
    generator = np.random.default_rng(1)
    places = generator.integers(0, 11, 40)
    inputs = bars(places) * 7 / 8 + generator.random((40, 1, 11, 11)).astype(np.float32) / 8
    model, data = setup(inputs, (places > 5.2).astype(np.int64))
    evidence = measured(model, data, rotation=25, translation=0.15, angles=5, shifts=3)
    standing = np.ones(40, dtype=bool)
    for move in [np.zeros(3), *grid(25, 0.15, 5, 3)]:
        images = moved(torch.tensor(inputs), torch.tensor(np.tile(move, (40, 1))).float(), "zeros", 0.0)
        standing &= Column()(images).argmax(dim=1).numpy() == data.labels
    found = value(evidence, "robust_accuracy", 25, 0.15)
    assert found.statistics["x"] == standing.sum()
    assert 0 < standing.sum() < 30
    assert evidence.tables[0].rows[-1][1] == 5 * 9 - 1


def test_fooled_rows_leave_and_the_batch_does_not_matter():
    generator = np.random.default_rng(2)
    inputs = generator.random((60, 1, 11, 11)).astype(np.float32)
    labels = Column()(torch.tensor(inputs)).argmax(dim=1).numpy()
    first, second = setup(inputs, labels), setup(inputs, labels, batch=7)
    one, two = (measured(*pair, draws=1) for pair in (first, second))
    assert one.measures == two.measures
    assert first[0].passes.forward == second[0].passes.forward < 60 * 81


def test_a_model_that_sees_only_the_mean_is_not_fooled_by_turning_a_symmetric_picture():
    class Mean(nn.Module):
        def forward(self, images):
            mean = images.mean(dim=(1, 2, 3)) - 0.5
            return torch.stack([-mean, mean], dim=1)

    inputs = np.stack([np.full((1, 12, 12), level, np.float32) for level in np.linspace(0.05, 0.95, 40)])
    model, data = setup(inputs, (inputs[:, 0, 0, 0] > 0.5).astype(np.int64), Mean())
    evidence = measured(model, data, padding="edge")
    assert value(evidence, "robust_accuracy", 30.0, 0.1).value == 1
    assert value(evidence, "average_accuracy", 30.0, 0.1).value == 1
    # Black corners darken the same pictures.
    assert value(measured(model, data), "robust_accuracy", 30.0, 0.1).value < 1


def test_a_claim_that_a_fresh_pass_does_not_confirm_does_not_count():
    class Fickle(nn.Module):
        """Says 0 first (clean), then 1 for moved images, and 0 again once asked about all moves."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, images):
            self.calls += 1
            wrong = self.calls == 2
            return torch.tensor([[0.0, 1.0] if wrong else [1.0, 0.0]]).expand(len(images), 2)

    model, data = setup(bars([1, 2, 3]), np.zeros(3, np.int64), Fickle())
    evidence = measured(model, data, rotation=30, translation=0)
    assert value(evidence, "robust_accuracy", 30, 0.0).value == 1
    assert evidence.tables[0].rows[0][-1] == 3
    assert value(evidence, "robust_accuracy", 30, 0.0).unreliable == "3 claimed examples did not hold"


def test_answers_drawn_anew_in_each_pass_make_no_robust_model():
    class Noisy(nn.Module):
        def forward(self, images):
            other = images.mean(dim=(1, 2, 3)) * 0 - 0.3 + torch.randn(len(images)) * 0.2
            return torch.stack([other * 0, other], dim=1)

    torch.manual_seed(0)
    model, data = setup(bars([1, 2, 3, 4, 5, 6, 7] * 5), np.zeros(35, np.int64), Noisy())
    evidence = measured(model, data)
    for rotation, translation in ((30.0, 0.0), (0.0, 0.1), (30.0, 0.1)):
        assert "did not hold" in value(evidence, "robust_accuracy", rotation, translation).unreliable


def test_a_fragile_group_is_seen_by_name():
    places = np.array([1, 9] * 30 + [5, 6] * 30)
    near = np.repeat([0, 1], 60)
    sex = Sensitive(name="sex", groups=("f", "m"), codes=near)
    model, data = setup(bars(places), (places > 5.2).astype(np.int64), sensitive={"sex": sex})
    evidence = measured(model, data, rotation=0, translation=0.1, padding="edge")
    strong = value(evidence, "robust_accuracy", 0.0, 0.1, {"sex": "f"})
    weak = value(evidence, "robust_accuracy", 0.0, 0.1, {"sex": "m"})
    assert strong.low > weak.high
    assert evidence.figures[1].data["labels"] == ["f", "m"]


def test_real_mnist_weights_stand_small_moves_and_fall_to_large_ones(shared_data):
    network = networks.LeNet()
    network.load_state_dict(
        torch.load(shared_data / "mnist" / "lenet.pth", weights_only=True, map_location="cpu")
    )
    held = np.load(shared_data / "mnist" / "mnist_test.npz")
    inputs = (held["images"][::50, None] / 255).astype(np.float32)
    model, data = setup(inputs, held["labels"][::50].astype(np.int64), network)
    small = measured(model, data, rotation=5, translation=0.02, angles=3, rows=150)
    large = measured(model, data, rotation=45, translation=0.2, angles=5, rows=150)
    assert value(small, "robust_accuracy", 5.0, 0.02).value > 0.8
    assert value(large, "robust_accuracy", 45.0, 0.2).value < 0.3
    average = value(large, "average_accuracy", 45.0, 0.2)
    assert value(large, "robust_accuracy", 45.0, 0.2).high < average.low
    assert average.high < value(large, "clean_accuracy").value


def test_wrong_settings_and_inputs_are_refused_with_the_reason():
    model, data = setup(bars([1, 9]), np.array([0, 1]))
    with pytest.raises(ConfigError, match="nothing to move"):
        measured(model, data, rotation=0, translation=0)
    with pytest.raises(ConfigError, match="translation"):
        spatial.settings({"translation": 0.6})
    flat = Dataset(inputs=data.inputs[:, 0], labels=data.labels, modality="image", classes=("0", "1"))
    with pytest.raises(NotApplicable, match=r"shape \[11, 11\]"):
        spatial.measure(model, flat, predictions(model, data), 0, **spatial.settings({}))
    assert spatial.modality == {"image"}


def test_the_reader_is_told_what_moves_in_and_whether_anybody_said_why():
    model, data = setup(bars([1, 9]), np.array([0, 1]))
    zeros = measured(model, data, justification="Phones are held by hand.")
    assert "What moves into the picture has the value 0." in zeros.caveats
    assert "Why these bounds: Phones are held by hand." in zeros.caveats
    edge = measured(model, data, padding="edge", rows=1)
    assert any("nearest pixel" in caveat for caveat in edge.caveats)
    assert any("1 of 2 rows" in caveat for caveat in edge.caveats)
    unknown = Model(module=model.module, device=CPU)
    assert any("no input_range is stated" in caveat for caveat in measured(unknown, data).caveats)


def test_data_outside_the_stated_range_are_refused():
    model, data = setup(bars([2, 8]) * 255, np.array([0, 1]))
    with pytest.raises(NotEvaluable, match=r"range from 0 to 255 but \[model\] input_range says \[0, 1\]"):
        measured(model, data)


@pytest.mark.parametrize("stated", [(0.0, 1.0), None])
@pytest.mark.parametrize("padding", ["zeros", "edge"])
def test_no_image_that_the_model_sees_leaves_the_valid_range(stated, padding):
    class Watchful(nn.Module):
        """Remembers the smallest and the largest value that it was shown."""

        def __init__(self):
            super().__init__()
            self.least, self.most = [], []

        def forward(self, images):
            self.least.append(float(images.min()))
            self.most.append(float(images.max()))
            return Column()(images)

    inputs = np.random.default_rng(0).random((40, 1, 11, 11)).astype(np.float32).round(1)
    network = Watchful()
    model = Model(module=network.eval(), device=CPU, input_range=stated)
    labels = Column()(torch.tensor(inputs)).argmax(dim=1).numpy()
    data = Dataset(inputs=inputs, labels=labels, modality="image", classes=("0", "1"))
    evidence = measured(model, data, padding=padding)
    assert value(evidence, "robust_accuracy", 30.0, 0.1).value < 1
    assert min(network.least) >= 0
    assert max(network.most) <= 1


def test_a_transform_that_overshoots_is_cut(monkeypatch):
    """Planted: a turn that makes the picture brighter than it may be."""
    from audit.shift import spatial as transform

    seen = []

    class Bright(nn.Module):
        def forward(self, images):
            seen.append(float(images.max()))
            return Column()(images)

    honest = transform.moved
    monkeypatch.setattr(transform, "moved", lambda *given: honest(*given) + 0.5)
    model, data = setup(bars([2, 4, 6, 8]), np.array([0, 0, 1, 1]), Bright())
    measured(model, data)
    assert max(seen) == 1
