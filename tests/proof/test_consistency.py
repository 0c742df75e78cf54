"""Consistency: whatever a run folder says twice, it must say twice the same."""

import copy
import json

import pytest
import records

from audit.policy import Limit, Policy
from audit.proof.consistency import consistency, digest, parsed, readable
from audit.record import Artifact, Finding, LeftOut, canonical
from audit.stats import proportion

POLICY = Policy(limits=(Limit(check="a.one", measure="accuracy", at_least=0.5),))


def finding(**fields):
    given = {"measures": (proportion("accuracy", 9, 10),), **fields}
    return Finding(check="a.one", version="1", title="One", status="measured", **given)


def as_read(**given):
    config = {"seed": 0}
    run = {
        "id": "x",
        "config": config,
        "config_sha256": digest(config),
        "policy_sha256": digest(plain(POLICY)),
    }
    found = given.pop("findings", (finding(),))
    return plain(records.made(found, **{"policy": POLICY, "run": run, **given}))


def plain(noun):
    return json.loads(canonical(noun))


def events(record):
    run = record["run"]
    told = {**copy.deepcopy(record["findings"][0]), "verdicts": []}
    facts = {key: record[key] for key in ("model", "data", "environment")}
    heads = {key: run[key] for key in ("config_sha256", "policy_sha256")}
    return [
        {"event": "begin", "time": "t0", "tool": record["tool"], **heads},
        {"event": "ready", "time": "t1", **facts},
        {"event": "start", "time": "t2", "check": "a.one"},
        {"event": "finding", "time": "t3", "finding": told},
        {"event": "end", "time": "t4"},
    ]


def found(record, folder, lines=None):
    if lines is not None:
        (folder / "journal.jsonl").write_bytes(b"".join(canonical(line) + b"\n" for line in lines))
    return [(item.kind, item.what, item.where) for item in consistency(record, folder)]


def wrong(*given):
    return [(what, where) for kind, what, where in found(*given) if kind == "wrong"]


def test_a_folder_that_agrees_with_itself_is_proved(tmp_path):
    record = as_read()
    told = found(record, tmp_path, events(record))
    assert {(kind, what) for kind, what, _ in told} == {
        ("proved", "record"), ("proved", "journal"), ("proved", "policy")
    }  # fmt: skip


def test_without_a_journal_it_is_said(tmp_path):
    record = as_read()
    assert ("noted", "journal", "journal.jsonl") in found(record, tmp_path)
    record["run"]["policy_fixed"] = "t0"  # a claim that nothing is left to show for
    assert ("open", "journal", "journal.jsonl") in found(record, tmp_path)


def test_another_policy_than_the_first_is_open_and_not_wrong(tmp_path):
    record = as_read()
    lines = events(record)
    record["policy"]["limits"][0]["at_least"] = 0.1
    told = found(record, tmp_path, lines)
    assert ("open", "policy", "record.json#/policy") in told
    assert not any(kind == "wrong" for kind, _, _ in told)


def test_a_policy_that_only_claims_to_be_the_first_is_wrong(tmp_path):
    record = as_read()
    lines = events(record)
    record["policy"]["limits"][0]["at_least"] = 0.1
    record["run"]["policy_sha256"] = digest(record["policy"])
    assert ("journal", "record.json#/run/policy_sha256") in wrong(record, tmp_path, lines)


def test_the_plan_that_the_journal_was_begun_with_is_the_same(tmp_path):
    record = as_read()
    lines = events(record)
    lines[0]["plan_sha256"] = digest([record["plan"], ["1"]])
    assert not wrong(record, tmp_path, lines)
    record["left_out"], record["run"]["budget_seconds"] = [{"check": "b.two", "reason": "--skip"}], 60
    lines[0]["plan_sha256"] = digest([record["plan"], ["1"], 60, record["left_out"]])
    assert not wrong(record, tmp_path, lines)
    lines.insert(2, {"event": "budget", "time": "t1", "plan": ["a.one", "c.late"], "left_out": []})
    lines.insert(4, {"event": "left_out", "time": "t2", "check": "c.late", "reason": "the budget was spent"})
    assert not wrong(record, tmp_path, lines)


def test_a_check_that_started_before_the_policy_was_written_leaves_it_open(tmp_path):
    record = as_read()
    lines = events(record)
    lines[0]["time"] = "t9"
    told = found(record, tmp_path, lines)
    assert ("open", "policy", "journal.jsonl:1") in told
    assert not any(kind == "proved" and what == "policy" for kind, what, _ in told)


def other_model(record, lines):
    lines[1]["model"] = {**lines[1]["model"], "sha256": "0" * 64}


def other_count(record, lines):
    lines[3]["finding"]["measures"][0]["statistics"]["x"] = 8


def not_told(record, lines):
    del lines[3]


def not_kept(record, lines):
    other = {**lines[3]["finding"], "check": "b.two", "status": "broken"}
    lines.insert(4, {"event": "finding", "time": "t3", "finding": other})


def said_nowhere(record, lines):
    del lines[3]["finding"]["doubts"]


def other_tool(record, lines):
    lines[0]["tool"] = {"name": "other"}


def other_start(record, lines):
    record["run"]["first_measured"] = "t9"


def other_fixing(record, lines):
    record["run"]["policy_fixed"] = "t9"


def planned_more(record, lines):
    more = [*record["plan"], {**record["plan"][0], "check": "b.two"}]
    lines[0]["plan_sha256"] = digest([more, ["1", "1"]])


def left_out_more(record, lines):
    out = [{"check": "b.two", "reason": "--skip"}]
    lines[0]["plan_sha256"] = digest([record["plan"], ["1"], out])


def fitted_more(record, lines):
    lines.insert(2, {"event": "budget", "time": "t1", "plan": ["a.one", "b.two"], "left_out": []})


def never_started(record, lines):
    del lines[2]


def begun_twice(record, lines):
    lines.insert(2, {**lines[0], "time": "t1"})


def no_event(record, lines):
    lines.insert(2, [])


def other_config(record, lines):
    record["run"]["config"] = {"seed": 1}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (other_model, ("journal", "record.json#/model")),
        (other_count, ("journal", "record.json#/findings/0/measures")),
        (not_told, ("journal", "record.json#/findings/0")),
        (not_kept, ("journal", "journal.jsonl:5")),
        (said_nowhere, ("journal", "record.json#/findings/0/doubts")),
        (other_tool, ("journal", "record.json#/tool")),
        (other_start, ("journal", "record.json#/run/first_measured")),
        (other_fixing, ("journal", "record.json#/run/policy_fixed")),
        (other_config, ("record", "record.json#/run/config_sha256")),
        (planned_more, ("journal", "record.json#/plan")),
        (left_out_more, ("journal", "record.json#/plan")),
        (fitted_more, ("journal", "record.json#/plan")),
        (never_started, ("journal", "journal.jsonl:3")),
        (begun_twice, ("journal", "journal.jsonl:3")),
        (no_event, ("journal", "journal.jsonl:3")),
    ],
)
def test_a_contradiction_is_named(tmp_path, change, where):
    record = as_read()
    lines = events(record)
    change(record, lines)
    assert wrong(record, tmp_path, lines) == [where]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"{}\n", 1),
        (b'{"event":"begin"}\n{"event": "x"}\n', 2),
        (b'{"event":"begin"}\n{"eve', 2),
        (b"\xff\n", 1),
    ],
)
def test_a_damaged_journal_is_named_by_its_line(tmp_path, content, line):
    (tmp_path / "journal.jsonl").write_bytes(content)
    assert ("journal", f"journal.jsonl:{line}") in wrong(as_read(), tmp_path)


def test_the_last_finding_of_a_resumed_run_counts(tmp_path):
    record = as_read()
    lines = events(record)
    early = json.loads(json.dumps(lines[3]))
    early["finding"]["status"] = "broken"
    assert wrong(record, tmp_path, [*lines[:3], early, *lines[2:]]) == []


def test_a_finding_that_was_not_planned_or_stands_twice_is_named(tmp_path):
    assert wrong(as_read(plan=()), tmp_path) == [("record", "record.json#/findings/0")]
    twice = wrong(as_read(findings=(finding(), finding())), tmp_path)
    assert twice == [("record", "record.json#/findings/0"), ("record", "record.json#/findings/1")]


def test_other_settings_than_planned_are_named(tmp_path):
    record = as_read()
    record["findings"][0]["settings"] = {"epsilon": 0.1}
    assert wrong(record, tmp_path) == [("record", "record.json#/findings/0/settings")]


def test_what_is_planned_is_not_left_out(tmp_path):
    record = as_read(left_out=(LeftOut(check="a.one", reason="--skip"),))
    assert ("record", "record.json#/left_out") in wrong(record, tmp_path)


def test_artifacts_are_hashed_and_never_sought_outside(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"a")
    (tmp_path / "secret").write_bytes(b"s")
    sha = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # sha256 of "a" (FIPS 180-2)
    names = {"a.npz": None, "absent.npz": "absent.npz", "../secret": "record.json#/findings/0/artifacts/0"}
    for name, where in names.items():
        record = as_read(findings=(finding(artifacts=(Artifact(path=name, sha256=sha),)),))
        assert wrong(record, folder) == ([("artifacts", where)] if where else [])
    (folder / "a.npz").write_bytes(b"b")
    record = as_read(findings=(finding(artifacts=(Artifact(path="a.npz", sha256=sha),)),))
    assert wrong(record, folder) == [("artifacts", "a.npz")]


@pytest.mark.parametrize(
    "content",
    [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1.0}', b'{"a":1,"a":1}', b'{"a":NaN}', b"\xff", b'"\\ud800"'],
)
def test_bytes_that_are_not_canonical_are_refused(content):
    with pytest.raises(ValueError, match=r"\w"):
        parsed(content)
    value, (item,) = readable(content)
    assert (value, item.kind, item.where) == (None, "wrong", "record.json")


def test_canonical_bytes_come_back():
    assert parsed(b'{"a":1.5,"b":[null,true]}') == {"a": 1.5, "b": [None, True]}


@pytest.mark.parametrize("number", [3e17, 1e20, -4e18, 2.0**53, 1e22])
def test_a_large_number_is_read_as_it_was_written(number):
    assert parsed(canonical({"a": number})) == {"a": number}


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "9" * 5_000, "9007199254740993"])
def test_a_number_that_nothing_here_writes_is_refused(number):
    with pytest.raises(ValueError, match=r"canonical|JCS|domain"):
        parsed(f'{{"a":{number}}}'.encode())
