"""audit.toml: what to load, what to run, what to ask. Read and checked before anything is loaded."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

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
from audit.inherit import holder, merged_with, read_inherited
from audit.overrides import read_override, with_overrides
from audit.plainfile import real_path
from audit.policy import Leniency, Limit, Policy

Output = Literal[
    "auto", "logits", "log_probabilities", "probabilities", "single_logit", "single_probability", "labels"
]

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; a text or a truth value in its place is a slip, and must not be read as one."""

# what pydantic puts between the keys where a value may be of several types
_OF_PYDANTIC = re.compile(r"(LimitSection$|(list|dict|tuple|literal|function-\w+|constrained-\w+)\[)")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Normalize(_Section):
    """Applied inside the model, so that epsilon stays in raw units."""

    mean: tuple[Number, ...]
    std: tuple[Number, ...]


class ModelSection(_Section):
    """`[model]`: the saved model and how to call it, or the column of the data that holds its answers."""

    predictions: str | None = None
    path: Path | None = Field(default=None, validate_default=True)
    threshold: Number = Field(default=0.5, ge=0, le=1)
    loader: str = "auto"
    factory: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    trust: bool = False
    task: Literal["classification", "regression"] = "classification"
    output: Output = "auto"
    classes: Path | tuple[str, ...] | None = None
    input_range: tuple[Number, Number] | None = None
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
    range: tuple[Number, Number] | None = None
    immutable: bool = False
    direction: Literal["increase", "decrease"] | None = None
    step: Number | None = Field(default=None, gt=0)
    cost: Number | None = Field(default=None, gt=0)
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

    terms: dict[str, Number] = Field(min_length=1)
    at_least: Number | None = None
    at_most: Number | None = None
    equals: Number | None = None

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
    bins: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
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
    """`[checks]`: names or patterns, settings by full name, and what is kept of single rows.

    `reproducers`: a broken limit keeps the few rows that show it. `outcomes`: label, decision, score and
    groups are kept by row number, so that another run can be compared row by row.
    """

    run: tuple[str, ...] = ("*",)
    reproducers: bool = True
    outcomes: bool = True
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


class LimitSection(_Section):
    """One limit: `{ at_least = 0.8, where = { epsilon = 0.03 }, group = "each" }`, or one on a change.

    A limit on a change: `{ no_worse_than = "baseline", margin = 0.01 }`.
    """

    at_least: Number | None = None
    at_most: Number | None = None
    where: dict[str, Scalar] = Field(default_factory=dict)
    group: Literal["whole", "each"] | dict[str, str] = "whole"
    no_worse_than: Literal["", "baseline"] = ""
    margin: Number = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _asks_something(self) -> "LimitSection":
        if self.at_least is None and self.at_most is None and not self.no_worse_than:
            raise ValueError("a limit needs at_least or at_most, or no_worse_than")
        if self.margin and not self.no_worse_than:
            raise ValueError('a margin goes with no_worse_than = "baseline"')
        return self


class PolicySection(_Section):
    """`[policy]`: what is asked, and what an unsettled answer does to the exit code."""

    on_inconclusive: Leniency = "fail"
    on_not_evaluable: Leniency = "fail"
    on_broken: Leniency = "fail"
    on_not_applicable: Leniency = "fail"
    family_wise_level: Number = Field(default=0.95, gt=0.5, lt=1)
    limits: dict[str, dict[str, LimitSection | list[LimitSection]]] = Field(default_factory=dict)
    waivers: Path | None = None

    @field_validator("limits")
    @classmethod
    def _each_asks_something(cls, limits: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Refuse a check or a measure that looks limited and is asked nothing."""
        for check, measures in limits.items():
            empty = [check] if not measures else [f"{check}.{key}" for key in measures if measures[key] == []]
            if empty:
                raise ValueError(f"'{empty[0]}' is asked nothing; give it a limit or take it out")
        return limits

    def policy(self) -> Policy:
        """The section as the noun that judges."""
        limits = [
            Limit(check=check, measure=measure, **section.model_dump())
            for check, measures in self.limits.items()
            for measure, sections in measures.items()
            for section in (sections if isinstance(sections, list) else [sections])
        ]
        plain = self.model_dump(exclude={"limits", "waivers"})
        return Policy(limits=tuple(limits), **plain)


class Config(_Section):
    """A whole audit.toml, with what it extends, for one model. `folder` is where its relative paths start."""

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
        return path if path.is_absolute() else real_path(self.folder / path)

    def handed_over(self) -> dict[str, Any]:
        """Everything as JSON values that `taken_over` reads in another process."""
        return {"config": self.model_dump(mode="json", exclude_unset=True), "folder": str(self.folder)}

    @classmethod
    def taken_over(cls, values: Mapping[str, Any]) -> "Config":
        """The configuration that another process handed over."""
        config = cls.model_validate(values["config"])
        return config.model_copy(update={"folder": Path(values["folder"])})


class _PolicyFile(_Section):
    policy: PolicySection


def read_config(path: Path, *, overrides: Sequence[str] = (), model: str = "") -> Config:
    """Read and check an audit.toml of one model, or one model of an audit.toml of several.

    Args:
        path: the file; what it `extends` is read first.
        overrides: texts such as `data.rows=500`, each in the place of a value of the file.
        model: the name of one of `[models.NAME]`; empty where the file has only `[model]`.

    Raises:
        ConfigError: a file is missing, is not TOML, or holds an unknown key or a wrong value; the model is
            not named, or is none of the file's.
    """
    configs = read_configs(path, overrides=overrides)
    if model not in configs:
        if not model:
            raise ConfigError(f"{path} names several models, {', '.join(configs)}; say which.")
        known = [name for name in configs if name]
        raise ConfigError(f"{path} has no [models.{model}]{nearest(model, known)}.")
    return configs[model]


def read_configs(path: Path, *, overrides: Sequence[str] = ()) -> dict[str, Config]:
    """The configuration of every model of an audit.toml by name, each as if it stood in a file of its own.

    Each `[models.NAME]` inherits the keys of `[model]`. A file without `[models.NAME]` gives one
    configuration under the empty name.

    Args:
        path: the file; what it `extends` is read first.
        overrides: texts such as `data.rows=500`, each in the place of a value of the file.

    Raises:
        ConfigError: a file is missing, is not TOML, or holds an unknown key or a wrong value.
    """
    values = with_overrides(read_inherited(path), overrides)
    source = _Source(path, tuple(overrides))
    if "models" not in values:
        return {"": _configured(values, source)}
    models, shared = values.pop("models"), values.get("model", {})
    _check_models(models, shared, path)
    return {
        name: _configured({**values, "model": merged_with(shared, own)}, replace(source, name=name, own=own))
        for name, own in models.items()
    }


def _check_models(models: Any, shared: Any, path: Path) -> None:
    if not isinstance(models, Mapping) or not models or not isinstance(shared, Mapping):
        raise ConfigError(f"{path}: 'models' holds no model; write each as [models.NAME].")
    for name, own in models.items():
        if not isinstance(own, Mapping):
            raise ConfigError(f"{path}: 'models.{name}' = {own!r} is wrong; write it as [models.{name}].")
        if not _MODEL_NAME.fullmatch(name):
            raise ConfigError(
                f"{path}: 'models.{name}' names no folder; a name holds letters, digits, '.', '_' and '-'."
            )


def _configured(values: Mapping[str, Any], source: "_Source") -> Config:
    config: Config = _validated(Config, values, source)
    return config.model_copy(update={"folder": real_path(source.path).parent})


def read_policy(path: Path) -> Policy:
    """The `[policy]` of a TOML file, which may hold the other sections of an audit.toml too.

    Raises:
        ConfigError: the file is missing, is not TOML, has no `[policy]` or a wrong one.
    """
    values = read_inherited(path)
    if "policy" not in values:
        raise ConfigError(f"{path} has no [policy] section, so it asks nothing; add one.")
    section: _PolicyFile = _validated(_PolicyFile, {"policy": values["policy"]}, _Source(path))
    return section.policy.policy()


@dataclass(frozen=True)
class _Source:
    """Where values come from, for the sentence that refuses one."""

    path: Path
    overrides: tuple[str, ...] = ()
    name: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)

    def place(self, keys: Sequence[str]) -> Sequence[str]:
        """The keys as the user wrote them: in `[models.NAME]` where they stand there."""
        inherited = len(keys) > 1 and keys[1] not in self.own
        if self.name and keys[:1] == ["model"] and not inherited:
            return ["models", self.name, *keys[1:]]
        return keys

    def where(self, keys: Sequence[str]) -> str:
        """The file, or the `--set` that put the value there."""
        for text in reversed(self.overrides):
            given = read_override(text)[0]
            alias = ("model", *given[2:]) if given[:2] == ("models", self.name) else given
            if tuple(keys[: len(alias)]) == alias:
                return f"--set {text}"
        return str(holder(self.path, self.place(keys)))


def _validated(noun: Any, values: Mapping[str, Any], source: _Source) -> Any:
    try:
        return noun.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, noun, source)) from None


def _sentence(error: ValidationError, noun: Any, source: _Source) -> str:
    """The first complaint: file, key, value and what would be right."""
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"] if not _OF_PYDANTIC.match(str(part))]
    place, where = ".".join(source.place(keys)), source.where(keys)
    if first["type"] == "extra_forbidden":
        known = _known_keys(noun, keys[:-1])
        return f"{where}: '{place}' is not a known key{nearest(keys[-1], known)}."
    if first["type"] == "missing":
        return f"{source.path}: '{place}' is missing; it is required."
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: '{place}' = {first['input']!r} is wrong: {message}."


def _known_keys(noun: Any, keys: list[str]) -> list[str]:
    for key in keys:
        field = getattr(noun, "model_fields", {}).get(key)
        annotation = field.annotation if field is not None else None
        if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
            break
        noun = annotation
    return list(getattr(noun, "model_fields", {}))
