"""Risk and coverage of decisions: against sorted rows, planted blindness, and a group that is harmed."""

from types import SimpleNamespace

import numpy as np
import pytest

from audit.checks.reliability.selective import selective
from audit.dataset import Dataset, Sensitive
from audit.errors import NotApplicable, NotEvaluable
from audit.load import no_model
from audit.products.predictions import predictions
from audit.record import plain
from audit.stats import METHODS


def made(rows=2000, seed=0, blind_group=False):
    """Two classes, confidence as log-odds; for group B of a blind group, confidence and truth are opposed."""
    random = np.random.default_rng(seed)
    rank = random.gamma(2.0, 1.0, rows)
    code = (random.random(rows) < 0.3).astype(np.int64)
    chance = 1 / (1 + np.exp(-rank))
    if blind_group:
        chance = np.where(code == 1, 1.3 - chance.clip(0, 1), chance)
    right = random.random(rows) < chance
    data = Dataset(
        inputs=np.zeros((rows, 1), np.float32), labels=np.where(right, 1, 0), modality="tabular",
        classes=("no", "yes"), sensitive={"g": Sensitive(name="g", groups=("A", "B"), codes=code)},
    )  # fmt: skip
    scores = np.stack([np.zeros(rows), rank], axis=1)
    everyone = {"predicted": np.ones(rows, np.int64), "finite": np.ones(rows, bool)}
    return data, rank, right, SimpleNamespace(scores=scores, correct=right, **everyone)


def run(data, predictions, **settings):
    return selective.measure(data, predictions, 1, **selective.settings({"draws": 300, **settings}))


def only(evidence, name, group=None, **where):
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and dict(m.settings) == where
    ]  # fmt: skip
    return found


def test_numbers_are_those_of_the_sorted_rows():
    data, rank, right, predictions = made(400)
    evidence = run(data, predictions, bins=65536, risks=[0.1])
    wrong = ~right[np.argsort(-rank)]
    risks = np.cumsum(wrong) / np.arange(1, 401)
    assert only(evidence, "aurc").value == pytest.approx(risks.mean(), abs=1e-12)
    best = np.cumsum(np.sort(wrong)) / np.arange(1, 401)
    assert only(evidence, "excess_aurc").value == pytest.approx((risks - best).mean(), abs=1e-12)
    for share, count in ((0.8, 320), (0.9, 360)):
        found = only(evidence, "selective_accuracy", coverage=share)
        assert (found.statistics["x"], found.n) == (int((~wrong[:count]).sum()), count)
    held = max(k for k in range(1, 401) if risks[k - 1] <= 0.1 and not wrong[k - 1])
    assert only(evidence, "coverage_at_risk", risk=0.1).value == pytest.approx(held / 400)


def test_groups_share_one_threshold():
    data, rank, right, predictions = made()
    evidence = run(data, predictions)
    kept = rank >= np.sort(rank)[::-1][1599]
    inside = data.sensitive["g"].codes == 1
    found = only(evidence, "selective_accuracy", {"g": "B"}, coverage=0.8)
    assert (found.statistics["x"], found.n) == (int(right[kept & inside].sum()), int((kept & inside).sum()))
    share = only(evidence, "kept_share", {"g": "B"}, coverage=0.8)
    assert (share.statistics["x"], share.n) == (int((kept & inside).sum()), int(inside.sum()))


def test_a_group_that_abstaining_harms_is_found_and_a_fair_one_is_not():
    data, _, _, predictions = made(blind_group=True)
    evidence = run(data, predictions)
    assert only(evidence, "kept_less_passed_accuracy", coverage=0.8).low > 0
    assert only(evidence, "kept_less_passed_accuracy", {"g": "B"}, coverage=0.8).high < 0
    assert only(evidence, "selective_accuracy_difference", coverage=0.8, feature="g").low > 0.2
    fair = run(*(made()[0], made()[3]))
    assert only(fair, "kept_less_passed_accuracy", {"g": "B"}, coverage=0.8).low > 0
    assert only(fair, "selective_accuracy_difference", coverage=0.8, feature="g").low == 0


def test_every_number_can_be_derived_again():
    data, _, _, predictions = made(500)
    evidence = run(data, predictions)
    for item in evidence.measures:
        if item.value is not None:
            assert METHODS[item.method](plain(item.statistics), 0.95) == (item.value, item.low, item.high)
    right, kept = predictions.correct, np.argsort(-predictions.scores[:, 1])[:250]
    said = f"all rows {1 - right.mean():.3f} and {1 - right[kept].mean():.3f}"
    assert evidence.figures[0].title.endswith(said)
    assert [line["name"] for line in evidence.figures[1].data["series"]] == ["all rows", "A", "B"]


def test_rows_without_a_score_are_wrong_and_last():
    data, _, right, predictions = made(300)
    predictions.scores[:30] = np.nan
    predictions.finite[:30] = False
    predictions.correct[:30] = False
    evidence = run(data, predictions)
    kept = only(evidence, "selective_accuracy", coverage=0.9)
    assert kept.n == 270
    assert kept.statistics["x"] == int(right[30:].sum())
    assert any("30 of 300" in text for text in evidence.caveats)
    predictions.finite[:] = False
    with pytest.raises(NotEvaluable):
        run(data, predictions)


def test_the_confidence_is_that_of_the_decision_where_the_data_state_it():
    data, _, _, _ = made(400)
    scores = np.linspace(0.01, 0.99, 400)
    stated = Dataset(**{**vars(data), "decisions": (scores > 0.3).astype(np.int64), "scores": scores,
                        "favourable": 1})  # fmt: skip
    kept = only(
        run(stated, predictions(no_model("decision", stated), stated)), "selective_accuracy", coverage=0.9
    )
    least = np.argsort(np.where(scores > 0.3, scores, 1 - scores))[:40]
    assert kept.n == 360
    right = stated.decisions == stated.labels
    assert kept.statistics["x"] == int(right.sum() - right[least].sum())


def test_decisions_without_scores_cannot_be_ranked():
    data, _, _, _ = made(100)
    stated = Dataset(**{**vars(data), "decisions": np.ones(100, np.int64)})
    with pytest.raises(NotApplicable, match="no scores"):
        run(stated, predictions(no_model("decision", stated), stated))


def test_keeping_all_rows_leaves_nothing_to_compare_with():
    data, _, _, predictions = made(200)
    found = only(run(data, predictions, coverages=[1.0]), "kept_less_passed_accuracy", coverage=1.0)
    assert found.value is None
    assert "200 rows are kept and 0 passed on" in found.reason
