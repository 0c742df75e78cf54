"""All fifteen corruptions: range, severity, seeds, sizes, and no trace of the batch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import ConfigError, NotApplicable
from audit.shift.corruptions import CORRUPTIONS, LARGE_FROM, SEVERITIES, corrupt

NAMES = list(CORRUPTIONS)
RANDOM = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
}
FORMS = {"glass_blur", "elastic_transform"}


@pytest.fixture(scope="module")
def cifar(shared_data):
    images = np.load(shared_data / "cifar10" / "test_2000.npz")["images"][::50]
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def mnist(shared_data):
    images = np.load(shared_data / "mnist" / "mnist_test.npz")["images"][:40, None]
    return torch.tensor(images).float() / 255


def done(images, name, severity, seed=0, low=0.0, high=1.0):
    return corrupt(images, name, severity, np.arange(len(images)), seed, low, high)


def correlation(a, b):
    """Mean over rows of the correlation of their pixels."""
    a, b = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (a, b))
    return ((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-9)).mean().item()


def distortions(images, name):
    """Mean over severities 1 to 5: the change of a pixel, or what the image's structure lost where the
    corruption also moves the whole brightness up or down."""
    made = [done(images, name, severity) for severity in SEVERITIES]
    if name in {"frost", "fog", "snow"}:
        return [1 - correlation(images, image) for image in made]
    return [(image - images).abs().mean().item() for image in made]


def test_there_are_the_usual_fifteen_with_five_severities_of_the_same_constants():
    assert len(NAMES) == 15
    families = [item.family for item in CORRUPTIONS.values()]
    assert [families.count(name) for name in ("noise", "blur", "weather", "digital")] == [3, 4, 4, 4]
    for item in CORRUPTIONS.values():
        assert len(item.small) == len(item.large) == 5
        assert len({len(constants) for constants in (*item.small, *item.large)}) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FORMS])
def test_distortion_grows_with_severity(cifar, mnist, name):
    for images in (cifar, mnist):
        found = distortions(images, name)
        assert found[0] > 0
        for weaker, stronger in pairwise(found):
            assert stronger >= weaker * 0.999, found
        assert found[4] > 1.3 * found[0]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FORMS])
def test_distortion_grows_with_severity_for_large_images(cifar, name):
    large = torch.nn.functional.interpolate(cifar[:4], size=128, mode="bicubic").clamp(0, 1)
    found = distortions(large, name)
    assert found[0] > 0
    assert found[4] > 1.1 * found[0]


def test_glass_blur_loses_structure_with_the_rounds_and_sharpness_with_the_blur(cifar):
    """The published constants go back to a weaker blur when the second round begins (severity 4)."""
    made = [done(cifar, "glass_blur", severity) for severity in SEVERITIES]
    kept = [correlation(cifar, image) for image in made]
    assert min(kept[:3]) > max(kept[3:]) + 0.01
    sharp = [(image[..., 1:] - image[..., :-1]).abs().mean().item() for image in made]
    assert sharp[0] >= sharp[1] > sharp[2]
    assert sharp[3] > sharp[4]


def test_elastic_transform_shears_less_and_bends_more_as_published():
    """A picture of its own coordinates shows where each pixel came from."""
    ys, xs = torch.meshgrid(torch.arange(32.0) / 31, torch.arange(32.0) / 31, indexing="ij")
    places = torch.stack([xs, ys, xs]).expand(30, 3, 32, 32)
    shear, bend = [], []
    inside = (slice(None), slice(0, 2), slice(8, 24), slice(8, 24))
    basis = torch.stack([xs, ys, torch.ones_like(xs)], dim=-1)[8:24, 8:24].reshape(-1, 3)
    for severity in SEVERITIES:
        moved = (done(places, "elastic_transform", severity) - places)[inside].flatten(2)
        fit = torch.linalg.lstsq(basis, moved.flatten(0, 1).T).solution
        straight = (basis @ fit).T.reshape_as(moved)
        shear.append(straight.abs().mean().item())
        bend.append((moved - straight).abs().mean().item())
    assert sorted(shear, reverse=True) == shear
    assert sorted(bend) == bend
    assert bend[4] > 5 * bend[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 5])
def test_a_row_does_not_depend_on_its_batch_and_nothing_is_changed_in_place(cifar, name, severity):
    images, before = cifar[:6], cifar[:6].clone()
    whole = done(images, name, severity)
    assert torch.equal(images, before)
    part = corrupt(images[[4, 1]], name, severity, np.array([4, 1]), 0, 0.0, 1.0)
    torch.testing.assert_close(part, whole[[4, 1]], atol=2e-6, rtol=0)
    assert torch.equal(done(images, name, severity), whole)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert whole.shape == images.shape


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_and_the_row_decide_the_draws_of_the_random_ones(cifar, name):
    same = cifar[:1].expand(2, -1, -1, -1)
    first, second = done(same, name, 3), done(same, name, 3, seed=1)
    assert torch.equal(first[0], first[1]) is (name not in RANDOM)
    assert torch.equal(first, second) is (name not in RANDOM)


@pytest.mark.parametrize("name", NAMES)
def test_another_range_gives_the_same_picture(cifar, name):
    unit = done(cifar[:3], name, 3)
    wide = done(cifar[:3] * 4 - 2, name, 3, low=-2.0, high=2.0)
    torch.testing.assert_close(
        (wide + 2) / 4, unit, atol=0.005 if name == "jpeg_compression" else 1e-5, rtol=0
    )
    assert wide.min() >= -2
    assert wide.max() <= 2


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.integers(8, 40),
    st.integers(8, 40),
    st.sampled_from([0, 80]),
)
def test_any_size_from_8_pixels_is_taken(name, severity, channels, height, width, more):
    images = torch.rand(2, channels, height + more, width + more, generator=torch.Generator().manual_seed(0))
    made = done(images, name, severity)
    assert made.shape == images.shape
    assert torch.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_black_or_white_image_stays_a_number(name, value):
    made = done(torch.full((2, 3, 12, 12), value), name, 5)
    assert torch.isfinite(made).all()
    if name not in {"gaussian_noise", "shot_noise", "impulse_noise", "snow", "frost", "fog", "brightness"}:
        close = 0.005 if name == "jpeg_compression" else 1e-5
        torch.testing.assert_close(made, torch.full_like(made, value), atol=close, rtol=0)


def test_the_constants_change_at_85_pixels():
    assert LARGE_FROM == 85
    plain = [torch.full((1, 3, side, 120), 0.5) for side in (84, 85)]
    small, large = (done(image, "brightness", 5)[0, 0, 0, 0].item() for image in plain)
    assert (small, large) == (pytest.approx(0.8), pytest.approx(1.0))


@pytest.mark.parametrize(
    ("shape", "name", "severity", "error", "words"),
    [
        ((1, 3, 9, 9), "fogg", 1, ConfigError, "'fogg'; the nearest is 'fog'"),
        ((1, 3, 9, 9), "fog", 6, ConfigError, "severity 6"),
        ((1, 3, 9, 7), "fog", 1, NotApplicable, "9 x 7 pixels"),
        ((1, 4, 9, 9), "fog", 1, NotApplicable, "1 or 3 channels"),
        ((1, 9), "fog", 1, NotApplicable, r"shape \[9\]"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_with_the_reason(shape, name, severity, error, words):
    with pytest.raises(error, match=words):
        corrupt(torch.zeros(shape), name, severity, np.zeros(1, np.int64), 0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        ("gaussian_noise", (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
        ("shot_noise", (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
        ("impulse_noise", (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
        ("brightness", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("contrast", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
        ("pixelate", (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
        ("jpeg_compression", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    ],
)
def test_constants_are_those_of_the_published_benchmarks(name, small, large):
    """CIFAR-10-C and ImageNet-C, Hendrycks and Dietterich, make_cifar_c.py and make_imagenet_c.py."""
    assert CORRUPTIONS[name].small == tuple((value,) for value in small)
    assert CORRUPTIONS[name].large == tuple((value,) for value in large)
