"""The user's features find their columns, and cells and superpixels cover an image once."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.dataset import Dataset, Feature
from audit.errors import NotApplicable
from audit.explain.features import (
    cell_names,
    grid_cells,
    layout,
    membership,
    quickshift_settings,
    spread_over_pixels,
    stretch_names,
    stretches,
    sum_by_owner,
    superpixels,
)


def dataset(inputs, modality, features=()):
    labels = np.zeros(len(inputs), dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality=modality, classes=("a", "b"), features=features)


def test_one_hot_columns_belong_to_one_feature():
    features = (
        Feature(name="job", kind="categorical", columns=(0, 2), categories=("x", "y")),
        Feature(name="age", columns=(1,)),
    )
    found = layout(dataset(np.zeros((3, 3), dtype=np.float32), "tabular", features))
    assert found.names == ("job", "age")
    assert found.owner.tolist() == [0, 1, 0]


def test_columns_without_a_description_are_features_of_their_own():
    found = layout(dataset(np.zeros((3, 2), dtype=np.float32), "tabular"))
    assert found.names == ("column 1", "column 2")
    assert found.owner.tolist() == [0, 1]


def test_an_image_is_cut_into_cells_for_all_channels_together():
    found = layout(dataset(np.zeros((2, 3, 8, 8), dtype=np.float32), "image"), grid=2)
    assert found.names == ("row 1, column 1", "row 1, column 2", "row 2, column 1", "row 2, column 2")
    assert found.owner.shape == (1, 8, 8)
    assert found.owner[0, 0, 0] == 0
    assert found.owner[0, 0, 7] == 1
    assert found.owner[0, 7, 0] == 2


@given(grid=st.integers(1, 9), height=st.integers(1, 12), width=st.integers(1, 12))
def test_every_cell_has_a_name_and_about_the_same_size(grid, height, width):
    cells = grid_cells(grid, height, width)
    sizes = np.bincount(cells.reshape(-1))
    assert len(sizes) == len(cell_names(grid, height, width)) == min(grid, height) * min(grid, width)
    assert sizes.min() > 0
    rows = np.bincount(cells[:, 0])
    assert rows[rows > 0].max() - rows[rows > 0].min() <= 1


def test_sums_over_owners_are_those_of_a_loop():
    values = np.random.default_rng(0).normal(size=(4, 3, 5))
    owner = np.random.default_rng(1).integers(0, 4, size=(3, 5))
    slow = [[row[owner == feature].sum() for feature in range(4)] for row in values]
    assert sum_by_owner(values, owner, 4) == pytest.approx(np.array(slow))


def test_a_segment_shares_its_value_out_over_its_pixels():
    segments = np.array([[[0, 0, 1]], [[0, 1, 1]]])
    found = spread_over_pixels(np.array([[4.0, 3.0], [4.0, 3.0]]), segments)
    assert found.tolist() == [[[2.0, 2.0, 3.0]], [[4.0, 1.5, 1.5]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_follow_the_image(channels):
    images = np.zeros((2, channels, 16, 16), dtype=np.float32)
    images[0, :, :, 8:] = 1.0
    images[1, :, 8:, :] = 1.0
    found = superpixels(images, 4)
    assert found.shape == (2, 16, 16)
    for labels, image in zip(found, images, strict=True):
        assert labels.min() == 0
        assert set(np.unique(labels)) == set(range(labels.max() + 1))
        assert not set(labels[image[0] == 0]) & set(labels[image[0] == 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_quickshift_finds_the_parts_of_an_image(channels):
    images = np.zeros((1, channels, 32, 32), dtype=np.float32)
    images[0, :, :, 16:] = 1.0
    (labels,) = superpixels(images, 4, "quickshift")
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert not set(labels[:, :16].ravel()) & set(labels[:, 16:].ravel())


def test_quickshift_is_that_of_the_lime_package():
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    images = 0.1 * np.random.default_rng(0).random((1, 3, 24, 24), dtype=np.float32)
    images[0, 0, :12, :12], images[0, 1, :12, 12:], images[0, 2, 12:] = 0.9, 0.8, 0.7
    scaled = (images[0] - images.min()) / (images.max() - images.min())
    by_lime = SegmentationAlgorithm("quickshift", **quickshift_settings(24))
    theirs, (mine,) = by_lime(scaled.transpose(1, 2, 0)), superpixels(images, 1, "quickshift")
    assert len(np.unique(theirs)) == mine.max() + 1 > 1
    assert len(np.unique(np.stack([theirs, mine], axis=-1).reshape(-1, 2), axis=0)) == mine.max() + 1


def test_settings_are_those_of_the_lime_package_at_its_own_size():
    assert quickshift_settings(299) == {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}
    assert quickshift_settings(32)["kernel_size"] == 1


def test_one_superpixel_is_no_explanation():
    with pytest.raises(NotApplicable, match="quickshift finds one superpixel in every image"):
        superpixels(np.zeros((2, 1, 3, 3), dtype=np.float32), 4, "quickshift")
    noise = np.random.default_rng(0).random((1, 3, 32, 32)).astype(np.float32)
    with pytest.raises(NotApplicable, match="slic finds one superpixel in every image"):
        superpixels(noise, 16)
    assert superpixels(noise, 1).max() == 0, "one was asked for"


@pytest.mark.parametrize("kind", ["slic", "quickshift"])
def test_without_scikit_image_the_reason_is_told(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(NotApplicable, match=f"superpixels by {kind} need scikit-image"):
        superpixels(np.zeros((1, 1, 8, 8), dtype=np.float32), 4, kind)


def test_each_channel_of_a_series_has_stretches_of_its_own():
    found = layout(dataset(np.zeros((3, 2, 5), dtype=np.float32), "series"), grid=2)
    assert found.names == (
        "channel 1, steps 1-3",
        "channel 1, steps 4-5",
        "channel 2, steps 1-3",
        "channel 2, steps 4-5",
    )
    assert found.owner.tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 3, 3]]


@given(grid=st.integers(1, 9), steps=st.integers(1, 20))
def test_stretches_follow_each_other_and_are_about_equal(grid, steps):
    owner = stretches(grid, steps)
    sizes = np.bincount(owner)
    assert (np.diff(owner) >= 0).all()
    assert len(sizes) == len(stretch_names(grid, steps)) == min(grid, steps)
    assert sizes.max() - sizes.min() <= 1
    assert stretch_names(grid, steps)[0].endswith(" 1" if sizes[0] == 1 else f"1-{sizes[0]}")


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 4)])
def test_membership_sums_what_sum_by_owner_sums(shape):
    parts = layout(dataset(np.zeros((2, *shape), dtype=np.float32), "image"), grid=2)
    values = np.random.default_rng(0).normal(size=(5, *shape))
    found = values.reshape(5, -1) @ membership(parts, shape)
    assert found == pytest.approx(sum_by_owner(values.sum(axis=1), parts.owner, 4))
