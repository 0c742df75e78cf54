import json
from pathlib import Path

import torch

from audit.environment import describe_environment, patient, tool, version_of


def test_the_facts_are_json_and_name_what_computes():
    facts = describe_environment(torch.device("cpu"))
    json.dumps(facts, allow_nan=False)
    assert facts["packages"]["torch"] == version_of("torch")
    assert facts["accelerator"] is None
    assert tool() == {"name": "model-audit", "version": version_of("model-audit")}


def test_the_processor_is_named_where_the_system_names_it():
    named = describe_environment(torch.device("cpu"))["cpu"]
    assert named
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    assert not models or named in models


def test_a_package_that_is_not_installed_has_no_version():
    assert version_of("no-such-package-anywhere") is None


def test_threads_wait_patiently_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert patient()["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert patient()["OMP_WAIT_POLICY"] == "ACTIVE"
