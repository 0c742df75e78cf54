"""What methods share: the scale of a feature, and values put into the user's features."""

import numpy as np
import pytest
import torch

from audit.dataset import Dataset
from audit.explain.explained import baseline_row, by_pixel, deviations, elementwise, segmentwise
from audit.explain.features import layout
from audit.model import Model


def data_of(shape, modality):
    inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = np.zeros(shape[0], dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality=modality, classes=("a", "b"))


def test_deviations_are_those_of_columns_and_channels():
    table, series = data_of((50, 4), "tabular"), data_of((50, 3, 7), "series")
    assert deviations(table) == pytest.approx(table.inputs.std(axis=0), rel=1e-5)
    assert deviations(series).shape == (3, 1)
    assert deviations(series)[1, 0] == pytest.approx(series.inputs[:, 1].std(), rel=1e-5)
    assert deviations(data_of((5, 3, 4, 4), "image")).tolist() == [[[1.0]]]


@pytest.mark.parametrize("baseline", ["auto", "mean"])
def test_the_mean_of_series_is_kept_step_by_step(baseline):
    series = data_of((50, 3, 7), "series")
    model = Model(module=torch.nn.Identity(), device=torch.device("cpu"))
    found = baseline_row(model, series, baseline)
    assert found[0] == pytest.approx(series.inputs.mean(axis=0), abs=1e-6)
    low = baseline_row(model, series, "lowest")
    assert low[0] == pytest.approx(series.inputs.min(axis=0))


def test_values_by_element_come_as_features_maps_and_steps():
    for shape, modality in [((4, 6), "tabular"), ((4, 2, 6), "series"), ((4, 3, 4, 4), "image")]:
        data = data_of(shape, modality)
        parts = layout(data, 2)
        values = data.inputs.astype(np.float64)
        found = elementwise(values, parts)
        assert found["values"].sum(axis=1) == pytest.approx(values.reshape(4, -1).sum(axis=1))
        assert (found["maps"] is not None) == (modality == "image")
        assert (found["elements"] is not None) == (modality == "series")
    assert by_pixel(values, parts) == pytest.approx(values.sum(axis=1))


def test_values_by_segment_have_maps_for_images_alone():
    image, table = data_of((2, 1, 4, 4), "image"), data_of((2, 3), "tabular")
    cells = layout(image, 2)
    found = segmentwise(np.ones((2, 4)), cells.names, image, cells.owner)
    assert found["maps"].sum(axis=(1, 2)).tolist() == [4.0, 4.0]
    assert segmentwise(np.ones((2, 3)), ("a", "b", "c"), table, np.arange(3))["maps"] is None
