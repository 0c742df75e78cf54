"""One method's tests: each number of its card, with what the rule asks of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from audit.attack.nearby import Nearby
from audit.dataset import sample_rows
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Measure
from audit.explain.attribution import Attribution, Doubles
from audit.stats import mean, measure, proportion
from audit.trust.curves import Bools
from audit.trust.pooling import pooled
from audit.trust.rule import (
    LEAST_FIDELITY,
    LEAST_GAIN,
    LEAST_LEAD,
    LEAST_NEARBY,
    LEAST_STABLE,
    MOST_INCOMPLETE,
    MOST_RANDOMISED,
    MOST_SIGN_CHANGE,
    Trial,
)
from audit.trust.scaffolding import Asked, Lead, leads, off_manifold, perturbed
from audit.trust.study import (
    Faithfulness,
    Likeness,
    Subject,
    at_points_nearby,
    between_baselines,
    between_seeds,
    under_random_weights,
)

CHANCE = 0.95
FEWEST_OF_A_GROUP = 10
MADE_UP_ROWS = 64
RANKED = "rows with a ranking on both sides"


@dataclass
class Tried:
    """One method on its way to a card.

    Attributes:
        name: the method.
        item: what it said.
        values: [n, M] the same in the features that are deleted and inserted.
        measures: its numbers.
        tests: what the rule asks of them.
        passes: rows it sent forward and backward.
    """

    name: str
    item: Attribution
    values: Doubles
    measures: list[Measure] = field(default_factory=list)
    tests: list[Trial] = field(default_factory=list)
    passes: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Close:
    """Points within `epsilon` with the same answer, or the reason why there are none."""

    points: Nearby | None
    epsilon: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class MadeUp:
    """The leads of two features, on rows of the data and on rows made up in one way.

    Attributes:
        on: lead of the first on rows of the data.
        off: lead of the second on made-up rows.
        share: made-up rows that lie further from the data than 95 % of its own rows do.
        names: the first and the second feature.
    """

    on: Measure
    off: Measure
    share: Measure
    names: tuple[str, str]

    @property
    def weaker(self) -> Measure:
        """The less certain of both leads."""
        return min((self.on, self.off), key=lambda item: -np.inf if item.low is None else item.low)

    @property
    def flagged(self) -> bool:
        """Whether both leads are shown to be above the bound."""
        return self.weaker.low is not None and self.weaker.low >= LEAST_LEAD


@dataclass(frozen=True)
class Shared:
    """What is computed once for all methods: curves by fill, points nearby, and leads by perturbation.

    Instead of the leads there may be the reason why there are none.
    """

    curves: Mapping[str, Faithfulness]
    close: Close
    made_up: Mapping[str, MadeUp] | str


def close(subject: Subject, near: Callable[[], Nearby]) -> Close:
    """A point near each row with the same answer.

    Args:
        subject: the rows.
        near: finds the points, in the order of the rows; may raise what says why there are none.
    """
    if "gradients" not in subject.model.capabilities:
        return Close(None, reason="the model gives no gradients")
    try:
        found = near()
    except (NotApplicable, NotEvaluable) as error:
        return Close(None, reason=str(error).removesuffix("."))
    return Close(found, found.epsilon)


def made_up(subject: Subject) -> dict[str, MadeUp] | str:
    """Who leads on rows of a table and on made-up rows, or why this cannot be asked."""
    data, names = subject.data, subject.parts.names
    if data.modality != "tabular":
        kind = {"image": "images"}.get(data.modality, data.modality)
        return f"not applicable to {kind}, because no other row differs from a row in one part alone"
    if len(names) < 2:  # noqa: PLR2004 - one leads alone
        return "the table has one feature, which leads alone"
    if len(data) < MADE_UP_ROWS // 2:
        return f"{len(data)} rows, fewer than {MADE_UP_ROWS // 2}"
    index = sample_rows(data, MADE_UP_ROWS, subject.seed)
    classes = subject.model.predict(data.inputs[index]).argmax(dim=1)
    owner = subject.parts.owner.reshape(-1)
    asked = Asked(subject.model, data, index, classes, owner, subject.explained.output)
    found = {}
    flat = data.inputs.reshape(len(data), -1)
    for kind, lead in leads(asked, seed=subject.seed).items():
        rows = perturbed(data, flat[index], owner, kind, 1, subject.seed)[:, 0]
        far, count = off_manifold(flat, rows, subject.seed)
        share = proportion("off_manifold_share", far, count, settings={"perturbation": kind})
        found[str(kind)] = _leads(lead, (names[lead.on], names[lead.off]), kind, share)
    return found


def _leads(lead: Lead, pair: tuple[str, str], kind: str, share: Measure) -> MadeUp:
    number = partial(
        mean,
        unit="share",
        settings={"perturbation": kind, "on_data": pair[0], "off_data": pair[1]},
        left_out=f"{lead.left_out} rows react to no change" if lead.left_out else "",
        reason=f"too few rows react to a change; {lead.left_out} do not",
    )
    on = number("on_manifold_lead", lead.on_lead.tolist())
    return MadeUp(on, number("off_manifold_lead", lead.off_lead.tolist()), share, pair)


def put_to_the_test(subject: Subject, item: Tried, shared: Shared, *, seeds: int, draws: int) -> None:
    """Fill in the measures and tests of one method, and what they cost."""
    passes = subject.model.passes
    before = passes.forward, passes.backward
    for fill, found in shared.curves.items():
        _faithful(item, fill, found)
    _randomised(subject, item, draws)
    _stable(subject, item, seeds)
    _fragile(subject, item, shared.close)
    _own(item)
    _off_data(item, shared.made_up)
    item.passes = (
        item.passes[0] + passes.forward - before[0],
        item.passes[1] + passes.backward - before[1],
    )


def number(name: str, values: Doubles, method: str, what: str, **fields: Any) -> Measure:
    """The mean of the values that are numbers; the others are counted.

    Args:
        name: name of the measure.
        values: [n] values, NaN where there is none.
        method: the method it speaks of.
        what: what a value that is a number is one of, for the reader.
        **fields: further fields of the measure.
    """
    known = values[np.isfinite(values)]
    left = len(values) - len(known)
    return mean(
        name,
        known.tolist(),
        settings={"method": method, **fields.pop("settings", {})},
        reason=f"0 of {len(values)} {what}",
        left_out=f"{left} of {len(values)} do not count: not {what}" if left and len(known) else "",
        **fields,
    )


def group_differences(subject: Subject, item: Tried, shared: Shared) -> list[Measure]:
    """The gain of each group's rows minus that of all others, averaged over the fills."""
    curves = shared.curves.values()
    usable = np.logical_and.reduce([curve.usable(item.name) for curve in curves])
    gains = [(curve.gains(item.name), usable[curve.usable(item.name)]) for curve in curves]

    def of(rows: Bools) -> Doubles:
        parts = [pooled(gain.total[kept][rows], gain.size[kept][rows]) for gain, kept in gains]
        average: Doubles = np.mean(parts, axis=0)
        return average

    found = []
    for feature, sensitive in subject.data.sensitive.items():
        codes = sensitive.codes[subject.explained.index][usable]
        for code, group in enumerate(sensitive.groups):
            inside = codes == code
            mine, others = (of(rows) if rows.any() else np.zeros(0) for rows in (inside, ~inside))
            found.append(_difference(mine, others, item.name, {feature: group}))
    return found


def _difference(mine: Doubles, others: Doubles, method: str, group: Mapping[str, str]) -> Measure:
    fields: dict[str, Any] = {
        "n": len(mine) + len(others),
        "group": group,
        "settings": {"method": method},
        "unit": "share",
        "better": "zero",
    }
    told = f"{len(mine)} rows of the group and {len(others)} others"
    if not len(mine) or not len(others):
        reason = f"{told} can be judged, and both are needed"
        return Measure(name="faithfulness_difference", value=None, reason=reason, **fields)
    statistics: dict[str, Any] = {}
    for key, values in (("1", mine), ("0", others)):
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        statistics |= {f"n{key}": len(values), f"mean{key}": float(values.mean()), f"sd{key}": spread}
    few = min(len(mine), len(others)) < FEWEST_OF_A_GROUP
    counts = f"{told}, fewer than {FEWEST_OF_A_GROUP}"
    return measure("faithfulness_difference", "welch", statistics, too_few=counts if few else "", **fields)


def _faithful(item: Tried, fill: str, found: Faithfulness) -> None:
    gain, control = found.gains(item.name), found.control(item.name)
    rows = len(item.values)
    silent = rows - len(gain.total)
    fields: dict[str, Any] = {
        "settings": {"method": item.name, "fill": fill},
        "left_out": f"{silent} of {rows} rows whose answer does not change with this fill" if silent else "",
        "reason": f"0 of {rows} rows change their answer with this fill",
    }

    def share(name: str, values: Doubles) -> Measure:
        return mean(name, pooled(values, gain.size).tolist(), unit="share", better="higher", **fields)

    both = share("faithfulness_gain", gain.total)
    against = share("control_gain", gain.total - control.total)
    deletion = share("deletion_gain", gain.deletion)
    insertion = share("insertion_gain", gain.insertion)
    same = int((gain.beaten < CHANCE).sum())
    indistinct = proportion("indistinguishable_share", same, len(gain.beaten), better="lower", **fields)
    item.measures += [both, deletion, insertion, against, indistinct]
    asked = partial(Trial, bound=LEAST_GAIN, needed=True)
    item.tests += [
        asked(name=f"gain over random rankings, {fill} fill", measure=both, weight="faithful"),
        asked(name=f"gain over no model, {fill} fill", measure=against, weight="weakens"),
        Trial(name=f"rows not told from random, {fill} fill", measure=indistinct, weight="told"),
    ]


def _randomised(subject: Subject, item: Tried, draws: int) -> None:
    test = partial(
        Trial,
        name="rank correlation with random weights",
        weight="decides",
        bound=MOST_RANDOMISED,
        above=False,
        needed=True,
    )
    try:
        found = under_random_weights(subject, item.name, item.values, draws)
    except NotApplicable as error:
        item.tests.append(test(measure=None, reason=str(error)))
        return
    what = "draws of weights that give a ranking"
    likeness = number("randomised_rank_correlation", found, item.name, what, unit="", better="lower")
    item.measures.append(likeness)
    item.tests.append(test(measure=likeness))


def _stable(subject: Subject, item: Tried, seeds: int) -> None:
    likeness, signs = between_seeds(subject, item.name, item.values, seeds)
    rank, overlap = _likeness(item, likeness, "seed")
    changed = number("seed_sign_change", signs, item.name, "finite rows", unit="share", better="lower")
    item.measures.append(changed)
    asked = partial(Trial, weight="decides", needed=True)
    item.tests += [
        asked(name="rank correlation between seeds", measure=rank, bound=LEAST_STABLE),
        asked(name="change of sign between seeds", measure=changed, bound=MOST_SIGN_CHANGE, above=False),
        Trial(name="overlap of the leading features between seeds", measure=overlap, weight="told"),
    ]
    other = between_baselines(subject, item.name, item.values)
    if other is not None:
        rank, overlap = _likeness(item, other, "baseline")
        item.tests += [
            Trial(name="rank correlation between baselines", measure=rank, weight="told"),
            Trial(name="overlap of the leading features between baselines", measure=overlap, weight="told"),
        ]


def _fragile(subject: Subject, item: Tried, near: Close) -> None:
    asked = partial(Trial, name="rank correlation with a point nearby", weight="weakens", bound=LEAST_NEARBY)
    if near.points is None:
        item.tests.append(asked(measure=None, reason=near.reason))
        return
    found = at_points_nearby(subject, item.name, item.values, near.points)
    rank, overlap = _likeness(item, found, "nearby", {"epsilon": near.epsilon})
    item.tests += [
        asked(measure=rank),
        Trial(name="overlap of the leading features with a point nearby", measure=overlap, weight="told"),
    ]


def _likeness(
    item: Tried, found: Likeness, of: str, settings: Mapping[str, Any] | None = None
) -> tuple[Measure, Measure]:
    """Rank correlation and overlap as measures, which the method keeps."""
    fields: dict[str, Any] = {"better": "higher", "settings": settings or {}}
    rank = number(f"{of}_rank_correlation", found.rank, item.name, RANKED, unit="", **fields)
    overlap = number(f"{of}_top_overlap", found.overlap, item.name, RANKED, unit="share", **fields)
    item.measures += [rank, overlap]
    return rank, overlap


def _own(item: Tried) -> None:
    """What the method says of itself: completeness and local fit. They are measures of its own check."""
    usable = item.item.usable()
    weakens = partial(Trial, weight="weakens")
    if item.item.completeness is not None:
        error = number("completeness_error", _errors(item.item, usable), item.name, "finite errors")
        item.tests.append(
            weakens(name="completeness error", measure=error, bound=MOST_INCOMPLETE, above=False)
        )
    if "r2" in item.item.extras:
        r2 = np.asarray(item.item.extras["r2"], dtype=np.float64)[usable]
        fit = number("local_r2", r2, item.name, "rows around which the answer varies")
        item.tests.append(weakens(name="local fit (R2)", measure=fit, bound=LEAST_FIDELITY))


def _errors(item: Attribution, usable: Bools) -> Doubles:
    """Completeness errors, weighed by the difference that the values should add up to."""
    error = np.zeros(0) if item.completeness is None else item.completeness[usable]
    if item.base is None:
        return error
    difference = np.abs(item.fx - item.base)[usable]
    known = np.isfinite(error) & np.isfinite(difference)
    found = np.full(len(error), np.nan)
    found[known] = pooled(error[known], difference[known])
    return found


def _off_data(item: Tried, found: Mapping[str, MadeUp] | str) -> None:
    """It fails only where both leads are above the bound, so the less certain one is shown."""
    if isinstance(found, str):
        name = "lead of another feature on made-up rows"
        item.tests.append(Trial(name=name, measure=None, weight="weakens", bound=LEAST_LEAD, reason=found))
        return
    asks_made_up_rows = item.item.passes[1] == 0
    item.tests += [
        Trial(
            name=f"lead of another feature on rows made up as {kind} does",
            measure=lead.weaker,
            weight="decides" if asks_made_up_rows else "weakens",
            bound=LEAST_LEAD,
            above=False,
        )
        for kind, lead in found.items()
    ]
