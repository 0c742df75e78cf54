"""Labels and decisions: the words or numbers of a column as classes of the model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.config import DataSection
from audit.dataset import Doubles, Ints
from audit.errors import LoadError, nearest
from audit.readers.raw import Mask, Raw, as_number, cell_at, coded, numbers

_MOST_INDEXED_CLASSES = 1_000
_MOST_DECISIONS = 50


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a column of predictions says, and the classes it speaks of.

    Attributes:
        classes: class names.
        favourable: index of the favourable class; None when there is none.
        decided: [N] class index of each row's decision.
        scores: [N] probability of the favourable class, in [0, 1]; None where the column holds decisions.
    """

    classes: tuple[str, ...]
    favourable: int | None
    decided: Ints
    scores: Doubles | None = None


def label_codes(
    raw: Raw, section: DataSection, classes: tuple[str, ...]
) -> tuple[Ints, tuple[str, ...], list[str]]:
    """[N] class index of each row, the class names, and caveats.

    Labels are class names, or else class indices. Where the model names no classes they are the labels in
    sorted order, or 0 to the largest where the labels are indices.

    Raises:
        LoadError: a label is missing, or is neither the name nor the index of a class.
    """
    column = raw.column(raw.target, "[data] target")
    codes, texts = coded(column)
    named = [section.label_map.get(text, text) for text in texts]
    markers = {*section.missing} - {*classes}
    absent = [text.strip() in markers and text not in section.label_map for text in texts]
    _refuse(raw, raw.target, np.array([*absent, True])[codes], "is missing; fill it or leave the row out")
    if not classes and all(re.fullmatch(r"-?\d+", _whole(text)) for text in named):
        named = [_whole(text) for text in named]
    names = classes or _derived(named)
    found = _places(named, names)
    listed = ", ".join(f"'{name}'" for name in names[:20])
    wrong = np.array([*(place is None for place in found), True])[codes]
    _refuse(
        raw,
        raw.target,
        wrong,
        f"is not among the classes {listed}; [data.label_map] maps a label to the name of its class",
    )
    indexed = not classes and names == tuple(map(str, range(len(names))))
    notes = (
        []
        if classes or indexed
        else [f"The model names no classes, so its outputs are taken to be {listed}."]
    )
    return np.array(found, dtype=np.int64)[codes], names, notes


def target_values(raw: Raw, section: DataSection) -> Doubles:
    """[N] true value of each row of a regression, as it stands.

    Raises:
        LoadError: a value is missing or is not a finite number, or `[data]` speaks of classes.
    """
    for key in ("favourable", "label_map"):
        if getattr(section, key):
            raise LoadError(f"[data] {key} speaks of classes, and the task is regression; leave it out.")
    column = raw.column(raw.target, "[data] target")
    codes, texts = coded(column)
    absent = [text.strip() in section.missing for text in texts]
    complaint = "is missing; fill it or leave the row out"
    _refuse(raw, raw.target, np.array([*absent, True])[codes], complaint, "target")
    values = numbers(column)
    complaint = "is not a finite number, as a regression needs"
    _refuse(raw, raw.target, ~np.isfinite(values), complaint, "target")
    return values


def _refuse(raw: Raw, column: str, rows: Mask, complaint: str, what: str = "label") -> None:
    if rows.any():
        row, text = cell_at(raw.table[column], rows)
        count = f"{int(rows.sum())} of {len(rows)} {raw.unit}"
        raise LoadError(f"{raw.path}: column '{column}', row {row}: {what} {text} {complaint} ({count}).")


def _derived(named: Sequence[str]) -> tuple[str, ...]:
    """Class names from labels: in order of number where all are whole numbers, else of the alphabet."""
    distinct = set(named)
    if not all(re.fullmatch(r"-?\d+", text) for text in distinct):
        return tuple(sorted(distinct))
    ordered = sorted(distinct, key=int)
    # with a 0 among them they are indices, and a class without a row must not shift the others
    if ordered[0] == "0" and int(ordered[-1]) < _MOST_INDEXED_CLASSES:
        return tuple(map(str, range(int(ordered[-1]) + 1)))
    return tuple(ordered)


def _places(named: Sequence[str], classes: tuple[str, ...]) -> list[int | None]:
    """Class index of each label: all by name, or, where none is a name, all by index."""
    by_name = {name: index for index, name in enumerate(classes)}
    found = [by_name.get(text) for text in named]
    if any(place is not None for place in found):
        return found
    numbers = [int(text) if re.fullmatch(r"\d+", text) else len(classes) for text in map(_whole, named)]
    return [number if number < len(classes) else None for number in numbers]


def _whole(text: str) -> str:
    """A whole number that was written as 1.0, as 1; other text as it is."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text.strip())


def favourable_class(section: DataSection, classes: tuple[str, ...]) -> int | None:
    """Index of the class that `[data] favourable` names; of two classes it is the second unless named.

    Raises:
        LoadError: it names none of the classes.
    """
    if section.favourable is None:
        return 1 if len(classes) == 2 else None  # noqa: PLR2004 - the second of two is the positive one
    if section.favourable not in classes:
        hint = nearest(section.favourable, classes)
        raise LoadError(f"[data] favourable = '{section.favourable}' is not a class{hint}.")
    return classes.index(section.favourable)


def read_decisions(
    raw: Raw, column: str, section: DataSection, classes: tuple[str, ...], threshold: float
) -> Decisions:
    """A column of predictions: decisions (names or indices of classes), or scores of the favourable class.

    A score at or above the threshold decides for the favourable class. Without class names, words and whole
    numbers are decisions and name the classes themselves; other numbers are scores.

    Args:
        raw: the rows.
        column: the column of predictions.
        section: the `[data]` of an audit.toml.
        classes: class names; from the column when empty.
        threshold: the score that is enough for the favourable class.

    Raises:
        LoadError: a prediction is missing, is no class and no score, or there are not two classes to score.
    """
    codes, texts = coded(raw.column(column, "[model] predictions"))
    absent = [text.strip() in {*section.missing} - {*classes, *section.label_map} for text in texts]
    _refuse(raw, column, np.array([*absent, True])[codes], "is missing; leave the row out", "prediction")
    named = [section.label_map.get(text, text) for text in texts]
    numbers = np.array([as_number(text) for text in named])
    if not classes:
        classes = _stated_classes(raw, column, named, section.favourable)
    places = _places(named, classes)
    favourable = favourable_class(section, classes)
    if all(place is not None for place in places):
        return Decisions(classes=classes, favourable=favourable, decided=_ints(places)[codes])
    _refuse_unfit(raw, column, codes, places, numbers, classes)
    if len(classes) != 2 or favourable is None:  # noqa: PLR2004 - a score is of one of two
        raise LoadError(
            f"{raw.path}: column '{column}' holds scores, which need two classes; "
            f"these are {_listed(classes)}."
        )
    scores = numbers[codes]
    decided = np.where(scores >= threshold, favourable, 1 - favourable).astype(np.int64)
    return Decisions(classes=classes, favourable=favourable, decided=decided, scores=scores)


def _refuse_unfit(
    raw: Raw,
    column: str,
    codes: Ints,
    places: Sequence[int | None],
    numbers: Doubles,
    classes: tuple[str, ...],
) -> None:
    """Refuse what is neither a class nor a score; then, as not all are classes, what is no score."""
    complaint = f"is neither one of the classes {_listed(classes)} nor a score from 0 to 1"
    score = (numbers >= 0) & (numbers <= 1)
    strange = np.array([place is None for place in places], dtype=np.bool_) & ~score
    for unfit in (strange, ~score):
        _refuse(raw, column, np.array([*unfit, True])[codes], complaint, "prediction")


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in classes[:20])


def _ints(places: Sequence[int | None]) -> Ints:
    return np.array(places, dtype=np.int64)


def _stated_classes(raw: Raw, column: str, named: Sequence[str], favourable: str | None) -> tuple[str, ...]:
    """Class names from the predictions alone."""
    numbers = [as_number(text) for text in named]
    if any(number != round(number) for number in numbers if np.isfinite(number)):
        return ("0", "1") if favourable is None else (f"not {favourable}", favourable)
    whole = [_whole(text) for text in named]
    if len(set(whole)) > _MOST_DECISIONS:
        raise LoadError(
            f"{raw.path}: column '{column}' holds {len(set(whole))} different predictions (such as "
            f"'{named[0]}'); a decision is the name of a class, and a score lies between 0 and 1."
        )
    return _derived([*whole, *([] if favourable is None else [favourable])])
