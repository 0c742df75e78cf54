"""Names of the attribution methods, for settings: a wrong one is told before anything is loaded. No torch."""

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from audit.errors import nearest

METHOD_NAMES = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "vargrad",
    "expected_gradients",
    "occlusion",
    "rise",
    "gradcam",
    "kernel_shap",
    "lime",
    "deep_lift",
    "lrp",
    "layer_conductance",
    "deep_shap",
    "permutation_shap",
    "lime_library",
)


def _known(name: str) -> str:
    if name not in METHOD_NAMES:
        fields = {"name": name, "hint": nearest(name, METHOD_NAMES)}
        raise PydanticCustomError("method", "'{name}' is not an attribution method{hint}", fields)
    return name


MethodName = Annotated[str, AfterValidator(_known)]
