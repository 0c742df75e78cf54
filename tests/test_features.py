import pytest

from audit.config import DataSection
from audit.errors import LoadError
from audit.read import describe_data, load_data

TABLE = "age,colour_red,colour_blue,grade,label\n30,1,0,2,0\n41,0,1,3,1\n52,0,0,1,1\n"


def load(folder, text=TABLE, **fields):
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return load_data(DataSection(path="t.csv", target="label", **fields), folder)


def test_described_features_own_their_columns_and_others_are_numeric(tmp_path):
    told = {
        "colour": {"kind": "categorical", "columns": ["colour_red", "colour_blue"], "immutable": True},
        "age": {"range": [0, 120]},
        "grade": {"kind": "ordinal"},
    }
    age, colour, grade = load(tmp_path, features=told).features
    assert (age.name, age.columns, age.low, age.high, age.immutable) == ("age", (0,), 0, 120, False)
    assert (colour.name, colour.kind, colour.columns, colour.immutable) == (
        "colour",
        "categorical",
        (1, 2),
        True,
    )
    assert colour.categories == ("colour_red", "colour_blue")
    assert (grade.kind, grade.columns, grade.low) == ("ordinal", (3,), None)


def test_truth_values_are_numbers(tmp_path):
    text = TABLE.replace(",1,0,2", ",True,False,2")
    assert load(tmp_path, text).inputs[0].tolist() == [30, 1, 0, 2]


@pytest.mark.parametrize(
    ("change", "row", "cell"),
    [(("41,", "?,"), 2, "'?'"), (("52,", ","), 3, "''"), (("30,", " NaN ,"), 1, "' NaN '")],
)
def test_a_missing_input_is_named(tmp_path, change, row, cell):
    with pytest.raises(LoadError) as caught:
        load(tmp_path, TABLE.replace(*change))
    for part in ("t.csv", "column 'age'", f"row {row} ", cell, "missing", "1 of 3 rows"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [("old", "not a number.*encoder"), ("1e39", "not a finite float32"), ("-inf", "not a finite float32")],
)
def test_a_cell_that_is_no_number_is_named(tmp_path, cell, complaint):
    with pytest.raises(
        LoadError, match=rf"t\.csv: input column 'age', row 2 holds '{cell}', which is {complaint}"
    ):
        load(tmp_path, TABLE.replace("41", cell))


@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        ({"agee": {}}, r"'agee' is not an input column of .*t\.csv; the nearest is 'age'"),
        (
            {"c": {"kind": "categorical", "columns": ["colour_rd"]}},
            r"'colour_rd'.*the nearest is 'colour_red'",
        ),
        ({"age": {}, "b": {"columns": ["age"]}}, r'features\."b".*\'age\' is already part of \'age\''),
        ({"b": {"columns": ["age", "grade"]}}, "2 columns for a numeric feature"),
        (
            {"age": {"range": [0, 50]}},
            r"t\.csv: column 'age', row 3 holds 52, outside its range \[0, 50\].*30 to 52",
        ),
        ({"grade": {"kind": "categorical"}}, r"t\.csv: column 'grade', row 1 holds 2, but .*must be 0 or 1"),
    ],
)
def test_a_description_that_does_not_fit_gets_one_sentence(tmp_path, features, complaint):
    with pytest.raises(LoadError, match=complaint):
        load(tmp_path, features=features)


def test_two_ones_in_a_one_hot_group_are_named(tmp_path):
    told = {"colour": {"kind": "categorical", "columns": ["colour_red", "colour_blue"]}}
    with pytest.raises(LoadError, match=r"t\.csv: row 2 holds 1 in the columns 'colour_red', 'colour_blue'"):
        load(tmp_path, TABLE.replace("41,0,1", "41,1,1"), features=told)


def test_a_range_holds_in_single_precision(tmp_path):
    assert load(tmp_path, "x,label\n0.1,0\n", features={"x": {"range": [0, 0.1]}}).features[0].high == 0.1


def test_numeric_sensitive_columns_are_inputs_and_words_are_not(tmp_path):
    text = "age,sex,old,label\n30,m,0,0\n41,N/A,1,1\n"
    data = load(tmp_path, text, sensitive=("sex", "old"))
    assert [feature.name for feature in data.features] == ["age", "old"]


def test_a_table_without_inputs_is_refused(tmp_path):
    with pytest.raises(LoadError, match=r"t\.csv has no column of inputs"):
        load(tmp_path, "label\n1\n0\n")


HOW = {
    "age": {"direction": "increase", "step": 1, "cost": 0.5},
    "colour": {
        "kind": "categorical",
        "columns": ["colour_red", "colour_blue"],
        "dropped": "green",
        "cost": 2,
    },
}


def test_how_a_feature_may_change_is_kept_with_it(tmp_path):
    age, colour, grade = load(tmp_path, features=HOW).features
    assert (age.direction, age.step, age.cost, age.unit, age.zero) == ("increase", 1, 0.5, 1, 0)
    assert (colour.dropped, colour.cost, colour.direction) == ("green", 2, None)
    assert (grade.direction, grade.step, grade.cost) == (None, None, None)


def test_what_is_stated_of_changes_is_in_the_record_and_in_the_fingerprint(tmp_path):
    plain, told = load(tmp_path), load(tmp_path, features={"age": HOW["age"]})
    tied = load(tmp_path, relations=[{"terms": {"age": 1, "grade": -1}, "at_least": 0}])
    assert len({data.fingerprint for data in (plain, told, tied)}) == 3
    (facts, *_) = describe_data(told)["features"]
    assert (facts["direction"], facts["step"], facts["cost"]) == ("increase", 1, 0.5)
    assert describe_data(tied)["relations"] == ["age - grade >= 0"]
    assert "relations" not in describe_data(plain)


@pytest.mark.parametrize(
    ("told", "low", "high"),
    [
        ({"at_least": 28}, 28, None),
        ({"at_most": 60}, None, 60),
        ({"at_least": 20, "at_most": 60}, 20, 60),
    ],
)
def test_a_relation_that_every_row_keeps_is_kept(tmp_path, told, low, high):
    (relation,) = load(tmp_path, relations=[{"terms": {"age": 1, "grade": -1}, **told}]).relations
    assert (relation.terms, relation.low, relation.high) == ((("age", 1), ("grade", -1)), low, high)


def test_an_equation_holds_in_single_precision(tmp_path):
    text = "a,b,label\n0.1,0.2,0\n0.25,0.05,1\n"
    (relation,) = load(tmp_path, text, relations=[{"terms": {"a": 1, "b": 1}, "equals": 0.3}]).relations
    assert relation.low == relation.high == 0.3
    assert relation.text == "a + b = 0.3"


@pytest.mark.parametrize(
    ("relation", "complaint"),
    [
        ({"terms": {"agee": 1}, "at_least": 0}, r"relations.*'agee' is not a feature of .*nearest is 'age'"),
        (
            {"terms": {"colour": 1}, "at_least": 0},
            r"relations.*'colour' is categorical and has 2 input columns",
        ),
        (
            {"terms": {"age": 1, "grade": -10}, "at_least": 12},
            r"t\.csv: row 1 breaks the relation age - 10 grade >= 12: its sum is 10 \(2 of 3 rows\)",
        ),
        ({"terms": {"age": 1}, "equals": 30}, r"row 2 breaks the relation age = 30: its sum is 41"),
    ],
)
def test_a_relation_that_cannot_be_kept_gets_one_sentence(tmp_path, relation, complaint):
    colour = {"kind": "categorical", "columns": ["colour_red", "colour_blue"]}
    with pytest.raises(LoadError, match=complaint):
        load(tmp_path, features={"colour": colour}, relations=[relation])
