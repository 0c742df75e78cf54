"""LIME for many rows at once: shared perturbations, then one batched ridge regression a block of rows.

Source: Ribeiro, Singh and Guestrin 2016; kernel width, ridge penalty and distances as in their package.
Tables are perturbed around the row itself and are not cut into intervals.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset
from audit.explain.attribution import Doubles
from audit.explain.quantity import Output, quantity
from audit.model import Model

RIDGE = 1.0
TABLE_WIDTH = 0.75
IMAGE_WIDTH = 0.25
_GROUPS = 4
_BLOCK_ELEMENTS = 2**22
Neighbourhood = Callable[[slice], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Surrogates:
    """Local linear models of N rows.

    Attributes:
        coefficients: [N, M] effect of one unit of each interpretable feature.
        intercept: [N] the surrogate where every interpretable feature is 0.
        local: [N] the surrogate's prediction at the row itself.
        r2: [N] weighted R2 over the perturbed rows; NaN where the model does not vary there.
        standard_error: [N, M] from four sub-samples of the same perturbed rows.
    """

    coefficients: Doubles
    intercept: Doubles
    local: Doubles
    r2: Doubles
    standard_error: Doubles


@dataclass(frozen=True)
class Noise:
    """Perturbations of a table, shared by all rows: `row * keep + offset` is a neighbour.

    Attributes:
        keep: [D] 1 where a neighbour is the row plus noise, 0 where its value is drawn from the data.
        offset: [S, D] what is added.
        units: [S, M] the noise in standard deviations; 0 for categorical features.
        categorical: for each categorical feature its index and its columns.
    """

    keep: Tensor
    offset: Tensor
    units: Tensor
    categorical: tuple[tuple[int, tuple[int, ...]], ...]


def draw_noise(data: Dataset, owner: Tensor, features: int, samples: int, seed: int) -> Noise:
    """Gaussian noise of each column's standard deviation; categories drawn from the data's own rows.

    A column that never varies in the data is not perturbed, so its coefficient is 0.
    """
    random = np.random.default_rng(seed)
    flat = data.inputs.reshape(len(data), -1)
    scale = flat.std(axis=0, dtype=np.float64)
    columns_of = owner.reshape(-1).cpu().numpy()
    units = random.standard_normal((samples, features))
    units[:, np.bincount(columns_of, weights=scale, minlength=features) == 0] = 0
    offset = units[:, columns_of] * scale
    keep = np.ones(flat.shape[1])
    categorical = []
    for index, feature in enumerate(data.features):
        if feature.kind == "categorical":
            columns = list(feature.columns)
            offset[:, columns] = flat[random.integers(len(data), size=samples)][:, columns]
            keep[columns], units[:, index] = 0, 0
            categorical.append((index, feature.columns))
    kept, added = torch.from_numpy(keep).float(), torch.from_numpy(offset).float()
    return Noise(kept, added, torch.from_numpy(units), tuple(categorical))


def table_values(model: Model, rows: Tensor, classes: Tensor, noise: Noise, output: Output) -> Tensor:
    """[N, S] the explained number at each row's neighbours, on the CPU. Costs N * S rows forward."""
    count = len(noise.offset)
    shape = rows.shape[1:]
    keep = noise.keep.to(rows.device).view(shape)
    offset = noise.offset.to(rows.device).view(-1, *shape)

    def neighbours(row: Tensor, sample: Tensor) -> Tensor:
        return torch.addcmul(offset[sample], rows[row], keep)

    return _values(model, neighbours, classes, count, output)


def table_neighbourhood(rows: Tensor, noise: Noise) -> Neighbourhood:
    """Interpretable features and weights of a block of rows, the row itself first.

    Without categories they are the same for all rows and given once.

    A numeric feature is its noise in standard deviations, a categorical one is 1 where the row's category
    was kept. The kernel is Gaussian of width 0.75 * sqrt(M) in these units.
    """
    flat = rows.flatten(1).cpu()
    itself = torch.zeros(1, noise.units.shape[1], dtype=torch.float64)
    units = torch.cat([itself, noise.units])
    numeric = units.square().sum(dim=1)
    width = TABLE_WIDTH * math.sqrt(units.shape[1])

    def block(part: slice) -> tuple[Tensor, Tensor]:
        own = flat[part] if noise.categorical else flat[:1]
        z = units.expand(len(own), *units.shape).clone()
        distance = numeric.expand(len(own), -1).clone()
        for index, columns in noise.categorical:
            same = (noise.offset[None, :, columns] == own[:, None, columns]).all(dim=2)
            z[:, 0, index], z[:, 1:, index] = 1, same.double()
            distance[:, 1:] += (~same).double()
        return z, (-distance / (2 * width**2)).exp()

    return block


def draw_masks(samples: int, segments: int, seed: int) -> Tensor:
    """[S, M] random masks: each segment stays with chance 1/2."""
    kept = np.random.default_rng(seed).random((samples, segments)) < 0.5  # noqa: PLR2004 - a fair coin
    return torch.from_numpy(kept)


def image_values(
    model: Model, rows: Tensor, classes: Tensor, masks: Tensor, segments: Tensor, fill: Tensor, output: Output
) -> Tensor:
    """[N, S] the explained number of each masked image, on the CPU. Costs N * S rows forward.

    Args:
        model: the network.
        rows: [N, C, H, W] raw images.
        classes: [N] class explained.
        masks: [S, M] segments that stay.
        segments: [N, H, W] segment of each pixel.
        fill: [N, C, H, W] what stands where a segment is hidden.
        output: which number is explained.
    """
    kept = masks.to(rows.device)

    def neighbours(row: Tensor, sample: Tensor) -> Tensor:
        owner = segments[row]
        visible = kept[sample].gather(1, owner.flatten(1)).view(len(row), 1, *owner.shape[1:])
        return torch.where(visible, rows[row], fill[row])

    return _values(model, neighbours, classes, len(masks), output)


def image_neighbourhood(masks: Tensor, segments: Tensor) -> Neighbourhood:
    """Masks and weights of a block of images, the whole image first; a segment that it lacks is always 0.

    One for all where each image has as many segments.

    The kernel has width 0.25 on the cosine distance to the whole image.
    """
    counts = segments.flatten(1).amax(dim=1).cpu() + 1
    whole = torch.cat([torch.ones(1, masks.shape[1], dtype=torch.bool), masks]).double()
    exists = (torch.arange(masks.shape[1]) < counts[:, None]).double()

    alike = bool(exists.all())

    def block(part: slice) -> tuple[Tensor, Tensor]:
        chosen = slice(0, 1) if alike else part
        z = whole[None] * exists[chosen, None]
        distance = 1 - (z.sum(dim=2) / counts[chosen, None]).sqrt()
        return z, (-distance.square() / (2 * IMAGE_WIDTH**2)).exp()

    return block


def segment_means(rows: Tensor, segments: Tensor) -> Tensor:
    """[N, C, H, W] each pixel replaced by the mean colour of its segment in that image."""
    flat, owner = rows.flatten(2), segments.flatten(1)
    index = owner[:, None].expand_as(flat)
    empty = flat.new_zeros(*flat.shape[:2], int(owner.max()) + 1)
    means = empty.scatter_reduce(2, index, flat, "mean", include_self=False)
    return means.gather(2, index).view_as(rows)


def fit_surrogates(neighbourhood: Neighbourhood, values: Tensor, features: int) -> Surrogates:
    """Weighted ridge regression for every row, in blocks that bound the memory.

    Args:
        neighbourhood: gives features [k, S + 1, M] and weights [k, S + 1] of a block of k rows, or with 1 for
            k where they are the same for all.
        values: [N, S + 1] the explained number, at the row itself first; on the CPU.
        features: M.
    """
    rows, samples = values.shape
    at_once = max(1, _BLOCK_ELEMENTS // ((features + 1) * max(samples, _GROUPS * (features + 1))))
    parts = []
    for start in range(0, rows, at_once):
        part = slice(start, min(rows, start + at_once))
        z, weights = neighbourhood(part)
        own = values[part].double()
        shared = len(z) == 1
        parts.append(_fit_shared(z[0], weights[0], own) if shared else _fit(z, weights, own))
    columns = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Surrogates(*columns)


def _fit(z: Tensor, weights: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """Coefficients, intercept, local prediction, R2 and standard error of a block of rows."""
    design = torch.cat([torch.ones_like(z[..., :1]), z], dim=2)
    grams, moments = [], []
    for group in range(_GROUPS):
        x, w, y = (item[:, group::_GROUPS] for item in (design, weights, values))
        weighted = (x * w[..., None]).transpose(1, 2)
        grams.append(weighted @ x)
        moments.append(weighted @ y[..., None])
    gram, moment = torch.stack(grams), torch.stack(moments)
    penalty = RIDGE * torch.eye(design.shape[2], dtype=design.dtype)
    penalty[0, 0] = 0
    solution = torch.linalg.solve(gram.sum(dim=0) + penalty, moment.sum(dim=0)).squeeze(2)
    subs = torch.linalg.solve(gram + penalty / _GROUPS, moment).squeeze(3)
    local = (design[:, 0] * solution).sum(dim=1)
    fitted = (design @ solution[..., None]).squeeze(2)
    error = subs.std(dim=0)[:, 1:] / math.sqrt(_GROUPS)
    return solution[:, 1:], solution[:, 0], local, _weighted_r2(values, fitted, weights), error


def _fit_shared(z: Tensor, weights: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """As `_fit`, for rows [k, S + 1] that share features [S + 1, M] and weights [S + 1]."""
    design = torch.cat([torch.ones_like(z[:, :1]), z], dim=1)
    weighted = design * weights[:, None]
    groups = [slice(group, None, _GROUPS) for group in range(_GROUPS)]
    gram = torch.stack([weighted[group].T @ design[group] for group in groups])
    moment = torch.stack([(values[:, group] @ weighted[group]).T for group in groups])
    penalty = RIDGE * torch.eye(design.shape[1], dtype=design.dtype)
    penalty[0, 0] = 0
    solution = torch.linalg.solve(gram.sum(dim=0) + penalty, moment.sum(dim=0)).T
    subs = torch.linalg.solve(gram + penalty / _GROUPS, moment)
    error = subs.std(dim=0)[1:].T / math.sqrt(_GROUPS)
    r2 = _weighted_r2(values, solution @ design.T, weights[None])
    return solution[:, 1:], solution[:, 0], solution @ design[0], r2, error


def _weighted_r2(values: Tensor, fitted: Tensor, weights: Tensor) -> Tensor:
    centre = (weights * values).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
    total = (weights * (values - centre).square()).sum(dim=1)
    left = (weights * (values - fitted).square()).sum(dim=1)
    smallest = 1e-20 * (weights * values.square()).sum(dim=1)
    return torch.where(total > smallest, 1 - left / total, torch.nan)


def _values(
    model: Model,
    neighbours: Callable[[Tensor, Tensor], Tensor],
    classes: Tensor,
    count: int,
    output: Output,
) -> Tensor:
    def work(part: slice) -> tuple[Tensor]:
        pair = torch.arange(part.start, part.stop, device=classes.device)
        row = pair // count
        scores = model.scores(neighbours(row, pair % count))
        return (quantity(scores, classes[row], output),)

    with torch.no_grad():
        (values,) = model.in_batches(work, len(classes) * count)
    return values.view(len(classes), count).float().cpu()
