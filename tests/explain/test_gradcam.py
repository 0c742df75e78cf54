"""Grad-CAM against captum; the layer is found, hooks are gone, and what writes in place does no harm."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.errors import ConfigError, NotApplicable
from audit.explain.gradcam import enlarged, gradcam, last_convolution, require_layer
from audit.explain.quantity import quantity
from audit.model import Model, state_hash


def model_of(network, batch=64):
    found = Model(module=network.eval(), device=torch.device("cpu"))
    found.passes.batch = batch
    return found


def images(n=5):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3, 8, 8))).float()


def network(inplace=False):
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", ["0", "3", "4"])
def test_maps_are_captums(layer, relu):
    from captum.attr import LayerGradCam

    model, rows, classes = model_of(network(), batch=2), images(), torch.arange(5) % 3
    found = gradcam(model, rows, classes, layer, relu=relu)
    part = dict(model.module.named_modules())[layer]
    oracle = LayerGradCam(lambda x: quantity(model.scores(x), classes, "log_odds"), part).attribute(
        rows, relu_attributions=relu
    )
    assert torch.allclose(found, oracle[:, 0].detach(), atol=1e-6)
    assert found.abs().max() > 0


def test_what_writes_in_place_after_the_layer_changes_nothing():
    rows, classes = images(), torch.arange(5) % 3
    plain = gradcam(model_of(network()), rows, classes, "3", relu=False)
    assert plain.min() < 0
    assert torch.equal(gradcam(model_of(network(inplace=True)), rows, classes, "3", relu=False), plain)


def test_the_model_is_left_as_it_was_even_where_it_raises():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.angry = False

        def forward(self, x):
            found = self.conv(x)
            if self.angry:
                raise ValueError("no")
            return found.mean(dim=(2, 3))

    late = Late()
    model = model_of(late)
    before = state_hash(late)
    gradcam(model, images(), torch.zeros(5, dtype=torch.int64), "conv")
    assert (model.passes.forward, model.passes.backward) == (5, 5)
    late.angry = True
    with pytest.raises(ValueError, match="no"):
        gradcam(model, images(), torch.zeros(5, dtype=torch.int64), "conv")
    assert state_hash(late) == before


class Backwards(nn.Module):
    """Layers that run in another order than they are declared in, and one that puts out a single place."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(4, 4, 3)
        self.first = nn.Conv2d(3, 4, 3)
        self.unused = nn.Conv2d(3, 4, 3)
        self.single = nn.Conv2d(4, 3, 4)

    def forward(self, x):
        return self.single(self.second(self.first(x))).flatten(1)


def test_the_last_convolution_is_the_one_that_runs_last_and_has_places():
    model = model_of(Backwards())
    before = state_hash(model.module)
    assert last_convolution(model, images()) == "second"
    assert model.passes.forward == 1
    assert state_hash(model.module) == before


@pytest.mark.parametrize("layers", [[nn.Flatten(), nn.Linear(192, 2)], [nn.Conv2d(3, 2, 8), nn.Flatten()]])
def test_a_network_without_places_is_not_applicable(layers):
    with pytest.raises(NotApplicable, match="no convolution with more than one place"):
        last_convolution(model_of(nn.Sequential(*layers)), images())


def test_a_scripted_network_is_not_applicable():
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        scripted = torch.jit.script(network().eval())
    with pytest.raises(NotApplicable, match="shows no convolution"):
        last_convolution(model_of(scripted), images())


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [("7", "does not put out"), ("unused", "takes no part")],
)
def test_a_layer_that_cannot_be_read_is_named(layer, sentence):
    found = Backwards() if layer == "unused" else network()
    with pytest.raises(ConfigError, match=sentence):
        gradcam(model_of(found), images(), torch.zeros(5, dtype=torch.int64), layer)


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="'frist' is not a layer of the network"):
        require_layer(model_of(Backwards()), "frist")


def test_maps_are_enlarged_linearly():
    assert enlarged(torch.tensor([[0.0, 4.0]]), (4,)).tolist() == [[0.0, 1.0, 3.0, 4.0]]
    square = enlarged(torch.tensor([[[0.0, 4.0], [0.0, 4.0]]]), (4, 4))
    assert square.shape == (1, 4, 4)
    assert square[0, 2].tolist() == [0.0, 1.0, 3.0, 4.0]
