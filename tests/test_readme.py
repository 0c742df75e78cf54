"""Every command in README.md and in the page on adding a check is run, in order, as written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": ROOT / "README.md", "add-a-check": ROOT / "examples" / "add-a-check" / "README.md"}


def commands(page):
    """(command, expected exit code or None for any) of every `console` block of a page."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.splitlines():
            command, _, comment = line.removeprefix("$ ").partition("  # ")
            stated = re.search(r"exit code (\d|any)", comment)
            code = stated.group(1) if stated else "0"
            found.append((command.strip(), None if code == "any" else int(code)))
    return found


@pytest.fixture(scope="module")
def newcomer(demo_folder, tmp_path_factory):
    """A folder as a newcomer has it: the repository's examples, and the demo made already."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(demo_folder, folder / "demo")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return folder, {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "site")}


def as_run_here(command):
    """The words of a command; a `pip install` goes into a folder of the test's own."""
    words = shlex.split(command)
    if words[:2] == ["pip", "install"]:
        return [
            sys.executable,
            "-m",
            *words,
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            "site",
        ]
    return words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_it_says(page, newcomer):
    folder, environment = newcomer
    listed = commands(PAGES[page])
    assert len(listed) >= 4
    for command, code in listed:
        if command.startswith("make ") or command == "model-audit demo demo":
            continue
        words = as_run_here(command)
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        said = f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in said
        assert done.returncode == code or code is None, said


def test_the_two_commands_at_the_top_exist_in_the_makefile():
    listed = [command for command, _ in commands(PAGES["README.md"])]
    assert listed[:2] == ["make demo", "make test"]
    for command in listed[:2]:
        done = subprocess.run(
            [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_check_from_outside_is_in_the_report(newcomer):
    folder, _ = newcomer
    page = folder / "runs" / "sure" / "reports" / "technical-report.html"
    assert "Sure and wrong" in page.read_text()


def test_every_file_that_readme_points_to_exists():
    text = PAGES["README.md"].read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`(tests/[^`]+)`", text):
        assert (ROOT / target).exists(), target
