"""The answer of a proof: one thing wrong outweighs all that is proved, one thing open forbids a yes."""

import json

import pytest

from audit.proof.statement import Proof, counted, noted, proved, unproved, wrong

GOOD, NOTE = proved("files", "good."), noted("truth", "note.")
OPEN, BAD = unproved("x", "open."), wrong("x", "bad.")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ((GOOD, NOTE), 0),
        ((GOOD, OPEN, NOTE), 2),
        ((GOOD, OPEN, BAD), 1),
        ((BAD,), 1),
        ((NOTE,), 2),
        ((), 2),
    ],
)
def test_exit_codes(found, code):
    proof = Proof(found)
    assert proof.exit_code == code
    assert proof.words.startswith("Proved") == (code == 0)
    assert json.loads(json.dumps(proof.plain()))["exit_code"] == code


def test_a_statement_begins_with_its_place():
    assert str(wrong("files", "it is gone.", "record.json")) == "record.json: it is gone."
    assert str(NOTE) == "note."


def test_things_are_counted_in_words():
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
