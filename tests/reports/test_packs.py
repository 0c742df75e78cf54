"""The shipped packs say what the frameworks say, and name nothing that no check can measure."""

import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from audit.checks.fairness.ll144 import ll144
from audit.checks.fairness.ll144_published import ll144_published
from audit.config import read_config
from audit.coverage import Status, coverage, open_items, warnings
from audit.document import read_document
from audit.errors import ConfigError
from audit.evidence import Measure
from audit.measure import measure, set_up
from audit.policy import Policy, Verdict
from audit.record import SCHEMA, Finding, Outcome, Planned, Record
from audit.registry import Broken, installed_check, installed_products
from audit.render import render
from audit.stats import proportion
from audit.worker import load_both

REPORTS = Path(__file__).parents[2] / "reports"
PACKS = (
    "eu-ai-act-annex-iv", "eu-ai-act-articles-9-15", "four-fifths-rule", "iso-42001", "model-card",
    "nist-ai-rmf-measure", "nyc-ll144-summary", "reg-b-reasons", "sr-11-7", "sr-26-2-model-risk",
)  # fmt: skip
DOCUMENTS = (*PACKS, "executive-summary")
STATUS = {
    "eu-ai-act-annex-iv": "deferred",
    "eu-ai-act-articles-9-15": "deferred",
    "four-fifths-rule": "in force",
    "iso-42001": "voluntary",
    "model-card": "voluntary",
    "nist-ai-rmf-measure": "voluntary",
    "nyc-ll144-summary": "in force",
    "reg-b-reasons": "in force",
    "sr-11-7": "superseded",
    "sr-26-2-model-risk": "in force",
}
EU_DATES = (date(2026, 7, 27), date(2026, 8, 2), date(2027, 12, 2), date(2028, 8, 2))
# ISO/IEC 42001:2023, Annex A: the last control of each group of controls, the first being .2
ISO = {
    "A.2": 4, "A.3": 3, "A.4": 6, "A.5": 5, "A.6.1": 3, "A.6.2": 8, "A.7": 6, "A.8": 5, "A.9": 4, "A.10": 4,
}  # fmt: skip
NEVER = {("eu-ai-act-annex-iv", "8"), ("reg-b-reasons", "1002.9 notice")}
FORBIDDEN = re.compile(
    r"compl(y|ies|ied|iant|iance)\b|conforms\b|certif(y|ies|ied)\b|guarantee|todo", re.IGNORECASE
)
# 6 RCNY 5-301, example of selection rates: applicants and selected, as published
A = """
sex,Male,,1390,667
sex,Female,,1181,555
race,,Hispanic,408,204
race,,White,797,412
race,,Black,390,170
race,,Islander,119,52
race,,Asian,616,302
race,,Native,41,18
race,,Two,213,96
intersectional,Male,Hispanic,205,90
intersectional,Male,White,412,215
intersectional,Male,Black,226,95
intersectional,Male,Islander,87,37
intersectional,Male,Asian,321,167
intersectional,Male,Native,24,11
intersectional,Male,Two,115,52
intersectional,Female,Hispanic,190,82
intersectional,Female,White,385,197
intersectional,Female,Black,164,75
intersectional,Female,Islander,32,15
intersectional,Female,Asian,295,135
intersectional,Female,Native,17,7
intersectional,Female,Two,98,44
""".strip().splitlines()
CONFIG = """
[model]
predictions = "decision"
[data]
path = "counts.csv"
favourable = "selected"
sensitive = ["sex", "race"]
count = "people"
[checks]
run = ["fairness.*"]
"""


def clauses(name):
    return {clause.id: clause for clause in read_document(name).clauses}


def record(*findings, sensitive=("sex",)):
    return Record(
        schema=SCHEMA,
        tool={},
        run={"started": "2026-11-21T09:00:00+00:00"},
        environment={},
        model={"file": "m.pt2", "task": "classification"},
        data={"file": "d.csv", "rows": 100, "sensitive": list(sensitive), "modality": "tabular"},
        policy=Policy(),
        plan=tuple(Planned(check=item.check, asked="pattern") for item in findings),
        findings=findings,
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )


def finding(check, *measures):
    return Finding(check=check, version="1", title=check, status="measured", measures=measures)


def statuses(name, *findings):
    return {item.clause.id: item.status for item in coverage(record(*findings), read_document(name)).clauses}


def women(name):
    return proportion(name, 40, 50, group={"sex": "Female"})


OVERALL = finding("performance.accuracy", proportion("accuracy", 80, 100))
RUN = (
    OVERALL,
    finding("fairness.groups", women("accuracy"), women("selection_rate"), Measure(
        name="selection_rate_ratio", value=0.9, group={"sex": "Female"}, n=100)),
    finding("robustness.corruptions", proportion("mean_corruption_accuracy", 70, 100)),
    finding("robustness.pgd", proportion("robust_accuracy", 30, 100)),
)  # fmt: skip


def measure_names(check):
    """What a check declares; a check is refused at work where it measures anything else."""
    found = installed_check(check)
    assert not isinstance(found, Broken), found
    assert found.measures, f"{check} declares nothing"
    return found.measures


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_reads_and_uses_no_forbidden_word(name):
    document = read_document(name)
    assert document.name == name
    assert document.sections[0].template == "summary"
    text = (REPORTS / f"{name}.toml").read_text()
    assert not FORBIDDEN.findall(re.sub(r"https://\S+", "", text))
    said = [line for line in text.splitlines() if "declaration of conformity" in line.lower()]
    assert all("label" in line or "part" in line for line in said)
    assert bool(said) == (name == "eu-ai-act-annex-iv")


@pytest.mark.parametrize("name", PACKS)
def test_every_capability_names_a_measure_that_its_check_produces(name):
    for clause in read_document(name).clauses:
        for item in clause.evidence:
            lacking = set(item.measures) - measure_names(item.check)
            assert not lacking, f"{clause.id}: {item.check} does not measure {lacking}"


@pytest.mark.parametrize("name", PACKS)
def test_a_shipped_pack_with_a_slip_in_a_measure_is_refused_with_the_nearest(name, tmp_path):
    text = (REPORTS / f"{name}.toml").read_text()
    first = re.search(r'measures = \["(\w+)"', text)[1]
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace(f'measures = ["{first}"', f'measures = ["{first}s"'))
    with pytest.raises(ConfigError) as error:
        read_document(path)
    assert f"does not measure '{first}s'; the nearest is '{first}'" in str(error.value)
    assert str(path) in str(error.value)


def test_a_name_that_no_check_measures_would_be_found():
    assert "impact_ratio" in measure_names("fairness.ll144")
    assert "impact_rating" not in measure_names("fairness.ll144")
    assert "selection_rate_ratio" not in measure_names("robustness.pgd")


@pytest.mark.parametrize("name", PACKS)
def test_identity_is_that_of_the_reference(name):
    framework = read_document(name).framework
    assert framework.status == STATUS[name]
    assert (framework.verified_on, framework.review_by) == (date(2026, 11, 21), date(2027, 5, 21))
    assert framework.sources
    assert "secondary" in framework.note
    assert "have a person check" in framework.note.lower()
    days = tuple(day for day, _ in framework.applies_from)
    assert days == tuple(sorted(days))
    if name.startswith("eu-"):
        assert days == EU_DATES
    if name.startswith("sr-"):
        assert days == (date(2026, 4, 17),)


def test_the_superseded_letter_warns_and_names_one_that_is_installed():
    framework = read_document("sr-11-7").framework
    assert read_document(framework.superseded_by).framework.status == "in force"
    (said,) = warnings(record(), framework)
    assert "superseded" in said
    assert not warnings(record(), read_document("sr-26-2-model-risk").framework)


@pytest.mark.parametrize("name", PACKS)
def test_clauses_are_short_and_unique_and_state_what_is_asked(name):
    entries = tomllib.loads((REPORTS / f"{name}.toml").read_text())["clauses"]
    assert len({entry["id"] for entry in entries}) == len(entries)
    for entry in entries:
        assert len(entry["label"]) <= 120
        assert len(entry["id"]) <= 40
        assert len(entry.get("statement", "")) <= 300
    assert {(name, e["id"]) for e in entries if e["evidenced_by"] == "never"} == {
        x for x in NEVER if x[0] == name
    }


def test_annex_iv_has_nine_points_of_which_two_are_lettered():
    found = clauses("eu-ai-act-annex-iv")
    points = list(dict.fromkeys(re.match(r"[0-9]+", key)[0] for key in found))
    assert points == list("123456789")
    letters = {key: re.match(r"[0-9]\(([a-z])\)", key) for key in found}
    for point in "12":
        lettered = [m[1] for key, m in letters.items() if m and key[0] == point]
        assert list(dict.fromkeys(lettered)) == list("abcdefgh")
    assert all(letters[key] is None for key in found if key[0] not in "12")
    assert all(clause.part.startswith(f"{key[0]} ") for key, clause in found.items())
    measured = {key for key, clause in found.items() if clause.evidence}
    assert {key[:4] for key in measured if key[0] == "2"} == {"2(e)", "2(g)", "2(h)"}
    assert {key for key in measured if key[0] != "2"} == {"3 overall accuracy", "3 accuracy for groups"}


def test_annex_iv_is_fed_by_what_it_names_and_by_nothing_else():
    name = "eu-ai-act-annex-iv"
    full = statuses(name, *RUN)
    measured = {key for key, status in full.items() if status is Status.MEASURED}
    assert measured == {
        "2(g) accuracy", "2(g) robustness", "2(g) impacts on groups", "2(h) evasion",
        "3 overall accuracy", "3 accuracy for groups",
    }  # fmt: skip
    assert full["8"] is Status.NEVER_GENERATED
    lost = {
        check: {key for key, status in statuses(name, *rest).items() if status is not full[key]}
        for check, rest in ((item.check, [x for x in RUN if x is not item]) for item in RUN)
    }
    assert lost == {
        "performance.accuracy": {"2(g) accuracy", "3 overall accuracy"},
        "fairness.groups": {"2(g) impacts on groups", "3 accuracy for groups"},
        "robustness.corruptions": {"2(g) robustness"},
        "robustness.pgd": {"2(h) evasion"},
    }


def test_accuracy_of_a_group_is_no_overall_accuracy_and_the_other_way_round():
    alone = finding("performance.accuracy", women("accuracy"))
    whole = finding("fairness.groups", proportion("accuracy", 80, 100))
    found = statuses("eu-ai-act-annex-iv", alone, whole)
    assert found["3 overall accuracy"] is Status.NOT_EVIDENCED
    assert found["3 accuracy for groups"] is Status.NOT_EVIDENCED


def test_the_accuracy_of_a_regression_is_its_error_of_the_whole():
    """Wherever a pack asks how good the model is, a model that predicts numbers can answer too."""
    whole = finding("performance.error", proportion("mean_absolute_error", 8, 10))
    of_women = finding("performance.error", women("mean_absolute_error"))
    asked = {
        (name, clause.id)
        for name in PACKS
        for clause in read_document(name).clauses
        if any(item.check == "performance.accuracy" for item in clause.evidence)
    }
    answered = {(name, k) for name in PACKS for k, s in statuses(name, whole).items() if s is Status.MEASURED}
    assert answered == asked - {("nist-ai-rmf-measure", "2.5")}, "2.5 asks for disturbed inputs besides"
    assert {name for name, _ in answered} == {
        "eu-ai-act-annex-iv", "eu-ai-act-articles-9-15", "iso-42001", "model-card", "nist-ai-rmf-measure",
        "sr-11-7", "sr-26-2-model-risk",
    }  # fmt: skip
    assert not any(s is Status.MEASURED for name in PACKS for s in statuses(name, of_women).values())


def both(name):
    return proportion(name, 40, 50, group={"sex": "Female", "race": "Black"})


def test_intersections_are_evidenced_by_intersections_and_by_nothing_else():
    sensitive = ("sex", "race")
    card = read_document("model-card")
    for measures, expected in [
        ((women("accuracy"),), {"unitary"}),
        ((both("accuracy"),), {"intersectional"}),
        ((women("accuracy"), both("accuracy")), {"unitary", "intersectional"}),
    ]:
        for check, name in (("fairness.groups", "accuracy"), ("fairness.regression", "mean_absolute_error")):
            named = tuple(replace(m, name=name) for m in measures)
            found = coverage(record(finding(check, *named), sensitive=sensitive), card)
            assert {item.clause.id for item in found.clauses if item.is_measured} == expected


def test_without_its_intersectional_table_the_local_law_is_not_evidenced(local_law):
    """Two tables of three do not do, nor does the third alone."""
    counted, _ = local_law
    law = read_document("nyc-ll144-summary")
    tables = {"5-301 rates", "5-301 impact ratios", "5-303 applicants", "5-303 rates and ratios"}
    single = tuple(m for m in counted.measures if len(m.group) == 1)
    crossed = tuple(m for m in counted.measures if len(m.group) == 2)
    assert len(single) + len(crossed) == len(counted.measures)
    for measures, expected in ((counted.measures, tables), (single, set()), (crossed, set())):
        kept = record(replace(counted, measures=measures), sensitive=("sex", "race"))
        found = coverage(kept, law)
        assert {item.clause.id for item in found.clauses if item.is_measured} == expected
    rates = next(item for item in found.clauses if item.clause.id == "5-301 rates")
    assert [source.missing for source in rates.sources] == [
        "measured, but not by one sensitive feature alone", ""
    ]  # fmt: skip


def test_of_five_kinds_of_attack_only_evasion_is_evidenced():
    found = {key: item for key, item in clauses("eu-ai-act-articles-9-15").items() if key.startswith("15(5)")}
    assert len(found) == 5
    assert {key for key, item in found.items() if item.evidence} == {"15(5) evasion"}
    said = statuses("eu-ai-act-articles-9-15", RUN[3])
    assert {key for key, status in said.items() if status is Status.MEASURED} == {
        "15(5) evasion", "13(3)(b)(ii) evasion",
    }  # fmt: skip
    assert said["15(4)"] is Status.NOT_EVIDENCED
    assert {read.split("(")[0] for read in said} == {str(article) for article in range(9, 16)}


def test_oversight_logging_and_data_governance_are_for_people():
    found = clauses("eu-ai-act-articles-9-15")
    assert all(found[key].evidenced_by == "attested" for key in ("9", "10(2)", "11", "12", "14"))
    explains = {
        (name, item.check)
        for name in PACKS
        if name.startswith("eu-")
        for clause in read_document(name).clauses
        for item in clause.evidence
        if item.check.startswith("interpretability.")
    }
    assert {check for _, check in explains} == {"interpretability.trust"}


def test_iso_42001_has_its_38_controls():
    wanted = [f"{group}.{number}" for group, last in ISO.items() for number in range(2, last + 1)]
    found = clauses("iso-42001")
    assert len(found) == 38
    assert list(found) == wanted
    assert {key for key, item in found.items() if item.evidence} == {"A.5.4", "A.6.2.4", "A.7.4"}
    assert all(len(item.label) <= 40 for item in found.values())


def test_nist_measure_has_its_subcategories():
    wanted = [f"{group}.{i + 1}" for group, many in ((1, 3), (2, 13), (3, 3), (4, 3)) for i in range(many)]
    found = clauses("nist-ai-rmf-measure")
    assert list(found) == wanted
    assert {key for key, item in found.items() if item.evidenced_by == "measured"} == {
        "2.1", "2.7", "2.11", "2.13",
    }  # fmt: skip
    assert all(found[key].evidenced_by == "attested" for key in ("1.1", "2.4", "2.6", "2.8", "2.12", "3.1"))


def test_the_model_card_has_nine_parts():
    parts = list(dict.fromkeys(clause.part for clause in read_document("model-card").clauses))
    assert parts == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip
    assert {"overall", "unitary", "intersectional"} <= set(clauses("model-card"))


def test_reason_candidates_are_no_notice():
    document = read_document("reg-b-reasons")
    assert "reason candidates, not a notice" in document.purpose
    assert {item.check for clause in document.clauses for item in clause.evidence} == {
        "interpretability.reason_codes"
    }


def test_the_local_law_sets_no_threshold_and_feeds_on_its_own_checks():
    document = read_document("nyc-ll144-summary")
    assert {item.check for clause in document.clauses for item in clause.evidence} == {
        "fairness.ll144", "fairness.ll144_published",
    }  # fmt: skip
    assert any("no threshold" in section.intro for section in document.sections)
    assert not any(clause.evidence for clause in document.clauses if "distribution" in clause.id)


@pytest.mark.parametrize("name", PACKS)
def test_an_empty_run_is_all_gaps_and_still_a_document(name):
    document = read_document(name)
    found = coverage(record(), document)
    never = {key for pack, key in NEVER if pack == name}
    gaps = {item.clause.id for item in found.clauses if item.status is Status.NOT_EVIDENCED}
    assert gaps == {clause.id for clause in document.clauses} - never
    asked = [clause.id for clause in document.clauses if clause.evidenced_by in ("attested", "both")]
    assert [[item.id for item in items] for _, items in open_items(record(), [document])] == [asked]
    page = render(record(), name)
    assert page.lower().startswith("<!doctype html>")
    assert page.count("<tr") >= len(document.clauses)


@pytest.fixture
def local_law(tmp_path):
    """The two findings on example A: its decision table, and its tables as published."""
    cells = [line.split(",") for line in A]
    people = [
        f"{c[1]},{c[2]},{decision},{count}"
        for c in cells
        if c[0] == "intersectional"
        for decision, count in (("selected", c[4]), ("rejected", int(c[3]) - int(c[4])))
    ]
    (tmp_path / "counts.csv").write_text("\n".join(["sex,race,decision,people", *people]) + "\n")
    header = "table,sex,race,applicants,selected,rate,ratio"
    (tmp_path / "tables.csv").write_text("\n".join([header, *(f"{line},," for line in A)]) + "\n")
    (tmp_path / "audit.toml").write_text(CONFIG)
    config = read_config(tmp_path / "audit.toml")
    bench = set_up(*load_both(config), config.seed, installed_products(), config.folder)
    published = ll144_published.settings({"path": "tables.csv", "unknown": 0})
    return [
        measure(ll144, ll144.settings({}), bench, None),
        measure(ll144_published, published, bench, None),
    ]


def test_the_local_law_document_prints_three_tables_and_flags_the_row_that_contradicts(local_law):
    counted, published = local_law
    found = record(counted, published, sensitive=("sex", "race"))
    pack = coverage(found, read_document("nyc-ll144-summary"))
    assert {item.clause.id for item in pack.clauses if item.status is Status.MEASURED} == {
        "5-301 rates", "5-301 impact ratios", "5-303 applicants", "5-303 rates and ratios",
        "own: published tables",
    }  # fmt: skip
    page = render(found, "nyc-ll144-summary")
    for table in ("sex", "race", "sex x race"):
        assert page.count(f">Selection rate and impact ratio by {table}<") >= 1
    assert "1 of 23 published rows disagree" in page
    assert page.count("408 applicants and 204 selected") == 1
    alone = coverage(record(published, sensitive=("sex", "race")), read_document("nyc-ll144-summary"))
    assert [item.clause.id for item in alone.clauses if item.status is Status.MEASURED] == [
        "own: published tables"
    ]


# 6 RCNY 5-301: the impact ratios as the rule prints them
RATIOS = {
    "Male": "1.00", "Female": "0.979", "Hispanic": "0.97", "White": "1.00", "Black": "0.84",
    "Islander": "0.85", "Asian": "0.95", "Native": "0.85", "Two": "0.87",
}  # fmt: skip
CROSSED = {
    "Male": "Hispanic .841 White 1.000 Black .806 Islander .815 Asian .997 Native .878 Two .866",
    "Female": "Hispanic .827 White .981 Black .876 Islander .898 Asian .877 Native .789 Two .860",
}


def rows_of(page):
    rows = [re.split(r"</t[hd]>", row) for row in re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL)]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in rows]


def test_the_numbers_of_the_rule_stand_in_the_document(local_law):
    """Example A of 6 RCNY 5-301: every impact ratio, with the counts it is of."""
    page = rows_of(render(record(*local_law, sensitive=("sex", "race")), "nyc-ll144-summary"))
    counted = {tuple(row[:2]): row for row in page if row[:2] != ["sex", "race"] and len(row) == 8}
    counts = {tuple(c[1:3]): c[3:] for c in (line.split(",") for line in A) if c[0] == "intersectional"}
    for sex, line in CROSSED.items():
        words = line.split()
        for race, ratio in zip(words[::2], words[1::2], strict=True):
            row = counted[sex, race]
            assert [row[2], row[3]] == counts[sex, race]
            assert f"{float(row[5]):.3f}" == f"{float(ratio):.3f}"
    published = {row[2]: row for row in page if row[1:2] in (["sex"], ["race"]) and len(row) > 10}
    assert published.keys() == RATIOS.keys()
    for name, ratio in RATIOS.items():
        rounding = 0.5 * 10 ** -len(ratio.partition(".")[2]) + 0.0005
        assert float(published[name][8]) == pytest.approx(float(ratio), abs=rounding)
    assert [name for name, row in published.items() if "disagrees" in row[11]] == ["Hispanic"]
    (rates,) = [row for row in page if row[0] == "5-301 rates"]
    assert "by one sensitive feature alone, selection rate, 9 numbers" in rates[3]
    assert "for groups of several sensitive features at once, selection rate, 14 numbers" in rates[3]
    by_sex = {row[0]: row for row in page if row[0] in ("Male", "Female") and len(row) == 7}
    assert [row[1:3] for row in by_sex.values()] == [["1,181", "555"], ["1,390", "667"]]


def test_a_pack_of_ones_own_is_refused_on_the_command_line(tmp_path):
    text = (REPORTS / "four-fifths-rule.toml").read_text().replace("four-fifths-rule", "mine")
    (tmp_path / "mine.toml").write_text(text.replace("selection_rate_ratio", "selection_rate_ration"))
    command = [Path(sys.executable).with_name("model-audit"), "documents", "--pack", "mine.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.strip().endswith(
        "mine.toml: clause '1607.4(D) ratio': evidence: 'fairness.groups' does not measure "
        "'selection_rate_ration'; the nearest is 'selection_rate_ratio'."
    )


def test_the_executive_summary_is_one_section_without_a_matrix():
    document = read_document("executive-summary")
    assert [section.template for section in document.sections] == ["summary"]
    assert not document.clauses
    assert "<article" not in render(record(*RUN), "executive-summary")
