"""Transfer: attack an imitation of the model, then see whether the model itself falls for the examples.

It works where the model's own gradients lead nowhere. The imitation is a copy that was trained a little
further on the model's own answers or, where a copy has no usable gradients either, a small network that
learned those answers from nothing. Source: Papernot et al., 2017, arXiv:1602.02697.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from audit.attack.loop import Found, Pgd, unusable
from audit.attack.loss import LOSSES, margin, wrong
from audit.attack.noise import displacements
from audit.attack.norm import Ball, Reach, direction, displaced, project
from audit.dataset import Floats, Ints
from audit.model import Model, Passes

_LOOKS = 4
_ROWS_PROBED = 32
_UNUSABLE_SHARE = 0.5
_ROWS_PER_STEP = 64
_WIDTHS = (16, 32)
_HIDDEN = 64
_SMALL_ENOUGH = {1: 16, 2: 8}


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """How an imitation learns.

    Attributes:
        copy_epochs: passes over the inputs by which a copy is trained further.
        copy_rate: its learning rate (Adam).
        epochs: passes over the inputs, in each round, by which a network of our own learns.
        rate: its learning rate (Adam).
        rounds: how often its inputs are doubled by points beside its boundary, for which the model is
            asked again.
        stride: how far such a point lies from the input it was made of, as a share of the valid range.
        noise: standard deviation of the noise on the inputs while training, as a share of the valid range.
    """

    copy_epochs: int = 3
    copy_rate: float = 1e-4
    epochs: int = 10
    rate: float = 2e-3
    rounds: int = 1
    stride: float = 0.1
    noise: float = 0.05


@dataclass(frozen=True)
class Substitute:
    """An imitation of the audited model.

    Attributes:
        model: the imitation; its `passes` count what training it and attacking it cost.
        kind: a `copy` trained further, or a `network` of our own.
        reason: why a copy would not do; empty for a copy.
        agreement: share of the inputs, in [0, 1], for which it predicts the class the model predicts. It
            has seen these inputs in training.
    """

    model: Model
    kind: Literal["copy", "network"]
    reason: str
    agreement: float


def substitute(
    model: Model, inputs: Floats, reach: Reach, seed: int, how: Imitation | None = None
) -> Substitute:
    """An imitation of the model with gradients that can be used, made from its answers to the inputs.

    The audited model is asked for classes and is not changed; global random generators are left alone.

    Args:
        model: the audited network.
        inputs: [N, ...] raw inputs to learn from.
        reach: the valid range and which coordinates may move; noise stays within it.
        seed: seed of weights, noise and order.
        how: how to learn; None for the defaults.
    """
    how = how or Imitation()
    scores = model.predict(inputs)
    lesson = _Lesson(model.tensor(inputs), scores.argmax(dim=1).to(model.device), reach, how, seed)
    imitation, reason = _trained_copy(model, lesson)
    kind: Literal["copy", "network"] = "copy"
    if imitation is None:
        imitation, kind = _trained_network(model, lesson, scores.shape[1]), "network"
    agree = imitation.predict(inputs).argmax(dim=1) == scores.argmax(dim=1)
    return Substitute(imitation, kind, reason, float(agree.double().mean()))


def transfer(
    model: Model,
    imitation: Model,
    labels: Tensor,
    inside: Ball,
    attack: Pgd,
    rows: Ints,
    seed: int,
    attempt: int = 0,
) -> Found:
    """PGD on the imitation; what it finds is judged by the model itself at each quarter of the way.

    A step is that of `audit.attack.loop.pgd`, but the walk does not stop where the imitation falls: a point
    far beyond its boundary is more likely to fool the model. Rows that fool the model leave the batch.

    Args:
        model: the audited network, asked four times for a row that does not fall.
        imitation: the network whose gradient is followed.
        labels: [n] true classes.
        inside: the ball around the rows.
        attack: how to walk; the margin loss does not saturate. With epsilon 0 no step is made.
        rows: [n] row indices of the data set, for the random start.
        seed: seed of the audit.
        attempt: restart number.

    Returns:
        What was found; `zero` and `nan` are False because the model's own gradient is not read.
    """
    none = torch.zeros_like(labels, dtype=torch.bool)
    found = Found(none.clone(), inside.centre.clone(), none.clone(), none.clone(), none.clone())
    points, index = (
        _start(inside, attack, rows, seed, attempt),
        torch.arange(len(labels), device=labels.device),
    )
    steps = attack.steps if inside.epsilon > 0 else 0
    for look in range(1, _LOOKS + 1 if steps else 2):
        for _ in range(look * steps // _LOOKS - (look - 1) * steps // _LOOKS):
            points = _climbed(imitation, points, labels, inside, attack)
        with torch.no_grad():
            # A copy: a network may write into its input.
            falls = wrong(model.scores(points.clone()), labels)
        found.points[index], found.fooled[index] = points, falls
        found.late[index] = falls & (look == _LOOKS)
        keep = ~falls
        if not bool(keep.any()):
            break
        points, labels, index, inside = points[keep], labels[keep], index[keep], inside.take(keep)
    return found


def _start(inside: Ball, attack: Pgd, rows: Ints, seed: int, attempt: int) -> Tensor:
    if not attack.random_start or inside.epsilon == 0:
        return inside.centre
    movable = inside.unit.cpu().numpy()
    offset = displacements(inside.norm, movable, rows, "start", attempt, seed)
    return displaced(inside, torch.from_numpy(offset).to(inside.centre.device))


def _climbed(imitation: Model, points: Tensor, labels: Tensor, inside: Ball, attack: Pgd) -> Tensor:
    gradient, _ = imitation.input_gradient(points, lambda scores: LOSSES[attack.loss](scores, labels))
    step = attack.share * inside.epsilon * direction(inside.norm, gradient, inside.unit)
    return project(inside, points + step)


@dataclass(frozen=True)
class _Lesson:
    """What an imitation learns: inputs [N, ...] and the classes [N] the model gave them."""

    inputs: Tensor
    classes: Tensor
    reach: Reach
    how: Imitation
    seed: int

    def near(self, points: Tensor, offset: Tensor) -> Tensor:
        """Points displaced by shares of the valid range where they may move, kept inside the range."""
        width = torch.where(self.reach.unit > 0, self.reach.high - self.reach.low, 0)
        low, high = torch.minimum(points, self.reach.low), torch.maximum(points, self.reach.high)
        return torch.clamp(points + offset * width, low, high)


def _trained_copy(model: Model, lesson: _Lesson) -> tuple[Model | None, str]:
    """A copy trained further on the model's own answers, or None and why there is none."""
    if model.output == "labels":
        return None, "the network puts out labels alone"
    try:
        # Without this a copy of TorchScript would hang on the original's weights.
        with torch.no_grad():
            module = copy.deepcopy(model.module)
    except Exception as error:  # noqa: BLE001 - a network may refuse to be copied in any way it likes
        return None, f"the network cannot be copied ({type(error).__name__})"
    if _shared(model.module, module):
        return None, "a copy of the network would share its weights"
    imitation = replace(model, module=module.eval(), passes=Passes(batch=model.passes.batch))
    for weights in module.parameters():
        weights.requires_grad_(weights.is_floating_point())
    try:
        if _without_gradient(imitation, lesson):
            return None, "the network's gradient with respect to its input is zero or not a number"
        _train(imitation, lesson, lesson.how.copy_epochs, lesson.how.copy_rate)
    except (RuntimeError, ValueError) as error:
        return None, f"a copy of the network cannot be trained ({str(error).splitlines()[0]})"
    return imitation, ""


def _shared(module: nn.Module, other: nn.Module) -> bool:
    """Whether two networks hold a tensor in the same memory."""
    ours, theirs = (
        {t.data_ptr() for t in (*net.parameters(), *net.buffers()) if t.numel()} for net in (module, other)
    )
    return bool(ours & theirs)


def _without_gradient(imitation: Model, lesson: _Lesson) -> bool:
    classes = lesson.classes[:_ROWS_PROBED]
    gradient, _ = imitation.input_gradient(lesson.inputs[:_ROWS_PROBED], lambda s: margin(s, classes))
    zero, nan = unusable(gradient, lesson.reach.unit)
    return float((zero | nan).double().mean()) >= _UNUSABLE_SHARE


def _train(imitation: Model, lesson: _Lesson, epochs: int, rate: float) -> None:
    """Adam on the cross-entropy with the model's classes, in eval mode, from inputs with a little noise."""
    weights = [w for w in imitation.module.parameters() if w.requires_grad]
    if not weights:
        return
    optimiser = torch.optim.Adam(weights, rate)
    chance = torch.Generator().manual_seed(lesson.seed)
    size = min(_ROWS_PER_STEP, imitation.passes.batch)
    for _ in range(epochs):
        order = torch.randperm(len(lesson.inputs), generator=chance)
        for start in range(0, len(order), size):
            part = order[start : start + size].to(lesson.inputs.device)
            noise = torch.randn(lesson.inputs[part].shape, generator=chance).to(part.device)
            rows = lesson.near(lesson.inputs[part], noise * lesson.how.noise)
            _learn(imitation, weights, rows, lesson.classes[part])
            optimiser.step()
    for one in weights:
        one.grad = None


def _learn(imitation: Model, weights: list[nn.Parameter], rows: Tensor, classes: Tensor) -> None:
    """Put the gradient of one batch beside the imitation's own weights, and nowhere else."""
    with torch.enable_grad():
        loss = cross_entropy(imitation.scores(rows), classes)
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
    imitation.passes.backward += len(rows)
    for one, slope in zip(weights, slopes, strict=True):
        one.grad = slope


def _trained_network(model: Model, lesson: _Lesson, outputs: int) -> Model:
    """A small network of our own that learned the model's answers.

    After each round its inputs are doubled: each is moved to where the network's score of its class changes
    most, and the model is asked what that is (Papernot's Jacobian-based augmentation).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(lesson.seed)
        module = _network(lesson.inputs, outputs).to(model.device).eval()
    imitation = replace(
        model, module=module, output="logits", mean=(), std=(), passes=Passes(batch=model.passes.batch)
    )
    _train(imitation, lesson, lesson.how.epochs, lesson.how.rate)
    for number in range(lesson.how.rounds):
        lesson = _doubled(model, imitation, lesson, stride=lesson.how.stride * (-1) ** number)
        _train(imitation, lesson, lesson.how.epochs, lesson.how.rate)
    return imitation


def _doubled(model: Model, imitation: Model, lesson: _Lesson, stride: float) -> _Lesson:
    """The lesson and as many new points; the way is against the class's score, then along it."""

    def work(part: slice) -> tuple[Tensor, ...]:
        rows, classes = lesson.inputs[part], lesson.classes[part]
        gradient, _ = imitation.input_gradient(rows, lambda s: margin(s, classes))
        points = lesson.near(rows, stride * torch.nan_to_num(gradient).sign())
        with torch.no_grad():
            return points, model.scores(points.clone()).argmax(dim=1)

    points, classes = model.in_batches(work, len(lesson.inputs))
    inputs = torch.cat([lesson.inputs, points])
    return replace(lesson, inputs=inputs, classes=torch.cat([lesson.classes, classes]))


class _Standardised(nn.Module):
    """Subtracts a mean and divides by a spread: of each channel, or of each column of flat rows."""

    mean: Tensor
    spread: Tensor

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        axes = (0, *range(2, inputs.ndim))
        spread = inputs.std(dim=axes, correction=0, keepdim=True)[0]
        self.register_buffer("mean", inputs.mean(dim=axes, keepdim=True)[0])
        self.register_buffer("spread", torch.where(spread > 0, spread, 1))

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.spread


def _network(inputs: Tensor, outputs: int) -> nn.Sequential:
    """Convolutions for images [N, C, H, W] and series [N, C, T], dense layers for all else."""
    axes = inputs.ndim - 2
    parts: list[nn.Module] = [_Standardised(inputs)]
    size = math.prod(inputs.shape[1:])
    if axes in _SMALL_ENOUGH:
        stages, channels = _convolutions(inputs.shape[1], inputs.shape[2:])
        parts += stages
        halvings = len(stages) // 2
        size = channels * math.prod(-(-length // 2**halvings) for length in inputs.shape[2:])
    dense = [nn.Flatten(), nn.Linear(size, _HIDDEN), nn.ReLU()]
    if axes not in _SMALL_ENOUGH:
        dense += [nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU()]
    return nn.Sequential(*parts, *dense, nn.Linear(_HIDDEN, outputs))


def _convolutions(channels: int, lengths: torch.Size) -> tuple[list[nn.Module], int]:
    """Convolutions that halve every axis until the longest is small, and the channels they end with."""
    axes = len(lengths)
    kind = nn.Conv2d if axes == 2 else nn.Conv1d  # noqa: PLR2004 - height and width
    stages: list[nn.Module] = []
    for number in range(max(1, math.ceil(math.log2(max(lengths) / _SMALL_ENOUGH[axes])))):
        width = _WIDTHS[min(number, len(_WIDTHS) - 1)]
        stages += [kind(channels, width, 3, stride=2, padding=1), nn.ReLU()]
        channels = width
    return stages, channels
