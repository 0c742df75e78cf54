"""Reading: how to read a measure, for someone who does not build models.

The words stand in `templates/measures.toml`, so that they can be changed without touching code.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from audit.evidence import Measure
from audit.resources import TEMPLATES
from audit.wording import CHANGE, MINUS, condition, number, setting, words

_ENDINGS = {
    "_difference": (
        "How far this differs between the group and the one it is compared with, or between any two groups: ",
        f"{{}} of one {MINUS} {{}} of the other",
    ),
    "_ratio": (
        "How the group stands to the one it is compared with, in this: ",
        "{} of the group ÷ {} of the one it is compared with",
    ),
}
_MOST_COUNTS = 8
_PAIRS = (("x", "n"), ("x1", "n1"), ("x0", "n0"))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one measure is, in sentences for a reader.

    Attributes:
        title: the name of the measure as words.
        what: what it is.
        formula: how it is computed, in words; empty where that is not known.
        unit: on what scale it stands.
        better: which direction is better.
        interval: what its interval, and a wide one, means.
    """

    title: str
    what: str
    formula: str
    unit: str
    better: str
    interval: str


def how_to_read(item: Measure) -> Reading:
    """How to read one measure: by its own name, else by its ending, else by its unit alone."""
    texts = _texts()
    what, formula = _known(item.name)
    unit = texts["units"].get(item.unit)
    return Reading(
        title=words(item.name),
        what=what,
        formula=formula,
        unit=unit if unit is not None else f"It is counted in {words(item.unit).lower()}.",
        better=texts["better"][item.better],
        interval=texts["interval"][_kind_of_interval(item)],
    )


def _known(name: str) -> tuple[str, str]:
    if name.startswith(CHANGE):
        called = words(name.removeprefix(CHANGE)).lower()
        what = f"How much the {called} of this run differs from that of the run it is compared with."
        near = "where it is best at 0 or at 1, it is how near it comes to that"
        return what, f"{called} now {MINUS} {called} in the earlier run; {near}"
    found = _texts()["measures"].get(name)
    if found:
        return str(found[0]), str(found[1])
    for ending, (what, formula) in _ENDINGS.items():
        base = name.removesuffix(ending)
        if base != name and base:
            called = words(base).lower()
            inner = _texts()["measures"].get(base, (called + ".",))[0]
            return what + inner[:1].lower() + inner[1:], formula.format(called, called)
    return f"A number that its check calls {words(name).lower()}; the text of the check says what it is.", ""


def _kind_of_interval(item: Measure) -> str:
    if item.method == "exact":
        return "exact"
    return "sampled" if item.low is not None and item.high is not None else "none"


def method_in_words(item: Measure) -> str:
    """How the interval was found: `Wilson score interval, 95 %`; empty where the number has no method."""
    if not item.method:
        return ""
    name = str(_texts()["methods"].get(item.method, words(item.method)))
    return f"{name}, {100 * item.level:.4g} %" if item.level is not None and item.low is not None else name


def counts_in_words(statistics: Mapping[str, Any]) -> str:
    """The counts from which a number follows: `408 of 5,421`; long lists are named, not printed."""
    left = dict(statistics)
    said = []
    for part, whole in _PAIRS:
        if _is_number(left.get(part)) and _is_number(left.get(whole)):
            said.append(f"{_plain(left.pop(part))} of {_plain(left.pop(whole))}")
    said = [" against ".join(said)] if said else []
    said += [f"{words(key).lower()} {_one(value)}" for key, value in left.items()]
    return ", ".join(said)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: float) -> str:
    return number(int(value) if float(value).is_integer() else value)


def _one(value: Any) -> str:
    if _is_number(value):
        return _plain(value)
    size = _size(value)
    if isinstance(value, Mapping | list | tuple) and size > _MOST_COUNTS:
        return f"({number(size)} counts, in the record)"
    return condition(value) if isinstance(value, Mapping) else setting(value)


def _size(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(map(_size, value))
    return 1


@cache
def _texts() -> dict[str, dict[str, Any]]:
    return tomllib.loads((TEMPLATES / "measures.toml").read_text(encoding="utf-8"))
