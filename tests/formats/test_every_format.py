"""What holds for every format: no yes that was not given, the same bytes, nothing a text can do."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import records
from published import CYCLONEDX, OSCAL, SARIF, faults

from audit.formats.answers import answers, derived
from audit.formats.cyclonedx import cyclonedx
from audit.formats.in_toto import in_toto
from audit.formats.junit import junit
from audit.formats.oscal import oscal
from audit.formats.sarif import sarif
from audit.policy import Limit, Policy, Verdict
from audit.record import Finding, read_record, write_record
from audit.stats import proportion

FORMATS = {"junit": junit, "sarif": sarif, "cyclonedx": cyclonedx, "oscal": oscal, "in_toto": in_toto}
RECORDS = {
    "empty": records.empty,
    "stopped": records.stopped,
    "every": records.every_verdict,
    "forgiving": lambda: records.every_verdict(
        on_inconclusive="pass", on_not_evaluable="pass", on_broken="pass", on_not_applicable="pass"
    ),
    **{f"hostile {i}": lambda text=text: records.hostile(text) for i, text in enumerate(records.HOSTILE)},
}


def read(content):
    return ET.fromstring(content)  # noqa: S314 - it is our own


def junit_passes(content):
    cases = read(content).iter("testcase")
    marks = ("failure", "error", "skipped")
    passed = [case for case in cases if not any(case.find(mark) is not None for mark in marks)]
    return [case.get("name") for case in passed if case.get("classname") != "audit"]


def sarif_passes(content):
    results = json.loads(content)["runs"][0]["results"]
    # The kind says pass; a reader that knows no kinds takes what has no level for nothing to see.
    return [r["locations"][0]["logicalLocations"][0]["name"] for r in results if r["kind"] == "pass"]


def cyclonedx_passes(content):
    claims = json.loads(content)["declarations"]["claims"]
    return [claim["predicate"] for claim in claims if "evidence" in claim]


def oscal_passes(content):
    found = json.loads(content)["assessment-results"]["results"][0].get("findings", ())
    return [item["target"]["title"] for item in found if item["target"]["status"]["state"] == "satisfied"]


def in_toto_passes(content):
    return json.loads(content)["predicate"]["passedTests"]


PASSES = {
    "junit": junit_passes,
    "sarif": sarif_passes,
    "cyclonedx": cyclonedx_passes,
    "oscal": oscal_passes,
    "in_toto": in_toto_passes,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", RECORDS.values(), ids=list(RECORDS))
def test_as_many_pass_as_were_a_pass(name, make):
    record = make()
    passed = PASSES[name](FORMATS[name](record))
    assert len(passed) == sum(item.verdict is Verdict.PASS for item in answers(record))


@pytest.mark.parametrize("name", FORMATS)
def test_what_passes_is_what_passed(name):
    (passed,) = PASSES[name](FORMATS[name](records.every_verdict()))
    assert passed.endswith("passes at least 0.8")


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_audit_passes_nothing_and_says_no(name):
    content = FORMATS[name](records.empty())
    assert PASSES[name](content) == []
    word = {"junit": "error", "in_toto": "FAILED", "oscal": "Audit verdict: NOT JUDGED"}.get(
        name, "NOT_JUDGED"
    )
    assert word in content.decode()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", records.HOSTILE)
def test_a_hostile_text_is_spelled_out(name, text):
    content = FORMATS[name](records.hostile(text)).decode("utf-8")
    forbidden = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
    assert re.search(forbidden, content) is None
    if name == "junit":
        tags = {element.tag for element in read(content).iter()}
        assert tags <= {"testsuites", "testsuite", "properties", "property", "testcase", "failure", "error",
                        "skipped", "system-out"}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_record_gives_the_same_bytes_in_another_process(name, tmp_path):
    """Another hash seed, another zone, another locale; the record read back from its file."""
    record = records.golden(tmp_path)
    write_record(record, tmp_path)
    code = (
        f"import sys; from pathlib import Path; from audit.record import read_record\n"
        f"from audit.formats.{name} import {name}\n"
        f"sys.stdout.buffer.write({name}(read_record(Path({str(tmp_path)!r}))))"
    )
    other = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True, env=other)
    assert done.stdout == FORMATS[name](record) == FORMATS[name](read_record(tmp_path))


@pytest.mark.parametrize("name", FORMATS)
def test_the_order_of_names_in_memory_does_not_matter(name, tmp_path):
    """A record read back has its names sorted; here they were not."""
    there = {"settings": {"steps": 20, "epsilon": 0.1}, "group": {"sex": "F", "age": "old"}}
    measure = proportion("rate", 90, 100, **there)
    finding = Finding(check="a.b", version="1", title="t", status="measured", measures=(measure,),
                      settings={"z": 1, "a": {"y": 1, "b": 2}})  # fmt: skip
    limit = Limit(
        check="a.b", measure="rate", at_least=0.5, where={"steps": 20, "epsilon": 0.1}, group="each"
    )
    record = records.made((finding,), policy=Policy(limits=(limit,)))
    write_record(record, tmp_path)
    again = read_record(tmp_path)
    assert list(again.findings[0].settings) != list(finding.settings)
    assert FORMATS[name](derived(again)) == FORMATS[name](record)


@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_findings_take_less_than_two_seconds(name):
    record = records.large(1000)
    start = time.process_time()
    FORMATS[name](record)
    assert time.process_time() - start < 2


@pytest.mark.slow
def test_the_records_of_the_demo_are_valid_in_every_format(demo_folder):
    found = sorted(Path(demo_folder).glob("*/run/record.json"))
    assert len(found) == 2
    for path in found:
        record = read_record(path)
        for form, schema in ((sarif, SARIF), (cyclonedx, CYCLONEDX), (oscal, OSCAL)):
            assert faults(json.loads(form(record)), schema) == []
        assert len(junit_passes(junit(record))) == len(in_toto_passes(in_toto(record))) > 0
