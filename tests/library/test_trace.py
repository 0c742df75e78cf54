"""The trace sees every operator on the input, in which layer it stands, and nothing else."""

import torch
from torch import nn

from audit.library.trace import trace


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.twice, self.weight = nn.Linear(3, 3), nn.Tanh(), nn.Parameter(torch.ones(3))

    def forward(self, rows):
        scaled = self.layer(rows) * self.weight.exp()
        return self.twice(self.twice(scaled)) * scaled


def steps(module, rows):
    return {(step.name, step.path, step.depends) for step in trace(module, module, rows).steps}


def test_each_operator_is_seen_with_its_layer_and_how_many_of_its_values_depend_on_the_input():
    found = steps(Mixed().eval(), torch.randn(2, 3))
    assert ("addmm", "layer", 1) in found
    assert ("tanh", "twice", 1) in found
    assert ("mul", "", 1) in found
    assert ("mul", "", 2) in found
    assert not any(name == "exp" for name, _, _ in found)


def test_calls_are_counted_and_no_hook_is_left_even_after_an_error():
    module = Mixed().eval()
    assert trace(module, module, torch.randn(2, 3)).calls["twice"] == 2
    try:
        trace(module, module, torch.randn(2, 7))
    except RuntimeError:
        pass
    else:
        raise AssertionError("a wrong shape must not pass")
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_writing_in_place_and_views_keep_the_dependence():
    class Written(nn.Module):
        def forward(self, rows):
            empty = torch.zeros_like(rows)
            empty[:, 0] = rows[:, 0]
            return empty.sigmoid()

    assert ("sigmoid", "", 1) in steps(Written(), torch.randn(2, 3))
