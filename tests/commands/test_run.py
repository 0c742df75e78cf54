"""`model-audit run` on real models: profiles, budgets, what is left out, several models, what was set."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from audit import journal
from audit.commands.run import overall, run
from audit.errors import ConfigError
from audit.formats.junit import junit
from audit.formats.sarif import sarif
from audit.judge import judge
from audit.markdown import markdown
from audit.policy import Limit, Policy, Verdict
from audit.record import Record, canonical, read_record
from audit.render import render

pytestmark = pytest.mark.pipeline

FACTORY = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
"""
BASE = """
[model]
factory = "network:build"
classes = ["no", "yes"]
[data]
path = "data.csv"
target = "label"
inputs = ["a", "b"]
[checks]
run = ["performance.accuracy", "robustness.fgsm", "robustness.pgd"]
[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.6 }
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A network that is right by construction, one that is not, and a file that is no model."""
    (tmp_path / "network.py").write_text(FACTORY)
    rows = np.random.default_rng(0).normal(size=(200, 2)).round(4)
    lines = [f"{a},{b},{'yes' if a > b else 'no'}" for a, b in rows]
    (tmp_path / "data.csv").write_text("a,b,label\n" + "\n".join(lines) + "\n")
    for name, sign in (("right", 1.0), ("wrong", -1.0)):
        save_file(_comparing(sign).state_dict(), tmp_path / f"{name}.safetensors")
    (tmp_path / "rubbish.safetensors").write_bytes(b"rubbish")
    (tmp_path / "base.toml").write_text(BASE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _comparing(sign):
    """A network whose second logit less its first is `sign * (a - b)`."""
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[0] = torch.tensor([1.0, -1.0])
        network[0].weight[1] = torch.tensor([-1.0, 1.0])
        network[2].weight[1, 0] = sign
        network[2].weight[0, 1] = sign
    return network


def configured(folder: Path, model: str = 'path = "right.safetensors"', more: str = "") -> Path:
    path = folder / "audit.toml"
    path.write_text(f'extends = "base.toml"\n[model]\n{model}\n{more}')
    return path


def facts(record: Record) -> tuple[list[str], dict[str, str]]:
    return [item.check for item in record.plan], {item.check: item.reason for item in record.left_out}


def test_a_quick_run_shows_everywhere_what_was_set_and_what_was_left_out(project, capsys):
    path = configured(project)
    given = ['checks.settings."robustness.pgd".steps=3', "policy.on_inconclusive=warn"]
    code = run(path, out=Path("out"), profile="quick", settings=given, skip=["robustness.fgsm"], as_json=True)
    record = read_record(project / "out")
    assert code == record.verdict.exit_code == 0
    told = json.loads(capsys.readouterr().out)
    assert [item["check"] for item in told["left_out"]] == ["robustness.fgsm"]
    plan, out = facts(record)
    assert plan == ["performance.accuracy", "robustness.pgd"]
    assert out == {"robustness.fgsm": "the command line left it out: --skip robustness.fgsm"}
    settings = {item.check: item.settings for item in record.findings}
    assert (settings["robustness.pgd"]["steps"], settings["robustness.pgd"]["rows"]) == (3, 250)
    assert (record.run["profile"], record.run["overrides"]) == ("quick", given)
    assert (record.run["config_file"], record.policy.on_inconclusive) == ("../audit.toml", "warn")
    assert record.run["config"]["model"]["factory"] == "network:build", "the merged configuration is kept"
    _shown_as_not_tested(record, project / "out")
    _said_to_be_quick(record, project / "out")
    _policy_came_first(record, project / "out")


def _shown_as_not_tested(record, folder):
    page, text = render(record, artifacts=folder), markdown(record, "technical-report")
    for said in (page, text):
        assert "Left out of this run" in said
        assert "--skip" in said
    assert b"it was left out of this run: the command line left it out" in junit(record)
    (result,) = [
        r for r in json.loads(sarif(record))["runs"][0]["results"] if r["ruleId"] == "robustness.fgsm"
    ]
    assert (result["kind"], result["properties"]["blocks"]) == ("notApplicable", False)


def _said_to_be_quick(record, folder):
    """A PASS on fewer rows than a check takes by itself is told with them."""
    set_by_it = "The profile quick set rows = 250; by itself the check takes rows = 1000."
    assert set_by_it in record.findings[-1].caveats
    for said in (render(record, artifacts=folder), markdown(record, "technical-report")):
        assert "It ran under the profile quick" in said
        assert "by itself the check takes rows = 1000" in said


def _policy_came_first(record, folder):
    events = journal.read(folder)
    names = [event["event"] for event in events]
    assert names.index("begin") < names.index("start")
    start = next(event for event in events if event["event"] == "start")
    assert (record.run["policy_fixed"], record.run["first_measured"]) == (events[0]["time"], start["time"])
    assert events[0]["policy_sha256"] == record.run["policy_sha256"]
    assert datetime.fromisoformat(record.run["policy_fixed"]) <= datetime.fromisoformat(start["time"])
    page = render(record, artifacts=folder)
    assert "The limits were fixed at " in page
    assert "before the first measurement at " in page
    assert "judged under another policy" not in page
    lenient = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.1),))
    again = judge(record, lenient)
    page, text = render(again, artifacts=folder), markdown(again, "technical-report")
    for said in (page, text):
        assert "judged under another policy" in said
        assert "The limits were fixed at " not in said


def test_a_limit_on_a_skipped_check_is_no_yes(project, capsys):
    code = run(configured(project), out=Path("out"), skip=["performance.*"])
    record = read_record(project / "out")
    assert code == 2
    because = "the command line left it out: --skip performance.*"
    assert f"performance.accuracy was asked for and not measured: {because}." in record.verdict.reasons
    assert "--skip performance.*" in capsys.readouterr().out
    (case,) = [
        line for line in junit(record).decode().splitlines() if 'classname="performance.accuracy"' in line
    ]
    assert "measured at all" in case


def test_a_budget_says_beforehand_what_it_runs_and_keeps_to_it(project, capsys):
    path = configured(project)
    code = run(path, out=Path("wide"), budget="10m")
    first, said = read_record(project / "wide"), capsys.readouterr().out
    assert code == 0
    assert "3 checks should take" in said
    assert said.index("should take") < said.index(" s  performance.accuracy"), "before anything is measured"
    assert (first.run["budget_seconds"], first.left_out) == (600, ())
    assert 0 < first.run["planned_seconds"] < 600
    assert "costs.toml" in first.run["costs_from"]
    assert first.plan[0].check == "performance.accuracy", "the limit comes first"
    code = run(path, out=Path("narrow"), budget="0.01s", as_json=True)
    second = read_record(project / "narrow")
    assert code == 2
    assert str(project / "wide") in second.run["costs_from"]
    assert all("of the budget were left" in item.reason for item in second.left_out)
    assert {item.check for item in (*second.plan, *second.left_out)} == {item.check for item in first.plan}
    (reason,) = (item for item in second.verdict.reasons if item.startswith("performance.accuracy was asked"))
    assert "not measured: " in reason
    assert "of the budget were left" in reason
    with pytest.raises(ConfigError, match="the plan changed since it began"):
        run(path, out=Path("narrow"), budget="10m", resume=True)


def test_several_models_are_audited_each_and_one_that_cannot_be_loaded_stops_none(project, capsys):
    models = "".join(
        f'[models.{name}]\npath = "{file}.safetensors"\n'
        for name, file in (("gone", "rubbish"), ("good", "right"), ("bad", "wrong"))
    )
    path = configured(project, "", models)
    only = ["performance.accuracy"]
    code = run(path, out=Path("out"), only=only, as_json=True)
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["model"], first["exit_code"], second["model"], third["model"]) == ("gone", 4, "good", "bad")
    assert "rubbish.safetensors" in first["error"]
    assert (second["verdict"], third["verdict"], code) == ("PASS", "FAIL", 1)
    assert read_record(project / "out" / "good").run["model_name"] == "good"
    assert (project / "out" / "bad" / "reports" / "technical-report.html").exists()
    code = run(path, out=Path("two"), only=only, model=["good", "gone"])
    assert code == 4
    assert "1 of 2 models PASS; exit code 4" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--model goood: .* the nearest is 'good'"):
        run(path, out=Path("three"), model=["goood"])


def several(project, *pairs):
    """An audit.toml of several models, with a limit on the change of each."""
    text = "".join(f'[models.{name}]\npath = "{file}.safetensors"\n' for name, file in pairs)
    limit = (
        '[policy.limits."performance.accuracy"]\naccuracy = { no_worse_than = "baseline", margin = 0.1 }\n'
    )
    return configured(project, "", limit + text)


def test_each_of_several_models_is_held_against_its_own_run_of_the_baseline(project, capsys):
    only = ["performance.accuracy"]
    before = several(project, ("kept", "right"), ("worse", "right"), ("mended", "wrong"))
    run(before, out=Path("base"), only=only, as_json=True)
    capsys.readouterr()
    after = several(project, ("kept", "right"), ("worse", "wrong"), ("mended", "right"))
    code = run(after, out=Path("new"), only=only, baseline=Path("base"), as_json=True)
    told = {item["model"]: item for item in json.loads(capsys.readouterr().out)}
    assert code == 1
    assert {name: (item["verdict"], item["exit_code"]) for name, item in told.items()} == {
        "kept": ("PASS", 0), "worse": ("FAIL", 1), "mended": ("PASS", 0)
    }  # fmt: skip
    moved = {}
    for name in told:
        record, base = (read_record(project / folder / name) for folder in ("new", "base"))
        assert record.baseline.paired
        assert record.baseline.record_sha256 == hashlib.sha256(canonical(base)).hexdigest()
        assert record.baseline.model["sha256"] == base.model["sha256"]
        changes = [c for c in record.baseline.changes if c.measure.name == "accuracy"]
        moved[name] = changes[0].state
        page = project / "new" / name / "reports" / "technical-report.html"
        assert told[name]["report"] == str(page.relative_to(project))
        assert "baseline" in page.read_text()
    assert moved == {"kept": "unchanged", "worse": "new", "mended": "fixed"}


def test_a_model_that_has_no_run_in_the_baseline_is_told_before_anything_is_measured(project):
    run(several(project, ("kept", "right")), out=Path("base"), only=["performance.accuracy"])
    path = several(project, ("kept", "right"), ("added", "right"))
    with pytest.raises(ConfigError, match="base/added does not exist"):
        run(path, out=Path("new"), only=["performance.accuracy"], baseline=Path("base"))
    assert not (project / "new").exists()


def test_a_baseline_that_was_altered_is_told_before_anything_is_measured(project):
    path = several(project, ("sound", "right"), ("spoilt", "right"))
    run(path, out=Path("base"), only=["performance.accuracy"])
    (file,) = (project / "base" / "spoilt" / "artifacts").glob("outcomes-*.npz")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ConfigError, match=r"base/spoilt/artifacts/.*was altered after the audit"):
        run(path, out=Path("new"), only=["performance.accuracy"], baseline=Path("base"))
    assert not (project / "new").exists()


def test_a_change_of_the_base_file_forbids_a_resume(project):
    path = configured(project)
    run(path, out=Path("out"), only=["performance.accuracy"])
    assert run(path, out=Path("out"), only=["performance.accuracy"], resume=True) == 0
    base = project / "base.toml"
    base.write_text(base.read_text().replace("0.6", "0.5"))
    with pytest.raises(ConfigError, match="the configuration changed since it began"):
        run(path, out=Path("out"), only=["performance.accuracy"], resume=True)
    base.write_text(BASE)
    with pytest.raises(ConfigError, match="the plan changed since it began"):
        run(path, out=Path("out"), only=["performance.accuracy", "robustness.fgsm"], resume=True)


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([0, 2], 2), ([2, 4, 0], 4), ([4, 1, 2], 1), ([], 0)],
)
def test_the_exit_code_of_several(codes, code):
    assert overall(codes) == code


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"costs": Path("x")}, "--costs x is what --budget plans by"),
        ({"budget": "10"}, "--budget 10 is not a time"),
        ({"budget": "1m", "costs": Path("absent")}, "absent does not exist"),
        ({"profile": "slow"}, "--profile slow is not a profile"),
        ({"settings": ["data.rowz=1"]}, "'data.rowz' is not a known key"),
        ({"model": ["x"]}, "--model x"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_is_written(project, options, words):
    with pytest.raises(ConfigError) as caught:
        run(configured(project), out=Path("out"), **options)
    assert words in str(caught.value)
    assert not (project / "out").exists()


def test_the_command_line_takes_them_all_whatever_pythonpath_calls_audit(project):
    configured(project)
    (project / "audit").mkdir()
    (project / "audit" / "__init__.py").write_text("raise RuntimeError('this is not model-audit')\n")
    start = "from model_audit_command import main; main()"  # all that the console script holds
    command = [sys.executable, "-P", "-c", start, "run", "--out", "out", "--profile", "quick",
               "--only", "performance.*", "--only", "robustness.f*", "--skip", "robustness.fgsm",
               "--set", "data.rows=100", "--budget", "5m"]  # fmt: skip
    theirs = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_record(project / "out")
    assert record.data["rows"] == 100
    assert [finding.check for finding in record.findings] == ["performance.accuracy"]
    assert json.loads(canonical(record))["left_out"][0]["check"] == "robustness.fgsm"
    assert record.verdict.verdict is Verdict.PASS
    shutil.rmtree(project / "out")
