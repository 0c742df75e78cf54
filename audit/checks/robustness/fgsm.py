"""robustness.fgsm: one gradient step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, robust_evidence
from audit.checks.robustness.self_checks import gradients, identity, monotone, not_weaker, verified
from audit.evidence import Evidence

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.products.adversaries import Adversaries


@check(
    "robustness.fgsm",
    needs={"logits", "gradients"},
    measures={"clean_accuracy", "robust_accuracy", "attack_success_rate"},
)
def fgsm(
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Radii | None = None,
    rows: Rows | None = 1000,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Accuracy under a single-step attack (FGSM).

    Each input is moved once, by at most epsilon in every coordinate, in the direction that raises the
    model's loss on the true label most; we count how many rows are still classified correctly. Rows that
    were wrong before are not attacked and count as not robust. Every changed input is judged again: it must
    lie inside epsilon and inside the valid range, and the model must really misclassify it.

    It answers: does a small, deliberate change of the input, made by someone who knows the model, change
    its decision? It does not answer whether a better attacker would succeed: FGSM is the weakest gradient
    attack, and a model can withstand it and fall to the next (see robustness.pgd). It says nothing about
    noise, blur or other accidental changes.

    Settings: `epsilon` (radii; in raw input units for images, in standard deviations of a column for tabular
    data), `rows` (how many rows, drawn by the audit's seed; none for all), `scale` (what epsilon counts),
    `justification` (why these radii). Source: Goodfellow, Shlens and Szegedy, 2015, arXiv:1412.6572.
    """
    space = adversaries.space(scale)
    asked = epsilon or space.epsilons
    radii = [0.0, *asked]
    result = adversaries.fgsm(radii, rows=rows, scale=scale)
    noise = adversaries.noise(radii, rows=rows, scale=scale)
    checks = [
        identity(result),
        gradients(result),
        not_weaker(result, noise, "random noise"),
        monotone(result),
        verified(result),
    ]
    return robust_evidence(result, data, space, checks, asked, justification)
