import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from audit.check import Check
from audit.errors import ConfigError
from audit.evidence import EVERY_CHECK
from audit.registry import (
    Broken,
    check_names,
    installed_check,
    installed_checks,
    installed_functions,
    installed_products,
    make_plan,
)

FIRST = [
    "fairness.groups", "interpretability.integrated_gradients", "interpretability.lime",
    "interpretability.saliency", "interpretability.shap", "performance.accuracy", "robustness.fgsm",
    "robustness.pgd",
]  # fmt: skip


def test_the_first_checks_come_in_through_entry_points():
    found = installed_checks()
    assert set(FIRST) <= set(found)
    for name in FIRST:
        item = found[name]
        assert isinstance(item, Check), item
        assert item.title
        assert len(item.text) > 100, f"{name} explains itself to nobody"


def test_the_first_products_loaders_and_readers_are_there():
    assert {"predictions", "attributions", "adversaries"} <= set(installed_products())
    assert not any(isinstance(item, Broken) for item in installed_products().values())
    assert set(installed_functions("audit.loaders")) == {
        "pt2", "safetensors", "state_dict", "torchscript", "pickle",
    }  # fmt: skip
    assert set(installed_functions("audit.readers")) == {"csv", "parquet", "npz", "images"}


def plugin(folder: Path, distribution: str, points: str, module: str = "", source: str = ""):
    """A real installed distribution, as pip leaves it: a module and its metadata."""
    meta = folder / f"{distribution}-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(points)
    if module:
        (folder / f"{module}.py").write_text(source)


def listed(folder: Path):
    """What `model-audit checks` says with `folder` on the path."""
    code = "import sys; sys.argv = ['model-audit', 'checks']; from audit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(folder), "COLUMNS": "300"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_entry_point_that_does_not_import_is_shown_as_broken(tmp_path):
    plugin(tmp_path, "crooked", "[audit.checks]\ntheir.check = no_such_module:thing\n")
    done = listed(tmp_path)
    assert done.returncode == 2
    assert "their.check" in done.stdout
    assert "BROKEN" in done.stdout
    assert "no_such_module" in done.stdout


def test_a_plugin_that_ends_the_process_at_import_is_broken(tmp_path):
    points = "[audit.checks]\ntheir.exit = theirs:check\n"
    plugin(tmp_path, "quitter", points, "theirs", "import sys\nsys.exit(0)\n")
    done = listed(tmp_path)
    assert done.returncode == 2
    assert "theirs:check does not import: SystemExit: 0" in done.stdout


def test_a_check_of_a_taken_name_is_refused_with_both_places(tmp_path):
    plugin(tmp_path, "thief", "[audit.checks]\nrobustness.pgd = theirs:pgd\n", "theirs", "pgd = 1\n")
    done = listed(tmp_path)
    assert done.returncode == 3
    assert "theirs:pgd" in done.stderr
    assert "audit.checks.robustness.pgd:pgd" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_object_that_is_no_check_is_broken(tmp_path):
    plugin(tmp_path, "odd", "[audit.checks]\ntheir.odd = theirs:odd\n", "theirs", "odd = 3\n")
    assert "not a check; decorate it with @check" in listed(tmp_path).stdout


CHECKS = {
    name: Check(name, "1", lambda *, epsilon=0.1: None)
    for name in ("fairness.groups", "robustness.fgsm", "robustness.pgd")
}


@pytest.fixture(autouse=True)
def _typed():
    for item in CHECKS.values():
        item.measure.__annotations__["epsilon"] = float


def test_a_pattern_selects_and_a_name_binds():
    plan = make_plan(["robustness.*", "fairness.groups"], {}, ["robustness.pgd"], CHECKS)
    assert [(p.check, p.asked) for p in plan] == [
        ("robustness.fgsm", "pattern"), ("robustness.pgd", "name"), ("fairness.groups", "name"),
    ]  # fmt: skip
    assert plan[0].settings == {"epsilon": 0.1}


def test_each_check_is_planned_once_and_the_name_wins():
    plan = make_plan(["robustness.*", "robustness.fgsm"], {}, [], CHECKS)
    assert [(p.check, p.asked) for p in plan] == [("robustness.fgsm", "name"), ("robustness.pgd", "pattern")]


def test_a_plan_says_which_checks_could_speak_against_its_numbers():
    pairs = {("robustness.pgd", "b"), ("robustness.pgd", "a"), ("robustness.pgd", "unknown")}
    sanity = replace(CHECKS["robustness.fgsm"], doubts=frozenset(pairs | {("fairness.groups", "ratio")}))
    known = {
        **CHECKS,
        "robustness.fgsm": sanity,
        "robustness.pgd": replace(CHECKS["robustness.pgd"], measures=frozenset("abc")),
        "their.odd": Broken("their.odd", "why"),
    }
    plan = {item.check: item.doubted_by for item in make_plan(["*"], {}, [], known)}
    assert plan == {
        "robustness.pgd": {"robustness.fgsm": ("a", "b")},
        "fairness.groups": {"robustness.fgsm": ("ratio",)},
        "robustness.fgsm": {}, "their.odd": {},
    }  # fmt: skip
    # It need not be planned itself: what is not run is what must be told.
    (alone,) = make_plan(["robustness.pgd"], {}, [], known)
    assert alone.doubted_by == {"robustness.fgsm": ("a", "b")}


def test_a_doubt_of_every_check_reaches_whoever_measures_it_but_the_doubter():
    sanity = replace(
        CHECKS["robustness.fgsm"], doubts=frozenset({(EVERY_CHECK, "a"), ("robustness.pgd", "a")})
    )
    known = {
        "robustness.fgsm": sanity,
        "robustness.pgd": replace(CHECKS["robustness.pgd"], measures=frozenset("ab")),
        "fairness.groups": replace(CHECKS["fairness.groups"], measures=frozenset("b")),
        # One that declares no measures may give any.
        "their.own": replace(CHECKS["robustness.pgd"], name="their.own", measures=frozenset()),
    }
    assert {item.check: item.doubted_by for item in make_plan(["*"], {}, [], known)} == {
        "robustness.fgsm": {},
        "robustness.pgd": {"robustness.fgsm": ("a",)},
        "fairness.groups": {},
        "their.own": {"robustness.fgsm": ("a",)},
    }


@pytest.mark.parametrize("name", ["robustness.fgsm", "robustness.pgd", "fairness.robust_accuracy"])
def test_the_sanity_of_attacks_speaks_of_the_installed_attacks(name):
    (item,) = make_plan([name], {}, [], installed_checks())
    assert any(
        measure.startswith("robust_accuracy") for measure in item.doubted_by["robustness.attack_sanity"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["robustnes.*"], {}, []), "'robustnes.*' matches no installed check"),
        ((["*"], {"robustness.pdg": {}}, []), "the nearest is 'robustness.pgd'"),
        ((["*"], {}, ["fairness.group"]), "the nearest is 'fairness.groups'"),
        ((["robustness.pgd"], {}, ["fairness.groups"]), "a limit speaks of 'fairness.groups'"),
    ],
)
def test_a_wrong_plan_is_one_sentence(arguments, words):
    with pytest.raises(ConfigError, match=words.replace("*", r"\*")):
        make_plan(*arguments, CHECKS)


def test_the_entry_point_names_are_the_check_names():
    for point in entry_points(group="audit.checks"):
        item = point.load()
        assert item.name == point.name


def test_one_check_is_found_by_its_name_and_no_other_is_imported():
    assert check_names() == frozenset(installed_checks())
    assert installed_check("performance.accuracy") is installed_checks()["performance.accuracy"]
    code = (
        "import sys; from audit.registry import check_names, installed_check; check_names()\n"
        "print([m for m in sys.modules if m.startswith('audit.checks')])\n"
        "installed_check('performance.accuracy')\n"
        "print(sorted(m for m in sys.modules if m.count('.') > 2 and m.startswith('audit.checks')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['audit.checks.performance.accuracy']"]
