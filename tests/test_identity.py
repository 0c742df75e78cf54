"""The identity of an audit: the same while nothing that decides a number changes, another when it does."""

import os
import re
import shutil
from pathlib import Path

import pytest

from audit.config import read_configs
from audit.errors import ConfigError
from audit.identity import identity

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ci"


@pytest.fixture
def folder(tmp_path):
    place = Path(shutil.copytree(EXAMPLE, tmp_path / "loans"))
    (place / "loans.safetensors").write_bytes(b"weights")
    (place / "applicants.csv").write_text("income\n1\n")
    return place


def of(folder, name="audit.toml", **more):
    return identity(read_configs(folder / name, **more))


def test_it_is_the_same_for_the_same_files_wherever_they_lie(folder, tmp_path):
    before = of(folder)
    assert re.fullmatch(r"[0-9a-f]{64}", before)
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert of(moved) == before
    os.utime(folder / "applicants.csv", (1, 1))
    (folder / "notes.txt").write_text("nobody names this file")
    assert of(folder) == before


@pytest.mark.parametrize("name", ["loans.safetensors", "applicants.csv", "models.py", "audit.toml"])
def test_every_file_that_decides_a_number_is_part_of_it(folder, name):
    before = of(folder)
    with (folder / name).open("ab") as file:
        file.write(b"\nseed = 8\n" if name == "audit.toml" else b"# ")
    if name == "audit.toml":
        text = (folder / name).read_text().replace("steps = 10", "steps = 11").replace("\nseed = 8\n", "\n")
        (folder / name).write_text(text)
    assert of(folder) != before


def test_a_file_that_a_setting_names_is_part_of_it(folder):
    (folder / "train.csv").write_text("a")
    override = ['checks.settings."reliability.overfit".train="train.csv"']
    before = of(folder, overrides=override)
    (folder / "train.csv").write_text("b")
    assert of(folder, overrides=override) != before


def test_what_it_extends_and_what_the_command_line_says_are_part_of_it(folder):
    before, other = of(folder, "biased.toml"), of(folder, "biased.toml", overrides=["data.rows=5"])
    assert before != other
    base = folder / "audit.toml"
    base.write_text(base.read_text().replace("at_least = 0.8 }", "at_least = 0.7 }"))
    assert of(folder, "biased.toml") not in (before, other)


def test_options_and_a_lost_file_change_it_and_a_folder_counts_file_by_file(folder):
    configs = read_configs(folder / "audit.toml")
    seen = {identity(configs), identity(configs, {"profile": "quick"}), of(folder, "no-model.toml")}
    images = folder / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"1")
    override = ["data.path='images'"]
    seen.add(of(folder, overrides=override))
    (images / "a.png").rename(images / "b.png")
    seen.add(of(folder, overrides=override))
    assert len(seen) == 5


def test_a_file_with_a_long_name_and_a_folder_that_is_the_data_are_part_of_it(folder):
    name = "d" * 80 + ".csv"
    (folder / name).write_text("a")
    for override in ([f"data.path='{name}'"], ["data.path='.'"]):
        before = of(folder, overrides=override)
        with (folder / name).open("a") as file:
            file.write("b")
        assert of(folder, overrides=override) != before


def test_every_module_of_a_package_that_builds_the_network_is_part_of_it(folder, monkeypatch):
    override = ["model.factory='nets.big:build'"]
    (folder / "nets" / "inner").mkdir(parents=True)
    seen = [of(folder, overrides=override)]
    for name in ("__init__.py", "big.py", "inner/layers.py"):
        (folder / "nets" / name).write_text("import torch\n")
        seen.append(of(folder, overrides=override))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "other.py").write_text("")
    assert of(folder, overrides=override) == seen[-1]
    assert len(set(seen)) == 4


def test_the_code_that_a_trusted_pickle_may_call_is_part_of_it(folder):
    """No function is named: the pickle itself says what is called."""
    (folder / "pickled.toml").write_text(
        '[model]\npath = "loans.safetensors"\ntrust = true\n[data]\npath = "applicants.csv"\n'
    )
    before = of(folder, "pickled.toml")
    (folder / "models.py").write_text("changed = True\n")
    assert of(folder, "pickled.toml") != before


def test_the_code_of_a_factory_elsewhere_on_the_path_is_part_of_it(folder, tmp_path, monkeypatch):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "far_networks.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(place)
    override = ["model.factory='far_networks:build'"]
    before = of(folder, overrides=override)
    (place / "far_networks.py").write_text("A = 2\n")
    assert of(folder, overrides=override) != before


def test_the_code_of_a_plugin_is_part_of_it_though_its_version_stays(folder, tmp_path, monkeypatch):
    place = tmp_path / "installed"
    info = place / "their_checks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-checks\nVersion: 1.0\n")
    seen = [of(folder)]
    (info / "entry_points.txt").write_text("[audit.products]\ntheirs = their_checks:product\n")
    monkeypatch.syspath_prepend(place)
    for text in ("A = 1\n", "A = 2\n"):
        (place / "their_checks.py").write_text(text)
        seen.append(of(folder))
    assert len(set(seen)) == 3


def test_the_versions_of_the_libraries_are_part_of_it(folder, monkeypatch):
    before = of(folder)
    monkeypatch.setattr("audit.identity.library_versions", lambda: {"torch": "1.0"})
    assert of(folder) != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_one_sentence(folder):
    (folder / "applicants.csv").chmod(0)
    with pytest.raises(ConfigError, match=r"applicants\.csv cannot be read: Permission denied"):
        of(folder)


def test_a_pipe_among_its_code_is_one_sentence(folder):
    os.mkfifo(folder / "pipe.py")
    with pytest.raises(ConfigError, match=r"pipe\.py cannot be read: it is a pipe or a device, not a file"):
        of(folder)


def test_a_long_text_is_no_path(folder):
    assert of(folder, overrides=[f"system.purpose='{'x' * 5000}'"]) != of(folder)
