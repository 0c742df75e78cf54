import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import made

from audit.errors import ConfigError
from audit.evidence import Figure, Measure, Table
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import (
    SCHEMA,
    Cost,
    Finding,
    Outcome,
    Planned,
    Record,
    as_read,
    canonical,
    finding_from,
    json_schema,
    plain,
    read_record,
    record_from,
    write_record,
)  # fmt: skip
from audit.render import render
from audit.stats import largest_difference, measure, proportion


def sample(name="accuracy"):
    pairs = {"x": [5, 9], "n": [10, 10]}
    bars = {"labels": ["a"], "values": [1.0]}
    finding = Finding(
        check="a.b",
        version="1",
        title="A title",
        status="measured",
        text="Words.",
        settings={"epsilon": [0.1]},
        measures=(
            proportion(name, 9, 10, group={"sex": "Female"}, settings={"epsilon": 0.1}),
            measure("demographic_parity_difference", "largest_difference", pairs, n=20),
            Measure(name="undefined", value=None, reason="0 of 0"),
        ),
        tables=(Table(name="t", title="T", columns=("a", "b"), rows=(("x", 1), (None, 2.5))),),
        figures=(Figure(name="f", title="F", kind="bars", alt="words", data=bars),),
        caveats=("careful",),
        cost=Cost(forward_rows=10, seconds=0.5, overhead=1.2),
    )
    limit = Limit(check="a.b", measure=name, at_least=0.5, where={"epsilon": 0.1}, group="each")
    record = Record(
        schema=SCHEMA,
        tool={"name": "model-audit"},
        run={"id": "x"},
        environment={},
        model={},
        data={},
        policy=Policy(limits=(limit,)),
        plan=(Planned(check="a.b", asked="name", settings={"epsilon": [0.1]}),),
        findings=(finding,),
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
        system={"purpose": "p"},
    )
    return judge(record)


def test_a_record_survives_the_disk_byte_for_byte(tmp_path):
    path = write_record(sample(), tmp_path)
    again = read_record(tmp_path)
    assert canonical(again) == path.read_bytes()
    assert judge(again).verdict == sample().verdict


@given(st.text(max_size=40))
def test_any_name_survives(name):
    record = sample(name)
    again = record_from(json.loads(canonical(record)), "memory")
    assert again.findings[0].measures[0].name == name


def test_every_interval_can_be_derived_again_from_the_disk(tmp_path):
    write_record(sample(), tmp_path)
    item = read_record(tmp_path).findings[0].measures[1]
    assert largest_difference(item.statistics, item.level) == (item.value, item.low, item.high)


def test_the_published_schema_accepts_a_record_and_refuses_others():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = json.loads(canonical(sample()))
    validator.validate(good)
    good["findings"][0]["status"] = "fine"
    assert list(validator.iter_errors(good))


def test_the_top_level_keys_are_those_that_the_design_names():
    keys = {"schema", "tool", "run", "environment", "model", "data", "policy", "plan", "findings", "verdict"}
    assert keys <= set(plain(sample()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_never_reaches_the_disk(value):
    with pytest.raises(ValueError, match=r"(?i)nan|inf|represent|domain"):
        canonical({"value": value})


def test_numpy_numbers_become_plain():
    assert plain({"a": np.float32(0.5), "b": np.int64(3), "c": (np.bool_(True),)}) == {
        "a": 0.5,
        "b": 3,
        "c": [True],
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as JSON"),
        (b"[" * 100_000, "nested more than 100 levels deep"),
        (b'{"schema": "model-audit/record/1", "run": ' + b"[" * 400 + b"]" * 400 + b"}", "levels deep"),
        (b"{}", "is not a record of this tool: its schema is None"),
        (b"[1]", "its schema is 'list'"),
        (b'{"schema": "model-audit/record/1"}', "is damaged at 'tool'"),
    ],
)
def test_a_damaged_record_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_record(tmp_path)


def test_an_unknown_key_deep_inside_is_refused():
    value = json.loads(canonical(sample()))
    value["findings"][0]["measures"][0]["secret"] = 1
    with pytest.raises(ConfigError, match=r"findings\.0\.measures\.0\.secret"):
        record_from(value, "memory")


def test_a_missing_record_names_the_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"record\.json does not exist"):
        read_record(tmp_path)


def test_a_finding_survives_a_journal_line():
    finding = sample().findings[0]
    assert canonical(finding_from(json.loads(canonical(finding)))) == canonical(finding)


def test_a_page_is_the_same_before_and_after_the_record_was_written(tmp_path):
    group, settings = {"sex": "f", "race": "b"}, {"z": 1.0, "b": 2}
    finding = Finding(
        check="a.b", version="1", title="t", status="measured",
        settings={"steps": 3, "alpha": 2.0, "Å": 1, "a": {}},
        measures=(proportion("accuracy", 9, 10, group=group, settings=settings),),
        tables=(Table(name="n", title="T", columns=("c", "d"), rows=((1.0, 0.5), (2, None))),),
    )  # fmt: skip
    record = made((finding,), run={"started": "2026-11-20T09:12:44+00:00", "id": "7" * 16, "seed": 0})
    write_record(record, tmp_path)
    read = read_record(tmp_path)
    assert list(record.findings[0].settings) != list(read.findings[0].settings)
    assert render(record) == render(read)
    assert as_read(read) is read
    assert as_read(record) == read
