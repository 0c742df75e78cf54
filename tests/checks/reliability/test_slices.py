"""Error analysis: label noise planted in a slice is found by name; errors dealt at random are not."""

from types import SimpleNamespace

import numpy as np
import pytest

from audit.checks.reliability.slices import slices
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import NotApplicable, NotEvaluable
from audit.record import plain
from audit.stats import METHODS


def table(rows=2000, seed=0, planted=0.0):
    """Errors of 10 % everywhere; a share `planted` more for women above 1 in `age`."""
    random = np.random.default_rng(seed)
    age, pay = random.normal(size=(2, rows))
    code = (random.random(rows) < 0.5).astype(np.int64)
    labels = random.integers(0, 2, rows)
    noisy = (random.random(rows) < 0.1) | ((age > 0.5) & (code == 1) & (random.random(rows) < planted))
    data = Dataset(
        inputs=np.stack([age, pay], axis=1).astype(np.float32), labels=labels, modality="tabular",
        classes=("no", "yes"),
        features=(Feature(name="age", columns=(0,)), Feature(name="pay", columns=(1,))),
        sensitive={"sex": Sensitive(name="sex", groups=("men", "women"), codes=code)},
    )  # fmt: skip
    return data, SimpleNamespace(correct=~noisy, finite=np.ones(rows, bool))


def run(data, predictions, **settings):
    return slices.measure(data, predictions, 1, **slices.settings(settings))


def differences(evidence):
    return [m for m in evidence.measures if m.name == "error_rate_difference"]


def test_label_noise_of_a_slice_is_found_by_name():
    evidence = run(*table(planted=0.5))
    worst = differences(evidence)[0]
    assert set(worst.group) == {"age", "sex"}
    assert worst.group["sex"] == "women"
    assert worst.low > 0.1
    chance = next(m for m in evidence.measures if m.name == "shuffles_as_bad")
    assert chance.value == 0
    assert "sex: women" in evidence.figures[0].title


def test_errors_dealt_at_random_do_not_stand_out():
    flagged = 0
    for seed in range(15):
        evidence = run(*table(seed=seed), shuffles=19)
        flagged += any(m.low > 0 for m in differences(evidence))
    assert flagged <= 2


def test_counts_are_those_of_the_rows():
    data, predictions = table(planted=0.5)
    evidence = run(data, predictions, features=("sex",), depth=1)
    (worst,) = [m for m in differences(evidence) if dict(m.group) == {"sex": "women"}]
    inside = data.sensitive["sex"].codes == 1
    wrong = ~predictions.correct
    assert worst.statistics["x1"] == int(wrong[inside].sum())
    assert worst.statistics["n0"] == int((~inside).sum())
    assert worst.value == pytest.approx(wrong[inside].mean() - wrong[~inside].mean())
    (rate,) = [m for m in evidence.measures if m.name == "error_rate" and dict(m.group) == {"sex": "women"}]
    assert rate.value == pytest.approx(wrong[inside].mean())
    for item in evidence.measures:
        assert METHODS[item.method](plain(item.statistics), 0.95) == (item.value, item.low, item.high)


def images(rows=900, seed=0):
    random = np.random.default_rng(seed)
    inputs = random.random((rows, 1, 6, 6)) * 0.2 + random.random((rows, 1, 1, 1)) * 0.8
    data = Dataset(
        inputs=inputs.astype(np.float32), labels=np.repeat([0, 1, 2], rows // 3), modality="image",
        classes=("a", "b", "c"),
    )  # fmt: skip
    return data, random


def test_dark_images_are_found():
    data, random = images()
    dark = data.inputs.mean(axis=(1, 2, 3)) < np.quantile(data.inputs.mean(axis=(1, 2, 3)), 1 / 3)
    wrong = random.random(900) < np.where(dark, 0.4, 0.05)
    worst = differences(run(data, SimpleNamespace(correct=~wrong, finite=np.ones(900, bool))))[0]
    assert dict(worst.group) == {"brightness": "darkest third"}
    assert (worst.n, worst.statistics["x1"]) == (300, int(wrong[dark].sum()))
    assert worst.low > 0.2


def test_a_class_is_found_where_classes_are_asked_for():
    data, random = images()
    wrong = random.random(900) < np.where(data.labels == 2, 0.5, 0.05)
    predictions = SimpleNamespace(correct=~wrong, finite=np.ones(900, bool))
    worst = differences(run(data, predictions, by_class=True))[0]
    assert dict(worst.group) == {"true class": "c"}
    assert not any("true class" in m.group for m in differences(run(data, predictions)))


def test_what_cannot_be_answered_is_said():
    data, predictions = table(200)
    with pytest.raises(NotEvaluable, match="0 of 200 rows are wrong"):
        run(data, SimpleNamespace(correct=np.ones(200, bool), finite=np.ones(200, bool)))
    with pytest.raises(NotEvaluable, match="no slice of the 200 rows"):
        run(data, predictions, floor=150)
    with pytest.raises(NotApplicable, match="nearest is 'age'"):
        run(data, predictions, features=("aged",))
    bare = Dataset(inputs=data.inputs, labels=data.labels, modality="tabular", classes=data.classes)
    with pytest.raises(NotApplicable, match="no feature"):
        run(bare, predictions)


def test_rows_without_a_score_count_as_wrong_and_are_told():
    data, predictions = table(300)
    predictions.finite[:5] = False
    assert run(data, predictions).caveats[0].startswith("5 of 300 rows got a score")
