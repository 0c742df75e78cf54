"""JPEG against Pillow's own files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from audit.draws import Draws
from audit.shift.jpeg import _coded, _table, jpeg_compression

NO_DRAWS = Draws(np.zeros(0, np.int64), 0, "jpeg", torch.device("cpu"))
QUALITIES = (80, 65, 58, 50, 40, 25, 18, 15, 10, 7)


def pillow(image, quality):
    """[C, H, W] bytes through a real file."""
    shown = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "JPEG", quality=quality)
    back = np.asarray(Image.open(file))
    return back[None] if len(image) == 1 else back.transpose(2, 0, 1)


def ours(images, quality):
    return jpeg_compression(torch.tensor(images) / 255, NO_DRAWS, quality).numpy() * 255


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_tables_are_the_ones_pillow_writes(quality):
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization
    from audit.shift.jpeg import _CHROMA, _LUMA

    for index, standard in enumerate((_LUMA, _CHROMA)):
        table = _table(standard, quality, torch.zeros(1)).flatten().int().tolist()
        assert sorted(table) == sorted(written[index])
        assert table == list(written[index])


@pytest.mark.parametrize("quality", QUALITIES)
def test_grey_images_are_pillows_within_a_level(shared_data, quality):
    images = np.load(shared_data / "mnist" / "mnist_test.npz")["images"][:40, None]
    theirs = np.stack([pillow(image, quality) for image in images])
    gap = np.abs(ours(images, quality) - theirs)
    assert gap.mean() < 0.1
    # A wave that lies between two steps may fall to either side.
    assert (gap > 2).mean() < 0.01


@pytest.mark.parametrize("quality", QUALITIES)
def test_colour_images_are_pillows_within_a_few_levels(shared_data, quality):
    images = np.load(shared_data / "cifar10" / "test_2000.npz")["images"][:40].transpose(0, 3, 1, 2)
    theirs = np.stack([pillow(image, quality) for image in images]).astype(float)
    made = ours(images, quality)
    gap, loss = np.abs(made - theirs), np.abs(images - theirs)
    assert gap.mean() < 0.8
    assert (gap > 2).mean() < 0.08
    assert gap.mean() < 0.2 * loss.mean()


def test_sides_that_are_no_multiple_of_16():
    ramp = np.linspace(0, 255, 3 * 21 * 43).reshape(1, 3, 21, 43).astype(np.uint8)
    gap = np.abs(ours(ramp, 50) - pillow(ramp[0], 50))
    assert gap.mean() < 1


def test_one_block_is_the_cosine_transform_of_scipy():
    block = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(float)
    waves = dctn(block - 128, norm="ortho")
    table = np.full((8, 8), 30.0)
    from scipy.fft import idctn

    wanted = np.clip(np.round(idctn(np.round(waves / table) * table, norm="ortho") + 128), 0, 255)
    found = _coded(torch.tensor(block, dtype=torch.float32)[None, None], torch.full((8, 8), 30.0))
    np.testing.assert_array_equal(found[0, 0].numpy(), wanted)
