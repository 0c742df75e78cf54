"""Toml: a file that a person wrote, read key by key. What is wrong is refused in one sentence naming it."""

import tomllib
from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from audit.errors import ConfigError, nearest
from audit.plainfile import plain_file


def read_toml(path: Path, otherwise: str) -> dict[str, Any]:
    """A TOML file as a dictionary.

    Args:
        path: the file.
        otherwise: what a person can do where it does not exist, as the end of a sentence.

    Raises:
        ConfigError: it is missing or is not TOML.
    """
    try:
        return tomllib.loads(plain_file(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; {otherwise}.") from None
    except RecursionError:
        raise ConfigError(f"{path} cannot be read as TOML: its values are nested too deeply.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read as TOML: {why}.") from None


def known_keys(values: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse a key that nobody reads."""
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: '{key}' is not a known key{nearest(key, known)}.")


def text(values: Mapping[str, Any], key: str, where: str) -> str:
    """A text that must be there and say something, without the blanks around it."""
    value = values.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where}: '{key}' {_found(value)}; it must be a text.")
    return value.strip()


def optional_text(values: Mapping[str, Any], key: str, where: str) -> str:
    """A text that may be missing; empty then."""
    return text(values, key, where) if key in values else ""


def one_of(values: Mapping[str, Any], key: str, known: Collection[str], where: str) -> str:
    """A text out of a list of words."""
    value = text(values, key, where)
    if value not in known:
        raise ConfigError(f"{where}: '{key}' = {value!r} is wrong; it is one of {', '.join(known)}.")
    return value


def texts(values: Mapping[str, Any], key: str, where: str, what: str = "texts") -> tuple[str, ...]:
    """A list of texts; empty where it is missing. `what` names them in the error."""
    value = values.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ConfigError(f"{where}: '{key}' is wrong; it must be a list of {what}.")
    return tuple(item.strip() for item in value)


def flag(values: Mapping[str, Any], key: str, where: str) -> bool | None:
    """A yes or no; None where it is missing."""
    value = values.get(key)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{where}: '{key}' = {value!r} is wrong; it is true or false.")
    return value


def day(values: Mapping[str, Any], key: str, where: str) -> date:
    """A date, written plainly or in quotes as YYYY-MM-DD."""
    value = values.get(key)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ConfigError(
            f"{where}: '{key}' {_found(value)}; it must be a date such as 2026-11-21."
        ) from None


def tables(values: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    """The entries written as `[[key]]`; none where it is missing."""
    entries = values.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: '{key}' is wrong; write each entry as [[{key}]].")
    return entries


def _found(value: Any) -> str:
    return "is missing" if value is None else f"= {_brief(value)} is wrong"


def _brief(value: Any) -> str:
    shown = str(value) if isinstance(value, date) else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"  # noqa: PLR2004 - it stands in a sentence
