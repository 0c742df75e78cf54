"""Fills and the control that asks no model."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Dataset, Feature
from audit.explain.features import layout
from audit.model import Model
from audit.trust.fills import fills, plain_values

MODEL = Model(module=nn.Identity(), device=torch.device("cpu"))


def table():
    inputs = np.random.default_rng(0).normal(2, 3, size=(40, 4)).astype(np.float32)
    inputs[:, 3] = 5
    features = (
        Feature(name="a", columns=(0,)),
        Feature(name="bc", columns=(1, 2)),
        Feature(name="d", columns=(3,)),
    )
    return Dataset(
        inputs=inputs,
        labels=np.zeros(40, np.int64),
        modality="tabular",
        classes=("n", "y"),
        features=features,
    )


def pictures():
    inputs = np.random.default_rng(1).random((6, 3, 16, 16)).astype(np.float32)
    return Dataset(inputs=inputs, labels=np.zeros(6, np.int64), modality="image", classes=("n", "y"))


def test_a_table_is_filled_by_its_mean_and_by_rows_of_it():
    data = table()
    found = fills(MODEL, data, torch.from_numpy(data.inputs[:5]), 7, 0)
    assert list(found) == ["mean", "background"]
    assert found["mean"].shape == (1, 1, 4)
    assert found["mean"][0, 0].numpy() == pytest.approx(data.inputs.mean(axis=0), rel=1e-5)
    assert found["background"].shape == (7, 1, 4)
    known = {tuple(row) for row in data.inputs.tolist()}
    assert {tuple(row) for row in found["background"][:, 0].tolist()} <= known


def test_an_image_is_filled_by_the_mean_colour_and_by_itself_blurred():
    data = pictures()
    rows = torch.from_numpy(data.inputs[:2])
    found = fills(MODEL, data, rows, 7, 0)
    assert list(found) == ["mean", "blur"]
    assert found["mean"][0, 0, :, 3, 9].numpy() == pytest.approx(data.inputs.mean(axis=(0, 2, 3)), rel=1e-5)
    blur = found["blur"][0]
    assert blur.shape == rows.shape
    assert blur.mean(dim=(2, 3)).numpy() == pytest.approx(rows.mean(dim=(2, 3)).numpy(), abs=0.06)
    assert (blur.std(dim=(2, 3)) < rows.std(dim=(2, 3)) / 3).all()


def test_the_control_of_a_table_is_the_distance_from_the_mean():
    data = table()
    found = plain_values(data, np.array([3, 8]), layout(data))
    z = (data.inputs - data.inputs.mean(axis=0)) / np.maximum(data.inputs.std(axis=0), 1e-9)
    for row, values in zip((3, 8), found, strict=True):
        assert values == pytest.approx([abs(z[row, 0]), np.hypot(z[row, 1], z[row, 2]), 0], rel=1e-4)


def test_the_control_of_an_image_is_where_its_edges_are():
    data = pictures()
    inputs = np.zeros((1, 3, 16, 16), np.float32)
    inputs[0, :, 5, 9] = 1
    data = Dataset(inputs=inputs, labels=np.zeros(1, np.int64), modality="image", classes=("n", "y"))
    (values,) = plain_values(data, np.array([0]), layout(data))
    assert values.argmax() == 1 * 4 + 2
    assert values[15] == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_an_image_of_one_pixel_across_has_no_edges_that_way(shape):
    inputs = np.random.default_rng(0).random((4, 3, *shape)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(4, np.int64), modality="image", classes=("n", "y"))
    found = plain_values(data, np.arange(4), layout(data))
    assert found.shape == (4, len(layout(data).names))
    assert (found > 0).all() == (max(shape) > 1)
