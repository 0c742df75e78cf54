"""Principal reasons of a decision: which features pull a row down against a reference, in every run.

Source: Lundberg and Lee 2017 for the shares (Shapley values with one reference row); the rule that a reason
stands only where every run gives it the same place is this product's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audit.dataset import Feature, Floats, Ints
from audit.explain.attribution import Doubles
from audit.explain.kernel_shap import coalition_values, make_design, shapley_values
from audit.explain.partial import answers
from audit.model import Model

UNSTABLE = -1
NONE = -2
NOISE = 1e-6
Centre = Literal["mean", "median"]


@dataclass(frozen=True)
class Runs:
    """Shapley values of n rows in R runs.

    Attributes:
        values: [R, n, M] share of each feature in the log-odds, against the run's reference.
        gaps: [R, n] log-odds of the row minus those of the reference.
        reference: [R] log-odds of the reference.
        exact: whether every coalition was computed, so that only the reference differs between runs.
    """

    values: Doubles
    gaps: Doubles
    reference: Doubles
    exact: bool


def typical_row(features: Sequence[Feature], rows: Floats, centre: Centre) -> Floats:
    """[D] a row in the middle of [n, D] rows: mean or median of numbers, the most common of each category.

    A mean of one-hot columns would be a row that nobody can be, so a category is one of its categories.
    """
    found = rows.mean(axis=0, dtype=np.float64) if centre == "mean" else np.median(rows, axis=0)
    for feature in features:
        if feature.kind == "categorical":
            columns = list(feature.columns)
            patterns, counts = np.unique(rows[:, columns], axis=0, return_counts=True)
            found[columns] = patterns[counts.argmax()]
    return found.astype(np.float32)


def shapley_runs(
    model: Model,
    rows: Tensor,
    references: Tensor,
    owner: Tensor,
    features: int,
    chosen: int,
    samples: int,
    seed: int,
) -> Runs:
    """Shapley values of every row against each run's reference. Costs R * n * S rows forward.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        references: [R, ...] the reference of each run.
        owner: feature of each input element, of the shape of a row.
        features: number of features M.
        chosen: the class whose log-odds are shared out.
        samples: coalitions in a run; all of them where they fit.
        seed: run r draws its coalitions by `seed + r`.
    """
    classes = torch.full((len(rows),), chosen, device=rows.device)
    with torch.no_grad():
        (here,) = model.in_batches(lambda part: (answers(model, rows[part], chosen, "log_odds"),), len(rows))
        base = answers(model, references, chosen, "log_odds").cpu().double().numpy()
    fx = here.cpu().double().numpy()
    values, exact = [], True
    for run in range(len(references)):
        design = make_design(features, samples, seed + run)
        exact = exact and design.groups == 0
        found = coalition_values(model, rows, classes, references[run : run + 1], owner, design.masks)
        values.append(shapley_values(design, found, np.full(len(rows), base[run]), fx).values)
    return Runs(np.stack(values), fx[None] - base[:, None], base, exact)


def leading(values: Doubles, allowed: npt.NDArray[np.bool_], top: int) -> Ints:
    """[n, top] features that pull each row down most, in order; `NONE` where no further one does.

    Args:
        values: [n, M] shares; below 0 pulls down.
        allowed: [M] which features may be a reason.
        top: number of places; places beyond the number of features are `NONE`.
    """
    noise = NOISE * (1 + np.abs(values).sum(axis=1, keepdims=True))
    pull = np.where(allowed & (values < -noise), values, np.inf)
    order = np.argsort(pull, axis=1, kind="stable")[:, :top].astype(np.int64)
    found = np.where(np.isfinite(np.take_along_axis(pull, order, axis=1)), order, NONE)
    missing = np.full((len(values), top - found.shape[1]), NONE, dtype=np.int64)
    return np.concatenate([found, missing], axis=1)


def stable_reasons(values: Doubles, allowed: npt.NDArray[np.bool_], top: int) -> Ints:
    """[n, top] the feature that stands at each place in every run, `UNSTABLE` where runs differ, or `NONE`.

    Args:
        values: [R, n, M] shares in each run.
        allowed: [M] which features may be a reason.
        top: number of places.
    """
    places = np.stack([leading(run, allowed, top) for run in values])
    same = (places == places[0]).all(axis=0)
    found: Ints = np.where(same, places[0], UNSTABLE)
    return found
