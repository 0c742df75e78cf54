"""reliability.slices: the parts of the data in which the model errs most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from audit.check import check
from audit.checks.fairness.slices import feature_axes
from audit.errors import NotApplicable, NotEvaluable, nearest
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.products.predictions import Predictions
    from audit.slices import Axis, Search, Slice, Space

_TERTILES = (1 / 3, 2 / 3)


@check("reliability.slices", measures={"error_rate", "error_rate_difference", "shuffles_as_bad"})
def slices(
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    features: tuple[str, ...] = (),
    depth: Literal[1, 2] = 2,
    bins: Annotated[int, Field(ge=2, le=50)] = 8,
    floor: Annotated[int, Field(ge=2)] = 30,
    shown: Annotated[int, Field(ge=1, le=100)] = 10,
    shuffles: Annotated[int, Field(ge=19)] = 99,
    by_class: bool = False,
) -> Evidence:
    """Error analysis: the slices with the most errors.

    Where is the model wrong? Every feature is cut into parts, sensitive or not, and each part and each
    pair of parts of two features is compared with all other rows. Images are cut by their brightness and
    contrast (darkest, middle and brightest third; mean and standard deviation of the pixels), and by
    the sensitive and control features that come with them; `by_class` adds the true class.

    `error_rate` is that of a slice, `error_rate_difference` the slice less the rest. The worst slices are
    shown, each only if it still stands out when the rows of those before it are left aside. Whoever looks
    at thousands of slices finds some that look bad by chance: the intervals of the differences hold for all
    slices searched, together, and a slice stands out when its interval lies above 0. `shuffles_as_bad`
    deals the errors out to the rows at random and says how often some slice then looked at least as bad.
    The interval of `error_rate` is that of one slice named beforehand: it describes, and is too narrow for
    the worst of many.

    A slice that is not shown has not been shown to be good: parts below the floor, combinations of three
    features and features that the data do not hold are not searched. Why the model errs in a slice, whether
    labels are wrong there, rows are few or the task is harder, the search cannot tell.

    Settings: `features` searched (all), `depth` (most features of a slice), `bins` for a number, `floor`
    (fewest rows of a slice), `shown` slices, `shuffles`, `by_class`.

    Sources: Chung and others, 2019, Slice Finder; Westfall and Young, 1993 (shuffles). Intervals: Newcombe's
    hybrid (1998) over exact limits, with a Bonferroni correction for the slices searched.
    """
    import numpy as np

    from audit.slices import MOST_TERMS, Space, search

    axes = _axes(data, features, bins, by_class)
    terms = sum(len(axis.terms) for axis in axes)
    space = Space(axes, depth if terms <= MOST_TERMS else 1, floor)
    if not space.family.any():
        raise NotEvaluable(f"no slice of the {len(data)} rows has {floor} rows and leaves {floor} others")
    wrong = ~np.asarray(predictions.correct)
    if int(wrong.sum()) in (0, len(wrong)):
        raise NotEvaluable(f"{int(wrong.sum())} of {len(wrong)} rows are wrong, so no slice is worse")
    found = search(space, wrong, shown=shown, shuffles=shuffles, seed=seed)
    if not found.slices:
        raise NotEvaluable("no slice has more errors than the rest")
    return Evidence(
        measures=[item for one in found.slices for item in _measures(one, found)] + [_chance(found)],
        tables=(_table(found),),
        figures=(_figure(found),),
        caveats=list(_caveats(data, predictions, space, found, depth)),
    )


def _axes(data: Dataset, wanted: tuple[str, ...], bins: int, by_class: bool) -> tuple[Axis, ...]:
    axes: dict[str, Axis] = {}
    if data.features or data.sensitive or data.controls:
        axes |= {axis.name: axis for axis in feature_axes(data, (), bins)}
    if data.modality == "image":
        axes |= {axis.name: axis for axis in _pixel_axes(data) if axis.name not in axes}
    if by_class:
        axes["true class"] = _class_axis(data)
    if not axes:
        raise NotApplicable("the data describe no feature and name no sensitive one to cut them by")
    unknown = [name for name in wanted if name not in axes]
    if unknown:
        raise NotApplicable(f"there is no feature '{unknown[0]}'{nearest(unknown[0], axes)}")
    return tuple(axes[name] for name in wanted or axes)


def _pixel_axes(data: Dataset) -> Iterator[Axis]:
    """Thirds of the images by the mean and by the standard deviation of their pixels."""
    import numpy as np

    from audit.slices import category_axis

    flat = data.inputs.reshape(len(data), -1)
    values = {
        "brightness": (flat.mean(axis=1, dtype=np.float64), ("darkest third", "middle", "brightest third")),
        "contrast": (flat.std(axis=1, dtype=np.float64), ("lowest third", "middle", "highest third")),
    }
    for name, (numbers, terms) in values.items():
        edges = np.quantile(numbers, _TERTILES)
        yield category_axis(name, terms, np.searchsorted(edges, numbers, side="right"))


def _class_axis(data: Dataset) -> Axis:
    from audit.slices import category_axis

    count = max(len(data.classes), int(data.labels.max()) + 1)
    names = [*data.classes, *(f"output {c}" for c in range(len(data.classes), count))]
    return category_axis("true class", names, data.labels)


def _measures(one: Slice, found: Search) -> Iterator[Measure]:
    yield proportion("error_rate", one.x, one.n, group=one.terms, better="lower")
    statistics = {"x1": one.x, "n1": one.n, "x0": one.x0, "n0": one.n0, "searched": found.searched}
    fields: dict[str, Any] = {"n": one.n, "group": one.terms, "unit": "difference", "better": "lower"}
    yield measure("error_rate_difference", "difference_of_many", statistics, **fields)


def _chance(found: Search) -> Measure:
    return proportion("shuffles_as_bad", found.as_bad, found.shuffles)


def _differences(found: Search) -> list[Measure]:
    return [list(_measures(one, found))[1] for one in found.slices]


def _name(one: Slice) -> str:
    return " and ".join(f"{feature}: {term}" for feature, term in one.terms.items())


def _table(found: Search) -> Table:
    rows: list[list[Cell]] = []
    for one, item in zip(found.slices, _differences(found), strict=True):
        out = "yes" if (item.low or 0.0) > 0 else "no"
        rates = [one.n, one.x, one.x / one.n, one.n0, one.x0, one.x0 / one.n0]
        rows.append([_name(one), *rates, item.value, item.low, item.high, out])
    columns = ["slice", "rows", "wrong", "error rate", "rows of the rest", "wrong in the rest"]
    columns += ["error rate of the rest", "difference", "low", "high", "stands out"]
    return Table(
        name="worst slices",
        title="The slices with the most errors, the worst first",
        columns=columns,
        rows=rows,
        note=f"The 95 % intervals hold for all {found.searched:,} slices searched at once.",
    )


def _figure(found: Search) -> Figure:
    items, first = _differences(found), found.slices[0]
    title = (
        f"Errors are most frequent where {_name(first)}: {first.x / first.n:.3f} against "
        f"{first.x0 / first.n0:.3f} elsewhere"
        if any((item.low or 0.0) > 0 for item in items)
        else f"None of the slices shown stands out among {found.searched:,} searched"
    )
    return Figure(
        name="worst slices",
        title=title,
        kind="bars",
        alt=f"{title}. Error rate less that of the rest, with intervals that hold for all slices searched.",
        data={
            "labels": [f"{_name(one)} (n = {one.n})" for one in found.slices],
            "values": [item.value for item in items],
            "low": [item.low for item in items],
            "high": [item.high for item in items],
        },
    )


def _caveats(
    data: Dataset, predictions: Predictions, space: Space, found: Search, depth: int
) -> Iterator[str]:
    lost = int((~predictions.finite).sum())
    if lost:
        yield f"{lost} of {len(data)} rows got a score that is not a finite number; they count as wrong."
    yield (
        f"{found.searched:,} slices of {len(space.axes)} features with at least {space.floor} rows were "
        f"searched; some slice looked at least as bad as the worst one in {found.as_bad} of {found.shuffles} "
        "random shuffles of the errors."
    )
    if space.depth < depth:
        yield (
            "Only single features were searched: there are too many parts to combine. Fewer `features` or "
            "`bins` make combinations possible."
        )
    if data.source.get("encoder"):
        yield "Edges of numbers are in the units of the model's input, after the encoder."
