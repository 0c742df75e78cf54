"""The in-toto statement: held to the text of the specification, restated here; PASSED for a yes alone.

Statement v1: `_type`, a subject or more each with a digest, `predicateType`, `predicate`. ResourceDescriptor:
one of `uri`, `digest`, `content` at least. Predicate test-result v0.1: `result` and `configuration` required,
`url` and three lists of names optional.
"""

import json
import re
from dataclasses import replace

import pytest
import records

from audit.formats.answers import answers, record_sha256
from audit.formats.in_toto import in_toto
from audit.policy import Limit, Policy
from audit.record import Finding, Planned
from audit.stats import proportion

DESCRIPTOR = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
PREDICATE = {"result", "configuration", "url", "passedTests", "warnedTests", "failedTests"}


def descriptor_faults(item, *, subject):
    found = [f"unknown key {key}" for key in set(item) - DESCRIPTOR]
    if not {"uri", "digest", "content"} & set(item) or (subject and not item.get("digest")):
        found.append("nothing identifies it")
    for algorithm, value in item.get("digest", {}).items():
        if algorithm == "sha256" and not re.fullmatch("[0-9a-f]{64}", value):
            found.append("no sha256")
    return found


def faults(statement):
    """What the specification has against a statement."""
    found = []
    if statement.get("_type") != "https://in-toto.io/Statement/v1":
        found.append("_type")
    if statement.get("predicateType") != "https://in-toto.io/attestation/test-result/v0.1":
        found.append("predicateType")
    if not statement.get("subject"):
        found.append("no subject")
    found += [f for item in statement.get("subject", ()) for f in descriptor_faults(item, subject=True)]
    predicate = statement.get("predicate", {})
    found += [f"unknown key {key}" for key in set(predicate) - PREDICATE]
    if predicate.get("result") not in ("PASSED", "WARNED", "FAILED"):
        found.append("result")
    if not isinstance(predicate.get("configuration"), list):
        found.append("configuration")
    found += [
        f for item in predicate.get("configuration", ()) for f in descriptor_faults(item, subject=False)
    ]
    for name in ("passedTests", "warnedTests", "failedTests"):
        tests = predicate.get(name, [])
        if not isinstance(tests, list) or not all(isinstance(item, str) for item in tests):
            found.append(name)
    return found


def statement_of(record):
    return json.loads(in_toto(record))


def predicate_of(record):
    return statement_of(record)["predicate"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return records.golden(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("make", [records.empty, records.stopped, records.every_verdict, records.relaxed])
def test_it_keeps_the_specification(make):
    assert faults(statement_of(make())) == []


def test_the_golden_record_keeps_the_specification(golden):
    assert faults(statement_of(golden)) == []


@pytest.mark.parametrize("text", records.HOSTILE)
def test_hostile_texts_keep_the_specification(text):
    assert faults(statement_of(records.hostile(text))) == []


def test_the_validator_finds_planted_faults(golden):
    planted = {
        "_type": lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        "no subject": lambda s: s.update(subject=[]),
        "nothing identifies it": lambda s: s["subject"][0].pop("digest"),
        "no sha256": lambda s: s["subject"][0].update(digest={"sha256": "A1"}),
        "result": lambda s: s["predicate"].update(result="INCONCLUSIVE"),
        "configuration": lambda s: s["predicate"].pop("configuration"),
        "passedTests": lambda s: s["predicate"].update(passedTests=[1]),
        "unknown key verdict": lambda s: s["predicate"].update(verdict="PASS"),
    }
    for fault, plant in planted.items():
        statement = statement_of(golden)
        plant(statement)
        assert fault in faults(statement)


def test_the_subjects_are_the_model_and_the_record(golden):
    assert statement_of(golden)["subject"] == [
        {"name": "lesion_cnn.pt2", "digest": {"sha256": "a1" * 32}},
        {"name": "record.json", "digest": {"sha256": record_sha256(golden)}},
    ]


def test_without_a_model_the_subject_is_the_record_alone():
    """The record then holds the hash of the data file in the place of the model's."""
    assert [item["name"] for item in statement_of(records.stopped())["subject"]] == ["record.json"]
    assert [item["name"] for item in statement_of(records.empty())["subject"]] == ["record.json"]


def test_the_configuration_is_data_settings_policy_and_record(golden):
    names = {item["name"]: item["digest"]["sha256"] for item in predicate_of(golden)["configuration"]}
    assert names == {
        "lesions_test.npz": "b2" * 32,
        "configuration": "9d" * 32,
        "record.json": record_sha256(golden),
    }
    noted = predicate_of(golden)["configuration"][-1]["annotations"]
    assert (noted["verdict"], noted["exitCode"], noted["counts"]["NOT_JUDGED"]) == ("FAIL", 1, 3)


def record_of(names, **policy):
    """A record of one check whose limits end as named: of 100 rows 99 pass, 80 span and 10 fail at .8."""
    right = {"passes": 99, "spans": 80, "fails": 10}
    measures = tuple(proportion(name, right[name], 100) for name in names)
    finding = Finding(check="a.b", version="1", title="t", status="measured", measures=measures)
    limits = tuple(Limit(check="a.b", measure=name, at_least=0.8) for name in names)
    return records.made((finding,), policy=Policy(limits=limits, **policy))


@pytest.mark.parametrize(
    ("names", "policy", "result"),
    [
        (["passes"], {}, "PASSED"),
        (["passes", "spans"], {}, "FAILED"),
        (["passes", "spans"], {"on_inconclusive": "warn"}, "WARNED"),
        (["passes", "spans"], {"on_inconclusive": "pass"}, "WARNED"),
        (["passes", "fails"], {"on_inconclusive": "pass"}, "FAILED"),
        (["spans"], {}, "FAILED"),
        ([], {}, "FAILED"),
    ],
)
def test_passed_is_for_a_yes_without_reserve(names, policy, result):
    record = record_of(names, **policy)
    assert predicate_of(record)["result"] == result
    assert (record.verdict.exit_code == 0) == (result != "FAILED")


def test_every_verdict_stands_in_its_list_and_what_was_not_asked_in_none():
    got = predicate_of(records.every_verdict())
    assert got["passedTests"] == ["a.measured: passes at least 0.8"]
    assert got["warnedTests"] == []
    assert got["failedTests"] == [
        "a.measured: fails at least 0.8",
        "a.measured: spans at least 0.8",
        "a.measured: undefined at least 0.8",
        "b.broken: measured at all",
        "b.misfit: rate at most 0.5",
        "b.silent: measured at all",
    ]


def test_what_a_policy_forgives_is_warned_and_never_passed():
    lenient = dict.fromkeys(("on_inconclusive", "on_not_evaluable", "on_broken", "on_not_applicable"), "pass")
    got = predicate_of(records.every_verdict(**lenient))
    assert got["passedTests"] == ["a.measured: passes at least 0.8"]
    assert got["failedTests"] == ["a.measured: fails at least 0.8"]
    assert len(got["warnedTests"]) == 5


def test_a_check_that_left_no_trace_failed():
    plan = (Planned(check="a.gone", asked="pattern"), Planned(check="a.b", asked="pattern"))
    record = records.made(record_of(["passes"]).findings, plan=plan, policy=record_of(["passes"]).policy)
    assert predicate_of(record)["failedTests"] == ["a.gone: measured at all"]
    assert predicate_of(record)["result"] == "FAILED"


def test_names_are_unique(golden):
    got = predicate_of(golden)
    names = [*got["passedTests"], *got["warnedTests"], *got["failedTests"]]
    assert len(names) == len(set(names)) == sum(item.asked for item in answers(golden))


def test_what_is_waived_left_out_and_under_which_profile_stands_by_name():
    record = replace(records.relaxed(), run={"profile": "quick"})
    predicate = predicate_of(record)
    outcome = predicate["configuration"][-1]["annotations"]
    assert outcome["waivedTests"] == ["a.measured: fails at least 0.8"]
    assert set(outcome["waivedTests"]) <= set(predicate["warnedTests"])
    assert outcome["leftOut"] == ["shift.noise", "b.c"]
    assert outcome["profile"] == "quick"
    plain = predicate_of(records.every_verdict())["configuration"][-1]["annotations"]
    assert (plain["waivedTests"], plain["leftOut"], plain["profile"]) == ([], [], "standard")
