"""The worst case over attacks: by hand, on published networks, and by group."""

import numpy as np
import pytest
import torch
from networks import fgsm_trained

from audit.checks.robustness.worst_case import worst_case
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError
from audit.model import Model, Passes, state_hash
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions


def published(shared_data, name, rows):
    net = fgsm_trained()
    net.load_state_dict(torch.load(shared_data / "mnist" / name, weights_only=True, map_location="cpu"))
    model = Model(
        module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0), passes=Passes(batch=256)
    )
    held = np.load(shared_data / "mnist" / "mnist_test.npz")
    data = Dataset(
        inputs=(held["images"][:rows, None] / 255).astype(np.float32),
        labels=held["labels"][:rows].astype(np.int64),
        modality="image",
        classes=tuple("0123456789"),
    )
    return model, data, adversaries(model, data, predictions(model, data), 0)


def only(evidence, name):
    (found,) = [m for m in evidence.measures if m.name == name and not m.group]
    return found


def measured(data, shared, **settings):
    return worst_case.measure(data, shared, **worst_case.settings(settings))


def test_a_net_trained_on_one_step_falls_as_far_as_published(shared_data):
    """The first 200 images: AutoAttack leaves .830 standing, one step .945."""
    model, data, shared = published(shared_data, "fgsm_trained.pth", 200)
    before = state_hash(model.module)
    evidence = measured(data, shared, epsilon=[0.3], queries=1000, targets=0)
    robust = only(evidence, "robust_accuracy")
    assert robust.value <= 0.84
    assert robust.value < shared.fgsm([0.0, 0.3]).robust(0.3).mean() - 0.08
    assert not robust.unreliable
    assert state_hash(model.module) == before
    attacks = evidence.tables[0]
    assert sum(row[3] for row in attacks.rows) == round((1 - robust.value) * 200)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epsilon", "least", "most"),
    [("fgsm_trained.pth", 0.3, 0.829, 0.850), ("certified.pth", 0.1, 1 - 0.058, 1 - 0.0404)],
)
def test_published_networks_over_all_10000(shared_data, name, epsilon, least, most):
    _, data, shared = published(shared_data, name, 10_000)
    evidence = measured(data, shared, epsilon=[epsilon], rows=None)
    assert least - 0.002 <= only(evidence, "robust_accuracy").value <= most


def test_a_certified_net_never_falls_below_its_certificate(shared_data):
    _, data, shared = published(shared_data, "certified.pth", 300)
    evidence = measured(data, shared, epsilon=[0.1], queries=100, steps=40, targets=2)
    robust, clean = only(evidence, "robust_accuracy"), only(evidence, "clean_accuracy")
    assert robust.high > 1 - 0.058
    assert robust.value <= clean.value


def two_groups():
    """One input, class 1 above .5: rows of A stand far from the boundary, those of B beside it."""
    net = torch.nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0], [1.0]]))
        net.bias.copy_(torch.tensor([0.0, -0.5]))
    model = Model(module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    points = np.array([0.1, 0.9, 0.45, 0.55] * 30, np.float32)[:, None]
    sensitive = Sensitive(name="site", groups=("A", "B"), codes=np.array([0, 0, 1, 1] * 30))
    data = Dataset(
        inputs=points,
        labels=np.array([0, 1, 0, 1] * 30),
        modality="series",
        classes=("low", "high"),
        sensitive={"site": sensitive},
    )
    return data, adversaries(model, data, predictions(model, data), 0)


def test_robust_for_one_group_and_not_for_another_is_seen_by_name():
    from audit.judge import judge_finding
    from audit.policy import Limit, Policy, Verdict
    from audit.record import Finding

    evidence = measured(*two_groups(), epsilon=[0.1], queries=5, steps=5)
    by_group = {
        m.group["site"]: m.value for m in evidence.measures if m.name == "robust_accuracy" and m.group
    }
    assert by_group == {"A": 1.0, "B": 0.0}
    asked = Limit(check="robustness.worst_case", measure="robust_accuracy", at_least=0.5, group="each")
    finding = Finding(
        check="robustness.worst_case",
        version="1",
        title="t",
        status="measured",
        measures=tuple(evidence.measures),
    )
    verdicts = judge_finding(finding, Policy(limits=(asked,))).verdicts
    assert {v.group["site"]: v.verdict for v in verdicts} == {"A": Verdict.PASS, "B": Verdict.FAIL}


def test_a_model_without_gradients_is_asked_for_answers_alone():
    data, shared = two_groups()
    blind = Model(
        module=shared.model.module,
        device=torch.device("cpu"),
        input_range=(0.0, 1.0),
        capabilities=frozenset({"logits"}),
    )
    evidence = measured(data, adversaries(blind, data, predictions(blind, data), 0), epsilon=[0.1], queries=5)
    assert only(evidence, "robust_accuracy").value == 0.5
    assert blind.passes.backward == 0


def test_hopskipjump_is_told_to_be_left_out_or_is_among_the_attacks():
    data, shared = two_groups()
    plain = measured(data, shared, epsilon=[0.1], queries=5, steps=5)
    assert any("'boundary' adds it" in caveat for caveat in plain.caveats)
    asked = measured(data, shared, epsilon=[0.1], queries=5, steps=5, boundary=True)
    assert not any("'boundary' adds it" in caveat for caveat in asked.caveats)
    assert [row[1] for row in asked.tables[0].rows if row[0] == 0.1][-1] == "hopskipjump"
    assert "hopskipjump" not in [row[1] for row in plain.tables[0].rows]


@pytest.mark.parametrize("settings", [{"norm": "l1"}, {"queries": 0}])
def test_a_boundary_that_cannot_be_walked_is_refused(settings):
    data, shared = two_groups()
    with pytest.raises(ConfigError, match="boundary = true needs the norm linf or l2 and queries above 0"):
        measured(data, shared, epsilon=[0.1], boundary=True, **settings)


def test_what_the_attacks_do_on_their_own_is_counted():
    data, shared = two_groups()
    evidence = measured(data, shared, epsilon=[0.1, 0.2], queries=5, steps=5)
    (counts,) = [t for t in evidence.tables if t.name == "counts"]
    own = {row[0]: row[-2:] for row in counts.rows}
    assert own == {0.0: (120, 0), 0.1: (120, 60), 0.2: (120, 60)}
    (checks,) = [t for t in evidence.tables if t.name == "self_checks"]
    (told,) = [row[2] for row in checks.rows if row[0] == "more epsilon fools no fewer"]
    assert "60 of 60 fell again at 0.2 (60 broken before)" in told
