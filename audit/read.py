"""Read data: a file, by a reader found through `audit.readers`, becomes a `Dataset` or one clear sentence."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from audit.config import DataSection
from audit.dataset import UNKNOWN, Dataset, Feature, Ints, Modality, Sensitive
from audit.encode import encoded_inputs
from audit.errors import ConfigError, LoadError, nearest
from audit.evidence import Scalar
from audit.features import Encoded, described, numeric_inputs, stated_relations
from audit.labels import favourable_class, label_codes, read_decisions, target_values
from audit.pixels import as_images
from audit.plainfile import plain_file
from audit.readers.combinations import read_combinations
from audit.readers.raw import (
    Array,
    Mask,
    Raw,
    as_number,
    as_text,
    cell_at,
    coded,
    digest,
    missing_rows,
    numbers,
)
from audit.registry import installed_functions

InputRange = tuple[float, float] | None
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_MOST_NUMERIC_GROUPS = 50
_MOST_PERSONS = 2**53 - 1
_SAMPLE_SEED = 0
_IMAGE_AXES = 4
_SERIES_AXES = 3


def load_data(
    section: DataSection,
    folder: Path,
    *,
    classes: tuple[str, ...] = (),
    input_range: InputRange = None,
    predictions: str | None = None,
    threshold: float = 0.5,
    task: Literal["classification", "regression"] = "classification",
) -> Dataset:
    """Read the inputs, labels and sensitive features that `[data]` describes.

    Args:
        section: the `[data]` of an audit.toml.
        folder: where its relative paths start.
        classes: class names in the order of the model's outputs; from the sorted labels when empty.
        input_range: smallest and largest raw input value; 8-bit images are scaled to it, else to [0, 1].
        predictions: the column of decisions or scores that stands for the model. With it the table need
            hold no labels and no inputs.
        threshold: the score from which on a row is decided for the favourable class.
        task: for `regression` the target is read as numbers, and there are no classes.

    Raises:
        LoadError: a file cannot be read, or a value in it is missing, unknown or out of range; the sentence
            names the file, the column, the row and the value. Rows are counted from 1.
        ConfigError: two packages bring a reader of the same name, or a key does not go with stream.
    """
    section = _absolute(section, folder)
    if section.stream:
        section, reader, whole = _added_up(section, predictions, threshold)
    else:
        reader, whole = read_raw(_with_target(section, predictions))
    kept = _matching(whole, section)
    matched = _rows(whole, kept)
    if task == "regression":
        answers = _Answers((), None, {"targets": target_values(matched, section)})
    else:
        answers = _answers(matched, section, classes, predictions, threshold)
    counted = people_of(matched, section.count)
    chosen, people = _drawn(counted, section.rows)
    source = _source(section, reader, whole, kept, counted, people)
    if predictions is not None:
        source |= {
            "target": section.target,
            "predictions": _prediction_facts(predictions, threshold, answers),
        }
    encoded, fields = _features(whole, section, kept[chosen], input_range, bare=predictions is not None)
    fields |= _of_rows(answers, section, chosen, people)
    groups = [*fields["sensitive"].values(), *fields["controls"].values()]
    unknown = [_unknown_caveat(item, people) for item in groups]
    data = Dataset(
        **fields,
        classes=answers.classes,
        favourable=answers.favourable,
        source={**source, **encoded.facts},
        caveats=(*answers.notes, *_side_caveats(section, answers), *encoded.caveats, *filter(None, unknown)),
    )
    # not `replace`: it reads every field, and the labels may not be there
    return Dataset(**{**vars(data), "fingerprint": fingerprint(data)})


def _of_rows(answers: "_Answers", section: DataSection, chosen: Ints, people: Ints) -> dict[str, Array]:
    """Answers of the chosen rows, and how many people each of them is where rows are counted."""
    found = {name: _frozen(column[chosen]) for name, column in answers.columns.items()}
    if section.stream:
        found.pop("scores", None)  # each stands for all scores on its side of the threshold
    return found if section.count is None else {**found, "people": _frozen(people)}


def _side_caveats(section: DataSection, answers: "_Answers") -> Iterator[str]:
    if section.stream and "scores" in answers.columns:
        yield (
            "The file was streamed: its scores were compared with the threshold as they were read and are "
            "not kept, so no check that needs a score can answer."
        )


def _features(
    whole: Raw, section: DataSection, used: Ints, input_range: InputRange, *, bare: bool
) -> tuple[Encoded, dict[str, Any]]:
    """What was encoded, and the fields of the data set that describe the used rows but not their classes.

    Args:
        whole: all rows of the file.
        section: the `[data]`.
        used: positions of the rows that are audited.
        input_range: of the model.
        bare: whether the rows may go without inputs.
    """
    raw = _rows(whole, used)
    if bare and not section.inputs and section.encoder is None:
        nothing = np.zeros((len(used), 0), dtype=np.float32)
        encoded, modality = Encoded(inputs=nothing), "tabular"
    else:
        encoded, modality = _inputs(raw, section, used, input_range)
    return encoded, {
        "inputs": _frozen(encoded.inputs),
        "modality": modality,
        "features": encoded.features,
        "relations": stated_relations(raw, section, encoded.features, encoded.inputs),
        "missing": _missing(raw, encoded, section),
        "sensitive": {name: groups_of(raw, name, section) for name in section.sensitive},
        "controls": {name: groups_of(raw, name, section, "control") for name in section.control},
    }


def _missing(raw: Raw, encoded: Encoded, section: DataSection) -> dict[str, Mask]:
    """Where a feature had no value before an encoder filled it or made a category of it."""
    columns = [item.name for item in encoded.features if item.name in raw.table.columns]
    found = {name: missing_rows(raw.table[name], section.missing) for name in columns}
    return {name: _frozen(absent) for name, absent in found.items() if absent.any()}


@dataclass(frozen=True)
class _Answers:
    """Classes, and the columns of labels, targets, decisions and scores of the table; each is [N]."""

    classes: tuple[str, ...]
    favourable: int | None
    columns: Mapping[str, Array]
    notes: Sequence[str] = ()


def _with_target(section: DataSection, predictions: str | None) -> DataSection:
    """A reader insists on a target; where outcomes are not known it reads the predictions in their place."""
    if predictions is None or section.target is not None:
        return section
    return section.model_copy(update={"target": predictions})


def _assumed(name: str) -> str:
    return (
        f"Nobody named the outcome that is good for a person: '{name}', the second of two classes, was "
        "taken for it. Set [data] favourable if that is wrong."
    )


def _answers(
    raw: Raw, section: DataSection, classes: tuple[str, ...], predictions: str | None, threshold: float
) -> _Answers:
    if predictions is None:
        labels, names, notes = label_codes(raw, section, classes)
        favourable = favourable_class(section, names)
        if section.favourable is None and favourable is not None and section.sensitive:
            notes = [*notes, _assumed(names[favourable])]
        return _Answers(names, favourable, {"labels": labels}, notes)
    if raw.inputs is not None:
        raise LoadError(f"{raw.path} holds arrays; [model] predictions names a column of a table.")
    columns: dict[str, Array] = {}
    if section.target is not None:
        columns["labels"], classes, _ = label_codes(raw, section, classes)
    found = read_decisions(raw, predictions, section, classes, threshold)
    columns["decisions"] = found.decided
    if found.scores is not None:
        columns["scores"] = found.scores
    return _Answers(found.classes, found.favourable, columns)


def _prediction_facts(column: str, threshold: float, answers: _Answers) -> dict[str, Any]:
    scored = "scores" in answers.columns
    return {
        "column": column,
        "kind": "scores" if scored else "decisions",
        "threshold": threshold if scored else None,
    }


def people_of(raw: Raw, count: str | None) -> Ints:
    """[N] people that each row stands for: one, or as many as its column of counts says.

    Raises:
        LoadError: a count is not a whole number of 0 or more, or all together are 0 or too many.
    """
    if count is None:
        return np.ones(len(raw.table), dtype=np.int64)
    column = raw.column(count, "[data] count")
    persons = numbers(column)
    wrong = ~((persons >= 0) & (persons == np.floor(persons)) & np.isfinite(persons))
    if wrong.any():
        row, text = cell_at(column, wrong)
        raise LoadError(
            f"{raw.path}: column '{count}', row {row}: {text} is not a number of people; "
            f"[data] count takes whole numbers of 0 or more ({int(wrong.sum())} of {len(wrong)} rows)."
        )
    if not 0 < persons.sum() <= _MOST_PERSONS:
        raise LoadError(
            f"{raw.path}: column '{count}' adds up to {persons.sum():.0f} people; "
            f"it must be from 1 to {_MOST_PERSONS}."
        )
    return persons.astype(np.int64)


def _drawn(people: Ints, rows: int | None) -> tuple[Ints, Ints]:
    """Positions of the rows of which a person is audited, and of how many: all people or a sample of them."""
    total = int(people.sum())
    if rows is not None and rows < total:
        ends = np.cumsum(people)
        drawn = np.searchsorted(ends, _sampled(total, rows), side="right")
        people = np.bincount(drawn, minlength=len(people))
    chosen = np.flatnonzero(people)
    return chosen, people[chosen]


def _source(
    section: DataSection, reader: str, whole: Raw, kept: Ints, matched: Ints, audited: Ints
) -> dict[str, Any]:
    """What was read and how. `matched` and `audited` are the people of the rows kept and of those drawn."""
    persons = int(matched.sum())
    read = len(whole.table)
    counted: dict[str, Any] = {}
    if section.stream:
        read = int(people_of(whole, section.count).sum())
        counted = {"streamed": True}
    elif section.count is not None:
        counted = {"count": section.count, "people": persons}
    matches = persons if section.stream else len(kept)
    return {
        "file": section.path.name,
        "sha256": digest(whole.path),
        "reader": reader,
        "target": whole.target,
        "rows_read": read,
        "rows_left_out": read - matches,
        "rows_matched": matches,
        **counted,
        "where": dict(section.where),
        "sample_seed": _SAMPLE_SEED if audited.sum() < persons else None,
    }


def describe_data(data: Dataset) -> dict[str, Any]:
    """The facts on a data set for the record, as JSON values: names and counts, no rows.

    Returns:
        The source (file, sha256, reader, rows read, left out and matched), `rows` audited, which here and
        below are people where a row stands for several, `fingerprint`, `modality`, `shape` of a row,
        `classes` with their rows (None where the outcomes are not known), for a regression `targets` (n,
        mean, min, max), `sensitive` and `controls` groups with theirs, `favourable`, `features`, `caveats`.
    """
    rows: Sequence[int | None] = [None] * len(data.classes)
    if data.labelled:
        rows = _people_by(data.labels, len(data.classes), data.people)
    return {
        **data.source,
        "rows": data.size,
        "fingerprint": data.fingerprint,
        "modality": data.modality,
        "shape": list(data.inputs.shape[1:]),
        "classes": [{"name": n, "rows": count} for n, count in zip(data.classes, rows, strict=True)],
        **_target_facts(data),
        "favourable": None if data.favourable is None else data.classes[data.favourable],
        "features": [_feature_facts(feature) for feature in data.features],
        **({"relations": [item.text for item in data.relations]} if data.relations else {}),
        "sensitive": {name: _group_facts(item, data.people) for name, item in data.sensitive.items()},
        "controls": {name: _group_facts(item, data.people) for name, item in data.controls.items()},
        "caveats": list(data.caveats),
    }


def _target_facts(data: Dataset) -> dict[str, Any]:
    values = data.targets
    if values is None or not len(values):
        return {}
    low, high = float(values.min()), float(values.max())
    mean = float(values.mean() if data.people is None else np.average(values, weights=data.people))
    return {"targets": {"n": data.size, "mean": mean, "min": low, "max": high}}


def _feature_facts(feature: Feature) -> dict[str, Any]:
    return {
        "name": feature.name,
        "kind": feature.kind,
        "columns": len(feature.columns),
        "categories": list(feature.categories),
        "low": feature.low,
        "high": feature.high,
        "immutable": feature.immutable,
        "direction": feature.direction,
        "step": feature.step,
        "cost": feature.cost,
    }


def _people_by(codes: Ints, size: int, people: Ints | None) -> list[int]:
    """People of each code; a row is one person where nothing else is said."""
    if people is None:
        return [int(count) for count in np.bincount(codes, minlength=size)]
    counts = np.zeros(size, dtype=np.int64)
    np.add.at(counts, codes, people)
    return [int(count) for count in counts]


def _group_facts(item: Sensitive, people: Ints | None) -> list[dict[str, Any]]:
    rows = _people_by(item.codes, len(item.groups), people)
    return [{"group": name, "rows": count} for name, count in zip(item.groups, rows, strict=True)]


def fingerprint(data: Dataset) -> str:
    """sha256 over inputs, labels, targets, stated decisions, people, classes, groups, controls, features.

    The same people written out as rows have another fingerprint than rows that count them.
    """
    whole = hashlib.sha256()
    whole.update(repr((data.modality, data.classes, data.favourable, data.features)).encode())
    whole.update(repr([(name, item.groups) for name, item in sorted(data.sensitive.items())]).encode())
    codes = [item.codes for _, item in sorted(data.sensitive.items())]
    for name, item in sorted(data.controls.items()):
        whole.update(repr(("control", name, item.groups)).encode())
        codes.append(item.codes)
    whole.update(repr(data.relations).encode() if data.relations else b"")
    whole.update(b"" if data.people is None else b"people")
    optional = (data.decisions, data.scores, data.targets, data.people)
    stated = [array for array in optional if array is not None]
    labels = [data.labels] if data.labelled else []
    arrays: list[Array] = [data.inputs, *labels, *codes, *stated]
    for array in arrays:
        whole.update(f"{array.dtype.str} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _absolute(section: DataSection, folder: Path) -> DataSection:
    paths = {"path": section.path, "encoder": section.encoder, "labels": section.labels}
    found = {
        key: Path(os.path.normpath(folder.absolute() / path))
        for key, path in paths.items()
        if path is not None
    }
    return section.model_copy(update=found)


def read_raw(section: DataSection) -> tuple[str, Raw]:
    """The reader's name and what it read; the paths of `section` are absolute.

    Raises:
        LoadError: the file is absent, or its reader is not installed or refuses it.
    """
    path = section.path
    if not path.exists():
        raise LoadError(f"{path} does not exist; [data] path is relative to audit.toml.")
    readers = installed_functions("audit.readers")
    name = reader_of(path, readers) if section.reader == "auto" else section.reader
    if name not in readers:
        raise LoadError(f"[data] reader = '{name}' is not installed{nearest(name, readers)}.")
    if path.is_dir() and name in {*_SUFFIXES.values()}:
        raise LoadError(f"{path} is a folder, but the reader '{name}' takes a file.")
    try:
        read: Callable[[Path, DataSection], Raw] = readers[name].load()
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything while it is imported
        raise LoadError(f"reader '{name}' does not import: {type(error).__name__}: {error}.") from None
    return name, read(path, section)


def reader_of(path: Path, installed: Collection[str] = ()) -> str:
    """The name of the reader for a file, by its content; a name that says otherwise is refused.

    Raises:
        LoadError: the name of the file says one format and its content is another.
    """
    if path.is_dir():
        return "images"
    plain = path.suffix.lower()
    if plain not in _SUFFIXES and plain.removeprefix(".") in installed:
        return plain.removeprefix(".")
    try:
        with plain_file(path).open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}.") from None
    found = {b"PK\x03\x04": "npz", b"PAR1": "parquet"}.get(start, "csv")
    if _SUFFIXES.get(plain, found) != found:
        raise LoadError(f"{path} is called {plain} but its content is {found}; rename or save it again.")
    return found


def _rows(raw: Raw, positions: Ints) -> Raw:
    return replace(raw, table=raw.table.iloc[positions])


def _matching(raw: Raw, section: DataSection) -> Ints:
    """Positions of the rows that `where` keeps."""
    kept: Mask = np.ones(len(raw.table), dtype=np.bool_)
    for name, wanted in section.where.items():
        codes, texts = coded(raw.column(name, "[data] where"))
        kept &= np.array([*(_same(text, wanted) for text in texts), False])[codes]
        if not kept.any():
            values = ", ".join(f"'{text}'" for text in sorted(texts)[:12])
            raise LoadError(
                f"{raw.path}: [data] where {dict(section.where)} keeps no row at column '{name}' = {wanted!r}"
                f"; it holds {values}."
            )
    return np.flatnonzero(kept).astype(np.int64)


def _same(text: str, wanted: Scalar) -> bool:
    if isinstance(wanted, bool):
        return text.strip().lower() == str(wanted).lower()
    if isinstance(wanted, str):
        return text == wanted
    return as_number(text) == float(wanted)


def _added_up(
    section: DataSection, predictions: str | None, threshold: float
) -> tuple[DataSection, str, Raw]:
    """A file too large for memory as its combinations of values, and the `[data]` that reads them as counts.

    Raises:
        LoadError: the file is not Parquet, or cannot be added up.
        ConfigError: no column of decisions is named, or a key does not go with stream.
    """
    if predictions is None:
        raise ConfigError(
            "[data] stream = true adds up decisions that a file states; [model] predictions names the column."
        )
    for key in ("count", "rows", "inputs", "encoder", "features", "relations"):
        if getattr(section, key):
            raise ConfigError(
                f"[data] {key} does not go with stream = true, which adds up rows and keeps none."
            )
    if not section.path.exists():
        raise LoadError(f"{section.path} does not exist; [data] path is relative to audit.toml.")
    name = reader_of(section.path) if section.reader == "auto" else section.reader
    if name != "parquet":
        raise LoadError(f"{section.path}: [data] stream = true reads Parquet, and this is {name}.")
    raw, people = read_combinations(section, predictions, threshold)
    return section.model_copy(update={"count": people}), name, raw


def _sampled(total: int, rows: int | None) -> Ints:
    """Positions of at most `rows` of `total` rows, the same ones each time, in the order of the file."""
    if rows is None or rows >= total:
        return np.arange(total, dtype=np.int64)
    drawn = np.random.default_rng(_SAMPLE_SEED).choice(total, size=rows, replace=False)
    return np.sort(drawn).astype(np.int64)


def groups_of(raw: Raw, name: str, section: DataSection, what: str = "sensitive") -> Sensitive:
    """A column as groups; empty cells and missing-value words are the group `unknown`, the last.

    Args:
        raw: the rows.
        name: the column.
        section: the `[data]`, with the edges of `bins`.
        what: the key of `[data]` that names the column, for errors.

    Raises:
        LoadError: there is no such column, it holds more than 50 different numbers and no bins divide it,
            or a value to be binned is no number.
    """
    column = raw.column(name, f"[data] {what}")
    codes, texts = coded(column)
    markers = {*section.missing, UNKNOWN}
    known = [text for text in texts if text.strip() not in markers]
    if name in section.bins:
        groups, of_text = _binned(raw, name, known, section.bins[name])
    else:
        groups, of_text = _levels(raw, name, known, what)
    translate = np.array([*(of_text.get(text, len(groups)) for text in texts), len(groups)], dtype=np.int64)
    found = translate[codes]
    unknown = bool((found == len(groups)).any())
    return Sensitive(name=name, groups=(*groups, UNKNOWN) if unknown else tuple(groups), codes=_frozen(found))


def _levels(raw: Raw, name: str, known: Sequence[str], what: str) -> tuple[Sequence[str], dict[str, int]]:
    """Each value a group, in order of number where all are numbers, else of the alphabet."""
    numeric = all(np.isfinite(as_number(text)) for text in known)
    if numeric and len(known) > _MOST_NUMERIC_GROUPS:
        raise LoadError(
            f"{raw.path}: {what} column '{name}' holds {len(known)} different numbers (such as "
            f"'{known[0]}' and '{known[1]}'); bin it into at most {_MOST_NUMERIC_GROUPS} groups first."
        )
    groups = sorted(known, key=lambda text: (as_number(text), text)) if numeric else sorted(known)
    return groups, {text: index for index, text in enumerate(groups)}


def _binned(
    raw: Raw, name: str, known: Sequence[str], edges: tuple[float, ...]
) -> tuple[Sequence[str], dict[str, int]]:
    """Numbers divided at stated edges; an edge belongs to the bin above it. Bins without a row stay."""
    values = np.array([as_number(text) for text in known], dtype=np.float64)
    if not np.isfinite(values).all():
        text = known[int(np.argmin(np.isfinite(values)))]
        where = np.array([as_text(cell) == text for cell in raw.table[name].tolist()])
        row, _ = cell_at(raw.table[name], where)
        raise LoadError(
            f"{raw.path}: column '{name}', row {row}: {text!r} is not a number, and [data.bins] divides "
            "numbers; [data] missing lists words that stand for no value."
        )
    shown = [f"{edge:g}" for edge in edges]
    between = [f"{low} to under {high}" for low, high in pairwise(shown)]
    groups = [f"under {shown[0]}", *between, f"{shown[-1]} and over"]
    places = np.searchsorted(np.array(edges), values, side="right").tolist()
    return groups, dict(zip(known, places, strict=True))


def _unknown_caveat(item: Sensitive, people: Ints) -> str:
    if item.groups[-1] != UNKNOWN:
        return ""
    rows = int(people[item.codes == len(item.groups) - 1].sum())
    return f"'{item.name}' has no value in {rows} of {people.sum()} rows; they are the group '{UNKNOWN}'."


def _inputs(
    raw: Raw, section: DataSection, positions: Ints, input_range: InputRange
) -> tuple[Encoded, Modality]:
    """Model inputs of the rows at `positions`, in the order of `raw.table`."""
    if raw.inputs is None:
        encoder = section.encoder
        encoded = numeric_inputs(raw, section) if encoder is None else encoded_inputs(raw, section, encoder)
        modality: Modality = "tabular"
    elif section.encoder is not None:
        raise LoadError(f"[data] encoder takes the columns of a table, but {raw.path} holds arrays.")
    else:
        array = raw.inputs(positions) if callable(raw.inputs) else raw.inputs[positions]
        encoded, modality = _from_array(raw, section, array, input_range)
    _check_range(raw, encoded, input_range)
    return encoded, modality


def _from_array(
    raw: Raw, section: DataSection, array: Array, input_range: InputRange
) -> tuple[Encoded, Modality]:
    if array.dtype.kind not in "biuf":
        raise LoadError(f"{raw.path}: the inputs are of type {array.dtype}; a model needs numbers.")
    _check_finite(raw, array)
    image = array.ndim == _IMAGE_AXES or (
        array.ndim == _SERIES_AXES and (raw.image or array.dtype == np.uint8)
    )
    if image:
        pixels = as_images(array, section.layout, input_range, raw.path)
        return Encoded(inputs=pixels), "image"
    if array.ndim == _SERIES_AXES:
        return Encoded(inputs=array.astype(np.float32)), "series"
    if array.ndim > _IMAGE_AXES:
        raise LoadError(f"{raw.path}: the inputs have shape {array.shape}; at most 4 axes can be audited.")
    names, columns = _columns(raw, section, array.shape[1])
    matrix = array[:, columns].astype(np.float32)
    return Encoded(inputs=matrix, features=described(raw, section, names, matrix)), "tabular"


def _check_finite(raw: Raw, array: Array) -> None:
    bad = ~(np.abs(array) <= np.finfo(np.float32).max) if array.dtype.kind == "f" else np.zeros(1)
    if bad.any():
        row, *place = (int(index[0]) for index in np.nonzero(bad))
        value = as_text(array[(row, *place)])
        named = f"column '{raw.names[place[0]]}'" if raw.names and len(place) == 1 else f"place {place}"
        raise LoadError(
            f"{raw.path}: the inputs, row {raw.table.index[row]}, {named} hold {value}, which is not a "
            f"finite float32 ({int(bad.sum())} such values); a model needs numbers."
        )


def _columns(raw: Raw, section: DataSection, width: int) -> tuple[tuple[str, ...], list[int]]:
    """Names of the columns of [N, D] inputs, and which ones `[data] inputs` asks for."""
    names = raw.names or section.inputs or tuple(f"x{index}" for index in range(width))
    if len(names) != width or len(set(names)) != width:
        raise LoadError(
            f"{raw.path}: the inputs have {width} columns, but {len(set(names))} different names."
        )
    chosen = section.inputs or names
    for name in chosen:
        if name not in names:
            raise LoadError(f"{raw.path} has no input column '{name}'{nearest(name, names)}.")
    return chosen, [names.index(name) for name in chosen]


def _check_range(raw: Raw, encoded: Encoded, input_range: InputRange) -> None:
    """Whether all inputs lie in the range that the model states."""
    if input_range is None:
        return
    inputs = encoded.inputs
    low, high = np.float32(input_range[0]), np.float32(input_range[1])
    bad = (inputs < low) | (inputs > high)
    if not bad.any():
        return
    row, *place = (int(index[0]) for index in np.nonzero(bad))
    owner = (f for f in encoded.features if place[0] in f.columns)
    feature = next(owner, None)
    named = f"place {place}" if feature is None else f"column '{feature.name}'"
    raise LoadError(
        f"{raw.path}: row {raw.table.index[row]}, {named} holds {inputs[(row, *place)]:g}, outside the "
        f"model's input_range [{low:g}, {high:g}]; the inputs run from {inputs.min():g} to {inputs.max():g}."
    )


def _frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array
