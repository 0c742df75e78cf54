"""Check: a named, versioned measurement with typed settings. `@check` builds one and registers nothing.

A check asks for what it needs by parameter name: `model`, `data`, `seed`, `folder` (where relative paths
in its settings start), `reread` (reads other rows the way `[data]` was read), and shared products such as
`predictions`. Its keyword-only parameters with annotations are its settings; each needs a default. Its
docstring is the published text: the first line is the title, the rest the explanation in the report.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from audit.errors import ConfigError
from audit.evidence import Evidence

GIVEN = frozenset({"model", "data", "seed", "folder", "reread"})


@dataclass(frozen=True)
class Check:
    """A measurement that can be planned, run and documented.

    Attributes:
        name: full name, `pillar.name`.
        version: changes when the same input may give other numbers.
        measure: the function that measures.
        needs: capabilities the model must have: `logits`, `gradients`, `modules`.
        modality: kinds of input it fits, `tabular`, `image`, `series`; empty for all.
        tasks: tasks it fits; empty for all.
        weighted: whether it counts each row as often as `data.people` says. Any other check is given a row
            for each person.
        measures: names of every measure it can produce, so that a document can name them and be refused
            where it names another; empty where it does not say.
        doubts: the numbers of other checks that it can show not to be relied on, as (check, measure). Where
            it was not measured, a limit that such a number holds is told with a warning.
    """

    name: str
    version: str
    measure: Callable[..., Evidence]
    needs: frozenset[str] = frozenset()
    modality: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    weighted: bool = False
    measures: frozenset[str] = frozenset()
    doubts: frozenset[tuple[str, str]] = frozenset()

    @property
    def title(self) -> str:
        """First line of the docstring."""
        return _docstring(self.measure)[0]

    @property
    def text(self) -> str:
        """The docstring below its first line, as the report prints it."""
        return _docstring(self.measure)[1]

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of the products it takes."""
        return asked_products(self.measure)

    @cached_property
    def settings_model(self) -> Any:
        """The pydantic model of its keyword-only parameters; unknown keys are refused."""
        return _settings_model(self)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings it will run with: `given`, checked, with the defaults filled in.

        Raises:
            ConfigError: a setting is unknown or has a value of the wrong kind.
        """
        from pydantic import ValidationError

        try:
            return cast("dict[str, Any]", self.settings_model(**given).model_dump(mode="json"))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            known = ", ".join(self.settings_model.model_fields) or "none"
            raise ConfigError(
                f"checks.settings.\"{self.name}\": '{key}' = {first['input']!r} is wrong "
                f"({first['msg']}); its settings are {known}."
            ) from None


def check(
    name: str,
    *,
    version: str = "1",
    needs: frozenset[str] | set[str] = frozenset(),
    modality: frozenset[str] | set[str] = frozenset(),
    tasks: frozenset[str] | set[str] = frozenset({"classification"}),
    weighted: bool = False,
    measures: frozenset[str] | set[str] = frozenset(),
    doubts: frozenset[tuple[str, str]] | set[tuple[str, str]] = frozenset(),
) -> Callable[[Callable[..., Evidence]], Check]:
    """Make a `Check` of the function below. Nothing is registered: an entry point does that.

    Args:
        name: `pillar.name`, for example `robustness.pgd`.
        version: changes when the same input may give other numbers.
        needs: capabilities the model must have.
        modality: kinds of input it fits; empty for all.
        tasks: tasks it fits; empty for all.
        weighted: it counts each row as often as `data.people` says; otherwise it sees a row for each person.
        measures: names of every measure it can produce; one that it did not name is then refused.
        doubts: (check, measure) of each number of others that it can show not to be relied on; `EVERY_CHECK`
            in the place of a check for that measure of all.
    """

    def build(function: Callable[..., Evidence]) -> Check:
        fits = (frozenset(needs), frozenset(modality), frozenset(tasks))
        return Check(name, version, function, *fits, weighted, frozenset(measures), frozenset(doubts))

    return build


def asked_products(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the positional parameters of a check or a product: what it asks for."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds)


def _docstring(function: Callable[..., Any]) -> tuple[str, str]:
    title, _, text = (inspect.getdoc(function) or "").partition("\n")
    return title.strip().removesuffix("."), text.strip()


def _settings_model(item: Check) -> Any:
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {}
    for parameter in inspect.signature(item.measure).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                f"check '{item.name}': its setting '{parameter.name}' has no default; give it one."
            )
        fields[parameter.name] = (_annotation(item, parameter), parameter.default)
    return create_model(item.name, __config__=ConfigDict(extra="forbid"), **fields)


def _annotation(item: Check, parameter: inspect.Parameter) -> Any:
    """The annotation as a type. Only settings are evaluated: `Model` may be imported for typing alone."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        raise ConfigError(f"check '{item.name}': its setting '{parameter.name}' has no type; annotate it.")
    if isinstance(annotation, str):
        return eval(annotation, item.measure.__globals__)  # noqa: S307 - the plugin's own source, as the interpreter reads it
    return annotation
