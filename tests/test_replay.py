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


def repaired(home, folder):
    """The network, trained further on the stored rows and their adversarial ones until it gets them right."""
    with np.load(folder / TENSORS) as stored:
        rows = torch.from_numpy(np.concatenate([stored["original"], stored["adversarial"]]))
        labels = torch.from_numpy(np.concatenate([stored["label"]] * 2))
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    network.load_state_dict(load_file(home / "biased.safetensors"))
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
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    network.load_state_dict(load_file(home / "loans.safetensors"))
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
