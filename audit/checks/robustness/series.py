"""robustness.series: noise, scaling and time warps of signals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.check import check
from audit.checks.robustness.curve import Rows
from audit.dataset import Dataset, Floats, Ints, sample_rows
from audit.errors import ConfigError, NotApplicable, nearest
from audit.evidence import Altered, Evidence, Figure, Measure, Table
from audit.shift.outcome import Flags, changed, curve, groups, mean_share, still_right
from audit.shift.series import STRENGTHS
from audit.stats import proportion

if TYPE_CHECKING:
    from torch import Tensor

    from audit.model import Model
    from audit.products.predictions import Predictions

Strengths = Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
_SERIES_AXES = 3


@dataclass(frozen=True)
class _How:
    """One perturbation, and what it needs to know.

    Attributes:
        name: a key of `STRENGTHS`.
        strength: how strong.
        attempt: number of the draw.
        seed: seed of the audit.
        spread: [C] standard deviation of each channel.
        bounds: the valid range, where it is known.
    """

    name: str
    strength: float
    attempt: int
    seed: int
    spread: Floats
    bounds: tuple[float, float] | None


@dataclass(frozen=True)
class _Seen:
    """What came out.

    Attributes:
        rows: [R] indices of the rows.
        clean: [R] classified correctly as they are.
        hows: K lists of the draws of one perturbation at one strength.
        right: [K, draws, R] classified correctly.
    """

    rows: Ints
    clean: Flags
    hows: Sequence[Sequence[_How]]
    right: npt.NDArray[np.bool_]

    @property
    def cases(self) -> list[tuple[str, float]]:
        """(perturbation, strength) of the K cases."""
        return [(draws[0].name, draws[0].strength) for draws in self.hows]


@check(
    "robustness.series",
    needs={"logits"},
    modality={"series"},
    measures={"clean_accuracy", "average_accuracy", "robust_accuracy"},
)
def series(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    perturbations: Annotated[list[str], Field(min_length=1)] | None = None,
    strengths: Strengths | None = None,
    draws: Annotated[int, Field(ge=1)] = 5,
    rows: Rows | None = 1000,
    justification: str = "",
) -> Evidence:
    """Accuracy when signals are noisy, scaled or run at uneven speed.

    Each signal is changed in three ways, each at five strengths and with several random draws: normal noise
    of so many standard deviations of the channel; scaling of each channel by a factor of up to 1 + strength
    or down to its reciprocal; and time warps, in which time runs up to that share faster and slower along a
    smooth curve. `average_accuracy` is the accuracy over the draws. `robust_accuracy` is the share of rows
    that are right without a change and under every one of the draws: a row that was wrong before counts as
    not robust.

    It answers how the model takes sensors that are noisy, badly calibrated or badly clocked. It does not
    answer what an attacker can do: a few random draws are a weak search, so robust accuracy is an upper bound
    and falls with the number of draws. Source: Um et al., 2017, arXiv:1706.00527, for the three changes; the
    strengths are this product's own.

    Settings: `perturbations` (noise, scaling, time_warp; all unless given), `strengths` (above 0 and below 1;
    0.05, 0.1, 0.2, 0.4 and 0.8 unless given), `draws` (random draws of each row), `rows` (how many rows,
    drawn by the audit's seed; none for all), `justification` (why these strengths).
    """
    if data.inputs.ndim != _SERIES_AXES:
        raise NotApplicable(
            f"the inputs have the shape {list(data.inputs.shape[1:])}; this check needs series "
            "[channels, time]."
        )
    names = _known(perturbations)
    cases = [(name, float(s)) for name in names for s in sorted(set(strengths or STRENGTHS[name]))]
    chosen = sample_rows(data, len(data) if rows is None else rows, seed)
    hows = _hows(model, data, cases, draws, seed)
    seen = _Seen(chosen, predictions.correct[chosen], hows, _look(model, data, chosen, hows))
    measures = list(_measures(seen, data))
    return Evidence(
        measures=measures,
        tables=(_table(seen),),
        figures=tuple(_figures(measures, names, data)),
        caveats=tuple(_caveats(seen, data, model, justification)),
        altered=partial(_altered, model, data, seen),
    )


def _known(asked: Sequence[str] | None) -> list[str]:
    for name in asked or ():
        if name not in STRENGTHS:
            raise ConfigError(f"there is no perturbation of series '{name}'{nearest(name, list(STRENGTHS))}.")
    return list(dict.fromkeys(asked or STRENGTHS))


def _hows(
    model: Model, data: Dataset, cases: Sequence[tuple[str, float]], draws: int, seed: int
) -> list[list[_How]]:
    """K lists of `draws`."""
    spread = data.inputs.std(axis=(0, 2), dtype=np.float64).astype(np.float32)
    return [
        [_How(name, strength, attempt, seed, spread, model.input_range) for attempt in range(draws)]
        for name, strength in cases
    ]


def _look(model: Model, data: Dataset, rows: Ints, hows: Sequence[Sequence[_How]]) -> npt.NDArray[np.bool_]:
    """[K, draws, R] whether the model is right on each row under each case and draw."""
    right = [[still_right(model, data, rows, partial(_change, how))[0] for how in draws] for draws in hows]
    return np.array(right)


def _change(how: _How, signals: Tensor, rows: Ints) -> Tensor:
    from audit.shift.series import perturb

    changed = perturb(signals, how.name, how.strength, rows, how.attempt, how.seed, how.spread)
    return changed if how.bounds is None else changed.clamp(*how.bounds)


def _altered(model: Model, data: Dataset, seen: _Seen, item: Measure) -> Iterator[Altered]:
    """The draws behind a number, with the rows that were right and fell to each."""
    for place, draws in enumerate(seen.hows):
        for attempt, how in enumerate(draws):
            if item.settings == {"perturbation": how.name, "strength": how.strength}:
                yield Altered(
                    words=f"{how.name} of strength {how.strength:g}, draw {attempt + 1}",
                    rows=seen.rows[seen.clean & ~seen.right[place, attempt]],
                    make=partial(changed, model, data, partial(_change, how)),
                )


def _measures(seen: _Seen, data: Dataset) -> Iterator[Measure]:
    for group, members in groups(data, seen.rows):
        total, clean = int(members.sum()), seen.clean[members]
        yield proportion("clean_accuracy", int(clean.sum()), total, group=group, better="higher")
        for place, (name, strength) in enumerate(seen.cases):
            right = seen.right[place][:, members]
            common: dict[str, Any] = {
                "group": group,
                "settings": {"perturbation": name, "strength": strength},
                "better": "higher",
            }
            yield mean_share("average_accuracy", right.mean(axis=0).tolist(), **common)
            standing = int((clean & right.all(axis=0)).sum())
            yield proportion("robust_accuracy", standing, total, **common)


def _table(seen: _Seen) -> Table:
    return Table(
        name="counts",
        title="What became of the rows",
        columns=("perturbation", "strength", "draws", "rows", "already wrong", "fell in a draw", "withstood"),
        rows=[
            (
                name,
                strength,
                len(seen.right[place]),
                len(seen.rows),
                int((~seen.clean).sum()),
                int((seen.clean & ~seen.right[place].all(axis=0)).sum()),
                int((seen.clean & seen.right[place].all(axis=0)).sum()),
            )
            for place, (name, strength) in enumerate(seen.cases)
        ],
        note="Rows already wrong count as not robust.",
    )


def _figures(measures: Sequence[Measure], names: Sequence[str], data: Dataset) -> Iterator[Figure]:
    """Average accuracy with a line for each perturbation; each perturbation with a line for each group."""

    def points(name: str, group: dict[str, str]) -> list[tuple[float, Measure]]:
        mine = [m for m in measures if dict(m.group) == group]
        clean = [(0.0, m) for m in mine if m.name == "clean_accuracy"]
        found = [m for m in mine if m.name == "average_accuracy" and m.settings["perturbation"] == name]
        return clean + [(float(m.settings["strength"]), m) for m in found]

    lines = [(name, points(name, {})) for name in names]
    yield curve("average_accuracy", "Average accuracy under perturbations", "strength", lines)
    for feature, item in data.sensitive.items():
        for name in names:
            lines = [(group, points(name, {feature: group})) for group in item.groups]
            title = f"Average accuracy under {name.replace('_', ' ')} by {feature}"
            yield curve(f"{name}_by_{feature}", title, "strength", lines)


def _caveats(seen: _Seen, data: Dataset, model: Model, justification: str) -> Iterator[str]:
    yield (
        f"Robust accuracy is the worst of {seen.right.shape[1]} random draws and so an upper bound; it falls "
        "with more draws."
    )
    if model.input_range is not None:
        low, high = model.input_range
        yield f"Changed values are kept inside the valid range from {low:g} to {high:g}."
    if justification:
        yield f"Why these strengths: {justification}"
    else:
        yield (
            "Nobody has stated why these strengths are the ones that the model will meet; say so in the "
            "setting 'justification'."
        )
    if len(seen.rows) < len(data):
        yield f"{len(seen.rows)} of {len(data)} rows were looked at, drawn by the seed of the audit."
