"""What the model says, against sums done by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.dataset import Dataset
from audit.errors import NotApplicable, NotEvaluable
from audit.model import Model
from audit.products.predictions import predictions

INPUTS = np.array([[2.0], [-1.0], [0.5]], np.float32)


def data(labels=(1, 0, 0), inputs=INPUTS):
    inputs = inputs.copy()
    inputs.flags.writeable = False
    return Dataset(
        inputs=inputs, labels=np.array(labels, np.int64), modality="tabular", classes=("no", "yes")
    )


def model(network=None, **fields):
    return Model(module=network or nn.Identity(), device=torch.device("cpu"), output="single_logit", **fields)


def test_a_single_logit_by_hand():
    found = predictions(model(), data())
    assert found.predicted.tolist() == [1, 0, 1]
    assert found.correct.tolist() == [True, True, False]
    np.testing.assert_allclose(found.probabilities[:, 1], 1 / (1 + np.exp(-INPUTS[:, 0])), rtol=1e-6)
    np.testing.assert_allclose(
        np.exp(found.scores[:, 1] - found.scores[:, 0]), np.exp(INPUTS[:, 0]), rtol=1e-6
    )


def test_one_pass_and_no_gradient():
    used = model()
    predictions(used, data())
    assert (used.passes.forward, used.passes.backward) == (3, 0)


def test_a_score_that_is_not_a_number_is_never_correct():
    found = predictions(model(), data((1, 1, 0), np.array([[np.nan], [np.inf], [-1.0]], np.float32)))
    assert found.correct.tolist() == [False, False, True]
    assert found.finite.tolist() == [False, False, True]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_output_is_refused_by_row(label):
    with pytest.raises(NotEvaluable, match=rf"label {label} in row 1 .* 2 outputs"):
        predictions(model(), data((0, label, 0)))


def test_regression_has_no_classes():
    with pytest.raises(NotApplicable, match="task is regression"):
        predictions(model(task="regression"), data())


def test_no_rows():
    with pytest.raises(NotEvaluable, match="0 rows"):
        predictions(model(), data((), np.empty((0, 1), np.float32)))


def test_a_network_that_writes_into_its_input_leaves_the_data_alone():
    rows = data()
    predictions(model(nn.ReLU(inplace=True)), rows)
    assert np.array_equal(rows.inputs, INPUTS)


def stated(scores=None, favourable=1, **fields):
    decided = np.array([1, 0, 1], np.int64)
    return Dataset(
        inputs=np.zeros((3, 0), np.float32), modality="tabular", classes=("no", "yes"), favourable=favourable,
        decisions=decided, scores=None if scores is None else np.array(scores), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("favourable", [0, 1])
def test_stated_scores_are_the_probabilities_of_the_favourable_class(favourable):
    found = predictions(model(), stated([0.9, 0.0, 0.5], favourable, labels=np.array([1, 1, 1])))
    np.testing.assert_allclose(found.probabilities[:, favourable], [0.9, 0.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
    softmax = torch.from_numpy(found.scores).softmax(dim=1).numpy()
    np.testing.assert_allclose(softmax, found.probabilities, atol=1e-6)
    assert found.predicted.tolist() == [1, 0, 1]
    assert found.correct.tolist() == [True, False, True]
    assert found.finite.all()


def test_stated_decisions_ask_nothing_of_the_network():
    used = model()
    assert predictions(used, stated()).predicted.tolist() == [1, 0, 1]
    assert used.passes.forward == 0


def test_what_the_data_do_not_state_is_not_applicable_rather_than_made_up():
    found = predictions(model(), stated())
    for name in ("scores", "probabilities"):
        with pytest.raises(NotApplicable, match="decisions and no scores"):
            getattr(found, name)
    with pytest.raises(NotApplicable, match="no true outcomes"):
        _ = found.correct
    with pytest.raises(AttributeError):
        _ = found.corect


def test_without_true_outcomes_only_what_needs_them_is_not_applicable():
    labelled = data()
    bare = Dataset(**{name: value for name, value in vars(labelled).items() if name != "labels"})
    known, found = predictions(model(), labelled), predictions(model(), bare)
    for name in ("scores", "probabilities", "predicted", "finite"):
        np.testing.assert_array_equal(getattr(found, name), getattr(known, name))
    assert found.device == known.device
    with pytest.raises(NotApplicable, match="no true outcomes"):
        _ = found.correct
