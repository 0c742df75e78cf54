"""robustness.pgd: many gradient steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, robust_evidence
from audit.checks.robustness.self_checks import gradients, identity, monotone, not_weaker, verified
from audit.evidence import Evidence

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.products.adversaries import Adversaries


@check(
    "robustness.pgd",
    needs={"logits", "gradients"},
    measures={"clean_accuracy", "robust_accuracy", "attack_success_rate"},
)
def pgd(
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Radii | None = None,
    norm: Literal["linf", "l2", "l1"] = "linf",
    steps: Annotated[int, Field(ge=1)] = 20,
    step_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    restarts: Annotated[int, Field(ge=1)] = 1,
    random_start: bool = True,
    loss: Literal["cross_entropy", "margin"] = "cross_entropy",
    rows: Rows | None = 1000,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Accuracy under an iterated attack (PGD).

    Each input is moved in many small steps, each in the direction that raises the model's loss on the true
    label and each brought back to within epsilon of the original and into the valid range; we count how many
    rows are still classified correctly. A row counts as fooled as soon as any point on the way fools the
    model, in any restart, and a row broken at one epsilon is broken at every larger one. Rows that were
    wrong before are not attacked and count as not robust. Every changed input is judged again: it must lie
    inside epsilon and inside the valid range, and the model must really misclassify it.

    It answers: how often can someone who knows the model change its decision by a change no larger than
    epsilon? It is the standard attack, and still an upper bound on robustness: stronger attacks exist. It
    says nothing about accidental changes. The self-checks beside the numbers look for masked gradients,
    which make a weak model look robust; where one fails, the numbers can never count as a pass. So that an
    attack that does worse with more room is seen, up to 64 rows broken at a smaller epsilon are tried again
    at each larger one; this changes no number but the counts of the attack on its own.

    Settings: `epsilon` (radii; raw input units for images, standard deviations of a column for tabular data),
    `norm` (linf: every coordinate by at most epsilon; l2: epsilon in length; l1: in sum), `steps`,
    `step_size` (as a share of epsilon; 2.5 / steps unless given), `restarts` (one where
    `random_start` is off, for all would start alike), `random_start`, `loss` (cross_entropy or margin),
    `rows` (how many rows, drawn by the audit's seed; none for all), `scale` (what epsilon counts),
    `justification` (why these radii). Source: Madry et al., 2018, arXiv:1706.06083.
    """
    from audit.attack.loop import Pgd

    space = adversaries.space(scale)
    asked = epsilon or space.epsilons
    radii = [0.0, *asked]
    attack = Pgd(
        norm=norm,
        steps=steps,
        step_size=step_size or 0.0,
        restarts=restarts,
        random_start=random_start,
        loss=loss,
    )
    result = adversaries.pgd(radii, attack, rows=rows, scale=scale)
    single = adversaries.fgsm(radii, rows=rows, scale=scale, norm=norm)
    noise = adversaries.noise(radii, rows=rows, scale=scale, norm=norm)
    checks = [
        identity(result),
        gradients(result),
        not_weaker(result, single, "a single step (FGSM)"),
        not_weaker(result, noise, "random noise"),
        monotone(result),
        verified(result),
    ]
    return robust_evidence(result, data, space, checks, asked, justification)
