"""APGD over one batch of rows: PGD whose step size follows what each row's loss does, and no one chooses it.

Steps start at the diameter of the ball. At checkpoints that come ever closer a row whose loss has stopped
rising halves its step and goes back to its best point. Success is read from the pass that gives the
gradient, and a fooled row leaves the batch, as in `audit.attack.loop`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.attack.loop import Found, unusable
from audit.attack.loss import Loss, likeliest_wrong, objective, wrong
from audit.attack.norm import Ball, Norm, direction, displaced, per_row, project, rising
from audit.model import Model

_EARLY_SHARE = 0.75
_MOMENTUM = 0.25
_WHOLE = 100
_STEPS_BETWEEN_COMPACTIONS = {"cpu": 1}
_STEPS_BETWEEN_COMPACTIONS_ELSEWHERE = 5
_L1_FIRST_SHARE = 0.2
_L1_PERIOD = 0.04
_L1_FEWER = 1.5
_L1_SHORTEST = 0.1
_L1_SAME = 0.95


@dataclass(frozen=True, kw_only=True)
class Apgd:
    """How APGD walks.

    Attributes:
        norm: the ball's norm. In l1 the steps are sparse and adapt to how sparse the best point is.
        steps: gradient steps.
        restarts: how often each row that still stands is tried, each time from a start of its own.
        loss: what is raised; `dlr` needs 3 classes, 4 with targets.
        targets: push each row to this many of the likeliest wrong classes in turn; 0 pushes away from the
            true class alone. Any misclassification counts.
        rho: a row halves its step when its loss rose in fewer than this share of the steps.
    """

    norm: Norm = "linf"
    steps: int = 100
    restarts: int = 1
    loss: Loss = "cross_entropy"
    targets: int = 0
    rho: float = 0.75


@dataclass(frozen=True)
class Climbed(Found):
    """What APGD claims about n rows, and whether it was still climbing.

    `points` holds the best point, the one with the largest loss, of a row that was not fooled.

    Attributes:
        before: [n] largest loss in the first three quarters of the steps; minus infinity without a step.
        best: [n] largest loss of all.
    """

    before: Tensor
    best: Tensor


def apgd(
    model: Model,
    labels: Tensor,
    inside: Ball,
    attack: Apgd,
    offset: Tensor | None,
    target: Tensor | None = None,
) -> Climbed:
    """Adaptive gradient steps with momentum; a row stops at the first point that fools.

    S steps cost S gradients and one more forward pass, over the rows that still stand; with targets one
    forward pass more, and this for each target. Source: Croce and Hein, 2020, arXiv:2003.01690; for l1
    Croce and Hein, 2021, arXiv:2103.01208, without its schedule of larger radii.

    Args:
        model: the network.
        labels: [n] true classes.
        inside: the ball around the rows, of the attack's norm.
        attack: how to walk. With epsilon 0 no step is made.
        offset: [n, ...] random start in epsilons; None starts from the rows.
        target: [n] class that each row is pushed to, in place of the attack's own targets.

    Raises:
        NotApplicable: the loss is not defined for so few classes.
    """
    if attack.targets and target is None and inside.epsilon > 0:
        return _towards_each(model, labels, inside, attack, offset)
    start = inside.centre if offset is None else displaced(inside, offset)
    found = _nothing_yet(start, labels)
    for part in _parts(model, labels):
        aim = None if target is None else target[part]
        climb = _begin(part, start[part], labels[part], inside.take(part), attack, aim)
        _climb(model, climb, attack, found)
    return found


def checkpoints(steps: int) -> tuple[int, ...]:
    """The passes after which rows may halve their step: 22 % of the steps, then ever closer, at least 6 %."""
    percent = [0, 22]
    while percent[-1] <= _WHOLE:
        percent.append(percent[-1] + max(percent[-1] - percent[-2] - 3, 6))
    return tuple(sorted({-(-share * steps // _WHOLE) for share in percent[1:-1]}))


def _towards_each(model: Model, labels: Tensor, inside: Ball, attack: Apgd, offset: Tensor | None) -> Climbed:
    """One walk to each target, of the rows that withstood the ones before."""
    found = _nothing_yet(inside.centre, labels)
    found.zero[:], found.nan[:] = True, True
    with torch.no_grad():
        scores = [model.scores(inside.centre[part]) for part in _parts(model, labels)]
    targets = likeliest_wrong(torch.cat(scores), labels, attack.targets)
    for target in targets.unbind(dim=1):
        left = (~found.fooled).nonzero().flatten()
        if not len(left):
            break
        start = None if offset is None else offset[left]
        tried = apgd(model, labels[left], inside.take(left), attack, start, target[left])
        found.fooled[left], found.points[left], found.late[left] = tried.fooled, tried.points, tried.late
        found.zero[left] &= tried.zero
        found.nan[left] &= tried.nan
        found.before[left], found.best[left] = tried.before, tried.best
    return found


def _parts(model: Model, labels: Tensor) -> tuple[Tensor, ...]:
    """The row numbers, as many at a time as the device takes."""
    return torch.split(torch.arange(len(labels), device=labels.device), max(1, model.passes.batch))


@dataclass
class _Climb:
    """The k rows that still stand. Every tensor is [k] or [k, ...].

    Attributes:
        index: which row of the result each is.
        labels: true classes.
        targets: classes they are pushed to, if any.
        inside: their ball.
        points: where they are.
        previous: where they were one step before.
        gradient: of the loss there.
        top: the point with the largest loss.
        slope: the gradient there.
        best: that loss.
        before: the same as of three quarters of the steps.
        checked: the same as of the last checkpoint.
        loss: the loss of the last pass.
        rises: in how many passes since the last checkpoint the loss rose.
        length: step size.
        halved: whether it was halved at the last checkpoint.
        share: for l1, the share of the coordinates that a step moves.
        count: for l1, how many coordinates of the best point had moved at the last checkpoint.
        passes: how many passes they withstood.
        fooled: misclassified, and waiting to leave.
        zero: the last gradient was zero.
        nan: the last gradient held a value that is not a finite number.
    """

    index: Tensor
    labels: Tensor
    targets: Tensor | None
    inside: Ball
    points: Tensor
    previous: Tensor
    gradient: Tensor
    top: Tensor
    slope: Tensor
    best: Tensor
    before: Tensor
    checked: Tensor
    loss: Tensor
    rises: Tensor
    length: Tensor
    halved: Tensor
    share: Tensor
    count: Tensor
    passes: Tensor
    fooled: Tensor
    zero: Tensor
    nan: Tensor


def _begin(
    index: Tensor, start: Tensor, labels: Tensor, inside: Ball, attack: Apgd, targets: Tensor | None
) -> _Climb:
    none = torch.full_like(start.flatten(1).sum(dim=1), -torch.inf)
    no = torch.zeros_like(labels, dtype=torch.bool)
    first = inside.epsilon if attack.norm == "l1" else 2 * inside.epsilon
    return _Climb(
        index=index,
        labels=labels,
        targets=targets,
        inside=inside,
        points=start,
        previous=start,
        gradient=torch.zeros_like(start),
        top=start,
        slope=torch.zeros_like(start),
        best=none,
        before=none,
        checked=none,
        loss=none,
        rises=torch.zeros_like(none),
        length=torch.full_like(none, first),
        halved=~no,
        share=torch.full_like(none, _L1_FIRST_SHARE),
        count=(inside.unit > 0).sum().to(none).expand_as(none),
        passes=torch.zeros_like(labels),
        fooled=no,
        zero=no,
        nan=no,
    )


def _climb(model: Model, climb: _Climb, attack: Apgd, found: Climbed) -> None:
    """Step after step until every row is fooled or has made its steps; the last point gets a look alone."""
    every = _STEPS_BETWEEN_COMPACTIONS.get(model.device.type, _STEPS_BETWEEN_COMPACTIONS_ELSEWHERE)
    steps = attack.steps if climb.inside.epsilon > 0 else 0
    check, at = (_thin, _l1_checkpoints(steps)) if attack.norm == "l1" else (_check, checkpoints(steps))
    last = 0
    for step in range(steps):
        _look(model, climb, attack, last=step == steps - 1)
        if step < _EARLY_SHARE * steps:
            climb.before = climb.best
        if step in at:
            check(climb, attack.rho * (step - last))
            last = step
        _move(climb, first=step == 0)
        if (step + 1) % every == 0:
            _compact(climb, attack, found)
        if not len(climb.index):
            return
    with torch.no_grad():
        scores = model.scores(climb.points)
    _judge(climb, scores, attack, climb.gradient)
    _write(climb, attack, found)


def _look(model: Model, climb: _Climb, attack: Apgd, *, last: bool) -> None:
    """One gradient pass. Only the last gradient is examined, as in `audit.attack.loop`."""
    raised = objective(attack.loss, climb.labels, climb.targets)
    gradient, scores = model.input_gradient(climb.points, raised)
    if last:
        climb.zero, climb.nan = unusable(gradient, climb.inside.unit)
    climb.gradient = torch.nan_to_num(gradient)
    _judge(climb, scores, attack, climb.gradient)
    climb.passes = climb.passes + ~climb.fooled


def _judge(climb: _Climb, scores: Tensor, attack: Apgd, gradient: Tensor) -> None:
    """Note what one pass showed: who is fooled, whose loss rose, and the best point so far."""
    standing = ~climb.fooled
    climb.fooled = climb.fooled | wrong(scores, climb.labels)
    loss = objective(attack.loss, climb.labels, climb.targets)(scores).to(climb.best)
    climb.rises = climb.rises + ((loss > climb.loss) & climb.loss.isfinite())
    climb.loss = loss
    better = (loss > climb.best) & standing
    climb.best = torch.where(better, loss, climb.best)
    climb.top = torch.where(per_row(better, climb.top), climb.points, climb.top)
    climb.slope = torch.where(per_row(better, climb.slope), gradient, climb.slope)


def _check(climb: _Climb, enough: float) -> None:
    """Rows whose loss rose too seldom, or whose best has not moved since, halve their step and go back."""
    stuck = (climb.best <= climb.checked) & ~climb.halved
    climb.halved = (climb.rises < enough) | stuck
    climb.length = torch.where(climb.halved, climb.length / 2, climb.length)
    climb.rises, climb.checked = torch.zeros_like(climb.rises), climb.best
    _go_back(climb, climb.halved)


def _thin(climb: _Climb, _: float) -> None:
    """For l1: steps as sparse as the best point; a longer step again where that became sparser."""
    inside = climb.inside
    count = ((climb.top != inside.centre) & (inside.unit > 0)).flatten(1).sum(dim=1).to(climb.count)
    sparser = count < _L1_SAME * climb.count
    climb.share = count / (inside.unit > 0).sum() / _L1_FEWER
    longest = inside.epsilon
    length = torch.where(sparser, longest, climb.length / _L1_FEWER)
    climb.length, climb.count = length.clamp(min=_L1_SHORTEST * longest), count
    _go_back(climb, sparser)


def _go_back(climb: _Climb, rows: Tensor) -> None:
    """These rows go on from their best point."""
    climb.points = torch.where(per_row(rows & ~climb.fooled, climb.points), climb.top, climb.points)
    climb.gradient = torch.where(per_row(rows, climb.gradient), climb.slope, climb.gradient)


def _move(climb: _Climb, *, first: bool) -> None:
    """One step, for linf and l2 with momentum; rows that are fooled stay where they are."""
    inside, here = climb.inside, climb.points
    slope = rising(inside, here, climb.gradient) if inside.norm == "l1" else climb.gradient
    step = direction(inside.norm, slope, inside.unit, climb.share)
    moved = project(inside, here + per_row(climb.length, here) * step)
    if inside.norm != "l1" and not first:
        back = here - climb.previous
        moved = project(inside, here + (1 - _MOMENTUM) * (moved - here) + _MOMENTUM * back)
    climb.previous = here
    climb.points = torch.where(per_row(climb.fooled, here), here, moved)


def _compact(climb: _Climb, attack: Apgd, found: Climbed) -> None:
    """Let fooled rows leave the batch. The only place that waits for an accelerator."""
    keep = ~climb.fooled
    if bool(keep.all()):
        return
    _write(climb, attack, found)
    for name, value in vars(climb).items():
        if isinstance(value, Tensor):
            setattr(climb, name, value[keep])
    climb.inside = climb.inside.take(keep)


def _write(climb: _Climb, attack: Apgd, found: Climbed) -> None:
    index, fooled = climb.index, climb.fooled
    found.fooled[index] = fooled
    found.points[index] = torch.where(per_row(fooled, climb.points), climb.points, climb.top)
    found.zero[index], found.nan[index] = climb.zero, climb.nan
    found.late[index] = fooled & (climb.passes >= _EARLY_SHARE * attack.steps)
    found.before[index], found.best[index] = climb.before, climb.best


def _nothing_yet(start: Tensor, labels: Tensor) -> Climbed:
    flags = [torch.zeros_like(labels, dtype=torch.bool) for _ in range(4)]
    fooled, zero, nan, late = flags
    before, best = (start.new_full(labels.shape, -torch.inf) for _ in range(2))
    return Climbed(
        fooled=fooled, points=start.clone(), zero=zero, nan=nan, late=late, before=before, best=best
    )


def _l1_checkpoints(steps: int) -> tuple[int, ...]:
    period = max(1, int(_L1_PERIOD * steps))
    return tuple(range(period, steps, period))
