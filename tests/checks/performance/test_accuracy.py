"""Accuracy by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from audit.checks.performance.accuracy import accuracy
from audit.dataset import Dataset, Sensitive
from audit.products.predictions import Predictions
from audit.record import canonical
from audit.stats import clopper_pearson, mean_of_proportions


def answers(predicted, labels, outputs):
    scores = np.eye(outputs, dtype=np.float32)[predicted]
    return Predictions(
        scores=scores,
        probabilities=scores,
        predicted=np.array(predicted),
        correct=np.array(predicted) == np.array(labels),
        finite=np.ones(len(labels), bool),
    )


def measured(labels, predicted, outputs=None, names=None, **groups):
    outputs = outputs or max(*labels, *predicted) + 1
    sensitive = {}
    for name, values in groups.items():
        levels = sorted(set(values))
        codes = np.array([levels.index(value) for value in values])
        sensitive[name] = Sensitive(name=name, groups=tuple(levels), codes=codes)
    data = Dataset(
        inputs=np.zeros((len(labels), 1), np.float32),
        labels=np.array(labels),
        modality="tabular",
        classes=tuple(names or (f"c{i}" for i in range(outputs))),
        sensitive=sensitive,
    )
    return accuracy.measure(data, answers(predicted, labels, outputs))


def value(evidence, name="accuracy", **group):
    (found,) = [m for m in evidence.measures if m.name == name and dict(m.group) == group]
    return found


LABELS, PREDICTED = [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]


def test_by_hand():
    evidence = measured(LABELS, PREDICTED, names=("no", "yes"), sex=["f", "f", "m", "m", "m", "f"])
    assert value(evidence).value == 4 / 6
    assert value(evidence, **{"class": "no"}).value == 0.75
    assert value(evidence, **{"class": "yes"}).value == 0.5
    assert value(evidence, "balanced_accuracy").value == 0.625
    assert value(evidence, sex="f").value == pytest.approx(2 / 3)
    assert value(evidence, sex="m").n == 3
    assert value(evidence).low == clopper_pearson({"x": 4, "n": 6}, 0.95)[1]


def test_against_scikit_learn():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 6, 500)
    predicted = np.where(draw.random(500) < 0.7, labels, draw.integers(0, 6, 500))
    evidence = measured(labels.tolist(), predicted.tolist())
    assert value(evidence, "balanced_accuracy").value == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
    recalls = [value(evidence, **{"class": f"c{i}"}).value for i in range(6)]
    np.testing.assert_allclose(recalls, recall_score(labels, predicted, average=None))
    counts = [row[1:] for row in evidence.tables[0].rows]
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted))


def test_a_class_without_rows_leaves_balanced_accuracy_undefined():
    evidence = measured([0, 0, 1], [0, 2, 1], outputs=3)
    balanced = value(evidence, "balanced_accuracy")
    assert balanced.value is None
    assert "0 rows of class c2" in balanced.reason
    absent = value(evidence, **{"class": "c2"})
    assert absent.value is None
    assert "0 of 0 rows" in absent.reason


def test_the_interval_of_balanced_accuracy_covers():
    """2,000 draws of two classes with recalls .9 and .6: the 95 % interval holds .75 about that often."""
    draw = np.random.default_rng(0)
    drawn = np.column_stack([draw.binomial(40, 0.9, 2000), draw.binomial(25, 0.6, 2000)])
    held = [low <= 0.75 <= high for _, low, high in (mean_of_two(*pair) for pair in drawn)]
    assert 0.935 < np.mean(held) < 0.965


def mean_of_two(x, y):
    return mean_of_proportions({"x": [int(x), int(y)], "n": [40, 25]}, 0.95)


def test_a_perfect_model_still_has_an_interval():
    found = value(measured([0, 0, 1, 1], [0, 0, 1, 1]), "balanced_accuracy")
    assert (found.value, found.high) == (1, 1)
    assert 0.4 < found.low < 0.9


def test_many_classes_show_the_largest_confusions_alone():
    labels = list(range(50)) * 2
    predicted = [*range(50), *[1] * 50]
    predicted[0] = 3
    evidence = measured(labels, predicted)
    table = evidence.tables[0]
    assert table.columns == ("true class", "predicted class", "rows")
    assert len(table.rows) == 30
    assert all(row[0] != row[1] for row in table.rows)
    assert ("c0", "c3", 1) in [tuple(row) for row in table.rows]
    assert len(next(f for f in evidence.figures if f.name == "accuracy_by_class").data["labels"]) == 40


def test_figures_name_the_lowest_and_the_highest():
    evidence = measured(LABELS, PREDICTED, names=("no", "yes"), sex=["f", "f", "m", "m", "m", "f"])
    figure = next(f for f in evidence.figures if f.name == "accuracy_by_class")
    assert "0.500 (yes)" in figure.title
    assert "0.750 (no)" in figure.title
    assert {f.name for f in evidence.figures} == {"accuracy_by_class", "accuracy_by_sex"}


def test_outputs_without_a_name_are_numbered():
    evidence = measured([0, 1], [0, 2], outputs=3, names=("a", "b"))
    assert "output 2" in evidence.tables[0].rows[2][0]


def test_rows_without_a_finite_score_are_told():
    data = Dataset(
        inputs=np.zeros((2, 1), np.float32), labels=np.array([0, 1]), modality="tabular", classes=("a", "b")
    )
    found = answers([0, 1], [0, 1], 2)
    found.finite[1] = False
    assert "1 of 2 rows got a score that is not a finite number" in accuracy.measure(data, found).caveats[0]


def test_evidence_is_plain_json():
    assert canonical(measured(LABELS, PREDICTED))
