"""Layer conductance: which hidden units the decision went through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.check import check
from audit.explain.summary import AtLeastOne, evidence, require_explanation
from audit.library.gate import gated, sums

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.evidence import Evidence
    from audit.products.attributions import Attributions


@check(
    "interpretability.layer_conductance",
    needs={"logits", "gradients", "modules"},
    measures={"mean_abs_attribution", "completeness_error", "completeness_met_share"},
)
def layer_conductance(
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    layer: str = "",
    baseline: Literal["auto", "mean", "zero", "lowest"] = "auto",
    steps: AtLeastOne = 64,
    max_steps: AtLeastOne = 512,
    bound: Annotated[float, Field(gt=0)] = 0.05,
) -> Evidence:
    """Layer conductance: which hidden units the decision went through.

    For each row this walks in a straight line from a baseline to the row and adds up how much of the change
    in the answer passed through each unit (or channel) of one layer of the network. The units of a layer that
    everything passes through add up to the whole change; `completeness_error` says how far they are from it.
    Where it is above `bound` the walk is repeated in twice as many steps, up to `max_steps`; where it stays
    above for more than one row in twenty (a shortcut goes around the layer, say) the values are shown and
    marked as not to be relied on.

    It answers whether the decision rests on few units or many, and on which. A unit has no meaning by itself:
    what it stands for is another question, to which `interpretability.tcav` gives part of an answer. The
    features of this check are units, not the user's features.

    Settings: `rows` explained (256, or 16 images), `output` and `target` that are explained, `layer` by its
    name in the network (its output; when empty, the input of the last linear layer), `baseline`, `steps`,
    `max_steps`, `bound`.

    Dhamdhere, Sundararajan, Yan: How Important Is a Neuron?, 2018.
    """
    found = attributions.of(
        "layer_conductance",
        rows=rows,
        output=output,
        target=target,
        layer=layer,
        baseline=baseline,
        steps=steps,
        max_steps=max_steps,
        bound=bound,
    )
    require_explanation(found, exact=True)
    added = sums(found, bound)
    return gated(
        evidence(
            found,
            data,
            added.measures,
            finding="passed on most of the decision",
            caveats=[
                "The features here are hidden units of the network, not features of the data.",
                "Values are relative to one baseline; computed by captum on a copy of the network.",
            ],
        ),
        added.doubt,
    )
