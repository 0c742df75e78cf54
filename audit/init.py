"""Look at a model and a data file and write a commented audit.toml. Every guess says that it is one."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.arrays import opened_arrays
from audit.config import DataSection, ModelSection
from audit.dataset import Dataset, Floats
from audit.errors import AuditError, ConfigError, LoadError
from audit.evidence import Scalar
from audit.loaders.archive import format_of
from audit.plainfile import real_path
from audit.read import load_data, read_raw, reader_of
from audit.readers.raw import Raw, coded
from audit.registry import installed_functions

if TYPE_CHECKING:
    from audit.model import Model

_TARGETS = (
    "label", "labels", "target", "class", "class_label", "y", "outcome", "decision", "two_year_recid",
    "diagnosis", "approved", "granted", "credit_risk", "default", "risk", "income",
)  # fmt: skip
_SPLITS = ("split", "fold", "partition", "subset")
_PROTECTED = frozenset({
    "sex", "gender", "race", "ethnicity", "ethnic_group", "age_group", "age_band", "age_category", "religion",
    "disability", "disabled", "nationality", "national_origin", "native_country", "marital_status", "origin",
    "pregnancy", "sexual_orientation", "skin_tone", "skin_type", "foreign_worker", "caste", "veteran_status",
})  # fmt: skip
_FIXED = _PROTECTED | {"age", "birth_year", "year_of_birth"}
_MOST_FEATURES = 80
_MOST_STEPS = 20
_MOST_CLASSES = 100
_MOST_GROUPS = 100
_PREFLIGHT_ROWS = 64
_WORDS = {
    "safetensors": "safetensors: weights alone",
    "state_dict": "a torch state dict: weights alone",
    "pt2": "a torch.export archive",
    "torchscript": "TorchScript",
    "pickle": "a pickled module",
    "unknown": "a format that the built-in loaders do not know",
}


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What was found in the two files, and what did not work."""

    model_path: Path
    model_format: str
    factory: str | None
    section: DataSection
    asked: frozenset[str]
    data: Dataset | None
    features: dict[str, dict[str, Any]]
    model: "Model | None"
    problems: tuple[str, ...]


def write_config(
    model: Path,
    data: Path,
    out: Path,
    *,
    target: str | None = None,
    sensitive: Sequence[str] = (),
    factory: str | None = None,
    force: bool = False,
) -> str:
    """Write a commented audit.toml for a model and its data, and return its text.

    Both are really read; what does not load yet is told in a comment on top of the file.

    Args:
        model: the saved model.
        data: the data file, or a folder of images.
        out: the file to write; its paths are relative to the folder it lies in.
        target: the column of labels; guessed when None.
        sensitive: sensitive columns; guessed when empty.
        factory: `module:function` that builds the network for a file of weights.
        force: overwrite `out`.

    Raises:
        ConfigError: `out` exists and `force` is not set, or cannot be written.
        LoadError: the model does not exist, or the data cannot be read at all.
    """
    _refuse_existing(out, force=force)
    if not model.exists():
        raise LoadError(f"{model} does not exist; the first argument is the saved model.")
    text = _text(_look(model, data, real_path(out).parent, target, sensitive, factory))
    _write(out, text)
    return text


def model_format(path: Path) -> str:
    """What a model file is by its content; `unknown` where no built-in loader knows it."""
    try:
        return format_of(path)
    except LoadError:
        return "unknown"


def _look(
    model: Path, data: Path, folder: Path, target: str | None, sensitive: Sequence[str], factory: str | None
) -> _Seen:
    section = _guess_data(model, data, folder, target, tuple(sensitive))
    kind = model_format(model)
    problems: list[str] = []
    loaded: Dataset | None = None
    network: Model | None = None
    try:
        loaded = load_data(section, folder)
    except LoadError as error:
        problems.append(f"the data does not load yet: {error}")
    needs_factory = kind in {"safetensors", "state_dict"} and factory is None
    if loaded is not None and kind != "pickle" and not needs_factory:
        try:
            network = _load(model, folder, factory, loaded)
        except AuditError as error:
            problems.append(f"the model does not load yet: {error}")
    return _Seen(
        model_path=Path(os.path.relpath(real_path(model), folder)),
        model_format=kind,
        factory=factory,
        section=section,
        asked=frozenset(["target"] * (target is not None) + ["sensitive"] * bool(sensitive)),
        data=loaded,
        features=_guess_features(loaded) if loaded is not None and section.encoder is None else {},
        model=network,
        problems=tuple(problems),
    )


def _load(model: Path, folder: Path, factory: str | None, data: Dataset) -> "Model":
    from audit.load import load_model

    pixels = (0.0, 1.0) if _is_unit_image(data) else None
    section = ModelSection(path=real_path(model), factory=factory, classes=data.classes, input_range=pixels)
    rows: Floats = data.inputs[:_PREFLIGHT_ROWS]
    return load_model(section, folder, rows)


def _guess_data(
    model: Path, data: Path, folder: Path, target: str | None, sensitive: tuple[str, ...]
) -> DataSection:
    """The `[data]` section as guessed."""
    if not data.exists():
        raise LoadError(f"{data} does not exist; the second argument is the data file or a folder of images.")
    whole = real_path(data)
    reader = reader_of(whole, installed_functions("audit.readers"))
    arrays = reader in {"npz", "images"}
    _, raw = read_raw(DataSection(path=whole, target=target if arrays else target or ""))
    columns = _array_names(whole) if reader == "npz" else [str(name) for name in raw.table.columns]
    chosen = target or (raw.target if arrays else _guess_target(raw, columns))
    return DataSection(
        path=Path(os.path.relpath(whole, folder)),
        target=chosen,
        sensitive=sensitive or _guess_sensitive(raw, columns, chosen),
        where=_guess_where(raw) if not arrays else {},
        encoder=None if arrays else _guess_encoder(model, data, folder),
    )


def _array_names(path: Path) -> list[str]:
    with opened_arrays(path) as archive:
        return list(archive)


def _plain(name: str) -> str:
    """A column name without case, spaces and dashes."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def _guess_target(raw: Raw, columns: Sequence[str]) -> str:
    """A column that is called like labels and holds few different values; else the last."""
    by_name = {_plain(name): name for name in columns if _plain(name) not in _SPLITS}
    called = (by_name[word] for word in _TARGETS if word in by_name)
    found = (name for name in called if len(coded(raw.table[name])[1]) <= _MOST_CLASSES)
    return next(found, (*columns, *by_name.values())[-1])


def _guess_sensitive(raw: Raw, columns: Sequence[str], target: str) -> tuple[str, ...]:
    """Columns called like a protected attribute that fall into a few groups."""
    found = [name for name in columns if _plain(name) in _PROTECTED and name != target]
    return tuple(n for n in found if n not in raw.table.columns or _few_groups(raw, n))


def _few_groups(raw: Raw, name: str) -> bool:
    _, texts = coded(raw.table[name])
    return 1 < len(texts) <= _MOST_GROUPS


def _guess_where(raw: Raw) -> dict[str, Scalar]:
    """The test part, where a column says which rows it is."""
    for column in map(str, raw.table.columns):
        if _plain(column) in _SPLITS:
            _, texts = coded(raw.table[column])
            for text in texts:
                if text.strip().lower() == "test":
                    return {column: text}
    return {}


def _guess_encoder(model: Path, data: Path, folder: Path) -> Path | None:
    """The only .skops file beside the model or the data; None where there is none or a choice."""
    found = {real_path(path) for place in (model, data) for path in place.parent.glob("*.skops")}
    return Path(os.path.relpath(found.pop(), folder)) if len(found) == 1 else None


def _is_unit_image(data: Dataset) -> bool:
    return data.modality == "image" and data.inputs.min() >= 0 and data.inputs.max() <= 1


def _guess_features(data: Dataset) -> dict[str, dict[str, Any]]:
    """A description for each numeric column: one-hot groups by common prefix, kinds by the values seen."""
    if data.modality != "tabular":
        return {}
    names = [feature.name for feature in data.features]
    groups = _one_hot_groups(names, data.inputs)
    grouped = {column for columns in groups.values() for column in columns}
    found: dict[str, dict[str, Any]] = {}
    for prefix, columns in groups.items():
        found[prefix] = {"kind": "categorical", "columns": columns}
    for index, name in enumerate(names):
        if name not in grouped:
            found[name] = {"kind": _guess_kind(data.inputs[:, index])}
    for name, told in found.items():
        if _plain(name) in _FIXED:
            told["immutable"] = True
    return found


def _one_hot_groups(names: Sequence[str], rows: Floats) -> dict[str, list[str]]:
    """Columns of 0 and 1 that share a prefix before `_` or `=` and of which each row sets exactly one."""
    prefixes: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if np.isin(rows[:, index], (0, 1)).all() and (cut := re.match(r"(.+?)[_=]", name)):
            prefixes.setdefault(cut[1], []).append(index)
    return {
        prefix: [names[i] for i in columns]
        for prefix, columns in prefixes.items()
        if len(columns) > 1 and prefix not in names and (rows[:, columns].sum(axis=1) == 1).all()
    }


def _guess_kind(cells: Floats) -> str:
    values = np.unique(cells)
    if np.isin(values, (0, 1)).all():
        return "categorical"
    whole = bool((values == np.round(values)).all())
    return "ordinal" if whole and len(values) <= _MOST_STEPS else "numeric"


def _toml(value: Any) -> str:
    """A value as TOML on one line."""
    import tomlkit

    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(tomlkit.item(value).as_string())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _comment(text: str) -> str:
    """A comment on one line, whatever the text holds."""
    return "# " + "".join(c if c.isprintable() else " " for c in text)


def write_decisions_config(
    data: Path,
    out: Path,
    predictions: str,
    *,
    count: str | None = None,
    target: str | None = None,
    sensitive: Sequence[str] = (),
    force: bool = False,
) -> str:
    """Write a commented audit.toml for a table of decisions that needs no model, and return its text.

    The table is really read; what does not load yet is told in a comment on top of the file.

    Args:
        data: the table of decisions: .csv or .parquet.
        out: the file to write; its paths are relative to the folder it lies in.
        predictions: the column of decisions or scores.
        count: the column that says how many people a row stands for; a row is one person when None.
        target: the column of true outcomes; left out when None, for a guess could take a wrong one for true.
        sensitive: sensitive columns; guessed when empty.
        force: overwrite `out`.

    Raises:
        ConfigError: `out` exists and `force` is not set, or cannot be written.
        LoadError: the data cannot be read at all, or hold no such column.
    """
    _refuse_existing(out, force=force)
    if not data.exists():
        raise LoadError(f"{data} does not exist; --data names the table of decisions.")
    _, raw = read_raw(DataSection(path=real_path(data), target=target or predictions))
    if raw.inputs is not None:
        raise LoadError(f"{data} holds arrays; --predictions names a column of a table.")
    for name, key in ((predictions, "--predictions"), (count, "--count"), (target, "--target")):
        if name is not None:
            raw.column(name, key)
    asked = [name for name in (predictions, count, target) if name is not None]
    columns = [name for name in map(str, raw.table.columns) if name not in asked]
    section = DataSection(
        path=Path(os.path.relpath(real_path(data), real_path(out).parent)),
        target=target,
        count=count,
        sensitive=tuple(sensitive) or _guess_sensitive(raw, columns, ""),
        where=_guess_where(raw),
    )
    text = _decisions_text(section, predictions, real_path(out).parent, guessed=not sensitive)
    _write(out, text)
    return text


def _refuse_existing(out: Path, *, force: bool) -> None:
    if out.exists() and not force:
        raise ConfigError(f"{out} already exists; --force overwrites it, --output names another file.")


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}.") from None


def _decisions_text(section: DataSection, predictions: str, folder: Path, *, guessed: bool) -> str:
    problems: list[str] = []
    data: Dataset | None = None
    try:
        data = load_data(section, folder, predictions=predictions)
    except LoadError as error:
        problems.append(f"the data do not load yet: {error}")
    scored = data is not None and data.scores is not None
    lines = [
        *_opening(problems),
        "[model]",
        f"predictions = {_toml(predictions)}  # the column of decisions or scores; no model is run",
        f"{'' if scored else '# '}threshold = 0.5  # a score from this on is the favourable decision",
        "[data]",
        *_decision_keys(section, data, guessed=guessed),
        *_RUN,
        *_POLICY_HEAD,
        *(_RATIO_LIMIT if section.sensitive else [f"# {line}" for line in _RATIO_LIMIT]),
    ]
    return "\n".join(lines) + "\n" + _SYSTEM


def _decision_keys(section: DataSection, data: Dataset | None, *, guessed: bool) -> list[str]:
    """The lines of `[data]`."""
    told = data is not None and data.favourable is not None
    lines = [
        f"path = {_toml(section.path.as_posix())}",
        '# target = "outcome"  # the column of what turned out to be true'
        if section.target is None
        else f"target = {_toml(section.target)}",
        f"sensitive = {_toml(section.sensitive)}{'  # guess' if guessed else ''}"
        if section.sensitive
        else '# sensitive = ["sex", "race"]  # none was recognised; the fairness checks need one',
        '# count = "people"  # the column that says how many people a row stands for'
        if section.count is None
        else f"count = {_toml(section.count)}",
    ]
    if section.where:
        lines.append(f"where = {_toml(section.where)}  # guess: audit the test rows alone")
    if told and data is not None and data.favourable is not None:
        name = data.classes[data.favourable]
        lines.append(f"favourable = {_toml(name)}  # guess: the decision that is good for a person")
    else:
        lines.append('# favourable = "yes"  # the decision that is good for a person')
    if section.count is None:
        lines.append("# stream = true  # add up a Parquet file that is larger than memory")
    return lines + [_comment(caveat) for caveat in (() if data is None else data.caveats)]


def _text(seen: _Seen) -> str:
    sections = (_head(seen), _model(seen), _data(seen), _features(seen), _CHECKS, _policy(seen), _SYSTEM)
    return "\n".join(part.rstrip("\n") + "\n" for part in sections if part)


def _head(seen: _Seen) -> str:
    return "\n".join(_opening(seen.problems))


def _opening(problems: Sequence[str]) -> list[str]:
    return [
        "# Written by `model-audit init`. Lines marked `guess` were inferred from the files: check them.",
        "# Paths are relative to this file. Run it by: model-audit run",
        *(_comment(f"PROBLEM: {problem}") for problem in problems),
        "seed = 0",
    ]


def _model(seen: _Seen) -> str:
    lines = ["[model]", f"path = {_toml(seen.model_path.as_posix())}  # {_WORDS[seen.model_format]}"]
    if seen.factory is not None:
        lines.append(
            f"factory = {_toml(seen.factory)}  # builds the network; looked up beside this file first"
        )
    elif seen.model_format in {"safetensors", "state_dict"}:
        lines.append("# FILL IN: the file holds weights alone, so name the function that builds the network")
        lines.append('# factory = "models:build"')
    if seen.model_format == "pickle":
        lines.append(
            "# FILL IN: a pickle can run any code when it is opened; say this only of a file of your own"
        )
        lines.append("# trust = true")
    lines.append('task = "classification"')
    lines += _classes(seen)
    if seen.data is not None and _is_unit_image(seen.data):
        lines.append(
            "input_range = [0.0, 1.0]  # guess: smallest and largest input; 8-bit images are scaled to it"
        )
    else:
        lines.append("# input_range = [0.0, 1.0]  # smallest and largest value that an input may take")
    lines.append(
        "# normalize = { mean = [0.5], std = [0.5] }  # applied inside, so that epsilon is in raw units"
    )
    lines.append('device = "auto"  # the GPU where there is one')
    if seen.model is not None:
        lines.append(_comment(f"it loads: its output was recognised as {seen.model.output}"))
        lines += [_comment(caveat) for caveat in seen.model.caveats]
    return "\n".join(lines)


def _classes(seen: _Seen) -> list[str]:
    if seen.data is None:
        return ['# classes = ["no", "yes"]  # in the order of the outputs']
    return [f"classes = {_toml(seen.data.classes)}  # guess: the order of the outputs, taken from the labels"]


def _data(seen: _Seen) -> str:
    section = seen.section
    guess = {key: "" if key in seen.asked else "  # guess" for key in ("target", "sensitive")}
    lines = ["[data]", f"path = {_toml(section.path.as_posix())}"]
    lines.append(f"target = {_toml(section.target)}{guess['target']}")
    if section.sensitive:
        lines.append(f"sensitive = {_toml(section.sensitive)}{guess['sensitive']}")
    else:
        lines.append('# sensitive = ["sex", "race"]  # none was recognised; the fairness checks need one')
    if section.where:
        lines.append(f"where = {_toml(section.where)}  # guess: audit the test rows alone")
    if section.encoder is not None:
        lines.append(
            f"encoder = {_toml(section.encoder.as_posix())}  # guess: the transformer found beside them"
        )
    elif seen.data is None or seen.data.modality == "tabular":
        lines.append('# encoder = "encoder.skops"  # a scikit-learn transformer, for columns that hold words')
    lines += [*_inputs(seen), *_outcome(seen)]
    lines.append("# rows = 2000  # audit a sample of this many rows")
    if seen.data is not None:
        lines += [_comment(caveat) for caveat in seen.data.caveats]
    return "\n".join(lines)


def _inputs(seen: _Seen) -> list[str]:
    """The input columns of a table in their order, where there are few enough to be read."""
    data = seen.data
    if data is None or data.modality != "tabular" or seen.section.encoder is not None:
        return []
    names = [feature.name for feature in data.features]
    if len(names) > _MOST_FEATURES:
        return []
    return [f"inputs = {_toml(names)}  # guess: what the model takes, in its order"]


def _outcome(seen: _Seen) -> list[str]:
    data = seen.data
    if data is None:
        return []
    if data.favourable is None:
        return [
            f"# favourable = {_toml(data.classes[0])}  # the outcome that is good for a person, if one is"
        ]
    name = data.classes[data.favourable]
    return [f"favourable = {_toml(name)}  # guess: the outcome that is good for a person"]


def _features(seen: _Seen) -> str:
    """`[data.features]`: one line each, or how to write them where there are too many."""
    if seen.data is None or seen.data.modality != "tabular":
        return ""
    head = "# What each feature is: kind, range, and whether a person can change it. An attack keeps to it."
    if seen.section.encoder is not None:
        told = {f.name: _encoded(f.name, f.kind) for f in seen.data.features}
    else:
        told = seen.features
    if len(told) > _MOST_FEATURES:
        example = '# "NAME" = { kind = "numeric", range = [0.0, 1.0], immutable = false }'
        return f"{head}\n# {len(told)} columns are numeric features of their own.\n[data.features]\n{example}"
    lines = [f"{_key(name)} = {_toml(item)}  # guess" for name, item in told.items()]
    return "\n".join([head, "[data.features]", *lines])


def _encoded(name: str, kind: str) -> dict[str, Any]:
    return {"kind": kind, "immutable": True} if _plain(name) in _FIXED else {"kind": kind}


_KEPT = (
    "reproducers = true  # a broken limit keeps up to 16 rows that show it; false keeps none",
    "outcomes = true  # label, decision, score and groups by row number, to compare runs; false keeps none",
)
_RUN = ("[checks]", 'run = ["*"]  # names or patterns; `model-audit checks` lists them', *_KEPT)
_CHECKS = "\n".join((*_RUN, '# [checks.settings."robustness.pgd"]', "# epsilon = [0.0157, 0.0314]"))


_POLICY_HEAD = ("[policy]", 'on_inconclusive = "fail"  # fail, warn or pass', "family_wise_level = 0.95")
_RATIO_LIMIT = (
    '[policy.limits."fairness.groups"]',
    "selection_rate_ratio = { at_least = 0.8 }  # guess: four fifths; replace it by what the use asks for",
)


def _policy(seen: _Seen) -> str:
    lines = list(_POLICY_HEAD)
    lines.append('[policy.limits."performance.accuracy"]')
    if seen.data is None:
        lines.append("accuracy = { at_least = 0.5 }  # guess: replace it by what the use of the model needs")
    else:
        rows = np.bincount(seen.data.labels)
        share = int(100 * rows.max() / rows.sum()) / 100
        lines.append(
            f"accuracy = {{ at_least = {share} }}  # guess: always saying the commonest class gives this"
        )
    return "\n".join(lines) + "\n" + _MORE_LIMITS


_MORE_LIMITS = """\
# [policy.limits."fairness.groups"]
# selection_rate_ratio = { at_least = 0.8 }
# equalized_odds_difference = { at_most = 0.1 }
# [policy.limits."robustness.pgd"]
# robust_accuracy = { at_least = 0.4, where = { epsilon = 0.0314 } }
"""

_SYSTEM = """\
# What only a person can state; documents that ask for it print it with its name and date.
[system]
# name = "what people call the system"
# purpose = "what the model decides, about whom, and who relies on it"
# provider = "who answers for it"
"""
