"""FGSM on real weights: the numbers their authors published."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax, max_pool2d, relu

from audit.checks.robustness.fgsm import fgsm
from audit.dataset import Dataset
from audit.model import Model, Passes, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions

MNIST = Path(__file__).parents[4] / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason="shared/data/mnist is not here")
PUBLISHED = {0.05: 0.9296, 0.1: 0.8333, 0.15: 0.6610, 0.2: 0.4345, 0.25: 0.2268, 0.3: 0.0837}


class LeNet(nn.Module):
    """The network of the PyTorch tutorial on FGSM; puts out log-probabilities."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x):
        x = relu(max_pool2d(self.conv1(x), 2))
        x = relu(max_pool2d(self.conv2(x), 2))
        return log_softmax(self.fc2(relu(self.fc1(x.flatten(1)))), dim=1)


def mnist():
    held = np.load(MNIST / "mnist_test.npz")
    return Dataset(
        inputs=(held["images"][:, None] / 255).astype(np.float32),
        labels=held["labels"].astype(np.int64),
        modality="image",
        classes=tuple("0123456789"),
    )


def lenet():
    net = LeNet()
    net.load_state_dict(torch.load(MNIST / "lenet.pth", weights_only=True, map_location="cpu"))
    return Model(
        module=net.eval(),
        device=torch.device("cpu"),
        output="log_probabilities",
        input_range=(0.0, 1.0),
        passes=Passes(batch=64),
    )


@needs_mnist
def test_the_published_curve_over_all_10000():
    model, data = lenet(), mnist()
    before = state_hash(model.module)
    found = adversaries(model, data, predictions(model, data), 0).fgsm([0.0, *PUBLISHED], rows=None)
    assert found.correct.mean() == pytest.approx(0.9761, abs=0.0002)
    for epsilon, published in PUBLISHED.items():
        assert found.robust(epsilon).mean() == pytest.approx(published, abs=0.002)
    assert state_hash(model.module) == before


@needs_mnist
def test_a_sample_of_the_rows_agrees_within_its_intervals():
    model, data = lenet(), mnist()
    shared = adversaries(model, data, predictions(model, data), 3)
    evidence = fgsm.measure(data, shared, epsilon=list(PUBLISHED))
    for found in (m for m in evidence.measures if m.name == "robust_accuracy"):
        assert found.n == 1000
        assert found.low - 0.01 < PUBLISHED[found.settings["epsilon"]] < found.high + 0.01
        assert not found.unreliable
