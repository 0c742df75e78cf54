"""robustness.corruptions: accidental changes of images and of table rows at five severities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.attack.space import space
from audit.check import check
from audit.checks.robustness.curve import Rows
from audit.dataset import Dataset, Ints, sample_rows
from audit.errors import ConfigError, NotApplicable, nearest
from audit.evidence import Altered, Evidence, Figure, Measure, Table
from audit.shift import tabular
from audit.shift.corruptions import CORRUPTIONS, LARGE_FROM, corrupt, refuse_shape
from audit.shift.outcome import Flags, changed, curve, groups, mean_share, still_right
from audit.stats import proportion

if TYPE_CHECKING:
    from torch import Tensor

    from audit.model import Model
    from audit.products.predictions import Predictions

Severities = Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Plan:
    """What is done to the rows.

    Attributes:
        families: family by name of corruption; a line of the figure for each family.
        apply: changes raw inputs: the inputs, name, severity and row indices.
        caveats: sentences for the reader.
    """

    families: Mapping[str, str]
    apply: Callable[[Tensor, str, int, Ints], Tensor]
    caveats: Sequence[str]


@dataclass(frozen=True)
class _Seen:
    """What came out of it.

    Attributes:
        rows: [R] indices of the rows.
        clean: [R] classified correctly as they are.
        right: [K, S, R] classified correctly under corruption k at severity s.
        change: [K, S] mean absolute change of the values.
        names: the K corruptions.
        severities: the S severities, ascending.
    """

    rows: Ints
    clean: Flags
    right: npt.NDArray[np.bool_]
    change: Doubles
    names: Sequence[str]
    severities: Sequence[int]


@check(
    "robustness.corruptions",
    needs={"logits"},
    modality={"image", "tabular"},
    measures={
        "clean_accuracy",
        "corruption_accuracy",
        "family_accuracy",
        "severity_accuracy",
        "mean_corruption_accuracy",
        "robust_accuracy",
    },
)
def corruptions(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    corruptions: Annotated[list[str], Field(min_length=1)] | None = None,
    severities: Severities | None = None,
    rows: Rows | None = 1000,
    keep_immutable: bool = False,
    justification: str = "",
) -> Evidence:
    """Accuracy under common corruptions.

    Every row is spoilt in the ways that accidents spoil data, at five severities, and we count how many are
    still classified correctly. Images get the fifteen usual corruptions: three kinds of noise, four of blur,
    four of weather, and contrast, elastic transform, pixelation and JPEG. Rows of a table get measuring
    errors, rounding, unit errors, missing values (replaced by the column's mean or most frequent value) and
    categories swapped with those of other people.

    `corruption_accuracy` is the accuracy under one corruption at one severity. `family_accuracy` and
    `severity_accuracy` are means over the corruptions of a family and over all, at one severity;
    `mean_corruption_accuracy` is the mean over all corruptions and severities, whole and by sensitive group.
    Their intervals are taken over rows, because the same rows go through every corruption. `robust_accuracy`
    is the share of rows that are right without any corruption and under every one of them at that severity:
    a row that was wrong before counts as not robust.

    It answers how far the accuracy carries when the data are worse than those tested on. It does not answer
    what an attacker can do, nor how often each accident happens: the mean gives every corruption the same
    weight. Severity is what the authors called so and means nothing across corruptions. Sources: Hendrycks
    and Dietterich, 2019, arXiv:1903.12261, for images, with their constants; no published benchmark exists
    for tables, and the strengths are this product's own.

    Settings: `corruptions` (names; all unless given), `severities` (1 to 5; all unless given), `rows` (how
    many rows, drawn by the audit's seed; none for all), `keep_immutable` (spare the features of a table that
    a person cannot change; an accident spares nothing, so this is off), `justification` (why these
    accidents).
    """
    plan = _plan(model, data, seed, corruptions, keep_immutable)
    chosen = sample_rows(data, len(data) if rows is None else rows, seed)
    levels = sorted(set(severities or (1, 2, 3, 4, 5)))
    seen = _look(model, data, plan, chosen, predictions.correct[chosen], levels)
    measures = list(_measures(seen, plan, data))
    return Evidence(
        measures=measures,
        tables=(_table(seen, plan),),
        figures=tuple(_figures(measures, seen, plan, data)),
        caveats=tuple(_caveats(seen, plan, data, justification)),
        altered=partial(_altered, model, data, seen, plan),
    )


def _plan(model: Model, data: Dataset, seed: int, asked: Sequence[str] | None, keep_immutable: bool) -> _Plan:
    if data.modality == "image":
        return _images(model, data, seed, asked)
    if data.modality == "tabular":
        return _rows(data, seed, asked, keep_immutable)
    raise NotApplicable(
        f"the inputs are {data.modality}; corruptions are made for images and tables, and robustness.series "
        "for series."
    )


def _images(model: Model, data: Dataset, seed: int, asked: Sequence[str] | None) -> _Plan:
    refuse_shape(data.inputs.shape)
    # The same refusals as for attacks: no range, or data outside it.
    space(model, data)
    low, high = model.input_range or (0.0, 1.0)
    names = _known(asked, CORRUPTIONS, tabular.STRENGTHS, "images", "tables")
    height, width = data.inputs.shape[2:]
    constants = "CIFAR-10-C" if min(height, width) < LARGE_FROM else "ImageNet-C"
    first = (
        f"The images have {height} x {width} pixels; the constants are those of {constants}. The numbers are "
        "close to, but not those of, the published files: results are not rounded to 8 bits and the random "
        "draws differ."
    )
    caveats = [first]
    if "frost" in names:
        caveats.append("Frost is a computed texture of ice crystals, not one of the published photographs.")
    if "glass_blur" in names:
        caveats.append("Glass blur moves all pixels of a round at once, the published one in turn.")

    def apply(inputs: Tensor, name: str, severity: int, rows: Ints) -> Tensor:
        return corrupt(inputs, name, severity, rows, seed, low, high)

    return _Plan({name: CORRUPTIONS[name].family for name in names}, apply, caveats)


def _rows(data: Dataset, seed: int, asked: Sequence[str] | None, keep_immutable: bool) -> _Plan:
    names = _known(asked, tabular.STRENGTHS, CORRUPTIONS, "tables", "images")
    table = tabular.columns(data, keep_immutable=keep_immutable)
    fitting = [name for name in names if tabular.fits(name, table)]
    if not fitting:
        raise NotApplicable(
            f"no feature of the table can be changed by {', '.join(names)}: they need numeric, or "
            "categorical and ordinal, features."
        )
    spared = "were spared" if keep_immutable else "were corrupted like all others: an accident spares nothing"
    caveats = ["The severities of tables are this product's own; no benchmark publishes any."]
    if any(feature.immutable for feature in data.features):
        caveats.append(f"Features that a person cannot change {spared}.")
    if len(fitting) < len(names):
        left = ", ".join(name for name in names if name not in fitting)
        caveats.append(f"Left out, because no feature of the table is of the kind they change: {left}.")
    if "unit_errors" in fitting:
        caveats.append(
            f"Unit errors multiply the model's own inputs by {tabular.FACTOR:g} or divide them by it; where "
            "an encoder standardised them, that is not the same as an error in the original unit."
        )

    def apply(inputs: Tensor, name: str, severity: int, rows: Ints) -> Tensor:
        return tabular.corrupt(inputs, name, severity, rows, seed, table)

    return _Plan({name: name for name in fitting}, apply, caveats)


def _known(
    asked: Sequence[str] | None,
    mine: Mapping[str, object],
    others: Mapping[str, object],
    inputs: str,
    other_inputs: str,
) -> list[str]:
    """The names asked for, each once, or all; a name for the other kind of input does not apply."""
    for name in asked or ():
        if name in others:
            raise NotApplicable(
                f"the corruption '{name}' is made for {other_inputs} and these inputs are {inputs}; known "
                f"for {inputs} are {', '.join(mine)}."
            )
        if name not in mine:
            raise ConfigError(f"there is no corruption '{name}' for {inputs}{nearest(name, list(mine))}.")
    return list(dict.fromkeys(asked or mine))


def _look(
    model: Model, data: Dataset, plan: _Plan, rows: Ints, clean: Flags, severities: Sequence[int]
) -> _Seen:
    names = list(plan.families)
    right = np.zeros((len(names), len(severities), len(rows)), dtype=np.bool_)
    change = np.zeros((len(names), len(severities)))
    for place, name in enumerate(names):
        for level, severity in enumerate(severities):
            spoil = partial(_spoil, plan, name, severity)
            right[place, level], sizes = still_right(model, data, rows, spoil)
            change[place, level] = sizes.mean() if len(sizes) else 0.0
    return _Seen(rows, clean, right, change, names, severities)


def _spoil(plan: _Plan, name: str, severity: int, inputs: Tensor, rows: Ints) -> Tensor:
    return plan.apply(inputs, name, severity, rows)


def _altered(model: Model, data: Dataset, seen: _Seen, plan: _Plan, item: Measure) -> Iterator[Altered]:
    """The corruptions behind a number, with the rows that were right and fell to each."""
    for place, name in enumerate(seen.names):
        for level, severity in enumerate(seen.severities):
            case = {"corruption": name, "family": plan.families[name], "severity": severity}
            if item.name != "clean_accuracy" and item.settings.items() <= case.items():
                yield Altered(
                    words=f"{name} at severity {severity}",
                    rows=seen.rows[seen.clean & ~seen.right[place, level]],
                    make=partial(changed, model, data, partial(_spoil, plan, name, severity)),
                )


def _measures(seen: _Seen, plan: _Plan, data: Dataset) -> Iterator[Measure]:
    total = len(seen.rows)
    for place, name in enumerate(seen.names):
        for level, severity in enumerate(seen.severities):
            settings = {"corruption": name, "severity": severity}
            correct = int(seen.right[place, level].sum())
            yield proportion("corruption_accuracy", correct, total, settings=settings, better="higher")
    for family in dict.fromkeys(plan.families.values()):
        mine = [place for place, name in enumerate(seen.names) if plan.families[name] == family]
        for level, severity in enumerate(seen.severities):
            shares = seen.right[mine, level].mean(axis=0).tolist()
            settings = {"family": family, "severity": severity}
            yield mean_share("family_accuracy", shares, settings=settings, better="higher")
    for group, members in groups(data, seen.rows):
        yield from _of_group(seen, group, members)


def _of_group(seen: _Seen, group: dict[str, str], members: Flags) -> Iterator[Measure]:
    """Clean accuracy, the means over corruptions, and the share that withstands all of them."""
    total, right = int(members.sum()), seen.right[:, :, members]
    clean = seen.clean[members]
    yield proportion("clean_accuracy", int(clean.sum()), total, group=group, better="higher")
    shares = right.mean(axis=(0, 1)).tolist()
    yield mean_share("mean_corruption_accuracy", shares, group=group, better="higher")
    for level, severity in enumerate(seen.severities):
        settings = {"severity": severity}
        shares = right[:, level].mean(axis=0).tolist()
        yield mean_share("severity_accuracy", shares, group=group, settings=settings, better="higher")
        standing = int((clean & right[:, level].all(axis=0)).sum())
        yield proportion("robust_accuracy", standing, total, group=group, settings=settings, better="higher")


def _table(seen: _Seen, plan: _Plan) -> Table:
    return Table(
        name="counts",
        title="Rows classified correctly under each corruption",
        columns=("corruption", "family", "severity", "rows", "correct", "fell", "mended", "mean change"),
        rows=[
            (
                name,
                plan.families[name],
                severity,
                len(seen.rows),
                int(seen.right[place, level].sum()),
                int((seen.clean & ~seen.right[place, level]).sum()),
                int((~seen.clean & seen.right[place, level]).sum()),
                round(float(seen.change[place, level]), 6),
            )
            for place, name in enumerate(seen.names)
            for level, severity in enumerate(seen.severities)
        ],
        note="Fell: right before, wrong under the corruption. Mended: the other way. Mean change: mean "
        "absolute change of an input value, in raw input units.",
    )


def _figures(measures: Sequence[Measure], seen: _Seen, plan: _Plan, data: Dataset) -> Iterator[Figure]:
    """A line for each family, then for each sensitive feature one with a line for each group."""

    def points(name: str, group: Mapping[str, str], **settings: str) -> list[tuple[float, Measure]]:
        mine = [m for m in measures if dict(m.group) == dict(group)]
        clean = [(0.0, m) for m in mine if m.name == "clean_accuracy"]
        found = [m for m in mine if m.name == name and settings.items() <= dict(m.settings).items()]
        return clean + [(float(m.settings["severity"]), m) for m in found]

    families = dict.fromkeys(plan.families.values())
    lines = [(family, points("family_accuracy", {}, family=family)) for family in families]
    (clean,) = [m for m in measures if m.name == "clean_accuracy" and not m.group]
    (mean,) = [m for m in measures if m.name == "mean_corruption_accuracy" and not m.group]
    title = "Accuracy under corruption"
    if clean.value is not None and mean.value is not None:
        title += (
            f": {clean.value:.3f} without, {mean.value:.3f} on average over {len(seen.names)} corruptions"
        )
    yield curve("accuracy_by_family", title, "severity", lines)
    for feature, item in data.sensitive.items():
        lines = [(group, points("severity_accuracy", {feature: group})) for group in item.groups]
        yield curve(f"accuracy_by_{feature}", f"Accuracy under corruption by {feature}", "severity", lines)


def _caveats(seen: _Seen, plan: _Plan, data: Dataset, justification: str) -> Iterator[str]:
    yield from plan.caveats
    yield (
        "The mean gives every corruption the same weight, however often it happens where the model is used; "
        "the interval covers the choice of rows, not the choice of corruptions."
    )
    if justification:
        yield f"Why these corruptions: {justification}"
    else:
        yield (
            "Nobody has stated why these corruptions are the ones that the model will meet; say so in the "
            "setting 'justification'."
        )
    if len(seen.rows) < len(data):
        yield f"{len(seen.rows)} of {len(data)} rows were looked at, drawn by the seed of the audit."
