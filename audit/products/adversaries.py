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
    from audit.attack.curve import Target
    from audit.attack.loop import Pgd
    from audit.attack.loss import Loss
    from audit.attack.norm import Norm
    from audit.model import Model

DEFAULT_ROWS = 1000
NOISE_DRAWS = 3


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

        Args:
            epsilons: radii, in units of `scale`.
            attack: norm, steps, step size, restarts and loss.
            rows: rows to look at; None for all.
            scale: what one epsilon counts.
        """
        from audit.attack.curve import pgd_curve

        radii = _radii(epsilons)
        settings = {"epsilons": radii, "rows": rows, "scale": scale, **asdict(attack)}
        return self._once("pgd", settings, lambda target: pgd_curve(target, radii, attack))

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
        return self._once("noise", settings, lambda target: noise_curve(target, radii, norm, draws))

    def _once(
        self,
        method: str,
        settings: Mapping[str, Any],
        run: Callable[[Target], tuple[AtEpsilon, ...]],
    ) -> AttackResult:
        key = (method, *sorted({**settings, "scale": self.space(settings["scale"]).scale}.items()))
        if key not in self._done:
            self._done[key] = self._run(method, settings, run)
        return self._done[key]

    def _run(
        self,
        method: str,
        settings: Mapping[str, Any],
        run: Callable[[Target], tuple[AtEpsilon, ...]],
    ) -> AttackResult:
        from audit.attack.curve import Target

        rows = self.rows(settings["rows"])
        correct = self.predictions.correct[rows]
        around = self.space(settings["scale"])
        passes = self.model.passes
        forward, backward = passes.forward, passes.backward
        target = Target(self.model, self.data.inputs, self.data.labels, rows, correct, around, self.seed)
        return AttackResult(
            method=method,
            rows=rows,
            correct=correct,
            at=run(target),
            walked=method != "fgsm",
            settings={**settings, "scale": around.scale, "seed": self.seed},
            forward_rows=passes.forward - forward,
            backward_rows=passes.backward - backward,
        )


def adversaries(model: Model, data: Dataset, predictions: Predictions, seed: int) -> Adversaries:
    """Attacks on this model, each run when a check first asks for it.

    Raises:
        NotApplicable: the model gives no gradients with respect to its input.
    """
    if "gradients" not in model.capabilities:
        why = f": {' '.join(model.ruled_out)}" if model.ruled_out else ""
        raise NotApplicable(f"the attacks need gradients of the model{why}")
    return Adversaries(model, data, predictions, seed)


def _radii(epsilons: Sequence[float]) -> tuple[float, ...]:
    """Ascending, each once."""
    return tuple(sorted({float(epsilon) for epsilon in epsilons}))
