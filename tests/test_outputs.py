import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from audit.errors import LoadError
from audit.model import Model
from audit.outputs import are_log_probabilities, are_probabilities, output_kind

ROWS = torch.linspace(-1, 1, 48).reshape(16, 3)


class Linear(nn.Module):
    """[N, 3] rows to fixed linear outputs, then `last`."""

    def __init__(self, last, outputs=4):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-2, 3, 3 * outputs).reshape(3, outputs))
        self.last = last

    def forward(self, rows):
        return self.last(rows @ self.weight)


def asked(last, declared="auto", outputs=4, classes=(), task="classification"):
    model = Model(module=Linear(last, outputs), device=torch.device("cpu"), classes=classes, task=task)
    return output_kind(model, ROWS, model.raw(ROWS).detach(), declared)


@pytest.mark.parametrize(
    ("last", "outputs", "kind"),
    [
        (nn.Identity(), 4, "logits"),
        (nn.Softmax(dim=1), 4, "probabilities"),
        (nn.LogSoftmax(dim=1), 4, "log_probabilities"),
        (nn.Identity(), 1, "single_logit"),
        (nn.Sigmoid(), 1, "single_probability"),
        (lambda z: z.squeeze(1), 1, "single_logit"),
        (lambda z: z.squeeze(1).sigmoid(), 1, "single_probability"),
    ],
)
def test_the_kind_is_told(last, outputs, kind):
    assert asked(last, outputs=outputs)[0] == kind


def test_a_logit_that_happens_to_lie_between_0_and_1_is_not_taken_for_a_probability():
    kind, said = asked(lambda z: 0.5 + z / 100, outputs=1)
    assert (kind, said) == ("single_logit", ())


def test_a_single_probability_is_told_to_be_a_guess_unless_declared():
    assert "declare [model] output" in asked(nn.Sigmoid(), outputs=1)[1][0]
    assert asked(nn.Sigmoid(), "single_probability", outputs=1) == ("single_probability", ())


def test_labels_are_told_by_their_type():
    kind, said = asked(lambda z: z.argmax(dim=1), classes=tuple("abcd"))
    assert kind == "labels"
    assert "no scores" in said[0]


def test_labels_as_floats_may_be_declared():
    assert asked(lambda z: z.argmax(dim=1).float(), "labels", classes=tuple("abcd"))[0] == "labels"


def test_a_regression_puts_out_values():
    assert asked(nn.Identity(), outputs=1, task="regression") == ("values", ())
    flat = asked(lambda z: z.squeeze(1), outputs=1, classes=("a", "b", "c"), task="regression")
    assert flat == ("values", ())


def test_a_regression_puts_out_one_finite_number_a_row():
    with pytest.raises(LoadError, match="puts out 4 numbers a row, and a regression is audited on one"):
        asked(nn.Identity(), task="regression")
    with pytest.raises(LoadError, match="infinity"):
        asked(lambda z: z - torch.inf, outputs=1, task="regression")


@pytest.mark.parametrize(
    ("last", "declared", "outputs", "said"),
    [
        (nn.Identity(), "probabilities", 4, "a row of outputs sums to"),
        (nn.Identity(), "log_probabilities", 4, "the exponentials of a row of outputs sum to"),
        (nn.Softmax(dim=1), "logits", 4, "every row of outputs sums to 1"),
        (nn.Identity(), "single_logit", 4, "the model puts out 4 numbers a row"),
        (nn.Identity(), "logits", 1, "the model puts out 1 number a row"),
        (nn.Identity(), "single_probability", 1, "the outputs go from -"),
        (nn.Sigmoid(), "probabilities", 1, "the model puts out 1 number a row"),
        (nn.Identity(), "labels", 1, "the outputs go from -"),
    ],
)
def test_a_declaration_that_contradicts_the_values_is_refused(last, declared, outputs, said):
    with pytest.raises(LoadError, match=rf"\[model\] output = '{declared}', but {said}"):
        asked(last, declared, outputs)


def test_log_probabilities_may_be_called_logits():
    """Their softmax is the same."""
    assert asked(nn.LogSoftmax(dim=1), "logits")[0] == "logits"


def test_independent_sigmoids_are_refused_unless_declared():
    with pytest.raises(LoadError, match="as independent sigmoids do"):
        asked(nn.Sigmoid())
    assert asked(nn.Sigmoid(), "logits")[0] == "logits"


@pytest.mark.parametrize(
    ("last", "outputs", "classes", "said"),
    [
        (nn.Identity(), 4, ("a", "b"), r"puts out 4 outputs, but there are 2 classes \(a, b\)"),
        (
            nn.Identity(),
            1,
            tuple("abcde"),
            r"1 output \(for 2 classes\), but there are 5 classes \(a, b, c, \.\.\.\)",
        ),
        (lambda z: z.argmax(dim=1), 4, ("a", "b"), "the label 3, but there are 2 classes, numbered 0 to 1"),
        (lambda z: z.argmax(dim=1) * 2 - 3, 2, ("a", "b"), "the label -3, but there are 2 classes"),
        (lambda z: z.argmax(dim=1), 4, (), r"\[model\] classes must name the classes"),
    ],
)
def test_another_number_of_classes_is_refused_with_both(last, outputs, classes, said):
    with pytest.raises(LoadError, match=said):
        asked(last, outputs=outputs, classes=classes)


def test_minus_infinity_is_a_log_probability_and_nothing_else():
    def cut(z):
        kept = torch.where(z == z.max(dim=1, keepdim=True).values, z, -torch.inf)
        return kept.log_softmax(dim=1)

    assert asked(cut)[0] == "log_probabilities"
    with pytest.raises(LoadError, match="infinity where logits are finite"):
        asked(lambda z: torch.where(z > 0, z + 1, -torch.inf))


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=8))
def test_softmax_and_its_logarithm_are_always_known(values):
    logits = torch.tensor(values)
    assert are_probabilities(logits.softmax(dim=1))
    assert are_log_probabilities(logits.log_softmax(dim=1))
    assert not are_probabilities(logits.softmax(dim=1) + 0.01)
    assert not are_log_probabilities(logits.log_softmax(dim=1) + 0.01)
