"""Real processes, really killed. Nothing that was measured is lost and nothing lost is called a pass."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from audit import journal, supervisor
from audit.config import Config
from audit.errors import ConfigError
from audit.plan import Options
from audit.record import LeftOut, Planned, read_record

PLUGIN = '''
import os, signal, time
from pathlib import Path
import torch
from audit import Evidence, check, proportion

HERE = Path(os.environ["SAMPLE_HERE"])

def note(name):
    with (HERE / "ran.txt").open("a") as file:
        file.write(name + "\\n")

def evidence(data):
    return Evidence(measures=(proportion("accuracy", len(data), len(data)),))

@check("sample.first")
def first(data):
    """First."""
    note("first")
    return evidence(data)

@check("sample.last")
def last(data, predictions):
    """Last."""
    note("last")
    return evidence(data)

@check("sample.waits")
def waits(data):
    """Waits until it is let go."""
    (HERE / "worker.pid").write_text(str(os.getpid()))
    note("waits")
    while not (HERE / "go").exists():
        time.sleep(0.02)
    return evidence(data)

@check("sample.kills")
def kills(data):
    """Dies of the signal named in the environment."""
    os.kill(os.getpid(), getattr(signal, os.environ["SAMPLE_SIGNAL"]))
    time.sleep(5)

@check("sample.leaves")
def leaves(data):
    """Ends the process without a word."""
    os._exit(7)

@check("sample.seventy_five")
def seventy_five(data):
    """Ends the process with a code that might mean something to somebody."""
    note("seventy_five")
    os._exit(75)

@check("sample.reads")
def reads(data):
    """Waits for an answer that nobody gives."""
    import sys
    sys.stdin.readline()
    return evidence(data)

@check("sample.forks")
def forks(data):
    """Leaves a child behind that holds every open file, and dies."""
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

@check("sample.changes")
def changes(model, data):
    """Changes a weight."""
    with torch.no_grad():
        next(model.module.parameters()).add_(1)
    return evidence(data)

@check("sample.prints")
def prints(data):
    """Prints where answers go."""
    print("{not an answer}", flush=True)
    os.write(1, b"nor is this\\n")
    return evidence(data)
'''
CHECKS = (
    "first", "waits", "kills", "leaves", "seventy_five", "reads", "forks", "changes", "prints", "last",
)  # fmt: skip
FACTORY = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
"""
CONFIG = """
[model]
path = "model.safetensors"
factory = "network:build"
classes = ["no", "yes"]
[data]
path = "data.csv"
target = "label"
inputs = ["a", "b"]
[checks]
run = [{run}]
[policy.limits."sample.first"]
accuracy = {{ at_least = 0.5 }}
"""


class Project:
    """A saved model, its data, an installed plugin, and the command line on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        save_file(network.state_dict(), folder / "model.safetensors")
        (folder / "network.py").write_text(FACTORY)
        rows = np.random.default_rng(0).normal(size=(60, 2)).round(4)
        lines = [f"{a},{b},{'yes' if a > b else 'no'}" for a, b in rows]
        (folder / "data.csv").write_text("a,b,label\n" + "\n".join(lines) + "\n")
        site = folder / "site"
        meta = site / "sample-1.0.dist-info"
        meta.mkdir(parents=True)
        (site / "sample_plugin.py").write_text(PLUGIN)
        (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        points = "\n".join(f"sample.{name} = sample_plugin:{name}" for name in CHECKS)
        (meta / "entry_points.txt").write_text(f"[audit.checks]\n{points}\n")
        self.environment = {
            **os.environ, "PYTHONPATH": str(site), "SAMPLE_HERE": str(folder), "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def plan(self, *names: str) -> None:
        run = ", ".join(f'"sample.{name}"' for name in names)
        (self.folder / "audit.toml").write_text(CONFIG.format(run=run))

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        code = "from audit.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, "run", "audit.toml", "--out", "run", *arguments],
            cwd=self.folder, env={**self.environment, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wait_for(self, name: str) -> Path:
        path = self.folder / name
        deadline = time.monotonic() + 60
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < deadline, f"{name} never appeared"
            time.sleep(0.02)
        return path

    def ran(self) -> list[str]:
        return (self.folder / "ran.txt").read_text().split()

    def statuses(self) -> dict[str, str]:
        record = read_record(self.folder / "run")
        return {finding.check.removeprefix("sample."): finding.status for finding in record.findings}

    def reason(self, name: str) -> str:
        record = read_record(self.folder / "run")
        return next(f.reason for f in record.findings if f.check == f"sample.{name}")


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_a_clean_run_leaves_a_record_a_journal_and_a_report(project):
    project.plan("first", "prints", "last")
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert project.statuses() == {"first": "measured", "prints": "measured", "last": "measured"}
    events = [event["event"] for event in journal.read(project.folder / "run")]
    assert events == ["begin", "ready", *["start", "finding"] * 3, "end"]
    assert (project.folder / "run/reports/technical-report.html").stat().st_size > 1000
    log = (project.folder / "run/worker.log").read_text()
    assert "{not an answer}" in log
    assert "nor is this" in log


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_worker_that_dies_costs_only_its_check(project, name):
    project.plan("first", "kills", "last")
    done = project.run(SAMPLE_SIGNAL=name)
    assert done.returncode == 2
    assert project.statuses() == {"first": "measured", "kills": "broken", "last": "measured"}
    assert name in project.reason("kills")
    assert project.ran() == ["first", "last"]
    assert "Traceback" not in done.stderr


def test_a_worker_that_just_ends_is_told_by_its_code(project):
    project.plan("first", "leaves", "last")
    assert project.run().returncode == 2
    assert "ended with exit code 7" in project.reason("leaves")
    assert project.statuses()["last"] == "measured"


def test_a_worker_killed_from_outside_is_replaced(project):
    project.plan("first", "waits", "last")
    process = project.start()
    os.kill(int(project.wait_for("worker.pid").read_text()), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == 2
    assert project.statuses() == {"first": "measured", "waits": "broken", "last": "measured"}
    assert "SIGKILL" in project.reason("waits")


def test_the_worker_waits_without_spinning_and_the_user_may_say_otherwise(project):
    project.plan("first", "waits")
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        project.environment.pop("OMP_WAIT_POLICY", None)
        (project.folder / "worker.pid").unlink(missing_ok=True)
        process = project.start("--out", given.get("OMP_WAIT_POLICY", "run"), **given)
        pid = project.wait_for("worker.pid").read_text()
        words = Path(f"/proc/{pid}/environ").read_text().split("\0")
        process.kill()
        process.communicate()
        assert f"OMP_WAIT_POLICY={expected}" in words


def test_a_check_that_changes_the_model_is_broken_and_the_next_one_sees_the_model_as_it_was(project):
    project.plan("changes", "first", "last")
    assert project.run().returncode == 2
    assert project.statuses() == {"changes": "broken", "first": "measured", "last": "measured"}
    assert "left the model or the data changed" in project.reason("changes")
    events = journal.read(project.folder / "run")
    states = {event["state"] for event in events if event["event"] == "ready"}
    assert len(states) == 1


def test_a_killed_supervisor_takes_its_worker_along_and_the_run_is_resumed(project):
    project.plan("first", "waits", "last")
    process = project.start()
    worker = int(project.wait_for("worker.pid").read_text())
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while alive(worker):
        assert time.monotonic() < deadline, "the worker outlived its supervisor"
        time.sleep(0.05)
    assert not (project.folder / "run/record.json").exists()
    (project.folder / "go").touch()
    done = project.run("--resume")
    assert done.returncode == 0, done.stderr
    assert set(project.statuses().values()) == {"measured"}
    assert project.ran() == ["first", "waits", "waits", "last"]
    assert read_record(project.folder / "run").run["resumed"] == 1


def test_an_interrupted_run_is_no_yes_under_any_policy(project):
    project.plan("first", "waits")
    path = project.folder / "audit.toml"
    path.write_text(path.read_text() + '[policy]\non_broken = "pass"\n')
    process = project.start()
    project.wait_for("worker.pid")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 2


@pytest.mark.parametrize("name", ["seventy_five", "forks"])
def test_a_check_that_ends_oddly_is_broken_once_and_the_run_goes_on(project, name):
    project.plan("first", name, "last")
    assert project.run().returncode == 2
    assert project.statuses() == {"first": "measured", name: "broken", "last": "measured"}
    assert project.ran().count("seventy_five") <= 1


def test_a_check_that_reads_its_input_reads_nothing_and_goes_on(project):
    project.plan("first", "reads", "last")
    assert project.run().returncode == 0


def test_a_finished_run_is_not_taken_for_an_audit_of_another_model(project):
    project.plan("first", "last")
    assert project.run().returncode == 0
    assert project.run("--resume").returncode == 0
    change_model(project.folder)
    done = project.run("--resume")
    assert done.returncode == 3
    assert "the model changed since it began" in done.stderr


def test_another_network_behind_the_same_weights_is_another_model(project):
    project.plan("first", "last")
    assert project.run().returncode == 0
    path = project.folder / "network.py"
    path.write_text(path.read_text().replace("nn.ReLU", "nn.Tanh"))
    assert project.run("--resume").returncode == 3


def test_two_runs_do_not_share_a_folder(project):
    project.plan("first", "waits")
    process = project.start()
    project.wait_for("worker.pid")
    other = project.run("--resume")
    (project.folder / "go").touch()
    process.communicate(timeout=60)
    assert other.returncode == 3
    assert "is in use by another run" in other.stderr
    assert process.returncode == 0


@pytest.mark.parametrize("content", ["", '{"event":"beg'])
def test_a_run_that_was_killed_in_its_first_line_begins_on_resume(project, content):
    """Or a cache that holds such a folder could never be used again."""
    project.plan("first")
    (project.folder / "run").mkdir()
    (project.folder / "run" / "journal.jsonl").write_text(content)
    assert project.run().returncode == 3
    done = project.run("--resume")
    assert done.returncode == 0, done.stderr
    assert read_record(project.folder / "run").run["resumed"] == 0


@pytest.mark.parametrize("content", [None, "[]\n", "not json\n"])
def test_a_resume_of_what_is_no_run_is_one_sentence(project, content):
    project.plan("first")
    if content is not None:
        (project.folder / "run").mkdir()
        (project.folder / "run" / "journal.jsonl").write_text(content)
    done = project.run("--resume")
    assert done.returncode == 3
    assert "a fault of this tool" not in done.stderr
    assert (project.folder / "run").exists() is (content is not None)


BESIDE_THE_FORM = [
    *(("begin", {"time": time}) for time in (None, 3, "noon")),
    *(("ready", {key: []}) for key in ("model", "data", "environment")),
    *(("start", {"time": {}}), ("finding", {"finding": {"check": 1}}), ("finding", {"finding": []})),
    *(("left_out", {}), ("budget", {"plan": ["unheard of"], "left_out": []}), ("budget", {"plan": 1})),
]


@pytest.mark.parametrize(("event", "wrong"), BESIDE_THE_FORM)
def test_a_line_of_the_journal_that_is_not_as_one_is_one_sentence(event, wrong, tmp_path):
    right = {
        "begin": {"time": "2026-01-01T00:00:00+00:00"},
        "ready": {"model": {}, "data": {}, "environment": {}, "state": ""},
    }
    events = [{"event": name, **right[name]} for name in right if name != event]
    events.append({"event": event, **right.get(event, {}), **wrong})
    state = supervisor._Run(None, tmp_path, tmp_path, print, {}, ())
    with pytest.raises(
        ConfigError, match=rf"journal\.jsonl is damaged in line {len(events)}; start a new run"
    ):
        supervisor._take_up(state, events)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_valid_run_that_can_be_resumed(project, number):
    project.plan("first", "waits", "last")
    process = project.start()
    project.wait_for("worker.pid")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "Traceback" not in err + out
    assert project.statuses() == {"first": "measured"}
    outcome = read_record(project.folder / "run").verdict
    assert "sample.last was asked for and not measured." in outcome.reasons
    assert (outcome.planned, outcome.measured) == (3, 1)
    (project.folder / "go").touch()
    assert project.run("--resume").returncode == 0
    assert set(project.statuses().values()) == {"measured"}
    assert project.ran().count("first") == 1


def change_model(folder):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    save_file(network.state_dict(), folder / "model.safetensors")


def change_data(folder):
    path = folder / "data.csv"
    path.write_text(path.read_text().replace("yes", "no", 1))


def change_configuration(folder):
    path = folder / "audit.toml"
    path.write_text(path.read_text().replace("0.5", "0.4"))


@pytest.mark.parametrize(
    ("change", "word"),
    [(change_model, "model"), (change_data, "data"), (change_configuration, "configuration")],
)
def test_a_resume_is_refused_when_something_changed(project, change, word):
    project.plan("first", "waits")
    process = project.start()
    project.wait_for("worker.pid")
    process.kill()
    process.communicate()
    change(project.folder)
    (project.folder / "go").touch()
    done = project.run("--resume")
    assert done.returncode == 3
    assert f"the {word} changed since it began" in done.stderr


def test_a_folder_that_holds_a_run_is_not_written_over(project):
    project.plan("first")
    assert project.run().returncode == 0
    again = project.run()
    assert again.returncode == 3
    assert "already holds a run" in again.stderr


def test_a_model_that_cannot_be_loaded_is_one_sentence_and_code_4(project):
    project.plan("first")
    (project.folder / "model.safetensors").write_bytes(b"rubbish")
    done = project.run()
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "model.safetensors" in done.stderr


def timeless(value):
    """A record without its times and what follows from them."""
    if isinstance(value, dict):
        drop = {
            "seconds", "overhead", "peak_bytes", "started", "finished", "policy_fixed", "first_measured",
        }  # fmt: skip
        return {key: timeless(item) for key, item in value.items() if key not in drop}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def test_the_same_seed_gives_the_same_record_but_for_times(project):
    (project.folder / "audit.toml").write_text(
        CONFIG.format(run='"sample.first", "performance.*", "robustness.*", "interpretability.*"')
    )
    records = []
    for name in ("one", "two"):
        project.run("--out", name)
        records.append(json.loads((project.folder / name / "record.json").read_text()))
    assert timeless(records[0]) == timeless(records[1])
    measured = [f["check"] for f in records[0]["findings"] if f["status"] == "measured"]
    assert {"robustness.pgd", "interpretability.shap", "interpretability.lime"} <= set(measured)


def under_way(folder: Path, told: list, **fields) -> supervisor._Run:
    """A run of two checks in progress, of which a limit speaks of the first."""
    config = Config.model_validate(
        {
            "model": {"path": "m.pt2"},
            "data": {"path": "d.csv"},
            "policy": {"limits": {"performance.accuracy": {"accuracy": {"at_least": 0.5}}}},
        }
    )
    names = {"performance.accuracy": "Right", "robustness.pgd": "Attacked"}
    plan = tuple(Planned(check=name, title=title, asked="pattern") for name, title in names.items())
    return supervisor._Run(
        config, folder / "audit.toml", folder, lambda *event: told.append(event), {}, plan, **fields
    )


def test_once_the_budget_is_spent_only_what_a_limit_speaks_of_is_measured(tmp_path):
    told = []
    spent = time.monotonic() - 100
    state = under_way(tmp_path, told, options=Options(budget=50), clock=spent)
    limited, free = state.plan
    assert not supervisor._overdue(state, limited)
    assert supervisor._measure_one(state, free, None), "nobody is asked to measure it"
    expected = LeftOut(check="robustness.pgd", title="Attacked", reason="the budget of 50 s was spent")
    assert (state.plan, state.left_out) == ((limited,), (expected,))
    assert told == [("left_out", {"left_out": expected})]
    (event,) = journal.read(tmp_path)
    assert (event["event"], event["check"], event["reason"]) == ("left_out", expected.check, expected.reason)
    again = under_way(tmp_path, [], options=Options(budget=50))
    supervisor._take_up(again, [event])
    assert (again.plan, again.left_out) == (state.plan, state.left_out)


def test_a_budget_with_time_left_leaves_nothing_out(tmp_path):
    for options in (Options(budget=1000), Options()):
        state = under_way(tmp_path, [], options=options, clock=time.monotonic() - 100)
        assert not any(supervisor._overdue(state, item) for item in state.plan)
    assert not (tmp_path / journal.NAME).exists()


FACTS = {
    "model": {"sha256": "aa", "task": "classification", "capabilities": ["logits", "gradients"]},
    "data": {"rows": 100, "modality": "tabular"},
    "row_seconds": [1e-6, 2e-6],
}


def test_the_plan_of_a_budget_is_on_disk_before_measuring_and_is_not_made_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A run folder beside this one that somebody damaged tells no costs and stops nothing.
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "record.json").write_text("[" * 100_000)
    folder = tmp_path / "run"
    folder.mkdir()
    told = []
    checks = supervisor.installed_checks()
    state = under_way(folder, told, options=Options(budget=1000), facts=FACTS)
    state.checks = checks
    supervisor._plan_budget(state)
    supervisor._plan_budget(state)
    (event,) = journal.read(folder)
    assert event["plan"] == ["performance.accuracy", "robustness.pgd"]
    assert event["seconds"] == 1000
    assert 0 < event["planned_seconds"] < 1000
    ((name, fields),) = told
    assert name == "budget"
    assert [item.check for item in fields["expected"]] == event["plan"]
    again = under_way(folder, [], options=Options(budget=1000), facts=FACTS)
    supervisor._take_up(again, [event])
    supervisor._plan_budget(again)
    assert len(journal.read(folder)) == 1
    assert again.plan == state.plan


def test_costs_that_are_no_run_are_refused_before_anything_is_written(tmp_path):
    config = under_way(tmp_path, []).config
    options = Options(budget=10, costs=tmp_path / "absent")
    with pytest.raises(ConfigError, match="absent does not exist"):
        supervisor.run(config, tmp_path / "audit.toml", tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_the_worker_measures_what_was_read_and_not_what_the_file_says_now(project):
    project.plan("first", "kills", "last")
    process = project.start(SAMPLE_SIGNAL="SIGKILL")
    project.wait_for("run/journal.jsonl")
    (project.folder / "audit.toml").write_text("[rubbish")
    process.communicate(timeout=120)
    assert process.returncode == 2
    assert project.statuses() == {"first": "measured", "kills": "broken", "last": "measured"}
    run = read_record(project.folder / "run").run
    assert run["config_file"] == "../audit.toml"
    assert run["policy_fixed"] <= run["first_measured"]
