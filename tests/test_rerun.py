"""Rerun: a record is taken at its word only as far as files and digests bear it out."""

from pathlib import Path

import pytest

from audit.config import Config
from audit.errors import ConfigError, LoadError
from audit.rerun import configured, refuse_other_facts, refuse_other_files, starts_at, trusted

TOLD = {"model": {"path": "m.pt2"}, "data": {"path": "d.csv"}, "seed": 3}


def whole(**model):
    """A configuration with every default written out, as a record holds it."""
    return Config.model_validate({**TOLD, "model": {**TOLD["model"], **model}}).model_dump(mode="json")


def test_a_written_out_configuration_reads_as_the_same(tmp_path):
    found = configured(whole(), "the record", None, tmp_path)
    assert found.model_dump(mode="json") == whole()
    assert found.folder == tmp_path
    assert configured(whole(), "the record", 64, tmp_path).model.batch_size == 64
    assert configured(whole(device="cuda:1"), "the record", None, tmp_path).model.device == "auto"
    assert configured(whole(device="cpu"), "the record", None, tmp_path).model.device == "cpu"
    scores = {"model": {"predictions": "score", "threshold": 0.3}, "data": {"path": "d.csv"}}
    written = Config.model_validate(scores).model_dump(mode="json")
    assert configured(written, "the record", None, tmp_path).model.threshold == 0.3


@pytest.mark.parametrize(
    "told", [{}, {"model": 3, "data": {}}, {"model": {"path": "m", "shoe": 1}, "data": {}}]
)
def test_what_is_no_configuration_is_refused(told):
    with pytest.raises(ConfigError, match="the record does not hold a configuration of this version"):
        configured(told, "the record", None, Path())


DEFINED = "from subprocess import run\n\ndef build(width=1):\n    return width\n"


@pytest.mark.parametrize(
    "factory", ["subprocess:run", "models:run", "models:gone", "sub.models:build", "other:build", "models"]
)
def test_a_record_cannot_have_any_function_called(tmp_path, factory):
    """Found in review: a factory `subprocess:run` with arguments ran a command of the record's choice."""
    (tmp_path / "models.py").write_text(DEFINED)
    told = whole(factory=factory, arguments={"args": "true", "shell": True})
    known = configured(told, "the record", None, tmp_path)
    with pytest.raises(ConfigError, match="names the factory"):
        trusted(known, "the record", None, tmp_path / "runs" / "a", {})
    mine = tmp_path / "audit.toml"
    text = f'[model]\npath = "m.pt2"\nfactory = "{factory}"\n[data]\npath = "d.csv"\n'
    mine.write_text(text)
    with pytest.raises(ConfigError, match="names the factory"):  # with other arguments it is another call
        trusted(known, "the record", mine, tmp_path / "runs" / "a", {})
    mine.write_text(text + '[model.arguments]\nargs = "true"\nshell = true\n')
    trusted(known, "the record", mine, tmp_path / "runs" / "a", {})


@pytest.mark.parametrize("name", ["models.py", "pack/models.py", "pack/__init__.py"])
def test_a_factory_that_lies_beside_is_called_and_one_that_was_handed_over_is_not(tmp_path, name):
    (tmp_path / "pack").mkdir()
    (tmp_path / name).write_text(DEFINED)
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    known = configured(whole(factory=f"{module}:build"), "the record", None, tmp_path)
    trusted(known, "the record", None, tmp_path / "runs" / "a", {})
    for run in (tmp_path, tmp_path / "runs" / ".."):
        with pytest.raises(ConfigError, match="inside the run folder itself"):
            trusted(known, "the record", None, run, {})


@pytest.mark.parametrize("name", ["subprocess:run", "a-b:score", "own:scores", "own:run"])
def test_a_record_cannot_have_any_function_called_by_a_check(tmp_path, name):
    """`fairness.custom` runs the metric that its settings name; a record must not choose which."""
    (tmp_path / "own.py").write_text("from subprocess import run\n\ndef score(true, given):\n    return 0\n")
    known = configured(whole(), "the record", None, tmp_path)
    run, asked = tmp_path / "runs" / "a", {"fairness.custom": {"metric": name, "draws": 50}}
    with pytest.raises(ConfigError, match=f"names the function '{name}' in the settings of fairness.custom"):
        trusted(known, "the record", None, run, asked)
    mine = tmp_path / "audit.toml"
    mine.write_text('[model]\npath = "m.pt2"\n[data]\npath = "d.csv"\n')
    with pytest.raises(ConfigError, match=r"name an audit\.toml that says so too with --config"):
        trusted(known, "the record", mine, run, asked)
    mine.write_text(mine.read_text() + f'[checks.settings."fairness.custom"]\nmetric = "{name}"\n')
    trusted(known, "the record", mine, run, asked)


@pytest.mark.parametrize(
    "name", ["f1_score", "own:score", "0.05: what people round", "https://example.org/x"]
)
def test_what_is_no_function_of_another_place_needs_no_word_of_the_user(tmp_path, name):
    (tmp_path / "own.py").write_text("def score(true, given):\n    return 0\n")
    known = configured(whole(), "the record", None, tmp_path)
    trusted(known, "the record", None, tmp_path / "runs" / "a", {"fairness.custom": {"metric": [name]}})


def test_paths_start_where_they_are_recorded_or_named(tmp_path):
    (tmp_path / "audit.toml").write_text("")
    assert starts_at(None, tmp_path / "a" / "..") == tmp_path
    assert starts_at(tmp_path / "audit.toml", Path("elsewhere")) == tmp_path
    with pytest.raises(ConfigError, match="does not exist"):
        starts_at(tmp_path / "other.toml", tmp_path)


def test_other_files_are_named_with_both_digests_before_anything_is_loaded(tmp_path):
    (tmp_path / "m.pt2").write_bytes(b"")
    (tmp_path / "d.csv").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    config = configured(TOLD, "r", None, tmp_path)
    refuse_other_files(config, {"sha256": empty}, {"sha256": empty}, "r")
    refuse_other_files(config, {}, {}, "r")
    with pytest.raises(LoadError) as raised:
        refuse_other_files(config, {"sha256": "a" * 64}, {"sha256": "b" * 64}, "r")
    assert all(text in str(raised.value) for text in ("a" * 64, "b" * 64, empty, "m.pt2", "d.csv"))
    (tmp_path / "m.pt2").unlink()
    with pytest.raises(LoadError, match=r"m\.pt2 does not exist"):
        refuse_other_files(config, {"sha256": empty}, {"sha256": empty}, "r")


@pytest.mark.parametrize(
    ("what", "key", "words"),
    [("model", "sha256", "The model is"), ("model", "factory_sha256", "the file of its factory"),
     ("data", "sha256", "The data is"), ("data", "fingerprint", "the rows as read")],
)  # fmt: skip
def test_other_facts_are_named_with_both_digests(what, key, words):
    facts = {"model": {"sha256": "1", "factory_sha256": "2"}, "data": {"sha256": "3", "fingerprint": "4"}}
    refuse_other_facts(facts, facts, "r")
    other = {**facts, what: {**facts[what], key: "other"}}
    with pytest.raises(LoadError, match=words) as raised:
        refuse_other_facts(other, facts, "r")
    assert "other" in str(raised.value)
    assert facts[what][key] in str(raised.value)
