"""Every setting of an attack is in the evidence as it was used, with the rows it took."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.cascade import Cascade
from audit.attack.loop import Pgd
from audit.checks.robustness.attack_sanity import attack_sanity
from audit.checks.robustness.certified import certified
from audit.checks.robustness.fgsm import fgsm
from audit.checks.robustness.pgd import pgd
from audit.checks.robustness.setting import in_words, setting
from audit.checks.robustness.worst_case import worst_case
from audit.dataset import Dataset
from audit.model import Model, Passes
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions


def shared():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    with torch.no_grad():
        labels = net(torch.from_numpy(inputs)).argmax(dim=1).numpy()
    data = Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"))
    model = Model(module=net, device=torch.device("cpu"), passes=Passes(batch=16))
    return model, data, adversaries(model, data, predictions(model, data), 7)


def told(evidence):
    (table,) = [item for item in evidence.tables if item.name == "setting"]
    return dict(table.rows)


def test_a_step_size_that_was_left_open_is_stated_as_it_was_used():
    _, data, attacks = shared()
    found = told(pgd.measure(data, attacks, **pgd.settings({"epsilon": [0.25], "steps": 10})))
    assert found["attack"] == "pgd"
    assert found["step size (share of epsilon)"] == 0.25
    assert found["steps"] == 10
    assert found["loss"] == "cross_entropy"
    assert found["scale"] == "std"
    assert found["seed"] == 7
    assert found["epsilon"] == "0.0, 0.25"
    chosen = told(pgd.measure(data, attacks, **pgd.settings({"step_size": 0.3})))
    assert chosen["step size (share of epsilon)"] == 0.3


def test_the_rows_an_attack_took_are_stated_by_whichever_check_uses_it_again():
    model, data, attacks = shared()
    how = {"epsilon": [0.25], "rows": 1000}
    first = told(pgd.measure(data, attacks, **pgd.settings(how)))
    before = (model.passes.forward, model.passes.backward)
    again = told(fgsm.measure(data, attacks, **fgsm.settings(how)))
    assert (model.passes.forward, model.passes.backward) == before
    assert again["backward rows"] == 60
    assert again["forward rows"] >= 3 * 60
    assert first["backward rows"] > again["backward rows"]


def test_a_step_size_that_says_what_is_used_anyway_is_the_same_attack():
    model, _, attacks = shared()
    attacks.pgd([0.1], Pgd(steps=10))
    before = model.passes.forward
    attacks.pgd([0.1], Pgd(steps=10, step_size=0.25))
    assert model.passes.forward == before


def test_restarts_that_would_all_start_alike_are_stated_as_the_one_that_was_made():
    _, data, attacks = shared()
    asked = pgd.settings({"random_start": False, "restarts": 3})
    assert told(pgd.measure(data, attacks, **asked))["restarts"] == 1


def test_a_cascade_states_what_nobody_may_choose():
    _, data, attacks = shared()
    found = told(worst_case.measure(data, attacks, **worst_case.settings({"steps": 5, "queries": 10})))
    assert found["pgd steps"] == 20
    assert found["pgd loss"] == "margin"
    assert found["pgd step size"] == pytest.approx(2.5 / 20)
    assert found["apgd rho"] == 0.75
    assert found["square p init"] == 0.8
    assert (found["steps"], found["queries"], found["targets"]) == (5, 10, 9)
    assert found["forward rows"] > found["backward rows"] > 0


def test_the_attack_beside_a_certificate_is_stated_with_its_own_checks():
    model, data, attacks = shared()
    evidence = certified.measure(model, data, attacks, **certified.settings({"epsilon": [0.1]}))
    assert told(evidence)["step size (share of epsilon)"] == pytest.approx(2.5 / 20)
    assert "self_checks" in {item.name for item in evidence.tables}


def test_attack_sanity_states_each_attack_it_made():
    _, data, attacks = shared()
    evidence = attack_sanity.measure(data, attacks, **attack_sanity.settings({"rows": 30}))
    table = next(item for item in evidence.tables if item.name == "attacks")
    words = {row[0]: row[table.columns.index("settings")] for row in table.rows}
    assert "restarts 3" in words["PGD, three restarts"]
    assert "steps 40" in words["PGD, twice the steps"]
    assert "loss margin" in words["PGD along the margin"]
    assert "draws 20" in words["random noise"]


def test_all_rows_and_no_value_are_words():
    _, _, attacks = shared()
    result = attacks.fgsm([0.1], rows=None)
    assert dict(setting(result).rows)["rows"] == "all"
    assert in_words(result) == "loss cross_entropy, norm linf"
    assert Cascade().fixed["pgd_steps"] == 20
