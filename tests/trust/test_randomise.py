"""Random weights: another model inside, the very same one afterwards, whatever happens in between."""

import numpy as np
import pytest
import torch
from networks import CNN, MLP, seeded
from torch import nn

from audit.errors import NotApplicable
from audit.model import state_hash
from audit.trust.randomise import randomised


@pytest.mark.parametrize("build", [MLP, CNN])
def test_weights_are_others_inside_and_the_same_bits_afterwards(build):
    module = seeded(build)
    before = state_hash(module)
    kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with randomised(module, 0):
        inside = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        assert state_hash(module) != before
    assert state_hash(module) == before
    names = {name for name, _ in module.named_parameters() if kept[name].std() > 0}
    assert names
    for name, tensor in kept.items():
        assert torch.equal(module.state_dict()[name], tensor)
        assert torch.equal(inside[name], tensor) is (name not in names)


def test_an_exception_in_between_changes_nothing():
    module = seeded(MLP)
    before = state_hash(module)
    with pytest.raises(KeyError), randomised(module, 0):
        raise KeyError("in between")
    assert state_hash(module) == before


def test_shared_frozen_and_odd_weights_come_back():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    module[0].bias.requires_grad_(False)
    module[1].bias.data[0] = float("nan")
    module[0].weight.grad = torch.ones(3, 3)
    before = state_hash(module)
    with randomised(module, 1):
        assert module[0].weight is module[1].weight
        assert state_hash(module) != before
    assert state_hash(module) == before


def test_draws_keep_mean_and_spread_and_depend_on_the_seed_alone():
    module = nn.Linear(200, 200)
    with torch.no_grad():
        module.weight.normal_(0.3, 2.0)
    state = torch.random.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        with randomised(module, seed):
            found.append(module.weight.detach().clone())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[0].mean().item() == pytest.approx(0.3, abs=0.05)
    assert found[0].std().item() == pytest.approx(2.0, abs=0.05)
    assert abs(np.corrcoef(found[0].flatten(), module.weight.detach().flatten())[0, 1]) < 0.02


@pytest.mark.parametrize("module", [nn.Identity(), nn.BatchNorm1d(4), nn.Linear(1, 1)])
def test_a_model_without_weights_to_draw_is_told(module):
    before = state_hash(module)
    with pytest.raises(NotApplicable, match="no weights"), randomised(module, 0):
        pass
    assert state_hash(module) == before


def test_whoever_changes_more_inside_is_found_out():
    module = seeded(CNN)
    with pytest.raises(RuntimeError, match="hash of the state"), randomised(module, 0):
        module.norm.running_mean.add_(1)
