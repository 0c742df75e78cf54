"""Waivers: a broken limit stays broken, is shown as waived, and blocks again later or for another model."""

import json
import re
import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import every_verdict, made

from audit.errors import ConfigError
from audit.formats.in_toto import in_toto
from audit.formats.junit import junit
from audit.formats.oscal import oscal
from audit.formats.sarif import sarif
from audit.judge import judge
from audit.markdown import markdown
from audit.policy import Limit, Policy, Verdict
from audit.proof.numbers import verdicts
from audit.record import Finding, canonical, read_record, record_from
from audit.render import render
from audit.stats import proportion
from audit.waiver import (
    Waiver,
    Waivers,
    fingerprint,
    model_digest,
    read_waivers,
    settings_digest,
    waived_today,
    with_waiver,
)

TODAY = date(2026, 11, 21)
MODEL = {"file": "m.pt2", "sha256": "a1" * 32, "loader": "pt2"}


def broken(x=10, model=MODEL, at_least=0.8):
    """One limit that is broken for women and held for men."""
    groups = {"Female": x, "Male": 99}
    measures = tuple(proportion("accuracy", n, 100, group={"sex": name}) for name, n in groups.items())
    finding = Finding(check="a.b", version="1", title="t", status="measured", measures=measures)
    limit = Limit(check="a.b", measure="accuracy", at_least=at_least, group="each")
    return made((finding,), model=dict(model), policy=Policy(limits=(limit,)))


def failed(record):
    return [
        fingerprint(item.check, judged)
        for item in record.findings
        for judged in item.verdicts
        if judged.verdict is Verdict.FAIL
    ]


def waiver(record, **fields):
    said = {"owner": "A. Lee", "reason": "fixed in v2", "expires": TODAY}
    return Waiver(**{**said, "finding": failed(record)[0], "model": model_digest(record.model), **fields})


def under(record, *given_ones, day=TODAY):
    return judge(record, None, Waivers(given=given_ones, day=day))


def test_a_waived_limit_stays_a_fail_and_does_not_block():
    record = broken()
    assert record.verdict.exit_code == 1
    outcome = under(record, waiver(record)).verdict
    assert (outcome.exit_code, outcome.verdict, outcome.waived) == (0, Verdict.FAIL, 1)
    assert outcome.counts["PASS"] == outcome.counts["FAIL"] == 1
    assert outcome.reasons[0].startswith("Warning: a.b: accuracy at least 0.8 for each group (sex = Female)")
    assert "waived by A. Lee until 2026-11-21: fixed in v2" in outcome.reasons[0]


def test_only_the_limit_it_names_is_waived():
    record = broken()
    judged = under(record, waiver(record)).findings[0].verdicts
    assert [(item.group["sex"], bool(item.waived)) for item in judged] == [("Female", True), ("Male", False)]


@pytest.mark.parametrize(
    ("change", "day", "said"),
    [
        ({}, TODAY + timedelta(days=1), "expired on 2026-11-21"),
        ({"model": "f" * 64}, TODAY, "is for the model ffffffffffff, and this one is a1a1a1a1a1a1"),
        ({"finding": "0" * 16}, TODAY, "matches no broken limit"),
        ({}, None, "expired on"),
    ],
)
def test_expired_or_for_another_model_the_gate_fails_again(change, day, said):
    record = broken()
    outcome = under(record, waiver(record, **change), day=day).verdict
    assert (outcome.exit_code, outcome.waived) == (1, 0)
    assert any(
        reason.startswith("Warning: the waiver of A. Lee") and said in reason for reason in outcome.reasons
    )


def test_a_waiver_on_its_last_day_still_holds():
    record = broken()
    assert under(record, waiver(record, expires=TODAY)).verdict.exit_code == 0


def test_a_limit_that_holds_needs_no_waiver_and_gets_none():
    failing, fine = broken(), broken(x=99)
    outcome = under(fine, waiver(failing)).verdict
    assert (outcome.exit_code, outcome.verdict, outcome.waived) == (0, Verdict.PASS, 0)
    assert "matches no broken limit" in outcome.reasons[-1]


def test_another_limit_on_the_same_number_is_not_waived():
    record = broken()
    stricter = broken(at_least=0.85)
    assert under(stricter, waiver(record)).verdict.exit_code == 1


def test_a_limit_moved_by_a_hair_is_another_limit():
    before, after = broken(), broken(at_least=0.80000001)
    assert under(before, waiver(before)).verdict.exit_code == 0
    assert under(after, waiver(before)).verdict.exit_code == 1
    assert "at least 0.80000001" in under(after).findings[0].verdicts[0].limit


def test_what_is_no_fail_cannot_be_waived():
    record = every_verdict()
    given_ones = [
        Waiver(finding=fingerprint(item.check, judged), model=model_digest(record.model), owner="o",
               reason="r", expires=TODAY)
        for item in record.findings for judged in item.verdicts
    ]  # fmt: skip
    after = under(record, *given_ones)
    waived = {judged.verdict for item in after.findings for judged in item.verdicts if judged.waived}
    assert waived == {Verdict.FAIL}
    assert after.verdict.exit_code == 2  # what is left is inconclusive, undefined and broken


def test_the_factory_is_part_of_the_model():
    one, other = {**MODEL, "factory_sha256": "1" * 64}, {**MODEL, "factory_sha256": "2" * 64}
    assert len({model_digest(MODEL), model_digest(one), model_digest(other)}) == 3
    record = broken(model=one)
    moved = broken(model=other)
    assert under(moved, waiver(record)).verdict.exit_code == 1
    assert model_digest({}) == ""


SETTINGS = {"task": "classification", "output": "logits", "classes": ["no", "yes"], "input_range": [0.0, 1.0],
            "normalize": {"mean": [0.5], "std": [1.0]}}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"normalize": {"mean": [0.4], "std": [1.0]}},
        {"normalize": None},
        {"classes": ["yes", "no"]},
        {"output": "probabilities"},
        {"input_range": [0.0, 255.0]},
        {"predictions": "decision"},
    ],
)
def test_the_same_file_called_otherwise_is_not_waived_and_it_is_said(change):
    record = broken(model={**MODEL, **SETTINGS})
    given_one = waiver(record, settings=settings_digest(record.model))
    assert under(record, given_one).verdict.exit_code == 0
    moved = broken(model={**MODEL, **SETTINGS, **change})
    outcome = under(moved, given_one).verdict
    assert outcome.exit_code == 1
    assert "the same file under other settings of [model]" in outcome.reasons[-1]
    for judged in (under(record, given_one), under(moved, given_one)):
        assert [item for item in verdicts(json.loads(canonical(judged))) if item.kind == "wrong"] == []


def test_settings_are_the_same_before_and_after_a_file():
    record = broken(model={**MODEL, **SETTINGS})
    again = json.loads(canonical(record))
    assert again["model"]["input_range"] == [0, 1]
    assert settings_digest(again["model"]) == settings_digest(record.model)
    assert settings_digest({**record.model, "device": "cuda:0", "caveats": ["x"]}) == settings_digest(
        record.model
    )
    assert settings_digest({}) == settings_digest(MODEL) == ""


def test_a_waiver_of_before_settings_counted_holds_and_the_report_says_how_far():
    record = broken(model={**MODEL, **SETTINGS})
    old, new = waiver(record), waiver(record, settings=settings_digest(record.model))
    assert under(record, old).verdict.exit_code == 0
    said = "holds under any settings of [model], since it was written before they counted"
    assert said not in render(under(record, new))
    assert said in render(under(record, old))


def test_a_waiver_can_be_written_again_for_these_settings(tmp_path):
    record = broken(model={**MODEL, **SETTINGS})
    path = tmp_path / "waivers.toml"
    old, new = waiver(record), waiver(record, settings=settings_digest(record.model))
    for item in (old, new):
        path.write_text(with_waiver(path, item))
    assert read_waivers(path) == (old, new)
    with pytest.raises(ConfigError, match="change it there"):
        with_waiver(path, new)


def test_a_record_without_a_model_cannot_be_waived():
    record = broken(model={})
    assert under(record, waiver(record, model="")).verdict.exit_code == 1


def test_it_is_part_of_the_record_and_judged_again_as_of_its_day(tmp_path):
    record = broken()
    waived = under(record, waiver(record))
    (tmp_path / "record.json").write_bytes(canonical(waived))
    again = read_record(tmp_path)
    assert again == waived
    assert judge(again) == again
    later = judge(again, None, Waivers(given=again.waivers.given, day=TODAY + timedelta(days=1)))
    assert later.verdict.exit_code == 1


def test_old_records_hold_no_waivers():
    value = json.loads(canonical(broken()))
    del value["waivers"], value["verdict"]["waived"], value["findings"][0]["verdicts"][0]["waived"]
    assert record_from(value, "old").waivers == Waivers()


def test_a_fingerprint_survives_the_file():
    measured = proportion("accuracy", 1, 100, settings={"epsilon": 1.0, "steps": 3})
    finding = Finding(check="a.b", version="1", title="t", status="measured", measures=(measured,))
    record = made((finding,), policy=Policy(limits=(Limit(check="a.b", measure="accuracy", at_least=0.8),)))
    assert failed(record_from(json.loads(canonical(record)), "it")) == failed(record)


def test_every_format_says_waived_and_none_says_passed():
    record = broken()
    after = under(record, waiver(record))
    case = next(c for c in ET.fromstring(junit(after)).iter("testcase") if "Female" in c.get("name", ""))  # noqa: S314 - our own
    assert case.find("skipped") is not None
    assert case.find("failure") is None
    assert "waived by A. Lee" in case.find("skipped").get("message")
    result = next(
        r for r in json.loads(sarif(after))["runs"][0]["results"] if "Female" in r["message"]["text"]
    )
    assert (result["kind"], result["suppressions"][0]["status"]) == ("fail", "accepted")
    assert result["properties"]["blocks"] is False
    predicate = json.loads(in_toto(after))["predicate"]
    assert predicate["result"] == "WARNED"
    assert [name for name in predicate["warnedTests"] if "Female" in name]
    assert not [name for name in predicate["passedTests"] if "Female" in name]
    risks = json.loads(oscal(after))["assessment-results"]["results"][0]["risks"]
    assert [risk["status"] for risk in risks] == ["deviation-approved"]


def test_without_a_waiver_no_format_suppresses():
    record = broken()
    assert not [r for r in json.loads(sarif(record))["runs"][0]["results"] if "suppressions" in r]
    risks = json.loads(oscal(record))["assessment-results"]["results"][0]["risks"]
    assert [risk["status"] for risk in risks] == ["open"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(owner=TEXT, reason=TEXT, limit=TEXT)
def test_whatever_is_said_is_read_again(tmp_path_factory, owner, reason, limit):
    path = tmp_path_factory.mktemp("w") / "waivers.toml"
    one = Waiver(
        finding="0" * 16, model="a" * 64, owner=owner, reason=reason, expires=TODAY, check="a.b", limit=limit
    )
    two = replace(one, finding="1" * 16)
    for item in (one, two):
        path.write_text(with_waiver(path, item), encoding="utf-8", newline="")
    said = [
        replace(item, owner=owner.strip(), reason=reason.strip(), limit=limit.strip()) for item in (one, two)
    ]
    assert list(read_waivers(path)) == said


def test_what_a_person_wrote_into_the_file_stays(tmp_path):
    path = tmp_path / "waivers.toml"
    record = broken()
    path.write_text("# ours\n" + with_waiver(path, waiver(record)), encoding="utf-8")
    before = path.read_text()
    path.write_text(with_waiver(path, waiver(record, finding="2" * 16)), encoding="utf-8")
    assert path.read_text().startswith(before.rstrip())
    with pytest.raises(ConfigError, match=r"waives 2{16} until 2026-11-21; change it there"):
        with_waiver(path, waiver(record, finding="2" * 16))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[waivers]]\n", "'waivers' is not a known key; the nearest is 'waiver'"),
        ("waiver = 3\n", "write each entry as [[waiver]]"),
        ('[[waiver]]\nfinding = "a"\n', "waiver[0]: 'model' is missing"),
        ('[[waiver]]\nfinding="a"\nmodel="b"\nowner="c"\nreason=" "\nexpires=2027-01-01\n', "'reason'"),
        ('[[waiver]]\nfinding="a"\nmodel="b"\nowner="c"\nreason="d"\n', "'expires' is missing"),
        ('[[waiver]]\nfinding="a"\nmodel="b"\nowner="c"\nreason="d"\nexpires="soon"\n', "'expires'"),
        (
            '[[waiver]]\nfinding="a"\nmodel="b"\nowner="c"\nreason="d"\nexpires=2027-01-01\nuntil=1\n',
            "'until'",
        ),
        (
            '[[waiver]]\nfinding="a"\nmodel="b"\nowner="c"\nreason="d"\nexpires=2027-01-01\n' * 2,
            "a is waived twice",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text, said):
    path = tmp_path / "waivers.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_waivers(path)


def test_today_is_by_utc():
    record = broken()
    assert waived_today(()) == Waivers()
    assert waived_today((waiver(record),)).day == datetime.now(UTC).date()


def test_the_written_file_is_plain_toml(tmp_path):
    path = tmp_path / "waivers.toml"
    entry = tomllib.loads(with_waiver(path, waiver(broken())))["waiver"][0]
    assert entry["expires"] == TODAY
    assert entry["owner"] == "A. Lee"


def test_pages_say_waived_on_page_one_in_the_row_and_in_the_policy():
    record = broken()
    after = under(record, waiver(record), waiver(record, finding="3" * 16, owner="B <b>Ray</b>"))
    page = render(after)
    assert "1 broken limit is waived:" in page
    assert re.search(r"FAIL, waived</span>", page)
    assert "Waived by A. Lee until 2026-11-21: fixed in v2." in page
    assert "Repair what stands behind the waived limit before the waiver ends." in page
    assert "B &lt;b&gt;Ray&lt;/b&gt;" in page
    assert "matches no broken limit" in page
    assert "Decide what follows from" not in page
    text = markdown(after)
    assert "**FAIL, waived**" in text
    assert "1 broken limit waived: somebody answers for each until a day" in text
    assert "waived" not in render(record).replace("Repair what", "").lower().split("</style>")[-1]
