"""What a user installs: one import package, with its documents and templates, that runs away from here."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_only_top_level_names_are_the_package_the_console_script_and_the_pytest_plugin(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "audit",
        "model_audit_command.py",
        "pytest_model_audit.py",
    }


def test_documents_templates_and_types_travel_along(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "audit/reports/technical-report.toml",
        "audit/templates/document.html.j2",
        "audit/py.typed",
    } <= names


def test_the_installed_wheel_finds_its_documents_and_checks(wheel, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(command, check=True, capture_output=True)
    code = "import audit; print(audit.__file__); from audit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "documents"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert "technical-report" in done.stdout
    _is_not_led_astray(site, tmp_path)


def _is_not_led_astray(site, tmp_path):
    """PYTHONPATH names a repository that has a package `audit` of its own: the console script is ours."""
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "__init__.py").write_text("raise RuntimeError('this is not model-audit')\n")
    done = subprocess.run(
        [site / "bin" / "model-audit", "documents"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{site}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "technical-report" in done.stdout
