"""New York City Local Law 144: rates and impact ratios in the three tables of its rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field

from audit.check import check
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from audit.dataset import Dataset, Doubles, Ints
    from audit.products.predictions import Predictions

    Mask = npt.NDArray[np.bool_]

Whose = Literal["all", "known"]
Counts = tuple[int, int]
K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Category:
    """One category of a published table.

    Attributes:
        people: how many people it has.
        chosen: how many of them were selected, or scored above the median.
        rate: `chosen / people`, unrounded; None for nobody.
        ratio: its rate over that of the best category, unrounded; None where it is excluded or undefined.
        excluded: whether it takes no part in the impact ratios.
        best: whether it is the category that the others are divided by.
    """

    people: int
    chosen: int
    rate: Fraction | None
    ratio: Fraction | None
    excluded: bool
    best: bool


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A category whose published counts are not the sum of its intersections; counts are (people, chosen)."""

    table: Literal["sex", "race"]
    category: str
    stated: Counts
    summed: Counts


def impact_ratios(counts: Mapping[K, Counts], excluded: Sequence[K] = ()) -> dict[K, Category]:
    """Rates and impact ratios of one table, by the arithmetic of 6 RCNY 5-301, from unrounded rates.

    Args:
        counts: by category, how many people and how many of them were selected (or scored above the median).
        excluded: categories that take no part in the ratios; they cannot be the best one either.

    Returns:
        Each category in the given order. Where nobody was selected no ratio is defined.
    """
    rates = {key: Fraction(x, n) if n else None for key, (n, x) in counts.items()}
    compared = {key: rate for key, rate in rates.items() if rate is not None and key not in excluded}
    best = max(compared, key=lambda key: (compared[key], counts[key][0]), default=None)
    top = Fraction(0) if best is None else compared[best]
    return {
        key: Category(
            people=n,
            chosen=x,
            rate=rates[key],
            ratio=compared[key] / top if key in compared and top else None,
            excluded=key in excluded,
            best=key == best,
        )
        for key, (n, x) in counts.items()
    }


def verify_tables(
    sex: Mapping[str, Counts], race: Mapping[str, Counts], intersection: Mapping[tuple[str, str], Counts]
) -> list[Mismatch]:
    """Categories of the first two tables whose counts are not those of their intersections added up.

    For tables that somebody else published, and for one's own. People with one unknown part stand in one
    table and in no intersection, so a difference of their number is no error.

    Args:
        sex: (people, chosen) by sex.
        race: (people, chosen) by race or ethnicity.
        intersection: (people, chosen) by (sex, race).
    """
    tables: tuple[tuple[Literal["sex", "race"], int, Mapping[str, Counts]], ...] = (
        ("sex", 0, sex),
        ("race", 1, race),
    )
    found = []
    for table, place, counts in tables:
        for category, stated in counts.items():
            parts = [cell for key, cell in intersection.items() if key[place] == category]
            summed = (sum(n for n, _ in parts), sum(x for _, x in parts))
            if summed != tuple(stated):
                found.append(Mismatch(table=table, category=category, stated=stated, summed=summed))
    return found


@dataclass(frozen=True)
class Tabled:
    """One of the three tables: who is in it, who is not, and what became of them.

    Attributes:
        name: `sex`, `race` or `sex x race`, in the words of the data.
        features: the sensitive features that make its categories.
        categories: by group of each feature.
        unknown: how many people are in no category, and how many of them were chosen.
        assigned: the class that counts as chosen where there are several; empty for the favourable one.
    """

    name: str
    features: tuple[str, ...]
    categories: Mapping[tuple[str, ...], Category]
    unknown: Counts
    assigned: str = ""

    @property
    def label(self) -> str:
        """Its name, and the class where there are several."""
        return f"{self.name}, class {self.assigned}" if self.assigned else self.name

    @property
    def settings(self) -> dict[str, str]:
        """What its measures carry as settings."""
        return {"table": self.name} | ({"class": self.assigned} if self.assigned else {})

    @property
    def best(self) -> tuple[str, ...] | None:
        """The category that the others are divided by."""
        return next((key for key, item in self.categories.items() if item.best), None)

    def group(self, key: tuple[str, ...]) -> dict[str, str]:
        """The group of a category, by feature."""
        return dict(zip(self.features, key, strict=True))


@check(
    "fairness.ll144", version="2", weighted=True, measures={"selection_rate", "scoring_rate", "impact_ratio"}
)
def ll144(
    data: Dataset,
    predictions: Predictions,
    *,
    mode: Literal["selection", "scoring"] = "selection",
    sex: str = "sex",
    race: str = "race",
    exclude_below: Annotated[float, Field(ge=0, le=0.02)] = 0.0,
    share_of: Whose = "all",
    median_of: Whose = "all",
    ties: Literal["above", "at_or_above"] = "above",
    classes: tuple[str, ...] = (),
) -> Evidence:
    """Rates and impact ratios of New York City Local Law 144.

    Gives the numbers that a bias audit of an automated employment decision tool must state (Local Law 144
    of 2021; 6 RCNY 5-300 to 5-304): for sex, for race or ethnicity, and for both together, in three
    tables. The selection rate of a category is the share of its people who were given the favourable
    decision. The scoring rate is the share of its people whose score is above the median score of the
    full sample. The impact ratio is the rate of a category divided by that of the most selected (or
    highest scoring) category of the same table. Each table has a best category of its own. Rates are not
    rounded before they are divided.

    People whose category is not known are counted and printed, and belong to no category. The rule allows,
    and does not ask, an auditor to leave categories with less than 2 % of the data out of the ratios;
    `exclude_below = 0.02` does so, in each table by itself. Their number and rate are printed all the same,
    and the auditor must give a reason in writing.

    The rule leaves four things open; the settings say how they were decided here. `median_of`: the median
    of all people, or of those whose sex and race are both known. `share_of`: the 2 % are of all people, or
    of those known in the table. `ties`: only scores above the median count, as the rule says, or scores
    equal to it too. Exclusion is decided in each table separately.

    What it does not say. The rule sets no threshold for an impact ratio. The four fifths (0.8) that are
    often quoted come from 29 CFR 1607.4(D), the federal Uniform Guidelines, which also ask whether a
    difference is statistically significant; the intervals printed here answer that part. That the auditor
    is independent, that the data are historical data of the tool's use, the date of the audit, the source
    of the data and the date of distribution are statements that only a person can make.

    Where the tool assigns people to several classes (job levels, shortlists), the rule asks for the tables
    once for each class: a selection rate is then the share of a category's people who were assigned that
    class. `classes` names the classes. Where it is left out the tables are made for the favourable outcome,
    or, where none is favourable and there are more than two, for each class. Which class is to be wished for
    the check does not know, so a ratio of one class alone says little. A scoring rate has no class.
    """
    if mode == "scoring" and classes:
        raise ConfigError(
            f"the setting 'classes' = {list(classes)} goes with mode = 'selection'; "
            "a scoring rate has no class"
        )
    for key, name in (("sex", sex), ("race", race)):
        if name not in data.sensitive:
            raise NotApplicable(
                f"the data name no sensitive feature '{name}'{nearest(name, data.sensitive)}; "
                f"the setting {key} says which column of [data] sensitive is meant"
            )
    undecided = data.counted(~predictions.finite)
    if undecided:
        raise NotEvaluable(
            f"{undecided} of {data.size} rows have scores that are not finite numbers, so nothing was "
            "decided about them"
        )
    if mode == "selection":
        assigned, notes = _selected(data, predictions, classes)
    else:
        assigned, notes = _above(data, predictions, _known(data, (sex, race)), median_of, ties)
    each = [
        [
            _tabled(data, features, chosen, exclude_below, share_of, name)
            for features in ((sex,), (race,), (sex, race))
        ]
        for name, chosen in assigned.items()
    ]
    tables = [table for three in each for table in three]
    rate = f"{mode}_rate"
    return Evidence(
        measures=[item for table in tables for item in rate_measures(table, rate)],
        tables=(*(_table(item, rate) for item in tables), _unknowns(tables, data), *map(_consistency, each)),
        figures=tuple(filter(None, map(_figure, tables))),
        caveats=(*_caveats(tables, data), *notes),
    )


def _known(data: Dataset, features: tuple[str, ...]) -> Mask:
    """[N] whether the row has a known group in each of the features."""
    import numpy as np

    from audit.dataset import UNKNOWN

    known = np.ones(len(data), dtype=np.bool_)
    for name in features:
        item = data.sensitive[name]
        known &= np.array([group != UNKNOWN for group in item.groups], dtype=np.bool_)[item.codes]
    return known


def _selected(
    data: Dataset, predictions: Predictions, classes: tuple[str, ...]
) -> tuple[dict[str, Mask], list[str]]:
    """By class, [N] whether the row was assigned it, and notes; "" is the favourable one."""
    from audit.fairness.count import outcomes

    found = outcomes(data, predictions.predicted, classes)
    notes = []
    if not found.favourable:
        notes.append(
            f"The tables are made once for each of {len(found.names)} classes; `selected` means "
            "assigned that class."
        )
    if found.left_out:
        notes.append(f"{found.left_out} other classes have no tables.")
    named = ("",) if found.favourable else found.names
    return {name: found.predicted == place for place, name in enumerate(named)}, notes


def _above(
    data: Dataset, predictions: Predictions, known: Mask, median_of: Whose, ties: str
) -> tuple[dict[str, Mask], list[str]]:
    """[N] whether the row scores above the median, under the name "", and what the median is."""
    import numpy as np

    scores = _scores(data, predictions)
    everyone = np.ones(len(data), dtype=np.bool_)
    pool = everyone if median_of == "all" else known
    if not data.counted(pool) or not np.isfinite(scores).all():
        broken = data.counted(~np.isfinite(scores))
        raise NotEvaluable(
            f"there is no median: {data.counted(pool)} scores are to be ranked, and {broken} of {data.size} "
            "are not finite numbers."
        )
    median = _median(scores[pool], None if data.people is None else data.people[pool])
    whose = "all people" if median_of == "all" else "the people whose sex and race are both known"
    counted = "Scores above it count" if ties == "above" else "Scores above or equal to it count"
    chosen = scores >= median if ties == "at_or_above" else scores > median
    return {"": chosen}, [f"The median score of {whose} is {median:.6g}. {counted}."]


def _median(scores: Doubles, people: Ints | None) -> float:
    """The median of all people's scores; each is that of as many as `people` says, one where it is None."""
    import numpy as np

    if people is None:
        return float(np.median(scores))
    order = np.argsort(scores, kind="stable")
    ends = np.cumsum(people[order])
    middle = [(int(ends[-1]) - 1) // 2, int(ends[-1]) // 2]
    low, high = scores[order][np.searchsorted(ends, middle, side="right")]
    return float((low + high) / 2)


def _scores(data: Dataset, predictions: Predictions) -> Doubles:
    """[N] score of each row, higher for whoever is closer to the favourable outcome."""
    import numpy as np

    if data.favourable is None:
        raise NotApplicable("no outcome is named as favourable; set [data] favourable to one of the classes")
    if data.scores is not None:
        return data.scores
    return np.asarray(predictions.probabilities, dtype=np.float64)[:, data.favourable]


def _tabled(
    data: Dataset,
    features: tuple[str, ...],
    chosen: Mask,
    exclude_below: float,
    share_of: Whose,
    assigned: str,
) -> Tabled:
    """Counts of one table, in the order of the groups; categories without people are left out."""
    import numpy as np

    from audit.dataset import UNKNOWN
    from audit.groups import count_table

    parts = [data.sensitive[name] for name in features]
    sizes = [len(part.groups) for part in parts]
    codes: Ints = np.ravel_multi_index(tuple(part.codes for part in parts), sizes).astype(np.int64)
    shape = (math.prod(sizes),)
    picked_people = None if data.people is None else data.people[chosen]
    people = count_table((codes,), shape, data.people).tolist()
    picked = count_table((codes[chosen],), shape, picked_people).tolist()
    keys = [tuple(p.groups[i] for p, i in zip(parts, at, strict=True)) for at in np.ndindex(*sizes)]
    cells = {key: (people[i], picked[i]) for i, key in enumerate(keys) if people[i]}
    counts = {key: cell for key, cell in cells.items() if UNKNOWN not in key}
    hidden = [cell for key, cell in cells.items() if UNKNOWN in key]
    total = data.size if share_of == "all" else sum(n for n, _ in counts.values())
    return Tabled(
        name=" x ".join(features),
        features=features,
        categories=impact_ratios(
            counts, [key for key, (n, _) in counts.items() if n < exclude_below * total]
        ),
        unknown=(sum(n for n, _ in hidden), sum(x for _, x in hidden)),
        assigned=assigned,
    )


def rate_measures(table: Tabled, rate: str) -> Iterator[Measure]:
    """The rate of every category, and the impact ratio of every one but the best and the excluded.

    Args:
        table: the counts.
        rate: `selection_rate` or `scoring_rate`.

    Yields:
        Rates in [0, 1] with Wilson intervals; ratios, at least 0, with Koopman intervals.
    """
    for key, item in table.categories.items():
        yield proportion(rate, item.chosen, item.people, group=table.group(key), settings=table.settings)
    best = table.best
    compared = {key: item for key, item in table.categories.items() if not item.excluded}
    for key, item in compared.items():
        if best is None or len(compared) == 1:
            yield _no_ratio(table, key, "there is no second category to compare with")
        elif not table.categories[best].chosen:
            yield _no_ratio(table, key, "nobody was chosen in any category, so the ratio is 0/0")
        elif not item.best:
            yield _ratio(table, key, best)


def _no_ratio(table: Tabled, key: tuple[str, ...], reason: str) -> Measure:
    return Measure(
        name="impact_ratio",
        value=None,
        n=table.categories[key].people,
        group=table.group(key),
        settings=table.settings,
        unit="ratio",
        better="one",
        reason=f"{reason} ({table.categories[key].chosen} of {table.categories[key].people})",
    )


def _ratio(table: Tabled, key: tuple[str, ...], best: tuple[str, ...]) -> Measure:
    item, top = table.categories[key], table.categories[best]
    counts = {"x1": item.chosen, "n1": item.people, "x0": top.chosen, "n0": top.people}
    # Any category could have been the best one: its comparisons stand for those of all pairs.
    rated = sum(not other.excluded for other in table.categories.values())
    return measure(
        "impact_ratio",
        "koopman_exact",
        {**counts, "picked_from": max(1, (rated + 1) // 2)},
        n=item.people,
        group=table.group(key),
        settings={**table.settings, "reference": ", ".join(best)},
        unit="ratio",
        better="one",
    )


def _table(table: Tabled, rate: str) -> Table:
    rows: list[list[Cell]] = [
        [
            *key,
            item.people,
            item.chosen,
            None if item.rate is None else float(item.rate),
            None if item.ratio is None else float(item.ratio),
            "excluded" if item.excluded else "best category" if item.best else "",
        ]
        for key, item in table.categories.items()
    ]
    counted = "selected" if rate == "selection_rate" else "above the median"
    return Table(
        name=f"ll144: {table.label}",
        title=f"{rate.replace('_', ' ').capitalize()} and impact ratio by {table.label}",
        columns=[*table.features, "people", counted, rate.replace("_", " "), "impact ratio", "note"],
        rows=rows,
        note=(
            f"{table.unknown[0]} more people have no known category here; they are in no row. Ratios are "
            "taken of unrounded rates."
        ),
    )


def _unknowns(tables: Sequence[Tabled], data: Dataset) -> Table:
    return Table(
        name="ll144: unknown",
        title="People assessed, and those whose category is not known",
        columns=["table", "people assessed", "in a known category", "unknown", "unknown and chosen"],
        rows=[[t.label, data.size, data.size - t.unknown[0], t.unknown[0], t.unknown[1]] for t in tables],
        note="The published summary must state the number of people in an unknown category.",
    )


def _consistency(tables: Sequence[Tabled]) -> Table:
    """Where the first two tables count people whom the third does not."""
    sex, race, both = ({key: (c.people, c.chosen) for key, c in t.categories.items()} for t in tables)
    found = verify_tables(
        {key[0]: cell for key, cell in sex.items()},
        {key[0]: cell for key, cell in race.items()},
        {(key[0], key[1]): cell for key, cell in both.items()},
    )
    assigned = tables[0].assigned
    return Table(
        name=f"ll144: consistency, class {assigned}" if assigned else "ll144: consistency",
        title="Categories whose counts are not those of their intersections added up",
        columns=["table", "category", "people", "chosen", "people, added up", "chosen, added up"],
        rows=[[m.table, m.category, *m.stated, *m.summed] for m in found],
        note=(
            "People of one known and one unknown category stand in one table and in no intersection; every "
            "difference here is their number. No row means that the tables agree."
        ),
    )


def _figure(table: Tabled) -> Figure | None:
    best = table.best
    ratios = [m for m in rate_measures(table, "rate") if m.name == "impact_ratio" and m.value is not None]
    if best is None or not ratios:
        return None
    lowest = min(ratios, key=lambda m: m.value or 0.0)
    title = (
        f"By {table.label}, the lowest impact ratio is {lowest.value:.3f}: "
        f"{', '.join(lowest.group.values())} against {', '.join(best)}"
    )
    return Figure(
        name=f"impact ratio by {table.label}",
        title=title,
        kind="bars",
        alt=f"{title}, with 95 % intervals.",
        data={
            "labels": [f"{', '.join(m.group.values())} (n = {m.n})" for m in ratios],
            "values": [m.value for m in ratios],
            "low": [m.low for m in ratios],
            "high": [m.high for m in ratios],
        },
    )


def _caveats(tables: Sequence[Tabled], data: Dataset) -> Iterator[str]:
    for table in tables:
        if table.unknown[0]:
            yield (
                f"By {table.label}, {table.unknown[0]} of {data.size} people are in an unknown category; "
                "they are in no rate and no ratio."
            )
        for key, item in table.categories.items():
            if item.excluded and item.rate is not None:
                yield (
                    f"By {table.label}, {', '.join(key)} is left out of the impact ratios: {item.people} "
                    f"people, rate {float(item.rate):.4f}. The auditor must justify this in writing."
                )
    yield (
        "Local Law 144 sets no threshold for an impact ratio; 0.8 comes from 29 CFR 1607.4(D). That the "
        "auditor is independent and the data are historical must be attested by a person."
    )
