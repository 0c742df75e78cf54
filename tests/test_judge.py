import json
from dataclasses import replace

import pytest

from audit.evidence import EVERY_CHECK, Doubt
from audit.judge import conclude, judge
from audit.policy import Limit, Policy, Verdict
from audit.record import SCHEMA, Finding, LeftOut, Outcome, Planned, Record, canonical, finding_from
from audit.stats import proportion


def finding(check="a.b", status="measured", x=95, **fields):
    measures = (proportion("accuracy", x, 100),) if status == "measured" else ()
    return Finding(check=check, version="1", title="t", status=status, measures=measures, **fields)


def record(findings, policy=None, plan=None):
    plan = plan or tuple(Planned(check=f.check, asked="name") for f in findings)
    return Record(
        schema=SCHEMA, tool={}, run={}, environment={}, model={}, data={}, policy=policy or Policy(),
        plan=plan, findings=tuple(findings), verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )  # fmt: skip


def asks(check="a.b", at_least=0.8, **fields):
    return Policy(limits=(Limit(check=check, measure="accuracy", at_least=at_least),), **fields)


@pytest.mark.parametrize(
    ("x", "verdict", "code"),
    [(95, Verdict.PASS, 0), (50, Verdict.FAIL, 1), (82, Verdict.INCONCLUSIVE, 2)],
)
def test_exit_codes_follow_the_verdict(x, verdict, code):
    outcome = judge(record([finding(x=x)], asks())).verdict
    assert (outcome.verdict, outcome.exit_code) == (verdict, code)


def test_nothing_judged_is_never_a_yes():
    outcome = judge(record([finding()])).verdict
    assert (outcome.verdict, outcome.exit_code) == (Verdict.NOT_JUDGED, 2)
    assert "No limit was judged" in outcome.reasons[-1]


def test_an_empty_audit_is_never_a_yes():
    assert judge(record([])).verdict.exit_code == 2


@pytest.mark.parametrize("status", ["broken", "not_evaluable"])
def test_a_check_that_gave_no_number_forbids_a_yes(status):
    good, bad = finding("a.b"), finding("c.d", status, reason="why")
    outcome = judge(record([good, bad], asks())).verdict
    assert outcome.exit_code == 2
    assert any("why" in reason for reason in outcome.reasons)


@pytest.mark.parametrize(("asked", "code"), [("pattern", 0), ("name", 2)])
def test_not_applicable_is_harmless_only_for_a_pattern(asked, code):
    good, other = finding("a.b"), finding("c.d", "not_applicable", reason="needs gradients")
    plan = (Planned(check="a.b", asked="name"), Planned(check="c.d", asked=asked))
    assert judge(record([good, other], asks(), plan)).verdict.exit_code == code


def test_not_applicable_is_not_harmless_when_a_limit_speaks_of_it():
    good, other = finding("a.b"), finding("c.d", "not_applicable", reason="needs gradients")
    plan = tuple(Planned(check=c, asked="pattern") for c in ("a.b", "c.d"))
    policy = Policy(limits=(*asks().limits, *asks("c.d").limits))
    assert judge(record([good, other], policy, plan)).verdict.exit_code == 2


def test_a_planned_check_without_a_finding_is_broken():
    plan = (Planned(check="a.b", asked="name"), Planned(check="lost", asked="pattern"))
    outcome = judge(record([finding()], asks(), plan)).verdict
    assert (outcome.verdict, outcome.exit_code) == (Verdict.BROKEN, 2)
    assert "lost was asked for and not measured." in outcome.reasons


def test_a_check_that_was_left_out_and_asked_for_says_why():
    policy = Policy(limits=(*asks().limits, *asks("never.run").limits))
    out = LeftOut(check="never.run", reason="the budget of 10 min was spent")
    outcome = judge(replace(record([finding()], policy), left_out=(out,))).verdict
    assert outcome.exit_code == 2
    said = "never.run was asked for and not measured: the budget of 10 min was spent."
    assert said in outcome.reasons


def test_a_check_that_was_left_out_and_not_asked_for_says_nothing():
    out = LeftOut(check="c.d", reason="the budget of 10 min was spent")
    outcome = judge(replace(record([finding()], asks()), left_out=(out,))).verdict
    assert (outcome.exit_code, outcome.reasons) == (0, ())


def doubted(x=95, measures=("accuracy",), others=(), left_out=()):
    """The outcome of a limit on a number that `c.sanity` could have spoken against."""
    plan = (
        Planned(check="a.b", asked="name", doubted_by={"c.sanity": measures}),
        *(Planned(check=f.check, asked="pattern") for f in others),
    )
    made = record([finding(x=x), *others], asks(), plan)
    return judge(replace(made, left_out=left_out)).verdict


def test_a_number_holds_with_a_warning_where_what_could_speak_against_it_was_not_run():
    skipped = LeftOut(check="c.sanity", reason="the command line left it out: --skip c.sanity")
    said = (
        "Warning: no c.sanity was measured{}, so beyond its own self-checks nothing shows that accuracy of "
    )
    outcome = doubted(left_out=(skipped,))
    assert (outcome.verdict, outcome.exit_code) == (Verdict.PASS, 0)
    because = " (the command line left it out: --skip c.sanity)"
    assert outcome.reasons == (said.format(because) + "a.b can be relied on.",)
    assert doubted().reasons == (said.format("") + "a.b can be relied on.",)


def test_a_check_that_could_not_look_leaves_the_same_warning():
    blind = finding("c.sanity", "not_applicable", reason="it needs gradients of the model")
    (reason,) = doubted(others=(blind,)).reasons
    assert "no c.sanity was measured (it needs gradients of the model), so" in reason


def test_nothing_is_warned_of_where_it_was_measured_or_nothing_held_or_another_number_did():
    assert doubted(others=(finding("c.sanity"),)).reasons == ()
    assert not any("c.sanity" in reason for reason in doubted(x=50).reasons)
    assert not any("c.sanity" in reason for reason in doubted(x=82).reasons)
    assert doubted(measures=("robust_accuracy",)).reasons == ()


def test_a_limit_on_a_check_that_was_not_run_is_broken():
    policy = Policy(limits=(*asks().limits, *asks("never.run").limits))
    assert judge(record([finding()], policy)).verdict.exit_code == 2


def test_a_broken_limit_outweighs_everything():
    found = [finding("a.b", x=50), finding("c.d", "broken", reason="why")]
    outcome = judge(record(found, asks())).verdict
    assert (outcome.verdict, outcome.exit_code) == (Verdict.FAIL, 1)


@pytest.mark.parametrize("leniency", ["warn", "pass"])
def test_the_policy_may_relax_what_is_not_a_failure(leniency):
    found = [finding("a.b", x=82), finding("c.d", "broken", reason="why")]
    lenient = asks(on_inconclusive=leniency, on_broken=leniency)
    outcome = judge(record(found, lenient)).verdict
    assert outcome.exit_code == 0
    assert outcome.verdict is Verdict.BROKEN


def test_no_policy_relaxes_a_failure():
    lenient = asks(
        on_inconclusive="pass", on_broken="pass", on_not_evaluable="pass", on_not_applicable="pass"
    )
    assert judge(record([finding(x=10)], lenient)).verdict.exit_code == 1


def test_judging_again_changes_verdicts_and_no_number():
    first = judge(record([finding(x=82)], asks(at_least=0.5)))
    second = judge(first, asks(at_least=0.99))
    assert (first.verdict.exit_code, second.verdict.exit_code) == (0, 1)
    assert first.findings[0].measures == second.findings[0].measures
    assert second.policy.limits[0].at_least == 0.99


def test_counts_add_up():
    outcome = conclude(
        judge(record([finding("a.b"), finding("c.d", x=10)], asks())).findings,
        asks(),
        [Planned(check="a.b", asked="name"), Planned(check="c.d", asked="name")],
    )
    assert outcome.counts["PASS"] == 1
    assert outcome.counts["NOT_JUDGED"] == 1
    assert (outcome.planned, outcome.measured) == (2, 2)


def test_a_misspelt_measure_is_no_yes_under_any_policy():
    limits = (*asks().limits, Limit(check="a.b", measure="acuracy", at_least=0.5))
    lenient = Policy(limits=limits, on_not_evaluable="pass")
    assert judge(record([finding()], lenient)).verdict.exit_code == 2


def test_a_limit_on_a_check_that_was_not_run_is_no_yes_under_any_policy():
    limits = (*asks().limits, *asks("never.run").limits)
    lenient = Policy(limits=limits, on_broken="pass", on_not_evaluable="pass")
    assert judge(record([finding()], lenient)).verdict.exit_code == 2


def test_a_warning_is_told_and_a_pass_is_not():
    for leniency, told in (("warn", True), ("pass", False)):
        outcome = judge(
            record([finding(x=95), finding("c.d", "broken", reason="why")], asks(on_broken=leniency))
        )
        assert any(reason.startswith("Warning: c.d: why") for reason in outcome.verdict.reasons) is told


def test_an_undefined_number_is_not_a_judged_one():
    empty = Finding(
        check="a.b", version="1", title="t", status="measured", measures=(proportion("accuracy", 0, 0),)
    )
    outcome = judge(record([empty], asks(on_not_evaluable="pass"))).verdict
    assert outcome.exit_code == 2


def doubting(*checks, measures=("accuracy",)):
    against = Doubt(checks=checks, measures=measures, reason="the attack found no planted example")
    return finding("c.d", doubts=(against,))


@pytest.mark.parametrize(
    ("x", "verdict"), [(95, Verdict.INCONCLUSIVE), (50, Verdict.FAIL), (82, Verdict.INCONCLUSIVE)]
)
def test_a_number_that_another_finding_doubts_cannot_pass(x, verdict):
    judged = judge(record([finding(x=x), doubting("a.b")], asks()))
    (judgement,) = judged.findings[0].verdicts
    assert judgement.verdict is verdict
    assert judged.findings[0].measures == finding(x=x).measures
    if x == 95:
        assert "no planted example" in judgement.reason
        assert judgement.needed_n is None


@pytest.mark.parametrize("doubts", [doubting("a.c"), doubting("a.b", measures=("robust_accuracy",))])
def test_a_doubt_speaks_of_the_numbers_it_names_and_no_others(doubts):
    assert judge(record([finding(), doubts], asks())).findings[0].verdicts[0].verdict is Verdict.PASS


def test_a_doubt_of_every_check_speaks_of_those_of_plugins_too():
    for against in (doubting(EVERY_CHECK), doubting("x.y", EVERY_CHECK)):
        (judgement,) = judge(record([finding(), against], asks())).findings[0].verdicts
        assert judgement.verdict is Verdict.INCONCLUSIVE
    other = doubting(EVERY_CHECK, measures=("robust_accuracy",))
    assert judge(record([finding(), other], asks())).findings[0].verdicts[0].verdict is Verdict.PASS


def test_a_doubt_is_kept_in_the_record():
    before = doubting("a.b")
    after = finding_from(json.loads(canonical(before)))
    assert canonical(after) == canonical(before)
    assert after.doubts[0].checks == ["a.b"]
