"""The rule of the trust card: which tests an explanation must hold, and what follows from them.

The rule belongs to the framework: no method judges itself, and every step is taken on the end of an interval,
never on the number itself. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from audit.evidence import Measure

Conclusion = Literal["supported", "weak", "not supported", "no explanation"]
Outcome = Literal["held", "failed", "undecided", "not tested"]
Weight = Literal["faithful", "decides", "weakens", "told"]

GRADES: Mapping[Conclusion, float] = {"supported": 1.0, "weak": 0.5, "not supported": 0.0}
LEAST_GAIN = 0.0
MOST_RANDOMISED = 0.7
LEAST_STABLE = 0.5
MOST_SIGN_CHANGE = 0.25
LEAST_NEARBY = 0.5
LEAST_FIDELITY = 0.5
MOST_INCOMPLETE = 0.1
LEAST_LEAD = 0.1

RULE = (
    "Not supported: under neither fill is the gain over random rankings shown to be above "
    f"{LEAST_GAIN:g}; or the attribution stays what it is when the weights are random (rank correlation at "
    f"least {MOST_RANDOMISED:g}); or another seed gives another ranking (rank correlation of the sizes at "
    f"most {LEAST_STABLE:g}) or other signs (at least {MOST_SIGN_CHANGE:g} of all attribution, where chance "
    "is 0.5); or the method asks about made-up rows and the model is shown to lead with another "
    "feature there. Supported: under both fills the gains over random rankings and over the control that "
    f"never asks the model are shown to be above {LEAST_GAIN:g}, the rank correlation with random weights is "
    f"shown to be below {MOST_RANDOMISED:g} and that between seeds above {LEAST_STABLE:g}, less than "
    f"{MOST_SIGN_CHANGE:g} of all attribution is shown to change its sign with the seed, and nothing that "
    f"weakens was shown: a completeness error above {MOST_INCOMPLETE:g}, a local fit (R2) below "
    f"{LEAST_FIDELITY:g}, a rank correlation below {LEAST_NEARBY:g} with a point nearby that has the same "
    "answer, a model that leads with another feature on made-up rows. Weak: all else. Shown means that the "
    "whole 95 % interval is on that side."
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One number of a card and the side of a bound on which it should be.

    Attributes:
        name: what was tested, in words.
        measure: the number; None where it could not be tested.
        bound: where its interval should lie beyond; None for a number that is only told.
        above: whether it should lie above the bound.
        weight: `faithful` (against random rankings, once a fill), `decides`, `weakens` or `told`.
        needed: whether an explanation is supported only when this held.
        reason: why it was not tested.
    """

    name: str
    measure: Measure | None
    weight: Weight
    bound: float | None = None
    above: bool = True
    needed: bool = False
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        """On which side of the bound the whole interval lies."""
        item = self.measure
        if item is None or self.bound is None or item.value is None:
            return "not tested"
        if item.low is None or item.high is None:
            return "undecided"
        inside, outside = (
            (item.low > self.bound, item.high <= self.bound)
            if self.above
            else (item.high < self.bound, item.low >= self.bound)
        )
        return "held" if inside else "failed" if outside else "undecided"

    @property
    def asked(self) -> str:
        """The bound in words; empty for a number that is only told."""
        if self.bound is None:
            return ""
        return f"{'above' if self.above else 'below'} {self.bound:g}"


@dataclass(frozen=True)
class Card:
    """What follows for one method.

    Attributes:
        method: the method.
        conclusion: see `RULE`.
        why: the reasons, as sentences' ends.
        tests: what it was held against.
        passes: rows that the method and its tests sent forward and backward through the model.
    """

    method: str
    conclusion: Conclusion
    why: tuple[str, ...]
    tests: tuple[Trial, ...]
    passes: tuple[int, int] = (0, 0)


def card(method: str, tests: Sequence[Trial], passes: tuple[int, int] = (0, 0)) -> Card:
    """The card of a method that gave an explanation, by `RULE`."""
    broken = _against(tests)
    if broken:
        return Card(method, "not supported", tuple(broken), tuple(tests), passes)
    open_ends = [
        _said(test)
        for test in tests
        if (test.needed and test.outcome != "held") or (test.weight == "weakens" and test.outcome == "failed")
    ]
    why = tuple(open_ends) or ("everything that the rule asks for was shown",)
    return Card(method, "weak" if open_ends else "supported", why, tuple(tests), passes)


def no_explanation(method: str, reason: str, passes: tuple[int, int] = (0, 0)) -> Card:
    """The card of a method that has nothing to say of this model."""
    return Card(method, "no explanation", (reason,), (), passes)


def _against(tests: Sequence[Trial]) -> list[str]:
    """What makes the explanation not supported."""
    faithful = [test for test in tests if test.weight == "faithful"]
    found = []
    if not any(test.outcome == "held" for test in faithful):
        found = [_said(test) for test in faithful] or ["no gain over random rankings could be measured"]
    return found + [_said(test) for test in tests if test.weight == "decides" and test.outcome == "failed"]


def _said(test: Trial) -> str:
    item = test.measure
    if test.outcome == "not tested" or item is None or item.value is None:
        reason = test.reason or (item.reason if item else "") or "nothing could be measured"
        return f"{test.name}: not tested ({reason})"
    interval = "no interval"
    if item.low is not None and item.high is not None:
        interval = f"{item.low:.2f} to {item.high:.2f}"
    return f"{test.name}: {item.value:.2f} ({interval}), asked {test.asked}"
