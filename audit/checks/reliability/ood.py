"""reliability.ood: does the model's own score tell rows that are not like those it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from audit.arrays import opened_arrays
from audit.check import check
from audit.checks.reliability.shifted import spoiler
from audit.dataset import Dataset, Doubles, Floats, Ints, sample_rows
from audit.errors import LoadError, NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.scores import compact, count_scores, equal_mass_bins
from audit.stats import measure

if TYPE_CHECKING:
    from audit.model import Model

_BINS = 1024
_IMAGE_AXES = 4
_HEAVIEST = 5
_ARRAYS = ("inputs", "images", "x", "X")


@check("reliability.ood", needs={"logits"}, measures={"auroc", "false_positive_rate"})
def ood(
    model: Model,
    data: Dataset,
    seed: int,
    folder: Path,
    *,
    foreign: str = "",
    corruption: str = "",
    rows: Annotated[int, Field(ge=2)] = 1000,
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.95,
) -> Evidence:
    """Telling foreign inputs by the model's own score: out-of-distribution detection.

    A classifier answers anything, a picture of noise too. This asks whether its own score would give such
    inputs away: is it lower for them than for the rows of the data? Compared are the rows as they are with
    the same rows after a heavy accident (a corruption at severity 5), with uniform noise in the valid range,
    with rows whose pixels (or, in a table, whose values of each feature, among the rows) were shuffled, and
    with a file of foreign inputs where one is named.

    Three scores: `max_softmax`, the highest probability; `max_logit`, the highest logit; `energy`, the
    logarithm of the sum of the exponentials of the logits. The last two need logits. `auroc` is the share of
    pairs, one known row and one foreign, in which the known one has the higher score: .5 is guessing, below
    it the model is surer of what is foreign. `false_positive_rate` is the share of foreign rows that pass a
    threshold which 95 % of the known rows pass: what would go through unnoticed.

    A good number speaks of these foreign inputs and of no others: noise is easy, and what arrives in
    practice may be nearer to the data. Corrupted rows may still be classified correctly; a score that stays
    high on them is not by itself a fault. The same rows stand on both sides where they are corrupted or
    shuffled, so these intervals are wider than they need be.

    Settings: `foreign` (an .npz file with an array `inputs`, `images` or `x`, relative to audit.toml),
    `corruption` (a name; noise unless given), `rows` (most rows of each kind), `rate` (of the known rows
    that pass).

    Sources: Hendrycks and Gimpel, 2017, arXiv:1610.02136 (max softmax); Hendrycks and others, 2022,
    arXiv:1911.11132 (max logit); Liu and others, 2020, arXiv:2010.03759 (energy). Intervals: bootstrap of
    the counts joined to Hanley and McNeil, 1982 (AUROC); exact, allowing for the threshold (false positives).
    """
    chosen = sample_rows(data, rows, seed)
    kinds, caveats = _foreign_inputs(model, data, chosen, seed, corruption)
    if foreign:
        kinds["foreign file"] = read_foreign(folder / foreign, data, model)[:rows]
    known = _finite(model.predict(data.inputs[chosen]).double().numpy())
    if not len(known):
        raise NotEvaluable(f"none of the {len(chosen)} rows has scores that are finite numbers")
    answered = {name: _finite(model.predict(values).double().numpy()) for name, values in kinds.items()}
    measures = [item for name in _names(model) for item in _compare(name, known, answered, rate)]
    return Evidence(
        measures=measures,
        tables=(_table(known, answered, kinds, len(chosen)),),
        figures=tuple(_figures(measures)),
        caveats=[*caveats, *_caveats(model, foreign, known, answered, kinds, len(chosen))],
    )


def _foreign_inputs(
    model: Model, data: Dataset, chosen: Ints, seed: int, corruption: str
) -> tuple[dict[str, Floats], list[str]]:
    """Foreign inputs made from the data, by name."""
    kinds: dict[str, Floats] = {}
    caveats = []
    try:
        name, spoil = spoiler(model, data, seed, corruption)
        kinds[f"{name}, severity {_HEAVIEST}"] = _spoilt(model, data, chosen, spoil)
    except NotApplicable as error:
        if corruption:
            raise
        caveats.append(f"Corrupted rows were not compared: {error}.")
    random = np.random.default_rng([seed, 3])
    shape = data.inputs[chosen].shape
    low, high = _bounds(model, data)
    kinds["uniform noise"] = (low + (high - low) * random.random(shape)).astype(np.float32)
    kinds["shuffled"] = _shuffled(data, chosen, random)
    return kinds, caveats


def _spoilt(model: Model, data: Dataset, chosen: Ints, spoil: Any) -> Floats:
    def work(part: slice) -> tuple[Any]:
        return (spoil(model.tensor(data.inputs[chosen[part]]), _HEAVIEST, chosen[part]).cpu(),)

    found: Floats = model.in_batches(work, len(chosen))[0].numpy()
    return found


def _bounds(model: Model, data: Dataset) -> tuple[Any, Any]:
    """The valid range: each column's own in a table; else the model's, or that of the data."""
    if data.modality == "tabular":
        low, high = data.column_bounds()
        return low.reshape(data.inputs.shape[1:]), high.reshape(data.inputs.shape[1:])
    return model.input_range or (float(data.inputs.min()), float(data.inputs.max()))


def _shuffled(data: Dataset, chosen: Ints, random: np.random.Generator) -> Floats:
    """Each row's pixels (or steps in time) in another order; in a table each feature's values among rows."""
    rows = data.inputs[chosen].copy()
    if data.modality != "tabular":
        flat = rows.reshape(*rows.shape[:2], -1)
        order = random.random((len(rows), 1, flat.shape[2])).argsort(axis=2)
        return np.take_along_axis(flat, order, axis=2).reshape(rows.shape)
    features = [list(item.columns) for item in data.features] or [[c] for c in range(rows.shape[1])]
    for columns in features:
        rows[:, columns] = rows[random.permutation(len(rows))][:, columns]
    return rows


def read_foreign(path: Path, data: Dataset, model: Model) -> Floats:
    """[M, ...] inputs of an .npz file, in the layout and the range of the data's own.

    Raises:
        LoadError: the file is absent or unreadable, has no such array, or its inputs have another shape,
            are not finite, or lie outside of the model's `input_range`.
    """
    from audit.pixels import as_images

    array = _array(path)
    if data.modality == "image" and array.ndim in (_IMAGE_AXES - 1, _IMAGE_AXES):
        array = as_images(array, "auto", model.input_range, path)
    if array.shape[1:] != data.inputs.shape[1:] or not len(array):
        raise LoadError(
            f"{path}: the foreign inputs have the shape {list(array.shape)}; they must be [rows, "
            f"{', '.join(map(str, data.inputs.shape[1:]))}] like the data, with at least one row."
        )
    found: Floats = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(found).all():
        raise LoadError(f"{path}: {int((~np.isfinite(found)).sum())} foreign values are not finite numbers.")
    low, high = model.input_range or (-np.inf, np.inf)
    if found.min() < np.float32(low) or found.max() > np.float32(high):
        raise LoadError(
            f"{path}: the foreign inputs run from {found.min():g} to {found.max():g}, outside the model's "
            f"input_range [{low:g}, {high:g}]."
        )
    return found


def _array(path: Path) -> Any:
    try:
        with opened_arrays(path) as archive:
            names = list(archive)
            name = next((item for item in _ARRAYS if item in names), None)
            array = None if name is None else archive[name]
    except ValueError as error:
        raise LoadError(f"{path} is not a readable .npz file of plain arrays: {error}.") from None
    if array is None:
        raise LoadError(
            f"{path} holds {', '.join(names) or 'no named array'}; the foreign inputs must be an array "
            "'inputs', 'images' or 'x'."
        )
    if array.dtype.kind not in "biuf" or array.ndim < 2:  # noqa: PLR2004 - rows and at least one column
        raise LoadError(
            f"{path}: '{name}' has type {array.dtype} and shape {array.shape}; a model needs rows of numbers."
        )
    return array


def _finite(scores: Doubles) -> Doubles:
    found: Doubles = scores[np.isfinite(scores).all(axis=1)]
    return found


def _names(model: Model) -> tuple[str, ...]:
    return ("max_softmax", "max_logit", "energy") if model.output == "logits" else ("max_softmax",)


def _score(name: str, scores: Doubles) -> Doubles:
    """[n] the score, higher for what the model knows; for the softmax its log-odds, which do not tie at 1."""
    from audit.reliability.answers import log_odds

    if name == "max_softmax":
        return log_odds(scores)
    found: Doubles = scores.max(axis=1) if name == "max_logit" else np.logaddexp.reduce(scores, axis=1)
    return found


def _compare(name: str, known: Doubles, answered: Mapping[str, Doubles], rate: float) -> Iterator[Measure]:
    for kind, scores in answered.items():
        cells = _cells(_score(name, known), _score(name, scores))
        fields: dict[str, Any] = {"n": len(known) + len(scores), "reason": f"0 rows of '{kind}' are finite"}
        settings = {"score": name, "foreign": kind}
        statistics = {"metric": "auc", "groups": [cells], "draws": 1000, "seed": 0}
        yield measure("auroc", "score_bins", statistics, settings=settings, better="higher", **fields)
        settings_at = {**settings, "true_positive_rate": rate}
        yield measure(
            "false_positive_rate",
            "rate_at_rate",
            {**cells, "rate": rate},
            settings=settings_at,
            better="lower",
            **fields,
        )


def _cells(known: Doubles, foreign: Doubles) -> dict[str, Any]:
    """Counts by score bin, ascending: `positives` are the known rows."""
    labels = np.repeat(np.array([1, 0]), [len(known), len(foreign)])
    places = equal_mass_bins(np.concatenate([known, foreign]), _BINS)
    return dict(compact(count_scores(np.zeros_like(labels), labels, places, 1, _BINS)[0]))


def _table(known: Doubles, answered: Mapping[str, Doubles], kinds: Mapping[str, Floats], total: int) -> Table:
    rows: list[list[Cell]] = [["rows of the data", total, len(known), _confidence(known)]]
    rows += [[name, len(kinds[name]), len(found), _confidence(found)] for name, found in answered.items()]
    return Table(
        name="inputs",
        title="What was compared, and how sure the model is of it",
        columns=("inputs", "rows", "with finite scores", "mean confidence"),
        rows=rows,
    )


def _confidence(scores: Doubles) -> float | None:
    if not len(scores):
        return None
    top = scores.max(axis=1) - np.logaddexp.reduce(scores, axis=1)
    return float(np.exp(top).mean())


def _figures(measures: Sequence[Measure]) -> Iterator[Figure]:
    shown = [m for m in measures if m.name == "auroc" and m.settings["score"] == "max_softmax"]
    shown = [m for m in shown if m.value is not None]
    if not shown:
        return
    worst = min(shown, key=lambda m: m.value or 0.0)
    title = f"By its confidence the model tells '{worst.settings['foreign']}' least: AUROC {worst.value:.3f}"
    yield Figure(
        name="telling foreign inputs",
        title=title,
        kind="bars",
        alt=f"{title}. AUROC of the highest probability for each kind of foreign input; .5 is guessing.",
        data={
            "labels": [str(m.settings["foreign"]) for m in shown],
            "values": [m.value for m in shown],
            "low": [m.low for m in shown],
            "high": [m.high for m in shown],
        },
    )


def _caveats(
    model: Model,
    foreign: str,
    known: Doubles,
    answered: Mapping[str, Doubles],
    kinds: Mapping[str, Floats],
    total: int,
) -> Iterator[str]:
    if not foreign:
        yield "No file of foreign inputs was named; those compared were made from the data."
    if model.output != "logits":
        yield f"The model puts out {model.output.replace('_', ' ')}, so max logit and energy do not exist."
    lost = {"rows of the data": total - len(known)}
    lost |= {name: len(kinds[name]) - len(found) for name, found in answered.items()}
    for name, count in lost.items():
        if count:
            yield f"{count} of '{name}' got scores that are not finite numbers and are left out."
