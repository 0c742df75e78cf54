"""Reading a network: the same numbers as the module, or a sentence that names what stands in the way."""

import pytest
import torch
from networks import CNN, MLP, LeNet, ResNet20, fgsm_trained, seeded
from torch import nn
from torch.nn import functional

from audit.certify.graph import Net, read, trace
from audit.errors import NotApplicable
from audit.model import Model, state_hash


class Series(nn.Module):
    """[N, 2, 12] to one probability, in the words of a user's own module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3, padding="same")
        self.norm = nn.BatchNorm1d(3)
        self.pool = nn.MaxPool1d(2)
        self.last = nn.Linear(18, 1)
        self.register_buffer("middle", torch.tensor([0.25, 0.5]))

    def forward(self, rows):
        shifted = (rows - self.middle.view(1, -1, 1)) / 2
        hidden = self.pool(functional.relu(self.norm(self.conv(shifted))))
        hidden = torch.cat([hidden[:, :1], hidden[:, 1:]], dim=1)
        return torch.sigmoid(self.last(hidden.view(hidden.size(0), -1))).squeeze(1)


def stirred(net):
    """The network with BatchNorm statistics that are not 0 and 1, in eval mode."""
    torch.manual_seed(3)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            part.weight.data.normal_()
    return net.eval()


CASES = {
    "mlp": (lambda: seeded(MLP), (5,)),
    "cnn": (lambda: stirred(seeded(CNN)), (1, 8, 8)),
    "lenet": (lambda: seeded(LeNet), (1, 28, 28)),
    "resnet": (lambda: stirred(seeded(ResNet20)), (3, 32, 32)),
    "plain": (lambda: fgsm_trained().eval(), (1, 28, 28)),
    "series": (lambda: stirred(seeded(Series)), (2, 12)),
    "pooled": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, groups=1, padding="same"),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(2, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(4, 3),
            nn.Softmax(dim=1),
        ).eval(),
        (1, 10, 10),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("exported", [False, True])
def test_the_steps_give_what_the_module_gives(name, exported):
    build, shape = CASES[name]
    module = build()
    rows = torch.rand(6, *shape)
    with torch.no_grad():
        wanted = module(rows)
        if exported:
            dynamic = ({0: torch.export.Dim("rows")},)
            module = torch.export.export(module, (rows,), dynamic_shapes=dynamic).module()
        net = trace(module, rows[:2])
        told = net.forward(rows)
    if net.head:
        told = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}.get(
            net.head, lambda values, _: values.sigmoid()
        )(told, 1)
    assert torch.allclose(told, wanted.reshape(told.shape), atol=1e-4)
    assert net.head == {"lenet": "log_softmax", "series": "sigmoid", "pooled": "softmax"}.get(name, "")


def test_normalisation_of_the_model_is_the_first_step():
    module = seeded(CNN)
    model = Model(module=module, device=torch.device("cpu"), mean=(0.3,), std=(0.2,))
    rows = torch.rand(4, 1, 8, 8)
    before = state_hash(module)
    net = read(model, rows)
    with torch.no_grad():
        assert torch.allclose(net.forward(rows), model.raw(rows), atol=1e-5)
        assert not torch.allclose(net.forward(rows), module(rows), atol=1e-2)
    assert state_hash(module) == before


class Shrinks(nn.Module):
    """Its graph depends on the values, which a trace cannot see."""

    def forward(self, rows):
        return rows if rows.sum() > 0 else -rows


class Doubles(nn.Module):
    """Two values that both depend on the input are multiplied."""

    def forward(self, rows):
        return rows * rows


class Softened(nn.Module):
    """A softmax in the middle."""

    def forward(self, rows):
        return rows.softmax(dim=1) * 2


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.GELU()), "GELU"),
        (nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), "Tanh"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "LayerNorm"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), "sigmoid over several outputs"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), "sigmoid"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout().train()), "dropout"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).train()), "batch normalisation"),
        (Shrinks(), "graph cannot be read"),
        (Doubles(), "product"),
        (Softened(), "softmax"),
    ],
)
def test_what_is_not_covered_is_named(module, named):
    with pytest.raises(NotApplicable, match=named):
        trace(module, torch.rand(3, 4))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # users still have such files
def test_a_torchscript_program_is_refused():
    scripted = torch.jit.freeze(torch.jit.trace(seeded(MLP), torch.rand(2, 5)))
    with pytest.raises(NotApplicable, match="TorchScript"):
        trace(scripted, torch.rand(2, 5))


class Overwrites(nn.Module):
    """An in-place ReLU changes what the shortcut carries, which a functional reading misses."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, rows):
        hidden = self.first(rows)
        return torch.relu_(hidden) * 3 - hidden


def test_steps_that_do_not_reproduce_the_outputs_are_refused():
    model = Model(module=seeded(Overwrites), device=torch.device("cpu"))
    with pytest.raises(NotApplicable, match="does not reproduce"):
        read(model, torch.randn(20, 4))


def test_the_outputs_are_counted():
    assert isinstance(trace(seeded(MLP), torch.rand(1, 5)), Net)
    assert trace(seeded(MLP), torch.rand(1, 5)).outputs == 3
