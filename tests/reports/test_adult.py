"""Annex IV on a real run over UCI Adult: what is measured, what is open, and what falls with which check."""

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from audit.config import read_config
from audit.coverage import Status, coverage, open_items
from audit.document import read_document
from audit.record import plain, read_record
from audit.registry import installed_checks
from audit.render import render
from audit.resources import REPORTS
from audit.supervisor import run

TRAIN = Path(__file__).parents[2] / "examples" / "adult" / "train.py"
CHECKS = (
    "performance.accuracy", "fairness.groups", "fairness.ll144", "fairness.representation",
    "fairness.calibration", "robustness.corruptions", "robustness.fgsm", "reliability.calibration",
)  # fmt: skip
ANNEX = "eu-ai-act-annex-iv"
PACKS = {
    path.stem: tomllib.loads(path.read_text())
    for path in sorted(REPORTS.glob("*.toml"))
    if "[framework]" in path.read_text()
}


@pytest.fixture(scope="module")
def record(shared_data, tmp_path_factory):
    """The example's model, and of its audit the checks that this page speaks of."""
    folder = tmp_path_factory.mktemp("adult")
    command = [sys.executable, TRAIN, shared_data / "adult" / "adult.csv", folder]
    subprocess.run(command, check=True, capture_output=True)
    config = folder / "audit.toml"
    head, _, rest = config.read_text().partition("[checks]\n")
    kept = rest[rest.index("[policy.limits.") :]
    config.write_text(f"{head}[checks]\nrun = {json.dumps(CHECKS)}\n\n{kept}")
    run(read_config(config), config, folder / "run")
    return read_record(folder / "run")


def statuses(record, name=ANNEX):
    return {item.clause.id: item.status for item in coverage(record, read_document(name)).clauses}


def without(record, family):
    return replace(record, findings=tuple(f for f in record.findings if not f.check.startswith(family)))


def crossing(item, sensitive):
    """By how many sensitive features a measure tells people apart, read off the plain record."""
    compared = str(item.get("settings", {}).get("feature", "")).split(" x ")
    named = len(compared) if set(compared) <= set(sensitive) else 0
    return max(named, len(set(item.get("group", {})) & set(sensitive)))


def held(entry, facts):
    """Whether one line of a pack is evidenced, restated from the plain record and the plain file."""
    sensitive = facts["data"]["sensitive"]
    wanted = {
        True: lambda m: crossing(m, sensitive) > 0,
        False: lambda m: not m.get("group") and crossing(m, sensitive) == 0,
        "single": lambda m: crossing(m, sensitive) == 1,
        "crossed": lambda m: crossing(m, sensitive) > 1,
        None: lambda m: True,
    }[entry.get("groups")]
    return any(
        finding["check"] == entry["check"]
        and finding["status"] == "measured"
        and item["name"] in entry["measures"]
        and item.get("value") is not None
        and wanted(item)
        for finding in facts["findings"]
        for item in finding["measures"]
    )


def measured(name, facts):
    found = set()
    for clause in PACKS[name]["clauses"]:
        lines = [held(entry, facts) for entry in clause.get("evidence", ())]
        if lines and (any if clause.get("any_of") else all)(lines):
            found.add(clause["id"])
    return found


def test_every_check_of_the_run_was_measured_and_measures_only_what_it_declares(record):
    assert {f.check: f.status for f in record.findings} == dict.fromkeys(CHECKS, "measured")
    assert record.data["rows"] == 16_281
    for finding in record.findings:
        assert {m.name for m in finding.measures} <= installed_checks()[finding.check].measures


def test_annex_iv_is_measured_where_a_machine_can_and_open_where_a_person_must(record):
    found = statuses(record)
    assert {key for key, status in found.items() if status is Status.MEASURED} == {
        "2(g) accuracy", "2(g) robustness", "2(g) impacts on groups", "2(h) evasion",
        "3 overall accuracy", "3 accuracy for groups",
    }  # fmt: skip
    assert {key for key, status in found.items() if status is Status.NEVER_GENERATED} == {"8"}
    people = [c["id"] for c in PACKS[ANNEX]["clauses"] if c["evidenced_by"] in ("attested", "both")]
    ((_, items),) = open_items(record, [read_document(ANNEX)])
    assert [clause.id for clause in items] == people
    assert len(people) > 20
    assert all(found[key] is Status.NOT_EVIDENCED for key in people if key != "3 accuracy for groups")


def test_overall_accuracy_and_that_of_groups_are_evidenced_apart(record):
    by_id = {item.clause.id: item for item in coverage(record, read_document(ANNEX)).clauses}
    whole = [m for s in by_id["3 overall accuracy"].sources for m in s.measures]
    groups = [m for s in by_id["3 accuracy for groups"].sources for m in s.measures]
    assert {m.name for m in whole} == {"accuracy", "balanced_accuracy"}
    assert all(not m.group for m in whole)
    assert {frozenset(m.group) for m in groups} == {
        frozenset(names) for names in (["sex"], ["race"], ["sex", "race"])
    }
    assert {m.group["sex"] for m in groups if tuple(m.group) == ("sex",)} == {"Female", "Male"}
    assert sum(m.n for m in groups if tuple(m.group) == ("race",)) == 16_281
    limits = [j.limit for s in by_id["3 overall accuracy"].sources for j in s.verdicts]
    assert limits, "the verdict of the limit on accuracy stands with the clause"
    assert not [j for s in by_id["3 accuracy for groups"].sources for j in s.verdicts]


@pytest.mark.parametrize("name", sorted(PACKS))
@pytest.mark.parametrize("family", ["fairness.", "performance.", "robustness.", "reliability.", ""])
def test_deleting_findings_turns_only_what_they_fed(record, family, name):
    less = without(record, family)
    before, after = (measured(name, plain(item)) for item in (record, less))
    old, new = statuses(record, name), statuses(less, name)
    assert {key for key, status in old.items() if status is Status.MEASURED} == before
    assert {key for key in old if old[key] is not new[key]} == before - after
    assert all(new[key] is Status.NOT_EVIDENCED for key in before - after)
    fed = {
        clause["id"]
        for clause in PACKS[name]["clauses"]
        if any(entry["check"].startswith(family) for entry in clause.get("evidence", ()))
    }
    kept = {
        item.clause.id: [source.measures for source in item.sources]
        for item in coverage(less, read_document(name)).clauses
    }
    for item in coverage(record, read_document(name)).clauses:
        if item.clause.id not in fed:
            assert kept[item.clause.id] == [source.measures for source in item.sources]


def test_what_turns_in_annex_iv_is_what_the_reference_says(record):
    turned = {
        family: {key for key, status in statuses(without(record, family)).items() if status is not was[key]}
        for was in [statuses(record)]
        for family in ("fairness.", "performance.", "robustness.", "reliability.")
    }
    assert turned == {
        "fairness.": {"2(g) impacts on groups", "3 accuracy for groups"},
        "performance.": {"2(g) accuracy", "3 overall accuracy"},
        "robustness.": {"2(g) robustness", "2(h) evasion"},
        "reliability.": set(),
    }


def rows_of(page):
    """Text of each row of the matrix by clause."""
    found = {}
    for row in re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL):
        cells = [" ".join(unescape(re.sub(r"<[^>]+>", " ", c)).split()) for c in re.split(r"</t[hd]>", row)]
        found.setdefault(cells[0], " | ".join(cells[1:]))
    return found


def test_the_pages_say_so(record):
    full, less = (rows_of(render(item, ANNEX)) for item in (record, without(record, "fairness.")))
    ids = [clause["id"] for clause in PACKS[ANNEX]["clauses"]]
    assert set(ids) <= full.keys()
    words = "MEASURED|ATTESTED|NOT EVIDENCED|NOT APPLICABLE|NEVER GENERATED"
    said = [{key: re.search(words, rows[key])[0] for key in ids} for rows in (full, less)]
    assert said[0] == {key: status.replace("_", " ") for key, status in statuses(record).items()}
    assert {key for key in ids if said[0][key] != said[1][key]} == {
        "2(g) impacts on groups", "3 accuracy for groups",
    }  # fmt: skip
    assert "this check was not run" in less["3 accuracy for groups"]
    assert "PASS" in full["3 overall accuracy"]
