"""What a profile changes: only what the user and the limits leave open."""

import pytest

from audit.check import Check
from audit.errors import ConfigError
from audit.policy import Limit
from audit.profile import Profile, left_out_by, read_profile, read_profiles, said_of, settings_under
from audit.record import Planned
from audit.registry import installed_checks

QUICK = Profile(
    "quick", "soon", {"a.b": {"rows": 10, "steps": 2}, "a.c": {"rows": 5}}, {"a.d": "it takes long"}
)


@pytest.mark.parametrize("name", ["quick", "standard", "thorough"])
def test_every_profile_says_what_it_is_for_and_fits_the_installed_checks(name):
    profile, checks = read_profile(name), installed_checks()
    assert profile.promise.endswith(".")
    for check, settings in profile.settings.items():
        item = checks[check]
        assert isinstance(item, Check)
        defaults = item.settings({})
        assert item.settings(settings) != defaults, f"{name} changes nothing of {check}"
    assert set(profile.leave_out) <= set(checks)
    assert not set(profile.leave_out) & set(profile.settings)
    assert all(profile.leave_out.values())


def test_quick_asks_for_less_than_the_defaults_and_thorough_for_more():
    checks, profiles = installed_checks(), read_profiles()
    for name, sign in (("quick", -1), ("thorough", 1)):
        for check, settings in profiles[name].settings.items():
            defaults = checks[check].settings({})
            for key, value in settings.items():
                assert sign * (value - defaults[key]) > 0, (name, check, key)


def test_quick_leaves_out_nothing_whose_doubts_others_depend_on():
    assert not {"robustness.attack_sanity", "interpretability.trust"} & set(read_profile("quick").leave_out)


def test_standard_changes_nothing():
    given = {"robustness.pgd": {"steps": 7}}
    assert settings_under(read_profile("standard"), given, ()) == given


def test_what_the_user_set_stands_and_the_profile_fills_the_gaps():
    found = settings_under(QUICK, {"a.b": {"steps": 99}, "x.y": {"k": 1}}, ())
    assert found == {"a.b": {"rows": 10, "steps": 99}, "a.c": {"rows": 5}, "x.y": {"k": 1}}


def test_a_setting_that_a_limit_names_is_left_as_it_is():
    limit = Limit(check="a.b", measure="m", at_least=0.5, where={"steps": 20})
    assert settings_under(QUICK, {}, [limit])["a.b"] == {"rows": 10}


def test_a_profile_leaves_out_only_what_a_pattern_named():
    plan = [Planned(check="a.b", asked="pattern"), Planned(check="a.d", asked="pattern")]
    (out,) = left_out_by(QUICK, plan, ())
    assert (out.check, out.reason) == ("a.d", "the profile quick leaves it out: it takes long")
    assert left_out_by(QUICK, plan, ["a.d"]) == ()
    assert left_out_by(QUICK, [Planned(check="a.d", asked="name")], ()) == ()


def test_an_unknown_profile_gets_the_nearest():
    with pytest.raises(ConfigError, match="--profile quik is not a profile; the nearest is 'quick'"):
        read_profile("quik")


def test_what_it_sets_otherwise_than_the_check_by_itself_is_said():
    name, limit = "robustness.pgd", Limit(check="robustness.pgd", measure="x", at_least=0, where={"rows": 5})
    checks, quick = installed_checks(), read_profile("quick")
    said = "The profile quick set rows = 250, steps = 10; by itself the check takes rows = 1000, steps = 20."
    assert said_of(quick, {}, (), checks)[name] == said
    assert "rows" not in said_of(quick, {name: {"rows": 9}}, (), checks)[name]
    assert "rows" not in said_of(quick, {}, (limit,), checks)[name]
    assert name not in said_of(quick, {name: {"rows": 9, "steps": 9}}, (), checks)
    assert said_of(read_profile("standard"), {}, (), checks) == {}
