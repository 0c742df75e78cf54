"""Audits without a model, through the real command line: a table of counts that holds its predictions."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audit.record import read_record

CELLS = [
    # sex, race, earned, decision, people
    ("Male", "White", "yes", "hired", 180), ("Male", "White", "no", "hired", 35),
    ("Male", "White", "yes", "rejected", 60), ("Male", "White", "no", "rejected", 137),
    ("Female", "White", "yes", "hired", 170), ("Female", "White", "no", "hired", 27),
    ("Female", "White", "yes", "rejected", 58), ("Female", "White", "no", "rejected", 130),
    ("Male", "Black", "yes", "hired", 30), ("Male", "Black", "no", "hired", 10),
    ("Male", "Black", "yes", "rejected", 90), ("Male", "Black", "no", "rejected", 96),
    ("Female", "Black", "yes", "hired", 55), ("Female", "Black", "no", "hired", 20),
    ("Female", "Black", "yes", "rejected", 30), ("Female", "Black", "no", "rejected", 59),
    ("?", "White", "no", "rejected", 9), ("Female", "Black", "no", "hired", 0),
]  # fmt: skip
CONFIG = """
[model]
predictions = "decision"

[data]
path = "counts.csv"
{target}
favourable = "hired"
sensitive = ["sex", "race"]
count = "people"
label_map = {{ yes = "hired", no = "rejected" }}

[checks]
run = ["fairness.ll144", "fairness.groups", "robustness.*"]

[policy]
on_not_applicable = "{leniency}"
[policy.limits."fairness.ll144"]
impact_ratio = {{ at_least = {limit}, group = "each", where = {{ table = "{table}" }} }}
"""


def write_counts(folder):
    rows = ["sex,race,earned,decision,people", *(",".join(map(str, row)) for row in CELLS)]
    (folder / "counts.csv").write_text("\n".join(rows) + "\n")


def audited(folder, target='target = "earned"', limit=0.6, table="sex", leniency="fail"):
    write_counts(folder)
    (folder / "audit.toml").write_text(
        CONFIG.format(target=target, limit=limit, table=table, leniency=leniency)
    )
    command = [Path(sys.executable).with_name("model-audit"), "run", "audit.toml", "--out", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done, read_record(folder / "out") if (folder / "out" / "record.json").exists() else None


def by_check(record):
    return {finding.check: finding for finding in record.findings}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    return folder, *audited(folder)


def test_counts_with_decisions_are_measured_and_judged(plain):
    _, done, record = plain
    assert done.returncode == 0, done.stdout + done.stderr
    found = by_check(record)
    assert found["fairness.ll144"].status == "measured"
    assert found["fairness.groups"].status == "measured"
    assert record.verdict.exit_code == 0
    rates = {
        (m.settings["table"], m.group.get("sex"), m.group.get("race")): (m.statistics["x"], m.statistics["n"])
        for m in found["fairness.ll144"].measures
        if m.name == "selection_rate"
    }
    assert rates["sex x race", "Male", "Black"] == (40, 226)
    assert rates["sex", "Female", None] == (272, 549)
    # nine people of unknown sex are known by race
    assert rates["race", None, "White"] == (412, 806)


def test_true_positive_rates_come_from_the_stated_outcomes(plain):
    _, _, record = plain
    (rate,) = [
        m
        for m in by_check(record)["fairness.groups"].measures
        if m.name == "true_positive_rate" and m.group == {"sex": "Male", "race": "Black"}
    ]
    assert (rate.statistics["x"], rate.statistics["n"]) == (30, 120)


def test_checks_of_a_network_are_not_applicable_and_say_why(plain):
    _, _, record = plain
    for name in ("robustness.pgd", "robustness.fgsm"):
        finding = by_check(record)[name]
        assert finding.status == "not_applicable"
        assert "No model was run" in finding.reason
        assert "'decision'" in finding.reason


def test_the_record_says_that_no_model_was_run_and_hashes_the_file(plain):
    folder, _, record = plain
    digest = hashlib.sha256((folder / "counts.csv").read_bytes()).hexdigest()
    assert record.model["sha256"] == record.data["sha256"] == digest
    assert record.model["loader"] == "none"
    assert record.model["capabilities"] == ["predictions"]
    assert record.model["parameters"] == 0
    assert "No model was run" in record.model["caveats"][0]
    assert record.data["people"] == record.data["rows"] == sum(row[-1] for row in CELLS)
    assert record.data["rows_read"] == len(CELLS)
    assert record.data["predictions"] == {"column": "decision", "kind": "decisions", "threshold": None}


def test_the_report_says_it_too_and_no_row_is_in_the_record(plain):
    folder, _, _ = plain
    page = (folder / "out" / "reports" / "technical-report.html").read_text()
    assert "No model was run" in page
    total = sum(row[-1] for row in CELLS)
    assert f"The decisions in <strong>counts.csv</strong>, {total:,} people, " in page
    assert "The model in" not in page
    assert len(json.dumps(json.loads((folder / "out" / "record.json").read_text())["data"])) < 4000


def test_a_broken_limit_is_exit_code_1(tmp_path):
    done, record = audited(tmp_path, table="sex x race", limit=0.8)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [j for j in by_check(record)["fairness.ll144"].verdicts if j.verdict == "FAIL"]
    assert len(failed) == 1


def test_without_outcomes_selection_is_measured_and_nothing_is_made_up(tmp_path):
    done, record = audited(tmp_path, target="", leniency="pass")
    assert done.returncode == 0, done.stdout + done.stderr
    assert by_check(record)["fairness.ll144"].status == "measured"
    assert record.data["target"] is None
    assert [item["rows"] for item in record.data["classes"]] == [None, None]
    for m in by_check(record)["fairness.groups"].measures:
        assert m.value is None or not m.name.endswith(("positive_rate", "negative_rate", "predictive_value"))
        assert m.value is None or m.name not in ("accuracy", "base_rate", "equalized_odds_difference")


def test_a_count_that_is_no_number_of_people_is_exit_code_4(tmp_path):
    (tmp_path / "counts.csv").write_text("sex,decision,people\nMale,hired,2\nFemale,hired,1.5\n")
    (tmp_path / "audit.toml").write_text(
        '[model]\npredictions = "decision"\n'
        '[data]\npath = "counts.csv"\nsensitive = ["sex"]\ncount = "people"\n'
    )
    command = [Path(sys.executable).with_name("model-audit"), "run", "audit.toml", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "column 'people', row 2: '1.5' is not a number of people" in " ".join(done.stderr.split())


def command(folder, *words):
    return subprocess.run(
        [Path(sys.executable).with_name("model-audit"), *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def decided(rows=4_000):
    """One row for each person; men are hired a little more often."""
    random = np.random.default_rng(7)
    sex = random.choice(["F", "M"], rows)
    score = random.random(rows)
    earned = np.where(random.random(rows) < score, "yes", "no")
    people = {"sex": sex, "race": random.choice(["A", "B", "C"], rows), "earned": earned, "score": score}
    return pd.DataFrame(people | {"hired": np.where(score > np.where(sex == "M", 0.45, 0.5), "yes", "no")})


def test_a_file_larger_than_memory_is_audited_as_one_that_is_not(tmp_path):
    decided().to_parquet(tmp_path / "decisions.parquet")
    words = ["init", "--predictions", "score", "--data", "decisions.parquet", "--target", "earned"]
    done = command(tmp_path, *words, "--sensitive", "sex,race", "--output", "whole.toml")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "whole.toml").read_text()
    assert "# stream = true" in text
    text = text.replace(
        'run = ["*"]', 'run = ["fairness.groups", "fairness.ll144", "fairness.representation"]'
    )
    (tmp_path / "whole.toml").write_text(text)
    (tmp_path / "stream.toml").write_text(text.replace("# stream = true", "stream = true"))
    for name in ("whole", "stream"):
        done = command(tmp_path, "run", f"{name}.toml", "--out", name)
        assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    whole, stream = (read_record(tmp_path / name) for name in ("whole", "stream"))
    assert stream.data["rows"] == stream.data["rows_read"] == whole.data["rows"] == 4_000
    assert stream.data["streamed"]
    assert stream.verdict == whole.verdict
    for one, other in zip(whole.findings, stream.findings, strict=True):
        assert one.status == other.status == "measured"
        assert one.measures == other.measures
        assert one.verdicts == other.verdicts


def test_what_init_writes_for_a_table_of_counts_runs(tmp_path):
    write_counts(tmp_path)
    done = command(tmp_path, "init", "--predictions", "decision", "--data", "counts.csv", "--count", "people")
    assert done.returncode == 0, done.stderr
    done = command(tmp_path, "run", "audit.toml", "--out", "again")
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    record = read_record(tmp_path / "again")
    assert record.data["people"] == sum(row[-1] for row in CELLS)
    (limited,) = [finding for finding in record.findings if finding.verdicts]
    assert limited.check == "fairness.groups"
    assert limited.status == "measured"
    assert not [finding.reason for finding in record.findings if finding.status == "broken"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["init"], "MODEL is missing: give the saved model, or name --predictions and --data"),
        (["init", "model.pt2"], "DATA is missing: give the data file"),
        (["init", "--predictions", "x"], "--data is missing: give the table"),
        (["init", "m.pt2", "--predictions", "x", "--data", "d.csv"], "m.pt2 speaks of a model"),
        (["init", "m.pt2", "d.csv", "--count", "n"], "--count = n goes with --predictions"),
    ],
)
def test_a_command_that_speaks_of_a_model_and_of_none_is_exit_code_3(tmp_path, words, sentence):
    done = command(tmp_path, *words)
    assert done.returncode == 3
    assert sentence in done.stderr


def test_a_stream_of_what_no_file_states_is_exit_code_3(tmp_path):
    (tmp_path / "audit.toml").write_text(
        '[model]\npath = "m.pt2"\n[data]\npath = "d.parquet"\ntarget = "x"\nstream = true\n'
    )
    done = command(tmp_path, "run", "audit.toml", "--out", "out")
    assert done.returncode == 3
    assert "stream = true adds up decisions that a file states" in " ".join(done.stderr.split())
