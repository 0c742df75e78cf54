"""The check around ART: settings refused while planning, numbers by hand, groups, and what cannot run."""

import numpy as np
import pytest
import torch
from masks import Louder, Plain, Quantised
from networks import fgsm_trained
from torch import nn

from audit.attack.art import ArtAttack, art_result
from audit.attack.catalogue import offered
from audit.attack.curve import Target
from audit.attack.minimum import Minimum
from audit.checks.robustness.art import art
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.evidence import Evidence
from audit.measure import measure, set_up
from audit.model import Model, Passes, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions
from audit.stats import interval_at


def line(rows=80, wrong=0, **fields):
    """Series of two values, class 1 where 3 a + 4 b > 3.5; the distance to the boundary is known."""
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        net.bias.copy_(torch.tensor([0.0, -3.5]))
    model = Model(module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    points = np.random.default_rng(0).uniform(0.2, 0.8, (rows, 2)).astype(np.float32)
    side = points @ np.array([3.0, 4.0]) - 3.5
    labels = (side > 0).astype(np.int64)
    labels[:wrong] = 1 - labels[:wrong]
    data = Dataset(inputs=points, labels=labels, modality="series", classes=("no", "yes"), **fields)
    return model, data, np.abs(side)


def measured(model, data, **settings):
    shared = adversaries(model, data, predictions(model, data), 0)
    return art.measure(data, shared, **art.settings(settings))


def one(evidence: Evidence, name, epsilon=None, **group):
    (found,) = [
        m
        for m in evidence.measures
        if m.name == name and dict(m.group) == group and (epsilon is None or m.settings["epsilon"] == epsilon)
    ]
    return found


def table(evidence, name):
    (found,) = [item for item in evidence.tables if item.name == name]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.mark.parametrize(
    ("attack", "dual", "settings"),
    [
        ("FastGradientMethod", 7.0, {}),
        ("ProjectedGradientDescent", 7.0, {"arguments": {"max_iter": 20}}),
        ("ProjectedGradientDescent", 5.0, {"norm": "l2", "arguments": {"max_iter": 20}}),
        ("DeepFool", 5.0, {"arguments": {"epsilon": 0.001}}),
    ],
)
def test_robust_accuracy_over_epsilon_is_the_share_that_stands_further_away(attack, dual, settings):
    model, data, side = line()
    evidence = measured(model, data, attack=attack, epsilon=[0.02, 0.1], rows=None, **settings)
    for epsilon in (0.02, 0.1):
        found = one(evidence, "robust_accuracy", epsilon)
        assert found.value == pytest.approx((side / dual > epsilon).mean(), abs=1.5 / 80)
        assert not found.unreliable
    assert table(evidence, "third_party_attack")[0]["attack"] == attack
    assert any("third-party" in text or "ART" in text for text in evidence.caveats)


def test_the_median_distance_is_over_the_rows_that_fell_and_says_how_many():
    model, data, side = line(wrong=20)
    evidence = measured(model, data, attack="DeepFool", arguments={"epsilon": 0.001}, rows=None)
    found = one(evidence, "median_distance_found")
    assert found.n == 60
    assert found.value == pytest.approx(np.sort(side[20:] / 5)[29], rel=0.01)
    assert dict(found.settings) == {"norm": "l2"}
    low, high = interval_at(found, 0.95)
    assert (low, high) == (found.low, found.high)
    assert low < found.value < high


def test_an_attack_that_finds_nothing_has_no_distance():
    """The model decides on nothing: no change has an effect."""
    model, data, _ = line()
    with torch.no_grad():
        model.module.weight.zero_()
    labels = np.zeros(80, np.int64)
    data = Dataset(inputs=data.inputs, labels=labels, modality="series", classes=("no", "yes"))
    evidence = measured(model, data, attack="CarliniL2Method", arguments={"max_iter": 2}, rows=20)
    found = one(evidence, "median_distance_found")
    assert found.value is None
    assert found.reason == "no verified example was found for any of 20 rows attacked"
    assert one(evidence, "robust_accuracy", 2 / 255).value == 1


def test_an_attack_that_is_given_a_radius_has_no_distance_of_its_own():
    model, data, _ = line()
    evidence = measured(model, data, attack="FastGradientMethod")
    assert not [m for m in evidence.measures if m.name == "median_distance_found"]


def test_groups_are_told_apart():
    _, _, side = line()
    far = Sensitive(name="site", groups=("near", "far"), codes=(side / 5 > 0.1).astype(np.int64))
    model, data, _ = line(sensitive={"site": far})
    evidence = measured(
        model, data, attack="DeepFool", arguments={"epsilon": 0.001}, epsilon=[0.1], rows=None
    )
    assert one(evidence, "robust_accuracy", 0.1, site="near").value == 0
    assert one(evidence, "robust_accuracy", 0.1, site="far").value == 1
    near, away = (one(evidence, "median_distance_found", site=g) for g in ("near", "far"))
    assert near.value < 0.1 < away.value


def test_what_was_rejected_makes_the_numbers_unreliable():
    """BoundaryAttack moves the fixed column: nothing it finds counts, and nothing it says is a pass."""
    draw = np.random.default_rng(0)
    rows = draw.uniform(0, 1, (60, 2)).astype(np.float32)
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        net.bias.copy_(torch.tensor([0.0, -3.5]))
    features = (
        Feature(name="sex", columns=(0,), kind="numeric", immutable=True),
        Feature(name="income", columns=(1,), kind="numeric"),
    )
    labels = (rows @ np.array([3.0, 4.0]) > 3.5).astype(np.int64)
    data = Dataset(inputs=rows, labels=labels, modality="tabular", classes=("no", "yes"), features=features)
    model = Model(module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    evidence = measured(
        model, data, attack="BoundaryAttack", arguments={"max_iter": 5}, epsilon=[50.0], rows=20
    )
    found = one(evidence, "robust_accuracy", 50.0)
    assert found.value == 1
    assert "did not hold" in found.unreliable
    assert table(evidence, "third_party_attack")[0]["claimed but rejected"] > 10
    held = [row for row in table(evidence, "self_checks") if row["check"] == "every example was verified"]
    assert held[0]["result"] == "failed"
    assert any("sex" in text for text in evidence.caveats)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attack": "CarliniL2Methode"}, "the nearest is 'CarliniL2Method'"),
        ({"attack": "DeepFool", "arguments": {"max_itr": 5}}, "the nearest is 'max_iter'"),
        ({"attack": "SquareAttack", "arguments": {"eps": 0.1}}, "set epsilon beside it"),
        ({"attack": "HopSkipJump", "arguments": {"norm": 2}}, "set norm beside it"),
        ({"attack": "DeepFool", "arguments": {"batch_size": 2}}, "measured from the model"),
        ({"epsilon": [-1]}, "epsilon"),
    ],
)  # fmt: skip
def test_settings_are_refused_while_the_run_is_planned(settings, said):
    with pytest.raises(ConfigError) as caught:
        art.settings(settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_read_without_importing_the_library():
    assert len(offered()) > 50
    assert art.settings({"attack": "ZooAttack"})["attack"] == "ZooAttack"


def test_a_call_past_the_settings_is_refused_as_well():
    model, data, _ = line()
    shared = adversaries(model, data, predictions(model, data), 0)
    with pytest.raises(ConfigError, match="nearest is 'DeepFool'"):
        art.measure(data, shared, attack="DeepFoul")


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        ("GeoDA", "calls np.mat, which numpy"),
        ("AutoAttack", "needs the package 'multiprocess', which is not installed"),
        ("SpatialTransformation", "made for images; these inputs are series"),
        ("ImperceptibleASR", "made for speech recognisers"),
        ("DecisionTreeAttack", "made for decision trees"),
    ],
)
def test_what_cannot_run_is_not_applicable_with_its_reason(attack, why):
    model, data, _ = line()
    with pytest.raises(NotApplicable, match=why):
        measured(model, data, attack=attack)


def test_through_the_bench_the_model_comes_back_as_it_was():
    """The way a run takes: finding, cost in rows, and no word about a changed model."""
    model, data, _ = line()
    before = state_hash(model.module)
    bench = set_up(model, data, 0, {"predictions": predictions, "adversaries": adversaries})
    given = {"attack": "HopSkipJump", "rows": 5, "arguments": {"max_iter": 2, "max_eval": 50, "init_eval": 5}}
    finding = measure(art, art.settings(given), bench, None)
    assert finding.status == "measured", finding.reason
    assert finding.cost.forward_rows > 100
    assert state_hash(model.module) == before


def test_an_attack_that_breaks_is_broken_with_one_sentence():
    model, data, _ = line()
    bench = set_up(model, data, 0, {"predictions": predictions, "adversaries": adversaries})
    given = art.settings({"attack": "DeepFool", "arguments": {"max_iter": 0}})
    finding = measure(art, given, bench, None)
    assert finding.status == "broken"
    assert "ART refuses the arguments of DeepFool" in finding.reason
    assert "\n" not in finding.reason


def test_what_nobody_foresaw_stays_broken_and_is_told(monkeypatch):
    from audit.attack import art as adapter

    def stumble(*_given):
        raise KeyError("a fault nobody knows")

    model, data, _ = line()
    bench = set_up(model, data, 0, {"predictions": predictions, "adversaries": adversaries})
    monkeypatch.setattr(adapter, "_moved", stumble)
    finding = measure(art, art.settings({"attack": "DeepFool"}), bench, None)
    assert (finding.status, finding.measures) == ("broken", ())
    assert finding.reason == "KeyError: 'a fault nobody knows'"
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_distances_on_published_weights_are_no_nearer_than_our_own_search_finds(shared_data):
    """Two searches for the nearest example that share no line of code, on a network trained by others."""
    net = fgsm_trained()
    weights = shared_data / "mnist" / "fgsm_trained.pth"
    net.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    held = np.load(shared_data / "mnist" / "mnist_test.npz")
    data = Dataset(
        inputs=(held["images"][:24, None] / 255).astype(np.float32),
        labels=held["labels"][:24].astype(np.int64),
        modality="image",
        classes=tuple("0123456789"),
    )
    passes = Passes(batch=64)
    model = Model(module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0), passes=passes)
    evidence = measured(model, data, attack="DeepFool", arguments={"max_iter": 50, "epsilon": 0.02})
    found = one(evidence, "median_distance_found")
    assert found.n >= 16
    shared = adversaries(model, data, predictions(model, data), 0)
    chosen = np.arange(24)
    everyone = Target(model, data.inputs, data.labels, chosen, np.ones(24, bool), shared.space(), 0)
    how = ArtAttack(name="DeepFool", norm="l2", arguments={"max_iter": 50, "epsilon": 0.02})
    theirs = art_result(everyone, (0.0,), how, "image").distances
    assert np.isfinite(theirs).sum() == found.n
    ours = shared.distances(Minimum(norm="l2", steps=100)).found
    both = np.isfinite(theirs) & np.isfinite(ours)
    assert (ours[both] <= 1.1 * theirs[both]).mean() > 0.8
    assert (ours[both] > 0.2 * theirs[both]).all()


def test_the_text_says_whose_attack_it_is_and_who_judged_it():
    assert "third-party" in art.title
    assert "judged again by us" in " ".join(art.text.split())


def digits(mask):
    """Images whose brighter half is their class, and a network that sees it; class 1 is the lower half."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 60)
    inputs = draw.uniform(0.3, 0.5, (60, 1, 4, 4)).astype(np.float32)
    for image, label in zip(inputs, labels, strict=True):
        image[0, 2 * label : 2 * label + 2] += 0.2
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0] * 8 + [0.0] * 8, [0.0] * 8 + [1.0] * 8]))
        net[1].bias.zero_()
    model = Model(module=mask(net).eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    return model, Dataset(inputs=inputs, labels=labels, modality="image", classes=("upper", "lower"))


@pytest.mark.parametrize("attack", ["FastGradientMethod", "ProjectedGradientDescent", "DeepFool"])
def test_a_model_that_hides_its_gradient_does_not_look_robust(attack):
    plain, hidden = (measured(*digits(mask), attack=attack, epsilon=[0.2]) for mask in (Plain, Quantised))
    assert not one(plain, "robust_accuracy", 0.2).unreliable
    assert one(hidden, "robust_accuracy", 0.2).value > 0.9
    assert "60 of 60 rows give no usable gradient" in one(hidden, "robust_accuracy", 0.2).unreliable
    checked = {row["check"]: row["result"] for row in table(hidden, "self_checks")}
    assert checked["the gradient is usable"] == "failed"
    if attack == "DeepFool":
        assert "no usable gradient" in one(hidden, "median_distance_found").unreliable


def test_logits_too_loud_for_the_loss_are_doubted_where_it_is_the_loss_that_is_followed():
    loud = digits(lambda net: Louder(Louder(net)))
    assert (
        "usable gradient"
        in one(measured(*loud, attack="FastGradientMethod"), "robust_accuracy", 8 / 255).unreliable
    )
    follows_scores = measured(*loud, attack="DeepFool", epsilon=[3.0])
    assert not one(follows_scores, "robust_accuracy", 3.0).unreliable


def test_an_attack_that_follows_no_gradient_is_not_asked_for_one():
    how = {"max_iter": 1, "max_eval": 20, "init_eval": 5}
    evidence = measured(*digits(Quantised), attack="HopSkipJump", epsilon=[0.2], rows=8, arguments=how)
    assert "the gradient is usable" not in {row["check"] for row in table(evidence, "self_checks")}
