"""Rerun: what a record or a reproducer says was measured, made ready to be measured again."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audit.config import Config, read_config
from audit.errors import ConfigError, LoadError
from audit.plainfile import real_path

_DIGESTS = ("sha256", "factory_sha256", "fingerprint")
_FUNCTION = re.compile(r".+:[^\W\d]\w*")
_NO_FILE = {"fingerprint": "the rows as read", "factory_sha256": "the file of its factory"}


def configured(told: Mapping[str, Any], place: str, batch_size: int | None, folder: Path) -> Config:
    """The configuration as it was, with the batch size that was used, on whatever accelerator is here.

    Args:
        told: its sections as JSON values, `model` and `data` among them.
        place: where they stand, for the sentence that refuses them.
        batch_size: rows in one pass; None for what the configuration says.
        folder: where its relative paths start.

    Raises:
        ConfigError: it is no configuration of this version.
    """
    from pydantic import ValidationError

    try:
        model = {key: value for key, value in told["model"].items() if value is not None}
        if "predictions" not in model:
            model.pop("threshold", None)
        if batch_size is not None:
            model["batch_size"] = batch_size
        if model.get("device", "cpu") != "cpu":
            model["device"] = "auto"
        config = Config.model_validate({**told, "model": model})
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{place} does not hold a configuration of this version: {said}.") from None
    return config.model_copy(update={"folder": folder})


def starts_at(config: Path | None, recorded: Path) -> Path:
    """The folder where relative paths start: that of the audit.toml that is named, else the recorded one.

    Raises:
        ConfigError: the file that is named is not there.
    """
    if config is None:
        return real_path(recorded)
    if not config.is_file():
        raise ConfigError(f"--config {config} does not exist; name the audit.toml that the paths start at.")
    return real_path(config).parent


def trusted(
    known: Config, place: str, config: Path | None, run: Path, checks: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse to run code because a record says so: that is for its user to say.

    A record can name any function of any module as its factory, with any arguments, and in the settings of a
    check. Without a word of the user only one is called that a file beside the audit.toml defines, and none
    that lies in the run folder.

    Args:
        known: the configuration that was recorded, and where its paths start.
        place: where it was recorded.
        config: the user's own audit.toml, where one is named.
        run: the run folder.
        checks: the settings of each check that is measured again.

    Raises:
        ConfigError: it says trust = true, or names a function of another place, and no audit.toml of the user
            says so.
    """
    user = None if config is None else read_config(config)
    model, mine = known.model, None if user is None else user.model
    if model.trust and not (mine and mine.trust):
        raise ConfigError(
            f"{place} says trust = true, so loading the model may run code; "
            "name an audit.toml that says so too with --config."
        )
    if config is None and real_path(known.folder).is_relative_to(real_path(run)):
        raise ConfigError(
            f"{place} says that its files and code lie inside the run folder itself; "
            "name the audit.toml that they lie beside with --config."
        )
    same = mine and (mine.factory, mine.arguments) == (model.factory, model.arguments)
    if model.factory and not same and not _defined_beside(model.factory, known.folder):
        raise ConfigError(
            f"{place} names the factory '{model.factory}', which no file beside its audit.toml defines; "
            "as it would be called, name an audit.toml that says so too with --config."
        )

    for check, settings in checks.items():
        said = set(_functions(user.checks.settings.get(check, {}))) if user else set()
        for name in _functions(settings):
            if name not in said and not _defined_beside(name, known.folder):
                raise ConfigError(
                    f"{place} names the function '{name}' in the settings of {check}, which no file beside "
                    "its audit.toml defines; name an audit.toml that says so too with --config."
                )


def _functions(value: Any) -> Iterator[str]:
    """Every text of some settings that may name a function, as `module:function`."""
    if isinstance(value, str) and _FUNCTION.fullmatch(value):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _functions(item)


def _defined_beside(factory: str, folder: Path) -> bool:
    """Whether a file below the folder itself defines the function; one that it only imports is not its."""
    name, _, attribute = factory.partition(":")
    path = folder.joinpath(*name.split("."))
    file = next(
        (item for item in (path.with_name(f"{path.name}.py"), path / "__init__.py") if item.is_file()), None
    )
    try:
        lines = ast.parse(file.read_bytes()).body if file else []
    except (SyntaxError, ValueError, OSError):
        return False
    return any(isinstance(item, ast.FunctionDef | ast.ClassDef) and item.name == attribute for item in lines)


def refuse_other_files(config: Config, model: Mapping[str, Any], data: Mapping[str, Any], place: str) -> None:
    """Refuse model and data files whose sha256 is not the recorded one, before anything is loaded.

    Args:
        config: names the files.
        model: `sha256` of the model that was measured.
        data: `sha256` of its data.
        place: what recorded them.

    Raises:
        LoadError: a file is missing or another one; the sentence names both digests, of both where both
            differ.
    """
    said = []
    for what, path, told in (("model", config.model.path, model), ("data", config.data.path, data)):
        if path is None:
            continue
        file = config.beside(path)
        if not file.exists():
            raise LoadError(f"{file} does not exist; --config names the audit.toml that it lies beside.")
        if file.is_file() and told.get("sha256"):
            said += _other(f"{what} {file}", "sha256", told["sha256"], _sha256(file), place)
    if said:
        raise LoadError(" ".join(said))


def refuse_other_facts(
    found: Mapping[str, Mapping[str, Any]], recorded: Mapping[str, Mapping[str, Any]], place: str
) -> None:
    """Refuse a model or data that were loaded and are not those recorded.

    Args:
        found: `model` and `data`, each with their digests.
        recorded: the same, as recorded.
        place: what recorded them.

    Raises:
        LoadError: a digest differs; the sentence names both.
    """
    said: list[str] = []
    for what in ("model", "data"):
        for key in _DIGESTS:
            if recorded[what].get(key) != found[what].get(key):
                name = f"{what}{f' ({_NO_FILE[key]})' if key in _NO_FILE else ''}"
                said += _other(name, "sha256", recorded[what].get(key), found[what].get(key), place)
    if said:
        raise LoadError(" ".join(said))


def _other(what: str, kind: str, told: Any, found: Any, place: str) -> list[str]:
    if told == found:
        return []
    return [f"The {what} is not the one of {place}: its {kind} is {found}, and {place} has {told}."]


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
