"""robustness.spatial: images turned and shifted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from audit.attack.space import refuse_outside
from audit.check import check
from audit.checks.robustness.curve import Rows
from audit.checks.robustness.self_checks import slack
from audit.dataset import Dataset, Doubles, Ints, sample_rows
from audit.errors import ConfigError, NotApplicable
from audit.evidence import Altered, Evidence, Figure, Measure, Table
from audit.shift.outcome import Flags, changed, groups, mean_share, still_right
from audit.stats import proportion

if TYPE_CHECKING:
    from torch import Tensor

    from audit.model import Model
    from audit.products.predictions import Predictions

_IMAGE_AXES = 4
_PURPOSE = "spatial"


@dataclass(frozen=True)
class _Frame:
    """What stays the same over the whole search.

    Attributes:
        model: the network.
        data: the rows.
        rows: [R] indices of the rows looked at.
        correct: [R] classified correctly without a move; only these are searched.
        padding: what stands where nothing was.
        low: the smallest valid value.
        high: the largest valid value.
    """

    model: Model
    data: Dataset
    rows: Ints
    correct: Flags
    padding: Literal["zeros", "edge"]
    low: float
    high: float


@dataclass(frozen=True)
class _Found:
    """What one grid of moves brought about.

    Attributes:
        settings: the bounds, for the measures.
        fooled: [R] a verified move that fools the model was found.
        moves: [R, 3] that move; no movement where none was found.
        tried: number of moves in the grid, those of smaller grids within it included.
        rejected: claims that a fresh pass did not confirm.
    """

    settings: Mapping[str, float]
    fooled: Flags
    moves: Doubles
    tried: int
    rejected: int


@dataclass(frozen=True)
class _Drawn:
    """One random move of each row: [R, 3] the moves, [R] whether the model is right under them."""

    moves: Doubles
    right: Flags


@check(
    "robustness.spatial",
    needs={"logits"},
    modality={"image"},
    measures={"clean_accuracy", "robust_accuracy", "attack_success_rate", "average_accuracy"},
)
def spatial(
    model: Model,
    data: Dataset,
    predictions: Predictions,
    seed: int,
    *,
    rotation: Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)] = 30.0,
    translation: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.1,
    angles: Annotated[int, Field(ge=2)] = 9,
    shifts: Annotated[int, Field(ge=2)] = 3,
    draws: Annotated[int, Field(ge=1)] = 5,
    padding: Literal["zeros", "edge"] = "zeros",
    rows: Rows | None = 1000,
    justification: str = "",
) -> Evidence:
    """Accuracy when images are turned and shifted.

    Each image is turned about its middle and shifted, over a grid of angles and shifts, and counts as robust
    only if the model is right for every move of the grid. `robust_accuracy` is given for turning alone, for
    shifting alone and for both at once; `attack_success_rate` is the share of the correctly classified rows
    for which the grid holds a move that fools the model. `average_accuracy` is the accuracy under moves drawn
    at random within the same bounds, and needs no adversary: it is what a badly placed camera does. Rows that
    were wrong before are not searched and count as not robust. Every move that fooled the model was applied
    again, and counts only if a fresh pass of the model is wrong again. Moved images stay in the valid range.

    It answers whether decisions hang on how an object is placed in the picture. It does not answer what other
    changes of view do (size, perspective), and a finer grid may find more: robust accuracy is an upper bound.
    Source: Engstrom et al., 2019, arXiv:1712.02779, whose grid is finer: 31 angles and 5 by 5 shifts.

    Settings: `rotation` (degrees, to either side), `translation` (share of the side, in each direction),
    `angles` and `shifts` (points of the grid from bound to bound), `draws` (random moves of each row),
    `padding` (zeros: what moves in is the smallest valid value, black; edge: the nearest pixel of the border
    is repeated), `rows` (how many rows, drawn by the audit's seed; none for all), `justification` (why these
    bounds).
    """
    if data.inputs.ndim != _IMAGE_AXES or min(data.inputs.shape[2:]) <= 1:
        raise NotApplicable(
            f"the inputs have the shape {list(data.inputs.shape[1:])}; turning needs images [channels, "
            "height, width] of more than one pixel in each direction."
        )
    if rotation == 0 and translation == 0:
        raise ConfigError("rotation = 0 and translation = 0 leave nothing to move; set one of them above 0.")
    chosen = sample_rows(data, len(data) if rows is None else rows, seed)
    low, high = _range(model, data)
    frame = _Frame(model, data, chosen, predictions.correct[chosen], padding, low, high)
    found = _search(frame, rotation, translation, angles, shifts)
    drawn = [_at_random(frame, rotation, translation, attempt, seed) for attempt in range(draws)]
    measures = list(_measures(frame, found, np.mean([part.right for part in drawn], axis=0)))
    return Evidence(
        measures=measures,
        tables=(_table(frame, found),),
        figures=tuple(_figures(measures, data)),
        caveats=tuple(_caveats(frame, justification)),
        altered=partial(_altered, frame, found, drawn),
    )


def _range(model: Model, data: Dataset) -> tuple[float, float]:
    """The valid range as stated, which the data must keep; else that of the data."""
    if model.input_range is None:
        return float(data.inputs.min()), float(data.inputs.max())
    refuse_outside(data, *model.input_range)
    return model.input_range


def _search(frame: _Frame, rotation: float, translation: float, angles: int, shifts: int) -> list[_Found]:
    """Turns alone, shifts alone, then all the rest of the grid on what withstood both."""
    from audit.shift.spatial import grid

    parts = [(rotation, 0.0), (0.0, translation)]
    found = [
        _over(frame, grid(turn, shift, angles, shifts), frame.correct, turn, shift)
        for turn, shift in parts
        if turn or shift
    ]
    if len(found) < len(parts):
        return found
    moves = grid(rotation, translation, angles, shifts)
    both = moves[(moves[:, 0] != 0) & (moves[:, 1:] != 0).any(axis=1)]
    fallen = found[0].fooled | found[1].fooled
    rest = _over(frame, both, frame.correct & ~fallen, rotation, translation)
    tried = sum(part.tried for part in (*found, rest))
    # Shifts were searched on rows that had fallen to a turn too; one move of each row is kept.
    by_shift = np.where(found[0].fooled[:, None], 0.0, found[1].moves)
    moves = found[0].moves + by_shift + rest.moves
    return [*found, _Found(rest.settings, fallen | rest.fooled, moves, tried, rest.rejected)]


def _over(frame: _Frame, moves: Doubles, searched: Flags, rotation: float, translation: float) -> _Found:
    """Every move in turn on the rows still standing; fooled rows leave, and are judged again at the end."""
    standing = np.flatnonzero(searched)
    chosen = np.zeros((len(frame.rows), 3))
    for move in moves:
        if not len(standing):
            break
        holds = _holds(frame, standing, np.tile(move, (len(standing), 1)))
        chosen[standing[~holds]] = move
        standing = standing[holds]
    claimed = np.flatnonzero(searched & ~np.isin(np.arange(len(searched)), standing))
    confirmed = claimed[~_holds(frame, claimed, chosen[claimed])]
    fooled = np.zeros(len(searched), dtype=np.bool_)
    fooled[confirmed] = True
    chosen[~fooled] = 0.0
    settings = {"rotation": rotation, "translation": translation}
    return _Found(settings, fooled, chosen, len(moves), len(claimed) - len(confirmed))


def _holds(frame: _Frame, places: Ints, moves: Doubles) -> Flags:
    """[n] whether the model is right on the rows at `places` (in the sample), each moved by its own move."""
    order = frame.rows[places]
    flags, _ = still_right(frame.model, frame.data, order, partial(_move, frame, order, moves))
    return flags


def _move(frame: _Frame, order: Ints, moves: Doubles, images: Tensor, rows: Ints) -> Tensor:
    """`order` is ascending, so that the moves of a batch are found by its rows."""
    from audit.shift.spatial import moved

    mine = moves[np.searchsorted(order, rows)].astype(np.float32)
    return moved(images, frame.model.tensor(mine), frame.padding, frame.low).clamp(frame.low, frame.high)


def _at_random(frame: _Frame, rotation: float, translation: float, attempt: int, seed: int) -> _Drawn:
    """A random move of each row within the bounds."""
    import torch

    from audit.draws import Draws

    bounds = np.array([rotation, translation, translation])
    numbers = Draws(frame.rows, seed, f"{_PURPOSE} {attempt}", torch.device("cpu")).uniform((3,))
    moves = (numbers.numpy().astype(np.float64) * 2 - 1) * bounds
    return _Drawn(moves, _holds(frame, np.arange(len(frame.rows)), moves))


def _altered(
    frame: _Frame, found: Sequence[_Found], drawn: Sequence[_Drawn], item: Measure
) -> Iterator[Altered]:
    """The moves behind a number, with the rows that were right and fell to each."""
    if item.name == "average_accuracy":
        for attempt, draw in enumerate(drawn):
            words = f"{_named(item.settings)} at random, draw {attempt + 1}"
            yield _moved_rows(frame, words, frame.correct & ~draw.right, draw.moves)
    for part in found:
        if item.name != "average_accuracy" and part.settings == item.settings:
            for move in np.unique(part.moves[part.fooled], axis=0):
                mine = part.fooled & (part.moves == move).all(axis=1)
                yield _moved_rows(frame, _worded(move), mine, part.moves)


def _moved_rows(frame: _Frame, words: str, fell: Flags, moves: Doubles) -> Altered:
    change = partial(_move, frame, frame.rows, moves)
    return Altered(words=words, rows=frame.rows[fell], make=partial(changed, frame.model, frame.data, change))


def _worded(move: Doubles) -> str:
    turn, down, right = move.tolist()
    words = [f"turned by {turn:g} degrees"] if turn else []
    shifted = f"shifted by {down:.3g} of the height and {right:.3g} of the width"
    return " and ".join([*words, *([shifted] if down or right else [])])


def _doubt(parts: Sequence[_Found], frame: _Frame) -> str:
    """Why the rows that withstood may be too many: moves that fooled the model once and not again."""
    lost = sum(part.rejected for part in parts)
    return f"{lost} claimed examples did not hold" if lost > slack(int(frame.correct.sum())) else ""


def _measures(frame: _Frame, found: Sequence[_Found], shares: Doubles) -> Iterator[Measure]:
    for group, members in groups(frame.data, frame.rows):
        total, correct = int(members.sum()), int((frame.correct & members).sum())
        nobody = "" if correct else f"0 of {total} rows are classified correctly, so none was searched"
        yield proportion("clean_accuracy", correct, total, group=group, better="higher")
        for number, part in enumerate(found):
            fallen = int((part.fooled & members).sum())
            # Moves of both kinds go on from what turns and shifts alone left standing.
            doubt = _doubt(found if number > 1 else [part], frame)
            common: dict[str, Any] = {"group": group, "settings": part.settings, "unreliable": doubt}
            yield proportion("robust_accuracy", correct - fallen, total, better="higher", **common)
            yield proportion("attack_success_rate", fallen, correct, better="lower", reason=nobody, **common)
        mine = shares[members].tolist()
        settings = found[-1].settings
        yield mean_share("average_accuracy", mine, group=group, settings=settings, better="higher")


def _table(frame: _Frame, found: Sequence[_Found]) -> Table:
    wrong = int((~frame.correct).sum())
    return Table(
        name="counts",
        title="What became of the rows",
        columns=("moves", "in the grid", "rows", "already wrong", "fooled", "withstood", "not confirmed"),
        rows=[
            (
                _named(part.settings),
                part.tried,
                len(frame.rows),
                wrong,
                int(part.fooled.sum()),
                len(frame.rows) - wrong - int(part.fooled.sum()),
                part.rejected,
            )
            for part in found
        ],
        note="Rows already wrong are not searched and count as not robust. Not confirmed: a fresh pass on "
        "the same moved image was right, so the row counts as standing.",
    )


def _named(settings: Mapping[str, Any]) -> str:
    turn, shift = settings["rotation"], settings["translation"]
    words = [f"turned up to {turn:g} degrees"] if turn else []
    words += [f"shifted up to {shift:.3g} of the side"] if shift else []
    return " and ".join(words)


def _figures(measures: Sequence[Measure], data: Dataset) -> Iterator[Figure]:
    """Bars for the whole, and for each sensitive feature bars of the groups under the whole grid."""
    kinds = ("clean_accuracy", "average_accuracy", "robust_accuracy")
    order = [m for kind in kinds for m in measures if m.name == kind and not m.group]
    known = [m for m in order if m.value is not None]
    yield _bars("accuracy", "Accuracy when images are moved", [(_label(m), m) for m in known])
    last = [m for m in measures if m.name == "robust_accuracy" and not m.group][-1].settings
    for feature in data.sensitive:
        mine = [
            (m.group[feature], m)
            for m in measures
            if m.name == "robust_accuracy"
            and set(m.group) == {feature}
            and m.settings == last
            and m.value is not None
        ]
        yield _bars(f"robust_accuracy_by_{feature}", f"Robust accuracy under moves by {feature}", mine)


def _label(item: Measure) -> str:
    if item.name == "clean_accuracy":
        return "not moved"
    how = "at random, " if item.name == "average_accuracy" else "worst, "
    return how + _named(item.settings)


def _bars(name: str, title: str, bars: Sequence[tuple[str, Measure]]) -> Figure:
    told = ", ".join(f"{label} {item.value:.3f}" for label, item in bars)
    return Figure(
        name=name,
        title=f"{title}: {told}" if told else title,
        kind="bars",
        alt=f"{title}. {told}.",
        data={
            "labels": [label for label, _ in bars],
            "values": [item.value for _, item in bars],
            "low": [item.value if item.low is None else item.low for _, item in bars],
            "high": [item.value if item.high is None else item.high for _, item in bars],
        },
    )


def _caveats(frame: _Frame, justification: str) -> Iterator[str]:
    yield "A grid that fools nobody proves nothing between its points: robust accuracy is an upper bound."
    if frame.padding == "zeros":
        known = "" if frame.model.input_range else ", the smallest of the data, as no input_range is stated"
        yield f"What moves into the picture has the value {frame.low:g}{known}."
    else:
        yield "What moves into the picture repeats the nearest pixel of the border."
    if justification:
        yield f"Why these bounds: {justification}"
    else:
        yield (
            "Nobody has stated why these are the turns and shifts that the model will meet; say so in the "
            "setting 'justification'."
        )
    if len(frame.rows) < len(frame.data):
        yield f"{len(frame.rows)} of {len(frame.data)} rows were looked at, drawn by the seed of the audit."
