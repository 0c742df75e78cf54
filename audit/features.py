"""Columns that are numeric already, as model inputs, and what `[data.features]` says of each.

A value that a model cannot take is an error that names the file, the column, the row and the value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audit.config import DataSection, FeatureSection
from audit.dataset import Feature, Floats, Relation
from audit.errors import LoadError, nearest
from audit.readers.raw import Doubles, Mask, Raw, cell_at, missing_rows, numbers

_LARGEST = float(np.finfo(np.float32).max)
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Model inputs and what they mean.

    Attributes:
        inputs: [N, ...] float32, as the model takes them.
        features: what each column of a flat input row means; empty for images.
        caveats: sentences a reader must know.
        facts: JSON values for the record, e.g. the encoder's file.
    """

    inputs: Floats
    features: tuple[Feature, ...] = ()
    caveats: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def numeric_inputs(raw: Raw, section: DataSection) -> Encoded:
    """The named columns of a table as [N, D] inputs; without names, all that can be inputs.

    Raises:
        LoadError: a column is absent, holds a missing value or no number, or breaks its description.
    """
    names = section.inputs or default_columns(raw, section)
    if not names:
        raise LoadError(f"{raw.path} has no column of inputs beside its labels; [data] inputs names them.")
    matrix = np.empty((len(raw.table), len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        matrix[:, index] = _numeric_cells(raw, name, section)
    return Encoded(inputs=matrix, features=described(raw, section, names, matrix))


def default_columns(raw: Raw, section: DataSection) -> tuple[str, ...]:
    """Every column but label, counts, those of `where`, and sensitive or control ones that hold words."""
    left_out = {raw.target, section.count, *section.where}
    grouped = {*section.sensitive, *section.control}
    names = [str(name) for name in raw.table.columns if name not in left_out]
    return tuple(n for n in names if n not in grouped or not _holds_words(raw, n, section))


def _holds_words(raw: Raw, name: str, section: DataSection) -> bool:
    column = raw.column(name, "[data] sensitive")
    return bool(np.any(np.isnan(numbers(column)) & ~missing_rows(column, section.missing)))


def _numeric_cells(raw: Raw, name: str, section: DataSection) -> Doubles:
    column = raw.column(name, "[data] inputs")
    absent = missing_rows(column, section.missing)
    if absent.any():
        raise LoadError(missing_sentence(raw, name, absent))
    return checked_numbers(raw, name, absent, "[data] encoder or one-hot columns turn words into numbers")


def missing_sentence(raw: Raw, name: str, absent: Mask) -> str:
    """The sentence on the missing values of an input column."""
    row, text = cell_at(raw.table[name], absent)
    return (
        f"{raw.path}: input column '{name}', row {row} holds {text}, a missing value "
        f"({int(absent.sum())} of {len(absent)} rows); fill or leave out these rows, or give an "
        "encoder that imputes them."
    )


def checked_numbers(raw: Raw, name: str, absent: Mask, hint: str) -> Doubles:
    """[N] a column as numbers, NaN where `absent`.

    Raises:
        LoadError: a cell is no number, or not a finite one in single precision.
    """
    column = raw.table[name]
    values = numbers(column)
    bad = ~(np.abs(values) <= _LARGEST) & ~absent
    if bad.any():
        row, text = cell_at(column, bad)
        wrong = "which is not a number" if np.isnan(values[bad][0]) else "which is not a finite float32"
        raise LoadError(f"{raw.path}: input column '{name}', row {row} holds {text}, {wrong}; {hint}.")
    values[absent] = np.nan
    return values


def described(raw: Raw, section: DataSection, names: Sequence[str], matrix: Floats) -> tuple[Feature, ...]:
    """The features of [N, D] inputs whose columns are `names`, as `[data.features]` describes them.

    A column that is not described is a numeric feature of its own.

    Raises:
        LoadError: a description names no column or one of another feature, or a value breaks it.
    """
    position = {name: index for index, name in enumerate(names)}
    owner: dict[str, str] = {}
    for name, told in section.features.items():
        for column in told.columns or (name,):
            _claim(raw, owner, name, column, position)
    features: dict[str, Feature] = {}
    for column in names:
        name = owner.get(column, column)
        if name not in features:
            told = section.features[name] if column in owner else FeatureSection()
            features[name] = _feature(name, told, position)
            _check(raw, features[name], matrix, names)
    return tuple(features.values())


def _claim(raw: Raw, owner: dict[str, str], name: str, column: str, position: Mapping[str, int]) -> None:
    place = f'[data.features."{name}"]'
    if column not in position:
        hint = nearest(column, position)
        raise LoadError(f"{place}: '{column}' is not an input column of {raw.path}{hint}.")
    if column in owner:
        raise LoadError(f"{place}: column '{column}' is already part of '{owner[column]}'; name it once.")
    owner[column] = name


def _feature(name: str, told: FeatureSection, position: Mapping[str, int]) -> Feature:
    columns = told.columns or (name,)
    if told.kind != "categorical" and len(columns) > 1:
        raise LoadError(
            f'[data.features."{name}"]: {len(columns)} columns for a {told.kind} feature; '
            "only a categorical one has several."
        )
    low, high = told.range or (None, None)
    return Feature(
        name=name,
        kind=told.kind,
        columns=tuple(position[column] for column in columns),
        categories=columns if told.kind == "categorical" else (),
        low=low,
        high=high,
        immutable=told.immutable,
        direction=told.direction,
        step=told.step,
        cost=told.cost,
        dropped=told.dropped,
    )


def _check(raw: Raw, feature: Feature, matrix: Floats, names: Sequence[str]) -> None:
    for index in feature.columns:
        check_bounds(raw, names[index], matrix[:, index], feature.low, feature.high)
    if feature.kind != "categorical":
        return
    block = matrix[:, list(feature.columns)]
    for index, cells in zip(feature.columns, block.T, strict=True):
        bad = (cells != 0) & (cells != 1)
        if bad.any():
            row = int(np.argmax(bad))
            raise LoadError(
                f"{raw.path}: column '{names[index]}', row {raw.table.index[row]} holds {cells[row]:g}, but "
                f"'{feature.name}' is categorical, so it must be 0 or 1; kind = 'ordinal' is for codes."
            )
    doubled = block.sum(axis=1) > 1
    if doubled.any():
        row = int(np.argmax(doubled))
        set_columns = ", ".join(f"'{names[i]}'" for i in feature.columns if matrix[row, i] == 1)
        raise LoadError(
            f"{raw.path}: row {raw.table.index[row]} holds 1 in the columns {set_columns}, but "
            f"'{feature.name}' is one categorical feature, so at most one may be 1."
        )


def check_bounds(raw: Raw, name: str, cells: Any, low: float | None, high: float | None) -> None:
    """One sentence where a value of a column lies outside its stated range.

    Raises:
        LoadError: a value does.
    """
    if low is None or high is None:
        return
    bad = (cells < cells.dtype.type(low)) | (cells > cells.dtype.type(high))
    if bad.any():
        row = int(np.argmax(bad))
        raise LoadError(
            f"{raw.path}: column '{name}', row {raw.table.index[row]} holds {cells[row]:g}, outside its "
            f"range [{low:g}, {high:g}]; the column runs from {np.nanmin(cells):g} to {np.nanmax(cells):g}."
        )


def stated_relations(
    raw: Raw, section: DataSection, features: Sequence[Feature], matrix: Floats
) -> tuple[Relation, ...]:
    """The `[[data.relations]]`, each of which every row of the [N, D] inputs keeps.

    Raises:
        LoadError: a relation names no feature, or one that is not a number or that its encoder does not
            keep in proportion, or a row breaks it.
    """
    by_name = {feature.name: feature for feature in features}
    found = []
    for told in section.relations:
        for name in told.terms:
            _check_term(raw, name, by_name)
        relation = Relation(
            terms=tuple(told.terms.items()),
            low=told.at_least if told.equals is None else told.equals,
            high=told.at_most if told.equals is None else told.equals,
        )
        _check_relation(raw, relation, by_name, matrix)
        found.append(relation)
    return tuple(found)


def _check_term(raw: Raw, name: str, by_name: Mapping[str, Feature]) -> None:
    if name not in by_name:
        raise LoadError(
            f"[[data.relations]]: '{name}' is not a feature of {raw.path}{nearest(name, by_name)}."
        )
    feature = by_name[name]
    if feature.kind == "categorical" or len(feature.columns) != 1:
        raise LoadError(
            f"[[data.relations]]: '{name}' is {feature.kind} and has {len(feature.columns)} input columns; a "
            "relation adds up numbers of one column each."
        )
    if feature.unit is None:
        raise LoadError(
            f"[[data.relations]]: the encoder does not keep the proportions of '{name}', so a sum in its "
            "units cannot be kept; leave it out or scale it by a StandardScaler or MinMaxScaler."
        )


def _check_relation(raw: Raw, relation: Relation, by_name: Mapping[str, Feature], matrix: Floats) -> None:
    total = np.zeros(len(matrix))
    size = np.zeros(len(matrix))
    for name, factor in relation.terms:
        feature = by_name[name]
        moved = matrix[:, feature.columns[0]].astype(np.float64) * (feature.unit or 1.0)
        total += factor * (feature.zero + moved)
        size += abs(factor) * (abs(feature.zero) + np.abs(moved))
    slack = _ROUNDING * size
    low = -np.inf if relation.low is None else relation.low
    high = np.inf if relation.high is None else relation.high
    bad = (total < low - slack) | (total > high + slack)
    if bad.any():
        row = int(np.argmax(bad))
        raise LoadError(
            f"{raw.path}: row {raw.table.index[row]} breaks the relation {relation.text}: its sum is "
            f"{total[row]:g} ({int(bad.sum())} of {len(bad)} rows); [[data.relations]] holds what is true of "
            "every row."
        )
