"""Libraries run on a copy of the network, so that the audited one is handed back untouched, whatever happens.

captum's LRP changes weights and puts them back, shap leaves parameters behind in layers, both set hooks, and
an exception in between can leave any of it. None of that reaches a copy.
"""

import copy
import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from audit.errors import CheckError, NotApplicable
from audit.library.validity import INSTEAD
from audit.model import Model


@contextmanager
def copied(model: Model, what: str, instead: str = INSTEAD) -> Iterator[Model]:
    """The same model around a copy of its network, for one call of a library.

    The copy is in eval mode, its layers do not write into their inputs, and cuDNN is off where it has a
    recurrent layer, because cuDNN computes their gradient in training mode alone. Random states of torch,
    numpy and Python are put back; passes are counted by the model itself.

    Args:
        model: the audited model.
        what: the method, as a sentence begins with it.
        instead: what to use when the library fails.

    Raises:
        NotApplicable: the network cannot be copied, or the library failed on it (out of memory is raised
            as it is).
    """
    with undisturbed(), _recurrent(model):
        try:
            yield replace(model, module=_copy(model.module, what, instead))
        except (CheckError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError, KeyError) as error:
            if "DefaultCPUAllocator" in str(error):
                raise
            first = str(error).strip().split("\n", 1)[0][:200]
            why = f"{type(error).__name__}: {first}"
            raise NotApplicable(f"{what} failed on this model ({why}); {instead}.") from error


def _copy(module: nn.Module, what: str, instead: str) -> nn.Module:
    try:
        found = copy.deepcopy(module)
    except Exception as error:
        raise NotApplicable(
            f"{what} needs a copy of the network, which cannot be copied ({type(error).__name__}); {instead}."
        ) from error
    for part in found.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # type: ignore[assignment]
    for parameter in found.parameters():
        parameter.grad = None
    return found


def _recurrent(model: Model) -> AbstractContextManager[None]:
    if model.device.type == "cuda" and any(isinstance(part, nn.RNNBase) for part in model.module.modules()):
        off: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=False)
        return off
    return nullcontext()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Random states of torch, numpy and Python are put back; libraries' warnings are not shown."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - libraries draw from the global state
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - as above
