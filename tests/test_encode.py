import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)

from audit.config import DataSection
from audit.encode import load_encoder
from audit.errors import LoadError
from audit.read import describe_data, load_data

FRAME = pd.DataFrame({
    "age": [20, 30, 40, 50],
    "job": ["cook", "?", "smith", "cook"],
    "sex": ["f", "m", "f", "m"],
    "label": [0, 1, 0, 1],
})  # fmt: skip


def encoder(numeric=None, **one_hot):
    parts = [("n", numeric or StandardScaler(), ["age"]), ("c", OneHotEncoder(**one_hot), ["job", "sex"])]
    return ColumnTransformer(parts).fit(FRAME)


def load(folder, fitted, frame=FRAME, **fields):
    skops.io.dump(fitted, folder / "e.skops")
    frame.to_csv(folder / "t.csv", index=False)
    section = DataSection(path="t.csv", target="label", encoder="e.skops", **fields)
    return load_data(section, folder)


def test_inputs_are_what_the_encoder_gives_and_each_raw_column_is_a_feature(tmp_path):
    fitted = encoder()
    data = load(tmp_path, fitted)
    wanted = fitted.transform(FRAME)
    np.testing.assert_allclose(data.inputs, wanted, rtol=1e-6)
    age, job, sex = data.features
    assert (age.name, age.kind, age.columns) == ("age", "numeric", (0,))
    assert (job.name, job.kind, job.columns, job.categories) == (
        "job", "categorical", (1, 2, 3), ("?", "cook", "smith")
    )  # fmt: skip
    assert (sex.columns, sex.categories) == ((4, 5), ("f", "m"))
    assert data.source["encoder"]["file"] == "e.skops"
    json.dumps(describe_data(data))


@pytest.mark.parametrize(
    ("settings", "job", "sex"),
    [
        ({"drop": "first"}, ("cook", "smith"), ("m",)),
        ({"drop": "if_binary"}, ("?", "cook", "smith"), ("m",)),
        ({"min_frequency": 2, "handle_unknown": "infrequent_if_exist"}, ("cook", "infrequent"), ("f", "m")),
    ],
)
def test_dropped_and_rare_categories_have_no_column_of_their_own(tmp_path, settings, job, sex):
    data = load(tmp_path, encoder(**settings))
    assert data.features[1].categories == job
    assert data.features[2].categories == sex
    assert sum(len(feature.columns) for feature in data.features) == data.inputs.shape[1]
    for feature in data.features[1:]:
        block = data.inputs[:, list(feature.columns)]
        assert set(np.unique(block)) <= {0, 1}
        assert (block.sum(axis=1) <= 1).all()


def test_each_one_hot_column_is_the_category_it_is_called(tmp_path):
    data = load(tmp_path, encoder())
    for feature in data.features[1:]:
        for column, category in zip(feature.columns, feature.categories, strict=True):
            expected = (FRAME[feature.name] == category).to_numpy()
            np.testing.assert_array_equal(data.inputs[:, column] == 1, expected)


def test_described_kind_range_and_immutability_are_merged(tmp_path):
    fitted = encoder(MinMaxScaler())
    told = {"age": {"kind": "ordinal", "range": [10, 60]}, "sex": {"kind": "categorical", "immutable": True}}
    age, job, sex = load(tmp_path, fitted, features=told).features
    assert age.kind == "ordinal"
    assert age.low == pytest.approx((10 - 20) / 30)
    assert age.high == pytest.approx((60 - 20) / 30)
    assert sex.immutable
    assert not job.immutable
    with pytest.raises(LoadError, match=r"column 'age', row 4 holds 50, outside its range \[0, 49\]"):
        load(tmp_path, fitted, features={"age": {"range": [0, 49]}})
    with pytest.raises(LoadError, match=r'features\."sex".*range is for a feature of one input'):
        load(tmp_path, fitted, features={"sex": {"range": [0, 1]}})
    with pytest.raises(LoadError, match=r"'agee' is not a raw column of .*the nearest is 'age'"):
        load(tmp_path, fitted, features={"agee": {}})
    with pytest.raises(LoadError, match="columns cannot be given beside an encoder"):
        load(tmp_path, fitted, features={"age": {"columns": ["age"]}})


def test_a_category_not_seen_before_is_named_where_the_encoder_refuses_it(tmp_path):
    frame = FRAME.assign(job=["cook", "pilot", "smith", "pilot"])
    with pytest.raises(LoadError) as caught:
        load(tmp_path, encoder(), frame)
    for part in ("t.csv", "column 'job'", "row 2", "'pilot'", "2 of 4 rows", "'?', 'cook', 'smith'"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_category_not_seen_before_is_kept_and_counted_where_the_encoder_ignores_it(tmp_path):
    frame = FRAME.assign(job=["cook", "pilot", "smith", "pilot"])
    data = load(tmp_path, encoder(handle_unknown="ignore"), frame)
    assert data.inputs[1, 1:4].tolist() == [0, 0, 0]
    assert len(data) == 4
    (caveat,) = data.caveats
    for part in ("2 of 4", "'job'", "'pilot'", "row 2", "ignore"):
        assert part in caveat


def test_a_marker_that_is_a_category_is_no_missing_value(tmp_path):
    data = load(tmp_path, encoder())
    assert data.inputs[1, 1] == 1
    assert data.caveats == ()


@pytest.mark.parametrize("column", ["age", "sex"])
def test_a_missing_value_is_named_where_the_encoder_has_no_imputer(tmp_path, column):
    frame = FRAME.astype(object)
    frame.loc[2, column] = "N/A"
    with pytest.raises(LoadError) as caught:
        load(tmp_path, encoder(handle_unknown="ignore"), frame)
    for part in ("t.csv", f"column '{column}'", "row 3", "'N/A'", "1 of 4 rows", "missing"):
        assert part in str(caught.value)


def test_an_imputer_fills_missing_values_and_they_are_counted(tmp_path):
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    fitted = ColumnTransformer([("n", numbers, ["age"]), ("c", words, ["sex"])]).fit(FRAME)
    frame = FRAME.astype(object)
    frame.loc[1, "age"] = ""
    frame.loc[0, "sex"] = "N/A"
    data = load(tmp_path, fitted, frame)
    assert data.inputs[1, 0] == pytest.approx(0)
    assert data.inputs[0, 1:].tolist() == [1, 0]
    assert [feature.kind for feature in data.features] == ["numeric", "categorical"]
    assert [text[:28] for text in data.caveats] == [
        "1 of 4 values of 'age' are m",
        "1 of 4 values of 'sex' are m",
    ]


def test_an_encoder_that_knows_nan_as_a_category_gets_it(tmp_path):
    seen = FRAME.astype(object)
    seen.loc[1, "job"] = np.nan
    fitted = ColumnTransformer([("c", OneHotEncoder(), ["job"])]).fit(seen)
    data = load(tmp_path, fitted)
    assert data.features[0].categories == ("cook", "smith", "nan")
    assert data.inputs[1].tolist() == [0, 0, 1]


def test_numeric_categories_and_ordinal_codes(tmp_path):
    parts = [
        ("c", OneHotEncoder(), ["age"]),
        ("o", OrdinalEncoder(), ["job"]),
        ("p", "passthrough", ["label"]),
    ]
    data = load(tmp_path, ColumnTransformer(parts).fit(FRAME))
    age, job, label = data.features
    assert age.categories == ("20", "30", "40", "50")
    np.testing.assert_array_equal(data.inputs[:, :4], np.eye(4))
    assert (job.kind, label.kind) == ("ordinal", "numeric")
    with pytest.raises(LoadError, match=r"column 'age', row 1 holds '21', a category .* not seen"):
        load(tmp_path, ColumnTransformer(parts).fit(FRAME), FRAME.assign(age=[21, 30, 40, 50]))


def test_a_transformer_without_column_names_takes_the_names_of_inputs(tmp_path):
    fitted = StandardScaler().fit(FRAME[["label", "age"]].to_numpy())
    data = load(tmp_path, fitted, inputs=("label", "age"))
    assert [feature.name for feature in data.features] == ["label", "age"]
    np.testing.assert_allclose(data.inputs, fitted.transform(FRAME[["label", "age"]].to_numpy()), rtol=1e-6)
    with pytest.raises(LoadError, match="fitted without column names"):
        load(tmp_path, fitted)
    with pytest.raises(LoadError, match=r"takes 2 columns, but .* names 1"):
        load(tmp_path, fitted, inputs=("age",))


def test_outputs_that_mix_columns_are_told_and_nothing_is_promised_of_them(tmp_path):
    fitted = make_pipeline(StandardScaler(), PCA(2)).fit(FRAME[["age", "label"]])
    data = load(tmp_path, fitted)
    assert [feature.name for feature in data.features] == ["pca0", "pca1"]
    assert "2 of 2 encoded inputs mix" in data.caveats[0]
    with pytest.raises(LoadError, match=r'features\."age".*cannot be kept'):
        load(tmp_path, fitted, features={"age": {"immutable": True}})


def test_a_column_used_twice_is_one_feature(tmp_path):
    parts = [("a", StandardScaler(), ["age"]), ("b", MinMaxScaler(), ["age"])]
    data = load(tmp_path, ColumnTransformer(parts).fit(FRAME))
    assert [(feature.name, feature.columns) for feature in data.features] == [("age", (0, 1))]
    assert "2 ways" in data.caveats[0]


def test_a_column_of_the_encoder_that_the_table_lacks_is_named(tmp_path):
    with pytest.raises(LoadError, match=r"t\.csv has no column 'job', which the encoder e\.skops names"):
        load(tmp_path, encoder(), FRAME.drop(columns="job"))
    with pytest.raises(LoadError, match=r"names 'jobb', which .*the nearest is 'job'"):
        load(tmp_path, encoder(), inputs=("jobb",))


def shout(values):
    return values


def test_a_type_that_is_not_trusted_is_named_and_never_built(tmp_path):
    path = tmp_path / "e.skops"
    skops.io.dump(FunctionTransformer(shout).fit(FRAME[["age"]]), path)
    with pytest.raises(LoadError, match=r"e\.skops holds the type .*shout, which is not trusted"):
        load_encoder(path)


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_encoder_is_refused(tmp_path, content):
    path = tmp_path / "e.skops"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=r"e\.skops is not an encoder saved by skops"):
        load_encoder(path)
    with pytest.raises(LoadError, match=r"gone\.skops does not exist"):
        load_encoder(tmp_path / "gone.skops")
    skops.io.dump({"a": 1}, path)
    with pytest.raises(LoadError, match="holds a dict, which is not a transformer"):
        load_encoder(path)


def test_an_encoder_that_was_never_fitted_is_refused(tmp_path):
    with pytest.raises(LoadError, match="cannot encode"):
        load(tmp_path, StandardScaler(), inputs=("age",))


def test_another_version_of_scikit_learn_is_told(tmp_path):
    path = tmp_path / "e.skops"
    skops.io.dump(StandardScaler().fit(FRAME[["age"]]), path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    import sklearn

    assert sklearn.__version__.encode() in files["schema.json"]
    files["schema.json"] = files["schema.json"].replace(sklearn.__version__.encode(), b"0.24.1")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    _, caveats = load_encoder(path)
    assert "scikit-learn 0.24.1" in caveats[0]


def test_adult_with_an_encoder_fitted_on_its_training_rows(shared_data, tmp_path):
    frame = pd.read_csv(shared_data / "adult/adult.csv", keep_default_na=False)
    numeric = ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    words = [name for name in frame.columns if name not in {*numeric, "income", "split"}]
    parts = [("n", StandardScaler(), numeric), ("c", OneHotEncoder(handle_unknown="ignore"), words)]
    train, test = (frame[frame["split"] == part] for part in ("train", "test"))
    fitted = ColumnTransformer(parts).fit(train)
    skops.io.dump(fitted, tmp_path / "adult.skops")
    section = DataSection(
        path=shared_data / "adult/adult.csv", target="income", where={"split": "test"},
        sensitive=("sex", "race"),
        encoder=tmp_path / "adult.skops", features={"age": {"range": [17, 90]}, "sex": {"immutable": True}},
    )  # fmt: skip
    data = load_data(section, tmp_path, classes=("<=50K", ">50K"))
    assert len(data) == 16_281
    np.testing.assert_allclose(data.inputs, fitted.transform(test).toarray(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(data.labels, (test["income"] == ">50K").to_numpy())
    features = {feature.name: feature for feature in data.features}
    assert list(features) == numeric + words
    assert features["workclass"].categories[0] == "?"
    unknown_work = data.inputs[:, features["workclass"].columns[0]].sum()
    assert unknown_work == (test["workclass"] == "?").sum() > 900
    assert features["age"].low == pytest.approx((17 - train["age"].mean()) / train["age"].std(ddof=0))
    sex = data.sensitive["sex"]
    rates = [data.labels[sex.codes == code].mean() for code in range(2)]
    assert sex.groups == ("Female", "Male")
    assert rates == pytest.approx([0.1088, 0.3000], abs=1e-3)
    assert [caveat for caveat in data.caveats if "Nobody named" not in caveat] == []


def test_german_credit(shared_data, tmp_path):
    frame = pd.read_csv(shared_data / "german_credit/german.csv", keep_default_na=False)
    words = [name for name in frame.columns if frame[name].dtype == "str"]
    numeric = [name for name in frame.columns if name not in {*words, "class-label"}]
    parts = [("n", StandardScaler(), numeric), ("c", OneHotEncoder(), words)]
    skops.io.dump(ColumnTransformer(parts).fit(frame), tmp_path / "g.skops")
    section = DataSection(
        path=shared_data / "german_credit/german.csv", target="class-label", sensitive=("sex",),
        encoder=tmp_path / "g.skops",
    )  # fmt: skip
    data = load_data(section, tmp_path, classes=("bad", "good"))
    assert np.bincount(data.labels).tolist() == [300, 700]
    sex = data.sensitive["sex"]
    assert [data.labels[sex.codes == c].mean() for c in range(2)] == pytest.approx([0.6484, 0.7232], abs=1e-4)
    with pytest.raises(LoadError, match=r"german\.csv: sensitive column 'age' holds 53 different numbers"):
        load_data(section.model_copy(update={"sensitive": ("age",)}), tmp_path)


@pytest.mark.parametrize(
    ("scaler", "unit", "zero"),
    [
        (StandardScaler(), np.std([20, 30, 40, 50]), 35),
        (MinMaxScaler(), 30, 20),
        ("passthrough", 1, 0),
    ],
)
def test_an_encoder_that_keeps_proportions_tells_the_users_units(tmp_path, scaler, unit, zero):
    parts = [("n", scaler, ["age"]), ("c", OneHotEncoder(), ["job"])]
    told = {"age": {"direction": "increase", "step": 5, "cost": 0.1}, "job": {"cost": 3}}
    age, job = load(tmp_path, ColumnTransformer(parts).fit(FRAME), features=told).features
    assert age.unit == pytest.approx(unit)
    assert age.zero == pytest.approx(zero, abs=1e-9)
    assert (age.direction, age.step, age.cost) == ("increase", 5, 0.1)
    assert (job.cost, job.unit) == (3, 1)


def test_ordinal_codes_count_categories_whatever_scales_them(tmp_path):
    scaled = make_pipeline(OrdinalEncoder(), StandardScaler())
    fitted = ColumnTransformer([("o", scaled, ["job"]), ("p", OrdinalEncoder(), ["sex"])]).fit(FRAME)
    data = load(tmp_path, fitted, features={"job": {"direction": "increase"}})
    job, sex = data.features
    codes = data.inputs[:, 0].astype(float) * job.unit + job.zero
    np.testing.assert_allclose(codes, [1, 0, 2, 1], atol=1e-6)  # ?, cook, smith
    assert (sex.kind, sex.unit, sex.zero) == ("ordinal", 1, 0)


def test_an_encoder_that_does_not_keep_proportions_is_refused_what_it_cannot_keep(tmp_path):
    frame = FRAME.assign(age=[1, 2, 40, 900])
    fitted = ColumnTransformer([("n", PowerTransformer(), ["age"]), ("c", OneHotEncoder(), ["sex"])]).fit(
        frame
    )
    age, _ = load(tmp_path, fitted, frame).features
    assert age.unit is None
    for told in ({"direction": "increase"}, {"step": 1}, {"cost": 2}):
        with pytest.raises(
            LoadError, match=r'features\."age".*cannot be kept, because e\.skops does not keep'
        ):
            load(tmp_path, fitted, frame, features={"age": told})
    with pytest.raises(LoadError, match=r"relations.*does not keep the proportions of 'age'"):
        load(tmp_path, fitted, frame, relations=[{"terms": {"age": 1}, "at_least": 0}])


def test_a_relation_beside_an_encoder_speaks_of_the_raw_columns(tmp_path):
    parts = [("n", StandardScaler(), ["age"]), ("m", MinMaxScaler(), ["label"])]
    fitted = ColumnTransformer(parts).fit(FRAME)
    relation = {"terms": {"age": 1, "label": -10}, "at_least": 20, "at_most": 40}
    (found,) = load(tmp_path, fitted, relations=[relation]).relations
    assert found.text == "20 <= age - 10 label <= 40"
    with pytest.raises(LoadError, match=r"row 3 breaks the relation age - 10 label <= 39: its sum is 40"):
        load(tmp_path, fitted, relations=[{"terms": {"age": 1, "label": -10}, "at_most": 39}])


def test_the_dropped_category_is_known_by_name(tmp_path):
    job, sex = load(tmp_path, encoder(drop="first")).features[1:]
    assert (job.dropped, sex.dropped) == ("?", "f")
    assert [f.dropped for f in load(tmp_path, encoder()).features] == ["", "", ""]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"sex": {"direction": "increase"}}, "direction and step are for numbers, and it is one-hot encoded"),
        ({"sex": {"kind": "categorical", "dropped": "m"}}, "dropped cannot be given beside an encoder"),
    ],
)
def test_what_does_not_fit_an_encoded_feature_gets_one_sentence(tmp_path, told, complaint):
    with pytest.raises(LoadError, match=complaint):
        load(tmp_path, encoder(), features=told)
