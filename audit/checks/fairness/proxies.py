"""fairness.proxies: which inputs give a sensitive attribute away, and how much the model leans on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from audit.check import check
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.stats import bonferroni, interval_at, mean, measure, proportion

if TYPE_CHECKING:
    from audit.dataset import Dataset, Ints, Sensitive
    from audit.explain.attribution import Doubles
    from audit.products.attributions import Attributions

_LEVELS = 10
_FOLDS = 5
_LEVEL = 0.95
_OF_CLASSES = ("log-odds", "probability")


@dataclass(frozen=True)
class _Attribute:
    """A sensitive feature with at least two groups that are large enough.

    Attributes:
        name: its name.
        groups: the groups compared.
        codes: [n] index into `groups` of each row used.
        rows: [n] their indices in the data.
    """

    name: str
    groups: tuple[str, ...]
    codes: Ints
    rows: Ints


@check(
    "fairness.proxies",
    version="2",
    modality={"tabular"},
    tasks={"classification", "regression"},
    measures={
        "association",
        "attribute_accuracy",
        "attribute_accuracy_gain",
        "attribute_majority_rate",
        "reliance",
    },
)
def proxies(
    data: Dataset,
    attributions: Attributions,
    seed: int,
    *,
    negligible: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    floor: Annotated[int, Field(ge=5)] = 20,
    rows: Annotated[int, Field(ge=50)] = 20_000,
) -> Evidence:
    """Inputs that give a sensitive attribute away.

    A model that never sees a sensitive attribute can still act on it through an input that goes along with
    it, such as a district. For each input and each sensitive attribute, `association` is Cramer's V: 0
    where the input says nothing about the group, 1 where it tells it. What chance alone would give is
    taken away, and the interval starts at 0 where chance explains it (non-central chi-square; Smithson,
    2003). Numbers are cut into up to ten classes of equal size, so any shape of relation counts.

    `attribute_accuracy` is how often a logistic regression on all inputs together guesses the group of
    people it was not fitted on (five-fold cross-validation), `attribute_majority_rate` how often guessing
    the largest group would be right, and `attribute_accuracy_gain` the difference, person by person. It can
    be 0 although inputs are associated, where one group is far larger than the others.

    `reliance` is the share of an input in the model's own attributions (mean over people of the share of
    its absolute Shapley value, by KernelSHAP, else integrated gradients). An input that is both associated
    and relied on is where to look first. Neither number shows that the model uses the input because of the
    attribute: an associated input may be needed for the task, and association runs through other columns.
    For a model that predicts a number there may be no attributions; then the associations stand alone, which
    the report says.

    The table calls an input a proxy where the association's interval, at a level that holds for all inputs
    and attributes at once, lies above `negligible` (0.1 is Cohen's small effect, 1988).

    Settings: `negligible`, `floor` (a smaller group is left out), `rows` (at most so many are used, drawn
    by the audit's seed).
    """
    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    found = [_attribute(data, item, floor, rows, seed) for item in data.sensitive.values()]
    attributes = [item for item in found if len(item.groups) > 1]
    if not attributes:
        told = "; ".join(f"{item.name}: {len(item.groups)}" for item in found)
        raise NotEvaluable(f"no sensitive feature has two known groups of {floor} rows or more ({told})")
    associations = [item for attribute in attributes for item in _associations(data, attribute)]
    reliance, method, why = _reliance(data, attributions)
    guesses, caveats = _guesses(data, attributes, seed)
    ranked = _ranked(associations)
    table_rows = _rows(ranked, reliance, negligible)
    caveats += [_named(table_rows, method), why] if why else [_named(table_rows, method)]
    caveats += [
        f"'{item.name}' has fewer than two known groups of {floor} rows or more and is left out."
        for item in found
        if len(item.groups) < 2  # noqa: PLR2004 - association needs two groups
    ]
    return Evidence(
        measures=(*ranked, *guesses, *reliance.values()),
        tables=(_table(table_rows, negligible, len(ranked)),),
        figures=tuple(_figure(ranked, attribute.name) for attribute in attributes),
        caveats=caveats,
    )


def _attribute(data: Dataset, feature: Sensitive, floor: int, rows: int, seed: int) -> _Attribute:
    """The known groups of at least `floor` of the rows used, in order of their codes."""
    import numpy as np

    from audit.dataset import UNKNOWN, sample_rows

    used = sample_rows(data, rows, seed)
    sizes = np.bincount(feature.codes[used], minlength=len(feature.groups))
    kept = [g for g, name in enumerate(feature.groups) if name != UNKNOWN and sizes[g] >= floor]
    lookup = np.full(len(feature.groups), -1, dtype=np.int64)
    lookup[kept] = np.arange(len(kept))
    codes = lookup[feature.codes[used]]
    return _Attribute(
        name=feature.name,
        groups=tuple(feature.groups[g] for g in kept),
        codes=codes[codes >= 0],
        rows=used[codes >= 0],
    )


def _associations(data: Dataset, attribute: _Attribute) -> Iterator[Measure]:
    """Cramer's V of the attribute with each input, from their table of counts."""
    import numpy as np

    from audit.explain.features import layout

    parts = layout(data)
    flat = data.inputs.reshape(len(data), -1)[attribute.rows]
    owner = parts.owner.reshape(-1)
    for index, name in enumerate(parts.names):
        classes = _classes(flat[:, owner == index])
        width = int(classes.max()) + 1
        cells = np.bincount(attribute.codes * width + classes, minlength=len(attribute.groups) * width)
        yield measure(
            "association",
            "cramers_v",
            {"table": cells.reshape(-1, width).tolist()},
            n=len(attribute.rows),
            settings={"feature": name, "attribute": attribute.name},
            unit="Cramer's V",
            better="lower",
            reason=f"the input has one value in all {len(attribute.rows)} rows",
        )


def _classes(columns: Any) -> Ints:
    """[n] class of each row: its pattern where there are few, else a tenth of the rows by value."""
    import numpy as np

    from audit.scores import equal_mass_bins

    values, place = np.unique(columns, axis=0, return_inverse=True)
    if columns.shape[1] > 1 or len(values) <= _LEVELS:
        return place.reshape(-1).astype(np.int64)
    return equal_mass_bins(columns[:, 0].astype(np.float64), _LEVELS)


def _ranked(associations: list[Measure]) -> list[Measure]:
    """The surest first: by the lower end of the interval, then by the value; undefined ones last."""
    return sorted(associations, key=lambda m: (m.low or 0.0, m.value or 0.0), reverse=True)


def _guesses(data: Dataset, attributes: list[_Attribute], seed: int) -> tuple[list[Measure], list[str]]:
    """How well all inputs together give each attribute away, and sentences about it."""
    measures: list[Measure] = []
    caveats: list[str] = []
    for attribute in attributes:
        inputs = _other_inputs(data, attribute)
        smallest = min(int((attribute.codes == g).sum()) for g in range(len(attribute.groups)))
        if not inputs.shape[1] or smallest < _FOLDS:
            caveats.append(f"No input but '{attribute.name}' itself could be used to guess it.")
            continue
        predicted, converged = _out_of_fold(inputs, attribute.codes, seed)
        measures += _accuracies(attribute, predicted)
        if not converged:
            caveats.append(
                f"The regression that guesses '{attribute.name}' did not converge; a better fit may exist."
            )
    caveats.append(
        "The intervals of attribute_accuracy leave out that the regressions of the folds share rows."
    )
    return measures, caveats


def _other_inputs(data: Dataset, attribute: _Attribute) -> Doubles:
    """[n, D] standardised inputs of the rows used, without the attribute itself and constant columns."""
    import numpy as np

    flat = data.inputs.reshape(len(data), -1)[attribute.rows].astype(np.float64)
    own = [c for item in data.features if item.name == attribute.name for c in item.columns]
    flat = np.delete(flat, own, axis=1)
    spread = flat.std(axis=0)
    kept = spread > 0
    scaled: Doubles = (flat[:, kept] - flat[:, kept].mean(axis=0)) / spread[kept]
    return scaled


def _out_of_fold(inputs: Doubles, codes: Ints, seed: int) -> tuple[Ints, bool]:
    """[n] group guessed for each row by a regression that did not see it, and whether all converged."""
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    predicted = np.empty_like(codes)
    folds = StratifiedKFold(n_splits=_FOLDS, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        for seen, held in folds.split(inputs, codes):
            fitted = LogisticRegression(max_iter=300).fit(inputs[seen], codes[seen])
            predicted[held] = fitted.predict(inputs[held])
    return predicted, not any(issubclass(item.category, ConvergenceWarning) for item in said)


def _accuracies(attribute: _Attribute, predicted: Ints) -> Iterator[Measure]:
    import numpy as np

    rows = len(attribute.codes)
    largest = int(np.bincount(attribute.codes).argmax())
    right, base = predicted == attribute.codes, attribute.codes == largest
    settings = {"attribute": attribute.name}
    yield proportion("attribute_accuracy", int(right.sum()), rows, settings=settings, better="lower")
    yield proportion(
        "attribute_majority_rate",
        int(base.sum()),
        rows,
        settings={**settings, "largest": attribute.groups[largest]},
    )
    gains = (right.astype(np.int64) - base).tolist()
    common: dict[str, Any] = {"settings": settings, "unit": "difference", "better": "lower"}
    if len(set(gains)) > 1:
        yield mean("attribute_accuracy_gain", gains, **common)
    else:
        # gains that do not vary would have an interval of no width, however few the people
        counts = {"x1": int(right.sum()), "n1": rows, "x0": int(base.sum()), "n0": rows}
        yield measure("attribute_accuracy_gain", "newcombe", counts, n=rows, **common)


def _reliance(data: Dataset, attributions: Attributions) -> tuple[dict[str, Measure], str, str]:
    """The share of each input in the attributions, the method, and why there is none."""
    reasons = []
    for method in ("kernel_shap", "integrated_gradients"):
        try:
            found = attributions.of(method)
        except (NotApplicable, NotEvaluable) as error:
            reasons.append(f"{method}: {str(error).removesuffix('.')}")
            continue
        if data.targets is not None and found.unit in _OF_CLASSES:
            reasons.append(f"{method}: the model predicts a number, and this explains a {found.unit}")
            continue
        sizes = abs(found.values[found.usable()])
        sizes = sizes[sizes.sum(axis=1) > 0]
        if len(sizes):
            shares = sizes / sizes.sum(axis=1, keepdims=True)
            return _shares(found.features, shares, method), method, ""
        reasons.append(f"{method}: no row of {len(data)} has an attribution that is finite and not 0")
    why = f"How much the model relies on each input could not be measured ({'; '.join(reasons)})"
    return {}, "", f"{why}, so the associations stand alone."


def _shares(features: tuple[str, ...], shares: Doubles, method: str) -> dict[str, Measure]:
    return {
        name: mean(
            "reliance", shares[:, index].tolist(), settings={"feature": name, "by": method}, unit="share"
        )
        for index, name in enumerate(features)
    }


def _rows(ranked: list[Measure], reliance: Mapping[str, Measure], negligible: float) -> list[list[Cell]]:
    """One row for each input and attribute, in order, with whether it counts as a proxy."""
    level = bonferroni(_LEVEL, sum(m.value is not None for m in ranked))
    rows: list[list[Cell]] = []
    for item in ranked:
        name, attribute = str(item.settings["feature"]), str(item.settings["attribute"])
        low, _ = interval_at(item, level)
        word = "yes" if low is not None and low > negligible else "no"
        word = "it is the attribute" if name == attribute else word
        relied = reliance[name].value if name in reliance else None
        rows.append([name, attribute, item.value, low, relied, word])
    return rows


def _named(rows: list[list[Cell]], method: str) -> str:
    """One sentence that names the proxies, the surest first."""
    named = [
        f"'{name}' goes along with '{attribute}' (V = {value:.2f}"
        + (f", {relied:.0%} of the model's attributions" if isinstance(relied, float) else "")
        + ")"
        for name, attribute, value, _, relied, word in rows
        if word == "yes"
    ]
    if not named:
        return "No input is established as more than negligibly associated with a sensitive attribute."
    how = f" Attributions by {method}." if method else ""
    return f"Possible proxies, the surest first: {'; '.join(named)}.{how}"


def _table(rows: list[list[Cell]], negligible: float, comparisons: int) -> Table:
    return Table(
        name="proxies",
        title="Which inputs give a sensitive attribute away, and how much the model relies on them",
        columns=["input", "attribute", "association", "at least", "reliance", "possible proxy"],
        rows=rows,
        note=f"'at least' is the lower end of intervals that hold for all {comparisons} associations at "
        f"once; a possible proxy lies above {negligible:g} there.",
    )


def _figure(ranked: list[Measure], attribute: str) -> Figure:
    mine = [m for m in ranked if m.settings["attribute"] == attribute and m.value is not None]
    top = f": {mine[0].settings['feature']} most ({mine[0].value:.2f})" if mine else ""
    title = f"How much each input says about {attribute}{top}"
    return Figure(
        name=f"association with {attribute}",
        title=title,
        kind="bars",
        alt=f"{title}; Cramer's V with 95 % intervals.",
        data={
            "labels": [str(m.settings["feature"]) for m in mine],
            "values": [m.value for m in mine],
            "low": [m.low for m in mine],
            "high": [m.high for m in mine],
        },
    )
