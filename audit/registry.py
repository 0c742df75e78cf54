"""What is installed: checks, products, loaders and readers, each found through entry points.

Built-in plugins come in by the same door as a stranger's. Two plugins of the same name are an error; one
that cannot be imported is kept, with its reason, so that it is shown as BROKEN and never forgotten.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from audit.check import GIVEN, Check
from audit.errors import ConfigError, nearest
from audit.evidence import EVERY_CHECK
from audit.record import Finding, Planned


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be imported, and why."""

    name: str
    reason: str


def installed_checks() -> dict[str, Check | Broken]:
    """Every installed check by name, sorted.

    Raises:
        ConfigError: two packages bring a check of the same name.
    """
    return dict(sorted(_load("audit.checks", _as_check).items()))


def check_names() -> frozenset[str]:
    """Names of the installed checks; nothing is imported.

    Raises:
        ConfigError: two packages bring a check of the same name.
    """
    return frozenset(_unique("audit.checks"))


def installed_check(name: str) -> Check | Broken:
    """One installed check by its name; only its own module is imported."""
    found: Check | Broken = _loaded(name, _unique("audit.checks")[name], _as_check)
    return found


def installed_products() -> dict[str, Callable[..., Any] | Broken]:
    """Every installed product by name.

    Raises:
        ConfigError: two packages bring a product of the same name, or one takes a reserved name.
    """
    products = _load("audit.products", _as_callable)
    for name in GIVEN & products.keys():
        raise ConfigError(f"product '{name}': the name is reserved; rename the entry point.")
    return products


def installed_functions(
    group: Literal["audit.loaders", "audit.readers", "audit.formats"],
) -> dict[str, EntryPoint]:
    """Entry points of a group by name, not yet imported.

    Raises:
        ConfigError: two packages bring one of the same name.
    """
    return _unique(group)


def _unique(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise ConfigError(
                f"'{point.name}' is brought twice in {group}: by {other.value} and by {point.value}; "
                "rename or uninstall one."
            )
        found[point.name] = point
    return found


def _load(group: str, accept: Callable[[str, Any], Any]) -> dict[str, Any]:
    return {name: _loaded(name, point, accept) for name, point in _unique(group).items()}


def _loaded(name: str, point: EntryPoint, accept: Callable[[str, Any], Any]) -> Any:
    try:
        return accept(name, point.load())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything at import
        return Broken(name, f"{point.value} does not import: {type(error).__name__}: {error}")


def _as_check(name: str, value: Any) -> Check:
    if not isinstance(value, Check):
        raise TypeError(f"it is a {type(value).__name__}, not a check; decorate it with @check")
    if value.name != name:
        raise ValueError(f"its entry point is called '{name}' and the check '{value.name}'")
    _ = value.settings_model
    return value


def _as_callable(name: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"product '{name}' is a {type(value).__name__}, not a function")
    return value  # type: ignore[no-any-return]


def make_plan(
    patterns: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    limited: Sequence[str],
    checks: Mapping[str, Check | Broken],
) -> tuple[Planned, ...]:
    """The checks to run, in the order of the patterns, each once.

    Args:
        patterns: names or patterns such as `fairness.*`.
        settings: given settings by check name.
        limited: names of checks that a limit speaks of; they count as asked for by name.
        checks: what is installed.

    Raises:
        ConfigError: a pattern matches nothing, or settings or limits name an unknown check.
    """
    for name in [*settings, *limited]:
        if name not in checks:
            raise ConfigError(f"'{name}' is not an installed check{nearest(name, checks)}.")
    names: dict[str, Literal["name", "pattern"]] = {}
    for pattern in patterns:
        matched = [name for name in checks if fnmatchcase(name, pattern)]
        if not matched:
            hint = nearest(pattern, checks)
            raise ConfigError(f"checks.run: '{pattern}' matches no installed check{hint}.")
        for name in matched:
            named = pattern == name or name in limited or names.get(name) == "name"
            names[name] = "name" if named else "pattern"
    for name in sorted(set(limited) - names.keys()):
        raise ConfigError(f"a limit speaks of '{name}', which checks.run does not plan; add it there.")
    return tuple(
        Planned(
            check=name,
            title=_title(checks[name]),
            asked=asked,
            settings=_filled(checks[name], settings.get(name, {})),
            doubted_by=_doubted_by(checks[name], checks),
        )
        for name, asked in names.items()
    )


def _title(item: Check | Broken) -> str:
    return item.title if isinstance(item, Check) else ""


def _filled(item: Check | Broken, given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(given) if isinstance(item, Broken) else item.settings(given)


def _doubted_by(item: Check | Broken, checks: Mapping[str, Check | Broken]) -> dict[str, tuple[str, ...]]:
    """The checks that may speak against numbers of this one, and against which."""
    own = item.measures if isinstance(item, Check) else frozenset()
    meant = {item.name, EVERY_CHECK}
    found = {
        other.name: tuple(sorted({m for check, m in other.doubts if check in meant and m in (own or {m})}))
        for other in checks.values()
        if isinstance(other, Check) and other.name != item.name
    }
    return {name: measures for name, measures in found.items() if measures}


def broken_finding(item: Planned, known: Check | Broken, reason: str) -> Finding:
    """The finding of a planned check that gave none, with what is known of the check."""
    version, title, text = "", item.check, ""
    if isinstance(known, Check):
        version, title, text = known.version, known.title, known.text
    return Finding(
        check=item.check,
        version=version,
        title=title,
        text=text,
        settings=item.settings,
        status="broken",
        reason=reason,
    )
