"""A framework pack names what evidences each clause exactly, or is refused with the clause and the key."""

from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from audit import registry
from audit.check import check
from audit.document import read_document
from audit.errors import ConfigError
from audit.evidence import Evidence
from audit.framework import Capability, read_clauses, read_framework, refuse_unknown
from audit.registry import installed_checks

HEAD = """
name = "mine"
title = "Mine"
purpose = "To try."
audience = "Me"
version = "1"

[[sections]]
id = "summary"
title = "Summary"
template = "summary"

[[sections]]
id = "coverage"
title = "Clause by clause"
template = "coverage"

[framework]
jurisdiction = "Here"
status = "in force"
applies_from = [{ date = 2026-08-02, what = "all" }]
verified_on = 2026-11-21
review_by = 2027-05-21
sources = ["A book"]
note = "Read twice."

[[clauses]]
id = "1"
part = "One"
label = "Right often enough"
evidenced_by = "both"
evidence = [{ check = "performance.accuracy", measures = ["accuracy"], groups = false }]
statement = "Sign"

[[clauses]]
id = "2"
part = "One"
label = "Declaration"
evidenced_by = "never"
why = "It is not ours to give"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_pack_is_read(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, HEAD))
    framework, (first, second) = document.framework, document.clauses
    assert framework is not None
    assert framework.applies_from == ((date(2026, 8, 2), "all"),)
    assert (framework.status, framework.review_by) == ("in force", date(2027, 5, 21))
    assert first.evidence == (Capability(check="performance.accuracy", measures=("accuracy",), groups=False),)
    assert (first.asks_person, second.asks_person) == (True, False)
    assert second.why == "It is not ours to give"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('status = "in force"', 'status = "asleep"', "one of in force, deferred, superseded, voluntary"),
        ('status = "in force"', 'status = "superseded"', "'superseded_by' goes with"),
        ('status = "in force"', 'status = "in force"\nsuperseded_by = "x"', "'superseded_by' goes with"),
        ('template = "summary"', 'template = "policy"', "it must be 'summary' or 'verdict'"),
        ('template = "coverage"', 'template = "policy"', "has no template = 'coverage'"),
        ('sources = ["A book"]', "sources = []", "cite at least one"),
        ('sources = ["A book"]', 'sources = "A book"', "list of citations"),
        ("review_by = 2027-05-21", "review_by = 2025-05-21", "lies before 'verified_on'"),
        ("review_by = 2027-05-21", 'review_by = "soon"', "framework: 'review_by' = 'soon' is wrong"),
        ("review_by = 2027-05-21", "", "framework: 'review_by' is missing"),
        (', what = "all"', "", "applies_from[0]: 'what' is missing"),
        ("[framework]", "[[framework]]", "write it as [framework]"),
        (
            'note = "Read twice."',
            'notes = "Read twice."',
            "'notes' is not a known key; the nearest is 'note'",
        ),
        ('id = "1"', "", "clauses[0]: 'id' is missing"),
        ('id = "2"', 'id = "1"', "the clause id '1' stands twice"),
        ('label = "Right often enough"', "", "clause '1': 'label' is missing"),
        ('evidenced_by = "both"', 'evidenced_by = "maybe"', "one of measured, attested, both, never"),
        ('evidenced_by = "both"', 'evidenced_by = "measured"', "clause '1': 'statement' has no place"),
        ('evidenced_by = "both"', 'evidenced_by = "attested"', "clause '1': 'evidence' has no place"),
        ('statement = "Sign"', "", "clause '1': 'statement' is missing"),
        ('why = "It is not ours to give"', "", "clause '2': 'why' is missing"),
        ('why = "It', 'wy = "It', "clause '2': 'wy' is not a known key; the nearest is 'why'"),
        ('measures = ["accuracy"]', "measures = []", "name the measures of 'performance.accuracy'"),
        ('measures = ["accuracy"]', 'measure = ["accuracy"]', "the nearest is 'measures'"),
        ("groups = false", 'groups = "no"', "clause '1': evidence: 'groups' = 'no' is wrong"),
        ('statement = "Sign"', 'statement = "Sign"\nany_of = 1', "'any_of' = 1 is wrong"),
        ('statement = "Sign"', 'statement = "Sign"\napplies = "poems"', "one of classification"),
        ("performance.accuracy", "performance.acuracy", "the nearest is 'performance.accuracy'"),
    ],
)
def test_a_wrong_pack_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in HEAD
    path = written(tmp_path, HEAD.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_document(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_clauses_need_a_framework(tmp_path: Path) -> None:
    start, end = HEAD.index("[framework]"), HEAD.index("[[clauses]]")
    with pytest.raises(ConfigError, match="'framework' is missing"):
        read_document(written(tmp_path, HEAD[:start] + HEAD[end:]))


@check("mine.declared", measures={"recall", "precision"})
def declared() -> Evidence:
    """Says what it measures."""
    raise AssertionError


@check("mine.silent")
def silent() -> Evidence:
    """Does not say."""
    raise AssertionError


def clause(name: str, measure: str, **more):
    entry = {
        "id": "7", "part": "p", "label": "l", "evidenced_by": "measured",
        "evidence": [{"check": name, "measures": [measure], **more}],
    }  # fmt: skip
    return read_clauses({"clauses": [entry]}, "file")


def test_a_measure_that_a_declaring_check_cannot_produce_is_refused_with_the_nearest(monkeypatch) -> None:
    points = {
        name: SimpleNamespace(load=lambda item=item: item, value=name, name=name)
        for name, item in {"mine.declared": declared, "mine.silent": silent}.items()
    }
    points["mine.broken"] = SimpleNamespace(load=lambda: 1 / 0, value="mine.broken", name="mine.broken")
    monkeypatch.setattr(registry, "entry_points", lambda group: list(points.values()))
    refuse_unknown(clause("mine.declared", "recall"), "file")
    refuse_unknown(clause("mine.silent", "anything"), "file")
    refuse_unknown(clause("mine.broken", "anything"), "file")
    with pytest.raises(ConfigError) as error:
        refuse_unknown(clause("mine.declared", "recal"), "file")
    assert str(error.value) == (
        "file: clause '7': evidence: 'mine.declared' does not measure 'recal'; the nearest is 'recall'."
    )


BUILT_IN = {
    name: item for name, item in installed_checks().items() if item.measure.__module__.startswith("audit.")
}


def test_every_built_in_check_says_what_it_measures() -> None:
    assert len(BUILT_IN) >= 57
    assert [name for name, item in BUILT_IN.items() if not item.measures] == []


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_measure_that_a_built_in_check_cannot_produce_is_refused(name: str) -> None:
    for known in BUILT_IN[name].measures:
        refuse_unknown(clause(name, known), "file")
        with pytest.raises(ConfigError) as error:
            refuse_unknown(clause(name, f"{known}x"), "file")
        assert str(error.value).startswith(
            f"file: clause '7': evidence: '{name}' does not measure '{known}x'; the nearest is '"
        )
    with pytest.raises(ConfigError, match="does not measure 'happiness'"):
        refuse_unknown(clause(name, "happiness"), "file")


@pytest.mark.parametrize("value", [True, False, "single", "crossed", None])
def test_groups_are_asked_for_in_four_ways_or_not_at_all(value) -> None:
    given = {} if value is None else {"groups": value}
    assert clause("a.b", "rate", **given)[0].evidence[0].groups is value


@pytest.mark.parametrize("value", ["cross", "true", 1, 0.5, ["crossed"], {}])
def test_another_way_is_refused_with_the_four(value) -> None:
    with pytest.raises(ConfigError) as error:
        clause("a.b", "rate", groups=value)
    assert f"clause '7': evidence: 'groups' = {value!r} is wrong; it is true, false, 'single'" in str(
        error.value
    )


def test_a_superseded_framework_names_its_successor() -> None:
    values = {
        "jurisdiction": "US", "status": "superseded", "superseded_by": "new", "sources": ["x"],
        "verified_on": date(2026, 1, 1), "review_by": date(2026, 1, 1),
    }  # fmt: skip
    assert read_framework(values, "file").superseded_by == "new"
