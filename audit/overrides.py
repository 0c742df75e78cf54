"""Overrides: what `--set KEY=VALUE` puts in the place of a value of audit.toml."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from audit.errors import ConfigError
from audit.inherit import refuse_unwritable

_DEEPEST = 100


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The values of an audit.toml with those of the command line in their place, the last one winning.

    Args:
        values: the file as a dictionary; it is not changed.
        overrides: texts such as `policy.on_inconclusive=warn`. The key is dotted and quoted as in TOML; the
            value is read as TOML and, where it is none, as a text.

    Raises:
        ConfigError: a text is no KEY=VALUE, or its key leads through a value that is no table.
    """
    merged: Any = dict(values)
    for text in overrides:
        keys, value = read_override(text)
        refuse_unwritable(value, f"--set {text}", keys)
        merged = _placed(merged, keys, value, text)
    result: dict[str, Any] = merged
    return result


def read_override(text: str) -> tuple[tuple[str, ...], Any]:
    """The keys, from the outermost in, and the value of one `KEY=VALUE`."""
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ConfigError(f"--set {text!a} is not UTF-8 text.")
    for place, sign in enumerate(text):
        keys = _keys(text[:place]) if sign == "=" else ()
        if 0 < len(keys) <= _DEEPEST:
            return keys, _value(text[place + 1 :].strip())
    raise ConfigError(f"--set {text} is not KEY=VALUE with a key as in TOML, such as data.rows=500.")


def _keys(text: str) -> tuple[str, ...]:
    if "\n" in text:
        return ()
    try:
        value: Any = tomllib.loads(f"{text} = 0")
    except (ValueError, RecursionError):
        return ()
    keys = []
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        keys.append(key)
    # Where a comment swallowed the value it is not the 0 of above, and the text before was no key.
    return tuple(keys) if value == 0 else ()


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text


def _placed(values: Any, keys: Sequence[str], value: Any, text: str) -> Any:
    if not keys:
        return value
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"--set {text}: '{keys[0]}' lies within {values!r}, which is no table; set the whole instead."
        )
    first, rest = keys[0], keys[1:]
    return {**values, first: _placed(values.get(first, {}), rest, value, text)}
