"""Traps of captum and shap, planted one by one: each must be named before anything is computed."""

import pytest
import torch
from networks import LeNet, ResNet20, fgsm_trained
from torch import nn
from torch.nn.functional import max_pool2d, relu

from audit.errors import NotApplicable
from audit.library.validity import DEMANDS, require_valid
from audit.model import Model, state_hash

SMALL = (2, 6)


class Code(nn.Module):
    """A network whose forward pass is given."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.code = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, rows):
        return self.code(self, rows)


def layers():
    return {"first": nn.Linear(6, 8), "act": nn.ReLU(), "last": nn.Linear(8, 3)}


CLEAN = {
    "layers, each once": nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)
    ),
    "constants around layers": Code(
        lambda s, x: s.last(s.act(s.first((x - 0.5) / 2.0 * torch.ones(6)))) * 3 + 1, **layers()
    ),
    "a branch added up": Code(lambda s, x: s.last(s.act(s.first(x))) + s.last(s.first(x) * 0.1), **layers()),
}
FAULTS = {
    "functional relu": (Code(lambda s, x: s.last(relu(s.first(x))), **layers()), "'relu' is called in the"),
    "torch.relu in a layer of its own": (
        nn.Sequential(nn.Linear(6, 8), Code(lambda _, x: torch.relu(x)), nn.Linear(8, 2)),
        r"'relu' is called in '1' \(Code\)",
    ),
    "a layer called twice": (
        Code(lambda s, x: s.last(s.act(s.act(s.first(x)) - 1)), **layers()),
        r"'act' \(ReLU\) is called 2 times",
    ),
    "written in place": (Code(lambda s, x: s.last(s.first(x).relu_()), **layers()), "'relu_' writes into"),
    "layer norm": (nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2)), r"'1' \(LayerNorm\)"),
    "a gate": (
        Code(lambda s, x: s.last(s.act(s.first(x)) * s.first(x)), **layers()),
        "'mul' joins or scales values",
    ),
    "one divided by it": (Code(lambda s, x: s.last(1 / (2 + s.act(s.first(x)))), **layers()), "'reciprocal'"),
    "exp": (Code(lambda s, x: s.last(s.act(s.first(x)).exp()), **layers()), "'exp'"),
    "silu": (nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 2)), "'silu'"),
    "attention": (
        Code(
            lambda s, x: s.last(s.mix(x[:, None], x[:, None], x[:, None])[0].flatten(1)),
            mix=nn.MultiheadAttention(6, 2, batch_first=True),
            last=nn.Linear(6, 2),
        ),
        "not valid for this model",
    ),
}


def model_of(network):
    return Model(module=network.eval(), device=torch.device("cpu"))


@pytest.mark.parametrize("method", ["deep_lift", "deep_shap"])
@pytest.mark.parametrize("name", CLEAN)
def test_a_network_of_known_layers_passes(name, method):
    model = model_of(CLEAN[name])
    before = state_hash(model.module)
    require_valid(model, method, torch.randn(SMALL))
    assert state_hash(model.module) == before
    assert model.passes.forward == 2


@pytest.mark.parametrize("method", ["deep_lift", "deep_shap", "lrp"])
@pytest.mark.parametrize("name", FAULTS)
def test_each_trap_is_named_with_what_to_use_instead(name, method):
    network, _ = FAULTS[name]
    model = model_of(network)
    before = state_hash(network)
    with pytest.raises(NotApplicable, match=r"integrated_gradients .* use it instead"):
        require_valid(model, method, torch.randn(SMALL))
    assert state_hash(network) == before


@pytest.mark.parametrize("name", FAULTS)
def test_the_reason_names_the_place(name):
    network, place = FAULTS[name]
    with pytest.raises(NotApplicable, match=place):
        require_valid(model_of(network), "deep_lift", torch.randn(SMALL))


def convolutional(pool, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), act(), pool, nn.Flatten(), nn.Linear(64, 2))


def test_pooling_by_a_layer_is_known_and_by_a_function_is_not():
    images = torch.randn(2, 1, 8, 8)
    for method in DEMANDS:
        require_valid(model_of(convolutional(nn.MaxPool2d(2))), method, images)
        with pytest.raises(NotApplicable, match="max_pool2d_with_indices"):
            require_valid(model_of(convolutional(Code(lambda _, x: max_pool2d(x, 2)))), method, images)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (CLEAN["a branch added up"], "is called 2 times"),
        (Code(lambda s, x: s.last(s.act(s.first(x))) + x[:, :3], **layers()), "'add' joins"),
        (Code(lambda s, x: s.last(s.act(s.first(x)) * 2), **layers()), "'mul' joins"),
        (nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 2)), r"layer '1' \(Sigmoid\) has no rule"),
    ],
)
def test_relevance_asks_for_more(network, reason):
    with pytest.raises(NotApplicable, match=reason):
        require_valid(model_of(network), "lrp", torch.randn(SMALL))


def test_a_program_without_layers_is_refused_before_it_runs():
    network = CLEAN["layers, each once"].eval()
    exported = torch.export.export(network, (torch.randn(2, 6),)).module()
    for part in exported.modules():
        part.training = False
    with pytest.raises(NotApplicable, match="an exported program has none"):
        require_valid(Model(module=exported, device=torch.device("cpu")), "deep_lift", torch.randn(SMALL))
    bare = Model(module=network, device=torch.device("cpu"), capabilities=frozenset({"logits"}))
    with pytest.raises(NotApplicable, match="works on layers"):
        require_valid(bare, "lrp", torch.randn(SMALL))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the format is old and still used
def test_torchscript_is_refused():
    traced = torch.jit.trace(CLEAN["layers, each once"].eval(), torch.randn(2, 6))
    with pytest.raises(NotApplicable, match="TorchScript"):
        require_valid(Model(module=traced, device=torch.device("cpu")), "deep_shap", torch.randn(SMALL))


def test_networks_of_the_real_weights_are_told_apart():
    digits, photos = torch.rand(2, 1, 28, 28), torch.rand(2, 3, 32, 32)
    for method in DEMANDS:
        require_valid(model_of(fgsm_trained()), method, digits)
        with pytest.raises(NotApplicable, match="'relu' is called in the network's own code"):
            require_valid(model_of(LeNet()), method, digits)
        with pytest.raises(NotApplicable, match=r"'relu' is called in 'layer1.0' \(Block\)"):
            require_valid(model_of(ResNet20()), method, photos)
