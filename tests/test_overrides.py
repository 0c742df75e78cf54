"""`--set KEY=VALUE`: read as TOML, put in its place, and refused in one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.config import read_config
from audit.errors import ConfigError
from audit.overrides import read_override, with_overrides

LEAST = '[model]\npath = "m.pt2"\n[data]\npath = "d.csv"\ntarget = "y"\n'


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("data.rows=500", ("data", "rows"), 500),
        ('checks.settings."robustness.pgd".steps=40', ("checks", "settings", "robustness.pgd", "steps"), 40),
        ("policy.on_inconclusive=warn", ("policy", "on_inconclusive"), "warn"),
        ('data.target="a = b"', ("data", "target"), "a = b"),
        ("data.target=a=b", ("data", "target"), "a=b"),
        ('a."x=y".b = [1, 2]', ("a", "x=y", "b"), [1, 2]),
        ("a={ x = 1 }", ("a",), {"x": 1}),
        ("a=", ("a",), ""),
        ("a=true", ("a",), True),
        ("a=True", ("a",), "True"),
        ("a=1\nb = 2", ("a",), "1\nb = 2"),
        ("a = ../models/m.pt2", ("a",), "../models/m.pt2"),
    ],
)
def test_keys_are_dotted_and_values_are_toml_or_else_texts(text, keys, value):
    found = read_override(text)
    assert found == (keys, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rows",
        "=3",
        "a..b=1",
        "a b=1",
        "a\nb=1",
        '"open=1',
        "a." * 3000 + "b=1",
        "#=1",
        "# a=1",
        "[a]#=1",
        "a." * 100 + "a={b=1,c=2}#=1",
        "a." * 100 + "a=" + "[" * 5000 + "=1",
    ],
)
def test_what_is_no_key_and_value_is_one_sentence(text):
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        read_override(text)


def test_a_text_that_is_no_utf_8_is_one_sentence():
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_override("system.name=\udcff")


_PIECES = st.text() | st.text(alphabet="#=[]{}\"'\\a.0, \r\n\t")


@given(_PIECES, _PIECES)
def test_any_key_and_any_value_comes_back_or_is_one_sentence(key, value):
    try:
        keys, found = read_override(f"{key}={value}")
    except ConfigError:
        return
    assert keys
    assert found is not None


def test_the_last_one_wins_and_the_file_is_not_changed():
    values = {"data": {"rows": 5, "path": "d"}}
    assert with_overrides(values, ["data.rows=6", "data.rows=7", "x.y.z=1"]) == {
        "data": {"rows": 7, "path": "d"},
        "x": {"y": {"z": 1}},
    }
    assert values == {"data": {"rows": 5, "path": "d"}}


def test_a_key_that_leads_through_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"--set data\.rows\.x=1: 'x' lies within 5, which is no table"):
        with_overrides({"data": {"rows": 5}}, ["data.rows.x=1"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.rowz=5", "--set data.rowz=5: 'data.rowz' is not a known key; the nearest is 'rows'"),
        ("polcy.on_broken=warn", "'polcy' is not a known key; the nearest is 'policy'"),
        ("data.rows=0", "--set data.rows=0: 'data.rows' = 0 is wrong"),
        (
            "policy.on_inconclusive=wran",
            "--set policy.on_inconclusive=wran: 'policy.on_inconclusive' = 'wran'",
        ),
        ("seed=inf", "--set seed=inf: 'seed' = inf is wrong; a number must be finite"),
    ],
)
def test_a_wrong_override_is_told_as_what_was_typed(tmp_path, override, words):
    path = tmp_path / "audit.toml"
    path.write_text(LEAST)
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides=[override])
    assert words in str(caught.value)


def test_a_mistake_of_the_file_is_not_blamed_on_the_command_line(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(LEAST + "rows = 0\n")
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides=["data.target=z"])
    assert str(caught.value).startswith(f"{path}: 'data.rows' = 0")


def test_an_override_reaches_the_configuration(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(LEAST)
    given = ['checks.settings."robustness.pgd".steps=40', "policy.on_inconclusive=warn", "data.rows=9"]
    config = read_config(path, overrides=given)
    assert config.checks.settings == {"robustness.pgd": {"steps": 40}}
    assert (config.policy.on_inconclusive, config.data.rows, config.data.target) == ("warn", 9, "y")
