"""What an attack found, as numpy. Checks read this without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.dataset import Floats, Ints

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What one attack of several did at one radius, over all its restarts.

    Attributes:
        attack: its name.
        tried: rows it was tried on: those that all earlier ones left standing.
        fooled: rows of these for which it found a verified example.
        forward: model rows sent forward.
        backward: model rows whose gradient was taken.
    """

    attack: str
    tried: int
    fooled: int
    forward: int
    backward: int


@dataclass(frozen=True, kw_only=True)
class Raw:
    """What an attack does at one radius on its own, whatever it found at smaller ones.

    Where radii are walked, a row broken at a smaller radius is left alone. Some of these rows are tried again
    from their own start, as if for the first time, so that an attack that does worse with more room is seen.

    Attributes:
        fresh: rows that still stood and were tried.
        fell: of these, fooled.
        broken: rows that were broken at a smaller radius.
        again: of these, tried again: all, or a sample drawn by the seed.
        fell_again: of these, fooled again, as verified.
        forward: model rows sent forward to try them again.
        backward: model rows whose gradient was taken for it.
    """

    fresh: int
    fell: int
    broken: int = 0
    again: int = 0
    fell_again: int = 0
    forward: int = 0
    backward: int = 0

    @property
    def tried(self) -> int:
        """Rows that the attack was tried on at this radius."""
        return self.fresh + self.again

    @property
    def fooled(self) -> int:
        """Of these, those that it fooled on its own."""
        return self.fell + self.fell_again


@dataclass(frozen=True, kw_only=True)
class AtEpsilon:
    """What was found at one radius, over the R rows of the attack.

    Attributes:
        epsilon: the radius.
        fooled: [R] verified adversarial example found, here or (where radii are walked) at a smaller one.
        zero: [R] attacked, still standing, and its last gradient was zero.
        nan: [R] the same, and its last gradient held a value that is not a finite number.
        late: how many fell only in the last quarter of the steps at this radius.
        rejected: how many claimed examples did not count, by reason.
        kept: [K] positions in the R rows whose example found at this radius is kept.
        examples: [K, ...] those examples.
        tallies: what each attack did, in the order in which they were tried.
        raw: what the attack did at this radius on its own; None where that was not looked at.
    """

    epsilon: float
    fooled: Flags
    zero: Flags
    nan: Flags
    late: int
    rejected: Mapping[str, int]
    kept: Ints
    examples: Floats
    tallies: tuple[Tally, ...] = ()
    raw: Raw | None = None


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What one attack found over a range of radii.

    Attributes:
        method: `fgsm`, `pgd`, `noise`, `worst_case` or another attack's name.
        settings: everything that decides the result.
        rows: [R] indices of the data set's rows that were looked at, sorted.
        correct: [R] classified correctly without an attack; only these were attacked.
        at: one entry for each radius, ascending.
        walked: whether a row fooled at a radius was left alone at the larger ones.
        forward_rows: model rows sent forward.
        backward_rows: model rows whose gradient was taken.
    """

    method: str
    rows: Ints
    correct: Flags
    at: tuple[AtEpsilon, ...]
    walked: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    forward_rows: int = 0
    backward_rows: int = 0

    @property
    def attacked(self) -> int:
        """How many rows were attacked: those classified correctly without an attack."""
        return int(self.correct.sum())

    def at_epsilon(self, epsilon: float) -> AtEpsilon:
        """What was found at this radius.

        Raises:
            KeyError: the attack was not run at it.
        """
        for entry in self.at:
            if entry.epsilon == epsilon:
                return entry
        raise KeyError(epsilon)

    def robust(self, epsilon: float) -> Flags:
        """[R] classified correctly and not fooled at this radius."""
        return self.correct & ~self.at_epsilon(epsilon).fooled

    def adversarial(self, epsilon: float) -> tuple[Ints, Floats]:
        """Data set rows and verified examples that fool the model within this radius.

        Only as many as memory allows are kept (see `audit.attack.curve.KEPT_BYTES`), the first rows first.

        Returns:
            [K] row indices of the data set, [K, ...] examples.
        """
        last = self.at_epsilon(epsilon)
        entries = [e for e in self.at if e.epsilon <= epsilon] if self.walked else [last]
        position = np.concatenate([e.kept for e in entries])
        examples = np.concatenate([e.examples for e in entries])
        order = np.argsort(position, kind="stable")
        return self.rows[position[order]], examples[order]
