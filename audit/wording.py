"""Wording: what numbers, names and texts of a record become for a reader. Plain functions, no templates.

Every text of a record is hostile until shown otherwise: `visible` spells out control and direction marks,
and whatever becomes `Markup` here was escaped first.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from audit.policy import Verdict

if TYPE_CHECKING:
    from markupsafe import Markup

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LONG_TEXT = 20_000
_NO_WORSE = "no worse than"
CHANGE = "change_of_"
_INLINE = 6
_TINY = 1e-3
_HUGE = 1e7
_FIRST = ("path", "file", "sha256", "id", "started", "finished", "task", "rows", "device", "purpose")
_NAMES = {
    "bytes": "Size in bytes",
    "cpu": "Processor",
    "sha256": "Fingerprint (sha256)",
    "ruled_out": "Ruled out",
    "config_sha256": "Configuration (sha256)",
    "mean": "Mean subtracted",
    "std": "Divided by",
}
_LETTERS = frozenset({"auc", "auroc", "aurc", "ks", "ece", "tcav", "id"})
_SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
VERDICT_WORDS: dict[Verdict, tuple[str, str]] = {
    Verdict.PASS: ("PASS", "Every limit that was set was held."),
    Verdict.FAIL: ("FAIL", "At least one limit was broken."),
    Verdict.INCONCLUSIVE: ("INCONCLUSIVE", "No limit was broken, but the data cannot settle every limit."),
    Verdict.NOT_EVALUABLE: ("NOT EVALUABLE", "A limit was set on a number that this data does not define."),
    Verdict.NOT_APPLICABLE: (
        "NOT APPLICABLE",
        "A check that was asked for by name does not fit this model or this data.",
    ),
    Verdict.BROKEN: ("BROKEN", "A planned check did not run to its end, so the audit cannot say yes."),
    Verdict.NOT_JUDGED: (
        "NOT JUDGED",
        "Numbers were measured, but no limit was set, so there is no yes or no.",
    ),
}

# What an answer means for one finding, and what could be done next.
FINDING_WORDS: dict[Verdict, tuple[str, str]] = {
    Verdict.PASS: (
        "The whole interval keeps every limit set on it, so chance does not explain the good result.",
        "Nothing for now. Measure again when the model, the data or the use changes.",
    ),
    Verdict.FAIL: (
        "At least one whole interval lies beyond its limit, so chance does not explain it.",
        "Find out why, mend the model or the data and audit again, or have someone state why it is accepted.",
    ),
    Verdict.INCONCLUSIVE: (
        "At least one interval lies on both sides of its limit: the rows tested do not settle it.",
        "Test on more rows; how many stands beside the number where it can be said. Until then it is no yes.",
    ),
    Verdict.NOT_EVALUABLE: (
        "The question was asked, and this data cannot answer it. That is neither good nor bad.",
        "Bring data that can answer it, by the reason given, or state why no answer is needed.",
    ),
    Verdict.NOT_APPLICABLE: (
        "The check does not fit this model or this data and measured nothing. That is neither good nor bad.",
        "Nothing, unless the question matters for this model: then find another way to answer it.",
    ),
    Verdict.BROKEN: (
        "The check did not run to its end, so what it asks is not known. That is never a yes.",
        "Repair the cause that is named and run the audit again.",
    ),
    Verdict.NOT_JUDGED: (
        "It was measured, and no limit was set, so there is no yes or no.",
        "Read the numbers and set a limit in the configuration, or say why none is needed.",
    ),
}


UNDER_PROFILE = (
    "It ran under the profile {}, which set whatever audit.toml leaves open; each finding says what."
)
OTHER_POLICY = (
    "These verdicts were judged under another policy than the one that was fixed before measuring. The "
    "record names the first one by its sha256 and does not hold it."
)


def markup(text: str) -> "Markup":
    """A text as HTML. Only for texts of this project, or texts that were escaped before."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - see above: the callers escape


def visible(text: str) -> str:
    """A text whose control and direction marks are spelled out, so that none can change what is read."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def shown(value: Any) -> Any:
    """What a template prints for a value: None is nothing, a text is made visible, the rest is as it is."""
    if value is None:
        return ""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(str(value))
    return value


def number(value: Any, decimals: int = 3) -> str:
    """A number for a reader: at least `decimals` places, grouped thousands, a true minus; a dash for None."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return setting(value)
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if not math.isfinite(value):
        return "not a finite number"
    size = abs(value)
    if size != 0 and (size < _TINY or size >= _HUGE):
        text, _, power = f"{value:.2e}".partition("e")
        return f"{text} {TIMES} 10".replace("-", MINUS) + str(int(power)).translate(_RAISED)
    places = decimals if size < 100 else 1  # noqa: PLR2004 - three digits before the point are enough
    return f"{value:,.{places}f}".replace("-", MINUS)


def exactly(value: float | None) -> str:
    """A number as it was written down, e.g. a limit: `0.8`, not `0.800`."""
    return NONE if value is None else f"{value:.12g}".replace("-", MINUS)


def count(value: Any, noun: str = "") -> str:
    """`1 check`, `2 checks`, `1,204 rows`."""
    text = number(value)
    if not noun:
        return text
    return f"{text} {noun}" if value == 1 else f"{text} {noun}s"


def roughly(value: int) -> str:
    """A number to two digits, for what is an estimate itself: `41,000`."""
    digits = max(0, len(str(abs(value))) - 2)
    return f"{round(value, -digits):,}"


def words(name: str) -> str:
    """A name of the record as words: `robust_accuracy` becomes `Robust accuracy`."""
    text = " ".join(part.upper() if part in _LETTERS else part for part in name.strip("_ ").split("_"))
    return text[:1].upper() + text[1:]


def setting(value: Any) -> str:
    """A setting's value on one line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return exactly(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {setting(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(setting(item) for item in value) or "none"
    return str(value)


def condition(values: Mapping[str, Any]) -> str:
    """Groups or settings as a reader says them: `sex Female, epsilon 0.031`."""
    return ", ".join(f"{key.replace('_', ' ')} {_rounded(value)}" for key, value in values.items())


def _rounded(value: Any) -> str:
    return f"{value:.4g}".replace("-", MINUS) if isinstance(value, float) else setting(value)


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """`0.812 to 0.861`; a dash where there is none."""
    if low is None or high is None:
        return NONE
    return f"{number(low, decimals)} to {number(high, decimals)}"


def is_change(item: Any) -> bool:
    """Whether a judgement is on the change since an earlier run, so that its numbers are differences."""
    return str(item.limit).startswith(f"{item.measure} {_NO_WORSE} ")


def name_of(item: Any) -> str:
    """What a judgement is on: its measure, or the change of it."""
    return f"{CHANGE}{item.measure}" if is_change(item) else str(item.measure)


def limit_in_words(item: Any) -> str:
    """`at least 0.8`, for a limit or a judgement; its own text where it carries no bound."""
    text = str(getattr(item, "limit", item))
    change = text.partition(f" {_NO_WORSE} ")[2].split(" where ")[0].split(" for ")[0]
    if change and hasattr(item, "limit"):
        # A judgement of a change has the bounds of the difference, which say nothing without this.
        return f"{_NO_WORSE} {change}"
    bounds = [f"at least {exactly(item.at_least)}"] if item.at_least is not None else []
    bounds += [f"at most {exactly(item.at_most)}"] if item.at_most is not None else []
    bounds += [f"{_NO_WORSE} {change}"] if change else []
    return " and ".join(bounds) or text.removeprefix(item.measure).strip()


def short(text: Any, most: int = 80) -> str:
    """A text cut for places that hold no link, such as a title or an alternative text."""
    plain = str(text)
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def sentence(text: str) -> str:
    """A reason with a capital letter and a full stop; a first word that looks like a name is left alone."""
    stripped = text.strip()
    if not stripped:
        return ""
    first = stripped.split(maxsplit=1)[0]
    if first.isalpha():
        stripped = stripped[0].upper() + stripped[1:]
    return stripped if stripped[-1] in ".!?…" else stripped + "."


def day(text: Any) -> str:
    """An ISO time as `21 November 2026, 03:14 UTC`; anything else as it stands."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    clock = f"{moment:%H:%M}" + (" UTC" if moment.tzname() in ("UTC", "UTC+00:00") else "")
    return f"{moment.day} {moment:%B %Y}, {clock}"


def fixed_when(fixed: Any, measured: Any) -> str:
    """When the limits were fixed and when measuring began, as a sentence; empty where a time is not known."""
    try:
        first, second = datetime.fromisoformat(fixed), datetime.fromisoformat(measured)
        order = "before" if first <= second else "after"
    except (TypeError, ValueError):
        return ""
    return f"The limits were fixed at {_clock(first)}, {order} the first measurement at {_clock(second)}."


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}" + (f" {moment.tzname()}" if moment.tzinfo else "") + f" on {calendar(moment)}"


def calendar(moment: date) -> str:
    """A date as `21 November 2026`."""
    return f"{moment.day} {moment:%B %Y}"


def slug(text: str) -> str:
    """A text as part of an anchor: a-z, 0-9 and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def prose(text: str) -> "Markup":
    """A docstring as HTML: paragraphs, lists, `Args:`-like blocks, `code` in backticks; the rest escaped."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return markup("".join(_block(block) for block in blocks if block.strip()))


def _block(block: str) -> str:
    lines = block.splitlines()
    head = lines[0].strip()
    indented = [line for line in lines[1:] if line.strip()]
    if head.endswith(":") and indented and all(line.startswith((" ", "\t")) for line in indented):
        return f"<p>{_inline(head)}</p>{_items(indented)}"
    if all(line.lstrip().startswith(("- ", "* ")) or line.startswith("  ") for line in lines):
        return _items(lines)
    return f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>"


def _items(lines: Sequence[str]) -> str:
    """A list whose items start at the smallest indentation."""
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    items: list[str] = []
    for line in lines:
        if items and len(line) - len(line.lstrip()) > margin:
            items[-1] += " " + line.strip()
        else:
            items.append(re.sub(r"^[-*] ", "", line.strip()))
    return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"


def _inline(text: str) -> str:
    from markupsafe import escape

    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", str(escape(visible(text))))


class LongTexts:
    """The texts that were cut on the page; each is printed in full once, at its end.

    Args:
        most: where the page has no end to print them at, how many characters any text may have on it.
    """

    def __init__(self, most: int | None = None) -> None:
        self.texts: dict[str, int] = {}
        self.most = most

    def __bool__(self) -> bool:
        return bool(self.texts)

    def clip(self, text: Any, most: int = 80, *, code: bool = False) -> "Markup":
        """A text, cut after `most` characters with a link to the whole; `code` sets backticks as code."""
        from markupsafe import escape

        plain = visible(str(text))
        if self.most is not None:
            plain = short(plain, min(most, self.most))
        if len(plain) <= most:
            return markup(_inline(plain)) if code else escape(plain)
        index = self.texts.setdefault(plain, len(self.texts) + 1)
        link = f'<a class="cut" href="#long-{index}">in full ({len(plain):,} characters)</a>'
        return markup(f"{escape(plain[:most].rstrip())}… {link}")

    def entries(self) -> list[tuple[int, str, int]]:
        """Number, text (cut once more where it is absurdly long) and length of each."""
        return [(index, text[:_LONG_TEXT], len(text)) for text, index in self.texts.items()]


@dataclass(frozen=True)
class Fact:
    """A label with a text, or with a small table where a text would be too long."""

    label: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    hash: bool = False


def facts(values: Mapping[str, Any], leave_out: Sequence[str] = ()) -> list[Fact]:
    """A free-form part of the record as facts: its identity first, then the rest, without empty ones."""
    return [
        _fact(_NAMES.get(key, words(key)), value)
        for key, value in sorted(values.items(), key=lambda entry: entry[0] not in _FIRST)
        if key not in leave_out and not (value is None or value in ("", [], {}, ()))
    ]


def _fact(label: str, value: Any) -> Fact:
    if isinstance(value, Mapping):
        nested = any(isinstance(item, Mapping | list | tuple) for item in value.values())
        if nested or len(value) > _INLINE:
            return Fact(label, columns=("Name", "Value"), rows=tuple(_flat(value)))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        if all(isinstance(item, Mapping) for item in value):
            columns = table_columns(value)
            rows = tuple(tuple(setting(item.get(key, "")) for key in columns) for item in value)
            return Fact(label, columns=tuple(words(key) for key in columns), rows=rows)
        if len(value) > _INLINE:
            return Fact(
                label,
                columns=("Number", "Value"),
                rows=tuple((i, setting(v)) for i, v in enumerate(value, 1)),
            )
    if isinstance(value, int) and not isinstance(value, bool):
        return Fact(label, number(value) if abs(value) >= 10_000 else str(value))  # noqa: PLR2004 - a year is no sum
    return Fact(label, setting(value), hash=isinstance(value, str) and bool(_SHA256.fullmatch(value)))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and their values; lists of name and number as `name: number`."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        elif isinstance(value, Sequence) and value and all(_is_pair(item) for item in value):
            yield before + key, setting({str(name): number for name, number in map(dict.values, value)})
        else:
            yield before + key, setting(value)


def _is_pair(item: Any) -> bool:
    return isinstance(item, dict) and len(item) == 2  # noqa: PLR2004 - a name and a number


def table_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys of all rows, in the order in which they first occur."""
    return tuple(dict.fromkeys(key for row in rows for key in row))
