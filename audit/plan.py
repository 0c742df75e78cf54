"""Plan: which checks a run makes and with which settings, and what it was asked for and leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from audit.check import Check
from audit.config import Config
from audit.errors import ConfigError, nearest
from audit.policy import Limit
from audit.profile import STANDARD, left_out_by, read_profile, settings_under
from audit.record import LeftOut, Planned
from audit.registry import Broken, make_plan


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says beside the configuration.

    Attributes:
        profile: how thorough the run is.
        only: names or patterns; a planned check that none of them matches is left out.
        skip: names or patterns; a planned check that one of them matches is left out.
        budget: seconds that the run should take; None for no end.
        costs: an earlier run of this model, from which the costs of its checks are read; None looks for one.
        overrides: what `--set` changed in the configuration, as written. It is in the configuration already.
        model: the name of the model where the file holds several.
        exactly: run just these, with just these settings, whatever the configuration plans; empty for what
            it plans.
        left_out: what an exact plan was asked for and does not run.
    """

    profile: str = STANDARD
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    budget: float | None = None
    costs: Path | None = None
    overrides: tuple[str, ...] = ()
    model: str = ""
    exactly: tuple[Planned, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def plan_run(
    config: Config, options: Options, checks: Mapping[str, Check | Broken]
) -> tuple[tuple[Planned, ...], tuple[LeftOut, ...]]:
    """The checks of a configuration to run, in order, and what the options leave out of them.

    Raises:
        ConfigError: a name or pattern matches nothing, a setting is wrong, or nothing is left to run.
    """
    if options.exactly:
        return options.exactly, options.left_out
    limits = config.policy.policy().limits
    return plan_checks(config.checks.run, config.checks.settings, limits, options, checks)


def plan_checks(
    patterns: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    limits: Sequence[Limit],
    options: Options,
    checks: Mapping[str, Check | Broken],
) -> tuple[tuple[Planned, ...], tuple[LeftOut, ...]]:
    """The checks to run, in the order of the patterns, and those that the options leave out, with reasons.

    A check that a limit speaks of may be left out by `skip` or `only`: the limit stays, and forbids a yes.

    Args:
        patterns: names or patterns such as `fairness.*`.
        settings: given settings by check name.
        limits: what is asked; a check that one speaks of counts as asked for by name.
        options: the profile, `only` and `skip`.
        checks: what is installed.

    Raises:
        ConfigError: a name or pattern matches nothing, a setting is wrong, or nothing is left to run.
    """
    profile = read_profile(options.profile)
    filled = settings_under(profile, settings, limits)
    known = {name: given for name, given in filled.items() if name in {*checks, *settings}}
    asked = make_plan(patterns, known, sorted({limit.check for limit in limits}), checks)
    left_out = (*_unselected(asked, options), *left_out_by(profile, asked, options.only))
    out = {item.check: item for item in reversed(left_out)}
    kept = tuple(item for item in asked if item.check not in out)
    if asked and not kept:
        raise ConfigError(
            "nothing is left to run: --only, --skip and --profile leave out every planned check."
        )
    return kept, tuple(out[item.check] for item in asked if item.check in out)


def _unselected(asked: Sequence[Planned], options: Options) -> list[LeftOut]:
    titles = {item.check: item.title for item in asked}
    names = list(titles)
    for option, patterns in (("--only", options.only), ("--skip", options.skip)):
        for pattern in patterns:
            if not _matching(names, pattern):
                hint = nearest(pattern, names)
                raise ConfigError(f"{option} {pattern} matches no check that checks.run plans{hint}.")
    chosen = {name for pattern in options.only or ["*"] for name in _matching(names, pattern)}
    skipped = {name: pattern for pattern in options.skip for name in _matching(names, pattern)}
    only = ", ".join(options.only)
    return [
        LeftOut(
            check=name,
            title=title,
            reason=f"the command line left it out: --only {only}"
            if name not in chosen
            else f"the command line left it out: --skip {skipped[name]}",
        )
        for name, title in titles.items()
        if name not in chosen or name in skipped
    ]


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern)]
