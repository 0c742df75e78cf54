"""The `attributions` product: each method is computed once a run and shared by all that ask for it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import torch

from audit.dataset import Dataset, sample_rows
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.explain.attribution import Attribution
from audit.explain.explained import Explained
from audit.explain.methods.expected_gradients import expected_gradients
from audit.explain.methods.gradcam import gradcam
from audit.explain.methods.input_x_gradient import input_x_gradient
from audit.explain.methods.integrated_gradients import integrated_gradients
from audit.explain.methods.kernel_shap import kernel_shap
from audit.explain.methods.lime import lime
from audit.explain.methods.occlusion import occlusion
from audit.explain.methods.rise import rise
from audit.explain.methods.saliency import saliency
from audit.explain.methods.smoothgrad import smoothgrad, vargrad
from audit.explain.quantity import Output, quantity
from audit.library.deep_lift import deep_lift
from audit.library.deep_shap import deep_shap
from audit.library.layer_conductance import layer_conductance
from audit.library.lime_library import lime_library
from audit.library.lrp import lrp
from audit.library.permutation_shap import permutation_shap
from audit.model import Model

Target = Literal["predicted", "favourable"]
Method = Callable[..., dict[str, Any]]
ROWS = {"tabular": 256, "image": 16, "series": 64}
METHODS: dict[str, Method] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "vargrad": vargrad,
    "expected_gradients": expected_gradients,
    "occlusion": occlusion,
    "rise": rise,
    "gradcam": gradcam,
    "kernel_shap": kernel_shap,
    "lime": lime,
    "deep_lift": deep_lift,
    "lrp": lrp,
    "layer_conductance": layer_conductance,
    "deep_shap": deep_shap,
    "permutation_shap": permutation_shap,
    "lime_library": lime_library,
}
_OF_ALL = {"rows": None, "output": "log_odds", "target": "predicted"}


@dataclass(eq=False)
class Attributions:
    """Attributions of one model on one data set, computed when first asked for.

    Attributes:
        model: the network.
        data: the rows; every method draws them by the same seed, so that methods can be compared.
        seed: fixes rows, coalitions, background and perturbations.
    """

    model: Model
    data: Dataset
    seed: int
    _found: dict[tuple[Any, ...], Attribution] = field(default_factory=dict, repr=False)
    _explained: dict[tuple[Any, ...], Explained] = field(default_factory=dict, repr=False)

    def of(self, method: str, **settings: Any) -> Attribution:
        """Attributions by `method`; the same method and settings are computed once.

        Args:
            method: a key of `METHODS`.
            **settings: `rows`, `output`, `target`, and settings of the method; see the function of that name.

        Raises:
            ConfigError: the method or a setting is unknown or has a value that cannot be used.
            NotApplicable: the method does not fit this model or data.
            NotEvaluable: there are no rows.
        """
        if method not in METHODS:
            raise ConfigError(f"'{method}' is not an attribution method{nearest(method, METHODS)}.")
        filled = _filled(method, settings, self.data)
        key = (method, *sorted(filled.items()))
        if key not in self._found:
            self._found[key] = self._computed(method, filled)
        return self._found[key]

    def _computed(self, method: str, filled: Mapping[str, Any]) -> Attribution:
        what = {name: filled[name] for name in _OF_ALL}
        rest = {name: value for name, value in filled.items() if name not in what}
        explained = self.explained(**what)
        passes = self.model.passes
        before = passes.forward, passes.backward
        # What is not finite is counted and left out later; differences of infinities need no warning.
        with np.errstate(invalid="ignore", over="ignore"):
            fields = METHODS[method](self.model, self.data, self.seed, explained, **rest)
        spent = passes.forward - before[0], passes.backward - before[1]
        settings = {**filled, **fields.pop("settings", {})}
        return Attribution(method=method, settings=settings, passes=spent, **{**explained.facts(), **fields})

    def explained(self, *, rows: int, output: Output, target: Target) -> Explained:
        """The rows drawn, their class and its value: shared by all methods. Costs n rows forward once.

        Raises:
            NotApplicable: the favourable outcome is asked for and the data names none.
            NotEvaluable: there are no rows.
        """
        key = (rows, output, target)
        if key not in self._explained:
            self._explained[key] = _explained(self.model, self.data, self.seed, rows, output, target)
        return self._explained[key]


def attributions(model: Model, data: Dataset, seed: int) -> Attributions:
    """The attributions of a run, by any method, each computed once."""
    return Attributions(model, data, seed)


def _filled(method: str, settings: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """All settings of a method with their defaults, checked."""
    function = METHODS[method]
    filled: dict[str, Any] = {**_OF_ALL, **(inspect.getfullargspec(function).kwonlydefaults or {})}
    for name in settings:
        if name not in filled:
            raise ConfigError(f"'{name}' is not a setting of {method}{nearest(name, filled)}.")
    filled |= settings
    if filled["rows"] is None:
        filled["rows"] = ROWS[data.modality]
    for name, kind in get_type_hints(function).items():
        counts = set(get_args(kind) or (kind,)) <= {int, NoneType} and isinstance(filled.get(name), int)
        if counts and filled[name] < 1:
            raise ConfigError(f"{method}: '{name}' = {filled[name]} is wrong; it must be at least 1.")
    return filled


def _explained(
    model: Model, data: Dataset, seed: int, rows: int, output: Output, target: Target
) -> Explained:
    index = sample_rows(data, rows, seed) if rows > 0 else np.zeros(0, dtype=np.int64)
    if not len(index):
        raise NotEvaluable(f"0 rows to explain: {rows} asked for, {len(data)} in the data.")
    if target == "favourable" and data.favourable is None:
        raise NotApplicable("the data names no favourable outcome, so it cannot be explained.")
    scores = model.predict(data.inputs[index])
    if scores.shape[1] < 2:  # noqa: PLR2004 - log-odds are of one class against the others
        raise NotApplicable("the model has one output and no classes, so there are no log-odds to explain.")
    classes = scores.argmax(dim=1)
    if target == "favourable":
        classes = torch.full_like(classes, data.favourable or 0)
    fx = quantity(scores, classes, output).double().numpy()
    return Explained(index, model.tensor(data.inputs[index]), classes.to(model.device), fx, output)
