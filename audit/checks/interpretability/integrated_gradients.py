"""Integrated gradients: what each input contributed on the way from a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.evidence import Evidence, Table
from audit.explain.summary import AtLeastOne, evidence, mean_of_finite, require_explanation, resolution
from audit.stats import proportion

if TYPE_CHECKING:
    import numpy.typing as npt

    from audit.dataset import Dataset
    from audit.explain.attribution import Attribution
    from audit.model import Model
    from audit.products.attributions import Attributions


@check(
    "interpretability.integrated_gradients",
    version="2",
    needs={"logits", "gradients"},
    modality={"tabular", "image", "series"},
    measures={"mean_abs_attribution", "completeness_error", "completeness_met_share"},
)
def integrated_gradients(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    *,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    baseline: Literal["auto", "mean", "zero", "lowest"] = "auto",
    rule: Literal["gauss_legendre", "midpoint"] = "gauss_legendre",
    steps: AtLeastOne = 32,
    max_steps: AtLeastOne = 512,
    bound: Annotated[float, Field(gt=0)] = 0.01,
    grid: AtLeastOne = 4,
    examples: Annotated[int, Field(ge=0, le=16)] = 4,
) -> Evidence:
    """Integrated gradients: what each input contributed, compared with a baseline.

    For each row this walks in a straight line from a baseline (the mean row, or a black image) to the row
    and adds up the slopes on the way. The contributions of all inputs should add up to the difference between
    the model's answer at the row and at the baseline. `completeness_error` says how far they are from it, as
    a share of that difference; where it is above `bound` the walk is repeated with twice the steps, up to
    `max_steps`. `completeness_met_share` is the share of rows where the bound was met in the end.

    It answers what moved the answer away from the baseline's. Another baseline gives other contributions, so
    the baseline is named with the result. Contributions that add up exactly can still be no better than
    random for other questions.

    Settings: `rows` explained (256, 16 images or 64 series), `output` and `target` that are explained,
    `baseline` (`mean`, `zero`, `lowest`), `rule` of integration, `steps`, `max_steps`, `bound`, `grid`
    stretches of time of a series, `examples` shown.

    Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017.
    """
    found = attributions.of(
        "integrated_gradients",
        rows=rows,
        output=output,
        target=target,
        baseline=baseline,
        rule=rule,
        steps=steps,
        max_steps=max_steps,
        bound=bound,
        grid=grid,
    )
    require_explanation(found, exact=True)
    usable = found.usable()
    error = np.zeros(0) if found.completeness is None else found.completeness[usable]
    met = int((error <= bound).sum())
    where = baseline if baseline != "auto" else ("lowest" if data.modality == "image" else "mean")
    return evidence(
        found,
        data,
        [
            mean_of_finite("completeness_error", error, "completeness errors", unit="share", better="lower"),
            proportion("completeness_met_share", met, len(error), better="higher"),
        ],
        finding="moved the decision most",
        caveats=[
            *_caveats(where, data.modality == "image", error, bound, max_steps),
            *resolution(data, grid),
        ],
        tables=[_steps_table(found, usable, error)],
        examples=examples,
        value_range=model.input_range,
    )


def _caveats(where: str, image: bool, error: npt.NDArray[np.float64], bound: float, most: int) -> list[str]:
    missed = int((~(error <= bound)).sum())
    names = {
        "mean": "the mean colour of the images" if image else "the mean row of the data",
        "zero": "an input of zeros",
        "lowest": "the lowest value of each input" + (" (black)" if image else ""),
    }
    found = [f"Contributions are relative to one baseline, {names[where]}; another baseline gives others."]
    known = error[np.isfinite(error)]
    if missed and len(known):
        found.append(
            f"Completeness was not met for {missed} of {len(error)} rows: their contributions miss the "
            f"difference to the baseline by more than {bound:g} of it, and by up to {known.max():.3g} of it, "
            f"even with {most} steps."
        )
    return found


def _steps_table(item: Attribution, usable: npt.NDArray[np.bool_], error: npt.NDArray[np.float64]) -> Table:
    steps = item.extras["steps"][usable]
    rows = []
    known = np.isfinite(error)
    for count in np.unique(steps[known]):
        inside = error[known & (steps == count)]
        median, worst = np.quantile(inside, [0.5, 0.95])
        rows.append([int(count), len(inside), float(median), float(worst)])
    return Table(
        name="completeness",
        title="Steps that rows needed and the completeness error that is left",
        columns=["steps", "rows", "median_error", "error_95th_percentile"],
        rows=rows,
    )
