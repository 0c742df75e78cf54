"""robustness.distance: how far away the nearest adversarial example lies."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import Rows, nearest_first
from audit.checks.robustness.self_checks import slack
from audit.evidence import Altered, Evidence, Figure, Measure, Table
from audit.quantile import counted
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit.attack.distance import Distances
    from audit.attack.result import Flags
    from audit.attack.space import Space
    from audit.dataset import Dataset, Doubles
    from audit.products.adversaries import Adversaries

Norm = Literal["linf", "l2", "l1"]
_BLIND_SHARE = 0.1
_MISSED_SHARE = 0.1
_POINTS = 41


@check(
    "robustness.distance",
    needs={"logits", "gradients"},
    measures={"clean_accuracy", "adversarial_distance", "attack_success_rate"},
)
def distance(
    data: Dataset,
    adversaries: Adversaries,
    *,
    norm: Norm = "l2",
    steps: Annotated[int, Field(ge=1)] = 100,
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    rows: Rows | None = 250,
    scale: Scale = "auto",
) -> Evidence:
    """Distance to the nearest adversarial example.

    For every row that the model classifies correctly we look for the smallest change that makes it wrong,
    whatever its size, and report the median of these distances: half of the rows fall to a change no larger
    than that. No epsilon has to be chosen. Every example is judged again in a pass of its own, inside the
    valid range, and its distance is measured anew from the stored numbers.

    It answers: how much must be changed, typically, to change a decision? Each distance is an upper bound:
    a better search may find a nearer example. A row for which none was found counts with the largest
    distance that the valid range allows. Rows that are wrong without any change have no distance and are
    counted apart. A median says nothing of the most fragile rows; set `quantile` to .05 or .1 for those.

    Settings: `norm` (l2: length of the whole change; linf: its largest coordinate; l1: the sum), `steps`,
    `quantile` (.5 is the median), `rows` (how many rows, drawn by the audit's seed; none for all), `scale`
    (what one unit of distance is: raw input units for images, standard deviations of a column for tabular
    data). Source: Pintor et al., 2021, arXiv:2102.12827 (FMN); the interval is that of the order statistics
    (Conover, 1999).
    """
    from audit.attack.minimum import Minimum

    space = adversaries.space(scale)
    found = adversaries.distances(Minimum(norm=norm, steps=steps), rows=rows, scale=scale)
    far = np.minimum(found.found, _diameter(space, norm))
    answers = len(np.unique(adversaries.predictions.predicted[found.rows]))
    doubt = _doubt(found, answers, free=bool((space.unit > 0).all()))
    measures = [
        item
        for group, members in _groups(found, data)
        for item in _measures(found, far, members, group, norm, quantile, doubt)
    ]
    return Evidence(
        measures=measures,
        tables=(_table(found),),
        figures=tuple(_curve(far[found.correct], norm)),
        caveats=tuple(_caveats(found, space, data)),
        altered=partial(_altered, found, norm, space.scale),
    )


def _altered(found: Distances, norm: Norm, scale: str, item: Measure) -> Iterator[Altered]:
    """The examples behind a number: for a distance those that lie no further."""
    reach = item.value if item.name == "adversarial_distance" else np.inf
    if item.name == "clean_accuracy" or reach is None:
        return
    rows, far = found.rows[found.kept], found.found[found.kept]
    yield from nearest_first(rows, far, found.examples, reach, method="distance", norm=norm, scale=scale)


def _doubt(found: Distances, answers: int, *, free: bool) -> str:
    """Why the distances may be far too large; empty where nothing speaks against the search.

    Args:
        found: what the search found.
        answers: how many classes the model gives to the rows as they are.
        free: whether nothing is held, so that each row can be changed into any other.
    """
    attacked = int(found.correct.sum())
    missed = int(np.isinf(found.found).sum())
    said = []
    if found.zero > _BLIND_SHARE * attacked:
        said.append(f"{found.zero} rows gave no usable gradient")
    if found.rejected > slack(attacked):
        said.append(f"{found.rejected} claimed examples did not hold")
    if free and answers > 1 and missed > _MISSED_SHARE * attacked:
        said.append(
            f"no example was found for {missed} of {attacked} rows, though each can be changed into a row "
            "that is answered otherwise"
        )
    return "; ".join(said)


def _diameter(space: Space, norm: Norm) -> float:
    """The largest distance between two valid points."""
    free = space.unit > 0
    wide = ((space.high - space.low)[free] / space.unit[free]).astype(np.float64)
    orders: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
    return float(np.linalg.norm(wide, orders[norm]))


def _groups(found: Distances, data: Dataset) -> Iterator[tuple[dict[str, str], Flags]]:
    yield {}, np.ones(len(found.rows), dtype=bool)
    for name, feature in data.sensitive.items():
        codes = feature.codes[found.rows]
        for code, group in enumerate(feature.groups):
            yield {name: group}, codes == code


def _measures(
    found: Distances, far: Doubles, members: Flags, group: dict[str, str], norm: Norm, q: float, doubt: str
) -> Iterator[Measure]:
    attacked = found.correct & members
    n = int(attacked.sum())
    yield proportion("clean_accuracy", n, int(members.sum()), group=group, better="higher")
    common: dict[str, Any] = {
        "group": group,
        "settings": {"norm": norm, "quantile": q},
        "unreliable": doubt,
    }
    yield measure(
        "adversarial_distance",
        "quantile",
        {**counted(far[attacked].tolist()), "q": q},
        n=n,
        unit="distance",
        better="higher",
        reason="no row is classified correctly, so none was attacked",
        **common,
    )
    reached = int(np.isfinite(found.found[attacked]).sum())
    yield proportion("attack_success_rate", reached, n, better="neither", **common)


def _table(found: Distances) -> Table:
    attacked = int(found.correct.sum())
    reached = int(np.isfinite(found.found[found.correct]).sum())
    return Table(
        name="distances",
        title="What became of the rows",
        columns=(
            "rows", "already wrong", "example found", "none found", "claimed but rejected",
            "no usable gradient", "forward rows", "backward rows",
        ),
        rows=[
            (len(found.rows), len(found.rows) - attacked, reached, attacked - reached, found.rejected,
             found.zero, found.forward_rows, found.backward_rows)
        ],
    )  # fmt: skip


def _curve(far: Doubles, norm: Norm) -> Iterator[Figure]:
    """Share of the attacked rows that withstand a change of each size."""
    if not len(far):
        return
    x = np.quantile(far, np.linspace(0, 1, _POINTS))
    held = [proportion("held", int((far > at).sum()), len(far)) for at in x]
    yield Figure(
        name="distances",
        title=f"Half of the rows fall to a change of {float(np.median(far)):.3g} ({norm}) or less",
        kind="curve",
        alt=f"Share of rows without an adversarial example nearer than the distance, from {x[0]:.3g} to "
        f"{x[-1]:.3g}.",
        data={
            "x_label": f"distance ({norm})",
            "y_label": "share that withstands",
            "series": [
                {
                    "name": "rows classified correctly",
                    "x": x.tolist(),
                    "y": [item.value for item in held],
                    "low": [item.low for item in held],
                    "high": [item.high for item in held],
                }
            ],
        },
    )


def _caveats(found: Distances, space: Space, data: Dataset) -> Iterator[str]:
    yield "Each distance is an upper bound: a better search may find a nearer example."
    yield from (caveat.replace("Epsilon counts", "Distance counts") for caveat in space.caveats)
    missed = int(np.isinf(found.found).sum())
    if missed:
        yield (
            f"For {missed} of {int(found.correct.sum())} rows no example was found; they count with the "
            "largest distance that the valid range allows."
        )
    if len(found.rows) < len(data):
        yield f"{len(found.rows)} of {len(data)} rows were looked at, drawn by the seed of the audit."
