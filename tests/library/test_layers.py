"""Finding a layer by name or the last linear one, and reading its values."""

import pytest
import torch
from torch import nn

from audit.errors import ConfigError, NotApplicable
from audit.library.layers import by_unit, find_layer, reading
from audit.model import Model

ROWS = torch.randn(2, 3)


def model(*layers):
    return Model(module=nn.Sequential(*layers).eval(), device=torch.device("cpu"))


def test_without_a_name_it_is_the_input_of_the_last_linear_layer():
    own = model(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Identity())
    layer = find_layer(own, "", ROWS, "TCAV")
    assert (layer.path, layer.before, layer.place) == ("2", True, "input of '2'")
    with torch.no_grad(), reading(layer) as read:
        own.raw(ROWS)
        assert torch.equal(read(), own.module[1](own.module[0](ROWS)))
    named = find_layer(own, "0", ROWS, "TCAV")
    with torch.no_grad(), reading(named) as read:
        own.raw(ROWS)
        assert torch.equal(read(), own.module[0](ROWS))
    assert not any(part._forward_hooks for part in own.module.modules())


def test_a_layer_that_cannot_be_read_is_named():
    act = nn.ReLU()
    twice = model(nn.Linear(3, 3), act, nn.Linear(3, 2), act)
    with pytest.raises(NotApplicable, match="'1' is called 2 times"):
        find_layer(twice, "1", ROWS, "TCAV")
    with pytest.raises(ConfigError, match="'layer' = 'last' is no layer"):
        find_layer(twice, "last", ROWS, "TCAV")
    with pytest.raises(NotApplicable, match="has no linear one"):
        find_layer(model(nn.ReLU()), "", ROWS, "TCAV")


def test_positions_of_a_channel_are_added_up():
    values = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert by_unit(values).tolist() == [[6, 22, 38]]
    assert by_unit(torch.ones(2, 3)).shape == (2, 3)
