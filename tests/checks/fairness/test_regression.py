"""Errors of a regression by group: numbers by hand, scipy, planted faults, and the real command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import ttest_ind
from torch import nn

from audit.checks.fairness.regression import regression
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.model import Model
from audit.policy import Limit, Verdict, judge_measures
from audit.record import read_record
from audit.stats import interval_at


class First(nn.Module):
    """The first input is the prediction: [N] or, as a column, [N, 1]."""

    def __init__(self, columns=1):
        super().__init__()
        self.columns = columns

    def forward(self, rows):
        return rows[:, 0] if self.columns == 0 else rows[:, : self.columns]


def run(predicted, targets, columns=1, settings=None, **sensitive):
    """The evidence of a model that answers `predicted`."""
    groups = {}
    for name, values in sensitive.items():
        levels = sorted(set(values), key=lambda v: (v == "unknown", v))
        codes = np.array([levels.index(v) for v in values], np.int64)
        groups[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    targets = None if targets is None else np.asarray(targets, np.float64)
    inputs = np.repeat(np.asarray(predicted, np.float32)[:, None], 2, axis=1)
    data = Dataset(inputs=inputs, targets=targets, modality="tabular", classes=(), sensitive=groups)
    model = Model(
        module=First(columns).eval(), device=torch.device("cpu"), task="regression", output="values"
    )
    return regression.measure(model, data, **regression.settings(settings or {}))


def one(evidence, name, **group):
    (found,) = [m for m in evidence.measures if m.name == name and dict(m.group) == group]
    return found


@pytest.mark.parametrize("columns", [0, 1])
def test_numbers_by_hand(columns):
    """Errors 1, -2, 3, 2 of a: mean 1, absolute 2, squares 18 / 4. Errors -1, -3 of b: -2, 2, 10 / 2."""
    evidence = run([11, 8, 13, 12, 9, 7], [10] * 6, columns, {"floor": 2}, g=["a", "a", "a", "a", "b", "b"])
    assert one(evidence, "mean_error", g="a").value == 1
    assert one(evidence, "mean_absolute_error", g="a").value == 2
    assert one(evidence, "root_mean_squared_error", g="a").value == pytest.approx(4.5**0.5)
    assert one(evidence, "mean_error", g="b").value == -2
    assert one(evidence, "root_mean_squared_error", g="b").value == pytest.approx(5**0.5)
    # t(1 degree, 97.5 %) = 12.7062; sd of -1 and -3 is 1.41421, over the root of 2 rows: 1
    spread = one(evidence, "mean_error", g="b")
    assert (spread.low, spread.high) == pytest.approx((-14.7062, 10.7062), abs=1e-4)
    # squares 1 and 9: mean 5, sd 5.65685, over the root of 2: 4; 5 + 12.7062 * 4 = 55.8248, below: under 0
    root = one(evidence, "root_mean_squared_error", g="b")
    assert (root.low, root.high) == pytest.approx((0.0, 55.8248**0.5), abs=1e-4)
    apart = one(evidence, "mean_error_difference", g="b")
    assert (apart.value, apart.settings["reference"], apart.n) == (-3, "a", 6)
    assert one(evidence, "mean_absolute_error_difference", g="b").value == 0
    assert {m.name for m in evidence.measures if dict(m.group) == {"g": "a"}} == {
        "mean_error", "mean_absolute_error", "root_mean_squared_error"
    }  # fmt: skip


@pytest.mark.parametrize("level", [0.95, 0.999])
def test_comparisons_are_those_of_scipy(level):
    random = np.random.default_rng(1)
    errors = np.concatenate([random.normal(0.5, 2, 150), random.normal(0, 1, 200)]).astype(np.float32)
    evidence = run(errors, np.zeros(350), g=["a"] * 150 + ["b"] * 200)
    exact = errors.astype(np.float64)
    for name, values in (("mean_error", exact), ("mean_absolute_error", np.abs(exact))):
        found = one(evidence, f"{name}_difference", g="a")
        theirs = ttest_ind(values[:150], values[150:], equal_var=False).confidence_interval(level)
        assert found.value == pytest.approx(values[:150].mean() - values[150:].mean(), abs=1e-12)
        assert interval_at(found, level) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def faulty(shift, rows=400):
    random = np.random.default_rng(3)
    group = random.choice(["A", "B"], size=rows, p=[0.6, 0.4])
    targets = random.normal(100, 15, rows)
    return run(targets + random.normal(0, 4, rows) - shift * (group == "B"), targets, g=group.tolist())


LIMITS = [
    Limit(check="fairness.regression", measure="mean_error", at_least=-2, at_most=2, group="each"),
    Limit(check="fairness.regression", measure="mean_error_difference", at_least=-2, at_most=2, group="each"),
]  # fmt: skip


def test_a_group_that_is_under_predicted_is_found():
    evidence = faulty(5)
    judged = {(j.measure, j.group["g"]): j.verdict for j in judge_measures(evidence.measures, LIMITS, 0.95)}
    assert judged == {
        ("mean_error", "A"): Verdict.PASS,
        ("mean_error", "B"): Verdict.FAIL,
        ("mean_error_difference", "B"): Verdict.FAIL,
    }
    (table,) = evidence.tables
    shares = {row[0]: np.array(row[1:]) / sum(row[1:]) for row in table.rows}
    assert shares["B"][0] > 3 * shares["A"][0]


def test_a_fair_model_is_not_flagged():
    judged = judge_measures(faulty(0).measures, LIMITS, 0.95)
    assert [j.verdict for j in judged] == [Verdict.PASS] * 3


def test_errors_of_equal_groups_differ_as_often_as_the_level_says():
    random = np.random.default_rng(4)
    groups = ["a"] * 30 + ["b"] * 60
    wrong = 0
    for _ in range(400):
        evidence = run(random.normal(0, np.where(np.arange(90) < 30, 3, 1)), np.zeros(90), g=groups)
        found = one(evidence, "mean_error_difference", g="a")
        wrong += not found.low <= 0 <= found.high
    # 20 expected; 36 is beyond what 400 draws at 5 % give once in a thousand times
    assert 4 <= wrong <= 36


def test_the_unknown_and_the_small_are_shown_and_not_compared():
    groups = ["a"] * 20 + ["b"] * 15 + ["c"] + ["unknown"] * 50
    evidence = run(np.arange(86), np.zeros(86), g=groups)
    assert one(evidence, "mean_error", g="unknown").n == 50
    differences = {m.group["g"]: m for m in evidence.measures if m.name == "mean_error_difference"}
    assert set(differences) == {"b", "c"}
    assert differences["b"].settings["reference"] == "a"
    assert differences["c"].value is None
    assert "1 rows are fewer than the floor of 10" in differences["c"].reason
    for name in ("mean_error", "mean_absolute_error", "root_mean_squared_error"):
        single = one(evidence, name, g="c")
        assert (single.value, single.low, single.high) == (35, None, None)
    assert any("50 of 86 rows have no known group" in text for text in evidence.caveats)


def test_a_single_group_has_nobody_to_be_compared_with():
    evidence = run(np.arange(20), np.zeros(20), g=["a"] * 20)
    assert "no second group" in one(evidence, "mean_error_difference", g="a").reason


def test_intersections_go_to_the_depth_and_every_row_is_counted_once():
    random = np.random.default_rng(5)
    values = {
        "g": random.choice(["a", "b"], 300).tolist(),
        "h": random.choice(["x", "unknown"], 300).tolist(),
    }
    evidence = run(random.normal(size=300), np.zeros(300), **values)
    assert [t.name for t in evidence.tables] == ["errors: g", "errors: h", "errors: g x h"]
    for table in evidence.tables:
        names = len(table.columns) - 10
        assert np.array([row[names:] for row in table.rows]).sum(axis=0).tolist() == pytest.approx(
            [30] * 10, abs=1
        )
    alone = run(random.normal(size=300), np.zeros(300), settings={"depth": 1}, **values)
    assert [t.name for t in alone.tables] == ["errors: g", "errors: h"]


def test_a_bin_holds_what_its_edges_say():
    errors = np.arange(100)
    evidence = run(errors, np.zeros(100), settings={"bins": 4}, g=["a", "b"] * 50)
    (table,) = evidence.tables
    assert list(table.columns) == [
        "g", "under 24.75", "24.75 to under 49.5", "49.5 to under 74.25", "74.25 and over"
    ]  # fmt: skip
    assert [list(row) for row in table.rows] == [["a", 13, 12, 13, 12], ["b", 12, 13, 12, 13]]
    (equal,) = run(np.ones(20), np.zeros(20), g=["a", "b"] * 10).tables
    assert list(equal.columns) == ["g", "under 1", "1 and over"]


def test_large_values_keep_their_spread():
    """A sum of plain squares would lose a spread of 1 around 1e9."""
    evidence = run([0, 0, 0], [1e9 - 1, 1e9, 1e9 + 1], g=["a"] * 3)
    assert one(evidence, "mean_error", g="a").statistics["sd"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"settings": {"depth": 0}}, ConfigError, "'depth' = 0 is wrong"),
        ({"settings": {"bins": 1}}, ConfigError, "'bins' = 1 is wrong"),
        ({"g": None}, NotApplicable, "no sensitive feature"),
        ({"targets": None}, NotApplicable, "no true values"),
        ({"predicted": [1.0, np.nan]}, NotEvaluable, "1 of 2 rows are not finite"),
        ({"columns": 2}, NotEvaluable, r"2 rows with \[2, 2\]"),
    ],
)
def test_what_cannot_be_measured_says_why(changed, error, words):
    asked = {"predicted": [1, 2], "targets": [1, 2], "g": ["a", "b"], **changed}
    with pytest.raises(error, match=words):
        run(**{key: value for key, value in asked.items() if key != "g" or value})


CONFIG = """
[model]
path = "model.safetensors"
factory = "torch.nn:Linear"
arguments = { in_features = 2, out_features = 1 }
task = "regression"

[data]
path = "data.csv"
target = "price"
inputs = ["a", "b"]
sensitive = ["sex"]

[checks]
run = ["*"]

[policy.limits."fairness.regression"]
mean_error_difference = { at_least = -2, at_most = 2, group = "each" }
"""


def audited(folder, shift, broken=""):
    """The record of a run over a linear model whose true prices are `shift` higher for women."""
    random = np.random.default_rng(7)
    network = nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[2.0, -1.0]]))
        network.bias.fill_(3.0)
    save_file(network.state_dict(), folder / "model.safetensors")
    lines = ["a,b,sex,price"]
    for a, b in random.normal(size=(300, 2)).tolist():
        sex = random.choice(["F", "M"], p=[0.4, 0.6])
        price = 2 * a - b + 3 + random.normal(0, 1) + shift * (sex == "F")
        lines.append(f"{a},{b},{sex},{price}")
    (folder / "data.csv").write_text("\n".join([*lines, *([f"1,2,F,{broken}"] if broken else [])]) + "\n")
    (folder / "audit.toml").write_text(CONFIG)
    command = [Path(sys.executable).with_name("model-audit"), "run", "audit.toml", "--out", "out"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("shift", "code", "verdict"), [(0, 0, Verdict.PASS), (5, 1, Verdict.FAIL)])
def test_the_command_line_measures_a_regression_and_what_needs_no_classes(shift, code, verdict, tmp_path):
    done = audited(tmp_path, shift)
    assert done.returncode == code, done.stdout + done.stderr
    record = read_record(tmp_path / "out")
    found = {finding.check: finding for finding in record.findings}
    (judged,) = found.pop("fairness.regression").verdicts
    assert judged.verdict is verdict
    assert judged.value == pytest.approx(-shift, abs=0.4)
    assert len(found) > 10
    measured = {name for name, finding in found.items() if finding.status == "measured"}
    assert measured == {"fairness.proxies", "fairness.representation", "performance.error"}
    assert {f.status for f in found.values()} == {"measured", "not_applicable"}
    targets = record.data["targets"]
    assert targets["n"] == 300
    assert targets["min"] < targets["mean"] < targets["max"]
    assert record.data["classes"] == []
    text = (tmp_path / "out" / "reports" / "technical-report.html").read_text()
    assert "Mean error difference" in text
    assert "Errors of predicted values by group" in text


def test_a_target_that_is_no_number_is_one_sentence_on_the_command_line(tmp_path):
    done = audited(tmp_path, 0, broken="dear")
    assert done.returncode == 4
    assert "column 'price', row 301: target 'dear' is not a finite number" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("rows", [2, 12])
def test_equal_errors_are_no_certainty(rows):
    """Two rows, or twelve, that are off by the same would have an interval of no width."""
    random = np.random.default_rng(4)
    predicted = np.append(random.normal(size=100), np.full(rows, 0.25)).astype(np.float32)
    evidence = run(predicted, np.zeros(100 + rows), g=["a"] * 100 + ["b"] * rows)
    limits = [
        Limit(check="fairness.regression", measure=name, at_most=9, group="each")
        for name in ("mean_absolute_error", "mean_absolute_error_difference")
    ]
    judged = [j for j in judge_measures(evidence.measures, limits, 0.95) if j.group["g"] == "b"]
    assert [j.verdict for j in judged] == [Verdict.NOT_EVALUABLE] * 2
    assert judged[0].value == 0.25
    assert f"{rows} rows" in judged[0].reason
