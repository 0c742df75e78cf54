"""fairness.ll144_published: whether tables that somebody published agree with themselves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.checks.fairness.ll144 import (
    Category,
    Mismatch,
    Tabled,
    impact_ratios,
    rate_measures,
    verify_tables,
)
from audit.errors import LoadError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Cell, Evidence, Measure, Table
from audit.stats import measure

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

Rates = Literal["auto", "percent", "share"]
Agreement = Literal["agrees", "truncated", "disagrees"]
_COLUMNS = ("table", "sex", "race", "applicants", "selected", "rate", "ratio")
_FEATURES: Mapping[str, tuple[str, ...]] = {
    "sex": ("sex",),
    "race": ("race",),
    "intersectional": ("sex", "race"),
}
_PLAIN = re.compile(r"[0-9]{1,9}(\.[0-9]{0,15})?|\.[0-9]{1,15}")
_WHOLE = re.compile(r"[0-9]{1,15}")
_SHOWN = 40
_NOT_PRINTED = {"", "-", "n/a", "na", "excluded"}


@dataclass(frozen=True)
class Printed:
    """A number as it was printed: its value, and how much one unit of its last digit is."""

    value: Fraction
    step: Fraction


@dataclass(frozen=True)
class _Row:
    """One published category; `number` counts the rows of the file from 1."""

    number: int
    assigned: str
    table: str
    key: tuple[str, ...]
    people: int
    chosen: int
    rate: Printed | None
    ratio: Printed | None


@dataclass(frozen=True)
class _Checked:
    """A row, what its counts give, and what is wrong with it (`faults`) or only odd (`notes`)."""

    row: _Row
    category: Category
    rate: Agreement | None
    ratio: Agreement | None
    mismatch: Mismatch | None
    faults: tuple[str, ...]
    notes: tuple[str, ...]


@check(
    "fairness.ll144_published",
    tasks=frozenset(),
    measures={
        "disagreeing_rows",
        "disagreeing_rates",
        "disagreeing_ratios",
        "disagreeing_sums",
        "truncated_values",
        "selection_rate",
        "scoring_rate",
        "impact_ratio",
    },
)
def ll144_published(
    folder: Path,
    *,
    path: str = "",
    rates: Rates = "auto",
    unknown: Annotated[int, Field(ge=0)] = 0,
    mode: Literal["selection", "scoring"] = "selection",
) -> Evidence:
    """Published tables of New York City Local Law 144, recalculated.

    Answers whether the tables that an employer or an auditor published agree with themselves: whether each
    rate and each impact ratio follows from the printed counts, and whether the counts by sex and by race are
    those of their intersections added up. It looks at the published numbers alone; of the audit's own data
    and model it uses nothing.

    `path` names a CSV file, relative to audit.toml, with one row for each published category and the columns
    `table` (`sex`, `race` or `intersectional`), `sex`, `race`, `applicants`, `selected` (or scored above the
    median), `rate` and `ratio`, as printed. Where tables were published for several classes a column `class`
    says which. `sex` is empty in the table by race, and `race` in that by sex. A rate or ratio that was not
    printed is left empty or says `excluded`; a category without a ratio, in a table that has ratios, takes
    no part in them.

    A printed number agrees where it is the recalculated one, rounded to as many digits. One that is cut off
    instead of rounded is counted apart (`truncated_values`). Rates are not rounded before they are divided
    (6 RCNY 5-301); a ratio that follows only from rounded rates disagrees, and the table says so.
    `disagreeing_rows` counts the rows with at least one disagreement, `disagreeing_rates`,
    `disagreeing_ratios` and `disagreeing_sums` say which. These are counts of facts and have no sampling
    error. `selection_rate` (or `scoring_rate`) and `impact_ratio` are recalculated from the printed counts,
    with the intervals of `fairness.ll144`.

    `unknown` is the published number of people in an unknown category. Somebody whose sex alone is known
    stands in the table by sex and in no intersection: where a table has more people than its intersections,
    no more than `unknown` in all, and no more of them were selected than there are, the difference is noted
    and is no disagreement.

    What it does not say. Numbers that agree with each other may still be wrong together; only the rows of
    data show that. Which of two numbers that contradict each other is right, it cannot tell.

    Settings: `path`, `rates` (how rates without a percent sign are meant; `auto` takes them for percent where
    one of them is above 1), `unknown`, `mode` (what the rates are called).
    """
    if not path:
        raise NotApplicable("no published tables are given; the setting path names their CSV file")
    rows = _rows(folder, path, rates)
    checked, tables = _checked(rows, unknown)
    return Evidence(
        measures=(
            *_counts(checked),
            *(item for table in tables for item in rate_measures(table, f"{mode}_rate")),
        ),
        tables=(_table(checked, _digest(folder, path)),),
        caveats=tuple(_caveats(checked, path)),
    )


def agreement(printed: Printed | None, exact: Fraction | None) -> Agreement | None:
    """Whether a printed number is the exact one, rounded or else cut off; None where nothing was printed.

    A number halfway between two may be rounded either way. A number that is printed and undefined disagrees.
    """
    if printed is None:
        return None
    if exact is None:
        return "disagrees"
    beyond = exact - printed.value
    if 2 * abs(beyond) <= printed.step:
        return "agrees"
    return "truncated" if 0 <= beyond < printed.step else "disagrees"


def _rows(folder: Path, path: str, rates: Rates) -> list[_Row]:
    """The rows of the file, each checked by itself."""
    frame = _frame(folder, path)
    percent = rates == "percent" or (rates == "auto" and _above_one(frame["rate"]))
    rows = [_row(cells, number, path, percent=percent) for number, cells in enumerate(_cells(frame), start=1)]
    seen: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for row in rows:
        place = (row.assigned, row.table, row.key)
        if place in seen:
            raise NotEvaluable(
                f"{path}, row {row.number}: '{', '.join(row.key)}' stands in the table '{row.table}' "
                f"in row {seen[place]} already; a category has one row"
            )
        seen[place] = row.number
    return rows


def _frame(folder: Path, path: str) -> pd.DataFrame:
    from audit.readers.csv import read_table

    try:
        frame = read_table(folder / path)
    except LoadError as error:
        raise NotEvaluable(str(error).replace(str(folder / path), path).removesuffix(".")) from None
    for name in _COLUMNS:
        if name not in frame.columns:
            raise NotEvaluable(f"{path} has no column '{name}'{nearest(name, map(str, frame.columns))}")
    return frame


def _digest(folder: Path, path: str) -> str:
    from audit.readers.raw import digest

    return digest(folder / path)


def _cells(frame: pd.DataFrame) -> Iterator[dict[str, str]]:
    for values in frame.itertuples(index=False, name=None):
        yield {str(name): str(cell).strip() for name, cell in zip(frame.columns, values, strict=True)}


def _above_one(column: pd.Series[str]) -> bool:
    """Whether a rate that carries no percent sign cannot be a share."""
    found = (_decimal(str(cell).strip()) for cell in column)
    return any(value is not None and value > 1 for value in found)


def _decimal(text: str) -> Decimal | None:
    """A plain number that is not below 0, or None."""
    return Decimal(text) if _PLAIN.fullmatch(text) else None


def _row(cells: Mapping[str, str], number: int, path: str, *, percent: bool) -> _Row:
    where = f"{path}, row {number}"
    table = cells["table"].lower()
    if table not in _FEATURES:
        raise NotEvaluable(
            f"{where}, column 'table': '{_cut(cells['table'])}' is no table{nearest(table, _FEATURES)}"
        )
    for name in ("sex", "race"):
        if bool(cells[name]) != (name in _FEATURES[table]):
            told = "a category is needed" if name in _FEATURES[table] else "it must be empty"
            raise NotEvaluable(
                f"{where}, column '{name}': '{_cut(cells[name])}' in the table '{table}'; {told}"
            )
    people, chosen = (_whole(cells[name], f"{where}, column '{name}'") for name in ("applicants", "selected"))
    if chosen > people:
        raise NotEvaluable(f"{where}, column 'selected': {chosen} is more than the {people} applicants")
    return _Row(
        number=number,
        assigned=cells.get("class", ""),
        table=table,
        key=tuple(cells[name] for name in _FEATURES[table]),
        people=people,
        chosen=chosen,
        rate=_printed(cells["rate"], f"{where}, column 'rate'", percent=percent),
        ratio=_printed(cells["ratio"], f"{where}, column 'ratio'", percent=False),
    )


def _whole(text: str, where: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise NotEvaluable(
            f"{where}: '{_cut(text)}' is no number of people; write a whole number, as in 1390"
        )
    return int(text)


def _cut(text: str) -> str:
    """A cell as an error shows it: no longer than a line."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _printed(text: str, where: str, *, percent: bool) -> Printed | None:
    """A printed share, ratio or percentage with the size of its last digit; None where none was printed."""
    if text.lower() in _NOT_PRINTED:
        return None
    plain = text.removesuffix("%").rstrip()
    value = _decimal(plain)
    if value is None:
        raise NotEvaluable(f"{where}: '{_cut(text)}' is not a number; write it as in 0.979 or 43.9%")
    exponent = value.as_tuple().exponent
    scale = 100 if percent or text.endswith("%") else 1
    digits = -exponent if isinstance(exponent, int) else 0
    return Printed(Fraction(value) / scale, Fraction(1, 10) ** digits / scale)


def _checked(rows: Sequence[_Row], unknown: int) -> tuple[list[_Checked], list[Tabled]]:
    """Every row with what its counts give, and the tables recalculated."""
    tables: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in rows:
        tables[row.assigned, row.table].append(row)
    checked: list[_Checked] = []
    tabled: list[Tabled] = []
    for (assigned, table), own in tables.items():
        left_out = [row.key for row in own if row.ratio is None] if any(row.ratio for row in own) else []
        found = impact_ratios({row.key: (row.people, row.chosen) for row in own}, left_out)
        tabled.append(Tabled(table, _FEATURES[table], categories=found, unknown=(0, 0), assigned=assigned))
        mismatches = _mismatches(own, tables.get((assigned, "intersectional"), []))
        explained = _explained(list(mismatches.values()), unknown)
        best = next((row for row in own if found[row.key].best), None)
        checked += [
            _one(row, found[row.key], best, mismatches.get(row.key), explained=explained) for row in own
        ]
    return sorted(checked, key=lambda item: item.row.number), tabled


def _mismatches(rows: Sequence[_Row], parts: Sequence[_Row]) -> dict[tuple[str, ...], Mismatch]:
    """Rows of a table by one feature whose counts are not those of the intersections added up."""
    if not parts or len(rows[0].key) > 1:
        return {}
    stated = {row.key[0]: (row.people, row.chosen) for row in rows}
    both = {(row.key[0], row.key[1]): (row.people, row.chosen) for row in parts}
    by_sex = rows[0].table == "sex"
    found = verify_tables(stated if by_sex else {}, {} if by_sex else stated, both)
    return {(item.category,): item for item in found}


def _explained(mismatches: Sequence[Mismatch], unknown: int) -> bool:
    """Whether people of one unknown category can account for whatever they might account for."""
    return sum(_surplus(item) for item in mismatches if _possible(item)) <= unknown


def _surplus(item: Mismatch) -> int:
    return item.stated[0] - item.summed[0]


def _possible(item: Mismatch) -> bool:
    """Whether the difference could be people: some, and no more selected than there are."""
    return 0 <= item.stated[1] - item.summed[1] <= _surplus(item)


def _one(
    row: _Row, category: Category, best: _Row | None, mismatch: Mismatch | None, *, explained: bool
) -> _Checked:
    rate, ratio = agreement(row.rate, category.rate), agreement(row.ratio, category.ratio)
    faults, notes = [], []
    for name, told in (("rate", rate), ("ratio", ratio)):
        if told == "truncated":
            notes.append(f"the {name} is cut off, not rounded")
        elif told == "disagrees":
            faults.append(f"the {name}")
    if ratio == "disagrees" and _of_rounded_rates(row, best):
        notes.append("the ratio is that of rounded rates")
    if mismatch is not None and explained and _possible(mismatch):
        notes.append(f"{_surplus(mismatch)} people more than its intersections: the other category unknown?")
        mismatch = None
    if mismatch is not None:
        faults.append("the sum")
    return _Checked(row, category, rate, ratio, mismatch, tuple(faults), tuple(notes))


def _of_rounded_rates(row: _Row, best: _Row | None) -> bool:
    if row.rate is None or best is None or best.rate is None or not best.rate.value:
        return False
    return agreement(row.ratio, row.rate.value / best.rate.value) == "agrees"


def _counts(checked: Sequence[_Checked]) -> Iterator[Measure]:
    """How many rows and values disagree; undefined where there was nothing to compare."""
    sexes_or_races = {item.row.assigned for item in checked if item.row.table == "intersectional"}
    summed = [x for x in checked if x.row.table != "intersectional" and x.row.assigned in sexes_or_races]
    rates, ratios = ([getattr(x, name) for x in checked] for name in ("rate", "ratio"))
    told = [word for word in (*rates, *ratios) if word is not None]
    yield _count("disagreeing_rows", [bool(x.faults) for x in checked], "")
    for name, words in (("disagreeing_rates", rates), ("disagreeing_ratios", ratios)):
        known = [word == "disagrees" for word in words if word is not None]
        yield _count(name, known, f"0 of {len(words)} rows print one")
    yield _count(
        "disagreeing_sums",
        [x.mismatch is not None for x in summed],
        "no table by sex or by race stands beside an intersectional one",
    )
    yield _count("truncated_values", [word == "truncated" for word in told], "no rate or ratio is printed")


def _count(name: str, found: Sequence[bool], reason: str) -> Measure:
    if found:
        value = {"value": float(sum(found))}
        return measure(name, "exact", value, n=len(found), unit="rows", better="lower")
    return Measure(name=name, value=None, n=0, unit="rows", better="lower", reason=reason)


def _table(checked: Sequence[_Checked], digest: str) -> Table:
    classes = any(item.row.assigned for item in checked)
    rows: list[list[Cell]] = [
        [
            item.row.number,
            *([item.row.assigned] if classes else []),
            item.row.table,
            ", ".join(item.row.key),
            item.row.people,
            item.row.chosen,
            _float(_value(item.row.rate)),
            _float(item.category.rate),
            _float(_value(item.row.ratio)),
            _float(item.category.ratio),
            *(item.mismatch.summed if item.mismatch else (None, None)),
            f"disagrees: {', '.join(item.faults)}" if item.faults else "agrees",
            "; ".join(item.notes),
        ]
        for item in checked
    ]
    return Table(
        name="ll144: published",
        title=f"{sum(bool(item.faults) for item in checked)} of {len(checked)} published rows disagree",
        columns=[
            *("row", *(["class"] if classes else []), "table", "category", "applicants", "selected"),
            *("rate printed", "rate", "ratio printed", "ratio"),
            *("applicants, added up", "selected, added up", "result", "note"),
        ],
        rows=rows,
        note=f"Rates and ratios are recalculated from the printed counts; sums are shown where they differ. "
        f"sha256 of the file: {digest}.",
    )


def _value(printed: Printed | None) -> Fraction | None:
    return None if printed is None else printed.value


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _caveats(checked: Sequence[_Checked], path: str) -> Iterator[str]:
    for item in checked:
        row, category = item.row, item.category
        who = f"{path}, row {row.number} ({', '.join(row.key)} in the table '{row.table}')"
        if item.rate == "disagrees":
            yield f"{who} prints another rate than {_said(category.rate)}, which its counts give."
        if item.ratio == "disagrees":
            yield f"{who} prints another impact ratio than {_said(category.ratio)}, which the counts give."
        if item.mismatch is not None:
            (people, chosen), (parts, picked) = item.mismatch.stated, item.mismatch.summed
            yield (
                f"{who} states {people} applicants and {chosen} selected; its intersections add up to "
                f"{parts} and {picked}."
            )
        for note in item.notes:
            yield f"{who}: {note}."
    yield from _strangers(checked)


def _said(value: Fraction | None) -> str:
    return "none at all" if value is None else f"{float(value):.4f}"


def _strangers(checked: Sequence[_Checked]) -> Iterator[str]:
    """Categories of the intersections that the table by sex or by race, where there is one, lacks."""
    for assigned in dict.fromkeys(item.row.assigned for item in checked):
        own = [item.row for item in checked if item.row.assigned == assigned]
        for place, table in enumerate(("sex", "race")):
            known = {row.key[0] for row in own if row.table == table}
            met = dict.fromkeys(row.key[place] for row in own if row.table == "intersectional")
            for name in (name for name in met if known and name not in known):
                yield (
                    f"The intersections name '{name}', which the table '{table}' lacks{nearest(name, known)}."
                )
