"""Pictures: where the marks of a figure stand. Numbers only; how they look is decided by the templates.

Positions are percentages of the width (and, in a curve, of the height) of the plot, rounded to a
hundredth, so that a page needs no script to fit its reader's screen and the same record gives the same
bytes.
"""

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.errors import LoadError
from audit.plainfile import plain_file, real_path

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

_FAR = 6.0
_PAD = 0.06
_BEYOND = 0.18
_REACH = 46.0
_MOST_BARS = 30
_MOST_TILES = 12
_SMALL_TILE = 128
_SIDES = (192, 128, 96, 64)
_ARTIFACT_BYTES = 256 * 2**20
_COLOUR_AXES = 3
_SRGB_LINEAR = 0.0031308


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers laid on 0 to 100 %."""

    low: float
    high: float
    ticks: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        """Percent at which a value stands; what lies outside is put on the edge."""
        span = self.high / 2 - self.low / 2
        share = (value / 2 - self.low / 2) / span
        return round(100 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """An interval against its limits, as percentages.

    Attributes:
        dot: where the value stands; None when it is undefined.
        left: left end of the whisker; None without an interval.
        right: right end.
        cut_left: the interval goes on beyond the left edge.
        cut_right: the interval goes on beyond the right edge.
        limits: where the limit lines stand.
        forbidden: left edge and width of each stretch that breaks a limit.
    """

    dot: float | None
    left: float | None = None
    right: float | None = None
    cut_left: bool = False
    cut_right: bool = False
    limits: tuple[float, ...] = ()
    forbidden: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Span:
    """A value with its interval and the limits that it is held against; any may be missing."""

    value: float | None
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def limits(self) -> tuple[float, ...]:
        """The limits that exist."""
        return _finite(self.at_least, self.at_most)


def nice_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """About `count` round numbers inside [low, high]: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if not math.isfinite(span) or span <= 0 or span / count < abs(high) * 1e-12:
        return ()
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    if power == 0:
        return ()
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def scale_over(spans: Sequence[Span], *, whole: bool = False) -> Scale:
    """A scale on which the values and limits of all spans stand, and their intervals as far as is sensible.

    An interval that is more than a few times longer than everything else is cut at the edge; some of the
    forbidden side of each limit is always seen. Shares keep
    to [0, 1], and show all of it when they use half of it or `whole` is asked for.
    """
    points: list[float] = []
    for span in spans:
        points += _seen_of(span)
    low, high = (min(points), max(points)) if points else (0.0, 1.0)
    width = (high / 2 - low / 2) * 2
    pad = _PAD * width or 0.1 * abs(high) or 0.1
    beyond = _BEYOND * width
    left = min([low - pad, *(x.at_least - beyond for x in spans if x.at_least is not None)])
    right = max([high + pad, *(x.at_most + beyond for x in spans if x.at_most is not None)])
    if low >= 0 and high <= 1:
        left, right = (0.0, 1.0) if whole or high - low > 1 / 2 else (max(0.0, left), min(1.0, right))
    if not (math.isfinite(left) and math.isfinite(right) and left < right):
        left, right = min(low, -1.0), max(high, 1.0)
    return Scale(left, right, nice_ticks(left, right))


def _seen_of(span: Span) -> list[float]:
    core = list(_finite(span.value, *span.limits))
    ends = list(_finite(span.low, span.high))
    if not core or not ends:
        return core + ends
    middle = span.value if span.value is not None and math.isfinite(span.value) else core[0]
    unit = max(max(core) - min(core), min(abs(end - middle) for end in ends))
    if unit == 0 or not math.isfinite(unit):
        return core + ends
    floor, ceiling = min(core) - _FAR * unit, max(core) + _FAR * unit
    return core + [min(max(end, floor), ceiling) for end in ends]


def strip_on(scale: Scale, span: Span) -> Strip:
    """An interval on a scale, with the forbidden side of each limit."""
    forbidden = []
    if span.at_least is not None and math.isfinite(span.at_least):
        forbidden.append((0.0, scale.at(span.at_least)))
    if span.at_most is not None and math.isfinite(span.at_most):
        start = scale.at(span.at_most)
        forbidden.append((start, round(100 - start, 2)))
    whole = span.low is not None and span.high is not None
    return Strip(
        dot=scale.at(span.value) if span.value is not None and not math.isnan(span.value) else None,
        left=scale.at(span.low) if whole and span.low is not None else None,
        right=scale.at(span.high) if whole and span.high is not None else None,
        cut_left=whole and span.low is not None and span.low < scale.low,
        cut_right=whole and span.high is not None and span.high > scale.high,
        limits=tuple(scale.at(limit) for limit in span.limits),
        forbidden=tuple(forbidden),
    )


def aligned(span: Span) -> Strip:
    """An interval whose limit stands in the middle and whose forbidden side is always the left.

    Each strip has a scale of its own, chosen so that the farthest end nearly reaches the edge: the eye
    learns on which side of the limit the interval lies, not how long it is. Of two limits the one that
    the interval comes closest to, or goes farthest beyond, is drawn; without a number only the line is.
    """
    points = _finite(span.value, span.low, span.high)
    sides = [
        (limit, sign) for limit, sign in ((span.at_least, 1.0), (span.at_most, -1.0)) if limit is not None
    ]
    if not sides or not points:
        return Strip(dot=None, limits=(50.0,), forbidden=((0.0, 50.0),))
    limit, sign = min(sides, key=lambda side: min(side[1] * (point - side[0]) for point in points))
    reach = max(abs(point - limit) for point in points)

    def at(value: float | None) -> float | None:
        if value is None or math.isnan(value):
            return None
        if math.isinf(value):
            return 100.0 if value * sign > 0 else 0.0
        share = (value - limit) / reach if 0 < reach < math.inf else 0.0
        return round(50 + _REACH * sign * share, 2)

    ends = sorted(end for end in (at(span.low), at(span.high)) if end is not None)
    whole = len(ends) > 1
    return Strip(
        dot=at(span.value),
        left=ends[0] if whole else None,
        right=ends[-1] if whole else None,
        limits=(50.0,),
        forbidden=((0.0, 50.0),),
    )


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar from zero, as percentages, with its whisker."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    left: float
    width: float
    strip: Strip


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars on one scale. `left_out` counts the shortest ones, for which there was no room."""

    bars: tuple[Bar, ...]
    scale: Scale
    zero: float
    left_out: int


def bars_of(data: Mapping[str, Any]) -> Bars:
    """Bars from a figure's data, in its order; of more than 30 the longest are kept.

    Raises:
        LoadError: the data are not labels and values of equal number.
    """
    labels, values = _list(data, "labels"), _numbers(data, "values")
    if len(labels) != len(values):
        raise LoadError(f"The figure has {len(labels)} labels for {len(values)} values, so it is not drawn.")
    lows = _numbers(data, "low", len(values))
    highs = _numbers(data, "high", len(values))
    longest = sorted(range(len(values)), key=lambda i: -abs(values[i] or 0.0))[:_MOST_BARS]
    kept = sorted(longest)
    spans = [Span(value=values[i], low=lows[i], high=highs[i]) for i in kept]
    scale = _with_zero(scale_over([*spans, Span(value=0.0)]))
    zero = scale.at(0.0)
    bars = tuple(_bar(str(labels[i]), span, scale, zero) for i, span in zip(kept, spans, strict=True))
    return Bars(bars=bars, scale=scale, zero=zero, left_out=len(values) - len(kept))


def _with_zero(scale: Scale) -> Scale:
    low = 0.0 if scale.low < 0 <= scale.low + 0.1 * (scale.high - scale.low) else scale.low
    return Scale(low, scale.high, nice_ticks(low, scale.high)) if low != scale.low else scale


def _bar(label: str, span: Span, scale: Scale, zero: float) -> Bar:
    end = scale.at(span.value) if span.value is not None else zero
    return Bar(
        label=label,
        value=span.value,
        low=span.low,
        high=span.high,
        left=min(zero, end),
        width=round(abs(end - zero), 2),
        strip=strip_on(scale, span),
    )


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series of a curve: its path, the band of its interval, and where its name stands."""

    name: str
    points: tuple[tuple[float, float], ...]
    path: str
    band: str
    label_y: float
    rows: tuple[tuple[Any, float | None, float | None, float | None], ...]


@dataclass(frozen=True)
class Column:
    """How many rows lie in a stretch of a scale: its left edge, width and height in percent, and the count.

    `shade` is 0 to 4 where the rows' own values are known, from low to high, else None.
    """

    left: float
    width: float
    height: float
    count: int
    shade: int | None = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Lines on one pair of scales. y runs from the top. `left_out` counts the series beyond the eighth.

    `density` says how many rows stand behind each stretch of x; empty where it is not known.
    """

    lines: tuple[Line, ...]
    x: Scale
    y: Scale
    x_label: str
    y_label: str
    left_out: int
    density: tuple[Column, ...] = ()


_MOST_LINES = 8
_LABEL_GAP = 8.0


def curve_of(data: Mapping[str, Any]) -> Curve:
    """A curve from a figure's data.

    Raises:
        LoadError: a series is not made of x and y of equal number, or there is none.
    """
    series = [_series(entry) for entry in _list(data, "series")]
    shown = [rows for rows in series[:_MOST_LINES] if rows[1]]
    if not shown:
        raise LoadError("The figure holds no point with a value, so it is not drawn.")
    x = scale_over([Span(value=row[0]) for _, rows in shown for row in rows])
    y = scale_over([Span(value=row[1], low=row[2], high=row[3]) for _, rows in shown for row in rows])
    if y.low >= 0 and y.high <= 1:
        y = Scale(0.0, 1.0, nice_ticks(0, 1, 4))
    lowest = min(row[0] for _, rows in shown for row in rows)
    highest = max(row[0] for _, rows in shown for row in rows)
    if lowest < highest:
        x = Scale(lowest, highest, nice_ticks(lowest, highest))
    labels = _apart([100 - y.at(rows[-1][1]) for _, rows in shown])
    lines = tuple(_line(name, rows, x, y, at) for (name, rows), at in zip(shown, labels, strict=True))
    return Curve(
        lines=lines,
        x=x,
        y=y,
        x_label=str(data.get("x_label", "")),
        y_label=str(data.get("y_label", "")),
        left_out=len(series) - len(shown),
        density=_density(data.get("density"), x),
    )


def _density(data: Any, x: Scale) -> tuple[Column, ...]:
    """Rows per bin under a curve; heights by the rows per width, as in a histogram of unequal bins."""
    if not isinstance(data, Mapping):
        return ()
    edges, counts = _finite(*_numbers(data, "edges")), _finite(*_numbers(data, "counts"))
    if len(edges) != len(counts) + 1 or any(a >= b for a, b in pairwise(edges)):
        raise LoadError("The figure's density is not counts between ascending edges, so it is not drawn.")
    heights = [count / (b - a) for count, (a, b) in zip(counts, pairwise(edges), strict=True)]
    return _columns(edges, counts, heights, max(heights, default=0.0), x)


def _columns(
    edges: Sequence[float],
    counts: Sequence[float],
    heights: Sequence[float],
    top: float,
    x: Scale,
    shades: Sequence[float | None] = (),
) -> tuple[Column, ...]:
    found = []
    for index, (count, height) in enumerate(zip(counts, heights, strict=True)):
        left, right = x.at(edges[index]), x.at(edges[index + 1])
        shade = shades[index] if index < len(shades) else None
        step = None if shade is None else min(_SHADES - 1, int(max(0.0, shade) * _SHADES))
        share = round(100 * height / top, 2) if 0 < top < math.inf else 0.0
        if count > 0 and right > left:
            found.append(Column(left, round(right - left, 2), share, int(count), step))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """Histograms on one scale: (feature, columns). `left_out` counts the features beyond the twentieth."""

    rows: tuple[tuple[str, tuple[Column, ...]], ...]
    scale: Scale
    zero: float
    x_label: str
    shaded: bool
    left_out: int


_MOST_SWARMS = 20
_SHADES = 5


def swarm_of(data: Mapping[str, Any]) -> Swarm:
    """Histograms from a figure's data: all on the same bins; heights are shares of the row's highest one.

    Raises:
        LoadError: the edges do not ascend, or a row has another number of counts than there are bins.
    """
    labels, edges = _list(data, "labels"), _finite(*_numbers(data, "edges"))
    counts, shades = _list(data, "counts"), _list(data, "shades") if data.get("shades") else []
    if len(edges) < _LEAST_EDGES or any(a >= b for a, b in pairwise(edges)) or len(counts) != len(labels):
        raise LoadError("The figure's bins do not ascend or do not fit its labels, so it is not drawn.")
    scale = _with_zero(scale_over([*(Span(value=edge) for edge in edges), Span(value=0.0)]))
    rows = []
    for index, label in enumerate(labels[:_MOST_SWARMS]):
        heights = [value or 0.0 for value in _numbers({"counts": counts[index]}, "counts")]
        tints = _numbers({"shades": shades[index]}, "shades") if index < len(shades) else []
        if len(heights) != len(edges) - 1:
            raise LoadError(f"The figure's row {index + 1} has {len(heights)} counts, so it is not drawn.")
        rows.append((str(label), _columns(edges, heights, heights, max(heights), scale, tints)))
    return Swarm(
        rows=tuple(rows),
        scale=scale,
        zero=scale.at(0.0),
        x_label=str(data.get("x_label", "")),
        shaded=any(column.shade is not None for _, columns in rows for column in columns),
        left_out=len(labels) - len(rows),
    )


_LEAST_EDGES = 2


_Point = tuple[float, float, float | None, float | None]


def _series(entry: Any) -> tuple[str, list[_Point]]:
    if not isinstance(entry, Mapping):
        raise LoadError("A series of the figure is not an object, so the figure is not drawn.")
    xs, ys = _numbers(entry, "x"), _numbers(entry, "y")
    if len(xs) != len(ys):
        raise LoadError(f"A series has {len(xs)} x for {len(ys)} y, so the figure is not drawn.")
    lows, highs = _numbers(entry, "low", len(xs)), _numbers(entry, "high", len(xs))
    found = zip(xs, ys, lows, highs, strict=True)
    rows = [(x, y, low, high) for x, y, low, high in found if x is not None and y is not None]
    return str(entry.get("name", "")), sorted(rows, key=lambda row: row[0])


def _line(name: str, rows: list[_Point], x: Scale, y: Scale, label_y: float) -> Line:
    points = tuple((x.at(row[0]), round(100 - y.at(row[1]), 2)) for row in rows)
    upper = [(x.at(row[0]), round(100 - y.at(row[3]), 2)) for row in rows if row[3] is not None]
    lower = [(x.at(row[0]), round(100 - y.at(row[2]), 2)) for row in rows if row[2] is not None]
    outline = [*upper, *reversed(lower)] if len(upper) > 1 and len(lower) > 1 else []
    return Line(
        name=name,
        points=points,
        path=_path(points),
        band=_path(outline) + "Z" if outline else "",
        label_y=label_y,
        rows=tuple(rows),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{px:g} {py:g}" for px, py in points)


def _apart(wanted: Sequence[float]) -> list[float]:
    """Positions of labels near the wanted ones, far enough apart to be read, inside 0 to 100."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    previous = -_LABEL_GAP
    for index in order:
        placed[index] = max(placed[index], previous + _LABEL_GAP)
        previous = placed[index]
    ceiling = 100.0
    for index in reversed(order):
        placed[index] = round(min(placed[index], ceiling), 2)
        ceiling = placed[index] - _LABEL_GAP
    return placed


def _finite(*values: float | None) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None and math.isfinite(value))


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise LoadError(f"The figure's '{key}' is not a list, so it is not drawn.")
    return list(value)


def _numbers(data: Mapping[str, Any], key: str, absent: int | None = None) -> list[float | None]:
    """A list of numbers and None; `absent` Nones where the key is missing, empty or of another length."""
    if absent is not None and (not data.get(key) or len(_list(data, key)) != absent):
        return [None] * absent
    values: list[float | None] = []
    for value in _list(data, key):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise LoadError(f"The figure's '{key}' holds something that is no number, so it is not drawn.")
        values.append(float(value) if value is not None and math.isfinite(value) else None)
    return values


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image and its attribution map, as data URIs of PNG files, shown `side` pixels wide."""

    caption: str
    image: str
    map: str


@dataclass(frozen=True, kw_only=True)
class Heatmaps:
    """Attribution maps over images. `signed` maps have two colours, others one."""

    tiles: tuple[Tile, ...]
    legend: str
    signed: bool
    left_out: int


Shape = Bars | Curve | Swarm | Heatmaps


def read_arrays(folder: Path | None, artifacts: Sequence[Any]) -> dict[str, Any]:
    """The arrays that a finding's figures refer to, from the `.npz` files of its run folder.

    A file is only opened after its sha256 was found to be that of the record.

    Raises:
        LoadError: no folder, or a file is missing, lies outside it, was altered or cannot be read.
    """
    if folder is None:
        raise LoadError("The picture is not shown because the run folder was not at hand for this page.")
    arrays: dict[str, Any] = {}
    for artifact in artifacts:
        if artifact.path.endswith(".npz"):
            arrays.update(_arrays_of(folder, artifact))
    return arrays


def _arrays_of(folder: Path, artifact: Any) -> dict[str, Any]:
    from audit.arrays import opened_arrays

    try:
        path = real_path(folder / artifact.path)
        if not path.is_relative_to(real_path(folder)):
            raise LoadError(f"The picture is not shown because {artifact.path} lies outside the run folder.")
        if path.stat().st_size > _ARTIFACT_BYTES:
            raise LoadError(f"The picture is not shown because {artifact.path} is larger than 256 MB.")
        content = plain_file(path).read_bytes()
    except (OSError, ValueError):
        raise LoadError(f"The picture is not shown because {artifact.path} is missing.") from None
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise LoadError(
            f"The picture is not shown because {artifact.path} was altered after the audit: "
            "its sha256 is not the one in the record."
        )
    try:
        with opened_arrays(io.BytesIO(content)) as stored:
            return dict(stored)
    except ValueError:
        raise LoadError(f"The picture is not shown because {artifact.path} cannot be read.") from None


def heatmaps_of(data: Mapping[str, Any], arrays: Mapping[str, Any], most_bytes: int) -> Heatmaps:
    """Tiles from a figure's data: each image beside its attribution map, within `most_bytes` of page.

    Each map is scaled to the 99th percentile of its own absolute values. Too large a figure is first made
    smaller, then shorter.

    Args:
        data: `captions`, and the names of the arrays `images` [k, H, W] or [k, H, W, C] uint8 and
            `values` [k, H, W] of floats.
        arrays: from `read_arrays`.
        most_bytes: most bytes of the data URIs together.

    Raises:
        LoadError: an array is missing or has another shape.
    """
    images, values = _checked(arrays, data)
    captions = [str(caption) for caption in data.get("captions", ())]
    captions += [""] * (len(values) - len(captions))
    signed = bool((values < 0).any())
    count = min(len(values), _MOST_TILES)
    tiles: list[Tile] = []
    for side in _SIDES:
        tiles = [_tile(images[i], values[i], captions[i], side, signed=signed) for i in range(count)]
        if _bytes(tiles) <= most_bytes:
            break
    while tiles and _bytes(tiles) > most_bytes:
        tiles.pop()
    if not tiles:
        raise LoadError("The picture is not shown because this page would become too large.")
    return Heatmaps(
        tiles=tuple(tiles), legend=_legend(signed=signed), signed=signed, left_out=len(values) - len(tiles)
    )


def _bytes(tiles: Sequence[Tile]) -> int:
    return sum(len(tile.image) + len(tile.map) for tile in tiles)


def _checked(arrays: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[Any, Any]:
    import numpy as np

    found = []
    for key in ("images", "values"):
        name = data.get(key)
        if not isinstance(name, str) or name not in arrays:
            raise LoadError(
                f"The picture is not shown because its array '{name}' is not among the artifacts."
            )
        found.append(arrays[name])
    images, values = found
    colour = images.ndim == _COLOUR_AXES + 1 and images.shape[-1] in (1, 3)
    fits = images.ndim == _COLOUR_AXES or colour
    if not fits or values.ndim != _COLOUR_AXES or images.shape[:3] != values.shape or not values.size:
        raise LoadError(
            f"The picture is not shown because its arrays do not fit: images {images.shape}, "
            f"values {values.shape}."
        )
    if images.dtype != np.uint8 or values.dtype.kind not in "fiu":
        raise LoadError(f"The picture is not shown because its images are {images.dtype} and not uint8.")
    return images.reshape(*values.shape, -1), np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)


def _tile(image: Any, values: Any, caption: str, side: int, *, signed: bool) -> Tile:
    import numpy as np

    colours = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    grey = colours.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
    top = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
    strength = np.clip(values / top, -1, 1)
    paper = (0.7 + 0.3 * grey)[..., None] * np.ones(3)
    weight = np.clip(np.abs(strength) * 1.15, 0, 1)[..., None]
    mixed = paper * (1 - weight) + colour_of(strength, signed=signed) * weight
    drawn = (np.clip(mixed, 0, 1) * 255).round().astype(np.uint8)
    return Tile(caption=caption, image=_png(colours, side), map=_png(drawn, side))


def colour_of(strength: "npt.NDArray[Any]", *, signed: bool) -> "npt.NDArray[Any]":
    """[..., 3] sRGB colours in [0, 1] of strengths in [-1, 1].

    Straight lines in OKLab (Ottosson 2020) from a light grey at 0 to orange at 1 and to blue at -1, so that
    equal steps look equal; both ends have the same lightness, and blue and orange are told apart under
    the common kinds of colour blindness. Unsigned strengths use the orange half.
    """
    import numpy as np

    middle, against, towards = (
        np.array(lab) for lab in ((0.97, 0.0, 0.0), (0.45, -0.03, -0.14), (0.45, 0.10, 0.09))
    )
    size = np.abs(strength)[..., None]
    end = np.where((strength < 0)[..., None] & signed, against, towards)
    return _srgb(middle + (end - middle) * size)


def _srgb(lab: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
    import numpy as np

    to_lms = np.array([
        [1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548],
    ])  # fmt: skip
    to_rgb = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ])  # fmt: skip
    linear = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    curved: npt.NDArray[Any] = np.where(
        linear <= _SRGB_LINEAR, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    return curved


def _legend(*, signed: bool) -> str:
    import numpy as np

    strength = np.linspace(-1 if signed else 0, 1, 128)[None].repeat(8, axis=0)
    return _uri((colour_of(strength, signed=signed) * 255).round().astype(np.uint8))


def _png(pixels: Any, side: int) -> str:
    """A data URI, at most `side` pixels on its longer side; a tiny image is enlarged without smoothing."""
    from PIL import Image

    image: Image.Image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest > side:
        factor = side / longest
        small = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(small, Image.Resampling.BOX)
    elif longest < _SMALL_TILE:
        times = max(1, min(side, _SMALL_TILE) // longest)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return _encoded(image)


def _uri(pixels: Any) -> str:
    from PIL import Image

    return _encoded(Image.fromarray(pixels))


def _encoded(image: "Image") -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
