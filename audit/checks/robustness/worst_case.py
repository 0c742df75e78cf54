"""robustness.worst_case: several attacks in a row, and what withstands them all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, robust_evidence
from audit.checks.robustness.self_checks import gradients, identity, monotone, not_weaker, verified
from audit.errors import ConfigError
from audit.evidence import Evidence, Table

if TYPE_CHECKING:
    from audit.attack.result import AttackResult
    from audit.dataset import Dataset
    from audit.products.adversaries import Adversaries

_COLUMNS = (
    "epsilon",
    "attack",
    "rows tried",
    "rows fooled",
    "forward rows",
    "backward rows",
)
_NO_BOUNDARY = (
    "HopSkipJump, which looks at the class alone, was not among the attacks; the setting 'boundary' adds it."
)


@check(
    "robustness.worst_case",
    needs={"logits"},
    measures={"clean_accuracy", "robust_accuracy", "attack_success_rate"},
)
def worst_case(
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Radii | None = None,
    norm: Literal["linf", "l2", "l1"] = "linf",
    steps: Annotated[int, Field(ge=1)] = 100,
    restarts: Annotated[int, Field(ge=1)] = 1,
    targets: Annotated[int, Field(ge=0)] = 9,
    queries: Annotated[int, Field(ge=0)] = 1000,
    boundary: bool = False,
    rows: Rows | None = 250,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Accuracy under the strongest of several attacks.

    Attacks of different kinds are tried one after the other, the cheap ones first, each on the rows that
    all earlier ones left standing: a single gradient step (FGSM), twenty steps along the margin, adaptive
    steps (APGD) along two different losses, a search without gradients (Square), and adaptive steps towards
    each of the likeliest wrong classes. A row counts as robust only if every one of them failed on it, so
    the number is the worst case for each row, not the score of the best single attack. Rows that were wrong
    before are not attacked and count as not robust, a row broken at one epsilon is broken at every larger
    one, and every changed input is judged again.

    It answers: how often can a determined attacker who knows the model change its decision by a change no
    larger than epsilon? It is the number to set a limit on. It is still an upper bound on robustness, which
    only a proof could turn into a guarantee (see robustness.certified). For a model without gradients
    only what asks for answers is tried (random noise, HopSkipJump, Square), which is weaker. The table says
    which attack broke how many rows and what each cost. Up to 64 rows broken at a smaller epsilon are tried
    again at each larger one, to see whether the attacks do worse with more room; this changes no number but
    the counts of the attacks on their own.

    Settings: `epsilon` (radii; raw input units for images, standard deviations of a column for tabular data),
    `norm` (linf, l2 or l1), `steps` (of each APGD), `restarts` (random starts of each APGD), `targets`
    (likeliest wrong classes aimed at; 0 for none), `queries` (of Square and HopSkipJump for a row; 0 for
    none), `boundary` (try HopSkipJump, which looks at the class alone, last of all also where the model gives
    gradients; off unless given, since it asks often and seldom finds what the others did not), `rows` (how
    many rows, drawn by the audit's seed; none for all), `scale` (what epsilon counts), `justification` (why
    these radii). Source: Croce and Hein, 2020, arXiv:2003.01690 (AutoAttack).
    """
    from audit.attack.cascade import Cascade

    space = adversaries.space(scale)
    asked = epsilon or space.epsilons
    radii = [0.0, *asked]
    if boundary and (norm == "l1" or not queries):
        raise ConfigError(
            'checks.settings."robustness.worst_case": boundary = true needs the norm linf or l2 and queries '
            f"above 0, and here norm is '{norm}' and queries {queries}."
        )
    cascade = Cascade(
        norm=norm, steps=steps, restarts=restarts, targets=targets, queries=queries, boundary=boundary
    )
    result = adversaries.worst_case(radii, cascade, rows=rows, scale=scale)
    noise = adversaries.noise(radii, rows=rows, scale=scale, norm=norm)
    checks = [
        identity(result),
        gradients(result),
        not_weaker(result, noise, "random noise"),
        monotone(result),
        verified(result),
    ]
    evidence = robust_evidence(result, data, space, checks, asked, justification)
    left_out = [] if boundary or "gradients" not in adversaries.model.capabilities else [_NO_BOUNDARY]
    return replace(
        evidence, tables=(_tallies(result), *evidence.tables), caveats=(*evidence.caveats, *left_out)
    )


def _tallies(result: AttackResult) -> Table:
    return Table(
        name="attacks",
        title="Which attack broke how many rows",
        columns=_COLUMNS,
        rows=[
            (entry.epsilon, tally.attack, tally.tried, tally.fooled, tally.forward, tally.backward)
            for entry in result.at
            for tally in entry.tallies
        ],
        note="Each attack was tried on the rows that all earlier ones, and all smaller values of epsilon, "
        "left standing; rows fooled were verified in a fresh pass.",
    )
