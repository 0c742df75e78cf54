"""robustness.attack_sanity: is the attack any good, or does the model only look robust."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from audit.attack import sanity
from audit.attack.sanity import Looked, against, look, untested
from audit.attack.space import Scale
from audit.check import check
from audit.checks.robustness.curve import LARGEST, Rows
from audit.checks.robustness.setting import in_words
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import EVERY_CHECK, Doubt, Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit.attack.control import Control
    from audit.attack.curve import Target
    from audit.attack.loop import Pgd
    from audit.attack.probes import Path, Repeats, Slopes
    from audit.attack.result import AttackResult
    from audit.attack.space import Space
    from audit.dataset import Dataset
    from audit.products.adversaries import Adversaries

Norm = Literal["linf", "l2"]

DOUBTED_CHECKS = (
    "robustness.fgsm",
    "robustness.pgd",
    "robustness.worst_case",
    "robustness.feasible",
    "robustness.art",
    "robustness.distance",
    "robustness.certified",
    "fairness.robust_accuracy",
)
DOUBTED_MEASURES = (
    "robust_accuracy",
    "robust_accuracy_touching_protected",
    "attack_success_rate",
    "fooled_by_protected_alone",
    "favourable_lost_rate",
    "favourable_gained_rate",
    "adversarial_distance",
    "median_distance_found",
    "flip_rate",
    "robust_accuracy_difference",
    "flip_rate_difference",
)
RESTARTS = 3
NOISE_DRAWS = 20
QUERIES = 200
_CURVE = (0.25, 0.5, 1.0, 2.0)
_JUMPS = 4
_JUMP_EVALUATIONS = 50
_NO_GRADIENT = "the model gives no gradient"
_RANDOM = "the model's answers change from pass to pass, so nothing can be said"
_FIXED = "some columns may not move, so the whole range need not reach every row"


@check(
    "robustness.attack_sanity",
    needs={"logits"},
    measures={
        "attack_trust",
        "failed_checks",
        "serious_checks",
        "zero_gradient_share",
        "nan_share",
        "control_found_share",
        "clean_accuracy",
        "robust_accuracy",
    },
    doubts={(name, item) for name in DOUBTED_CHECKS for item in DOUBTED_MEASURES}
    | {(EVERY_CHECK, "robust_accuracy")},
)
def attack_sanity(
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)] | None = None,
    norm: Norm = "linf",
    steps: Annotated[int, Field(ge=1)] = 20,
    rows: Rows | None = 128,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Whether the attacks of this audit can be relied on.

    A model that withstands an attack may be robust, or the attack may be broken: by a gradient that vanishes
    or leads nowhere, by too few steps, by answers that change from pass to pass. This check looks at the
    attack rather than at the model, on a small sample. It counts rows whose gradient is zero or not finite;
    compares gradients with what the model really does when its input is moved a little; asks the same rows
    again, alone and in other batches; and sees whether epsilon 0 changes nothing, whether every example lies
    inside epsilon and the valid range and holds in a fresh pass, whether twice the steps, restarts or another
    loss fool more rows, whether a larger epsilon fools fewer, and whether the whole valid range fools nearly
    all. A single step, random noise, examples made on an imitation of the model, and searches without
    gradients are far weaker than an attack that knows the model: where one of them fools clearly more rows,
    the attack is at fault.

    Last comes a positive control. The model's read-out is replaced by one that is known to be wrong at a
    chosen point inside epsilon, for each of 64 samples, and the attack, with three restarts, has to find it.
    The audited model itself is not changed.

    The verdict is `trust`, `caution` or `do not rely` (measure `attack_trust`: 2, 1 or 0), by the rules in
    the table: a serious failure means do not rely, any other failure caution. With `do not rely` no limit on
    robust accuracy in this audit, whichever check measured it, and none on a success rate or distance of an
    attack can count as held. The checks found something or
    found nothing; finding nothing does not prove that a stronger attack would fail.

    Settings: `epsilon` (the radius; the middle one of the usual three unless given), `norm` (linf or l2),
    `steps` (of PGD with the cross-entropy loss, the attack that is tested), `rows` (how many rows, drawn by
    the audit's seed; none for all), `scale` (what epsilon counts), `justification` (why this radius).
    Sources: Carlini et al., 2019, arXiv:1902.06705 (the list); Croce and Hein, 2020, arXiv:2003.01690; Pintor
    et al., 2022, arXiv:2106.09947 (indicators of failure); Zimmermann et al., 2022, arXiv:2206.13991 (the
    control).
    """
    from audit.attack.loop import Pgd

    space = adversaries.space(scale)
    radius = epsilon or space.epsilons[len(space.epsilons) // 2]
    trial = _Trial(adversaries, space, radius, Pgd(norm=norm, steps=steps), rows, scale)
    if not trial.target.correct.any():
        raise NotEvaluable(
            f"0 of {len(trial.target.rows)} rows are classified correctly, so there is nothing to attack."
        )
    if trial.by_gradient:
        _attack_by_gradient(trial)
    _attack_without_gradient(trial)
    looked = list(_looked(trial))
    measures = list(_measures(trial, looked))
    return Evidence(
        measures=measures,
        tables=(_checks(looked), _attacks(trial)),
        figures=(_figure(measures, radius),),
        caveats=tuple(_caveats(trial, looked, data, justification)),
        doubts=tuple(_doubts(looked)),
    )


@dataclass
class _Trial:
    """What is tested, and what has been found so far.

    Attributes:
        adversaries: the attacks.
        space: what may change.
        epsilon: the radius.
        attack: the attack that is tested.
        asked: rows to look at.
        scale: what epsilon counts.
        results: what each attack found at the radius, by the name a reader sees.
        curve: (radius, rows fooled), each radius attacked on its own.
        unable: why an attack could not be run, by its name.
        slopes: zero and non-finite gradients; None without gradients.
        control: what became of the planted examples; None where none were.
    """

    adversaries: Adversaries
    space: Space
    epsilon: float
    attack: Pgd
    asked: int | None
    scale: Scale
    results: dict[str, AttackResult] = field(default_factory=dict)
    curve: list[tuple[float, int]] = field(default_factory=list)
    unable: dict[str, str] = field(default_factory=dict)
    slopes: Slopes | None = None
    control: Control | None = None

    @property
    def target(self) -> Target:
        """The rows."""
        return self.adversaries.target(self.asked, self.scale)

    @property
    def by_gradient(self) -> bool:
        """Whether the model gives gradients."""
        return "gradients" in self.adversaries.model.capabilities

    @property
    def attacked(self) -> int:
        """How many rows are attacked."""
        return int(self.target.correct.sum())

    @property
    def common(self) -> dict[str, Any]:
        """What every attack is told."""
        return {"rows": self.asked, "scale": self.scale}

    @property
    def whole(self) -> float:
        """The radius that reaches every valid point from every other."""
        free = self.space.unit > 0
        wide = (self.space.high - self.space.low)[free] / self.space.unit[free]
        return float(np.linalg.norm(wide.astype(np.float64), np.inf if self.attack.norm == "linf" else 2))


_PGD, _FGSM, _TWICE = "PGD", "a single step (FGSM)", "PGD, twice the steps"
_AGAIN, _ALONG, _WHOLE = "PGD, three restarts", "PGD along the margin", "PGD, whole range"
_GUESS, _IMITATION = "random noise", "transfer from an imitation"
_SEARCH, _JUMP = "Square", "HopSkipJump"


def _attack_by_gradient(trial: _Trial) -> None:
    """PGD as it is tested, and its variations; each radius of the curve on its own."""
    run, attack, at = trial.adversaries, trial.attack, trial.epsilon
    pgd = run.pgd([0.0, at], attack, **trial.common)
    trial.results |= {
        _PGD: pgd,
        _FGSM: run.fgsm([at], norm=attack.norm, **trial.common),
        _TWICE: run.pgd([at], replace(attack, steps=2 * attack.steps), **trial.common),
        _AGAIN: run.pgd([at], replace(attack, restarts=RESTARTS), **trial.common),
        _ALONG: run.pgd([at], replace(attack, loss="margin"), **trial.common),
    }
    for share in _CURVE:
        radius = min(share * at, trial.whole)
        alone = pgd if radius == at else run.pgd([radius], attack, **trial.common)
        trial.curve.append((radius, int(alone.at_epsilon(radius).fooled.sum())))
    if (trial.space.unit > 0).all():
        trial.results[_WHOLE] = run.pgd([trial.whole], attack, **trial.common)


def _attack_without_gradient(trial: _Trial) -> None:
    """What a gradient attack should beat; HopSkipJump only where the model tells nothing but the class."""
    from audit.attack.hopskipjump import HopSkipJump
    from audit.attack.probes import labels_only
    from audit.attack.square import Square

    run, at, norm = trial.adversaries, [trial.epsilon], trial.attack.norm
    margin = replace(trial.attack, loss="margin")
    square = Square(norm=_either(norm), queries=QUERIES)
    jump = HopSkipJump(norm=_either(norm), iterations=_JUMPS, evaluations=_JUMP_EVALUATIONS)
    ways: dict[str, Callable[[], AttackResult]] = {
        _GUESS: lambda: run.noise(at, norm=norm, draws=NOISE_DRAWS, **trial.common),
        _IMITATION: lambda: run.transfer(at, margin, **trial.common),
        _SEARCH: lambda: run.square(at, square, **trial.common),
    }
    if labels_only(run.predictions.scores):
        ways[_JUMP] = lambda: run.hopskipjump(at, jump, **trial.common)
    else:
        trial.unable[_JUMP] = "the model tells scores, which a search without gradients can use"
    for name, way in ways.items():
        try:
            trial.results[name] = way()
        except NotApplicable as error:
            trial.unable[name] = str(error)


def _either(norm: str) -> Norm:
    return "l2" if norm == "l2" else "linf"


def _looked(trial: _Trial) -> Iterator[Looked]:
    """Every check of the attack, the probes of the model first."""
    from audit.attack.probes import repeats

    again = repeats(trial.target)
    found = [sanity.enough(trial.attacked), *_repeated(again)]
    if trial.by_gradient:
        found += [*_gradients(trial, random=again.changed > 0), *_itself(trial)]
    else:
        found += _without(trial)
    found += [*_compared(trial), _outside(trial)]
    yield from sanity.random_model(found) if again.changed else found


def _repeated(again: Repeats) -> Iterator[Looked]:
    yield look(
        sanity.REPEATABLE,
        again.changed,
        again.rows,
        f"{again.changed} of {again.rows} rows changed in {again.passes} passes, by up to "
        f"{again.farthest:.2g} of the largest score",
    )
    yield look(sanity.BATCH, again.alone, again.rows, f"{again.alone} of {again.rows} rows changed")


def _gradients(trial: _Trial, *, random: bool) -> Iterator[Looked]:
    """What is seen of the gradient, and whether it leads the attack to what was planted."""
    from audit.attack.control import control
    from audit.attack.probes import agreement, slopes

    seen = slopes(trial.target)
    trial.slopes = seen
    n = seen.rows
    yield look(sanity.ZERO, seen.zero, n, f"{seen.zero} of {n} rows")
    yield look(sanity.FINITE, seen.nan, n, f"{seen.nan} of {n} rows")
    if random:
        yield untested(sanity.DIFFERENCE, _RANDOM)
        yield untested(sanity.CONTROL, _RANDOM)
        return
    agree = agreement(trial.target, trial.epsilon, trial.attack.norm)
    yield look(
        sanity.DIFFERENCE,
        agree.unseen + agree.apart,
        n,
        f"{agree.unseen} of {n} rows with a zero gradient though the answer changes, {agree.apart} with "
        "another slope",
    )
    planted = control(trial.target, trial.epsilon, replace(trial.attack, restarts=RESTARTS))
    trial.control = planted
    yield sanity.control(planted.found, planted.planted, planted.asked, planted.by_chance)


def _itself(trial: _Trial) -> Iterator[Looked]:
    """What the attack did on its way."""
    from audit.attack.probes import path

    pgd, n = trial.results[_PGD], trial.attacked
    at = pgd.at_epsilon(trial.epsilon)
    fooled, changed = int(at.fooled.sum()), int(pgd.at_epsilon(0.0).fooled.sum())
    rejected = sanity.rejected([at], outside=False)
    way = path(trial.target, trial.epsilon, trial.attack)
    yield look(sanity.IDENTITY, changed, n, f"{changed} of {n} rows")
    yield look(sanity.VERIFIED, rejected, n, f"{fooled} of {n} rows accepted, {rejected} rejected")
    yield look(sanity.BEST_POINT, way.ever - fooled - rejected, n, _kept(way, fooled))
    yield look(
        sanity.LATE,
        at.late + way.rising,
        n,
        f"of {n} rows {at.late} fell late, {way.rising} withstood and their margin still rose",
    )
    yield sanity.monotone(trial.curve, n)
    if _WHOLE not in trial.results:
        yield untested(sanity.FULL_RANGE, _FIXED)
        return
    whole = trial.results[_WHOLE].at[0]
    stood = n - int(whole.fooled.sum()) - sanity.rejected([whole], outside=False)
    yield look(sanity.FULL_RANGE, stood, n, f"{stood} of {n} rows withstood epsilon {trial.whole:.4g}")


def _kept(way: Path, fooled: int) -> str:
    return (
        f"of {way.rows} rows {way.ever} were fooled at some point of the way, {way.last} at its last point; "
        f"the attack counts {fooled}"
    )


def _without(trial: _Trial) -> Iterator[Looked]:
    """A model without gradients: an attack that needs them cannot be relied on, and says nothing else."""
    why = f"{_NO_GRADIENT}. {' '.join(trial.adversaries.model.ruled_out)}".strip()
    yield replace(untested(sanity.ZERO, why), result="serious")
    for name in (
        sanity.FINITE,
        sanity.DIFFERENCE,
        sanity.CONTROL,
        sanity.IDENTITY,
        sanity.VERIFIED,
        sanity.BEST_POINT,
        sanity.LATE,
        sanity.MONOTONE,
        sanity.FULL_RANGE,
    ):
        yield untested(name, _NO_GRADIENT)


_RIVALS = {
    sanity.SINGLE_STEP: _FGSM,
    sanity.STEPS: _TWICE,
    sanity.RESTARTS: _AGAIN,
    sanity.MARGIN: _ALONG,
    sanity.NOISE: _GUESS,
    sanity.TRANSFER: _IMITATION,
    sanity.SQUARE: _SEARCH,
    sanity.JUMP: _JUMP,
}


def _compared(trial: _Trial) -> Iterator[Looked]:
    """Every other attack on the same rows at the same radius."""
    pgd = trial.results.get(_PGD)
    for name, rival in _RIVALS.items():
        other = trial.results.get(rival)
        if other is None:
            yield untested(name, trial.unable.get(rival, _NO_GRADIENT))
        elif pgd is None:
            fooled = int(other.at_epsilon(trial.epsilon).fooled.sum())
            yield untested(
                name, f"{fooled} of {other.attacked} rows fooled; no gradient attack to compare with"
            )
        else:
            yield against(name, pgd, other, trial.epsilon)


def _outside(trial: _Trial) -> Looked:
    """Claimed examples of all attacks together."""
    entries = [entry for result in trial.results.values() for entry in result.at]
    outside = sanity.rejected(entries, outside=True)
    inside = sum(int(entry.fooled.sum()) for entry in entries)
    counted = f"{outside} outside, {inside} inside, over all {len(trial.results)} attacks"
    return look(sanity.INSIDE, outside, outside + inside, counted)


def _measures(trial: _Trial, looked: list[Looked]) -> Iterator[Measure]:
    grade = sanity.grade(looked)
    results = [item.result for item in looked]
    exact: dict[str, Any] = {"unit": "checks", "better": "lower", "n": len(looked)}
    yield measure("attack_trust", "exact", {"value": grade}, unit="grade", better="higher", n=len(looked))
    yield measure("failed_checks", "exact", {"value": len(_bad(looked))}, **exact)
    yield measure("serious_checks", "exact", {"value": results.count("serious")}, **exact)
    yield from _shares(trial)
    doubt = _why(looked) if grade == sanity.DO_NOT_RELY else ""
    total = len(trial.target.rows)
    yield proportion("clean_accuracy", trial.attacked, total, better="higher")
    for name, result in trial.results.items():
        at = result.at[-1]
        yield proportion(
            "robust_accuracy",
            trial.attacked - int(at.fooled.sum()),
            total,
            settings={"attack": name, "epsilon": at.epsilon},
            better="higher",
            unreliable=doubt,
        )


def _shares(trial: _Trial) -> Iterator[Measure]:
    seen, planted = trial.slopes, trial.control
    for name, rows in (("zero_gradient_share", "zero"), ("nan_share", "nan")):
        count = getattr(seen, rows) if seen else 0
        of = seen.rows if seen else 0
        yield proportion(name, count, of, better="lower", reason=f"{_NO_GRADIENT}, so there is none to count")
    counts = {"x": planted.found, "n": planted.planted} if planted else {"x": 0, "n": 0}
    yield measure(
        "control_found_share",
        "clopper_pearson",
        counts,
        n=counts["n"],
        settings={"epsilon": trial.epsilon},
        better="higher",
        reason="no example could be planted",
    )


def _bad(looked: list[Looked]) -> list[Looked]:
    """Those that failed, the serious ones first."""
    return [item for kind in ("serious", "failed") for item in looked if item.result == kind]


def _why(looked: list[Looked]) -> str:
    serious = "; ".join(f"{item.name}: {item.counted}" for item in looked if item.result == "serious")
    return f"the checks of the attack say 'do not rely' ({serious})"


def _doubts(looked: list[Looked]) -> Iterator[Doubt]:
    if sanity.grade(looked) == sanity.DO_NOT_RELY:
        why = _why(looked)
        yield Doubt(checks=DOUBTED_CHECKS, measures=DOUBTED_MEASURES, reason=why)
        # A search of another kind is no better shown to be a real one, be it ours or a plugin's.
        yield Doubt(checks=(EVERY_CHECK,), measures=("robust_accuracy",), reason=why)


def _checks(looked: list[Looked]) -> Table:
    grade = sanity.GRADES[sanity.grade(looked)]
    return Table(
        name="attack_sanity",
        title=f"Was the attack any good: {grade}",
        columns=("check", "result", "counted", "rule"),
        rows=[(item.name, item.result, item.counted, item.rule) for item in looked],
        note=f"{sanity.VERDICT_RULE[:1].upper()}{sanity.VERDICT_RULE[1:]}",
    )


def _attacks(trial: _Trial) -> Table:
    return Table(
        name="attacks",
        title="What each attack did",
        columns=(
            "attack", "epsilon", "rows attacked", "rows fooled", "forward rows", "backward rows", "settings",
        ),
        rows=[
            (
                name,
                result.at[-1].epsilon,
                result.attacked,
                int(result.at[-1].fooled.sum()),
                result.forward_rows,
                result.backward_rows,
                in_words(result),
            )
            for name, result in trial.results.items()
        ],
        note="All on the same rows. What it took to train the imitation is not counted: it is another model.",
    )  # fmt: skip


def _figure(measures: list[Measure], epsilon: float) -> Figure:
    """Robust accuracy under each attack."""
    shown = [m for m in measures if m.name == "robust_accuracy"]
    told = ", ".join(f"{m.settings['attack']} {m.value:.3f}" for m in shown)
    return Figure(
        name="robust_accuracy_by_attack",
        title=f"Robust accuracy by attack, at epsilon {epsilon:.4g} unless it is the whole range",
        kind="bars",
        alt=f"Robust accuracy under each attack: {told}.",
        data={
            "labels": [str(m.settings["attack"]) for m in shown],
            "values": [m.value for m in shown],
            "low": [m.low for m in shown],
            "high": [m.high for m in shown],
        },
    )


def _caveats(trial: _Trial, looked: list[Looked], data: Dataset, justification: str) -> Iterator[str]:
    grade = sanity.GRADES[sanity.grade(looked)]
    names = "; ".join(item.name for item in _bad(looked))
    yield (
        f"Verdict on the attack: {grade}. "
        + (f"These checks failed: {names}." if names else "The checks found nothing against it.")
        + " They found something or found nothing; they prove nothing."
    )
    yield from trial.space.caveats
    if justification:
        yield f"Why this value of epsilon: {justification}"
    else:
        yield (
            "Nobody has stated why this value of epsilon is the right one; say what an attacker could change "
            "or a person would not notice in the setting 'justification'."
        )
    if trial.control:
        yield f"The planted examples were read from the network's {trial.control.where}."
    total = len(trial.target.rows)
    if total < len(data):
        yield f"{total} of {len(data)} rows were looked at, drawn by the seed of the audit."
