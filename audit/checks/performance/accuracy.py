"""performance.accuracy: how often the model is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from audit.check import check
from audit.dataset import Dataset
from audit.evidence import Evidence, Figure, Measure, Table
from audit.groups import count_table
from audit.outcomes import answers
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.products.predictions import Predictions

_LARGEST_MATRIX = 30
_CONFUSIONS_SHOWN = 30
_BARS_SHOWN = 40


@check(
    "performance.accuracy",
    needs={"logits"},
    tasks={"classification"},
    weighted=True,
    measures={"accuracy", "balanced_accuracy"},
)
def accuracy(data: Dataset, predictions: Predictions) -> Evidence:
    """How often the model is right.

    The share of rows whose class is predicted correctly: overall, within each class (also called recall) and
    within each group of each sensitive feature. `balanced_accuracy` is the mean over the classes, so that a
    frequent class does not hide a rare one. The table of confusions counts which class was taken for which.

    It answers: how good is the model on rows like these? It does not say whether these rows are like those
    the model will meet, what an error costs, whether the model knows when it is wrong, or whether groups are
    treated fairly (a group can differ because its rows are harder; see the fairness checks). Intervals cover
    the chance in drawing these rows, nothing else.

    Sources: Wilson, 1927 (intervals of a share); Zou and Donner, 2008 (interval of the mean over classes).
    """
    names = _class_names(data, predictions)
    classes = [
        _share(data, predictions, data.labels == index, {"class": name}) for index, name in enumerate(names)
    ]
    groups = [
        _share(data, predictions, feature.codes == code, {feature.name: group})
        for feature in data.sensitive.values()
        for code, group in enumerate(feature.groups)
    ]
    everyone = _share(data, predictions, np.ones(len(data), dtype=bool), {})
    return Evidence(
        measures=[everyone, _balanced(classes), *classes, *groups],
        tables=(_confusion(data, predictions, names),),
        figures=tuple(_figures(data, classes, groups)),
        caveats=tuple(_caveats(data, predictions)),
        outcomes=answers(data, predictions),
    )


def _class_names(data: Dataset, predictions: Predictions) -> list[str]:
    """A name for each class that occurs or is known; those without a name are called by their number."""
    outputs = max(len(data.classes), int(predictions.predicted.max()) + 1, int(data.labels.max()) + 1)
    return [data.classes[i] if i < len(data.classes) else f"output {i}" for i in range(outputs)]


def _share(
    data: Dataset, predictions: Predictions, members: npt.NDArray[np.bool_], group: dict[str, str]
) -> Measure:
    right = data.counted(predictions.correct & members)
    return proportion("accuracy", right, data.counted(members), group=group, better="higher")


def _balanced(classes: Sequence[Measure]) -> Measure:
    """Mean of the recalls; undefined when a class has no rows, because its recall is 0/0."""
    absent = [item.group["class"] for item in classes if not item.n]
    if absent:
        shown = ", ".join(absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""  # noqa: PLR2004 - as many as shown
        reason = f"0 rows of class {shown}{more}: the recall of a class without rows is 0/0"
        return Measure(name="balanced_accuracy", value=None, reason=reason, better="higher")
    statistics = {
        "x": [item.statistics["x"] for item in classes],
        "n": [item.statistics["n"] for item in classes],
    }
    rows = sum(item.n or 0 for item in classes)
    return measure("balanced_accuracy", "mean_of_proportions", statistics, n=rows, better="higher")


def _confusion(data: Dataset, predictions: Predictions, names: Sequence[str]) -> Table:
    """Counts of true and predicted class; above a size that can be read, the largest confusions alone."""
    size = len(names)
    flat = count_table((data.labels, predictions.predicted), (size, size), data.people).ravel()
    if size <= _LARGEST_MATRIX:
        counts = flat.reshape(size, size).tolist()
        return Table(
            name="confusion",
            title="Which class was taken for which",
            columns=("true class", *(f"predicted {name}" for name in names)),
            rows=[(name, *row) for name, row in zip(names, counts, strict=True)],
        )
    flat[:: size + 1] = 0
    largest = [int(i) for i in np.argsort(-flat, kind="stable")[:_CONFUSIONS_SHOWN] if flat[i]]
    return Table(
        name="confusion",
        title="The most frequent confusions",
        columns=("true class", "predicted class", "rows"),
        rows=[(names[i // size], names[i % size], int(flat[i])) for i in largest],
        note=f"Of {size} classes, the {len(largest)} most frequent confusions.",
    )


def _figures(data: Dataset, classes: Sequence[Measure], groups: Sequence[Measure]) -> Iterator[Figure]:
    yield from _bars("class", classes)
    for name in data.sensitive:
        yield from _bars(name, [item for item in groups if name in item.group])


def _bars(name: str, items: Sequence[Measure]) -> Iterator[Figure]:
    """Bars with intervals, the lowest first where there are too many to show; undefined ones left out."""
    known = [item for item in items if item.value is not None]
    if not known:
        return
    ranked = sorted(known, key=lambda item: item.value or 0.0)
    lowest, highest = ranked[0], ranked[-1]
    shown = known if len(known) <= _BARS_SHOWN else ranked[:_BARS_SHOWN]
    span = f"from {lowest.value:.3f} ({lowest.group[name]}) to {highest.value:.3f} ({highest.group[name]})"
    yield Figure(
        name=f"accuracy_by_{name}",
        title=f"Accuracy by {name}: {span}",
        kind="bars",
        alt=f"Accuracy by {name}, {span}; {len(shown)} of {len(items)} are drawn.",
        data={
            "labels": [item.group[name] for item in shown],
            "values": [item.value for item in shown],
            "low": [item.low for item in shown],
            "high": [item.high for item in shown],
        },
    )


def _caveats(data: Dataset, predictions: Predictions) -> Iterator[str]:
    lost = data.counted(~predictions.finite)
    if lost:
        yield (f"{lost} of {data.size} rows got a score that is not a finite number; they count as wrong.")
