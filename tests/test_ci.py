"""Continuous integration: the sample repository's five exit codes, one verdict in every format, and the shell
steps of the GitHub Action, the GitLab template and the pre-commit hooks, really executed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CODES = {"audit": 0, "biased": 1, "few-rows": 2, "typo": 3, "no-model": 4}
FORMATS = ("--format", "junit", "--format", "sarif", "--format", "md", "--json")


def environment(**more):
    """The environment of a pipeline: this installation first on the path."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more}


def shell(script, folder, **more):
    """A step as a runner executes it: bash, stopping at the first failure."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder, capture_output=True, text=True, check=False, env=environment(**more), timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def audited(sample_repository):
    """Every configuration of the sample repository, run once by the real command."""
    done = {}
    for name in CODES:
        words = [BIN / "model-audit", "run", f"{name}.toml", "--out", f"runs/{name}", *FORMATS]
        done[name] = subprocess.run(words, cwd=sample_repository, capture_output=True, text=True, check=False)
    return sample_repository, done


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_the_five_exit_codes(audited, name, code):
    done = audited[1][name]
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "verdict", "words"),
    [("audit", 0, "PASS", "**PASS.**"), ("biased", 1, "FAIL", "**FAIL.**"),
     ("few-rows", 2, "INCONCLUSIVE", "**INCONCLUSIVE.**")],
)  # fmt: skip
def test_the_same_verdict_in_every_format(audited, name, code, verdict, words):
    folder, done = audited
    told = json.loads(done[name].stdout)
    reports = folder / "runs" / name / "reports"
    assert (told["verdict"], told["exit_code"], done[name].returncode) == (verdict, code, code)
    assert words in (reports / "technical-report.md").read_text()
    run = json.loads((reports / "audit.sarif").read_bytes())["runs"][0]
    assert (run["properties"]["verdict"], run["invocations"][0]["exitCode"]) == (verdict, code)
    kinds = {result["kind"] for result in run["results"]}
    assert ("fail" in kinds, "open" in kinds) == (name == "biased", name == "few-rows")
    junit = ET.parse(reports / "junit.xml").getroot()  # noqa: S314 - our own file
    first = next(junit.iter("testcase"))
    assert [child.tag for child in first if child.tag in ("failure", "error")] == {
        0: [], 1: ["failure"], 2: ["error"]
    }[code]  # fmt: skip
    assert f">{verdict.replace('_', ' ')}<" in (reports / "technical-report.html").read_text().replace(
        "\n", ""
    )


# The GitHub Action


@pytest.fixture(scope="module")
def action():
    return yaml.safe_load((ROOT / "action.yml").read_text())


class Runner:
    """What a runner of composite actions does with their shell steps."""

    def __init__(self, action, folder, tmp_path, **inputs):
        self.action, self.folder = action, folder
        known = {name: item["default"] for name, item in action["inputs"].items()}
        assert inputs.keys() <= known.keys()
        self.inputs = {**known, **inputs}
        self.outputs, self.done = {}, {}
        self.files = {name: tmp_path / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        self.files["GITHUB_STEP_SUMMARY"].write_text("")

    def value(self, text):
        def one(found):
            inner = found[1].strip()
            if inner.startswith("inputs."):
                return self.inputs[inner.removeprefix("inputs.")]
            step, name = re.fullmatch(r"steps\.(\w+)\.outputs\.([\w-]+)", inner).groups()
            return self.outputs.get(step, {}).get(name, "")

        return re.sub(r"\$\{\{(.*?)\}\}", one, text)

    def run(self):
        for step in self.action["runs"]["steps"]:
            if "run" not in step or self.value(step.get("if", "")) == "inputs.package != ''":
                continue
            assert "${{" not in step["run"], "a value of a user inside a script could run as a script"
            env = {name: self.value(text) for name, text in step.get("env", {}).items()}
            self.files["GITHUB_OUTPUT"].write_text("")
            files = {name: str(path) for name, path in self.files.items()}
            files |= {"GITHUB_RUN_ID": "41", "GITHUB_RUN_ATTEMPT": "2"}
            self.done[step["name"]] = done = shell(step["run"], self.folder, **env, **files)
            lines = self.files["GITHUB_OUTPUT"].read_text().splitlines()
            self.outputs[step.get("id", step["name"])] = dict(line.split("=", 1) for line in lines)
            if done.returncode:
                return done.returncode
        return 0

    def output(self, name):
        return self.value(self.action["outputs"][name]["value"])


def test_the_action_gates_summarises_and_keeps_the_run(action, sample_repository, tmp_path):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    runner = Runner(action, folder, tmp_path, config="biased.toml", documents="model-card")
    assert runner.run() == 1
    assert runner.output("exit-code") == "1"
    reports = folder / runner.output("run") / "reports"
    kept = {"junit.xml", "audit.sarif", "technical-report.md", "technical-report.html", "model-card.html"}
    assert kept <= {path.name for path in reports.iterdir()}
    assert "**FAIL.**" in runner.files["GITHUB_STEP_SUMMARY"].read_text()

    again = Runner(action, folder, tmp_path, config="biased.toml")
    assert again.run() == 1
    assert "4 already measured" in again.done["Audit"].stdout  # the same model and data: nothing is measured
    assert again.outputs["key"] == runner.outputs["key"]

    with (folder / "applicants.csv").open("a") as file:
        file.write("0,0,0,0,north,yes\n")
    other = Runner(action, folder, tmp_path, config="biased.toml")
    assert other.run() == 1
    assert other.outputs["key"] != runner.outputs["key"]
    assert "0 already measured" in other.done["Audit"].stdout


SEVERAL = """
extends = "audit.toml"
[checks]
run = ["performance.accuracy"]
[policy]
limits = { "performance.accuracy" = { accuracy = { at_least = 0.8 } } }
[models.good]
[models.lost]
path = "lost.safetensors"
"""


def several(folder, name):
    """A file of two models, of which one is not there, with one limit."""
    text = (folder / "audit.toml").read_text()
    (folder / "one.toml").write_text(text.partition("[checks]")[0])
    (folder / name).write_text(SEVERAL.replace("audit.toml", "one.toml"))


def test_the_action_takes_several_models_a_second_time_and_names_with_blanks(
    action, sample_repository, tmp_path
):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "our loans"))
    name = 'it\'s "two" $(models).toml'
    several(folder, name)
    for measured in ("0 already measured", "1 already measured"):
        runner = Runner(action, folder, tmp_path, config=name)
        assert runner.run() == 4, runner.done["Audit"].stderr
        assert measured in runner.done["Audit"].stdout
        assert (folder / runner.output("run") / "good" / "reports" / "junit.xml").is_file()
        summary = runner.files["GITHUB_STEP_SUMMARY"].read_text()
        assert ("**PASS.**" in summary, "exit code 4" in summary) == (True, True)
        assert "sarif" not in runner.outputs["audit"]


def test_the_action_shows_no_verdict_of_a_kept_run_that_was_refused(action, sample_repository, tmp_path):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    runner = Runner(action, folder, tmp_path, config="typo.toml")
    runner.run()
    kept = folder / runner.output("run") / "reports"
    kept.mkdir(parents=True)
    (kept.parent / "record.json").write_text("{}")
    (kept / "technical-report.md").write_text("**PASS.**")
    (kept / "audit.sarif").write_text("{}")
    again = Runner(action, folder, tmp_path, config="typo.toml")
    assert again.run() == 3
    assert "PASS" not in again.files["GITHUB_STEP_SUMMARY"].read_text()
    assert "sarif" not in again.outputs["audit"]


def test_without_a_key_the_action_takes_nothing_up(action, sample_repository, tmp_path):
    runner = Runner(action, sample_repository, tmp_path, config="typo.toml")
    runner.run()
    assert runner.outputs["key"]["key"] == "none-41-2-quick"  # of this run of the workflow alone


@pytest.mark.parametrize(("config", "code"), [("typo.toml", 3), ("no-model.toml", 4)])
def test_the_action_says_so_when_there_is_no_record(action, sample_repository, tmp_path, config, code):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    runner = Runner(action, folder, tmp_path, config=config)
    assert runner.run() == code
    assert f"exit code {code}" in runner.files["GITHUB_STEP_SUMMARY"].read_text()


def test_the_action_works_beside_packages_of_the_same_names(action, sample_repository, tmp_path):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    for name in ("audit", "reports", "templates"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('this is not model-audit')\n")
    runner = Runner(action, folder, tmp_path)
    assert runner.run() == 0, runner.done["Audit"].stderr
    assert "**PASS.**" in runner.files["GITHUB_STEP_SUMMARY"].read_text()


def test_the_action_uploads_what_it_says(action):
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    assert steps["Upload SARIF"]["with"]["sarif_file"] == "${{ steps.audit.outputs.sarif }}"
    assert 'echo "sarif=$run/reports/audit.sarif"' in steps["Audit"]["run"]
    assert steps["Keep the run"]["with"]["path"] == "${{ steps.audit.outputs.run }}"
    assert "steps.key.outputs.key" in steps["Look for a run of the same model and data"]["with"]["key"]
    assert list(steps)[-1] == "Gate"  # the verdict stops the pipeline after everything is uploaded
    for step in steps.values():
        assert ("run" in step) == (step.get("shell") == "bash")
        assert re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", step.get("uses", "a/b@v1"))
    workflow = yaml.safe_load((ROOT / "examples/ci/.github/workflows/audit.yml").read_text())
    used = workflow["jobs"]["audit"]["steps"][-1]
    assert used["with"].keys() <= action["inputs"].keys()
    assert workflow["permissions"]["security-events"] == "write"


# The GitLab template


@pytest.fixture(scope="module")
def job():
    jobs = yaml.safe_load((ROOT / "examples/ci/model-audit.gitlab-ci.yml").read_text())
    return jobs[".model-audit"]


@pytest.mark.parametrize(("config", "code"), [("biased.toml", 1), ("no-model.toml", 4)])
def test_the_gitlab_job_ends_with_the_verdict(job, sample_repository, tmp_path, config, code):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    variables = {
        **job["variables"],
        "AUDIT_CONFIG": config,
        "AUDIT_PACKAGE": "",
        "AUDIT_DOCUMENTS": "model-card",
    }
    done = shell("\n".join([*job["before_script"], *job["script"]]), folder, **variables)
    assert done.returncode == code, done.stderr
    if code == 1:
        assert "**FAIL.**" in done.stdout
        assert any((folder / path).is_file() for path in job["artifacts"]["reports"]["junit"])
        assert (folder / "model-audit-run/reports/model-card.html").is_file()
        assert list((folder / job["cache"]["paths"][0]).iterdir())


def test_the_gitlab_job_keeps_the_runs_of_several_models(job, sample_repository, tmp_path):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    several(folder, "two.toml")
    variables = {**job["variables"], "AUDIT_CONFIG": "two.toml", "AUDIT_PACKAGE": ""}
    done = shell("\n".join([*job["before_script"], *job["script"]]), folder, **variables)
    assert done.returncode == 4, done.stderr
    assert "**PASS.**" in done.stdout
    kept = job["artifacts"]["reports"]["junit"]
    assert [str(path.relative_to(folder)) for pattern in kept for path in folder.glob(pattern)] == [
        "model-audit-run/good/reports/junit.xml"
    ]


def test_the_sample_uses_the_template_as_it_is(job):
    sample = yaml.safe_load((ROOT / "examples/ci/.gitlab-ci.yml").read_text())
    assert sample["include"] == [{"local": "model-audit.gitlab-ci.yml"}]
    assert sample["audit"]["extends"] == ".model-audit"
    assert sample["audit"]["variables"].keys() <= job["variables"].keys()


# The pre-commit hooks


def test_the_hooks_stop_a_commit_of_a_model_that_fails(sample_repository, tmp_path):
    folder = Path(shutil.copytree(sample_repository, tmp_path / "loans"))
    hooks = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    used = yaml.safe_load((ROOT / "examples/ci/.pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["id"] for hook in used} == hooks.keys()
    gate, config = hooks["model-audit"], hooks["model-audit-config"]
    assert gate["pass_filenames"] is config["pass_filenames"] is False
    assert re.search(gate["files"], "loans.safetensors")
    assert shell(f"{gate['entry']} biased.toml", folder).returncode == 1
    again = shell(f"{gate['entry']} biased.toml", folder)
    assert again.returncode == 1
    assert "4 already measured" in again.stdout
    assert shell(f"{config['entry']} {config['args'][0]}", folder).returncode == 0
    assert shell(f"{config['entry']} typo.toml", folder).returncode == 3
