from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hostile import exported, scripted
from hypothesis import given
from hypothesis import strategies as st
from networks import CNN, MLP, LeNet, seeded
from torch import nn

from audit.config import ModelSection
from audit.load import load_model
from audit.model import (
    Model,
    Passes,
    as_scores,
    evenly,
    first_tensor,
    log_odds,
    measured_batch,
    state_hash,
)

ROWS = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
CPU = torch.device("cpu")
FULL = torch.OutOfMemoryError("CUDA out of memory")
LOGITS = st.lists(st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=1, max_size=6).map(
    torch.tensor
)


def of(module, **facts):
    return Model(module=module.eval(), device=CPU, **facts)


class Small(nn.Module):
    """Raises the device's own error above a number of rows."""

    def __init__(self, rows, error=FULL):
        super().__init__()
        self.inner, self.rows, self.error = seeded(MLP), rows, error

    def forward(self, batch):
        if len(batch) > self.rows:
            raise self.error
        return self.inner(batch)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(error):
    model = of(Small(7, error), passes=Passes(batch=32))
    assert torch.allclose(model.predict(ROWS), of(seeded(MLP)).predict(ROWS), atol=1e-6)
    assert (model.passes.batch, model.passes.halvings) == (4, 3)


def test_a_row_that_does_not_fit_raises_what_the_device_raised():
    with pytest.raises(torch.OutOfMemoryError):
        of(Small(0)).predict(ROWS)


def test_one_item_of_many_rows_is_tried_again_with_a_smaller_batch():
    """Work that keeps to the batch itself gets one that fits, though the item stays whole."""
    model = of(Small(7), passes=Passes(batch=64))

    def work(part):
        assert part == slice(0, 1)
        with torch.no_grad():
            parts = model.tensor(ROWS[:25]).split(model.passes.batch)
            return (torch.cat([model.scores(rows) for rows in parts])[None],)

    (found,) = model.in_batches(work, 1, rows_each=25)
    assert torch.allclose(found[0], of(seeded(MLP)).predict(ROWS[:25]), atol=1e-6)
    assert model.passes.batch == 4


def test_another_error_is_not_taken_for_a_lack_of_memory():
    model = of(Small(7, RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        model.predict(ROWS)
    assert model.passes.halvings == 0


@given(total=st.integers(1, 60), batch=st.integers(1, 70), rows_each=st.integers(1, 80))
def test_slices_cover_every_item_once_in_order(total, batch, rows_each):
    model = of(seeded(MLP), passes=Passes(batch=batch))
    sizes = []

    def work(part):
        sizes.append(part.stop - part.start)
        return (torch.arange(part.start, part.stop), torch.zeros(part.stop - part.start, 2))

    items, others = model.in_batches(work, total, rows_each)
    assert items.tolist() == list(range(total))
    assert others.shape == (total, 2)
    assert max(sizes) <= max(1, batch // rows_each)


def test_passes_are_counted():
    model = of(seeded(MLP))
    model.predict(ROWS)
    model.input_gradient(model.tensor(ROWS[:8]), lambda scores: scores[:, 0])
    assert (model.passes.forward, model.passes.backward) == (58, 8)


def test_normalisation_happens_inside():
    module = seeded(CNN, channels=2)
    images = np.random.default_rng(0).random((4, 2, 6, 6), dtype=np.float32)
    mean, std = (0.2, 0.6), (0.5, 0.25)
    seen = of(module, mean=mean, std=std).predict(images)
    by_hand = (images - np.reshape(mean, (1, 2, 1, 1))) / np.reshape(std, (1, 2, 1, 1))
    assert torch.allclose(seen, module(torch.tensor(by_hand, dtype=torch.float32)).detach(), atol=1e-6)


def test_the_gradient_is_in_raw_units():
    """For w x / 0.5 the derivative is 2 w."""
    linear = nn.Linear(3, 2, bias=False)
    model = of(linear, mean=(0.1,), std=(0.5,))
    gradient, scores = model.input_gradient(torch.zeros(4, 3), lambda scores: scores[:, 1])
    assert torch.allclose(gradient, 2 * linear.weight[1].detach().expand(4, 3))
    assert not scores.requires_grad
    assert all(parameter.grad is None for parameter in linear.parameters())


def test_read_only_rows_are_taken_and_not_aliased():
    rows = ROWS.copy()
    rows.setflags(write=False)
    tensor = of(seeded(MLP)).tensor(rows)
    tensor += 1
    assert np.array_equal(rows, ROWS)


@given(LOGITS)
def test_scores_of_every_kind_have_the_same_softmax(logits):
    expected = logits.softmax(dim=1)
    for kind, outputs in (
        ("logits", logits),
        ("log_probabilities", logits.log_softmax(dim=1)),
        ("probabilities", expected),
    ):
        assert torch.allclose(as_scores(outputs, kind).softmax(dim=1), expected, atol=1e-6)


@given(LOGITS)
def test_log_odds_are_log_p_over_1_minus_p_for_every_kind(logits):
    p = logits.double().softmax(dim=1)
    for chosen in range(3):
        classes = torch.full((len(logits),), chosen)
        expected = (p[:, chosen].log() - (-p[:, chosen]).log1p()).float()
        for kind, outputs in (
            ("logits", logits),
            ("log_probabilities", logits.log_softmax(dim=1)),
            ("probabilities", logits.softmax(dim=1)),
        ):
            assert torch.allclose(log_odds(as_scores(outputs, kind), classes), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_column_becomes_two_classes(shape):
    logit = torch.tensor([-3.0, 0.0, 0.5, 4.0]).reshape(shape)
    expected = torch.stack([1 - logit.reshape(4).sigmoid(), logit.reshape(4).sigmoid()], dim=1)
    assert torch.allclose(as_scores(logit, "single_logit").softmax(dim=1), expected)
    assert torch.allclose(as_scores(logit.sigmoid(), "single_probability").softmax(dim=1), expected)


def test_labels_become_certainties():
    scores = as_scores(torch.tensor([2, 0]), "labels", classes=3)
    assert torch.allclose(scores.softmax(dim=1), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    assert scores.isfinite().all()


def test_certain_probabilities_stay_finite():
    certain = torch.tensor([[1.0, 0.0]])
    assert as_scores(certain, "probabilities").isfinite().all()
    assert as_scores(certain.log(), "log_probabilities").isfinite().all()


def test_the_tensor_is_found_in_what_a_network_returns():
    @dataclass
    class Answer:
        logits: int = 1

    a, b = torch.zeros(1), torch.ones(1)
    assert first_tensor(a) is a
    assert first_tensor((None, a, b)) is a
    assert first_tensor({"loss": a, "logits": b}) is b
    assert first_tensor({"loss": 3, "out": b}) is b
    for nothing in (None, [], {"x": 1}, Answer()):
        with pytest.raises(TypeError, match="holds no tensor"):
            first_tensor(nothing)


def _parameter(module):
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] += 1e-3


def _buffer(module):
    module.norm.running_mean += 1e-3


def _gradient(module):
    module.last.weight.grad = torch.zeros_like(module.last.weight)


def _mode(module):
    module.drop.train()


def _hook(module):
    module.conv.register_forward_hook(lambda *_: None)


def _pre_hook(module):
    module.conv.register_forward_pre_hook(lambda *_: None)


def _backward_hook(module):
    module.conv.register_full_backward_hook(lambda *_: None)


def _frozen(module):
    module.last.weight.requires_grad_(False)


@pytest.mark.parametrize(
    "change", [_parameter, _buffer, _gradient, _mode, _hook, _pre_hook, _backward_hook, _frozen]
)
def test_the_state_hash_sees_each_change(change):
    module = seeded(CNN)
    before = state_hash(module)
    change(module)
    assert state_hash(module) != before


def test_the_state_hash_sees_nothing_else():
    module = seeded(CNN)
    before = state_hash(module)
    module(torch.zeros(2, 1, 8, 8))
    assert state_hash(module) == before
    assert state_hash(seeded(CNN)) == before
    module.conv.register_forward_hook(lambda *_: None).remove()
    assert state_hash(module) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_the_state_hash_takes_tensors_of_every_type(dtype):
    module = nn.Module()
    module.register_buffer("b", torch.ones(3, dtype=dtype))
    module.register_buffer("scalar", torch.zeros((), dtype=dtype))
    module.register_buffer("empty", torch.zeros(0, dtype=dtype))
    before = state_hash(module)
    module.b[1] = 0
    assert state_hash(module) != before


@pytest.mark.parametrize("make", [exported, scripted], ids=["pt2", "torchscript"])
def test_graphs_and_scripts_can_be_hashed_batched_and_differentiated(make, tmp_path):
    network = seeded(MLP)
    path = make(tmp_path / ("m.pt2" if make is exported else "m.pt"), network)
    model = load_model(ModelSection(path=path, device="cpu"), tmp_path, ROWS)
    before = state_hash(model.module)
    model.passes.batch = 16
    assert torch.allclose(model.predict(ROWS), of(network).predict(ROWS), atol=1e-6)
    expected, _ = of(network).input_gradient(torch.tensor(ROWS), lambda scores: scores[:, 0])
    seen, _ = model.input_gradient(torch.tensor(ROWS), lambda scores: scores[:, 0])
    assert torch.allclose(seen, expected, atol=1e-6)
    assert state_hash(model.module) == before
    with torch.no_grad():
        next(iter(model.module.parameters())).add_(1)
    assert state_hash(model.module) != before


def test_the_batch_is_counted_by_hand():
    """A row of 1,024 floats into 1,024 floats is 4 KiB in and 4 KiB out; 1,024 such rows are 8 MiB."""
    model = of(nn.Linear(1024, 1024, bias=False))
    assert measured_batch(model, torch.zeros(4, 1024)) == 1024


def test_the_batch_is_the_same_every_time_and_within_its_bounds():
    rows = torch.zeros(4, 1, 28, 28)
    sizes = {measured_batch(of(seeded(LeNet)), rows) for _ in range(3)}
    assert len(sizes) == 1
    assert measured_batch(of(seeded(MLP)), torch.zeros(1, 5)) == 8192
    assert measured_batch(of(nn.Conv2d(1, 64, 3)), torch.zeros(1, 1, 512, 512)) == 16


def test_a_graph_and_a_script_are_measured_like_the_network(tmp_path):
    module, rows = seeded(LeNet), torch.rand(4, 1, 28, 28)
    expected = measured_batch(of(module), rows)
    script = torch_script(module, tmp_path)
    for _ in range(3):
        script(rows)
    assert measured_batch(of(script), rows) == expected


def torch_script(module, folder):
    from audit.loaders.torchscript import load

    path = scripted(folder / "m.pt", module)
    return load(path, ModelSection(path=path), folder).module


def test_measuring_leaves_the_network_as_it_was():
    module = seeded(LeNet)
    before = state_hash(module)
    measured_batch(of(module), torch.zeros(2, 1, 28, 28))
    assert state_hash(module) == before


class Sequence(nn.Module):
    """[N, T, 3] to logits of the last state."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.layer = kind(3, 4, batch_first=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.layer(x)[0][:, -1])


class OwnCell(nn.LSTM):
    """A recurrent layer under another name."""


RECURRENT = [(kind, form) for kind in (nn.LSTM, nn.GRU, nn.RNN) for form in ("module", "traced", "scripted")]


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",  # recurrent layers look at their input's shape
    "ignore:The tensor attributes:UserWarning",  # export speaks of the weights of recurrent layers
)
@pytest.mark.parametrize(
    ("kind", "form"),
    [*RECURRENT, (nn.LSTM, "exported"), (nn.GRU, "exported"), (nn.RNN, "exported"), (OwnCell, "module")],
)
def test_cudnn_is_off_for_recurrent_layers_while_a_backward_pass_may_follow(kind, form):
    network, rows = Sequence(kind).eval(), torch.randn(2, 5, 3)
    make = {
        "module": lambda: network,
        "traced": lambda: torch.jit.trace(network, rows),
        "scripted": lambda: torch.jit.script(network),
        "exported": lambda: torch.export.export(network, (rows,)).module(),
    }
    model = Model(module=make[form](), device=torch.device("cpu"))
    before = torch.backends.cudnn.enabled
    with model.differentiable():
        assert not torch.backends.cudnn.enabled
        assert torch.is_grad_enabled()
    assert torch.backends.cudnn.enabled == before
    with pytest.raises(ValueError, match="no"), model.differentiable():
        raise ValueError("no")
    assert torch.backends.cudnn.enabled == before
    assert not network.training


def test_cudnn_stays_as_it_is_for_all_other_layers():
    model = Model(module=seeded(CNN), device=torch.device("cpu"))
    before = torch.backends.cudnn.enabled
    with model.differentiable():
        assert torch.backends.cudnn.enabled == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_network_in_eval_mode_has_gradients_on_a_gpu(kind):
    network, rows = Sequence(kind).eval(), torch.randn(6, 5, 3)
    on_cpu = Model(module=network, device=torch.device("cpu"))
    wanted, _ = on_cpu.input_gradient(rows, lambda scores: scores[:, 1])
    device = torch.device("cuda")
    on_gpu = Model(module=network.to(device), device=device)
    found, _ = on_gpu.input_gradient(rows.to(device), lambda scores: scores[:, 1])
    assert torch.allclose(found.cpu(), wanted, atol=1e-5)
    assert not network.training


@given(count=st.integers(1, 500), most=st.integers(1, 60))
def test_parts_are_as_few_as_can_be_and_as_even(count, most):
    size = evenly(count, most)
    parts = [len(part) for part in torch.split(torch.arange(count), size)]
    assert max(parts) == size <= most
    assert len(parts) == -(-count // most)
    assert evenly(50, 16) == 13
