"""A document is read whole or refused in one sentence that says what would be right."""

from pathlib import Path

import pytest

from audit.document import chosen_documents, installed_documents, read_document
from audit.errors import ConfigError

WHOLE = """
name = "mine"
title = "Mine"
purpose = "To try."
audience = "Me"
version = "1"

[[pillars]]
id = "fairness"
title = "Fairness"
question = "Is it fair?"

[[sections]]
id = "verdict"
title = "Verdict"
template = "verdict"
statements = ["One.", "Two."]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_technical_report_answers_in_the_order_in_which_a_reader_asks() -> None:
    document = read_document("technical-report")
    assert [section.id for section in document.sections] == [
        "verdict", "not-tested", "findings", "policy", "environment", "fingerprints",
    ]  # fmt: skip
    assert document.sections[1].statements
    assert {pillar.id for pillar in document.pillars} >= {"interpretability", "fairness", "robustness"}


def test_every_shipped_document_is_found_under_its_name() -> None:
    documents = installed_documents()
    assert "technical-report" in documents
    assert all(read_document(name) == document for name, document in documents.items())


def test_a_superseded_document_names_an_installed_one_and_every_pack_says_how_it_was_read() -> None:
    documents = installed_documents()
    for document in documents.values():
        if document.framework is not None:
            assert document.framework.note
            assert document.framework.superseded_by in {"", *documents}


def test_a_document_of_ones_own_does_not_take_an_installed_name(tmp_path: Path) -> None:
    mine = written(tmp_path, WHOLE)
    assert list(installed_documents([mine]))[-1] == "mine"
    taken = tmp_path / "technical-report.toml"
    taken.write_text(WHOLE.replace('name = "mine"', 'name = "technical-report"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="'technical-report' is already installed; rename the file"):
        installed_documents([taken])


def test_documents_are_chosen_by_name_in_their_order_and_all_by_default(tmp_path: Path) -> None:
    mine = written(tmp_path, WHOLE)
    assert [item.name for item in chosen_documents(["mine", "technical-report", "mine"], mine)] == [
        "mine", "technical-report",
    ]  # fmt: skip
    assert {item.name for item in chosen_documents(None, mine)} == {*installed_documents(), "mine"}
    with pytest.raises(ConfigError, match="the nearest is 'technical-report'"):
        chosen_documents(["technical-reprot"], None)


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'technical-report'"):
        read_document("tecnical-report")


def test_a_document_of_ones_own_is_read_by_its_path(tmp_path: Path) -> None:
    document = read_document(str(written(tmp_path, WHOLE)))
    assert (document.name, document.sections[0].statements) == ("mine", ("One.", "Two."))
    assert document.sections[0].intro == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Mine"\n', "", "'title' is missing"),
        ('version = "1"', "version = 1", "'version' = 1 is wrong"),
        ('audience = "Me"', 'audience = " "', "'audience'"),
        ('name = "mine"', 'name = "yours"', "must be 'mine'"),
        ('id = "verdict"', 'id = "The verdict"', "use a-z"),
        ('template = "verdict"', 'template = "verdikt"', "'verdict'"),
        ('template = "verdict"', 'template = "../document"', "no section template"),
        ('statements = ["One.", "Two."]', "statements = [1]", "list of sentences"),
        ('statements = ["One.", "Two."]', 'statments = ["One."]', "'statements'"),
        ("[[sections]]", "[sections]", "[[sections]]"),
        ("[[pillars]]", "[pillars]", "[[pillars]]"),
        ('question = "Is it fair?"', "", "'question' is missing"),
        ('version = "1"', 'version = "1"\ncolour = "red"', "'colour' is not a known key"),
        ('name = "mine"', "name = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_document_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in WHOLE
    path = written(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(ConfigError) as error:
        read_document(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_two_sections_of_one_id_are_refused(tmp_path: Path) -> None:
    doubled = WHOLE + WHOLE[WHOLE.index("[[sections]]") :]
    with pytest.raises(ConfigError, match="'verdict' stands twice"):
        read_document(written(tmp_path, doubled))


def test_a_document_without_sections_or_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        read_document(written(tmp_path, WHOLE[: WHOLE.index("[[sections]]")]))
    with pytest.raises(ConfigError, match="does not exist"):
        read_document(tmp_path / "absent.toml")
