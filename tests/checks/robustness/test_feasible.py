"""The check: numbers worked out by hand, the sentences around them, and the Adult model end to end."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from audit.checks.robustness.attack_sanity import DOUBTED_MEASURES
from audit.checks.robustness.feasible import feasible
from audit.config import DataSection
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.model import Model, Passes, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions
from audit.read import load_data
from audit.record import canonical
from audit.stats import wilson

ROOT = Path(__file__).parents[3]


def linear(weights, bias=0.0, **fields):
    network = nn.Linear(len(weights), 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0] * len(weights), list(map(float, weights))]))
        network.bias.copy_(torch.tensor([0.0, float(bias)]))
    return Model(module=network.eval(), device=torch.device("cpu"), **fields)


FEATURES = (
    Feature(name="score", columns=(0,), cost=0.1),
    Feature(name="sex", kind="categorical", columns=(1, 2), categories=("f", "m")),
    Feature(name="job", kind="categorical", columns=(3, 4), categories=("cook", "smith")),
)
SCORES = [1, 3, 7, 9]
ROWS = np.array([[s, i % 2, 1 - i % 2, 1, 0] for i, s in enumerate(SCORES)], np.float32)


def table(labels=(0, 0, 1, 1), **fields):
    """Class 1 (granted) above 5; rows 0 and 2 are m, 1 and 3 are f."""
    sex = Sensitive(name="sex", groups=("f", "m"), codes=np.array([1, 0, 1, 0]))
    return Dataset(
        **{
            "inputs": ROWS,
            "labels": np.array(labels),
            "modality": "tabular",
            "classes": ("refused", "granted"),
            "favourable": 1,
            "features": FEATURES,
            "sensitive": {"sex": sex},
            **fields,
        }
    )


def measured(data, model=None, **settings):
    model = model or linear([1, 0, 0, 0, 0], -5)
    return feasible.measure(data, attacks(model, data), **feasible.settings(settings))


def attacks(model, data):
    return adversaries(model, data, predictions(model, data), 0)


def values(evidence, name, **group):
    return {
        m.settings.get("epsilon"): m.value
        for m in evidence.measures
        if m.name == name and dict(m.group) == group
    }


def lines(evidence, name):
    (found,) = [t for t in evidence.tables if t.name == name]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_costs_worked_out_by_hand():
    """A point of the score costs .1: 3 needs 6 (.3), 1 needs 6 (.5), 7 needs 5 (.2), 9 needs 5 (.4)."""
    evidence = measured(table(), epsilon=[0.2, 0.3, 0.4, 0.5])
    assert values(evidence, "clean_accuracy") == {None: 1}
    assert values(evidence, "robust_accuracy") == {0.2: 0.75, 0.3: 0.5, 0.4: 0.25, 0.5: 0}
    assert values(evidence, "attack_success_rate") == {0.2: 0.25, 0.3: 0.5, 0.4: 0.75, 0.5: 1}
    assert values(evidence, "robust_accuracy", sex="m") == {0.2: 0.5, 0.3: 0.5, 0.4: 0.5, 0.5: 0}
    assert values(evidence, "favourable_lost_rate") == {0.2: 0.5, 0.3: 0.5, 0.4: 1, 0.5: 1}
    assert values(evidence, "favourable_gained_rate") == {0.2: 0, 0.3: 0.5, 0.4: 0.5, 0.5: 1}
    assert values(evidence, "favourable_lost_rate", sex="f") == {0.2: 0, 0.3: 0, 0.4: 1, 0.5: 1}
    assert not any(m.unreliable for m in evidence.measures)
    (last,) = [line for line in lines(evidence, "costs") if line["epsilon"] == 0.5]
    assert last["fooled"] == 4
    assert last["median"] == pytest.approx(0.35)
    (changed,) = lines(evidence, "features changed")
    assert (changed["feature"], changed["rows changed"], changed["share"]) == ("score", 4, 1)
    assert (changed["rows increased"], changed["median increase"]) == (2, 4)  # 5 and 3
    assert (changed["rows decreased"], changed["median decrease"]) == (2, 3)  # 2 and 4


def test_a_group_that_falls_is_named_with_its_interval():
    rows = np.repeat(ROWS[[0, 3]], 40, axis=0)
    rows[40:, 0] = 6
    sex = Sensitive(name="sex", groups=("f", "m"), codes=np.repeat([1, 0], 40))
    data = table(np.repeat([0, 1], 40), inputs=rows, sensitive={"sex": sex})
    evidence = measured(data, epsilon=[0.1])
    assert values(evidence, "robust_accuracy", sex="f") == {0.1: 0}
    assert values(evidence, "robust_accuracy", sex="m") == {0.1: 1}
    (item,) = [m for m in evidence.measures if m.name == "robust_accuracy" and m.group == {"sex": "f"}]
    assert (item.low, item.high) == wilson({"x": 0, "n": 40}, 0.95)[1:]


def test_the_protected_feature_is_left_alone_and_then_let_go():
    """The model asks for the sex alone: held it never falls, free it always does, at the cost of 1."""
    model = linear([0, -1, 1, 0, 0])
    data = table((1, 0, 1, 0))
    evidence = measured(data, model, epsilon=[0.9, 1.0], touch_protected=True)
    assert values(evidence, "robust_accuracy") == {0.9: 1, 1.0: 1}
    assert values(evidence, "robust_accuracy_touching_protected") == {0.9: 1, 1.0: 0}
    assert values(evidence, "fooled_by_protected_alone") == {0.9: 0, 1.0: 1}
    assert {m.name for m in evidence.measures} - {"clean_accuracy"} <= set(DOUBTED_MEASURES)
    text = " ".join(evidence.caveats)
    assert "Held because protected: sex." in text
    assert "protected features free (sex)" in text
    assert lines(evidence, "features changed") == []
    named = measured(data, model, epsilon=[1.0], protected=["job"])
    assert values(named, "robust_accuracy") == {1.0: 0}
    (changed,) = lines(named, "features changed")
    assert (changed["feature"], changed["rows increased"]) == ("sex", None)
    assert changed["most frequent change"] in {"f to m (2 rows)", "m to f (2 rows)"}


def test_protected_features_that_are_immutable_give_no_second_number():
    fixed = (
        FEATURES[0],
        Feature(name="sex", kind="categorical", columns=(1, 2), immutable=True),
        FEATURES[2],
    )
    evidence = measured(table(features=fixed), epsilon=[0.2], touch_protected=True)
    assert values(evidence, "robust_accuracy_touching_protected") == {}
    assert any("No protected feature may move (sex)" in text for text in evidence.caveats)


def test_a_model_of_an_immutable_feature_never_falls_and_the_reader_is_told():
    fixed = (Feature(name="score", columns=(0,), immutable=True), *FEATURES[1:])
    evidence = measured(table(features=fixed), epsilon=[100.0])
    assert values(evidence, "robust_accuracy") == {100.0: 1}
    assert "Held because immutable: score." in evidence.caveats


def test_rows_already_wrong_are_not_attacked_and_not_robust():
    evidence = measured(table((1, 0, 1, 1)), epsilon=[0.2])
    assert values(evidence, "clean_accuracy") == {None: 0.75}
    assert values(evidence, "robust_accuracy") == {0.2: 0.5}
    assert values(evidence, "attack_success_rate") == {0.2: 1 / 3}
    wrong = measured(table((1, 1, 0, 0)), epsilon=[0.2])
    undefined = [m for m in wrong.measures if m.name in {"attack_success_rate", "favourable_lost_rate"}]
    assert all(m.value is None and m.reason for m in undefined)
    assert canonical(replace(wrong, outcomes=None))


def test_a_model_without_gradients_is_searched_and_the_reader_is_told():
    blind = linear([1, 0, 0, 0, 0], -5, capabilities=frozenset({"logits"}))
    evidence = measured(table(), blind, epsilon=[0.3])
    assert values(evidence, "robust_accuracy") == {0.3: 0.5}
    assert any("no gradients" in text for text in evidence.caveats)
    assert blind.passes.backward == 0


def test_the_reader_is_told_what_was_left_open():
    sex = Sensitive(name="religion", groups=("a", "b"), codes=np.array([0, 1, 0, 1]))
    evidence = measured(table(sensitive={"religion": sex}, favourable=None), rows=3, epsilon=[0.2])
    text = " ".join(evidence.caveats)
    assert "no input of the model, so there was nothing to hold: religion" in text
    assert "3 of 4 rows were looked at" in text
    assert "Nobody has stated why" in text
    assert "Nothing is stated of sex, job" in text
    assert values(evidence, "favourable_lost_rate") == {}
    told = measured(table(), epsilon=[0.2], justification="A month of work.").caveats
    assert "Why these values of epsilon: A month of work." in told


def test_costs_without_a_setting():
    assert list(values(measured(table()), "robust_accuracy")) == [0.5, 1.0, 2.0]


def test_a_protected_name_that_is_no_feature_gets_one_sentence():
    with pytest.raises(ConfigError, match=r"protected names 'jb', which is not an input feature; .*'job'"):
        measured(table(), protected=["jb"])


def test_a_table_in_which_nothing_may_change_does_not_fit():
    fixed = tuple(Feature(name=f.name, kind=f.kind, columns=f.columns, immutable=True) for f in FEATURES)
    with pytest.raises(NotApplicable, match="no feature may change"):
        measured(table(features=fixed))


@pytest.mark.parametrize(
    "settings", [{"epsilon": []}, {"epsilon": [-1]}, {"beam": 0}, {"changes": 0}, {"steps": -1}, {"rows": 0}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError):
        feasible.settings(settings)


def test_the_evidence_is_plain_json_repeats_and_leaves_the_model_alone():
    model = linear([1, 0.1, 0, 0.3, 0], -5)
    before = state_hash(model.module)
    told = (replace(measured(table(), model, touch_protected=True), outcomes=None) for _ in range(2))
    first, second = (canonical(evidence) for evidence in told)
    assert first == second
    assert state_hash(model.module) == before


def test_the_published_text_says_what_it_answers_and_where_it_comes_from():
    assert feasible.title == "Accuracy when people change what they really can"
    assert "It answers" in feasible.text
    assert "arXiv" in feasible.text
    assert feasible.modality == {"tabular"}


NUMBERS = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
WORDS = ["workclass", "marital-status", "occupation", "relationship", "race", "sex", "native-country"]
STATED = {
    "age": {"direction": "increase", "range": (17, 90), "step": 1},
    "education-num": {"kind": "ordinal", "direction": "increase"},
    "hours-per-week": {"step": 1, "range": (1, 99)},
    "sex": {"kind": "categorical", "immutable": True},
    "race": {"kind": "categorical", "immutable": True},
}


@pytest.fixture(scope="module")
def adult(shared_data, tmp_path_factory):
    """The example's model and encoder, and 400 test rows with what a person can change."""
    folder = tmp_path_factory.mktemp("adult")
    script = ROOT / "examples" / "adult" / "train.py"
    path = shared_data / "adult" / "adult.csv"
    subprocess.run([sys.executable, script, path, folder], check=True, capture_output=True)
    section = DataSection(
        path=path,
        target="income",
        encoder=folder / "encoder.skops",
        where={"split": "test"},
        sensitive=("sex", "race"),
        favourable=">50K",
        rows=400,
        features=STATED,
        relations=[{"terms": {"capital-gain": 1, "capital-loss": 12}, "at_most": 1e5}],
    )
    data = load_data(section, folder)
    module = torch.export.load(folder / "model.pt2").module()
    capabilities = frozenset({"logits", "gradients"})
    model = Model(
        module=module, device=torch.device("cpu"), passes=Passes(batch=2048), capabilities=capabilities
    )
    return folder, data, model


def decoded(folder, data, rows):
    """The rows as the user knows them, by the encoder itself: scaler and one-hot encoder turned back."""
    import skops.io

    encoder = skops.io.load(folder / "encoder.skops", trusted=[])
    scaler, coder = (encoder.named_transformers_[name] for name in ("numeric", "category"))
    numbers = scaler.inverse_transform(rows[:, : len(NUMBERS)].astype(np.float64))
    table = pd.DataFrame(numbers, columns=NUMBERS)
    blocks = np.split(rows[:, len(NUMBERS) :], np.cumsum([len(c) for c in coder.categories_])[:-1], axis=1)
    for name, block, categories in zip(WORDS, blocks, coder.categories_, strict=True):
        assert set(np.unique(block)) <= {0, 1}
        assert (block.sum(axis=1) <= 1).all()
        table[name] = np.where(block.sum(axis=1) == 1, categories[block.argmax(axis=1)], "(none)")
    return table


@pytest.fixture(scope="module")
def persons(adult):
    """The attack on the Adult model: what it found, and as the user knows them, rows before, after, all."""
    from audit.attack.constraints import constraints
    from audit.attack.feasible import Search
    from audit.attack.feasible import feasible as attack

    folder, data, model = adult
    correct = predictions(model, data).correct
    held = ("sex", "race")
    told = constraints(data, held)
    rows = np.arange(len(data))
    result = attack(model, data, told, rows, correct, [0.5, 1.0, 2.0], Search(), protected=held)
    where, after = result.adversarial(2.0)
    assert len(where) > 150
    tables = (decoded(folder, data, inputs) for inputs in (data.inputs[where], after, data.inputs))
    return (result, *tables)


def test_no_claim_of_the_adult_attack_was_rejected_and_each_holds_in_a_fresh_pass(adult, persons):
    _, data, model = adult
    result, *_ = persons
    assert [entry.rejected for entry in result.at if any(entry.rejected.values())] == []
    where, after = result.adversarial(2.0)
    assert (model.predict(after).numpy().argmax(axis=1) != data.labels[where]).all()
    assert (model.predict(data.inputs[where]).numpy().argmax(axis=1) == data.labels[where]).all()


def test_every_adversarial_row_of_the_adult_model_is_a_possible_person(persons):
    _, old, new, seen = persons
    for name in NUMBERS:
        assert np.abs(new[name] - new[name].round()).max() < 0.02, name
        assert new[name].min() > seen[name].min() - 0.02, name
        assert new[name].max() < max(seen[name].max(), {"age": 90}.get(name, 99)) + 0.02, name
    for name in ("age", "education-num"):
        assert (new[name].round() >= old[name].round()).all(), name
    assert (new["age"].round() > old["age"].round()).any()
    assert new["hours-per-week"].between(0.98, 99.02).all()
    for name in ("sex", "race"):
        assert (new[name] == old[name]).all(), name
    assert (new["capital-gain"] + 12 * new["capital-loss"] <= 1e5 + 1).all()
    for name in WORDS:
        assert not ((new[name] == "(none)") & (old[name] != "(none)")).any(), name


def test_every_adversarial_row_of_the_adult_model_costs_no_more_than_was_allowed(persons):
    result, old, new, seen = persons
    price = sum(np.abs(new[n].round() - old[n].round()) / np.std(seen[n].round()) for n in NUMBERS)
    price += sum((new[n] != old[n]).astype(float) for n in WORDS)
    assert (price <= 2.0 * 1.001).all()
    small = np.isin(result.adversarial(2.0)[0], result.adversarial(0.5)[0])
    assert small.any()
    assert (price[small] <= 0.5 * 1.001).all()


def test_the_adult_model_through_the_check(adult):
    _, data, model = adult
    evidence = feasible.measure(data, attacks(model, data), **feasible.settings({"rows": 150}))
    robust = values(evidence, "robust_accuracy")
    (clean,) = values(evidence, "clean_accuracy").values()
    assert clean > robust[0.5] > robust[1.0] > robust[2.0]
    assert all(line["claimed but rejected"] == 0 for line in lines(evidence, "counts"))
    text = " ".join(evidence.caveats)
    for part in (
        "age may only increase",
        "Held because immutable: race, sex",
        "capital-gain + 12 capital-loss",
    ):
        assert part in text
    assert {"sex", "race", "age"} & {line["feature"] for line in lines(evidence, "features changed")} <= {
        "age"
    }
    assert canonical(replace(evidence, outcomes=None))


def test_the_check_is_imported_without_torch():
    code = (
        "import sys, importlib; importlib.import_module('audit.checks.robustness.feasible'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_search_is_that_of_the_product_and_runs_once():
    """Asked again with the same settings, it costs nothing but the classes of the rows that fell."""
    from audit.attack.feasible import Search

    model, data = linear([1, 0, 3, 0, 0], -5), table()
    shared = attacks(model, data)
    settings = feasible.settings({"epsilon": [0.2, 0.3], "touch_protected": True})
    first = feasible.measure(data, shared, **settings)
    spent = (model.passes.forward, model.passes.backward)
    again = feasible.measure(data, shared, **settings)
    assert [m.value for m in again.measures] == [m.value for m in first.measures]
    held = shared.feasible([0.0, 0.2, 0.3], Search(), protected=["sex"])
    fallen = held.at_epsilon(0.3).fooled.sum()
    assert fallen > 0
    assert (model.passes.forward, model.passes.backward) == (spent[0] + fallen, spent[1])
    assert shared.feasible([0.3, 0.2, 0], Search(), protected=("sex", "sex"), rows=1000) is held
    assert shared.feasible([0.0, 0.2, 0.3], Search(), rows=1000) is not held
    assert shared.feasible([0.0, 0.2, 0.3], Search(beam=2), protected=["sex"]) is not held
    free = shared.feasible([0.0, 0.2, 0.3], Search(), stricter=["sex"])
    assert (held.at_epsilon(0.3).fooled <= free.at_epsilon(0.3).fooled).all()
