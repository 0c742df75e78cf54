"""The user's function that builds the network where a file holds weights alone.

It is the user's own code and runs with the user's rights, as any import does. `module:function` is looked
up beside audit.toml first, then on the path.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from audit.config import ModelSection
from audit.errors import AuditError, ConfigError, LoadError, nearest
from audit.plainfile import real_path


def build(section: ModelSection, folder: Path) -> tuple[nn.Module, str]:
    """The network that `[model] factory` builds from `[model] arguments`, and the sha256 of its source.

    The same weights behind another network are another model, so its source is part of what is audited:
    every module beside audit.toml that the factory imported, and the factory's own file.

    Args:
        section: `[model]`; its `factory` is `module:function`.
        folder: where audit.toml stands.

    Raises:
        ConfigError: `factory` is not of the form `module:function`.
        LoadError: there is none, it cannot be imported, fails, or does not build a network.
    """
    if section.factory is None:
        raise LoadError(
            f"{section.path} holds weights alone; set [model] factory = 'module:function' to a function "
            "that builds the network."
        )
    with beside(folder):
        function = _find(section.factory, folder)
        module = _call(function, section)
        source = _source_hash(function, folder)
    if not isinstance(module, nn.Module):
        raise LoadError(
            f"[model] factory = '{section.factory}' returned a {type(module).__name__}; "
            "it must return a torch.nn.Module."
        )
    return module, source


def _source_hash(function: Callable[..., Any], folder: Path) -> str:
    home = real_path(folder)
    paths = {str(item.__file__) for item in list(sys.modules.values()) if _stands_in(item, home)}
    with suppress(TypeError):  # a built-in function has no file
        paths.add(inspect.getsourcefile(function) or "")
    digest = hashlib.sha256()
    for path in sorted(item for item in paths if Path(item).is_file()):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Modules of `folder` can be imported inside; afterwards the path and those modules are gone again.

    Two audits in one process may each have a `models.py` beside their audit.toml.
    """
    before, home = set(sys.modules), str(real_path(folder))
    sys.path.insert(0, home)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if home in sys.path:
            sys.path.remove(home)
        own = __name__.partition(".")[0]
        for name in set(sys.modules) - before:
            if name.partition(".")[0] != own and _stands_in(sys.modules[name], Path(home)):
                del sys.modules[name]


def _stands_in(module: ModuleType, folder: Path) -> bool:
    path = getattr(module, "__file__", None)
    if path is None or "site-packages" in Path(path).parts:
        return False
    return real_path(Path(path)).is_relative_to(folder)


def _find(factory: str, folder: Path) -> Callable[..., Any]:
    name, _, attribute = factory.partition(":")
    if not name or not attribute:
        raise ConfigError(f"[model] factory = '{factory}' is wrong; write it as 'module:function'.")
    module = _import(name, factory, folder)
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise LoadError(
            f"[model] factory = '{factory}': {module.__file__ or name} has no function '{attribute}'"
            f"{nearest(attribute, known)}."
        )
    return function  # type: ignore[no-any-return]


def _import(name: str, factory: str, folder: Path) -> ModuleType:
    path = _file_of(name, folder)
    try:
        return importlib.import_module(name) if path is None else _import_file(name, path)
    except ModuleNotFoundError as error:
        if error.name == name.partition(".")[0]:
            raise LoadError(
                f"[model] factory = '{factory}': there is no module '{name}' beside audit.toml ({folder}) "
                "nor on the path."
            ) from None
        raise LoadError(_failed(factory, error)) from error
    except Exception as error:
        raise LoadError(_failed(factory, error)) from error


def _file_of(name: str, folder: Path) -> Path | None:
    plain = folder.joinpath(*name.split("."))
    for path in (plain.with_name(plain.name + ".py"), plain / "__init__.py"):
        if path.is_file():
            return path
    return None


def _import_file(name: str, path: Path) -> ModuleType:
    """Import this very file, whatever else of the same name was imported before."""
    package = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=package)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not Python")
    module = importlib.util.module_from_spec(spec)
    replaced = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        if replaced is not None:
            sys.modules[name] = replaced
    return module


def _call(function: Callable[..., Any], section: ModelSection) -> Any:
    try:
        return function(**section.arguments)
    except AuditError:
        raise
    except Exception as error:
        raise LoadError(_failed(str(section.factory), error, section.arguments)) from error


def _failed(factory: str, error: Exception, arguments: dict[str, Any] | None = None) -> str:
    given = "" if arguments is None else f" with arguments {arguments}"
    return f"[model] factory = '{factory}'{given} failed: {type(error).__name__}: {first_line(error)}."


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened, without its full stop."""
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0].strip()[:240].removesuffix(".")
