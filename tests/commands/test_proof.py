"""keygen, sign and verify as a user types them: exit codes, one sentence for every mistake, no torch."""

import json
import os
import stat
import subprocess
import sys

import pytest
import records

from audit.cli import main
from audit.judge import judge
from audit.keys import generate
from audit.policy import Limit, Policy
from audit.record import Finding, read_record, write_record
from audit.stats import proportion

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


def test_the_three_answers_have_their_exit_codes(folder):
    assert call("verify", "run", cwd=folder).returncode == 2
    generate(folder / "a.key")
    call("sign", "run", "--key", "a.key", cwd=folder)
    nobody = call("verify", "run", cwd=folder)
    assert nobody.returncode == 2
    assert "Nobody said whose key to expect" in nobody.stdout
    (folder / "run" / "x").write_text("")
    altered = call("verify", "run", "--key", "a.pub", "--json", cwd=folder)
    assert altered.returncode == 1
    said = json.loads(altered.stdout)
    assert said["exit_code"] == 1
    assert [item["where"] for item in said["statements"] if item["kind"] == "wrong"] == ["x"]


def test_a_record_whose_verdict_does_not_follow_is_not_signed(folder):
    generate(folder / "a.key")
    path = folder / "run" / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"exit_code":0', b'"exit_code":1'))
    done = call("sign", "run", "--key", "a.key", cwd=folder)
    assert done.returncode == 1
    assert "not signed: record.json#/verdict/exit_code" in done.stderr
    assert not (folder / "run" / "seal.json").exists()


def test_a_passphrase_comes_from_the_environment(folder):
    secret = {"MODEL_AUDIT_KEY_PASSPHRASE": "swordfish"}
    call("keygen", "--out", "a.key", cwd=folder, **secret)
    refused = call("sign", "run", "--key", "a.key", cwd=folder)
    assert refused.returncode == 3
    assert "MODEL_AUDIT_KEY_PASSPHRASE" in refused.stderr
    assert call("sign", "run", "--key", "a.key", cwd=folder, **secret).returncode == 0


def test_a_policy_that_came_later_still_signs(folder):
    """Judging again is allowed; what the verifier says of it is its own matter."""
    generate(folder / "a.key")
    stricter = Policy(limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.99),))
    write_record(judge(read_record(folder / "run"), stricter), folder / "run")
    assert call("sign", "run", "--key", "a.key", cwd=folder).returncode == 0


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
def test_a_mistake_is_one_sentence(arguments, words, code, folder, monkeypatch, capsys):
    generate(folder / "a.key")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["model-audit", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    said = capsys.readouterr()
    assert done.value.code == code, said
    assert words in said.err
    assert said.err.startswith("model-audit: ")
