"""Whatever is wrong with a file that a command reads ends in an answer or in one sentence.

Every file that the commands without a model read is damaged in many ways, each drawn from a seed.
"""

import shutil
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from damage import PLACES, damaged, misplaced
from runs import MEASURED, answered, made_run, people

from audit import cli, journal
from audit.config import read_policy
from audit.judge import judge
from audit.policy import Verdict
from audit.proof.consistency import digest
from audit.record import Planned, plain, read_record
from audit.waiver import fingerprint

CASES = 5
SECONDS = 20
CODES = frozenset(range(5))
RECORD, JOURNAL, KEY = "new/record.json", "new/journal.jsonl", "a.pub"
CONFIG = """
extends = "base.toml"
[model]
predictions = "decision"
[data]
path = "d.csv"
target = "paid"
sensitive = ["sex"]
"""
BASE = """
[policy]
on_inconclusive = "warn"
waivers = "waivers.toml"
[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.99 }
[policy.limits."fairness.groups"]
selection_rate_ratio = [{ at_least = 0.8, group = "each" }]
"""
PACK = """
name = "pack"
title = "Ours"
short_title = "Ours"
[[sections]]
id = "limits"
title = "Limits"
template = "limits"
"""
FORMATS = [word for form in ("html", "md", "junit", "sarif") for word in ("--format", form)]
OTHERS = [word for form in ("cyclonedx", "oscal", "in-toto", "badge") for word in ("--format", form)]
COMMANDS = {
    "judge new": [RECORD],
    "judge new --policy audit.toml": ["audit.toml", "base.toml"],
    "judge new --waivers waivers.toml": ["waivers.toml"],
    "judge new --baseline old --output judged.json": ["old/record.json"],
    "compare old new --output c.html --output c.md --output c.json": [RECORD, "OUTCOMES"],
    f"render new {' '.join(FORMATS)}": [RECORD],
    f"render new {' '.join(OTHERS)}": [RECORD],
    "render new --document four-fifths-rule --format md": ["new/attestations.toml"],
    "render new --pack pack.toml --format md": ["pack.toml"],
    "attest new --out stated.toml": [RECORD, "new/attestations.toml"],
    "waive new FINDING --owner A --reason b --expires 2999-01-01": [RECORD, "waivers.toml"],
    "sign new --key a.key --force": [RECORD, "a.key"],
    "verify new --key a.pub": [RECORD, JOURNAL, KEY, "new/seal.json", "new/reports/technical-report.md"],
    "fingerprint audit.toml": ["audit.toml", "d.csv"],
    "init --predictions decision --data d.csv --target paid --output i.toml": ["d.csv"],
}
"""Each command, with the files that it reads."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Two run folders, one of them documented and signed, with every file that a command can be given."""
    home = tmp_path_factory.mktemp("sample")
    data, draw = people(300), np.random.default_rng(0)
    policy = _written(home)
    plan = tuple(
        Planned(check=name, asked="name", settings=check.settings(given))
        for name, (check, given) in MEASURED.items()
    )
    for run, model, share in (("old", "a", 0.9), ("new", "b", 0.8)):
        answers = answered(data, draw.random(300) < share)
        record = made_run(home / run, data, answers, policy=policy, model=model, plan=plan)
        told = {"tool": {}, "policy_sha256": digest(plain(record.policy))}
        journal.append(home / run, "begin", time="2026-01-01T00:00:00+00:00", **told)
        for found in record.findings:
            journal.append(home / run, "start", time="2026-01-01T00:00:01+00:00", check=found.check)
            journal.append(home / run, "finding", time="2026-01-01T00:00:02+00:00", finding=plain(found))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for words in ("keygen --out a.key", "render new --format md", "attest new", "sign new --key a.key"):
            assert _call(words, patch)[0] == 0, words
        assert _call(f"waive old {_finding(home)} --owner A --reason b --expires 2998-01-01", patch)[0] == 0
    return home


def _written(home):
    """The files that people write; the policy in them."""
    rows = [f"{k % 2},{k % 3 > 0:d},{'fm'[k % 5 > 2]}" for k in range(200)]
    (home / "d.csv").write_text("\n".join(["decision,paid,sex", *rows]) + "\n")
    for name, text in (("audit", CONFIG), ("base", BASE), ("pack", PACK)):
        (home / f"{name}.toml").write_text(text)
    return read_policy(home / "audit.toml")


def _finding(home):
    """The fingerprint of the broken limit of the run."""
    for found in judge(read_record(home / "new")).findings:
        for item in found.verdicts:
            if item.verdict is Verdict.FAIL:
                return fingerprint(found.check, item)
    raise AssertionError("no limit is broken")


def _call(words, patch):
    """Exit code of a command, called in this process."""
    patch.setattr(sys, "argv", ["model-audit", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, words


@contextmanager
def _in_time():
    """Whoever waits for ever is woken."""

    def late(*_):
        raise TimeoutError(f"after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("command", "name"), [(key, name) for key, names in COMMANDS.items() for name in names]
)
def test_a_damaged_file_is_an_answer_or_one_sentence(command, name, sample, tmp_path, monkeypatch, capsys):
    for case in (None, *PLACES, *range(CASES)):
        home = tmp_path / str(case).replace(" ", "-")
        shutil.copytree(sample, home, symlinks=True)
        monkeypatch.chdir(home)
        path = next((home / "new" / "artifacts").glob("*.npz")) if name == "OUTCOMES" else home / name
        if isinstance(case, str):
            misplaced(path, case)
        elif case is not None:
            path.write_bytes(damaged(path.name, path.read_bytes(), case))
        with _in_time():
            code, _ = _call(command.replace("FINDING", _finding(sample)), monkeypatch)
        out, said = capsys.readouterr()
        told = f"{command}, {name}, case {case}: {code}, {said}"
        assert code in CODES, told
        assert "Traceback" not in said + out, told
        assert "a fault of this tool" not in said, told
        assert code < 3 or path.stem in said, told
        assert case is None or code or not command.startswith("verify"), told
        shutil.rmtree(home)
