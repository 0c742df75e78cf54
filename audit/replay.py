"""Replay: one broken limit, looked at again. Is the failure there, is it gone, or can it not be said?

The examples of an attack are shown to the model again, which takes a second and no attack. For any other
failure its one check is measured again with the same settings, seed and rows, and judged again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.check import Check
from audit.config import Config
from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_LIMIT_BROKEN, EXIT_OK, AuditError, ConfigError
from audit.judge import judge_finding
from audit.policy import Judgement, Verdict
from audit.registry import check_names, installed_check, installed_products
from audit.reproducer import Arrays, Reproducer, read_reproducer, read_tensors
from audit.rerun import configured, refuse_other_facts, refuse_other_files, starts_at, trusted
from audit.worker import compute_alike, load_both, read_more

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model

_DIGITS = 12
_FEASIBLE = "feasible"
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
        rows: each stored example and what became of it, where an attack is replayed.
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
    trusted(setting, str(folder), config, inside.resolve().parent.parent)
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
    scene = _Scene(told, tensors, setting, network, rows, about)
    try:
        return _show_again(scene) if told.kind == "attack" else _measure_again(scene)
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
    if scene.about["same_data"] and not _are_rows_of(kept, data):
        return scene.answer(
            there=None,
            sentence=f"{_UNKNOWN}: the stored rows are not in the data.",
        )
    words, codes = _judged(scene, data)
    before = scene.model.predict(kept["original"]).numpy().argmax(axis=1)
    after = scene.model.predict(kept["adversarial"]).numpy().argmax(axis=1)
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


def _are_rows_of(kept: Arrays, data: "Dataset") -> bool:
    """Whether the stored originals are what the data hold at the stored places."""
    rows = kept["rows"]
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(data):
        return False
    same = np.array_equal(kept["original"], data.inputs[rows])
    return same and np.array_equal(kept["label"], data.labels[rows])


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
    from functools import partial

    from audit.measure import measure, set_up

    told, config = scene.told, scene.config
    found = installed_check(told.check) if told.check in check_names() else None
    if not isinstance(found, Check):
        why = "is not installed" if found is None else found.reason
        raise ConfigError(f"the check {told.check} {why}.")
    reread = partial(read_more, config, scene.model)
    bench = set_up(scene.model, scene.data, told.seed, installed_products(), config.folder, reread)
    finding = measure(found, found.settings(told.settings), bench, None)
    if finding.status != "measured":
        raise ConfigError(f"{told.check} gave no number: {finding.reason}.")
    same = next((item for item in judge_finding(finding, told.policy).verdicts if _is_same(item, told)), None)
    if same is None:
        raise ConfigError(f"{told.check} no longer measures {told.measure}{_whom(told)}.")
    there = {Verdict.FAIL: True, Verdict.PASS: False}.get(same.verdict)
    return scene.answer(there=there, sentence=_of_measure(scene, same), value=same.value)


def _is_same(item: Judgement, told: Reproducer) -> bool:
    """Whether a judgement is the one that failed: same number, same limit."""
    asked = (item.measure, item.at_least, item.at_most, dict(item.group))
    if asked != (told.measure, told.at_least, told.at_most, dict(told.group)):
        return False
    ours, theirs = dict(item.settings), dict(told.where)
    # With `best` the group that others are compared with may be another one for another model.
    return ours == theirs or {**ours, "reference": ""} == {**theirs, "reference": ""}


def _of_measure(scene: _Scene, item: Judgement) -> str:
    told = scene.told
    value = "undefined" if item.value is None else f"{item.value:.6g}"
    was = "undefined" if told.value is None else f"{told.value:.6g}"
    same = item.value == told.value and scene.about["same_model"] and scene.about["same_data"]
    number = f"{told.measure}{_whom(told)} is {value}, {'as' if same else 'and ' + was + ' was'} recorded"
    judged = f"{told.limit}: {item.reason}"
    of = "" if scene.about["same_model"] else f" for {_model_of(scene)}"
    if item.verdict is Verdict.FAIL:
        return f"The failure is there{of}: {number}; {judged}."
    if item.verdict is Verdict.PASS:
        return f"The failure is not there{of}: {number}; {judged}."
    return f"{_UNKNOWN}{of}: {number}; {judged}."


def _whom(told: Reproducer) -> str:
    whom = ", ".join(f"{key} = {value}" for key, value in told.group.items())
    return f" ({whom})" if whom else ""
