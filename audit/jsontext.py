"""JSON from a file that may come from anywhere: one sentence where it is none, and never a traceback."""

import json
from typing import Any

from audit.errors import ConfigError

MOST_NESTED = 100
"""Levels of lists and objects inside each other; records have fewer than twenty."""


def parse_json(content: bytes | str, where: str) -> Any:
    """The value of a JSON text.

    Args:
        content: the text.
        where: the file, for the error.

    Raises:
        ConfigError: it is not JSON, or is nested more than `MOST_NESTED` levels deep.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        raise ConfigError(f"{where} cannot be read as JSON: {error}.") from None
    level = [value]
    for _ in range(MOST_NESTED + 1):
        inside = [item for item in level if isinstance(item, dict | list)]
        if not inside:
            return value
        level = [part for item in inside for part in (item.values() if isinstance(item, dict) else item)]
    raise _too_deep(where)


def _too_deep(where: str) -> ConfigError:
    return ConfigError(
        f"{where} cannot be read as JSON: its values are nested more than {MOST_NESTED} levels deep."
    )
