"""Real weights and real data, end to end through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audit.record import read_record

ROOT = Path(__file__).parent.parent
SCRIPT = Path(sys.executable).with_name("model-audit")
NETWORKS = Path(__file__).parent / "networks.py"


def model_audit(*arguments, cwd, codes):
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode in codes, done.stdout + done.stderr
    return done


def value(record, check, name, group=None, **settings):
    (finding,) = [f for f in record.findings if f.check == check]
    found = [
        m for m in finding.measures
        if m.name == name and dict(m.group) == (group or {})
        and all(np.isclose(m.settings[k], v) for k, v in settings.items())
    ]  # fmt: skip
    assert len(found) == 1, (check, name, group, settings)
    return found[0].value


@pytest.fixture(scope="module")
def adult(shared_data, tmp_path_factory):
    """The example, run as its text says: train, save, audit the 16,281 test rows."""
    folder = tmp_path_factory.mktemp("adult")
    script = ROOT / "examples" / "adult" / "train.py"
    command = [sys.executable, script, shared_data / "adult" / "adult.csv", folder]
    subprocess.run(command, check=True, capture_output=True)
    model_audit("run", folder / "audit.toml", "--out", folder / "run", cwd=folder, codes=(1, 2))
    return folder


def test_adult_rates_equal_a_direct_computation(adult, shared_data):
    import skops.io
    import torch

    record = read_record(adult / "run")
    assert record.data["rows"] == 16_281
    table = pd.read_csv(shared_data / "adult" / "adult.csv", keep_default_na=False)
    test = table[table["split"] == "test"]
    encoded = skops.io.load(adult / "encoder.skops", trusted=[]).transform(test)
    network = torch.export.load(adult / "model.pt2").module()
    with torch.no_grad():
        selected = network(torch.tensor(encoded, dtype=torch.float32)).argmax(dim=1).numpy() == 1
    direct = pd.DataFrame({"sex": test["sex"], "race": test["race"], "selected": selected})
    for feature in ("sex", "race"):
        for group, rate in direct.groupby(feature)["selected"].mean().items():
            found = value(record, "fairness.groups", "selection_rate", {feature: group})
            assert found == pytest.approx(rate, abs=1e-12)
    for (sex, race), rate in direct.groupby(["sex", "race"])["selected"].mean().items():
        found = value(record, "fairness.groups", "selection_rate", {"sex": sex, "race": race})
        assert found == pytest.approx(rate, abs=1e-12)


def test_adult_every_pillar_was_measured_and_women_fail_four_fifths(adult):
    record = read_record(adult / "run")
    unmeasured = {f.check for f in record.findings if f.status != "measured"}
    assert unmeasured == {
        *(f"fairness.{name}" for name in ("custom", "ll144_published", "regression")),
        *(f"interpretability.{name}" for name in ("activation", "rise")),  # not for tables
        *(f"interpretability.{name}" for name in ("attention", "gradcam", "deep_lift", "deep_shap", "lrp")),
        *(f"interpretability.{name}" for name in ("influence", "layer_conductance", "tcav")),
        *(f"robustness.{name}" for name in ("series", "spatial")),
        "performance.error",  # for regression
    }
    assert {f.status for f in record.findings if f.check in unmeasured} == {"not_applicable"}
    (fairness,) = [f for f in record.findings if f.check == "fairness.groups"]
    women = [j for j in fairness.verdicts if dict(j.group) == {"sex": "Female"}]
    assert [j.verdict.value for j in women] == ["FAIL"]
    assert 0.83 < value(record, "performance.accuracy", "accuracy") < 0.87


def test_adult_missing_occupations_are_counted_by_sex(adult, shared_data):
    table = pd.read_csv(shared_data / "adult" / "adult.csv", keep_default_na=False)
    test = table[table["split"] == "test"]
    (finding,) = [f for f in read_record(adult / "run").findings if f.check == "fairness.representation"]
    for sex, rows in test.groupby("sex"):
        (found,) = [
            m for m in finding.measures
            if m.name == "missing_rate" and dict(m.group) == {"sex": sex}
            and m.settings["feature"] == "occupation"
        ]  # fmt: skip
        assert (found.statistics["x"], found.n) == ((rows["occupation"] == "?").sum(), len(rows))


def test_adult_small_intersections_never_pass_by_accident(adult):
    record = read_record(adult / "run")
    (fairness,) = [f for f in record.findings if f.check == "fairness.groups"]
    sizes = {
        tuple(sorted(m.group.items())): m.n for m in fairness.measures if m.name == "selection_rate_ratio"
    }
    both = [j for j in fairness.verdicts if set(j.group) == {"sex", "race"}]
    assert len(both) >= 9
    assert "NOT_EVALUABLE" not in {j.verdict.value for j in both if j.value is not None}
    for judgement in both:
        size = sizes[tuple(sorted(judgement.group.items()))]
        if size < 200 and judgement.verdict.value == "PASS":
            assert judgement.low >= 0.8
        if size < 60:
            assert judgement.verdict.value in {"INCONCLUSIVE", "NOT_EVALUABLE", "FAIL"}
    assert any(j.verdict.value == "INCONCLUSIVE" and j.needed_n > sizes[tuple(sorted(j.group.items()))]
               for j in both)  # fmt: skip


def test_adult_differences_equal_fairlearn(adult, shared_data):
    import skops.io
    import torch
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    record = read_record(adult / "run")
    table = pd.read_csv(shared_data / "adult" / "adult.csv", keep_default_na=False)
    test = table[table["split"] == "test"]
    rows = skops.io.load(adult / "encoder.skops", trusted=[]).transform(test)
    network = torch.export.load(adult / "model.pt2").module()
    with torch.no_grad():
        predicted = network(torch.tensor(rows, dtype=torch.float32)).argmax(dim=1).numpy()
    actual = (test["income"] == ">50K").to_numpy(int)
    oracles = {
        "demographic_parity_difference": demographic_parity_difference,
        "equalized_odds_difference": equalized_odds_difference,
    }
    (fairness,) = [f for f in record.findings if f.check == "fairness.groups"]
    for name, oracle in oracles.items():
        for feature in ("sex", "race"):
            (found,) = [
                m for m in fairness.measures if m.name == name and m.settings.get("feature") == feature
            ]
            expected = oracle(actual, predicted, sensitive_features=test[feature])
            assert found.value == pytest.approx(expected, abs=1e-12)
            assert found.low <= found.value <= found.high


CIFAR = """
[model]
path = "{data}/cifar10/resnet20.th"
factory = "networks:ResNet20"
classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
input_range = [0.0, 1.0]
normalize = {{ mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }}
[data]
path = "{data}/cifar10/test_2000.npz"
[checks]
run = ["performance.accuracy", "interpretability.saliency", "interpretability.lime", "interpretability.shap",
       "robustness.fgsm", "robustness.pgd"]
[checks.settings."interpretability.lime"]
rows = 8
samples = 300
[checks.settings."interpretability.shap"]
rows = 8
samples = 150
background = 2
[checks.settings."robustness.fgsm"]
epsilon = [0.00196, 0.0314]
rows = 200
[checks.settings."robustness.pgd"]
epsilon = [0.00196, 0.0314]
rows = 200
[policy.limits."performance.accuracy"]
accuracy = {{ at_least = 0.75 }}
"""


def test_cifar_resnet20(shared_data, tmp_path):
    (tmp_path / "networks.py").write_text(NETWORKS.read_text())
    (tmp_path / "audit.toml").write_text(CIFAR.format(data=shared_data.as_posix()))
    model_audit("run", "audit.toml", "--out", "run", cwd=tmp_path, codes=(0,))
    record = read_record(tmp_path / "run")
    assert {f.check: f.reason for f in record.findings if f.status != "measured"} == {}
    assert value(record, "performance.accuracy", "accuracy") == pytest.approx(0.803, abs=0.002)
    clean = value(record, "robustness.pgd", "clean_accuracy")
    small, large = (value(record, "robustness.pgd", "robust_accuracy", epsilon=e) for e in (0.00196, 0.0314))
    assert clean > small > large
    assert large < 0.05
    assert value(record, "robustness.fgsm", "robust_accuracy", epsilon=0.0314) >= large
    assert record.model["loader"] == "state_dict"
    assert record.model["trust"] is False
    page = (tmp_path / "run" / "reports" / "technical-report.html").read_text()
    assert page.count("data:image/png;base64,") >= 3


LENET = """
[model]
path = "{data}/mnist/lenet.pth"
factory = "networks:{factory}"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
input_range = [0.0, 1.0]
[data]
path = "{data}/mnist/mnist_test.npz"
[checks]
run = ["robustness.fgsm"]
[checks.settings."robustness.fgsm"]
epsilon = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
rows = 10000
"""
PUBLISHED = {0.05: 0.9296, 0.1: 0.8333, 0.15: 0.6610, 0.2: 0.4345, 0.25: 0.2268, 0.3: 0.0837}


def test_mnist_lenet_reproduces_the_published_fgsm_curve(shared_data, tmp_path):
    """Its outputs are log-probabilities; taken for logits by accident, the curve would be another."""
    (tmp_path / "networks.py").write_text(NETWORKS.read_text())
    (tmp_path / "audit.toml").write_text(LENET.format(data=shared_data.as_posix(), factory="LeNet"))
    done = model_audit("run", "audit.toml", "--out", "run", "--json", cwd=tmp_path, codes=(2,))
    assert json.loads(done.stdout)["verdict"] == "NOT_JUDGED"
    record = read_record(tmp_path / "run")
    assert record.model["output"] == "log_probabilities"
    assert value(record, "robustness.fgsm", "clean_accuracy") == pytest.approx(0.9761, abs=0.002)
    for epsilon, published in PUBLISHED.items():
        found = value(record, "robustness.fgsm", "robust_accuracy", epsilon=epsilon)
        assert found == pytest.approx(published, abs=0.002)


def explained(run):
    """The record, what was measured, and what the cards conclude; each has its figure and its place."""
    record = read_record(run)
    measured = {
        f.check: f for f in record.findings
        if f.check.startswith("interpretability.") and f.status == "measured"
    }  # fmt: skip
    conclusions = measured["interpretability.trust"].tables[0].rows
    cards = {row[0]: row[1] for row in conclusions[:-1]}
    assert set(cards) >= {"saliency", "integrated_gradients", "kernel_shap", "lime", "occlusion"}
    assert set(cards.values()) <= {"supported", "weak", "not supported"}
    assert conclusions[-1][3] > 100
    page = (run / "reports" / "technical-report.html").read_text()
    for method, conclusion in cards.items():
        assert f"Trust card of {method.replace('_', ' ')}: {conclusion}" in page
    for name, finding in measured.items():
        assert finding.figures, name
        assert all(figure.alt for figure in finding.figures)
    return record, measured, cards


def test_adult_explanations_have_cards_and_protected_features_are_no_reasons(adult):
    _, measured, cards = explained(adult / "run")
    assert cards["integrated_gradients"] == cards["kernel_shap"] == "supported"
    reasons = measured["interpretability.reason_codes"].measures
    named = {item.group["feature"] for item in reasons if item.name == "reason_share"}
    assert named
    assert not named & {"sex", "race"}


FEW = {
    "trust": "rows = 3\ndraws = 3",
    "rise": "rows = 3\nsamples = 200",
    "shap": "rows = 3\nsamples = 64\nbackground = 2",
    "permutation_shap": "rows = 2\npermutations = 2\nbackground = 2",
    "lime": "rows = 3",
    "lime_library": "rows = 2",
    "occlusion": "rows = 3\nwindow = 8\nstride = 8",
    "expected_gradients": "rows = 3\nsamples = 32",
    "smoothgrad": "rows = 3",
    "integrated_gradients": "rows = 3\nmax_steps = 128",
    "layer_conductance": "rows = 2\nmax_steps = 64",
    "importance": "rows = 3",
}


@pytest.mark.slow
def test_cifar_resnet20_is_explained_by_every_method_that_fits(shared_data, tmp_path):
    """Its activations are functions and not layers: DeepLift, DeepSHAP and LRP refuse it and say why."""
    (tmp_path / "networks.py").write_text(NETWORKS.read_text())
    model = CIFAR[: CIFAR.index("[checks]")].format(data=shared_data.as_posix())
    settings = "".join(f'[checks.settings."interpretability.{k}"]\n{v}\n' for k, v in FEW.items())
    plan = f'[checks]\nrun = ["interpretability.*"]\n{settings}'
    (tmp_path / "audit.toml").write_text(model + plan)
    model_audit("run", "audit.toml", "--out", "run", cwd=tmp_path, codes=(2,))
    record, measured, _ = explained(tmp_path / "run")
    assert {f.status for f in record.findings} == {"measured", "not_applicable"}
    assert {f"interpretability.{name}" for name in (*FEW, "saliency", "gradcam", "activation")} <= set(
        measured
    )
    refused = {f.check: f.reason for f in record.findings if f.status != "measured"}
    for name in ("deep_lift", "deep_shap", "lrp"):
        assert "'relu' is called in the network's own code" in refused[f"interpretability.{name}"]
        assert "interpretability.integrated_gradients" in refused[f"interpretability.{name}"]
    page = (tmp_path / "run" / "reports" / "technical-report.html").read_text()
    assert page.count("data:image/png;base64,") >= 20
