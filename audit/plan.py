"""Plan: which checks a run makes and with which settings, and what it was asked for and leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from audit.check import Check
from audit.config import Config
from audit.errors import ConfigError, nearest
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
    """

    profile: str = STANDARD
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    budget: float | None = None
    costs: Path | None = None
    overrides: tuple[str, ...] = ()
    model: str = ""


def plan_run(
    config: Config, options: Options, checks: Mapping[str, Check | Broken]
) -> tuple[tuple[Planned, ...], tuple[LeftOut, ...]]:
    """The checks to run, in order, and what the options leave out of what the configuration asks for.

    A check that a limit speaks of may be left out by `skip` or `only`: the limit stays, and forbids a yes.

    Raises:
        ConfigError: a name or pattern matches nothing, a setting is wrong, or nothing is left to run.
    """
    profile, limits = read_profile(options.profile), config.policy.policy().limits
    settings = settings_under(profile, config.checks.settings, limits)
    known = {name: given for name, given in settings.items() if name in {*checks, *config.checks.settings}}
    asked = make_plan(config.checks.run, known, sorted({limit.check for limit in limits}), checks)
    out = {
        item.check: item
        for item in (*_unselected(asked, options), *left_out_by(profile, asked, options.only))
    }
    kept = tuple(item for item in asked if item.check not in out)
    if not kept:
        raise ConfigError("--only and --skip leave nothing to run; every planned check is left out.")
    return kept, tuple(out[item.check] for item in asked if item.check in out)


def _unselected(asked: Sequence[Planned], options: Options) -> list[LeftOut]:
    names = [item.check for item in asked]
    for option, patterns in (("--only", options.only), ("--skip", options.skip)):
        for pattern in patterns:
            if not _matching(names, pattern):
                hint = nearest(pattern, names)
                raise ConfigError(f"{option} {pattern} matches no check that checks.run plans{hint}.")
    chosen = {name for pattern in options.only or ["*"] for name in _matching(names, pattern)}
    skipped = {name: pattern for pattern in options.skip for name in _matching(names, pattern)}
    only = ", ".join(options.only)
    return [
        LeftOut(check=name, reason=f"the command line left it out: --only {only}")
        if name not in chosen
        else LeftOut(check=name, reason=f"the command line left it out: --skip {skipped[name]}")
        for name in names
        if name not in chosen or name in skipped
    ]


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern)]
