"""What one feature does to the answer: partial dependence, individual curves and accumulated local effects.

Sources: Friedman 2001 (partial dependence); Goldstein et al. 2015 (individual conditional expectations);
Apley and Zhu 2020 (accumulated local effects, which keep to changes inside narrow bins, so that no row is
moved to where it could not be).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audit.dataset import Dataset, Feature, Ints
from audit.errors import ConfigError, NotApplicable, nearest
from audit.explain.attribution import Doubles
from audit.explain.features import layout
from audit.explain.quantity import Output, quantity
from audit.model import Model
from audit.stats import DEFAULT_LEVEL

_PAIR = 2


@dataclass(frozen=True)
class Places:
    """Where a feature is put.

    Attributes:
        inputs: [m, c] values of the feature's c columns.
        values: [m] the user's values of a number; the index of a category.
        names: [m] names of the categories; empty for a number.
        model_values: [m] values in the model's input; the index of a category.
    """

    inputs: Doubles
    values: Doubles
    names: tuple[str, ...]
    model_values: Doubles


@dataclass(frozen=True)
class LocalEffects:
    """Accumulated local effects of one number over K bins with K + 1 edges, in the model's input.

    Attributes:
        edges: [K + 1] ends of the bins, ascending; each bin holds a row.
        counts: [K] rows in each bin.
        bin: [n] bin of each row.
        change: [n] change of the answer when the row moves from the left to the right end of its bin.
        curve: [K + 1] accumulated effect at each edge; its mean over the rows is 0.
        low: [K + 1] lower end of the interval.
        high: [K + 1] upper end.
    """

    edges: Doubles
    counts: Ints
    bin: Ints
    change: Doubles
    curve: Doubles
    low: Doubles
    high: Doubles


def features_of(data: Dataset) -> tuple[Feature, ...]:
    """The described features, or one number for each column where none are described."""
    if data.features:
        return data.features
    names = layout(data).names
    return tuple(Feature(name=name, columns=(index,)) for index, name in enumerate(names))


def explained_class(data: Dataset, outcome: str, classes: int) -> tuple[int, str]:
    """Index and name of the one class that a global view speaks of.

    Args:
        data: its favourable outcome is taken where no class is named.
        outcome: a class name, or empty.
        classes: number of the model's outputs; of two without a favourable one the second is taken.

    Raises:
        ConfigError: no class has that name.
        NotApplicable: more than two classes, none favourable and none named; or one output.
    """
    if classes < _PAIR:
        raise NotApplicable("the model has one output and no classes, so there are no log-odds to explain.")
    names = [data.classes[i] if i < len(data.classes) else f"class {i}" for i in range(classes)]
    if outcome and outcome not in names:
        raise ConfigError(f"'outcome' = '{outcome}' is not a class{nearest(outcome, names)}.")
    if outcome:
        return names.index(outcome), outcome
    if data.favourable is not None:
        return data.favourable, names[data.favourable]
    if classes == _PAIR:
        return 1, names[1]
    raise NotApplicable(
        f"there are {classes} classes and none is favourable; set 'outcome' to the class to explain."
    )


def in_user_units(feature: Feature, values: Doubles) -> Doubles:
    """Values of the model's input as the user writes them; unchanged where an encoder keeps no proportion."""
    return values if feature.unit is None else feature.zero + feature.unit * values


def places_of(feature: Feature, flat: Doubles, points: int) -> Places:
    """Where to put a feature: about `points` + 1 quantiles of what was seen, or each category.

    Args:
        feature: one of the data's features.
        flat: [N, D] rows.
        points: number of bins between the quantiles; fewer where values are tied.
    """
    if feature.kind == "categorical":
        inputs = np.eye(len(feature.columns))
        names = tuple(feature.categories) or tuple(f"{feature.name} {i + 1}" for i in range(len(inputs)))
        if feature.dropped:
            inputs, names = np.concatenate([inputs, inputs[:1] * 0]), (*names, feature.dropped)
        index = np.arange(len(inputs), dtype=np.float64)
        return Places(inputs, index, names, index)
    edges = bin_edges(flat[:, feature.columns[0]], points)
    inputs = np.repeat(edges[:, None], len(feature.columns), axis=1)
    return Places(inputs, in_user_units(feature, edges), (), edges)


def bin_edges(values: Doubles, bins: int) -> Doubles:
    """At most `bins` + 1 different quantiles of `values`, each of them a value that was seen.

    Where most rows share one value (a capital gain of 0) hardly any quantile differs from another; then
    they are quantiles of the different values, so that the others are seen at all.
    """
    shares = np.linspace(0, 1, bins + 1)
    found: Doubles = np.unique(np.quantile(values, shares, method="inverted_cdf")).astype(np.float64)
    if len(found) <= (bins + 1) // 2:
        different = np.unique(values)
        found = np.unique(np.quantile(different, shares, method="inverted_cdf")).astype(np.float64)
    return found


def individual_curves(
    model: Model, rows: Tensor, columns: tuple[int, ...], inputs: Doubles, chosen: int, output: Output
) -> Doubles:
    """[n, m] the explained number of class `chosen` of each row with its columns set to each place.

    Its mean over the rows is the partial dependence. Costs n * m rows forward.

    Args:
        model: the network.
        rows: [n, ...] raw rows.
        columns: [c] columns of a flat row that are set.
        inputs: [m, c] values they are set to.
        chosen: the class.
        output: which number is explained.
    """
    count = len(inputs)
    into = torch.tensor(columns, device=rows.device)
    values = torch.as_tensor(inputs, dtype=rows.dtype, device=rows.device)

    def work(part: slice) -> tuple[Tensor]:
        index = torch.arange(part.start, part.stop, device=rows.device)
        moved = rows[index // count]
        moved.view(len(index), -1)[:, into] = values[index % count]
        return (answers(model, moved, chosen, output),)

    with torch.no_grad():
        (found,) = model.in_batches(work, len(rows) * count)
    curves: Doubles = found.view(len(rows), count).cpu().double().numpy()
    return curves


def answers(model: Model, rows: Tensor, chosen: int, output: Output) -> Tensor:
    """[n] the explained number of class `chosen` for each row."""
    wanted = torch.full((len(rows),), chosen, device=rows.device)
    return quantity(model.scores(rows), wanted, output)


def local_effects(
    model: Model, rows: Tensor, column: int, bins: int, chosen: int, output: Output
) -> LocalEffects:
    """Accumulated local effects of one column. Costs 2 n rows forward.

    Args:
        model: the network.
        rows: [n, ...] raw rows; the bins are quantiles of them.
        column: which column of a flat row.
        bins: most bins.
        chosen: the class explained.
        output: which number is explained.

    Raises:
        NotApplicable: the column holds one value only.
    """
    seen = rows.flatten(1)[:, column].cpu().double().numpy()
    edges = bin_edges(seen, bins)
    if len(edges) < _PAIR:
        raise NotApplicable(f"column {column + 1} holds one value only.")
    place = np.clip(np.searchsorted(edges, seen, side="left") - 1, 0, len(edges) - 2)
    ends = torch.as_tensor(np.stack([edges[place], edges[place + 1]]), dtype=rows.dtype, device=rows.device)

    def work(part: slice) -> tuple[Tensor]:
        both = []
        for end in ends:
            moved = rows[part].clone()
            moved.view(len(moved), -1)[:, column] = end[part]
            both.append(answers(model, moved, chosen, output))
        return (both[1] - both[0],)

    with torch.no_grad():
        (found,) = model.in_batches(work, len(rows), rows_each=2)
    change: Doubles = found.cpu().double().numpy()
    counts = np.bincount(place, minlength=len(edges) - 1)
    return LocalEffects(edges, counts, place, change, *accumulated(change, place, counts))


def accumulated(change: Doubles, place: Ints, counts: Ints) -> tuple[Doubles, Doubles, Doubles]:
    """[K + 1] accumulated effect at each edge with its 95 % interval.

    Each value is a weighted sum of the bins' mean changes, which are independent; so its variance is that
    of the means, with Satterthwaite's degrees of freedom. A bin of one row takes the pooled variance.

    Args:
        change: [n] change of each row over its bin.
        place: [n] bin of each row.
        counts: [K] rows in each bin, at least 1.
    """
    from scipy.special import stdtrit

    bins, rows = len(counts), int(counts.sum())
    means = np.bincount(place, weights=change, minlength=bins) / counts
    squares = np.bincount(place, weights=(change - means[place]) ** 2, minlength=bins)
    pooled = squares.sum() / max(1, rows - bins)
    variance = np.where(counts > 1, squares / np.maximum(counts - 1, 1), pooled) / counts
    to_the_right = rows - np.cumsum(counts) + counts / 2
    before = np.arange(bins)[None, :] < np.arange(bins + 1)[:, None]
    weight = before - to_the_right / rows
    parts = weight**2 * variance
    total = parts.sum(axis=1)
    freedom = total**2 / np.maximum((parts**2 / np.maximum(counts - 1, 1)).sum(axis=1), np.finfo(float).tiny)
    half = stdtrit(np.maximum(freedom, 1.0), 0.5 + DEFAULT_LEVEL / 2) * np.sqrt(total)
    curve = weight @ means
    return curve, curve - half, curve + half
