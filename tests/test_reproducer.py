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
from runs import answered, people
from safetensors.torch import load_file
from torch import nn

from audit.attack.result import AtEpsilon, AttackResult
from audit.errors import ConfigError
from audit.evidence import Evidence
from audit.judge import judge_finding
from audit.model import Model
from audit.outcomes import answers
from audit.policy import Judgement, Limit, Policy, Verdict
from audit.record import Finding, read_record
from audit.reproducer import (
    FILE,
    MOST,
    ROWS,
    TENSORS,
    Subject,
    Wanted,
    _cells,
    _fallen,
    _telling,
    keep_reproducers,
    read_reproducer,
    read_tensors,
)
from audit.stats import proportion
from audit.waiver import fingerprint

pytestmark = pytest.mark.pipeline

FEATURES = ["income", "debt", "years", "children"]
NAMES = ("no", "yes")


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


def subject(rows=40, seed=0):
    """Made-up people, and a network that says `yes` where the one input is above 0."""
    data = people(rows, seed)
    inputs = np.linspace(-1, 1, rows, dtype=np.float32).reshape(-1, 1)
    data = replace(data, inputs=inputs, labels=(inputs[:, 0] > 0).astype(np.int64), source={})
    module = nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        module.bias.zero_()
    model = Model(module=module.eval(), device=torch.device("cpu"), fingerprint="m" * 64)
    return Subject(model, data, 3)


def attack_on(subject, fell, epsilon=0.5):
    """The result of an attack that turned over the marked rows by crossing 0."""
    data = subject.data
    size = len(data)
    kept = np.flatnonzero(fell)
    entry = AtEpsilon(
        epsilon=epsilon, fooled=fell, zero=np.zeros(size, bool), nan=np.zeros(size, bool), late=0,
        rejected={}, kept=kept, examples=-data.inputs[kept],
    )  # fmt: skip
    settings = {"norm": "linf", "scale": "std"}
    right = np.ones(size, bool)
    return AttackResult(
        method="pgd", rows=np.arange(size), correct=right, at=(entry,), walked=True, settings=settings
    )


def judgement(**changes):
    facts = {"limit": "l", "measure": "robust_accuracy", "verdict": Verdict.FAIL, "at_least": 0.9,
             "settings": {"epsilon": 0.5}}  # fmt: skip
    return Judgement(**{**facts, **changes})


def test_rows_that_fell_are_kept_of_the_group_alone():
    given = subject()
    fell = np.ones(len(given.data), bool)
    evidence = Evidence(measures=[], attack=attack_on(given, fell))
    whole = _fallen(judgement(), evidence, given)
    assert list(whole.arrays["rows"]) == list(range(ROWS))
    women = _fallen(judgement(group={"sex": "f"}), evidence, given)
    expected = np.flatnonzero(given.data.sensitive["sex"].codes == 0)[:ROWS]
    assert np.array_equal(women.arrays["rows"], expected)
    both = _fallen(judgement(group={"sex": "f", "race": "b"}), evidence, given)
    codes = given.data.sensitive
    expected = np.flatnonzero((codes["sex"].codes == 0) & (codes["race"].codes == 1))[:ROWS]
    assert np.array_equal(both.arrays["rows"], expected)
    assert (whole.arrays["after"] != whole.arrays["label"]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"measure": "clean_accuracy"},
        {"at_least": None, "at_most": 0.5},
        {"settings": {"epsilon": 0.25}},
        {"settings": {"epsilon": 0.5, "feature": "sex"}},
        {"group": {"shoe": "large"}},
        {"group": {"sex": "x"}},
    ],
)
def test_a_failure_that_no_fallen_row_shows_is_measured_again_instead(changes):
    given = subject()
    evidence = Evidence(measures=[], attack=attack_on(given, np.ones(len(given.data), bool)))
    assert _fallen(judgement(**changes), evidence, given) is None
    assert _fallen(judgement(), Evidence(measures=[]), given) is None
    nobody = Evidence(measures=[], attack=attack_on(given, np.zeros(len(given.data), bool)))
    assert _fallen(judgement(), nobody, given) is None


def test_wrong_answers_of_the_group_are_kept_the_surest_first():
    data = people(300, 1)
    right = np.random.default_rng(2).random(300) < 0.7
    given = answered(data, right)
    kept = answers(data, given)
    found = _telling(judgement(measure="accuracy", group={"race": "a"}), kept, fair=False)
    wrong = np.flatnonzero(~right & (data.sensitive["race"].codes == 0))
    odds = np.abs(given.scores[:, 1] - given.scores[:, 0])
    assert list(found["rows"]) == sorted(wrong, key=lambda row: -odds[row])[:ROWS]
    assert not found["correct"].any()
    assert list(found["label"]) == [NAMES[label] for label in data.labels[found["rows"]]]
    assert "cells" not in found


def test_cells_are_counts_by_every_feature_of_the_group():
    data = people(500, 3)
    kept = answers(data, answered(data, np.random.default_rng(1).random(500) < 0.6))
    found = _cells(judgement(group={"sex": "f", "race": "c"}), kept)
    assert found["cells"].shape == (2, 2, 2, 3)
    assert found["cells"].sum() == 500
    assert list(found["cells_features"]) == ["sex", "race"]
    assert _cells(judgement(group={}), kept) == {}


def many_failures(count):
    measures = [proportion("accuracy", 1, 200, group={"sex": f"g{k}"}, better="higher") for k in range(count)]
    finding = Finding(check="performance.accuracy", version="1", title="t", status="measured",
                      measures=tuple(measures))  # fmt: skip
    limit = Limit(check="performance.accuracy", measure="accuracy", at_least=0.9, group="each")
    return finding, Policy(limits=(limit,))


def test_a_run_keeps_so_many_and_no_more(tmp_path):
    finding, policy = many_failures(MOST + 5)
    assert sum(j.verdict is Verdict.FAIL for j in judge_finding(finding, policy).verdicts) == MOST + 5
    wanted = Wanted(policy=policy, config={}, folder=Path())
    files = keep_reproducers(finding, Evidence(measures=[]), subject(), wanted, tmp_path)
    assert len(list(tmp_path.glob(f"artifacts/*/{FILE}"))) == MOST
    assert len(files) == MOST
    other = replace(finding, check="performance.other")
    limits = tuple(replace(item, check="performance.other") for item in policy.limits)
    again = replace(wanted, policy=Policy(limits=limits))
    assert keep_reproducers(other, Evidence(measures=[]), subject(), again, tmp_path) == ()


def test_a_limit_that_holds_keeps_nothing(tmp_path):
    finding, policy = many_failures(1)
    good = replace(finding, measures=(proportion("accuracy", 199, 200, group={"sex": "g"}),))
    wanted = Wanted(policy=policy, config={}, folder=Path())
    assert judge_finding(good, policy).verdicts[0].verdict is Verdict.PASS
    assert keep_reproducers(good, Evidence(measures=[]), subject(), wanted, tmp_path) == ()
    assert not (tmp_path / "artifacts").exists()


def test_written_and_read_it_is_the_same(tmp_path):
    finding, policy = many_failures(1)
    wanted = Wanted(policy=policy, config={"model": {"path": "m.pt2"}}, folder=Path("..", ".."))
    files = keep_reproducers(finding, Evidence(measures=[]), subject(), wanted, tmp_path)
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


def test_a_seal_covers_them(broken_run, tmp_path):
    home = Path(shutil.copytree(broken_run.parent.parent, tmp_path / "loans"))
    program = Path(sys.executable).with_name("model-audit")

    def said(*words):
        done = subprocess.run([program, *words], cwd=home, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert said("keygen", "--out", "audit.key")[0] == 0
    assert said("sign", "runs/broken", "--key", "audit.key")[0] == 0
    code, told = said("verify", "runs/broken", "--key", "audit.pub")
    assert code == 0, told
    path = by_check(home / "runs" / "broken")["robustness.pgd"] / TENSORS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, told = said("verify", "runs/broken", "--key", "audit.pub")
    assert code == 1
    assert f"artifacts/{path.parent.name}/{TENSORS}" in told
