"""What people state is read with name, role and date or refused; the template holds the open items only."""

import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.attestation import Attestation, attestations_beside, read_attestations, template
from audit.document import read_document
from audit.errors import ConfigError

PACK = read_document(Path(__file__).parent / "golden" / "test-pack.toml")
DOCUMENTS = {"test-pack": PACK}
WHOLE = """
[[attestations]]
document = "test-pack"
clause = "1(a)"
text = "It sorts pictures."
name = "Jane Doe"
role = "Head"
date = 2026-11-20
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "attestations.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_statement_is_read(tmp_path: Path) -> None:
    said = Attestation(
        document="test-pack", clause="1(a)", text="It sorts pictures.", name="Jane Doe", role="Head",
        date=date(2026, 11, 20),
    )  # fmt: skip
    assert read_attestations(written(tmp_path, WHOLE), DOCUMENTS) == (said,)
    quoted = WHOLE.replace("2026-11-20", '"2026-11-20"')
    assert read_attestations(written(tmp_path, quoted * 2), DOCUMENTS) == (said, said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "Jane Doe"', "", "for clause '1(a)' of 'test-pack': 'name' is missing"),
        ('name = "Jane Doe"', 'name = " "', "'name' = ' ' is wrong"),
        ('role = "Head"', "", "'role' is missing"),
        ("date = 2026-11-20", "", "'date' is missing; it must be a date such as 2026-11-21"),
        ("date = 2026-11-20", 'date = "yesterday"', "'date' = 'yesterday' is wrong"),
        ('text = "It sorts pictures."', 'text = ""', "'text' = '' is wrong"),
        ('clause = "1(a)"', 'clause = "1(c)"', "'test-pack' has no clause '1(c)'; the nearest is"),
        ('clause = "1(a)"', 'clause = "2(a)"', "asks for no statement: it is evidenced_by 'measured'"),
        ('clause = "1(a)"', 'clause = "3"', "asks for no statement: it is evidenced_by 'never'"),
        ('document = "test-pack"', 'document = "test-pak"', "the nearest is 'test-pack'; --pack FILE"),
        ('role = "Head"', 'rôle = "Head"', "cannot be read as TOML"),
        ('role = "Head"', 'rol = "Head"', "'rol' is not a known key; the nearest is 'role'"),
        ("[[attestations]]", "[attestations]", "write each entry as [[attestations]]"),
        ("[[attestations]]", "[[statements]]", "'statements' is not a known key"),
    ],
)
def test_a_wrong_statement_is_refused_in_one_sentence(tmp_path, old, new, said) -> None:
    assert old in WHOLE
    path = written(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_attestations(path, DOCUMENTS)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_the_template_is_read_back_as_nothing_stated(tmp_path: Path) -> None:
    clauses = [item for item in PACK.clauses if item.asks_person]
    text = template([(PACK, clauses)], "For run 1.")
    assert [entry["clause"] for entry in tomllib.loads(text)["attestations"]] == [c.id for c in clauses]
    assert all(clause.statement in text and clause.label in text for clause in clauses)
    assert read_attestations(written(tmp_path, text), DOCUMENTS) == ()
    filled = text.replace('text = ""\nname = ""\nrole = ""\ndate = ""', 'text = "a"\nname = "b"\nrole = "c"\n'
                          "date = 2026-11-21", 1)  # fmt: skip
    (only,) = read_attestations(written(tmp_path, filled), DOCUMENTS)
    assert (only.clause, only.name) == (clauses[0].id, "b")


@given(st.text(min_size=1).filter(lambda text: text.strip() and "\ud800" not in text))
def test_no_text_of_a_pack_breaks_out_of_the_template(text: str) -> None:
    """Whatever a pack calls itself and its clauses, the template has one entry and these very names."""
    text = text.encode("utf-8", "ignore").decode() or "x"
    clause = replace(PACK.clauses[0], id=text, label=text, statement=text)
    made = template([(replace(PACK, name=text, title=text), [clause])], text)
    (entry,) = tomllib.loads(made)["attestations"]
    assert (entry["document"], entry["clause"], entry["name"]) == (text, text, "")


def test_the_file_lies_in_the_run_folder_or_beside_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert attestations_beside(run) is None
    beside = written(tmp_path, "")
    assert attestations_beside(run) == beside
    inside = written(run, "")
    assert attestations_beside(run) == inside
    assert attestations_beside(run / "record.json") == inside
