"""Formats come in through entry points, a stranger's too, and the command line writes what they give."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import records

from audit.errors import ConfigError
from audit.formats import installed
from audit.formats.installed import Format, read_formats, written
from audit.policy import Verdict
from audit.record import write_record

ROOT = Path(__file__).parents[2]
FILES = {
    "junit": "junit.xml",
    "sarif": "audit.sarif",
    "cyclonedx": "bom.cdx.json",
    "oscal": "assessment-results.oscal.json",
    "in-toto": "test-result.intoto.json",
    "badge": "badge.svg",
}
STRANGER = (
    "FILE = 'verdict.txt'\n"
    "def verdict(record): return record.verdict.verdict.encode()\n"
    "def text(record): return 'not bytes'\n"
    "number = 7\n"
)


@pytest.fixture
def site(tmp_path):
    """A folder of packages: this project's formats as pyproject.toml lists them, and a stranger's."""
    folder = tmp_path / "site"
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["audit.formats"]
    strangers = {
        "verdict": "stranger:verdict",
        "text": "stranger:text",
        "number": "stranger:number",
        "gone": "stranger.gone:gone",
        "outside": "outside:outside",
    }
    for name, points in (("built_in", listed), ("stranger", strangers)):
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        lines = [f"{key} = {value}" for key, value in points.items()]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[audit.formats]\n" + "\n".join(lines) + "\n")
    (folder / "stranger.py").write_text(STRANGER)
    (folder / "outside.py").write_text("FILE = '../outside'\ndef outside(record): return b''\n")
    return folder


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    write_record(records.every_verdict(), folder)
    return folder


def call(*arguments, cwd, site):
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: 'torch' in sys.modules and print('TORCH', file=sys.stderr))\n"
        "from audit.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def test_render_writes_every_format_below_reports_without_torch(run, site):
    asked = [word for name in FILES for word in ("--format", name)]
    done = call("render", "run", *asked, cwd=run.parent, site=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"run/reports/{name}" for name in FILES.values()]
    assert not (run / "reports" / "technical-report.html").exists()
    assert json.loads((run / "reports" / "audit.sarif").read_bytes())["version"] == "2.1.0"


def test_the_page_is_a_format_too(run, site):
    done = call("render", "run", "--format", "html", "--format", "junit", cwd=run.parent, site=site)
    assert done.stdout.split() == ["run/reports/technical-report.html", "run/reports/junit.xml"]


def test_render_writes_where_it_is_told(run, site):
    done = call("render", "run", "--format", "junit", "--output", "x/y.xml", cwd=run.parent, site=site)
    assert done.stdout.split() == ["x/y.xml"]
    assert (run.parent / "x" / "y.xml").read_bytes().startswith(b"<?xml")


def test_a_strangers_format_is_written(run, site):
    done = call("render", "run", "--format", "verdict", cwd=run.parent, site=site)
    assert done.returncode == 0, done.stderr
    assert (run / "reports" / "verdict.txt").read_text() == "FAIL"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "juint"], "'juint' is not an installed format; the nearest is 'junit'"),
        (["--format", "junit", "--format", "sarif", "--output", "x"], "--output = x is one file"),
        (["--format", "text"], "gives str where it must give bytes"),
        (["--format", "number"], "'number' (stranger:number) is not a function"),
        (["--format", "gone"], "(stranger.gone:gone) does not import: ModuleNotFoundError"),
        (["--format", "outside"], "names the file '../outside'; it must be a name without folders"),
        (["--format", "junit", "--output", "/proc/none/x"], "/proc/none/x cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, run, site):
    done = call("render", "run", *arguments, cwd=run.parent, site=site)
    assert done.returncode == 3
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_format_stops_a_run_before_anything_is_loaded(tmp_path, site):
    (tmp_path / "audit.toml").write_text(
        '[model]\npath = "absent.pt2"\n[data]\npath = "absent.csv"\n[checks]\nrun = ["fairness.*"]\n'
    )
    done = call("run", "--format", "juint", cwd=tmp_path, site=site)
    assert (done.returncode, "nearest is 'junit'" in done.stderr) == (3, True)
    assert not (tmp_path / "runs").exists()


def test_a_run_writes_formats_beside_its_report(tmp_path, site):
    """A table of decisions, so that no model has to be trained: 40 of 50 and 30 of 50 are hired."""
    rows = [
        f"{sex},{'yes' if i < hired else 'no'}" for sex, hired in (("F", 40), ("M", 30)) for i in range(50)
    ]
    (tmp_path / "people.csv").write_text("sex,hired\n" + "\n".join(rows) + "\n")
    (tmp_path / "audit.toml").write_text(
        '[model]\npredictions = "hired"\n[data]\npath = "people.csv"\n'
        'favourable = "yes"\nsensitive = ["sex"]\n'
        '[checks]\nrun = ["fairness.groups"]\n'
        '[policy.limits."fairness.groups"]\nselection_rate = { at_least = 0.5, group = "each" }\n'
    )
    asked = ("--format", "junit", "--format", "in-toto", "--format", "html")
    done = call("run", "--out", "out", "--json", *asked, cwd=tmp_path, site=site)
    told = json.loads(done.stdout)
    assert told["files"] == ["out/reports/junit.xml", "out/reports/test-result.intoto.json"]
    assert told["report"] == "out/reports/technical-report.html"
    # Holm over two: 30 of 50 spans .5, so the audit cannot say yes.
    assert (told["exit_code"], done.returncode) == (2, 2)
    statement = json.loads((tmp_path / told["files"][1]).read_bytes())
    assert statement["predicate"]["result"] == "FAILED"
    assert statement["predicate"]["passedTests"] == [
        "fairness.groups: selection_rate at least 0.5 for each group (sex = F)"
    ]
    assert [item["name"] for item in statement["subject"]] == ["record.json"]


def test_a_format_never_sees_a_verdict_that_was_written_over():
    record = records.every_verdict()
    forged = replace(record, verdict=replace(record.verdict, verdict=Verdict.PASS, exit_code=0))
    shown = Format("verdict", "x", lambda seen: str(seen.verdict.exit_code).encode())
    assert written(forged, shown) == b"1"


def test_a_module_that_names_no_file_gets_one(monkeypatch):
    point = EntryPoint("mine", "json:dumps", "audit.formats")
    monkeypatch.setattr(installed, "installed_functions", lambda group: {"mine": point})
    (form,) = read_formats(["mine", "mine"])
    assert (form.name, form.file, form.write) == ("mine", "report.mine", json.dumps)
    with pytest.raises(ConfigError, match="known are mine"):
        read_formats(["other thing"])
