"""Evidence: what a check measured. Numbers, counts, tables, figures and caveats; never a verdict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Scalar = bool | int | float | str
Cell = Scalar | None
Better = Literal["higher", "lower", "zero", "one", "neither"]
Turned = Literal["wrong", "other", "lost", "gained"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number with its interval, and enough counts to derive both again.

    Attributes:
        name: the field's standard term, e.g. `accuracy`, `selection_rate`.
        value: the point estimate; None when undefined (0/0), and then `reason` says why.
        low: lower end of the interval at `level`, in the unit of the measure.
        high: upper end of the interval at `level`.
        level: two-sided confidence level of the interval, in (0, 1).
        method: name of the interval method, a key of `audit.stats.METHODS` where it can be derived again.
        statistics: the sufficient statistics of `method` (counts, sums), so that the value and the
            interval can be computed again at any level from the record alone.
        n: number of rows behind the value.
        group: the sensitive group or class it speaks of; empty for the whole.
        settings: the settings it depends on, e.g. `{"epsilon": 0.03}`.
        unit: `share`, `rows`, `ratio`, ... for the reader.
        better: which direction is better for the reader of a chart.
        reason: why the value is undefined.
        unreliable: why the number must not be relied on (an attack that failed its self-checks);
            a measure with a reason here can never PASS.
        too_few: the counts, where fewer rows than the floor of the check stand behind the number: it is
            shown and never judged.
        left_out: what was counted and takes no part in the number, with its counts; every judgement on the
            measure says it.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str = ""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    n: int | None = None
    group: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    unit: str = "share"
    better: Better = "neither"
    reason: str = ""
    unreliable: str = ""
    too_few: str = ""
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A small table for the reader and for `verify`; counts, never rows of data."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a picture shows, as data; how it looks is decided by the templates.

    Attributes:
        name: unique within the finding.
        title: says the finding in words.
        kind: `heatmaps` (attributions over images), `bars` (signed values), `curve` (value over x), `swarm`
            (how a signed value is distributed over rows, for each of some features).
        alt: text alternative for a reader who cannot see it.
        data: JSON values, per kind: bars `{"labels", "values", "low", "high"}`; curve
            `{"x_label", "y_label", "series": [{"name", "x", "y", "low", "high"}]}`, and where it is known
            how many rows stand behind each stretch of x, `"density": {"edges", "counts"}`; swarm
            `{"x_label", "labels", "edges", "counts", "shades"}`, counts of rows per feature and bin, and
            the mean rank of the feature's own value there, 0 to 1; heatmaps
            `{"captions", "images", "values"}`, the last two naming arrays of the evidence.
    """

    name: str
    title: str
    kind: Literal["heatmaps", "bars", "curve", "swarm"]
    alt: str
    data: Mapping[str, Any]


EVERY_CHECK = "*"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """What one check found that makes numbers of other checks unfit to pass.

    Attributes:
        checks: full names of the checks it speaks of; `EVERY_CHECK` for all, those of plugins among them.
        measures: names of their measures.
        reason: why they must not be relied on, as the end of a sentence.
    """

    checks: Sequence[str]
    measures: Sequence[str]
    reason: str

    def speaks_of(self, check: str, measure: str) -> bool:
        """Whether a number of a check is among those in doubt."""
        return measure in self.measures and (check in self.checks or EVERY_CHECK in self.checks)


@dataclass(frozen=True, kw_only=True)
class Altered:
    """One change that a check made to rows, and the rows whose answer it turned.

    Attributes:
        words: what was done to them: `gaussian_noise at severity 3`.
        rows: [K] int64 indices in the data, the most telling first.
        make: the changed inputs [n, ...] float32 of n of these rows; asked for those alone that are kept.
        turned: `wrong`, the answer is no longer the label; `other`, it is no longer what it was; `lost` and
            `gained`, it was and is no longer the favourable class, or the other way.
        attack: `method`, `norm`, `scale` and `epsilon` where each changed row must lie within a distance of
            its own, so that a replay measures that again; empty where no distance is meant.
    """

    words: str
    rows: Any
    make: Callable[[Any], Any]
    turned: Turned = "wrong"
    attack: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything one check measured.

    Attributes:
        measures: numbers with intervals.
        tables: small tables, counts rather than rows.
        figures: what to draw.
        caveats: sentences a reader must know before relying on the numbers.
        arrays: numpy arrays that figures refer to; the run stores them as one artifact.
        doubts: numbers of other checks that this evidence makes unreliable.
        outcomes: what the model did with each row (`audit.outcomes.Outcomes`), kept beside the record so that
            another model can be compared on the same rows; None keeps nothing.
        attack: what an attack found (`audit.attack.result.AttackResult`), so that some of its examples can be
            kept where a limit is broken; None where nothing was attacked.
        altered: the changes behind a measure and the rows that they turned, of the whole data; some of them
            are kept where a limit on it is broken. None where rows are not changed, or only by `attack`.
    """

    measures: Sequence[Measure]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    caveats: Sequence[str] = ()
    arrays: Mapping[str, Any] = field(default_factory=dict)
    doubts: Sequence[Doubt] = ()
    outcomes: Any = field(default=None, metadata={"beside": True})
    attack: Any = field(default=None, metadata={"beside": True})
    altered: Callable[[Measure], Iterable[Altered]] | None = field(default=None, metadata={"beside": True})
