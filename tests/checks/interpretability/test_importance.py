"""Importance as evidence: by class and by group, differences with a shared error, a swarm of counts."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from torch import nn

from audit import pictures
from audit.checks.interpretability.importance import importance
from audit.dataset import Dataset, Feature, Sensitive
from audit.errors import ConfigError, NotEvaluable
from audit.model import Model
from audit.products.attributions import attributions
from audit.stats import interval_at

CPU = torch.device("cpu")


class Formula(nn.Module):
    """Two logits: 0 and a formula of the columns."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, rows):
        found = self.formula(rows)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def table(rows=200, groups=("f", "m"), share=0.4):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(rows, 4)).astype(np.float32)
    codes = (random.random(rows) > share).astype(np.int64)
    inputs[:, 3] = codes
    return Dataset(
        inputs=inputs,
        labels=np.zeros(rows, np.int64),
        modality="tabular",
        classes=("no", "yes"),
        favourable=1,
        features=tuple(Feature(name=n, columns=(i,)) for i, n in enumerate(("age", "debt", "noise", "sex"))),
        sensitive={"sex": Sensitive(name="sex", groups=groups, codes=codes)},
    )


def measured(formula, data=None, **settings):
    data = data or table()
    model = Model(module=Formula(formula).eval(), device=CPU)
    product = attributions(model, data, 0)
    given = importance.settings({"target": "favourable", **settings})
    return importance.measure(data, product, **given), product


def of(found, name, **group):
    return {
        item.group["feature"]: item
        for item in found.measures
        if item.name == name and {k: v for k, v in item.group.items() if k != "feature"} == group
    }


def fair(x):
    return 2 * x[:, 0] - x[:, 1]


def unfair(x):
    return 2 * x[:, 0] * (1 - x[:, 3]) - x[:, 1]


def test_the_whole_and_the_groups_are_the_means_of_the_product():
    found, product = measured(fair)
    item = product.of("kernel_shap", rows=None, output="log_odds", target="favourable")
    size, codes = np.abs(item.values), table().sensitive["sex"].codes[item.rows]
    assert of(found, "mean_abs_attribution")["age"].value == pytest.approx(size[:, 0].mean())
    for code, group in enumerate(("f", "m")):
        part = of(found, "mean_abs_attribution", sex=group)
        assert part["debt"].value == pytest.approx(size[codes == code, 1].mean())
        assert part["debt"].n == (codes == code).sum()
    assert found.tables[0].name == "global"
    assert list(found.tables[0].columns) == ["feature", "mean", "mean_abs", "low", "high"]


def test_a_feature_that_is_used_for_one_group_only_is_found_and_told():
    found, product = measured(unfair)
    item = product.of("kernel_shap", rows=None, output="log_odds", target="favourable")
    size, codes = np.abs(item.values), table().sensitive["sex"].codes[item.rows]
    gap = of(found, "mean_abs_attribution_difference", sex="f")["age"]
    theirs = ttest_ind(size[codes == 0, 0], size[codes == 1, 0], equal_var=False).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((theirs.low, theirs.high))
    assert gap.low > 0
    assert gap.settings == {"reference": "m"}
    assert interval_at(gap, 0.95) == (gap.low, gap.high)
    (sentence,) = [text for text in found.caveats if "comparisons of a feature's importance" in text]
    assert "age matters more for f than for m" in sentence


def test_a_model_that_treats_groups_alike_is_not_accused():
    settled = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        data = table()
        codes = random.integers(0, 2, len(data))
        parts = {"sex": Sensitive(name="sex", groups=("f", "m"), codes=codes)}
        found, _ = measured(fair, Dataset(**{**vars(data), "sensitive": parts}), rows=100)
        settled += any("are settled" in text for text in found.caveats)
    assert settled <= 2


def test_classes_are_kept_apart_and_ranked():
    found, _ = measured(fair, target="predicted")
    assert set(of(found, "mean_abs_attribution", **{"class": "yes"})) == {"age", "debt", "noise", "sex"}
    ranks = next(item for item in found.tables if item.name == "ranks")
    assert list(ranks.columns) == ["feature", "all rows", "class no", "class yes", "sex f", "sex m"]
    assert ranks.rows[0] == ["age", 1, 1, 1, 1, 1]


def test_a_small_group_is_shown_and_not_compared():
    found, _ = measured(fair, table(share=0.02))
    part = of(found, "mean_abs_attribution", sex="f")["age"]
    assert "fewer than 10" in part.too_few
    assert not of(found, "mean_abs_attribution_difference", sex="f")


def test_the_swarm_holds_counts_of_rows_and_no_row():
    found, product = measured(fair)
    figure = next(item for item in found.figures if item.kind == "swarm")
    json.dumps(figure.data)
    assert figure.data["labels"][:2] == ["age", "debt"]
    assert [sum(counts) for counts in figure.data["counts"]] == [200] * 4
    counts, shades = figure.data["counts"][0], figure.data["shades"][0]
    for count, shade in zip(counts, shades, strict=True):
        assert (shade is None) == (count < 5)
    known = [shade for shade in shades if shade is not None]
    # age pushes up: its shares and its values rise together; debt pushes down.
    assert known == sorted(known)
    down = [shade for shade in figure.data["shades"][1] if shade is not None]
    assert down == sorted(down, reverse=True)
    drawn = pictures.swarm_of(figure.data)
    assert drawn.shaded
    item = product.of("kernel_shap", rows=None, output="log_odds", target="favourable")
    own = next(table_ for table_ in found.tables if table_.name == "distribution").rows[0]
    assert own[3] == pytest.approx(np.median(item.values[:, 0]))


def test_only_the_leading_features_are_followed():
    found, _ = measured(fair, top=1)
    assert set(of(found, "mean_abs_attribution", sex="f")) == {"age"}
    assert set(of(found, "mean_abs_attribution")) == {"age", "debt", "noise", "sex"}


def test_another_method_can_be_asked_for_and_an_unknown_one_is_named():
    found, _ = measured(fair, method="saliency")
    assert of(found, "mean_abs_attribution")["age"].value > 0
    with pytest.raises(ConfigError, match="'kernel_shop' is not an attribution method"):
        measured(fair, method="kernel_shop")
    with pytest.raises(NotEvaluable, match="no explanation"):
        measured(lambda x: x[:, 0] * 0)


def test_stretches_of_a_series_are_features_too():
    inputs = np.random.default_rng(0).normal(size=(40, 1, 8)).astype(np.float32)
    data = Dataset(**{**vars(table(40)), "inputs": inputs, "modality": "series", "features": ()})
    found, _ = measured(lambda x: 3 * x[:, 0, 0], data)
    names = list(of(found, "mean_abs_attribution"))
    assert names[0].startswith("channel 1")
    swarm = next(item for item in found.figures if item.kind == "swarm")
    assert all(shade is None for row in swarm.data["shades"] for shade in row)
