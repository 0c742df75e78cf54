"""Names in settings: a wrong one is refused while the audit is planned, before torch or a file is touched."""

import subprocess
import sys
from pathlib import Path

import pytest

from audit.checks.interpretability.importance import importance
from audit.checks.interpretability.trust import COSTLY, trust
from audit.errors import ConfigError
from audit.explain.names import METHOD_NAMES
from audit.products.attributions import METHODS
from audit.registry import make_plan

CONFIG = """
[model]
path = "missing.pt2"
[data]
path = "missing.csv"
[checks]
run = ["interpretability.{check}"]
[checks.settings."interpretability.{check}"]
{setting}
"""


def test_the_names_are_those_of_the_methods():
    assert tuple(METHODS) == METHOD_NAMES
    assert set(COSTLY) < set(METHOD_NAMES)


@pytest.mark.parametrize(("check", "setting"), [
    (trust, {"methods": ["saliency", "salency"]}), (importance, {"method": "salency"}),
])  # fmt: skip
def test_a_plan_with_an_unknown_name_is_refused_with_the_nearest(check, setting):
    with pytest.raises(
        ConfigError, match=r"'salency' is not an attribution method; the nearest is 'saliency'"
    ):
        make_plan([check.name], {check.name: setting}, [], {check.name: check})


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_method_may_be_named(name):
    assert trust.settings({"methods": [name]})["methods"] == [name]
    assert importance.settings({"method": name})["method"] == name


def test_an_empty_list_names_no_method():
    with pytest.raises(ConfigError, match="methods"):
        trust.settings({"methods": []})


@pytest.mark.parametrize(("check", "setting"), [
    ("trust", 'methods = ["kernelshap"]'), ("importance", 'method = "kernelshap"'),
])  # fmt: skip
def test_the_command_ends_with_3_before_it_looks_for_the_model(tmp_path, check, setting):
    (tmp_path / "audit.toml").write_text(CONFIG.format(check=check, setting=setting))
    script = Path(sys.executable).parent / "model-audit"
    done = subprocess.run(
        [script, "run", "audit.toml", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "'kernelshap' is not an attribution method; the nearest is 'kernel_shap'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_names_are_known_without_torch():
    code = (
        "import sys; from audit.explain.names import METHOD_NAMES; "
        "from audit.checks.interpretability.importance import importance; "
        "importance.settings({}); assert 'torch' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
