"""Calibration on scores whose truth is known: temperature 1 is right, logits times 3 are overconfident."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch import nn

from audit.checks.reliability.calibration import calibration
from audit.dataset import Dataset, Sensitive
from audit.errors import NotApplicable, NotEvaluable
from audit.model import Model
from audit.products.predictions import predictions
from audit.record import plain
from audit.stats import METHODS


class Scaled(nn.Module):
    """Inputs are logits; the network multiplies them."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, rows):
        return rows * self.factor


def scaled(factor=1.0):
    return Model(module=Scaled(factor).eval(), device=torch.device("cpu"), classes=("a", "b", "c"))


def population(rows=3000, seed=0, overstated=1.0):
    """Labels drawn from softmax(logits); inputs of group B are the logits times `overstated`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (rows, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random((rows, 1)) < shares.cumsum(axis=1)).argmax(axis=1)
    code = (random.random(rows) < 0.4).astype(np.int64)
    inputs = logits * np.where(code == 1, overstated, 1.0)[:, None]
    return Dataset(
        inputs=inputs.astype(np.float32), labels=labels, modality="tabular", classes=("a", "b", "c"),
        sensitive={"g": Sensitive(name="g", groups=("A", "B"), codes=code)},
    )  # fmt: skip


def run(data, model=None, **settings):
    model = model or scaled()
    given = calibration.settings({"draws": 300, **settings})
    return calibration.measure(model, data, predictions(model, data), 1, **given)


def only(evidence, name, group=None, **where):
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and dict(m.settings) == where
    ]  # fmt: skip
    return found


def test_the_right_temperature_is_not_flagged():
    for seed in range(3):
        evidence = run(population(seed=seed))
        for name in (
            "expected_calibration_error",
            "classwise_calibration_error",
            "debiased_calibration_error",
        ):
            assert only(evidence, name).low == 0
        found = only(evidence, "overconfidence")
        assert found.low < 0.02
        assert found.high > -0.02
    assert "neither over- nor underconfident" in run(population(seed=1)).figures[0].title


@pytest.mark.parametrize(("factor", "word", "sign"), [(3.0, "overconfident", 1), (0.3, "underconfident", -1)])
def test_a_wrong_temperature_is_found(factor, word, sign):
    evidence = run(population(), scaled(factor))
    for name in ("expected_calibration_error", "classwise_calibration_error", "debiased_calibration_error"):
        assert only(evidence, name).low > 0.03
    found = only(evidence, "overconfidence")
    assert min(found.low * sign, found.high * sign) > 0.05
    assert evidence.figures[0].title.startswith(f"Rows as they are: {word} by 0.")


def test_numbers_are_those_of_scikit_learn_and_of_the_rows():
    data = population(overstated=2.0)
    evidence = run(data)
    shares = torch.tensor(data.inputs).double().softmax(dim=1).numpy()
    right, top = shares.argmax(axis=1) == data.labels, shares.max(axis=1)
    for code, who in ((None, None), (0, {"g": "A"}), (1, {"g": "B"})):
        inside = np.ones(len(right), bool) if code is None else data.sensitive["g"].codes == code
        mine, labels = shares[inside], data.labels[inside]
        brier = brier_score_loss(labels, mine, labels=range(3), scale_by_half=True)
        assert only(evidence, "brier", who).value == pytest.approx(brier, abs=1e-9)
        assert only(evidence, "log_loss", who).value == pytest.approx(log_loss(labels, mine), abs=1e-9)
        ranked, place = np.argsort(top[inside], kind="stable"), np.arange(inside.sum()) * 15 // inside.sum()
        order = [ranked[place == b] for b in range(15)]
        gaps = [len(p) * abs(right[inside][p].mean() - top[inside][p].mean()) for p in order]
        error = only(evidence, "expected_calibration_error", who)
        assert error.value == pytest.approx(sum(gaps) / inside.sum(), abs=1e-9)
        sure = only(evidence, "confidence_where_wrong", who)
        assert sure.value == pytest.approx(top[inside][~right[inside]].mean(), abs=1e-9)
        over = only(evidence, "overconfidence", who)
        assert over.value == pytest.approx(top[inside].mean() - right[inside].mean(), abs=1e-9)


def test_an_overstated_group_is_found_and_the_other_is_not():
    evidence = run(population(overstated=3.0))
    assert only(evidence, "overconfidence", {"g": "B"}).low > 0.1
    assert only(evidence, "expected_calibration_error", {"g": "A"}).low == 0
    assert only(evidence, "expected_calibration_error_difference", feature="g").low > 0.05
    clean = run(population())
    assert only(clean, "expected_calibration_error_difference", feature="g").low == 0


def test_accidents_make_the_model_overconfident():
    evidence = run(population(), rows=1500)
    light, heavy = (only(evidence, "overconfidence", corruption="numeric_noise", severity=s) for s in (1, 5))
    assert light.n == heavy.n == 1500
    assert heavy.low > 0.05
    assert light.value < heavy.value
    assert only(evidence, "overconfidence").n == 3000
    lines = evidence.figures[0].data["series"]
    assert [line["name"] for line in lines] == ["as they are", "severity 1", "severity 5", "calibrated"]
    assert lines[0]["x"] == sorted(lines[0]["x"])


def test_every_number_can_be_derived_again():
    evidence = run(population(400))
    for item in evidence.measures:
        if item.value is not None:
            assert METHODS[item.method](plain(item.statistics), 0.95) == (item.value, item.low, item.high)


def test_small_groups_are_shown_and_not_judged():
    data = population(400)
    codes = np.zeros(400, np.int64)
    codes[:30] = 1
    data = Dataset(**{**vars(data), "sensitive": {"g": Sensitive(name="g", groups=("A", "B"), codes=codes)}})
    evidence = run(data)
    assert "floor of 100" in only(evidence, "brier", {"g": "B"}).too_few
    assert only(evidence, "brier", {"g": "A"}).too_few == ""
    missing = only(evidence, "expected_calibration_error_difference", feature="g")
    assert missing.value is None
    assert "fewer than two known groups" in missing.reason


def test_a_group_without_a_row_is_undefined_and_ends_nothing():
    data = population(rows=400)
    rare = replace(data, sensitive={"g": replace(data.sensitive["g"], groups=("A", "B", "C"))})
    evidence = run(rare)
    mine = [m for m in evidence.measures if dict(m.group) == {"g": "C"} and not m.settings]
    assert {m.name for m in mine} >= {"expected_calibration_error", "overconfidence", "brier", "log_loss"}
    assert all(m.value is None and m.reason and m.n == 0 for m in mine)
    assert only(evidence, "brier", {"g": "A"}) == only(run(data), "brier", {"g": "A"})


def test_no_wrong_row_leaves_the_confidence_of_errors_undefined():
    data = population(200)
    model = scaled()
    labels = torch.tensor(data.inputs).argmax(dim=1).numpy()
    evidence = run(Dataset(**{**vars(data), "labels": labels}), model)
    found = only(evidence, "confidence_where_wrong")
    assert found.value is None
    assert "0 of 200 are" in found.reason


def test_what_cannot_be_corrupted_is_still_measured_clean():
    data = population(300)
    series = Dataset(
        inputs=data.inputs[:, None, :], labels=data.labels, modality="series", classes=data.classes
    )
    model = Model(module=nn.Flatten(), device=torch.device("cpu"), classes=data.classes)
    evidence = run(series, model)
    assert any(text.startswith("Not measured under corruption") for text in evidence.caveats)
    assert only(evidence, "brier").value > 0
    with pytest.raises(NotApplicable):
        run(series, model, corruption="fog")


def test_scores_that_are_no_numbers_are_left_out_or_end_it():
    data = population(300)
    data.inputs[:7] = np.nan
    evidence = run(data, corruption="rounding")
    assert only(evidence, "brier").n == 293
    assert any("7 of 300" in text for text in evidence.caveats)
    data.inputs[:] = np.nan
    with pytest.raises(NotEvaluable):
        run(data)


def test_resnet_on_jpeg_images_is_overconfident_and_noise_makes_it_worse(shared_data):
    from networks import ResNet20

    network = ResNet20()
    kept = torch.load(shared_data / "cifar10" / "resnet20.th", map_location="cpu", weights_only=True)
    network.load_state_dict({k.removeprefix("module."): v for k, v in kept["state_dict"].items()})
    model = Model(
        module=network.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0), input_shape=(3, 32, 32),
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), classes=tuple(map(str, range(10))),
    )  # fmt: skip
    stored = np.load(shared_data / "cifar10" / "test_2000.npz")
    chosen = np.random.default_rng(0).permutation(2000)[:300]
    data = Dataset(
        inputs=(np.moveaxis(stored["images"][chosen], -1, 1) / 255).astype(np.float32),
        labels=stored["labels"][chosen].astype(np.int64), modality="image", classes=model.classes,
    )  # fmt: skip
    evidence = run(data, model)
    clean = only(evidence, "overconfidence")
    light, heavy = (only(evidence, "overconfidence", corruption="gaussian_noise", severity=s) for s in (1, 5))
    assert clean.low > 0.08
    assert clean.value < light.value < heavy.value
    assert heavy.low > 0.5
    assert model.passes.forward == 900


def test_the_check_is_imported_without_torch():
    import subprocess

    names = ("calibration", "conformal", "selective", "ood", "overfit", "slices")
    lines = "; ".join(f"import audit.checks.reliability.{name}" for name in names)
    program = f"import sys; {lines}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
