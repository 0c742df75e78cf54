"""fairness.representation: who is in the data, against who is in the population."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from operator import mul
from typing import TYPE_CHECKING

from audit.check import check
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Cell, Evidence, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from audit.dataset import Dataset, Doubles, Sensitive

    Mask = npt.NDArray[np.bool_]

Population = dict[str, dict[str, float]]
_ROUNDING = 1e-6


@check(
    "fairness.representation",
    version="2",
    tasks={"classification", "regression"},
    weighted=True,
    measures={"share", "share_difference", "unknown_share", "base_rate", "mean_target", "missing_rate"},
)
def representation(data: Dataset, *, population: Population = {}) -> Evidence:  # noqa: B006 - pydantic copies it; a setting's default must be a value of its type
    """Who is in the data.

    Counts how many rows of the audit's data belong to each group, and how often each group had the
    favourable outcome in the data themselves (`base_rate`), before any model. Where a number is predicted
    instead of an outcome, `mean_target` is the average of the true values of each group, in their unit, with
    Student's interval (1908), which is too narrow for a small group with a few extreme values.

    `share` is a group's part of
    the rows whose group is known; `unknown_share` is the part of all rows whose group is not.

    Where the share of each group in a population is stated, `share_difference` is the group's share less
    that. A group that is rare in the data has wide intervals everywhere else in this report, and a model
    may have had little to learn from. The audit's data need not be the training data, so this says nothing
    about how the model was trained unless the two were drawn alike. The stated shares are taken as exact;
    whether that population is the right one to compare with is for a person to say. A base rate or a mean
    of true values is a fact about the past: it may carry past injustice. `missing_rate` is the
    share of a group's rows in which a feature had no value before it was encoded: whoever is asked less is
    known less.

    Source: Regulation (EU) 2024/1689, Article 10(3).

    Settings: `population` (for each sensitive feature the share of each group, in [0, 1]; for example
    `{ sex = { Female = 0.5, Male = 0.5 } }`).
    """
    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    if not len(data):
        raise NotEvaluable("the data hold 0 rows")
    _refuse_wrong(population, data)
    measures: list[Measure] = []
    for name, feature in data.sensitive.items():
        measures += _shares(data, feature, population.get(name, {}))
        measures += _base_rates(data, feature)
        measures += _mean_targets(data, feature)
        measures += _missing(data, feature)
    return Evidence(
        measures=measures,
        tables=tuple(_table(data, item, population.get(item.name, {})) for item in data.sensitive.values()),
        caveats=tuple(_caveats(data, population)),
    )


def _refuse_wrong(population: Population, data: Dataset) -> None:
    where = 'checks.settings."fairness.representation".population'
    for name, stated in population.items():
        if name not in data.sensitive:
            raise ConfigError(
                f"{where}: '{name}' is not a sensitive feature of the data{nearest(name, data.sensitive)}."
            )
        bad = [group for group, share in stated.items() if not 0 <= share <= 1]
        if bad:
            raise ConfigError(
                f"{where}.{name}: '{bad[0]}' = {stated[bad[0]]:g} is wrong; a share lies in [0, 1]."
            )
        total = math.fsum(stated.values())
        if total > 1 + _ROUNDING:
            raise ConfigError(f"{where}.{name}: the shares add up to {total:g}; they may not exceed 1.")


def _counts(data: Dataset, feature: Sensitive, stated: Mapping[str, float]) -> dict[str, int]:
    """Rows of each known group, in the data or stated."""
    from audit.dataset import UNKNOWN

    found = {name: data.counted(feature.codes == code) for code, name in enumerate(feature.groups)}
    names = [name for name in dict.fromkeys([*feature.groups, *stated]) if name != UNKNOWN]
    return {name: found.get(name, 0) for name in names}


def _shares(data: Dataset, feature: Sensitive, stated: Mapping[str, float]) -> Iterator[Measure]:
    counts = _counts(data, feature, stated)
    known = sum(counts.values())
    for group, rows in counts.items():
        who = {feature.name: group}
        yield proportion("share", rows, known, group=who, reason=f"{known} of {data.size} groups are known")
        if group in stated:
            yield measure(
                "share_difference",
                "wilson_against",
                {"x": rows, "n": known, "reference": stated[group]},
                n=known,
                group=who,
                settings={"reference": stated[group]},
                unit="difference",
                better="zero",
                reason=f"{known} of {data.size} groups are known",
            )
    yield proportion(
        "unknown_share", data.size - known, data.size, settings={"feature": feature.name}, better="lower"
    )


def _base_rates(data: Dataset, feature: Sensitive) -> Iterator[Measure]:
    """Share of the favourable outcome among the labels of each group that occurs."""
    if data.favourable is None or not data.labelled:
        return
    for code, group in enumerate(feature.groups):
        members = feature.codes == code
        if members.any():
            favourable = data.counted(members & (data.labels == data.favourable))
            people = data.counted(members)
            yield proportion("base_rate", favourable, people, group={feature.name: group})


def _mean_targets(data: Dataset, feature: Sensitive) -> Iterator[Measure]:
    """Mean of the true values of each group that occurs, where they are numbers."""
    if data.targets is None:
        return
    for code, group in enumerate(feature.groups):
        found = _statistics(data, data.targets, feature.codes == code)
        if found["n"]:
            who = {feature.name: group}
            yield measure("mean_target", "student_t", found, n=int(found["n"]), group=who, unit="")


def _statistics(data: Dataset, values: Doubles, members: Mask) -> dict[str, float]:
    """People, mean and standard deviation (n - 1) of the values of the rows marked; 0 of nobody."""
    chosen = values[members].tolist()
    people = [1] * len(chosen) if data.people is None else data.people[members].tolist()
    n = sum(people)
    centre = math.fsum(map(mul, people, chosen)) / max(n, 1)
    squares = math.fsum(times * (value - centre) ** 2 for times, value in zip(people, chosen, strict=True))
    return {"n": n, "mean": centre, "sd": math.sqrt(squares / max(n - 1, 1))}


def _missing(data: Dataset, feature: Sensitive) -> Iterator[Measure]:
    """Share of the rows of each group in which a feature had no value."""
    for name, absent in data.missing.items():
        for code, group in enumerate(feature.groups):
            members = feature.codes == code
            yield proportion(
                "missing_rate",
                data.counted(absent & members),
                data.counted(members),
                group={feature.name: group},
                settings={"feature": name},
                better="lower",
            )


def _table(data: Dataset, feature: Sensitive, stated: Mapping[str, float]) -> Table:
    rows: list[list[Cell]] = []
    for group in dict.fromkeys([*feature.groups, *stated]):
        members = feature.codes == (feature.groups.index(group) if group in feature.groups else -1)
        counted = range(len(data.classes)) if data.labelled else ()
        by_class = [data.counted(members & (data.labels == c)) for c in counted]
        rows.append([group, data.counted(members), stated.get(group), *by_class, *_average(data, members)])
    named = data.classes if data.labelled else ()
    outcome = "label" if data.targets is None else "true value"
    return Table(
        name=f"representation: {feature.name}",
        title=f"Rows by {feature.name} and {outcome}",
        columns=[
            *("group", "rows", "stated share of the population", *(f"label {c}" for c in named)),
            *(() if data.targets is None else ("mean true value",)),
        ],
        rows=rows,
        note="Shares are of the rows whose group is known.",
    )


def _average(data: Dataset, members: Mask) -> tuple[Cell, ...]:
    """The mean true value of the rows marked, as the last cell of a row; no cell where there are classes."""
    if data.targets is None:
        return ()
    found = _statistics(data, data.targets, members)
    return (found["mean"] if found["n"] else None,)


def _caveats(data: Dataset, population: Population) -> Iterator[str]:
    from audit.dataset import UNKNOWN

    for name, feature in data.sensitive.items():
        stated = population.get(name, {})
        if not stated:
            yield (
                f"By {name}, no population is stated (setting 'population'), so the shares are compared with "
                "nothing."
            )
            continue
        left = [group for group in feature.groups if group not in stated and group != UNKNOWN]
        if left:
            yield f"By {name}, the stated population has no share for {', '.join(left)}."
        people = _counts(data, feature, stated)
        absent = [group for group, found in people.items() if not found and stated.get(group)]
        if absent:
            yield f"By {name}, {', '.join(absent)} belong to the stated population and have no row."
    if data.targets is not None:
        return
    if not data.labelled:
        yield "The data hold no true outcomes ([data] target), so there are no base rates."
    elif data.favourable is None:
        yield "No outcome is named as favourable ([data] favourable), so there are no base rates."
