"""fairness.counterfactual: what the model says when only the sensitive feature is another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from audit.check import check
from audit.errors import NotApplicable
from audit.evidence import Altered, Cell, Evidence, Measure, Table, Turned
from audit.stats import proportion

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from audit.dataset import Dataset, Feature, Floats, Ints, Sensitive
    from audit.model import Model
    from audit.products.predictions import Predictions

    Flags = npt.NDArray[np.bool_]

_TURNED: dict[str, Turned] = {
    "decision_change_rate": "other",
    "favourable_lost_rate": "lost",
    "favourable_gained_rate": "gained",
}


@dataclass(frozen=True)
class _Flips:
    """What happened when one attribute was set to another group.

    Attributes:
        attribute: name of the sensitive feature.
        groups: the groups that the model's input can hold.
        state: [N] index into `groups` of each row; -1 for rows that hold none of them.
        before: [N] class given to the row as it is.
        after: [N, S] class given with the attribute set to each group.
        usable: [N] whether every score of the row was a finite number, before and after.
        columns: columns of the flat input that the attribute owns.
        patterns: S values of these columns, one for each group.
    """

    attribute: str
    groups: tuple[str, ...]
    state: Ints
    before: Ints
    after: Ints
    usable: Flags
    columns: tuple[int, ...]
    patterns: tuple[Floats, ...]

    def members(self, group: int) -> Flags:
        found: Flags = (self.state == group) & self.usable
        return found

    def others(self, group: int) -> list[int]:
        return [g for g in range(len(self.groups)) if g != group]


@check(
    "fairness.counterfactual",
    modality={"tabular"},
    measures={"decision_change_rate", "favourable_lost_rate", "favourable_gained_rate"},
)
def counterfactual(model: Model, data: Dataset, predictions: Predictions) -> Evidence:
    """Decisions when only the sensitive feature changes.

    Sets the sensitive feature of every person to each other group, leaves everything else as it is, and
    asks the model again. `decision_change_rate` is the share of people whose decision changes;
    `favourable_lost_rate` and `favourable_gained_rate` are the shares who lose and gain the favourable
    outcome by the change alone. For each group and each group it is set to, and for all people together,
    where a change in any of the flips counts.

    It answers whether the model uses the feature itself. It applies only where the feature is an input of
    the model, with one value or one-hot pattern for each group. A model that does not see the feature, or
    changes no decision here, may still reach the same effect through other columns (see the check of
    proxies), because in life the other columns would change too: this is not counterfactual fairness in
    the causal sense of Kusner et al. (2017, arXiv:1703.06856), which needs a causal model. Some flips make
    people who could not exist. Source: the flip test as in Black, Yeom and Fredrikson (2020,
    arXiv:1906.09218), without their transport.
    """
    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    done: list[_Flips] = []
    reasons: list[str] = []
    for attribute in data.sensitive.values():
        patterns, state, reason = _patterns(data, attribute)
        if reason:
            reasons.append(reason)
        else:
            done.append(_flip(model, data, predictions, attribute.name, patterns, state))
    if not done:
        raise NotApplicable("; ".join(reasons))
    measures = [item for flips in done for item in _measures(flips, data.favourable)]
    return Evidence(
        measures=measures,
        tables=tuple(_table(flips, data) for flips in done),
        caveats=(*_caveats(done, data), *(f"Not flipped: {reason}." for reason in reasons)),
        altered=partial(_altered, done, data),
    )


def _patterns(data: Dataset, attribute: Sensitive) -> tuple[dict[str, Floats], Ints, str]:
    """The columns' values of each group, [N] which of them a row holds, and why there are none.

    A value that is shared by several groups, or by rows of unknown group alone, stands for none.
    """
    import numpy as np

    from audit.dataset import UNKNOWN

    state = np.full(len(data), -1, dtype=np.int64)
    feature = next((item for item in data.features if item.name == attribute.name), None)
    if feature is None or not feature.columns:
        return {}, state, f"'{attribute.name}' is not the name of an input feature of the model"
    values, place = np.unique(_columns(data, feature), axis=0, return_inverse=True)
    patterns: dict[str, Floats] = {}
    several = f"'{attribute.name}' is an input with {len(values)} values that do not stand for one group each"
    for index, value in enumerate(values):
        members = place.reshape(-1) == index
        names = {attribute.groups[code] for code in np.unique(attribute.codes[members])} - {UNKNOWN}
        if len(names) > 1 or names & set(patterns):
            return {}, state, several
        for name in names:
            state[members] = len(patterns)
            patterns[name] = value
    if len(patterns) < 2:  # noqa: PLR2004 - a flip needs another group
        return {}, state, f"the input '{attribute.name}' holds fewer than two known groups in the data"
    return patterns, state, ""


def _columns(data: Dataset, feature: Feature) -> Floats:
    """[N, columns] of the input that the feature owns."""
    columns: Floats = data.inputs.reshape(len(data), -1)[:, list(feature.columns)]
    return columns


def _flip(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    name: str,
    patterns: dict[str, Floats],
    state: Ints,
) -> _Flips:
    """Ask the model once for each group that the attribute can be set to."""
    import numpy as np

    columns = next(item for item in data.features if item.name == name).columns
    after = np.empty((len(data), len(patterns)), dtype=np.int64)
    usable = predictions.finite.copy()
    for index, pattern in enumerate(patterns.values()):
        scores = model.predict(_set_to(data.inputs, columns, pattern)).numpy()
        after[:, index] = scores.argmax(axis=1)
        usable &= np.isfinite(scores).all(axis=1)
    values = tuple(patterns.values())
    return _Flips(name, tuple(patterns), state, predictions.predicted, after, usable, columns, values)


def _set_to(inputs: Floats, columns: tuple[int, ...], pattern: Floats) -> Floats:
    """Copies of inputs [n, ...] whose columns hold the pattern."""
    made = inputs.reshape(len(inputs), -1).copy()
    made[:, list(columns)] = pattern
    return made.reshape(inputs.shape)


def _altered(done: list[_Flips], data: Dataset, item: Measure) -> Iterator[Altered]:
    """The flips behind a number, with the people whose decision each one turns."""
    turned = _TURNED[item.name]
    for flips in done:
        for place, group in enumerate(flips.groups):
            case = {"attribute": flips.attribute, "to": group}
            if item.settings.items() <= case.items():
                fell = flips.usable & (flips.state >= 0) & _turns(flips, place, turned, data.favourable)
                yield Altered(
                    words=f"{flips.attribute} set to {group}",
                    rows=fell.nonzero()[0],
                    make=partial(_flipped, data, flips.columns, flips.patterns[place]),
                    turned=turned,
                )


def _turns(flips: _Flips, place: int, turned: Turned, favourable: int | None) -> Flags:
    """[N] whether the flip turns the decision in this way."""
    after = flips.after[:, place]
    had, has = flips.before == favourable, after == favourable
    ways: dict[Turned, Flags] = {"other": flips.before != after, "lost": had & ~has, "gained": ~had & has}
    return ways[turned]


def _flipped(data: Dataset, columns: tuple[int, ...], pattern: Floats, rows: Ints) -> Floats:
    return _set_to(data.inputs[rows], columns, pattern)


def _measures(flips: _Flips, favourable: int | None) -> Iterator[Measure]:
    """Each group set to each other one, then all people under any flip."""
    for group in range(len(flips.groups)):
        members = flips.members(group)
        for other in flips.others(group):
            settings = {"attribute": flips.attribute, "to": flips.groups[other]}
            common = {"group": {flips.attribute: flips.groups[group]}, "settings": settings}
            yield from _rates(flips, members, [other], favourable, common)
    everyone = (flips.state >= 0) & flips.usable
    common = {"settings": {"attribute": flips.attribute}}
    yield from _rates(flips, everyone, list(range(len(flips.groups))), favourable, common)


def _rates(
    flips: _Flips, members: Flags, targets: list[int], favourable: int | None, common: dict[str, Any]
) -> Iterator[Measure]:
    counts = _changes(flips, members, targets, favourable)
    rows = int(members.sum())
    for name, count in zip(
        ("decision_change_rate", "favourable_lost_rate", "favourable_gained_rate"), counts, strict=False
    ):
        yield proportion(name, count, rows, better="lower", **common)


def _changes(flips: _Flips, members: Flags, targets: list[int], favourable: int | None) -> list[int]:
    """Rows whose class changes in any flip; who lose and who gain the favourable one, where it is named."""
    before, after = flips.before[members][:, None], flips.after[members][:, targets]
    counts = [int((after != before).any(axis=1).sum())]
    if favourable is not None:
        had, has = before == favourable, after == favourable
        counts += [int((had & ~has).any(axis=1).sum()), int((~had & has).any(axis=1).sum())]
    return counts


def _table(flips: _Flips, data: Dataset) -> Table:
    rows: list[list[Cell]] = []
    for group in range(len(flips.groups)):
        members = flips.members(group)
        for other in flips.others(group):
            counts = _changes(flips, members, [other], data.favourable)
            rows.append([flips.groups[group], flips.groups[other], int(members.sum()), *counts])
    columns = ["from", "to", "rows", "decisions that change"]
    if data.favourable is not None:
        columns += ["favourable lost", "favourable gained"]
    return Table(
        name=f"flips: {flips.attribute}",
        title=f"Decisions that change when only {flips.attribute} is another",
        columns=columns,
        rows=rows,
    )


def _caveats(done: list[_Flips], data: Dataset) -> Iterator[str]:
    for flips in done:
        left, broken = int((flips.state < 0).sum()), int((~flips.usable).sum())
        if left:
            yield (
                f"{left} of {len(data)} rows hold a value of '{flips.attribute}' that stands for no known "
                "group; they are not flipped."
            )
        if broken:
            yield f"{broken} of {len(data)} rows gave scores that are not finite numbers and are left out."
    if data.favourable is None:
        yield "No outcome is named as favourable ([data] favourable), so changes have no direction."
