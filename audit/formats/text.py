"""Text: what names, numbers and times of a record become in a file that a program reads.

Every text of a record is hostile until shown otherwise: control and direction marks and halves of surrogate
pairs are spelled out, so that each format can hold them and none can change what is read.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from audit.record import plain
from audit.wording import visible

_NAME = 200


def line(text: str, most: int = _NAME) -> str:
    """A text on one line of at most `most` characters; `unnamed` where there is none.

    What is cut ends in eight digits of its sha256, so that two long texts do not become one name.
    """
    whole = " ".join(visible(str(text)).split())
    if len(whole) <= most:
        return whole or "unnamed"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: most - 11].rstrip()}… {digest}"


def number(value: float | None) -> str:
    """A number as the shortest text that reads back as the same number; empty where it is undefined."""
    if value is None or not math.isfinite(value):
        return ""
    return repr(value)


def moment(text: Any) -> str | None:
    """An ISO time with its zone as `2026-11-21T03:14:00Z`; None for anything else."""
    try:
        when = datetime.fromisoformat(str(text))
        return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if when.tzinfo else None
    except (ValueError, OverflowError):
        return None


def where(group: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Groups and settings of a measure: `sex = Female, epsilon = 0.03`; empty for the whole.

    Each is in the order of its names, which a record read back from its file has too.
    """
    facts = (*sorted(group.items()), *sorted(settings.items()))
    return ", ".join(f"{key} = {value}" for key, value in facts)


def sha256_of(facts: Mapping[str, Any], key: str = "sha256") -> str | None:
    """The fingerprint among the facts of a record; None where there is none or it is not one."""
    text = facts.get(key)
    valid = isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")  # noqa: PLR2004 - hex digits of a sha256
    return text if valid else None


def file_of(facts: Mapping[str, Any], otherwise: str) -> str:
    """The name of the file that the facts of a model or of data speak of, without its folder."""
    name = str(facts.get("file") or facts.get("path") or "")
    return line(name.replace("\\", "/").rpartition("/")[2]) if name else otherwise


def ordered(value: Any) -> Any:
    """A part of a record as JSON values with sorted keys, as a record read back from its file has them."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [ordered(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else ordered(plain(value))


def as_json(value: Any) -> bytes:
    """A value of dicts, lists and scalars as JSON in UTF-8: the same value gives the same bytes.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(_visible(value), ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _visible(value: Any) -> Any:
    if isinstance(value, dict):
        return {visible(str(key)): _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return visible(value) if isinstance(value, str) else value
