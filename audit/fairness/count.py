"""Count: the rows of an audit as cells and strata, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit.dataset import Dataset, Ints, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.fairness.cells import Cells, one_against_rest
from audit.fairness.controls import Strata
from audit.groups import Grouping, count_groupings, count_table, cross

MOST_CLASSES = 20


@dataclass(frozen=True)
class Outcomes:
    """Labels and decisions reduced to the classes that are looked at; the last code is every other class.

    Attributes:
        names: [K] the classes set against the rest.
        labels: [N] in 0..K.
        predicted: [N] in 0..K.
        favourable: whether the one class is the favourable outcome, which needs no name in the measures.
        left_out: classes that occur and are not looked at.
        labelled: whether `labels` are known; they are all K where they are not.
    """

    names: tuple[str, ...]
    labels: Ints
    predicted: Ints
    favourable: bool
    left_out: int
    labelled: bool

    def settings(self, place: int) -> Mapping[str, str]:
        """What the measures of one class carry as settings."""
        return {} if self.favourable else {"class": self.names[place]}


def outcomes(data: Dataset, predicted: Ints, classes: Sequence[str]) -> Outcomes:
    """The classes to look at: those named, else the favourable one, else the most frequent.

    Args:
        data: labels, class names and the favourable class.
        predicted: [N] predicted class.
        classes: names of classes to set against the rest; may be empty.

    Raises:
        NotApplicable: two classes, and none is named or favourable.
        NotEvaluable: there is nobody in the data.
        ConfigError: a class that does not exist is named.
    """
    if not data.size:
        raise NotEvaluable("the data hold 0 people")
    labelled = data.labelled
    labels = data.labels if labelled else predicted
    size = max(len(data.classes), int(labels.max()) + 1, int(predicted.max()) + 1)
    names = [data.classes[i] if i < len(data.classes) else f"output {i}" for i in range(size)]
    found, favourable = _looked_at(data, labels, names, classes)
    slots = np.full(size, len(found), dtype=np.int64)
    slots[found] = np.arange(len(found))
    return Outcomes(
        names=tuple(names[i] for i in found),
        labels=slots[labels] if labelled else np.full(len(predicted), len(found), dtype=np.int64),
        predicted=slots[predicted],
        favourable=favourable,
        left_out=0 if favourable else size - len(found),
        labelled=labelled,
    )


def _looked_at(
    data: Dataset, labels: Ints, names: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], bool]:
    """Indices of the classes to look at, and whether it is the favourable one alone."""
    for name in classes:
        if name not in names:
            raise ConfigError(
                f"the setting 'classes' names '{name}', which is no class{nearest(name, names)}"
            )
    if classes:
        return sorted({names.index(name) for name in classes}), False
    if data.favourable is not None:
        return [data.favourable], True
    if len(names) <= 2:  # noqa: PLR2004 - of two classes, one against the rest says the same thing twice
        raise NotApplicable("no outcome is named as favourable; set [data] favourable to one of the classes")
    people = count_table((labels,), (len(names),), data.people)
    frequent = np.argsort(-people, kind="stable")[:MOST_CLASSES]
    return sorted(int(i) for i in frequent), False


def count(
    data: Dataset, found: Outcomes, depth: int, floor: int, device: str | None = None
) -> list[list[Cells]]:
    """The cells of every grouping, and within a grouping of every class looked at.

    Args:
        data: its sensitive features make the groups.
        found: the outcomes to count.
        depth: most features in one combination.
        floor: groups with fewer rows are not compared.
        device: where to count, as torch names it; None for here.
    """
    tables = count_groupings(data, depth, found.labels, found.predicted, len(found.names) + 1, device)
    return [_cells(grouping, table, found, floor) for grouping, table in tables]


def _cells(grouping: Grouping, table: Ints, found: Outcomes, floor: int) -> list[Cells]:
    return [
        Cells(
            grouping.name,
            grouping.groups,
            one_against_rest(table, place),
            floor,
            found.settings(place),
            found.labelled,
        )
        for place in range(len(found.names))
    ]


def control_features(data: Dataset, control: Sequence[str]) -> list[Sensitive]:
    """The features that a setting `control` names: sensitive ones or controls of the data.

    Raises:
        ConfigError: one of them is neither.
    """
    known = {**data.sensitive, **data.controls}
    for name in control:
        if name not in known:
            raise ConfigError(
                f"the setting 'control' names '{name}', which is neither a sensitive feature nor a control "
                f"of the data{nearest(name, known)}"
            )
    return [known[name] for name in control]


def count_strata(
    data: Dataset,
    found: Outcomes,
    cells: Sequence[Sequence[Cells]],
    control: Sequence[str],
    device: str | None = None,
) -> list[list[Strata]]:
    """The decisions of every grouping within the strata of the controls, class by class.

    A grouping that contains a control is left out: within a stratum there is nothing to compare.

    Args:
        data: sensitive features and controls.
        found: the outcomes to count.
        cells: what `count` returned.
        control: names of the features to hold constant, together.
        device: where to count, as torch names it; None for here.
    """
    features = control_features(data, control)
    if not features:
        return []
    strata = cross(features)
    result = []
    for items in cells:
        names = tuple(items[0].groups[0])
        if set(names) & set(control):
            continue
        grouping = cross([data.sensitive[name] for name in names])
        sizes = (len(grouping.groups), len(strata.groups), len(found.names) + 1)
        columns = (grouping.codes, strata.codes, found.predicted)
        table = count_table(columns, sizes, data.people, device)
        rows = table.sum(axis=2)
        result.append(
            [
                Strata(item, strata.name, strata.groups, table[:, :, place], rows)
                for place, item in enumerate(items)
            ]
        )
    return result
