"""Partial dependence as evidence: slopes in the user's units, disagreement named, figures that draw."""

import numpy as np
import pytest
import torch
from torch import nn

from audit import pictures
from audit.checks.interpretability.partial_dependence import partial_dependence
from audit.dataset import Dataset, Feature
from audit.errors import ConfigError, NotEvaluable
from audit.model import Model

CPU = torch.device("cpu")


class Formula(nn.Module):
    """Two logits: 0 and a formula of the columns."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, rows):
        found = self.formula(rows)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def table(rows=400):
    random = np.random.default_rng(0)
    job = np.eye(2)[(random.random(rows) < 0.25).astype(int)]
    inputs = np.concatenate([random.normal(size=(rows, 2)), job], axis=1).astype(np.float32)
    features = (
        Feature(name="age", columns=(0,), unit=10.0, zero=40.0),
        Feature(name="debt", columns=(1,), unit=-2.0),
        Feature(name="job", kind="categorical", columns=(2, 3), categories=("clerk", "cook")),
    )
    return Dataset(
        inputs=inputs,
        labels=np.zeros(rows, np.int64),
        modality="tabular",
        classes=("no", "yes"),
        favourable=1,
        features=features,
    )


def measured(formula, data=None, seed=0, **settings):
    model = Model(module=Formula(formula).eval(), device=CPU)
    given = partial_dependence.settings(settings)
    return partial_dependence.measure(model, table() if data is None else data, seed, **given)


def named(found, name):
    return {item.group["feature"]: item for item in found.measures if item.name == name}


def test_a_linear_model_has_its_weights_as_slopes_in_the_users_units():
    found = measured(lambda x: 3 * x[:, 0] - x[:, 1] + 2 * x[:, 2])
    slopes = named(found, "average_marginal_effect")
    assert slopes["age"].value == pytest.approx(0.3, rel=1e-3)
    assert slopes["age"].low == pytest.approx(slopes["age"].high, rel=1e-3)
    assert slopes["debt"].value == pytest.approx(0.5, rel=1e-3)
    assert slopes["age"].unit == "log-odds per unit of age"
    assert "job" not in slopes
    ranges = named(found, "partial_dependence_range")
    assert ranges["job"].value == pytest.approx(2, rel=1e-3)
    reach = table().inputs[:, 0]
    assert ranges["age"].value == pytest.approx(3 * float(np.ptp(reach)), rel=0.05)


def test_a_feature_that_does_nothing_has_a_range_of_zero():
    found = measured(lambda x: 3 * x[:, 0])
    assert named(found, "partial_dependence_range")["debt"].value == pytest.approx(0, abs=1e-5)
    assert named(found, "average_marginal_effect")["debt"].value == pytest.approx(0, abs=1e-5)
    assert not any("hides" in text for text in found.caveats)


def test_a_mean_that_hides_opposite_rows_is_said():
    found = measured(lambda x: x[:, 0] * x[:, 1] * 3)
    (caveat,) = [text for text in found.caveats if "hides" in text]
    assert "age, debt" in caveat


def test_the_range_of_pure_noise_is_not_pushed_up_by_picking_the_extremes():
    # The curves of single rows wiggle, their mean is flat: 13 places to pick from, and still about 0.
    values, naive = [], []
    for seed in range(20):
        found = measured(lambda x: torch.sin(40 * x[:, 0] + 50 * x[:, 1]), seed=seed, features=("age",))
        values.append(named(found, "partial_dependence_range")["age"].value)
        naive.append(np.ptp([row[1] for row in found.tables[0].rows]))
    assert abs(np.mean(values)) < 3 * np.std(values, ddof=1) / 20**0.5
    assert np.mean(naive) > 0.08


def test_the_figures_draw_with_the_rows_behind_them():
    found = measured(lambda x: 3 * x[:, 0] - x[:, 1] + 2 * x[:, 2], figures=3)
    figures = {item.name: item for item in found.figures}
    age = pictures.curve_of(figures["dependence_age"].data)
    assert [line.name for line in age.lines] == ["dependence", "local effects"]
    assert sum(column.count for column in age.density) == 400
    debt = pictures.curve_of(figures["dependence_debt"].data)
    assert sum(column.count for column in debt.density) == 400
    job = figures["dependence_job"]
    cooks = int(table().inputs[:, 3].sum())
    assert job.data["labels"] == [f"clerk ({400 - cooks} rows)", f"cook ({cooks} rows)"]
    assert pictures.bars_of(job.data).bars


def test_both_curves_lie_on_each_other_for_a_linear_model():
    found = measured(lambda x: 3 * x[:, 0], figures=1, bins=8)
    first, second = found.figures[0].data["series"]
    on_first = np.interp(second["x"], first["x"], first["y"])
    assert on_first == pytest.approx(second["y"], abs=0.15)
    slope = [np.diff(line["y"]) / np.diff(line["x"]) for line in (first, second)]
    assert slope[0] == pytest.approx(0.3, rel=1e-3)
    assert slope[1] == pytest.approx(0.3, rel=1e-3)


def test_a_constant_column_has_no_curve_and_does_no_harm():
    data = table()
    inputs = data.inputs.copy()
    inputs[:, 1] = 3
    found = measured(lambda x: x[:, 0], Dataset(**{**vars(data), "inputs": inputs}), figures=3)
    assert "debt" not in named(found, "average_marginal_effect")
    assert named(found, "partial_dependence_range")["debt"].value == 0
    for figure in found.figures:
        (pictures.bars_of if figure.kind == "bars" else pictures.curve_of)(figure.data)


def test_what_is_asked_wrongly_is_named():
    with pytest.raises(ConfigError, match=r"'features' names 'agee'.*the nearest is 'age'"):
        measured(lambda x: x[:, 0], features=("agee",))
    with pytest.raises(ConfigError, match="'outcome' = 'maybe'"):
        measured(lambda x: x[:, 0], outcome="maybe")
    with pytest.raises(NotEvaluable, match="finite"):
        measured(lambda x: x[:, 0] * torch.nan)
    with pytest.raises(NotEvaluable, match="1 rows are too few"):
        measured(lambda x: x[:, 0], table(rows=1))


def test_another_outcome_turns_the_signs_over():
    yes, no = (
        named(measured(lambda x: x[:, 0], outcome=name), "average_marginal_effect") for name in ("yes", "no")
    )
    assert yes["age"].value == pytest.approx(-no["age"].value, rel=1e-4)


def test_of_very_many_features_the_widest_curves_are_in_the_tables():
    inputs = np.random.default_rng(0).normal(size=(30, 24)).astype(np.float32)
    data = Dataset(**{**vars(table()), "inputs": inputs, "features": ()})
    found = measured(lambda x: (x * 2 ** torch.arange(24.0)).sum(dim=1), data, rows=10, bins=4, local_rows=5)
    assert "computed on 10 rows" in found.caveats[0]
    assert len(found.tables) == 20
    assert found.tables[0].name == "dependence_column 24"
    assert len(named(found, "partial_dependence_range")) == 24
    assert any("20 features with the widest range" in text for text in found.caveats)
