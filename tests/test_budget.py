"""What fits into a time: durations, expected seconds worked out by hand, and what is taken first."""

import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import made

from audit.budget import (
    SIZES,
    Expected,
    Here,
    Known,
    earlier_run,
    expected,
    fit,
    known_by_table,
    known_from_run,
    read_duration,
    told,
)
from audit.check import Check
from audit.errors import ConfigError
from audit.record import Cost, Finding, Planned, write_record
from audit.registry import Broken, installed_checks

ABLE = frozenset({"logits", "gradients", "modules"})
HERE = Here(row_seconds=(1e-3, 3e-3), data_rows=1000, capabilities=ABLE)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("1h 30m 5s", 5405), ("0.5s", 0.5)],
)
def test_a_time_is_read(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-5m", "10 minutes", "ten", "5m!", "1d"])
def test_what_is_no_time_is_one_sentence(text):
    with pytest.raises(ConfigError, match="is not a time; write 90s, 10m"):
        read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.44, "0.4 s"), (35, "35 s"), (59.7, "1 min"), (90, "1 min 30 s"), (600, "10 min"),
     (5400, "1 h 30 min"), (7200, "2 h")],
)  # fmt: skip
def test_a_time_is_told(seconds, text):
    assert told(seconds) == text


def check(name, **fields):
    return Check(name, "1", lambda: None, tasks=frozenset({"classification"}), **fields)


def one(known, settings=None, here=HERE, item=None):
    plan = [Planned(check="a.b", asked="pattern", settings=settings or {})]
    found = expected(plan, {"a.b": item or check("a.b")}, {"a.b": known} if known else {}, here)
    return found["a.b"].seconds


def test_a_check_costs_its_rows_at_the_price_of_here_and_what_it_spent_beside_them():
    known = Known(forward_rows=500, backward_rows=200, other_seconds=2.0, data_rows=1000)
    assert one(known) == pytest.approx(300 * 1e-3 + 200 * 3e-3 + 2.0)


def test_settings_and_data_count_in_proportion():
    known = Known(
        forward_rows=1000, backward_rows=0, other_seconds=1.0, at={"rows": 100, "steps": 10}, data_rows=2000
    )
    assert one(known, {"rows": 100, "steps": 10}) == pytest.approx(2.0)
    assert one(known, {"rows": 50, "steps": 10}) == pytest.approx(1.0)
    assert one(known, {"rows": 100, "steps": 40}) == pytest.approx(8.0)
    assert one(known, {"rows": 5000, "steps": 10}) == pytest.approx(20.0), "no more rows than the data have"
    assert one(known, {"rows": None, "steps": 10}) == pytest.approx(2.0)
    whole = replace(known, at={})
    assert one(whole) == pytest.approx(1.0), "half the data of before"


def test_a_check_that_will_not_run_costs_nothing_and_an_unknown_one_is_assumed():
    known = Known(forward_rows=10**9, backward_rows=0, other_seconds=100.0, data_rows=1000)
    assert one(known, item=check("a.b", modality=frozenset({"image"}))) == 0
    assert one(known, here=replace(HERE, task="regression")) == 0
    assert (
        one(
            known,
            item=check("a.b", needs=frozenset({"modules"})),
            here=replace(HERE, capabilities=frozenset()),
        )
        == 0
    )
    assert one(known, item=Broken("a.b", "no")) == 0
    assert one(None) == 10


def test_the_costs_of_a_run_give_back_its_seconds_on_the_same_machine():
    cost = Cost(forward_rows=500, backward_rows=200, seconds=4.5, overhead=5.0)
    finding = Finding(check="a.b", version="1", title="t", status="measured", settings={"rows": 7}, cost=cost)
    misfit = Finding(check="a.c", version="1", title="t", status="not_applicable", reason="no")
    record = made((finding, misfit), data={"rows": 1000})
    known = known_from_run(record, "a run")
    assert known["a.b"].other_seconds == pytest.approx(3.6)
    passes = 0.9
    here = replace(HERE, row_seconds=(passes / (300 + 3 * 200), 3 * passes / (300 + 3 * 200)))
    assert one(known["a.b"], {"rows": 7}, here) == pytest.approx(4.5)
    assert one(known["a.c"]) == 0


@pytest.mark.parametrize("modality", ["tabular", "image", "series"])
def test_the_declared_costs_speak_of_installed_checks_and_known_settings(modality):
    checks = installed_checks()
    known = known_by_table(modality)
    assert len(known) > 40
    for name, cost in known.items():
        assert name in checks
        assert min(cost.forward_rows, cost.backward_rows, cost.other_seconds) >= 0
        assert set(cost.at) <= set(SIZES) & set(checks[name].settings({}))
        assert cost.source.startswith("costs.toml: ")
    first = "examples/adult" if modality == "tabular" else "LeNet" if modality == "image" else ""
    assert first in known["performance.accuracy"].source


def plan_of(*names):
    return [Planned(check=name, title=f"Title of {name}", asked="pattern") for name in names]


def costs_of(**seconds):
    return {name: Expected(check=name, seconds=value, source="") for name, value in seconds.items()}


COSTS = {
    "a.dear": 50.0, "a.cheap": 3.0, "b.one": 20.0, "b.two": 30.0, "c.limited": 10.0, "a.limited": 15.0,
    "a.free": 0.0,
}  # fmt: skip


def test_limits_come_first_then_a_check_of_each_pillar_then_the_cheapest():
    plan, costs = plan_of(*COSTS), costs_of(**COSTS)
    kept, out = fit(plan, costs, {"c.limited", "a.limited"}, 1000)
    names = [item.check for item in kept]
    assert names == ["c.limited", "a.limited", "b.one", "a.free", "a.cheap", "b.two", "a.dear"]
    assert out == ()
    kept, out = fit(plan, costs, {"c.limited", "a.limited"}, 50)
    assert [item.check for item in kept] == ["c.limited", "a.limited", "b.one", "a.free", "a.cheap"]
    assert {item.check: item.reason for item in out} == {
        "b.two": "it should take 30 s, and 2 s of the budget were left",
        "a.dear": "it should take 50 s, and 2 s of the budget were left",
    }


def test_what_could_take_a_limit_its_pass_is_next():
    costs = costs_of(**{"robustness.pgd": 1.0, "robustness.attack_sanity": 9.0, "robustness.fgsm": 2.0})
    pgd, sanity, fgsm = plan_of(*costs)
    pgd = replace(pgd, doubted_by={sanity.check: ("robust_accuracy",)})
    kept, _ = fit([pgd, sanity, fgsm], costs, {"robustness.pgd"}, 11)
    assert [item.check for item in kept] == ["robustness.pgd", "robustness.attack_sanity"]


def test_a_guard_with_a_limit_of_its_own_is_planned_once():
    costs = costs_of(**{"robustness.pgd": 1.0, "robustness.attack_sanity": 9.0})
    pgd, sanity = plan_of(*costs)
    pgd = replace(pgd, doubted_by={sanity.check: ("robust_accuracy",)})
    kept, out = fit([pgd, sanity], costs, set(costs), 100)
    assert ([item.check for item in kept], out) == (list(costs), ())


def test_what_takes_just_the_time_that_is_left_fits():
    costs = costs_of(**{"a.one": 4.0, "b.two": 6.0})
    assert len(fit(plan_of(*costs), costs, (), 10.0)[0]) == 2


def test_a_limit_that_does_not_fit_is_left_out_too():
    costs = costs_of(**{"a.limited": 100.0, "b.one": 1.0})
    kept, out = fit(plan_of(*costs), costs, {"a.limited"}, 10)
    assert ([item.check for item in kept], [item.check for item in out]) == (["b.one"], ["a.limited"])
    assert out[0].title == "Title of a.limited"


@given(
    st.dictionaries(st.sampled_from([f"{p}.{i}" for p in "abc" for i in range(5)]), st.floats(0, 100)),
    st.sets(st.sampled_from(["a.0", "b.1", "c.2"])),
    st.floats(-5, 300),
)
def test_nothing_is_lost_and_the_sum_fits(seconds, limited, budget):
    costs = costs_of(**seconds)
    kept, out = fit(plan_of(*seconds), costs, limited, budget)
    names = [item.check for item in (*kept, *out)]
    assert sorted(names) == sorted(seconds)
    assert sum(seconds[item.check] for item in kept) <= max(budget, 0) + 1e-6
    left = budget - sum(seconds[item.check] for item in kept)
    assert all(seconds[item.check] > left - 1e-6 for item in out), "what still fits is taken"


def test_the_newest_run_of_the_same_model_is_found(tmp_path):
    runs = tmp_path / "runs"
    for age, (name, sha) in enumerate([("new", "aa"), ("other", "bb"), ("old", "aa"), ("several/m", "cc")]):
        folder = runs / name
        folder.mkdir(parents=True)
        path = write_record(made(model={"sha256": sha}), folder)
        os.utime(path, (10_000 - age, 10_000 - age))
    (runs / "broken").mkdir()
    (runs / "broken" / "record.json").write_text(json.dumps({"schema": "?"}))
    for name, target in (("lost", "nowhere"), ("circle", "record.json"), ("endless", "/dev/zero")):
        (runs / name).mkdir()
        (runs / name / "record.json").symlink_to(target)
    places = [runs, tmp_path / "absent"]
    assert earlier_run("aa", places, tmp_path / "own") == runs / "new"
    assert earlier_run("aa", places, runs / "new") == runs / "old"
    assert earlier_run("cc", places, tmp_path / "own") == runs / "several" / "m"
    assert earlier_run("dd", places, tmp_path / "own") is None
