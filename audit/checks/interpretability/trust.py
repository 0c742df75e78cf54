"""Trust card: may the explanations of this model be believed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Doubt, Evidence, Measure
from audit.explain.names import METHOD_NAMES, MethodName
from audit.explain.summary import AtLeastOne, require_explanation
from audit.stats import measure
from audit.trust.rule import GRADES, LEAST_STABLE, Card, card, no_explanation
from audit.trust.shown import agreement_table, card_table, conclusions, curve_figures, untried_table

if TYPE_CHECKING:
    from audit.dataset import Dataset, Ints
    from audit.model import Model
    from audit.products.adversaries import Adversaries
    from audit.products.attributions import Attributions
    from audit.trust.study import Subject
    from audit.trust.tried import Shared, Tried

COSTLY = {
    "rise": "asks about several times the masked rows of occlusion, which hides parts one by one",
    "permutation_shap": "goes row by row; kernel_shap estimates the same values for all rows at once",
    "lime_library": "asks row by row what lime asks for all rows at once",
}
UNITS = "speaks of units of a layer, and features are what is taken away"
GRADIENT_METHODS = frozenset(
    {"saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "vargrad", "expected_gradients"}
    | {"gradcam", "deep_lift", "deep_shap", "lrp", "layer_conductance"}
)
OTHER_METHODS = frozenset({"kernel_shap", "lime", "lime_library", "occlusion", "permutation_shap", "rise"})
CHECKS = {"kernel_shap": "interpretability.shap", "vargrad": "interpretability.smoothgrad"}
DOUBTED = {"vargrad": "mean_gradient_variance"}
ROWS = {"image": 8}
DRAWS = {"image": 4}
Pairs = Sequence[tuple[str, str, Measure, Measure]]


def _number_of(method: str) -> tuple[str, str]:
    """Check and measure that give what a method attributes."""
    return CHECKS.get(method, f"interpretability.{method}"), DOUBTED.get(method, "mean_abs_attribution")


@check(
    "interpretability.trust",
    needs={"logits"},
    modality={"tabular", "image", "series"},
    measures={
        "trust",
        "faithfulness_gain",
        "faithfulness_difference",
        "control_gain",
        "deletion_gain",
        "insertion_gain",
        "indistinguishable_share",
        "randomised_rank_correlation",
        "seed_rank_correlation",
        "seed_sign_change",
        "seed_top_overlap",
        "baseline_rank_correlation",
        "baseline_top_overlap",
        "nearby_rank_correlation",
        "nearby_top_overlap",
        "agreement_rank_correlation",
        "agreement_top_overlap",
        "on_manifold_lead",
        "off_manifold_lead",
        "off_manifold_share",
    },
    doubts={_number_of(name) for name in (GRADIENT_METHODS | OTHER_METHODS) - {"layer_conductance"}},
)
def trust(
    model: Model,
    data: Dataset,
    seed: int,
    attributions: Attributions,
    adversaries: Adversaries,
    *,
    methods: Annotated[list[MethodName], Field(min_length=1)] | None = None,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["predicted", "favourable"] = "predicted",
    rankings: Annotated[int, Field(ge=20, le=1000)] = 20,
    steps: Annotated[int, Field(ge=2, le=64)] = 8,
    background: AtLeastOne = 32,
    seeds: AtLeastOne = 1,
    draws: Annotated[int, Field(ge=2, le=64)] | None = None,
    top: AtLeastOne = 3,
    epsilon: Annotated[float, Field(gt=0)] | None = None,
) -> Evidence:
    """Trust card: may the explanations of this model be believed?

    An explanation is a claim about the model, and this check puts the claim to the test, method by method, on
    a few rows. The conclusion is supported, weak, not supported, or no explanation where the model's answer
    does not depend on its inputs; the rule is printed with it.

    Faithfulness: features are taken away from a row, or put back, in the order that the explanation gives
    them. The answer should fall and rise faster than with random orders of the same row, and faster than with
    an order that looks at the data and never asks the model. What is taken away must be filled, and the fill
    can decide the result, so this is done with two. `deletion_gain`, `insertion_gain`, their mean
    `faithfulness_gain`, and `control_gain` are shares of the range of the answer; 0 is no better than random,
    or than the control. A row weighs by its own range: where the answer hardly moves there is little to
    explain; but none weighs more than an eighth of all, or twice its even share where rows are few.
    `indistinguishable_share` counts rows in which more than 5 % of the random orders do as well. Where an
    explanation says how much a feature matters and not which way it pushed the answer (saliency, and LIME in
    tables), the order is by size, and what is followed is how close the answer stays to that of the whole
    row.

    Random weights: an explanation of what the model learned must change when the weights are random
    (`randomised_rank_correlation`). The model gets its weights back, which its hash proves. Stability:
    another seed should rank the features the same by the size of their attributions (`seed_rank_correlation`,
    `seed_top_overlap`) and leave their signs (`seed_sign_change`, the share of all attribution that changes
    its sign, so that values close to 0 hardly count); what another baseline gives is told. Agreement between
    the methods is told: it is not truth, and where methods disagree there is no single ranking. Fragility: at
    a point within `epsilon` that the model answers the same, found by one step along the gradient, the
    explanation should be the same (`nearby_rank_correlation`); a stronger search could find more. Made-up
    rows: some methods ask the model about rows that do not occur, and a model can be built to answer
    harmlessly there. `on_manifold_lead` and `off_manifold_lead` are both above 0 where the same changes of a
    row move the answer most through one feature on rows of the data and through another on made-up rows;
    `off_manifold_share` says how many of those lie further from the data than nearly all of its own rows.
    Tables only: for images and series it is not applicable, because no other row differs from a row in one
    part alone. `faithfulness_difference` says whether explanations are less faithful for one group than for
    all others.

    It does not say that an explanation is true or complete, and what holds for these rows may not hold for
    others. Numbers of a method that is not supported cannot pass a limit.

    Settings: `methods` to judge (all that fit the model and the data, but for a few that are told with the
    reason: they cost much more than the others, or speak of other things than features; one that is named is
    judged all the same), `rows` explained (32, or 8 images), `output` and `target` that are explained, random
    `rankings`, `steps` of a curve, `background` rows of the second fill of a table, other `seeds`, `draws` of
    random weights (8, or 4 for images), `top` features that count as leading, `epsilon` of the point nearby
    (the smallest that attacks use).

    Adebayo et al.: Sanity Checks for Saliency Maps, 2018. Petsiuk et al.: RISE, 2018. Ghorbani et al.:
    Interpretation of Neural Networks Is Fragile, 2019. Slack et al.: Fooling LIME and SHAP, 2020. Krishna et
    al.: The Disagreement Problem, 2022. Bluecher et al.: Decoupling Pixel Flipping and Occlusion, 2024.
    """
    from audit.explain.features import layout
    from audit.products.elsewhere import again
    from audit.trust.study import Subject, faithfulness
    from audit.trust.tried import Shared, close, made_up, put_to_the_test

    what: dict[str, Any] = {"rows": rows or ROWS.get(data.modality, 32), "output": output, "target": target}
    before = _passes(model)
    explained = attributions.explained(**what)
    together = _passes(model) - before
    explain = partial(again, attributions, explained)
    parts = layout(data)
    _refuse_too_little(len(explained.index), len(parts.names))
    subject = Subject(model, data, explained, parts, explain, seed, top)
    said, untried = _asked_of_all(subject, attributions, methods, what)
    found = [item for item in said if not isinstance(item, Card)]
    if not found:
        raise NotEvaluable(_nothing_said([item for item in said if isinstance(item, Card)], untried))
    values = {item.name: item.values for item in found}
    before = _passes(model)
    curves = faithfulness(subject, values, rankings=rankings, steps=steps, background=background)
    near = partial(adversaries.same_answer, explained.index, epsilon)
    shared = Shared(curves, close(subject, near), made_up(subject))
    together += _passes(model) - before
    for item in found:
        put_to_the_test(subject, item, shared, seeds=seeds, draws=draws or DRAWS.get(data.modality, 8))
    cards = [item if isinstance(item, Card) else _card(item, shared) for item in said]
    if all(one.conclusion == "no explanation" for one in cards):
        raise NotEvaluable(_nothing_said(cards, untried))
    base = _evidence(subject, found, cards, shared, (int(together[0]), int(together[1])))
    return replace(base, tables=[*base.tables, *untried_table(untried)])


def _refuse_too_little(rows: int, features: int) -> None:
    """One feature has no ranking and one row no interval: nothing could be shown, for or against."""
    if features < 2:  # noqa: PLR2004 - see above
        raise NotApplicable(
            "the data have 1 feature, and only a ranking of two or more can be put to a test."
        )
    if rows < 2:  # noqa: PLR2004 - see above
        raise NotEvaluable("1 row is too few to tell an explanation from chance; at least 2 are needed.")


def _passes(model: Model) -> Ints:
    """[2] rows sent forward and backward so far."""
    return np.array([model.passes.forward, model.passes.backward])


def _asked_of_all(
    subject: Subject, source: Attributions, named: Sequence[str] | None, what: Mapping[str, Any]
) -> tuple[list[Tried | Card], dict[str, str]]:
    """What the methods say or the card that says that they say nothing, and why others were not tried.

    A method that was named has a card whatever comes of it; of the others those that do not fit have none.
    """
    said: list[Tried | Card] = []
    untried = {} if named else dict(COSTLY)
    for name in dict.fromkeys(named or METHOD_NAMES):
        if name in untried:
            continue
        try:
            said.append(_asked(subject, source, name, what))
        except NotApplicable as error:
            reason = str(error).removesuffix(".")
            if named:
                said.append(no_explanation(name, reason))
            else:
                untried[name] = reason
        except NotEvaluable as error:
            reason = str(error).removeprefix("no explanation: ").removesuffix(".")
            said.append(no_explanation(name, reason))
    return said, untried


def _asked(subject: Subject, source: Attributions, name: str, what: Mapping[str, Any]) -> Tried:
    from audit.trust.study import values_of
    from audit.trust.tried import Tried

    if name in GRADIENT_METHODS and "gradients" not in subject.model.capabilities:
        raise NotApplicable("the model gives no gradients")
    if name == "layer_conductance":
        raise NotApplicable(UNITS)
    item = source.of(name, **what)
    require_explanation(item, exact=name in GRADIENT_METHODS)
    return Tried(name, item, values_of(item, subject.parts), passes=item.passes)


def _nothing_said(cards: Sequence[Card], untried: Mapping[str, str]) -> str:
    reasons = dict.fromkeys(f"{one.method}: {one.why[0]}" for one in cards)
    reasons |= dict.fromkeys(f"{name}: not tried, {reason}" for name, reason in untried.items())
    return f"no explanation: {'; '.join(reasons) or 'no method was asked for'}"


def _card(item: Tried, shared: Shared) -> Card:
    if any(found.usable(item.name).any() for found in shared.curves.values()):
        return card(item.name, item.tests, item.passes)
    reason = "the model's answer does not change when features are replaced"
    return no_explanation(item.name, reason, item.passes)


def _grade(one: Card) -> Measure:
    fields: dict[str, Any] = {"settings": {"method": one.method}, "unit": "grade", "better": "higher"}
    if one.conclusion == "no explanation":
        return Measure(name="trust", value=None, reason=f"no explanation: {one.why[0]}", **fields)
    return measure("trust", "exact", {"value": GRADES[one.conclusion]}, **fields)


def _evidence(
    subject: Subject,
    found: Sequence[Tried],
    cards: Sequence[Card],
    shared: Shared,
    together: tuple[int, int],
) -> Evidence:
    from audit.trust.tried import group_differences

    pairs = _agreement(found, subject.top)
    leads = {} if isinstance(shared.made_up, str) else shared.made_up
    cards_shown = [card_table(one) for one in cards if one.tests]
    return Evidence(
        measures=[
            *(_grade(one) for one in cards),
            *(number for item in found for number in item.measures),
            *(number for _, _, rank, overlap in pairs for number in (rank, overlap)),
            *(number for lead in leads.values() for number in (lead.on, lead.off, lead.share)),
            *(number for item in found for number in group_differences(subject, item, shared)),
        ],
        tables=[
            conclusions(cards, together),
            *cards_shown,
            *([agreement_table(pairs)] if pairs else []),
        ],
        figures=curve_figures(shared.curves, _beating(cards)),
        caveats=_caveats(subject, pairs, shared),
        doubts=_doubts(cards),
    )


def _agreement(found: Sequence[Tried], top: int) -> Pairs:
    """Each pair of methods with the rank correlation and the overlap of their magnitudes."""
    from audit.trust.study import agreement
    from audit.trust.tried import RANKED, number

    pairs = []
    for position, one in enumerate(found):
        for other in found[position + 1 :]:
            likeness = agreement(one.values, other.values, top)
            told = partial(number, method=one.name, what=RANKED, settings={"other": other.name})
            rank = told("agreement_rank_correlation", likeness.rank, unit="")
            pairs.append((one.name, other.name, rank, told("agreement_top_overlap", likeness.overlap)))
    return pairs


def _beating(cards: Sequence[Card]) -> dict[str, set[str]]:
    """The methods that are shown to beat random rankings, by fill."""
    found: dict[str, set[str]] = {}
    for one in cards:
        for test in one.tests:
            if test.weight == "faithful" and test.measure is not None:
                beating = found.setdefault(str(test.measure.settings["fill"]), set())
                beating |= {one.method} if test.outcome == "held" else set()
    return found


def _caveats(subject: Subject, pairs: Pairs, shared: Shared) -> list[str]:
    found = [
        f"Computed on {len(subject.explained.index)} rows drawn by the seed; other rows may differ.",
        "Intervals are over rows; for random weights over draws, each of which explains its own rows.",
        "What counts as 1 % of a row's largest attribution or less has no rank.",
    ]
    apart = [f"{a} and {b}" for a, b, rank, _ in pairs if rank.high is not None and rank.high < LEAST_STABLE]
    if apart:
        found.append(f"There is no single ranking of the features: {', '.join(apart)} disagree.")
    if shared.close.reason:
        found.append(f"Fragility was not tested: {shared.close.reason}.")
    found += _nearby_caveats(shared)
    if isinstance(shared.made_up, str):
        return [*found, f"Who leads on made-up rows was not tested: {shared.made_up}."]
    return found + [
        f"The model leads with {lead.names[0]} on rows of the data and with {lead.names[1]} on rows made up "
        f"as {kind} makes them: an explanation that asks about such rows does not show what decides."
        for kind, lead in shared.made_up.items()
        if lead.flagged
    ]


def _nearby_caveats(shared: Shared) -> list[str]:
    """Rows next to a decision move less or not at all, and fragility is not seen there."""
    near = shared.close.points
    if near is None or bool((near.steps == 1).all()):
        return []
    none, shorter = int((~near.found).sum()), int((near.found & (near.steps < 1)).sum())
    told = (
        f"Of {len(near.steps)} rows, {none} have no point within epsilon {near.epsilon:g} that is answered "
        f"the same, and do not count for fragility, and {shorter} have one after a shorter step only."
    )
    return [told]


def _doubts(cards: Sequence[Card]) -> list[Doubt]:
    return [
        Doubt(
            checks=[_number_of(one.method)[0]],
            measures=[_number_of(one.method)[1]],
            reason=f"the trust card of {one.method} says not supported ({'; '.join(one.why)})",
        )
        for one in cards
        if one.conclusion == "not supported"
    ]
