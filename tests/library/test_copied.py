"""The copy: the audited network, random states and out-of-memory errors are left as they are."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from audit.errors import NotApplicable
from audit.library.copied import copied
from audit.model import Model, state_hash


def model():
    return Model(
        module=nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)).eval(), device=torch.device("cpu")
    )


def test_what_happens_to_the_copy_does_not_happen_to_the_network():
    own = model()
    before = state_hash(own.module)
    with copied(own, "A method") as copy:
        assert not copy.module[1].inplace
        copy.module[0].weight.data.zero_()
        copy.module.train()
        copy.raw(torch.zeros(2, 3))
    assert state_hash(own.module) == before
    assert own.module[1].inplace
    assert own.passes.forward == 2


def fail(own, error):
    with copied(own, "A method", "use another"):
        random.shuffle([1, 2, 3])
        np.random.rand()  # noqa: NPY002 - as libraries do
        torch.rand(1)
        raise error("first\nsecond")


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, TypeError, AttributeError, KeyError])
def test_a_failure_of_a_library_is_one_sentence_and_random_states_are_put_back(error):
    own = model()
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002 - checked
    with pytest.raises(NotApplicable, match=r"^A method failed on this model .*first.*; use another\.$"):
        fail(own, error)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002 - checked
    assert torch.equal(torch.get_rng_state(), before[2])


def test_running_out_of_memory_is_left_to_the_batches():
    with pytest.raises(torch.OutOfMemoryError), copied(model(), "A method"):
        raise torch.OutOfMemoryError("full")
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"), copied(model(), "A method"):
        raise RuntimeError("DefaultCPUAllocator: not enough memory")


def test_a_network_that_cannot_be_copied_is_refused():
    own = model()
    own.module.extra = (item for item in ())
    with pytest.raises(NotApplicable, match="cannot be copied"), copied(own, "A method"):
        pass
