"""The demo finds what was planted, and nothing where nothing was."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from audit.commands.writing import write_report
from audit.config import read_config
from audit.demo import applicants, make_credit, make_demo
from audit.errors import ConfigError
from audit.policy import Verdict
from audit.record import read_record
from audit.registry import installed_checks
from audit.supervisor import run
from audit.terminal import console


@pytest.fixture(scope="module")
def credit(demo_folder):
    return read_record(demo_folder / "credit" / "run")


@pytest.fixture(scope="module")
def digits(demo_folder):
    return read_record(demo_folder / "digits" / "run")


def verdicts(record, check, measure):
    (finding,) = [f for f in record.findings if f.check == check]
    return {tuple(j.group.values()): j.verdict for j in finding.verdicts if j.measure == measure}


NO_LAYERS = {
    "attention",
    "deep_lift",
    "deep_shap",
    "gradcam",
    "influence",
    "layer_conductance",
    "lrp",
    "tcav",
}
UNFIT = {
    "credit": {
        *(
            f"fairness.{name}"
            for name in ("counterfactual", "custom", "ll144", "ll144_published", "regression")
        ),
        *(f"interpretability.{name}" for name in {*NO_LAYERS, "activation", "rise"}),
        *(f"robustness.{name}" for name in ("series", "spatial")),
        "performance.error",
        "reliability.overfit",
    },
    "digits": {
        *(f"interpretability.{name}" for name in NO_LAYERS),
        *(
            f"interpretability.{name}"
            for name in ("interactions", "partial_dependence", "permutation", "reason_codes", "surrogate")
        ),
        *(f"robustness.{name}" for name in ("feasible", "series")),
        "performance.error",
        "reliability.overfit",
    },
}


def test_every_planned_check_of_both_models_was_measured_or_does_not_fit(credit, digits):
    for name, record in {"credit": credit, "digits": digits}.items():
        lost = {f.check: f.reason for f in record.findings if f.status not in ("measured", "not_applicable")}
        assert lost == {}
        assert {f.check for f in record.findings if f.status == "not_applicable"} == UNFIT[name]


def test_the_planted_injustice_is_found_by_name(credit):
    found = verdicts(credit, "fairness.groups", "selection_rate_ratio")
    assert found["newcomer",] is Verdict.FAIL
    assert credit.verdict.exit_code == 1


def test_women_and_men_whom_nobody_wronged_pass(credit):
    found = verdicts(credit, "fairness.groups", "selection_rate_ratio")
    assert {found.get(("Female",)), found.get(("Male",))} == {Verdict.PASS, None}


def test_a_model_without_the_plant_is_not_flagged(tmp_path):
    make_credit(tmp_path, penalty=0.0)
    text = (tmp_path / "audit.toml").read_text()
    only = (
        text[: text.index("[checks]")] + '[checks]\nrun = ["fairness.*"]\n[policy.limits."fairness.groups"]\n'
    )
    (tmp_path / "audit.toml").write_text(only + "selection_rate_ratio = { at_least = 0.8 }\n")
    record = run(read_config(tmp_path / "audit.toml"), tmp_path / "audit.toml", tmp_path / "run")
    assert Verdict.FAIL not in verdicts(record, "fairness.groups", "selection_rate_ratio").values()


def test_the_plant_is_in_the_decisions_and_not_in_the_merit():
    wronged, fair = applicants(20_000, seed=1), applicants(20_000, seed=1, penalty=0.0)
    assert np.array_equal(wronged.inputs, fair.inputs)
    newcomer = np.array([item == "newcomer" for item in wronged.origin])
    assert fair.granted[newcomer].mean() == pytest.approx(fair.granted[~newcomer].mean(), abs=0.02)
    assert wronged.granted[newcomer].mean() < 0.6 * wronged.granted[~newcomer].mean()


def test_district_gives_the_origin_away():
    people = applicants(20_000, seed=1)
    newcomer = np.array([item == "newcomer" for item in people.origin])
    guessed = people.inputs[:, 4] >= 2
    assert (guessed == newcomer).mean() > 0.8


def test_the_pages_are_written_and_linked(demo_folder):
    index = (demo_folder / "index.html").read_text()
    for name in ("credit", "digits"):
        href = f"{name}/run/reports/technical-report.html"
        assert f'href="{href}"' in index
        assert (demo_folder / href).stat().st_size > 20_000
        contents = (demo_folder / href).with_name("index.html").read_text()
        assert 'href="technical-report.html"' in contents


def test_the_contents_of_a_run_are_those_that_its_command_writes(demo_folder, tmp_path):
    made = demo_folder / "credit" / "run"
    written = write_report(Path(shutil.copytree(made, tmp_path / "run")), "technical-report", None)
    for name in ("index.html", "technical-report.html"):
        assert written.with_name(name).read_bytes() == (made / "reports" / name).read_bytes()


def test_no_check_measures_what_it_does_not_declare(credit, digits):
    declared = {name: item.measures for name, item in installed_checks().items()}
    seen = [(f.check, m.name) for record in (credit, digits) for f in record.findings for m in f.measures]
    assert len({check for check, _ in seen}) > 35
    assert [pair for pair in seen if pair[1] not in declared[pair[0]]] == []


def test_a_folder_of_the_users_is_not_deleted(tmp_path):
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not a demo of this tool"):
        make_demo(tmp_path, console())
    assert (tmp_path / "credit" / "thesis.txt").exists()
