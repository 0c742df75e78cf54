"""A model that is robust for one group and not for the other shows it by name."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack.loop import Pgd
from audit.checks.fairness.robust_accuracy import robust_accuracy
from audit.dataset import Dataset, Sensitive
from audit.errors import NotApplicable
from audit.model import Model
from audit.policy import Limit, Verdict, judge_measures
from audit.products.adversaries import adversaries
from audit.products.predictions import predictions

SETTINGS = {"epsilon": [0.5], "scale": "input", "steps": 5}


def linear(weight=1.0):
    """Class 1 where x > 0."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[0.0], [weight]])
        layer.bias[:] = 0
    return Model(module=layer.eval(), device=torch.device("cpu"), classes=("no", "yes"))


def dataset(inputs, labels, group, favourable=1, classes=("no", "yes")):
    levels = sorted(set(group), key=lambda v: (v == "unknown", v))
    codes = np.array([levels.index(v) for v in group], np.int64)
    return Dataset(
        inputs=np.asarray(inputs, np.float32).reshape(len(labels), -1), labels=np.asarray(labels, np.int64),
        modality="tabular", classes=classes, favourable=favourable,
        sensitive={"group": Sensitive(name="group", groups=tuple(levels), codes=codes)},
    )  # fmt: skip


def run(model, data, **settings):
    shared = adversaries(model, data, predictions(model, data), 0)
    return robust_accuracy.measure(data, shared, **robust_accuracy.settings({**SETTINGS, **settings}))


def only(evidence, name, group=None, **settings):
    who = {"group": group} if group else {}
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == who and settings.items() <= m.settings.items()
    ]  # fmt: skip
    return found


# A lies 2 from the boundary; B lies .2 from it: 30 favourable, 20 not; 5 of B are wrong before any attack.
INPUTS = [2.0] * 30 + [-2.0] * 30 + [0.2] * 30 + [-0.2] * 20 + [-0.2] * 5
LABELS = [1] * 30 + [0] * 30 + [1] * 30 + [0] * 20 + [1] * 5
GROUP = ["A"] * 60 + ["B"] * 55
PLANTED = dataset(INPUTS, LABELS, GROUP)


def test_the_group_that_is_not_robust_is_named():
    evidence = run(linear(), PLANTED)
    assert only(evidence, "robust_accuracy", "A").value == 1.0
    assert only(evidence, "robust_accuracy", "B").value == 0.0
    clean = only(evidence, "clean_accuracy", "B")
    assert clean.statistics == {"x": 50, "n": 55}
    flips = only(evidence, "flip_rate", "B")
    assert flips.statistics == {"x": 50, "n": 50}
    assert only(evidence, "flip_rate", "A").high < flips.low
    gap = only(evidence, "robust_accuracy_difference", feature="group")
    assert gap.value == 1.0
    assert gap.low > 0.8
    assert "B keep the fewest correct decisions: 0.000" in evidence.figures[0].title


def test_the_way_the_decisions_turn_is_counted():
    rows = {row[0]: list(row[1:]) for row in run(linear(), PLANTED).tables[0].rows}
    assert rows == {"A": [0.5, 60, 60, 0, 0, 0], "B": [0.5, 55, 50, 50, 30, 20]}


def test_equal_groups_are_not_flagged():
    random = np.random.default_rng(0)
    inputs = random.normal(size=800)
    data = dataset(inputs, (inputs > 0).astype(int), random.choice(["A", "B", "C"], 800))
    evidence = run(linear(), data, rows=800)
    for name in ("robust_accuracy_difference", "flip_rate_difference"):
        assert only(evidence, name, feature="group").low == 0.0
    expected = (abs(inputs) > 0.5).mean()
    found = [m for m in evidence.measures if m.name == "robust_accuracy"]
    assert sum(m.statistics["x"] for m in found) == pytest.approx(800 * expected, abs=2)


def test_unknown_and_small_groups_are_shown_and_not_compared():
    group = ["A"] * 60 + ["B"] * 4 + ["unknown"] * 51
    evidence = run(linear(), dataset(INPUTS, LABELS, group))
    assert only(evidence, "robust_accuracy", "unknown").value == 0.0
    gap = only(evidence, "flip_rate_difference", feature="group")
    assert gap.value is None
    assert "1 known groups" in gap.reason


def test_a_group_that_is_always_wrong_has_no_flip_rate_and_is_not_compared_by_it():
    labels = LABELS[:60] + [1 - label for label in LABELS[60:110]] + [0] * 5
    data = dataset(INPUTS[:110] + [0.2] * 5, labels, GROUP)
    evidence = run(linear(), data)
    flips = only(evidence, "flip_rate", "B")
    assert flips.value is None
    assert "0 of 55 rows are classified correctly" in flips.reason
    assert only(evidence, "flip_rate_difference", feature="group").value is None
    assert only(evidence, "robust_accuracy_difference", feature="group").value == 1.0


class Masked(nn.Module):
    """Class 1 where x > 0, without any gradient."""

    def forward(self, rows):
        step = torch.sign(rows) * 5 + 0 * rows
        return torch.cat([torch.zeros_like(step), step], dim=1)


def test_an_attack_that_saw_no_gradient_is_unreliable_for_every_group():
    model = Model(module=Masked().eval(), device=torch.device("cpu"), classes=("no", "yes"))
    evidence = run(model, PLANTED)
    attacked = [m for m in evidence.measures if m.name != "clean_accuracy"]
    assert attacked
    assert all(m.unreliable for m in attacked)
    assert any("failed its own checks" in caveat for caveat in evidence.caveats)
    assert not any(m.unreliable for m in run(linear(), PLANTED).measures)


def test_with_three_classes_only_turns_to_the_favourable_one_count_as_gained():
    """Class by x: below 0, 0 to 1, above 1; the favourable class is the last."""
    layer = nn.Linear(1, 3)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[-2.0], [0.0], [2.0]])
        layer.bias[:] = torch.tensor([0.0, 0.0, -2.0])
    model = Model(module=layer.eval(), device=torch.device("cpu"), classes=("a", "b", "c"))
    inputs = [-0.2] * 20 + [0.9] * 15 + [1.1] * 12 + [-3.0, 4.0]
    labels = [0] * 20 + [1] * 15 + [2] * 12 + [0, 2]
    data = dataset(inputs, labels, ["A"] * 20 + ["B"] * 29, favourable=2, classes=("a", "b", "c"))
    rows = {row[0]: list(row[-3:]) for row in run(model, data, epsilon=[0.3]).tables[0].rows}
    assert rows == {"A": [20, 0, 0], "B": [27, 12, 15]}


def test_the_attack_is_shared_with_the_check_of_robustness():
    shared = adversaries(linear(), PLANTED, predictions(linear(), PLANTED), 0)
    filled = robust_accuracy.settings(SETTINGS)
    robust_accuracy.measure(PLANTED, shared, **filled)
    spent = shared.model.passes.forward
    attack = Pgd(norm="linf", steps=5, step_size=0.0, restarts=1, random_start=True, loss="cross_entropy")
    shared.pgd([0.0, 0.5], attack, rows=1000, scale="input")
    assert shared.model.passes.forward == spent


def two_features():
    """Women of A and men of B lie .2 from the boundary: neither feature alone tells them from the others."""
    group = np.repeat(["A", "A", "B", "B", "B"], [40, 40, 40, 40, 6])
    sex = np.repeat(["F", "M", "F", "M", "unknown"], [40, 40, 40, 40, 6])
    near = (group == "A") == (sex == "F")
    labels = np.arange(166) % 2
    inputs = np.where(near, 0.2, 2.0) * np.where(labels == 1, 1, -1)
    data = dataset(inputs, labels, group)
    codes = np.array([["F", "M", "unknown"].index(v) for v in sex], np.int64)
    feature = Sensitive(name="sex", groups=("F", "M", "unknown"), codes=codes)
    return Dataset(**{**vars(data), "sensitive": {**data.sensitive, "sex": feature}})


def test_an_intersection_that_neither_feature_shows_is_found():
    evidence = run(linear(), two_features())
    assert only(evidence, "robust_accuracy_difference", feature="group").value < 0.05
    gap = only(evidence, "robust_accuracy_difference", feature="group x sex")
    assert gap.value == 1.0
    assert gap.statistics == {"x": [0, 40, 40, 0], "n": [40, 40, 40, 40]}
    by_both = {tuple(m.group.items()): m.value for m in evidence.measures
               if m.name == "robust_accuracy" and len(m.group) == 2}  # fmt: skip
    assert by_both == {
        (("group", "A"), ("sex", "F")): 0.0,
        (("group", "A"), ("sex", "M")): 1.0,
        (("group", "B"), ("sex", "F")): 1.0,
        (("group", "B"), ("sex", "M")): 0.0,
        (("group", "B"), ("sex", "unknown")): 0.0,
    }
    table = evidence.tables[2]
    assert table.name == "flips: group x sex"
    assert list(table.columns[:4]) == ["group", "sex", "epsilon", "rows"]
    assert list(table.rows[0]) == ["A", "F", 0.5, 40, 40, 40, 20, 20]
    assert [figure.name for figure in evidence.figures] == [
        "robust accuracy by group", "robust accuracy by sex",
    ]  # fmt: skip
    assert "By group x sex, 6 rows have no known group; they are shown, not compared." in evidence.caveats


def test_small_intersections_are_named_and_depth_one_has_none():
    evidence = run(linear(), two_features(), floor=41)
    assert only(evidence, "robust_accuracy_difference", feature="group").value is not None
    gap = only(evidence, "robust_accuracy_difference", feature="group x sex")
    assert gap.value is None
    assert "0 known groups" in gap.reason
    assert any(
        "A, F; A, M; B, F; B, M have fewer than 41 of the rows looked at" in c for c in evidence.caveats
    )
    alone = run(linear(), two_features(), depth=1)
    assert [table.name for table in alone.tables] == [
        "flips: group", "flips: sex", "setting", "self_checks",
    ]  # fmt: skip
    assert all(len(m.group) <= 1 for m in alone.measures)


def test_the_settings_of_the_attack_are_told_as_they_were_used():
    rows = dict(run(linear(), PLANTED, epsilon=[0.3], steps=7).tables[1].rows)
    assert rows["attack"] == "pgd"
    assert rows["steps"] == 7
    assert rows["step size (share of epsilon)"] > 0
    assert rows["forward rows"] > 0


def test_without_a_favourable_outcome_flips_have_no_direction():
    evidence = run(linear(), dataset(INPUTS, LABELS, GROUP, favourable=None))
    assert evidence.tables[0].columns[-1] == "turned over"
    assert only(evidence, "robust_accuracy", "B").value == 0.0


def test_it_needs_groups():
    data = Dataset(inputs=PLANTED.inputs, labels=PLANTED.labels, modality="tabular", classes=("no", "yes"))
    with pytest.raises(NotApplicable, match="names no sensitive feature"):
        run(linear(), data)


def test_nothing_is_judged_on_fewer_rows_than_the_floor():
    """Four of four hold, and 5 of 9 that were right flip: neither is more than the floor of 10."""
    group = ["A"] * 60 + ["B"] * 4 + ["C"] * 51
    evidence = run(linear(), dataset(INPUTS, LABELS, group), epsilon=[0.1])
    limit = Limit(check="fairness.robust_accuracy", measure="robust_accuracy", at_least=0.1, group="each")
    judged = {j.group["group"]: j for j in judge_measures(evidence.measures, [limit], 0.95)}
    assert judged["A"].verdict is Verdict.PASS
    assert judged["B"].verdict is Verdict.NOT_EVALUABLE
    assert "the robust accuracy of B is 4 of 4 rows" in judged["B"].reason
    assert only(evidence, "robust_accuracy_difference", feature="group").left_out == "B (4 rows)"


def test_a_flip_rate_of_few_correct_rows_takes_no_part_in_the_difference():
    labels = LABELS[:60] + [1 - label for label in LABELS[60:106]] + LABELS[106:]
    evidence = run(linear(), dataset(INPUTS, labels, GROUP))
    assert only(evidence, "flip_rate", "B").statistics == {"x": 4, "n": 4}
    gap = only(evidence, "flip_rate_difference", feature="group")
    assert gap.value is None
    assert only(evidence, "robust_accuracy_difference", feature="group").n == 115


def test_the_title_of_the_picture_speaks_of_groups_that_are_compared():
    """The 4 of B and the unknown lie beside the boundary and all fall; A and C are what is compared."""
    group = ["A"] * 60 + ["B"] * 4 + ["C"] * 40 + ["unknown"] * 11
    (figure,) = run(linear(), dataset(INPUTS, LABELS, group), epsilon=[0.1, 0.5]).figures
    assert figure.title == "Under attack (epsilon 0.5), C keep the fewest correct decisions: 0.000"
    alone = ["A"] * 60 + ["B"] * 4 + ["unknown"] * 51
    (figure,) = run(linear(), dataset(INPUTS, LABELS, alone)).figures
    assert figure.title == "Under attack (epsilon 0.5), accuracy is the same by group: 1.000"
    (figure,) = run(linear(), dataset(INPUTS, LABELS, ["unknown"] * 115)).figures
    assert figure.title == "Robust accuracy by group under attack (epsilon 0.5)"


def test_the_reader_is_told_why_these_radii_or_that_nobody_said():
    assert any("Nobody has stated why" in caveat for caveat in run(linear(), PLANTED).caveats)
    told = run(linear(), PLANTED, justification="A sensor errs by .5.").caveats
    assert "Why these values of epsilon: A sensor errs by .5." in told
    assert not any("Nobody has stated" in caveat for caveat in told)
