"""Inherit: an audit.toml and the files that it `extends`, read as one.

The file that is extended is read first. Tables are merged key by key; any other value, a list too, takes the
place of the one below. A path stays beside the file that names it.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.errors import ConfigError
from audit.plainfile import plain_file, real_path

_LARGEST = 2**53 - 1
_MODEL_PATHS = ("path", "classes")
PATHS = (
    *(("model", key) for key in _MODEL_PATHS),
    ("data", "path"),
    ("data", "encoder"),
    ("data", "labels"),
    ("policy", "waivers"),
)
# Settings of checks that name a file: texts under these keys, or tables of such texts.
SETTINGS = frozenset({"path", "train", "foreign", "concepts"})


def read_inherited(path: Path) -> dict[str, Any]:
    """A TOML file with all that it inherits, without the key `extends`.

    Paths of a file in another folder are rewritten to lie relative to the folder of `path`.

    Raises:
        ConfigError: a file is missing or not TOML, `extends` is no text, or files extend each other in a
            circle.
    """
    chain, asked = [path], None
    layers = [_read(path, asked)]
    while "extends" in layers[-1]:
        asked = chain[-1]
        base = _base(layers[-1].pop("extends"), asked)
        circle = [real_path(item) for item in chain]
        if real_path(base) in circle:
            names = [str(item) for item in [*chain[circle.index(real_path(base)) :], base]]
            raise ConfigError(f"{' extends '.join(names)}: a circle; remove one `extends`.")
        chain.append(base)
        layers.append(_read(base, asked))
    merged: dict[str, Any] = {}
    for file, values in zip(reversed(chain), reversed(layers), strict=True):
        merged = merged_with(merged, _moved(values, file, path))
    return merged


def holder(path: Path, keys: Sequence[str]) -> Path:
    """The file of a chain in which a value stands, the uppermost first; `path` itself where it is in none."""
    file = path
    while True:
        values = _read(file, None)
        found: Any = values
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else found
        if found is not None:
            return file
        if "extends" not in values:
            return path
        file = _base(values["extends"], file)


def merged_with(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one: tables key by key, anything else from above."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merged_with(merged[key], value) if both else value
    return merged


def _base(value: Any, asked: Path) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(f"{asked}: 'extends' = {value!r} is wrong; it names one other TOML file.")
    return Path(os.path.normpath(asked.parent / value))


def _read(path: Path, asked: Path | None) -> dict[str, Any]:
    """A TOML file as a dictionary; one sentence where it is missing or not TOML."""
    try:
        values = tomllib.loads(plain_file(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if asked is not None:
            raise ConfigError(f"{path} does not exist; {asked} extends it.") from None
        raise ConfigError(f"{path} does not exist; `model-audit init MODEL DATA` writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        named = f"; {asked} extends it" if asked is not None else ""
        raise ConfigError(f"{path} cannot be read: {why}{named}.") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: its values are nested too deeply.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    refuse_unwritable(values, str(path))
    return values


def refuse_unwritable(value: Any, where: str, keys: tuple[str, ...] = ()) -> None:
    """Refuse a number that JSON cannot hold, which would be found only when everything has been measured."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            refuse_unwritable(item, where, (*keys, str(key)))
    elif isinstance(value, float | int) and not abs(value) <= _LARGEST:
        place = ".".join(keys)
        raise ConfigError(f"{where}: '{place}' = {value} is wrong; a number must be finite and below 2**53.")


def _moved(values: dict[str, Any], file: Path, main: Path) -> dict[str, Any]:
    """The values of one file with its paths as seen from the folder of the main file."""
    source, target = real_path(file).parent, real_path(main).parent
    if source == target:
        return values
    for section, key in PATHS:
        _move(values.get(section), key, source, target)
    models = values.get("models")
    for section in models.values() if isinstance(models, dict) else ():
        for key in _MODEL_PATHS:
            _move(section, key, source, target)
    checks = values.get("checks")
    settings = checks.get("settings") if isinstance(checks, dict) else None
    for section in settings.values() if isinstance(settings, dict) else ():
        for key in SETTINGS:
            _move(section, key, source, target)
    return values


def _move(section: Any, key: str, source: Path, target: Path) -> None:
    """Rewrite one path, or a table of paths, in place; what is empty or absolute stays."""
    value = section.get(key) if isinstance(section, dict) else None
    if isinstance(value, dict):
        for name in value:
            _move(value, name, source, target)
    elif isinstance(value, str) and value and not Path(value).is_absolute():
        section[key] = Path(os.path.relpath(source / value, target)).as_posix()
