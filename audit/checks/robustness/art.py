"""robustness.art: an attack of the Adversarial Robustness Toolbox, judged again by us."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ValidationInfo

from audit.attack.catalogue import bounded, installed, offered, unknown_argument, unknown_attack, usual_norm
from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, nearest_first, robust_evidence
from audit.checks.robustness.self_checks import (
    BLIND_OF_STANDING,
    SelfCheck,
    identity,
    monotone,
    not_weaker,
    slack,
    unreliable,
    verified,
)
from audit.errors import ConfigError, NotApplicable
from audit.evidence import Altered, Evidence, Measure, Table
from audit.quantile import counted
from audit.stats import measure

if TYPE_CHECKING:
    from audit.attack.art import ArtResult
    from audit.attack.curve import Target
    from audit.attack.result import AttackResult, Flags
    from audit.dataset import Dataset, Doubles
    from audit.products.adversaries import Adversaries


def _known_attack(attack: str) -> str:
    wrong = unknown_attack(attack)
    if wrong:
        raise ValueError(wrong)
    return attack


def _known_arguments(arguments: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    wrong = unknown_argument(str(info.data.get("attack", "")), list(arguments))
    if wrong:
        raise ValueError(wrong)
    return arguments


AttackName = Annotated[str, AfterValidator(_known_attack)]
ArgumentValues = Annotated[dict[str, Any], AfterValidator(_known_arguments)]


@check(
    "robustness.art",
    needs={"logits"},
    measures={"clean_accuracy", "robust_accuracy", "attack_success_rate", "median_distance_found"},
)
def art(
    data: Dataset,
    adversaries: Adversaries,
    *,
    attack: AttackName = "CarliniL2Method",
    arguments: ArgumentValues = {},  # noqa: B006 - pydantic copies it, and it is not changed
    epsilon: Radii | None = None,
    norm: Literal["linf", "l2", "l1"] | None = None,
    rows: Rows | None = 100,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Accuracy under an attack of a third-party library (ART).

    The attack is not ours: it comes from the Adversarial Robustness Toolbox (ART), a public library, and is
    named in the settings. ART is given the true labels and the model's scores and returns changed inputs.
    What it returns is only a claim: each changed input is judged again by us, from the stored numbers and
    in a fresh pass of the model. It must be misclassified, lie inside the valid range, leave fixed columns as
    they were and lie within epsilon of the original; what fails is counted as rejected, never as a success.

    An attack that takes a largest change is run at each epsilon, upwards, on the rows still standing. An
    attack that takes none (for example CarliniL2Method or DeepFool, which look for the smallest change) is
    run once; we measure how far each verified example lies from its original, and it counts at each epsilon
    that is no smaller. For such an attack the median distance is given too, over the rows for which it found
    an example: rows for which it found none have no distance and are counted apart.

    It answers: does this particular attack, as published and with these arguments, break the model? It does
    not answer how robust the model is: use robustness.worst_case for that. Many attacks of the library are
    slow, weak with their own arguments, or look for other things than the smallest change. An attack that is
    made for other kinds of models, or that is broken with the installed packages, is not applicable, with
    the reason. Where the model hides the gradients that an attack follows, its numbers can never count as a
    pass.

    Settings: `attack` (a class of art.attacks.evasion), `arguments` (handed to it; steps, confidence and so
    on), `epsilon` (radii; raw input units for images, standard deviations of a column for tabular data; the
    arguments count in the same units), `norm` (linf, l2 or l1; the attack's own unless given), `rows` (how
    many rows, drawn by the audit's seed; none for all), `scale` (what epsilon counts), `justification` (why
    these radii). An attack aims away from the true class, or where arguments.targeted = true at the likeliest
    wrong one. Source: Nicolae et al., 2018, arXiv:1807.01069, and the paper of each attack.
    """
    from audit.attack.art import ArtAttack, art_result
    from audit.attack.curve import Target

    _refuse(attack, arguments)
    space = adversaries.space(scale)
    asked = epsilon or space.epsilons
    radii = tuple(sorted({0.0, *asked}))
    chosen = adversaries.rows(rows)
    target = Target(
        adversaries.model,
        data.inputs,
        data.labels,
        chosen,
        adversaries.predictions.correct[chosen],
        space,
        adversaries.seed,
    )
    how = ArtAttack(name=attack, norm=norm or usual_norm(attack), arguments=arguments)
    found = art_result(target, radii, how, data.modality)
    noise = adversaries.noise(radii, rows=rows, scale=scale, norm=how.norm)
    result = found.attack
    checks = [
        identity(result),
        *_usable(target, result),
        not_weaker(result, noise, "random noise"),
        monotone(result),
        _held(found),
    ]
    evidence = robust_evidence(result, data, space, checks, asked, justification)
    return replace(
        evidence,
        measures=[*evidence.measures, *_distances(found, data, how.norm, unreliable(checks, radii[-1]))],
        tables=(_table(found), *evidence.tables),
        caveats=(*evidence.caveats, *_caveats(found, how.norm)),
        altered=partial(_altered, found),
    )


def _refuse(attack: str, arguments: dict[str, Any]) -> None:
    """What a call that did not go through the settings may still get wrong."""
    if not offered():
        raise NotApplicable("the package 'adversarial-robustness-toolbox' is not installed")
    wrong = unknown_attack(attack) or unknown_argument(attack, list(arguments))
    if wrong:
        raise ConfigError(f'checks.settings."robustness.art": {wrong}.')


def _usable(target: Target, result: AttackResult) -> Iterator[SelfCheck]:
    """Of an attack that follows gradients: whether there are any at the rows that it attacks."""
    from audit.attack.art import followed
    from audit.attack.probes import slopes

    loss = followed(result.method)
    if loss is None or not result.attacked:
        return
    seen = slopes(target, loss)
    blind = seen.zero + seen.nan
    why = f"{blind} of {seen.rows} rows give no usable gradient (zero or not finite)"
    bad = blind > BLIND_OF_STANDING * seen.rows
    yield SelfCheck(
        name="the gradient is usable",
        rule="fails when the gradient that such an attack follows is zero or not finite at more than 10 % of "
        "the rows attacked",
        evidence=f"{seen.zero} zero and {seen.nan} not finite, of {seen.rows} rows (loss {loss})",
        failed={entry.epsilon: why for entry in result.at if entry.epsilon > 0} if bad else {},
    )


def _held(found: ArtResult) -> SelfCheck:
    """`verified`, and for an attack that was run once the claims that held at no distance as well."""
    result = found.attack
    lost = sum(found.rejected.values())
    if found.distances is None or lost <= slack(result.attacked):
        return verified(result)
    why = f"{lost} claimed examples did not hold at any distance"
    told = ", ".join(f"{count} {reason}" for reason, count in found.rejected.items())
    failed = {entry.epsilon: why for entry in result.at if entry.epsilon > 0}
    return replace(verified(result), evidence=f"rejected at any distance: {told}", failed=failed)


def _distances(found: ArtResult, data: Dataset, norm: str, doubt: str) -> Iterator[Measure]:
    """The median distance among the rows for which an example was found, whole and by group."""
    if found.distances is None:
        return
    for group, members in _groups(found, data):
        attacked = found.attack.correct & members
        reached = found.distances[attacked & np.isfinite(found.distances)]
        yield measure(
            "median_distance_found",
            "quantile",
            {**counted(reached.tolist()), "q": 0.5},
            n=len(reached),
            unit="distance",
            better="higher",
            group=group,
            settings={"norm": norm},
            unreliable=doubt,
            reason=f"no verified example was found for any of {int(attacked.sum())} rows attacked",
        )


def _altered(found: ArtResult, item: Measure) -> Iterator[Altered]:
    """The examples behind the median distance; those of an epsilon are the attack's own."""
    if item.name != "median_distance_found" or found.distances is None or item.value is None:
        return
    result = found.attack
    rows, examples = result.adversarial(result.at[-1].epsilon)
    far = found.distances[np.searchsorted(result.rows, rows)]
    how = {key: str(result.settings[key]) for key in ("norm", "scale")}
    yield from nearest_first(rows, far, examples, item.value, method=result.method, **how)


def _groups(found: ArtResult, data: Dataset) -> Iterator[tuple[dict[str, str], Flags]]:
    rows = found.attack.rows
    yield {}, np.ones(len(rows), dtype=bool)
    for name, feature in data.sensitive.items():
        for code, group in enumerate(feature.groups):
            yield {name: group}, feature.codes[rows] == code


def _table(found: ArtResult) -> Table:
    result = found.attack
    reached = _reached(found.distances, result.at[-1].fooled)
    rejected = sum(found.rejected.values()) or sum(sum(e.rejected.values()) for e in result.at)
    return Table(
        name="third_party_attack",
        title="What was run",
        columns=(
            "attack", "library", "arguments", "norm", "rows attacked", "example found",
            "claimed but rejected", "forward rows", "backward rows",
        ),
        rows=[
            (result.method, f"ART {installed()}", json.dumps(result.settings["arguments"], sort_keys=True),
             result.settings["norm"], result.attacked, reached, rejected, result.forward_rows,
             result.backward_rows)
        ],
        note="Arguments that are not named have the library's own values. An example is found when it was "
        "verified, at whatever distance the attack reached.",
    )  # fmt: skip


def _reached(distances: Doubles | None, fooled: Flags) -> int:
    return int(fooled.sum()) if distances is None else int(np.isfinite(distances).sum())


def _caveats(found: ArtResult, norm: str) -> Iterator[str]:
    result = found.attack
    name = f"{result.method} of ART {installed()}"
    if bounded(result.method):
        yield f"The attack is {name}, run at each epsilon in the {norm} norm; every example was judged again."
        return
    yield (
        f"The attack is {name}. It takes no epsilon and was run once; its verified examples count at each "
        f"epsilon that their distance ({norm}) does not exceed, so an example it found further away than it "
        "had to leaves its row standing."
    )
