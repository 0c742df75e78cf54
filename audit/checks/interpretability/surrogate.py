"""Surrogate: can a few rules, or one sum, stand in for the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Figure, Table
from audit.stats import mean, proportion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from torch import Tensor

    from audit.dataset import Dataset, Ints
    from audit.evidence import Cell, Measure
    from audit.explain.attribution import Doubles
    from audit.explain.surrogate import Column, Linear
    from audit.model import Model

LEAST_ROWS = 20
DRAWN = 12


@dataclass(frozen=True)
class Fitted:
    """Both surrogates and the held rows they are tested on.

    Attributes:
        columns: [D] the columns.
        values: [m, D] held rows.
        decisions: [m] the model's decisions there.
        answers: [m] the model's log-odds of `outcome` there.
        majority: the most common decision among the rows that were fitted on.
        tree: the fitted tree.
        linear: the linear model and its answers at the held rows.
        outcome: index of the class whose log-odds the linear model is fitted to.
        fitted_on: number of rows fitted on.
    """

    columns: Sequence[Column]
    values: Doubles
    decisions: Ints
    answers: Doubles
    majority: int
    tree: Any
    linear: Linear
    outcome: int
    fitted_on: int


@check(
    "interpretability.surrogate",
    needs={"logits"},
    modality={"tabular"},
    measures={
        "tree_fidelity",
        "linear_fidelity",
        "majority_agreement",
        "tree_fidelity_over_majority",
        "linear_fidelity_over_majority",
        "linear_r2",
    },
)
def surrogate(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    rows: Annotated[int, Field(ge=2)] = 4000,
    depth: Annotated[int, Field(ge=1, le=6)] = 3,
    described: Annotated[float, Field(ge=0, le=1)] = 0.5,
    outcome: str = "",
) -> Evidence:
    """Surrogate: can a few rules, or one sum, stand in for the model.

    This fits a decision tree of a few questions to the model's decisions, and a linear model to its log-odds,
    on one half of the rows, and sees on the other half how well they say what the model says.
    `tree_fidelity` and `linear_fidelity` are the shares of held rows where they agree with the model;
    `majority_agreement` is the agreement of always saying the most common decision, and the measures that end
    in `_over_majority` compare the two row by row. `linear_r2` is the share of the variance of the log-odds
    that the linear model accounts for. The tree's rules are printed in words, with how often each holds.

    Fidelity says how well the surrogate imitates the model, not how good the model is. A surrogate that
    disagrees with the model in some rows says nothing about those. Where the lower bound of what the tree (or
    the linear model) gains over the majority is less than the share `described` of what there is to gain, a
    caveat says that it does not describe this model, and its rules must not be read as the model's.

    Settings: `rows` drawn (half of them fitted on), `depth` of the tree, `described` as above, `outcome`
    whose log-odds the linear model follows (the favourable one).

    Craven, Shavlik: Extracting Tree-Structured Representations of Trained Networks, 1996. Bastani, Kim,
    Bastani: Interpretability via Model Extraction, 2017.
    """
    found = _fitted(model, data, seed, rows, depth, outcome)
    agreement = _agreement(found)
    return Evidence(
        measures=_measures(found, agreement),
        tables=[_rules_table(found, data, agreement["tree"]), _effects_table(found, data)],
        figures=[_figure(found, data)],
        caveats=_caveats(found, data, agreement, described),
    )


def _fitted(model: Model, data: Dataset, seed: int, rows: int, depth: int, outcome: str) -> Fitted:
    import torch

    from audit.explain.partial import explained_class, features_of
    from audit.explain.surrogate import fit_linear, fit_tree, halves, user_columns
    from audit.model import log_odds

    index, scores = _answered(model, data, seed, rows)
    decisions = scores.argmax(dim=1).numpy()
    try:
        chosen, _ = explained_class(data, outcome, scores.shape[1])
    except NotApplicable:
        # Of many classes none of which is favourable, the most common one; the text names it.
        chosen = int(np.bincount(decisions).argmax())
    answers = log_odds(scores.double(), torch.full((len(scores),), chosen)).numpy()
    flat = data.inputs[index].reshape(len(index), -1).astype(np.float64)
    columns, values = user_columns(features_of(data), flat)
    first, held = halves(len(index), seed)
    tree = fit_tree(values[first], decisions[first], depth, max(5, len(first) // 100))
    return Fitted(
        columns, values[held], decisions[held], answers[held], int(np.bincount(decisions[first]).argmax()),
        tree, fit_linear(values[first], answers[first], values[held]), chosen, len(first),
    )  # fmt: skip


def _answered(model: Model, data: Dataset, seed: int, rows: int) -> tuple[Ints, Tensor]:
    """Rows with finite scores and the scores; refused where there are few, or one decision for all."""
    index = sample_rows(data, rows, seed)
    scores = model.predict(data.inputs[index])
    finite = scores.isfinite().all(dim=1)
    index, scores = index[finite.numpy()], scores[finite]
    if len(index) < LEAST_ROWS:
        raise NotEvaluable(
            f"{len(index)} rows with finite scores are too few; at least {LEAST_ROWS} are needed."
        )
    decisions = scores.argmax(dim=1)
    if len(np.unique(decisions.numpy())) == 1:
        raise NotEvaluable(
            f"all {len(index)} rows get the same decision ({_name(data, int(decisions[0]))}), so there is "
            "nothing to imitate."
        )
    return index, scores


def _agreement(found: Fitted) -> dict[str, Doubles]:
    """[m] 1 where each surrogate, or the majority, says what the model says; else 0."""
    positive = found.answers > 0
    says = {
        "tree": found.tree.predict(found.values) == found.decisions,
        "linear": (found.linear.predicted > 0) == positive,
        "majority": found.decisions == found.majority,
        "linear_majority": positive == (positive.mean() >= 1 / 2),
    }
    return {name: item.astype(np.float64) for name, item in says.items()}


def _measures(found: Fitted, agreement: dict[str, Doubles]) -> list[Measure]:
    n = len(found.answers)
    fidelity = [
        proportion(name, int(agreement[key].sum()), n, better="higher")
        for name, key in (
            ("tree_fidelity", "tree"),
            ("linear_fidelity", "linear"),
            ("majority_agreement", "majority"),
        )
    ]
    return [*fidelity, *_gains(agreement), _r2(found)]


def _gains(agreement: dict[str, Doubles]) -> list[Measure]:
    pairs = (("tree", "majority"), ("linear", "linear_majority"))
    return [
        mean(f"{key}_fidelity_over_majority", (agreement[key] - agreement[base]).tolist(),
             unit="share", better="higher")
        for key, base in pairs
    ]  # fmt: skip


def _r2(found: Fitted) -> Measure:
    """R2 as a mean over held rows: 1 minus the squared error over the held variance, taken as known."""
    variance = float(found.answers.var())
    fields = {"unit": "share", "better": "higher", "reason": "the log-odds are the same in every held row"}
    if variance == 0 or not np.isfinite(variance):
        return mean("linear_r2", [], **fields)
    return mean(
        "linear_r2", (1 - (found.linear.predicted - found.answers) ** 2 / variance).tolist(), **fields
    )


def _name(data: Dataset, index: int) -> str:
    return data.classes[index] if index < len(data.classes) else f"class {index}"


def _rules_table(found: Fitted, data: Dataset, agrees: Doubles) -> Table:
    from audit.explain.surrogate import rules_of

    leaves = found.tree.apply(found.values)
    rows: list[list[Cell]] = []
    for rule in rules_of(found.tree, found.columns):
        inside = leaves == rule.leaf
        share = proportion("x", int(agrees[inside].sum()), int(inside.sum()))
        text = " and ".join(rule.conditions) or "always"
        rows.append([text, _name(data, rule.says), int(inside.sum()), share.value, share.low, share.high])
    return Table(
        name="rules",
        title="The tree's rules, and how often the model decides as they say",
        columns=["if", "then", "rows", "agreement", "low", "high"],
        rows=rows,
        note=f"Fitted on {found.fitted_on} rows; rows, agreement and its 95 % interval: on the "
        f"{len(found.answers)} held rows. The rules imitate the model; they are not the model.",
    )


def _order(found: Fitted) -> list[int]:
    order: list[int] = np.argsort(-np.abs(found.linear.effects), kind="stable").tolist()
    return order


def _effects_table(found: Fitted, data: Dataset) -> Table:
    return Table(
        name="linear",
        title=f"The linear model of the log-odds of {_name(data, found.outcome)}",
        columns=["column", "effect of one standard deviation"],
        rows=[[found.columns[i].text, float(found.linear.effects[i])] for i in _order(found)],
        note="The columns of one category carry their effects against each other; only differences count.",
    )


def _figure(found: Fitted, data: Dataset) -> Figure:
    order = _order(found)[:DRAWN]
    labels = [found.columns[i].text for i in order]
    values = [float(found.linear.effects[i]) for i in order]
    drawn = ", ".join(f"{label} {value:.3g}" for label, value in zip(labels, values, strict=True))
    share = _r2(found).value
    known = "" if share is None else f", which accounts for {max(0.0, share):.0%} of their variance"
    return Figure(
        name="linear",
        title=f"The linear model of the log-odds of {_name(data, found.outcome)}{known}",
        kind="bars",
        alt=f"Bar chart of the effect of one standard deviation of each column: {drawn}.",
        data={"labels": labels, "values": values},
    )


def _caveats(found: Fitted, data: Dataset, agreement: dict[str, Doubles], described: float) -> list[str]:
    sentences = [
        (
            f"Fitted on {found.fitted_on} rows and tested on {len(found.answers)} others, drawn by the "
            f"seed; the linear model follows the log-odds of {_name(data, found.outcome)}, and agrees where "
            "both say more, or both say less, than one half."
        )
    ]
    bases = {"tree": "majority", "linear": "linear_majority"}
    for gain, (key, base) in zip(_gains(agreement), bases.items(), strict=True):
        room = 1 - float(agreement[base].mean())
        floor = gain.value if gain.low is None else gain.low
        if floor is not None and (room == 0 or floor < described * room):
            what = "tree" if key == "tree" else "linear model"
            sentences.append(
                f"The surrogate {what} does not describe this model: it agrees with the model in "
                f"{float(agreement[key].mean()):.1%} of the held rows, always saying the same in "
                f"{1 - room:.1%}, and the lower bound of the gain is {floor:.1%} of a possible {room:.1%}."
            )
    return sentences
