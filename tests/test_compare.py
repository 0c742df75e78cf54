import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import CALIBRATED, MEASURED, answered, made_run, people
from scipy.stats import binom

import audit
from audit.changes import comparison_of
from audit.compare import compare, exit_code, pair_of, settle
from audit.config import Config
from audit.errors import ConfigError
from audit.evidence import Measure
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import Change, LeftOut, canonical, read_record, record_from, write_record
from audit.stats import measure

ACCURACY = {"performance.accuracy": MEASURED["performance.accuracy"]}
RATES = (
    "selection_rate", "true_positive_rate", "positive_predictive_value", "selection_rate_ratio",
    "true_positive_rate_difference", "demographic_parity_difference",
)  # fmt: skip
LIGHT = ACCURACY | {
    "fairness.groups": (
        MEASURED["fairness.groups"][0],
        {"depth": 1, "metrics": list(RATES), "reference": "largest"},
    )
}
SMALL = {"race": "c"}


def no_worse(margin=0.0, **more):
    return Policy(
        limits=(
            Limit(
                check="performance.accuracy",
                measure="accuracy",
                no_worse_than="baseline",
                margin=margin,
                **more,
            ),
        )
    )


def runs(folder, right=0.85, other=0.85, rows=800, seed=0, checks=ACCURACY, **given):
    """Two runs on the same rows; `other` is a share, or marks which rows the new model has right."""
    random, data = np.random.default_rng(seed), people(rows, seed=seed)
    first = random.random(rows) < right
    second = (random.random(rows) < other) if isinstance(other, float) else other(data, first, random)
    made_run(folder / "a", data, answered(data, first, seed), checks=checks)
    made_run(folder / "b", data, answered(data, second, seed), model="b", checks=checks, **given)
    return folder / "a", folder / "b"


def dropped(data, first, random):
    """A model that has lost the small group, and only that."""
    return first & ~((data.sensitive["race"].codes == 2) & (random.random(len(data)) < 0.5))


def noisy(data, first, random):
    """A model that answers one row in ten anew, and a little worse."""
    return np.where(random.random(len(data)) < 0.1, random.random(len(data)) < 0.7, first)


def find(record, name, group=None, check="performance.accuracy"):
    changes = record.baseline.changes
    return next(
        c
        for c in changes
        if c.check == check and c.measure.name == name and dict(c.measure.group) == (group or {})
    )


def worse_in(base, new):
    return [item for item in compare(base, new).baseline.changes if item.moved == "worse"]


# What is said of chance.


def test_the_same_model_on_the_same_rows_is_never_worse_in_200_resamples(tmp_path):
    for seed in range(200):
        data = people(120, seed=seed)
        predictions = answered(data, np.random.default_rng(seed).random(120) < 0.8, seed)
        for name in ("a", "b"):
            made_run(tmp_path / name, data, predictions, checks=ACCURACY)
        record = compare(tmp_path / "a", tmp_path / "b")
        assert {item.moved for item in record.baseline.changes} <= {"unchanged", ""}
        assert exit_code(record) == 0


def test_one_model_on_two_samples_of_rows_is_worse_no_more_often_than_stated(tmp_path):
    """The data are drawn anew, so nothing can be paired; at most 5 % of 200 may hold any `worse`."""
    wrong = 0
    for seed in range(200):
        for place, name in enumerate("ab"):
            data = people(150, seed=2 * seed + place, fingerprint=name * 64)
            right = np.random.default_rng([seed, place]).random(150) < 0.8
            made_run(tmp_path / name, data, answered(data, right), checks=ACCURACY)
        wrong += bool(worse_in(tmp_path / "a", tmp_path / "b"))
    assert wrong <= binom.ppf(0.999, 200, 0.05)


def test_two_models_that_are_equally_good_are_worse_no_more_often_than_stated(tmp_path):
    """Independent mistakes at one rate, on the same rows: 200 seeds, overall and by group, family-wise."""
    wrong = 0
    for seed in range(200):
        wrong += bool(worse_in(*runs(tmp_path, 0.8, 0.8, rows=250, seed=seed)))
    assert wrong <= binom.ppf(0.999, 200, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("checks", [MEASURED, LIGHT | CALIBRATED], ids=["rates", "scores"])
def test_ratios_areas_and_errors_are_worse_no_more_often_than_stated(tmp_path, checks):
    wrong = 0
    for seed in range(200):
        wrong += bool(worse_in(*runs(tmp_path, 0.8, 0.8, rows=300, seed=seed, checks=checks)))
    assert wrong <= binom.ppf(0.999, 200, 0.05)


def test_a_drop_in_one_small_group_is_found_by_name(tmp_path):
    record = compare(*runs(tmp_path, other=dropped, rows=1200, checks=LIGHT))
    item = find(record, "accuracy", SMALL)
    assert (item.moved, item.measure.method) == ("worse", "paired_proportions")
    assert item.new < item.base
    assert item.measure.high < 0
    for other in ("a", "b"):
        assert find(record, "accuracy", {"race": other}).moved == "unchanged"
    assert exit_code(record) == 1


def test_the_drop_is_found_nearly_always(tmp_path):
    found = 0
    for seed in range(20):
        record = compare(*runs(tmp_path, other=dropped, rows=800, seed=seed))
        found += find(record, "accuracy", SMALL).moved == "worse"
    assert found >= 18


def test_a_gain_is_better_and_no_reason_to_fail(tmp_path):
    a, b = runs(tmp_path, other=dropped)
    record = compare(b, a)
    assert find(record, "accuracy", SMALL).moved == "better"
    assert exit_code(record) == 0


def change(value_rows, better="higher", **more):
    lost, gained = value_rows
    statistics = {"both": 300, "base_only": lost, "new_only": gained, "neither": 20}
    return Change(check="a.b", measure=measure("m", "paired_proportions", statistics, better=better), **more)


def test_the_level_is_shared_by_holms_procedure():
    """By hand: of three, p = 2 * 2^-12, p of 9 and 1, and p of 6 and 4, against .05 / 3, / 2 and / 1."""
    settled, tested, alike = settle([change((12, 0)), change((9, 1)), change((6, 4)), change((0, 0))], 0.95)
    assert (tested, alike) == (3, 1)
    assert [item.moved for item in settled] == ["worse", "worse", "unchanged", "unchanged"]
    assert settled[0].measure.level == pytest.approx(1 - 0.05 / 3)
    assert settled[1].measure.level == pytest.approx(1 - 0.05 / 2)
    assert settled[2].measure.level == pytest.approx(0.95)
    many, tested, _ = settle([change((9, 1))] + [change((6, 4))] * 4, 0.95)
    assert (tested, many[0].moved) == (5, "unchanged")


@pytest.mark.parametrize(
    ("better", "moved"), [("higher", "better"), ("lower", "worse"), ("neither", "changed")]
)
def test_what_is_worse_follows_from_the_direction(better, moved):
    (item,), _, _ = settle([change((0, 14), better)], 0.95)
    assert (item.moved, item.state) == (moved, moved)


@pytest.mark.parametrize(
    ("was", "now", "rows", "state"),
    [
        ("FAIL", "PASS", (0, 14), "fixed"),
        ("FAIL", "PASS", (3, 3), "fixed"),
        ("PASS", "FAIL", (14, 0), "new"),
        ("", "FAIL", (3, 3), "new"),
        ("FAIL", "FAIL", (14, 0), "worse"),
        ("INCONCLUSIVE", "PASS", (3, 4), "unchanged"),
    ],
)
def test_a_verdict_that_turned_is_told_first(was, now, rows, state):
    (item,), _, _ = settle([change(rows, was=was, now=now)], 0.95)
    assert item.state == state


# What can be compared, and how.


def test_the_difference_can_be_derived_again_from_the_record_alone(tmp_path):
    record = compare(*runs(tmp_path, other=dropped, checks=MEASURED | CALIBRATED))
    again = record_from(json.loads(canonical(record)), "here")
    settled, tested, alike = settle(again.baseline.changes, again.baseline.level)
    assert (tested, alike) == (record.baseline.comparisons, record.baseline.alike)
    assert [item.state for item in settled] == [item.state for item in record.baseline.changes]
    assert canonical(settled) == canonical(record.baseline.changes)
    assert canonical(judge(again)) == canonical(record)


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    a, b = runs(tmp_path, other=dropped, checks=MEASURED | CALIBRATED)
    assert canonical(compare(a, b)) == canonical(compare(str(a), str(b)))


def test_ratios_and_differences_are_paired_too(tmp_path):
    record = compare(*runs(tmp_path, other=dropped, checks=MEASURED | CALIBRATED))
    methods = Counter(item.measure.method for item in record.baseline.changes)
    assert {"paired_proportions", "paired_bootstrap", "mean_of_paired", "paired_auc", "student_t"} <= set(
        methods
    )
    assert record.baseline.paired
    assert "the same 800 rows" in record.baseline.why


def test_other_rows_are_compared_by_both_intervals_and_it_is_said(tmp_path):
    a, b = runs(tmp_path)
    data = people(700, seed=9, fingerprint="e" * 64)
    made_run(b, data, answered(data, np.arange(700) % 7 > 0), checks=ACCURACY)
    baseline = compare(a, b).baseline
    assert not baseline.paired
    assert "fingerprints" in baseline.why
    assert {item.measure.method for item in baseline.changes} == {"two_intervals"}


def test_rows_that_are_not_the_same_ones_are_not_paired(tmp_path):
    """The same data, and another part of it was answered: a difference of places is none of rows."""
    a, b = runs(tmp_path)
    record = read_record(b)
    (artifact,) = record.findings[0].artifacts
    with np.load(b / artifact.path) as stored:
        arrays = dict(stored) | {"rows": np.arange(1, 801)}
    np.savez(b / artifact.path, **arrays)
    digest = hashlib.sha256((b / artifact.path).read_bytes()).hexdigest()
    kept = replace(record.findings[0], artifacts=(replace(artifact, sha256=digest),))
    write_record(replace(record, findings=(kept,)), b)
    assert not compare(a, b).baseline.paired


def test_data_without_a_fingerprint_are_not_taken_for_the_same(tmp_path):
    a, b = runs(tmp_path)
    for folder in (a, b):
        write_record(replace(read_record(folder), data={"rows": 800}), folder)
    assert not compare(a, b).baseline.paired


def test_a_number_that_was_in_doubt_in_the_baseline_alone_cannot_pass_by_its_change(tmp_path):
    a, b = runs(tmp_path, policy=no_worse(0.9))
    record = read_record(a)
    doubted = tuple(replace(item, unreliable="the attack failed") for item in record.findings[0].measures)
    write_record(replace(record, findings=(replace(record.findings[0], measures=doubted),)), a)
    assert [item.verdict for item in compare(a, b).findings[0].verdicts] == [Verdict.INCONCLUSIVE]


def test_a_record_without_its_folder_is_not_paired(tmp_path):
    a, b = runs(tmp_path)
    for path in (a / "artifacts").iterdir():
        path.unlink()
    baseline = compare(a / "record.json", b).baseline
    assert not baseline.paired
    assert "two records alone" in baseline.why
    assert {item.moved for item in baseline.changes} == {"unchanged"}


def test_an_altered_file_of_outcomes_is_refused(tmp_path):
    a, b = runs(tmp_path)
    (path,) = (a / "artifacts").iterdir()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ConfigError, match="was altered after the audit"):
        compare(a, b)


def test_the_very_same_model_has_changed_by_nothing_and_exactly_so(tmp_path):
    data = people(60)
    for name in ("a", "b"):
        made_run(tmp_path / name, data, answered(data, np.arange(60) % 5 > 0), policy=no_worse())
    record = compare(tmp_path / "a", tmp_path / "b")
    assert {item.measure.method for item in record.baseline.changes if item.moved} == {"exact"}
    assert [item.verdict for item in record.findings[0].verdicts] == [Verdict.PASS]
    assert exit_code(record) == 0


def test_settings_that_differ_are_named(tmp_path):
    a, b = runs(tmp_path, checks=LIGHT)
    old = read_record(a)
    first, second = old.findings
    other = replace(second, settings={**second.settings, "floor": 20})
    write_record(replace(old, findings=(replace(first, version="0"), other)), a)
    record = compare(a, b)
    said = {
        "performance.accuracy": "version 1 and was version 0",
        "fairness.groups": "'floor' is 10 and was 20",
    }
    for check, words in said.items():
        changes = [item for item in record.baseline.changes if item.check == check]
        assert {item.state for item in changes} == {"not comparable"}
        assert all(words in item.reason for item in changes)
    assert exit_code(record) == 2


def test_measures_at_another_setting_are_not_comparable_and_others_stand_alone(tmp_path):
    a, b = runs(tmp_path)
    for folder, changed in ((a, {"epsilon": 0.1}), (b, {"epsilon": 0.2})):
        record = read_record(folder)
        finding = record.findings[0]
        whole = replace(finding.measures[0], settings=changed)
        rest = finding.measures[2:] if folder == a else finding.measures[1:-1]
        write_record(replace(record, findings=(replace(finding, measures=(whole, *rest)),)), folder)
    record = compare(a, b)
    item = find(record, "accuracy")
    assert (item.state, item.reason) == ("not comparable", "'epsilon' is 0.2 and was 0.1")
    assert find(record, "balanced_accuracy").state == "added"
    assert find(record, "accuracy", SMALL).state == "no longer tested"


@pytest.mark.parametrize("status", ["broken", "not_applicable", "absent"])
def test_a_check_that_one_run_lacks_is_named_apart(tmp_path, status):
    a, b = runs(tmp_path, checks=LIGHT)
    old = read_record(a)
    first, second = old.findings
    kept = () if status == "absent" else (replace(first, status=status, measures=(), reason="the moon"),)
    write_record(replace(old, findings=(*kept, second)), a)
    states = {item.state for item in compare(a, b).baseline.changes if item.check == "performance.accuracy"}
    assert states == {"added"}
    lost = [item for item in compare(b, a).baseline.changes if item.check == "performance.accuracy"]
    assert {item.state for item in lost} == {"no longer tested"}
    assert status == "absent" or all("the moon" in item.reason for item in lost)


def test_what_is_undefined_small_or_exact_is_not_compared(tmp_path):
    a, b = runs(tmp_path)
    odd = (
        Measure(name="gone", value=None, reason="0 of 0 rows"),
        replace(measure("few", "wilson", {"x": 3, "n": 4}), too_few="3 of 4 rows, fewer than 10"),
        measure("counted", "exact", {"value": 1.0}),
        Measure(name="bare", value=0.5),
    )
    for folder, shift in ((a, 0.0), (b, 1.0)):
        record = read_record(folder)
        third = measure("counted", "exact", {"value": 1.0 + shift})
        finding = replace(record.findings[0], measures=(*odd[:2], third, odd[3]))
        write_record(replace(record, findings=(finding,)), folder)
    record = compare(a, b)
    reasons = {item.measure.name: item.reason for item in record.baseline.changes}
    assert {item.state for item in record.baseline.changes} == {"not compared"}
    assert "0 of 0 rows" in reasons["gone"]
    assert "fewer than 10" in reasons["few"]
    assert "no sampling error" in reasons["counted"]
    assert "no interval" in reasons["bare"]


def test_both_runs_are_held_against_the_same_policy(tmp_path):
    strict = Policy(
        limits=(Limit(check="performance.accuracy", measure="accuracy", at_least=0.7, group=SMALL),)
    )
    a, b = runs(tmp_path, other=dropped, policy=strict)
    item = find(compare(a, b), "accuracy", SMALL)
    assert (item.state, item.was, item.now) == ("new", "PASS", "FAIL")
    item = find(compare(b, a, strict), "accuracy", SMALL)
    assert (item.state, item.was, item.now) == ("fixed", "FAIL", "PASS")


# Limits on change.


@pytest.mark.parametrize(
    ("margin", "group", "verdict", "code"),
    [
        (0.01, SMALL, Verdict.FAIL, 1),
        (0.9, SMALL, Verdict.PASS, 0),
        (0.02, "whole", Verdict.INCONCLUSIVE, 2),
        (0.0, {"race": "zebra"}, Verdict.NOT_EVALUABLE, 2),
    ],
)
def test_a_limit_on_change_is_judged_on_the_whole_interval(tmp_path, margin, group, verdict, code):
    other = noisy if group == "whole" else dropped
    record = compare(*runs(tmp_path, other=other, policy=no_worse(margin, group=group)))
    (judged,) = record.findings[0].verdicts
    assert judged.verdict is verdict, judged.reason
    assert exit_code(record) == code
    if judged.low is not None:
        assert (judged.at_least, judged.low < judged.value < judged.high) == (-margin, True)


def test_a_limit_for_each_group_names_the_group_that_fails(tmp_path):
    record = compare(*runs(tmp_path, other=dropped, rows=2500, policy=no_worse(0.05, group="each")))
    judged = {str(dict(item.group)): item.verdict for item in record.findings[0].verdicts}
    assert judged["{'race': 'c'}"] is Verdict.FAIL
    assert judged["{'race': 'a'}"] is Verdict.PASS
    assert record.verdict.exit_code == 1


def test_a_limit_may_ask_for_a_level_and_for_no_loss(tmp_path):
    policy = no_worse(0.05, at_least=0.5)
    a, b = runs(tmp_path, policy=policy)
    alone = judge(read_record(b)).findings[0].verdicts
    assert [item.verdict for item in alone] == [Verdict.PASS, Verdict.NOT_EVALUABLE]
    assert alone[1].reason == "no baseline was given; --baseline RUN names one"
    both = compare(a, b).findings[0].verdicts
    assert [item.limit for item in both] == [
        "accuracy at least 0.5", "accuracy no worse than the baseline by more than 0.05",
    ]  # fmt: skip
    assert str(policy.limits[0]) == "accuracy at least 0.5 and no worse than the baseline by more than 0.05"


def test_a_limit_on_what_was_not_measured_before_cannot_pass(tmp_path):
    a, b = runs(tmp_path, policy=no_worse(0.5))
    old = read_record(a)
    write_record(replace(old, findings=()), a)
    (judged,) = compare(a, b).findings[0].verdicts
    assert judged.verdict is Verdict.NOT_EVALUABLE
    assert "the baseline did not measure it" in judged.reason


def test_a_number_without_a_better_direction_has_no_worse_one(tmp_path):
    limit = Limit(check="fairness.groups", measure="selection_rate", no_worse_than="baseline", group="each")
    record = compare(*runs(tmp_path, checks=LIGHT, policy=Policy(limits=(limit,))))
    verdicts = {item.verdict for finding in record.findings for item in finding.verdicts}
    assert verdicts == {Verdict.NOT_EVALUABLE}


def test_a_number_in_doubt_cannot_pass_by_its_change(tmp_path):
    a, b = runs(tmp_path, policy=no_worse(0.9))
    for folder in (a, b):
        record = read_record(folder)
        finding = record.findings[0]
        doubted = tuple(replace(item, unreliable="the attack failed") for item in finding.measures)
        write_record(replace(record, findings=(replace(finding, measures=doubted),)), folder)
    assert [item.verdict for item in compare(a, b).findings[0].verdicts] == [Verdict.INCONCLUSIVE]


LEVEL_TOO = {"at_least": 0.1}


@pytest.mark.parametrize("more", [{}, LEVEL_TOO])
@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("left out", "BROKEN"),
        ("not planned", "BROKEN"),
        ("broken", "BROKEN"),
        ("not_applicable", "NOT_APPLICABLE"),
        ("not_evaluable", "NOT_EVALUABLE"),
    ],
)
def test_a_limit_on_change_whose_check_gave_no_number_forbids_a_yes(tmp_path, change, verdict, more):
    """One limit holds; the check of the other was skipped, or gave no number: nobody may say yes."""
    other = Limit(
        check="fairness.groups", measure="selection_rate_ratio", no_worse_than="baseline", margin=0.9, **more
    )
    policy = replace(no_worse(0.9), limits=(*no_worse(0.9).limits, other))
    a, b = runs(tmp_path, policy=policy, checks=MEASURED)
    record = read_record(b)
    first, second = record.findings
    if change in ("left out", "not planned"):
        out = (LeftOut(check="fairness.groups", reason="--skip"),) if change == "left out" else ()
        record = replace(record, findings=(first,), plan=record.plan[:1], left_out=out)
    else:
        gone = replace(second, status=change, reason="it stopped", measures=(), artifacts=(), verdicts=())
        record = replace(record, findings=(first, gone))
    write_record(record, b)
    compared = compare(a, b)
    assert (exit_code(compared), compared.verdict.exit_code) == (2, 2)
    rows = next(table.rows for table in comparison_of(compared).tables if table.title == "Limits on change")
    assert [row[:2] for row in rows] == [("PASS", "performance.accuracy"), (verdict, "fairness.groups")]
    assert all(row[4] for row in rows)


def test_a_policy_that_lets_a_broken_check_go_lets_its_limit_on_change_go(tmp_path):
    limit = Limit(check="fairness.groups", measure="selection_rate_ratio", no_worse_than="baseline")
    policy = replace(no_worse(0.9), limits=(*no_worse(0.9).limits, limit), on_broken="warn")
    a, b = runs(tmp_path, policy=policy, checks=MEASURED)
    record = read_record(b)
    gone = replace(record.findings[1], status="broken", reason="it stopped", measures=(), artifacts=())
    write_record(replace(record, findings=(record.findings[0], gone)), b)
    assert exit_code(compare(a, b)) == 0


@pytest.mark.parametrize(("fail_on", "code"), [("", 0), ("limits", 0), ("worse", 1)])
def test_limits_decide_unless_worse_is_asked_for(tmp_path, fail_on, code):
    record = compare(*runs(tmp_path, other=dropped, policy=no_worse(0.95, group="each")))
    assert exit_code(record, fail_on) == code


# The command.


def command(*arguments, cwd):
    program = Path(sys.executable).with_name("model-audit")
    done = subprocess.run(
        [program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_command_says_who_got_worse_first_and_writes_it(tmp_path):
    a, b = runs(tmp_path, other=dropped, rows=2500, checks=LIGHT)
    files = ["c.html", "c.md", "c.json"]
    done = command("compare", a, b, *(part for file in files for part in ("--output", file)), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "b.pt2 against a.pt2"
    assert lines[1].startswith("Worse for ")
    assert lines[1].split(": ")[1].startswith("race = c (")
    assert "share one level" in lines[2]
    assert lines[3].startswith("Paired: ")
    page, text, value = ((tmp_path / file).read_text() for file in files)
    assert "race = c" in page
    assert "http" not in page.split("</style>")[1]
    assert text.startswith("# b.pt2 against a.pt2")
    assert json.loads(value)["paired"] is True
    again = command("compare", a, b, "--output", "again.html", cwd=tmp_path)
    assert again.stdout == done.stdout
    assert (tmp_path / "again.html").read_text() == page


def test_the_command_answers_a_machine(tmp_path):
    a, b = runs(tmp_path)
    done = command("compare", a, b, "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["exit_code"]) == (0, 0)
    assert len(facts["changes"]) == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "c.pdf"], "ends in none of .html, .md and .json"),
        (["--fail-on", "rain"], "neither `worse` nor `limits`"),
        (["--policy", "none.toml"], "does not exist"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, arguments, words):
    a, b = runs(tmp_path)
    done = command("compare", a, b, *arguments, cwd=tmp_path)
    assert done.returncode == 3
    assert words in done.stderr
    assert command("compare", a, tmp_path / "none", cwd=tmp_path).returncode == 3


def test_judging_again_takes_a_baseline_and_keeps_it(tmp_path):
    a, b = runs(tmp_path, policy=no_worse(0.9))
    assert command("judge", b, cwd=tmp_path).returncode == 2
    done = command("judge", b, "--baseline", a, "--output", "judged.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert command("judge", "judged.json", cwd=tmp_path).returncode == 0


def test_comparing_needs_no_torch(tmp_path):
    a, b = runs(tmp_path, other=dropped, checks=LIGHT)
    code = f"""
import sys
sys.modules["torch"] = None
import audit
record = audit.compare({str(a)!r}, {str(b)!r})
from audit.render import render_comparison
from audit.markdown import comparison_markdown
from audit.reproducer import keep_changes
print(len(render_comparison(record)) > 1000, len(comparison_markdown(record)) > 500)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True True", done.stderr
    assert audit.compare is compare


def test_a_baseline_that_is_none_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "audit.toml").write_text('[model]\npath = "m.pt2"\n[data]\npath = "d.csv"\n')
    done = command("run", "audit.toml", "--baseline", "nowhere", "--out", "run", cwd=tmp_path)
    assert done.returncode == 3
    assert "nowhere" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_run_keeps_what_changed_since_its_baseline(tmp_path):
    from audit.commands.run import _against

    a, b = runs(tmp_path, policy=no_worse(0.9))
    config = Config.model_validate({"model": {"path": "m.pt2"}, "data": {"path": "d.csv"}})
    assert _against(a, b, config) == read_record(b)
    kept = read_record(b)
    assert kept.baseline.run == "a"
    assert kept.verdict.exit_code == 0
    assert compare(a, b) == kept


def test_rows_of_a_check_are_paired_where_a_comparison_pairs_them(tmp_path):
    a, b = runs(tmp_path)
    pair = pair_of("performance.accuracy", a, b / "record.json")
    base, new = (read_record(run).findings[0].measure("accuracy").value for run in (a, b))
    assert pair.base.flags["correct"].mean() == pytest.approx(base)
    assert pair.new.flags["correct"].mean() == pytest.approx(new)
    assert pair_of("fairness.groups", a, b) is None
    other = replace(read_record(b), data={"fingerprint": "0" * 64})
    write_record(other, b)
    assert pair_of("performance.accuracy", a, b) is None
