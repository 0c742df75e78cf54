import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import answered, finding_of, people
from signed import digits

from audit.checks.fairness.groups import groups
from audit.checks.performance.accuracy import accuracy
from audit.config import read_config
from audit.dataset import Sensitive
from audit.errors import ConfigError, NotApplicable
from audit.load import no_model
from audit.measure import measure, set_up
from audit.outcomes import MOST_ROWS, Outcomes, answers, attacked, read, store
from audit.record import Artifact
from audit.supervisor import run


def same(one, other):
    assert np.array_equal(one.rows, other.rows)
    assert one.favourable == other.favourable
    for kind in ("flags", "numbers"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        assert list(mine) == list(theirs)
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert list(one.codes) == list(other.codes)
    for name, (names, codes) in one.codes.items():
        assert other.codes[name][0] == names
        assert np.array_equal(other.codes[name][1], codes)
    return True


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
)
def test_what_is_kept_is_what_was_given(tmp_path_factory, names, rows, seed):
    random, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("run")
    given_rows = np.sort(random.choice(100, size=rows, replace=False)).astype(np.int64)
    kept = Outcomes(
        rows=given_rows,
        flags={name: random.random(rows) < 0.5 for name in names},
        codes={name: (tuple(names), random.integers(0, len(names), rows)) for name in names},
        numbers={name: random.normal(size=rows).astype(np.float32) for name in names},
        favourable=names[0],
    )
    artifact = store(kept, folder)
    assert same(kept, read([Artifact(path="artifacts/a.npz", sha256="0"), artifact], folder))


def test_two_checks_keep_the_same_answers_once(tmp_path):
    data = people(50)
    predictions = answered(data, np.arange(50) % 3 > 0)
    found = [finding_of(check, {}, data, predictions, tmp_path) for check in (accuracy, groups)]
    paths = {item.path for finding in found for item in finding.artifacts}
    assert len(paths) == 1
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [paths.pop().split("/")[1]]


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_keeps_none_where_that_is_asked(tmp_path, kept):
    data = people(50)
    predictions = answered(data, np.arange(50) % 3 > 0)
    bench = set_up(no_model("decision", data), data, 0, {})
    bench = replace(bench, outcomes=kept, made={"predictions": predictions})
    finding = measure(groups, groups.settings({}), bench, tmp_path)
    assert finding.status == "measured", finding.reason
    assert [item.path.startswith("artifacts/outcomes-") for item in finding.artifacts] == [True] * kept
    assert len(list(tmp_path.rglob("*.npz"))) == kept


def test_the_configuration_reaches_the_run(tmp_path):
    path = digits(tmp_path)
    given = ["checks.outcomes=false", "checks.reproducers=false"]
    record = run(read_config(path, overrides=given), path, tmp_path / "run")
    assert {finding.status for finding in record.findings} == {"measured"}
    kept = [item.path for finding in record.findings for item in finding.artifacts]
    assert kept == ["artifacts/interpretability.saliency.npz"]
    assert [path.name for path in (tmp_path / "run" / "artifacts").rglob("*.npz")] == [kept[0].split("/")[1]]


def test_the_same_outcomes_are_the_same_bytes(tmp_path):
    data = people(50)
    kept = answers(data, answered(data, np.arange(50) % 3 > 0))
    first, second = store(kept, tmp_path / "a"), store(kept, tmp_path / "b")
    assert first == second
    assert (tmp_path / "a" / first.path).read_bytes() == (tmp_path / "b" / second.path).read_bytes()


def test_answers_hold_what_numbers_depend_on_and_no_input():
    data = people(60)
    right = np.arange(60) % 4 > 0
    predictions = answered(data, right)
    kept = answers(data, predictions)
    assert np.array_equal(kept.flags["correct"], right)
    assert np.array_equal(kept.coded("label")[1], data.labels)
    assert kept.coded("group race") == (("a", "b", "c"), kept.codes["group race"][1])
    odds = predictions.scores[:, 1].astype(float) - predictions.scores[:, 0]
    assert np.allclose(kept.numbers["score"], odds, atol=1e-6)
    assert set(kept.codes) == {"label", "predicted", "group sex", "group race"}
    assert kept.coded("inputs") == ((), None)


def test_confidence_is_kept_where_it_does_not_follow_from_the_score():
    data = people(40)
    predictions = answered(data, np.ones(40, dtype=bool))
    kept = answers(replace(data, favourable=None), predictions)
    assert np.allclose(kept.numbers["confidence"], predictions.probabilities.max(axis=1), atol=1e-6)
    assert "score" not in kept.numbers
    assert "confidence" not in answers(data, predictions).numbers


def test_stated_decisions_without_outcomes_or_scores_are_kept_as_far_as_they_go():
    from audit.products.predictions import _stated

    rows = people(30)
    decisions = np.arange(30) % 2
    data = replace(rows, decisions=decisions)
    vars(data).pop("labels")
    kept = answers(data, _stated(data, decisions))
    assert set(kept.flags) == {"finite"}
    assert set(kept.codes) == {"predicted", "group sex", "group race"}
    assert kept.numbers == {}
    with pytest.raises(NotApplicable):
        _ = data.labels


def test_rows_that_stand_for_several_people_are_not_kept():
    data = people(20)
    predictions = answered(data, np.ones(20, dtype=bool))
    assert answers(replace(data, people=np.full(20, 3)), predictions) is None
    assert MOST_ROWS >= 1_000_000


def test_an_altered_file_is_named_and_a_missing_one_is_not_there(tmp_path):
    data = people(20)
    artifact = store(answers(data, answered(data, np.ones(20, dtype=bool))), tmp_path)
    path = tmp_path / artifact.path
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"outcomes-[0-9a-f]+\.npz was altered after the audit"):
        read([artifact], tmp_path)
    path.unlink()
    assert read([artifact], tmp_path) is None
    assert read([artifact], None) is None
    assert read([], tmp_path) is None


def test_outcomes_with_names_nested_without_end_are_one_sentence(tmp_path):
    import hashlib

    path = tmp_path / "artifacts" / "outcomes-0.npz"
    path.parent.mkdir()
    np.savez(path, names=np.frombuffer(b"[" * 100_000, dtype=np.uint8))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match="cannot be read as outcomes"):
        read([Artifact(path="artifacts/outcomes-0.npz", sha256=digest)], tmp_path)


def test_a_file_that_is_no_outcomes_is_one_sentence(tmp_path):
    import hashlib

    path = tmp_path / "artifacts" / "outcomes-0.npz"
    path.parent.mkdir()
    path.write_bytes(b"not a zip")
    artifact = Artifact(path="artifacts/outcomes-0.npz", sha256=hashlib.sha256(b"not a zip").hexdigest())
    with pytest.raises(ConfigError, match="cannot be read as outcomes"):
        read([artifact], tmp_path)
    outside = Artifact(path="artifacts/outcomes-/../../../secret.npz", sha256="0")
    assert read([outside], tmp_path) is None


def test_a_name_that_is_no_path_and_links_in_a_circle_hold_no_outcomes(tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "outcomes-0.npz").symlink_to("outcomes-0.npz")
    for name in ("artifacts/outcomes-0.npz", "artifacts/outcomes-\0"):
        assert read([Artifact(path=name, sha256="0")], tmp_path) is None


def test_an_attack_keeps_who_withstood_at_each_radius():
    from audit.attack.result import AtEpsilon, AttackResult

    data = people(10)
    rows, correct = np.array([1, 4, 7]), np.array([True, True, False])
    none = np.zeros(3, dtype=bool)
    entry = {
        "zero": none,
        "nan": none,
        "late": 0,
        "rejected": {},
        "kept": rows[:0],
        "examples": data.inputs[:0],
    }
    at = tuple(
        AtEpsilon(epsilon=e, fooled=np.array(fooled), **entry)
        for e, fooled in ((0.0, [False, False, False]), (0.5, [True, False, False]))
    )
    kept = attacked(data, AttackResult(method="m", rows=rows, correct=correct, at=at, walked=True))
    assert kept.flags["robust 0.5"].tolist() == [False, True, False]
    assert kept.flags["robust 0.0"].tolist() == [True, True, False]
    assert kept.coded("group sex")[1].tolist() == data.sensitive["sex"].codes[rows].tolist()


def test_a_million_rows_are_small_and_quick(tmp_path):
    rows = 1_000_000
    data = people(rows)
    data = replace(data, sensitive={"sex": Sensitive(name="sex", groups=("f", "m"), codes=data.labels)})
    predictions = answered(data, np.random.default_rng(0).random(rows) < 0.8)
    kept = answers(data, predictions)
    started = time.process_time()
    artifact = store(kept, tmp_path)
    found = read([artifact], tmp_path)
    assert time.process_time() - started < 5
    assert (tmp_path / artifact.path).stat().st_size < 6 * rows
    assert np.array_equal(found.flags["correct"], predictions.correct)
