import numpy as np
import pytest
import torch
from networks import CNN, MLP, LeNet, seeded
from torch import nn

from audit.errors import LoadError
from audit.loaders.batched import Batched
from audit.model import Model, log_odds, state_hash
from audit.preflight import preflight

ROWS = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)


class Wrapped(nn.Module):
    """An MLP with something done to its outputs, given the inputs."""

    def __init__(self, change, **arguments):
        super().__init__()
        self.inner = seeded(MLP, **arguments)
        self.change = change
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, rows):
        return self.change(self.inner(rows), rows)


def flown(module, rows=ROWS, declared="auto", **facts):
    return preflight(Model(module=module.eval(), device=torch.device("cpu"), **facts), rows, declared)


def probe(model, name):
    return next(item for item in model.preflight if item.name == name)


def test_a_sound_model_passes_everything():
    model = flown(seeded(MLP))
    assert [item.name for item in model.preflight] == [
        *("evaluation mode", "output", "repeatable", "rows independent", "gradients", "model unchanged")
    ]
    assert all(item.passed for item in model.preflight)
    assert model.capabilities == {"logits", "gradients", "modules"}
    assert (model.ruled_out, model.caveats, model.input_shape, model.output) == ((), (), (5,), "logits")


@pytest.mark.parametrize(("network", "shape"), [(CNN, (1, 8, 8)), (LeNet, (1, 28, 28))])
def test_sound_image_models_pass(network, shape):
    rows = np.random.default_rng(0).random((16, *shape), dtype=np.float32)
    model = flown(seeded(network), rows, input_range=(0.0, 1.0))
    assert model.capabilities == {"logits", "gradients", "modules"}
    assert model.output == ("log_probabilities" if network is LeNet else "logits")


def test_the_model_and_the_rows_are_left_as_they_were():
    module, rows = seeded(MLP), ROWS.copy()
    before = state_hash(module)
    flown(module, rows)
    assert state_hash(module) == before
    assert np.array_equal(rows, ROWS)


def test_the_passes_of_the_preflight_are_not_counted():
    passes = flown(seeded(MLP)).passes
    assert (passes.forward, passes.backward) == (0, 0)


def test_random_outputs_are_caught():
    model = flown(Wrapped(lambda z, _: z + 0.01 * torch.randn_like(z)))
    assert not probe(model, "repeatable").passed
    assert model.capabilities == frozenset()
    assert "random or stateful" in model.ruled_out[0]


def test_a_row_that_depends_on_the_others_is_caught():
    model = flown(Wrapped(lambda z, _: z - z.mean(dim=0)))
    assert probe(model, "repeatable").passed
    assert not probe(model, "rows independent").passed
    assert model.capabilities == frozenset()
    assert "depends on the other rows of its batch" in model.ruled_out[0]


def test_dependence_is_caught_with_a_single_row_of_data():
    model = flown(Wrapped(lambda z, _: z + z.mean(dim=0)), ROWS[:1])
    assert not probe(model, "rows independent").passed


def test_batch_statistics_in_eval_mode_are_caught():
    class BatchStatistics(Wrapped):
        def forward(self, rows):
            return super().forward(nn.functional.batch_norm(rows, None, None, training=True))

    model = flown(BatchStatistics(lambda z, _: z))
    assert "refuses a row on its own (Expected more than 1 value" in probe(model, "rows independent").detail
    assert model.capabilities == frozenset()


class KeepsTraining(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(True)


def test_batch_norm_left_in_training_mode_is_refused_and_not_changed():
    module = nn.Sequential(nn.Linear(5, 4), KeepsTraining(4))
    before = state_hash(module.eval())
    with pytest.raises(LoadError, match=r"in training mode at '1' after eval\(\)"):
        flown(module)
    assert state_hash(module) == before


def test_a_model_that_changes_itself_is_caught():
    class Counts(Wrapped):
        def forward(self, rows):
            self.calls += 1
            return super().forward(rows)

    model = flown(Counts(lambda z, _: z))
    assert not probe(model, "model unchanged").passed
    assert model.capabilities == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        lambda z, _: z.round() + 0.0,
        lambda z, _: nn.functional.one_hot(z.argmax(dim=1), 3).float(),
        lambda z, _: (z > 0).float() + torch.tensor([0.0, 5.0, -5.0]),
    ],
)
def test_gradients_that_are_zero_or_absent_are_caught(change):
    model = flown(Wrapped(change))
    assert not probe(model, "gradients").passed
    assert model.capabilities == {"logits", "modules"}
    assert "which rules out gradients" in model.ruled_out[0]


def test_gradients_that_are_not_finite_are_caught():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(_, z):
            return z.clone()

        @staticmethod
        def backward(_, gradient):
            return gradient * torch.nan

    model = flown(Wrapped(lambda z, _: Broken.apply(z)))
    assert "NaN or infinite in 24 of 24 rows" in probe(model, "gradients").detail
    assert model.capabilities == {"logits", "modules"}


def test_gradients_that_are_zero_in_some_rows_are_told():
    def gate(z, rows):
        return torch.where(rows[:, :1] > 0, z, z.detach())

    model = flown(Wrapped(gate))
    zero = int((ROWS[:, 0] <= 0).sum())
    assert model.capabilities == {"logits", "gradients", "modules"}
    assert f"exactly zero for {zero} of the 24 rows" in model.caveats[0]


def test_labels_have_scores_and_no_gradients():
    model = flown(Wrapped(lambda z, _: z.argmax(dim=1)), classes=("a", "b", "c"))
    assert model.output == "labels"
    assert model.capabilities == {"logits", "modules"}
    scores = model.predict(ROWS)
    expected = seeded(MLP)(torch.tensor(ROWS)).argmax(dim=1)
    assert torch.equal(scores.argmax(dim=1), expected)
    assert torch.allclose(scores.softmax(dim=1).max(dim=1).values, torch.ones(24))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_infinity_are_refused(bad):
    def spoil(z, rows):
        return torch.where(rows[:, :1] == float(ROWS[3, 0]), bad, z)

    with pytest.raises(LoadError, match=r"NaN or infinity for 1 of the 24 rows .*the first is number 3"):
        flown(Wrapped(spoil))


def test_a_wrong_shape_is_refused_with_both():
    with pytest.raises(LoadError, match=r"rows of the shape \[6\] .*its first layer 'first' takes \[5\]"):
        flown(seeded(MLP), np.zeros((4, 6), np.float32))
    with pytest.raises(LoadError, match=r"shape \[3, 8, 8\] .*first layer 'conv' takes \[1, any, any\]"):
        flown(seeded(CNN), np.zeros((4, 3, 8, 8), np.float32))


def test_an_output_that_is_no_row_of_numbers_is_refused():
    with pytest.raises(LoadError, match=r"puts out \[24, 3, 1, 1\] for 24 rows"):
        flown(Wrapped(lambda z, _: z[:, :, None, None]))
    with pytest.raises(LoadError, match="returned a str that holds no tensor"):
        flown(Wrapped(lambda _z, _rows: "no tensor"))
    with pytest.raises(LoadError, match=r"one row of the shape \[5\] with a tensor of the shape \[\]"):
        flown(Wrapped(lambda z, _: z.sum()))


def test_a_model_of_single_rows_is_run_row_by_row():
    def picky(z, rows):
        if len(rows) != 1:
            raise ValueError("one row only")
        return z.view(1, -1)

    model = flown(Wrapped(picky))
    assert isinstance(model.module, Batched)
    assert "run row by row" in model.caveats[0]
    assert model.capabilities == {"logits", "gradients", "modules"}
    assert torch.allclose(model.predict(ROWS), seeded(MLP)(torch.tensor(ROWS)).detach(), atol=1e-6)


def test_the_kinds_of_output_mean_the_same_log_odds():
    kinds = {
        "logits": lambda z, _: z,
        "log_probabilities": lambda z, _: z.log_softmax(dim=1),
        "probabilities": lambda z, _: z.softmax(dim=1),
    }
    classes = torch.arange(24) % 3
    seen = {}
    for kind, change in kinds.items():
        model = flown(Wrapped(change))
        assert model.output == kind
        seen[kind] = log_odds(model.predict(ROWS), classes)
    assert torch.allclose(seen["logits"], seen["log_probabilities"], atol=1e-5)
    assert torch.allclose(seen["logits"], seen["probabilities"], atol=1e-5)


def test_the_kinds_of_single_output_mean_the_same_log_odds():
    def both(change):
        return flown(Wrapped(change, outputs=1))

    logit, probability = both(lambda z, _: z), both(lambda z, _: z.sigmoid())
    assert (logit.output, probability.output) == ("single_logit", "single_probability")
    ones = torch.ones(24, dtype=torch.int64)
    assert torch.allclose(
        log_odds(logit.predict(ROWS), ones), log_odds(probability.predict(ROWS), ones), atol=1e-5
    )


def test_a_wrong_number_of_means_is_refused():
    rows = np.zeros((4, 1, 8, 8), np.float32)
    with pytest.raises(LoadError, match=r"normalize has 3 means, but .* 1 channels"):
        flown(seeded(CNN), rows, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def test_data_outside_the_stated_range_are_refused():
    with pytest.raises(LoadError, match=r"input_range = \[0, 1\], but the data holds values from -\d"):
        flown(seeded(MLP), input_range=(0.0, 1.0))


def test_data_that_are_not_finite_are_refused():
    rows = ROWS.copy()
    rows[2, 1] = np.nan
    with pytest.raises(LoadError, match="NaN or infinity in row 2"):
        flown(seeded(MLP), rows)


def test_a_regression_is_flown_too():
    model = flown(seeded(MLP, outputs=1), task="regression")
    assert model.output == "values"
    assert model.capabilities == {"logits", "gradients", "modules"}
