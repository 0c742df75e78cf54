"""JSON from a file that may come from anywhere: one sentence where it is none, and never a traceback."""

import json
import math
from typing import Any

from audit.errors import ConfigError

MOST_NESTED = 100
"""Levels of lists and objects inside each other; records have fewer than twenty."""

_SURE_DIGITS = 15
_LARGEST_WHOLE = 2**53 - 1


def parse_json(content: bytes | str, where: str) -> Any:
    """The value of a JSON text that has a canonical form (RFC 8785), as all that is written here has.

    A whole number above 2**53 is a float, as it was when it was written.

    Args:
        content: the text.
        where: the file, for the error.

    Raises:
        ConfigError: it is not JSON, is nested more than `MOST_NESTED` levels deep, or holds a number that is
            not finite or a text that is not Unicode.
    """
    try:
        value = json.loads(content, parse_int=_whole)
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        raise ConfigError(f"{where} cannot be read as JSON: {error}.") from None
    level = [value]
    for _ in range(MOST_NESTED + 1):
        for item in level:
            _refuse_unwritable(item, where)
        inside = [item for item in level if isinstance(item, dict | list)]
        if not inside:
            return value
        level = [
            part for item in inside for part in ((*item, *item.values()) if isinstance(item, dict) else item)
        ]
    raise _too_deep(where)


def _whole(text: str) -> float:
    number = int(text) if len(text) <= _SURE_DIGITS else float(text)
    return int(number) if abs(number) <= _LARGEST_WHOLE else number


def _refuse_unwritable(value: Any, where: str) -> None:
    if type(value) is float and not math.isfinite(value):
        raise ConfigError(f"{where} holds the number {value}; numbers must be finite.")
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{where} holds {value[:40]!a}, half a pair of surrogates; texts must be Unicode."
            ) from None


def _too_deep(where: str) -> ConfigError:
    return ConfigError(
        f"{where} cannot be read as JSON: its values are nested more than {MOST_NESTED} levels deep."
    )
