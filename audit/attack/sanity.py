"""Sanity: the rules by which an attack is trusted, used with caution, or not relied on.

A model looks robust when it withstands an attack, and also when the attack is broken. Each rule says how many
rows may speak against the attack before it counts as failed, and how many before the failure is serious. One
serious failure means "do not rely", any other failure "caution", none "trust". The rules find something or
find nothing; they never prove an attack good. Needs no torch.

Sources: Carlini et al., 2019, arXiv:1902.06705; Croce and Hein, 2020, arXiv:2003.01690; Pintor et al., 2022,
arXiv:2106.09947; Zimmermann et al., 2022, arXiv:2206.13991. The shares are this product's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from audit.attack.result import AtEpsilon, AttackResult

Result = Literal["held", "failed", "serious", "nothing to test"]

DO_NOT_RELY, CAUTION, TRUST = range(3)
GRADES = ("do not rely", "caution", "trust")
VERDICT_RULE = (
    "do not rely: a check failed seriously; caution: a check failed; trust: none failed, which is no proof."
)
FEWEST_ROWS = 20
"""Fewer attacked rows than this are too few to trust an attack on."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How many rows may speak against the attack. One row alone never does, unless a share is 0.

    Attributes:
        name: what is looked at.
        against: which rows speak against the attack, to follow a number: `rows that ...`.
        failed: above this share of the rows the check failed.
        serious: above this share it failed seriously; None where it never does.
    """

    name: str
    against: str
    failed: float
    serious: float | None

    @property
    def text(self) -> str:
        """The rule in words, as it is printed."""
        fails = f"fails above {_share(self.failed)}"
        if self.serious is None:
            return f"{self.against}: {fails}"
        if self.serious == self.failed:
            return f"{self.against}: seriously wrong above {_share(self.serious)}"
        return f"{self.against}: {fails}, seriously above {_share(self.serious)}"


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One check of the attack.

    Attributes:
        name: what was looked at.
        result: `held`, `failed`, `serious`, or `nothing to test`.
        counted: the counts on which that was decided, or why there was nothing to test.
        rule: when it fails, in words.
    """

    name: str
    result: Result
    counted: str
    rule: str


ROWS = "enough rows"
ZERO = "gradients are not zero"
FINITE = "gradients are finite"
DIFFERENCE = "gradient against finite difference"
REPEATABLE = "the same answer in each pass"
BATCH = "the same answer in any batch"
IDENTITY = "epsilon 0 changes nothing"
INSIDE = "inside the ball and the range"
VERIFIED = "verified in a fresh pass"
SINGLE_STEP = "not weaker than a single step"
STEPS = "twice the steps change little"
RESTARTS = "more restarts change little"
MONOTONE = "more epsilon fools no fewer"
FULL_RANGE = "the whole range fools nearly all"
MARGIN = "not weaker than along the margin"
NOISE = "not weaker than random noise"
TRANSFER = "not weaker than transfer"
SQUARE = "not weaker than a search without gradients"
JUMP = "not weaker than a search by labels alone"
BEST_POINT = "the best point on the way is kept"
LATE = "the last steps change little"
CONTROL = "planted examples are found"

_MORE = "rows more than the attack that were fooled"

RULES = {
    rule.name: rule
    for rule in (
        Rule(name=ZERO, against="rows whose gradient is zero", failed=0.01, serious=0.10),
        Rule(name=FINITE, against="rows whose gradient is not finite", failed=0.01, serious=0.10),
        Rule(
            name=DIFFERENCE,
            against="rows whose gradient disagrees with what the model does",
            failed=0.10,
            serious=0.50,
        ),
        Rule(name=REPEATABLE, against="rows whose scores changed", failed=0.0, serious=None),
        Rule(name=BATCH, against="rows whose scores changed", failed=0.0, serious=None),
        Rule(name=IDENTITY, against="rows that changed their class", failed=0.0, serious=0.0),
        Rule(name=INSIDE, against="claimed examples that lie outside", failed=0.0, serious=0.0),
        Rule(name=VERIFIED, against="claimed examples that do not fool", failed=0.02, serious=0.10),
        Rule(name=SINGLE_STEP, against=f"{_MORE} by a single step (FGSM)", failed=0.02, serious=0.10),
        Rule(name=STEPS, against=f"{_MORE} with twice the steps", failed=0.05, serious=0.20),
        Rule(name=RESTARTS, against=f"{_MORE} with restarts", failed=0.05, serious=0.20),
        Rule(name=MONOTONE, against="rows fewer fooled by a larger epsilon", failed=0.02, serious=0.10),
        Rule(name=FULL_RANGE, against="rows that withstood", failed=0.05, serious=0.10),
        Rule(name=MARGIN, against=f"{_MORE} along the margin", failed=0.02, serious=0.10),
        Rule(name=NOISE, against=f"{_MORE} by random noise", failed=0.02, serious=0.10),
        Rule(name=TRANSFER, against=f"{_MORE} by way of an imitation", failed=0.02, serious=0.10),
        Rule(name=SQUARE, against=f"{_MORE} without gradients (Square)", failed=0.02, serious=0.10),
        Rule(name=JUMP, against=f"{_MORE} by labels alone (HopSkipJump)", failed=0.02, serious=0.10),
        Rule(
            name=BEST_POINT,
            against="rows fooled on the way that the attack does not count",
            failed=0.02,
            serious=0.10,
        ),
        Rule(
            name=LATE,
            against="rows that fell in the last quarter of the steps, or whose margin made a tenth of its "
            "rise there",
            failed=0.10,
            serious=None,
        ),
        Rule(name=CONTROL, against="planted examples that were missed", failed=1 / 64, serious=0.10),
    )
}
"""The rules, by name."""


def look(name: str, rows: int, of: int, counted: str) -> Looked:
    """Hold a count against its rule.

    Args:
        name: a key of `RULES`.
        rows: how many speak against the attack; may be below 0, where a weaker attack fooled fewer.
        of: how many there are.
        counted: the counts, for the reader.
    """
    rule = RULES[name]
    result: Result = "held"
    if rows > allowed(rule.failed, of):
        result = "failed"
    if rule.serious is not None and rows > allowed(rule.serious, of):
        result = "serious"
    return Looked(name=name, result=result, counted=counted, rule=rule.text)


def allowed(share: float, of: int) -> float:
    """How many rows may speak against the attack: the share of them, at least 1 unless the share is 0."""
    return max(1.0, share * of) if share else 0.0


def untested(name: str, why: str) -> Looked:
    """A check that could not be made, and why."""
    return Looked(name=name, result="nothing to test", counted=why, rule=RULES[name].text)


def enough(attacked: int) -> Looked:
    """Whether so many attacked rows can say anything of the attack."""
    few = attacked < FEWEST_ROWS
    return Looked(
        name=ROWS,
        result="failed" if few else "held",
        counted=f"{attacked} rows are classified correctly and were attacked",
        rule=f"fails below {FEWEST_ROWS} attacked rows",
    )


def against(name: str, attack: AttackResult, other: AttackResult, epsilon: float) -> Looked:
    """Whether another attack on the same rows at the same radius fools more rows.

    Examples that the attack claimed and that did not hold in a fresh pass are not taken as a lead of the
    other: they are looked at on their own (`VERIFIED`).

    Args:
        name: a key of `RULES`.
        attack: the attack that is tested.
        other: the attack it is compared with.
        epsilon: a radius of both.
    """
    mine, theirs = (item.at_epsilon(epsilon).fooled for item in (attack, other))
    alone = int((theirs & ~mine).sum())
    lost = rejected([attack.at_epsilon(epsilon)], outside=False)
    return look(
        name,
        int(theirs.sum()) - int(mine.sum()) - lost,
        attack.attacked,
        f"{int(theirs.sum())} of {attack.attacked} rows fooled, {int(mine.sum())} by the attack; "
        f"{alone} by the other alone",
    )


def monotone(curve: Sequence[tuple[float, int]], attacked: int) -> Looked:
    """Whether fewer rows are fooled at a larger radius, each radius attacked on its own.

    Args:
        curve: (radius, rows fooled) with ascending radii.
        attacked: rows attacked at each.
    """
    fewer, most = 0, 0
    for _, fooled in curve:
        fewer, most = max(fewer, most - fooled), max(most, fooled)
    counts = ", ".join(f"{fooled} at {epsilon:.4g}" for epsilon, fooled in curve)
    return look(MONOTONE, fewer, attacked, f"rows fooled of {attacked}: {counts}")


def rejected(entries: Sequence[AtEpsilon], *, outside: bool) -> int:
    """Claimed examples that did not count: those outside the ball or the range, or those that fool nobody."""
    return sum(
        count
        for entry in entries
        for reason, count in entry.rejected.items()
        if reason.startswith("outside") == outside
    )


def control(found: int, planted: int, asked: int, by_chance: int) -> Looked:
    """Whether the attack found the examples that were planted.

    Args:
        found: planted examples that it found.
        planted: examples that were planted.
        asked: how many were to be planted; fewer than half of them test nothing.
        by_chance: how many one random point of the same size found.
    """
    counted = f"{found}/{planted} found; {by_chance}/{planted} by one random point"
    if 2 * planted >= asked:
        return look(CONTROL, planted - found, planted, counted)
    few = f"only {planted} of {asked} could be planted: the model's answers hardly change inside the ball"
    return Looked(name=CONTROL, result="failed", counted=few, rule=RULES[CONTROL].text)


def random_model(looked: Sequence[Looked]) -> list[Looked]:
    """The checks of a model whose answers change from pass to pass.

    A serious failure of what presumes one answer for each row is then a plain one.
    """
    presume = {IDENTITY, VERIFIED, BEST_POINT}
    return [
        replace(item, result="failed") if item.name in presume and item.result == "serious" else item
        for item in looked
    ]


def grade(looked: Sequence[Looked]) -> int:
    """`DO_NOT_RELY`, `CAUTION` or `TRUST`, by the worst of the checks."""
    results = {item.result for item in looked}
    if "serious" in results:
        return DO_NOT_RELY
    return CAUTION if "failed" in results else TRUST


def _share(share: float) -> str:
    return f"1 row or {100 * share:.2g} % of them" if share else "0"
