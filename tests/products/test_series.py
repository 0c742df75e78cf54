"""Series: every kind of sequence network is explained where the task was planted, and left as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Dataset, Feature
from audit.errors import NotApplicable
from audit.model import Model, state_hash
from audit.products.attributions import METHODS, attributions

STEPS, CHANNELS, PLANTED = 12, 2, (1, slice(6, 9))
TARGET = "channel 2, steps 7-9"
EXACT = ("saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "occlusion", "kernel_shap")
NATIVE = (*EXACT, "expected_gradients", "rise")


class Recurrent(nn.Module):
    """[N, C, T] to logits of the last state."""

    def __init__(self, kind):
        super().__init__()
        self.layer = kind(CHANNELS, 16, batch_first=True)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        return self.last(self.layer(x.transpose(1, 2))[0].mean(dim=1))


class Encoder(nn.Module):
    """A transformer encoder over the steps, with learned positions."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(CHANNELS, 16)
        self.place = nn.Parameter(0.5 * torch.randn(STEPS, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        return self.last(self.encoder(self.inside(x.transpose(1, 2)) + self.place).mean(dim=1))


def convolution():
    return nn.Sequential(
        nn.Conv1d(CHANNELS, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(16, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * STEPS, 2),
    )


BUILDS = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "transformer": Encoder,
    "convolution": convolution,
}


def task(rows, seed):
    """Class 1 where the mean of three steps of channel 2 is above 0; all else is noise."""
    inputs = np.random.default_rng(seed).normal(size=(rows, CHANNELS, STEPS)).astype(np.float32)
    labels = (inputs[:, PLANTED[0], PLANTED[1]].mean(axis=1) > 0).astype(np.int64)
    return Dataset(inputs=inputs, labels=labels, modality="series", classes=("below", "above"))


def trained(build):
    torch.manual_seed(0)
    network, data = build(), task(1500, 1)
    inputs, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        for part in torch.randperm(len(inputs)).split(250):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs[part]), labels[part]).backward()
            optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return network.eval()


@pytest.fixture(scope="module", params=sorted(BUILDS))
def learned(request):
    network, data = trained(BUILDS[request.param]), task(200, 2)
    with torch.no_grad():
        right = network(torch.from_numpy(data.inputs)).argmax(dim=1).numpy() == data.labels
    assert right.mean() > 0.8, (
        "the network did not learn the task, so nothing can be asked of its explanations"
    )
    return Model(module=network, device=torch.device("cpu")), data


@pytest.mark.parametrize("method", NATIVE)
def test_importance_lies_on_the_planted_steps(learned, method):
    model, data = learned
    before = state_hash(model.module)
    given = {"background": 4} if method == "kernel_shap" else {}
    found = attributions(model, data, 0).of(method, rows=40, **given)
    assert state_hash(model.module) == before
    assert not model.module.training
    assert found.features[6] == TARGET
    assert found.values.shape == (40, CHANNELS * 4)
    sizes = np.abs(found.values).mean(axis=0)
    assert found.features[int(sizes.argmax())] == TARGET
    assert sizes[6] > 1.5 * np.sort(sizes)[-2]


def test_grad_cam_of_a_convolution_over_time_is_what_can_be_worked_out():
    """One channel that copies channel 2 and is averaged over time: the map is that channel over T."""

    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(CHANNELS, 1, 1, bias=False)

        def forward(self, x):
            mean = self.conv(x).mean(dim=2)
            return torch.cat([torch.zeros_like(mean), mean], dim=1)

    network, data = Averaged().eval(), task(30, 2)
    with torch.no_grad():
        network.conv.weight.copy_(torch.tensor([[[0.0], [1.0]]]))
    source = attributions(Model(module=network, device=torch.device("cpu")), data, 0)
    found = source.of("gradcam", relu=False)
    assert found.features == ("steps 1-3", "steps 4-6", "steps 7-9", "steps 10-12")
    sign = 2 * found.targets[:, None] - 1
    assert found.elements[:, 0] == pytest.approx(sign * data.inputs[:, 1] / STEPS, abs=1e-6)
    assert found.values == pytest.approx(found.elements.reshape(30, 4, 3).sum(axis=2), abs=1e-6)
    positive = source.of("gradcam")
    assert positive.elements == pytest.approx(np.maximum(found.elements, 0), abs=1e-7)


def test_every_step_can_be_a_feature():
    data = task(50, 3)
    model = Model(module=nn.Sequential(nn.Flatten(), nn.Linear(24, 2)).eval(), device=torch.device("cpu"))
    found = attributions(model, data, 0).of("integrated_gradients", rows=10, grid=STEPS)
    assert found.features[:2] == ("channel 1, step 1", "channel 1, step 2")
    assert found.values.reshape(10, CHANNELS, STEPS) == pytest.approx(found.elements, abs=1e-6)


def test_channels_have_the_users_names():
    plain = task(20, 3)
    names = tuple(Feature(name=name) for name in ("pulse", "pressure"))
    data = Dataset(
        inputs=plain.inputs, labels=plain.labels, modality="series", classes=plain.classes, features=names
    )
    model = Model(module=nn.Sequential(nn.Flatten(), nn.Linear(24, 2)).eval(), device=torch.device("cpu"))
    found = attributions(model, data, 0).of("saliency", rows=4)
    assert found.features[4] == "pressure, steps 1-3"


def test_lime_names_what_to_use_instead():
    model = Model(module=nn.Sequential(nn.Flatten(), nn.Linear(24, 2)).eval(), device=torch.device("cpu"))
    with pytest.raises(NotApplicable, match="kernel_shap and occlusion"):
        attributions(model, task(20, 3), 0).of("lime")


@pytest.mark.parametrize("method", [*EXACT, "vargrad", "expected_gradients"])
def test_a_linear_model_of_series_is_explained_exactly(method):
    """SHAP, IG and occlusion are w (x - mean); expected gradients are, within four standard errors."""
    data = task(60, 4)
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 2)).eval()
    model = Model(module=network, device=torch.device("cpu"))
    given = {"background": 60} if method in {"kernel_shap", "expected_gradients"} else {}
    given |= {"window": 3, "stride": 3} if method == "occlusion" else {}
    given |= {"per": "unit"} if "per" in METHODS[method].__kwdefaults__ else {}
    found = attributions(model, data, 0).of(method, rows=60, **given)
    weight = (network[1].weight[1] - network[1].weight[0]).detach().numpy().reshape(CHANNELS, STEPS)
    slope = weight[None] * (2 * found.targets - 1)[:, None, None]
    moved = {
        "saliency": np.abs(slope),
        "smoothgrad": np.abs(slope),
        "vargrad": 0 * slope,
        "input_x_gradient": slope * data.inputs,
    }.get(method, slope * (data.inputs - data.inputs.mean(axis=0)))
    expected = moved.reshape(60, CHANNELS, 4, 3).sum(axis=3).reshape(60, 8)
    if method == "expected_gradients":
        assert (np.abs(found.values - expected) <= 4 * found.standard_error + 1e-5).mean() > 0.98
    else:
        assert found.values == pytest.approx(expected, abs=1e-5)
