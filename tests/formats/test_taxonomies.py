"""Frameworks in SARIF: the clauses that the packs name, and only what was really measured evidences one."""

import json
import tomllib
from dataclasses import replace

import pytest
import records
from published import SARIF, faults

from audit.coverage import coverage
from audit.document import read_document
from audit.formats.answers import answers
from audit.formats.sarif import sarif
from audit.formats.taxonomies import taxonomies
from audit.judge import judge
from audit.policy import Limit, Policy
from audit.record import Finding
from audit.resources import REPORTS
from audit.stats import proportion


def log_of(record):
    return json.loads(sarif(record))


def run_of(record):
    return log_of(record)["runs"][0]


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return records.golden(tmp_path_factory.mktemp("golden"))


def packs():
    """What the files of the packs say, read without this tool: name, and clauses that ask for measures."""
    read = {path.stem: tomllib.loads(path.read_text()) for path in sorted(REPORTS.glob("*.toml"))}
    return {
        name: [clause for clause in values["clauses"] if clause.get("evidence")]
        for name, values in read.items()
        if "framework" in values
    }


def pairs_of(run, references):
    """(framework, clause) of references, by their index; the id they carry must be that of the index."""
    found = []
    for reference in references:
        component = run["taxonomies"][reference["toolComponent"]["index"]]
        taxon = component["taxa"][reference["index"]]
        assert taxon["id"] == reference["id"]
        found.append((component["name"], taxon["id"]))
    assert len(set(found)) == len(found)
    return set(found)


def test_a_framework_is_a_taxonomy_of_the_clauses_that_name_a_check_of_the_run(golden):
    run = run_of(golden)
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    expected = {
        name: [c["id"] for c in clauses if {e["check"] for e in c["evidence"]} & set(rules)]
        for name, clauses in packs().items()
    }
    found = {item["name"]: [taxon["id"] for taxon in item["taxa"]] for item in run["taxonomies"]}
    assert found == {name: ids for name, ids in expected.items() if ids}
    assert len(found) >= 8
    named = [(item["name"], item["index"]) for item in run["tool"]["driver"]["supportedTaxonomies"]]
    assert named == [(name, place) for place, name in enumerate(found)]
    old = next(item for item in run["taxonomies"] if item["name"] == "sr-11-7")
    assert old["properties"]["status"] == "superseded"
    assert old["properties"]["supersededBy"] == "sr-26-2-model-risk"
    assert all("secondary" in item["properties"]["note"] for item in run["taxonomies"])


def test_a_rule_is_relevant_to_exactly_the_clauses_that_name_its_check(golden):
    run = run_of(golden)
    for rule in run["tool"]["driver"]["rules"]:
        expected = {
            (name, clause["id"])
            for name, clauses in packs().items()
            for clause in clauses
            if rule["id"] in {entry["check"] for entry in clause["evidence"]}
        }
        links = rule.get("relationships", [])
        assert pairs_of(run, [link["target"] for link in links]) == expected
        assert all(link["kinds"] == ["relevant"] for link in links)


def taxa_by_name(record):
    run, found = run_of(record), {}
    for item in run["results"]:
        asked = item["properties"]["judgement"] or {}
        key = item["ruleId"], asked.get("measure", ""), tuple(asked.get("group", ()))
        found[key] = pairs_of(run, item.get("taxa", ()))
    return found


def test_a_result_carries_only_what_its_own_number_evidences():
    """The overall accuracy is no accuracy of a group, and a broken or unfit check evidences nothing."""
    whole = proportion("accuracy", 90, 100)
    women = proportion("accuracy", 80, 100, group={"sex": "F"})
    nobody = proportion("selection_rate_ratio", 0, 0, group={"sex": "F"})
    found = taxa_by_name(
        records.made(
            (
                Finding(check="performance.accuracy", version="1", title="t", status="measured",
                        measures=(whole, women)),
                Finding(check="fairness.groups", version="1", title="t", status="measured",
                        measures=(women, nobody)),
                Finding(check="robustness.pgd", version="1", title="t", status="broken", reason="it died"),
                Finding(check="robustness.fgsm", version="1", title="t", status="measured",
                        measures=(proportion("robust_accuracy", 9, 10),)),
                Finding(check="reliability.ood", version="1", title="t", status="measured",
                        measures=(proportion("auroc", 9, 10),)),
            ),
            policy=Policy(limits=(
                Limit(check="performance.accuracy", measure="accuracy", at_least=0.5),
                Limit(check="performance.accuracy", measure="accuracy", at_least=0.5, group="each"),
                Limit(check="fairness.groups", measure="accuracy", at_least=0.5, group="each"),
                Limit(check="fairness.groups", measure="selection_rate_ratio", at_least=0.8, group="each"),
                Limit(check="robustness.pgd", measure="robust_accuracy", at_least=0.5),
            )),
            data={"sensitive": ["sex"]},
        )
    )  # fmt: skip
    annex = {key: {c for name, c in taxa if name == "eu-ai-act-annex-iv"} for key, taxa in found.items()}
    assert annex == {
        ("performance.accuracy", "accuracy", ()): {"2(g) accuracy", "3 overall accuracy"},
        ("performance.accuracy", "accuracy", ("sex",)): set(),
        ("fairness.groups", "accuracy", ("sex",)): {"3 accuracy for groups"},
        ("fairness.groups", "selection_rate_ratio", ("sex",)): set(),
        ("robustness.pgd", "robust_accuracy", ()): set(),
        ("robustness.fgsm", "", ()): {"2(h) evasion"},
        ("reliability.ood", "", ()): set(),
    }


def test_what_results_carry_is_what_the_matrix_of_a_document_says(golden):
    """Without limits every measured check is one result: together they hold all that was evidenced."""
    bare = judge(golden, Policy())
    run = run_of(bare)
    found = set().union(*(pairs_of(run, item.get("taxa", ())) for item in run["results"]))
    expected = {
        (name, item.clause.id)
        for name in packs()
        for item in coverage(bare, read_document(name)).clauses
        if any(not source.missing for source in item.sources)
    }
    assert found == expected
    assert len(found) > 10


def test_a_log_that_points_to_no_clause_is_refused(golden):
    for spoil in (
        lambda run: run["taxonomies"][0].pop("name"),
        lambda run: run["taxonomies"][0]["taxa"][0].pop("id"),
        lambda run: run["tool"]["driver"]["rules"][0]["relationships"][0].pop("target"),
        lambda run: run["tool"]["driver"]["rules"][0]["relationships"][0]["target"].update(clause="1"),
        lambda run: next(r for r in run["results"] if "taxa" in r).update(taxa=["1"]),
    ):
        log = log_of(golden)
        spoil(log["runs"][0])
        assert faults(log, SARIF)


def test_frameworks_add_little_and_a_run_that_names_none_adds_nothing(golden):
    run = run_of(golden)
    parts = [run["taxonomies"], *(rule.get("relationships", []) for rule in run["tool"]["driver"]["rules"])]
    assert sum(len(json.dumps(part)) for part in parts) < 40_000
    stranger = run_of(records.every_verdict())
    assert stranger["taxonomies"] == []
    assert not any("taxa" in item for item in stranger["results"])
    assert "supportedTaxonomies" not in stranger["tool"]["driver"]


def test_a_limit_that_found_no_number_evidences_nothing_beside_one_that_did():
    finding = Finding(
        check="performance.accuracy", version="1", title="t", status="measured",
        measures=(proportion("accuracy", 90, 100),),
    )  # fmt: skip
    asked = Limit(check=finding.check, measure="accuracy", at_least=0.5)
    limits = (asked, replace(asked, where={"epsilon": 0.1}))
    record = records.made((finding,), policy=Policy(limits=limits))
    found = taxonomies(record, [finding.check])
    held, unmatched = answers(record)
    assert held.judgement.matched
    assert not unmatched.judgement.matched
    assert found.evidenced_by(held)
    assert list(found.evidenced_by(unmatched)) == []
