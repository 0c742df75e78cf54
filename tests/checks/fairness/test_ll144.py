"""The two worked examples of the rule, number by number, and the corners of the arithmetic."""

from fractions import Fraction
from math import floor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checks.fairness.ll144 import impact_ratios, ll144, verify_tables
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.products.predictions import predictions
from audit.stats import METHODS

H, W, B, P, A, N, T = (
    "Hispanic or Latino", "White", "Black", "Native Hawaiian or Pacific Islander", "Asian",
    "Native American or Alaska Native", "Two or More Races",
)  # fmt: skip

# 6 RCNY 5-301, the examples of the rule: people, chosen, rate in percent, impact ratio, both as printed
A_SEX = {"Male": (1390, 667, "48", "1.00"), "Female": (1181, 555, "47", "0.979")}
A_RACE = {
    H: (408, 204, "50", "0.97"),
    W: (797, 412, "52", "1.00"),
    B: (390, 170, "44", "0.84"),
    P: (119, 52, "44", "0.85"),
    A: (616, 302, "49", "0.95"),
    N: (41, 18, "44", "0.85"),
    T: (213, 96, "45", "0.87"),
}
A_BOTH = {
    ("Male", H): (205, 90, "43.9", "0.841"),
    ("Female", H): (190, 82, "43.2", "0.827"),
    ("Male", W): (412, 215, "52.2", "1.000"),
    ("Male", B): (226, 95, "42.0", "0.806"),
    ("Male", P): (87, 37, "42.5", "0.815"),
    ("Male", A): (321, 167, "52.0", "0.997"),
    ("Male", N): (24, 11, "45.8", "0.878"),
    ("Male", T): (115, 52, "45.2", "0.866"),
    ("Female", W): (385, 197, "51.2", "0.981"),
    ("Female", B): (164, 75, "45.7", "0.876"),
    ("Female", P): (32, 15, "46.9", "0.898"),
    ("Female", A): (295, 135, "45.8", "0.877"),
    ("Female", N): (17, 7, "41.2", "0.789"),
    ("Female", T): (98, 44, "44.9", "0.860"),
}
B_SEX = {"Male": (92, 50, "54.3", "1.00"), "Female": (76, 34, "44.7", "0.82")}
# 18 of 28 is 64.2857 %: the one number of the rule that is cut off rather than rounded
B_RACE = {
    H: (28, 18, "64.2", "1.00"),
    W: (40, 15, "37.5", "0.58"),
    B: (32, 16, "50.0", "0.78"),
    P: (8, 5, "62.5", "0.97"),
    A: (24, 10, "41.7", "0.65"),
    N: (16, 10, "62.5", "0.97"),
    T: (20, 10, "50.0", "0.78"),
}
B_BOTH = {
    ("Male", H): (16, 12, "75", "1.00"),
    ("Female", H): (12, 6, "50", "0.67"),
    ("Male", W): (20, 7, "35", "0.47"),
    ("Male", B): (20, 10, "50", "0.67"),
    ("Male", P): (4, 3, "75", "1.00"),
    ("Male", A): (12, 7, "58.3", "0.78"),
    ("Male", N): (8, 5, "62.5", "0.83"),
    ("Male", T): (12, 6, "50", "0.67"),
    ("Female", W): (20, 8, "40", "0.53"),
    ("Female", B): (12, 6, "50", "0.67"),
    ("Female", P): (4, 2, "50", "0.67"),
    ("Female", A): (12, 3, "25", "0.33"),
    ("Female", N): (8, 5, "62.5", "0.83"),
    ("Female", T): (8, 4, "50", "0.67"),
}
PUBLISHED = {
    "A sex": A_SEX,
    "A race": A_RACE,
    "A both": A_BOTH,
    "B sex": B_SEX,
    "B race": B_RACE,
    "B both": B_BOTH,
}


def counts(table):
    return {key: row[:2] for key, row in table.items()}


def rounded(value, like):
    """A share as the rule prints it: as many digits, halves up."""
    digits = len(like.partition(".")[2])
    return f"{floor(value * 10**digits + Fraction(1, 2)) / 10**digits:.{digits}f}"


def population(cells, unknown=(0, 0), classes=("no", "yes"), scores=None):
    """A decision table of (people, chosen) cells by (sex, race), with people of unknown sex and race."""
    sexes = ["Female", "Male", "unknown"] if unknown[0] else ["Female", "Male"]
    races = [*sorted({race for _, race in cells}), *(["unknown"] if unknown[0] else [])]
    rows = [(s, r, i < x) for (s, r), (n, x) in cells.items() for i in range(n)]
    rows += [("unknown", "unknown", i < unknown[1]) for i in range(unknown[0])]
    sex = np.array([sexes.index(s) for s, _, _ in rows], np.int64)
    race = np.array([races.index(r) for _, r, _ in rows], np.int64)
    return Dataset(
        inputs=np.zeros((len(rows), 0), np.float32), modality="tabular", classes=classes, favourable=1,
        sensitive={
            "sex": Sensitive(name="sex", groups=tuple(sexes), codes=sex),
            "race": Sensitive(name="race", groups=tuple(races), codes=race),
        },
        decisions=np.array([chosen for _, _, chosen in rows], np.int64),
        scores=scores,
    )  # fmt: skip


def run(data, **settings):
    model = SimpleNamespace(task="classification")
    return ll144.measure(data, predictions(model, data), **ll144.settings(settings))


def found(evidence, name, table):
    return {
        tuple(m.group.values()): m
        for m in evidence.measures if m.name == name and m.settings["table"] == table
    }  # fmt: skip


def table_of(evidence, name):
    (table,) = [t for t in evidence.tables if t.name == f"ll144: {name}"]
    return table


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_rate_and_ratio_comes_out_as_printed(name):
    for key, category in impact_ratios(counts(PUBLISHED[name])).items():
        _, _, rate, ratio = PUBLISHED[name][key]
        if (name, key) == ("B race", H):
            assert category.rate == Fraction(18, 28)
            assert rounded(100 * category.rate, rate) == "64.3"
            assert floor(1000 * category.rate) / 10 == float(rate)
        else:
            assert rounded(100 * category.rate, rate) == rate, key
        assert rounded(category.ratio, ratio) == ratio, key


def test_rounded_rates_would_give_nine_wrong_ratios():
    wrong = []
    for table in (A_RACE, A_BOTH):
        top = max(float(row[2]) for row in table.values())
        wrong += [
            key for key, row in table.items()
            if rounded(Fraction(row[2]) / Fraction(str(top)), row[3]) != row[3]
        ]  # fmt: skip
    assert len(wrong) == 9
    assert {H, B, A} <= set(wrong)


def test_exactly_one_row_of_example_a_contradicts_its_intersections():
    (mismatch,) = verify_tables(counts(A_SEX), counts(A_RACE), counts(A_BOTH))
    assert (mismatch.table, mismatch.category) == ("race", H)
    assert (mismatch.stated, mismatch.summed) == ((408, 204), (395, 172))
    assert (sum(n for n, _ in counts(A_RACE).values()), sum(n for n, _ in counts(A_BOTH).values())) == (
        2584,
        2571,
    )


def test_example_b_is_consistent_and_one_changed_count_is_found():
    assert verify_tables(counts(B_SEX), counts(B_RACE), counts(B_BOTH)) == []
    changed = {**counts(B_SEX), "Male": (92, 51)}
    assert [m.category for m in verify_tables(changed, counts(B_RACE), counts(B_BOTH))] == ["Male"]


def test_the_whole_check_reproduces_the_intersections_of_example_a():
    evidence = run(population(counts(A_BOTH), unknown=(250, 120)))
    rates, ratios = (
        found(evidence, "selection_rate", "sex x race"),
        found(evidence, "impact_ratio", "sex x race"),
    )
    for key, (n, x, rate, ratio) in A_BOTH.items():
        assert rates[key].statistics == {"x": x, "n": n}
        assert rounded(100 * Fraction(rates[key].value), rate) == rate
        if key == ("Male", W):
            assert key not in ratios
        else:
            assert rounded(Fraction(ratios[key].value), ratio) == ratio
            assert ratios[key].settings["reference"] == f"Male, {W}"
    assert len(rates) == 14
    assert len(ratios) == 13
    sexes = found(evidence, "selection_rate", "sex")
    assert {key: (m.statistics["n"], m.statistics["x"]) for key, m in sexes.items()} == {
        (key,): cell for key, cell in counts(A_SEX).items()
    }
    assert found(evidence, "selection_rate", "race")[(H,)].statistics == {"x": 172, "n": 395}


def test_unknown_people_are_counted_in_each_table_and_rated_in_none():
    evidence = run(population(counts(A_BOTH), unknown=(250, 120)))
    assert [row[1:] for row in table_of(evidence, "unknown").rows] == [[2821, 2571, 250, 120]] * 3
    assert not [m for m in evidence.measures if "unknown" in m.group.values()]
    assert sum("250 of 2821 people are in an unknown category" in text for text in evidence.caveats) == 3


def test_the_whole_check_reproduces_example_b_from_scores():
    cells = counts(B_BOTH)
    above = [i < x for n, x in cells.values() for i in range(n)]
    # 15 unknown people are part of the full sample: 8 below and 7 on the median keep half of the rest above
    scores = np.array([0.9 if high else 0.1 for high in above] + [0.1] * 7 + [0.5] + [0.9] * 7)
    evidence = run(population(cells, unknown=(15, 7), scores=scores), mode="scoring")
    for name, table in (("sex", B_SEX), ("race", B_RACE), ("sex x race", B_BOTH)):
        rates, ratios = found(evidence, "scoring_rate", name), found(evidence, "impact_ratio", name)
        for key, (n, x, _, ratio) in table.items():
            place = key if isinstance(key, tuple) else (key,)
            assert rates[place].statistics == {"x": x, "n": n}
            if place in ratios:
                assert rounded(Fraction(ratios[place].value), ratio) == ratio
        assert len(rates) - len(ratios) == 1
    assert [row[3] for row in table_of(evidence, "unknown").rows] == [15] * 3
    assert any("median score of all people is 0.5" in text for text in evidence.caveats)


def test_intervals_can_be_derived_again_from_the_counts():
    for m in run(population(counts(A_BOTH))).measures:
        assert METHODS[m.method](m.statistics, m.level) == (m.value, m.low, m.high)
        assert m.method == ("koopman_exact" if m.name == "impact_ratio" else "wilson")
        assert m.low <= m.value <= m.high
    (native,) = [
        m for m in run(population(counts(A_BOTH))).measures
        if m.name == "impact_ratio" and m.group == {"sex": "Female", "race": N}
    ]  # fmt: skip
    assert native.low < 0.8 < native.high


def test_the_figures_say_the_lowest_ratio_in_words():
    figures = {f.name: f for f in run(population(counts(A_BOTH))).figures}
    lowest = f"By sex x race, the lowest impact ratio is 0.789: Female, {N} against Male, {W}"
    assert figures["impact ratio by sex x race"].title == lowest
    assert len(figures["impact ratio by sex x race"].data["values"]) == 13


def test_small_categories_are_left_out_of_the_ratios_and_printed():
    evidence = run(population(counts(A_BOTH), unknown=(250, 120)), exclude_below=0.02)
    excluded = {tuple(r[:2]) for r in table_of(evidence, "sex x race").rows if r[-1] == "excluded"}
    assert excluded == {("Male", N), ("Female", P), ("Female", N)}
    assert not excluded & set(found(evidence, "impact_ratio", "sex x race"))
    assert excluded < set(found(evidence, "selection_rate", "sex x race"))
    assert [r[0] for r in table_of(evidence, "race").rows if r[-1] == "excluded"] == [N]
    assert any(
        f"By race, {N} is left out of the impact ratios: 41 people, rate 0.4390" in c
        for c in evidence.caveats
    )


def test_an_excluded_category_is_not_the_best_one():
    cells = {
        ("Male", "A"): (500, 100),
        ("Female", "A"): (500, 50),
        ("Male", "B"): (9, 9),
        ("Female", "B"): (8, 1),
    }
    (row,) = [r for r in table_of(run(population(cells), exclude_below=0.02), "race").rows if r[0] == "A"]
    assert row[-1] == "best category"
    (row,) = [r for r in table_of(run(population(cells)), "race").rows if r[0] == "A"]
    assert row[-2] == pytest.approx(150 / 1000 / (10 / 17))


def test_two_percent_of_all_or_of_the_known():
    cells = {
        ("Male", "A"): (490, 9),
        ("Female", "A"): (490, 9),
        ("Male", "B"): (11, 5),
        ("Female", "B"): (9, 5),
    }
    data = population(cells, unknown=(100, 0))

    def left_out(share):
        rows = table_of(run(data, exclude_below=0.02, share_of=share), "race").rows
        return [r[0] for r in rows if r[-1] == "excluded"]

    assert left_out("all") == ["B"]
    assert left_out("known") == []


def test_median_over_all_or_known_and_ties_at_it():
    cells = {("Male", "A"): (2, 1), ("Female", "A"): (2, 1)}
    data = population(cells, unknown=(3, 0), scores=np.array([0.2, 0.4, 0.6, 0.8, 0.6, 0.6, 0.9]))

    def above(**settings):
        rates = found(run(data, mode="scoring", **settings), "scoring_rate", "sex")
        return [rates[("Male",)].statistics["x"], rates[("Female",)].statistics["x"]]

    assert above() == [0, 1]
    assert above(ties="at_or_above") == [0, 2]
    assert above(median_of="known") == [0, 2]


def test_nobody_selected_has_no_impact_ratio():
    cells = {("Male", "A"): (20, 0), ("Female", "A"): (20, 0)}
    evidence = run(population(cells))
    ratios = [m for m in evidence.measures if m.name == "impact_ratio"]
    assert len(ratios) == 5
    assert all(m.value is None and m.reason for m in ratios)
    assert "nobody was chosen in any category" in found(evidence, "impact_ratio", "sex")[("Male",)].reason
    assert "no second category" in found(evidence, "impact_ratio", "race")[("A",)].reason
    assert {t.rows[0][-2] for t in evidence.tables[:3]} == {None}
    assert evidence.figures == ()


def test_people_of_one_unknown_part_explain_the_differences_between_tables():
    data = population({("Male", "A"): (3, 1), ("Female", "A"): (3, 2)}, unknown=(2, 1))
    codes = np.array(data.sensitive["sex"].codes)
    codes[-1] = 1
    sensitive = {
        **data.sensitive,
        "sex": Sensitive(name="sex", groups=("Female", "Male", "unknown"), codes=codes),
    }
    evidence = run(Dataset(**{**vars(data), "sensitive": sensitive}))
    assert table_of(evidence, "consistency").rows == [["sex", "Male", 4, 1, 3, 1]]
    assert [row[3] for row in table_of(evidence, "unknown").rows] == [1, 2, 2]
    assert table_of(run(population(counts(A_BOTH))), "consistency").rows == []


def test_what_does_not_fit_is_said_in_a_sentence():
    data = population({("Male", "A"): (3, 1), ("Female", "A"): (3, 2)})
    with pytest.raises(NotApplicable, match=r"no sensitive feature 'ethnicity'.*the setting race"):
        run(data, race="ethnicity")
    with pytest.raises(NotApplicable, match="no outcome is named as favourable"):
        run(Dataset(**{**vars(data), "favourable": None}))
    with pytest.raises(NotApplicable, match="decisions and no scores"):
        run(data, mode="scoring")
    broken = population({("Male", "A"): (2, 1)}, scores=np.array([0.5, np.nan]))
    with pytest.raises(NotEvaluable, match="1 of 2 are not finite"):
        run(broken, mode="scoring")
    with pytest.raises(ConfigError, match="mode"):
        ll144.settings({"mode": "median"})


@pytest.mark.parametrize("text", ["29 CFR 1607.4(D)", "sets no threshold", "independent", "historical"])
def test_the_published_text_says_what_the_rule_does_not(text):
    assert text in " ".join(ll144.text.split())


cell = st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.dictionaries(st.sampled_from("abcdef"), cell, min_size=1))
def test_the_best_category_has_one_and_no_ratio_exceeds_it(table):
    result = impact_ratios(table)
    ratios = [c.ratio for c in result.values() if c.ratio is not None]
    if any(x for _, x in table.values()):
        assert max(ratios) == 1
        assert [c.ratio for c in result.values() if c.best] == [1]
    else:
        assert ratios == []
    assert all((c.ratio is None) for key, c in result.items() if not table[key][0])


sexes, races = st.sampled_from(["m", "f"]), st.sampled_from("abc")


@given(st.dictionaries(st.tuples(sexes, races), cell, min_size=1), sexes)
def test_tables_added_up_from_intersections_are_never_flagged_and_a_wrong_one_always(both, wrong):
    def added(place):
        keys = {key[place] for key in both}
        picked = {k: [both[key] for key in both if key[place] == k] for k in keys}
        return {k: (sum(n for n, _ in v), sum(x for _, x in v)) for k, v in picked.items()}

    sex, race = added(0), added(1)
    assert verify_tables(sex, race, both) == []
    n, x = sex.get(wrong, (0, 0))
    assert [m.category for m in verify_tables({**sex, wrong: (n + 1, x)}, race, both)] == [wrong]


def levels(rows, favourable=None, names=("junior", "none", "senior")):
    """People of one race by (sex, class, how many), in a table of decisions with several classes."""
    people = [(sex, names.index(level)) for sex, level, n in rows for _ in range(n)]
    codes = np.array([("Female", "Male").index(sex) for sex, _ in people], np.int64)
    zeros = np.zeros(len(people), np.int64)
    return Dataset(
        inputs=np.zeros((len(people), 0), np.float32), modality="tabular", classes=names,
        favourable=favourable,
        sensitive={
            "sex": Sensitive(name="sex", groups=("Female", "Male"), codes=codes),
            "race": Sensitive(name="race", groups=("A",), codes=zeros),
        },
        decisions=np.array([level for _, level in people], np.int64),
    )  # fmt: skip


LEVELS = [
    ("Female", "junior", 30), ("Female", "senior", 10), ("Female", "none", 60),
    ("Male", "junior", 40), ("Male", "senior", 80), ("Male", "none", 80),
]  # fmt: skip


def by_class(evidence, name):
    return {
        (m.settings["class"], m.group["sex"]): m
        for m in evidence.measures if m.name == name and m.settings["table"] == "sex"
    }  # fmt: skip


def test_each_class_has_its_three_tables_where_none_is_favourable():
    evidence = run(levels(LEVELS))
    rates = {
        key: (m.statistics["x"], m.statistics["n"]) for key, m in by_class(evidence, "selection_rate").items()
    }
    assert rates == {
        ("junior", "Female"): (30, 100), ("junior", "Male"): (40, 200),
        ("none", "Female"): (60, 100), ("none", "Male"): (80, 200),
        ("senior", "Female"): (10, 100), ("senior", "Male"): (80, 200),
    }  # fmt: skip
    ratios = {key: m.value for key, m in by_class(evidence, "impact_ratio").items()}
    assert ratios == pytest.approx({
        ("junior", "Male"): 0.2 / 0.3, ("none", "Male"): 0.4 / 0.6, ("senior", "Female"): 0.1 / 0.4,
    })  # fmt: skip
    names = [t.name for t in evidence.tables]
    assert len(names) == len(set(names)) == 3 * 3 + 1 + 3
    assert table_of(evidence, "sex x race, class senior").rows[0][:4] == ["Female", "A", 100, 10]
    assert len({f.name for f in evidence.figures}) == len(evidence.figures) == 6
    assert any("once for each of 3 classes" in text for text in evidence.caveats)


def test_named_classes_alone_have_tables_and_the_others_are_counted():
    evidence = run(levels(LEVELS, favourable=2), classes=["junior"])
    assert {key[0] for key in by_class(evidence, "selection_rate")} == {"junior"}
    assert "2 other classes have no tables." in evidence.caveats
    favourable = run(levels(LEVELS, favourable=2))
    assert not [m for m in favourable.measures if "class" in m.settings]
    (female,) = found(favourable, "impact_ratio", "sex").values()
    assert female.value == pytest.approx(0.25)


def test_a_favourable_outcome_named_as_a_class_gives_the_same_numbers():
    data = population(counts(A_BOTH), unknown=(250, 120))
    plain, named = run(data), run(data, classes=["yes"])

    def numbers(evidence):
        return [(m.name, dict(m.group), m.value, m.low, m.high) for m in evidence.measures]

    assert numbers(plain) == numbers(named)
    assert {m.settings.get("class") for m in named.measures} == {"yes"}


def test_classes_that_do_not_fit_are_said_in_a_sentence():
    with pytest.raises(ConfigError, match="names 'seniro', which is no class; the nearest is 'senior'"):
        run(levels(LEVELS), classes=["seniro"])
    with pytest.raises(ConfigError, match="a scoring rate has no class"):
        run(levels(LEVELS), classes=["senior"], mode="scoring")
    with pytest.raises(NotApplicable, match="no outcome is named as favourable"):
        run(levels(LEVELS), mode="scoring")


@pytest.mark.parametrize("mode", ["selection", "scoring"])
def test_rows_that_stand_for_nobody_are_said(mode):
    data = population({("Male", "A"): (2, 1)}, scores=np.array([0.5, 0.6]))
    nobody = Dataset(**{**vars(data), "people": np.zeros(2, np.int64)})
    with pytest.raises(NotEvaluable, match=r"0 people|0 scores are to be ranked"):
        run(nobody, mode=mode)
