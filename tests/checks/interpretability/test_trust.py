"""The trust card: what deserves belief gets it, what does not is found out, and the model comes back."""

import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pandas as pd
import pytest
import torch
from networks import ResNet20
from scaffold import ForestScaffolded, OneColumn, Scaffolded
from torch import nn

from audit.checks.interpretability.trust import CHECKS, trust
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import NotApplicable, NotEvaluable
from audit.model import Model, state_hash
from audit.pictures import curve_of
from audit.products.adversaries import adversaries
from audit.products.attributions import METHODS, attributions
from audit.products.predictions import predictions
from audit.registry import installed_checks
from audit.stats import interval_at, mean
from audit.trust.scaffolding import perturbed

NAMES = ("age", "pay", "debt", "years", "late", "loan")


def table(rows=300, seed=0, sensitive=None):
    inputs = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)
    return Dataset(
        inputs=inputs,
        labels=np.zeros(rows, np.int64),
        modality="tabular",
        classes=("no", "yes"),
        features=tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(NAMES)),
        sensitive=sensitive or {},
    )


def model_of(network, **fields):
    return Model(module=network.eval(), device=torch.device("cpu"), **fields)


def put(model, data, source, settings):
    """The card, with the products as a run gives them; what they cost is not the card's."""
    before = model.passes.forward
    attacks = adversaries(model, data, predictions(model, data), source.seed)
    model.passes.forward = before
    return trust.measure(model, data, source.seed, source, attacks, **settings)


def measured(network, data, seed=0, **settings):
    """Invented methods are not among the names that settings take, so they are put in afterwards."""
    model = model_of(network)
    methods = settings.pop("methods", None)
    given = trust.settings(settings) | {"methods": methods}
    return put(model, data, attributions(model, data, seed), given)


def planted(column=2):
    network = nn.Linear(6, 2)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, column] = 3
        network.bias.zero_()
    return network


def mlp(inputs=6, seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def cards(found):
    return {row[0]: row[1] for row in found.tables[0].rows[:-1]}


def the(found, name, **settings):
    (one,) = [m for m in found.measures if m.name == name and dict(m.settings) == settings and not m.group]
    return one


def card_of(found, method):
    (one,) = [item for item in found.tables if item.name == f"card_{method}"]
    return {row[0]: row for row in one.rows}


def noise(model, data, seed, explained):
    """An explainer that knows nothing of the model."""
    values = np.random.default_rng(seed).normal(size=(len(explained.index), 6))
    return {"values": values, "features": NAMES}


@pytest.mark.parametrize("seed", range(5))
def test_a_random_explainer_is_not_supported(monkeypatch, seed):
    monkeypatch.setitem(METHODS, "noise", noise)
    found = measured(mlp(seed=seed), table(), seed, methods=["noise"])
    assert cards(found) == {"noise": "not supported"}
    assert the(found, "trust", method="noise").value == 0
    (doubt,) = found.doubts
    assert (doubt.checks, doubt.measures) == (["interpretability.noise"], ["mean_abs_attribution"])
    assert "not supported" in doubt.reason


def test_a_random_explainer_that_ignores_the_seed_gains_support_from_nothing(monkeypatch):
    """Its ranking is stable and changes with nothing but chance; by chance a fill may speak for it."""
    said = []
    for draw in range(8):
        monkeypatch.setitem(METHODS, "noise", invented(draw))
        said.append(cards(measured(mlp(), table(), methods=["noise"]))["noise"])
    assert said.count("not supported") >= 6
    assert "supported" not in said


def invented(draw):
    def explain(model, data, seed, explained):
        return noise(model, data, 100 + draw, explained)

    return explain


class OneRowRules(nn.Module):
    """One row in a hundred is answered about as far as all others together and more."""

    def __init__(self, seed):
        super().__init__()
        self.body = mlp(seed=seed)
        self.steep = nn.Parameter(torch.tensor(6.0))

    def forward(self, rows):
        return self.body(rows) * torch.exp(self.steep * rows[:, :1])


def test_one_row_that_moves_furthest_does_not_speak_for_an_invented_explanation(monkeypatch):
    """Rows that weigh by their range alone let one row decide: by a coin, 11 of 20 would be shown to gain."""

    def by_weights(model, data, seed, explained):
        size = sum(float(one.detach().abs().sum()) for one in model.module.parameters())
        return noise(model, data, int(size * 1e6), explained)

    monkeypatch.setitem(METHODS, "noise", by_weights)
    said = [
        cards(measured(OneRowRules(seed), table(seed=seed), methods=["noise"], draws=2))["noise"]
        for seed in range(20)
    ]
    assert said.count("not supported") >= 16
    assert "supported" not in said


def test_what_is_said_against_the_variance_does_not_meet_the_mean(monkeypatch):
    monkeypatch.setitem(METHODS, "vargrad", noise)
    (doubt,) = measured(mlp(), table(), methods=["vargrad"]).doubts
    assert doubt.checks == ["interpretability.smoothgrad"]
    assert doubt.measures == ["mean_gradient_variance"]


def test_rows_without_a_point_nearby_are_told():
    found = measured(planted(), table(), methods=["saliency"], epsilon=1.0)
    (told,) = [item for item in found.caveats if "no point within epsilon 1 " in item]
    assert told.startswith("Of 32 rows, ")
    far = planted()
    with torch.no_grad():
        far.bias.copy_(torch.tensor([0.0, 500.0]))
    found = measured(far, table(), methods=["saliency"], epsilon=1.0)
    assert not [item for item in found.caveats if "no point within" in item]


def test_an_explainer_that_ignores_the_model_is_found_out(monkeypatch):
    """It ties with the control that asks no model, because it is that control, and random weights change
    nothing."""

    def looks_at_data(model, data, seed, explained):
        z = (data.inputs - data.inputs.mean(axis=0)) / data.inputs.std(axis=0)
        return {"values": np.abs(z[explained.index].astype(float)), "features": NAMES}

    monkeypatch.setitem(METHODS, "data", looks_at_data)
    found = measured(mlp(), table(), methods=["data"])
    assert cards(found) == {"data": "not supported"}
    same = the(found, "randomised_rank_correlation", method="data")
    assert same.value == pytest.approx(1)
    assert abs(the(found, "control_gain", method="data", fill="mean").value) < 1e-9


def test_a_constant_model_has_no_explanation():
    network = planted()
    with torch.no_grad():
        network.weight.zero_()
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(network, table())


def test_a_constant_model_gives_an_inventive_explainer_no_explanation(monkeypatch):
    monkeypatch.setitem(METHODS, "noise", noise)
    network = planted()
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([0.0, 1.0]))
    with pytest.raises(NotEvaluable, match="noise: the model's answer does not change"):
        measured(network, table(), methods=["noise"])


def test_one_method_without_an_explanation_is_a_card_and_no_number():
    class Steps(nn.Module):
        """No slope anywhere, and an answer that depends on the inputs all the same."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([2.0, 1.0, 0.5, 0.2, 0.1, 0.05]))

        def forward(self, rows):
            answer = (rows.sign() * self.weight).sum(dim=1)
            return torch.stack([0 * answer, answer], dim=1)

    found = measured(Steps(), table(), methods=["saliency", "lime"])
    assert cards(found)["saliency"] == "no explanation"
    assert cards(found)["lime"] != "no explanation"
    grade = the(found, "trust", method="saliency")
    assert grade.value is None
    assert "no explanation" in grade.reason


PLAIN = ["saliency", "input_x_gradient", "integrated_gradients", "occlusion", "kernel_shap", "lime"]


def learned(column, seed):
    """A network with a curve that learned from one feature, and that sees no other."""
    data = table(seed=seed + 50)
    torch.manual_seed(seed)
    network = nn.Sequential(*(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)))
    network[0].weight.data[:, [i for i in range(6) if i != column]] = 0
    inputs = torch.zeros(300, 6)
    inputs[:, column] = torch.tensor(data.inputs[:, column])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(inputs), (inputs[:, column] > 0.2).long()).backward()
        optimiser.step()
    optimiser.zero_grad()
    return network, data


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["linear", "learned"])
def test_a_planted_feature_comes_first_with_a_supported_card(kind, seed):
    network, data = (planted(seed), table(seed=seed)) if kind == "linear" else learned(seed, seed)
    model = model_of(network)
    source = attributions(model, data, seed)
    found = put(model, data, source, trust.settings({"methods": PLAIN}))
    assert cards(found) == dict.fromkeys(PLAIN, "supported")
    for method in PLAIN:
        item = source.of(method, rows=32)
        assert np.abs(item.values).mean(axis=0).argmax() == seed
        assert the(found, "seed_sign_change", method=method).high < 0.25
    assert not found.doubts
    assert not [item for item in found.caveats if "no single ranking" in item]


@pytest.mark.parametrize("seed", range(6))
def test_an_explanation_that_hangs_on_the_draw_of_its_baseline_is_never_supported(monkeypatch, seed):
    """Truly w (x - baseline), but the baseline is one row drawn by the seed: others lead each time."""
    weights = np.array([1.0, 0.9, 1.1, 0.8, 1.2, 1.0])
    network = nn.Linear(6, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor(np.stack([0 * weights, weights])))
        network.bias.zero_()

    def one_row(model, data, seed, explained):
        other = data.inputs[np.random.default_rng(seed).integers(len(data))]
        sign = 2 * explained.classes.numpy()[:, None] - 1
        return {"values": sign * weights * (data.inputs[explained.index] - other), "features": NAMES}

    monkeypatch.setitem(METHODS, "one_row", one_row)
    found = measured(network, table(seed=seed), seed, methods=["one_row", "integrated_gradients"])
    assert cards(found)["one_row"] in {"weak", "not supported"}
    assert card_of(found, "one_row")["rank correlation between seeds"][5] != "held"
    assert card_of(found, "integrated_gradients")["rank correlation between seeds"][5] == "held"


def test_signs_that_hang_on_the_seed_are_not_supported(monkeypatch):
    """The right features, for or against by the toss of a coin."""

    def tossed(model, data, seed, explained):
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(explained.index), 6))
        return {"values": signs * np.array([32.0, 16, 8, 4, 2, 1]), "features": NAMES}

    monkeypatch.setitem(METHODS, "tossed", tossed)
    found = measured(mlp(), table(), methods=["tossed"])
    tests = card_of(found, "tossed")
    assert tests["rank correlation between seeds"][1] == pytest.approx(1)
    assert tests["change of sign between seeds"][5] == "failed"
    assert cards(found) == {"tossed": "not supported"}


def test_all_methods_that_fit_are_tried_and_the_others_told_with_the_reason():
    found = measured(mlp(), table(), rows=8, draws=2)
    untried = {"rise", "permutation_shap", "lime_library", "gradcam", "layer_conductance"}
    assert set(cards(found)) == set(METHODS) - untried
    (told,) = [item for item in found.tables if item.name == "not_tried"]
    why = dict(told.rows)
    assert set(why) == untried
    assert "kernel_shap estimates the same values" in why["permutation_shap"]
    assert "units of a layer" in why["layer_conductance"]
    assert "Grad-CAM is for images" in why["gradcam"]
    named = measured(mlp(), table(), rows=8, draws=2, methods=["saliency"])
    assert not [item for item in named.tables if item.name == "not_tried"]


def test_gains_are_those_of_a_slow_restatement(monkeypatch):
    """One feature moves the answer: with it first, every curve is a step, and a random ranking's step lies
    anywhere."""
    found = measured(planted(), table(), methods=["saliency"], rankings=400, steps=6)
    gain = the(found, "deletion_gain", method="saliency", fill="mean")
    best = 1 / 2 / 6
    others = [(2 * place + 1) / 2 / 6 for place in range(6)]
    assert gain.value == pytest.approx(np.mean(others) - best, abs=0.02)
    assert gain.n == 32


def people(rows=800):
    """Sex and luck are coins; four numbers lie close to a plane."""
    random = np.random.default_rng(0)
    plane = random.normal(size=(rows, 2)) @ random.normal(size=(2, 4)) + 0.1 * random.normal(size=(rows, 4))
    coins = random.integers(2, size=(rows, 2)) * 2.0 - 1
    names = ("sex", "luck", "a", "b", "c", "d")
    return Dataset(
        inputs=np.column_stack([coins, plane]).astype(np.float32),
        labels=(coins[:, 0] > 0).astype(np.int64),
        modality="tabular",
        classes=("no", "yes"),
        features=tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(names)),
    )


def test_a_scaffolded_model_is_flagged_and_an_honest_one_is_not():
    data = people()
    hidden = Scaffolded(OneColumn(0), OneColumn(1), torch.tensor(data.inputs))
    found = measured(hidden, data, methods=["integrated_gradients", "kernel_shap", "lime"])
    assert any("leads with sex on rows of the data and with luck" in item for item in found.caveats)
    assert cards(found)["lime"] == cards(found)["kernel_shap"] == "not supported"
    assert cards(found)["integrated_gradients"] != "supported"
    where = {"perturbation": "lime", "on_data": "sex", "off_data": "luck"}
    assert the(found, "on_manifold_lead", **where).low > 0.1
    assert the(found, "off_manifold_lead", **where).low > 0.1
    assert the(found, "off_manifold_share", perturbation="lime").value > 0.8
    for honest in (OneColumn(0), mlp()):
        found = measured(honest, data, methods=["saliency"])
        assert not any("leads with" in item for item in found.caveats)


@pytest.fixture(scope="module")
def german(shared_data):
    """German credit: 1,000 people, one-hot groups, and an honest network that learned from them."""
    raw = pd.read_csv(shared_data / "german_credit" / "german.csv")
    labels = raw.pop("class-label").to_numpy(np.int64)
    blocks, features, at = [], [], 0
    for name in raw:
        numeric = pd.api.types.is_numeric_dtype(raw[name])
        block = raw[[name]] if numeric else pd.get_dummies(raw[name])
        block = block.to_numpy(np.float32)
        block = (block - block.mean(axis=0)) / block.std(axis=0) if numeric else block
        columns = tuple(range(at, at + block.shape[1]))
        kind = "numeric" if numeric else "categorical"
        categories = () if numeric else tuple(str(c) for c in columns)
        features.append(Feature(name=name, kind=kind, columns=columns, categories=categories))
        blocks.append(block)
        at += block.shape[1]
    codes = (raw["sex"] == "male").to_numpy(np.int64)
    data = Dataset(
        inputs=np.concatenate(blocks, axis=1),
        labels=labels,
        modality="tabular",
        classes=("bad", "good"),
        features=tuple(features),
        sensitive={"sex": Sensitive(name="sex", groups=("female", "male"), codes=codes)},
    )
    inputs, wanted = torch.tensor(data.inputs), torch.tensor(labels)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(at, 32), nn.ReLU(), nn.Linear(32, 2))
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3, weight_decay=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(inputs), wanted).backward()
        optimiser.step()
    return network.requires_grad_(True), data


def test_german_credit_gets_a_full_card_and_no_false_alarm(german):
    network, data = german
    model = model_of(network)
    before = state_hash(model.module)
    found = put(model, data, attributions(model, data, 0), trust.settings({}))
    assert state_hash(model.module) == before
    assert set(cards(found)) >= {*PLAIN, "smoothgrad", "expected_gradients", "deep_lift", "deep_shap"}
    assert "no explanation" not in cards(found).values()
    assert cards(found)["kernel_shap"] == "supported"
    assert not any("leads with" in item for item in found.caveats)
    differences = [m for m in found.measures if m.name == "faithfulness_difference"]
    assert {tuple(m.group.items()) for m in differences} == {(("sex", "female"),), (("sex", "male"),)}
    assert all(m.low < m.value < m.high for m in differences)


def test_the_attack_of_slack_on_german_credit_is_flagged(german):
    """Their case: gender decides about people, the instalment rate about rows that a forest finds made up."""
    _, data = german
    column = {item.name: item.columns[-1] for item in data.features}
    strange = perturbed(data, data.inputs, data.feature_of_column(), "lime", 2, 99)
    hidden = ForestScaffolded(
        OneColumn(column["sex"], threshold=0.5),
        OneColumn(column["installment-rate"]),
        torch.tensor(data.inputs),
        torch.tensor(strange.reshape(-1, data.inputs.shape[1])),
    )
    model = model_of(hidden, capabilities=frozenset({"logits"}))
    settings = trust.settings({"methods": ["lime"], "rows": 10, "draws": 2})
    found = put(model, data, attributions(model, data, 0), settings)
    assert any("leads with sex" in item for item in found.caveats)
    assert cards(found) == {"lime": "not supported"}


def test_an_explanation_that_fails_one_group_is_told(monkeypatch):
    """It explains one group by the truth and invents the rest."""
    codes = np.arange(300) % 2
    groups = {"sex": Sensitive(name="sex", groups=("f", "m"), codes=codes)}
    data = table(sensitive=groups)
    weights = np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    network = nn.Linear(6, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor(np.stack([0 * weights, weights])))
        network.bias.zero_()

    def partial_truth(model, data, seed, explained):
        truth = data.inputs[explained.index] * weights * np.sign(explained.classes.numpy() - 0.5)[:, None]
        invented = noise(model, data, seed, explained)["values"]
        return {"values": np.where(codes[explained.index, None] == 1, truth, invented), "features": NAMES}

    monkeypatch.setitem(METHODS, "partial", partial_truth)
    found = measured(network, data, methods=["partial", "integrated_gradients"], rows=80)
    told = {
        (m.settings["method"], m.group["sex"]): m
        for m in found.measures
        if m.name == "faithfulness_difference"
    }
    assert told["partial", "m"].low > 0.1
    assert told["partial", "f"].value == pytest.approx(-told["partial", "m"].value)
    fair = told["integrated_gradients", "m"]
    assert fair.low < 0.05
    assert fair.high > -0.05


def test_a_group_of_few_rows_is_shown_and_not_judged():
    codes = np.zeros(300, np.int64)
    codes[::30] = 1
    data = table(sensitive={"sex": Sensitive(name="sex", groups=("f", "m"), codes=codes)})
    found = measured(mlp(), data, methods=["saliency"], rows=300)
    told = [m for m in found.measures if m.name == "faithfulness_difference"]
    assert [bool(m.too_few) for m in told] == [False, False]
    found = measured(mlp(), data, methods=["saliency"], rows=40)
    told = [m for m in found.measures if m.name == "faithfulness_difference"]
    assert told
    assert all("fewer than 10" in m.too_few for m in told)


def test_a_ranking_that_hangs_on_the_seed_is_not_supported_though_it_is_faithful(monkeypatch):
    """By the audit's own seed it tells the truth; by any other it invents a ranking."""
    truth = METHODS["integrated_gradients"]

    def lucky(model, data, seed, explained):
        if seed == 0:
            return truth(model, data, seed, explained)
        return noise(model, data, seed, explained)

    monkeypatch.setitem(METHODS, "lucky", lucky)
    found = measured(mlp(), table(), methods=["lucky"])
    assert the(found, "faithfulness_gain", method="lucky", fill="mean").low > 0
    assert cards(found) == {"lucky": "not supported"}
    (row,) = found.tables[0].rows[:-1]
    assert "rank correlation between seeds" in row[2]
    assert "gain over random" not in row[2]


def test_a_group_without_a_row_is_told_and_gets_no_number():
    """A group that is left out in silence looks like one for which all is well."""
    codes = np.arange(300) % 2
    data = table(sensitive={"sex": Sensitive(name="sex", groups=("f", "m", "x"), codes=codes)})
    found = measured(mlp(), data, methods=["saliency"], rows=40)
    told = {m.group["sex"]: m for m in found.measures if m.name == "faithfulness_difference"}
    assert set(told) == {"f", "m", "x"}
    assert told["f"].value == pytest.approx(-told["m"].value)
    assert told["x"].value is None
    assert told["x"].reason.startswith("0 rows of the group and 40 others")
    assert told["x"].n == 40


def test_one_feature_and_one_row_are_no_reason_to_call_an_explanation_unsupported():
    """The right answer for one feature ranks like any other: nothing can be shown, for or against."""
    one = Dataset(
        inputs=table().inputs[:, :1],
        labels=np.zeros(300, np.int64),
        modality="tabular",
        classes=("no", "yes"),
        features=(Feature(name="age", columns=(0,)),),
    )
    with pytest.raises(NotApplicable, match="have 1 feature"):
        measured(mlp(1), one, methods=["integrated_gradients"])
    with pytest.raises(NotEvaluable, match="1 row is too few"):
        measured(mlp(), table(), methods=["integrated_gradients"], rows=1)


def test_explanations_are_judged_without_true_outcomes():
    """A label says whether the model is right, not whether an explanation of the model is."""
    data = table()
    bare = Dataset(**{name: value for name, value in vars(data).items() if name != "labels"})
    assert not bare.labelled
    said = [measured(mlp(), rows, methods=["integrated_gradients", "kernel_shap"]) for rows in (data, bare)]
    assert cards(said[0]) == cards(said[1])
    assert said[0].measures == said[1].measures


def test_fragile_explanations_are_weak():
    """A fine ripple: the slope turns over between the row and the point nearby, the answer does not."""

    class Ripple(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(6, 6)
            with torch.no_grad():
                self.mix.weight.copy_(torch.eye(6) + 0.01 * torch.arange(36.0).reshape(6, 6) / 36)

        def forward(self, rows):
            x = self.mix(rows)
            answer = x[:, 0] * 4 + (torch.sin(90 * x) / 10).sum(dim=1)
            return torch.stack([0 * answer, answer], dim=1)

    found = measured(Ripple(), table(), methods=["saliency"])
    smooth = measured(mlp(), table(), methods=["saliency"])
    rough = the(found, "nearby_rank_correlation", method="saliency", epsilon=0.1)
    assert rough.high < 0.5 < the(smooth, "nearby_rank_correlation", method="saliency", epsilon=0.1).low
    assert cards(found)["saliency"] != "supported"
    assert card_of(found, "saliency")["rank correlation with a point nearby"][5] == "failed"


def test_points_nearby_are_those_of_the_attacks_of_the_audit():
    """Asked again for the rows of the card, the product has them already; other rows it has not."""
    data, model = table(), model_of(mlp())
    attacks = adversaries(model, data, predictions(model, data), 0)
    source = attributions(model, data, 0)
    settings = trust.settings({"methods": ["saliency"], "epsilon": 0.3})
    trust.measure(model, data, 0, source, attacks, **settings)
    rows = source.explained(rows=32, output="log_odds", target="predicted").index
    spent = model.passes.forward
    found = attacks.same_answer(rows, 0.3)
    assert model.passes.forward == spent
    assert found.found.any()
    attacks.same_answer(rows, 0.4)
    assert model.passes.forward > spent


def test_every_number_can_be_derived_again_and_every_figure_drawn():
    found = measured(mlp(), table())
    for item in found.measures:
        if item.low is not None:
            assert interval_at(item, item.level) == pytest.approx((item.low, item.high))
        assert item.value is not None or item.reason
    assert 0 < len(found.figures) <= 12
    for figure in found.figures:
        drawn = curve_of(figure.data)
        assert drawn.left_out == 0
        assert {line.name for line in drawn.lines} >= {"random", "no model"}
    assert [row[0] for row in found.tables[0].rows][-1] == "all together"
    assert "Supported: under both fills" in found.tables[0].note


def test_passes_in_the_card_are_those_that_were_spent():
    model, data = model_of(mlp()), table()
    source = attributions(model, data, 0)
    found = put(model, data, source, trust.settings({"methods": ["saliency", "lime"]}))
    assert sum(row[3] for row in found.tables[0].rows) == model.passes.forward
    assert sum(row[4] for row in found.tables[0].rows) == model.passes.backward
    assert model.passes.forward < 300_000


def test_what_another_check_has_spent_is_not_taken_off_the_curves():
    rows = []
    for first in ((), ("kernel_shap", "lime")):
        model, data = model_of(mlp()), table()
        source = attributions(model, data, 0)
        for method in first:
            source.of(method, rows=32)
        found = put(model, data, source, trust.settings({}))
        rows.append(found.tables[0].rows[-1][3:])
    (forward, backward), (later, same) = rows
    assert (forward - later, backward - same) == (32, 0)
    assert later > 1000


def test_a_seed_fixes_everything():
    one, same, other = (measured(mlp(), table(), seed, methods=["lime"]) for seed in (0, 0, 1))
    assert [m.value for m in one.measures] == [m.value for m in same.measures]
    assert [m.value for m in one.measures] != [m.value for m in other.measures]


def test_the_model_comes_back_when_a_method_fails_under_random_weights(monkeypatch):
    network = mlp()
    before = state_hash(network.eval())

    def brittle(model, data, seed, explained):
        if state_hash(model.module) != before:
            raise ValueError("not this model")
        return noise(model, data, seed, explained)

    monkeypatch.setitem(METHODS, "brittle", brittle)
    with pytest.raises(ValueError, match="not this model"):
        measured(network, table(), methods=["brittle"])
    assert state_hash(network) == before


def test_without_gradients_what_needs_none_is_judged():
    model, data = model_of(mlp(), capabilities=frozenset({"logits"})), table()
    found = put(model, data, attributions(model, data, 0), trust.settings({}))
    assert set(cards(found)) == {"kernel_shap", "lime", "occlusion"}
    assert "Fragility was not tested: the model gives no gradients." in found.caveats
    named = trust.settings({"methods": ["saliency", "lime"]})
    found = put(model, data, attributions(model, data, 0), named)
    assert cards(found)["saliency"] == "no explanation"


def test_a_model_without_weights_cannot_be_supported():
    class Fixed(nn.Module):
        def forward(self, rows):
            return torch.stack([torch.zeros(len(rows)), 3 * rows[:, 1]], dim=1)

    found = measured(Fixed(), table(), methods=["saliency"])
    assert cards(found) == {"saliency": "weak"}
    assert card_of(found, "saliency")["rank correlation with random weights"][5] == "not tested"


def test_images_get_a_card():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    inputs = np.random.default_rng(0).random((12, 1, 8, 8)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(12, np.int64), modality="image", classes=("a", "b", "c"))
    model = model_of(network, input_range=(0.0, 1.0))
    found = put(model, data, attributions(model, data, 0), trust.settings({"rows": 6}))
    assert set(cards(found)) >= {*PLAIN, "gradcam", "deep_lift", "lrp"}
    assert {m.settings["fill"] for m in found.measures if m.name == "deletion_gain"} == {"mean", "blur"}
    assert any("made-up rows was not tested: not applicable to images" in item for item in found.caveats)
    told = card_of(found, "kernel_shap")["lead of another feature on made-up rows"]
    assert told[5] == "not tested"
    assert "not applicable to images" in told[6]
    assert the(found, "nearby_rank_correlation", method="lime", epsilon=2 / 255).n == 6


@pytest.mark.slow
def test_resnet20_on_cifar_gets_a_full_card(shared_data):
    state = torch.load(shared_data / "cifar10" / "resnet20.th", map_location="cpu", weights_only=True)
    network = ResNet20()
    network.load_state_dict({k.removeprefix("module."): v for k, v in state["state_dict"].items()})
    stored = np.load(shared_data / "cifar10" / "test_2000.npz")
    images = (stored["images"][:200].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    data = Dataset(
        inputs=images,
        labels=stored["labels"][:200].astype(np.int64),
        modality="image",
        classes=tuple("0123456789"),
    )
    model = model_of(network, input_range=(0.0, 1.0), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    before = state_hash(model.module)
    found = put(model, data, attributions(model, data, 0), trust.settings({"rows": 6}))
    assert state_hash(model.module) == before
    assert set(cards(found)) >= {*PLAIN, "smoothgrad", "expected_gradients", "gradcam"}
    assert "no explanation" not in cards(found).values()
    (told,) = [item for item in found.tables if item.name == "not_tried"]
    assert "'relu' is called" in dict(told.rows)["deep_lift"]
    assert the(found, "faithfulness_gain", method="kernel_shap", fill="mean").low > 0


def test_it_is_planned_without_loading_torch():
    code = (
        "import sys; from audit.checks.interpretability.trust import trust as item; "
        "item.settings({}); assert 'torch' not in sys.modules; print(item.title)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "Trust card: may the explanations of this model be believed?"
    assert trust.asks == ("model", "data", "seed", "attributions", "adversaries")


def test_an_interval_over_rows_is_students():
    found = the(
        measured(mlp(), table(), methods=["saliency"]), "deletion_gain", method="saliency", fill="mean"
    )
    kept = found.statistics
    again = mean("x", [kept["mean"] - kept["sd"], kept["mean"] + kept["sd"]])
    assert found.method == again.method == "student_t"
    assert (found.n, kept["n"]) == (32, 32)


def picture_case():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    inputs = np.random.default_rng(0).random((12, 1, 8, 8)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(12, np.int64), modality="image", classes=("a", "b", "c"))
    return network, data


def card_or_reason(network, data, method, **fields):
    model = model_of(network, **fields)
    before = state_hash(model.module)
    settings = trust.settings({"methods": [method], "rows": 8, "draws": 2})
    try:
        found = put(model, data, attributions(model, data, 0), settings)
    except NotEvaluable as error:
        return None, str(error)
    finally:
        assert state_hash(model.module) == before
    return found, cards(found)[method]


@pytest.mark.parametrize("method", METHODS)
def test_every_attribution_method_gets_a_card(method):
    """Where it fits; a card of units of a layer would speak of other features than those taken away."""
    refused = {"rise": "tabular", "gradcam": "tabular", "layer_conductance": "both"}
    for modality, (network, data) in {"tabular": (mlp(), table()), "image": picture_case()}.items():
        found, conclusion = card_or_reason(network, data, method)
        if refused.get(method) in {modality, "both"}:
            assert found is None
            assert "no explanation" in conclusion
            continue
        assert conclusion in {"supported", "weak", "not supported"}
        tests = card_of(found, method)
        assert tests["rank correlation with random weights"][5] != "not tested"
        if modality == "tabular":
            assert tests["rank correlation with a point nearby"][1] < 1 - 1e-9
        has_baseline = method in {"integrated_gradients", "deep_lift", "occlusion", "rise"}
        assert ("rank correlation between baselines" in tests) == has_baseline


@pytest.mark.parametrize("method", METHODS)
def test_what_needs_gradients_says_so_instead_of_failing(method):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, rows):
            return self.inner(rows).detach()

    found, said = card_or_reason(Detached(), table(), method, capabilities=frozenset({"logits"}))
    asks = {"occlusion", "kernel_shap", "lime", "permutation_shap", "lime_library"}
    assert (found is not None) == (method in asks)
    if method not in asks | {"rise"}:
        assert "the model gives no gradients" in said


def test_doubts_go_to_checks_that_there_are():
    known = {entry.name for entry in entry_points(group="audit.checks")}
    assert {CHECKS.get(name, f"interpretability.{name}") for name in METHODS} <= known


def test_it_declares_to_doubt_a_number_of_every_method_that_gets_a_card():
    tried = set(METHODS) - {"layer_conductance"}
    assert {check for check, _ in trust.doubts} == {
        CHECKS.get(name, f"interpretability.{name}") for name in tried
    }
    assert len(trust.doubts) == len(tried)
    checks = installed_checks()
    assert all(measure in checks[check].measures for check, measure in trust.doubts)


def test_a_slope_by_the_library_is_judged_as_a_slope():
    """The same straight line from two engines: judged by size, or both by sign."""
    found = measured(mlp(), table(), methods=["lime", "lime_library"])
    mine, theirs = (
        the(found, "faithfulness_gain", method=method, fill="mean").value
        for method in ("lime", "lime_library")
    )
    assert mine == pytest.approx(theirs, abs=0.03)


def test_series_get_a_card():
    """One channel and a stretch of time decide."""

    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 2, 1]))

        def forward(self, rows):
            answer = (rows[:, 0, :3] * self.weight).sum(dim=1)
            return torch.stack([torch.zeros_like(answer), answer], dim=1)

    inputs = np.random.default_rng(0).normal(size=(80, 2, 12)).astype(np.float32)
    data = Dataset(inputs=inputs, labels=np.zeros(80, np.int64), modality="series", classes=("a", "b"))
    found = measured(Early(), data)
    assert set(cards(found)) >= set(PLAIN) - {"lime"}
    (told,) = [item for item in found.tables if item.name == "not_tried"]
    assert "kernel_shap and occlusion explain series" in dict(told.rows)["lime"]
    assert cards(found)["integrated_gradients"] in {"supported", "weak"}
    assert the(found, "faithfulness_gain", method="integrated_gradients", fill="background").low > 0
    assert any("made-up rows was not tested: not applicable to series" in item for item in found.caveats)
