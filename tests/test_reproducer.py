"""Reproducers: what is kept of a broken limit really shows it, and nothing else keeps rows of the data."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import people
from safetensors.torch import load_file
from torch import nn

from audit.config import read_config
from audit.errors import ConfigError
from audit.evidence import Evidence
from audit.judge import judge_finding
from audit.model import Model
from audit.policy import Limit, Policy, Verdict
from audit.record import Finding, read_record
from audit.reproducer import (
    FILE,
    TENSORS,
    Wanted,
    keep_changes,
    keep_reproducers,
    read_reproducer,
    read_tensors,
    wanted,
)
from audit.shown import ROWS, Subject
from audit.stats import proportion
from audit.waiver import fingerprint

pytestmark = pytest.mark.pipeline

FEATURES = ["income", "debt", "years", "children"]
NAMES = ("no", "yes")
PROGRAM = Path(sys.executable).with_name("model-audit")


def failed(record):
    """Fingerprint and check of every broken limit."""
    return {
        fingerprint(item.check, judged): item.check
        for item in record.findings
        for judged in item.verdicts
        if judged.verdict is Verdict.FAIL
    }


def by_check(run):
    """The reproducer folder of each check that broke a limit."""
    return {check: run / "artifacts" / name for name, check in failed(read_record(run)).items()}


def network(path):
    """The network of the sample repository, built here from its weights alone."""
    built = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    built.load_state_dict(load_file(path))
    return built.eval()


def test_every_broken_limit_has_one_and_the_record_names_its_files(broken_run):
    record = read_record(broken_run)
    assert set(failed(record).values()) == {"robustness.pgd", "fairness.groups"}
    folders = {path.parent.name for path in broken_run.glob(f"artifacts/*/{FILE}")}
    assert folders == set(failed(record))
    for name, check in failed(record).items():
        finding = next(item for item in record.findings if item.check == check)
        named = {item.path: item.sha256 for item in finding.artifacts}
        for file in (FILE, TENSORS):
            path = f"artifacts/{name}/{file}"
            assert named[path] == hashlib.sha256((broken_run / path).read_bytes()).hexdigest()


def test_replay_json_says_what_was_measured_and_how(broken_run):
    record, folder = read_record(broken_run), by_check(broken_run)["robustness.pgd"]
    told = json.loads((folder / FILE).read_text())
    finding = next(item for item in record.findings if item.check == "robustness.pgd")
    judged = finding.verdicts[0]
    assert (told["check"], told["version"], told["seed"]) == ("robustness.pgd", finding.version, 7)
    assert told["settings"] == dict(finding.settings)
    assert (told["limit"], told["value"], told["verdict"]) == (judged.limit, judged.value, "FAIL")
    assert told["at_least"] == 0.99
    assert told["model"]["sha256"] == record.model["sha256"]
    assert told["model"]["factory_sha256"] == record.model["factory_sha256"]
    assert told["data"] == {key: record.data[key] for key in ("file", "sha256", "fingerprint")}
    assert told["command"] == f"model-audit replay runs/broken/artifacts/{folder.name}"
    assert told["batch_size"] == record.model["batch_size"]


def test_the_stored_tensors_are_adversarial(broken_run):
    """Distance, range and class are worked out here, from the CSV and the weights alone."""
    home = broken_run.parent.parent
    table = pd.read_csv(home / "applicants.csv")
    inputs = table[FEATURES].to_numpy().astype(np.float32)
    labels = (table["paid"] == "yes").to_numpy().astype(int)
    with np.load(by_check(broken_run)["robustness.pgd"] / TENSORS) as stored:
        kept = {name: stored[name] for name in stored.files}
    assert len(kept["rows"]) == ROWS
    assert np.array_equal(kept["original"], inputs[kept["rows"]])
    assert np.array_equal(kept["label"], labels[kept["rows"]])
    moved = np.abs(kept["adversarial"].astype(float) - kept["original"].astype(float))
    assert (moved <= 0.05 * inputs.astype(float).std(axis=0) * (1 + 1e-4)).all()
    assert moved.max(axis=1).min() > 0
    assert (kept["adversarial"] >= inputs.min(axis=0)).all()
    assert (kept["adversarial"] <= inputs.max(axis=0)).all()
    model = network(home / "biased.safetensors")
    with torch.no_grad():
        before = model(torch.from_numpy(kept["original"])).argmax(1).numpy()
        after = model(torch.from_numpy(kept["adversarial"])).argmax(1).numpy()
    assert np.array_equal(before, kept["label"])
    assert (after != kept["label"]).all()
    assert np.array_equal(before, kept["before"])
    assert np.array_equal(after, kept["after"])


def test_a_fairness_failure_keeps_refused_people_of_the_group_and_its_cells(broken_run):
    home = broken_run.parent.parent
    table = pd.read_csv(home / "applicants.csv")
    model = network(home / "biased.safetensors")
    with torch.no_grad():
        scores = model(torch.tensor(table[FEATURES].to_numpy(), dtype=torch.float32)).numpy()
    predicted = scores.argmax(1)
    with np.load(by_check(broken_run)["fairness.groups"] / TENSORS) as stored:
        kept = {name: stored[name] for name in stored.files}
    assert not {"original", "adversarial", "inputs"} & set(kept)
    people_kept = table.iloc[kept["rows"]]
    assert len(people_kept) == ROWS
    assert (people_kept["region"] == "north").all()
    assert (predicted[kept["rows"]] == 0).all()
    assert (people_kept["paid"] == "yes").all()
    wronged = np.flatnonzero((table["region"] == "north") & (predicted == 0) & (table["paid"] == "yes"))
    surest = sorted(wronged, key=lambda row: -abs(scores[row, 1] - scores[row, 0]))[:ROWS]
    assert set(kept["rows"]) == set(surest)
    for place, label in enumerate(NAMES):
        for other in range(2):
            for number, region in enumerate(kept["cells_groups_0"]):
                counted = (
                    (table["paid"] == label) & (predicted == other) & (table["region"] == region)
                ).sum()
                assert kept["cells"][place, other, number] == counted


def test_rows_of_the_data_stand_in_reproducers_alone(broken_run):
    """A value of a stored row, as the CSV has it, is searched in everything that is text."""
    with np.load(by_check(broken_run)["robustness.pgd"] / TENSORS) as stored:
        value = f"{float(stored['original'][0, 0]):.4f}"
    assert value in (broken_run.parent.parent / "applicants.csv").read_text()
    for path in broken_run.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".log"):
            assert value not in path.read_text(errors="replace"), path


def test_they_can_be_switched_off_and_change_no_number(broken_run, tmp_path):
    home = Path(shutil.copytree(broken_run.parent.parent, tmp_path / "loans"))
    command = [
        Path(sys.executable).with_name("model-audit"),
        "run",
        "broken.toml",
        "--out",
        "runs/none",
        "--no-reproducers",
    ]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    bare, full = read_record(home / "runs" / "none"), read_record(broken_run)
    assert failed(bare) == failed(full)
    assert not list((home / "runs" / "none").glob(f"artifacts/*/{FILE}"))
    for one, two in zip(bare.findings, full.findings, strict=True):
        assert one.measures == two.measures
        assert one.tables == two.tables
        assert one.cost.forward_rows == two.cost.forward_rows
        assert one.cost.backward_rows == two.cost.backward_rows
        assert set(one.artifacts) <= set(two.artifacts)


def subject():
    """Made-up people and a network that nothing asks."""
    module = nn.Linear(1, 2).eval()
    return Subject(Model(module=module, device=torch.device("cpu"), fingerprint="m" * 64), people(40), 3)


def many_failures(count):
    measures = [proportion("accuracy", 1, 200, group={"sex": f"g{k}"}, better="higher") for k in range(count)]
    finding = Finding(check="performance.accuracy", version="1", title="t", status="measured",
                      measures=tuple(measures))  # fmt: skip
    limit = Limit(check="performance.accuracy", measure="accuracy", at_least=0.9, group="each")
    return finding, Policy(limits=(limit,))


def test_every_broken_limit_of_many_keeps_one(tmp_path):
    finding, policy = many_failures(50)
    broken = [j for j in judge_finding(finding, policy).verdicts if j.verdict is Verdict.FAIL]
    assert len(broken) == 50
    given = Wanted(policy=policy, config={}, folder=Path())
    files = keep_reproducers(finding, Evidence(measures=[]), subject(), given, tmp_path)
    names = {fingerprint(finding.check, item) for item in broken}
    assert {path.parent.name for path in tmp_path.glob(f"artifacts/*/{FILE}")} == names
    assert len(files) == 50


def test_a_limit_that_holds_keeps_nothing(tmp_path):
    finding, policy = many_failures(1)
    good = replace(finding, measures=(proportion("accuracy", 199, 200, group={"sex": "g"}),))
    given = Wanted(policy=policy, config={}, folder=Path())
    assert judge_finding(good, policy).verdicts[0].verdict is Verdict.PASS
    assert keep_reproducers(good, Evidence(measures=[]), subject(), given, tmp_path) == ()
    assert not (tmp_path / "artifacts").exists()


def test_written_and_read_it_is_the_same(tmp_path):
    finding, policy = many_failures(1)
    given = Wanted(policy=policy, config={"model": {"path": "m.pt2"}}, folder=Path("..", ".."))
    files = keep_reproducers(finding, Evidence(measures=[]), subject(), given, tmp_path)
    folder = tmp_path / Path(files[0].path).parent
    told = read_reproducer(folder)
    assert told == read_reproducer(folder / FILE)
    assert told.policy == policy
    assert told.folder == "../../../.."
    assert (told.kind, told.rows, told.tensors_sha256) == ("measure", (), "")
    assert read_tensors(folder, told) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ("[]", "its schema is 'list'"),
        ('{"schema": "other"}', "its schema is 'other'"),
        ('{"schema": "model-audit/replay/1"}', "is damaged at"),
    ],
)
def test_what_is_no_reproducer_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_reproducer(tmp_path)


def test_a_comparison_takes_away_no_reproducer_of_another_kind(broken_run, tmp_path):
    """It writes those of changes anew, and those of the run itself are not its to remove."""
    home = Path(shutil.copytree(broken_run.parent.parent, tmp_path / "loans"))
    run = home / "runs" / "broken"
    record, config = read_record(run), read_config(home / "broken.toml")
    kept = keep_changes(record, run, lambda _: None, wanted(config, run), run)
    assert kept == record
    named = [run / item.path for finding in record.findings for item in finding.artifacts]
    assert len([path for path in named if path.name == FILE]) >= 2
    assert all(path.is_file() for path in named)


def test_altered_tensors_are_refused(broken_run, tmp_path):
    folder = Path(shutil.copytree(by_check(broken_run)["robustness.pgd"], tmp_path / "finding"))
    told = read_reproducer(folder)
    with (folder / TENSORS).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match="was altered"):
        read_tensors(folder, told)
    (folder / TENSORS).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tensors(folder, told)


def said(home, *words):
    """Exit code and words of a command."""
    done = subprocess.run([PROGRAM, *words], cwd=home, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_seal_covers_them(broken_run, tmp_path):
    home = Path(shutil.copytree(broken_run.parent.parent, tmp_path / "loans"))
    assert said(home, "keygen", "--out", "audit.key")[0] == 0
    assert said(home, "sign", "runs/broken", "--key", "audit.key")[0] == 0
    code, told = said(home, "verify", "runs/broken", "--key", "audit.pub")
    assert code == 0, told
    path = by_check(home / "runs" / "broken")["robustness.pgd"] / TENSORS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, told = said(home, "verify", "runs/broken", "--key", "audit.pub")
    assert code == 1
    assert f"artifacts/{path.parent.name}/{TENSORS}" in told


# Limits on a change: kept after the comparison, when the worker is gone.


def changes(run):
    """The reproducer folder of each broken limit on a change, by check."""
    told = {path.parent: json.loads(path.read_text()) for path in run.glob(f"artifacts/*/{FILE}")}
    return {item["check"]: folder for folder, item in told.items() if item["kind"] == "change"}


def test_every_broken_limit_of_a_run_with_a_baseline_has_one(changed_run):
    record = read_record(changed_run)
    folders = {path.parent.name for path in changed_run.glob(f"artifacts/*/{FILE}")}
    assert folders == set(failed(record))
    kinds = [json.loads(path.read_text())["kind"] for path in changed_run.glob(f"artifacts/*/{FILE}")]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "attack": 1, "altered": 2, "measure": 1, "change": 4,
    }  # fmt: skip
    named = {item.path: item.sha256 for finding in record.findings for item in finding.artifacts}
    for path in changed_run.glob("artifacts/*/*"):
        name = path.relative_to(changed_run).as_posix()
        assert named[name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_change_keeps_rows_that_the_baseline_had_right_and_this_model_has_wrong(changed_run):
    """The answers of both are worked out here, from the CSV and the weights alone."""
    home = changed_run.parent.parent
    table = pd.read_csv(home / "applicants.csv")
    inputs = torch.tensor(table[FEATURES].to_numpy(), dtype=torch.float32)
    labels = (table["paid"] == "yes").to_numpy().astype(int)
    odds, answered = [], []
    for name in ("loans", "biased"):
        with torch.no_grad():
            scores = network(home / f"{name}.safetensors")(inputs).double().numpy()
        odds.append(scores[:, 1] - scores[:, 0])
        answered.append(scores.argmax(1))
    lost = np.flatnonzero((answered[0] == labels) & (answered[1] != labels))
    further = np.abs(labels - 1 / (1 + np.exp(-odds[1]))) - np.abs(labels - 1 / (1 + np.exp(-odds[0])))
    folder = changes(changed_run)["performance.accuracy"]
    kept = read_tensors(folder, read_reproducer(folder))
    assert set(kept["rows"]) == set(lost[np.argsort(-further[lost])][:ROWS])
    assert kept["base_correct"].all()
    assert not kept["correct"].any()
    assert list(kept["label"]) == [NAMES[label] for label in labels[kept["rows"]]]
    assert list(kept["base_predicted"]) == [NAMES[code] for code in answered[0][kept["rows"]]]
    assert list(kept["predicted"]) == [NAMES[code] for code in answered[1][kept["rows"]]]
    assert np.allclose(kept["base_score"], odds[0][kept["rows"]], atol=1e-5)
    assert np.allclose(kept["score"], odds[1][kept["rows"]], atol=1e-5)


def test_a_change_between_groups_keeps_people_of_the_group_who_are_refused_now(changed_run):
    table = pd.read_csv(changed_run.parent.parent / "applicants.csv")
    folder = changes(changed_run)["fairness.groups"]
    kept = read_tensors(folder, read_reproducer(folder))
    assert len(kept["rows"]) == ROWS
    assert (table.iloc[kept["rows"]]["region"] == "north").all()
    assert (kept["base_predicted"] == "yes").all()
    assert (kept["predicted"] == "no").all()


def test_a_change_under_attack_keeps_rows_that_held_and_a_change_that_was_not_paired_none(changed_run):
    folders = changes(changed_run)
    kept = read_tensors(folders["robustness.pgd"], read_reproducer(folders["robustness.pgd"]))
    assert kept["base_robust"].all()
    assert not kept["robust"].any()
    told = read_reproducer(folders["robustness.corruptions"])
    assert (told.rows, told.tensors_sha256) == ((), "")
    assert read_tensors(folders["robustness.corruptions"], told) == {}


def test_a_change_names_its_baseline(changed_run):
    folder = changes(changed_run)["performance.accuracy"]
    told, record = read_reproducer(folder), read_record(changed_run)
    assert (folder / told.baseline["folder"]).resolve() == (changed_run.parent / "base").resolve()
    assert told.baseline["record_sha256"] == record.baseline.record_sha256
    base = read_record(changed_run.parent / "base").findings[0].measure("accuracy").value
    assert told.baseline["base"] == base
    assert told.value == pytest.approx(told.baseline["new"] - base)
    assert told.limit == "accuracy no worse than the baseline"
    assert told.command == f"model-audit replay runs/changed/artifacts/{folder.name}"
    assert told.model["sha256"] == record.model["sha256"]
    assert told.model["factory_sha256"] == record.model["factory_sha256"]
    assert told.data == {key: record.data[key] for key in ("file", "sha256", "fingerprint")}


def test_a_signed_run_with_them_is_verified_and_a_flipped_byte_is_found(changed_run, tmp_path):
    home = Path(shutil.copytree(changed_run.parent.parent, tmp_path / "loans"))
    assert said(home, "keygen", "--out", "audit.key")[0] == 0
    assert said(home, "sign", "runs/changed", "--key", "audit.key")[0] == 0
    code, told = said(home, "verify", "runs/changed", "--key", "audit.pub")
    assert code == 0, told
    for name in (TENSORS, FILE):
        path = changes(home / "runs" / "changed")["performance.accuracy"] / name
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        code, told = said(home, "verify", "runs/changed", "--key", "audit.pub")
        assert code == 1
        assert f"artifacts/{path.parent.name}/{name}" in told
        path.write_bytes(content)


def test_a_run_that_is_gone_on_with_against_another_baseline_keeps_those_of_the_last(changed_run, tmp_path):
    home = Path(shutil.copytree(changed_run.parent.parent, tmp_path / "loans"))
    model = 'model.path="biased.safetensors"'
    code, told = said(home, "run", "changed.toml", "--set", model, "--out", "runs/same")
    assert code == 1, told
    again = ("run", "changed.toml", "--set", model, "--out", "runs/changed", "--resume", "--baseline")
    code, told = said(home, *again, "runs/same")
    assert code == 1, told
    run = home / "runs" / "changed"
    assert changes(run) == {}
    assert {path.parent.name for path in run.glob(f"artifacts/*/{FILE}")} == set(failed(read_record(run)))
    assert said(home, "verify", "runs/changed")[1].startswith("Nothing was found wrong")
    assert said(home, *again, "runs/base")[0] == 1
    assert changes(run).keys() == changes(changed_run).keys()
    assert said(home, "verify", "runs/changed")[1].startswith("Nothing was found wrong")


def test_a_change_that_cannot_be_kept_spoils_no_number_and_is_told(changed_run, tmp_path):
    home = Path(shutil.copytree(changed_run.parent.parent, tmp_path / "loans"))
    base, run = home / "runs" / "base", home / "runs" / "changed"
    record = read_record(run)
    folder = changes(run)["performance.accuracy"]
    shutil.rmtree(folder)
    folder.write_text("a file where the folder should be")
    config = read_config(home / "changed.toml")
    kept = keep_changes(record, base, lambda _: None, wanted(config, run), run)
    first, *others = kept.findings
    assert first.measures == record.findings[0].measures
    assert first.caveats[-1].startswith("No reproducer of a broken limit on a change could be kept: ")
    assert [item.caveats for item in others] == [item.caveats for item in record.findings[1:]]
    assert keep_changes(kept, base, lambda _: None, wanted(config, run), run).findings == kept.findings


def test_switched_off_a_run_with_a_baseline_keeps_none(changed_run, tmp_path):
    home = Path(shutil.copytree(changed_run.parent.parent, tmp_path / "loans"))
    words = ("--set", 'model.path="biased.safetensors"', "--baseline", "runs/base", "--no-reproducers")
    code, told = said(home, "run", "changed.toml", *words, "--out", "runs/none")
    assert code == 1, told
    assert failed(read_record(home / "runs" / "none")) == failed(read_record(changed_run))
    assert not list((home / "runs" / "none").glob(f"artifacts/*/{FILE}"))
