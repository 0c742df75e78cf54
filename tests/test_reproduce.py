"""Reproduce: the same audit gives the same numbers, and a planted change is found and named."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import reproduce as nouns
from audit.errors import ConfigError, LoadError
from audit.evidence import Measure, Table
from audit.record import Finding, canonical, read_record
from audit.registry import installed_check, installed_products
from audit.reproduce import _check, _measure_state, _Rule, draws, near, reproduce
from audit.stats import measure, proportion

pytestmark = pytest.mark.pipeline

COMMAND = Path(sys.executable).with_name("model-audit")
HERE, ELSEWHERE = _Rule(drawn=False, elsewhere=False), _Rule(drawn=False, elsewhere=True)
DRAWN = _Rule(drawn=True, elsewhere=True)


def command(*words, cwd):
    return subprocess.run([COMMAND, *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def project(broken_run, tmp_path):
    """A copy of the sample repository with its broken run."""
    return Path(shutil.copytree(broken_run.parent.parent, tmp_path / "loans"))


def edited(home, change):
    """Edit the record of the run, and put right the hash of its configuration as a careful forger would."""
    path = home / "runs" / "broken" / "record.json"
    value = json.loads(path.read_bytes())
    change(value)
    value["run"]["config_sha256"] = hashlib.sha256(canonical(value["run"]["config"])).hexdigest()
    path.write_bytes(canonical(value))
    return home / "runs" / "broken"


def test_on_this_machine_every_number_is_identical(project):
    done = command("reproduce", "runs/broken", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    counts = found["counts"]
    assert counts["identical"] > 100
    assert [counts[key] for key in counts if key != "identical"] == [0, 0, 0, 0]
    assert (found["numbers"], found["elsewhere"]) == ([], [])
    assert "1e-06" in found["tolerance"]
    old, new = (read_record(project / "runs" / name) for name in ("broken", "broken-reproduced"))
    assert [item.measures for item in old.findings] == [item.measures for item in new.findings]
    assert old.plan == new.plan
    assert new.model["batch_size"] == old.model["batch_size"]
    assert new.run["config"]["model"]["batch_size"] == old.model["batch_size"]
    compared = command("compare", "runs/broken", "runs/broken-reproduced", cwd=project)
    assert compared.returncode in (0, 1), compared.stderr


def test_planted_edits_are_found_and_named_in_the_terminal(project):
    """A value, a count behind one, a cell of a table, a number taken out, and one of the forger's own."""

    def change(value):
        by_check = {item["check"]: item for item in value["findings"]}
        accuracy, pgd = by_check["performance.accuracy"], by_check["robustness.pgd"]
        next(m for m in accuracy["measures"] if m["group"] == {"region": "north"})["value"] += 0.001
        accuracy["measures"][0]["statistics"]["x"] += 1
        accuracy["tables"][0]["rows"][0][1] += 1
        pgd["measures"] = pgd["measures"][1:]
        pgd["measures"][0]["name"] = "accuracy_of_my_own"

    edited(project, change)
    done = command("reproduce", "runs/broken", "--out", "runs/again", cwd=project)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    rows = {
        line.split()[0]: line.split()[1:5] for line in lines if line[:1].isalpha() and "." in line.split()[0]
    }
    assert rows["performance.accuracy"][1:] == ["0", "3", "0"]
    assert rows["fairness.groups"][1:] == ["0", "0", "0"]
    assert int(rows["fairness.groups"][0]) > 50
    assert rows["robustness.pgd"][1:] == ["0", "0", "3"]
    start = lines.index("Differ beyond the tolerance")
    named = "  performance.accuracy "
    assert lines[start + 1].startswith(f"{named}accuracy: recorded")
    assert lines[start + 2].startswith(f"{named}accuracy (region = north): recorded")
    assert lines[start + 3].startswith(f"{named}table 'confusion', row 1, predicted no: recorded")
    assert "In the record only\n  robustness.pgd accuracy_of_my_own (epsilon = 0.05)" in done.stdout
    assert "Here only\n  robustness.pgd clean_accuracy" in done.stdout
    assert "a number may differ by 1e-06" in done.stdout
    assert "3 differ beyond it, 1 could not be measured again, 2 are not in the record" in done.stdout
    assert (project / "runs" / "again" / "record.json").is_file()


def test_a_planted_seed_is_found(project):
    def change(value):
        value["run"]["seed"] = value["run"]["config"]["seed"] = 8

    found = reproduce(edited(project, change))
    differing = {item.check for item in found.checks if item.count("differs")}
    assert differing == {"robustness.pgd", "interpretability.integrated_gradients"} & differing
    assert "robustness.pgd" in differing
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run.update(seed=8), "its run has the seed 8, its configuration 7"),
        (lambda run: run.update(config=None), "holds no configuration"),
        (lambda run: run.update(config_file=None), "does not say where its audit.toml lies"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(project, change, words):
    run = edited(project, lambda value: change(value["run"]))
    with pytest.raises(ConfigError, match=words):
        reproduce(run)
    assert not run.with_name("broken-reproduced").exists()


def test_a_configuration_edited_without_its_hash_is_refused(project):
    path = project / "runs" / "broken" / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"seed":7', b'"seed":9'))
    with pytest.raises(ConfigError, match="does not have the config_sha256 it states"):
        reproduce(path.parent)


def test_other_data_are_refused_with_both_digests(project):
    recorded = read_record(project / "runs" / "broken").data["sha256"]
    with (project / "applicants.csv").open("a") as file:
        file.write("0,0,0,0,north,yes\n")
    found = hashlib.sha256((project / "applicants.csv").read_bytes()).hexdigest()
    done = command("reproduce", "runs/broken", cwd=project)
    assert done.returncode == 4
    assert recorded in done.stderr
    assert found in done.stderr
    assert not (project / "runs" / "broken-reproduced").exists()


def test_another_factory_is_refused_after_loading_and_leaves_no_folder(project):
    with (project / "models.py").open("a") as file:
        file.write("# a remark\n")
    with pytest.raises(LoadError, match="the file of its factory"):
        reproduce(project / "runs" / "broken")
    assert not (project / "runs" / "broken-reproduced").exists()


def test_a_folder_that_exists_is_not_written_to(project):
    (project / "runs" / "broken-reproduced").mkdir()
    (project / "runs" / "broken-reproduced" / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match="exists; name another folder"):
        reproduce(project / "runs" / "broken")


def test_elsewhere_the_audit_toml_is_named_and_the_other_tolerance_holds(project, tmp_path):
    """Another machine is played by a record of one: another processor, and sums rounded in another order."""

    def change(value):
        value["environment"]["cpu"] = "another processor"
        for finding in value["findings"]:
            for item in finding["measures"]:
                if item["value"] and item["low"] is not None and item["high"] is not None:
                    item["value"] += 0.02 * (item["high"] - item["low"])

    run = Path(shutil.move(edited(project, change), tmp_path / "carried"))
    with pytest.raises(LoadError, match=r"--config names the audit\.toml"):
        reproduce(run)
    found = reproduce(run, config=project / "audit.toml")
    assert found.again == tmp_path / "carried-reproduced"
    assert [item[:2] for item in found.elsewhere] == [("cpu", "another processor")]
    assert "not as recorded" in found.tolerance
    assert found.counts["within tolerance"] > 20
    assert (found.counts["differs"], found.exit_code) == (0, 0)


def test_a_check_that_is_not_installed_could_not_be_measured_again(project):
    def change(value):
        for item in (*value["plan"], *value["findings"]):
            if item["check"] == "performance.accuracy":
                item["check"] = "performance.of_a_stranger"
        value["run"]["config"]["checks"]["run"] = ["robustness.pgd"]

    found = reproduce(edited(project, change))
    lost = {item.check: item.lost for item in found.checks if item.lost}
    assert lost == {"performance.of_a_stranger": "it is not installed here"}
    assert found.exit_code == 2
    assert "1 checks could not be measured again" in found.sentence


def test_a_folder_cannot_say_for_its_user_that_a_pickle_is_trusted(project):
    run = edited(project, lambda value: value["run"]["config"]["model"].update(trust=True))
    with pytest.raises(ConfigError, match="says trust = true"):
        reproduce(run, config=project / "audit.toml")


# The tolerance, worked out by hand.


def share(x, n=100):
    return proportion("accuracy", x, n, better="higher")


def test_states_of_a_number():
    assert _measure_state(share(50), share(50), HERE) == "identical"
    assert _measure_state(share(50), share(51), HERE) == "differs"
    assert _measure_state(share(50), None, HERE) == "only in the record"
    assert _measure_state(None, share(50), HERE) == "only here"
    # Half width .096: a tenth of it is .0096, and one row of 200 changes .005, two of them .01.
    assert _measure_state(share(100, 200), share(101, 200), HERE) == "differs"
    assert _measure_state(share(100, 200), share(101, 200), ELSEWHERE) == "within tolerance"
    assert _measure_state(share(100, 200), share(103, 200), ELSEWHERE) == "differs"
    assert _measure_state(share(100, 200), share(103, 200), DRAWN) == "within tolerance"
    assert _measure_state(share(100, 200), share(120, 200), DRAWN) == "differs"


def test_an_undefined_number_is_near_another_only():
    none = Measure(name="accuracy", value=None, reason="0 rows")
    other = replace(none, reason="no rows at all")
    assert _measure_state(none, none, HERE) == "identical"
    assert _measure_state(none, other, HERE) == "within tolerance"
    assert _measure_state(none, share(1), ELSEWHERE) == "differs"
    assert _measure_state(share(1), none, DRAWN) == "differs"
    without = Measure(name="distance", value=3.0)
    assert _measure_state(without, replace(without, value=3.0 + 1e-6), DRAWN) == "within tolerance"
    assert _measure_state(without, replace(without, value=3.1), DRAWN) == "differs"


def test_rounding_is_within_tolerance_on_the_same_machine():
    old, new = (measure("loss", "exact", {"value": value}, unit="loss") for value in (1.0, 1.0000005))
    assert old.value != new.value
    assert _measure_state(old, new, HERE) == "within tolerance"


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(-3e-6, 3e-6, allow_nan=False),
)
def test_near_is_a_millionth_of_the_larger_and_of_one_at_least(value, share_of):
    other = value + share_of * max(1.0, abs(value))
    gap = abs(value - other)
    if gap <= 0.999e-6 * max(1.0, abs(value)):
        assert near(value, other, 0.0)
    elif gap > 1.001e-6 * max(1.0, abs(value), abs(other)):
        assert not near(value, other, 0.0)
    assert near(value, other, gap)
    assert near(None, None, 0.0)
    assert not near(value, None, 1.0)


def finding(**changes):
    facts = {"check": "c", "version": "1", "title": "t", "status": "measured", "measures": (share(5),)}
    return Finding(**{**facts, **changes})


def test_what_was_measured_and_is_not_any_more_is_lost():
    broken = finding(status="broken", reason="it crashed", measures=())
    lost = _check(finding(), broken, HERE, "")
    assert lost.lost == "it crashed"
    assert lost.count("only in the record") == 1
    assert _check(broken, broken, HERE, "").numbers == ()
    more = _check(broken, finding(), HERE, "")
    assert (more.lost, more.count("only here")) == ("", 1)
    other = _check(finding(), finding(version="2"), HERE, "")
    assert other.note == "version 2 here, 1 in the record"


def test_tables_are_compared_cell_by_cell_on_the_same_machine_alone():
    table = Table(name="counts", title="t", columns=("group", "rows"), rows=[("a", 3), ("b", 4)])
    old = finding(measures=(), tables=(table,))
    more = finding(measures=(), tables=(replace(table, rows=[("a", 3), ("c", 5)]),))
    names = {item.name: item.state for item in _check(old, more, HERE, "").numbers}
    assert names == {
        "table 'counts', row 1, rows": "identical",
        "table 'counts', row 2, group": "differs",
        "table 'counts', row 2, rows": "differs",
    }
    assert _check(old, more, ELSEWHERE, "").numbers == ()
    longer = finding(measures=(), tables=(replace(table, rows=[("a", 3)]),))
    (found,) = _check(old, longer, HERE, "").numbers
    assert (found.recorded, found.now, found.state) == ("2 rows", "1 rows", "differs")
    (gone,) = _check(old, finding(measures=(), tables=()), HERE, "").numbers
    assert gone.state == "only in the record"


def test_numbers_of_the_same_name_are_paired_in_their_order():
    old = finding(measures=(share(5), share(7)))
    new = finding(measures=(share(5), share(8), share(9)))
    states = [item.state for item in _check(old, new, HERE, "").numbers]
    assert states == ["identical", "differs", "only here"]


def test_a_setting_that_is_itself_measured_may_be_rounded_otherwise():
    def binned(x, score):
        return replace(share(x), settings={"bin": 1, "mean_score": score})

    old = finding(measures=(binned(5, 0.25), binned(6, 0.5)))
    near_by = finding(measures=(binned(5, 0.25 + 1e-8), binned(6, 0.5 - 1e-8)))
    assert [item.state for item in _check(old, near_by, HERE, "").numbers] == ["within tolerance"] * 2
    far = finding(measures=(binned(5, 0.25 + 1e-8), binned(6, 0.51)))
    states = [item.state for item in _check(old, far, HERE, "").numbers]
    assert states == ["within tolerance", "only in the record", "only here"]
    other = finding(measures=(replace(binned(5, 0.25 + 1e-8), group={"sex": "f"}), binned(6, 0.5)))
    states = [item.state for item in _check(old, other, HERE, "").numbers]
    assert states == ["only in the record", "identical", "only here"]


def test_which_checks_draw():
    products = installed_products()
    assert not draws(installed_check("performance.accuracy"), products)
    assert not draws(installed_check("fairness.groups"), products)
    assert draws(installed_check("robustness.pgd"), products)
    assert draws(installed_check("robustness.corruptions"), products)
    assert not draws(None, products)


def test_the_tolerance_that_is_printed_is_the_one_that_is_used():
    assert nouns.RELATIVE == 1e-6
    assert nouns.EDGE == 0.1
    assert "a tenth of the half width" in nouns._tolerance(elsewhere=True)
