"""Interactions: which two features work together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Figure, Table
from audit.stats import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from audit.dataset import Dataset
    from audit.evidence import Measure
    from audit.explain.attribution import Doubles
    from audit.explain.interactions import Pairs
    from audit.model import Model

UNITS = {"log_odds": "log-odds", "probability": "probability"}
NOISE = 1e-5
DRAWN = 10


@check(
    "interpretability.interactions", needs={"logits"}, modality={"tabular"}, measures={"interaction_strength"}
)
def interactions(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    rows: Annotated[int, Field(ge=2)] = 100,
    background: Annotated[int, Field(ge=2)] = 50,
    top: Annotated[int, Field(ge=2, le=30)] = 6,
    output: Literal["log_odds", "probability"] = "log_odds",
    outcome: str = "",
) -> Evidence:
    """Interactions: which two features work together.

    For each pair of features this compares what both do together with the sum of what each does alone,
    averaged over the other features (partial dependence). What is left over is their interaction: the effect
    of one depends on the value of the other. `interaction_strength` is its root mean square over rows, in the
    unit of the answer (the unnormalised H of Friedman and Popescu); 0 means that the two simply add up. The
    table also gives H, its share of what the pair does at all, between 0 and 1, which can be large where a
    pair does next to nothing. A model that is a sum over features has 0 for every pair, whatever the rows.

    The pairs are those of the `top` features by total effect, which counts what a feature does in company.
    Interactions of three and more features are not looked for. Values depend on the background rows, and
    where features go together some of the combined rows do not occur in reality. Interactions
    in log-odds and in probability are not the same: the curve from one to the other bends.

    Settings: `rows` at which pairs are looked at, `background` rows for the other features, number of `top`
    features, `output` and `outcome` that are explained (the favourable one).

    Friedman, Popescu: Predictive Learning via Rule Ensembles, 2008. Inglis, Parnell, Hurley: Visualizing
    Variable Importance and Variable Interaction Effects, 2022. Jansen: Analysis of Variance Designs, 1999.
    """
    import torch

    from audit.explain.features import layout
    from audit.explain.interactions import pair_interactions, total_effects
    from audit.explain.partial import explained_class

    parts = layout(data)
    if len(parts.names) < 2:  # noqa: PLR2004 - a pair
        raise NotApplicable(f"the data have {len(parts.names)} feature, and a pair needs two.")
    own, others = _drawn(model, data, seed, rows, background)
    chosen, name = explained_class(data, outcome, model.predict(data.inputs[:1]).shape[1])
    owner = torch.from_numpy(parts.owner).to(model.device)
    effects = total_effects(model, own, others, owner, len(parts.names), chosen, output)
    leading = tuple(np.argsort(-effects, kind="stable")[:top].tolist())
    found = pair_interactions(model, own, others, owner, leading, chosen, output)
    if not np.isfinite(found.joint).all():
        raise NotEvaluable(f"some answers of the {len(own)} rows and their mixtures are not finite.")
    return Evidence(
        measures=[m for _, m in _ranked(found, parts.names, UNITS[output])],
        tables=[_table(found, parts.names, UNITS[output]), _effects(parts.names, effects, UNITS[output])],
        figures=[_figure(found, parts.names, UNITS[output], effects)],
        caveats=[
            (
                f"The answer is the {UNITS[output]} of {name}, at {len(own)} rows with {len(others)} "
                f"background rows drawn by the seed; the pairs are those of {len(leading)} of "
                f"{len(parts.names)} features."
            ),
            "The intervals are over rows; another background gives other values.",
        ],
    )


def _drawn(model: Model, data: Dataset, seed: int, rows: int, background: int) -> tuple[Tensor, Tensor]:
    """Rows to look at, and different ones for the background; in the same ratio where there are fewer."""
    drawn = np.random.default_rng(seed).permutation(sample_rows(data, rows + background, seed))
    if len(drawn) < 4:  # noqa: PLR2004 - two rows and two others
        raise NotEvaluable(f"{len(drawn)} rows are too few; at least 4 are needed.")
    here = min(max(2, len(drawn) * rows // (rows + background)), len(drawn) - 1)
    return model.tensor(data.inputs[drawn[:here]]), model.tensor(data.inputs[drawn[here:]])


def _ranked(found: Pairs, names: Sequence[str], unit: str) -> list[tuple[int, Measure]]:
    """Each pair's place and measure, strongest first."""
    measures = []
    for place, (a, b) in enumerate(found.pairs):
        group = {"feature": names[a], "with": names[b]}
        statistics = _moments(found.joint[place] ** 2)
        n = found.joint.shape[1]
        fields = {"group": group, "n": n, "unit": unit}
        measures.append((place, measure("interaction_strength", "root_student_t", statistics, **fields)))
    return sorted(measures, key=lambda pair: -(pair[1].value or 0.0))


def _moments(values: Doubles) -> dict[str, float]:
    return {"n": len(values), "mean": float(values.mean()), "sd": float(values.std(ddof=1))}


def _table(found: Pairs, names: Sequence[str], unit: str) -> Table:
    shares = np.sqrt(np.clip(found.h_squared(), 0, None))
    rows = []
    for place, item in _ranked(found, names, unit):
        share = float(shares[place])
        h = None if np.isnan(share) else share
        rows.append([item.group["feature"], item.group["with"], item.value, item.low, item.high, h])
    return Table(
        name="interactions",
        title="Interaction of each pair of the leading features",
        columns=["feature", "with", "strength", "low", "high", "h"],
        rows=rows,
        note=f"Strength in {unit}; low and high: 95 % interval over rows, for each pair by itself; h: "
        "share of the pair's effect that is interaction, as a root; none where the pair has no effect.",
    )


def _effects(names: Sequence[str], effects: Doubles, unit: str) -> Table:
    order = np.argsort(-effects, kind="stable").tolist()
    return Table(
        name="total_effects",
        title="Total effect of each feature, by which the leading ones were picked",
        columns=["feature", "total_effect"],
        rows=[[names[i], float(effects[i])] for i in order],
        note=f"Root mean square change, in {unit}, when the feature's value is taken from another row.",
    )


def _figure(found: Pairs, names: Sequence[str], unit: str, effects: Doubles) -> Figure:
    ranked = [item for _, item in _ranked(found, names, unit)][:DRAWN]
    labels = [f"{item.group['feature']} with {item.group['with']}" for item in ranked]
    top = ranked[0]
    noise = NOISE * max(1.0, float(effects.max()))
    if (top.value or 0.0) <= noise:
        title = "No two of the leading features work together: their effects add up"
    elif len(ranked) == 1 or (top.low or 0.0) > max(item.high or 0.0 for item in ranked[1:]):
        title = f"{labels[0].replace(' with ', ' and ')} work together most"
    else:
        title = (
            f"{labels[0].replace(' with ', ' and ')} lead, and these rows do not settle the order of pairs"
        )
    drawn = ", ".join(f"{label} {item.value:.3g}" for label, item in zip(labels, ranked, strict=True))
    return Figure(
        name="interactions",
        title=title,
        kind="bars",
        alt=f"Bar chart of interaction strength in {unit}: {drawn}.",
        data={
            "labels": labels,
            "values": [item.value for item in ranked],
            "low": [item.low for item in ranked],
            "high": [item.high for item in ranked],
        },
    )
