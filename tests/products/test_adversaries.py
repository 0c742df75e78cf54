"""Attacks are run once, on the same rows, and shared."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.hopskipjump import HopSkipJump
from audit.attack.loop import Pgd
from audit.dataset import Dataset
from audit.errors import NotApplicable
from audit.model import Model
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions


def made(**fields):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    model = Model(module=net, device=torch.device("cpu"), **fields)
    inputs = np.random.default_rng(0).random((60, 4), dtype=np.float32)
    with torch.no_grad():
        labels = net(torch.from_numpy(inputs)).argmax(1).numpy()
    labels[:6] = (labels[:6] + 1) % 3
    data = Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("a", "b", "c"))
    return adversaries(model, data, predictions(model, data), 5)


def test_the_same_attack_runs_once():
    shared = made()
    first = shared.fgsm([0.2, 0.1])
    spent = shared.model.passes.forward
    assert shared.fgsm((0.1, 0.2, 0.2)) is first
    assert shared.fgsm([0.1, 0.2], scale="std") is first
    assert shared.model.passes.forward == spent
    assert shared.fgsm([0.1, 0.2], scale="input") is not first
    assert shared.pgd([0.1], Pgd(steps=2)) is not shared.pgd([0.1], Pgd(steps=3))
    assert shared.pgd([0.1], Pgd(steps=2)) is shared.pgd([0.1], Pgd(steps=2))
    assert shared.noise([0.1]) is shared.noise([0.1])


def test_radii_ascend_and_settings_are_told():
    found = made().pgd([0.5, 0.1], Pgd(steps=2, loss="margin"), rows=20)
    assert [entry.epsilon for entry in found.at] == [0.1, 0.5]
    assert found.settings["loss"] == "margin"
    assert found.settings["scale"] == "std"
    assert found.settings["seed"] == 5
    assert found.walked


def test_passes_are_those_of_the_attack_alone():
    found = made().fgsm([0.1, 0.2])
    fooled = sum(int(entry.fooled.sum()) for entry in found.at)
    assert found.backward_rows == found.attacked == 54
    assert found.forward_rows == 3 * 54 + fooled


def test_all_attacks_look_at_the_same_rows():
    shared = made()
    rows = shared.fgsm([0.1], rows=20).rows
    assert len(rows) == 20
    assert np.array_equal(rows, shared.noise([0.3], rows=20).rows)
    assert np.array_equal(shared.rows(None), np.arange(60))
    assert np.array_equal(shared.rows(1000), np.arange(60))


def test_correct_is_the_true_label_and_not_the_prediction():
    found = made().fgsm([0.1], rows=None)
    assert found.correct.tolist() == [False] * 6 + [True] * 54


def test_examples_can_be_used_again():
    shared = made()
    rows, examples = shared.pgd([0.1, 0.5], Pgd(steps=5)).adversarial(0.5)
    assert len(rows)
    assert (shared.model.predict(examples).argmax(1).numpy() != shared.data.labels[rows]).all()


def test_a_model_without_gradients_says_why():
    blind = made(capabilities=frozenset({"logits"}), ruled_out=("It puts out labels.",))
    with pytest.raises(NotApplicable, match=r"gradients of the model: It puts out labels\."):
        blind.pgd([0.1], Pgd())


def test_attacks_that_ask_for_classes_alone_need_no_gradient():
    """Within 9 standard deviations every class is there to be found."""
    blind = made(capabilities=frozenset({"logits"}))
    jump = HopSkipJump(norm="linf", iterations=3, evaluations=30)
    for result in (blind.hopskipjump([0.0, 9.0], jump), blind.transfer([0.0, 9.0], Pgd(loss="margin"))):
        assert not result.at_epsilon(0.0).fooled.any()
        assert result.at_epsilon(9.0).fooled[result.correct].all()
        assert result.forward_rows > 0
        assert result.backward_rows == 0
        rows, examples = result.adversarial(9.0)
        assert len(rows) == result.attacked
        answers = blind.model.predict(examples).argmax(dim=1).numpy()
        assert (answers != blind.data.labels[rows]).all()


def test_a_boundary_farther_away_than_epsilon_is_not_claimed():
    near = made().hopskipjump([0.05], HopSkipJump(norm="linf", iterations=3, evaluations=30)).at[0]
    assert 0 < near.fooled.sum() < 54
    assert not any(near.rejected.values())


def test_what_is_attacked_can_be_looked_at_by_others():
    shared = made()
    aim = shared.target(3)
    assert np.array_equal(aim.rows, shared.rows(3))
    assert np.array_equal(aim.correct, shared.predictions.correct[aim.rows])


def test_points_with_the_same_answer_are_found_once_for_the_rows_asked_for():
    shared = made()
    rows = np.array([2, 7, 31])  # row 2 is wrong: its answer counts, not its label
    found = shared.same_answer(rows, 0.2)
    spent = (shared.model.passes.forward, shared.model.passes.backward)
    assert shared.same_answer(rows.copy(), 0.2, scale="std") is found
    assert (shared.model.passes.forward, shared.model.passes.backward) == spent
    assert shared.same_answer(rows, 0.3) is not found
    assert shared.same_answer(rows[:2], 0.2) is not found
    assert shared.same_answer(rows, 0.2, norm="l2") is not found
    assert shared.same_answer(rows, 0.2, scale="input") is not found
    assert found.backward_rows == 3
    assert np.array_equal(found.rows, rows)
    was, now = (shared.model.predict(x).argmax(1).tolist() for x in (shared.data.inputs[rows], found.points))
    assert was == now
    assert found.found.any()


def test_points_with_the_same_answer_are_as_near_as_the_smallest_usual_radius():
    shared = made()
    assert shared.same_answer(np.arange(4)).epsilon == shared.space().epsilons[0]
    blind = made(capabilities=frozenset({"logits"}))
    with pytest.raises(NotApplicable, match="need gradients"):
        blind.same_answer(np.arange(4))
