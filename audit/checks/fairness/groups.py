"""Who is selected, and who is judged wrongly, by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from audit.check import check
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Evidence, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from audit.dataset import Dataset
    from audit.evidence import Cell, Measure
    from audit.fairness.cells import Cells
    from audit.fairness.controls import Strata
    from audit.fairness.count import Outcomes
    from audit.products.predictions import Predictions

Metric = Literal[
    "selection_rate",
    "base_rate",
    "accuracy",
    "true_positive_rate",
    "false_positive_rate",
    "true_negative_rate",
    "false_negative_rate",
    "positive_predictive_value",
    "negative_predictive_value",
    "false_discovery_rate",
    "false_omission_rate",
    "false_negatives_per_false_positive",
    "selection_rate_ratio",
    "selection_rate_difference",
    "base_rate_ratio",
    "base_rate_difference",
    "accuracy_ratio",
    "accuracy_difference",
    "true_positive_rate_ratio",
    "true_positive_rate_difference",
    "false_positive_rate_ratio",
    "false_positive_rate_difference",
    "true_negative_rate_ratio",
    "true_negative_rate_difference",
    "false_negative_rate_ratio",
    "false_negative_rate_difference",
    "positive_predictive_value_ratio",
    "positive_predictive_value_difference",
    "negative_predictive_value_ratio",
    "negative_predictive_value_difference",
    "false_discovery_rate_ratio",
    "false_discovery_rate_difference",
    "false_omission_rate_ratio",
    "false_omission_rate_difference",
    "treatment_equality_difference",
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "predictive_parity_difference",
    "predictive_equality_difference",
    "overall_accuracy_equality_difference",
    "conditional_use_accuracy_equality_difference",
    "selection_rate_ratio_worst",
    "selection_rate_ratio_best",
    "demographic_parity_difference_worst",
    "demographic_parity_difference_best",
    "selection_rate_ratio_stratified",
    "selection_rate_difference_stratified",
]
_LACKING = {
    "true_positive_rate": "no row has that label",
    "false_positive_rate": "no row has that label",
    "positive_predictive_value": "nobody was selected",
}


@check("fairness.groups", version="3", weighted=True, measures=frozenset(get_args(Metric)))
def groups(
    data: Dataset,
    predictions: Predictions,
    *,
    depth: Annotated[int, Field(ge=1)] = 2,
    reference: str | list[str] = "best",
    floor: Annotated[int, Field(ge=1)] = 10,
    metrics: tuple[Metric, ...] = (),
    classes: tuple[str, ...] = (),
    control: tuple[str, ...] = (),
) -> Evidence:
    """Decisions and errors by group.

    Compares how often each group receives the favourable outcome (`selection_rate`), and how often the
    model is right or wrong about people of each group: `true_positive_rate` among those who deserved the
    favourable outcome, `false_positive_rate` among those who did not, `positive_predictive_value` among
    those who received it, and the other rates of a table of right and wrong decisions. Intersections (sex
    and race together) are counted as groups of their own, up to `depth` features at once.

    Each group is compared with the reference group: the most selected one (`best`), the `largest`, one that
    is named, or every group with every other (`all`). `selection_rate_ratio` is the impact ratio of the
    four-fifths rule (29 CFR 1607.4(D)) and of New York City Local Law 144, and `selection_rate_difference`
    the same as a difference (demographic parity). Ratios and differences of true positive rates speak of
    equal opportunity, with those of false positive rates of equalized odds (Hardt, Price and Srebro, 2016),
    of positive predictive values of predictive parity (Chouldechova, 2017).
    `false_negatives_per_false_positive` is compared for treatment equality (Berk and others, 2018).
    `demographic_parity_difference`, `equal_opportunity_difference`, `equalized_odds_difference` and
    `predictive_parity_difference` are the largest differences between any two groups.

    Every other rate can be compared too, where `metrics` names its `_ratio` or `_difference` (for instance
    `accuracy_difference`), and three more largest differences: `overall_accuracy_equality_difference`,
    `predictive_equality_difference` of false positive rates (Corbett-Davies and others, 2017), and
    `conditional_use_accuracy_equality_difference` of positive and negative predictive values (Berk and
    others, 2018). A limit shares its level with everything else that is asked of this check.

    Where no outcome is favourable and there are more than two classes, each class is set against all others,
    and "selected" means predicted as that class. Where the true outcomes are not known, only decisions are
    compared.

    People whose group is not known form a group called `unknown`: it is counted and shown, and never
    compared. The measures that end in `_worst` and `_best` say how low the smallest ratio, or how great the
    largest difference, could be if their groups were known: no division of them among the compared groups
    gives a worse or a better value. They hold for these rows and carry no sampling error.

    With `control`, each comparison is also made within groups of people who are alike in something else
    (`_stratified`; Mantel and Haenszel, 1959). Pooled and stratified values can point in opposite directions
    (Simpson, 1951); neither is the right one by itself: that depends on whether the control is a fair reason.

    A group below the floor of rows is shown and not compared. So is a rate of a larger group with a
    denominator below the floor, such as a true positive rate of four people: no limit is judged on it, and
    it takes no part in a largest difference, which names the groups it leaves out. A rate without a
    denominator is undefined; it is not zero. A difference between groups does not by itself show unlawful
    discrimination, and equal rates do not show its absence.
    """
    from audit.fairness.count import count, count_strata, outcomes
    from audit.fairness.derive import chosen, derive
    from audit.outcomes import answers

    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    undecided = data.counted(~predictions.finite)
    if undecided:
        raise NotEvaluable(
            f"{undecided} of {data.size} rows have scores that are not finite numbers, so the model decides "
            "nothing about them; a rate by group would count them as decided"
        )
    found = outcomes(data, predictions.predicted, classes)
    cells = count(data, found, depth, floor, predictions.device)
    strata = count_strata(data, found, cells, control, predictions.device)
    _refuse_unknown_reference(cells, reference)
    names = chosen(metrics, labelled=found.labelled)
    per_grouping = [[m for item in items for m in derive(item, reference, names)] for items in cells]
    within = _within(strata, reference, names)
    return Evidence(
        measures=[*(m for measures in per_grouping for m in measures), *within],
        tables=[*_tables(cells, strata, reference), _comparisons(cells, reference, per_grouping)],
        figures=[_figure(items[0]) for items in cells] if found.favourable else [],
        caveats=[*_reading_caveats(found), *_caveats(data, cells, strata, reference, found)],
        outcomes=answers(data, predictions),
    )


def _refuse_unknown_reference(cells: list[list[Cells]], reference: str | list[str]) -> None:
    """A reference that no grouping knows is a slip of the pen, not a wish for the best group."""
    from audit.fairness.comparisons import named

    if reference in ("best", "largest", "all"):
        return
    if not any(named(items[0], reference) for items in cells):
        labels = {items[0].label(g) for items in cells for g in items[0].known()}
        asked = reference if isinstance(reference, str) else ", ".join(reference)
        hint = nearest(asked, {"best", "largest", "all", *labels})
        raise ConfigError(f"the setting 'reference' = '{asked}' names no group{hint}")


def _within(
    strata: list[list[Strata]], reference: str | list[str], names: Sequence[str]
) -> Iterator[Measure]:
    from audit.fairness.controls import stratified

    for items in strata:
        for item in items:
            yield from stratified(item, reference, names)


def _tables(
    cells: list[list[Cells]], strata: list[list[Strata]], reference: str | list[str]
) -> Iterator[Table]:
    from audit.fairness.cells import cells_table
    from audit.fairness.controls import side_by_side, strata_table

    yield from (cells_table(items) for items in cells)
    for held in strata:
        yield strata_table(held)
        yield from (side_by_side(item, reference) for item in held)


def _comparisons(
    cells: list[list[Cells]], reference: str | list[str], measured: list[list[Measure]]
) -> Table:
    """How many groups there are and how many numbers were compared: what multiplicity must answer for."""
    from audit.fairness.cells import RATES
    from audit.fairness.comparisons import ERROR_RATIO

    alone = (*RATES, ERROR_RATIO)
    rows: list[list[Cell]] = []
    for items, measures in zip(cells, measured, strict=True):
        first = items[0]
        compared = [m for m in measures if m.name not in alone]
        seen = sorted({str(m.settings["reference"]) for m in compared if "reference" in m.settings})
        several = "every pair" if reference == "all" else "one for each class"
        shown = seen[0] if len(seen) == 1 else several if seen else "none"
        sizes = (len(first.occurring()), len(first.compared()), len(first.known()) - len(first.compared()))
        defined = sum(m.value is not None and not m.too_few for m in compared)
        few = sum(bool(m.too_few) for m in compared)
        undefined = len(compared) - defined - few
        rows.append([first.name, *sizes, len(first.unknown()), shown, defined, undefined, few])
    return Table(
        name="comparisons",
        title=f"{sum(int(row[-3] or 0) for row in rows)} comparisons between groups were made",
        columns=["grouping", "groups", "compared", "below the floor", "unknown", "reference", "comparisons",
                 "undefined", "of too few rows"],
        rows=rows,
        note="Limits are judged at a level that all comparisons they speak of share.",
    )  # fmt: skip


def _figure(item: Cells) -> Figure:
    from audit.fairness.cells import rates

    bars = rates(item, ("selection_rate",))
    labels = [f"{', '.join(m.group.values())} (n = {m.n})" for m in bars]
    top = max(bars, key=lambda m: m.value or 0.0)
    bottom = min(bars, key=lambda m: m.value or 0.0)
    title = (
        f"By {item.name}, {', '.join(top.group.values())} receive the favourable outcome most often "
        f"({top.value:.3f}) and {', '.join(bottom.group.values())} least often ({bottom.value:.3f})"
    )
    return Figure(
        name=f"selection rate by {item.name}",
        title=title,
        kind="bars",
        alt=title + ", with 95 % intervals.",
        data={
            "labels": labels,
            "values": [m.value for m in bars],
            "low": [m.low for m in bars],
            "high": [m.high for m in bars],
        },
    )


def _reading_caveats(found: Outcomes) -> Iterator[str]:
    """What the rows themselves leave open."""
    if not found.labelled:
        yield "The true outcomes are not known: only decisions are compared, right and wrong are not."
    if not found.favourable:
        yield "Each class is set against all others: `selected` means predicted as that class."
    if found.left_out:
        yield (
            f"{len(found.names)} classes are looked at; {found.left_out} others are counted only as the rest."
        )


def _caveats(
    data: Dataset,
    cells: list[list[Cells]],
    strata: list[list[Strata]],
    reference: str | list[str],
    found: Outcomes,
) -> Iterator[str]:
    from audit.fairness.controls import reversals, unknown_strata

    for items in cells:
        yield from _unknown(items[0], data.size, told=found.favourable)
        yield from _fallback(items[0], reference)
        if found.favourable and found.labelled:
            yield from _lacking(items[0])
    for held in strata:
        yield from (text for item in held for text in reversals(item, reference))
        without = unknown_strata(held[0])
        if without:
            yield (
                f"{without} of {data.size} rows have no known {held[0].control}; "
                f"by {held[0].cells.name} they form strata of their own."
            )


def _unknown(item: Cells, rows: int, *, told: bool) -> Iterator[str]:
    from audit.fairness.unknowns import bounds_of

    unknown = sum(item.size(g) for g in item.unknown())
    if not unknown:
        return
    text = (
        f"By {item.name}, {unknown} of {rows} rows have no known group; "
        "they are counted and shown, not compared."
    )
    found = bounds_of(item) if told else None
    if found is not None and found.ratio_worst is not None and found.ratio_best is not None:
        text += (
            f" Whatever their groups are, the lowest selection rate ratio lies between "
            f"{found.ratio_worst:.3f} and {found.ratio_best:.3f}, and the largest difference "
            f"between {found.difference_best:.3f} and {found.difference_worst:.3f}."
        )
    yield text


def _fallback(item: Cells, reference: str | list[str]) -> Iterator[str]:
    from audit.fairness.comparisons import named

    if reference not in ("best", "largest", "all") and not named(item, reference):
        yield f"By {item.name}, no group is the reference that was named; the most selected one is taken."


def _lacking(item: Cells) -> Iterator[str]:
    for rate, why in _LACKING.items():
        without = [item.label(g) for g in item.compared() if not item.counts(g, rate)[1]]
        if without:
            yield (
                f"By {item.name}, {'; '.join(without)} have no {rate.replace('_', ' ')}: "
                f"{why}, so they take no part in its differences."
            )
        few = [g for g in item.compared() if item.too_few(g, rate)]
        if few:
            counts = "; ".join(f"{item.label(g)} ({item.counts(g, rate)[1]} rows)" for g in few)
            yield (
                f"By {item.name}, the {rate.replace('_', ' ')} of {counts} has a denominator below the floor "
                f"of {item.floor}: it is shown, not judged, and takes no part in its differences."
            )
