"""robustness.smoothing: a certificate for the classifier made of the model and noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.attack.space import Scale, Space, space
from audit.check import check
from audit.dataset import Dataset, Ints, sample_rows
from audit.evidence import Evidence, Figure, Measure, Table
from audit.stats import mean, proportion

if TYPE_CHECKING:
    from audit.certify.smoothing import Smoothed, Smoothing
    from audit.model import Model
    from audit.products.predictions import Predictions

Radius = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Flags = npt.NDArray[np.bool_]
_SIGMA = 0.25
_IN_SIGMAS = (0.0, 0.5, 1.0, 2.0)
_TOLD = 3


@check(
    "robustness.smoothing",
    needs={"logits"},
    measures={"clean_accuracy", "abstention_rate", "certified_accuracy", "average_certified_radius"},
)
def smoothing(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    sigma: Positive | None = None,
    radii: Annotated[list[Radius], Field(min_length=1)] | None = None,
    samples: Annotated[int, Field(ge=10)] = 1000,
    selection: Annotated[int, Field(ge=1)] = 100,
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.001,
    rows: Annotated[int, Field(ge=1)] | None = 100,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Accuracy that is guaranteed once noise is averaged out (randomised smoothing).

    For each input we ask the model about many copies with random (Gaussian) noise and take the answer it
    gives most often. That answer provably stays the same when the input is changed by less than a certain
    length, which follows from how often the answer was given. We count how many rows are answered correctly
    with a guaranteed length of at least each radius. Where no answer has a provable majority the smoothed
    classifier abstains, and the row counts as not certified.

    It answers: how robust would this model be if it were used with noise and a majority vote? It says
    nothing about the model used as it is: the guarantee holds for the vote, not for the model. A model that
    was not trained with noise often does poorly here, which is no proof that it can be attacked. Each row's
    guarantee is statistical and may be wrong with probability alpha. Changes are measured as Euclidean
    length, not coordinate by coordinate.

    Settings: `sigma` (standard deviation of the noise: by default a quarter of the valid range for images
    and series, .25 standard deviations of each column for tabular data), `radii` (lengths that are asked
    about, in the same unit), `samples` and `selection` (noisy copies that bound the majority and that choose
    it), `alpha` (probability that one row's guarantee is wrong), `rows` (how many rows, drawn by the audit's
    seed; none for all), `scale` (what a length counts), `justification` (why these radii). Source: Cohen,
    Rosenfeld and Kolter, 2019, arXiv:1902.02918.
    """
    from audit.certify.smoothing import Smoothing, largest_radius, smooth

    around = space(model, data, scale)
    width = sigma or _SIGMA * _range(around)
    asked = sorted(set(radii or [width * factor for factor in _IN_SIGMAS]))
    how = Smoothing(sigma=width, selection=selection, samples=samples, alpha=alpha, seed=seed)
    chosen = sample_rows(data, len(data) if rows is None else rows, seed)
    found = smooth(model, data.inputs, around.unit, chosen, how)
    right = found.classes == data.labels[chosen]
    measures = list(_measures(found, right, predictions.correct[chosen], asked, width))
    return Evidence(
        measures=measures,
        tables=(_counts(found, right, asked),),
        figures=(_curve(measures),),
        caveats=tuple(_caveats(how, largest_radius(how), asked, around, found, justification))
        + _sampled(chosen, data),
    )


def _range(around: Space) -> float:
    """The length that the default noise is a share of: the valid range, or one standard deviation."""
    if around.scale == "std":
        return 1.0
    moved = around.unit > 0
    return float((around.high - around.low)[moved].mean())


def _measures(
    found: Smoothed, right: Flags, clean: Flags, asked: Sequence[float], sigma: float
) -> Iterator[Measure]:
    total = len(right)
    noise = {"sigma": sigma}
    yield proportion("clean_accuracy", int(clean.sum()), total, better="higher")
    yield proportion("abstention_rate", int((found.classes < 0).sum()), total, settings=noise, better="lower")
    for radius in asked:
        held = int((right & (found.radii >= radius)).sum())
        settings = {"radius": radius, **noise}
        yield proportion("certified_accuracy", held, total, settings=settings, better="higher")
    lengths = np.where(right, found.radii, 0).astype(float).tolist()
    yield mean("average_certified_radius", lengths, settings=noise, unit="length", better="higher")


def _counts(found: Smoothed, right: Flags, asked: Sequence[float]) -> Table:
    abstained = int((found.classes < 0).sum())
    wrong = len(right) - abstained - int(right.sum())
    counted = [
        (radius, len(right), int((right & (found.radii >= radius)).sum()), wrong, abstained)
        for radius in asked
    ]
    return Table(
        name="counts",
        title="What became of the rows",
        columns=("radius", "rows", "certified", "wrong", "abstained"),
        rows=counted,
        note="Certified: the smoothed classifier is right and provably stays so within the radius. Wrong and "
        "abstained do not depend on the radius; rows in none of them are right, but not this far.",
    )


def _curve(measures: Sequence[Measure]) -> Figure:
    points = [(float(m.settings["radius"]), m) for m in measures if m.name == "certified_accuracy"]
    told = ", ".join(f"{m.value:.3f} at {radius:.4g}" for radius, m in points)
    series = {
        "name": "smoothed classifier",
        "x": [radius for radius, _ in points],
        "y": [m.value for _, m in points],
        "low": [m.low for _, m in points],
        "high": [m.high for _, m in points],
    }
    (first, start), (last, end) = points[0], points[-1]
    return Figure(
        name="certified_accuracy",
        title=f"Certified accuracy of the smoothed classifier: {start.value:.3f} at radius {first:.4g}, "
        f"{end.value:.3f} at {last:.4g}",
        kind="curve",
        alt=f"Certified accuracy over the radius: {told}.",
        data={"x_label": "radius", "y_label": "certified accuracy", "series": [series]},
    )


def _caveats(
    how: Smoothing, most: float, asked: Sequence[float], around: Space, found: Smoothed, justification: str
) -> Iterator[str]:
    yield (
        "The certificate is for the smoothed classifier (the majority over noisy copies), not for the model "
        "as it is used alone."
    )
    yield (
        f"Each row's certificate may be wrong with probability {how.alpha:g}; the intervals cover the choice "
        "of rows, not that."
    )
    yield from (caveat.replace("Epsilon counts", "A length counts") for caveat in around.caveats)
    yield "Noisy copies are not cut off at the valid range, so that the proof holds."
    beyond = [f"{radius:.4g}" for radius in asked if radius > most]
    if beyond:
        yield (
            f"{how.samples} samples can certify at most {most:.4g}; the certified accuracy beyond it "
            f"(at {', '.join(beyond[:_TOLD])}) is 0 for that reason alone."
        )
    if found.lost.any():
        yield (
            f"For {int(found.lost.sum())} noisy copies the model's output was not a finite number; "
            "they count for no class."
        )
    if justification:
        yield f"Why these radii: {justification}"
    else:
        yield "Nobody has stated why these radii are the right ones; say so in the setting 'justification'."


def _sampled(chosen: Ints, data: Dataset) -> tuple[str, ...]:
    if len(chosen) == len(data):
        return ()
    return (f"{len(chosen)} of {len(data)} rows were looked at, drawn by the seed of the audit.",)
