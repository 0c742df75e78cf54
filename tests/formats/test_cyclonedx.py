"""CycloneDX 1.6: valid, every number as it is, evidence tied to what it settles, and no conformity."""

import json
from dataclasses import replace

import pytest
import records
from published import CYCLONEDX, faults

from audit.evidence import Doubt, Measure
from audit.formats.cyclonedx import cyclonedx
from audit.record import Planned


def bom_of(record):
    return json.loads(cyclonedx(record))


def card_of(bom):
    return bom["components"][0]["modelCard"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return records.golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def bom(golden):
    return bom_of(golden)


@pytest.mark.parametrize("make", [records.empty, records.stopped, records.every_verdict, records.relaxed])
def test_it_keeps_the_schema(make):
    assert faults(bom_of(make()), CYCLONEDX) == []


def test_the_golden_record_keeps_the_schema(bom):
    assert faults(bom, CYCLONEDX) == []


@pytest.mark.parametrize("text", records.HOSTILE)
def test_hostile_texts_keep_the_schema(text):
    assert faults(bom_of(records.hostile(text)), CYCLONEDX) == []


def test_what_a_check_says_against_numbers_of_others_is_among_the_limitations():
    doubt = Doubt(checks=("a.measured",), measures=("passes",), reason="gradients are masked")
    base = records.every_verdict()
    record = replace(base, findings=(*base.findings[:-1], replace(base.findings[-1], doubts=(doubt,))))
    limitations = card_of(bom_of(record))["considerations"]["technicalLimitations"]
    assert "passes of a.measured must not be relied on: Gradients are masked." in limitations


def test_the_schema_finds_planted_faults(golden):
    planted = [
        lambda bom: bom.update(bomFormat="SPDX"),
        lambda bom: bom.update(serialNumber="urn:uuid:x"),
        lambda bom: bom["components"][0].update(type="model"),
        lambda bom: card_of(bom)["quantitativeAnalysis"]["performanceMetrics"][0].update(value=0.5),
        lambda bom: bom["components"][0]["hashes"][0].update(content="xyz"),
        lambda bom: bom["declarations"]["claims"][0].update(verdict="PASS"),
        lambda bom: bom["metadata"].update(timestamp="yesterday"),
    ]
    for plant in planted:
        fresh = bom_of(golden)
        plant(fresh)
        assert faults(fresh, CYCLONEDX)


def references(value):
    """Every `bom-ref`, and everything that refers to one."""
    made, used = [], []
    if isinstance(value, dict):
        made += [value["bom-ref"]] if "bom-ref" in value else []
        used += [value[key] for key in ("ref", "target", "assessor") if key in value]
        used += [
            item
            for key in ("evidence", "counterEvidence")
            for item in value.get(key, ())
            if isinstance(item, str)
        ]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        below = references(item)
        made, used = made + below[0], used + below[1]
    return made, used


@pytest.mark.parametrize(
    "make", [records.empty, records.every_verdict, lambda: records.hostile("x" * 10_000)]
)
def test_every_reference_leads_to_one_thing(make):
    made, used = references(bom_of(make()))
    assert len(made) == len(set(made))
    assert set(used) <= set(made)
    assert {"model", "dataset", "assessor"} <= set(made)


def test_model_and_data_are_components_with_their_hashes(bom):
    model, data = bom["components"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "lesion_cnn.pt2")
    assert model["hashes"] == [{"alg": "SHA-256", "content": "a1" * 32}]
    assert (data["type"], data["name"], data["hashes"][0]["content"]) == (
        "data",
        "lesions_test.npz",
        "b2" * 32,
    )
    assert bom["metadata"]["tools"]["components"][0]["name"] == "model-audit"


def test_every_defined_number_is_there_exactly_with_its_interval(golden, bom):
    metrics = card_of(bom)["quantitativeAnalysis"]["performanceMetrics"]
    defined = [m for f in golden.findings for m in f.measures if m.value is not None]
    assert len(metrics) == len(defined) > 15
    for item, shown in zip(defined, metrics, strict=True):
        assert shown["type"] == item.name
        assert float(shown["value"]) == item.value
        assert float(shown["confidenceInterval"]["lowerBound"]) == item.low
        assert float(shown["confidenceInterval"]["upperBound"]) == item.high


def test_an_undefined_number_has_no_value_and_is_told_as_a_limitation(bom):
    slices = [m["slice"] for m in card_of(bom)["quantitativeAnalysis"]["performanceMetrics"]]
    assert not any("very dark" in item for item in slices)
    told = card_of(bom)["considerations"]["technicalLimitations"]
    (undefined,) = [item for item in told if "very dark" in item]
    assert undefined.startswith(
        "fairness.groups: false_positive_rate (skin_tone = very dark) is not evaluable"
    )


def test_a_number_in_doubt_is_told_as_a_limitation():
    finding = records.every_verdict().findings[1]
    doubted = Measure(name="rate", value=0.9, unreliable="weaker than noise", too_few="3 rows")
    told = card_of(bom_of(records.made((replace(finding, measures=(doubted,)),))))["considerations"]
    assert told["technicalLimitations"] == [
        "a.unjudged: rate (the whole) is unreliable: Weaker than noise.",
        "a.unjudged: rate (the whole) is shown and not judged: 3 rows.",
    ]


def test_evidence_is_tied_to_what_it_settles_and_to_nothing_else():
    claims = bom_of(records.every_verdict())["declarations"]["claims"]
    tied = {
        claim["predicate"]: next((key for key in ("evidence", "counterEvidence") if key in claim), None)
        for claim in claims
    }
    assert tied == {
        "a.measured: fails at least 0.8": "counterEvidence",
        "a.measured: spans at least 0.8": None,
        "a.measured: passes at least 0.8": "evidence",
        "a.measured: undefined at least 0.8": None,
        "b.broken: measured at all": None,
        "b.misfit: rate at most 0.5": None,
        "b.silent: measured at all": None,
    }
    neither = [claim["reasoning"] for claim in claims if tied[claim["predicate"]] is None]
    assert all("neither supports nor contradicts" in text for text in neither)


def test_no_conformity_is_declared(bom):
    declarations = bom["declarations"]
    assert set(declarations) == {"assessors", "claims", "evidence"}
    text = json.dumps(bom).lower()
    assert "complies" not in text
    assert "conformance" not in text
    assert "affirmation" not in text


def test_each_judged_group_is_assessed_with_its_verdicts(bom):
    assessed = card_of(bom)["considerations"]["fairnessAssessments"]
    assert [item["groupAtRisk"] for item in assessed] == [
        "skin_tone = light", "skin_tone = medium", "skin_tone = dark"
    ]  # fmt: skip
    dark = assessed[2]["harms"]
    assert dark.count("INCONCLUSIVE") == 2
    assert all(set(item) == {"groupAtRisk", "harms"} for item in assessed)


def test_the_outcome_stands_in_the_metadata(golden, bom):
    facts = {item["name"]: item["value"] for item in bom["metadata"]["properties"]}
    assert facts["model-audit:verdict"] == "FAIL"
    assert facts["model-audit:exit_code"] == "1"
    assert (facts["model-audit:planned"], facts["model-audit:measured"]) == ("11", "7")
    reasons = [item["value"] for item in bom["metadata"]["properties"] if item["name"].endswith(":reason")]
    assert reasons == list(golden.verdict.reasons)
    assert (facts["model-audit:profile"], facts["model-audit:leftOut"]) == ("standard", "0")


def test_what_was_left_out_is_counted_and_told_with_its_reason():
    bom = bom_of(records.relaxed())
    facts = {item["name"]: item["value"] for item in bom["metadata"]["properties"]}
    assert (facts["model-audit:waived"], facts["model-audit:leftOut"]) == ("1", "2")
    limitations = card_of(bom)["considerations"]["technicalLimitations"]
    assert "shift.noise was left out of this run: The budget was spent." in limitations


def test_an_audit_without_a_model_says_so_and_claims_no_hash():
    model = bom_of(records.stopped())["components"][0]
    assert "hashes" not in model
    assert model["description"].startswith("No model was run")


def test_a_check_that_broke_or_left_no_trace_is_told_among_the_limitations():
    record = records.every_verdict()
    gone = replace(record, plan=(*record.plan, Planned(check="c.gone", asked="name")))
    limitations = card_of(bom_of(gone))["considerations"]["technicalLimitations"]
    assert "b.broken: BROKEN: it crashed." in limitations
    assert "c.gone: BROKEN: it was asked for and not measured." in limitations
