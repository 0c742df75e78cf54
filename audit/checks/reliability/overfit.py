"""reliability.overfit: is the model better on the rows it was trained on than on others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import Dataset, sample_rows, written_out
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Figure, Measure, Scalar, Table
from audit.reliability.answers import Answers, answers
from audit.scores import compact, count_scores, equal_mass_bins, moments
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.model import Model
    from audit.products.predictions import Predictions

_BINS = 1024


@check(
    "reliability.overfit",
    needs={"logits"},
    measures={
        "train_accuracy",
        "test_accuracy",
        "accuracy_difference",
        "train_log_loss",
        "test_log_loss",
        "log_loss_difference",
        "membership_auc",
        "shared_rows",
    },
)
def overfit(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    reread: Callable[[str, Mapping[str, Any]], Dataset],
    *,
    train: str = "",
    where: dict[str, Scalar] | None = None,
    rows: Annotated[int, Field(ge=2)] = 20_000,
) -> Evidence:
    """Training rows against test rows: overfitting and memorisation.

    A model that is much better on the rows it was trained on than on others has learnt those rows and not
    only what they have in common. Then its accuracy in use is not that of its training, and somebody who
    holds a person's data can tell whether the person was among the training rows.

    `train_accuracy` and `test_accuracy` are compared in `accuracy_difference` (train less test),
    `train_log_loss` and `test_log_loss` in `log_loss_difference` (test less train). `membership_auc` is the
    share of pairs, one training row and one test row, in which the training row has the smaller loss: .5
    where nobody could tell them apart by it. `shared_rows` is the share of test rows whose inputs and label
    stand among the training rows as well. In a table of few coarse columns different people look alike;
    where a row can hardly occur twice (images, many columns), the test is not independent of the training
    and the differences are smaller than they should be.

    A difference also arises where test rows come from another time or place. An AUC near .5 does not rule
    out that some single rows can be told: stronger attacks use other models for comparison (Carlini and
    others, 2022). A negative difference is no fault.

    Settings: `train` (the file of training rows, relative to audit.toml, read in the way of `[data]`:
    reader, target, inputs, encoder) or `where` (which rows of that file, or of the data's own file, such as
    `{ split = "train" }`; it takes the place of `[data] where`), `rows` (most training rows, drawn by the
    audit's seed).

    Sources: Yeom and others, 2018, arXiv:1709.01604 (membership by loss); Carlini and others, 2022,
    arXiv:2112.03570. Intervals: Wilson, 1927; Newcombe, 1998; Welch, 1947; bootstrap of the counts joined
    to Hanley and McNeil, 1982 (AUC).
    """
    if not train and not where:
        raise NotApplicable(
            "no training rows are named; the setting train names their file, or where picks them out of the "
            "data's own"
        )
    known = written_out(reread(train, where or {}))
    _refuse_misfit(known, data)
    chosen = sample_rows(known, rows, seed)
    seen = answers(model.predict(known.inputs[chosen]).numpy(), known.labels[chosen], chosen)
    test = answers(predictions.scores, data.labels, np.arange(len(data)))
    if not len(seen) or not len(test):
        raise NotEvaluable(
            f"{len(seen)} training rows and {len(test)} test rows have finite scores; it takes both"
        )
    measures = [*_accuracies(seen, test), *_losses(seen, test), _membership(seen, test)]
    measures.append(_shared(known, data))
    return Evidence(
        measures=measures,
        tables=(_table(seen, test),),
        figures=(_figure(measures),),
        caveats=list(_caveats(seen, test, known, measures[-1])),
    )


def _refuse_misfit(known: Dataset, data: Dataset) -> None:
    if known.inputs.shape[1:] != data.inputs.shape[1:]:
        raise ConfigError(
            f"the training rows have inputs of shape {list(known.inputs.shape[1:])} and the test rows of "
            f"{list(data.inputs.shape[1:])}; they must be the same columns."
        )
    if np.array_equal(known.inputs, data.inputs) and np.array_equal(known.labels, data.labels):
        raise ConfigError("the training rows named are the very rows that are tested; name the others")


def _accuracies(seen: Answers, test: Answers) -> Iterator[Measure]:
    counts = [(int(part.right.sum()), len(part) + part.lost) for part in (seen, test)]
    (x1, n1), (x0, n0) = counts
    yield proportion("train_accuracy", x1, n1, better="higher")
    yield proportion("test_accuracy", x0, n0, better="higher")
    statistics = {"x1": x1, "n1": n1, "x0": x0, "n0": n0}
    yield measure("accuracy_difference", "newcombe", statistics, n=n1 + n0, unit="difference", better="zero")


def _losses(seen: Answers, test: Answers) -> Iterator[Measure]:
    kept = []
    for name, part in (("train_log_loss", seen), ("test_log_loss", test)):
        (found,) = moments(part.loss, np.zeros(len(part), dtype=np.int64), 1)
        statistics = {key: found[key] for key in ("n", "mean", "sd")}
        kept.append(statistics)
        yield measure(name, "student_t", statistics, n=len(part), unit="nats", better="lower")
    train, other = kept
    statistics = {f"{key}1": value for key, value in other.items()}
    statistics |= {f"{key}0": value for key, value in train.items()}
    n = len(seen) + len(test)
    yield measure("log_loss_difference", "welch", statistics, n=n, unit="nats", better="zero")


def _membership(seen: Answers, test: Answers) -> Measure:
    labels = np.repeat(np.array([1, 0]), [len(seen), len(test)])
    # the order of the losses is that of the log-probabilities, which do not tie where the loss is 0
    losses = np.concatenate([_hardness(seen), _hardness(test)])
    places = equal_mass_bins(-losses, _BINS)
    cells = compact(count_scores(np.zeros_like(labels), labels, places, 1, _BINS)[0])
    statistics = {"metric": "auc", "groups": [dict(cells)], "draws": 1000, "seed": 0}
    return measure("membership_auc", "score_bins", statistics, n=len(labels), unit="", better="lower")


def _hardness(part: Answers) -> Any:
    """[n] minus the log-odds of the true class: rises with the loss and does not become 0 in float."""
    place = np.arange(len(part))
    others = part.log_probabilities.copy()
    others[place, part.labels] = -np.inf
    return np.logaddexp.reduce(others, axis=1) - part.log_probabilities[place, part.labels]


def _shared(known: Dataset, data: Dataset) -> Measure:
    there = set(_digests(known))
    found = sum(item in there for item in _digests(data))
    return proportion("shared_rows", found, len(data), better="lower")


def _digests(rows: Dataset) -> Iterator[bytes]:
    for values, label in zip(rows.inputs, rows.labels.tolist(), strict=True):
        plain = np.ascontiguousarray(values + np.float32(0))
        yield hashlib.blake2b(plain.tobytes() + str(label).encode(), digest_size=16).digest()


def _table(seen: Answers, test: Answers) -> Table:
    rows: list[list[Cell]] = []
    for name, part in (("training", seen), ("test", test)):
        right, sure = int(part.right.sum()), float(part.confidence.mean())
        rows.append([name, len(part) + part.lost, right, float(part.loss.mean()), sure])
    return Table(
        name="train and test",
        title="Training rows and test rows",
        columns=("rows", "number", "right", "mean log loss", "mean confidence"),
        rows=rows,
    )


def _figure(measures: list[Measure]) -> Figure:
    by_name = {item.name: item for item in measures}
    gap = by_name["accuracy_difference"]
    value, low, high = gap.value or 0.0, gap.low or 0.0, gap.high or 0.0
    said = f"{value:+.3f} ({low:.3f} to {high:.3f})"
    found = low > 0
    title = (
        f"The model is better on its training rows: accuracy {said}"
        if found
        else f"No advantage in accuracy on the training rows is shown: {said}"
    )
    shown = [by_name[name] for name in ("train_accuracy", "test_accuracy")]
    return Figure(
        name="train and test accuracy",
        title=title,
        kind="bars",
        alt=f"{title}. Accuracy on training and on test rows, with 95 % intervals.",
        data={
            "labels": [f"{name} (n = {m.n})" for name, m in zip(("training", "test"), shown, strict=True)],
            "values": [m.value for m in shown],
            "low": [m.low for m in shown],
            "high": [m.high for m in shown],
        },
    )


def _caveats(seen: Answers, test: Answers, known: Dataset, shared: Measure) -> Iterator[str]:
    looked = len(seen) + seen.lost
    if looked < len(known):
        yield f"{looked} of {len(known)} training rows were drawn by the audit's seed."
    for name, part in (("training", seen), ("test", test)):
        if part.lost:
            yield (
                f"{part.lost} {name} rows got scores that are not finite numbers; they count as wrong and "
                "have no loss."
            )
    if shared.value:
        count = shared.statistics["x"]
        yield f"{count} of {shared.n} test rows stand among the training rows, inputs and label alike."
    yield "That the rows named are those the model was trained on is taken at the word of whoever named them."
