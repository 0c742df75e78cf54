"""fairness.robust_accuracy: does an attack break the model's decisions more easily for some groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, why
from audit.checks.robustness.self_checks import (
    SelfCheck,
    gradients,
    identity,
    monotone,
    not_weaker,
    table,
    unreliable,
    verified,
)
from audit.checks.robustness.setting import setting
from audit.errors import NotApplicable
from audit.evidence import Cell, Evidence, Figure, Measure, Table
from audit.fairness.cells import below
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.attack.loop import Pgd
    from audit.attack.result import AttackResult, Flags
    from audit.dataset import Dataset, Ints
    from audit.groups import Grouping
    from audit.products.adversaries import Adversaries

_NAMED = 10


@dataclass(frozen=True)
class _Group:
    """One group of the rows that the attack looked at.

    Attributes:
        who: feature and group; several of them for an intersection.
        known: whether no part of it is `unknown`.
        compared: known, and with at least the floor of rows.
        members: [R] whether each row belongs to it.
    """

    who: dict[str, str]
    known: bool
    compared: bool
    members: Flags

    @property
    def name(self) -> str:
        return ", ".join(self.who.values())


@check(
    "fairness.robust_accuracy",
    version="2",
    needs={"logits", "gradients"},
    measures={
        "clean_accuracy",
        "robust_accuracy",
        "robust_accuracy_difference",
        "flip_rate",
        "flip_rate_difference",
    },
)
def robust_accuracy(
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Radii | None = None,
    norm: Literal["linf", "l2"] = "linf",
    steps: Annotated[int, Field(ge=1)] = 20,
    restarts: Annotated[int, Field(ge=1)] = 1,
    rows: Rows | None = 1000,
    scale: Scale = "auto",
    depth: Annotated[int, Field(ge=1)] = 2,
    floor: Annotated[int, Field(ge=1)] = 10,
    justification: str = "",
) -> Evidence:
    """Accuracy under attack by group.

    Runs the attack of `robustness.pgd` and counts by sensitive group. `clean_accuracy` is the share of the
    group classified correctly without an attack, `robust_accuracy` the share that still is under it, and
    `flip_rate` the share of the correct decisions that the attack turns over. `robust_accuracy_difference`
    and `flip_rate_difference` are the largest difference between any two known groups, with an interval
    that holds for all pairs at once. Intersections (sex and race together) are groups of their own, up to
    `depth` features at once; the smaller a group among the rows looked at, the wider its interval.

    It answers whether decisions about one group hang by a thinner thread than those about another: whether
    a small change, a mistake or a trick would more often change them. The table shows which way the
    decisions turn, from favourable to unfavourable or back. Groups may differ because one lies closer to
    the decision boundary, which is not in itself unlawful. An attack that fails proves nothing: the true
    robustness is at most what is shown, and may differ more between groups. Where a self-check of the
    attack fails, the numbers can never count as a pass. Source: Nanda et al., 2021, arXiv:2006.12621
    (robustness bias); Madry et al., 2018, arXiv:1706.06083 (the attack).

    Settings: `epsilon`, `norm`, `steps`, `restarts`, `rows`, `scale` as in `robustness.pgd`; with the same
    values the attack runs only once. `depth` (most features of an intersection), `floor` (a smaller group
    is shown and not compared), `justification` (why these radii).
    """
    from audit.attack.loop import Pgd
    from audit.groups import groupings
    from audit.outcomes import attacked

    if not data.sensitive:
        raise NotApplicable("the data names no sensitive feature; list them under [data] sensitive")
    space = adversaries.space(scale)
    asked = sorted({float(e) for e in epsilon or space.epsilons})
    attack = Pgd(norm=norm, steps=steps, step_size=0.0, restarts=restarts, random_start=True)
    result, checks = _attacked(adversaries, [0.0, *asked], attack, rows, scale)
    turned = {e: _new_classes(adversaries, data, result, e) for e in asked}
    measures: list[Measure] = []
    tables: list[Table] = []
    figures: list[Figure] = []
    caveats = [*space.caveats, why(justification), *_caveats(data, result, checks, turned)]
    for grouping in groupings(data, depth):
        groups = _groups(grouping, result, floor)
        found = [m for group in groups for m in _numbers(group, result, checks, asked, floor)]
        measures += found
        measures += [m for e in asked for m in _differences(grouping.name, groups, result, checks, e, floor)]
        tables.append(_table(grouping.name, groups, result, data, turned))
        caveats += _not_compared(grouping.name, groups, floor)
        if len(grouping.features) == 1:
            figures.append(_figure(grouping.name, groups, found, asked[-1]))
    return Evidence(
        measures=measures,
        tables=(*tables, setting(result), table(checks, result.attacked)),
        figures=figures,
        caveats=caveats,
        outcomes=attacked(data, result),
        attack=result,
    )


def _attacked(
    adversaries: Adversaries, radii: Sequence[float], attack: Pgd, rows: int | None, scale: Scale
) -> tuple[AttackResult, list[SelfCheck]]:
    """The attack and its self-checks, as `robustness.pgd` runs them; shared with it by the product."""
    result = adversaries.pgd(radii, attack, rows=rows, scale=scale)
    single = adversaries.fgsm(radii, rows=rows, scale=scale, norm=attack.norm)
    noise = adversaries.noise(radii, rows=rows, scale=scale, norm=attack.norm)
    return result, [
        identity(result),
        gradients(result),
        not_weaker(result, single, "a single step (FGSM)"),
        not_weaker(result, noise, "random noise"),
        monotone(result),
        verified(result),
    ]


def _new_classes(adversaries: Adversaries, data: Dataset, result: AttackResult, epsilon: float) -> Ints:
    """[R] class that the attack turned a row into; the row's own where it withstood; -1 where not kept."""
    import numpy as np

    labels = data.labels[result.rows]
    fooled = result.at_epsilon(epsilon).fooled
    if len(data.classes) == 2:  # noqa: PLR2004 - the other class of two
        return np.where(fooled, 1 - labels, labels)
    new = np.where(fooled, -1, labels)
    kept, examples = result.adversarial(epsilon)
    if len(kept):
        scores = adversaries.model.predict(examples)
        new[np.searchsorted(result.rows, kept)] = scores.numpy().argmax(axis=1)
    return new


def _groups(grouping: Grouping, result: AttackResult, floor: int) -> list[_Group]:
    """The groups that occur among the rows looked at."""
    import numpy as np

    codes = grouping.codes[result.rows]
    found = []
    for g in np.unique(codes).tolist():
        members, known = codes == g, grouping.known[g]
        compared = known and int(members.sum()) >= floor
        found.append(_Group(dict(grouping.groups[g]), known, compared, members))
    return found


def _counts(group: _Group, result: AttackResult, epsilon: float) -> tuple[int, int, int]:
    """Rows, rows classified correctly, and rows that still are under attack."""
    rows, correct = group.members, group.members & result.correct
    return int(rows.sum()), int(correct.sum()), int((result.robust(epsilon) & rows).sum())


def _numbers(
    group: _Group, result: AttackResult, checks: Sequence[SelfCheck], epsilons: Sequence[float], floor: int
) -> Iterator[Measure]:
    def share(name: str, x: int, n: int, **fields: Any) -> Measure:
        few = below(x, n, floor, f"{name.replace('_', ' ')} of {group.name}")
        return proportion(name, x, n, group=group.who, too_few=few, **fields)

    total, correct, _ = _counts(group, result, epsilons[0])
    yield share("clean_accuracy", correct, total, better="higher")
    nobody = f"0 of {total} rows are classified correctly, so none was attacked"
    for epsilon in epsilons:
        _, _, standing = _counts(group, result, epsilon)
        common: dict[str, Any] = {
            "settings": {"epsilon": epsilon},
            "unreliable": unreliable(checks, epsilon),
        }
        yield share("robust_accuracy", standing, total, better="higher", **common)
        yield share("flip_rate", correct - standing, correct, better="lower", reason=nobody, **common)


def _differences(
    feature: str,
    groups: list[_Group],
    result: AttackResult,
    checks: Sequence[SelfCheck],
    epsilon: float,
    floor: int,
) -> Iterator[Measure]:
    """The largest difference between any two groups of which enough rows stand behind the number."""
    counts = [(group, *_counts(group, result, epsilon)) for group in groups]
    series = {
        "robust_accuracy_difference": [(group, standing, total) for group, total, _, standing in counts],
        "flip_rate_difference": [
            (group, correct - standing, correct) for group, _, correct, standing in counts
        ],
    }
    for name, found in series.items():
        kept = [(x, n) for group, x, n in found if group.known and n >= floor]
        out = [f"{group.name} ({n} rows)" for group, _, n in found if not (group.known and n >= floor)]
        yield measure(
            name,
            "largest_difference",
            {"x": [x for x, _ in kept], "n": [n for _, n in kept]},
            n=sum(n for _, n in kept),
            settings={"feature": feature, "epsilon": epsilon},
            unit="difference",
            better="zero",
            unreliable=unreliable(checks, epsilon),
            reason=f"{len(kept)} known groups have the number, so there is nothing to compare",
            left_out="; ".join(out),
        )


def _table(
    feature: str, groups: list[_Group], result: AttackResult, data: Dataset, turned: dict[float, Ints]
) -> Table:
    rows: list[list[Cell]] = []
    for epsilon, new in turned.items():
        for group in groups:
            total, correct, standing = _counts(group, result, epsilon)
            ways = _ways(group, result, data, epsilon, new)
            rows.append([*group.who.values(), epsilon, total, correct, correct - standing, *ways])
    columns = [*groups[0].who, "epsilon", "rows", "correct without attack", "turned over"]
    if data.favourable is not None:
        columns += ["favourable to unfavourable", "unfavourable to favourable"]
    return Table(
        name=f"flips: {feature}",
        title=f"Which way the attack turns decisions, by {feature}",
        columns=columns,
        rows=rows,
        note="Only rows classified correctly without an attack are attacked. With more than two classes a "
        "row may turn from one unfavourable class to another.",
    )


def _ways(group: _Group, result: AttackResult, data: Dataset, epsilon: float, new: Ints) -> list[int]:
    """Fooled rows that lose the favourable class, and that gain it."""
    if data.favourable is None:
        return []
    fooled = result.at_epsilon(epsilon).fooled & group.members
    had = data.labels[result.rows] == data.favourable
    return [int((fooled & had).sum()), int((fooled & ~had & (new == data.favourable)).sum())]


def _figure(feature: str, groups: Sequence[_Group], measures: Sequence[Measure], epsilon: float) -> Figure:
    """Robust accuracy of each group at the largest radius; the title speaks of groups that are compared."""
    shown = [m for m in measures if m.name == "robust_accuracy" and m.settings["epsilon"] == epsilon]
    compared = {group.name for group in groups if group.compared}
    told = [(m.value or 0.0, m.group[feature]) for m in shown if m.group[feature] in compared]
    title = f"Robust accuracy by {feature} under attack (epsilon {epsilon:.4g})"
    if told:
        (least, who), most = min(told), max(told)[0]
        same = f"accuracy is the same by {feature}"
        found = f"{who} keep the fewest correct decisions" if least < most else same
        title = f"Under attack (epsilon {epsilon:.4g}), {found}: {least:.3f}"
    return Figure(
        name=f"robust accuracy by {feature}",
        title=title,
        kind="bars",
        alt=f"{title}. Robust accuracy by {feature} with 95 % intervals.",
        data={
            "labels": [f"{m.group[feature]} (n = {m.n})" for m in shown],
            "values": [m.value for m in shown],
            "low": [m.low for m in shown],
            "high": [m.high for m in shown],
        },
    )


def _not_compared(name: str, groups: Sequence[_Group], floor: int) -> Iterator[str]:
    unknown = sum(int(group.members.sum()) for group in groups if not group.known)
    if unknown:
        yield f"By {name}, {unknown} rows have no known group; they are shown, not compared."
    small = [group.name for group in groups if group.known and not group.compared]
    if small:
        named = "; ".join(small[:_NAMED])
        more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        have, are = ("has", "is") if len(small) == 1 else ("have", "are")
        yield (
            f"By {name}, {named}{more} {have} fewer than {floor} of the rows looked at (the floor) and {are} "
            "shown, not compared."
        )


def _caveats(
    data: Dataset, result: AttackResult, checks: Sequence[SelfCheck], turned: dict[float, Ints]
) -> Iterator[str]:
    if len(result.rows) < len(data):
        yield f"{len(result.rows)} of {len(data)} rows were looked at, drawn by the seed of the audit."
    failed = [item.name for item in checks if item.failed]
    if failed:
        yield f"The attack failed its own checks ({'; '.join(failed)}), so its numbers may be far too good."
    lost = max((int((new < 0).sum()) for new in turned.values()), default=0)
    if lost:
        yield f"The class of up to {lost} examples was not kept; they are not counted as turned favourable."
    if data.favourable is None:
        yield "No outcome is named as favourable ([data] favourable), so flips have no direction."
