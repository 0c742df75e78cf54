"""The command line as a user meets it: real processes, exit codes, one sentence for every mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import SCHEMA, Finding, Outcome, Planned, Record, write_record
from audit.stats import proportion

MAIN = "from audit.cli import main; main()"
COMMANDS = [
    "demo", "init", "run", "checks", "documents", "judge", "render", "attest", "keygen", "sign",
    "verify", "schema",
]  # fmt: skip


def call(*arguments, cwd, code=MAIN, **environment):
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def run_folder(tmp_path):
    """A run of which 95 of 100 were right, judged at least .8."""
    finding = Finding(
        check="performance.accuracy", version="1", title="Accuracy", status="measured", text="How often.",
        measures=(proportion("accuracy", 95, 100),),
    )  # fmt: skip
    policy = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.8),))
    record = Record(
        schema=SCHEMA, tool={"name": "model-audit", "version": "0"}, run={"id": "x", "seed": 0},
        environment={}, model={"path": "m.pt2"}, data={"path": "d.csv", "rows": 100}, policy=policy,
        plan=(Planned(check="performance.accuracy", asked="name"),), findings=(finding,),
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    write_record(judge(record), folder)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, tmp_path):
    done = call(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Example: model-audit {command}" in done.stdout.replace("`", "")


def test_help_lists_every_command(tmp_path):
    done = call("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["checks"], ["checks", "--json"], ["checks", "robustness.pgd"], ["documents"], ["schema"],
     ["judge", "run"], ["judge", "run", "--json"], ["render", "run"], ["attest", "run"]],
)  # fmt: skip
def test_commands_without_a_model_import_no_torch(arguments, run_folder):
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'LIGHT', file=sys.stderr))\n"
    )
    done = call(*arguments, cwd=run_folder.parent, code=code + MAIN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("LIGHT")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command"),
        (["run", "--no-such-option"], "No such option"),
        (["run", "absent.toml"], "absent.toml does not exist"),
        (["run", "--resume"], "--resume needs --out"),
        (["judge", "absent"], "does not exist"),
        (["judge", "run", "--policy", "absent.toml"], "absent.toml does not exist"),
        (["render", "run", "--document", "technical-reprot"], "technical-report"),
        (["render", "run", "--pack", "absent.toml"], "absent.toml does not exist"),
        (["documents", "--pack", "absent.toml"], "absent.toml does not exist"),
        (["attest", "run", "--document", "technical-reprot"], "the nearest is 'technical-report'"),
        (["attest", "absent"], "does not exist"),
        (
            ["render", "run", "--attestations", "absent.toml"],
            "absent.toml does not exist; `model-audit attest",
        ),
        (["checks", "robustness.pdg"], "the nearest is 'robustness.pgd'"),
        (["init", "absent.pt2", "absent.csv"], "absent"),
        (["render", "run", "--output", "/proc/none/x.html"], "/proc/none/x.html cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, run_folder):
    done = call(*arguments, cwd=run_folder.parent)
    assert done.returncode in (3, 4), done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("model-audit: ")


def test_a_value_that_fills_a_page_is_cut_out_of_the_middle_of_its_sentence(tmp_path):
    (tmp_path / "audit.toml").write_text(
        f"seed = '{'y' * 100_000}'\n[model]\npath = 'm'\n[data]\npath = 'd'\n"
    )
    done = call("run", "audit.toml", cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr) < 2_100
    assert done.stderr.startswith("model-audit: audit.toml: ")


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in call("run", "absent.toml", "--debug", cwd=tmp_path).stderr


CONFIG = '[model]\npath = "m.pt2"\n[data]\npath = "d.csv"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model", "is not valid TOML"),
        (CONFIG + "[modle]\n", "'modle' is not a known key; the nearest is 'model'"),
        (CONFIG.replace("path", "paht", 1), "'model.p"),
        ('[model]\npath = "m"\n', "'data' is missing"),
        (CONFIG + '[policy.limits."a.b"]\nx = { at_leest = 1 }\n', "at_leest"),
        (CONFIG + '[policy.limits."a.b"]\nx = {}\n', "a limit needs at_least or at_most"),
        (CONFIG + '[policy]\non_inconclusive = "ignore"\n', "'fail', 'warn' or 'pass'"),
        (CONFIG + '[checks]\nrun = ["robustnes.*"]\n', "matches no installed check"),
        (CONFIG + "[system]\nx = nan\n", "'system.x' = nan is wrong"),
        (CONFIG + "[system]\nx = [1, inf]\n", "'system.x.1' = inf is wrong"),
        (CONFIG + "[system]\nx = 9007199254740993\n", "'system.x' = 9007199254740993 is wrong"),
        (
            CONFIG + '[policy.limits."robustness.pdg"]\nx = { at_least = 1 }\n',
            "the nearest is 'robustness.pgd'",
        ),
        (CONFIG + '[checks.settings."robustness.pgd"]\nstep = 3\n', "'step' = 3 is wrong"),
    ],
)
def test_a_wrong_configuration_is_one_sentence_and_code_3(text, words, tmp_path):
    (tmp_path / "audit.toml").write_text(text)
    done = call("run", cwd=tmp_path)
    assert done.returncode == 3
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("asked", "code"), [(0.8, 0), (0.99, 1), (0.94, 2)])
def test_judge_under_another_policy_gives_its_exit_code(asked, code, run_folder):
    policy = run_folder.parent / "other.toml"
    policy.write_text(f'[policy.limits."performance.accuracy"]\naccuracy = {{ at_least = {asked} }}\n')
    done = call("judge", "run", "--policy", policy, cwd=run_folder.parent)
    assert done.returncode == code
    as_json = call("judge", "run", "--policy", policy, "--json", cwd=run_folder.parent)
    assert as_json.returncode == code
    assert json.loads(as_json.stdout)["exit_code"] == code


def test_judge_writes_the_judged_record_where_asked(run_folder):
    policy = run_folder.parent / "other.toml"
    policy.write_text('[policy.limits."performance.accuracy"]\naccuracy = { at_least = 0.99 }\n')
    before = (run_folder / "record.json").read_bytes()
    call("judge", "run", "--policy", policy, "--output", "judged/record.json", cwd=run_folder.parent)
    assert (run_folder / "record.json").read_bytes() == before
    assert call("judge", "judged", cwd=run_folder.parent).returncode == 1


def test_a_policy_file_without_a_policy_is_told(run_folder):
    (run_folder.parent / "empty.toml").write_text("x = 1\n")
    done = call("judge", "run", "--policy", "empty.toml", cwd=run_folder.parent)
    assert done.returncode == 3
    assert "has no [policy] section" in done.stderr


def test_render_writes_the_page_and_says_where(run_folder):
    done = call("render", "run", cwd=run_folder.parent)
    assert done.returncode == 0
    path = run_folder / "reports/technical-report.html"
    assert done.stdout.strip().endswith("run/reports/technical-report.html")
    assert "PASS" in path.read_text()


def test_a_document_is_written_in_every_form_that_is_asked_for(run_folder):
    done = call("render", "run", "--document", "model-card", "--format", "md", "--format", "html",
                cwd=run_folder.parent)  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = ["model-card.md", "model-card.html"]
    assert [Path(line).name for line in done.stdout.split()] == names
    text = (run_folder / "reports/model-card.md").read_text(encoding="utf-8")
    assert text.startswith("---\ntags:")
    assert "**PASS.**" in text
    one = call("render", "run", "--format", "md", "--output", "x/comment.md", cwd=run_folder.parent)
    assert one.stdout.strip() == "x/comment.md"
    assert (run_folder.parent / "x/comment.md").read_text(encoding="utf-8").startswith("# Technical report")


@pytest.mark.parametrize("command", [["render", "run"], ["run", "absent.toml"]])
def test_a_pdf_that_nothing_can_print_is_refused_in_one_sentence(command, run_folder):
    (run_folder.parent / "absent.toml").write_text(CONFIG)
    done = call(*command, "--format", "pdf", cwd=run_folder.parent, PATH=str(run_folder))
    assert done.returncode == 3
    assert "--format pdf needs Chromium" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (run_folder / "reports").exists()


def test_a_verdict_written_over_is_derived_again_and_told(run_folder):
    path = run_folder / "record.json"
    honest = path.read_text()
    path.write_text(honest.replace('"at_least":0.8', '"at_least":0.99'))
    call("render", "run", cwd=run_folder.parent)
    page = (run_folder / "reports/technical-report.html").read_text()
    assert "do not follow from its numbers" in page
    assert "FAIL" in page
    path.write_text(honest)
    call("render", "run", cwd=run_folder.parent)
    assert "do not follow" not in (run_folder / "reports/technical-report.html").read_text()


def test_the_schema_command_prints_what_validates_a_record(run_folder):
    schema = json.loads(call("schema", cwd=run_folder).stdout)
    jsonschema.validate(json.loads((run_folder / "record.json").read_text()), schema)


def test_checks_as_json_carry_settings_and_text(tmp_path):
    facts = json.loads(call("checks", "--json", cwd=tmp_path).stdout)
    pgd = next(fact for fact in facts if fact["name"] == "robustness.pgd")
    assert "epsilon" in pgd["settings"]
    assert pgd["text"]


def test_plain_lines_where_nobody_watches(run_folder):
    done = call("judge", "run", cwd=run_folder.parent, COLUMNS="40")
    assert "\x1b" not in done.stdout
    line = next(line for line in done.stdout.splitlines() if "accuracy at least 0.8" in line)
    assert "performance.accuracy" in line
    assert "PASS" in line


@pytest.mark.parametrize("word", ["schema", "--help"])
def test_a_reader_that_has_seen_enough_is_no_fault(word, tmp_path):
    command = f"set -o pipefail; {sys.executable} -P -c '{MAIN}' {word} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["judge run", "compare run run", "verify run"])
def test_a_gate_whose_reader_went_away_does_not_say_yes(command, run_folder):
    """`model-audit judge run | head` under `pipefail`: no answer reached anybody."""
    words = [sys.executable, "-P", "-c", MAIN, *command.split()]
    with subprocess.Popen(
        words, cwd=run_folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (2, b"")


def test_a_users_own_audit_folder_does_not_get_in_the_way(tmp_path):
    for name in ("audit", "reports", "templates"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('theirs')\n")
    script = os.path.join(os.path.dirname(sys.executable), "model-audit")  # noqa: PTH118, PTH120
    done = subprocess.run([script, "documents"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "technical-report" in done.stdout


PACK = Path(__file__).parent / "golden" / "test-pack.toml"


def test_documents_lists_what_each_is_of_and_when_it_is_due(tmp_path):
    done = call("documents", "--pack", PACK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split("  ")[0] == "document"
    line = next(line for line in done.stdout.splitlines() if line.startswith("test-pack"))
    assert all(
        said in line for said in ("Rules for reading", "An invented country", "deferred", "2027-05-01")
    )
    facts = json.loads(call("documents", "--pack", PACK, "--json", cwd=tmp_path).stdout)
    assert {fact["name"]: fact["clauses"] for fact in facts}["test-pack"] == 9


def test_statements_go_from_the_template_to_the_page(run_folder):
    here = run_folder.parent
    done = call("attest", "run", "--document", "test-pack", "--pack", PACK, cwd=here)
    path = run_folder / "attestations.toml"
    assert done.stdout.strip() == f"wrote {Path('run') / 'attestations.toml'}: 4 open"
    again = call("attest", "run", "--pack", PACK, cwd=here)
    assert again.returncode == 3
    assert "--force overwrites this one" in again.stderr
    empty = 'text = ""\nname = ""\nrole = ""\ndate = ""'
    filled = 'text = "To sort."\nname = "Jane"\nrole = "Head"\ndate = 2026-11-20'
    path.write_text(path.read_text(encoding="utf-8").replace(empty, filled, 1), encoding="utf-8")
    page = run_folder / "reports" / "test-pack.html"
    assert call("render", "run", "--pack", PACK, cwd=here).stdout.strip().endswith("reports/test-pack.html")
    assert "Stated by Jane, Head, 20 November 2026" in page.read_text(encoding="utf-8")
    left = call("attest", "run", "--document", "test-pack", "--pack", PACK, "--out", "left.toml", cwd=here)
    assert left.stdout.strip() == "wrote left.toml: 3 open"
    fresh = call("attest", "run", "--document", "test-pack", "--pack", PACK, "--force", cwd=here)
    assert fresh.stdout.strip().endswith("4 open")
    assert "Jane" not in path.read_text(encoding="utf-8")


def test_statements_lie_beside_the_run_or_are_named(run_folder):
    here = run_folder.parent
    said = '[[attestations]]\ndocument = "test-pack"\nclause = "1(a)"\n'
    said += 'text = "x"\nname = "Jane"\nrole = "Head"\n'
    (here / "attestations.toml").write_text(said + "date = 2026-11-20\n")
    (here / "other.toml").write_text((said + "date = 2026-11-20\n").replace("Jane", "Ola"))
    page = run_folder / "reports" / "test-pack.html"
    call("render", "run", "--pack", PACK, cwd=here)
    assert "Stated by Jane" in page.read_text(encoding="utf-8")
    call("render", "run", "--pack", PACK, "--attestations", "other.toml", cwd=here)
    assert "Stated by Ola" in page.read_text(encoding="utf-8")
    call("render", "run", "--document", PACK, cwd=here)
    assert "Stated by Jane" in page.read_text(encoding="utf-8"), "a document by its path is a pack too"
    (here / "attestations.toml").write_text(said)
    broken = call("render", "run", "--pack", PACK, cwd=here)
    assert broken.returncode == 3
    assert "'date' is missing" in broken.stderr
    assert call("render", "run", cwd=here).returncode == 0, "the technical report has no use for statements"


def test_nothing_open_writes_nothing(run_folder):
    done = call("attest", "run", "--document", "technical-report", cwd=run_folder.parent)
    assert (done.returncode, done.stdout.strip()) == (0, "no statement is open")
    assert not (run_folder / "attestations.toml").exists()


def test_a_pack_that_names_a_check_that_there_is_not_is_refused_with_the_nearest(run_folder):
    text = PACK.read_text(encoding="utf-8").replace("robustness.fgsm", "robustness.fgms")
    (run_folder.parent / "test-pack.toml").write_text(text, encoding="utf-8")
    done = call("render", "run", "--pack", "test-pack.toml", cwd=run_folder.parent)
    assert done.returncode == 3
    assert "clause '2(c)': evidence: 'robustness.fgms' is not an installed check" in done.stderr
    assert "the nearest is 'robustness.fgsm'" in done.stderr


def test_several_documents_are_written_and_one_wrong_name_stops_all(run_folder):
    here, reports = run_folder.parent, run_folder / "reports"
    two = ("--document", "iso-42001", "--document", "four-fifths-rule")
    wrong = call("render", "run", *two, "--document", "iso-42002", cwd=here)
    assert wrong.returncode == 3
    assert "the nearest is 'iso-42001'" in wrong.stderr
    assert not (reports / "iso-42001.html").exists()
    done = call("render", "run", *two, cwd=here)
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.split()] == ["iso-42001.html", "four-fifths-rule.html"]
    assert (reports / "iso-42001.html").exists()
    one_file = call("render", "run", *two, "--output", "x.html", cwd=here)
    assert one_file.returncode == 3
    assert "iso-42001, four-fifths-rule are several" in one_file.stderr


def test_the_index_of_a_run_lists_what_was_rendered(run_folder):
    here = run_folder.parent
    for arguments in ([], ["--pack", PACK]):
        assert call("render", "run", *arguments, cwd=here).returncode == 0
    index = (run_folder / "reports" / "index.html").read_text(encoding="utf-8")
    assert 'href="technical-report.html">Technical report<' in index
    assert 'href="test-pack.html">Rules for reading skin marks<' in index
    before = index
    call("render", "run", "--output", "elsewhere/x.html", cwd=here)
    assert not (here / "elsewhere" / "index.html").exists()
    assert (run_folder / "reports" / "index.html").read_text(encoding="utf-8") == before


def test_a_format_that_is_unknown_is_refused_with_all_that_are_known(run_folder):
    done = call("render", "run", "--format", "docx", cwd=run_folder.parent)
    assert done.returncode == 3
    assert all(name in done.stderr for name in ("'docx'", "html", "md", "pdf", "junit", "sarif"))
