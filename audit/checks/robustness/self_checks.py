"""Self-checks: signs that an attack failed rather than that the model withstood it.

A masked gradient makes a weak model look robust. Each test compares what must hold for any sound attack;
a failure at a radius makes the numbers of that radius unreliable. They find something or find nothing;
they prove nothing. Sources: Carlini et al., 2019, arXiv:1902.06705; Pintor et al., 2022, arXiv:2106.09947.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.attack.result import AtEpsilon, AttackResult, Raw
from audit.evidence import Table
from audit.stats import clopper_pearson

BLIND_OF_STANDING = 0.10
BLIND_OF_ATTACKED = 0.01
SLACK = 0.002
IDENTITY_SLACK = 0.001
SAMPLE_LEVEL = 0.99
"""Level of the interval that allows for rows that were not tried again."""


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """One test of the attack itself.

    Attributes:
        name: what was tested.
        rule: when it fails, in words.
        evidence: the counts it was decided on.
        failed: for each radius at which it failed, why, as the end of a sentence.
        ran: False where there was nothing to test.
    """

    name: str
    rule: str
    evidence: str
    failed: Mapping[float, str]
    ran: bool = True


def slack(attacked: int) -> int:
    """Rows by which two attacks may differ by chance: 1, or 0.2 % of the rows attacked."""
    return max(1, int(SLACK * attacked))


def identity(result: AttackResult) -> SelfCheck:
    """With epsilon 0 the attack must leave every prediction as it is."""
    changed = int(result.at_epsilon(0.0).fooled.sum())
    allowed = int(IDENTITY_SLACK * result.attacked)
    why = f"{changed} rows change their class with epsilon 0"
    return SelfCheck(
        name="epsilon 0 changes nothing",
        rule="fails when more than 0.1 % of the attacked rows change their class",
        evidence=f"{changed} of {result.attacked} rows changed",
        failed={entry.epsilon: why for entry in result.at} if changed > allowed else {},
    )


def gradients(result: AttackResult) -> SelfCheck:
    """The attack must have seen a usable gradient in the rows that withstood it."""

    def complaint(entry: AtEpsilon) -> str:
        standing = result.attacked - int(entry.fooled.sum())
        blind = int((entry.zero | entry.nan).sum())
        if blind <= max(BLIND_OF_STANDING * standing, BLIND_OF_ATTACKED * result.attacked):
            return ""
        return f"{blind} of {standing} rows that withstood gave no usable gradient (zero or not finite)"

    worst = max(_nonzero(result), key=lambda e: int((e.zero | e.nan).sum()), default=result.at[0])
    return SelfCheck(
        name="the gradient is usable",
        rule="fails when the last gradient was zero or not finite in more than 10 % of the rows that "
        "withstood and in more than 1 % of the rows attacked",
        evidence=f"at most {int(worst.zero.sum())} zero and {int(worst.nan.sum())} not finite, of "
        f"{result.attacked} rows (epsilon {worst.epsilon:g})",
        failed=_complaints(result, complaint),
        ran=bool(_nonzero(result)),
    )


def not_weaker(result: AttackResult, other: AttackResult, other_name: str) -> SelfCheck:
    """A simpler attack on the same rows and radii must not fool more rows than this one.

    Args:
        result: the attack that is tested.
        other: the simpler attack, over the same rows and radii.
        other_name: what the reader calls it.
    """

    def complaint(entry: AtEpsilon) -> str:
        more = int(other.at_epsilon(entry.epsilon).fooled.sum()) - int(entry.fooled.sum())
        return f"{other_name} fools {more} rows more" if more > slack(result.attacked) else ""

    pairs = [
        f"{e.epsilon:g}: {int(e.fooled.sum())} and {int(other.at_epsilon(e.epsilon).fooled.sum())}"
        for e in _nonzero(result)
    ]
    return SelfCheck(
        name=f"not weaker than {other_name}",
        rule=f"fails when {other_name} fools more rows, beyond 1 row or 0.2 % of the rows attacked",
        evidence=f"rows fooled by this attack and by {other_name} at epsilon " + "; ".join(pairs),
        failed=_complaints(result, complaint),
        ran=bool(pairs),
    )


def monotone(result: AttackResult) -> SelfCheck:
    """A larger radius contains the smaller one, so on its own it must not fool fewer rows.

    Where radii are walked, rows broken before are left alone and no count could fall; what is compared is
    what the attack does on its own (`AtEpsilon.raw`). Of rows broken before only some are tried again, so
    the count is a range, and only ranges that do not meet fail.
    """
    failed: dict[float, str] = {}
    best, most = result.at[0], _alone(result.at[0])[0]
    for entry in result.at[1:]:
        low, high = _alone(entry)
        fewer = int(most - high)
        if fewer > slack(result.attacked):
            told = f"at least {fewer}" if high > low else f"{fewer}"
            failed[entry.epsilon] = (
                f"on its own it fools {told} rows fewer than at the smaller epsilon {best.epsilon:g}"
            )
        if low > most:
            best, most = entry, low
    return SelfCheck(
        name="more epsilon fools no fewer",
        rule="fails when the attack at a larger epsilon, on its own, fools fewer rows, beyond 1 row or 0.2 % "
        "of the rows attacked and beyond what the sample of rows tried again leaves open (at "
        f"{SAMPLE_LEVEL:.0%})",
        evidence=_alone_told(result),
        failed=failed,
    )


def _alone(entry: AtEpsilon) -> tuple[float, float]:
    """Fewest and most rows that the attack fools at this radius on its own."""
    raw = entry.raw
    if raw is None:
        return int(entry.fooled.sum()), int(entry.fooled.sum())
    if raw.again == raw.broken:
        return raw.fooled, raw.fooled
    _, low, high = clopper_pearson({"x": raw.fell_again, "n": raw.again}, SAMPLE_LEVEL)
    return raw.fell + raw.broken * (low or 0.0), raw.fell + raw.broken * (1.0 if high is None else high)


def _alone_told(result: AttackResult) -> str:
    if any(entry.raw is None for entry in result.at):
        how = "by construction, broken rows are left alone: " if result.walked else ""
        return f"{how}rows fooled " + ", ".join(f"{int(e.fooled.sum())} at {e.epsilon:g}" for e in result.at)
    pairs = [(entry.epsilon, entry.raw) for entry in result.at if entry.raw is not None]
    said = "rows fooled of those tried " + ", ".join(f"{r.fooled} of {r.tried} at {e:g}" for e, r in pairs)
    again = [(epsilon, raw) for epsilon, raw in pairs if raw.again]
    if not again:
        return said
    counts = ", ".join(_again_told(epsilon, raw) for epsilon, raw in again)
    forward, backward = sum(raw.forward for _, raw in again), sum(raw.backward for _, raw in again)
    return f"{said}; broken before and tried again: {counts} ({forward} rows forward, {backward} backward)"


def _again_told(epsilon: float, raw: Raw) -> str:
    return f"{raw.fell_again} of {raw.again} fell again at {epsilon:g} ({raw.broken} broken before)"


def verified(result: AttackResult) -> SelfCheck:
    """Every example the attack claims must hold when it is judged again."""

    def complaint(entry: AtEpsilon) -> str:
        rejected = sum(entry.rejected.values())
        return f"{rejected} claimed examples did not hold" if rejected > slack(result.attacked) else ""

    total = {reason: sum(e.rejected[reason] for e in result.at) for reason in result.at[0].rejected}
    lost = ", ".join(f"{count} {reason}" for reason, count in total.items())
    return SelfCheck(
        name="every example was verified",
        rule="claimed examples that do not hold in a fresh pass never count; fails when at one epsilon they "
        "are more than 1 row or 0.2 % of the rows attacked",
        evidence=f"{sum(len_fooled(result))} accepted; rejected: {lost}",
        failed=_complaints(result, complaint),
    )


def len_fooled(result: AttackResult) -> list[int]:
    """How many verified examples were found at each radius, each row counted once where radii are walked."""
    counts = [int(entry.fooled.sum()) for entry in result.at]
    if not result.walked:
        return counts
    return [count - before for count, before in zip(counts, [0, *counts], strict=False)]


def table(checks: Sequence[SelfCheck], attacked: int) -> Table:
    """The self-checks as a table for the reader."""

    def outcome(item: SelfCheck) -> str:
        if not item.ran or not attacked:
            return "nothing to test"
        return "failed" if item.failed else "held"

    return Table(
        name="self_checks",
        title="Was the attack any good?",
        columns=("check", "result", "evidence", "rule"),
        rows=[(item.name, outcome(item), item.evidence, item.rule) for item in checks],
        note="Checks that held found nothing wrong; they do not prove that a stronger attack would fail.",
    )


def unreliable(checks: Sequence[SelfCheck], epsilon: float) -> str:
    """Why the numbers at this radius must not be relied on; empty when nothing was found."""
    return "; ".join(item.failed[epsilon] for item in checks if epsilon in item.failed)


def _nonzero(result: AttackResult) -> list[AtEpsilon]:
    return [entry for entry in result.at if entry.epsilon > 0]


def _complaints(result: AttackResult, complaint: Callable[[AtEpsilon], str]) -> dict[float, str]:
    found = {entry.epsilon: complaint(entry) for entry in result.at}
    return {epsilon: why for epsilon, why in found.items() if why}
