"""The pytest plugin, in a repository of its own and in processes of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run_pytest(folder, *words, module=False):
    """`pytest` in a folder, as its console script or as `python -m pytest`."""
    command = [sys.executable, "-m", "pytest"] if module else [BIN / "pytest"]
    done = subprocess.run(
        [*command, "--rootdir", folder, *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def repository(sample_repository, tmp_path):
    return Path(shutil.copytree(sample_repository, tmp_path / "loans"))


def test_one_item_a_limit_and_one_for_the_whole(repository):
    code, out = run_pytest(repository, "--collect-only", "-q", "audit.toml")
    assert code == 0, out
    assert [line for line in out.splitlines() if line.startswith("audit.toml::")] == [
        "audit.toml::performance.accuracy: accuracy at least 0.8",
        "audit.toml::fairness.groups: selection_rate_ratio at least 0.8",
        "audit.toml::robustness.pgd: robust_accuracy at least 0.75 where epsilon = 0.05",
        "audit.toml::the audit says yes",
    ]


def test_limits_that_hold_pass_beside_tests_written_by_hand(repository):
    code, out = run_pytest(repository, "-q", "audit.toml", "test_loans.py")
    assert code == 0, out
    assert "7 passed" in out


def test_a_broken_limit_fails_with_its_finding_under_xdist_and_is_audited_once(repository):
    code, out = run_pytest(repository, "-q", "-n", "2", "--audit-out", "kept", "biased.toml")
    assert code == 1, out
    assert "2 failed, 2 passed" in out
    assert re.search(
        r"FAIL: selection_rate_ratio at least 0\.8 \(region = north\): selection_rate_ratio is 0\.\d+; "
        r"the whole interval \[0\.\d+, 0\.\d+\] breaks the limit of 0\.8", out
    )  # fmt: skip
    assert "Traceback" not in out
    journals = list((repository / "kept").rglob("journal.jsonl"))
    assert len(journals) == 1
    assert journals[0].read_text().count('"event":"begin"') == 1
    assert Path(re.search(r"report: (\S+)", out)[1]).is_file()


def test_what_k_leaves_out_is_not_measured(repository):
    code, out = run_pytest(
        repository, "-q", "-k", "accuracy and performance", "--audit-out", "kept", "biased.toml"
    )
    assert code == 0, out
    assert "1 passed, 3 deselected" in out
    (journal,) = (repository / "kept").rglob("journal.jsonl")
    assert '"check":"performance.accuracy"' in journal.read_text()
    assert '"check":"robustness.pgd","event":"start"' not in journal.read_text()


def test_what_cannot_be_said_fails_and_what_the_policy_lets_go_is_skipped(repository):
    code, out = run_pytest(repository, "-q", "few-rows.toml", "-k", "performance")
    assert code == 1, out
    assert "INCONCLUSIVE: accuracy at least 0.8: accuracy is" in out
    file = repository / "few-rows.toml"
    file.write_text(file.read_text() + '\n[policy]\non_inconclusive = "warn"\n')
    code, out = run_pytest(repository, "-q", "-rs", "few-rows.toml", "-k", "performance")
    assert code == 0, out
    assert "1 skipped, 3 deselected" in out
    assert "INCONCLUSIVE" in out


BOTH = """
[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.8, no_worse_than = "baseline", margin = 0.01 }
"""


def test_a_limit_on_a_number_and_its_change_is_two_tests_held_against_the_baseline(repository):
    file = repository / "both.toml"
    file.write_text('extends = "audit.toml"\n' + BOTH)
    command = [BIN / "model-audit", "run", "audit.toml", "--out", "old", "--only", "performance.accuracy"]
    subprocess.run(command, cwd=repository, check=False, capture_output=True)
    code, out = run_pytest(repository, "-q", "both.toml", "-k", "performance")
    assert (code, "1 failed, 1 passed, 3 deselected" in out) == (1, True), out
    assert "no baseline was given" in out
    code, out = run_pytest(repository, "-q", "both.toml", "-k", "performance", "--audit-baseline", "old")
    assert (code, "2 passed, 3 deselected" in out) == (0, True), out


def test_a_waived_limit_is_skipped_and_never_passes(repository):
    audit = [BIN / "model-audit"]
    subprocess.run([*audit, "run", "biased.toml", "--out", "r", "--only", "fairness.groups"], cwd=repository,
                   check=False, capture_output=True)  # fmt: skip
    listed = subprocess.run(
        [*audit, "waive", "r"], cwd=repository, check=True, capture_output=True, text=True
    )
    finding = re.search(r"^([0-9a-f]{16}) ", listed.stdout, re.MULTILINE)[1]
    words = ["--owner", "A. Lee", "--reason", "replaced in March", "--expires", "2999-03-01"]
    subprocess.run([*audit, "waive", "r", finding, *words], cwd=repository, check=True, capture_output=True)
    file = repository / "biased.toml"
    file.write_text(file.read_text() + '\n[policy]\nwaivers = "waivers.toml"\n')
    code, out = run_pytest(repository, "-q", "-rs", "biased.toml", "-k", "fairness")
    assert code == 0, out
    assert "1 skipped, 3 deselected" in out
    assert "waived by A. Lee until 2999-03-01: replaced in March" in out


def test_a_wrong_file_and_a_lost_model_are_one_sentence(repository):
    code, out = run_pytest(repository, "-q", "typo.toml")
    assert code == 2, out
    assert "'polcy' is not a known key; the nearest is 'policy'." in out
    assert "Traceback" not in out
    code, out = run_pytest(repository, "-q", "no-model.toml")
    assert code == 1, out
    assert "4 failed" in out
    assert "lost.safetensors does not exist" in out


def test_several_models_have_their_tests_each_and_a_lost_one_fails_alone(repository):
    text = (repository / "audit.toml").read_text().partition("[checks]")[0]
    text += '[checks]\nrun = ["performance.accuracy"]\n'
    text += '[policy.limits."performance.accuracy"]\naccuracy = { at_least = 0.8 }\n'
    (repository / "many.toml").write_text(f'{text}[models.good]\n[models.lost]\npath = "lost.safetensors"\n')
    code, out = run_pytest(repository, "-v", "many.toml")
    assert code == 1, out
    assert "2 failed, 2 passed" in out
    assert len(re.findall("^many.toml::good: .* PASSED", out, re.MULTILINE)) == 2
    assert len(re.findall("^many.toml::lost: .* FAILED", out, re.MULTILINE)) == 2
    assert len(re.findall("^model-audit: lost: .*lost.safetensors does not exist", out, re.MULTILINE)) == 2
    (repository / "pytest.ini").write_text("[pytest]\naudit_file = many.toml\naudit_model_name = good\n")
    code, out = run_pytest(repository, "-q", "test_loans.py", "-k", "gradients")
    assert code == 0, out


def test_without_a_cache_it_asks_for_a_folder_in_one_sentence(repository):
    code, out = run_pytest(repository, "-q", "-p", "no:cacheprovider", "audit.toml", "-k", "performance")
    assert code == 1, out
    assert "name one with --audit-out, or allow pytest's cache." in out
    assert "AttributeError" not in out


def test_the_cache_keeps_the_newest_sessions_alone(repository):
    cache = repository / ".pytest_cache" / "d" / "model-audit"
    for age in range(25):
        (cache / f"old-{age}" / "run").mkdir(parents=True)
        os.utime(cache / f"old-{age}", (1_000_000 - age, 1_000_000 - age))
    code, out = run_pytest(repository, "-q", "audit.toml", "-k", "performance")
    assert code == 0, out
    left = {path.name for path in cache.iterdir()}
    assert len(left) == 20
    assert {name for name in left if name.startswith("old-")} == {f"old-{age}" for age in range(19)}
    assert len(list(cache.rglob("record.json"))) == 1


def test_an_audit_whose_test_process_died_is_taken_up(repository):
    """A test process of xdist that is killed is replaced, and the new one finds the run under way."""
    begun = [BIN / "model-audit", "run", "biased.toml", "--out", "kept", "--only", "performance.accuracy"]
    subprocess.run(begun, cwd=repository, check=False, capture_output=True)
    (repository / "kept" / "record.json").unlink()
    (repository / "test_it.py").write_text(
        "from pathlib import Path\nfrom types import SimpleNamespace as O\nimport pytest_model_audit as p\n\n"
        "def test_it(request):\n"
        "    item = object.__new__(p.LimitItem)\n"
        "    item.check, item.model, item.path = 'performance.accuracy', '', Path('biased.toml').resolve()\n"
        "    item.session = O(items=[item])\n"
        "    item.config = request.config\n"
        "    p._audit(item, Path('kept').resolve())\n"
        "    assert Path('kept/record.json').is_file()\n"
    )
    code, out = run_pytest(repository, "-q", "test_it.py")
    assert code == 0, out


def test_a_check_that_cannot_answer_fails_the_test_that_asked(repository):
    (repository / "test_wrong.py").write_text(
        'def test_a(audit_check):\n    audit_check("interpretability.gradcam")\n'
        'def test_b(audit_check):\n    audit_check("robustness.pdg")\n'
        'def test_c(audit_check):\n    audit_check("robustness.pgd", stepz=3)\n'
        'def test_d(audit_check):\n    audit_check("performance.accuracy").measure("acuracy")\n'
    )
    code, out = run_pytest(repository, "-q", "test_wrong.py")
    assert code == 1, out
    assert "4 failed" in out
    assert "interpretability.gradcam is not applicable: it " in out
    assert "'robustness.pdg' is not an installed check; the nearest is 'robustness.pgd'" in out
    assert "stepz" in out
    assert "performance.accuracy has 0 numbers 'acuracy'; the nearest is 'accuracy'" in out


def test_it_does_nothing_where_there_is_no_audit_file(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\nversion = '1'\n")
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\ndef test_nothing_heavy():\n"
        "    heavy = {'audit', 'torch', 'numpy', 'pydantic', 'rich', 'typer'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
        "    assert 'pytest_model_audit' in sys.modules\n"
    )
    code, out = run_pytest(tmp_path, "-q", "-p", "no:xdist")
    assert code == 0, out
    assert "1 passed" in out
    assert not (tmp_path / ".pytest_cache" / "d" / "model-audit").exists()


def test_an_audit_file_that_nobody_named_is_not_run(repository):
    code, out = run_pytest(repository, "-q", "--collect-only")
    assert code == 0, out
    assert "test_loans.py::" in out
    assert "audit.toml::" not in out


@pytest.fixture
def with_packages_of_these_names(repository):
    """A repository that has packages `audit`, `reports` and `templates` of its own, and tests of them."""
    for name in ("audit", "reports", "templates"):
        (repository / name).mkdir()
        (repository / name / "__init__.py").write_text(f"OWNER = 'the ministry of {name}'\n")
    (repository / "audit" / "trail.py").write_text("LENGTH = 3\n")
    (repository / "test_own.py").write_text(
        "import audit\nimport audit.trail\nimport reports\nimport templates\n\n\n"
        "def test_ours_before(audit_check):\n    import audit.trail\n    assert audit.trail.LENGTH == 3\n"
        "    assert audit_check('performance.accuracy').measure('accuracy').value > 0.8\n"
        "    assert audit_check('robustness.fgsm', epsilon=[0.05]).status == 'measured'\n\n\n"
        "def test_ours():\n    import audit as again\n"
        "    assert again is audit and audit.OWNER == 'the ministry of audit'\n"
        "    assert reports.OWNER and templates.OWNER\n"
        "    from audit import trail\n    assert trail.LENGTH == 3\n"
    )
    return repository


@pytest.mark.parametrize("module", [False, True])
def test_a_repository_with_an_audit_package_of_its_own_keeps_it(with_packages_of_these_names, module):
    code, out = run_pytest(with_packages_of_these_names, "-q", "audit.toml", "test_own.py", module=module)
    assert code == 0, out
    assert "6 passed" in out
