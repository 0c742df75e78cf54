"""Shown: rows that are kept of a broken limit really show it, whatever the check did to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import answered, people
from torch import nn

from audit.attack.result import AtEpsilon, AttackResult
from audit.checks.fairness.counterfactual import counterfactual
from audit.checks.robustness.art import art
from audit.checks.robustness.certified import certified
from audit.checks.robustness.corruptions import corruptions
from audit.checks.robustness.distance import distance
from audit.checks.robustness.series import series
from audit.checks.robustness.spatial import spatial
from audit.dataset import Dataset, Feature, Sensitive
from audit.evidence import Altered, Evidence, Measure
from audit.measure import measure, set_up
from audit.model import Model
from audit.outcomes import Outcomes, answers
from audit.pairing import Pair
from audit.policy import Judgement, Limit, Policy, Verdict
from audit.record import Finding
from audit.registry import installed_products
from audit.replay import _alter_again, _Scene, _show_again
from audit.reproducer import FILE, TENSORS, Wanted, read_reproducer, read_tensors
from audit.shown import (
    BYTES,
    ROWS,
    Alteration,
    Subject,
    _cells,
    _in_turn,
    _still,
    _telling,
    classes_of,
    lost_since,
    shown,
    turned,
)

NAMES = ("no", "yes")
CPU = torch.device("cpu")


def judgement(**changes):
    facts = {"limit": "l", "measure": "robust_accuracy", "verdict": Verdict.FAIL, "at_least": 0.9,
             "low": 0.1, "high": 0.5, "settings": {"epsilon": 0.5}}  # fmt: skip
    return Judgement(**{**facts, **changes})


def finding_of(item, better="higher"):
    number = Measure(name=item.measure, value=0.3, group=item.group, settings=item.settings, better=better)
    return Finding(check="robustness.pgd", version="1", title="t", status="measured", measures=(number,))


# Rows that fell to an attack.


def subject(rows=40, seed=0):
    """Made-up people, and a network that says `yes` where the one input is above 0."""
    data = people(rows, seed)
    inputs = np.linspace(-1, 1, rows, dtype=np.float32).reshape(-1, 1)
    data = replace(data, inputs=inputs, labels=(inputs[:, 0] > 0).astype(np.int64), source={})
    module = nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        module.bias.zero_()
    return Subject(Model(module=module.eval(), device=CPU, fingerprint="m" * 64), data, 3)


def attack_on(subject, fell, epsilon=0.5):
    """The result of an attack that turned over the marked rows by crossing 0."""
    data = subject.data
    size = len(data)
    kept = np.flatnonzero(fell)
    entry = AtEpsilon(
        epsilon=epsilon, fooled=fell, zero=np.zeros(size, bool), nan=np.zeros(size, bool), late=0,
        rejected={}, kept=kept, examples=-data.inputs[kept],
    )  # fmt: skip
    settings = {"norm": "linf", "scale": "std"}
    right = np.ones(size, bool)
    return AttackResult(
        method="pgd", rows=np.arange(size), correct=right, at=(entry,), walked=True, settings=settings
    )


def kept_of(item, evidence, given, better="higher"):
    return shown(item, finding_of(item, better), evidence, given)


def test_rows_that_fell_are_kept_of_the_group_alone():
    given = subject()
    evidence = Evidence(measures=[], attack=attack_on(given, np.ones(len(given.data), bool)))
    whole = kept_of(judgement(), evidence, given)
    assert list(whole.arrays["rows"]) == list(range(ROWS))
    women = kept_of(judgement(group={"sex": "f"}), evidence, given)
    expected = np.flatnonzero(given.data.sensitive["sex"].codes == 0)[:ROWS]
    assert np.array_equal(women.arrays["rows"], expected)
    both = kept_of(judgement(group={"sex": "f", "race": "b"}), evidence, given)
    codes = given.data.sensitive
    expected = np.flatnonzero((codes["sex"].codes == 0) & (codes["race"].codes == 1))[:ROWS]
    assert np.array_equal(both.arrays["rows"], expected)
    assert (whole.arrays["after"] != whole.arrays["label"]).all()
    assert whole.attack == {"method": "pgd", "epsilon": 0.5, "norm": "linf", "scale": "std"}


@pytest.mark.parametrize(
    "changes",
    [
        {"measure": "clean_accuracy"},
        {"at_least": None, "at_most": 0.05},
        {"settings": {"epsilon": 0.25}},
        {"settings": {"epsilon": 0.5, "feature": "sex"}},
        {"group": {"shoe": "large"}},
        {"group": {"sex": "x"}},
    ],
)
def test_a_failure_that_no_fallen_row_shows_is_measured_again_instead(changes):
    given = subject()
    fallen = Evidence(measures=[], attack=attack_on(given, np.ones(len(given.data), bool)))
    assert not kept_of(judgement(**changes), fallen, given).attack
    assert not kept_of(judgement(), Evidence(measures=[]), given).attack
    nobody = Evidence(measures=[], attack=attack_on(given, np.zeros(len(given.data), bool)))
    assert not kept_of(judgement(), nobody, given).attack


def test_a_success_rate_is_broken_from_above():
    given = subject()
    evidence = Evidence(measures=[], attack=attack_on(given, np.ones(len(given.data), bool)))
    item = judgement(measure="attack_success_rate", at_least=None, at_most=0.05)
    assert kept_of(item, evidence, given, "lower").attack
    assert not kept_of(replace(item, at_least=0.9, at_most=None), evidence, given, "lower").attack


# Rows that count without any change.


def test_wrong_answers_of_the_group_are_kept_the_surest_first():
    data = people(300, 1)
    right = np.random.default_rng(2).random(300) < 0.7
    given = answered(data, right)
    kept = answers(data, given)
    found = _telling(judgement(measure="accuracy", group={"race": "a"}), kept, fair=False)
    wrong = np.flatnonzero(~right & (data.sensitive["race"].codes == 0))
    odds = np.abs(given.scores[:, 1] - given.scores[:, 0])
    assert list(found["rows"]) == sorted(wrong, key=lambda row: -odds[row])[:ROWS]
    assert not found["correct"].any()
    assert list(found["label"]) == [NAMES[label] for label in data.labels[found["rows"]]]
    assert "cells" not in found


def test_cells_are_counts_by_every_feature_of_the_group():
    data = people(500, 3)
    kept = answers(data, answered(data, np.random.default_rng(1).random(500) < 0.6))
    found = _cells(judgement(group={"sex": "f", "race": "c"}), kept)
    assert found["cells"].shape == (2, 2, 2, 3)
    assert found["cells"].sum() == 500
    assert list(found["cells_features"]) == ["sex", "race"]
    assert _cells(judgement(group={}), kept) == {}


def test_cells_of_very_many_groups_are_left_out():
    codes = {name: (tuple(map(str, range(900))), np.arange(50)) for name in ("label", "predicted", "group g")}
    assert _cells(judgement(group={"g": "1"}), Outcomes(rows=np.arange(50), codes=codes)) == {}


# What a check did to rows.


@pytest.mark.parametrize(
    ("side", "kept"),
    [(1, 16), (181, 16), (400, 3), (600, 1), (800, 1)],
)
def test_images_are_kept_up_to_so_many_bytes_and_at_least_one(side, kept):
    """Two float32 images of a side take 8 * side^2 bytes."""
    assert kept == min(16, max(1, 4 * 1024 * 1024 // (8 * side * side)))
    base = subject(20)
    inputs = np.zeros((20, 1, side, side), dtype=np.float32)
    inputs[:, 0, 0, 0] = base.data.inputs[:, 0]
    data = replace(base.data, inputs=inputs)

    class Corner(nn.Module):
        def forward(self, images):
            corner = images[:, 0, 0, 0]
            return torch.stack([-corner, corner], dim=1)

    given = Subject(Model(module=Corner(), device=CPU), data, 0)
    turn = Altered(words="turned over", rows=np.arange(20), make=lambda rows: -inputs[rows])
    found = kept_of(judgement(), Evidence(measures=[], altered=lambda _: [turn]), given)
    assert len(found.arrays["rows"]) == kept
    size = found.arrays["original"].nbytes + found.arrays["adversarial"].nbytes
    assert size <= BYTES or kept == 1
    attacked = kept_of(judgement(), Evidence(measures=[], attack=attack_on(given, np.ones(20, bool))), given)
    assert len(attacked.arrays["rows"]) == kept


def test_one_of_each_change_in_turn():
    assert _in_turn([5, 1, 3], 16) == [5, 1, 3]
    assert _in_turn([50, 1, 30], 6) == [3, 1, 2]
    assert _in_turn([9] * 20, 4) == [1, 1, 1, 1] + [0] * 16
    assert _in_turn([], 4) == []


def test_a_row_that_does_not_turn_when_it_is_shown_alone_is_not_kept():
    given = subject()
    rows = np.arange(4)
    half = Altered(
        words="half", rows=rows, make=lambda r: np.where(r[:, None] < 2, -1, 1) * given.data.inputs[r]
    )
    found = kept_of(judgement(), Evidence(measures=[], altered=lambda _: [half]), given)
    assert list(found.arrays["rows"]) == [0, 1]
    nothing = Altered(words="nothing", rows=rows, make=lambda r: given.data.inputs[r])
    assert not kept_of(judgement(), Evidence(measures=[], altered=lambda _: [nothing]), given).altered


def test_a_row_is_held_to_the_way_of_its_own_change_alone():
    """Row 0 is still right and only another answer by the other change's way; row 1 turned in its own."""
    arrays = {"label": np.array([1, 1]), "before": np.array([0, 0]), "after": np.array([1, 1])}
    wrong, other = (
        Altered(words=way, rows=np.arange(2), make=lambda r: r, turned=way) for way in ("wrong", "other")
    )
    assert list(_still(arrays, np.array([0, 1]), [wrong, other], 1)) == [False, True]


def test_ways_in_which_an_answer_turns():
    before, after = np.array([0, 1, 0, 1, -1, 1]), np.array([1, 0, 0, 1, 1, -1])
    kept = {"label": np.array([0, 1, 1, 1, 1, 1])}
    assert list(turned("wrong", kept, before, after, 1)) == [True, True, True, False, False, True]
    assert list(turned("other", kept, before, after, 1)) == [True, True, False, False, False, False]
    assert list(turned("lost", kept, before, after, 1)) == [False, True, False, False, False, False]
    assert list(turned("gained", kept, before, after, 1)) == [True, False, False, False, False, False]


def test_a_score_that_is_no_number_is_no_class():
    class Root(nn.Module):
        def forward(self, rows):
            return torch.cat([rows.sqrt(), 1 - rows], dim=1)

    model = Model(module=Root(), device=CPU)
    assert list(classes_of(model, np.array([[1.0], [-1.0], [0.0]], dtype=np.float32))) == [0, -1, 1]


def table(seed=0, rows=300):
    """People, half women, whom the model grants by income and by being a man; labels are its own answers."""
    random = np.random.default_rng(seed)
    sex = random.integers(0, 2, rows)
    inputs = np.stack([random.uniform(-1, 1, rows), sex], axis=1).astype(np.float32)
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.5]]))
        layer.bias.copy_(torch.tensor([0.0, -0.25]))
    features = (Feature(name="income", columns=(0,), low=-1.0, high=1.0), Feature(name="sex", columns=(1,)))
    groups = {"sex": Sensitive(name="sex", groups=("f", "m"), codes=sex)}
    return layer, inputs, {"modality": "tabular", "features": features, "sensitive": groups, "favourable": 1}


def pictures(rows=60):
    """A bright column left or right of the middle of 11; the label is the side."""

    class Column(nn.Module):
        def forward(self, images):
            weights = torch.arange(11.0) - 5.2
            where = (images.mean(dim=(1, 2)) * weights).sum(dim=1)
            return torch.stack([torch.zeros_like(where), where], dim=1)

    random = np.random.default_rng(0)
    inputs = np.zeros((rows, 1, 11, 11), np.float32)
    inputs[np.arange(rows), 0, :, random.integers(3, 8, rows)] = 1
    groups = {"half": Sensitive(name="half", groups=("a", "b"), codes=np.arange(rows) % 2)}
    return Column(), inputs, {"modality": "image", "sensitive": groups}


def signals(rows=200):
    """Class 1 where the mean of a noisy signal is above 0."""

    class Level(nn.Module):
        def forward(self, waves):
            mean = waves.mean(dim=(1, 2))
            return torch.stack([-mean, mean], dim=1)

    inputs = np.random.default_rng(0).normal(0, 1, (rows, 1, 20)).astype(np.float32)
    return Level(), inputs, {"modality": "series"}


def bench_of(made, limits):
    network, inputs, more = made
    with torch.no_grad():
        labels = network(torch.tensor(inputs)).argmax(dim=1).numpy()
    data = Dataset(inputs=inputs, labels=labels, classes=NAMES, fingerprint="d" * 64, **more)
    model = Model(
        module=network.eval(), device=CPU, classes=NAMES, fingerprint="m" * 64,
        input_range=(-1.0, 1.0) if more["modality"] == "tabular" else (-6.0, 6.0) if
        more["modality"] == "series" else (0.0, 1.0),
    )  # fmt: skip
    wanted = Wanted(policy=Policy(limits=limits), config={}, folder=Path())
    return replace(set_up(model, data, 0, installed_products()), wanted=wanted)


def tried(on, told, kept, model=None):
    """The replay of a kept failure on this or another model."""
    about = {"same_data": True, "same_model": model is None}
    scene = _Scene(told, Path(), kept, None, model or on.model, on.data, about)
    return (_show_again if told.kind == "attack" else _alter_again)(scene)


CASES = {
    "corruptions of a table": (
        corruptions, {}, table, {"measure": "mean_corruption_accuracy", "at_least": 1.0}
    ),
    "corruptions of a group": (
        corruptions, {}, table,
        {"measure": "severity_accuracy", "at_least": 1.0, "group": {"sex": "f"}, "where": {"severity": 5}},
    ),
    "corruptions of images": (
        corruptions, {"corruptions": ["impulse_noise", "gaussian_noise"]}, pictures,
        {"measure": "corruption_accuracy", "at_least": 1.0,
         "where": {"corruption": "gaussian_noise", "severity": 5}},
    ),
    "robust to both corruptions": (
        corruptions, {"corruptions": ["impulse_noise", "gaussian_noise"], "severities": [5]}, pictures,
        {"measure": "robust_accuracy", "at_least": 1.0},
    ),
    "spatial": (spatial, {"translation": 0.3}, pictures, {"measure": "robust_accuracy", "at_least": 1.0}),
    "spatial success": (
        spatial, {"translation": 0.3, "rotation": 0.0}, pictures,
        {"measure": "attack_success_rate", "at_most": 0.01, "group": {"half": "b"}},
    ),
    "spatial at random": (
        spatial, {"translation": 0.4}, pictures, {"measure": "average_accuracy", "at_least": 1.0}
    ),
    "series": (
        series, {"perturbations": ["noise"]}, signals, {"measure": "robust_accuracy", "at_least": 1.0}
    ),
    "series on average": (
        series, {}, signals,
        {"measure": "average_accuracy", "at_least": 1.0, "where": {"perturbation": "noise", "strength": 0.8}},
    ),
    "counterfactual": (counterfactual, {}, table, {"measure": "decision_change_rate", "at_most": 0.01}),
    "counterfactual lost": (
        counterfactual, {}, table, {"measure": "favourable_lost_rate", "at_most": 0.01, "group": {"sex": "m"}}
    ),
    "counterfactual gained": (
        counterfactual, {}, table,
        {"measure": "favourable_gained_rate", "at_most": 0.01, "group": {"sex": "f"}},
    ),
    "distance": (
        distance, {"steps": 40, "rows": 60}, signals, {"measure": "adversarial_distance", "at_least": 5.0}
    ),
    "distance success": (
        distance, {"steps": 40, "rows": 60}, signals, {"measure": "attack_success_rate", "at_most": 0.1}
    ),
    "art": (
        art, {"attack": "DeepFool", "epsilon": [6.0], "rows": 40}, signals,
        {"measure": "median_distance_found", "at_least": 20.0},
    ),
    "art at an epsilon": (
        art, {"attack": "FastGradientMethod", "epsilon": [0.5], "rows": 40}, signals,
        {"measure": "robust_accuracy", "at_least": 1.0},
    ),
    "certified": (
        certified, {"epsilon": [0.4], "steps": 5}, table, {"measure": "robust_accuracy", "at_least": 1.0}
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("case", CASES)
def test_what_a_check_did_to_rows_is_kept_and_shown_again(case, tmp_path):
    """Planted weaknesses: the rows turn, are those of the group, and a model that is sound is found sound."""
    check, settings, made, asked = CASES[case]
    limit = Limit(check=check.name, **asked)
    on = bench_of(made(), (limit,))
    finding = measure(check, check.settings(settings), on, tmp_path)
    assert finding.status == "measured", finding.reason
    folders = [path.parent for path in tmp_path.glob(f"artifacts/*/{FILE}")]
    assert folders, [(m.value, m.low, m.high) for m in finding.measures if m.name == limit.measure]
    told = read_reproducer(folders[0])
    kept = read_tensors(folders[0], told)
    by_attack = "distance" in case or "art" in case or case == "certified"
    assert told.kind == ("attack" if by_attack else "altered")
    assert 0 < len(kept["rows"]) <= ROWS
    assert np.array_equal(kept["original"], on.data.inputs[kept["rows"]])
    for name, group in told.group.items():
        feature = on.data.sensitive[name]
        assert (feature.codes[kept["rows"]] == feature.groups.index(group)).all()
    with torch.no_grad():
        before, after = (
            on.model.module(torch.tensor(kept[key])).argmax(1).numpy() for key in ("original", "adversarial")
        )
    assert np.array_equal(before, on.data.labels[kept["rows"]])
    assert (after != before).all()
    found = tried(on, told, kept)
    assert (found.there, found.exit_code) == (True, 1), found.sentence
    assert f"{len(after)} of {len(after)} stored" in found.sentence
    sound = Recalled(kept["original"], before, kept["adversarial"])
    fixed = tried(on, told, kept, replace(on.model, module=sound))
    assert (fixed.there, fixed.exit_code) == (False, 0), fixed.sentence


class Recalled(nn.Module):
    """A model that gives each changed row the class of its own row: it was taught these rows."""

    def __init__(self, rows, classes, points):
        super().__init__()
        self.known = torch.tensor(np.concatenate([rows, points])).flatten(1)
        self.classes = torch.tensor(np.concatenate([classes, classes]))

    def forward(self, inputs):
        apart = (inputs.flatten(1)[:, None] - self.known[None]).abs().sum(dim=2)
        return nn.functional.one_hot(self.classes[apart.argmin(dim=1)], 2).float()


def test_a_counterfactual_shows_the_same_people_as_the_other_group(tmp_path):
    limit = Limit(
        check=counterfactual.name, measure="favourable_gained_rate", at_most=0.01, group={"sex": "f"}
    )
    on = bench_of(table(), (limit,))
    measure(counterfactual, {}, on, tmp_path)
    (path,) = tmp_path.glob(f"artifacts/*/{TENSORS}")
    told = read_reproducer(path.parent)
    kept = read_tensors(path.parent, told)
    assert told.altered == (Alteration(words="sex set to m", turned="gained"),)
    assert (kept["original"][:, 1] == 0).all()
    assert (kept["adversarial"][:, 1] == 1).all()
    assert np.array_equal(kept["original"][:, 0], kept["adversarial"][:, 0])
    assert (np.abs(kept["original"][:, 0]) <= 0.25).all()
    assert "now gives the favourable class to" in tried(on, told, kept).sentence


def test_the_moves_of_an_image_are_named_and_are_those_that_fooled(tmp_path):
    from audit.shift.spatial import moved

    limit = Limit(check=spatial.name, measure="robust_accuracy", at_least=1.0)
    on = bench_of(pictures(), (limit,))
    measure(spatial, spatial.settings({"translation": 0.3, "rotation": 0.0}), on, tmp_path)
    (path,) = tmp_path.glob(f"artifacts/*/{TENSORS}")
    told = read_reproducer(path.parent)
    kept = read_tensors(path.parent, told)
    for place, change in enumerate(told.altered):
        words = change.words.split()
        move = np.float32([0, float(words[2]), float(words[7])])
        mine = torch.tensor(kept["original"][kept["how"] == place])
        again = moved(mine, torch.tensor(move).expand(len(mine), 3), "zeros", 0.0).clamp(0, 1)
        assert np.allclose(again.numpy(), kept["adversarial"][kept["how"] == place], atol=1e-6)


def test_distances_are_the_nearest_ones_of_the_data(tmp_path):
    limit = Limit(check=distance.name, measure="adversarial_distance", at_least=5.0)
    on = bench_of(signals(), (limit,))
    measure(distance, distance.settings({"steps": 100, "rows": None}), on, tmp_path)
    (path,) = tmp_path.glob(f"artifacts/*/{TENSORS}")
    told = read_reproducer(path.parent)
    kept = read_tensors(path.parent, told)
    # The boundary is mean = 0: the way to it is |mean| * sqrt(20).
    true = np.abs(on.data.inputs.mean(axis=(1, 2))) * np.sqrt(20)
    far = np.linalg.norm((kept["adversarial"] - kept["original"]).reshape(len(kept["rows"]), -1), axis=1)
    assert (far >= true[kept["rows"]] * 0.999).all()
    assert far == pytest.approx(true[kept["rows"]], rel=0.2, abs=0.01)
    assert (far <= told.value).all()
    assert len(set(kept["rows"]) & set(np.argsort(true)[:20])) >= 12


# What became worse since a baseline.


def pair(data, first, second, seed=0):
    return Pair(*(answers(data, answered(data, right, seed)) for right in (first, second)))


def change(**more):
    return judgement(measure="accuracy", settings={}, **more)


def test_rows_that_were_right_and_are_wrong_now_of_the_group():
    data, random = people(400, 5), np.random.default_rng(6)
    first, second = random.random(400) < 0.9, random.random(400) < 0.6
    found = lost_since(change(group={"race": "b"}), "performance.accuracy", pair(data, first, second))
    lost = first & ~second & (data.sensitive["race"].codes == 1)
    assert len(found["rows"]) == ROWS
    assert lost[found["rows"]].all()
    assert found["base_correct"].all()
    assert not found["correct"].any()
    assert set(found) == {"rows", "label", "base_correct", "correct", "base_predicted", "predicted",
                          "base_score", "score"}  # fmt: skip


def test_where_no_answer_turned_the_scores_that_moved_away_are_kept():
    data = people(100, 5)
    right = np.ones(100, dtype=bool)
    both = pair(data, right, right)
    odds = both.new.numbers["score"].copy()
    odds[:30] *= 0.5
    both = replace(both, new=replace(both.new, numbers={"score": odds}))
    found = lost_since(change(), "fairness.calibration", both)
    assert set(found["rows"]) <= set(range(30))
    assert (np.abs(found["score"]) < np.abs(found["base_score"])).all()


def test_the_same_answers_keep_no_row():
    data = people(100, 5)
    right = np.random.default_rng(0).random(100) < 0.8
    assert lost_since(change(), "performance.accuracy", pair(data, right, right)) == {}
    assert lost_since(change(), "fairness.groups", pair(data, right, right)) == {}
    bare = Outcomes(rows=np.arange(100))
    assert lost_since(change(), "performance.accuracy", Pair(bare, bare)) == {}


def test_refused_people_whom_the_baseline_granted():
    data, random = people(400, 5), np.random.default_rng(6)
    both = pair(data, random.random(400) < 0.9, random.random(400) < 0.6)
    item = change(group={"sex": "f"})
    found = lost_since(item, "fairness.groups", both)
    assert (found["base_predicted"] == "yes").all()
    assert (found["predicted"] == "no").all()
    assert (data.sensitive["sex"].codes[found["rows"]] == 0).all()
    assert not found["correct"].any()
