"""robustness.series: models whose loss can be worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from audit.checks.robustness.series import series
from audit.dataset import Dataset, Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.model import Model, Passes, state_hash
from audit.products.predictions import predictions
from audit.stats import interval_at

CPU = torch.device("cpu")
ROWS = 600


class Sign(nn.Module):
    """Class 1 where the first sample is above 0: no warp moves it, no scaling turns it."""

    def forward(self, signals):
        first = signals[:, 0, 0]
        return torch.stack([torch.zeros_like(first), first], dim=1)


class Level(nn.Module):
    """Class 1 where the mean of the first channel is above 1."""

    def forward(self, signals):
        mean = signals[:, 0].mean(dim=1) - 1
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


def setup(network, inputs, batch=256, **more):
    model = Model(module=network.eval(), device=CPU, passes=Passes(batch=batch))
    with torch.no_grad():
        labels = network(torch.tensor(inputs)).argmax(dim=1).numpy()
    return model, Dataset(inputs=inputs, labels=labels, modality="series", classes=("0", "1"), **more)


def white():
    return np.random.default_rng(0).normal(0, 3, (ROWS, 2, 40)).astype(np.float32)


def measured(model, data, seed=0, **given):
    before = state_hash(model.module)
    evidence = series.measure(model, data, predictions(model, data), seed, **series.settings(given))
    assert state_hash(model.module) == before
    return evidence


def value(evidence, name, group=None, **settings):
    (found,) = [
        m
        for m in evidence.measures
        if m.name == name and dict(m.group) == (group or {}) and dict(m.settings) == settings
    ]
    return found


def test_a_sign_is_lost_to_noise_as_two_normals_say_and_to_nothing_else():
    """x and x + s n have opposite signs with probability arctan(s) / pi."""
    evidence = measured(*setup(Sign(), white()), draws=4)
    for strength in (0.05, 0.1, 0.2, 0.4, 0.8):
        for name in ("scaling", "time_warp"):
            for kind in ("average_accuracy", "robust_accuracy"):
                assert value(evidence, kind, perturbation=name, strength=strength).value == 1
        noise = value(evidence, "average_accuracy", perturbation="noise", strength=strength)
        low, high = interval_at(noise, 0.999)
        assert low <= 1 - np.arctan(strength) / np.pi <= high
        robust = value(evidence, "robust_accuracy", perturbation="noise", strength=strength)
        assert robust.value < noise.value


def test_scaling_costs_what_the_distance_to_the_limit_says():
    """Flat signals at level v > 1 fall where the factor is below 1 / v; its logarithm is uniform."""
    levels = np.tile([1.1, 1.3, 2.0], ROWS // 3)
    inputs = np.broadcast_to(levels[:, None, None], (ROWS, 1, 20)).astype(np.float32)
    names = Sensitive(name="level", groups=("1.1", "1.3", "2.0"), codes=np.tile([0, 1, 2], ROWS // 3))
    evidence = measured(
        *setup(Level(), inputs, sensitive={"level": names}),
        perturbations=["scaling"],
        strengths=[0.4],
        draws=3,
    )
    for level in (1.1, 1.3, 2.0):
        chance = max(0.0, (np.log(1.4) - np.log(level)) / (2 * np.log(1.4)))
        group = {"level": f"{level:.1f}"}
        average = value(evidence, "average_accuracy", group, perturbation="scaling", strength=0.4)
        assert interval_at(average, 0.999)[0] <= 1 - chance <= interval_at(average, 0.999)[1]
        robust = value(evidence, "robust_accuracy", group, perturbation="scaling", strength=0.4)
        assert interval_at(robust, 0.999)[0] <= (1 - chance) ** 3 <= interval_at(robust, 0.999)[1]
        assert average.n == 200
    assert [f.name for f in evidence.figures] == ["average_accuracy", "scaling_by_level"]


def test_a_model_that_reads_one_moment_is_lost_to_time_warps():
    class Moment(nn.Module):
        def forward(self, signals):
            value = signals[:, 0, 20]
            return torch.stack([torch.zeros_like(value), value], dim=1)

    time = np.linspace(0, 4 * np.pi, 40)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (ROWS, 1, 1))
    evidence = measured(
        *setup(Moment(), np.sin(time + phase).astype(np.float32)), perturbations=["time_warp"]
    )
    found = [
        value(evidence, "average_accuracy", perturbation="time_warp", strength=strength).value
        for strength in (0.05, 0.1, 0.2, 0.4, 0.8)
    ]
    assert sorted(found, reverse=True) == found
    assert found[0] > 0.93
    assert found[4] < 0.85


def test_rows_that_were_wrong_count_as_not_robust():
    model, data = setup(Sign(), white())
    flipped = Dataset(inputs=data.inputs, labels=1 - data.labels, modality="series", classes=("0", "1"))
    evidence = measured(model, flipped, perturbations=["noise"], strengths=[0.8])
    assert value(evidence, "clean_accuracy").value == 0
    assert value(evidence, "average_accuracy", perturbation="noise", strength=0.8).value > 0.1
    assert value(evidence, "robust_accuracy", perturbation="noise", strength=0.8).value == 0
    assert evidence.tables[0].rows[0][4:] == (ROWS, 0, 0)


def test_the_batch_does_not_matter_and_every_pass_is_counted():
    first, second = setup(Sign(), white()), setup(Sign(), white(), batch=11)
    one, two = (measured(*pair, draws=2, rows=90) for pair in (first, second))
    assert one.measures == two.measures
    for model, _ in (first, second):
        assert model.passes.forward == ROWS + 90 * 3 * 5 * 2


def test_changed_values_stay_inside_a_stated_range():
    class Range(nn.Module):
        def forward(self, signals):
            outside = (signals.abs().amax(dim=(1, 2)) > 1.0001).float()
            return torch.stack([1 - outside, outside], dim=1)

    inputs = np.random.default_rng(0).uniform(-1, 1, (50, 2, 30)).astype(np.float32)
    free, data = setup(Range(), inputs)
    bound = Model(module=Range(), device=CPU, input_range=(-1.0, 1.0))
    assert value(measured(free, data), "robust_accuracy", perturbation="noise", strength=0.8).value == 0
    held = measured(bound, data)
    assert value(held, "robust_accuracy", perturbation="noise", strength=0.8).value == 1
    assert any("valid range from -1 to 1" in caveat for caveat in held.caveats)


def test_wrong_settings_and_inputs_are_refused_with_the_reason():
    model, data = setup(Sign(), white())
    with pytest.raises(ConfigError, match="nearest is 'noise'"):
        measured(model, data, perturbations=["nois"])
    with pytest.raises(ConfigError, match="strengths"):
        series.settings({"strengths": [1.0]})
    flat = Dataset(inputs=data.inputs[:, 0], labels=data.labels, modality="series", classes=("0", "1"))
    with pytest.raises(NotApplicable, match=r"shape \[40\]"):
        series.measure(model, flat, predictions(model, data), 0, **series.settings({}))
    assert series.modality == {"series"}


def test_the_reader_is_told_whether_anybody_said_why_and_how_many_rows():
    model, data = setup(Sign(), white())
    said = measured(model, data, rows=30, draws=1, justification="Sensors are cheap.")
    assert "Why these strengths: Sensors are cheap." in said.caveats
    assert any("30 of 600 rows" in caveat for caveat in said.caveats)
    assert any("Nobody has stated" in caveat for caveat in measured(model, data, draws=1).caveats)
