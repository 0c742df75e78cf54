"""Replay: one broken limit, looked at again. Is the failure there, is it gone, or can it not be said?

The examples of an attack, and rows that a check changed in another way, are shown to the model again, which
takes a second. For any other failure its one check is measured again with the same settings, seed and rows,
and judged again; for a limit on a change it is compared again with the baseline, as `audit.compare` does it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.check import Check
from audit.compare import compare_records, sha256_of
from audit.config import Config
from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_LIMIT_BROKEN, EXIT_OK, AuditError, ConfigError
from audit.judge import judge_finding
from audit.outcomes import is_outcomes
from audit.plainfile import real_path
from audit.policy import Judgement, Verdict
from audit.record import Change, Finding, Record, as_read, read_record
from audit.registry import check_names, installed_check, installed_products
from audit.reproducer import Reproducer, read_reproducer, read_tensors
from audit.rerun import configured, refuse_other_facts, refuse_other_files, starts_at, trusted
from audit.shown import Arrays, classes_of, turned
from audit.waiver import Waivers
from audit.worker import compute_alike, load_both, read_more

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model

_DIGITS = 12
_FEASIBLE = "feasible"
_NAMED = 3
_DOES = {
    "wrong": "misclassifies",
    "other": "gives another answer to",
    "lost": "no longer gives the favourable class to",
    "gained": "now gives the favourable class to",
}
_UNKNOWN = "It cannot be said whether the failure is there"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of a failure.

    Attributes:
        finding: its fingerprint.
        check: full name of the check.
        limit: the limit in words.
        there: whether the failure is there; None where it cannot be said.
        sentence: the result.
        value: the number now, where the check was measured again.
        rows: each stored row that was changed and what became of it, where some are stored.
        model_sha256: of the model that was asked.
        data_sha256: of the data that were read.
        same_model: whether it is the model of the record.
        same_data: whether they are the data of the record.
    """

    finding: str
    check: str
    limit: str
    there: bool | None
    sentence: str
    value: float | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    model_sha256: str = ""
    data_sha256: str = ""
    same_model: bool = True
    same_data: bool = True

    @property
    def exit_code(self) -> int:
        """1 where the failure is there, 0 where it is not, 2 where it cannot be said."""
        if self.there is None:
            return EXIT_CANNOT_SAY_YES
        return EXIT_LIMIT_BROKEN if self.there else EXIT_OK

    def plain(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "exit_code": self.exit_code}


@dataclass(frozen=True)
class _Scene:
    """The reproducer with its rows, and the model and data that it is tried on."""

    told: Reproducer
    folder: Path
    tensors: Arrays
    config: Config
    model: "Model"
    data: "Dataset"
    about: Mapping[str, Any] = field(default_factory=dict)

    def answer(self, *, there: bool | None, sentence: str, **more: Any) -> Replayed:
        known: dict[str, Any] = {key: getattr(self.told, key) for key in ("finding", "check", "limit")}
        return Replayed(**known, there=there, sentence=sentence, **more, **self.about)


def replay(
    folder: Path, *, model: Path | None = None, data: Path | None = None, config: Path | None = None
) -> Replayed:
    """Look at one broken limit again.

    Args:
        folder: `RUN/artifacts/FINDING`.
        model: another model, to see whether it fails too; that of the record where None.
        data: other data.
        config: an audit.toml beside which the recorded paths start; the recorded place where None.

    Raises:
        ConfigError: the folder holds no reproducer, or a damaged one.
        LoadError: model or data are missing, are not those recorded and none other was named, or do not
            load.
    """
    told = read_reproducer(folder)
    tensors = read_tensors(folder, told)
    setting = _config(told, folder, config, model, data)
    place = f"the reproducer {told.finding}"
    known_model = {} if model else told.model
    known_data = {} if data else told.data
    refuse_other_files(setting, known_model, known_data, place)
    inside = folder if folder.is_dir() else folder.parent
    run, settings = real_path(inside).parent.parent, {told.check: told.settings}
    trusted(setting, str(folder), config, run, settings)
    compute_alike()
    network, rows = load_both(setting)
    found = {"model": _digests(network.fingerprint, network.source.get("factory_sha256")),
             "data": {"sha256": rows.source.get("sha256"), "fingerprint": rows.fingerprint}}  # fmt: skip
    recorded = {
        "model": found["model"] if model else told.model,
        "data": found["data"] if data else told.data,
    }
    refuse_other_facts(found, recorded, place)
    about = {
        "model_sha256": network.fingerprint,
        "data_sha256": str(rows.source.get("sha256") or rows.fingerprint),
        "same_model": network.fingerprint == told.model.get("sha256"),
        "same_data": rows.fingerprint == told.data.get("fingerprint"),
    }
    scene = _Scene(told, inside, tensors, setting, network, rows, about)
    ways = {"attack": _show_again, "altered": _alter_again, "change": _compare_again}
    try:
        return ways.get(told.kind, _measure_again)(scene)
    except AuditError as error:
        return scene.answer(there=None, sentence=f"{_UNKNOWN}: {error}")


def _digests(file: str, factory: Any) -> dict[str, Any]:
    return {"sha256": file, "factory_sha256": factory}


def _config(
    told: Reproducer, folder: Path, config: Path | None, model: Path | None, data: Path | None
) -> Config:
    """The configuration that was measured with, and what takes the place of its model and data."""
    inside = folder if folder.is_dir() else folder.parent
    known = configured(told.config, str(folder), told.batch_size, starts_at(config, inside / told.folder))
    section, rows = known.model, known.data
    if model is not None:
        section = section.model_copy(update={"path": model.absolute(), "loader": "auto"})
    if data is not None:
        rows = rows.model_copy(update={"path": data.absolute()})
    return known.model_copy(update={"model": section, "data": rows, "seed": told.seed})


def _show_again(scene: _Scene) -> Replayed:
    """Show the stored examples to the model again; distance, range and class are judged anew."""
    from audit.dataset import written_out

    kept = scene.tensors
    data = written_out(scene.data)
    _refuse_other_rows(scene, data)
    words, codes = _judged(scene, data)
    before, after = (classes_of(scene.model, kept[name]) for name in ("original", "adversarial"))
    rows = tuple(
        {
            "row": int(kept["rows"][place]),
            "label": int(kept["label"][place]),
            "before": int(before[place]),
            "after": int(after[place]),
            "fools": int(codes[place]) == 0,
            "why_not": words.get(int(codes[place]), ""),
        }
        for place in range(len(codes))
    )
    fools, wrong = int((codes == 0).sum()), int((after != kept["label"]).sum())
    if wrong > fools and not fools:
        lost = next(row["why_not"] for row in rows if row["after"] != row["label"])
        said = f"{_UNKNOWN}: the stored examples lie {lost}."
        return scene.answer(there=None, sentence=said, rows=rows)
    return scene.answer(there=fools > 0, sentence=_of_attack(scene, fools, len(rows)), rows=rows)


def _of_attack(scene: _Scene, fools: int, total: int) -> str:
    attack = scene.told.attack
    if fools:
        near = f"lie within epsilon {attack['epsilon']:g} of their rows and inside the valid range"
        likely = f"are changes that a person could make at a cost of {attack['epsilon']:g}"
        return (
            f"The failure is there: {fools} of {total} stored examples "
            f"{likely if attack['method'] == _FEASIBLE else near}, and {_model_of(scene)} misclassifies them."
        )
    return (
        f"The failure is not there: none of the {total} stored examples fools {_model_of(scene)}. Whether "
        "others do, only a new run can tell."
    )


def _model_of(scene: _Scene) -> str:
    if scene.about["same_model"]:
        return "the model"
    return f"this other model (sha256 {scene.model.fingerprint[:_DIGITS]})"


def _refuse_other_rows(scene: _Scene, data: "Dataset") -> None:
    """Refuse arrays that do not belong together, and originals that the data do not hold at their places.

    Where other data were named, the rows only have to be of the same form.
    """
    kept, width = scene.tensors, data.inputs.shape[1:]
    by_label = scene.told.kind == "attack" or any(item.turned == "wrong" for item in scene.told.altered)
    needed = ["rows", "original", "adversarial", *(["label"] if by_label else [])]
    needed += ["how"] if scene.told.kind == "altered" else []
    lengths = {len(kept[name]) if name in kept and kept[name].ndim else -1 for name in needed}
    forms = {kept[name].shape[1:] for name in ("original", "adversarial") if name in kept}
    if len(lengths) > 1 or min(lengths) < 1 or forms != {width}:
        raise ConfigError("the stored rows are damaged, or of another form than the data.")
    how = kept.get("how", kept["rows"][:0])
    if scene.told.kind == "altered" and not 0 <= how.min() <= how.max() < len(scene.told.altered):
        raise ConfigError("the stored rows are damaged: they name changes that are not told.")
    if scene.about["same_data"] and not _are_rows_of(kept, data):
        raise ConfigError("the stored rows are not in the data.")


def _are_rows_of(kept: Arrays, data: "Dataset") -> bool:
    """Whether the stored originals are what the data hold at the stored places."""
    rows = kept["rows"]
    if rows.dtype.kind not in "iu" or not 0 <= rows.min() <= rows.max() < len(data):
        return False
    same = np.array_equal(kept["original"], data.inputs[rows])
    return same and ("label" not in kept or np.array_equal(kept["label"], data.labels[rows]))


def _alter_again(scene: _Scene) -> Replayed:
    """Show the stored rows to the model again, as they were and as they were changed."""
    from audit.dataset import written_out

    kept, changes = scene.tensors, scene.told.altered
    _refuse_other_rows(scene, written_out(scene.data))
    before, after = (classes_of(scene.model, kept[name]) for name in ("original", "adversarial"))
    there = np.zeros(len(after), dtype=np.bool_)
    for place, change in enumerate(changes):
        fell = turned(change.turned, kept, before, after, scene.data.favourable)
        there |= (kept["how"] == place) & fell
    rows = tuple(
        {
            "row": int(kept["rows"][place]),
            "label": int(kept["label"][place]) if "label" in kept else None,
            "before": int(before[place]),
            "after": int(after[place]),
            "fools": bool(there[place]),
            "why_not": "",
            "how": changes[int(kept["how"][place])].words,
        }
        for place in range(len(after))
    )
    return scene.answer(there=bool(there.any()), sentence=_of_altered(scene, there), rows=rows)


def _of_altered(scene: _Scene, there: Any) -> str:
    changes = scene.told.altered
    does = _DOES[changes[0].turned]
    shown = [changes[place].words for place in np.unique(scene.tensors["how"][there])]
    if not shown:
        return (
            f"The failure is not there: {_model_of(scene)} {does} none of the {len(there)} stored rows that "
            "were changed. Whether others fall, only a new run can tell."
        )
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return (
        f"The failure is there: {_model_of(scene)} {does} {int(there.sum())} of {len(there)} stored rows "
        f"after the change ({'; '.join(shown[:_NAMED])}{more})."
    )


def _judged(scene: _Scene, data: "Dataset") -> tuple[Mapping[int, str], Any]:
    """Reasons by code, and the code of each stored example; 0 for one that fools the model."""
    from audit.attack import possible, verify
    from audit.attack.space import space

    attack, kept = scene.told.attack, scene.tensors
    points, radius = kept["adversarial"], float(attack["epsilon"])
    if attack["method"] == _FEASIBLE:
        if not scene.about["same_data"]:
            raise ConfigError(
                "what a person may change is judged on the rows of the record alone; leave out --data."
            )
        held: Sequence[str] = attack.get("protected", ())
        return possible.REASONS, possible.judged(scene.model, data, kept["rows"], points, radius, held)
    room = space(scene.model, data, attack["scale"])
    labels, norm = kept["label"].astype(np.int64), attack.get("norm", "linf")
    return verify.REASONS, verify.verify(scene.model, points, kept["original"], labels, room, norm, radius)


def _measure_again(scene: _Scene) -> Replayed:
    """Measure the one check with the same settings and seed, and hold it against the same limits."""
    finding, _ = _measured(scene, None)
    same = _judged_again(scene, judge_finding(finding, scene.told.policy))
    there = {Verdict.FAIL: True, Verdict.PASS: False}.get(same.verdict)
    number = _number(scene, same.value, scene.told.value, same=same.value == scene.told.value)
    return scene.answer(there=there, sentence=_of_limit(scene, same, number), value=same.value)


def _measured(scene: _Scene, folder: Path | None) -> tuple[Finding, str]:
    """What the check measures now, and the state hash of the model; its files go into the folder."""
    from functools import partial

    from audit.measure import measure, set_up

    told, config = scene.told, scene.config
    found = installed_check(told.check) if told.check in check_names() else None
    if not isinstance(found, Check):
        why = "is not installed" if found is None else found.reason
        raise ConfigError(f"the check {told.check} {why}.")
    reread = partial(read_more, config, scene.model)
    bench = set_up(scene.model, scene.data, told.seed, installed_products(), config.folder, reread)
    bench = replace(bench, outcomes=bool(told.baseline.get("outcomes", True)))
    finding = measure(found, found.settings(told.settings), bench, folder)
    if finding.status != "measured":
        raise ConfigError(f"{told.check} gave no number: {finding.reason}.")
    return finding, bench.state


def _judged_again(scene: _Scene, finding: Finding) -> Judgement:
    told = scene.told
    same = next((item for item in finding.verdicts if _is_same(item, told)), None)
    if same is None:
        raise ConfigError(f"{told.check} no longer measures {told.measure}{_whom(told)}.")
    return same


def _compare_again(scene: _Scene) -> Replayed:
    """Measure the one check again, and hold its change since the baseline against the same limits."""
    told = scene.told
    base, run = _baseline(scene)
    with TemporaryDirectory() as place:
        finding, state = _measured(scene, Path(place))
        new = _record_of(scene, base, finding, state)
        record = compare_records(base, new, (run, place), told.policy, Waivers())
    same = _judged_again(scene, record.findings[0])
    change = _change_of(record, same)
    there = {Verdict.FAIL: True, Verdict.PASS: False}.get(same.verdict)
    as_recorded = (same.value, change.new) == (told.value, told.baseline.get("new"))
    number = _number(scene, change.new, told.baseline.get("new"), same=as_recorded)
    then = f"{number}; in the baseline it was {_exact(change.base)}"
    if record.baseline is not None and not record.baseline.paired:
        then += f" ({record.baseline.why})"
    return scene.answer(there=there, sentence=_of_limit(scene, same, then), value=change.new)


def _baseline(scene: _Scene) -> tuple[Record, Path]:
    """The baseline with its one finding, and where it lies.

    Raises:
        ConfigError: it is gone, or not the one that was compared with.
    """
    told = scene.told
    run = real_path(scene.folder / str(told.baseline.get("folder", "")))
    if not run.exists():
        raise ConfigError(f"the baseline run {run} does not exist.")
    base = read_record(run)
    if sha256_of(base) != told.baseline.get("record_sha256"):
        raise ConfigError(f"the baseline run {run} was altered: its record is not the one compared with.")
    mine = tuple(item for item in base.findings if item.check == told.check)
    home = run if run.is_dir() else run.parent
    for part in (part for item in mine for part in item.artifacts if is_outcomes(part)):
        if not (home / part.path).is_file():
            raise ConfigError(f"the baseline run {run} was altered: {part.path} is not there.")
    return replace(base, findings=mine), run


def _record_of(scene: _Scene, base: Record, finding: Finding, state: str) -> Record:
    """What a run of this check alone would have recorded, as far as a comparison looks at it."""
    from audit.load import describe_model
    from audit.read import describe_data

    return as_read(
        replace(
            base,
            model=describe_model(scene.model),
            data=describe_data(scene.data),
            run={"seed": scene.told.seed, "model_state": state},
            findings=(finding,),
        )
    )


def _change_of(record: Record, item: Judgement) -> Change:
    changes = record.baseline.changes if record.baseline else ()
    asked = (item.measure, dict(item.group), dict(item.settings))
    return next(
        change
        for change in changes
        if (change.measure.name, dict(change.measure.group), dict(change.measure.settings)) == asked
    )


def _is_same(item: Judgement, told: Reproducer) -> bool:
    """Whether a judgement is the one that failed: same number, same limit."""
    asked = (item.measure, item.at_least, item.at_most, dict(item.group))
    if asked != (told.measure, told.at_least, told.at_most, dict(told.group)):
        return False
    if told.kind == "change" and item.limit != told.limit:
        return False
    ours, theirs = dict(item.settings), dict(told.where)
    # With `best` the group that others are compared with may be another one for another model.
    return ours == theirs or {**ours, "reference": ""} == {**theirs, "reference": ""}


def _number(scene: _Scene, value: float | None, recorded: float | None, *, same: bool) -> str:
    told = scene.told
    same = same and scene.about["same_model"] and scene.about["same_data"]
    said = f"{told.measure}{_whom(told)} is {_exact(value)}"
    return f"{said}, as recorded" if same else f"{said}, and {_exact(recorded)} was recorded"


def _exact(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"


def _of_limit(scene: _Scene, item: Judgement, number: str) -> str:
    judged = f"{scene.told.limit}: {item.reason}"
    of = "" if scene.about["same_model"] else f" for {_model_of(scene)}"
    if item.verdict is Verdict.FAIL:
        return f"The failure is there{of}: {number}; {judged}."
    if item.verdict is Verdict.PASS:
        return f"The failure is not there{of}: {number}; {judged}."
    return f"{_UNKNOWN}{of}: {number}; {judged}."


def _whom(told: Reproducer) -> str:
    whom = ", ".join(f"{key} = {value}" for key, value in told.group.items())
    return f" ({whom})" if whom else ""
