"""One configuration out of several files: what wins, where paths lie, and what is refused."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from audit.config import Config, read_config, read_policy
from audit.errors import ConfigError
from audit.inherit import PATHS, merged_with, read_inherited

BASE = """
seed = 3
[model]
path = "models/m.pt2"
classes = "classes.txt"
[data]
path = "d.csv"
sensitive = ["sex", "race"]
where = { split = "test" }
encoder = "/abs/encoder.skops"
[checks.settings."robustness.pgd"]
steps = 10
rows = 100
[checks.settings."reliability.overfit"]
train = "train.csv"
[checks.settings."interpretability.tcav"]
concepts = { stripes = "stripes.npz" }
[policy]
waivers = "waivers.toml"
[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.8 }
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_tables_are_merged_and_everything_else_is_replaced(tmp_path):
    write(tmp_path / "base.toml", BASE)
    path = write(
        tmp_path / "audit.toml",
        'extends = "base.toml"\n[data]\nsensitive = ["sex"]\n[checks.settings."robustness.pgd"]\nsteps = 40\n'
        '[policy.limits."performance.accuracy"]\naccuracy = { at_most = 0.9 }\n',
    )
    config = read_config(path)
    assert (config.seed, config.data.sensitive, config.data.where) == (3, ("sex",), {"split": "test"})
    assert config.checks.settings["robustness.pgd"] == {"steps": 40, "rows": 100}
    (limit,) = config.policy.policy().limits
    assert (limit.at_least, limit.at_most) == (0.8, 0.9)
    assert config.model.path == Path("models/m.pt2")


def test_a_path_stays_beside_the_file_that_names_it(tmp_path):
    write(tmp_path / "shared" / "base.toml", BASE)
    path = write(
        tmp_path / "team" / "audit.toml", 'extends = "../shared/base.toml"\n[data]\npath = "own.csv"\n'
    )
    config = read_config(path)
    assert config.beside(config.model.path) == tmp_path / "shared" / "models" / "m.pt2"
    assert config.beside(config.model.classes) == tmp_path / "shared" / "classes.txt"
    assert config.beside(config.data.path) == tmp_path / "team" / "own.csv"
    assert config.beside(config.policy.waivers) == tmp_path / "shared" / "waivers.toml"
    assert config.data.encoder == Path("/abs/encoder.skops")
    settings = config.checks.settings
    assert settings["reliability.overfit"] == {"train": "../shared/train.csv"}
    assert settings["interpretability.tcav"] == {"concepts": {"stripes": "../shared/stripes.npz"}}


def test_a_chain_is_read_from_its_end_and_the_nearest_wins(tmp_path):
    write(tmp_path / "a" / "first.toml", BASE)
    write(
        tmp_path / "a" / "b" / "second.toml", 'extends = "../first.toml"\nseed = 4\n[data]\npath = "e.csv"\n'
    )
    path = write(tmp_path / "audit.toml", 'extends = "a/b/second.toml"\n')
    values = read_inherited(path)
    assert (values["seed"], values["data"]["path"], values["model"]["path"]) == (
        4, "a/b/e.csv", "a/models/m.pt2",
    )  # fmt: skip
    assert "extends" not in values


def test_the_policy_alone_is_inherited_too(tmp_path):
    write(tmp_path / "base.toml", BASE)
    path = write(tmp_path / "strict.toml", 'extends = "base.toml"\n[policy]\non_broken = "warn"\n')
    policy = read_policy(path)
    assert (policy.on_broken, len(policy.limits)) == ("warn", 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"audit.toml": 'extends = "b.toml"', "b.toml": 'extends = "audit.toml"'},
         ["audit.toml extends ", "b.toml extends ", "a circle"]),
        ({"audit.toml": 'extends = "audit.toml"'}, ["audit.toml extends ", "a circle"]),
        ({"audit.toml": 'extends = "b.toml"', "b.toml": 'extends = "c.toml"', "c.toml": 'extends = "b.toml"'},
         ["b.toml extends ", "c.toml extends ", "a circle"]),
        ({"audit.toml": 'extends = "gone.toml"'}, ["gone.toml does not exist; ", "audit.toml extends it"]),
        ({"audit.toml": 'extends = "b.toml"', "b.toml": "[model"}, ["b.toml is not valid TOML"]),
        ({"audit.toml": 'extends = ["b.toml"]'}, ["audit.toml: 'extends' = ['b.toml'] is wrong"]),
        ({"audit.toml": 'extends = " "'}, ["'extends' = ' ' is wrong"]),
        ({"audit.toml": 'extends = "a\\u0000.toml"'}, ["'extends' = 'a\\x00.toml' is wrong"]),
        ({"audit.toml": 'extends = "b.toml"', "b.toml": "seed = inf"}, ["b.toml: 'seed' = inf is wrong"]),
    ],
)  # fmt: skip
def test_what_cannot_be_inherited_is_one_sentence_that_names_the_files(tmp_path, files, words):
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(ConfigError) as caught:
        read_inherited(tmp_path / "audit.toml")
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "\n" not in said
    if "a circle" in said and "c.toml" in files:
        assert "audit.toml" not in said


def test_a_circle_names_each_file_once_and_the_first_again(tmp_path):
    write(tmp_path / "a.toml", 'extends = "b.toml"')
    write(tmp_path / "b.toml", 'extends = "a.toml"')
    with pytest.raises(ConfigError) as caught:
        read_inherited(tmp_path / "a.toml")
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    assert str(caught.value).startswith(f"{a} extends {b} extends {a}: a circle")


def test_every_path_of_the_configuration_is_known_to_the_one_who_moves_them():
    found = set()
    for section, field in Config.model_fields.items():
        noun = field.annotation
        if isinstance(noun, type) and issubclass(noun, BaseModel):
            found |= {
                (section, key)
                for key, item in noun.model_fields.items()
                if Path in (item.annotation, *get_args(item.annotation))
            }
    assert found == set(PATHS)


def test_merging_changes_neither_table():
    below, above = {"a": {"x": 1}, "b": [1, 2]}, {"a": {"y": 2}, "b": [3]}
    assert merged_with(below, above) == {"a": {"x": 1, "y": 2}, "b": [3]}
    assert (below, above) == ({"a": {"x": 1}, "b": [1, 2]}, {"a": {"y": 2}, "b": [3]})
    assert merged_with({"a": 1}, {"a": {"y": 2}}) == {"a": {"y": 2}}
    assert merged_with({"a": {"y": 2}}, {"a": 1}) == {"a": 1}


def test_what_is_wrong_is_blamed_on_the_file_in_which_it_stands(tmp_path):
    wrong = {"audit": "seed = -1", "middle": "data.sensitive = 7", "base": "policy.on_broken = 3"}
    right = {"audit": 'extends = "middle.toml"\n', "middle": 'extends = "base.toml"\n', "base": BASE}
    right["base"] = right["base"].replace("[policy]\nwaivers", "[policy]\non_broken = 'warn'\nwaivers")
    for name, line in wrong.items():
        for other, text in right.items():
            write(tmp_path / f"{other}.toml", text)
        key, value = line.split(" = ")
        text = right[name].replace("'warn'", "3") if name == "base" else f"{line}\n{right[name]}"
        path = write(tmp_path / f"{name}.toml", text)
        with pytest.raises(ConfigError) as error:
            read_config(tmp_path / "audit.toml")
        assert str(error.value).startswith(f"{path}: '{key}' = {value} is wrong: ")


def test_the_types_that_a_limit_may_have_are_not_told_as_keys(tmp_path):
    limits = "accuracy = [{ at_least = 0.8, group = [1, 2] }]"
    path = write(tmp_path / "audit.toml", BASE.replace("accuracy = { at_least = 0.8 }", limits))
    with pytest.raises(
        ConfigError, match=r"'policy\.limits\.performance\.accuracy\.accuracy(\.0)?(\.group)?' = "
    ):
        read_config(path)


@pytest.mark.parametrize("circle", ["audit.toml", "nowhere.toml"])
def test_links_that_lead_nowhere_are_one_sentence(tmp_path, circle):
    (tmp_path / "audit.toml").symlink_to(circle)
    with pytest.raises(ConfigError, match=r"audit\.toml (cannot be read|does not exist)"):
        read_config(tmp_path / "audit.toml")


def test_a_folder_that_is_extended_and_a_number_of_many_digits_are_one_sentence(tmp_path):
    path = write(tmp_path / "audit.toml", 'extends = ".."\n')
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory; .*audit\.toml extends it\.$"):
        read_config(path)
    write(path, f"seed = {'1' * 5_000}\n")
    with pytest.raises(ConfigError, match=r"audit\.toml is not valid TOML: Exceeds the limit"):
        read_config(path)
