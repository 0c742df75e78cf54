"""What a model still gets right on changed inputs, counted for all rows and for each sensitive group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Dataset, Doubles, Floats, Ints
from audit.evidence import Figure, Measure
from audit.stats import mean, measure

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from audit.model import Model

Flags = npt.NDArray[np.bool_]
Change = Callable[["Tensor", Ints], "Tensor"]
Line = tuple[str, Sequence[tuple[float, Measure]]]


def right(scores: Tensor, labels: Tensor) -> Tensor:
    """[n] whether the highest score is the label's; a score that is not a finite number is wrong."""
    return (scores.argmax(dim=1) == labels) & scores.isfinite().all(dim=1)


def still_right(model: Model, data: Dataset, rows: Ints, change: Change) -> tuple[Flags, Doubles]:
    """Whether the model classifies changed rows correctly, and how much each was changed.

    Args:
        model: the network; every row sent through it is counted.
        data: the rows and their labels.
        rows: [R] indices of the rows to look at.
        change: takes raw inputs [n, ...] on the model's device and their row indices, gives changed inputs.

    Returns:
        [R] flags and [R] mean absolute change of a row's values.
    """
    import torch

    if not len(rows):
        return np.zeros(0, dtype=np.bool_), np.zeros(0)

    def work(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = rows[part]
        with torch.no_grad():
            before = model.tensor(data.inputs[chosen])
            after = change(before, chosen)
            labels = torch.tensor(data.labels[chosen], device=model.device)
            size = (after - before).abs().flatten(1).mean(dim=1)
            # The network may write into its input, so the size is measured before it sees it.
            return right(model.scores(after), labels), size

    flags, sizes = model.in_batches(work, len(rows))
    return flags.cpu().numpy(), sizes.double().cpu().numpy()


def changed(model: Model, data: Dataset, change: Change, rows: Ints) -> Floats:
    """[n, ...] the changed inputs of a few rows, as `still_right` showed them to the model.

    Args:
        model: on whose device they are made.
        data: the rows.
        change: as in `still_right`.
        rows: [n] their indices.
    """
    import torch

    with torch.no_grad():
        made: Floats = change(model.tensor(data.inputs[rows]), rows).cpu().numpy()
    return made


def groups(data: Dataset, rows: Ints) -> Iterator[tuple[dict[str, str], Flags]]:
    """The whole, then every group of every sensitive feature, with its members among the rows [R]."""
    yield {}, np.ones(len(rows), dtype=bool)
    for name, feature in data.sensitive.items():
        codes = feature.codes[rows]
        for code, group in enumerate(feature.groups):
            yield {name: group}, codes == code


def mean_share(name: str, shares: Sequence[float], **fields: Any) -> Measure:
    """The mean over rows of each row's share of trials that went well, in [0, 1].

    Trials of one row are not independent, rows are: the interval is Student's over rows. Where all rows
    have the same share there is no spread to go by, and Wilson's interval of as many rows takes its place,
    which is never narrower than the shares allow.
    """
    if len(shares) and min(shares) == max(shares):
        statistics = {"x": math.fsum(shares), "n": len(shares)}
        return measure(name, "wilson", statistics, n=len(shares), **fields)
    return mean(name, shares, **{"unit": "share", **fields})


def curve(name: str, title: str, x_label: str, lines: Sequence[Line]) -> Figure:
    """Accuracy over severity: a line of (x, measure) for each name; undefined measures are left out."""
    known = [(label, [(x, m) for x, m in points if m.value is not None]) for label, points in lines]
    told = "; ".join(
        f"{label}: " + ", ".join(f"{m.value:.3f} at {x:g}" for x, m in points) for label, points in known
    )
    series = [
        {
            "name": label,
            "x": [x for x, _ in points],
            "y": [m.value for _, m in points],
            "low": [m.value if m.low is None else m.low for _, m in points],
            "high": [m.value if m.high is None else m.high for _, m in points],
        }
        for label, points in known
    ]
    return Figure(
        name=name,
        title=title,
        kind="curve",
        alt=f"{title} over {x_label}. {told}.",
        data={"x_label": x_label, "y_label": "accuracy", "series": series},
    )
