"""The Python door: the same verbs on objects that are already loaded."""

import numpy as np
import pytest
import torch
from torch import nn

import audit
from audit import Evidence, Limit, Policy, check, proportion
from audit.errors import ConfigError


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2)).eval()
    return audit.Model(module=network, device=torch.device("cpu"), classes=("a", "b"), input_shape=(2,))


@pytest.fixture
def data():
    inputs = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    return audit.Dataset(
        inputs=inputs, labels=(inputs[:, 0] > 0).astype(np.int64), modality="tabular", classes=("a", "b")
    )


@check("sample.size")
def size(data):
    """Size of the data."""
    return Evidence(measures=[proportion("all", len(data), len(data))])


@check("sample.harm")
def harm(model, data):
    """Changes the model."""
    with torch.no_grad():
        model.module[0].weight.zero_()
    return Evidence(measures=[])


def test_a_check_of_ones_own_runs_and_is_judged_without_being_installed(model, data):
    policy = Policy(limits=(Limit(check="sample.size", measure="all", at_least=0.5),))
    record = audit.audit(model, data, checks=[size, "performance.accuracy"], policy=policy)
    assert (record.verdict.verdict.value, record.verdict.exit_code) == ("PASS", 0)
    assert [f.status for f in record.findings] == ["measured", "measured"]


def test_without_a_policy_nothing_is_judged_and_that_is_no_yes(model, data):
    assert audit.audit(model, data, checks=[size]).verdict.exit_code == 2


def test_after_a_check_that_changed_the_model_nothing_more_is_measured(model, data):
    record = audit.audit(model, data, checks=[harm, size])
    assert [f.status for f in record.findings] == ["broken", "broken"]
    assert "sample.harm left the model changed" in record.findings[1].reason


def test_the_record_reaches_the_disk_and_the_notebook(model, data, tmp_path):
    record = audit.audit(model, data, checks=[size], folder=tmp_path / "run")
    assert audit.read_record(tmp_path / "run").verdict == record.verdict
    assert "Size of the data" in record._repr_html_()
    assert audit.render(record) == record._repr_html_()


def test_settings_and_limits_are_checked_before_anything_runs(model, data):
    with pytest.raises(ConfigError, match=r"'sure' = 1 is wrong"):
        audit.audit(model, data, checks=[size], settings={"sample.size": {"sure": 1}})
    policy = Policy(limits=(Limit(check="sample.sise", measure="all", at_least=0.5),))
    with pytest.raises(ConfigError, match=r"the nearest is 'sample\.size'"):
        audit.audit(model, data, checks=[size], policy=policy)


def test_a_saved_model_and_a_file_are_loaded_by_keyword(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Linear(2, 2)).eval()
    shapes = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(network, (torch.zeros(2, 2),), dynamic_shapes=shapes), "model.pt2")
    (tmp_path / "data.csv").write_text("a,b,label\n1,2,no\n3,4,yes\n5,6,yes\n")
    data = audit.load_data("data.csv", target="label")
    assert data.classes == ("no", "yes")
    model = audit.load_model("model.pt2", classes=data.classes)
    assert model.loader == "pt2"
    with pytest.raises(ConfigError, match="'devise'"):
        audit.load_model("model.pt2", devise="cpu")


def test_a_regression_is_audited_from_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Linear(1, 1)).eval()
    shapes = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(network, (torch.zeros(2, 1),), dynamic_shapes=shapes), "model.pt2")
    (tmp_path / "data.csv").write_text("a,sex,price\n1,F,2\n2,M,3\n3,F,5\n4,M,4\n")
    data = audit.load_data("data.csv", task="regression", target="price", inputs=["a"], sensitive=["sex"])
    model = audit.load_model("model.pt2", task="regression")
    record = audit.audit(model, data, checks=["fairness.regression", "fairness.groups"])
    assert [finding.status for finding in record.findings] == ["measured", "not_applicable"]
    assert record.model["task"] == "regression"
    assert record.data["targets"]["mean"] == 3.5


def test_every_public_name_is_there():
    for name in audit.__all__:
        assert getattr(audit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = audit.nothing


class Dice(nn.Module):
    def forward(self, rows):
        return torch.randn(len(rows), 2)


def test_a_model_that_answers_at_random_is_not_measured_through_the_python_door_either(data):
    model = audit.Model(module=Dice().eval(), device=torch.device("cpu"), classes=("a", "b"))
    policy = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.0),))
    record = audit.audit(model, data, checks=["performance.accuracy"], policy=policy)
    assert record.findings[0].status == "not_applicable"
    assert record.verdict.exit_code == 2


def test_probabilities_are_recognised_through_the_python_door(data):
    network = nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1)).eval()
    model = audit.Model(module=network, device=torch.device("cpu"), classes=("a", "b"))
    assert audit.audit(model, data, checks=[size]).model["output"] == "probabilities"


def test_a_profile_fills_what_was_not_set_and_says_what_it_left_out(model, data):
    given = {"robustness.pgd": {"steps": 3}}
    names = ["robustness.pgd", "robustness.ar[t]"]
    record = audit.audit(model, data, checks=names, settings=given, profile="quick")
    (finding,) = record.findings
    assert (finding.settings["steps"], finding.settings["rows"]) == (3, 250)
    assert [item.check for item in record.left_out] == ["robustness.art"]
    assert record.run["profile"] == "quick"
    assert audit.audit(model, data, checks=[size]).left_out == ()
