"""fairness.custom: a metric that the user brings, by group; and what group thresholds would do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from audit.check import check
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Cell, Evidence, Measure, Table
from audit.stats import measure

if TYPE_CHECKING:
    from audit.dataset import Dataset, Ints, Sensitive
    from audit.explain.attribution import Doubles
    from audit.products.predictions import Predictions

_WHERE = 'checks.settings."fairness.custom"'
_LEGAL = (
    "For information only; it is no advice. Thresholds that differ by group treat people differently "
    "because of a sensitive attribute, which may be unlawful, and the attribute must be known of everybody "
    "decided on."
)
_MOST_CELLS = 1000
Metric = Callable[[Any, Any], float]


@dataclass(frozen=True)
class _Answers:
    """What is handed to the metric: [N] true and predicted, and the row indices they belong to.

    `counted` says that `given` is a decision, so that counts stand for the rows.
    """

    true: Ints
    given: Any
    rows: Ints
    counted: bool

    def of(self, members: Any) -> _Answers:
        """Those of the rows that are marked; `members` is [N]."""
        return _Answers(self.true[members], self.given[members], self.rows[members], self.counted)


@check("fairness.custom", version="2", measures={"custom", "custom_difference"})
def custom(
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    metric: str = "",
    arguments: dict[str, bool | int | float | str] = {},  # noqa: B006 - pydantic copies it; a setting's default must be a value of its type
    on: Literal["decision", "score"] = "decision",
    draws: Annotated[int, Field(ge=50)] = 200,
    floor: Annotated[int, Field(ge=2)] = 10,
    remedy: bool = False,
) -> Evidence:
    """A metric of your own, by group.

    Computes a metric that the audit's owner names, for all rows and for each sensitive group, through
    fairlearn's `MetricFrame`; `custom_difference` is the largest difference between any two known groups.
    What the metric means, and which value is good, is for its owner to say.

    Where an outcome is named as favourable, the metric is given 1 for it and 0 for the others; else the
    classes' numbers. A metric of decisions can depend only on how many rows have which outcome and which
    decision, so its interval is a bootstrap of these counts, drawn by the audit's seed. The counts stand in
    a table: with them, the seed and the metric itself, every number here can be computed again. A metric of
    scores needs the rows, and its interval is a bootstrap of them (Efron, 1979). Nobody who reads a record
    should have to run a stranger's metric, so it also keeps the quantiles of the draws: from these alone the
    interval follows again at any level, never narrower than the draws give it. Beyond the tails that the
    draws reach, it is joined to a normal interval, and is rough in small groups.

    A group with fewer rows than the floor, or for which scikit-learn calls the metric undefined, has no
    number. The interval of the difference holds for all pairs of groups at once.

    With `remedy`, a table says what thresholds by group, chosen by fairlearn's ThresholdOptimizer (Hardt,
    Price and Srebro, 2016, arXiv:1610.02413) on half of the rows, would do on the other half. It is
    information and never judged; thresholds by group may be unlawful.

    Settings: `metric` ("module:function", or the name of a function of sklearn.metrics; the function is
    run), `arguments` (keyword arguments of it), `on` (give it the `decision` or the `score` of the
    favourable outcome), `draws`, `floor`, `remedy`.
    """
    if not metric:
        raise NotApplicable(f"no metric is named; set {_WHERE}.metric, for example to 'f1_score'")
    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    if on == "score" and data.favourable is None:
        raise NotApplicable(
            "no outcome is named as favourable, so there is no score of it ([data] favourable)"
        )
    function = _guarded(_function(metric), metric, arguments)
    answers = _answers(data, predictions, on)
    settings = {"metric": metric}
    measures = [_whole(function, answers, draws, seed, settings)]
    caveats: list[str] = []
    if len(answers.rows) < len(data):
        caveats.append(f"{len(data) - len(answers.rows)} rows with scores that are not finite are left out.")
    tables: list[Table] = []
    for feature in data.sensitive.values():
        found = _by_group(function, answers, feature, draws, seed, floor, settings)
        measures += [*found, _difference(found, feature, settings)]
        caveats += [f"{_name(m)}: the draws do not vary, so there is no interval." for m in found if _flat(m)]
        caveats += _undefined_draws(found)
        tables += _decisions(data, answers, feature)
        if remedy:
            tables += _remedy(data, predictions, feature, seed, floor)
    return Evidence(measures=measures, tables=tables, caveats=caveats)


def _function(name: str) -> Callable[..., Any]:
    """The function that `metric` names.

    Raises:
        ConfigError: it does not import or is no function.
    """
    from importlib import import_module

    module, colon, attribute = name.rpartition(":")
    if not colon:
        module = "sklearn.metrics"
    try:
        home = import_module(module)
    except Exception as error:  # noqa: BLE001 - importing runs the user's code, which may raise anything
        raise ConfigError(f"{_WHERE}.metric = '{name}': '{module}' does not import ({error}).") from None
    function: Callable[..., Any] | None = getattr(home, attribute, None)
    if not callable(function) or isinstance(function, type):
        near = nearest(attribute, [n for n in dir(home) if not n.startswith("_")])
        raise ConfigError(f"{_WHERE}.metric = '{name}': '{module}' has no function '{attribute}'{near}.")
    return function


def _guarded(function: Callable[..., Any], name: str, arguments: dict[str, Any]) -> Metric:
    """The metric as a float, NaN where scikit-learn says that it is undefined.

    Raises (when called):
        ConfigError: the metric raises, or does not return one number.
    """
    from sklearn.exceptions import UndefinedMetricWarning

    def value(true: Any, given: Any) -> float:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", UndefinedMetricWarning)
                return float(function(true, given, **arguments))
        except UndefinedMetricWarning:
            return float("nan")
        except Exception as error:  # noqa: BLE001 - the user's own code may raise anything
            text = " ".join(str(error).split())[:200]
            raise ConfigError(f"{_WHERE}.metric = '{name}' failed: {type(error).__name__}: {text}") from None

    return value


def _answers(data: Dataset, predictions: Predictions, on: str) -> _Answers:
    import numpy as np

    rows = np.flatnonzero(predictions.finite)
    if not len(rows):
        raise NotEvaluable(f"none of the {len(data)} rows has scores that are finite numbers")
    true, given = data.labels[rows], np.asarray(predictions.predicted)[rows]
    if data.favourable is None:
        return _Answers(true, given, rows, counted=True)
    true = (true == data.favourable).astype(np.int64)
    if on == "score":
        scores = predictions.probabilities[rows, data.favourable].astype(np.float64)
        return _Answers(true, scores, rows, counted=False)
    return _Answers(true, (given == data.favourable).astype(np.int64), rows, counted=True)


def _whole(function: Metric, answers: _Answers, draws: int, seed: int, settings: dict[str, str]) -> Measure:
    value = function(answers.true, answers.given)
    return _measure(value, _drawn(function, answers, draws, seed), len(answers.rows), {}, settings)


def _by_group(
    function: Metric,
    answers: _Answers,
    feature: Sensitive,
    draws: int,
    seed: int,
    floor: int,
    settings: dict[str, str],
) -> list[Measure]:
    """The metric of each group that occurs, by MetricFrame, with the spread of its bootstrap."""
    from fairlearn.metrics import MetricFrame

    codes = feature.codes[answers.rows]
    frame = MetricFrame(metrics=function, y_true=answers.true, y_pred=answers.given, sensitive_features=codes)
    found = []
    for code, value in frame.by_group.items():
        members = codes == code
        who, rows = {feature.name: feature.groups[int(code)]}, int(members.sum())
        if rows < floor:
            reason = f"{rows} rows are fewer than the floor of {floor}"
            found.append(_undefined(reason, rows, who, settings))
            continue
        drawn = _drawn(function, answers.of(members), draws, seed)
        found.append(_measure(float(value), drawn, rows, who, settings))
    return found


def _drawn(function: Metric, answers: _Answers, draws: int, seed: int) -> Doubles:
    """[draws] values of the metric in bootstrap samples; NaN where it is undefined."""
    import numpy as np

    samples = _from_counts if answers.counted else _from_rows
    random = np.random.default_rng(seed)
    return np.array([function(true, given) for true, given in samples(answers, draws, random)])


def _from_counts(answers: _Answers, draws: int, random: Any) -> Iterator[tuple[Any, Any]]:
    """Samples with the same distribution as rows drawn with replacement, from the counts of the table."""
    import numpy as np

    pairs, counts = np.unique([answers.true, answers.given], axis=1, return_counts=True)
    for drawn in random.multinomial(len(answers.rows), counts / len(answers.rows), size=draws):
        true, given = np.repeat(pairs, drawn, axis=1)
        yield true, given


def _from_rows(answers: _Answers, draws: int, random: Any) -> Iterator[tuple[Any, Any]]:
    rows = len(answers.rows)
    for pick in (random.integers(0, rows, rows) for _ in range(draws)):
        yield answers.true[pick], answers.given[pick]


def _undefined(reason: str, rows: int, who: dict[str, str], settings: dict[str, str]) -> Measure:
    return Measure(name="custom", value=None, n=rows, group=who, settings=settings, unit="", reason=reason)


def _measure(
    value: float, drawn: Doubles, rows: int, who: dict[str, str], settings: dict[str, str]
) -> Measure:
    """The value with quantiles of its draws; no interval where they do not vary."""
    import math

    from audit.replicates import quantiles

    if not math.isfinite(value):
        return _undefined(f"the metric is undefined for these {rows} rows", rows, who, settings)
    statistics = {"groups": [quantiles(value, drawn)]}
    return measure("custom", "bootstrap_quantiles", statistics, n=rows, group=who, settings=settings, unit="")


def _flat(item: Measure) -> bool:
    return item.value is not None and item.low is None


def _name(item: Measure) -> str:
    return ", ".join(f"{k} = {v}" for k, v in item.group.items())


def _undefined_draws(found: list[Measure]) -> Iterator[str]:
    for item in found:
        kept = item.statistics.get("groups", [{}])[0]
        if kept.get("undefined"):
            total = kept["draws"] + kept["undefined"]
            yield (
                f"{_name(item)}: the metric is undefined in {kept['undefined']} of {total} draws; the "
                "interval is of the others."
            )


def _decisions(data: Dataset, answers: _Answers, feature: Sensitive) -> Iterator[Table]:
    """The counts that stand for the rows, for a metric of decisions; none where they are too many."""
    import numpy as np

    if not answers.counted:
        return
    columns = np.stack([feature.codes[answers.rows], answers.true, answers.given])
    cells, counts = np.unique(columns, axis=1, return_counts=True)
    if len(counts) > _MOST_CELLS:
        return
    names = ("0", "1") if data.favourable is not None else data.classes
    yield Table(
        name=f"decisions: {feature.name}",
        title=f"Rows by {feature.name}, outcome and decision, as the metric is given them",
        columns=[feature.name, "outcome", "decision", "rows"],
        rows=[
            [feature.groups[group], _called(names, true), _called(names, given), count]
            for (group, true, given), count in zip(cells.T.tolist(), counts.tolist(), strict=True)
        ],
        note="With the metric and the seed, every number of this check follows again from these counts.",
    )


def _called(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else f"output {number}"


def _difference(found: list[Measure], feature: Sensitive, settings: dict[str, str]) -> Measure:
    """The largest difference between known groups that have the number; undefined if one has no interval."""
    from audit.dataset import UNKNOWN

    known = [m for m in found if m.value is not None and m.group[feature.name] != UNKNOWN]
    flat = "; ".join(f"{_name(m)}: {m.value:.4g} in {m.n} rows" for m in known if _flat(m))
    common: dict[str, Any] = {
        "n": sum(m.n or 0 for m in known),
        "settings": {**settings, "feature": feature.name},
        "unit": "difference",
        "better": "zero",
    }
    if len(known) < 2:  # noqa: PLR2004 - a difference needs two groups
        reason = f"{len(known)} known groups have the number: there is nothing to compare"
        return Measure(name="custom_difference", value=None, reason=reason, **common)
    if flat:
        reason = f"the number has no interval for every group, so no difference has one ({flat})"
        return Measure(name="custom_difference", value=None, reason=reason, **common)
    lacking = [f"{m.group[feature.name]} ({m.n} rows)" for m in found if m not in known]
    statistics = {"groups": [m.statistics["groups"][0] for m in known]}
    left_out = "; ".join(lacking)
    return measure("custom_difference", "bootstrap_quantiles", statistics, left_out=left_out, **common)


def _remedy(
    data: Dataset, predictions: Predictions, feature: Sensitive, seed: int, floor: int
) -> Iterator[Table]:
    """What thresholds by group would do, chosen on one half of the rows and tried on the other."""
    import numpy as np

    from audit.dataset import UNKNOWN

    if data.favourable is None:
        return
    sizes = np.bincount(feature.codes, minlength=len(feature.groups))
    kept = [g for g, name in enumerate(feature.groups) if name != UNKNOWN and sizes[g] >= 2 * floor]
    rows = np.flatnonzero(predictions.finite & np.isin(feature.codes, kept))
    rows = np.random.default_rng(seed).permutation(rows)
    table_rows: list[list[Cell]] = [["as it is now", *_now(data, predictions, feature, rows[::2]), ""]]
    table_rows += [
        [constraint, *_with_thresholds(data, predictions, feature, rows, constraint, seed)]
        for constraint in ("demographic_parity", "equalized_odds")
    ]
    yield Table(
        name=f"remedy: {feature.name}",
        title=f"Information, not a finding: what thresholds by {feature.name} would do",
        columns=["constraint", "rows", "accuracy", "demographic parity difference",
                 "equalized odds difference", "not computed because"],
        rows=table_rows,
        note=_LEGAL,
    )  # fmt: skip


def _now(data: Dataset, predictions: Predictions, feature: Sensitive, rows: Ints) -> list[Cell]:
    return _results(data, feature, rows, predictions.predicted[rows] == data.favourable)


def _results(data: Dataset, feature: Sensitive, rows: Ints, selected: Any) -> list[Cell]:
    """Rows, accuracy and the two differences by fairlearn; a difference that is 0/0 for a group is None."""
    import numpy as np
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    true, codes = (data.labels[rows] == data.favourable).astype(np.int64), feature.codes[rows]
    given = np.asarray(selected).astype(np.int64)
    present = np.unique(codes)
    if len(present) < 2:  # noqa: PLR2004 - a difference needs two groups
        return [len(rows), None, None, None]
    whole = all(len(np.unique(true[codes == code])) == 2 for code in present)  # noqa: PLR2004 - both labels
    parity = float(demographic_parity_difference(true, given, sensitive_features=codes))
    odds = float(equalized_odds_difference(true, given, sensitive_features=codes)) if whole else None
    return [len(rows), float((true == given).mean()), parity, odds]


def _with_thresholds(
    data: Dataset, predictions: Predictions, feature: Sensitive, rows: Ints, constraint: str, seed: int
) -> list[Cell]:
    """The same numbers on the half of `rows` that the thresholds were not chosen on."""
    import numpy as np
    from fairlearn.postprocessing import ThresholdOptimizer

    held, chosen = rows[::2], rows[1::2]
    scores = predictions.probabilities[:, data.favourable or 0].astype(np.float64)[:, None]
    true = (data.labels == data.favourable).astype(np.int64)
    optimiser = ThresholdOptimizer(
        estimator=_given(), constraints=constraint, prefit=True, predict_method="predict"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimiser.fit(scores[chosen], true[chosen], sensitive_features=feature.codes[chosen])
            selected = optimiser.predict(
                scores[held], sensitive_features=feature.codes[held], random_state=seed % 2**32
            )
    except ValueError as error:
        return [len(held), None, None, None, " ".join(str(error).split())[:200]]
    return [*_results(data, feature, held, selected == 1), ""]


def _given() -> Any:
    """An estimator that answers with the score it is given, so that the model is not asked again."""
    from sklearn.base import BaseEstimator

    class Given(BaseEstimator):  # type: ignore[misc]
        def fit(self, rows: Any, true: Any) -> Given:
            del rows, true
            return self

        def predict(self, rows: Any) -> Any:
            return rows[:, 0]

    return Given()
