"""Attention rollout: which positions a network with attention draws its answer from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Figure, Table
from audit.explain.summary import AtLeastOne
from audit.stats import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.dataset import Dataset
    from audit.evidence import Measure
    from audit.explain.attribution import Doubles
    from audit.explain.kernel_shap import Bools
    from audit.explain.rollout import Read, Rollout
    from audit.model import Model

MOST_POSITIONS = 30
NOT_AN_ATTRIBUTION = (
    "Attention says where the network looks, not what it makes of what it sees: a position with a large "
    "share may not move the answer at all, and rollout ignores the values and the other layers (Jain and "
    "Wallace 2019). Use interpretability.integrated_gradients or interpretability.shap for what moves the "
    "answer."
)


@check(
    "interpretability.attention",
    needs={"logits", "modules"},
    modality={"series"},
    measures={"attention_share", "attention_concentration"},
)
def attention(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    rows: AtLeastOne = 256,
    read: Literal["auto", "mean", "first", "last"] = "auto",
) -> Evidence:
    """Attention rollout: which positions of a series a network with attention draws from.

    For networks with nn.MultiheadAttention (such as a transformer encoder). Each layer says how much every
    position draws from every other one. Averaged over the heads, mixed half and half with the position itself
    (the connection around the layer) and multiplied from the first layer to the last, this gives the share of
    what the answer reads that comes from each position: `attention_share`. A network that looks at all
    positions alike gives every position the same share. `attention_concentration` is 1 less the entropy of
    the shares as a part of its largest value: 0 for equal shares, 1 for one position alone.

    It answers where the network looks. It does not say what it does with what it sees. The weights are taken
    while the network runs as it is; its parameters and hooks are the same afterwards.

    Settings: `rows` drawn; `read`, which output positions the answer is made of: `auto` finds them by the
    slope of the answer at each (where the format has gradients, else all alike), or `mean`, `first`, `last`.

    Abnar, Zuidema: Quantifying Attention Flow in Transformers, 2020. Jain, Wallace: Attention is not
    Explanation, 2019.
    """
    found, used = _rolled(model, data, seed, rows, read)
    fit: Bools = np.asarray(np.isfinite(found.shares).all(axis=1))
    if not fit.any():
        raise NotEvaluable(f"0 of {len(fit)} rows have finite attention.")
    shares = found.shares[fit]
    names = _names(shares.shape[1], data.inputs.shape[1:])
    return Evidence(
        measures=_measures(shares, names),
        tables=[_table(shares, found.reading[fit], names)],
        figures=[_figure(shares, names)],
        caveats=[NOT_AN_ATTRIBUTION, *_caveats(found, fit, used, names, data.inputs.shape[1:])],
    )


def _rolled(model: Model, data: Dataset, seed: int, rows: int, read: Read) -> tuple[Rollout, Read]:
    """The rollout of the drawn rows, and how the output positions were read."""
    from audit.explain.rollout import attention_layers, rollout

    attention_layers(model)
    index = sample_rows(data, rows, seed)
    if not len(index):
        raise NotEvaluable("the data hold 0 rows.")
    inputs = model.tensor(data.inputs[index])
    scores = model.predict(data.inputs[index])
    if scores.shape[1] < 2:  # noqa: PLR2004 - log-odds are of one class against the others
        raise NotApplicable("the model has one output and no classes, so there are no log-odds to read.")
    used: Read = "mean" if read == "auto" and "gradients" not in model.capabilities else read
    return rollout(model, inputs, scores.argmax(dim=1).to(model.device), used), used


def _names(positions: int, shape: Sequence[int]) -> list[str]:
    """Positions of the series where the network has as many, else tokens of the network."""
    word = "position" if positions in shape else "token"
    return [f"{word} {index + 1}" for index in range(positions)]


def _order(shares: Doubles) -> list[int]:
    order: list[int] = np.argsort(-shares.mean(axis=0), kind="stable").tolist()
    return order


def _measures(shares: Doubles, names: Sequence[str]) -> list[Measure]:
    found = [
        mean("attention_share", shares[:, i].tolist(), group={"feature": names[i]}, unit="share")
        for i in _order(shares)[:MOST_POSITIONS]
    ]
    if shares.shape[1] < 2:  # noqa: PLR2004 - one position always has everything
        return found
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    spread = 1 - entropy / np.log(shares.shape[1])
    return [*found, mean("attention_concentration", spread.tolist(), unit="share")]


def _table(shares: Doubles, reading: Doubles, names: Sequence[str]) -> Table:
    rows = []
    for i, name in enumerate(names):
        item = mean("x", shares[:, i].tolist())
        rows.append([name, item.value, item.low, item.high, float(reading[:, i].mean())])
    return Table(
        name="rollout",
        title="Share that the answer draws from each position",
        columns=["position", "share", "low", "high", "read"],
        rows=rows,
        note=f"{len(shares)} rows; low and high: 95 % Student t interval over rows; read: how much the "
        "answer reads the last layer's output there.",
    )


def _figure(shares: Doubles, names: Sequence[str]) -> Figure:
    order = _order(shares)
    first = mean("x", shares[:, order[0]].tolist())
    level = 1 / len(names)
    above = first.low is not None and first.low > max(
        shares[:, order[1:2]].mean() if order[1:] else 0.0, level
    )
    title = (
        f"The answer draws most from {names[order[0]]}" if above else "No position stands out in attention"
    )
    items = [mean("x", shares[:, i].tolist()) for i in range(len(names))]
    series = {
        "name": "share",
        "x": [float(i + 1) for i in range(len(names))],
        "y": [item.value for item in items],
        "low": [item.low for item in items],
        "high": [item.high for item in items],
    }
    drawn = ", ".join(f"{names[i]} {shares[:, i].mean():.3g}" for i in order[:5])
    return Figure(
        name="rollout",
        title=title,
        kind="curve",
        alt=f"Curve of the share drawn from each position; largest: {drawn}.",
        data={"x_label": "position", "y_label": "share of what the answer reads", "series": [series]},
    )


def _caveats(
    found: Rollout,
    fit: Bools,
    read: str,
    names: Sequence[str],
    shape: Sequence[int],
) -> list[str]:
    how = "where its slope is" if read == "auto" else f"by the setting '{read}'"
    sentences = [
        (
            f"{found.layers} attention layers were rolled out for {int(fit.sum())} rows drawn by the seed; "
            f"the answer is taken to read the last layer {how}. An equal share is {1 / len(names):.3g}."
        )
    ]
    if not fit.all():
        sentences.append(f"{int((~fit).sum())} of {len(fit)} rows have attention that is not finite.")
    if names[0].startswith("token"):
        sentences.append(
            f"The network works on {len(names)} tokens, and a row has the shape {list(shape)}: which part "
            "of a row a token stands for is not known here."
        )
    return sentences
