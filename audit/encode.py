"""A saved scikit-learn transformer turns raw columns into model inputs, and tells what each input means.

The file is written by skops: it holds no pickle, and only types that skops trusts, and numpy's dtype
(which imputers keep), are ever built from it.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from audit.config import DataSection, FeatureSection
from audit.dataset import Feature, Floats
from audit.errors import LoadError, nearest
from audit.features import Encoded, check_bounds, checked_numbers, missing_sentence
from audit.readers.raw import Array, Mask, Raw, as_text, cell_at, coded, digest, missing_rows, numbers

if TYPE_CHECKING:
    import pandas as pd

_HARMLESS = ("numpy.dtype",)
_INFREQUENT = "infrequent"
_STRAIGHT = 1e-5


@dataclass(frozen=True)
class _Branch:
    """The part of an encoder that some raw columns go through.

    Attributes:
        columns: the raw columns.
        steps: its estimators in order, pipelines opened.
        outputs: the input columns it makes; None where they cannot be told apart.
    """

    columns: tuple[str, ...]
    steps: tuple[Any, ...]
    outputs: range | None

    @property
    def coder(self) -> Any:
        """The one-hot or ordinal encoder among its steps, with one category list a column; else None."""
        from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

        found = (step for step in self.steps if isinstance(step, OneHotEncoder | OrdinalEncoder))
        coder = next(found, None)
        return coder if coder is None or len(coder.categories_) == len(self.columns) else None

    @property
    def imputer(self) -> Any:
        """The first of its steps that fills missing values; else None."""
        return next((step for step in self.steps if type(step).__name__.endswith("Imputer")), None)

    @property
    def kind(self) -> Literal["onehot", "ordinal", "numeric", "opaque"]:
        """How its outputs belong to its columns."""
        coder = self.coder
        if self.outputs is None:
            return "opaque"
        if type(coder).__name__ == "OneHotEncoder" and self.steps[-1] is coder:
            kept = sum(len(_kept_categories(coder, j)) for j in range(len(self.columns)))
            return "onehot" if kept == len(self.outputs) else "opaque"
        if len(self.outputs) != len(self.columns) or not all(map(_keeps_columns, self.steps)):
            return "opaque"
        return "numeric" if coder is None else "ordinal"


def _keeps_columns(step: Any) -> bool:
    from sklearn.base import OneToOneFeatureMixin

    return isinstance(step, OneToOneFeatureMixin) or type(step).__name__.endswith("Imputer")


def encoded_inputs(raw: Raw, section: DataSection, path: Path) -> Encoded:
    """The raw columns of a table through the encoder saved at `path`: [N, D] inputs and their features.

    Each raw column is one feature: a one-hot group where it ends in one, else numeric or ordinal. A stated
    range is in raw units and is carried through the encoder.

    Raises:
        LoadError: the encoder cannot be loaded safely or does not fit the table, or a value is missing,
            unknown or outside its range.
    """
    encoder, caveats = load_encoder(path)
    names = _raw_columns(raw, section, encoder, path)
    branches = tuple(_branches(encoder, names, 0))
    _check_described(section, names, path)
    frame, notes = _prepared(raw, section, names, branches)
    inputs = _transformed(encoder, frame, raw, path)
    branches = tuple(_branches(encoder, names, inputs.shape[1]))
    features, more = _features(encoder, branches, section, inputs.shape[1])
    bounded = (_bounded(item, section, raw, encoder, frame, path) for item in features)
    measured = _measured(tuple(bounded), branches, encoder, frame)
    for item in measured:
        _check_unit(item, section, path)
    return Encoded(
        inputs=inputs,
        features=measured,
        caveats=(*caveats, *notes, *more),
        facts={"encoder": {"file": path.name, "sha256": digest(path)}, "raw_columns": list(names)},
    )


def load_encoder(path: Path) -> tuple[Any, tuple[str, ...]]:
    """A fitted transformer from a skops file, and caveats on the version that wrote it.

    Raises:
        LoadError: the file is absent, is not skops, holds an untrusted type or no fitted transformer.
    """
    try:
        untrusted, encoder, versions = _opened(path)
    except FileNotFoundError:
        raise LoadError(
            f"{path} does not exist; [data] encoder names a file saved by skops.io.dump."
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged archive may fail in any way
        raise LoadError(f"{path} is not an encoder saved by skops.io.dump: {error}.") from None
    if untrusted:
        raise LoadError(
            f"{path} holds the type {', '.join(untrusted)}, which is not trusted and was not built; "
            "save an encoder made of scikit-learn's own transformers."
        )
    if not hasattr(encoder, "transform"):
        raise LoadError(f"{path} holds a {type(encoder).__name__}, which is not a transformer.")
    return encoder, tuple(_version_caveat(path, version) for version in versions)


def _opened(path: Path) -> tuple[list[str], Any, list[str]]:
    """Untrusted types, the object (None where there are any) and other versions that wrote it."""
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning

    untrusted = set(skops.io.get_untrusted_types(file=path)) - set(_HARMLESS)
    if untrusted:
        return sorted(untrusted), None, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = skops.io.load(path, trusted=list(_HARMLESS))
    said = (entry.message for entry in caught)
    other = {str(m.original_sklearn_version) for m in said if isinstance(m, InconsistentVersionWarning)}
    return [], encoder, sorted(other)


def _version_caveat(path: Path, version: str) -> str:
    import sklearn

    return (
        f"The encoder {path.name} was saved by scikit-learn {version} and read by {sklearn.__version__}, "
        "so its output may differ."
    )


def _raw_columns(raw: Raw, section: DataSection, encoder: Any, path: Path) -> tuple[str, ...]:
    """The encoder's raw columns in the order it was fitted on."""
    fitted = tuple(str(name) for name in getattr(encoder, "feature_names_in_", ()))
    names = fitted or section.inputs
    if not names:
        raise LoadError(f"{path} was fitted without column names; [data] inputs names its columns in order.")
    for name in section.inputs:
        if name not in names:
            raise LoadError(
                f"[data] inputs names '{name}', which {path} does not take{nearest(name, names)}."
            )
    for name in names:
        raw.column(name, f"the encoder {path.name}")
    wanted = getattr(encoder, "n_features_in_", len(names))
    if wanted != len(names):
        raise LoadError(f"{path} takes {wanted} columns, but [data] inputs names {len(names)}.")
    return names


def _branches(encoder: Any, names: tuple[str, ...], width: int) -> Iterator[_Branch]:
    """The branches of an encoder that makes `width` inputs."""
    from sklearn.compose import ColumnTransformer

    steps = _steps(encoder)
    table = next((step for step in steps if isinstance(step, ColumnTransformer)), None)
    if table is None:
        yield _Branch(names, steps, range(width))
        return
    alone = len(steps) == 1
    for label, part, chosen in table.transformers_:
        columns = _chosen(chosen, names)
        where = table.output_indices_[label]
        if columns and part != "drop":
            yield _Branch(columns, _steps(part), range(where.start, where.stop) if alone else None)


def _steps(part: Any) -> tuple[Any, ...]:
    from sklearn.pipeline import Pipeline

    if isinstance(part, str) or part is None:
        return ()
    if isinstance(part, Pipeline):
        return tuple(step for _, inner in part.steps for step in _steps(inner))
    return () if _is_identity(part) else (part,)


def _is_identity(part: Any) -> bool:
    return type(part).__name__ == "FunctionTransformer" and part.func is None


def _chosen(chosen: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Column names of a ColumnTransformer's specification: names, positions, a slice or a mask."""
    if isinstance(chosen, str | int | np.integer):
        chosen = [chosen]
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            start = 0 if chosen.start is None else names.index(chosen.start)
            stop = len(names) if chosen.stop is None else names.index(chosen.stop) + 1
            return names[start:stop]
        return names[chosen]
    items = list(chosen)
    if items and all(isinstance(item, bool | np.bool_) for item in items):
        return tuple(name for name, kept in zip(names, items, strict=True) if kept)
    return tuple(item if isinstance(item, str) else names[int(item)] for item in items)


def _check_described(section: DataSection, names: tuple[str, ...], path: Path) -> None:
    for name, told in section.features.items():
        place = f'[data.features."{name}"]'
        if name not in names:
            raise LoadError(f"{place}: '{name}' is not a raw column of {path}{nearest(name, names)}.")
        if told.columns:
            raise LoadError(f"{place}: columns cannot be given beside an encoder; {path.name} tells them.")
        if told.dropped:
            raise LoadError(f"{place}: dropped cannot be given beside an encoder; {path.name} tells it.")


def _prepared(
    raw: Raw, section: DataSection, names: tuple[str, ...], branches: Sequence[_Branch]
) -> tuple["pd.DataFrame", list[str]]:
    """The raw columns typed as the encoder was fitted on them, and caveats with counts."""
    import pandas as pd

    ready: dict[str, Any] = {}
    notes: list[str] = []
    for name in names:
        owners = [branch for branch in branches if name in branch.columns]
        branch = next((b for b in owners if b.coder is not None), owners[0] if owners else None)
        if branch is None:
            ready[name] = _as_objects(raw.table[name])
        elif branch.coder is not None:
            ready[name], said = _categories_of(raw, section, name, branch)
            notes += said
        else:
            ready[name], said = _numbers_of(raw, section, name, branch)
            notes += said
    return pd.DataFrame(ready, index=raw.table.index), notes


def _as_objects(column: "pd.Series[Any]") -> Array:
    codes, values = coded(column)
    return np.array([*values, np.nan], dtype=object)[codes]


def _numbers_of(raw: Raw, section: DataSection, name: str, branch: _Branch) -> tuple[Array, list[str]]:
    absent = missing_rows(raw.table[name], section.missing)
    if absent.any() and branch.imputer is None:
        raise LoadError(missing_sentence(raw, name, absent))
    values = checked_numbers(raw, name, absent, "the encoder takes this column as a number")
    filler = getattr(branch.imputer, "missing_values", np.nan)
    values[absent] = filler if isinstance(filler, int | float) else np.nan
    return values, _imputed(raw, name, absent)


def _imputed(raw: Raw, name: str, absent: Mask) -> list[str]:
    if not absent.any():
        return []
    _, text = cell_at(raw.table[name], absent)
    share = f"{int(absent.sum())} of {len(absent)} values"
    return [f"{share} of '{name}' are missing (such as {text}) and were filled by the encoder."]


def _categories_of(raw: Raw, section: DataSection, name: str, branch: _Branch) -> tuple[Array, list[str]]:
    """A categorical column as the values its encoder knows; what it does not know is refused or counted."""
    known = branch.coder.categories_[branch.columns.index(name)]
    lookup = {as_text(value): value for value in known if not _is_nan(value)}
    codes, texts = coded(raw.table[name])
    values = np.array([*(lookup.get(text, text) for text in texts), np.nan], dtype=object)[codes]
    recognised = np.array([*(text in lookup for text in texts), False])[codes]
    absent = missing_rows(raw.table[name], section.missing) & ~recognised
    notes: list[str] = []
    if absent.any():
        values[absent] = _missing_value(raw, name, branch, known, absent)
        notes = _imputed(raw, name, absent)
    strange = ~recognised & ~absent
    if strange.any():
        notes.append(_unseen(raw, name, branch, list(lookup), strange))
        values[strange] = _stand_in(known, values[strange])
    numeric = known.dtype.kind in "iuf"
    return values.astype(np.float64) if numeric else values, notes


def _stand_in(known: Array, values: Array) -> Any:
    """Unknown cells as the encoder's own type: a number that is no category where categories are numbers."""
    return np.max(known) + 1 if known.dtype.kind in "iuf" else values


def _missing_value(raw: Raw, name: str, branch: _Branch, known: Array, absent: Mask) -> Any:
    """What the encoder takes for a missing value of this column."""
    if branch.imputer is not None:
        return branch.imputer.missing_values
    for value in known:
        if _is_nan(value):
            return value
    raise LoadError(missing_sentence(raw, name, absent))


def _is_nan(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN of any type is not itself


def _unseen(raw: Raw, name: str, branch: _Branch, known: list[str], strange: Mask) -> str:
    row, text = cell_at(raw.table[name], strange)
    count = int(strange.sum())
    if branch.coder.handle_unknown == "error":
        listed = ", ".join(f"'{value}'" for value in known[:12])
        raise LoadError(
            f"{raw.path}: column '{name}', row {row} holds {text}, a category that the encoder has not seen "
            f"({count} of {len(strange)} rows); it knows {listed}."
        )
    return (
        f"{count} of {len(strange)} values of '{name}' are categories that the encoder does not know (the "
        f"first is {text}, row {row}); they are encoded as its setting '{branch.coder.handle_unknown}' says."
    )


def _transformed(encoder: Any, frame: "pd.DataFrame", raw: Raw, path: Path) -> Floats:
    """[N, D] float32 output of the encoder.

    Raises:
        LoadError: it fails, does not give a row for each row, or gives a value that is not finite.
    """
    from scipy.sparse import issparse

    table = frame if hasattr(encoder, "feature_names_in_") else frame.to_numpy()
    try:
        with warnings.catch_warnings():
            # unknown categories are counted by us, with their column and row
            warnings.simplefilter("ignore")
            output = encoder.transform(table)
        dense = np.asarray(cast("Any", output).toarray() if issparse(output) else output)
        matrix: Floats = np.ascontiguousarray(dense, dtype=np.float32)
    except Exception as error:  # noqa: BLE001 - a transformer may fail in any way
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LoadError(f"{path} cannot encode {raw.path}: {text}.") from None
    if matrix.ndim != 2 or len(matrix) != len(frame):  # noqa: PLR2004 - rows and columns
        raise LoadError(f"{path} turned {len(frame)} rows into {matrix.shape}; it must keep rows.")
    bad = ~np.isfinite(matrix)
    if bad.any():
        row, column = (int(index[0]) for index in np.nonzero(bad))
        name = _output_names(encoder, matrix.shape[1])[column]
        raise LoadError(
            f"{raw.path}, row {raw.table.index[row]}: the encoder {path.name} puts {matrix[row, column]} "
            f"into its output '{name}'; a model needs finite numbers."
        )
    return matrix


def _features(
    encoder: Any, branches: Sequence[_Branch], section: DataSection, width: int
) -> tuple[tuple[Feature, ...], list[str]]:
    """One feature for each raw column; one for each output where outputs cannot be told apart."""
    names = _output_names(encoder, width)
    features: dict[str, Feature] = {}
    notes: list[str] = []
    owned: set[int] = set()
    for branch in branches:
        kind = branch.kind
        if kind == "opaque":
            _refuse_opaque(branch, section)
            continue
        for feature in _branch_features(branch, kind, section):
            earlier = features.get(feature.name)
            features[feature.name] = feature if earlier is None else _joined(earlier, feature)
            owned.update(feature.columns)
    for name, times in Counter(c for b in branches for c in b.columns).items():
        if times > 1:
            notes.append(
                f"The encoder turns '{name}' into inputs in {times} ways; they are one feature here."
            )
    rest = [index for index in range(width) if index not in owned]
    if rest:
        notes.append(
            f"{len(rest)} of {width} encoded inputs mix several raw columns or cannot be traced to one; each "
            "is a numeric feature of its own."
        )
    loose = (Feature(name=names[index], columns=(index,)) for index in rest)
    found = [item for item in (*features.values(), *loose) if item.columns]
    return tuple(sorted(found, key=lambda item: item.columns)), notes


def _refuse_opaque(branch: _Branch, section: DataSection) -> None:
    """What is stated of a column whose outputs are not known cannot be kept, so it is not accepted."""
    for name in branch.columns:
        told = section.features.get(name, FeatureSection())
        if told.immutable or told.range or told.direction or told.step or told.cost:
            raise LoadError(
                f'[data.features."{name}"]: what is stated of it cannot be kept, because the encoder mixes '
                f"'{name}' with other columns; encode it on its own."
            )


def _branch_features(branch: _Branch, kind: str, section: DataSection) -> Iterator[Feature]:
    start = branch.outputs.start if branch.outputs is not None else 0
    for index, name in enumerate(branch.columns):
        told = section.features.get(name)
        stated = _stated(told)
        if kind == "onehot":
            categories = _kept_categories(branch.coder, index)
            columns = tuple(range(start, start + len(categories)))
            start += len(categories)
            gone = _dropped_category(branch.coder, index)
            yield Feature(
                name=name, kind="categorical", columns=columns, categories=categories, dropped=gone, **stated
            )
            continue
        plain = told.kind if told is not None and told.kind != "categorical" else "numeric"
        yield Feature(
            name=name, kind="ordinal" if kind == "ordinal" else plain, columns=(start + index,), **stated
        )


def _stated(told: FeatureSection | None) -> dict[str, Any]:
    """What is said of how a feature may change, in the user's units."""
    if told is None:
        return {}
    return {key: getattr(told, key) for key in ("immutable", "direction", "step", "cost")}


def _joined(first: Feature, second: Feature) -> Feature:
    kind = first.kind if first.kind == second.kind else "numeric"
    return replace(first, kind=kind, columns=(*first.columns, *second.columns), categories=())


def _kept_categories(coder: Any, index: int) -> tuple[str, ...]:
    """Names of the one-hot columns of one raw column: without the dropped one, rare ones as one."""
    known = coder.categories_[index]
    rare = _rare_categories(coder, index)
    names = [as_text(value) for value in known if as_text(value) not in rare]
    names += [_INFREQUENT] if rare else []
    gone = _dropped_category(coder, index)
    return tuple(name for name in names if name != gone)


def _rare_categories(coder: Any, index: int) -> set[str]:
    lists = getattr(coder, "infrequent_categories_", None)
    return set() if lists is None or lists[index] is None else {*map(as_text, lists[index])}


def _dropped_category(coder: Any, index: int) -> str:
    """The category of one raw column that no input stands for; empty for none."""
    drops = getattr(coder, "drop_idx_", None)
    if drops is None or drops[index] is None:
        return ""
    dropped = as_text(coder.categories_[index][drops[index]])
    return _INFREQUENT if dropped in _rare_categories(coder, index) else dropped


def _bounded(
    feature: Feature, section: DataSection, raw: Raw, encoder: Any, frame: "pd.DataFrame", path: Path
) -> Feature:
    """The feature with its stated range, given in raw units, in the units of the model's input."""
    told = section.features.get(feature.name)
    if told is None or told.range is None:
        return feature
    low, high = told.range
    if feature.kind == "categorical" or len(feature.columns) != 1:
        raise LoadError(f'[data.features."{feature.name}"]: range is for a feature of one input column.')
    check_bounds(raw, feature.name, numbers(raw.table[feature.name]), low, high)
    probe = frame.iloc[[0, 0]].copy()
    probe[feature.name] = np.array([low, high], dtype=np.float64)
    ends = _transformed(encoder, probe, raw, path)[:, feature.columns[0]]
    return replace(feature, low=float(ends.min()), high=float(ends.max()))


def _measured(
    features: tuple[Feature, ...], branches: Sequence[_Branch], encoder: Any, frame: "pd.DataFrame"
) -> tuple[Feature, ...]:
    """The features of one input column with how many of the user's units one unit of it is.

    The encoder is asked: a few values of each raw column go through it, all in one call.
    """
    asked = [
        (feature, *_probes(branch, feature.name, frame))
        for branch in branches
        if branch.kind in {"numeric", "ordinal"}
        for feature in features
        if feature.name in branch.columns and feature.kind != "categorical" and len(feature.columns) == 1
    ]
    if not asked:
        return features
    ends = np.cumsum([len(users) for _, users, _ in asked])
    answers = _answers_to_probes(encoder, frame, asked, ends)
    scales = {
        feature.name: _scale(users, answers[end - len(users) : end, feature.columns[0]])
        for (feature, users, _), end in zip(asked, ends, strict=True)
    }
    return tuple(
        replace(item, unit=scales[item.name][0], zero=scales[item.name][1]) if item.name in scales else item
        for item in features
    )


def _probes(branch: _Branch, name: str, frame: "pd.DataFrame") -> tuple[Array, Array]:
    """Values of a raw column in the user's units, and as the encoder takes them."""
    if branch.coder is not None:
        known = branch.coder.categories_[branch.columns.index(name)]
        return np.arange(len(known), dtype=np.float64), known
    cells = numbers(frame[name])
    seen = cells[np.isfinite(cells)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)
    values = low + (high - low or 1.0) * np.array([0.0, 0.3, 0.8, 1.0])
    return values, values


def _answers_to_probes(
    encoder: Any,
    frame: "pd.DataFrame",
    asked: Sequence[tuple[Feature, Array, Array]],
    ends: Array,
) -> Array:
    """[P, D] encoded probes in double precision, each in a copy of the first row; NaN where it fails."""
    from scipy.sparse import issparse

    probe = frame.iloc[np.zeros(int(ends[-1]), dtype=np.int64)].reset_index(drop=True)
    for (feature, users, values), end in zip(asked, ends, strict=True):
        column = probe[feature.name].to_numpy(copy=True)
        column[end - len(users) : end] = values
        probe[feature.name] = column
    table = probe if hasattr(encoder, "feature_names_in_") else probe.to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = encoder.transform(table)
    return np.asarray(cast("Any", output).toarray() if issparse(output) else output, dtype=np.float64)


def _scale(users: Array, encoded: Array) -> tuple[float | None, float]:
    """The user's units in one unit of the input, and the user's value at 0; None where not in proportion."""
    rise = encoded[-1] - encoded[0]
    if not np.isfinite(encoded).all() or rise == 0:
        return None, 0.0
    unit = (users[-1] - users[0]) / rise
    zero = users[0] - unit * encoded[0]
    straight = np.abs(zero + unit * encoded - users) <= _STRAIGHT * np.abs(users[-1] - users[0])
    return (float(unit), float(zero)) if straight.all() else (None, 0.0)


def _check_unit(feature: Feature, section: DataSection, path: Path) -> None:
    """Whether what is stated in the user's units can be kept in the units of the model's input."""
    told = section.features.get(feature.name, FeatureSection())
    place = f'[data.features."{feature.name}"]'
    if feature.kind == "categorical":
        if told.direction or told.step:
            raise LoadError(f"{place}: direction and step are for numbers, and it is one-hot encoded.")
        return
    if not (told.direction or told.step or told.cost):
        return
    if len(feature.columns) != 1:
        raise LoadError(f"{place}: direction, step and cost are for a feature of one input column.")
    if feature.unit is None:
        raise LoadError(
            f"{place}: direction, step and cost cannot be kept, because {path.name} does not keep its "
            "proportions; scale it by a StandardScaler or MinMaxScaler."
        )


def _output_names(encoder: Any, width: int) -> list[str]:
    try:
        names = [str(name) for name in encoder.get_feature_names_out()]
    except (AttributeError, ValueError):
        names = []
    return names if len(names) == width else [f"x{index}" for index in range(width)]
