"""ART: attacks of the Adversarial Robustness Toolbox, run on our model and judged again by us.

What the toolbox gets wrong by itself is settled here: it is handed true labels and float32, it never reaches
the model's mode or gradients, its random draws are seeded, and what it returns is only a claim.
"""

from __future__ import annotations

import io
import logging
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.attack.catalogue import PACKAGE, arguments, bounded, installed, misfit, normed
from audit.attack.curve import Attempt, Target, walk
from audit.attack.loop import Found
from audit.attack.loss import Loss, wrong
from audit.attack.norm import Ball, Norm
from audit.attack.result import AtEpsilon, AttackResult
from audit.attack.space import Space
from audit.attack.verify import ACCEPTED, REASONS, RELATIVE_TOLERANCE, distance, verify
from audit.dataset import Doubles, Floats, Ints
from audit.errors import ConfigError, NotApplicable
from audit.model import Model, state_hash

_ALL_ROWS = 2**20
_ROUNDING = 1e-6
_SILENT = logging.CRITICAL + 1
_ORDERS: Mapping[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
_TARGETED_ALWAYS = frozenset(
    {"SaliencyMapMethod", "LowProFool", "TargetedUniversalPerturbation", "AdversarialPatchNumpy"}
)
_ONE_TARGET = frozenset(
    {"TargetedUniversalPerturbation", "AdversarialPatchNumpy", "AdversarialPatch", "AdversarialPatchPyTorch"}
)
_PROBABILITIES = frozenset({"LowProFool", "NewtonFool", "SimBA", "VirtualAdversarialMethod"})
_ROW_BY_ROW = frozenset({"ShadowAttack"})
_BATCH_OF_ITS_OWN: Mapping[str, dict[str, int]] = {
    "ShadowAttack": {},  # its batch is the number of copies of one row that it averages over
    "SimBA": {"batch_size": 1},  # refuses any other
    "ZooAttack": {"batch_size": 1},  # mixes up the coordinates of several rows
}
_ONE_RANGE = frozenset({"BrendelBethgeAttack", "SaliencyMapMethod", "ZooAttack"})
_REFUSALS = (
    "has not yet been tested for binary classification",
    "spatial dimensions",
    "can only be applied to image data",
    "Overflow error in",
)
"""What ART says where it is asked for something that it cannot do; any other error is a fault."""

_DOUBLE_RANGE = frozenset({"AdversarialPatchNumpy"})
_MASKED = frozenset(
    {
        "AutoAttack",
        "AutoConjugateGradient",
        "AutoProjectedGradientDescent",
        "BasicIterativeMethod",
        "FastGradientMethod",
        "HopSkipJump",
        "MomentumIterativeMethod",
        "ProjectedGradientDescent",
        "ProjectedGradientDescentNumpy",
        "ProjectedGradientDescentPyTorch",
        "RescalingAutoConjugateGradient",
    }
)
_HALVING = frozenset(
    {"AutoAttack", "AutoConjugateGradient", "AutoProjectedGradientDescent", "RescalingAutoConjugateGradient"}
)
_LOSS_GRADIENTS = "LossGradientsMixin"
_GRADIENT_KINDS = frozenset({_LOSS_GRADIENTS, "ClassGradientsMixin"})
_PATCH_SCALE = 0.4


@dataclass(frozen=True, kw_only=True)
class ArtAttack:
    """One attack of ART.

    Attributes:
        name: its class in `art.attacks.evasion`.
        norm: the norm that changes are measured in, and that it works in where it takes one.
        arguments: passed on to its constructor.
    """

    name: str
    norm: Norm
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArtResult:
    """What an attack of ART found, every example judged again.

    Attributes:
        attack: what counts at each radius.
        distances: [R] distance of the verified example of each row, infinite where there is none; None for
            an attack that is given a radius.
        rejected: of an attack that is given none, how many claims did not hold at any distance, by reason.
    """

    attack: AttackResult
    distances: Doubles | None
    rejected: Mapping[str, int]


def art_result(target: Target, epsilons: tuple[float, ...], attack: ArtAttack, modality: str) -> ArtResult:
    """Run an attack of ART and judge what it returns.

    An attack that takes a radius runs at each, upwards, on the rows that still stand. Any other runs once,
    and counts at each radius that its verified distance does not exceed.

    Args:
        target: the rows.
        epsilons: radii, ascending, in units of `target.space`.
        attack: which, and how.
        modality: `tabular`, `image` or `series`.

    Raises:
        NotApplicable: the attack is made for other models or inputs, or is broken here.
        ConfigError: ART refuses the arguments.
    """
    _refuse_misfits(target, attack, modality)
    passes = target.model.passes
    forward, backward = passes.forward, passes.backward
    far: Doubles | None = None
    rejected: Mapping[str, int] = {}
    if bounded(attack.name):
        at = walk(target, epsilons, attack.norm, [_bounded(target, attack)])
    else:
        at, far, rejected = _unbounded(target, epsilons, attack)
    result = AttackResult(
        method=attack.name,
        rows=target.rows,
        correct=target.correct,
        at=at,
        walked=True,
        settings={
            "epsilons": epsilons,
            "scale": target.space.scale,
            "norm": attack.norm,
            "seed": target.seed,
            "arguments": dict(attack.arguments),
        },
        forward_rows=passes.forward - forward,
        backward_rows=passes.backward - backward,
    )
    return ArtResult(attack=result, distances=far, rejected=rejected)


def _refuse_misfits(target: Target, attack: ArtAttack, modality: str) -> None:
    if not installed():
        raise NotApplicable(f"the package '{PACKAGE}' is not installed.")
    why = misfit(attack.name, attack.norm, modality, target.inputs.ndim - 1)
    if attack.name in _ONE_RANGE and not isinstance(_clip_values(target.space)[0], float):
        why = why or "it takes one valid range for all inputs, and these columns have several"
    if why:
        raise NotApplicable(f"{attack.name} of ART {installed()} cannot be used here: {why}.")
    given = _given(attack, 1.0)
    for name in arguments(attack.name).required:
        if name not in given:
            raise ConfigError(f"{attack.name} needs the argument '{name}'; set arguments.{name}.")


def _bounded(target: Target, attack: ArtAttack) -> Attempt:
    """An attempt that hands ART the radius. With radius 0 nothing may move, so nothing is run."""

    def run(positions: Ints, labels: Tensor, inside: Ball) -> Found:
        rows = target.inputs[target.rows[positions]]
        points = _generated(target, positions, attack, inside.epsilon) if inside.epsilon > 0 else rows
        return _claim(target.model, points, labels)

    return Attempt(attack.name, run, load=_ALL_ROWS, gradients=False)


def _unbounded(
    target: Target, epsilons: tuple[float, ...], attack: ArtAttack
) -> tuple[tuple[AtEpsilon, ...], Doubles, Mapping[str, int]]:
    """What counts at each radius, distances [R], and the claims that held at no distance."""
    far = np.full(len(target.rows), np.inf)
    points = target.inputs[target.rows].copy()
    positions = np.flatnonzero(target.correct)
    codes = np.full(len(positions), ACCEPTED, np.int8)
    if len(positions):
        (made,) = target.model.in_batches(
            lambda part: (torch.from_numpy(_generated(target, positions[part], attack, None)),),
            len(positions),
            load=_ALL_ROWS,
        )
        points[positions] = made.numpy()
        far[positions], codes = _distances(target, positions, points[positions], attack.norm)

    def run(positions: Ints, labels: Tensor, inside: Ball) -> Found:
        near = far[positions] <= inside.epsilon * (1 + RELATIVE_TOLERANCE)
        return _claim(target.model, points[positions], labels, torch.from_numpy(near))

    attempt = Attempt(attack.name, run, load=_ALL_ROWS, gradients=False)
    rejected = {reason: int((codes == code).sum()) for code, reason in REASONS.items()}
    return walk(target, epsilons, attack.norm, [attempt]), far, rejected


def _distances(target: Target, positions: Ints, points: Floats, norm: Norm) -> tuple[Doubles, Any]:
    """[n] distances, infinite where nothing was claimed or the claim did not hold; [n] verification codes."""
    rows = target.rows[positions]
    inputs, labels = target.inputs[rows], target.labels[rows]
    claimed = _claim(target.model, points, torch.from_numpy(labels)).fooled.numpy()
    codes = np.full(len(rows), ACCEPTED, np.int8)
    codes[claimed] = verify(
        target.model, points[claimed], inputs[claimed], labels[claimed], target.space, norm, np.inf
    )
    length = distance(points, inputs, target.space, norm)
    return np.where(claimed & (codes == ACCEPTED), length, np.inf), codes


def _claim(model: Model, points: Floats, labels: Tensor, near: Tensor | None = None) -> Found:
    """ART claims nothing itself: a row counts as claimed where the model is wrong at the point returned."""
    fooled = wrong(model.predict(points), labels.cpu())
    fooled = fooled if near is None else fooled & near
    return Found(fooled, torch.from_numpy(points), *(torch.zeros_like(fooled) for _ in range(3)))


def _generated(target: Target, positions: Ints, attack: ArtAttack, epsilon: float | None) -> Floats:
    """[n, ...] what ART returns for these rows, in raw units."""
    rows = target.rows[positions]
    inputs, labels, model = target.inputs[rows], target.labels[rows], target.model
    scores = model.predict(inputs).numpy()
    with _alone(model, target.seed):
        made = _built(model, target.space, attack, scores.shape[1], epsilon)
        aim = _aim(attack, scores, labels)
        onehot = np.eye(scores.shape[1], dtype=np.float32)[aim]
        start = (inputs / _stride(target.space)).astype(np.float32)
        moved = _moved(made, attack, start, onehot, target.space)
    raw = np.where(moved == start, inputs, moved * _stride(target.space)).astype(np.float32)
    return _settled(raw, inputs, target.space)


def _moved(made: Any, attack: ArtAttack, start: Floats, onehot: Floats, space: Space) -> Floats:
    """[n, ...] what the attack makes of `start`, in units of epsilon."""
    fixed = space.unit == 0
    extra = {"mask": (~fixed).astype(np.float32)} if attack.name in _MASKED and fixed.any() else {}
    if hasattr(made, "fit_importances"):
        made.fit_importances(start, onehot.argmax(axis=1))
    try:
        if attack.name in _ROW_BY_ROW:
            parts = [made.generate(start[i : i + 1], onehot[i : i + 1]) for i in range(len(start))]
            return np.concatenate(parts)
        found = made.generate(start.copy(), onehot, **extra)
        if isinstance(found, tuple):
            found = made.apply_patch(start.copy(), scale=made.scale_max)
    except (ImportError, ValueError) as error:
        if isinstance(error, ImportError) or any(text in str(error) for text in _REFUSALS):
            why = f"{attack.name} of ART {installed()} cannot be used here: {_said(error)}."
            raise NotApplicable(why) from error
        raise
    points: Floats = np.asarray(found, dtype=np.float32).reshape(start.shape)
    return points


def _settled(points: Floats, inputs: Floats, space: Space) -> Floats:
    """[n, ...] with what is rounding alone put right: fixed coordinates back, the rest into the range."""
    slack = _ROUNDING * np.maximum(space.high - space.low, np.abs(inputs))
    still = (space.unit == 0) & (np.abs(points - inputs) <= slack)
    points = np.where(still, inputs, points)
    inside = np.clip(points, space.low, space.high)
    settled: Floats = np.where((np.abs(points - inside) <= slack) & (points != inputs), inside, points)
    return settled


def _stride(space: Space) -> Floats:
    """[...] how far one unit of epsilon moves each coordinate; 1 where it is fixed."""
    stride: Floats = np.where(space.unit > 0, space.unit, 1).astype(np.float32)
    return stride


def _aim(attack: ArtAttack, scores: Floats, labels: Ints) -> Ints:
    """[n] the true class, or where the attack is targeted the likeliest wrong one."""
    if attack.name not in _TARGETED_ALWAYS and not attack.arguments.get("targeted", False):
        return labels
    others = scores.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    second: Ints = others.argmax(axis=1)
    if attack.name in _ONE_TARGET:
        return np.full_like(second, Counter(second.tolist()).most_common(1)[0][0])
    return second


def _built(model: Model, space: Space, attack: ArtAttack, classes: int, epsilon: float | None) -> Any:
    """The attack around an estimator of our model."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier
    from art.exceptions import EstimatorError

    kind = getattr(evasion, attack.name)
    _ask_for_gradients(model, kind, attack)
    estimator = PyTorchClassifier(
        _Scores(model, space, probabilities=attack.name in _PROBABILITIES),
        nn.CrossEntropyLoss(),
        space.unit.shape,
        classes,
        clip_values=_clip_values(space),
        device_type="gpu" if model.device.type == "cuda" else "cpu",
    )
    if attack.name in _DOUBLE_RANGE:  # it takes a float32 for an array and ends without a patch
        estimator._clip_values = estimator.clip_values.astype(np.float64)  # noqa: SLF001
    batch = _BATCH_OF_ITS_OWN.get(attack.name, {"batch_size": model.passes.batch})
    given = {**_given(attack, epsilon or 0.0), **batch, "verbose": False}
    taken = arguments(attack.name).names
    try:
        return kind(estimator, **{key: value for key, value in given.items() if key in taken})
    except (EstimatorError, ImportError, NotImplementedError) as error:
        raise NotApplicable(
            f"{attack.name} of ART {installed()} is not for this model: {_said(error)}."
        ) from error
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"ART refuses the arguments of {attack.name}: {_said(error)}.") from error


def _said(error: Exception) -> str:
    """What a library said, on one line and without the full stop."""
    return " ".join(str(error).split()).rstrip(".")


def followed(attack: str) -> Loss | None:
    """The loss whose gradient comes nearest to what this attack of ART follows; None where it follows none.

    The cross-entropy where it takes the gradient of the loss, the margin where it takes that of the scores.
    """
    from art.attacks import evasion

    wanted = _requirements(getattr(evasion, attack))
    if not wanted & _GRADIENT_KINDS:
        return None
    return "cross_entropy" if _LOSS_GRADIENTS in wanted else "margin"


def _requirements(kind: Any) -> set[str]:
    return {part.__name__ for part in kind._estimator_requirements if isinstance(part, type)}  # noqa: SLF001 - ART says nowhere else whether an attack takes gradients


def _ask_for_gradients(model: Model, kind: Any, attack: ArtAttack) -> None:
    if _requirements(kind) & _GRADIENT_KINDS and "gradients" not in model.capabilities:
        why = f": {' '.join(model.ruled_out)}" if model.ruled_out else ""
        raise NotApplicable(f"{attack.name} needs gradients of the model{why}")


def _given(attack: ArtAttack, epsilon: float) -> dict[str, Any]:
    """The constructor's arguments: ours first, then the user's; lists become tuples."""
    taken = arguments(attack.name).names
    ours: dict[str, Any] = {}
    if bounded(attack.name):
        ours |= {"eps": epsilon, "eps_step": _step(attack, epsilon)}
    if normed(attack.name):
        ours["norm"] = _ORDERS[attack.norm]
    if attack.name not in _TARGETED_ALWAYS:
        ours["targeted"] = False
    if attack.name in _ONE_TARGET:
        ours["scale_max"] = _PATCH_SCALE
    user = {key: tuple(v) if isinstance(v, list) else v for key, v in attack.arguments.items()}
    return {key: value for key, value in ours.items() if key in taken} | user


def _step(attack: ArtAttack, epsilon: float) -> float:
    """The first step: twice epsilon where the attack halves it by itself, else 2.5 epsilon over the steps.

    ART's default, 0.1 whatever epsilon, would leave a small ball in one step and not cross a large one.
    """
    if attack.name in _HALVING:
        return 2 * epsilon
    return epsilon * min(1.0, 2.5 / int(attack.arguments.get("max_iter", 100)))


def _clip_values(space: Space) -> tuple[Any, Any]:
    """The valid range in units of epsilon: two numbers where all coordinates share it."""
    stride = _stride(space)
    low, high = space.low / stride, space.high / stride
    if (low == low.flat[0]).all() and (high == high.flat[0]).all() and low.flat[0] < high.flat[0]:
        return float(low.flat[0]), float(high.flat[0])
    # A constant column has no width, and attacks that map the range to a curve would divide by it.
    return low, np.where(high > low, high, low + 1).astype(np.float32)


class _Scores(nn.Module):
    """Our scores of inputs in units of epsilon, as the module that ART asks for.

    The model is held in a tuple, not as a part: `eval`, `train` and `zero_grad` stop here.
    """

    def __init__(self, model: Model, space: Space, *, probabilities: bool) -> None:
        super().__init__()
        self.held = (model,)
        self.probabilities = probabilities
        self.free = model.tensor(space.unit) > 0
        self.stride = model.tensor(_stride(space))
        self.plain = bool((self.stride == 1).all() and self.free.all())

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, C] scores of [n, ...]; fixed coordinates give no gradient."""
        (model,) = self.held
        rows = inputs.to(device=model.device, dtype=torch.float32).clone()
        if not self.plain:
            rows = torch.where(self.free, rows, rows.detach()) * self.stride
        scores = model.scores(rows)
        if scores.requires_grad:
            scores.register_hook(_counter(model))  # type: ignore[no-untyped-call]
        return (scores.softmax(dim=1) if self.probabilities else scores).to(inputs.device)


def _counter(model: Model) -> Callable[[Tensor], None]:
    def count(gradient: Tensor) -> None:
        model.passes.backward += len(gradient)

    return count


@contextmanager
def _alone(model: Model, seed: int) -> Iterator[None]:
    """ART at work: seeded and silent, and the model handed back as it was to the last bit."""
    before = state_hash(model.module)
    with ExitStack() as stack:
        stack.enter_context(_silent())
        stack.enter_context(_without_weight_gradients(model.module))
        stack.enter_context(_seeded(seed))
        stack.enter_context(torch.enable_grad())
        yield
    if state_hash(model.module) != before:
        raise RuntimeError("ART left the model changed (parameters, buffers, gradients, mode or hooks)")


@contextmanager
def _silent() -> Iterator[None]:
    """No progress bars, warnings or log lines."""
    log = logging.getLogger("art")
    level = log.level
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        import art.attacks.evasion  # noqa: F401 - sets up its loggers, so it comes before they are silenced

        log.setLevel(_SILENT)
        try:
            yield
        finally:
            log.setLevel(level)


@contextmanager
def _without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient, so that none is computed and none is left behind."""
    asked = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for parameter, _ in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in asked:
            parameter.requires_grad_(wanted)


class _Seeded(np.random.RandomState):
    """A generator that, given no seed, takes one from the global generator and not from the system."""

    def __init__(self, seed: Any = None) -> None:
        super().__init__(np.random.randint(2**31) if seed is None else seed)  # noqa: NPY002 - ART draws from it


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every generator that ART draws from is seeded, and afterwards where it was before."""
    plain, generator = np.random.RandomState, random.getstate()
    state = np.random.get_state()  # noqa: NPY002 - ART draws from the global generator
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        # HopSkipJump and BoundaryAttack make generators without a seed: no run would repeat.
        setattr(np.random, "RandomState", _Seeded)  # noqa: B010 - mypy refuses to assign to a type
        try:
            yield
        finally:
            setattr(np.random, "RandomState", plain)  # noqa: B010
            np.random.set_state(state)  # noqa: NPY002
            random.setstate(generator)
