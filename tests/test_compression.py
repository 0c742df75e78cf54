"""A compressed copy against its original, by the commands a user types.

A quantised network cannot be exported as .pt2 and its packed weights are no state dict, so it travels as
TorchScript. Dynamic quantisation takes the scale of the activations from the whole batch: a row's answer then
depends on the rows beside it, which the pre-flight rightly refuses. So the copy answers one row at a time.
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).parents[1]
CHECKS = '["performance.accuracy", "fairness.groups", "fairness.calibration"]'
LIMIT = """
[policy.limits."performance.accuracy"]
accuracy = [
  { at_least = 0.8, no_worse_than = "baseline", margin = 0.01 },
  { no_worse_than = "baseline", margin = 0.2, group = { race = "White" } },
]
"""


class RowByRow(nn.Module):
    """Answers each row on its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.inner(row.unsqueeze(0)) for row in rows.unbind(0)])


def original(path):
    """The trained MLP as a network of layers."""
    weights = torch.export.load(path).module().state_dict()
    inputs = weights["0.weight"].shape[1]
    network = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    network.load_state_dict(weights)
    return network.eval(), inputs


def save_quantised(path, out, *, alone=True):
    network, inputs = original(path)
    with warnings.catch_warnings():
        # Both are deprecated in favour of packages that are not among this project's dependencies.
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
        traced = torch.jit.trace(small, torch.zeros(1 if alone else 2, inputs))
        torch.jit.save(torch.jit.script(RowByRow(traced)) if alone else traced, out)


def save_pruned(path, out):
    """The copy with all but four of its 64 first units cut off."""
    network, inputs = original(path)
    smallest = network[0].weight.detach().norm(dim=1).argsort()[:60]
    network[0].weight.data[smallest] = 0.0
    network[0].bias.data[smallest] = 0.0
    rows = {0: torch.export.Dim("rows")}
    torch.export.save(torch.export.export(network, (torch.zeros(2, inputs),), dynamic_shapes=(rows,)), out)


def run(*arguments, cwd):
    program = Path(sys.executable).with_name("model-audit")
    done = subprocess.run(
        [program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def trained(data, folder, *, rows=None):
    """The example, trained by its own script on all rows or some, with the configuration of its model."""
    if rows is not None:
        table = pd.read_csv(data, keep_default_na=False)
        data = folder / "some.csv"
        table.groupby("split").head(rows).to_csv(data, index=False)
    train = [sys.executable, ROOT / "examples" / "adult" / "train.py", data, folder]
    subprocess.run(train, check=True, capture_output=True)
    return (folder / "audit.toml").read_text().split("[checks]")[0]


def test_a_quantised_copy_of_a_small_one_is_held_against_its_original_by_group(shared_data, tmp_path):
    """The whole way on a few rows, so that every test run takes it."""
    text = trained(shared_data / "adult" / "adult.csv", tmp_path, rows=1000)
    text += '[checks]\nrun = ["performance.accuracy"]\n'
    text += '[policy.limits."performance.accuracy"]\naccuracy = { at_least = 0.6 }\n'
    save_quantised(tmp_path / "model.pt2", tmp_path / "quantised.pt")
    (tmp_path / "base.toml").write_text(text)
    (tmp_path / "quantised.toml").write_text(text.replace("model.pt2", "quantised.pt"))
    assert run("run", "base.toml", "--out", "base", cwd=tmp_path).returncode == 0
    done = run("run", "quantised.toml", "--out", "quantised", "--baseline", "base", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = run("compare", "base", "quantised", "--json", cwd=tmp_path)
    told = json.loads(said.stdout)
    assert (said.returncode, told["paired"]) == (0, True), said.stdout
    changes = {
        str(item["measure"]["group"]): item
        for item in told["changes"]
        if item["measure"]["name"] == "accuracy"
    }
    assert {"{}", "{'sex': 'Female'}", "{'sex': 'Male'}", "{'race': 'Black'}"} <= changes.keys()
    assert changes["{}"]["measure"]["n"] == 1000
    assert changes["{}"]["measure"]["method"] == "paired_proportions"
    assert abs(changes["{}"]["new"] - changes["{}"]["base"]) < 0.03


@pytest.fixture(scope="module")
def adult(tmp_path_factory, shared_data):
    """The example, trained by its own script, audited; and two compressed copies of it."""
    folder = tmp_path_factory.mktemp("adult")
    text = trained(shared_data / "adult" / "adult.csv", folder) + f"[checks]\nrun = {CHECKS}\n{LIMIT}"
    save_quantised(folder / "model.pt2", folder / "quantised.pt")
    save_pruned(folder / "model.pt2", folder / "pruned.pt2")
    for name, file in (("base", "model.pt2"), ("quantised", "quantised.pt"), ("pruned", "pruned.pt2")):
        (folder / f"{name}.toml").write_text(text.replace("model.pt2", file))
    done = run("run", "base.toml", "--out", "base", cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no baseline was given; --baseline RUN names one" in done.stdout
    return folder


@pytest.mark.slow
def test_a_quantised_copy_is_held_against_its_original_by_group(adult):
    done = run("run", "quantised.toml", "--out", "quantised", "--baseline", "base", cwd=adult)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((adult / "quantised" / "record.json").read_text())
    assert record["baseline"]["paired"] is True
    said = run("compare", "base", "quantised", "--output", "c.html", "--output", "c.md", cwd=adult)
    assert said.returncode == 0, said.stdout
    assert run("compare", "base", "quantised", "--fail-on", "worse", cwd=adult).returncode in (0, 1)
    rows = [line for line in said.stdout.splitlines() if line.endswith("performance.accuracy")]
    for group in ("sex = Female", "sex = Male", "race = Amer-Indian-Eskimo", "race = Black", "everyone"):
        assert any(line.startswith(group) for line in rows), said.stdout
    for item in record["baseline"]["changes"]:
        if item["check"] == "performance.accuracy" and item["measure"]["name"] == "accuracy":
            assert abs(item["new"] - item["base"]) < 0.03
            assert item["measure"]["method"] == "paired_proportions"


@pytest.mark.slow
def test_a_copy_cut_too_deep_loses_and_the_groups_that_lose_are_named(adult):
    done = run("run", "pruned.toml", "--out", "pruned", "--baseline", "base", cwd=adult)
    assert done.returncode == 1, done.stdout + done.stderr
    said = run("compare", "base", "pruned", cwd=adult)
    assert said.returncode == 1
    assert said.stdout.splitlines()[1].startswith("Worse for ")
    assert run("judge", "pruned", cwd=adult).returncode == 1


@pytest.mark.slow
def test_a_quantised_copy_that_mixes_its_rows_is_not_tested_and_nothing_is_called_unchanged(adult):
    save_quantised(adult / "model.pt2", adult / "mixing.pt", alone=False)
    text = (adult / "base.toml").read_text().replace("model.pt2", "mixing.pt")
    (adult / "mixing.toml").write_text(text)
    assert run("run", "mixing.toml", "--out", "mixing", "--baseline", "base", cwd=adult).returncode == 2
    said = run("compare", "base", "mixing", cwd=adult)
    assert said.returncode == 2
    assert "Nothing could be compared." in said.stdout
    assert "depends on the other rows of its batch" in said.stdout
