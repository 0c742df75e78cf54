"""Identity: one sha256 of everything that an audit's numbers depend on, made without loading any of it.

Two audits of one identity measure the same; so a pipeline may keep the run of the first. It covers this
tool's version and the installed checks, the configuration, and the bytes of every file that it names.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audit.config import Config
from audit.environment import tool
from audit.errors import ConfigError
from audit.record import canonical

_BLOCK = 2**20
_NAME = 63  # of four bytes each, which is what every file system can hold


def identity(configs: Mapping[str, Config], options: Mapping[str, Any] | None = None) -> str:
    """sha256, as 64 hexadecimal digits, over the configurations of an audit.toml and the files they name.

    Where a factory builds the network, every Python file beside audit.toml counts, since any may be part of
    it.

    Args:
        configs: by name, as `audit.config.read_configs` gives them.
        options: what else decides what is measured, e.g. the profile.

    Raises:
        ConfigError: a file that is named cannot be read.
    """
    told = {
        name: {"config": config.model_dump(mode="json"), "files": dict(_files(config))}
        for name, config in configs.items()
    }
    whole = {"tool": tool(), "checks": _checks(), "options": dict(options or {}), "models": told}
    return hashlib.sha256(canonical(whole)).hexdigest()


def _checks() -> list[str]:
    """The installed checks, each with the version of the package that brings it."""
    from importlib.metadata import entry_points

    points = entry_points(group="audit.checks")
    return sorted(f"{point.name} {point.dist.version if point.dist else ''}" for point in points)


def _files(config: Config) -> Iterator[tuple[str, str]]:
    """Every file that the configuration names, and its sha256; folders file by file."""
    texts = set(_texts(config.model_dump(mode="json")))
    named = {text: config.beside(Path(text)) for text in texts if _is_name(text)}
    for text, path in sorted(named.items()):
        if path.is_dir():
            inside = (part for part in sorted(path.rglob("*")) if part.is_file())
            yield from ((f"{text}/{part.relative_to(path).as_posix()}", _sha256(part)) for part in inside)
        elif path.is_file():
            yield text, _sha256(path)
    if config.model.factory is not None:
        yield from ((path.name, _sha256(path)) for path in sorted(config.folder.glob("*.py")))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_name(text: str) -> bool:
    """Whether a text may be the path of a file: not the folder itself, and no part longer than a name can be."""
    return bool(text.strip(" ./")) and "\0" not in text and all(len(p) <= _NAME for p in Path(text).parts)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()
