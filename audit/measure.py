"""Measure: run one check on a loaded model and turn whatever happens into a finding.

A check that raises, returns something else than evidence, reports NaN or leaves the model changed is
BROKEN; the run goes on. Products are computed once and shared.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audit.check import GIVEN, Check, asked_products
from audit.dataset import Dataset, written_out
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Evidence
from audit.jsontext import parse_json
from audit.model import Model, state_hash
from audit.outcomes import store as store_outcomes
from audit.read import fingerprint
from audit.record import Artifact, Cost, Finding, canonical, finding_from
from audit.registry import Broken
from audit.reproducer import Wanted, keep_reproducers
from audit.shown import Subject
from audit.stats import interval_at

_TIMED_ROWS = 256
_TIMED_PASSES = 3
_REASON_LENGTH = 500
_OTHER_LEVEL = 0.99
Reread = Callable[[str, Mapping[str, Any]], Dataset]
_MOST_WRITTEN_OUT = 20_000_000
_MOST_NUMBERS = 1_000_000_000


def no_reread(path: str, where: Mapping[str, Any]) -> Dataset:
    """Stands for `reread` where the data were not read from an audit.toml."""
    del path, where
    raise NotApplicable("the data were handed over in memory, so there is no [data] to read other rows by")


@dataclass(frozen=True)
class Bench:
    """What checks share within one process.

    Attributes:
        model: the loaded model.
        data: the data it is audited on.
        seed: seed of every random draw.
        products: functions that make shared products, by name.
        made: products made so far.
        state: state hash of the untouched model.
        rows: fingerprint of the untouched data.
        row_seconds: seconds of one forward row and of one forward-and-gradient row, for the overhead.
        folder: where relative paths in settings start: beside audit.toml.
        reread: reads rows that match from another file (empty: the same one), the way `[data]` was read.
        wanted: the limits whose breach keeps a reproducer; None keeps none.
        outcomes: whether what became of each row is kept in the run folder.
    """

    model: Model
    data: Dataset
    seed: int
    products: Mapping[str, Callable[..., Any] | Broken]
    state: str
    rows: str
    row_seconds: tuple[float, float]
    folder: Path = Path()
    reread: Reread = no_reread
    wanted: Wanted | None = None
    outcomes: bool = True
    made: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def written_out(self) -> "Bench":
        """A bench with a row for each person and products of its own; this one where each row is one."""
        if self.data.people is None:
            return self
        data = written_out(self.data)
        return replace(self, data=data, rows=fingerprint(data), made={})


def set_up(
    model: Model,
    data: Dataset,
    seed: int,
    products: Mapping[str, Callable[..., Any] | Broken],
    folder: Path = Path(),
    reread: Reread = no_reread,
) -> Bench:
    """A bench for a model and its data; takes the state hash and times plain passes."""
    state, rows, seconds = state_hash(model.module), fingerprint(data), _time_rows(model, data)
    return Bench(model, data, seed, products, state, rows, seconds, folder, reread)


def measure(check: Check, settings: Mapping[str, Any], bench: Bench, folder: Path | None) -> Finding:
    """Run one check and return its finding, unjudged.

    Args:
        check: the check.
        settings: complete, validated settings.
        bench: model, data and shared products.
        folder: run folder for artifacts; None keeps no arrays, so figures that need them are left out.
    """
    empty = Finding(
        check=check.name,
        version=check.version,
        title=check.title,
        text=check.text,
        status="broken",
        settings=dict(settings),
    )
    misfit = fitting(check, bench.model, bench.data)
    if misfit:
        return replace(empty, status="not_applicable", reason=misfit)
    given = bench if check.weighted else bench.written_out
    before = replace(bench.model.passes)
    started = time.perf_counter()
    finding, evidence = _attempt(check, empty, given, folder)
    seconds = time.perf_counter() - started
    finding = replace(finding, cost=_cost(bench, before.forward, before.backward, seconds))
    if not is_untouched(given):
        return replace(
            empty,
            cost=finding.cost,
            reason="the check left the model or the data changed (parameters, buffers, gradients, mode, "
            "hooks, rows), so nothing it measured is used",
        )
    return finding if evidence is None else _with_reproducers(finding, evidence, given, folder)


def _with_reproducers(finding: Finding, evidence: Evidence, bench: Bench, folder: Path | None) -> Finding:
    """The finding with what replays each broken limit; what cannot be kept spoils no number."""
    if bench.wanted is None or folder is None:
        return finding
    counted = replace(bench.model.passes)
    subject = Subject(bench.model, bench.data, bench.seed, bench.made.get("predictions"))
    try:
        kept = keep_reproducers(finding, evidence, subject, bench.wanted, folder)
    except Exception as error:  # noqa: BLE001 - a plugin's evidence may hold anything
        said = f"No reproducer of a broken limit could be kept: {_one_line(error)}."
        return replace(finding, caveats=(*finding.caveats, said))
    finally:
        bench.model.passes.forward, bench.model.passes.backward = counted.forward, counted.backward
    return replace(finding, artifacts=(*kept, *finding.artifacts))


def is_untouched(bench: Bench) -> bool:
    """Whether model and data are still what they were when the bench was set up."""
    made = vars(bench).get("written_out", bench)
    given = (bench,) if made is bench else (bench, made)
    same = all(fingerprint(item.data) == item.rows for item in given)
    return same and state_hash(bench.model.module) == bench.state


def fitting(check: Check, model: Model, data: Dataset) -> str:
    """Why the check does not fit this model and data; empty when it fits."""
    # A model that fails the pre-flight has lost even `logits`; only a check of the data alone may go on.
    given = {"data", "seed", "folder", "reread", *({"predictions"} & model.capabilities)}
    implied = {"logits"} if set(check.asks) - given else set()
    missing = sorted((check.needs | implied) - model.capabilities)
    if missing:
        why = f": {' '.join(model.ruled_out)}" if model.ruled_out else ""
        return f"it needs {', '.join(missing)} of the model{why}"
    if check.modality and data.modality not in check.modality:
        return f"it is made for {' and '.join(sorted(check.modality))} inputs; these are {data.modality}"
    if check.tasks and model.task not in check.tasks:
        return f"it is made for {' and '.join(sorted(check.tasks))}; this model's task is {model.task}"
    return "" if check.weighted or data.people is None else _too_many(data)


def _too_many(data: Dataset) -> str:
    """Why there cannot be a row for each person; empty when there can."""
    width = math.prod(data.inputs.shape[1:])
    if data.size <= _MOST_WRITTEN_OUT and data.size * width <= _MOST_NUMBERS:
        return ""
    return (
        f"it looks at a row for each person, and the data count {data.size:,} people of {width} inputs each; "
        f"at most {_MOST_WRITTEN_OUT:,} people and {_MOST_NUMBERS:,} inputs are written out"
    )


def _attempt(
    check: Check, empty: Finding, bench: Bench, folder: Path | None
) -> tuple[Finding, Evidence | None]:
    """The finding with its evidence, or the reason there is none. Anything a plugin raises ends here."""
    _reset(bench.seed)
    try:
        given = {name: _product(name, bench) for name in check.asks}
        evidence = check.measure(**given, **empty.settings)
        _refuse_undeclared(check, evidence)
        return _with_evidence(empty, evidence, folder, outcomes=bench.outcomes), evidence
    except NotApplicable as error:
        return replace(empty, status="not_applicable", reason=str(error)), None
    except NotEvaluable as error:
        return replace(empty, status="not_evaluable", reason=str(error)), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises becomes a finding
        return replace(empty, reason=_one_line(error)), None


def _refuse_undeclared(check: Check, evidence: Any) -> None:
    """A document relies on what a check declares, so what it declares must be all that it measures."""
    for item in evidence.measures if check.measures and isinstance(evidence, Evidence) else ():
        if item.name not in check.measures:
            hint = nearest(item.name, check.measures)
            raise ValueError(f"the check measured '{item.name}', which it does not declare{hint}")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:_REASON_LENGTH]


def _reset(seed: int) -> None:
    """Start every check from the same state of torch and of the random generators."""
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    seed_everything(seed)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and through them the libraries that know no explicit generator."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - shap, lime and ART draw from the global generator


def _product(name: str, bench: Bench, path: tuple[str, ...] = ()) -> Any:
    """A given thing or a product by name; products may ask for products."""
    given = {name: getattr(bench, name) for name in GIVEN}
    if name in given:
        return given[name]
    if name in bench.made:
        return bench.made[name]
    function = bench.products.get(name)
    if function is None:
        raise ConfigError(f"there is no product '{name}'{nearest(name, [*given, *bench.products])}")
    if isinstance(function, Broken):
        raise ConfigError(function.reason)
    if name in path:
        raise ConfigError(f"products ask for each other in a circle: {' > '.join([*path, name])}")
    asked = {item: _product(item, bench, (*path, name)) for item in asked_products(function)}
    bench.made[name] = function(**asked)
    return bench.made[name]


def _with_evidence(empty: Finding, evidence: Any, folder: Path | None, *, outcomes: bool = True) -> Finding:
    if not isinstance(evidence, Evidence):
        raise TypeError(f"the check returned a {type(evidence).__name__}, not Evidence")
    if not evidence.measures and not evidence.tables:
        raise NotEvaluable("the check returned no number and no table")
    for item in evidence.measures:
        numbers = (item.value, item.low, item.high)
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ValueError(f"the measure '{item.name}' is {numbers}; an undefined value must be None")
    artifacts = _store(empty.check, evidence, folder, outcomes=outcomes)
    figures = evidence.figures if folder else [f for f in evidence.figures if f.kind != "heatmaps"]
    finding = replace(
        empty,
        status="measured",
        measures=tuple(evidence.measures),
        tables=tuple(evidence.tables),
        figures=tuple(figures),
        caveats=tuple(evidence.caveats),
        doubts=tuple(evidence.doubts),
        artifacts=artifacts,
    )
    # What cannot be written, read back or derived again must not get as far as the record.
    for item in finding.measures:
        interval_at(item, _OTHER_LEVEL)
    return finding_from(parse_json(canonical(finding), finding.check))


def _store(name: str, evidence: Evidence, folder: Path | None, *, outcomes: bool) -> tuple[Artifact, ...]:
    """Write the arrays as one npz below the run folder, and what became of each row as another."""
    if folder is None:
        return ()
    kept = evidence.outcomes if outcomes else None
    by_row = () if kept is None else (store_outcomes(kept, folder),)
    if not evidence.arrays:
        return by_row
    relative = f"artifacts/{name}.npz"
    path = folder / relative
    path.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in evidence.arrays.items()}
    np.savez_compressed(path, **arrays)
    return (Artifact(path=relative, sha256=hashlib.sha256(path.read_bytes()).hexdigest()), *by_row)


def _time_rows(model: Model, data: Dataset) -> tuple[float, float]:
    """Seconds of one forward row and of one forward-and-gradient row: the best of three passes.

    Both are 0 where no model is run, which leaves the overhead undefined.
    """
    if "predictions" in model.capabilities:
        return 0.0, 0.0
    rows = model.tensor(data.inputs[: min(_TIMED_ROWS, len(data), model.passes.batch)])
    counted = replace(model.passes)

    def forward() -> None:
        with torch.no_grad():
            model.in_batches(lambda part: (model.scores(rows[part]),), len(rows))

    def gradient() -> None:
        model.in_batches(
            lambda part: model.input_gradient(rows[part], lambda scores: scores.sum(dim=1)), len(rows)
        )

    forward_seconds = _best_time(forward, model.device) / len(rows)
    able = "gradients" in model.capabilities
    gradient_seconds = _best_time(gradient, model.device) / len(rows) if able else forward_seconds
    model.passes.forward, model.passes.backward = counted.forward, counted.backward
    return forward_seconds, gradient_seconds


def _best_time(work: Callable[[], None], device: torch.device) -> float:
    times = []
    for _ in range(_TIMED_PASSES):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _cost(bench: Bench, forward_before: int, backward_before: int, seconds: float) -> Cost:
    passes = bench.model.passes
    forward, backward = passes.forward - forward_before, passes.backward - backward_before
    plain_seconds = (forward - backward) * bench.row_seconds[0] + backward * bench.row_seconds[1]
    cuda = bench.model.device.type == "cuda"
    return Cost(
        forward_rows=forward,
        backward_rows=backward,
        seconds=seconds,
        overhead=seconds / plain_seconds if plain_seconds > 0 else None,
        peak_bytes=torch.cuda.max_memory_allocated(bench.model.device) if cuda else None,
    )
