"""Which checks a run makes, and what each option takes out of them, with its reason."""

import pytest

from audit.config import Config
from audit.errors import ConfigError
from audit.plan import Options, plan_run
from audit.record import LeftOut, Planned
from audit.registry import installed_checks

CHECKS = installed_checks()


def config(run, limits=None, settings=None):
    return Config.model_validate(
        {
            "model": {"path": "m.pt2"},
            "data": {"path": "d.csv"},
            "checks": {"run": run, "settings": settings or {}},
            "policy": {"limits": limits or {}},
        }
    )


def planned(run, limits=None, settings=None, **options):
    plan, out = plan_run(config(run, limits, settings), Options(**options), CHECKS)
    return {item.check: item.settings for item in plan}, {item.check: item.reason for item in out}


LIMIT = {"robustness.pgd": {"robust_accuracy": {"at_least": 0.4}}}


def test_without_options_everything_is_planned_as_it_was():
    plan, out = planned(["robustness.*", "performance.accuracy"])
    assert out == {}
    assert list(plan) == [
        *(name for name in CHECKS if name.startswith("robustness.")),
        "performance.accuracy",
    ]
    assert all(settings == CHECKS[name].settings({}) for name, settings in plan.items())


def test_only_and_skip_take_out_what_they_say():
    run = ["robustness.*", "performance.accuracy"]
    plan, out = planned(run, only=("robustness.*",), skip=("robustness.a*", "robustness.pgd"))
    assert {"robustness.fgsm", "robustness.worst_case"} <= set(plan)
    assert not set(plan) & set(out)
    assert out["performance.accuracy"] == "the command line left it out: --only robustness.*"
    assert out["robustness.art"] == "the command line left it out: --skip robustness.a*"
    assert out["robustness.pgd"] == "the command line left it out: --skip robustness.pgd"
    whole, _ = planned(run)
    assert {*plan, *out} == set(whole)


def test_what_is_planned_and_what_is_left_out_keep_their_titles():
    for options in ({"only": ("robustness.*",)}, {"skip": ("performance.*",)}, {"profile": "quick"}):
        plan, out = plan_run(config(["robustness.*", "performance.*"]), Options(**options), CHECKS)
        assert out
        assert all(item.title == CHECKS[item.check].title != "" for item in (*plan, *out))


def test_a_check_with_a_limit_may_be_skipped_and_the_limit_stays():
    plan, out = planned(["robustness.*"], LIMIT, skip=("robustness.pgd",))
    assert "robustness.pgd" not in plan
    assert "robustness.pgd" in out


def test_quick_leaves_out_what_it_names_and_runs_the_rest_with_less():
    plan, out = planned(["interpretability.*", "robustness.*"], profile="quick")
    assert {"interpretability.permutation_shap", "robustness.art"} <= set(out)
    assert plan["robustness.pgd"]["steps"] < CHECKS["robustness.pgd"].settings({})["steps"]
    assert out["robustness.art"].startswith("the profile quick leaves it out: ")


def test_a_profile_never_leaves_out_a_check_that_a_limit_or_the_user_names():
    limits = {"robustness.art": {"robust_accuracy": {"at_least": 0.1}}}
    plan, out = planned(["robustness.*"], limits, profile="quick")
    assert "robustness.art" in plan
    plan, out = planned(["robustness.*", "robustness.art"], profile="quick")
    assert "robustness.art" in plan
    plan, out = planned(["robustness.*"], profile="quick", only=("robustness.art",))
    assert set(plan) == {"robustness.art"}
    assert "--only" in out["robustness.pgd"]


def test_a_profile_changes_no_setting_of_the_user():
    settings = {"robustness.pgd": {"steps": 77}}
    plan, _ = planned(["robustness.*"], settings=settings, profile="thorough")
    assert plan["robustness.pgd"]["steps"] == 77
    assert plan["robustness.pgd"]["restarts"] == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": ("robustnes.*",)}, "--only robustnes.* matches no check that checks.run plans"),
        ({"skip": ("performance.accuracy",)}, "--skip performance.accuracy matches no check that checks.run"),
        ({"only": ("robustness.pdg",)}, "the nearest is 'robustness.pgd'"),
        ({"skip": ("*",)}, "nothing is left to run"),
        ({"profile": "fast"}, "--profile fast is not a profile"),
    ],
)
def test_an_option_that_cannot_be_meant_is_one_sentence(options, words):
    with pytest.raises(ConfigError) as caught:
        planned(["robustness.*"], **options)
    assert words in str(caught.value)


def test_a_setting_of_an_unknown_check_is_refused_under_every_profile():
    for profile in ("standard", "quick"):
        with pytest.raises(ConfigError, match=r"'robustness\.pdg' is not an installed check"):
            planned(["robustness.*"], settings={"robustness.pdg": {}}, profile=profile)


def test_an_exact_plan_is_run_as_it_is_whatever_the_configuration_says():
    exactly = (Planned(check="robustness.fgsm", asked="pattern", settings={"rows": 5}),)
    out = (LeftOut(check="robustness.pgd", reason="it cannot be run here"),)
    options = Options(exactly=exactly, left_out=out)
    assert plan_run(config(["robustness.*"], LIMIT), options, CHECKS) == (exactly, out)
