"""SARIF 2.1.0: valid, a rule a check, a result an answer, and no kind that says more than was found."""

import json
import re
from dataclasses import replace
from urllib.parse import unquote

import pytest
import records
from published import SARIF, faults

from audit.formats.answers import answers
from audit.formats.sarif import sarif
from audit.policy import Limit, Policy
from audit.record import LeftOut


def log_of(record):
    return json.loads(sarif(record))


def run_of(record):
    return log_of(record)["runs"][0]


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return records.golden(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("make", [records.empty, records.stopped, records.every_verdict, records.relaxed])
def test_it_keeps_the_schema(make):
    assert faults(log_of(make()), SARIF) == []


def test_the_golden_record_keeps_the_schema(golden):
    assert faults(log_of(golden), SARIF) == []


@pytest.mark.parametrize("text", records.HOSTILE)
def test_hostile_texts_keep_the_schema(text):
    assert faults(log_of(records.hostile(text)), SARIF) == []


def test_the_schema_finds_planted_faults():
    planted = [
        lambda run: run["results"][0].update(kind="inconclusive"),
        lambda run: run["results"][1].update(level="warning"),
        lambda run: run["results"][0].pop("message"),
        lambda run: run["results"][0].update(message={}),
        lambda run: run["invocations"][0].pop("executionSuccessful"),
        lambda run: run["invocations"][0].update(startTimeUtc="yesterday"),
        lambda run: run["tool"]["driver"]["rules"][0].update(title="x"),
        lambda run: run["artifacts"][0]["location"].update(uri="a b"),
        lambda run: run["results"][0]["partialFingerprints"].update(x=1),
    ]
    for plant in planted:
        log = log_of(records.every_verdict())
        plant(log["runs"][0])
        assert faults(log, SARIF)


def test_every_verdict_has_its_kind_and_only_a_fail_has_a_level():
    results = run_of(records.every_verdict())["results"]
    got = {(r["properties"]["verdict"], r["kind"], r["level"]) for r in results}
    assert got == {
        ("FAIL", "fail", "error"),
        ("INCONCLUSIVE", "open", "none"),
        ("PASS", "pass", "none"),
        ("NOT_EVALUABLE", "open", "none"),
        ("NOT_JUDGED", "review", "none"),
        ("BROKEN", "fail", "error"),
        ("NOT_APPLICABLE", "notApplicable", "none"),
    }


def test_what_blocks_is_what_the_policy_lets_block():
    strict = run_of(records.every_verdict())["results"]
    blocks = {r["properties"]["verdict"] for r in strict if r["properties"]["blocks"]}
    assert blocks == {"FAIL", "INCONCLUSIVE", "NOT_EVALUABLE", "NOT_APPLICABLE", "BROKEN"}
    lenient = run_of(records.every_verdict(on_inconclusive="warn", on_broken="pass"))["results"]
    blocks = {r["properties"]["verdict"] for r in lenient if r["properties"]["blocks"]}
    assert blocks == {"FAIL", "NOT_EVALUABLE", "NOT_APPLICABLE"}


def test_a_rule_is_a_check_and_its_help_the_text_of_the_check(golden):
    run = run_of(golden)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [*(f.check for f in golden.findings), "robustness.autoattack"]
    pgd = next(rule for rule in rules if rule["id"] == "robustness.pgd")
    assert pgd["shortDescription"]["text"] == "Accuracy under projected gradient descent"
    assert pgd["help"]["text"].startswith("Searches, inside a box of half-width epsilon")
    assert pgd["properties"]["tags"] == ["robustness"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])


def test_the_invocation_tells_the_exit_code_and_what_broke(golden):
    (invocation,) = run_of(golden)["invocations"]
    assert invocation["exitCode"] == golden.verdict.exit_code == 1
    assert invocation["exitCodeDescription"] == "a limit was broken"
    assert invocation["executionSuccessful"] is False
    assert (invocation["startTimeUtc"], invocation["endTimeUtc"]) == (
        "2026-11-20T09:12:44Z", "2026-11-20T09:15:31Z"
    )  # fmt: skip
    broken = [item["associatedRule"]["id"] for item in invocation["toolExecutionNotifications"]]
    assert broken == ["robustness.noise", "robustness.autoattack"]


def test_a_run_without_a_broken_check_was_successful_unless_it_was_interrupted():
    whole = records.every_verdict()
    sound = tuple(item for item in whole.findings if item.status != "broken")
    assert run_of(records.made(sound))["invocations"][0]["executionSuccessful"] is True
    cut = records.made(sound, run={"interrupted": True})
    assert run_of(cut)["invocations"][0]["executionSuccessful"] is False


@pytest.mark.parametrize(("run", "profile"), [({"profile": "quick"}, "quick"), ({}, "standard")])
def test_the_run_tells_its_profile_and_counts_what_was_left_out(run, profile):
    out = tuple(LeftOut(check=name, reason="no time") for name in ("a.b", "c.d"))
    record = replace(records.every_verdict(), run=run, left_out=out)
    assert faults(log_of(record), SARIF) == []
    told = run_of(record)["properties"]
    assert (told["profile"], told["leftOut"]) == (profile, 2)


def test_a_result_points_to_the_audited_file(golden):
    run = run_of(golden)
    model, data = run["artifacts"]
    assert (model["location"]["uri"], model["roles"]) == ("lesion_cnn.pt2", ["analysisTarget"])
    assert model["hashes"] == {"sha-256": "a1" * 32}
    assert (data["location"]["uri"], data["hashes"]) == ("lesions_test.npz", {"sha-256": "b2" * 32})
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert place == {"uri": "lesion_cnn.pt2", "index": 0}


def test_a_fingerprint_stays_when_the_numbers_change_and_goes_when_the_limit_does(golden):
    """What a baseline compares: another run with other numbers asks the same things."""
    pgd = next(item for item in golden.findings if item.check == "robustness.pgd")
    measures = tuple(replace(m, statistics={"x": 1300, "n": 1320}, value=1300 / 1320) for m in pgd.measures)
    limit = Limit(check="robustness.pgd", measure="robust_accuracy", at_least=0.4)
    same = [
        run_of(
            records.made(
                (replace(pgd, measures=m, verdicts=()),), policy=Policy(limits=(limit,)), run={"id": i}
            )
        )
        for m, i in ((pgd.measures, "one"), (measures, "two"))
    ]
    keys = [[r["partialFingerprints"]["asked/v1"] for r in run["results"]] for run in same]
    kinds = [[r["kind"] for r in run["results"]] for run in same]
    assert keys[0] == keys[1]
    assert kinds[0] != kinds[1]
    assert len(set(keys[0])) == len(keys[0]) == 4
    other = replace(limit, at_least=0.5)
    moved = run_of(records.made((replace(pgd, verdicts=()),), policy=Policy(limits=(other,))))
    assert not set(keys[0]) & {r["partialFingerprints"]["asked/v1"] for r in moved["results"]}


@pytest.mark.parametrize("text", records.HOSTILE)
def test_no_message_holds_a_link_or_a_placeholder(text):
    """Sections 3.11.5 and 3.11.6: brackets make links, braces placeholders."""
    run = run_of(records.hostile(text))
    rules = run["tool"]["driver"]["rules"]
    said = [r["message"]["text"] for r in run["results"]]
    said += [rule[key]["text"] for rule in rules for key in ("shortDescription", "help")]
    said += [item["message"]["text"] for item in run["invocations"][0]["toolExecutionNotifications"]]
    assert said
    assert not any(re.search(r"[\[\]{}]", item) for item in said)


def test_an_address_leads_nowhere_else():
    run = run_of(records.hostile("../../etc/passwd"))
    assert run["artifacts"][0]["location"]["uri"] == "passwd"
    odd = run_of(records.hostile("<a b>?#%"))["artifacts"][0]["location"]["uri"]
    assert unquote(odd) == "<a b>?#%"


def test_a_result_an_answer(golden):
    assert len(run_of(golden)["results"]) == len(answers(golden))
