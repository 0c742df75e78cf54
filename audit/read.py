"""Read data: a file, by a reader found through `audit.readers`, becomes a `Dataset` or one clear sentence."""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.config import DataSection
from audit.dataset import UNKNOWN, Dataset, Feature, Ints, Modality, Sensitive
from audit.encode import encoded_inputs
from audit.errors import LoadError, nearest
from audit.evidence import Scalar
from audit.features import Encoded, described, numeric_inputs
from audit.pixels import as_images
from audit.readers.raw import Array, Mask, Raw, as_number, as_text, cell_at, coded, digest
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
_MOST_INDEXED_CLASSES = 1_000
_SAMPLE_SEED = 0
_IMAGE_AXES = 4
_SERIES_AXES = 3


def load_data(
    section: DataSection, folder: Path, *, classes: tuple[str, ...] = (), input_range: InputRange = None
) -> Dataset:
    """Read the inputs, labels and sensitive features that `[data]` describes.

    Args:
        section: the `[data]` of an audit.toml.
        folder: where its relative paths start.
        classes: class names in the order of the model's outputs; from the sorted labels when empty.
        input_range: smallest and largest raw input value; 8-bit images are scaled to it, else to [0, 1].

    Raises:
        LoadError: a file cannot be read, or a value in it is missing, unknown or out of range; the sentence
            names the file, the column, the row and the value. Rows are counted from 1.
        ConfigError: two packages bring a reader of the same name.
    """
    section = _absolute(section, folder)
    reader, whole = read_raw(section)
    kept = _matching(whole, section)
    labels, names, notes = label_codes(_rows(whole, kept), section, classes)
    chosen = _sampled(len(kept), section.rows)
    raw = _rows(whole, kept[chosen])
    encoded, modality = _inputs(raw, section, kept[chosen], input_range)
    groups = {name: groups_of(raw, name, section) for name in section.sensitive}
    data = Dataset(
        inputs=_frozen(encoded.inputs),
        labels=_frozen(labels[chosen]),
        modality=modality,
        classes=names,
        favourable=_favourable(section, names),
        features=encoded.features,
        sensitive=groups,
        source={**_source(section, reader, whole, kept, chosen), **encoded.facts},
        caveats=(*notes, *encoded.caveats, *filter(None, map(_unknown_caveat, groups.values()))),
    )
    return replace(data, fingerprint=fingerprint(data))


def _source(section: DataSection, reader: str, whole: Raw, kept: Ints, chosen: Ints) -> dict[str, Any]:
    return {
        "file": section.path.name,
        "sha256": digest(whole.path),
        "reader": reader,
        "target": whole.target,
        "rows_read": len(whole.table),
        "rows_left_out": len(whole.table) - len(kept),
        "rows_matched": len(kept),
        "where": dict(section.where),
        "sample_seed": _SAMPLE_SEED if len(chosen) < len(kept) else None,
    }


def describe_data(data: Dataset) -> dict[str, Any]:
    """The facts on a data set for the record, as JSON values: names and counts, no rows.

    Returns:
        The source (file, sha256, reader, rows read, left out and matched), `rows` audited, `fingerprint`,
        `modality`, `shape` of a row, `classes` and `sensitive` groups with their rows, `favourable`,
        `features` and `caveats`.
    """
    rows = np.bincount(data.labels, minlength=len(data.classes)).tolist()
    return {
        **data.source,
        "rows": len(data),
        "fingerprint": data.fingerprint,
        "modality": data.modality,
        "shape": list(data.inputs.shape[1:]),
        "classes": [{"name": n, "rows": count} for n, count in zip(data.classes, rows, strict=True)],
        "favourable": None if data.favourable is None else data.classes[data.favourable],
        "features": [_feature_facts(feature) for feature in data.features],
        "sensitive": {name: _group_facts(item) for name, item in data.sensitive.items()},
        "caveats": list(data.caveats),
    }


def _feature_facts(feature: Feature) -> dict[str, Any]:
    return {
        "name": feature.name,
        "kind": feature.kind,
        "columns": len(feature.columns),
        "categories": list(feature.categories),
        "low": feature.low,
        "high": feature.high,
        "immutable": feature.immutable,
    }


def _group_facts(item: Sensitive) -> list[dict[str, Any]]:
    rows = np.bincount(item.codes, minlength=len(item.groups)).tolist()
    return [{"group": name, "rows": count} for name, count in zip(item.groups, rows, strict=True)]


def fingerprint(data: Dataset) -> str:
    """sha256 over inputs, labels, classes, groups and feature descriptions."""
    whole = hashlib.sha256()
    whole.update(repr((data.modality, data.classes, data.favourable, data.features)).encode())
    whole.update(repr([(name, item.groups) for name, item in sorted(data.sensitive.items())]).encode())
    codes = [item.codes for _, item in sorted(data.sensitive.items())]
    arrays: list[Array] = [data.inputs, data.labels, *codes]
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
        with path.open("rb") as file:
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


def _sampled(total: int, rows: int | None) -> Ints:
    """Positions of at most `rows` of `total` rows, the same ones each time, in the order of the file."""
    if rows is None or rows >= total:
        return np.arange(total, dtype=np.int64)
    drawn = np.random.default_rng(_SAMPLE_SEED).choice(total, size=rows, replace=False)
    return np.sort(drawn).astype(np.int64)


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
    _refuse_labels(raw, np.array([*absent, True])[codes], "is missing; fill it or leave the row out")
    if not classes and all(re.fullmatch(r"-?\d+", _whole(text)) for text in named):
        named = [_whole(text) for text in named]
    names = classes or _derived(named)
    found = _places(named, names)
    listed = ", ".join(f"'{name}'" for name in names[:20])
    wrong = np.array([*(place is None for place in found), True])[codes]
    _refuse_labels(
        raw,
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


def _refuse_labels(raw: Raw, rows: Mask, complaint: str) -> None:
    if rows.any():
        row, text = cell_at(raw.table[raw.target], rows)
        count = f"{int(rows.sum())} of {len(rows)} rows"
        raise LoadError(f"{raw.path}: column '{raw.target}', row {row}: label {text} {complaint} ({count}).")


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


def _favourable(section: DataSection, classes: tuple[str, ...]) -> int | None:
    if section.favourable is None:
        return 1 if len(classes) == 2 else None  # noqa: PLR2004 - the second of two is the positive one
    if section.favourable not in classes:
        hint = nearest(section.favourable, classes)
        raise LoadError(f"[data] favourable = '{section.favourable}' is not a class{hint}.")
    return classes.index(section.favourable)


def groups_of(raw: Raw, name: str, section: DataSection) -> Sensitive:
    """A sensitive column as groups; empty cells and missing-value words are the group `unknown`, the last.

    Raises:
        LoadError: there is no such column, or it holds more than 50 different numbers.
    """
    codes, texts = coded(raw.column(name, "[data] sensitive"))
    markers = {*section.missing, UNKNOWN}
    known = [text for text in texts if text.strip() not in markers]
    numeric = all(np.isfinite(as_number(text)) for text in known)
    if numeric and len(known) > _MOST_NUMERIC_GROUPS:
        raise LoadError(
            f"{raw.path}: sensitive column '{name}' holds {len(known)} different numbers (such as "
            f"'{known[0]}' and '{known[1]}'); bin it into at most {_MOST_NUMERIC_GROUPS} groups first."
        )
    groups = sorted(known, key=lambda text: (as_number(text), text)) if numeric else sorted(known)
    place = {text: index for index, text in enumerate(groups)}
    translate = np.array([*(place.get(text, len(groups)) for text in texts), len(groups)], dtype=np.int64)
    found = translate[codes]
    unknown = bool((found == len(groups)).any())
    return Sensitive(name=name, groups=(*groups, UNKNOWN) if unknown else tuple(groups), codes=_frozen(found))


def _unknown_caveat(item: Sensitive) -> str:
    if item.groups[-1] != UNKNOWN:
        return ""
    rows = int((item.codes == len(item.groups) - 1).sum())
    return f"'{item.name}' has no value in {rows} of {len(item.codes)} rows; they are the group '{UNKNOWN}'."


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
