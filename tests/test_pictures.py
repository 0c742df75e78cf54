"""Marks stand where the numbers say, for any numbers; pictures are drawn from unaltered arrays alone."""

import base64
import hashlib
import io
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from audit import pictures
from audit.errors import LoadError
from audit.pictures import Scale, Span
from audit.record import Artifact

ANY = st.floats(allow_nan=False, allow_infinity=True)
MAYBE = st.none() | ANY


def inside(*positions: float | None) -> bool:
    return all(position is None or 0 <= position <= 100 for position in positions)


def test_a_scale_lays_its_ends_on_0_and_100() -> None:
    scale = Scale(2.0, 6.0)
    assert [scale.at(value) for value in (2.0, 3.0, 6.0, -9.0, 99.0)] == [0, 25, 100, 0, 100]


def test_ticks_are_round_numbers_inside_the_scale() -> None:
    assert pictures.nice_ticks(0, 1) == (0, 0.2, 0.4, 0.6, 0.8, 1)
    assert pictures.nice_ticks(0.31, 0.42) == (0.325, 0.35, 0.375, 0.4)
    assert pictures.nice_ticks(5, 5) == ()


def test_the_forbidden_side_lies_beyond_each_limit() -> None:
    strip = pictures.strip_on(Scale(0, 1), Span(value=0.5, low=0.4, high=0.6, at_least=0.2, at_most=0.9))
    assert strip.forbidden == ((0, 20), (90, 10))
    assert (strip.left, strip.dot, strip.right) == (40, 50, 60)
    assert strip.limits == (20, 90)


def test_shares_that_use_half_of_the_scale_show_all_of_it() -> None:
    assert pictures.scale_over([Span(value=0.2, at_least=0.9)]).ticks[0] == 0
    near = pictures.scale_over([Span(value=0.91, low=0.9, high=0.92, at_least=0.9)])
    assert near.low > 0.85
    assert pictures.scale_over([Span(value=0.91)], whole=True) == pictures.scale_over(
        [Span(value=0.1)], whole=True
    )


def test_an_endless_interval_is_cut_and_leaves_room_for_the_value_and_the_limit() -> None:
    span = Span(value=0.5, low=0.1, high=1e9, at_least=0.8)
    scale = pictures.scale_over([span])
    strip = pictures.strip_on(scale, span)
    assert strip.cut_right
    assert not strip.cut_left
    assert strip.dot is not None
    assert strip.limits[0] - strip.dot > 5


@given(MAYBE, MAYBE, MAYBE, st.none() | st.floats(-1e6, 1e6), st.none() | st.floats(-1e6, 1e6))
def test_no_number_puts_a_mark_off_the_picture(
    value: float | None, low: float | None, high: float | None, at_least: float | None, at_most: float | None
) -> None:
    span = Span(value=value, low=low, high=high, at_least=at_least, at_most=at_most)
    scale = pictures.scale_over([span])
    assert scale.low < scale.high
    assert len(scale.ticks) <= 12
    for strip in (pictures.strip_on(scale, span), pictures.aligned(span)):
        assert inside(strip.dot, strip.left, strip.right, *strip.limits)
        assert all(inside(start, start + width) for start, width in strip.forbidden)


@given(st.floats(-10, 10), st.floats(0, 5), st.floats(0, 5), st.floats(-10, 10), st.booleans())
def test_the_aligned_picture_shows_the_verdict(
    value: float, down: float, up: float, limit: float, least: bool
) -> None:
    """Right of the middle means kept and left broken, whichever way the limit points."""
    low, high = value - down, value + up
    span = Span(value=value, low=low, high=high, **{"at_least" if least else "at_most": limit})
    strip = pictures.aligned(span)
    assert strip.left is not None
    assert strip.right is not None
    assert strip.left <= strip.right
    kept = low >= limit if least else high <= limit
    broken = high < limit if least else low > limit
    if kept:
        assert strip.left >= 50
    elif broken:
        assert strip.right <= 50
    else:
        assert strip.left <= 50 <= strip.right


def test_bars_start_at_zero_and_keep_the_longest() -> None:
    values = [0.1 * (i % 7) - 0.2 for i in range(40)]
    bars = pictures.bars_of({"labels": [f"f{i}" for i in range(40)], "values": values})
    assert bars.left_out == 10
    for bar in bars.bars:
        assert bar.value is not None
        edge = bar.left if bar.value >= 0 else round(bar.left + bar.width, 2)
        assert edge == pytest.approx(bars.zero, abs=0.02)
    kept = {round(abs(bar.value or 0), 6) for bar in bars.bars}
    assert max(abs(value) for value in values) == pytest.approx(max(kept))


def test_a_missing_value_has_a_bar_of_no_width_and_other_kinds_are_refused() -> None:
    bars = pictures.bars_of({"labels": ["a", "b"], "values": [None, 1.0], "low": [None], "high": []})
    assert bars.bars[0].width == 0
    assert bars.bars[1].low is None
    for wrong in (
        {"labels": ["a"], "values": [1, 2]},
        {"labels": "a", "values": [1]},
        {},
        {"labels": ["a"], "values": ["1"]},
    ):
        with pytest.raises(LoadError, match="not drawn"):
            pictures.bars_of(wrong)


def test_a_curve_runs_from_edge_to_edge_and_names_do_not_touch() -> None:
    series = [{"name": f"s{i}", "x": [2, 0, 1], "y": [0.5, 0.9 - i / 100, 0.6]} for i in range(3)]
    curve = pictures.curve_of({"series": series, "x_label": "x", "y_label": "y"})
    assert [x for x, _ in curve.lines[0].points] == [0, 50, 100]
    heights = sorted(line.label_y for line in curve.lines)
    assert all(b - a >= 7.9 for a, b in pairwise(heights))
    assert all(0 <= height <= 100 for height in heights)
    assert curve.lines[0].band == ""
    assert curve.y.low == 0


def test_a_curve_of_nothing_is_refused() -> None:
    for wrong in (
        {"series": []},
        {"series": [{"x": [1], "y": [None]}]},
        {"series": [3]},
        {"series": [{"x": [1], "y": []}]},
    ):
        with pytest.raises(LoadError):
            pictures.curve_of(wrong)


DATA = {"captions": ["one"], "images": "images", "values": "values"}


def stored(folder: Path, **arrays: Any) -> Artifact:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts/a.npz").write_bytes(buffer.getvalue())
    return Artifact(path="artifacts/a.npz", sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


def opened(uri: str) -> np.ndarray[Any, Any]:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")).astype(int)


def test_a_heatmap_colours_what_speaks_for_and_against(tmp_path: Path) -> None:
    """Left half for, right half against: orange and blue, on the same rows."""
    values = np.ones((1, 28, 28), np.float32)
    values[:, :, 14:] = -1
    artifact = stored(tmp_path, images=np.full((1, 28, 28), 128, np.uint8), values=values)
    maps = pictures.heatmaps_of(DATA, pictures.read_arrays(tmp_path, [artifact]), 10**6)
    assert maps.signed
    pixels = opened(maps.tiles[0].map)
    assert pixels.shape[0] == 112
    towards, against = pixels[50, 10], pixels[50, -10]
    assert towards[0] > towards[2] + 50
    assert against[2] > against[0] + 50
    assert (opened(maps.tiles[0].image) == 128).all()


def test_equal_steps_of_strength_are_equal_steps_of_lightness() -> None:
    """Lightness L* (CIE 1976) falls evenly from 0 to either end."""
    for end in (1.0, -1.0):
        colours = pictures.colour_of(np.linspace(0, end, 9), signed=True)
        linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
        lightness = 116 * np.cbrt(linear @ np.array([0.2126, 0.7152, 0.0722])) - 16
        steps = -np.diff(lightness)
        assert (steps > 0).all()
        assert steps.max() < 1.6 * steps.min()


def test_a_large_figure_is_made_smaller_and_then_shorter() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 224, 224, 3), dtype=np.uint8)
    arrays = {"images": images, "values": rng.normal(size=(20, 224, 224))}
    maps = pictures.heatmaps_of(DATA, arrays, 300_000)
    assert sum(len(tile.image) + len(tile.map) for tile in maps.tiles) <= 300_000
    assert len(maps.tiles) + maps.left_out == 20
    assert maps.tiles[0].caption == "one"
    with pytest.raises(LoadError, match="too large"):
        pictures.heatmaps_of(DATA, arrays, 100)


def test_zero_and_undefined_attributions_are_drawn_without_a_warning() -> None:
    values = np.zeros((1, 8, 8))
    values[0, 0, 0] = math.nan
    maps = pictures.heatmaps_of(DATA, {"images": np.zeros((1, 8, 8, 1), np.uint8), "values": values}, 10**6)
    assert not maps.signed


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"values": np.ones((1, 4, 4))}, "'images' is not among"),
        ({"images": np.ones((1, 4, 4), np.uint8), "values": np.ones((2, 4, 4))}, "do not fit"),
        ({"images": np.ones((1, 4, 4, 7), np.uint8), "values": np.ones((1, 4, 4))}, "do not fit"),
        ({"images": np.ones((1, 4, 4)), "values": np.ones((1, 4, 4))}, "float64 and not uint8"),
        ({"images": np.ones((0, 4, 4), np.uint8), "values": np.ones((0, 4, 4))}, "do not fit"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError, match=said):
        pictures.heatmaps_of(DATA, arrays, 10**6)


def test_an_artifact_is_opened_only_when_nobody_touched_it(tmp_path: Path) -> None:
    artifact = stored(tmp_path, images=np.ones(3))
    assert pictures.read_arrays(tmp_path, [artifact])["images"].tolist() == [1, 1, 1]
    path = tmp_path / artifact.path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(LoadError, match="altered"):
        pictures.read_arrays(tmp_path, [artifact])
    path.unlink()
    with pytest.raises(LoadError, match="missing"):
        pictures.read_arrays(tmp_path, [artifact])
    with pytest.raises(LoadError, match="not at hand"):
        pictures.read_arrays(None, [artifact])


def test_a_path_that_leaves_the_run_folder_and_a_pickle_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    outside = stored(tmp_path, images=np.ones(3))
    with pytest.raises(LoadError, match="outside"):
        pictures.read_arrays(run, [Artifact(path="../artifacts/a.npz", sha256=outside.sha256)])
    pickled = stored(run, images=np.array([{}], dtype=object))
    with pytest.raises(LoadError, match="cannot be read"):
        pictures.read_arrays(run, [pickled])


def test_the_density_under_a_curve_counts_rows_per_width() -> None:
    series = [{"name": "s", "x": [0, 1, 4], "y": [0, 1, 2]}]
    density = {"edges": [0, 1, 2, 4], "counts": [6, 0, 6]}
    curve = pictures.curve_of({"series": series, "density": density})
    assert [(c.left, c.width, c.height, c.count) for c in curve.density] == [(0, 25, 100, 6), (50, 50, 50, 6)]
    assert pictures.curve_of({"series": series}).density == ()
    for wrong in ({"edges": [0, 1], "counts": [1, 2]}, {"edges": [1, 0], "counts": [3]}, {"edges": 3}):
        with pytest.raises(LoadError, match="not drawn"):
            pictures.curve_of({"series": series, "density": wrong})


def test_a_swarm_stands_on_one_scale_with_its_highest_block_in_full() -> None:
    data = {
        "labels": ["a", "b"],
        "edges": [-1.0, 0.0, 1.0, 2.0],
        "counts": [[2, 8, 0], [0, 5, 5]],
        "shades": [[None, 0.5, None], [None, 0.0, 1.0]],
        "x_label": "log-odds",
    }
    swarm = pictures.swarm_of(data)
    first, second = (columns for _, columns in swarm.rows)
    assert [(c.height, c.shade) for c in first] == [(25, None), (100, 2)]
    assert [(c.height, c.shade, c.count) for c in second] == [(100, 0, 5), (100, 4, 5)]
    assert first[1].left == second[0].left == swarm.zero
    assert swarm.shaded
    assert not pictures.swarm_of({**data, "shades": []}).shaded
    many = {**data, "labels": [str(i) for i in range(25)], "counts": [[1, 1, 1]] * 25, "shades": []}
    assert pictures.swarm_of(many).left_out == 5
    for wrong in ({"edges": [0, 0, 1, 2]}, {"counts": [[1, 2, 3]]}, {"counts": [[1], [1, 2, 3]]}):
        with pytest.raises(LoadError, match="not drawn"):
            pictures.swarm_of({**data, **wrong})
