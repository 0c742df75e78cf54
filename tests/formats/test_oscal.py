"""OSCAL assessment results: valid, satisfied for a PASS alone, and identified by the record alone."""

import json
import re

import pytest
import records
from published import OSCAL, faults

from audit.formats.oscal import oscal


def document_of(record):
    return json.loads(oscal(record))


def result_of(record):
    (result,) = document_of(record)["assessment-results"]["results"]
    return result


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return records.golden(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("make", [records.empty, records.stopped, records.every_verdict, records.relaxed])
def test_it_keeps_the_schema(make):
    assert faults(document_of(make()), OSCAL) == []


def test_the_golden_record_keeps_the_schema(golden):
    assert faults(document_of(golden), OSCAL) == []


@pytest.mark.parametrize("text", records.HOSTILE)
def test_hostile_texts_keep_the_schema(text):
    assert faults(document_of(records.hostile(text)), OSCAL) == []


def test_the_schema_finds_planted_faults():
    planted = [
        lambda top, result: top.update(uuid="x"),
        lambda top, result: top["metadata"].update({"last-modified": "yesterday"}),
        lambda top, result: top["metadata"].update(title="two\nlines"),
        lambda top, result: result.pop("reviewed-controls"),
        lambda top, result: result["findings"][0]["target"]["status"].update(state="inconclusive"),
        lambda top, result: result["findings"][0]["target"].update({"target-id": "a b"}),
        lambda top, result: result["findings"][0]["props"][0].update(value=" padded "),
        lambda top, result: result["observations"][0].update(methods=[]),
        lambda top, result: result.update(risks=[]),
    ]
    for plant in planted:
        document = document_of(records.every_verdict())
        top = document["assessment-results"]
        plant(top, top["results"][0])
        assert faults(document, OSCAL)


def test_only_a_pass_is_satisfied():
    found = result_of(records.every_verdict())["findings"]
    got = {}
    for item in found:
        verdict = next(prop["value"] for prop in item["props"] if prop["name"] == "verdict")
        status = item["target"]["status"]
        got[verdict] = (status["state"], status["reason"])
    assert got == {
        "PASS": ("satisfied", "pass"),
        "FAIL": ("not-satisfied", "fail"),
        "INCONCLUSIVE": ("not-satisfied", "other"),
        "NOT_EVALUABLE": ("not-satisfied", "other"),
        "NOT_APPLICABLE": ("not-satisfied", "other"),
        "BROKEN": ("not-satisfied", "other"),
    }
    remarks = [item["target"]["status"]["remarks"] for item in found]
    assert any(text.startswith("INCONCLUSIVE: the interval") for text in remarks)


def test_what_was_not_judged_is_an_observation_and_no_finding():
    result = result_of(records.every_verdict())
    observed = [item["title"] for item in result["observations"]]
    assert "a.unjudged: Unjudged" in observed
    assert not any("unjudged" in item["title"] for item in result["findings"])


def test_a_risk_is_open_for_every_broken_limit_and_for_nothing_else():
    result = result_of(records.every_verdict())
    (risk,) = result["risks"]
    assert (risk["title"], risk["status"]) == ("Limit broken: a.measured: fails at least 0.8", "open")
    related = [item for item in result["findings"] if "related-risks" in item]
    assert [item["related-risks"][0]["risk-uuid"] for item in related] == [risk["uuid"]]


def uuids(value):
    """(UUIDs that name something, UUIDs that refer to something)."""
    names, refers = [], []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key == "uuid":
            names.append(item)
        elif isinstance(key, str) and key.endswith("-uuid"):
            refers.append(item)
        below = uuids(item)
        names, refers = names + below[0], refers + below[1]
    return names, refers


def test_every_uuid_is_made_once_and_every_reference_leads_to_one(golden):
    document = document_of(golden)
    names, refers = uuids(document)
    assert len(names) == len(set(names)) > 20
    assert set(refers) <= set(names)
    assert document["assessment-results"]["import-ap"]["href"].removeprefix("#") in names
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", n) for n in names
    )


def test_another_record_has_other_uuids(golden):
    first, second = (set(uuids(document_of(item))[0]) for item in (golden, records.every_verdict()))
    assert not first & second
    assert set(uuids(document_of(golden))[0]) == first


def test_no_control_of_a_catalog_is_said_to_be_reviewed(golden):
    (selection,) = result_of(golden)["reviewed-controls"]["control-selections"]
    assert selection["description"].startswith("No control of a catalog was reviewed")
    chosen = [item["control-id"] for item in selection["include-controls"]]
    assert chosen[:2] == ["check.performance.accuracy", "check.fairness.groups"]
    (none,) = result_of(records.empty())["reviewed-controls"]["control-selections"]
    assert none["include-controls"] == [{"control-id": "none"}]


def test_a_time_that_is_not_known_is_said_to_be_unknown(golden):
    unknown = document_of(records.empty())["assessment-results"]["metadata"]
    assert unknown["last-modified"] == "1970-01-01T00:00:00Z"
    assert "does not state all its times" in unknown["remarks"]
    known = document_of(golden)["assessment-results"]["metadata"]
    assert known["last-modified"] == "2026-11-20T09:15:31Z"
    assert "remarks" not in known


def markdown(value):
    """Texts that a reader of OSCAL sets as Markdown."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key in ("title", "description", "remarks", "statement"):
            yield item
        yield from markdown(item)


@pytest.mark.parametrize("text", records.HOSTILE)
def test_no_text_becomes_a_tag_a_link_or_an_image(text):
    said = list(markdown(document_of(records.hostile(text))))
    assert said
    for item in said:
        assert "<" not in item
        assert "](" not in item
        assert re.search(r"\]:", item) is None


def test_the_outcome_tells_waivers_profile_and_what_was_left_out():
    (result,) = document_of(records.relaxed())["assessment-results"]["results"]
    facts = {item["name"]: item["value"] for item in result["props"]}
    assert (facts["waived"], facts["profile"], facts["leftOut"]) == ("1", "standard", "2")
    assert "shift.noise was left out of this run: The budget was spent." in result["remarks"]
    assert [item["status"] for item in result["risks"]] == ["deviation-approved"]
