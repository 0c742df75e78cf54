"""An explanation asked for again: of other points, by another seed, of other weights; all else the same."""

from dataclasses import replace
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from audit.explain.attribution import Attribution
from audit.explain.explained import Explained, scores_of
from audit.explain.quantity import quantity
from audit.products.attributions import Attributions


def again(
    source: Attributions,
    explained: Explained,
    method: str,
    *,
    seed: int | None = None,
    inputs: Tensor | None = None,
    part: npt.NDArray[Any] | None = None,
    **settings: Any,
) -> Attribution:
    """The attribution of the same rows and classes under one change; nothing is kept for other checks.

    The value at the rows is asked of the model anew, which costs n rows forward.

    Args:
        source: the attributions of the run, for model, data and seed.
        explained: the rows.
        method: as for `Attributions.of`.
        seed: another seed for what the method draws; None for the same.
        inputs: [n, ...] other raw inputs in the place of the rows' own; None for the same.
        part: [k] positions among the rows that are explained; None for all.
        **settings: settings of the method.
    """
    changed = explained if inputs is None else replace(explained, inputs=inputs)
    if part is not None:
        at = torch.from_numpy(part).to(changed.inputs.device)
        changed = replace(
            changed, index=changed.index[part], inputs=changed.inputs[at], classes=changed.classes[at]
        )
    scores = scores_of(source.model, changed.inputs)
    fx = quantity(scores, changed.classes, changed.output).double().cpu().numpy()
    used = source.seed if seed is None else seed
    other = _Elsewhere(source.model, source.data, used, fixed=replace(changed, fx=fx))
    return other.of(method, rows=len(changed.index), output=changed.output, **settings)


class _Elsewhere(Attributions):
    """Attributions of rows that are given and not drawn."""

    def __init__(self, *arguments: Any, fixed: Explained) -> None:
        super().__init__(*arguments)
        self.fixed = fixed

    def explained(self, **what: Any) -> Explained:
        """The rows that were given, whatever is asked for."""
        del what
        return self.fixed
