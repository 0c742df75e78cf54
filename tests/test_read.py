import json
from dataclasses import replace

import numpy as np
import pytest

from audit.config import DataSection
from audit.dataset import written_out
from audit.errors import LoadError, NotApplicable
from audit.read import describe_data, fingerprint, load_data, reader_of

PEOPLE = """\
age,hours,sex,race,split,label
30,40,Male,White,test,0
40,20,Female,N/A,test,1
50,60,Male,Black,train,1
60,10,Female,White,test,0
"""


def csv_file(folder, text=PEOPLE, name="people.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder, text=PEOPLE, *, classes=(), input_range=None, **fields):
    values = {"path": csv_file(folder, text).name, "target": "label", **fields}
    return load_data(DataSection(**values), folder, classes=classes, input_range=input_range)


def npz_file(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return DataSection(path="a.npz")


def test_a_table_becomes_inputs_labels_and_groups(tmp_path):
    data = load(tmp_path, sensitive=("sex", "race"), where={"split": "test"})
    assert data.inputs.tolist() == [[30, 40], [40, 20], [60, 10]]
    assert data.labels.tolist() == [0, 1, 0]
    assert [feature.name for feature in data.features] == ["age", "hours"]
    assert data.sensitive["sex"].groups == ("Female", "Male")
    assert data.sensitive["sex"].codes.tolist() == [1, 0, 1 - 1]
    assert data.classes == ("0", "1")
    assert data.favourable == 1
    assert data.modality == "tabular"


def test_arrays_cannot_be_written_to(tmp_path):
    data = load(tmp_path, sensitive=("sex",), inputs=("age",))
    for array in (data.inputs, data.labels, data.sensitive["sex"].codes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_sensitive_na_is_its_own_group_counted_and_told(tmp_path):
    data = load(tmp_path, sensitive=("race",), inputs=("age",))
    race = data.sensitive["race"]
    assert race.groups == ("Black", "White", "unknown")
    assert race.codes.tolist() == [1, 2, 0, 1]
    assert data.caveats[-1] == "'race' has no value in 1 of 4 rows; they are the group 'unknown'."
    assert "Nobody named the outcome that is good for a person: '1'" in data.caveats[0]
    assert describe_data(data)["sensitive"]["race"][-1] == {"group": "unknown", "rows": 1}


def test_a_group_that_the_file_calls_unknown_is_the_same_group(tmp_path):
    text = "x,sex,label\n1,unknown,0\n2,,1\n3,zebra,1\n"
    sex = load(tmp_path, text, sensitive=("sex",), inputs=("x",)).sensitive["sex"]
    assert sex.groups == ("zebra", "unknown")
    assert sex.codes.tolist() == [1, 1, 0]


def test_numeric_groups_are_in_order_of_number_and_not_too_many(tmp_path):
    text = "x,g,label\n" + "".join(f"1,{i},0\n" for i in (10, 9, 100))
    assert load(tmp_path, text, sensitive=("g",)).sensitive["g"].groups == ("9", "10", "100")
    fifty = "x,g,label\n" + "".join(f"1,{i},0\n" for i in range(50))
    assert len(load(tmp_path, fifty, sensitive=("g",)).sensitive["g"].groups) == 50
    many = "x,g,label\n" + "".join(f"1,{i}.5,0\n" for i in range(51))
    with pytest.raises(
        LoadError, match=r"people\.csv: sensitive column 'g' holds 51 .*'0\.5' and '1\.5'.*bin it"
    ):
        load(tmp_path, many, sensitive=("g",))


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        ("no yes no", ("no", "yes"), [0, 1, 0]),
        ("no yes no", ("yes", "no"), [1, 0, 1]),
        ("0 1 0", ("no", "yes"), [0, 1, 0]),
        ("1 2 1", ("1", "2"), [0, 1, 0]),
        ("1.0 0.0 1.0", ("no", "yes"), [1, 0, 1]),
        ("1.0 0 1", (), [1, 0, 1]),
        ("2 0 2", (), [2, 0, 2]),
        ("10 9 10", (), [1, 0, 1]),
        ("b a b", (), [1, 0, 1]),
    ],
)
def test_labels_are_class_names_or_else_indices(tmp_path, labels, classes, codes):
    text = "x,label\n" + "".join(f"1,{label}\n" for label in labels.split())
    data = load(tmp_path, text, classes=classes)
    assert data.labels.tolist() == codes


def test_guessed_classes_are_told_unless_the_labels_are_indices(tmp_path):
    assert load(tmp_path, "x,label\n1,2\n1,0\n").classes == ("0", "1", "2")
    assert load(tmp_path, "x,label\n1,2\n1,0\n").caveats == ()
    data = load(tmp_path, "x,label\n1,good\n1,bad\n")
    assert "'bad', 'good'" in data.caveats[0]


def test_a_label_that_is_no_class_is_named_with_its_row(tmp_path):
    text = "x,outcome\n5,1\n6,-1\n7,-1\n"
    with pytest.raises(LoadError) as caught:
        load(tmp_path, text, classes=("fail", "pass"), target="outcome")
    told = str(caught.value)
    for part in (
        "people.csv",
        "'outcome'",
        "row 2",
        "'-1'",
        "'fail', 'pass'",
        "[data.label_map]",
        "2 of 3 rows",
    ):
        assert part in told
    assert caught.value.exit_code == 4
    fixed = load(
        tmp_path, text, classes=("fail", "pass"), target="outcome", label_map={"-1": "fail", "1": "pass"}
    )
    assert fixed.labels.tolist() == [1, 0, 0]


def test_labels_are_never_half_names_and_half_indices(tmp_path):
    with pytest.raises(
        LoadError, match=r"column 'label', row 2: label '0' is not among the classes '1', '2'"
    ):
        load(tmp_path, "x,label\n1,1\n1,0\n", classes=("1", "2"))


@pytest.mark.parametrize("cell", ["", "?", " N/A "])
def test_a_missing_label_is_named(tmp_path, cell):
    with pytest.raises(LoadError, match=r"people\.csv: column 'label', row 2: label '.*' is missing"):
        load(tmp_path, f"x,label\n1,0\n1,{cell}\n")


def test_a_class_may_be_called_like_a_missing_value(tmp_path):
    data = load(tmp_path, "x,label\n1,None\n1,Mild\n", classes=("None", "Mild"))
    assert data.labels.tolist() == [0, 1]


def test_the_favourable_outcome(tmp_path):
    text = "x,label\n1,a\n1,b\n"
    assert load(tmp_path, text).favourable == 1
    assert load(tmp_path, text, favourable="a").favourable == 0
    assert load(tmp_path, text + "1,c\n").favourable is None
    with pytest.raises(LoadError, match="favourable = 'z' is not a class; known are a, b"):
        load(tmp_path, text, favourable="z")


@pytest.mark.parametrize("where", [{"fold": 2}, {"fold": 2.0}, {"fold": "2"}, {"last": True}])
def test_where_keeps_rows_by_text_number_or_truth(tmp_path, where):
    text = "x,fold,last,label\n1,1,false,0\n2,2,True,1\n"
    assert load(tmp_path, text, where=where, inputs=("x",)).inputs.tolist() == [[2]]


def test_where_that_keeps_nothing_names_the_values_there_are(tmp_path):
    with pytest.raises(LoadError, match=r"people\.csv.*'split' = 'tset'; it holds 'test', 'train'"):
        load(tmp_path, where={"split": "tset"})
    with pytest.raises(
        LoadError, match="no column 'spilt', which \\[data\\] where names; the nearest is 'split'"
    ):
        load(tmp_path, where={"spilt": "test"})


def test_rows_after_a_filter_keep_the_number_they_have_in_the_file(tmp_path):
    text = "x,split,label\n1,train,0\n2,test,0\n?,test,1\n"
    with pytest.raises(
        LoadError, match=r"input column 'x', row 3 holds '\?', a missing value \(1 of 2 rows\)"
    ):
        load(tmp_path, text, where={"split": "test"})


def test_a_sample_is_the_same_each_time_and_keeps_rows_together(tmp_path):
    text = "x,g,label\n" + "".join(f"{i},{i % 7},{i % 3}\n" for i in range(100))
    first = load(tmp_path, text, rows=10, sensitive=("g",))
    again = load(tmp_path, text, rows=10, sensitive=("g",))
    assert first.fingerprint == again.fingerprint
    x = first.inputs[:, 0].astype(int)
    assert len(set(x)) == 10
    assert (np.diff(x) > 0).all()
    assert first.labels.tolist() == (x % 3).tolist()
    assert [int(first.sensitive["g"].groups[c]) for c in first.sensitive["g"].codes] == (x % 7).tolist()
    assert first.source["sample_seed"] == 0
    assert load(tmp_path, text, rows=100).source["sample_seed"] is None
    assert load(tmp_path, text, rows=2).classes == ("0", "1", "2")


def test_columns_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(
        LoadError, match=r"people\.csv has no column 'lable', which \[data\] target .*'label'"
    ):
        load(tmp_path, target="lable")
    with pytest.raises(
        LoadError, match=r"no column 'sexx', which \[data\] sensitive names; the nearest is 'sex'"
    ):
        load(tmp_path, sensitive=("sexx",), inputs=("age",))
    with pytest.raises(
        LoadError, match=r"no column 'agee', which \[data\] inputs names; the nearest is 'age'"
    ):
        load(tmp_path, inputs=("agee",))


def test_the_fingerprint_changes_with_anything_that_is_audited(tmp_path):
    section = {"sensitive": ("race",), "inputs": ("age", "hours")}
    first = load(tmp_path, **section)
    assert load(tmp_path, **section).fingerprint == first.fingerprint
    others = [
        load(tmp_path, PEOPLE.replace("30,40", "30,41"), **section),
        load(tmp_path, PEOPLE.replace("Black", "Blue"), **section),
        load(tmp_path, PEOPLE.replace("train,1", "train,0"), **section),
        load(tmp_path, **section, features={"age": {"immutable": True}}),
        load(tmp_path, sensitive=("race",), inputs=("hours", "age")),
        replace(first, favourable=0),
    ]
    assert len({first.fingerprint, *(fingerprint(other) for other in others)}) == 7


def test_the_description_is_json_counts_the_rows_and_holds_none(tmp_path):
    data = load(tmp_path, sensitive=("sex",), where={"split": "test"}, inputs=("age", "hours"))
    told = describe_data(data)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["file"] == "people.csv"
    assert len(told["sha256"]) == 64
    assert (told["rows_read"], told["rows_left_out"], told["rows"]) == (4, 1, 3)
    assert told["classes"] == [{"name": "0", "rows": 2}, {"name": "1", "rows": 1}]
    assert told["sensitive"] == {"sex": [{"group": "Female", "rows": 2}, {"group": "Male", "rows": 1}]}
    assert [item["name"] for item in told["features"]] == ["age", "hours"]
    assert str(tmp_path) not in json.dumps(told)


def test_the_reader_is_chosen_by_content_and_a_false_name_is_refused(tmp_path):
    assert reader_of(tmp_path) == "images"
    assert reader_of(csv_file(tmp_path, name="x.data")) == "csv"
    assert reader_of(csv_file(tmp_path, name="x.odd"), {"odd": None}) == "odd"
    with pytest.raises(LoadError, match=r"x\.npz is called \.npz but its content is csv"):
        reader_of(csv_file(tmp_path, name="x.npz"))
    np.savez(tmp_path / "a.npz", x=[1])
    (tmp_path / "a.npz").rename(tmp_path / "a.csv")
    with pytest.raises(LoadError, match=r"a\.csv is called \.csv but its content is npz"):
        reader_of(tmp_path / "a.csv")


def test_a_file_or_reader_that_is_not_there(tmp_path):
    with pytest.raises(LoadError, match=r"gone\.csv does not exist"):
        load_data(DataSection(path="gone.csv", target="y"), tmp_path)
    with pytest.raises(LoadError, match="reader = 'cvs' is not installed; the nearest is 'csv'"):
        load(tmp_path, reader="cvs")
    with pytest.raises(LoadError, match="is a folder, but the reader 'csv' takes a file"):
        load_data(DataSection(path=".", reader="csv", target="y"), tmp_path)


@pytest.mark.parametrize(
    ("array", "key", "modality", "shape"),
    [
        (np.zeros((2, 5)), "x", "tabular", (2, 5)),
        (np.zeros((2, 5, 6)), "x", "series", (2, 5, 6)),
        (np.zeros((2, 5, 6)), "images", "image", (2, 1, 5, 6)),
        (np.zeros((2, 5, 6), np.uint8), "x", "image", (2, 1, 5, 6)),
        (np.zeros((2, 5, 6, 3), np.uint8), "x", "image", (2, 3, 5, 6)),
        (np.zeros((2, 5), np.uint8), "x", "tabular", (2, 5)),
    ],
)
def test_the_shape_tells_the_modality(tmp_path, array, key, modality, shape):
    data = load_data(npz_file(tmp_path, **{key: array}, y=[0, 1]), tmp_path)
    assert (data.modality, data.inputs.shape, data.inputs.dtype) == (modality, shape, np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_not_finite_is_named_with_its_row(tmp_path, value):
    rows = np.zeros((3, 2))
    rows[1, 1] = value
    with pytest.raises(LoadError, match=r"a\.npz.*row 2, column 'b' hold .*finite float32 \(1 such"):
        load_data(npz_file(tmp_path, x=rows, y=[0, 1, 0], feature_names=np.array(["a", "b"])), tmp_path)


def test_inputs_outside_the_range_of_the_model_are_named(tmp_path):
    section = npz_file(tmp_path, images=np.full((2, 1, 4, 4), 7.0), y=[0, 1])
    with pytest.raises(
        LoadError, match=r"a\.npz: row 1, place \[0, 0, 0\] holds 7.*\[0, 1\].*run from 7 to 7"
    ):
        load_data(section, tmp_path, input_range=(0, 1))
    assert load_data(section, tmp_path, input_range=(0, 7)).inputs.max() == 7
    with pytest.raises(LoadError, match=r"people\.csv: row 1, column 'age' holds 30, outside"):
        load(tmp_path, inputs=("age",), input_range=(0, 1))


def test_wrong_arrays_are_refused(tmp_path):
    with pytest.raises(LoadError, match="at most 4 axes"):
        load_data(npz_file(tmp_path, x=np.zeros((1, 2, 3, 4, 5)), y=[0]), tmp_path)
    section = npz_file(tmp_path, x=np.zeros((1, 2)), y=[0])
    with pytest.raises(LoadError, match="2 columns, but 1 different names"):
        load_data(section.model_copy(update={"inputs": ("a",)}), tmp_path)
    with pytest.raises(LoadError, match="encoder takes the columns of a table"):
        load_data(section.model_copy(update={"encoder": "e.skops"}), tmp_path)


def test_mnist(shared_data):
    data = load_data(DataSection(path="mnist/mnist_test.npz"), shared_data, input_range=(0, 1))
    assert data.inputs.shape == (10_000, 1, 28, 28)
    assert (data.inputs.min(), data.inputs.max()) == (0, 1)
    assert data.classes == tuple("0123456789")
    assert np.bincount(data.labels)[1] == 1135
    assert data.caveats == ()


def test_cifar10(shared_data):
    section = DataSection(path="cifar10/test_2000.npz", rows=300)
    data = load_data(section, shared_data, classes=tuple("abcdefghij"))
    assert data.inputs.shape == (300, 3, 32, 32)
    with np.load(shared_data / "cifar10/test_2000.npz") as archive:
        whole, labels = archive["images"], archive["labels"]
    chosen = np.sort(np.random.default_rng(0).choice(2000, 300, replace=False))
    np.testing.assert_array_equal(data.labels, labels[chosen])
    np.testing.assert_allclose(data.inputs[5].transpose(1, 2, 0) * 255, whole[chosen[5]], atol=1e-4)


COUNTS = """\
sex,grade,decision,n
f,1.5,yes,2
m,2.5,no,0
m,3.5,yes,3
,4.5,no,1
"""


def load_counts(folder, text=COUNTS, *, threshold=0.5, predictions="decision", **fields):
    values = {"path": csv_file(folder, text).name, **fields}
    return load_data(DataSection(**values), folder, predictions=predictions, threshold=threshold)


def test_each_row_stands_for_as_many_people_as_it_counts(tmp_path):
    data = load_counts(tmp_path, count="n", sensitive=("sex",), inputs=("grade",), favourable="yes")
    assert data.people.tolist() == [2, 3, 1]
    assert (len(data), data.size) == (3, 6)
    assert data.inputs[:, 0].tolist() == [1.5, 3.5, 4.5]
    assert data.sensitive["sex"].groups == ("f", "m", "unknown")
    assert data.sensitive["sex"].codes.tolist() == [0, 1, 2]
    assert data.decisions.tolist() == [1, 1, 0]
    assert data.favourable == 1
    assert (data.source["people"], data.source["rows_read"], data.source["count"]) == (6, 4, "n")
    assert data.caveats[-1] == "'sex' has no value in 1 of 6 rows; they are the group 'unknown'."
    for array in (data.inputs, data.decisions, data.sensitive["sex"].codes, data.people):
        assert not array.flags.writeable


def test_counts_are_those_of_labelled_rows_for_a_model_too_and_are_no_input(tmp_path):
    text = "x,y,n,label\n1,5,2,0\n2,6,1,1\n"
    data = load(tmp_path, text, count="n")
    assert [feature.name for feature in data.features] == ["x", "y"]
    assert data.inputs.tolist() == [[1, 5], [2, 6]]
    assert data.labels.tolist() == [0, 1]
    assert data.people.tolist() == [2, 1]


def test_the_description_of_counts_is_that_of_the_people(tmp_path):
    text = "x,s,c,n,label\n1,a,u,3,0\n2,b,?,2,1\n"
    facts = describe_data(load(tmp_path, text, count="n", sensitive=("s",), control=("c",), inputs=("x",)))
    assert facts["rows"] == facts["people"] == 5
    assert [item["rows"] for item in facts["classes"]] == [3, 2]
    assert facts["sensitive"]["s"] == [{"group": "a", "rows": 3}, {"group": "b", "rows": 2}]
    assert facts["controls"]["c"] == [{"group": "u", "rows": 3}, {"group": "unknown", "rows": 2}]
    json.dumps(facts)


def test_counted_rows_written_out_are_the_rows_written_by_hand(tmp_path):
    settings = {"sensitive": ("s",), "inputs": ("x",), "control": ("c",)}
    counted = load(tmp_path, "x,s,c,n,label\n1,a,u,3,0\n2,b,v,2,1\n", count="n", **settings)
    rows = "x,s,c,n,label\n" + "1,a,u,3,0\n" * 3 + "2,b,v,2,1\n" * 2
    by_hand = load(tmp_path, rows, **settings)
    assert fingerprint(written_out(counted)) == by_hand.fingerprint
    assert written_out(counted).people is None
    assert written_out(by_hand) is by_hand
    assert not written_out(counted).inputs.flags.writeable


def test_the_fingerprint_changes_with_a_number_of_people(tmp_path):
    found = {
        load(tmp_path, f"x,n,label\n1,{n},0\n2,2,1\n", count="n", inputs=("x",)).fingerprint
        for n in (1, 2, 3)
    }
    assert len(found | {load(tmp_path, "x,n,label\n1,1,0\n2,2,1\n", inputs=("x",)).fingerprint}) == 4


def test_a_sample_of_counted_rows_is_drawn_of_people(tmp_path):
    data = load(tmp_path, "x,n,label\n1,900,0\n2,100,1\n", count="n", rows=200)
    assert data.size == 200
    assert 1 <= int(data.people[1]) <= 60
    assert data.source["sample_seed"] == 0
    rows = "x,label\n" + "1,0\n" * 900 + "2,1\n" * 100
    assert fingerprint(written_out(data)) == load(tmp_path, rows, rows=200).fingerprint


def test_a_thousand_million_people_of_few_rows_are_two_rows(tmp_path):
    text = "s,decision,n\na,yes,1000000000\nb,no,1000000\n"
    data = load_counts(tmp_path, text, count="n", sensitive=("s",))
    assert (len(data), data.size) == (2, 1_001_000_000)
    assert describe_data(data)["rows"] == 1_001_000_000


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("1.5", "column 'n', row 1: '1.5' is not a number of people"),
        ("-1", "'-1' is not a number of people"),
        ("inf", "'inf' is not a number of people"),
        ("two", "'two' is not a number of people"),
        ("", "is not a number of people"),
        ("0", "adds up to 0 people"),
        ("1e16", "adds up to 10000000000000000 people; it must be from 1 to 9007199254740991"),
    ],
)
def test_a_count_that_is_no_number_of_people_is_named(tmp_path, cell, words):
    with pytest.raises(LoadError) as caught:
        load_counts(tmp_path, f"decision,n\nyes,{cell}\n", count="n")
    assert words in str(caught.value)


AGES = "age,decision\n" + "".join(f"{age},yes\n" for age in ("24.9", "25", "39", "40", "60", "99", "?", ""))


def test_stated_edges_divide_a_continuous_column(tmp_path):
    data = load_counts(tmp_path, AGES, sensitive=("age",), bins={"age": (25, 40, 60)})
    ages = data.sensitive["age"]
    assert ages.groups == ("under 25", "25 to under 40", "40 to under 60", "60 and over", "unknown")
    assert ages.codes.tolist() == [0, 1, 1, 2, 3, 3, 4, 4]


def test_a_bin_without_people_stays_in_its_place(tmp_path):
    ages = load_counts(tmp_path, "age,decision\n70,yes\n", sensitive=("age",), bins={"age": (25.5, 60)})
    assert ages.sensitive["age"].groups == ("under 25.5", "25.5 to under 60", "60 and over")
    assert ages.sensitive["age"].codes.tolist() == [2]


def test_a_word_among_the_numbers_to_be_binned_is_named(tmp_path):
    with pytest.raises(LoadError, match="column 'age', row 2: 'old' is not a number"):
        load_counts(tmp_path, "age,decision\n70,yes\nold,no\n", sensitive=("age",), bins={"age": (25,)})


def test_many_numbers_without_bins_keep_their_sentence_and_with_bins_are_groups(tmp_path):
    text = "age,decision\n" + "".join(f"{age / 7},yes\n" for age in range(60))
    with pytest.raises(LoadError, match="sensitive column 'age' holds 60 different numbers"):
        load_counts(tmp_path, text, sensitive=("age",))
    with pytest.raises(LoadError, match="control column 'age' holds 60 different numbers"):
        load_counts(tmp_path, text, control=("age",))
    assert len(load_counts(tmp_path, text, control=("age",), bins={"age": (4,)}).controls["age"].groups) == 2


def test_controls_are_loaded_like_sensitive_features_and_kept_apart(tmp_path):
    data = load_counts(tmp_path, COUNTS, control=("sex",), count="n")
    assert data.sensitive == {}
    assert data.controls["sex"].groups == ("f", "m", "unknown")
    assert describe_data(data)["controls"]["sex"][0] == {"group": "f", "rows": 2}
    assert data.fingerprint != load_counts(tmp_path, COUNTS, count="n").fingerprint
    assert load(tmp_path, inputs=("age",)).controls == {}
    assert [f.name for f in load(tmp_path, where={"split": "test"}, control=("sex", "race")).features] == [
        "age",
        "hours",
    ]


def test_a_table_of_decisions_needs_no_labels_and_no_inputs(tmp_path):
    data = load_counts(tmp_path, COUNTS, sensitive=("sex",))
    assert data.inputs.shape == (4, 0)
    assert not data.labelled
    assert data.classes == ("no", "yes")
    assert data.scores is None
    facts = describe_data(data)
    assert facts["classes"] == [{"name": "no", "rows": None}, {"name": "yes", "rows": None}]
    assert facts["target"] is None
    assert facts["predictions"] == {"column": "decision", "kind": "decisions", "threshold": None}
    json.dumps(facts)


def test_scores_decide_at_the_threshold(tmp_path):
    text = "score,label\n0.2,no\n0.6,no\n0.7,yes\n1,yes\n"
    data = load_counts(tmp_path, text, predictions="score", threshold=0.7, target="label")
    assert data.scores.tolist() == [0.2, 0.6, 0.7, 1.0]
    assert data.decisions.tolist() == [0, 0, 1, 1]
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.source["predictions"] == {"column": "score", "kind": "scores", "threshold": 0.7}
    other = load_counts(tmp_path, text, predictions="score", threshold=0.5, target="label")
    assert other.decisions.tolist() == [0, 1, 1, 1]
    assert other.fingerprint != data.fingerprint


def test_where_and_predictions_go_together(tmp_path):
    data = load_counts(tmp_path, COUNTS, where={"sex": "m"}, count="n")
    assert (data.decisions.tolist(), data.people.tolist()) == ([1], [3])
    assert data.classes == ("no", "yes")


def test_arrays_hold_no_column_of_predictions(tmp_path):
    section = npz_file(tmp_path, inputs=np.zeros((2, 3)), score=np.array([0, 1]))
    with pytest.raises(LoadError, match="names a column of a table"):
        load_data(section, tmp_path, predictions="score")


PRICES = "a,sex,price,n\n1,F,10.5,1\n2,M,-3,2\n3,F,0,1\n"


def load_prices(folder, text=PRICES, **fields):
    path = csv_file(folder, text).name
    section = DataSection(path=path, target="price", sensitive=("sex",), **fields)
    return load_data(section, folder, task="regression")


def test_a_regression_has_targets_and_neither_classes_nor_labels(tmp_path):
    data = load_prices(tmp_path, inputs=("a",))
    assert data.targets.tolist() == [10.5, -3, 0]
    assert data.inputs.tolist() == [[1], [2], [3]]
    assert (data.classes, data.favourable, data.labelled) == ((), None, False)
    with pytest.raises(NotApplicable):
        _ = data.labels
    with pytest.raises(ValueError, match="read-only"):
        data.targets[0] = 1
    facts = describe_data(data)
    assert facts["targets"] == {"n": 3, "mean": 2.5, "min": -3.0, "max": 10.5}
    assert facts["classes"] == []
    json.dumps(facts)


def test_targets_follow_counted_and_sampled_rows_and_are_no_input(tmp_path):
    data = load_prices(tmp_path, count="n")
    assert data.targets.tolist() == [10.5, -3, 0]
    assert data.people.tolist() == [1, 2, 1]
    assert describe_data(data)["targets"] == {"n": 4, "mean": 1.125, "min": -3.0, "max": 10.5}
    assert [feature.name for feature in data.features] == ["a"]
    kept = load_prices(tmp_path, where={"sex": "F"}, rows=1, inputs=("a",))
    assert kept.targets.tolist() == [{1: 10.5, 3: 0}[int(kept.inputs[0, 0])]]


def test_the_fingerprint_changes_with_a_target(tmp_path):
    before = load_prices(tmp_path).fingerprint
    assert load_prices(tmp_path).fingerprint == before
    assert load_prices(tmp_path, PRICES.replace("10.5", "10.6")).fingerprint != before


def test_a_classification_says_nothing_of_targets(tmp_path):
    data = load(tmp_path, inputs=("age", "hours"))
    assert data.targets is None
    assert "targets" not in describe_data(data)
