"""Profile: how thorough a run is. `profiles.toml` says for each what it changes, where the user said nothing.

`standard` is what every check does by itself. A profile changes no setting that the user gave or that a
limit speaks of, and leaves out no check that was asked for by its full name or that a limit speaks of.
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.check import Check
from audit.errors import ConfigError, nearest
from audit.policy import Limit
from audit.record import LeftOut, Planned

STANDARD = "standard"
_FILE = Path(__file__).with_name("profiles.toml")


@dataclass(frozen=True)
class Profile:
    """One way to run an audit.

    Attributes:
        name: what `--profile` names.
        promise: what it is for and how long it takes, in words.
        settings: settings by check, for where the user gave none.
        leave_out: why a check is not run, by check.
    """

    name: str
    promise: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leave_out: Mapping[str, str] = field(default_factory=dict)


def read_profiles() -> dict[str, Profile]:
    """Every profile by name, as `profiles.toml` has them."""
    values = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: Profile(name=name, **facts) for name, facts in values.items()}


def read_profile(name: str) -> Profile:
    """One profile.

    Raises:
        ConfigError: there is none of this name.
    """
    profiles = read_profiles()
    if name not in profiles:
        raise ConfigError(f"--profile {name} is not a profile{nearest(name, profiles)}.")
    return profiles[name]


def settings_under(
    profile: Profile, given: Mapping[str, Mapping[str, Any]], limits: Sequence[Limit]
) -> dict[str, dict[str, Any]]:
    """The settings by check that a run is given: the user's own, and the profile's where there is none.

    Args:
        profile: whose settings fill the gaps.
        given: what the user set, by check.
        limits: a setting that a limit names in `where` stays what it is without the profile.
    """
    filled = _filled(profile, given, limits)
    return {check: {**filled.get(check, {}), **given.get(check, {})} for check in {**filled, **given}}


def _filled(
    profile: Profile, given: Mapping[str, Mapping[str, Any]], limits: Sequence[Limit]
) -> dict[str, dict[str, Any]]:
    """What the profile sets by check, where neither the user nor a limit does."""
    named = {(limit.check, key) for limit in limits for key in limit.where}
    return {
        check: {
            key: value
            for key, value in settings.items()
            if (check, key) not in named and key not in given.get(check, {})
        }
        for check, settings in profile.settings.items()
    }


def said_of(
    profile: Profile,
    given: Mapping[str, Mapping[str, Any]],
    limits: Sequence[Limit],
    checks: Mapping[str, Any],
) -> dict[str, str]:
    """A sentence for each check that the profile sets otherwise than the check by itself.

    Args:
        profile: whose settings fill the gaps.
        given: what the user set, by check.
        limits: as for `settings_under`.
        checks: the installed `audit.check.Check`s by name; what is none of them is passed over.
    """
    said = {}
    for name, settings in _filled(profile, given, limits).items():
        usual = checks[name].settings({}) if isinstance(checks.get(name), Check) else {}
        other = [key for key, value in settings.items() if key in usual and usual[key] != value]
        if other:
            here = ", ".join(f"{key} = {settings[key]}" for key in other)
            alone = ", ".join(f"{key} = {usual[key]}" for key in other)
            said[name] = f"The profile {profile.name} set {here}; by itself the check takes {alone}."
    return said


def left_out_by(profile: Profile, plan: Sequence[Planned], kept: Collection[str]) -> tuple[LeftOut, ...]:
    """What a profile takes out of a plan: nothing that was asked for by its full name, or that is `kept`."""
    return tuple(
        LeftOut(check=item.check, title=item.title, reason=f"the profile {profile.name} leaves it out: {why}")
        for item in plan
        if (why := profile.leave_out.get(item.check)) and item.asked != "name" and item.check not in kept
    )
