"""Permutation importance: how much worse the model becomes without each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Figure, Table
from audit.explain.summary import AtLeastOne
from audit.stats import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.dataset import Dataset, Feature, Floats
    from audit.evidence import Measure
    from audit.explain.attribution import Doubles
    from audit.explain.kernel_shap import Bools
    from audit.model import Model

KINDS = (("accuracy_drop", "share"), ("log_loss_increase", "nats"))
DRAWN = 15


@check(
    "interpretability.permutation",
    needs={"logits"},
    modality={"tabular"},
    measures={"accuracy_drop", "log_loss_increase"},
)
def permutation(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    rows: AtLeastOne = 2000,
    repeats: AtLeastOne = 10,
    correlated: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> Evidence:
    """Permutation importance: how much worse the model becomes without each feature.

    For each feature this gives every row the value of another row, drawn at random, so that the feature no
    longer says anything about the row, and looks at how much worse the model then is: `accuracy_drop` is
    the loss of right answers, `log_loss_increase` the rise of the log loss, which also sees answers that
    became less sure. The columns of one category move together. Each feature is permuted `repeats` times.
    The interval is over rows, both as the ones that are judged and as the ones that give their value.

    It answers on which features the model's quality rests, on these rows. A feature that the model uses
    and that helps nobody has no importance here. Where features go together, permuting one alone makes rows
    that do not occur in reality, and what two features say twice is lost by neither: the table `correlated`
    lists the pairs whose columns correlate by at least the setting of that name. Importance does not speak
    of causes.

    Settings: `rows` drawn, `repeats` of each permutation, `correlated` for the list of pairs.

    Breiman: Random Forests, 2001. Fisher, Rudin, Dominici: All Models are Wrong, but Many are Useful, 2019.
    """
    import torch

    from audit.explain.features import layout
    from audit.explain.partial import features_of
    from audit.explain.permutation import permuted_losses

    labels, index = data.labels, sample_rows(data, rows, seed)
    scores = model.predict(data.inputs[index])
    if scores.shape[1] < 2:  # noqa: PLR2004 - accuracy and log-loss are of one class against the others
        raise NotApplicable("the model has one output and no classes, so no decision can become worse.")
    fit: Bools = scores.isfinite().all(dim=1).numpy()
    index = index[fit]
    if len(index) < 2:  # noqa: PLR2004 - a value must come from another row
        raise NotEvaluable(f"{len(index)} rows with finite scores are too few to permute; 2 are needed.")
    names, owner = layout(data).names, torch.from_numpy(layout(data).owner).to(model.device)
    wanted = torch.as_tensor(labels[index], device=model.device)
    inputs = model.tensor(data.inputs[index])
    influence = permuted_losses(model, inputs, wanted, owner, len(names), repeats, seed).influence()
    pairs = correlated_pairs(features_of(data), data.inputs, correlated)
    return Evidence(
        measures=_measures(names, influence),
        tables=[_table(names, influence, repeats), *_pairs_table(pairs, correlated)],
        figures=[_figure(names, influence)],
        caveats=_caveats(fit, pairs, correlated),
    )


def correlated_pairs(
    features: Sequence[Feature], inputs: Floats, least: float
) -> list[tuple[str, str, float]]:
    """Pairs of features whose columns correlate by at least `least`, strongest first.

    The correlation of two features is the largest absolute Pearson correlation of a column of one with a
    column of the other; a constant column correlates with nothing.
    """
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    spread = flat.std(axis=0)
    scaled = (flat - flat.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    table = np.abs(scaled.T @ scaled) / len(flat)
    found = [
        (a.name, b.name, float(table[np.ix_(a.columns, b.columns)].max()))
        for i, a in enumerate(features)
        for b in features[i + 1 :]
        if a.columns and b.columns
    ]
    return sorted((pair for pair in found if pair[2] >= least), key=lambda pair: -pair[2])


def _measures(names: Sequence[str], influence: Doubles) -> list[Measure]:
    """Most important first; undefined where a permuted row has no finite score."""
    finite = np.asarray(np.isfinite(influence).all(axis=(0, 2)))
    order = np.argsort(np.where(finite, -influence[1].mean(axis=1), np.inf), kind="stable").tolist()
    reason = "the model gives some permuted rows scores that are not finite"
    return [
        mean(name, influence[kind, i].tolist() if finite[i] else [], reason=reason, unit=unit,
             group={"feature": names[i]})
        for kind, (name, unit) in enumerate(KINDS)
        for i in order
    ]  # fmt: skip


def _table(names: Sequence[str], influence: Doubles, repeats: int) -> Table:
    accuracy, loss = (
        {item.group["feature"]: item for item in _measures(names, influence) if item.name == name}
        for name, _ in KINDS
    )
    return Table(
        name="permutation",
        title="How much worse the model becomes without each feature",
        columns=["feature", "accuracy_drop", "low", "high", "log_loss_increase", "low_loss", "high_loss"],
        rows=[
            [name, *(n for part in (accuracy[name], item) for n in (part.value, part.low, part.high))]
            for name, item in loss.items()
        ],
        note=f"{influence.shape[2]} rows, {repeats} permutations of each feature; 95 % Student t intervals "
        "over rows, for each feature by itself.",
    )


def _figure(names: Sequence[str], influence: Doubles) -> Figure:
    known = [item for item in _measures(names, influence) if item.value is not None]
    found = [item for item in known if item.name == "log_loss_increase"][:DRAWN]
    labels = [item.group["feature"] for item in found]
    drawn = ", ".join(f"{item.group['feature']} {item.value:.3g}" for item in found)
    return Figure(
        name="permutation",
        title=_title(found),
        kind="bars",
        alt=f"Bar chart of the increase of the log loss: {drawn}.",
        data={
            "labels": labels,
            "values": [item.value for item in found],
            "low": [item.low for item in found],
            "high": [item.high for item in found],
        },
    )


def _title(found: Sequence[Measure]) -> str:
    floor = found[0].low if found else None
    if floor is None or floor <= 0:
        return "No feature is shown to carry the model's quality on these rows"
    first = found[0].group["feature"]
    level = [item for item in found if item.high is not None and item.high >= floor]
    if len(level) == 1:
        return f"The model's quality rests on {first} most"
    others = len(level) - 1
    return f"The model's quality rests on {first} and {others} more; these rows do not settle their order"


def _pairs_table(pairs: Sequence[tuple[str, str, float]], least: float) -> list[Table]:
    if not pairs:
        return []
    return [
        Table(
            name="correlated",
            title="Features that go together, so that permuting one alone makes unreal rows",
            columns=["feature", "other", "correlation"],
            rows=[list(pair) for pair in pairs],
            note=f"Largest absolute Pearson correlation of their columns over all rows, at least {least:g}.",
        )
    ]


def _caveats(fit: Bools, pairs: Sequence[tuple[str, str, float]], least: float) -> list[str]:
    found = [f"Computed on {int(fit.sum())} rows drawn by the seed; other rows may differ."]
    if not fit.all():
        found.append(
            f"{int((~fit).sum())} of {len(fit)} rows gave scores that are not finite and are left out."
        )
    if pairs:
        a, b, value = pairs[0]
        found.append(
            f"{len(pairs)} pairs of features correlate by {least:g} or more, most {a} and {b} "
            f"({value:.2f}): the importance of each is what it adds in rows where the other contradicts it, "
            "and neither shows what both say."
        )
    return found
