"""Influence: which training rows pushed the decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Measure, Table
from audit.explain.summary import AtLeastOne
from audit.stats import mean, proportion

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from audit.dataset import Dataset, Ints
    from audit.library.influence import Gradients
    from audit.model import Model

_TOP_SHARE = 100
_SHOWN = 10
_BLOCK = 2**24


@check(
    "interpretability.influence",
    needs={"logits", "modules"},
    measures={"influence_concentration", "same_label_share", "contradicted_label_share"},
)
def influence(
    model: Model,
    data: Dataset,
    seed: int,
    folder: Path,
    *,
    path: str = "",
    rows: AtLeastOne = 256,
    strongest: AtLeastOne = 10,
) -> Evidence:
    """Influence: which training rows pushed the decisions.

    For each of some rows of the data this asks which training rows, if trained on once more, would make the
    model surer of its decision, and which less sure: the product of the two rows' gradients at the last layer
    of the network (TracIn). `influence_concentration` is the share of all influence on a decision that comes
    from the strongest hundredth of the training rows; where it is near 1 decisions rest on few rows.
    `same_label_share` is the share of decisions whose `strongest` supporting training rows mostly carry the
    label that the model decided for. `contradicted_label_share` is the share of training rows that the model
    itself gives another label than they carry; the table names those with the largest influence on
    themselves, which are wrongly labelled more often than others.

    It answers where in the training data a decision comes from. It follows the last layer and the final
    weights alone, and not the course of the training, so small differences between rows mean nothing.

    `path` names an `.npz` file with arrays `inputs`, as the model takes them, and `labels`, class indices,
    relative to audit.toml. Only counts, row numbers and labels of it go into the record.

    Settings: `path`, `rows` explained, `strongest` supporting rows looked at.

    Pruthi, Liu, Kale, Sundararajan: Estimating Training Data Influence by Tracing Gradient Descent, 2020.
    """
    from audit.library.files import given_inputs, given_labels
    from audit.library.influence import last_layer_gradients

    if not path:
        raise NotApplicable("no training data are given; the setting path names their .npz file")
    inputs = given_inputs(folder, path, data)
    classes = model.predict(data.inputs[:1]).shape[1]
    labels = given_labels(folder, path, len(inputs), classes)
    trained = last_layer_gradients(model, data, inputs, labels)
    asked = last_layer_gradients(model, data, data.inputs[sample_rows(data, rows, seed)], None)
    shares, agreeing, silent = _influences(trained, asked, labels, min(strongest, len(labels)))
    if silent == len(asked.predicted):
        raise NotEvaluable(f"no training row has any influence on the {silent} rows: all gradients are 0.")
    contradicted = trained.predicted.numpy() != labels
    return Evidence(
        measures=_measures(shares, agreeing, contradicted),
        tables=[_table(trained, labels, contradicted, data)],
        caveats=_caveats(len(labels), len(asked.predicted), silent),
    )


def _influences(
    trained: Gradients, asked: Gradients, labels: Ints, strongest: int
) -> tuple[list[float], list[bool], int]:
    """For each row with influences the top hundredth's share and whether supporters agree; rows without."""
    from audit.library.influence import Gradients

    shares, agreeing = [], []
    top = max(1, len(labels) // _TOP_SHARE)
    at_once = max(1, _BLOCK // len(labels))
    for start in range(0, len(asked.predicted), at_once):
        part = slice(start, start + at_once)
        block = Gradients(asked.errors[part], asked.inputs[part], asked.predicted[part])
        products = trained.products(block).numpy()
        for column, wanted in zip(products.T, block.predicted.tolist(), strict=True):
            size = np.abs(column)
            if not size.sum() > 0:
                continue
            shares.append(float(np.partition(size, -top)[-top:].sum() / size.sum()))
            supporting = labels[np.argsort(-column, kind="stable")[:strongest]]
            agreeing.append(bool((supporting == wanted).mean() > 0.5))  # noqa: PLR2004 - most of them
    return shares, agreeing, len(asked.predicted) - len(shares)


def _measures(
    shares: list[float], agreeing: list[bool], contradicted: npt.NDArray[np.bool_]
) -> list[Measure]:
    return [
        mean("influence_concentration", shares, unit="share", better="lower"),
        proportion("same_label_share", sum(agreeing), len(agreeing), better="higher"),
        proportion("contradicted_label_share", int(contradicted.sum()), len(contradicted), better="lower"),
    ]


def _table(trained: Gradients, labels: Ints, contradicted: npt.NDArray[np.bool_], data: Dataset) -> Table:
    own = trained.squares().numpy()
    order = [int(i) for i in np.argsort(-own, kind="stable") if contradicted[i]][:_SHOWN]

    def name(index: int) -> str:
        return data.classes[index] if index < len(data.classes) else f"class {index}"

    return Table(
        name="contradicted",
        title="Training rows with the largest influence on themselves whose label the model contradicts",
        columns=["row", "label", "model_says", "self_influence"],
        rows=[[i, name(int(labels[i])), name(int(trained.predicted[i])), float(own[i])] for i in order],
        note=f"{int(contradicted.sum())} of {len(labels)} training rows carry a label that the model "
        "contradicts. Rows are counted from 0 in the order of the file.",
    )


def _caveats(trained: int, asked: int, silent: int) -> list[str]:
    found = [
        (
            "Influence is that of one more step of training at the last layer from the final weights; what "
            "the training did before, and in other layers, is not followed."
        ),
        (
            f"{trained} training rows were looked at, as the file has them; whether these are the rows that "
            "the model was trained on cannot be seen from it."
        ),
    ]
    if silent:
        found.append(f"{silent} of {asked} rows have a gradient of 0 (the model is sure) and are left out.")
    return found
