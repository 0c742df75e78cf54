"""Shared by all tests: where the real data is, and the demo made once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A gate answers the same twice. `make test-random` draws anew, and more, to find what nobody thought of.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", max_examples=2000, deadline=None)
settings.load_profile("repeatable")

# Two test processes share the cores: threads that spin while they wait would starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# With --import-mode=importlib a test finds no module beside itself; networks.py and hostile.py are shared.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is absent: {folder}")
    return folder


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    """The demo, made once by the command that a newcomer types."""
    folder = tmp_path_factory.mktemp("newcomer")
    command = [Path(sys.executable).with_name("model-audit"), "demo", "demo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(folder / "demo" / "index.html") in done.stdout
    return folder / "demo"


@pytest.fixture(scope="session")
def sample_repository(tmp_path_factory):
    """examples/ci as somebody else's repository, with its models trained; copy it before changing it."""
    folder = tmp_path_factory.mktemp("theirs") / "loans"
    shutil.copytree(Path(__file__).resolve().parents[1] / "examples" / "ci", folder)
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


BROKEN_LIMITS = """\
extends = "audit.toml"
[model]
path = "biased.safetensors"
[policy.limits."robustness.pgd"]
robust_accuracy = { at_least = 0.99, where = { epsilon = 0.05 } }
"""


@pytest.fixture(scope="session")
def broken_run(sample_repository, tmp_path_factory):
    """A run of the sample repository that breaks a limit on an attack and one on a group; copy it first."""
    folder = Path(shutil.copytree(sample_repository, tmp_path_factory.mktemp("broken") / "loans"))
    (folder / "broken.toml").write_text(BROKEN_LIMITS)
    words = [Path(sys.executable).with_name("model-audit"), "run", "broken.toml", "--out", "runs/broken"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return folder / "runs" / "broken"


CHANGED_LIMITS = """\
extends = "audit.toml"
[checks]
run = [
    "performance.accuracy", "fairness.groups",
    "robustness.pgd", "robustness.corruptions", "robustness.distance",
]
[checks.settings."robustness.distance"]
rows = 100
steps = 30
[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.5, no_worse_than = "baseline" }
[policy.limits."fairness.groups"]
selection_rate_ratio = { no_worse_than = "baseline" }
[policy.limits."robustness.pgd"]
robust_accuracy = { no_worse_than = "baseline", margin = 0.01, where = { epsilon = 0.05 } }
[policy.limits."robustness.corruptions"]
mean_corruption_accuracy = { at_least = 0.99, no_worse_than = "baseline" }
robust_accuracy = { at_least = 0.9, where = { severity = 5 }, group = { region = "north" } }
[policy.limits."robustness.distance"]
adversarial_distance = { at_least = 5 }
"""


@pytest.fixture(scope="session")
def changed_run(sample_repository, tmp_path_factory):
    """A run of the biased model of the sample repository against one of the fair model; copy it first."""
    folder = Path(shutil.copytree(sample_repository, tmp_path_factory.mktemp("changed") / "loans"))
    (folder / "changed.toml").write_text(CHANGED_LIMITS)
    command = [Path(sys.executable).with_name("model-audit"), "run", "changed.toml"]
    biased = ["--set", 'model.path="biased.safetensors"', "--baseline", "runs/base"]
    for words in (["--out", "runs/base"], ["--out", "runs/changed", *biased]):
        done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
    return folder / "runs" / "changed"
