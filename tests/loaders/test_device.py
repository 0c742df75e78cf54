import pytest
import torch

from audit.errors import LoadError
from audit.loaders.device import resolve_device


def test_the_cpu_is_always_there():
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_what_there_is():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == best


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_an_absent_cuda_device_is_one_sentence(name):
    with pytest.raises(LoadError, match=f"device = '{name}', but this machine has no CUDA device"):
        resolve_device(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_cuda_device_beyond_the_last_is_one_sentence():
    with pytest.raises(LoadError, match="but this machine has"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")
    assert resolve_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an MPS device")
def test_an_absent_mps_device_is_one_sentence():
    with pytest.raises(LoadError, match="no MPS device; use 'auto' or 'cpu'"):
        resolve_device("mps")
