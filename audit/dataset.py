"""Dataset: the inputs, labels and sensitive features that a model is audited on. Numpy only, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from audit.errors import NotApplicable

UNKNOWN = "unknown"
_BY_ROW = ("inputs", "labels", "sensitive", "controls", "missing", "decisions", "scores", "targets")
Modality = Literal["tabular", "image", "series"]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_NOT_KNOWN: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature as the user knows it, and where it stands in the model's input.

    Attributes:
        name: the user's name for it.
        kind: `numeric`, `ordinal` (whole steps) or `categorical` (one-hot columns).
        columns: indices of its columns in a flat input row; several for a one-hot group.
        categories: names of the one-hot columns, in the order of `columns`.
        low: smallest value allowed in the model's input, None when not stated.
        high: largest value allowed.
        immutable: a person cannot change it, so no attack may.
        direction: the only way in which it may change, in the user's units; None for both.
        step: it changes by whole multiples of this, in the user's units; None when not stated.
        cost: what a change by one of the user's units costs, or any change of a category; None when not
            stated.
        dropped: name of the category that no column stands for (all of them 0); empty for none.
        unit: how many of the user's units one unit of the model's input is, below 0 where an encoder turns
            the scale over; None where an encoder does not keep proportions.
        zero: the user's value where the model's input is 0.
    """

    name: str
    kind: Literal["numeric", "ordinal", "categorical"] = "numeric"
    columns: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    immutable: bool = False
    direction: Literal["increase", "decrease"] | None = None
    step: float | None = None
    cost: float | None = None
    dropped: str = ""
    unit: float | None = 1.0
    zero: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A sum over features that holds for every row: low <= sum of factor * value <= high.

    Attributes:
        terms: (name of a feature of one input column, its factor), in the user's units.
        low: smallest value of the sum, None for no such bound.
        high: largest value; equal to `low` where the sum is one number.
    """

    terms: tuple[tuple[str, float], ...]
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """As a reader writes it: `gain - loss >= 0`."""
        parts = [f"{'-' if factor < 0 else '+'} {_times(abs(factor))}{name}" for name, factor in self.terms]
        total = " ".join(parts).removeprefix("+ ")
        if self.low is not None and self.low == self.high:
            return f"{total} = {self.low:g}"
        below = "" if self.low is None else f"{self.low:g} <= "
        above = "" if self.high is None else f" <= {self.high:g}"
        return f"{total} >= {self.low:g}" if self.high is None else f"{below}{total}{above}"


def _times(factor: float) -> str:
    return "" if factor == 1 else f"{factor:g} "


@dataclass(frozen=True, kw_only=True)
class Sensitive:
    """A sensitive feature as codes into its groups. Missing values are a group called `unknown`.

    Attributes:
        name: the column's name.
        groups: group names; `unknown`, where it occurs, is the last.
        codes: [N] index into `groups` for each row.
    """

    name: str
    groups: tuple[str, ...]
    codes: Ints


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a model is audited on. Arrays are read-only.

    Attributes:
        inputs: [N, ...] float32 in the user's raw units: images [N, C, H, W], tabular rows [N, D]; D is 0
            in a table of decisions that names no inputs.
        labels: [N] class indices. Left out where the true outcomes are not known; then `labelled` is False,
            and whoever asks for them is told so by `NotApplicable`.
        modality: kind of input.
        classes: class names, in the order of the model's outputs.
        favourable: index of the outcome that is good for a person; None when there is none.
        features: what each input column means; empty for images.
        relations: sums over features that hold for every row.
        sensitive: sensitive features by name.
        controls: features that a comparison may be held constant at, by name.
        missing: [N] whether the value of a feature was missing before it was encoded, by feature name; only
            features of which some value was.
        decisions: [N] class index that the data state as the decision; None where a model decides.
        scores: [N] probability of the favourable class that the data state, in [0, 1]; None where they
            state none.
        targets: [N] true values of a regression, in the user's unit; None for a classification. Where they
            are there, `classes` is empty and there are no labels.
        people: [N] how many people each row stands for, at least 1; None where each row is one person. All
            other arrays hold a row once, however many people it stands for.
        fingerprint: sha256 over inputs, labels, groups, feature descriptions, relations and people.
        source: what was read and how (file, reader, rows kept and left out), for the record.
        caveats: sentences a reader must know, e.g. how many unknown categories were encoded as none.
    """

    inputs: Floats
    labels: Ints = field(default_factory=lambda: _NOT_KNOWN, repr=False)
    modality: Modality
    classes: tuple[str, ...]
    favourable: int | None = None
    features: tuple[Feature, ...] = ()
    relations: tuple[Relation, ...] = ()
    sensitive: Mapping[str, Sensitive] = field(default_factory=dict)
    controls: Mapping[str, Sensitive] = field(default_factory=dict)
    missing: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    decisions: Ints | None = None
    scores: Doubles | None = None
    targets: Doubles | None = None
    people: Ints | None = None
    fingerprint: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    caveats: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.labels is _NOT_KNOWN:
            object.__delattr__(self, "labels")

    if not TYPE_CHECKING:
        # A check that was written for labelled rows must not count placeholders where there are none.
        def __getattr__(self, name: str) -> Any:
            if name == "labels":
                raise NotApplicable("the data hold no true outcomes; [data] target names their column")
            raise AttributeError(f"a Dataset has no attribute '{name}'")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.inputs)

    @property
    def size(self) -> int:
        """Number of people; that of the rows where each row is one person."""
        return len(self) if self.people is None else int(self.people.sum())

    def counted(self, members: npt.NDArray[np.bool_]) -> int:
        """Number of people in the rows that are marked; `members` is [N]."""
        return int(members.sum() if self.people is None else self.people[members].sum())

    @property
    def labelled(self) -> bool:
        """Whether the true outcomes are known."""
        return "labels" in vars(self)

    def feature_of_column(self) -> Ints:
        """[D] index of the feature that owns each column of a flat input row."""
        owner = np.zeros(int(np.prod(self.inputs.shape[1:])), dtype=np.int64)
        for index, feature in enumerate(self.features):
            owner[list(feature.columns)] = index
        return owner

    def column_bounds(self) -> tuple[Floats, Floats]:
        """[D], [D] smallest and largest value of each column: as stated, else as seen in the data."""
        flat = self.inputs.reshape(len(self), -1)
        low, high = flat.min(axis=0), flat.max(axis=0)
        for feature in self.features:
            columns = list(feature.columns)
            low[columns] = low[columns] if feature.low is None else feature.low
            high[columns] = high[columns] if feature.high is None else feature.high
        return low, high


def sample_rows(data: Dataset, rows: int, seed: int) -> Ints:
    """Up to `rows` row indices, drawn without replacement by `seed`, sorted; all rows when fewer."""
    if rows >= len(data):
        return np.arange(len(data), dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(len(data), size=rows, replace=False)
    return np.sort(chosen).astype(np.int64)


def written_out(data: Dataset) -> Dataset:
    """The same people with a row for each of them, in the order of the rows; arrays are read-only."""
    if data.people is None:
        return data
    people = data.people

    def each(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return _frozen(np.repeat(value, people, axis=0))
        if isinstance(value, Sensitive):
            return replace(value, codes=each(value.codes))
        if isinstance(value, Mapping):
            return {key: each(item) for key, item in value.items()}
        return value

    known = {key: value for key, value in vars(data).items() if key in _BY_ROW}
    return Dataset(**{**vars(data), **{key: each(value) for key, value in known.items()}, "people": None})


def _frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array
