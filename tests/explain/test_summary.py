"""What a reader is told: titles that claim no more than the intervals, tables, pictures, refusals."""

import numpy as np
import pytest

from audit.dataset import Dataset
from audit.errors import NotEvaluable
from audit.explain.attribution import Attribution
from audit.explain.summary import (
    as_bytes,
    cell_shares,
    evidence,
    heatmaps,
    require_explanation,
    resolution,
    sampling_error,
)


def attribution(values, maps=None, **fields):
    values = np.asarray(values, dtype=np.float64)
    n, m = values.shape
    given = {
        "method": "kernel_shap",
        "features": tuple(f"f{index}" for index in range(m)),
        "rows": np.arange(n),
        "values": values,
        "unit": "log-odds",
        "targets": np.zeros(n, dtype=np.int64),
        "fx": np.ones(n),
        "maps": maps,
    }
    return Attribution(**(given | fields))


def data_of(inputs, modality="tabular"):
    labels = np.zeros(len(inputs), dtype=np.int64)
    return Dataset(
        inputs=np.asarray(inputs, dtype=np.float32), labels=labels, modality=modality, classes=("cat", "dog")
    )


TABLE = data_of(np.zeros((4, 3)))
CLEAR = [[3.0, -1.0, 0.1], [-3.1, 1.1, 0.1], [2.9, -0.9, 0.1], [-3.0, 1.0, 0.1]]


def test_the_global_table_holds_means_and_intervals_in_order_of_size():
    found = evidence(attribution(CLEAR), TABLE, [], finding="led")
    (table,) = found.tables
    assert table.name == "global"
    assert list(table.columns) == ["feature", "mean", "mean_abs", "low", "high"]
    assert [row[0] for row in table.rows] == ["f0", "f1", "f2"]
    name, mean, mean_abs, low, high = table.rows[0]
    assert (name, mean, mean_abs) == ("f0", pytest.approx(-0.05), pytest.approx(3.0))
    half = 3.182446 * np.std([3.0, 3.1, 2.9, 3.0], ddof=1) / 2
    assert (low, high) == (pytest.approx(3 - half, rel=1e-5), pytest.approx(3 + half, rel=1e-5))
    measures = found.measures
    assert [item.group for item in measures] == [{"feature": "f0"}, {"feature": "f1"}, {"feature": "f2"}]
    assert {item.name for item in measures} == {"mean_abs_attribution"}
    assert measures[0].low == pytest.approx(low)
    assert measures[0].unit == "log-odds"


def test_no_more_than_twenty_features_are_measures_and_all_stand_in_the_table():
    values = np.random.default_rng(0).normal(size=(5, 30))
    found = evidence(attribution(values), TABLE, [], finding="led")
    assert len(found.measures) == 20
    assert len(found.tables[0].rows) == 30
    assert len(found.figures[0].data["labels"]) == 10


@pytest.mark.parametrize(
    ("values", "title"),
    [
        (CLEAR, "f0 led"),
        (
            [[3, 2.9, 0.1], [2.6, 2.9, 0.1], [2.8, 2.7, 0.1]],
            "f1 and f0 led; these rows do not settle their order",
        ),
        (
            np.random.default_rng(0).normal(size=(4, 8)),
            " and 7 others led; these rows do not settle their order",
        ),
        ([[1.0, 2.0]], "f1 led in the one row explained"),
    ],
)
def test_the_title_names_a_leader_only_where_the_intervals_do(values, title):
    assert evidence(attribution(values), TABLE, [], finding="led").figures[0].title.endswith(title)


def test_rows_that_are_not_finite_are_left_out_and_told():
    values = [*CLEAR, [np.nan, 1.0, 1.0]]
    found = evidence(attribution(values), TABLE, [], finding="led", caveats=["mine"])
    assert found.tables[0].rows[0][2] == pytest.approx(3.0)
    assert found.caveats[0].startswith("Computed on 4 rows")
    assert "1 of 5 rows" in found.caveats[1]
    assert found.caveats[2] == "mine"


def test_nothing_to_explain_is_refused():
    with pytest.raises(NotEvaluable, match="all attributions of all 2 rows are zero"):
        require_explanation(attribution(np.zeros((2, 3))))
    with pytest.raises(NotEvaluable, match="0 of 2 rows"):
        require_explanation(attribution(np.full((2, 3), np.nan)))
    noise = np.full((2, 3), 1e-12)
    with pytest.raises(NotEvaluable):
        require_explanation(attribution(noise))
    require_explanation(attribution(noise), exact=True)
    require_explanation(attribution(CLEAR))


def test_cells_hold_shares_of_each_images_own_total():
    maps = np.zeros((3, 8, 8), dtype=np.float32)
    maps[0, 0, 0], maps[0, 7, 7] = 3, -1
    maps[1, 0, 0] = 100
    signed, absolute = cell_shares(maps)
    assert signed.shape == (2, 16)
    assert signed[0, [0, 15]].tolist() == [0.75, -0.25]
    assert absolute[0, [0, 15]].tolist() == [0.75, 0.25]
    assert absolute[1, 0] == 1


def image_case():
    images = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    maps = np.random.default_rng(1).normal(size=(5, 8, 8)).astype(np.float32)
    maps[1] = 0
    names = tuple(f"cell {index}" for index in range(16))
    return attribution(np.ones((5, 16)), maps, features=names), data_of(images, "image")


def test_images_are_summed_up_by_cells_and_shown():
    item, data = image_case()
    found = evidence(item, data, [], finding="led", examples=2, value_range=(0.0, 1.0))
    assert len(found.tables[0].rows) == 16
    assert sum(row[2] for row in found.tables[0].rows) == pytest.approx(1)
    assert found.tables[0].rows[0][0].startswith("row ")
    assert found.figures[0].title.startswith("Image cell row ")
    picture = found.figures[1]
    assert picture.kind == "heatmaps"
    assert len(picture.data["captions"]) == 2
    assert [picture.data["images"], picture.data["values"]] == ["images", "values"]
    assert found.arrays["images"].shape == (2, 8, 8, 3)
    assert found.arrays["images"].dtype == np.uint8
    assert found.arrays["values"].dtype == np.float32
    assert np.array_equal(found.arrays["values"], item.maps[[0, 2]])
    expected = np.round(data.inputs[2].transpose(1, 2, 0) * 255)
    assert np.abs(found.arrays["images"][1] - expected).max() <= 1


def test_no_picture_is_shown_where_none_is_asked_for_or_none_says_anything():
    item, data = image_case()
    found = evidence(item, data, [], finding="led")
    assert [figure.kind for figure in found.figures] == ["bars"]
    assert not found.arrays
    silent = attribution(np.ones((5, 16)), np.zeros((5, 8, 8), dtype=np.float32))
    assert heatmaps(silent, data, 3, None) is None


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (3, 3), (4, 1)])
def test_any_number_of_channels_can_be_shown(channels, shown):
    images = np.random.default_rng(0).normal(size=(2, channels, 4, 4)).astype(np.float32)
    found = as_bytes(images, None)
    assert found.shape == (2, 4, 4, shown)
    assert found.dtype == np.uint8


def test_the_sampling_error_is_the_mean_ratio_of_lengths():
    item = attribution(
        [[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]],
        standard_error=np.array([[0.3, 0.4], [1.0, 1.0], [0.2, 0.0]]),
    )
    found = sampling_error(item)
    assert found.value == pytest.approx((0.1 + 0.2) / 2)
    assert found.n == 2
    unknown = sampling_error(attribution([[1.0, 2.0]], standard_error=np.full((1, 2), np.nan)))
    assert unknown.value is None
    assert "too few" in unknown.reason


def test_series_are_drawn_over_time_with_the_leading_channel_first():
    elements = np.zeros((4, 2, 6), dtype=np.float32)
    elements[:, 1, 3] = [1, -1, 1, -3]
    elements[:, 0, 0] = 0.5
    item = attribution(
        elements.reshape(4, 4, 3).sum(axis=2),
        features=("pulse, steps 1-3", "pulse, steps 4-6", "pressure, steps 1-3", "pressure, steps 4-6"),
        elements=elements,
    )
    figures = evidence(item, data_of(np.zeros((4, 2, 6), np.float32), "series"), [], finding="moved").figures
    curve = next(figure for figure in figures if figure.kind == "curve")
    first, second = curve.data["series"]
    assert (first["name"], second["name"]) == ("pressure", "pulse")
    assert first["x"] == [1, 2, 3, 4, 5, 6]
    assert first["y"] == pytest.approx([0, 0, 0, 1.5, 0, 0])
    assert first["low"][3] < 1.5 < first["high"][3]
    assert curve.title == "Attribution over time, highest at step 4 of pressure"
    assert "pulse is highest at step 1" in curve.alt


def test_a_long_series_is_drawn_with_few_points():
    elements = np.random.default_rng(0).normal(size=(3, 1, 5000)).astype(np.float32)
    item = attribution(elements.sum(axis=2), features=("steps 1-5000",), elements=elements)
    figures = evidence(item, data_of(np.zeros((3, 1, 5000), np.float32), "series"), [], finding="x").figures
    (line,) = next(figure for figure in figures if figure.kind == "curve").data["series"]
    assert line["name"] == "all channels"
    assert len(line["x"]) == len(line["y"]) == 200
    assert np.mean(line["y"]) == pytest.approx(np.abs(elements).mean(), rel=1e-3)


def test_only_series_are_cut_into_stretches():
    assert resolution(data_of(np.zeros((2, 1, 6), np.float32), "series"), 3) == [
        "Each channel of a series is cut into 3 stretches of time, whose steps are added up."
    ]
    assert resolution(data_of(np.zeros((2, 3), np.float32)), 3) == []
