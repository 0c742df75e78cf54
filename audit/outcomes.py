"""Outcomes: what a model did with each row, kept beside the record so that two models can be compared.

One array holds one thing about every row: bits, small integers or single floats. Never the inputs. The file
is named after its content, so that checks which keep the same share one file, and none is overwritten.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audit.arrays import opened_arrays
from audit.dataset import Dataset, Floats, Ints
from audit.errors import ConfigError, NotApplicable
from audit.plainfile import real_path
from audit.record import Artifact

Flags = npt.NDArray[np.bool_]
MOST_ROWS = 10_000_000
_PREFIX = "artifacts/outcomes-"
_BINARY = 2


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What a model did with R rows of the data.

    Attributes:
        rows: [R] their indices in the data, rising.
        flags: [R] yes or no, by name: `correct`, `finite`, `robust 0.1` (still correct under attack).
        codes: names and [R] an index into them, by name: `label`, `predicted`, `group sex`.
        numbers: [R] by name: `score`, the log-odds of the favourable class; `confidence`, the probability of
            the predicted one.
        favourable: name of the favourable class; empty for none.
    """

    rows: Ints
    flags: Mapping[str, Flags] = field(default_factory=dict)
    codes: Mapping[str, tuple[tuple[str, ...], Ints]] = field(default_factory=dict)
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    favourable: str = ""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def coded(self, name: str) -> tuple[tuple[str, ...], Ints | None]:
        """Names and codes of this name; no codes where they are not kept."""
        return self.codes.get(name) or ((), None)


def answers(data: Dataset, predictions: Any) -> Outcomes | None:
    """What the model answered to every row, with the labels and groups that its numbers depend on.

    None where a row stands for several people, or there are more than `MOST_ROWS`.

    Args:
        data: labels and groups.
        predictions: the `audit.products.predictions.Predictions` of all rows.
    """
    if data.people is not None or len(data) > MOST_ROWS:
        return None
    labels = {"label": data.labels} if data.labelled else {}
    seen = {**labels, "predicted": predictions.predicted}
    names = _class_names(data, [*seen.values()])
    favourable = "" if data.favourable is None else names[data.favourable]
    flags = {"finite": np.asarray(predictions.finite)}
    if data.labelled:
        flags["correct"] = (predictions.predicted == data.labels) & predictions.finite
    rows = np.arange(len(data), dtype=np.int64)
    codes = {key: (names, value) for key, value in seen.items()} | _groups(data, rows)
    numbers = _numbers(data, predictions)
    return Outcomes(rows=rows, flags=flags, codes=codes, numbers=numbers, favourable=favourable)


def attacked(data: Dataset, result: Any) -> Outcomes:
    """Which of the attacked rows were right, and which stayed so at each radius.

    Args:
        data: the groups.
        result: the `audit.attack.result.AttackResult`.
    """
    robust = {f"robust {float(entry.epsilon)!r}": result.robust(entry.epsilon) for entry in result.at}
    flags = {"correct": result.correct, **robust}
    return Outcomes(rows=result.rows, flags=flags, codes=_groups(data, result.rows))


def _class_names(data: Dataset, seen: Sequence[Ints]) -> tuple[str, ...]:
    most = max([len(data.classes), *(int(values.max()) + 1 for values in seen if len(values))])
    return (*data.classes, *(f"output {k}" for k in range(len(data.classes), most)))


def _groups(data: Dataset, rows: Ints) -> dict[str, tuple[tuple[str, ...], Ints]]:
    return {f"group {item.name}": (item.groups, item.codes[rows]) for item in data.sensitive.values()}


def _numbers(data: Dataset, predictions: Any) -> dict[str, Floats]:
    """The log-odds of the favourable class; the confidence too where it does not follow from them."""
    try:
        stated = getattr(predictions, "scores", None)
    except NotApplicable:
        stated = None
    if stated is None:
        return {}
    scores = np.asarray(stated, dtype=np.float64)
    found: dict[str, Floats] = {}
    with np.errstate(invalid="ignore"):
        if data.favourable is not None:
            others = np.delete(scores, data.favourable, axis=1)
            odds = scores[:, data.favourable] - np.logaddexp.reduce(others, axis=1)
            found["score"] = odds.astype(np.float32)
        if scores.shape[1] != _BINARY or data.favourable is None:
            top = scores.max(axis=1) - np.logaddexp.reduce(scores, axis=1)
            found["confidence"] = np.exp(top).astype(np.float32)
    return found


def store(outcomes: Outcomes, run: Path) -> Artifact:
    """Write the outcomes into the run folder, or find them there, and name the file with its hash."""
    arrays = _arrays(outcomes)
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    relative = f"{_PREFIX}{digest.hexdigest()[:16]}.npz"
    path = run / relative
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options
        part.replace(path)
    return Artifact(path=relative, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _arrays(outcomes: Outcomes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the file. Names of a user stand in one text, for they may be anything."""
    size = len(outcomes)
    names = {
        "size": size,
        "favourable": outcomes.favourable,
        "flags": list(outcomes.flags),
        "codes": [[name, list(groups)] for name, (groups, _) in outcomes.codes.items()],
        "numbers": list(outcomes.numbers),
    }
    found: dict[str, npt.NDArray[Any]] = {"names": np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)}
    if not np.array_equal(outcomes.rows, np.arange(size)):
        found["rows"] = outcomes.rows.astype(np.int64)
    found |= {f"flag {k}": np.packbits(flag) for k, flag in enumerate(outcomes.flags.values())}
    for k, (groups, codes) in enumerate(outcomes.codes.values()):
        found[f"code {k}"] = codes.astype(np.min_scalar_type(len(groups)))
    numbers = enumerate(outcomes.numbers.values())
    return found | {f"number {k}": item.astype(np.float32) for k, item in numbers}


def read(artifacts: Sequence[Artifact], run: Path | None) -> Outcomes | None:
    """The outcomes among the artifacts of a finding; None where it kept none or the file is not there.

    Raises:
        ConfigError: the file was altered after the audit or cannot be read.
    """
    kept = [item for item in artifacts if item.path.startswith(_PREFIX)]
    if not kept or run is None:
        return None
    path = run / kept[0].path
    if "\0" in kept[0].path or not real_path(path).is_relative_to(real_path(run)) or not path.is_file():
        return None
    if hashlib.sha256(path.read_bytes()).hexdigest() != kept[0].sha256:
        raise ConfigError(f"{path} was altered after the audit: its sha256 is not the one in the record.")
    try:
        with opened_arrays(path) as arrays:
            return _from_arrays(dict(arrays))
    except (ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"{path} cannot be read as outcomes: {error}.") from None


def is_outcomes(item: Artifact) -> bool:
    """Whether an artifact of a finding holds outcomes."""
    return item.path.startswith(_PREFIX)


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Outcomes:
    names = json.loads(arrays["names"].tobytes())
    size = int(names["size"])
    return Outcomes(
        rows=arrays["rows"] if "rows" in arrays else np.arange(size, dtype=np.int64),
        flags={
            name: np.unpackbits(arrays[f"flag {k}"], count=size).astype(np.bool_)
            for k, name in enumerate(names["flags"])
        },
        codes={
            name: (tuple(groups), arrays[f"code {k}"].astype(np.int64))
            for k, (name, groups) in enumerate(names["codes"])
        },
        numbers={name: arrays[f"number {k}"] for k, name in enumerate(names["numbers"])},
        favourable=names["favourable"],
    )
