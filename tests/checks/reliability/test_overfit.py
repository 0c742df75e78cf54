"""Training against test rows: a model that learnt by heart, one that did not, files read like the data."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from audit.checks.reliability.overfit import overfit
from audit.config import read_config
from audit.dataset import Dataset
from audit.errors import ConfigError, LoadError, NotApplicable
from audit.measure import measure as run_check
from audit.measure import no_reread, set_up
from audit.model import Model
from audit.products.predictions import predictions
from audit.record import plain
from audit.stats import METHODS
from audit.worker import read_more


class Remembers(nn.Module):
    """Knows the labels of the rows it has seen by heart and guesses on all others by a weak rule."""

    def __init__(self, seen, by_heart):
        super().__init__()
        self.known = {row.tobytes(): label for row, label in zip(seen.inputs, seen.labels, strict=True)}
        self.by_heart = by_heart

    def forward(self, rows):
        out = torch.stack([-rows[:, 0], rows[:, 0]], dim=1)
        for k, row in enumerate(rows.numpy()):
            label = self.known.get(row.tobytes())
            if label is not None:
                out[k, label] += self.by_heart
        return out


def population(rows, seed):
    random = np.random.default_rng(seed)
    inputs = random.normal(0, 1, (rows, 2)).astype(np.float32)
    labels = (random.random(rows) < 1 / (1 + np.exp(-2 * inputs[:, 0]))).astype(np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"))


def run(by_heart, train=None, test=None, **settings):
    train, test = train or population(800, 1), test or population(700, 2)
    model = Model(module=Remembers(train, by_heart).eval(), device=torch.device("cpu"), classes=("no", "yes"))
    given = overfit.settings({"train": "train.csv", **settings})
    read = lambda path, where: train  # noqa: E731 - the rows that a file would give
    return overfit.measure(model, test, predictions(model, test), 1, read, **given)


def only(evidence, name):
    (found,) = [m for m in evidence.measures if m.name == name]
    return found


def test_rows_known_by_heart_are_found():
    evidence = run(3.0)
    assert only(evidence, "accuracy_difference").low > 0.05
    assert only(evidence, "log_loss_difference").low > 0.2
    assert only(evidence, "membership_auc").low > 0.7
    assert "better on its training rows" in evidence.figures[0].title


def test_a_model_that_remembers_nothing_is_not_flagged():
    evidence = run(0.0)
    assert only(evidence, "accuracy_difference").low < 0 < only(evidence, "accuracy_difference").high
    assert only(evidence, "log_loss_difference").low < 0 < only(evidence, "log_loss_difference").high
    assert only(evidence, "membership_auc").low < 0.5 < only(evidence, "membership_auc").high
    assert only(evidence, "shared_rows").value == 0
    assert "No advantage" in evidence.figures[0].title


def test_numbers_are_those_of_scikit_learn():
    train, test = population(300, 5), population(200, 6)
    evidence = run(1.0, train, test)
    losses = []
    for part, name in ((train, "train"), (test, "test")):
        odds = 2 * part.inputs[:, 0].astype(float)
        odds += (2 * part.labels - 1) * (part is train)
        shares = 1 / (1 + np.exp(-odds))
        right = (shares > 0.5) == part.labels
        found = only(evidence, f"{name}_accuracy")
        assert (found.statistics["x"], found.n) == (int(right.sum()), len(part))
        assert only(evidence, f"{name}_log_loss").value == pytest.approx(
            log_loss(part.labels, shares), abs=1e-6
        )
        losses.append(-np.log(np.where(part.labels == 1, shares, 1 - shares)))
    truth = np.repeat([1, 0], [300, 200])
    auc = roc_auc_score(truth, -np.concatenate(losses))
    assert only(evidence, "membership_auc").value == pytest.approx(auc, abs=1e-4)


def test_test_rows_among_the_training_rows_are_counted():
    train, test = population(300, 5), population(200, 6)
    leaked = np.concatenate([test.inputs[:180], train.inputs[:20]])
    labels = np.concatenate([test.labels[:180], train.labels[:20]])
    evidence = run(1.0, train, replace_rows(test, leaked, labels))
    assert only(evidence, "shared_rows").statistics["x"] == 20
    assert any("20 of 200 test rows stand among" in text for text in evidence.caveats)


def replace_rows(data, inputs, labels):
    return Dataset(**{**vars(data), "inputs": inputs, "labels": labels})


def test_every_number_can_be_derived_again():
    for item in run(1.0).measures:
        assert METHODS[item.method](plain(item.statistics), 0.95) == (item.value, item.low, item.high)


def test_a_sample_of_the_training_rows_is_told():
    evidence = run(0.0, rows=100)
    assert only(evidence, "train_accuracy").n == 100
    assert "100 of 800 training rows" in evidence.caveats[0]


def test_without_training_rows_it_does_not_apply():
    with pytest.raises(NotApplicable, match="no training rows are named"):
        overfit.measure(None, population(9, 0), None, 1, no_reread, **overfit.settings({}))
    with pytest.raises(NotApplicable, match="handed over in memory"):
        no_reread("train.csv", {})


def test_the_same_rows_or_other_columns_are_refused():
    data = population(50, 1)
    with pytest.raises(ConfigError, match="the very rows that are tested"):
        run(0.0, data, data)
    wide = replace_rows(data, np.zeros((50, 3), np.float32), data.labels)
    with pytest.raises(ConfigError, match=r"shape \[3\]"):
        run(0.0, wide, population(40, 2))


CONFIG = """
[model]
path = "model.pt2"
classes = ["no", "yes"]
[data]
path = "all.csv"
target = "answer"
inputs = ["a", "b"]
sensitive = ["sex"]
where = { split = "test" }
rows = 90
"""


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    table = pd.DataFrame({
        "a": random.normal(size=300), "b": random.normal(size=300),
        "answer": random.choice(["no", "yes"], 300), "sex": random.choice(["f", "m"], 300),
        "split": ["train"] * 200 + ["test"] * 100,
    })  # fmt: skip
    table.to_csv(tmp_path / "all.csv", index=False)
    table[:200].drop(columns=["sex", "split"]).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "audit.toml").write_text(CONFIG)
    return tmp_path


def bench_of(folder):
    from functools import partial

    from audit.read import load_data

    config = read_config(folder / "audit.toml")
    data = load_data(config.data, config.folder, classes=("no", "yes"))
    model = Model(module=nn.Identity(), device=torch.device("cpu"), classes=("no", "yes"))
    read = partial(read_more, config, model)
    return set_up(model, data, 0, {"predictions": predictions}, config.folder, read)


@pytest.mark.parametrize("settings", [{"train": "train.csv"}, {"where": {"split": "train"}}])
def test_training_rows_are_read_in_the_way_of_the_data(folder, settings):
    bench = bench_of(folder)
    assert len(bench.data) == 90
    finding = run_check(overfit, overfit.settings(settings), bench, None)
    assert finding.status == "measured", finding.reason
    by_name = {m.name: m for m in finding.measures}
    assert by_name["train_accuracy"].n == 200
    assert by_name["test_accuracy"].n == 90
    table = pd.read_csv(folder / "all.csv")[:200]
    right = (table["b"] > table["a"]).to_numpy() == (table["answer"] == "yes").to_numpy()
    assert by_name["train_accuracy"].statistics["x"] == right.sum()


def test_a_file_that_is_absent_is_said_in_one_sentence(folder):
    bench = bench_of(folder)
    with pytest.raises(LoadError, match=r"absent\.csv does not exist"):
        bench.reread("absent.csv", {})
    finding = run_check(overfit, overfit.settings({"train": "absent.csv"}), bench, None)
    assert finding.status == "broken"
    assert "absent.csv does not exist" in finding.reason
    finding = run_check(overfit, overfit.settings({}), replace(bench, reread=no_reread), None)
    assert finding.status == "not_applicable"


def test_adult_example_shows_no_overfitting(shared_data, tmp_path):
    import subprocess

    from audit.worker import load_both

    script = Path(__file__).resolve().parents[3] / "examples" / "adult" / "train.py"
    command = [sys.executable, script, shared_data / "adult" / "adult.csv", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    from functools import partial

    config = read_config(tmp_path / "audit.toml")
    model, data = load_both(config)
    bench = set_up(
        model, data, 0, {"predictions": predictions}, config.folder, partial(read_more, config, model)
    )
    settings = overfit.settings({"where": {"split": "train"}, "rows": 10_000})
    finding = run_check(overfit, settings, bench, None)
    assert finding.status == "measured", finding.reason
    found = {m.name: m for m in finding.measures}
    assert found["train_accuracy"].n == 10_000
    assert found["accuracy_difference"].high < 0.02
    assert 0.48 < found["membership_auc"].low < found["membership_auc"].high < 0.53
    table = pd.read_csv(shared_data / "adult" / "adult.csv", keep_default_na=False)
    columns = [*(feature.name for feature in data.features), "income"]
    seen = set(map(tuple, table[table["split"] == "train"][columns].to_numpy()))
    alike = sum(tuple(row) in seen for row in table[table["split"] == "test"][columns].to_numpy())
    assert found["shared_rows"].statistics["x"] == alike > 1000
