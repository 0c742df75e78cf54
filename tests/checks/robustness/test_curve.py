"""Robust accuracy by hand, by group, and the sentences around it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.robustness.curve import LARGEST
from audit.checks.robustness.fgsm import fgsm
from audit.checks.robustness.pgd import pgd
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.model import Model, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions
from audit.record import canonical
from audit.stats import clopper_pearson

POINTS = [0.10, 0.45, 0.55, 0.90]
CHECKS = {"fgsm": fgsm, "pgd": pgd}


def boundary():
    """One input; class 1 above .5, exactly."""
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0], [1.0]]))
        network.bias.copy_(torch.tensor([0.0, -0.5]))
    return Model(module=network.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))


def line(points=POINTS, labels=(0, 0, 1, 1), groups=(), codes=(), modality="series", **fields):
    sensitive = {}
    if groups:
        sensitive["sex"] = Sensitive(name="sex", groups=tuple(groups), codes=np.array(codes))
    return Dataset(
        inputs=np.array(points, np.float32)[:, None],
        labels=np.array(labels),
        modality=modality,
        classes=("low", "high"),
        sensitive=sensitive,
        **fields,
    )


def measured(name, data, model=None, seed=0, **settings):
    model = model or boundary()
    shared = adversaries(model, data, predictions(model, data), seed)
    check = CHECKS[name]
    return check.measure(data, shared, **check.settings(settings))


def values(evidence, name, **group):
    return {
        m.settings.get("epsilon"): m.value
        for m in evidence.measures
        if m.name == name and dict(m.group) == group
    }


@pytest.mark.parametrize("name", CHECKS)
def test_a_line_worked_out_by_hand(name):
    evidence = measured(name, line(), epsilon=[0.0, 0.1, 0.5])
    assert values(evidence, "robust_accuracy") == {0.0: 1.0, 0.1: 0.5, 0.5: 0.0}
    assert values(evidence, "attack_success_rate") == {0.0: 0.0, 0.1: 0.5, 0.5: 1.0}
    assert values(evidence, "clean_accuracy") == {None: 1.0}


@pytest.mark.parametrize("name", CHECKS)
def test_rows_already_wrong_are_not_robust_and_not_attacked(name):
    evidence = measured(name, line(labels=(1, 0, 1, 1)), epsilon=[0.1])
    assert values(evidence, "clean_accuracy") == {None: 0.75}
    assert values(evidence, "robust_accuracy") == {0.1: 0.25}
    assert values(evidence, "attack_success_rate") == {0.1: 2 / 3}
    (robust,) = [m for m in evidence.measures if m.name == "robust_accuracy"]
    assert (robust.n, robust.low, robust.high) == (4, *clopper_pearson({"x": 1, "n": 4}, 0.95)[1:])
    counts = evidence.tables[0]
    row = dict(zip(counts.columns, counts.rows[1], strict=True))
    assert (row["already wrong"], row["fooled"], row["withstood"]) == (1, 2, 1)


@pytest.mark.parametrize("name", CHECKS)
def test_nobody_right_leaves_the_success_rate_undefined(name):
    evidence = measured(name, line(labels=(1, 1, 0, 0)), epsilon=[0.1])
    (rate,) = [m for m in evidence.measures if m.name == "attack_success_rate"]
    assert rate.value is None
    assert "0 of 4 rows are classified correctly" in rate.reason
    assert values(evidence, "robust_accuracy") == {0.1: 0.0}


@pytest.mark.parametrize("name", CHECKS)
def test_the_group_that_is_not_robust_is_named(name):
    points = [0.1] * 30 + [0.9] * 30 + [0.48] * 30 + [0.52] * 30 + [0.2] * 5
    labels = [0] * 30 + [1] * 30 + [0] * 30 + [1] * 30 + [0] * 5
    codes = [0] * 60 + [1] * 60 + [2] * 5
    evidence = measured(
        name, line(points, labels, ("Male", "Female", "unknown"), codes), epsilon=[0.1], rows=None
    )
    assert values(evidence, "robust_accuracy", sex="Male") == {0.1: 1.0}
    assert values(evidence, "robust_accuracy", sex="Female") == {0.1: 0.0}
    assert values(evidence, "robust_accuracy", sex="unknown") == {0.1: 1.0}
    assert values(evidence, "clean_accuracy", sex="Female") == {None: 1.0}
    figure = next(f for f in evidence.figures if f.name == "robust_accuracy_by_sex")
    assert "0.000 (Female)" in figure.title
    assert [series["name"] for series in figure.data["series"]] == ["Male", "Female", "unknown"]


def test_a_group_without_rows_is_undefined_and_visible():
    evidence = measured("fgsm", line(groups=("a", "b"), codes=(0, 0, 0, 0)), epsilon=[0.1])
    (robust,) = [m for m in evidence.measures if m.name == "robust_accuracy" and m.group == {"sex": "b"}]
    assert robust.value is None
    assert robust.n == 0
    assert canonical(evidence.figures)


def test_the_curve_starts_at_the_accuracy_without_an_attack():
    figure = measured("fgsm", line(), epsilon=[0.5, 0.1]).figures[0]
    (series,) = figure.data["series"]
    assert series["x"] == [0.0, 0.1, 0.5]
    assert series["y"] == [1.0, 0.5, 0.0]
    assert series["low"][1] < 0.5 < series["high"][1]
    assert "from 1.000 without an attack to 0.000 at epsilon 0.5" in figure.title
    assert "0.500 at 0.1" in figure.alt


@pytest.mark.parametrize("name", CHECKS)
def test_radii_without_a_setting_fit_the_kind_of_input(name):
    images = measured(name, line(modality="image"))
    assert list(values(images, "robust_accuracy")) == [2 / 255, 4 / 255, 8 / 255]
    table = measured(name, line(modality="tabular", features=(Feature(name="x", columns=(0,)),)))
    assert list(values(table, "robust_accuracy")) == [0.1, 0.25, 0.5]
    assert any("standard deviations" in caveat for caveat in table.caveats)


def test_epsilon_in_standard_deviations():
    """The standard deviation of the points is .285; .2 of it moves .45 and .55 across, .1 does not."""
    evidence = measured("pgd", line(modality="tabular"), epsilon=[0.1, 0.2])
    assert values(evidence, "robust_accuracy") == {0.1: 1.0, 0.2: 0.5}


def test_a_feature_that_may_not_move_is_named_and_does_not():
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        network.bias.copy_(torch.tensor([0.0, -0.5]))
    model = Model(module=network.eval(), device=torch.device("cpu"))
    features = (Feature(name="age", columns=(0,), immutable=True), Feature(name="pay", columns=(1,)))
    inputs = np.column_stack([POINTS, POINTS]).astype(np.float32)
    data = Dataset(
        inputs=inputs,
        labels=np.array([0, 0, 1, 1]),
        modality="tabular",
        classes=("a", "b"),
        features=features,
    )
    evidence = measured("pgd", data, model, epsilon=[3.0])
    assert values(evidence, "robust_accuracy") == {3.0: 1.0}
    assert "Not moved because immutable: age." in evidence.caveats
    assert all(m.unreliable for m in evidence.measures if m.name == "robust_accuracy")


def test_images_without_a_range_do_not_fit():
    model = Model(module=boundary().module, device=torch.device("cpu"))
    with pytest.raises(NotApplicable, match=r"\[model\] input_range"):
        measured("fgsm", line(modality="image"), model)


def test_the_reader_is_told_what_was_left_open():
    evidence = measured("fgsm", line(), epsilon=[0.1], rows=3)
    text = " ".join(evidence.caveats)
    assert "upper bound" in text
    assert "Nobody has stated why" in text
    assert "3 of 4 rows were looked at" in text
    told = measured("fgsm", line(), epsilon=[0.1], justification="A sensor errs by .1.").caveats
    assert "Why these values of epsilon: A sensor errs by .1." in told
    assert not any("Nobody has stated" in caveat for caveat in told)


def test_rows_that_fall_late_are_told():
    slow = measured("pgd", line(), epsilon=[0.1], steps=4, step_size=0.15, random_start=False)
    assert any("2 of 4 attacked rows fell only in the last quarter" in caveat for caveat in slow.caveats)
    quick = measured("pgd", line(), epsilon=[0.1], random_start=False)
    assert not any("last quarter" in caveat for caveat in quick.caveats)


@pytest.mark.parametrize("name", CHECKS)
def test_evidence_is_plain_json_and_repeats(name):
    data = line(groups=("a", "b"), codes=(0, 1, 0, 1))
    told = (replace(measured(name, data, epsilon=[0.1, 0.5]), outcomes=None) for _ in range(2))
    first, second = (canonical(evidence) for evidence in told)
    assert first == second


@pytest.mark.parametrize("name", CHECKS)
def test_the_model_is_left_as_it_was(name):
    model = boundary()
    before = state_hash(model.module)
    measured(name, line(), model, epsilon=[0.1])
    assert state_hash(model.module) == before


def test_pgd_reuses_the_attacks_of_fgsm():
    data, model = line(), boundary()
    shared = adversaries(model, data, predictions(model, data), 0)
    fgsm.measure(data, shared, epsilon=[0.1, 0.2])
    spent = model.passes.backward
    result = shared.fgsm([0.0, 0.1, 0.2])
    pgd.measure(data, shared, epsilon=[0.1, 0.2], random_start=False, steps=1)
    assert spent == result.backward_rows
    # One step for four rows, then for the two that stand, then for the two that fell, tried again.
    assert model.passes.backward - spent == 4 + 2 + 2


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": []},
        {"epsilon": [-0.1]},
        {"epsilon": [float("inf")]},
        {"epsilon": [1e30]},
        {"rows": 0},
        {"scale": "pixels"},
    ],
)
@pytest.mark.parametrize("name", CHECKS)
def test_settings_that_make_no_sense_are_refused(name, settings):
    with pytest.raises(ConfigError):
        CHECKS[name].settings(settings)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_largest_radius_reaches_every_valid_point(norm):
    evidence = measured("pgd", line(), epsilon=[LARGEST], norm=norm)
    assert values(evidence, "robust_accuracy") == {LARGEST: 0.0}


@pytest.mark.parametrize("settings", [{"steps": 0}, {"step_size": 0.0}, {"restarts": 0}, {"norm": "l0"}])
def test_pgd_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError):
        pgd.settings(settings)


@pytest.mark.parametrize("name", CHECKS)
def test_the_published_text_names_its_source_and_its_limits(name):
    check = CHECKS[name]
    assert check.title.startswith("Accuracy under")
    assert "arXiv" in check.text
    assert "It answers" in check.text
    assert check.asks == ("data", "adversaries")
