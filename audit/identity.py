"""Identity: one sha256 of everything that an audit's numbers depend on, made without loading any of it.

Two audits of one identity measure the same; so a pipeline may keep the run of the first. It covers the code
of this tool, of the installed plugins and of the factory, the versions of the libraries that compute, the
configuration, and the bytes of every file that it names.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from audit.config import Config
from audit.environment import library_versions, tool
from audit.errors import ConfigError
from audit.plainfile import plain_file
from audit.record import canonical

_BLOCK = 2**20
_NAME = 255  # bytes, which is what every file system can hold
_FUNCTION = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_GROUPS = ("audit.checks", "audit.products", "audit.loaders", "audit.readers")


def identity(configs: Mapping[str, Config], options: Mapping[str, Any] | None = None) -> str:
    """sha256, as 64 hexadecimal digits, over the configurations of an audit.toml and the files they name.

    Where a function is named, such as the factory of the network, every Python file beside audit.toml and in
    the packages there counts, since any may be part of it, and so does the whole package it comes from.

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
    whole = {
        "tool": tool(),
        "python": sys.version.split()[0],
        "libraries": library_versions(),
        "plugins": _plugins(),
        "options": dict(options or {}),
        "models": told,
    }
    return hashlib.sha256(canonical(whole)).hexdigest()


def _plugins() -> dict[str, Any]:
    """What is installed, this tool's own included: each by name and version, and the code it comes from."""
    points = [point for group in _GROUPS for point in entry_points(group=group)]
    named = sorted(
        f"{point.group} {point.name} {point.dist.version if point.dist else ''}" for point in points
    )
    modules = sorted({point.module.partition(".")[0] for point in points} - {"audit"})
    own = Path(__file__).parent
    return {"names": named, "audit": _code(own), **{name: _code(_home(name, [])) for name in modules}}


def _home(module: str, first: list[str]) -> Path | None:
    """The file or folder of a top-level module, found without importing it; None where there is none."""
    found = PathFinder.find_spec(module, [*first, *sys.path])
    if found is None:
        return None
    places = list(found.submodule_search_locations or ())
    return Path(places[0]) if places else Path(found.origin or "")


def _code(place: Path | None) -> dict[str, str]:
    """Every Python file of a module or a folder and its sha256."""
    if place is None:
        return {}
    if place.is_file():
        return {place.name: _sha256(place)}
    return {path.relative_to(place).as_posix(): _sha256(path) for path in sorted(_python_files(place))}


def _python_files(folder: Path) -> Iterator[Path]:
    """The Python files of a folder and of those below it, but for hidden ones and installations."""
    for place, inside, files in os.walk(folder):
        inside[:] = [
            name
            for name in inside
            if not name.startswith((".", "__pycache__")) and not Path(place, name, "pyvenv.cfg").exists()
        ]
        yield from (Path(place, name) for name in files if name.endswith(".py"))


def _files(config: Config) -> Iterator[tuple[str, str]]:
    """Every file that the configuration names, and its sha256; folders file by file."""
    texts = set(_texts(config.model_dump(mode="json")))
    named = {text for text in texts if _is_name(text)} | {str(config.data.path)}
    for text, path in sorted((text, config.beside(Path(text))) for text in named):
        if path.is_dir():
            inside = (part for part in sorted(path.rglob("*")) if part.is_file())
            yield from ((f"{text}/{part.relative_to(path).as_posix()}", _sha256(part)) for part in inside)
        elif path.is_file():
            yield text, _sha256(path)
    modules = {text.partition(":")[0].partition(".")[0] for text in texts if _FUNCTION.fullmatch(text)}
    if modules or config.model.trust:
        yield from _code(config.folder).items()
    for module in sorted(modules):
        home = _home(module, [str(config.folder)])
        if home is not None and not home.is_relative_to(config.folder):
            yield from ((f"{module}: {name}", digest) for name, digest in _code(home).items())


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
    """Whether a text may be the path of a file: not the folder itself, no part longer than a name can be."""
    parts = Path(text).parts
    return bool(text.strip(" ./")) and "\0" not in text and all(len(os.fsencode(p)) <= _NAME for p in parts)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with plain_file(path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()
