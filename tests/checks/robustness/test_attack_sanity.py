"""Seven ways to mask a gradient, each with its verdict and evidence, and what a verdict does to a limit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from masks import MASKS, Plain
from networks import LeNet

from audit.attack import sanity
from audit.checks.robustness.attack_sanity import attack_sanity
from audit.config import Config
from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotEvaluable
from audit.judge import judge
from audit.model import Model, Passes, state_hash
from audit.plan import Options, plan_run
from audit.policy import Limit, Policy, Verdict
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions
from audit.record import SCHEMA, Finding, Outcome, Planned, Record, canonical, finding_from
from audit.registry import installed_checks
from audit.stats import interval_at, proportion

EPSILON, ROWS = 0.25, 64


@pytest.fixture(scope="module")
def lenet(shared_data):
    """A network of MNIST and 400 images of its test set."""
    net = LeNet()
    weights = torch.load(shared_data / "mnist" / "lenet.pth", weights_only=True, map_location="cpu")
    net.load_state_dict(weights)
    held = np.load(shared_data / "mnist" / "mnist_test.npz")
    data = Dataset(
        inputs=(held["images"][:400, None] / 255).astype(np.float32),
        labels=held["labels"][:400].astype(np.int64),
        modality="image",
        classes=tuple("0123456789"),
    )
    return net.eval(), data


def over(network, data, **fields):
    model = Model(
        module=network.eval(),
        device=torch.device("cpu"),
        input_range=(0.0, 1.0),
        passes=Passes(batch=64),
        **fields,
    )
    return adversaries(model, data, predictions(model, data), 0)


def measured(data, shared, **settings):
    return attack_sanity.measure(data, shared, **attack_sanity.settings(settings))


@pytest.fixture(scope="module")
def found(lenet):
    """The evidence for each of the seven, measured once."""
    net, data = lenet
    evidence = {}
    for name, mask in MASKS.items():
        shared = over(mask(net), data, output="probabilities" if name == "softmax" else "logits")
        before = state_hash(shared.model.module)
        torch.manual_seed(0)
        evidence[name] = measured(data, shared, epsilon=EPSILON, rows=ROWS)
        assert state_hash(shared.model.module) == before
    return evidence


def number(evidence, name, attack=None):
    (item,) = [
        m for m in evidence.measures if m.name == name and (attack is None or m.settings["attack"] == attack)
    ]
    return item


def results(evidence):
    return {row[0]: row[1] for row in evidence.tables[0].rows}


def failed(evidence):
    return {name for name, result in results(evidence).items() if result in {"failed", "serious"}}


def serious(evidence):
    return {name for name, result in results(evidence).items() if result == "serious"}


def test_a_plain_model_is_trusted(found):
    plain = found["plain"]
    assert number(plain, "attack_trust").value == sanity.TRUST
    assert failed(plain) == set()
    assert number(plain, "robust_accuracy", "PGD").value < 0.05
    assert number(plain, "robust_accuracy", "PGD, whole range").value == 0
    assert not any(m.unreliable for m in plain.measures)
    assert plain.doubts == ()
    planted = number(plain, "control_found_share")
    assert planted.statistics["n"] == 64
    assert planted.statistics["x"] >= 63
    assert planted.method == "clopper_pearson"
    assert "prove nothing" in plain.caveats[0]


def test_softmax_output_hides_nothing_and_changes_no_number(found):
    plain, soft = found["plain"], found["softmax"]
    assert number(soft, "attack_trust").value == sanity.TRUST
    assert failed(soft) == set()
    mine = {m.settings["attack"]: m.value for m in soft.measures if m.name == "robust_accuracy"}
    theirs = {m.settings["attack"]: m.value for m in plain.measures if m.name == "robust_accuracy"}
    assert mine == pytest.approx(theirs, abs=1 / ROWS)
    assert number(soft, "zero_gradient_share").value == 0


def test_loud_logits_are_not_relied_on_because_the_gradient_vanishes_and_the_margin_does_not(found):
    loud = found["logits x 100"]
    assert number(loud, "attack_trust").value == sanity.DO_NOT_RELY
    assert {sanity.ZERO, sanity.MARGIN, sanity.TRANSFER, sanity.SQUARE, sanity.FULL_RANGE} <= serious(loud)
    assert number(loud, "zero_gradient_share").value > 0.5
    assert number(loud, "robust_accuracy", "PGD").value > 0.9
    assert number(loud, "robust_accuracy", "PGD along the margin").value < 0.05
    assert results(loud)[sanity.DIFFERENCE] == "held"


def test_a_quantised_input_is_not_relied_on_because_weaker_attacks_beat_the_gradient(found):
    quantised = found["quantised"]
    assert number(quantised, "attack_trust").value == sanity.DO_NOT_RELY
    assert number(quantised, "zero_gradient_share").value == 1
    assert {sanity.ZERO, sanity.DIFFERENCE, sanity.TRANSFER, sanity.SQUARE, sanity.CONTROL} <= serious(
        quantised
    )
    assert sanity.NOISE in failed(quantised)
    planted = number(quantised, "control_found_share")
    assert planted.statistics["n"] >= 60
    assert planted.value < 0.2
    assert results(quantised)[sanity.MARGIN] == "held"


def test_a_random_model_calls_for_caution_and_its_numbers_are_still_low(found):
    noisy = found["noisy"]
    assert number(noisy, "attack_trust").value == sanity.CAUTION
    assert {sanity.REPEATABLE, sanity.BATCH} <= failed(noisy)
    assert serious(noisy) == set()
    assert results(noisy)[sanity.CONTROL] == results(noisy)[sanity.DIFFERENCE] == "nothing to test"
    assert number(noisy, "robust_accuracy", "PGD").value < 0.35
    assert number(noisy, "control_found_share").value is None
    assert noisy.doubts == ()


def test_labels_alone_are_not_relied_on_because_searches_without_gradients_beat_it(found):
    labels = found["labels only"]
    assert number(labels, "attack_trust").value == sanity.DO_NOT_RELY
    assert {sanity.ZERO, sanity.TRANSFER, sanity.JUMP, sanity.FULL_RANGE} <= serious(labels)
    assert number(labels, "zero_gradient_share").value == 1
    jumped = number(labels, "robust_accuracy", "HopSkipJump").value
    assert jumped < number(labels, "robust_accuracy", "PGD").value - 0.1


def test_saturated_logits_are_not_relied_on_because_the_gradient_is_zero(found):
    saturated = found["saturated"]
    assert number(saturated, "attack_trust").value == sanity.DO_NOT_RELY
    assert {sanity.ZERO, sanity.CONTROL} <= serious(saturated)
    assert number(saturated, "zero_gradient_share").value > 0.1


@pytest.mark.parametrize("name", sorted(MASKS))
def test_the_verdict_the_counts_and_the_table_agree(found, name):
    evidence = found[name]
    assert number(evidence, "failed_checks").value == len(failed(evidence))
    assert number(evidence, "serious_checks").value == len(serious(evidence))
    grade = int(number(evidence, "attack_trust").value)
    assert grade == (0 if serious(evidence) else 1 if failed(evidence) else 2)
    assert evidence.tables[0].title.endswith(sanity.GRADES[grade])
    assert bool(evidence.doubts) is (grade == sanity.DO_NOT_RELY)
    assert {row[0] for row in evidence.tables[0].rows} == {*sanity.RULES, sanity.ROWS}
    robust = [m for m in evidence.measures if m.name == "robust_accuracy"]
    assert all(bool(m.unreliable) is (grade == sanity.DO_NOT_RELY) for m in robust)
    for m in evidence.measures:
        assert interval_at(m, m.level) == pytest.approx((m.low, m.high))
    attacks = {row[0]: row for row in evidence.tables[1].rows}
    for m in robust:
        attacked, fooled = attacks[m.settings["attack"]][2:4]
        assert m.value == pytest.approx((attacked - fooled) / ROWS)


def a_record(*findings, at_least=0.5):
    limit = Limit(check="robustness.worst_case", measure="robust_accuracy", at_least=at_least)
    return Record(
        schema=SCHEMA,
        tool={},
        run={},
        environment={},
        model={},
        data={},
        policy=Policy(limits=(limit,)),
        plan=tuple(Planned(check=item.check, asked="name") for item in findings),
        findings=findings,
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )


def a_finding(check, evidence=None, measures=()):
    made = Finding(
        check=check,
        version="1",
        title="t",
        status="measured",
        measures=tuple(evidence.measures if evidence else measures),
        tables=tuple(evidence.tables if evidence else ()),
        doubts=tuple(evidence.doubts if evidence else ()),
    )
    return finding_from(json.loads(canonical(made)))


@pytest.mark.parametrize("name", ["quantised", "labels only"])
def test_it_doubts_what_it_declares_to_and_no_more(found, name):
    doubt, of_any = found[name].doubts
    told = {(check, item) for one in (doubt, of_any) for check in one.checks for item in one.measures}
    assert told == attack_sanity.doubts
    assert (of_any.checks, of_any.measures, of_any.reason) == (("*",), ("robust_accuracy",), doubt.reason)


@pytest.mark.parametrize(("skip", "said"), [((), 0), (("robustness.attack_sanity",), 1)])
def test_a_limit_that_holds_without_it_is_told_with_a_warning(found, skip, said):
    limits = {"robustness.worst_case": {"robust_accuracy": {"at_least": 0.5}}}
    config = Config.model_validate(
        {"model": {"path": "m.pt2"}, "data": {"path": "d.csv"}, "policy": {"limits": limits},
         "checks": {"run": ["robustness.worst_case", "robustness.attack_sanity"]}}
    )  # fmt: skip
    plan, left_out = plan_run(config, Options(skip=skip), installed_checks())
    number = proportion("robust_accuracy", 95, 100, settings={"epsilon": EPSILON}, better="higher")
    held = a_finding("robustness.worst_case", measures=(number,))
    sane = () if skip else (a_finding("robustness.attack_sanity", found["plain"]),)
    outcome = judge(replace(a_record(held, *sane), plan=plan, left_out=left_out)).verdict
    assert (outcome.verdict, outcome.exit_code, len(outcome.reasons)) == (Verdict.PASS, 0, said)
    if said:
        assert "no robustness.attack_sanity was measured (the command line left it out" in outcome.reasons[0]
        assert "robust_accuracy of robustness.worst_case" in outcome.reasons[0]


@pytest.mark.parametrize(
    ("name", "verdict", "code"),
    [
        ("plain", Verdict.PASS, 0),
        ("noisy", Verdict.PASS, 0),
        ("quantised", Verdict.INCONCLUSIVE, 2),
        ("labels only", Verdict.INCONCLUSIVE, 2),
    ],
)
def test_a_limit_that_would_hold_does_not_where_the_attack_cannot_be_relied_on(found, name, verdict, code):
    number = proportion("robust_accuracy", 95, 100, settings={"epsilon": EPSILON}, better="higher")
    held = a_finding("robustness.worst_case", measures=(number,))
    sane = a_finding("robustness.attack_sanity", found[name])
    judged = judge(a_record(held, sane))
    (judgement,) = judged.findings[0].verdicts
    assert judgement.verdict is verdict
    assert judged.verdict.exit_code == code
    if verdict is Verdict.INCONCLUSIVE:
        assert "do not rely" in judgement.reason
        assert sanity.ZERO in judgement.reason


@pytest.mark.parametrize(
    ("check", "name"),
    [
        ("robustness.feasible", "robust_accuracy_touching_protected"),
        ("robustness.feasible", "fooled_by_protected_alone"),
        ("robustness.feasible", "favourable_lost_rate"),
        ("robustness.feasible", "favourable_gained_rate"),
        ("robustness.art", "median_distance_found"),
        ("robustness.spatial", "robust_accuracy"),
        ("robustness.corruptions", "robust_accuracy"),
        ("plugin.of_somebody", "robust_accuracy"),
    ],
)
def test_whatever_rests_on_an_attack_is_in_doubt(found, check, name):
    limit = Limit(check=check, measure=name, at_least=0.5)
    held = a_finding(check, measures=(proportion(name, 95, 100),))
    for mask, verdict in (("plain", Verdict.PASS), ("quantised", Verdict.INCONCLUSIVE)):
        record = a_record(held, a_finding("robustness.attack_sanity", found[mask]))
        judged = judge(record, Policy(limits=(limit,)))
        assert judged.findings[0].verdicts[0].verdict is verdict


def test_a_reason_that_comes_by_two_ways_is_said_once(found):
    held = a_finding("robustness.worst_case", measures=(proportion("robust_accuracy", 95, 100),))
    judged = judge(a_record(held, a_finding("robustness.attack_sanity", found["quantised"])))
    (doubt, _) = found["quantised"].doubts
    assert judged.findings[0].verdicts[0].reason.count(doubt.reason) == 1


def test_what_is_no_robust_accuracy_is_not_in_doubt(found):
    limit = Limit(check="performance.accuracy", measure="accuracy", at_least=0.5)
    held = a_finding("performance.accuracy", measures=(proportion("accuracy", 95, 100),))
    judged = judge(
        a_record(held, a_finding("robustness.attack_sanity", found["quantised"])), Policy(limits=(limit,))
    )
    assert judged.findings[0].verdicts[0].verdict is Verdict.PASS


def test_a_broken_limit_stays_broken(found):
    low = a_finding("robustness.worst_case", measures=(proportion("robust_accuracy", 5, 100),))
    judged = judge(a_record(low, a_finding("robustness.attack_sanity", found["quantised"])))
    assert judged.findings[0].verdicts[0].verdict is Verdict.FAIL


def test_a_model_that_gives_no_gradient_at_all_is_not_relied_on(lenet):
    net, data = lenet
    blind = over(net, data, capabilities=frozenset({"logits"}), ruled_out=("Labels have no gradient.",))
    evidence = measured(data, blind, epsilon=EPSILON, rows=32)
    assert number(evidence, "attack_trust").value == sanity.DO_NOT_RELY
    assert serious(evidence) == {sanity.ZERO}
    assert number(evidence, "zero_gradient_share").value is None
    assert "no gradient" in number(evidence, "zero_gradient_share").reason
    assert {m.settings["attack"] for m in evidence.measures if m.name == "robust_accuracy"} == {
        "random noise",
        "transfer from an imitation",
        "Square",
    }
    counted = {row[0]: row[2] for row in evidence.tables[0].rows}
    assert counted[sanity.ZERO] == "the model gives no gradient. Labels have no gradient."
    assert "no gradient attack to compare with" in counted[sanity.SQUARE]
    assert blind.model.passes.backward == 0


class Decides(Plain):
    """Puts out the number of the class and nothing else."""

    def forward(self, rows):
        return self.network(rows).argmax(dim=1)


def test_a_model_of_labels_is_not_relied_on_and_is_searched_without_gradients(lenet):
    net, data = lenet
    blind = over(
        Decides(net), data, output="labels", classes=data.classes, capabilities=frozenset({"logits"})
    )
    evidence = measured(data, blind, epsilon=EPSILON, rows=32)
    assert number(evidence, "attack_trust").value == sanity.DO_NOT_RELY
    assert number(evidence, "robust_accuracy", "HopSkipJump").value < 0.95


def tabular(immutable):
    """Two noisy classes of six columns, and a net that was trained on them."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 300)
    inputs = (draw.normal(size=(300, 6)) + labels[:, None]).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        optimiser = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(100):
            optimiser.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                net(torch.from_numpy(inputs))[:, 0], torch.from_numpy(labels).float()
            )
            loss.backward()
            optimiser.step()
        optimiser.zero_grad()
    features = tuple(Feature(name=f"c{i}", columns=(i,), immutable=i == 5 and immutable) for i in range(6))
    data = Dataset(inputs=inputs, labels=labels, modality="tabular", classes=("no", "yes"), features=features)
    model = Model(module=net.eval(), device=torch.device("cpu"), output="single_logit")
    return data, adversaries(model, data, predictions(model, data), 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("immutable", [False, True])
def test_a_plain_table_with_one_output_is_trusted(norm, immutable):
    data, shared = tabular(immutable)
    evidence = measured(data, shared, norm=norm, justification="twice the error of the scale")
    assert number(evidence, "attack_trust").value == sanity.TRUST, failed(evidence)
    assert results(evidence)[sanity.FULL_RANGE] == ("nothing to test" if immutable else "held")
    assert results(evidence)[sanity.SQUARE] == ("nothing to test" if norm == "l2" else "held")
    assert any("twice the error" in caveat for caveat in evidence.caveats)
    assert "128 of 300 rows were looked at, drawn by the seed of the audit." in evidence.caveats


def test_few_rows_call_for_caution_and_none_for_nothing_at_all():
    data, shared = tabular(immutable=False)
    assert sanity.ROWS in failed(measured(data, shared, rows=10))
    wrong = Dataset(**{**vars(data), "labels": 1 - shared.predictions.predicted})
    with pytest.raises(NotEvaluable, match="0 of 128 rows are classified correctly"):
        measured(wrong, adversaries(shared.model, wrong, predictions(shared.model, wrong), 0))


class Narrow(Plain):
    """The network on a device that holds seven rows."""

    def forward(self, rows):
        if len(rows) > 7:
            raise torch.OutOfMemoryError("planted")
        return self.network(rows)


def test_running_out_of_memory_does_not_stop_it():
    data, shared = tabular(immutable=False)
    whole = measured(data, shared, rows=30, steps=5)
    tight = replace(shared.model, module=Narrow(shared.model.module).eval(), passes=Passes(batch=64))
    evidence = measured(data, adversaries(tight, data, predictions(tight, data), 0), rows=30, steps=5)
    assert tight.passes.batch == 4
    for name in ("attack_trust", "control_found_share", "zero_gradient_share"):
        assert number(evidence, name).value == number(whole, name).value
    assert results(evidence)[sanity.BATCH] == "held"


@pytest.mark.parametrize("epsilon", [0.0, -0.1, float("inf"), 1e30])
def test_a_radius_that_makes_no_sense_is_refused(epsilon):
    with pytest.raises(ConfigError):
        attack_sanity.settings({"epsilon": epsilon})


def test_the_same_seed_gives_the_same_evidence():
    first, second = (measured(*tabular(immutable=False), rows=40) for _ in range(2))
    assert first.measures == second.measures
    assert first.tables[0] == second.tables[0]
