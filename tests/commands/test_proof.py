"""keygen, sign and verify as a user types them: exit codes, one sentence for every mistake, no torch."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest
import records

from audit.cli import main
from audit.judge import judge
from audit.keys import generate
from audit.policy import Limit, Policy
from audit.record import Finding, read_record, write_record
from audit.stats import proportion
from audit.waiver import (
    Waiver,
    Waivers,
    fingerprint,
    model_digest,
    read_waivers,
    settings_digest,
    waived_today,
)

MAIN = "from audit.cli import main; main()"
LIGHT = (
    "import sys, atexit\n"
    "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'LIGHT', file=sys.stderr))\n"
)


def call(*arguments, cwd, code=MAIN, **environment):
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def told(folder, monkeypatch, capsys):
    """The same within this process: exit code, what was printed, and what was complained of."""

    def ask(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["model-audit", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return done.value.code, said.out, said.err

    return ask


@pytest.fixture
def folder(tmp_path):
    """Where a run lies that holds its one limit."""
    finding = Finding(
        check="performance.accuracy", version="1", title="Accuracy", status="measured",
        measures=(proportion("accuracy", 95, 100),),
    )  # fmt: skip
    policy = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.8),))
    (tmp_path / "run").mkdir()
    write_record(records.made((finding,), policy=policy), tmp_path / "run")
    return tmp_path


def test_from_a_key_to_a_proof_without_torch(folder):
    done = call("keygen", "--out", "a.key", cwd=folder, code=LIGHT + MAIN)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((folder / "a.key").stat().st_mode) == 0o600
    assert "a.pub" in done.stdout
    for command in (
        ["render", "run"],
        ["sign", "run", "--key", "a.key"],
        ["verify", "run", "--key", "a.pub"],
    ):
        done = call(*command, cwd=folder, code=LIGHT + MAIN)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.strip().endswith("LIGHT")
    assert done.stdout.startswith("Proved: ")
    assert "Not proved by any signature:" in done.stdout
    assert "That the numbers are true" in done.stdout


def test_the_three_answers_have_their_exit_codes(folder, told):
    generate(folder / "a.key")
    assert told("verify", "run")[0] == 2
    assert told("sign", "run", "--key", "a.key")[0] == 0
    code, said, _ = told("verify", "run")
    assert code == 2
    assert "Nobody said whose key to expect" in said
    assert told("verify", "run", "--key", "a.pub")[0] == 0
    (folder / "run" / "x").write_text("")
    code, said, _ = told("verify", "run", "--key", "a.pub", "--json")
    assert code == json.loads(said)["exit_code"] == 1
    assert [item["where"] for item in json.loads(said)["statements"] if item["kind"] == "wrong"] == ["x"]


def test_a_record_whose_verdict_does_not_follow_is_not_signed(folder, told):
    generate(folder / "a.key")
    path = folder / "run" / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"exit_code":0', b'"exit_code":1'))
    code, _, said = told("sign", "run", "--key", "a.key")
    assert code == 1
    assert "not signed: record.json#/verdict/exit_code" in said
    assert not (folder / "run" / "seal.json").exists()


def test_a_record_that_the_verifier_would_not_read_is_not_signed(folder, told):
    generate(folder / "a.key")
    path = folder / "run" / "record.json"
    path.write_bytes(path.read_bytes() + b"\n")
    code, _, said = told("sign", "run", "--key", "a.key")
    assert code == 1
    assert "not signed: record.json: it cannot be read: these are not the canonical bytes" in said


def test_the_name_of_a_file_cannot_write_a_line_of_the_answer(folder, told):
    (folder / "run" / "a.html\n\nProved:\n  - all of it").write_text("")
    generate(folder / "a.key")
    assert told("sign", "run", "--key", "a.key")[0] == 0
    (folder / "run" / "b\nProved:").write_text("")
    code, said, _ = told("verify", "run", "--key", "a.pub")
    assert code == 1
    assert said.count("\nProved:") == 1


def test_a_waiver_that_has_ended_is_not_listed_as_one(folder, told):
    record = read_record(folder / "run")
    policy = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.999),))
    (broken,) = judge(record, policy).findings[0].verdicts
    given = Waiver(
        finding=fingerprint("performance.accuracy", broken), model=model_digest(record.model), owner="A",
        reason="r", expires=date(2026, 1, 2),
    )  # fmt: skip
    held = judge(record, policy, Waivers(given=(given,), day=date(2026, 1, 1)))
    assert held.verdict.waived == 1
    write_record(held, folder / "run")
    _, said, _ = told("waive", "run", "--json")
    assert [item["waived"] for item in json.loads(said)] == [""]


def test_a_waiver_that_is_written_is_for_the_model_as_it_was_called(folder, told):
    record = read_record(folder / "run")
    record = replace(record, model={**record.model, "task": "classification", "classes": ["no", "yes"]})
    policy = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.999),))
    broken = judge(record, policy)
    write_record(broken, folder / "run")
    finding = fingerprint("performance.accuracy", broken.findings[0].verdicts[0])
    words = ["--owner", "A", "--reason", "r", "--expires", "2999-03-01", "--file", "waivers.toml"]
    assert told("waive", "run", finding, *words)[0] == 0
    (given,) = read_waivers(folder / "waivers.toml")
    assert (given.model, given.settings) == (model_digest(record.model), settings_digest(record.model))
    moved = replace(broken, model={**record.model, "normalize": {"mean": [0.5], "std": [0.5]}})
    held = [judge(item, None, waived_today((given,))).verdict.waived for item in (broken, moved)]
    assert held == [1, 0]


def test_a_passphrase_comes_from_the_environment(told, monkeypatch):
    monkeypatch.setenv("MODEL_AUDIT_KEY_PASSPHRASE", "swordfish")
    assert told("keygen", "--out", "a.key")[0] == 0
    assert told("sign", "run", "--key", "a.key")[0] == 0
    monkeypatch.delenv("MODEL_AUDIT_KEY_PASSPHRASE")
    code, _, said = told("sign", "run", "--key", "a.key", "--force")
    assert code == 3
    assert "MODEL_AUDIT_KEY_PASSPHRASE" in said


def test_a_policy_that_came_later_still_signs(folder, told):
    """Judging again is allowed; what the verifier says of it is its own matter."""
    generate(folder / "a.key")
    stricter = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.99),))
    write_record(judge(read_record(folder / "run"), stricter), folder / "run")
    assert told("sign", "run", "--key", "a.key")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["sign", "run"], "key", 3),
        (["sign", "run", "--key", "absent.key"], "absent.key cannot be read", 3),
        (["sign", "absent", "--key", "a.key"], "does not exist", 3),
        (["sign", "run", "--key", "a.key", "--pack", "absent.toml"], "absent.toml does not exist", 3),
        (["verify", "absent"], "not a run folder", 3),
        (["verify", "run", "--key", "absent.pub"], "absent.pub cannot be read", 3),
        (["verify", "run", "--key", "a.key"], "is a private key", 3),
        (["verify", "run", "--model", "absent"], "absent does not exist", 4),
        (["verify", "run", "--pack", "absent.toml"], "absent.toml does not exist", 3),
        (["verify", "run", "--attestations", "absent.toml"], "absent.toml does not exist", 3),
        (["keygen", "--out", "a.key"], "never overwritten", 3),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, code, folder, told):
    generate(folder / "a.key")
    found, _, said = told(*arguments)
    assert found == code, said
    assert words in said
    assert said.startswith("model-audit: ")
    assert said.count("\n") == 1
