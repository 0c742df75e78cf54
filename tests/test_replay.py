"""Replay: a failure that is there is found, one that is gone is found gone, and the rest is not said."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from audit.errors import ConfigError, LoadError
from audit.replay import replay
from audit.reproducer import FILE, TENSORS

pytestmark = pytest.mark.pipeline

COMMAND = Path(sys.executable).with_name("model-audit")


@pytest.fixture(autouse=True)
def _as_before():
    """A replay lets torch compute the same from run to run; the next test gets what it had."""
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture
def project(broken_run, tmp_path):
    """A copy of the sample repository with its broken run; the two reproducers by check."""
    home = Path(shutil.copytree(broken_run.parent.parent, tmp_path / "loans"))
    folders = {}
    for path in (home / "runs" / "broken" / "artifacts").glob(f"*/{FILE}"):
        folders[json.loads(path.read_text())["check"]] = path.parent
    return home, folders


@pytest.fixture
def changed(changed_run, tmp_path):
    """A copy of the sample repository with a run and its baseline; reproducers by kind, check and group."""
    home = Path(shutil.copytree(changed_run.parent.parent, tmp_path / "loans"))
    folders = {}
    for path in (home / "runs" / "changed" / "artifacts").glob(f"*/{FILE}"):
        told = json.loads(path.read_text())
        folders[told["kind"], told["check"], *told["group"].values()] = path.parent
    return home, folders


def edit(folder, **changes):
    """Change what replay.json says."""
    path = folder / FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def store(folder, **changes):
    """Change the stored rows, and the sha256 with them, as someone would who wants it to pass unseen."""
    import hashlib

    with np.load(folder / TENSORS) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez_compressed(folder / TENSORS, **{**arrays, **changes})
    edit(folder, tensors_sha256=hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest())
    return arrays


def cannot_say(folder):
    """The sentence of a replay that cannot say."""
    found = replay(folder)
    assert (found.there, found.exit_code) == (None, 2)
    assert found.sentence.startswith("It cannot be said whether the failure is there: ")
    return found.sentence


def network_of(path):
    """The network of the sample repository with these weights."""
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    network.load_state_dict(load_file(path))
    return network


def repaired(home, folder):
    """The network, trained further on the stored rows and their adversarial ones until it gets them right."""
    with np.load(folder / TENSORS) as stored:
        rows = torch.from_numpy(np.concatenate([stored["original"], stored["adversarial"]]))
        labels = torch.from_numpy(np.concatenate([stored["label"]] * 2))
    network = network_of(home / "biased.safetensors")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(3000):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(rows), labels).backward()
        optimizer.step()
    assert (network(rows).argmax(1) == labels).all()
    save_file(network.state_dict(), home / "repaired.safetensors")
    return home / "repaired.safetensors"


def test_the_command_of_a_pgd_failure_shows_that_it_is_there(project):
    home, folders = project
    told = json.loads((folders["robustness.pgd"] / FILE).read_text())
    done = subprocess.run(
        [COMMAND, *told["command"].split()[1:]], cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("The failure is there: 16 of 16 stored examples lie within epsilon 0.05")
    assert done.stdout.count("fools the model") == 16


def test_the_command_of_a_fairness_failure_gives_the_same_number(project):
    home, folders = project
    told = json.loads((folders["fairness.groups"] / FILE).read_text())
    words = [COMMAND, "replay", folders["fairness.groups"], "--json"]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["there"] is True
    assert found["value"] == told["value"]
    assert (found["same_model"], found["same_data"], found["exit_code"]) == (True, True, 1)
    assert "as recorded" in found["sentence"]


def test_a_repaired_model_no_longer_falls_to_the_stored_examples(project):
    home, folders = project
    folder = folders["robustness.pgd"]
    found = replay(folder, model=repaired(home, folder))
    assert found.exit_code == 0, found.sentence
    assert found.sentence.startswith(
        "The failure is not there: none of the 16 stored examples fools this other"
    )
    assert "only a new run can tell" in found.sentence
    assert not found.same_model
    assert not any(row["fools"] for row in found.rows)


def test_the_fair_model_keeps_the_limit_that_the_biased_one_broke(project):
    home, folders = project
    found = replay(folders["fairness.groups"], model=home / "loans.safetensors")
    assert found.exit_code == 0
    assert found.sentence.startswith("The failure is not there for this other model")
    assert found.value > 0.8


def test_a_model_that_still_falls_for_some_fails_with_their_number(project):
    home, folders = project
    found = replay(folders["robustness.pgd"], model=home / "loans.safetensors")
    network = network_of(home / "loans.safetensors")
    with np.load(folders["robustness.pgd"] / TENSORS) as stored, torch.no_grad():
        fooled = network(torch.from_numpy(stored["adversarial"])).argmax(1).numpy() != stored["label"]
    assert 0 < fooled.sum() < 16
    assert found.exit_code == 1
    assert found.sentence.startswith(f"The failure is there: {fooled.sum()} of 16")
    assert [row["fools"] for row in found.rows] == list(fooled)


def test_another_model_in_the_place_of_the_recorded_one_is_refused(project):
    home, folders = project
    shutil.copy(home / "loans.safetensors", home / "biased.safetensors")
    for folder in folders.values():
        with pytest.raises(LoadError, match=r"model .* is not the one of the reproducer") as raised:
            replay(folder)
        assert json.loads((folder / FILE).read_text())["model"]["sha256"] in str(raised.value)
        assert replay(folder, model=home / "biased.safetensors").same_model is False


def test_other_data_in_the_place_of_the_recorded_ones_are_refused(project):
    home, folders = project
    with (home / "applicants.csv").open("a") as file:
        file.write("0,0,0,0,north,yes\n")
    done = subprocess.run(
        [COMMAND, "replay", folders["fairness.groups"]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "data" in done.stderr
    assert "is not the one of the reproducer" in done.stderr
    found = replay(folders["fairness.groups"], data=home / "applicants.csv")
    assert (found.same_data, found.exit_code) == (False, 1)


def test_a_changed_factory_is_refused(project):
    home, folders = project
    with (home / "models.py").open("a") as file:
        file.write("# a remark\n")
    with pytest.raises(LoadError, match="the file of its factory"):
        replay(folders["robustness.pgd"])


def test_examples_that_left_the_ball_do_not_show_the_failure(project):
    _, folders = project
    folder = folders["robustness.pgd"]
    with np.load(folder / TENSORS) as stored:
        far = stored["original"] + 20 * (stored["adversarial"] - stored["original"])
    store(folder, adversarial=far.astype(np.float32))
    found = replay(folder)
    assert found.exit_code == 2
    assert found.there is None
    assert "outside epsilon" in found.sentence


def test_originals_that_the_data_do_not_hold_do_not_show_the_failure(project):
    _, folders = project
    folder = folders["robustness.pgd"]
    with np.load(folder / TENSORS) as stored:
        moved = stored["original"] + np.float32(0.01)
    store(folder, original=moved)
    found = replay(folder)
    assert (found.there, found.exit_code) == (None, 2)
    assert "the stored rows are not in the data" in found.sentence
    store(folder, rows=np.full(16, 10**6))
    assert replay(folder).exit_code == 2


def test_a_check_that_is_not_here_cannot_say(project):
    _, folders = project
    folder = folders["fairness.groups"]
    edit(folder, check="fairness.of_a_stranger")
    found = replay(folder)
    assert (found.there, found.exit_code) == (None, 2)
    assert "is not installed" in found.sentence


def test_a_limit_between_the_ends_of_the_interval_cannot_say(project):
    _, folders = project
    folder = folders["fairness.groups"]
    told = json.loads((folder / FILE).read_text())
    told["policy"]["limits"][0]["at_least"] = told["value"]
    edit(folder, policy=told["policy"], at_least=told["value"])
    found = replay(folder)
    assert (found.there, found.exit_code) == (None, 2)
    assert "spans the limit" in found.sentence


def test_a_measure_that_is_gone_cannot_say(project):
    _, folders = project
    edit(folders["fairness.groups"], group={"region": "west"})
    found = replay(folders["fairness.groups"])
    assert found.exit_code == 2
    assert "no longer measures selection_rate_ratio (region = west)" in found.sentence


def test_paths_start_beside_the_audit_toml_that_is_named(project, tmp_path):
    home, folders = project
    moved = Path(shutil.copytree(folders["robustness.pgd"], tmp_path / "elsewhere" / "finding"))
    with pytest.raises(LoadError, match=r"does not exist; --config names"):
        replay(moved)
    assert replay(moved, config=home / "audit.toml").exit_code == 1
    with pytest.raises(ConfigError, match=r"lost\.toml does not exist"):
        replay(moved, config=tmp_path / "lost.toml")


def test_a_folder_cannot_say_for_its_user_that_a_pickle_is_trusted(project):
    home, folders = project
    folder = folders["robustness.pgd"]
    told = json.loads((folder / FILE).read_text())
    told["config"]["model"]["trust"] = True
    edit(folder, config=told["config"])
    for config in (None, home / "audit.toml"):
        with pytest.raises(ConfigError, match="says trust = true, so loading the model may run code"):
            replay(folder, config=config)
    mine = home / "mine.toml"
    mine.write_text('extends = "audit.toml"\n[model]\ntrust = true\n')
    assert replay(folder, config=mine).exit_code == 1


# Rows that a check changed without an attack.

CORRUPTED = ("altered", "robustness.corruptions", "north")
NEAREST = ("attack", "robustness.distance")
ACCURACY = ("change", "performance.accuracy")


def test_the_command_of_a_corruption_shows_the_changed_rows_again(changed):
    home, folders = changed
    folder = folders[CORRUPTED]
    told = json.loads((folder / FILE).read_text())
    words = [COMMAND, *told["command"].split()[1:]]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith(
        "The failure is there: the model misclassifies 16 of 16 stored rows after the change"
    )
    assert len(lines) == 16
    assert all(line.endswith("at severity 5: the failure") for line in lines)
    for change in told["altered"]:
        assert any(change["words"] in line for line in lines)


def test_the_stored_rows_really_turn_the_answer_and_belong_to_the_group(changed):
    """Classes are worked out here, from the CSV and the weights alone."""
    import pandas as pd

    home, folders = changed
    with np.load(folders[CORRUPTED] / TENSORS) as stored:
        kept = dict(stored)
    table = pd.read_csv(home / "applicants.csv")
    inputs = table[["income", "debt", "years", "children"]].to_numpy().astype(np.float32)
    assert np.array_equal(kept["original"], inputs[kept["rows"]])
    assert (table.iloc[kept["rows"]]["region"] == "north").all()
    assert np.array_equal(kept["label"], (table["paid"] == "yes").to_numpy()[kept["rows"]])
    model = network_of(home / "biased.safetensors")
    with torch.no_grad():
        before, after = (
            model(torch.from_numpy(kept[name])).argmax(1).numpy() for name in ("original", "adversarial")
        )
    assert np.array_equal(before, kept["label"])
    assert (after != kept["label"]).all()


def test_a_model_that_withstands_the_stored_changes_no_longer_fails(changed):
    home, folders = changed
    found = replay(folders[CORRUPTED], model=repaired(home, folders[CORRUPTED]))
    assert (found.there, found.exit_code) == (False, 0)
    assert found.sentence.startswith("The failure is not there: this other model")
    assert "misclassifies none of the 16 stored rows that were changed" in found.sentence
    assert "only a new run can tell" in found.sentence
    assert not any(row["fools"] for row in found.rows)


def test_a_model_that_falls_for_some_changes_fails_with_their_number(changed):
    home, folders = changed
    with np.load(folders[CORRUPTED] / TENSORS) as stored, torch.no_grad():
        kept = dict(stored)
    with torch.no_grad():
        after = network_of(home / "loans.safetensors")(torch.from_numpy(kept["adversarial"])).argmax(1)
    wrong = after.numpy() != kept["label"]
    assert 0 < wrong.sum() < 16
    found = replay(folders[CORRUPTED], model=home / "loans.safetensors")
    assert found.exit_code == 1
    assert f"misclassifies {wrong.sum()} of 16" in found.sentence
    assert [row["fools"] for row in found.rows] == list(wrong)


def test_altered_rows_of_an_altered_file_are_refused(changed):
    _, folders = changed
    folder = folders[CORRUPTED]
    with (folder / TENSORS).open("ab") as file:
        file.write(b"x")
    done = subprocess.run([COMMAND, "replay", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "was altered: its sha256 is not the one" in done.stderr


def test_rows_that_the_data_do_not_hold_show_no_corruption(changed):
    _, folders = changed
    folder = folders[CORRUPTED]
    with np.load(folder / TENSORS) as stored:
        moved = stored["original"] + np.float32(0.01)
    store(folder, original=moved)
    found = replay(folder)
    assert (found.there, found.exit_code) == (None, 2)
    assert "the stored rows are not in the data" in found.sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"how": np.full(16, 99)}, "they name changes that are not told"),
        ({"how": np.full(16, -1)}, "they name changes that are not told"),
        ({"how": np.zeros(3, dtype=int)}, "damaged, or of another form"),
        ({"label": np.zeros(3, dtype=int)}, "damaged, or of another form"),
        ({"adversarial": np.zeros((16, 3), dtype=np.float32)}, "damaged, or of another form"),
        ({"rows": np.zeros(16)}, "not in the data"),
        ({"rows": np.full(16, -1)}, "not in the data"),
        ({"rows": np.array(3)}, "damaged, or of another form"),
    ],
)
def test_arrays_that_do_not_belong_together_cannot_say(changed, changes, words):
    _, folders = changed
    store(folders[CORRUPTED], **changes)
    assert words in cannot_say(folders[CORRUPTED])


def test_a_way_to_turn_that_nobody_knows_is_refused(changed):
    _, folders = changed
    edit(folders[CORRUPTED], altered=[{"words": "noise", "turned": "upside down"}])
    with pytest.raises(ConfigError, match="is damaged at 'altered"):
        replay(folders[CORRUPTED])


def test_the_nearest_examples_are_measured_again(changed):
    home, folders = changed
    folder = folders[NEAREST]
    found = replay(folder)
    told = json.loads((folder / FILE).read_text())
    assert found.exit_code == 1
    assert told["attack"]["method"] == "distance"
    assert told["attack"]["epsilon"] <= told["value"]
    assert found.sentence.startswith("The failure is there: 16 of 16 stored examples lie within epsilon")
    assert replay(folder, model=repaired(home, folder)).exit_code == 0
    with np.load(folder / TENSORS) as stored:
        way = stored["adversarial"].astype(float) - stored["original"]
        far = stored["original"] + 3 * way / np.linalg.norm(way, axis=1, keepdims=True)
    store(folder, adversarial=far.astype(np.float32))
    found = replay(folder)
    assert found.exit_code == 2, found.sentence
    assert "outside epsilon" in found.sentence


# Limits on a change.


@pytest.mark.parametrize(
    "key",
    [ACCURACY, ("change", "fairness.groups", "north"), ("change", "robustness.pgd"),
     ("change", "robustness.corruptions")],
)  # fmt: skip
def test_a_change_is_compared_again_and_is_the_same(changed, key):
    _, folders = changed
    told = json.loads((folders[key] / FILE).read_text())
    found = replay(folders[key])
    assert (found.there, found.exit_code) == (True, 1), found.sentence
    assert found.value == told["baseline"]["new"]
    assert ", as recorded; in the baseline it was" in found.sentence
    assert f"[{told['low']:.4g}, {told['high']:.4g}]" in found.sentence


def test_the_command_of_a_change_says_so_and_as_json(changed):
    home, folders = changed
    told = json.loads((folders[ACCURACY] / FILE).read_text())
    words = [COMMAND, *told["command"].split()[1:], "--json"]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["there"], found["exit_code"], found["same_model"]) == (True, 1, True)


def test_the_baseline_itself_is_no_worse_and_another_worse_model_is(changed):
    home, folders = changed
    found = replay(folders[ACCURACY], model=home / "loans.safetensors")
    assert (found.there, found.exit_code) == (False, 0)
    assert found.sentence.startswith("The failure is not there for this other model")
    assert found.value == json.loads((folders[ACCURACY] / FILE).read_text())["baseline"]["base"]
    weights = load_file(home / "loans.safetensors")
    save_file({name: -value for name, value in weights.items()}, home / "turned.safetensors")
    worse = replay(folders[ACCURACY], model=home / "turned.safetensors")
    assert (worse.there, worse.exit_code) == (True, 1)
    assert worse.value < found.value


def test_an_altered_baseline_cannot_say(changed):
    home, folders = changed
    folder, record = folders[ACCURACY], home / "runs" / "base" / "record.json"
    content = record.read_bytes()
    record.write_bytes(content.replace(b'"seed":7', b'"seed":8'))
    assert record.read_bytes() != content
    assert "was altered: its record is not the one compared with" in cannot_say(folder)
    record.write_bytes(content)
    assert replay(folder).exit_code == 1
    for file in record.parent.glob("artifacts/outcomes-*.npz"):
        file.write_bytes(file.read_bytes() + b"x")
    assert "was altered after the audit" in cannot_say(folder)


def test_a_baseline_that_is_gone_cannot_say(changed):
    home, folders = changed
    folder, base = folders[ACCURACY], home / "runs" / "base"
    for file in base.glob("artifacts/outcomes-*.npz"):
        file.unlink()
    assert f"{base.resolve()} was altered: artifacts/outcomes-" in cannot_say(folder)
    (base / "record.json").unlink()
    assert "record.json does not exist" in cannot_say(folder)
    shutil.rmtree(base)
    assert f"the baseline run {base.resolve()} does not exist" in cannot_say(folder)


def test_a_change_on_other_data_rests_on_the_records_alone_and_says_so(changed):
    home, folders = changed
    lines = (home / "applicants.csv").read_text().splitlines()
    (home / "fewer.csv").write_text("\n".join(lines[:3001]) + "\n")
    found = replay(folders[ACCURACY], data=home / "fewer.csv")
    assert found.same_data is False
    assert "the data differ (their fingerprints do)" in found.sentence


def test_a_run_that_kept_no_outcomes_is_compared_without_them_again(changed):
    home, _ = changed
    words = [COMMAND, "run", "changed.toml", "--set", 'model.path="biased.safetensors"', "--baseline",
             "runs/base", "--set", "checks.outcomes=false", "--out", "runs/bare"]  # fmt: skip
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    told = {path.parent: json.loads(path.read_text()) for path in home.glob(f"runs/bare/artifacts/*/{FILE}")}
    (folder,) = (
        key
        for key, item in told.items()
        if item["kind"] == "change" and item["check"] == "performance.accuracy"
    )
    assert not (folder / TENSORS).exists()
    assert told[folder]["tensors_sha256"] == ""
    found = replay(folder)
    assert found.exit_code == 1
    assert ", as recorded; in the baseline it was" in found.sentence
    assert f"[{told[folder]['low']:.4g}, {told[folder]['high']:.4g}]" in found.sentence
