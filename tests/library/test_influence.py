"""Influence at the last layer against autograd and captum's TracInCPFast, and where it does not apply."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.library.influence import last_layer_gradients
from audit.model import Model, state_hash


def data(rows=30, columns=4):
    inputs = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    labels = np.random.default_rng(1).integers(3, size=rows)
    return Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("a", "b", "c"))


def network(outputs=3, *, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs, bias=bias)).eval()


def gradients(net, rows, labels, **fields):
    given = data()
    model = Model(module=net, device=torch.device("cpu"), **fields)
    before = state_hash(net)
    found = last_layer_gradients(model, given, rows, labels)
    assert state_hash(net) == before
    return found


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_real_gradients(bias):
    net, given = network(bias=bias), data()
    slow = []
    for row, label in zip(torch.from_numpy(given.inputs), torch.from_numpy(given.labels), strict=True):
        loss = cross_entropy(net(row[None]), label[None])
        parts = torch.autograd.grad(loss, list(net[2].parameters()))
        slow.append(torch.cat([part.flatten() for part in parts]))
    slow = torch.stack(slow).double()
    found = gradients(net, given.inputs, given.labels)
    assert torch.allclose(found.products(found), slow @ slow.T, atol=1e-6)
    assert torch.allclose(found.squares(), (slow @ slow.T).diagonal(), atol=1e-6)


def test_a_single_logit_is_binary_cross_entropy():
    net, given = network(1), data()
    labels = given.labels % 2
    slow = []
    for row, label in zip(torch.from_numpy(given.inputs), torch.from_numpy(labels), strict=True):
        loss = nn.functional.binary_cross_entropy_with_logits(net(row[None])[0], label[None].float())
        slow.append(torch.cat([p.flatten() for p in torch.autograd.grad(loss, list(net[2].parameters()))]))
    slow = torch.stack(slow).double()
    found = gradients(net, given.inputs, labels, output="single_logit", classes=("no", "yes"))
    assert torch.allclose(found.products(found), slow @ slow.T, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # captum's own
@pytest.mark.filterwarnings("ignore::UserWarning")  # the same
def test_products_are_captums(tmp_path):
    from captum.influence import TracInCPFast

    # captum leaves the bias out of the last layer's gradient.
    net, given = network(bias=False), data()
    rows, labels = torch.from_numpy(given.inputs), torch.from_numpy(given.labels)
    path = tmp_path / "last.pt"
    torch.save(net.state_dict(), path)

    def load(module, file):
        module.load_state_dict(torch.load(file, weights_only=True))
        return 1.0

    oracle = TracInCPFast(
        net,
        net[2],
        torch.utils.data.TensorDataset(rows, labels),
        [str(path)],
        load,
        nn.CrossEntropyLoss(reduction="sum"),
        batch_size=10,
    )
    expected = oracle.influence((rows[:7], labels[:7]))
    found = gradients(net, given.inputs, given.labels)
    asked = gradients(net, given.inputs[:7], given.labels[:7])
    assert torch.allclose(found.products(asked).T, expected.double(), atol=1e-5)


class Tailed(nn.Module):
    def __init__(self, tail):
        super().__init__()
        self.body, self.tail = network(), tail

    def forward(self, rows):
        return self.tail(self.body(rows))


def test_probabilities_after_the_last_layer_change_nothing():
    given = data()
    plain = gradients(network(), given.inputs, given.labels)
    tail = Tailed(lambda values: softmax(values, dim=1)).eval()
    same = gradients(tail, given.inputs, given.labels, output="probabilities")
    assert torch.allclose(plain.products(plain), same.products(same), atol=1e-5)


def test_a_network_that_goes_on_after_its_last_linear_layer_is_refused():
    with pytest.raises(NotApplicable, match="followed by something else"):
        gradients(Tailed(lambda values: values**3).eval(), data().inputs, data().labels)
    with pytest.raises(NotApplicable, match="has no linear one"):
        gradients(nn.Sequential(nn.Flatten()).eval(), data().inputs, data().labels)
