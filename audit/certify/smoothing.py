"""Randomised smoothing (Cohen, Rosenfeld and Kolter, 2019, arXiv:1902.02918).

The smoothed classifier answers with the class that the model gives most often when Gaussian noise is added
to the input. If that class has probability p > 1/2, no change shorter than sigma * Phi^-1(p) (Euclidean, in
the unit of the noise) changes the smoothed answer. p is bounded below from a finite number of draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Floats, Ints
from audit.model import Model

NONE = -1
"""The class of an abstention, and of an output that is not a finite number."""

_STREAM = 3


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How the noise is drawn and how sure a certificate must be.

    Attributes:
        sigma: standard deviation of the noise, in `unit`s.
        selection: draws that choose the class.
        samples: further draws that bound its probability.
        alpha: probability that a row's certificate is wrong.
        seed: seed of the draws; each row and draw has its own.
    """

    sigma: float
    selection: int
    samples: int
    alpha: float
    seed: int


@dataclass(frozen=True)
class Smoothed:
    """What the smoothed classifier says about each of n rows.

    Attributes:
        classes: [n] its class; `NONE` where it abstains.
        radii: [n] radius within which that class provably stays, in `unit`s; 0 where it abstains.
        lost: [n] draws for which the model's output was not a finite number.
    """

    classes: Ints
    radii: Floats
    lost: Ints


def smooth(model: Model, inputs: Floats, unit: Floats, rows: Ints, how: Smoothing) -> Smoothed:
    """Certify the smoothed classifier on some rows of a data set.

    Args:
        model: the base classifier. It sees noisy inputs, also outside the valid range.
        inputs: [N, ...] raw inputs of the whole data set.
        unit: one row's shape: how far one unit of noise moves each coordinate; 0 where it is fixed.
        rows: [n] the rows to certify.
        how: noise and certainty.
    """
    answers = _answers(model, inputs, unit, rows, how)
    width = int(answers.max(initial=0)) + 1
    classes = np.full(len(rows), NONE, dtype=np.int64)
    radii = np.zeros(len(rows), dtype=np.float32)
    for index, row in enumerate(answers):
        chosen = _most_frequent(row[: how.selection], width)
        hits = int((row[how.selection :] == chosen).sum()) if chosen != NONE else 0
        found = radius(hits, how.samples, how.alpha, how.sigma)
        if found > 0:
            classes[index], radii[index] = chosen, found
    return Smoothed(classes, radii, (answers == NONE).sum(axis=1))


def radius(hits: int, samples: int, alpha: float, sigma: float) -> float:
    """Radius that `hits` of `samples` draws certify with probability 1 - alpha; 0 means abstain.

    sigma * Phi^-1(p) with p the one-sided Clopper-Pearson lower bound; 0 where p is at most 1/2.
    """
    from scipy.special import betaincinv

    least = float(betaincinv(hits, samples - hits + 1, alpha)) if hits else 0.0
    return sigma * NormalDist().inv_cdf(least) if least > 0.5 else 0.0  # noqa: PLR2004 - a majority


def largest_radius(how: Smoothing) -> float:
    """The radius of a row for which every draw gives the same class; no row can be certified further."""
    return radius(how.samples, how.samples, how.alpha, how.sigma)


def gaussian(shape: tuple[int, ...], rows: Ints, draws: Ints, seed: int) -> Floats:
    """Standard normal noise, [n, *shape], one independent draw for each pair of a row and a draw number.

    One Philox key, with the row and the draw as the upper words of its counter: a draw depends on nothing
    but the seed, its row and its number.
    """
    out = np.empty((len(rows), *shape), dtype=np.float32)
    for values, generator in zip(out, _generators(rows, draws, seed), strict=True):
        generator.standard_normal(dtype=np.float32, out=values)
    return out


def _generators(rows: Ints, draws: Ints, seed: int) -> Iterator[np.random.Generator]:
    philox = np.random.Philox(key=np.random.SeedSequence([seed, _STREAM]).generate_state(2, np.uint64))
    generator, state = np.random.Generator(philox), philox.state
    for row, draw in zip(rows, draws, strict=True):
        state["state"]["counter"][:] = (0, 0, draw, row)
        philox.state = state
        yield generator


def _answers(model: Model, inputs: Floats, unit: Floats, rows: Ints, how: Smoothing) -> Ints:
    """[n, draws] the model's class for each noisy copy; `NONE` where its scores are not finite."""
    each = how.selection + how.samples
    scale = model.tensor(unit) * how.sigma

    def work(part: slice) -> tuple[Tensor]:
        at, draw = np.divmod(np.arange(part.start, part.stop), each)
        noise = model.tensor(gaussian(unit.shape, rows[at], draw, how.seed))
        with torch.no_grad():
            scores = model.scores(model.tensor(inputs[rows[at]]) + noise * scale)
        usable = scores.isfinite().all(dim=1)
        return (torch.where(usable, scores.argmax(dim=1), NONE).cpu(),)

    return model.in_batches(work, len(rows) * each)[0].numpy().reshape(len(rows), each)


def _most_frequent(answers: Ints, width: int) -> int:
    """The class most often answered, the first of equals; `NONE` where no answer was finite."""
    counts = np.bincount(answers[answers != NONE], minlength=width)
    return int(counts.argmax()) if counts.any() else NONE
