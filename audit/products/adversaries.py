"""Adversaries: attacks on the model, each run once and shared by all checks that ask for the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from audit.attack.result import AtEpsilon, AttackResult
from audit.attack.space import Scale, Space, space
from audit.dataset import Dataset, Ints, sample_rows
from audit.errors import NotApplicable
from audit.products.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor

    from audit.attack.apgd import Apgd
    from audit.attack.cascade import Cascade
    from audit.attack.curve import Attempt, Target
    from audit.attack.distance import Distances
    from audit.attack.feasible import Search
    from audit.attack.hopskipjump import HopSkipJump
    from audit.attack.loop import Found, Pgd
    from audit.attack.loss import Loss
    from audit.attack.minimum import Minimum
    from audit.attack.nearby import Nearby
    from audit.attack.norm import Ball, Norm
    from audit.attack.square import Square
    from audit.model import Model

DEFAULT_ROWS = 1000
NOISE_DRAWS = 3
IMITATED_ROWS = 512


@dataclass(frozen=True)
class Adversaries:
    """Attacks on one model and its data. Asked twice for the same attack it runs it once.

    Every attack looks at the same rows (`sample_rows` by the audit's seed), attacks those classified
    correctly, and counts as fooled only what `audit.attack.verify` accepts.

    Attributes:
        model: the network.
        data: the rows, in raw units, with their true labels.
        predictions: the model's answers without an attack.
        seed: seed of the sample and of every random start.
    """

    model: Model
    data: Dataset
    predictions: Predictions
    seed: int
    _done: dict[tuple[Any, ...], AttackResult] = field(default_factory=dict, repr=False)
    _spaces: dict[Scale, Space] = field(default_factory=dict, repr=False)
    _near: dict[tuple[Any, ...], Nearby] = field(default_factory=dict, repr=False)

    def space(self, scale: Scale = "auto") -> Space:
        """What an attack may change; see `audit.attack.space.space` for the errors."""
        if scale not in self._spaces:
            self._spaces[scale] = space(self.model, self.data, scale)
        return self._spaces[scale]

    def rows(self, rows: int | None = DEFAULT_ROWS) -> Ints:
        """Indices of the rows that an attack with this setting looks at; None for all."""
        return sample_rows(self.data, len(self.data) if rows is None else rows, self.seed)

    def fgsm(
        self,
        epsilons: Sequence[float],
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
        norm: Norm = "linf",
        loss: Loss = "cross_entropy",
    ) -> AttackResult:
        """One gradient step at each radius, each on its own; one gradient pass serves all radii.

        Args:
            epsilons: radii, in units of `scale`.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
            norm: `linf` or `l2`.
            loss: what is raised.
        """
        from audit.attack.curve import fgsm_curve

        radii = _radii(epsilons)
        settings = {"epsilons": radii, "rows": rows, "scale": scale, "norm": norm, "loss": loss}
        return self._once("fgsm", settings, lambda target: fgsm_curve(target, radii, norm, loss))

    def pgd(
        self,
        epsilons: Sequence[float],
        attack: Pgd,
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
    ) -> AttackResult:
        """Projected gradient steps, radii walked upwards, restarts kept per row.

        Some rows broken at a smaller radius are tried again at the larger ones (`AtEpsilon.raw`).

        Args:
            epsilons: radii, in units of `scale`.
            attack: norm, steps, step size, restarts and loss.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.curve import AGAIN, pgd_attempts

        return self._walked(
            "pgd", epsilons, attack, rows, scale, lambda t: pgd_attempts(t, attack), again=AGAIN
        )

    def noise(
        self,
        epsilons: Sequence[float],
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
        norm: Norm = "linf",
        draws: int = NOISE_DRAWS,
    ) -> AttackResult:
        """Random points on the edge of the ball, radii walked upwards, the best of `draws` for each row.

        Args:
            epsilons: radii, in units of `scale`.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
            norm: `linf` or `l2`.
            draws: random points for each row and radius.
        """
        from audit.attack.curve import noise_curve

        radii = _radii(epsilons)
        settings = {"epsilons": radii, "rows": rows, "scale": scale, "norm": norm, "draws": draws}
        return self._once(
            "noise", settings, lambda target: noise_curve(target, radii, norm, draws), gradients=False
        )

    def apgd(
        self,
        epsilons: Sequence[float],
        attack: Apgd,
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
    ) -> AttackResult:
        """Adaptive gradient steps, radii walked upwards, restarts kept per row.

        Args:
            epsilons: radii, in units of `scale`.
            attack: norm, steps, restarts, loss and targets.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.cascade import apgd_attempts

        return self._walked("apgd", epsilons, attack, rows, scale, lambda t: apgd_attempts(t, attack))

    def square(
        self,
        epsilons: Sequence[float],
        attack: Square,
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
    ) -> AttackResult:
        """A search without gradients, radii walked upwards.

        Args:
            epsilons: radii, in units of `scale`.
            attack: norm, queries and the first share.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.cascade import square_attempt

        return self._walked(
            "square", epsilons, attack, rows, scale, lambda t: [square_attempt(t, attack)], gradients=False
        )

    def worst_case(
        self,
        epsilons: Sequence[float],
        cascade: Cascade,
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
    ) -> AttackResult:
        """Several attacks, cheap ones first, each on the rows that still stand; radii walked upwards.

        Some rows broken at a smaller radius are tried again at the larger ones (`AtEpsilon.raw`).

        Args:
            epsilons: radii, in units of `scale`.
            cascade: which attacks, and how hard.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.cascade import cascade_attempts
        from audit.attack.curve import AGAIN

        classes = self.predictions.scores.shape[1]
        able = "gradients" in self.model.capabilities

        def attempts(target: Target) -> list[Attempt]:
            return cascade_attempts(target, cascade, classes, gradients=able)

        return self._walked(
            "worst_case", epsilons, cascade, rows, scale, attempts, gradients=False, again=AGAIN
        )

    def feasible(
        self,
        epsilons: Sequence[float],
        search: Search,
        *,
        rows: int | None = DEFAULT_ROWS,
        protected: Sequence[str] = (),
        stricter: Sequence[str] | None = None,
    ) -> AttackResult:
        """Changes that a person of a table could make, all costs walked upwards.

        Args:
            epsilons: largest costs.
            search: how hard to search.
            rows: rows to look at; None for all.
            protected: names of features that are held besides the immutable ones.
            stricter: features held in another such attack, whose broken rows count as broken here; None for
                no other.

        Raises:
            NotApplicable: the data are no table, or no feature may change.
        """
        from audit.attack.constraints import constraints
        from audit.attack.feasible import feasible

        radii, held = _radii(epsilons), tuple(protected)
        before = None if stricter is None else tuple(sorted(set(stricter)))
        settings = tuple(sorted(asdict(search).items()))
        key = ("feasible", radii, rows, tuple(sorted(set(held))), before, settings)
        if key not in self._done:
            told = constraints(self.data, held)
            fallen = None
            if before is not None:
                fallen = self.feasible(radii, search, rows=rows, protected=before)
            chosen = self.rows(rows)
            correct = self.predictions.correct[chosen]
            self._done[key] = feasible(
                self.model, self.data, told, chosen, correct, radii, search, protected=held, fallen=fallen
            )
        return self._done[key]

    def distances(
        self, attack: Minimum, *, rows: int | None = DEFAULT_ROWS, scale: Scale = "auto"
    ) -> Distances:
        """The nearest adversarial example of each row, whatever its distance.

        Args:
            attack: norm, steps and step sizes.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.distance import nearest_distances

        self._ask_for_gradients()
        return nearest_distances(self.target(rows, scale), attack)

    def same_answer(
        self, rows: Ints, epsilon: float | None = None, *, scale: Scale = "auto", norm: Norm = "linf"
    ) -> Nearby:
        """A point near each of the given rows that the model answers as it answers the row.

        For what should not change where the answer does not, such as an explanation. The rows are those of
        who asks, right or wrong: what is kept is the model's answer, not the true label.

        Args:
            rows: [n] indices of the data set's rows.
            epsilon: the radius, in units of `scale`; None for the smallest that the attacks use.
            scale: what one epsilon counts.
            norm: how distance is measured.

        Raises:
            NotApplicable: the model gives no gradients, or nothing may move.
            NotEvaluable: the data lie outside the stated range.
        """
        from audit.attack.nearby import same_answer

        self._ask_for_gradients()
        room = self.space(scale)
        radius = room.epsilons[0] if epsilon is None else float(epsilon)
        key = (rows.tobytes(), radius, room.scale, norm)
        if key not in self._near:
            self._near[key] = same_answer(self.model, self.data.inputs, rows, room, radius, norm)
        return self._near[key]

    def target(self, rows: int | None = DEFAULT_ROWS, scale: Scale = "auto") -> Target:
        """The rows that every attack with these settings looks at."""
        from audit.attack.curve import Target

        chosen = self.rows(rows)
        correct = self.predictions.correct[chosen]
        data = self.data
        return Target(self.model, data.inputs, data.labels, chosen, correct, self.space(scale), self.seed)

    def _walked(
        self,
        method: str,
        epsilons: Sequence[float],
        attack: Any,
        rows: int | None,
        scale: Scale,
        attempts: Callable[[Target], Sequence[Attempt]],
        *,
        gradients: bool = True,
        again: int = 0,
    ) -> AttackResult:
        """An attack whose radii are walked upwards; what decides the result is every field of `attack`."""
        from audit.attack.curve import walk

        radii = _radii(epsilons)
        settings = {"epsilons": radii, "rows": rows, "scale": scale, **_as_used(attack)}
        return self._once(
            method,
            settings,
            lambda target: walk(target, radii, attack.norm, attempts(target), again),
            gradients=gradients,
        )

    def _once(
        self,
        method: str,
        settings: Mapping[str, Any],
        run: Callable[[Target], tuple[AtEpsilon, ...]],
        *,
        gradients: bool = True,
    ) -> AttackResult:
        if gradients:
            self._ask_for_gradients()
        key = (method, *sorted({**settings, "scale": self.space(settings["scale"]).scale}.items()))
        if key not in self._done:
            self._done[key] = self._run(method, settings, run)
        return self._done[key]

    def _ask_for_gradients(self) -> None:
        if "gradients" not in self.model.capabilities:
            why = f": {' '.join(self.model.ruled_out)}" if self.model.ruled_out else ""
            raise NotApplicable(f"the attacks need gradients of the model{why}")

    def _run(
        self,
        method: str,
        settings: Mapping[str, Any],
        run: Callable[[Target], tuple[AtEpsilon, ...]],
    ) -> AttackResult:
        passes = self.model.passes
        forward, backward = passes.forward, passes.backward
        target = self.target(settings["rows"], settings["scale"])
        return AttackResult(
            method=method,
            rows=target.rows,
            correct=target.correct,
            at=run(target),
            walked=method != "fgsm",
            settings={**settings, "scale": target.space.scale, "seed": self.seed},
            forward_rows=passes.forward - forward,
            backward_rows=passes.backward - backward,
        )

    def transfer(
        self,
        epsilons: Sequence[float],
        attack: Pgd,
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
    ) -> AttackResult:
        """PGD on an imitation that learned the model's answers; asks the model for classes alone.

        The imitation learns from up to `IMITATED_ROWS` rows of the data, drawn by the seed.

        Args:
            epsilons: radii, in units of `scale`.
            attack: norm, steps, step size, restarts and loss.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.curve import Attempt
        from audit.attack.transfer import substitute, transfer

        def attempts(target: Target) -> list[Attempt]:
            taught = self.data.inputs[self.rows(IMITATED_ROWS)]
            reach = target.space.reach(self.model)
            imitation = substitute(self.model, taught, reach, self.seed).model

            def attempt(number: int) -> Attempt:
                def once(positions: Ints, labels: Tensor, inside: Ball) -> Found:
                    indices = target.rows[positions]
                    return transfer(self.model, imitation, labels, inside, attack, indices, self.seed, number)

                return Attempt("transfer", once, gradients=False)

            return [attempt(number) for number in range(attack.restarts)]

        return self._walked("transfer", epsilons, attack, rows, scale, attempts, gradients=False)

    def hopskipjump(
        self,
        epsilons: Sequence[float],
        attack: HopSkipJump,
        *,
        rows: int | None = DEFAULT_ROWS,
        scale: Scale = "auto",
    ) -> AttackResult:
        """A walk along the decision boundary that asks for classes alone; fooled where it comes near enough.

        Args:
            epsilons: radii, in units of `scale`.
            attack: norm, iterations and queries.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.cascade import boundary_attempt

        return self._walked(
            "hopskipjump",
            epsilons,
            attack,
            rows,
            scale,
            lambda t: [boundary_attempt(t, attack)],
            gradients=False,
        )


def adversaries(model: Model, data: Dataset, predictions: Predictions, seed: int) -> Adversaries:
    """Attacks on this model, each run when a check first asks for it.

    An attack that needs gradients of a model that gives none raises `NotApplicable` when it is asked for.
    """
    return Adversaries(model, data, predictions, seed)


def _as_used(attack: Any) -> dict[str, Any]:
    """Every field of an attack as it decides the result, and what it fixes by itself."""
    settings = {**asdict(attack), **getattr(attack, "fixed", {})}
    if "step_size" in settings:
        settings["step_size"] = attack.share
    if not settings.get("random_start", True):
        settings["restarts"] = 1  # from the same start nothing else would be found
    return settings


def _radii(epsilons: Sequence[float]) -> tuple[float, ...]:
    """Ascending, each once."""
    return tuple(sorted({float(epsilon) for epsilon in epsilons}))
