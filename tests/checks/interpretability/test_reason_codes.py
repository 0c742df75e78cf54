"""Reason codes as evidence: planted reasons, never a protected one, empty places where runs disagree."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from audit.checks.interpretability.reason_codes import reason_codes
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotApplicable, NotEvaluable
from audit.model import Model

CPU = torch.device("cpu")
NAMES = ("income", "debt", "sex", "noise")


def linear(weights, bias=0.0):
    net = nn.Linear(len(weights), 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0] * len(weights), list(weights)]))
        net.bias.copy_(torch.tensor([0.0, bias]))
    return Model(module=net.eval(), device=CPU)


def table(rows=400, **changes):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(rows, 4)).astype(np.float32)
    codes = random.integers(0, 2, rows)
    inputs[:, 2] = codes
    fields = {
        "inputs": inputs,
        "labels": np.zeros(rows, np.int64),
        "modality": "tabular",
        "classes": ("refused", "granted"),
        "favourable": 1,
        "features": tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(NAMES)),
        "sensitive": {"sex": Sensitive(name="sex", groups=("f", "m"), codes=codes)},
    }
    return Dataset(**{**fields, **changes})


def measured(model, data=None, seed=0, **settings):
    return reason_codes.measure(model, data or table(), seed, **reason_codes.settings(settings))


def whole(found, name):
    return next(item for item in found.measures if item.name == name and not item.group)


def reasons(found):
    return {item.group["feature"]: item for item in found.measures if item.name == "reason_share"}


def test_the_planted_reason_leads_and_a_feature_without_weight_is_never_one():
    found = measured(linear((3.0, -0.3, 0.0, 0.0)), top=1)
    shares = reasons(found)
    assert shares["income"].value > 0.9
    assert shares["noise"].value == 0
    assert shares["income"].method == "wilson"
    assert "sex" not in shares
    assert found.figures[0].data["labels"][0] == "income"


def test_a_protected_feature_is_never_a_reason_and_what_falls_on_it_is_counted():
    found = measured(linear((1.0, 0.0, 8.0, 0.0), bias=-6.0), top=2)
    assert "sex" not in reasons(found)
    assert not any(row[0] == "sex" for row in found.tables[0].rows)
    assert whole(found, "protected_attribution_share").value > 0.5
    assert whole(found, "protected_among_leading").value > 0.5
    assert any("never a reason: sex" in text for text in found.caveats)
    clean = measured(linear((3.0, -1.0, 0.0, 0.0)), top=2)
    assert whole(clean, "protected_attribution_share").value == pytest.approx(0, abs=1e-6)
    assert whole(clean, "protected_among_leading").value == 0


def test_more_features_can_be_named_as_protected():
    found = measured(linear((3.0, -1.0, 0.0, 0.0)), protected=("income",))
    assert set(reasons(found)) == {"debt", "noise"}
    with pytest.raises(ConfigError, match=r"'protected' names 'incom'.*nearest is 'income'"):
        measured(linear((3.0, -1.0, 0.0, 0.0)), protected=("incom",))


def test_fewer_adverse_features_than_places_are_not_filled_up():
    found = measured(linear((3.0, 0.0, 0.0, 0.0)), top=3)
    assert whole(found, "complete_reasons_share").value == 0
    assert whole(found, "stable_reasons").value <= 1
    assert any("fewer than 3 features counted against" in text for text in found.caveats)


def test_reasons_that_hang_on_the_reference_are_not_printed():
    # Twelve features of equal weight: their order near the reference is a matter of which reference.
    random = np.random.default_rng(1)
    inputs = random.normal(size=(300, 12)).astype(np.float32)
    features = tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(12))
    data = table(300, inputs=inputs, features=features, sensitive={})
    loose = measured(linear([1.0] * 12), data, rows=40)
    firm = measured(linear([1.0] * 12), data, reference=7, samples=4096, rows=40, runs=2)
    assert whole(loose, "complete_reasons_share").value < whole(firm, "complete_reasons_share").value
    assert any("runs do not differ" in text for text in firm.caveats)
    unstable = next(row for row in loose.tables[0].rows if row[0].startswith("no stable"))
    assert sum(unstable[1:5]) > 0


def test_the_counts_add_up_and_hold_no_persons_reasons():
    found = measured(linear((3.0, -1.0, 0.0, 0.5)), top=2, rows=60)
    for place in (1, 2):
        assert sum(row[place] for row in found.tables[0].rows) == 60
    assert whole(found, "complete_reasons_share").n == 60
    groups = [i for i in found.measures if i.name == "complete_reasons_share" and i.group]
    assert sum(item.n for item in groups) == 60
    assert len(json.dumps([list(row) for row in found.tables[0].rows])) < 1000
    assert any("not a notice" in text and "1002.9" in text for text in found.caveats)


def test_a_named_row_is_the_reference_and_one_that_is_refused_is_said():
    data = table()
    refused = int(np.flatnonzero(data.inputs[:, 0] < -1)[0])
    found = measured(linear((3.0, 0.0, 0.0, 0.0)), data, reference=refused)
    assert any("does not decide favourably for the reference" in text for text in found.caveats)
    assert any(f"against row {refused} of the data" in text for text in found.caveats)
    with pytest.raises(ConfigError, match="'reference' = 400 is not a row"):
        measured(linear((3.0, 0.0, 0.0, 0.0)), data, reference=400)
    with pytest.raises(ConfigError, match="reference"):
        reason_codes.settings({"reference": "zero"})


def test_nothing_to_explain_is_refused():
    with pytest.raises(NotEvaluable, match="400 are favourable and 0 are not"):
        measured(linear((0.0, 0.0, 0.0, 0.0), bias=5.0))
    with pytest.raises(NotApplicable, match="no favourable outcome"):
        measured(linear((1.0, 0, 0, 0)), table(favourable=None))
    with pytest.raises(NotEvaluable, match="all 4 features are protected"):
        measured(linear((1.0, 0, 0, 0)), protected=("income", "debt", "noise"))


def test_a_sensitive_feature_that_is_no_input_is_named():
    other = {"race": Sensitive(name="race", groups=("a", "b"), codes=np.zeros(400, np.int64))}
    found = measured(linear((3.0, -1.0, 0.0, 0.5)), table(sensitive=other))
    assert any("No input of the model is called race" in text for text in found.caveats)
    assert not any(item.name.startswith("protected") for item in found.measures)


def test_german_credit_gives_reasons_and_never_sex(shared_data):
    frame = pd.read_csv(shared_data / "german_credit/german.csv")
    good = frame["class-label"].to_numpy() == 1
    numbers = [n for n in frame.columns if n != "class-label" and pd.api.types.is_numeric_dtype(frame[n])]
    coded = pd.get_dummies(frame[["sex"]]).iloc[:, :1].to_numpy()
    values = frame[numbers].to_numpy(float)
    inputs = np.concatenate([(values - values.mean(0)) / values.std(0), coded], axis=1).astype(np.float32)
    fitted = LogisticRegression(class_weight="balanced").fit(inputs, good)
    names = (*numbers, "sex")
    groups, codes = np.unique(frame["sex"].to_numpy(str), return_inverse=True)
    data = table(
        len(frame),
        inputs=inputs,
        labels=good.astype(np.int64),
        features=tuple(Feature(name=name, columns=(i,)) for i, name in enumerate(names)),
        sensitive={"sex": Sensitive(name="sex", groups=tuple(groups), codes=codes.astype(np.int64))},
    )
    found = measured(linear(fitted.coef_[0].tolist(), float(fitted.intercept_[0])), data, rows=100)
    assert set(reasons(found)) == set(numbers)
    assert whole(found, "complete_reasons_share").n == 100
    assert 0 < whole(found, "stable_reasons").value <= 4
    assert 0 < whole(found, "protected_attribution_share").value < 0.3


def test_a_protected_feature_takes_no_place_from_those_that_may_be_a_reason():
    """It weighs most against half of the people and must not stand, unnamed, at the first place."""
    found = measured(linear((3.0, 0.0, 30.0, 0.0), bias=-15.0), top=1)
    (table_,) = found.tables
    n = whole(found, "complete_reasons_share").n
    assert sum(row[1] for row in table_.rows) == n
    assert reasons(found)["income"].value == pytest.approx(whole(found, "complete_reasons_share").value)
    assert whole(found, "stable_reasons").value == pytest.approx(reasons(found)["income"].value)


def test_a_protected_feature_is_known_in_capitals_too():
    data = table(
        features=tuple(
            Feature(name=n, columns=(i,)) for i, n in enumerate(("income", "debt", "Sex ", "noise"))
        )
    )
    found = measured(linear((1.0, 0.0, 8.0, 0.0), bias=-6.0), data, top=2)
    assert "Sex " not in reasons(found)
    assert whole(found, "protected_among_leading").value > 0.5
    assert any("never a reason: Sex" in text for text in found.caveats)
    assert not any("No input of the model is called" in text for text in found.caveats)
