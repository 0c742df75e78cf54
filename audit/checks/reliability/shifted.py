"""What a model answers when the rows are spoilt by an accident, light or heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from audit.dataset import Dataset, Doubles, Ints, sample_rows
from audit.errors import ConfigError, NotApplicable, nearest
from audit.evidence import Scalar
from audit.reliability.answers import Answers, answers

if TYPE_CHECKING:
    from torch import Tensor

    from audit.model import Model
    from audit.products.predictions import Predictions

Severities = Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)]
Spoil = Callable[["Tensor", int, Ints], "Tensor"]
Change = Callable[["Tensor", Ints], "Tensor"]
_IMAGES = "gaussian_noise"
_TABLES = ("numeric_noise", "category_swaps", "missing_values")


@dataclass(frozen=True)
class Condition:
    """The rows as they are, or after one corruption at one severity.

    Attributes:
        settings: empty, or `{"corruption": name, "severity": 1 to 5}`.
        answers: what the model says then.
    """

    settings: Mapping[str, Scalar]
    answers: Answers

    @property
    def name(self) -> str:
        """In a reader's words."""
        if not self.settings:
            return "as they are"
        return f"{self.settings['corruption']}, severity {self.settings['severity']}"

    @property
    def label(self) -> str:
        """As short as a line of a figure has room for."""
        return f"severity {self.settings['severity']}" if self.settings else "as they are"


def spoiler(model: Model, data: Dataset, seed: int, corruption: str) -> tuple[str, Spoil]:
    """The name of a corruption that fits the data, and what applies it to raw inputs.

    Args:
        model: its `input_range` bounds images; [0, 1] where it states none.
        data: the rows.
        seed: of the audit.
        corruption: a name; empty for a measuring error (noise), or what else fits a table.

    Raises:
        NotApplicable: the data are neither images nor a table, or the corruption does not fit them.
    """
    if data.modality == "image":
        return _image_spoiler(model, data, seed, corruption or _IMAGES)
    if data.modality == "tabular":
        return _table_spoiler(data, seed, corruption)
    raise NotApplicable(f"the inputs are {data.modality}; corruptions are made for images and tables")


def _image_spoiler(model: Model, data: Dataset, seed: int, name: str) -> tuple[str, Spoil]:
    from audit.shift.corruptions import CORRUPTIONS, corrupt, refuse_shape

    if name not in CORRUPTIONS:
        raise ConfigError(f"there is no image corruption '{name}'{nearest(name, CORRUPTIONS)}")
    refuse_shape(data.inputs.shape)
    low, high = model.input_range or (0.0, 1.0)
    return name, lambda inputs, severity, rows: corrupt(inputs, name, severity, rows, seed, low, high)


def _table_spoiler(data: Dataset, seed: int, asked: str) -> tuple[str, Spoil]:
    from audit.shift.tabular import STRENGTHS, columns, corrupt, fits

    if asked and asked not in STRENGTHS:
        raise ConfigError(f"there is no tabular corruption '{asked}'{nearest(asked, STRENGTHS)}")
    table = columns(data)
    name = next((item for item in ([asked] if asked else _TABLES) if fits(item, table)), None)
    if name is None:
        raise NotApplicable(f"no feature of the table can be changed by {asked or ' or '.join(_TABLES)}")
    return name, lambda inputs, severity, rows: corrupt(inputs, name, severity, rows, seed, table)


def scores_under(model: Model, data: Dataset, rows: Ints, change: Change) -> Doubles:
    """[R, C] scores of changed rows, as float64.

    Args:
        model: every row sent through it is counted.
        data: the rows.
        rows: [R] indices of the rows to look at, at least one.
        change: takes raw inputs [n, ...] on the model's device and their indices, gives changed inputs.
    """
    import torch

    def work(part: slice) -> tuple[torch.Tensor]:
        with torch.no_grad():
            changed = change(model.tensor(data.inputs[rows[part]]), rows[part])
            return (model.scores(changed).double().cpu(),)

    found: Doubles = model.in_batches(work, len(rows))[0].numpy()
    return found


def clean(data: Dataset, predictions: Predictions) -> Condition:
    """All rows as they are."""
    every = sample_rows(data, len(data), 0)
    return Condition({}, answers(predictions.scores, data.labels, every))


def spoilt(
    model: Model, data: Dataset, seed: int, corruption: str, severities: Sequence[int], rows: Ints
) -> list[Condition]:
    """The rows with these indices after a corruption at each severity, ascending."""
    name, spoil = spoiler(model, data, seed, corruption)
    found = []
    for severity in sorted(set(severities)):
        scores = scores_under(model, data, rows, _at(spoil, severity))
        settings: dict[str, Scalar] = {"corruption": name, "severity": severity}
        found.append(Condition(settings, answers(scores, data.labels[rows], rows)))
    return found


def _at(spoil: Spoil, severity: int) -> Change:
    return lambda inputs, rows: spoil(inputs, severity, rows)


def lost_caveats(conditions: Sequence[Condition]) -> list[str]:
    """How many rows were left out, where some were."""
    return [
        f"With the rows {item.name}, {item.answers.lost} of {item.answers.lost + len(item.answers)} have "
        "scores that are not finite numbers and are left out."
        for item in conditions
        if item.answers.lost
    ]
