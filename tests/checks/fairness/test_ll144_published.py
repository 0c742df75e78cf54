"""The tables of the rule as somebody would have published them: one row contradicts the others."""

import os
import subprocess
import sys
from fractions import Fraction
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checks.fairness.ll144_published import Printed, agreement, ll144_published
from audit.config import read_config
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.measure import measure, set_up
from audit.record import read_record
from audit.registry import installed_products
from audit.stats import METHODS
from audit.worker import load_both

HEADER = "table,sex,race,applicants,selected,rate,ratio"
# 6 RCNY 5-301, example of selection rates, as printed
A = """
sex,Male,,1390,667,48%,1.00
sex,Female,,1181,555,47%,0.979
race,,Hispanic,408,204,50%,0.97
race,,White,797,412,52%,1.00
race,,Black,390,170,44%,0.84
race,,Islander,119,52,44%,0.85
race,,Asian,616,302,49%,0.95
race,,Native,41,18,44%,0.85
race,,Two,213,96,45%,0.87
intersectional,Male,Hispanic,205,90,43.9%,0.841
intersectional,Male,White,412,215,52.2%,1.000
intersectional,Male,Black,226,95,42.0%,0.806
intersectional,Male,Islander,87,37,42.5%,0.815
intersectional,Male,Asian,321,167,52.0%,0.997
intersectional,Male,Native,24,11,45.8%,0.878
intersectional,Male,Two,115,52,45.2%,0.866
intersectional,Female,Hispanic,190,82,43.2%,0.827
intersectional,Female,White,385,197,51.2%,0.981
intersectional,Female,Black,164,75,45.7%,0.876
intersectional,Female,Islander,32,15,46.9%,0.898
intersectional,Female,Asian,295,135,45.8%,0.877
intersectional,Female,Native,17,7,41.2%,0.789
intersectional,Female,Two,98,44,44.9%,0.860
""".strip().splitlines()
# and the example of scoring rates, with the counts above the median that its rates stand for
B = """
sex,Male,,92,50,54.3%,1.00
sex,Female,,76,34,44.7%,0.82
race,,Hispanic,28,18,64.2%,1.00
race,,White,40,15,37.5%,0.58
race,,Black,32,16,50.0%,0.78
race,,Islander,8,5,62.5%,0.97
race,,Asian,24,10,41.7%,0.65
race,,Native,16,10,62.5%,0.97
race,,Two,20,10,50.0%,0.78
intersectional,Male,Hispanic,16,12,75%,1.00
intersectional,Male,White,20,7,35%,0.47
intersectional,Male,Black,20,10,50%,0.67
intersectional,Male,Islander,4,3,75%,1.00
intersectional,Male,Asian,12,7,58.3%,0.78
intersectional,Male,Native,8,5,62.5%,0.83
intersectional,Male,Two,12,6,50%,0.67
intersectional,Female,Hispanic,12,6,50%,0.67
intersectional,Female,White,20,8,40%,0.53
intersectional,Female,Black,12,6,50%,0.67
intersectional,Female,Islander,4,2,50%,0.67
intersectional,Female,Asian,12,3,25%,0.33
intersectional,Female,Native,8,5,62.5%,0.83
intersectional,Female,Two,8,4,50%,0.67
""".strip().splitlines()


def write(folder, rows, header=HEADER):
    (folder / "tables.csv").write_text("\n".join([header, *rows]) + "\n")


def run(folder, rows, header=HEADER, **settings):
    write(folder, rows, header)
    return ll144_published.measure(folder, **ll144_published.settings({"path": "tables.csv", **settings}))


def counts(evidence):
    names = ("rows", "rates", "ratios", "sums")
    found = {m.name: m.value for m in evidence.measures if m.method == "exact" or m.value is None}
    return tuple(found[f"disagreeing_{name}"] for name in names), found["truncated_values"]


def flagged(evidence):
    """Row numbers that disagree, from the table of rows checked."""
    (table,) = evidence.tables
    place = table.columns.index("result")
    return {row[0]: row[place] for row in table.rows if row[place] != "agrees"}


def changed(rows, number, old, new):
    """The rows with one cell of row `number` (from 1) written otherwise."""
    line = rows[number - 1]
    assert line.count(old) == 1
    return [*rows[: number - 1], line.replace(old, new), *rows[number:]]


def test_example_a_has_exactly_one_wrong_row(tmp_path):
    evidence = run(tmp_path, A, unknown=250)
    assert counts(evidence) == ((1, 0, 0, 1), 0)
    assert flagged(evidence) == {3: "disagrees: the sum"}
    (said,) = evidence.caveats
    assert said == (
        "tables.csv, row 3 (Hispanic in the table 'race') states 408 applicants and 204 selected; its "
        "intersections add up to 395 and 172."
    )
    sizes = {m.name: m.n for m in evidence.measures if m.method == "exact"}
    assert sizes == {
        "disagreeing_rows": 23, "disagreeing_rates": 23, "disagreeing_ratios": 23, "disagreeing_sums": 9,
        "truncated_values": 46,
    }  # fmt: skip


def test_example_b_agrees_but_for_one_number_that_is_cut_off(tmp_path):
    evidence = run(tmp_path, B, unknown=15, mode="scoring")
    assert counts(evidence) == ((0, 0, 0, 0), 1)
    assert flagged(evidence) == {}
    assert evidence.caveats == (
        "tables.csv, row 3 (Hispanic in the table 'race'): the rate is cut off, not rounded.",
    )
    assert {m.name for m in evidence.measures} >= {"scoring_rate", "impact_ratio"}


@pytest.mark.parametrize(
    ("number", "old", "new", "expected"),
    [
        (5, "44%", "45%", {5: "disagrees: the rate"}),
        (2, "0.979", "0.98", {}),
        (2, "0.979", "0.972", {2: "disagrees: the ratio"}),
        (2, "0.979", "1.021", {2: "disagrees: the ratio"}),
        (10, "43.9%,0.841", "42.9%,0.822", {10: "disagrees: the rate, the ratio"}),
        # a count touches its own rate and ratio, and both sums it is a part of
        (
            19,
            "164,75",
            "164,57",
            {
                2: "disagrees: the sum",
                5: "disagrees: the sum",
                19: "disagrees: the rate, the ratio",
            },
        ),
    ],
)
def test_one_planted_fault_is_found_where_it_stands(tmp_path, number, old, new, expected):
    clean = changed(A, 3, "408,204,50%,0.97", "395,172,43.5%,0.84")
    assert flagged(run(tmp_path, clean)) == {}
    assert flagged(run(tmp_path, changed(clean, number, old, new))) == expected


def test_a_ratio_of_rounded_rates_is_named_as_one(tmp_path):
    evidence = run(tmp_path, changed(A, 5, "0.84", "0.85"), unknown=250)
    assert flagged(evidence) == {3: "disagrees: the sum", 5: "disagrees: the ratio"}
    assert any(
        "row 5 (Black in the table 'race'): the ratio is that of rounded rates" in c for c in evidence.caveats
    )
    assert any("prints another impact ratio than 0.8432" in c for c in evidence.caveats)


def test_people_of_one_unknown_category_explain_a_difference_only_if_there_are_enough(tmp_path):
    rows = changed(changed(A, 3, "408,204,50%,0.97", "395,172,43.5%,0.84"), 1, "1390,667", "1400,672")
    assert flagged(run(tmp_path, rows, unknown=10)) == {}
    evidence = run(tmp_path, rows, unknown=10)
    assert any("10 people more than its intersections" in text for text in evidence.caveats)
    assert flagged(run(tmp_path, rows, unknown=9)) == {1: "disagrees: the sum"}
    assert flagged(run(tmp_path, rows)) == {1: "disagrees: the sum"}


def test_every_rate_and_ratio_is_recalculated_with_its_interval(tmp_path):
    evidence = run(tmp_path, A, unknown=250)
    rates = {tuple(m.group.values()): m for m in evidence.measures if m.name == "selection_rate"}
    ratios = {tuple(m.group.values()): m for m in evidence.measures if m.name == "impact_ratio"}
    assert len(rates) == 23
    assert len(ratios) == 20
    for line in A:
        table, sex, race, people, chosen, _, ratio = line.split(",")
        key = tuple(filter(None, (sex, race)))
        assert rates[key].value == int(chosen) / int(people)
        assert rates[key].settings["table"] == table
        if key in ratios:
            digits = len(ratio.partition(".")[2])
            assert floor(ratios[key].value * 10**digits + 0.5) / 10**digits == float(ratio)
    for m in (*rates.values(), *ratios.values()):
        assert METHODS[m.method](m.statistics, m.level) == (m.value, m.low, m.high)


def test_a_category_without_a_ratio_is_excluded_and_not_the_best(tmp_path):
    rows = ["race,,A,1000,500,50%,1.00", "race,,B,1000,400,40%,0.80", "race,,C,10,9,90%,excluded"]
    evidence = run(tmp_path, rows)
    assert counts(evidence) == ((0, 0, 0, None), 0)
    assert {m.group["race"] for m in evidence.measures if m.name == "impact_ratio"} == {"B"}
    (sums,) = [m for m in evidence.measures if m.name == "disagreeing_sums"]
    assert "no table by sex or by race stands beside an intersectional one" in sums.reason


def test_what_was_not_printed_is_not_compared(tmp_path):
    evidence = run(tmp_path, ["sex,Male,,10,5,,", "sex,Female,,10,2,,"])
    assert counts(evidence) == ((0, None, None, None), None)
    reasons = {m.name: m.reason for m in evidence.measures if m.value is None}
    assert reasons["disagreeing_rates"] == "0 of 2 rows print one"


def test_a_ratio_printed_where_nobody_was_selected_disagrees(tmp_path):
    evidence = run(tmp_path, ["sex,Male,,10,0,0%,1.00", "sex,Female,,10,0,0%,1.00"])
    assert flagged(evidence) == {1: "disagrees: the ratio", 2: "disagrees: the ratio"}
    assert any("than none at all" in text for text in evidence.caveats)


def test_shares_and_percent_are_told_apart(tmp_path):
    shares = ["sex,Male,,200,100,0.50,1.00", "sex,Female,,200,1,0.005,0.01"]
    percent = ["sex,Male,,200,100,50,1.00", "sex,Female,,200,1,0.5,0.01"]
    assert flagged(run(tmp_path, shares)) == {}
    assert flagged(run(tmp_path, percent)) == {}
    assert set(flagged(run(tmp_path, percent, rates="share"))) == {1, 2}
    assert set(flagged(run(tmp_path, shares, rates="percent"))) == {1, 2}


def test_each_class_has_tables_of_its_own(tmp_path):
    senior = ["senior,sex,Male,,100,10,10%,0.50", "senior,sex,Female,,50,10,20%,1.00"]
    junior = ["junior,sex,Male,,100,50,50%,1.00", "junior,sex,Female,,50,20,45%,0.80"]
    evidence = run(tmp_path, [*senior, *junior], header=f"class,{HEADER}")
    assert flagged(evidence) == {4: "disagrees: the rate"}
    best = {
        m.settings["class"]: m.settings["reference"] for m in evidence.measures if m.name == "impact_ratio"
    }
    assert best == {"senior": "Female", "junior": "Male"}


def test_a_name_that_only_the_intersections_know_is_pointed_out(tmp_path):
    rows = ["race,,Black,20,10,50%,1.00", "intersectional,Male,Blak,20,10,50%,1.00"]
    evidence = run(tmp_path, rows)
    assert flagged(evidence) == {1: "disagrees: the sum"}
    assert any(
        "name 'Blak', which the table 'race' lacks; the nearest is 'Black'" in c for c in evidence.caveats
    )


@pytest.mark.parametrize(
    ("number", "old", "new", "words"),
    [
        (2, "sex,Fem", "sexx,Fem", "row 2, column 'table': 'sexx' is no table; the nearest is 'sex'"),
        (2, "Female,", ",", "row 2, column 'sex': '' in the table 'sex'; a category is needed"),
        (2, "Female,,", "Female,White,", "column 'race': 'White' in the table 'sex'; it must be empty"),
        (2, "1181", "1181.5", "row 2, column 'applicants': '1181.5' is no number of people"),
        (2, "1181", "9" * 5000, "row 2, column 'applicants': '9999"),
        (2, "555", "-555", "row 2, column 'selected': '-555' is no number of people"),
        (2, "555", "1182", "row 2, column 'selected': 1182 is more than the 1181 applicants"),
        (2, "47%", "about half", "row 2, column 'rate': 'about half' is not a number"),
        (2, "0.979", "1e999999999", "row 2, column 'ratio': '1e999999999' is not a number"),
        (2, "0.979", "nan", "row 2, column 'ratio': 'nan' is not a number"),
        (2, "Female", "Male", "row 2: 'Male' stands in the table 'sex' in row 1 already"),
        (2, "sex,", "sex,a,", "row 2 has 8 cells, but the header names 7 columns"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_that_names_file_row_and_column(tmp_path, number, old, new, words):
    with pytest.raises(NotEvaluable, match=r"^tables\.csv, row") as said:
        run(tmp_path, changed(A, number, old, new))
    assert words in str(said.value)
    assert str(tmp_path) not in str(said.value)
    assert len(str(said.value)) < 200


def test_a_missing_file_column_or_setting_is_one_sentence(tmp_path):
    with pytest.raises(NotApplicable, match="the setting path names their CSV file"):
        ll144_published.measure(tmp_path, **ll144_published.settings({}))
    with pytest.raises(NotEvaluable, match=r"^absent\.csv cannot be read"):
        ll144_published.measure(tmp_path, **ll144_published.settings({"path": "absent.csv"}))
    with pytest.raises(NotEvaluable, match=r"tables\.csv has no column 'ratio'; the nearest is 'ratios'"):
        run(tmp_path, A, header=HEADER + "s")
    with pytest.raises(ConfigError, match="unknown"):
        ll144_published.settings({"unknown": -1})


def printed(value, digits):
    return Printed(Fraction(floor(value * 10**digits + Fraction(1, 2)), 10**digits), Fraction(1, 10**digits))


@given(st.fractions(0, 2), st.integers(0, 6))
def test_rounding_agrees_and_one_unit_away_never_does(value, digits):
    right = printed(value, digits)
    assert agreement(right, value) == "agrees"
    assert agreement(Printed(right.value + 2 * right.step, right.step), value) == "disagrees"
    cut = Printed(Fraction(floor(value * 10**digits), 10**digits), right.step)
    assert agreement(cut, value) == ("agrees" if 2 * (value - cut.value) <= right.step else "truncated")
    assert agreement(right, None) == "disagrees"
    assert agreement(None, value) is None


cell = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def as_printed(cells, digits):
    """The rows of correctly made tables, from (people, chosen) by (sex, race)."""
    tables = {"intersectional": cells}
    for place, name in enumerate(("sex", "race")):
        sums = {}
        for key, (n, x) in cells.items():
            whole = sums.get(key[place], (0, 0))
            sums[key[place]] = (whole[0] + n, whole[1] + x)
        tables[name] = {(k, "") if name == "sex" else ("", k): v for k, v in sums.items()}
    for name, table in tables.items():
        top = max(Fraction(x, n) for n, x in table.values())
        for (sex, race), (n, x) in table.items():
            share = Fraction(x, n)
            numbers = [share, *([share / top] if top else [])]
            texts = [f"{float(printed(number, digits).value):.{digits}f}" for number in numbers]
            yield ",".join([name, sex, race, str(n), str(x), *texts, *([] if top else [""])])


@given(st.lists(cell, min_size=6, max_size=6), st.integers(0, 4))
def test_tables_made_by_the_rule_are_never_flagged_and_one_person_more_always(cells, digits):
    places = [(sex, race) for sex in ("F", "M") for race in "ABC"]
    rows = list(as_printed(dict(zip(places, cells, strict=True)), digits))
    with TemporaryDirectory() as folder:
        assert flagged(run(Path(folder), rows, rates="share")) == {}
        first = rows[0].split(",")
        first[3] = str(int(first[3]) + 1)
        found = flagged(run(Path(folder), [",".join(first), *rows[1:]], rates="share"))
    lines = [line.split(",") for line in rows]
    touched = [n for n, line in enumerate(lines, 1) if line[:3] in (["sex", "F", ""], ["race", "", "A"])]
    assert set(touched) <= set(found)
    assert all("the sum" in found[number] for number in touched)


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


@pytest.fixture
def audited(tmp_path):
    """An audit.toml without a model, in a folder of its own, and the published tables beside it."""
    folder = tmp_path / "audited"
    folder.mkdir()
    write(folder, A)
    cells = [line.split(",") for line in A if line.startswith("intersectional")]
    rows = [f"{c[1]},{c[2]},selected,{c[4]}\n{c[1]},{c[2]},rejected,{int(c[3]) - int(c[4])}" for c in cells]
    (folder / "counts.csv").write_text("\n".join(["sex,race,decision,people", *rows]) + "\n")
    (folder / "audit.toml").write_text(CONFIG)
    return folder


def test_a_run_without_a_model_finds_the_tables_beside_audit_toml(audited, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(audited / "audit.toml")
    bench = set_up(*load_both(config), config.seed, installed_products(), config.folder)
    settings = ll144_published.settings({"path": "tables.csv", "unknown": 250})
    finding = measure(ll144_published, settings, bench, None)
    assert finding.status == "measured", finding.reason
    assert {m.name: m.value for m in finding.measures}["disagreeing_rows"] == 1
    assert "408 applicants and 204 selected" in finding.caveats[0]
    absent = measure(ll144_published, ll144_published.settings({}), bench, None)
    assert absent.status == "not_applicable"


def test_the_command_line_audits_published_tables(audited, tmp_path):
    info = tmp_path / "site" / "door-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: door\nVersion: 1\n")
    point = "audit.checks.fairness.ll144_published:ll144_published"
    (info / "entry_points.txt").write_text(f"[audit.checks]\n{ll144_published.name} = {point}\n")
    (audited / "audit.toml").write_text(
        CONFIG.replace("fairness.*", ll144_published.name)
        + f'[checks.settings."{ll144_published.name}"]\npath = "tables.csv"\nunknown = 250\n'
        + f'[policy.limits."{ll144_published.name}"]\ndisagreeing_rows = {{ at_most = 0 }}\n'
    )
    command = [Path(sys.executable).with_name("model-audit"), "run", "audited/audit.toml", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(info.parent)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    (finding,) = read_record(tmp_path / "out").findings
    assert [verdict.verdict for verdict in finding.verdicts] == ["FAIL"]
    assert {m.name: m.value for m in finding.measures}["disagreeing_rows"] == 1
    assert any("sha256" in table.note for table in finding.tables)
