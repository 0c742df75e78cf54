"""Catalogue: which attacks the Adversarial Robustness Toolbox (ART) offers, and which of them can run here.

Names and arguments are read from ART's source text, so that a misspelt one is found while a run is planned,
without torch and without importing what does not import. What is known to be broken or to be made for other
models is written down here, each with its reason.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audit.errors import nearest

if TYPE_CHECKING:
    from audit.attack.norm import Norm

PACKAGE = "adversarial-robustness-toolbox"
_ROOT = "art.attacks.evasion"
_OURS: Mapping[str, str] = {
    "eps": "set epsilon beside it",
    "norm": "set norm beside it",
    "batch_size": "it is measured from the model",
    "verbose": "it is always off",
    "summary_writer": "nothing is written beside the record",
}
_TENSORFLOW = "it is made for TensorFlow models"
_DETECTOR = "it is made for object detectors"
_SPEECH = "it is made for speech recognisers"
_OBJECTS = "it takes objects that cannot be written in a configuration"
_GUIDES = "it moves rows towards the inner features of guide rows and does not aim at the decision"
_MADE_FOR_OTHERS: Mapping[str, str] = {
    "AdversarialPatchTensorFlowV2": _TENSORFLOW,
    "FeatureAdversariesTensorFlowV2": _TENSORFLOW,
    "ProjectedGradientDescentTensorFlowV2": _TENSORFLOW,
    "MalwareGDTensorFlow": _TENSORFLOW,
    "AdversarialTexturePyTorch": "it is made for object trackers in videos",
    "DPatch": _DETECTOR,
    "RobustDPatch": _DETECTOR,
    "OverloadPyTorch": _DETECTOR,
    "SNAL": _DETECTOR,
    "CarliniWagnerASR": _SPEECH,
    "ImperceptibleASR": _SPEECH,
    "ImperceptibleASRPyTorch": _SPEECH,
    "DecisionTreeAttack": "it is made for decision trees",
    "HighConfidenceLowUncertainty": "it is made for Gaussian processes",
    "OverTheAirFlickeringPyTorch": "it is made for classifiers of videos",
    "FrameSaliencyAttack": _OBJECTS,
    "LaserAttack": _OBJECTS,
    "FeatureAdversariesNumpy": _GUIDES,
    "FeatureAdversariesPyTorch": _GUIDES,
}
_ASKS_FOR: Mapping[str, str] = {
    "AutoAttack": "multiprocess",
    "CompositeAdversarialAttackPyTorch": "kornia",
    "GRAPHITEBlackbox": "cv2",
    "GRAPHITEWhiteboxPyTorch": "cv2",
    "AdversarialPatch": "torchvision",
    "AdversarialPatchPyTorch": "torchvision",
    "BrendelBethgeAttack": "numba",
}
_WITHOUT_NUMPY_MAT = frozenset({"GeoDA"})
_IMAGES_ONLY = frozenset(
    {
        "AdversarialPatch",
        "AdversarialPatchNumpy",
        "AdversarialPatchPyTorch",
        "CarliniL0Method",
        "CompositeAdversarialAttackPyTorch",
        "GRAPHITEBlackbox",
        "GRAPHITEWhiteboxPyTorch",
        "GeoDA",
        "PixelAttack",
        "ShadowAttack",
        "SimBA",
        "SpatialTransformation",
        "SquareAttack",
        "ThresholdAttack",
        "Wasserstein",
    }
)
_ROWS_OF_NUMBERS_ONLY = frozenset({"LowProFool"})
_OTHER_RADIUS = frozenset({"Wasserstein"})
_ONE_NORM: "Mapping[str, Norm]" = {"BasicIterativeMethod": "linf", "VirtualAdversarialMethod": "l2"}
_MEASURED_IN: "Mapping[str, Norm]" = {
    "CarliniLInfMethod": "linf",
    "ThresholdAttack": "linf",
    "ElasticNet": "l1",
}
_OTHER_NORM = frozenset({"Wasserstein", "LowProFool"})


@dataclass(frozen=True)
class Arguments:
    """What the constructor of one attack takes beside the model.

    Attributes:
        names: all of them, in order.
        required: those without a default.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]


def installed() -> str:
    """The version of ART that is installed, empty where there is none."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""


@cache
def offered() -> Mapping[str, str]:
    """Every evasion attack that ART offers, by class name, and the module that holds it."""
    spec = find_spec("art") if installed() else None
    if spec is None or spec.origin is None:
        return {}
    tree = _parsed(Path(spec.origin).parent / "attacks" / "evasion" / "__init__.py")
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: node.module
        for node in imports
        for alias in node.names
        if node.module and node.module.startswith(_ROOT)
    }


@cache
def arguments(attack: str) -> Arguments:
    """What this attack takes; read from its source text.

    Raises:
        KeyError: ART offers no such attack.
    """
    spec = find_spec("art")
    if spec is None or spec.origin is None:
        raise KeyError(attack)
    tree = _parsed(Path(spec.origin).parents[1].joinpath(*offered()[attack].split(".")).with_suffix(".py"))
    (made,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attack]
    (begin,) = [n for n in made.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    taken = [item.arg for item in begin.args.args][2:]
    return Arguments(tuple(taken), tuple(taken[: len(taken) - len(begin.args.defaults)]))


def _parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def unknown_attack(attack: str) -> str:
    """The middle of a sentence that says why ART offers no such attack; empty when it does."""
    if attack in offered() or not offered():
        return ""
    return f"ART {installed()} offers no evasion attack '{attack}'{nearest(attack, offered())}"


def unknown_argument(attack: str, given: Sequence[str]) -> str:
    """The middle of a sentence that says which argument cannot be passed on; empty when all can."""
    if attack not in offered():
        return ""
    known = arguments(attack).names
    mine = [name for name in known if not decided(attack, name)]
    for name in given:
        if name not in known:
            return f"{attack} takes no argument '{name}'{nearest(name, mine)}"
        if decided(attack, name):
            return f"'{name}' cannot be passed on to {attack}: {_OURS[name]}"
    return ""


def decided(attack: str, argument: str) -> bool:
    """Whether this argument is set by the audit itself."""
    if argument == "eps":
        return bounded(attack)
    if argument == "norm":
        return normed(attack)
    return argument in _OURS


def bounded(attack: str) -> bool:
    """Whether the attack takes a radius of a ball in one of our norms."""
    return "eps" in arguments(attack).names and attack not in _OTHER_RADIUS


def normed(attack: str) -> bool:
    """Whether the attack takes the norm that it works in."""
    return "norm" in arguments(attack).names and attack not in _OTHER_NORM


def usual_norm(attack: str) -> "Norm":
    """The norm that its changes are measured in when none is asked for."""
    if attack in _ONE_NORM:
        return _ONE_NORM[attack]
    return _MEASURED_IN.get(attack, "linf" if bounded(attack) else "l2")


def misfit(attack: str, norm: "Norm", modality: str, dimensions: int) -> str:
    """Why this attack cannot run here, as far as that is known beforehand; empty when nothing is known.

    Args:
        attack: name of the class.
        norm: the norm asked for.
        modality: `tabular`, `image` or `series`.
        dimensions: of one input row.
    """
    if attack in _MADE_FOR_OTHERS:
        return _MADE_FOR_OTHERS[attack]
    package = _ASKS_FOR.get(attack, "")
    if package and find_spec(package) is None:
        return f"it needs the package '{package}', which is not installed"
    if attack in _WITHOUT_NUMPY_MAT and not hasattr(np, "mat"):
        return f"it calls np.mat, which numpy {np.__version__} no longer has"
    if attack in _IMAGES_ONLY and modality != "image":
        return f"it is made for images; these inputs are {modality}"
    if attack in _ROWS_OF_NUMBERS_ONLY and dimensions != 1:
        return f"it is made for rows of numbers; these inputs have {dimensions} dimensions each"
    only = _ONE_NORM.get(attack, norm)
    return f"it bounds the {only} norm alone; set norm = '{only}'" if only != norm else ""
