"""The published schemas, as `tests/schemas/README.md` lists them, and a validator that checks formats too."""

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parent / "schemas"
CYCLONEDX = "bom-1.6.SNAPSHOT.schema.json"
SARIF = "sarif-2.1.0.derived.schema.json"
OSCAL = "oscal-1.2.1-assessment-results.derived.schema.json"
_PARTS = ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
_BASE = "http://cyclonedx.org/schema/"
FORMATS = jsonschema.FormatChecker()


@FORMATS.checks("date-time")
def is_moment(value: object) -> bool:
    """RFC 3339: a date, a time and a zone."""
    if not isinstance(value, str):
        return True
    shape = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value)
    return shape is not None and datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri-reference")
@FORMATS.checks("iri-reference")
def is_reference(value: object) -> bool:
    """RFC 3986: no blanks, no quotes, no angle brackets, no control characters."""
    return not isinstance(value, str) or re.fullmatch(r"[^\s<>\"{}|\\^`\x00-\x20]*", value) is not None


@FORMATS.checks("uri")
def is_address(value: object) -> bool:
    return not isinstance(value, str) or (is_reference(value) and bool(urlsplit(value).scheme))


def _read(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


@cache
def _validator(schema: str) -> Any:
    definition = _read(schema)
    parts = [(name, Resource.from_contents(_read(name))) for name in _PARTS]
    registry = Registry().with_resources([*parts, *((_BASE + name, part) for name, part in parts)])
    kind = jsonschema.validators.validator_for(definition)
    kind.check_schema(definition)
    return kind(definition, registry=registry, format_checker=FORMATS)


def faults(document: Any, schema: str) -> list[str]:
    """What a schema has against a document; empty when it is valid."""
    return [f"{item.json_path}: {item.message[:200]}" for item in _validator(schema).iter_errors(document)]
