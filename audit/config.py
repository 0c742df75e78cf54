"""audit.toml: what to load, what to run, what to ask. Read and checked before anything is loaded."""

import math
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from audit.errors import ConfigError, nearest
from audit.evidence import Scalar
from audit.policy import Leniency, Limit, Policy

Output = Literal[
    "auto", "logits", "log_probabilities", "probabilities", "single_logit", "single_probability", "labels"
]


_LARGEST = 2**53 - 1


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Normalize(_Section):
    """Applied inside the model, so that epsilon stays in raw units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class ModelSection(_Section):
    """`[model]`: the saved model and how to call it, or the column of the data that holds its answers."""

    predictions: str | None = None
    path: Path | None = Field(default=None, validate_default=True)
    threshold: float = Field(default=0.5, ge=0, le=1)
    loader: str = "auto"
    factory: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    trust: bool = False
    task: Literal["classification", "regression"] = "classification"
    output: Output = "auto"
    classes: Path | tuple[str, ...] | None = None
    input_range: tuple[float, float] | None = None
    normalize: Normalize | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    batch_size: int | None = Field(default=None, ge=1)

    @field_validator("path")
    @classmethod
    def _is_needed(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None and info.data.get("predictions") is None:
            raise PydanticCustomError("missing", "Field required")
        return path

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> "ModelSection":
        if self.predictions is None and "threshold" in self.model_fields_set:
            raise ValueError("threshold divides the scores of predictions = 'column', which is not given")
        if self.predictions is not None and self.path is not None:
            raise ValueError("it names a path and predictions; a column of predictions needs no model file")
        if self.predictions is not None and self.task != "classification":
            raise ValueError("a column of predictions holds decisions, so the task is classification")
        return self


class FeatureSection(_Section):
    """`[data.features.NAME]`: what one tabular feature is."""

    kind: Literal["numeric", "ordinal", "categorical"] = "numeric"
    columns: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    immutable: bool = False
    direction: Literal["increase", "decrease"] | None = None
    step: float | None = Field(default=None, gt=0)
    cost: float | None = Field(default=None, gt=0)
    dropped: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "FeatureSection":
        if self.kind == "categorical" and (self.direction or self.step):
            raise ValueError("direction and step are for numbers, and this feature is categorical")
        if self.kind != "categorical" and self.dropped:
            raise ValueError(f"dropped names a category, and this feature is {self.kind}")
        return self

    @model_validator(mode="after")
    def _runs_upwards(self) -> "FeatureSection":
        if self.range is not None and not self.range[0] <= self.range[1]:
            raise ValueError(f"range {list(self.range)} must run from the smallest value to the largest")
        return self


class RelationSection(_Section):
    """One of `[[data.relations]]`: a sum over features, in the user's units, that holds for every row."""

    terms: dict[str, float] = Field(min_length=1)
    at_least: float | None = None
    at_most: float | None = None
    equals: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "RelationSection":
        if 0 in self.terms.values():
            raise ValueError("a term with the factor 0 says nothing; leave it out")
        one_side = self.at_least is None and self.at_most is None
        if one_side == (self.equals is None):
            raise ValueError("a relation needs at_least, at_most or both, or else equals")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} lies above at_most {self.at_most:g}")
        return self


class DataSection(_Section):
    """`[data]`: the file of inputs and labels. Paths are relative to audit.toml."""

    path: Path
    reader: str = "auto"
    target: str | None = None
    sensitive: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    bins: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    count: str | None = None
    stream: bool = False
    inputs: tuple[str, ...] = ()
    favourable: str | None = None
    encoder: Path | None = None
    where: dict[str, Scalar] = Field(default_factory=dict)
    missing: tuple[str, ...] = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
    label_map: dict[str, str] = Field(default_factory=dict)
    labels: Path | None = None
    layout: Literal["auto", "NCHW", "NHWC"] = "auto"
    rows: int | None = Field(default=None, ge=1)
    features: dict[str, FeatureSection] = Field(default_factory=dict)
    relations: tuple[RelationSection, ...] = ()

    @model_validator(mode="after")
    def _bins_rise(self) -> "DataSection":
        for name, edges in self.bins.items():
            if name not in {*self.sensitive, *self.control}:
                raise ValueError(f"bins.{name} divides a column that is neither in sensitive nor in control")
            if not edges or not all(map(math.isfinite, edges)):
                raise ValueError(f"bins.{name} = {list(edges)} must hold at least one finite edge")
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError(f"bins.{name} = {list(edges)} must rise from edge to edge")
        return self


class ChecksSection(_Section):
    """`[checks]`: names or patterns, and settings by full name."""

    run: tuple[str, ...] = ("*",)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


class LimitSection(_Section):
    """One limit: `{ at_least = 0.8, where = { epsilon = 0.03 }, group = "each" }`."""

    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    where: dict[str, Scalar] = Field(default_factory=dict)
    group: Literal["whole", "each"] | dict[str, str] = "whole"

    @model_validator(mode="after")
    def _asks_something(self) -> "LimitSection":
        if self.at_least is None and self.at_most is None:
            raise ValueError("a limit needs at_least or at_most")
        return self


class PolicySection(_Section):
    """`[policy]`: what is asked, and what an unsettled answer does to the exit code."""

    on_inconclusive: Leniency = "fail"
    on_not_evaluable: Leniency = "fail"
    on_broken: Leniency = "fail"
    on_not_applicable: Leniency = "fail"
    family_wise_level: float = Field(default=0.95, gt=0.5, lt=1)
    limits: dict[str, dict[str, LimitSection | list[LimitSection]]] = Field(default_factory=dict)

    def policy(self) -> Policy:
        """The section as the noun that judges."""
        limits = [
            Limit(check=check, measure=measure, **section.model_dump())
            for check, measures in self.limits.items()
            for measure, sections in measures.items()
            for section in (sections if isinstance(sections, list) else [sections])
        ]
        plain = self.model_dump(exclude={"limits"})
        return Policy(limits=tuple(limits), **plain)


class Config(_Section):
    """A whole audit.toml. `folder` is where its relative paths start."""

    model: ModelSection
    data: DataSection
    checks: ChecksSection = ChecksSection()
    policy: PolicySection = PolicySection()
    system: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**32)
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def subject(self) -> Path:
        """The file that is audited: the model, or the data where they hold its predictions."""
        return self.model.path or self.data.path

    def beside(self, path: Path) -> Path:
        """A path of this file, made absolute."""
        return path if path.is_absolute() else (self.folder / path).resolve()


class _PolicyFile(_Section):
    policy: PolicySection


def read_config(path: Path) -> Config:
    """Read and check an audit.toml.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds an unknown key or a wrong value.
    """
    config: Config = _validated(Config, read_toml(path), path)
    return config.model_copy(update={"folder": path.resolve().parent})


def read_policy(path: Path) -> Policy:
    """The `[policy]` of a TOML file, which may hold the other sections of an audit.toml too.

    Raises:
        ConfigError: the file is missing, is not TOML, has no `[policy]` or a wrong one.
    """
    values = read_toml(path)
    if "policy" not in values:
        raise ConfigError(f"{path} has no [policy] section, so it asks nothing; add one.")
    section: _PolicyFile = _validated(_PolicyFile, {"policy": values["policy"]}, path)
    return section.policy.policy()


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary; one sentence where it is missing or not TOML."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; `model-audit init MODEL DATA` writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    _refuse_unwritable(values, [], path)
    return values


def _refuse_unwritable(value: Any, keys: list[str], path: Path) -> None:
    """A number that JSON cannot hold would be found only when everything has been measured."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            _refuse_unwritable(item, [*keys, str(key)], path)
    elif isinstance(value, float | int) and not abs(value) <= _LARGEST:
        place = ".".join(keys)
        raise ConfigError(f"{path}: '{place}' = {value} is wrong; a number must be finite and below 2**53.")


def _validated(noun: Any, values: Mapping[str, Any], path: Path) -> Any:
    try:
        return noun.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, noun, path)) from None


def _sentence(error: ValidationError, noun: Any, path: Path) -> str:
    """The first complaint: file, key, value and what would be right."""
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    place = ".".join(keys)
    if first["type"] == "extra_forbidden":
        known = _known_keys(noun, keys[:-1])
        return f"{path}: '{place}' is not a known key{nearest(keys[-1], known)}."
    if first["type"] == "missing":
        return f"{path}: '{place}' is missing; it is required."
    message = first["msg"].removeprefix("Value error, ")
    return f"{path}: '{place}' = {first['input']!r} is wrong: {message}."


def _known_keys(noun: Any, keys: list[str]) -> list[str]:
    for key in keys:
        field = getattr(noun, "model_fields", {}).get(key)
        annotation = field.annotation if field is not None else None
        if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
            break
        noun = annotation
    return list(getattr(noun, "model_fields", {}))
