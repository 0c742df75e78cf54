"""reliability.calibration: does the model know how often it is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from audit.check import check
from audit.checks.reliability.shifted import Condition, Severities, clean, lost_caveats, spoilt
from audit.dataset import Dataset, sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.outcomes import answers as kept_answers
from audit.reliability.answers import Answers
from audit.reliability.bins import score_cells
from audit.scores import moments
from audit.shift.outcome import groups
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.model import Model
    from audit.products.predictions import Predictions

_MOST_CLASSES = 100
_FEW_WRONG = 20


@check(
    "reliability.calibration",
    needs={"logits"},
    measures={
        "expected_calibration_error",
        "overconfidence",
        "confidence_where_wrong",
        "brier",
        "log_loss",
        "debiased_calibration_error",
        "classwise_calibration_error",
        "expected_calibration_error_difference",
    },
)
def calibration(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    corruption: str = "",
    severities: Severities | None = None,
    rows: Annotated[int, Field(ge=2)] = 2000,
    bins: Annotated[int, Field(ge=2, le=1000)] = 15,
    draws: Annotated[int, Field(ge=200)] = 1000,
    floor: Annotated[int, Field(ge=2)] = 100,
) -> Evidence:
    """Confidence against accuracy: calibration.

    A model that says 90 % should be right nine times in ten. This asks whether it is: with the rows as they
    are, after a light and a heavy accident (a corruption at two severities), and in each sensitive group.

    `overconfidence` is the mean confidence less the accuracy: above 0 the model promises too much, below 0
    too little. `expected_calibration_error` is the mean distance between confidence and accuracy over bins of
    equally many rows; `classwise_calibration_error` does the same for the probability of every class in turn
    and takes the mean over classes. Noise pushes both up, the more so the fewer rows; their intervals have
    that taken off. `debiased_calibration_error` (root mean square) has it taken off the value as well. The
    Brier score (`brier`) is half the squared distance between probabilities and truth, 0 to 1; `log_loss` is
    the mean of minus the logarithm of the probability of the true class. Both mix calibration with
    accuracy. `confidence_where_wrong` is the mean confidence of the rows that are wrong: how sure it sounds
    when it errs. `expected_calibration_error_difference` is the largest difference between two groups.

    A calibrated score may still be useless (one that always says the base rate is), and a calibrated
    whole may hide a group that is overstated. Calibration on these rows does not carry over to others;
    the corrupted rows show how fast it is lost.

    Settings: `corruption` (a name; noise unless given), `severities` (1 and 5 unless given), `rows` (most
    corrupted rows), `bins`, `draws` (of the bootstrap), `floor` (rows below which a group is shown and not
    judged).

    Sources: Guo and others, 2017, arXiv:1706.04599; Kumar, Liang and Ma, 2019, arXiv:1909.10155 (debiasing);
    Broecker and Smith, 2007 (consistency resampling); Hall, 1992 (Brier); Wilson, 1927 (overconfidence, for
    the confidences as they are); Ovadia and others, 2019, arXiv:1906.02530 (calibration under shift).
    """
    conditions = [clean(data, predictions)]
    caveats = []
    try:
        chosen = sample_rows(data, rows, seed)
        conditions += spoilt(model, data, seed, corruption, severities or [1, 5], chosen)
    except NotApplicable as error:
        if corruption:
            raise
        caveats.append(f"Not measured under corruption: {error}.")
    if not len(conditions[0].answers):
        raise NotEvaluable(f"none of the {len(data)} rows has scores that are finite numbers")
    how = {"bins": bins, "draws": draws, "seed": seed}
    return Evidence(
        measures=[item for one in conditions for item in _measures(data, one, how, floor)],
        tables=(_table(conditions, bins),),
        figures=(_figure(conditions, bins),),
        caveats=[*caveats, *lost_caveats(conditions), *_caveats(conditions, data, floor)],
        outcomes=kept_answers(data, predictions),
    )


def _measures(data: Dataset, one: Condition, how: Mapping[str, int], floor: int) -> Iterator[Measure]:
    for who, members in groups(data, one.answers.rows):
        inside = one.answers.of(members)
        few = f"{len(inside)} rows, fewer than the floor of {floor}" if len(inside) < floor else ""
        fields = {"group": who, "settings": one.settings, "too_few": few, "n": len(inside)}
        yield from _errors(inside, how, fields)
        yield from _losses(inside, fields)
        if not who:
            yield _debiased(inside, how, fields)
            yield from _by_class(data, inside, how, one, floor)
    yield from _differences(data, one, how, floor)


def _bins(how: Mapping[str, int], cells: Mapping[str, Any]) -> dict[str, Any]:
    return {"metric": "ece", "groups": [cells], "draws": how["draws"], "seed": how["seed"]}


def _errors(inside: Answers, how: Mapping[str, int], fields: Mapping[str, Any]) -> Iterator[Measure]:
    wrong = int((~inside.right).sum())
    cells = score_cells(inside.confidence, inside.right, how["bins"])
    yield measure("expected_calibration_error", "score_bins", _bins(how, cells), better="lower", **fields)
    promised = float(1 - inside.confidence.mean()) if len(inside) else 0.0
    statistics = {"x": wrong, "n": len(inside), "reference": promised}
    yield measure("overconfidence", "wilson_against", statistics, unit="difference", better="zero", **fields)
    kept = moments(inside.confidence, (~inside.right).astype(np.int64), 2)[1]
    yield measure(
        "confidence_where_wrong",
        "score_bins",
        {"metric": "brier", "groups": [kept]},
        better="lower",
        reason=f"it takes two rows that are wrong, and {wrong} of {len(inside)} are",
        **{**fields, "n": wrong},
    )


def _losses(inside: Answers, fields: Mapping[str, Any]) -> Iterator[Measure]:
    one = np.zeros(len(inside), dtype=np.int64)
    statistics: dict[str, Any] = {"metric": "brier", "groups": moments(inside.brier, one, 1)}
    yield measure("brier", "score_bins", statistics, unit="", better="lower", **fields)
    (kept,) = moments(inside.loss, one, 1)
    statistics = {key: kept[key] for key in ("n", "mean", "sd")}
    yield measure("log_loss", "student_t", statistics, unit="nats", better="lower", **fields)


def _debiased(inside: Answers, how: Mapping[str, int], fields: Mapping[str, Any]) -> Measure:
    statistics = {
        "metric": "debiased",
        "cells": [score_cells(inside.confidence, inside.right, how["bins"])],
        "draws": how["draws"],
        "seed": how["seed"],
    }
    name = "debiased_calibration_error"
    return measure(name, "calibration_bins", statistics, unit="", better="lower", **fields)


def _by_class(
    data: Dataset, inside: Answers, how: Mapping[str, int], one: Condition, floor: int
) -> Iterator[Measure]:
    """The error of each class's probability, and their mean; for very many classes the mean alone."""
    outputs = inside.log_probabilities.shape[1]
    shares = np.exp(inside.log_probabilities)
    cells = [score_cells(shares[:, c], inside.labels == c, how["bins"]) for c in range(outputs)]
    few = f"{len(inside)} rows, fewer than the floor of {floor}" if len(inside) < floor else ""
    fields: dict[str, Any] = {"settings": one.settings, "n": len(inside), "better": "lower", "too_few": few}
    common = {"metric": "classwise", "draws": how["draws"], "seed": how["seed"]}
    statistics = {**common, "cells": cells}
    yield measure("classwise_calibration_error", "calibration_bins", statistics, **fields)
    if outputs > _MOST_CLASSES or one.settings:
        return
    for index, table in enumerate(cells):
        name = data.classes[index] if index < len(data.classes) else f"output {index}"
        group = {"class": name}
        yield measure("classwise_calibration_error", "score_bins", _bins(how, table), group=group, **fields)


def _differences(data: Dataset, one: Condition, how: Mapping[str, int], floor: int) -> Iterator[Measure]:
    """Largest difference of the error between two known groups of a feature."""
    from audit.dataset import UNKNOWN

    for name, feature in data.sensitive.items():
        codes = feature.codes[one.answers.rows]
        parts = [one.answers.of(codes == c) for c, g in enumerate(feature.groups) if g != UNKNOWN]
        compared = [part for part in parts if len(part) >= floor]
        cells = [score_cells(part.confidence, part.right, how["bins"]) for part in compared]
        fields: dict[str, Any] = {"settings": {**one.settings, "feature": name}, "better": "zero"}
        fields |= {"unit": "difference", "n": sum(len(part) for part in compared)}
        label = "expected_calibration_error_difference"
        if len(cells) < 2:  # noqa: PLR2004 - a difference needs two groups
            reason = f"fewer than two known groups of '{name}' have {floor} rows"
            yield Measure(name=label, value=None, reason=reason, **fields)
        else:
            yield measure(label, "score_bins", {**_bins(how, {}), "groups": cells}, **fields)


def _lines(conditions: Sequence[Condition], bins: int) -> list[tuple[Condition, list[Measure]]]:
    """For each condition the accuracy of each bin of the confidence, with the mean confidence beside it."""
    found = []
    for one in conditions:
        cells = score_cells(one.answers.confidence, one.answers.right, bins)
        columns = zip(cells["negatives"], cells["positives"], cells["scores"], strict=True)
        line = [
            proportion("accuracy", above, below + above, settings={"confidence": mean})
            for below, above, mean in columns
        ]
        found.append((one, line))
    return found


def _table(conditions: Sequence[Condition], bins: int) -> Table:
    rows: list[list[Cell]] = []
    for one, line in _lines(conditions, bins):
        for k, item in enumerate(line):
            counts = item.statistics
            rows.append([one.name, k + 1, item.settings["confidence"], counts["n"], counts["x"], item.value])
    return Table(
        name="reliability",
        title="Confidence and accuracy by bin",
        columns=("rows", "bin", "mean confidence", "rows in the bin", "right", "accuracy"),
        rows=rows,
        note="The bins hold equally many rows each, from the least confident to the most.",
    )


def _figure(conditions: Sequence[Condition], bins: int) -> Figure:
    title = "; ".join(_said(one) for one in conditions if len(one.answers))
    sizes = "; ".join(f"{one.label}: n = {len(one.answers)}" for one in conditions)
    least = min(item.settings["confidence"] for _, line in _lines(conditions, bins) for item in line)
    diagonal = [least, 1.0]
    perfect = {"name": "calibrated", "x": diagonal, "y": diagonal, "low": diagonal, "high": diagonal}
    series = [
        {
            "name": one.label,
            "x": [item.settings["confidence"] for item in line],
            "y": [item.value for item in line],
            "low": [item.low for item in line],
            "high": [item.high for item in line],
        }
        for one, line in _lines(conditions, bins)
    ]
    return Figure(
        name="reliability diagram",
        title=title,
        kind="curve",
        alt=f"Accuracy over confidence, by bin ({sizes}). {title}. Below the diagonal it promises too much.",
        data={"x_label": "confidence", "y_label": "accuracy", "series": [*series, perfect]},
    )


def _said(one: Condition) -> str:
    """The finding in words, taken on the interval."""
    inside = one.answers
    promised = float(1 - inside.confidence.mean())
    statistics = {"x": int((~inside.right).sum()), "n": len(inside), "reference": promised}
    item = measure("overconfidence", "wilson_against", statistics)
    value, low, high = item.value or 0.0, item.low or 0.0, item.high or 0.0
    if low > 0 or high < 0:
        return f"Rows {one.name}: {'over' if low > 0 else 'under'}confident by {abs(value):.3f}"
    return f"Rows {one.name}: neither over- nor underconfident ({value:+.3f})"


def _caveats(conditions: Sequence[Condition], data: Dataset, floor: int) -> Iterator[str]:
    wrong = int((~conditions[0].answers.right).sum())
    if wrong < _FEW_WRONG:
        yield f"Only {wrong} rows are wrong, so what is said of the model's errors rests on few."
    small = [
        ", ".join(who.values())
        for who, members in groups(data, conditions[0].answers.rows)
        if who and members.sum() < floor
    ]
    if small:
        yield f"Fewer than {floor} rows, shown and not judged: {'; '.join(small)}."
    if len(conditions) > 1:
        rows = len(conditions[1].answers)
        yield f"The corrupted numbers speak of {rows} rows and of one corruption, not of all accidents."
