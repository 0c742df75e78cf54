import json
from pathlib import Path

import pytest

from audit.config import Config, DataSection, read_config, read_configs, read_policy
from audit.errors import ConfigError

LEAST = '[model]\npath = "m.pt2"\n[data]\npath = "d.csv"\ntarget = "y"\n'


def written(folder, text):
    path = folder / "audit.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_least_file_is_filled_with_defaults(tmp_path):
    config = read_config(written(tmp_path, LEAST))
    assert config.data == DataSection(path=Path("d.csv"), target="y")
    assert config.checks.run == ("*",)
    assert config.policy.on_inconclusive == "fail"
    assert config.beside(config.data.path) == tmp_path / "d.csv"
    assert {"?", "N/A", ""} <= {*config.data.missing}


def test_the_data_section_takes_what_its_users_write(tmp_path):
    text = LEAST + (
        'sensitive = ["sex"]\nwhere = { split = "test", fold = 3 }\n'
        'label_map = { "-1" = "no", "1" = "yes" }\n'
        '[data.features."hours per week"]\nkind = "ordinal"\nrange = [1, 99]\n'
        '[data.features.race]\nkind = "categorical"\ncolumns = ["race_a", "race_b"]\nimmutable = true\n'
    )
    data = read_config(written(tmp_path, text)).data
    assert data.where == {"split": "test", "fold": 3}
    assert data.label_map == {"-1": "no", "1": "yes"}
    assert data.features["hours per week"].range == (1, 99)
    assert data.features["race"].immutable
    assert data.features["race"].columns == ("race_a", "race_b")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (LEAST + "sensitiv = []\n", r"'data\.sensitiv' is not a known key; the nearest is 'sensitive'"),
        (LEAST + "rows = 0\n", r"'data\.rows' = 0 is wrong"),
        (LEAST + 'layout = "HWC"\n', r"'data\.layout' = 'HWC' is wrong"),
        (LEAST + '[data.features.x]\nkind = "word"\n', r"'data\.features\.x\.kind' = 'word' is wrong"),
        (LEAST + "[data.features.x]\nrange = [1]\n", r"data\.features\.x\.range"),
        ('[model]\npath = "m"\n[data]\n', r"'data\.path' is missing"),
        ('[model]\npath = "m"\n', r"'data' is missing"),
        ("[model", "not valid TOML"),
    ],
)
def test_a_wrong_key_or_value_gets_one_sentence(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_config(written(tmp_path, text))
    assert "audit.toml" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_range_runs_upwards(tmp_path):
    text = LEAST + "[data.features.x]\nrange = [5, 1]\n"
    with pytest.raises(ConfigError, match=r"data\.features\.x.*5.*1"):
        read_config(written(tmp_path, text))


def test_a_file_that_is_absent_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; `model-audit init"):
        read_config(tmp_path / "audit.toml")
    (tmp_path / "audit.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "audit.toml")


def test_a_policy_is_read_from_a_file_of_its_own(tmp_path):
    path = written(
        tmp_path, '[policy.limits."a.b"]\nx = [{ at_least = 0.5 }, { at_most = 0.9, group = "each" }]\n'
    )
    first, second = read_policy(path).limits
    assert (first.check, first.measure, first.at_least, first.at_most) == ("a.b", "x", 0.5, None)
    assert second.group == "each"


def test_a_policy_that_asks_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no \\[policy\\] section"):
        read_policy(written(tmp_path, LEAST))
    with pytest.raises(ConfigError, match="a limit needs at_least"):
        read_policy(written(tmp_path, '[policy.limits."a.b"]\nx = { }\n'))


@pytest.mark.parametrize(
    "limits", ['[policy.limits."a.b"]\nx = []\n', '[policy.limits."a.b"]\n', '[policy.limits]\n"a.b" = {}\n']
)
def test_a_check_or_a_measure_with_no_limit_under_it_is_refused(tmp_path, limits):
    """It would look limited and be asked nothing."""
    with pytest.raises(ConfigError, match="is asked nothing; give it a limit"):
        read_policy(written(tmp_path, '[policy.limits."c.d"]\ny = { at_least = 1 }\n' + limits))


@pytest.mark.parametrize("value", ["true", '"0.1"', "nan", "inf", "[0.1]", "2026-11-21"])
@pytest.mark.parametrize("key", ["at_least", "at_most", "margin"])
def test_a_bound_is_a_finite_number_and_nothing_that_could_be_read_as_one(tmp_path, key, value):
    rest = 'no_worse_than = "baseline", at_least = 0' if key == "margin" else 'no_worse_than = "baseline"'
    limit = f'[policy.limits."a.b"]\nx = {{ {key} = {value}, {rest} }}\n'
    with pytest.raises(ConfigError, match=rf"'policy\.limits\.a\.b\.x\.{key}' = .* is wrong.* number"):
        read_policy(written(tmp_path, limit))


def test_a_limit_on_change_takes_a_margin_and_may_stand_beside_a_level(tmp_path):
    entries = '{ no_worse_than = "baseline", margin = 0.01, at_least = 0.8, group = "each" }'
    (limit,) = read_policy(written(tmp_path, f'[policy.limits."a.b"]\nx = {entries}\n')).limits
    assert (limit.no_worse_than, limit.margin, limit.at_least, limit.group) == ("baseline", 0.01, 0.8, "each")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{ margin = 0.1, at_least = 0.5 }", 'a margin goes with no_worse_than = "baseline"'),
        ('{ no_worse_than = "yesterday" }', "'' or 'baseline'"),
        ('{ no_worse_than = "baseline", margin = -0.1 }', "greater than or equal to 0"),
    ],
)
def test_a_limit_on_change_that_makes_no_sense_is_a_sentence(tmp_path, entry, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_policy(written(tmp_path, f'[policy.limits."a.b"]\nx = {entry}\n'))


STATED = '[model]\npredictions = "score"\n[data]\npath = "d.csv"\n'


def test_a_column_of_predictions_needs_no_model_file(tmp_path):
    config = read_config(written(tmp_path, STATED))
    assert (config.model.path, config.model.predictions, config.model.threshold) == (None, "score", 0.5)
    assert config.subject == Path("d.csv")
    assert read_config(written(tmp_path, LEAST)).subject == Path("m.pt2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[model]\n[data]\npath = "d.csv"\n', "'model.path' is missing; it is required"),
        (STATED.replace("[data]", 'path = "m.pt2"\n[data]'), "a path and predictions"),
        (STATED.replace("[data]", 'task = "regression"\n[data]'), "the task is classification"),
        (STATED.replace("[data]", "threshold = 1.5\n[data]"), "'model.threshold' = 1.5"),
        (LEAST.replace("[data]", "threshold = 0.4\n[data]"), "threshold divides the scores of predictions"),
        (STATED + "[data.bins]\nage = [25]\n", "neither in sensitive nor in control"),
        (STATED + 'sensitive = ["age"]\n[data.bins]\nage = [40, 25]\n', "must rise from edge to edge"),
        (STATED + 'control = ["age"]\n[data.bins]\nage = []\n', "at least one finite edge"),
        (STATED + 'control = ["age"]\n[data.bins]\nage = [inf]\n', "must be finite"),
    ],
)
def test_what_contradicts_an_audit_without_a_model_is_a_sentence(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        read_config(written(tmp_path, text))
    assert words in str(caught.value)


RELATED = """
[data.features.age]
direction = "increase"
step = 1
cost = 0.2
[[data.relations]]
terms = { gain = 1, "capital loss" = -1 }
at_least = 0
[[data.relations]]
terms = { a = 0.5, b = 0.5 }
equals = 1
"""


def test_how_features_may_change_and_what_holds_for_every_row(tmp_path):
    data = read_config(written(tmp_path, LEAST + RELATED)).data
    age = data.features["age"]
    assert (age.direction, age.step, age.cost, age.dropped) == ("increase", 1, 0.2, "")
    first, second = data.relations
    assert first.terms == {"gain": 1, "capital loss": -1}
    assert (first.at_least, first.at_most, first.equals) == (0, None, None)
    assert second.equals == 1
    assert read_config(written(tmp_path, LEAST)).data.relations == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('direction = "increase"', 'direction = "up"', "'data.features.age.direction' = 'up'"),
        ("step = 1", "step = 0", "'data.features.age.step' = 0"),
        ("cost = 0.2", "cost = -1", "'data.features.age.cost' = -1"),
        ("step = 1", 'kind = "categorical"', "direction and step are for numbers"),
        ("step = 1", 'dropped = "x"', "dropped names a category, and this feature is numeric"),
        ("at_least = 0", "", "a relation needs at_least, at_most or both, or else equals"),
        ("at_least = 0", "at_least = 0\nequals = 1", "a relation needs at_least, at_most or both"),
        ("at_least = 0", "at_least = 3\nat_most = 2", "at_least 3 lies above at_most 2"),
        ("a = 0.5", "a = 0", "factor 0 says nothing"),
        ("at_least = 0", "atleast = 0", "'data.relations.0.atleast' is not a known key"),
        ("{ a = 0.5, b = 0.5 }", "{}", "'data.relations.1.terms'"),
    ],
)
def test_a_constraint_that_makes_no_sense_is_a_sentence(tmp_path, old, new, words):
    with pytest.raises(ConfigError) as caught:
        read_config(written(tmp_path, LEAST + RELATED.replace(old, new, 1)))
    assert words in str(caught.value)


SEVERAL = """
[model]
classes = ["no", "yes"]
device = "cpu"
arguments = { width = 8 }
[models.small]
path = "small.pt2"
[models."large-2"]
path = "large.pt2"
device = "auto"
arguments = { depth = 2 }
[data]
path = "d.csv"
"""


def test_each_of_several_models_inherits_the_one_section_and_shares_the_rest(tmp_path):
    path = written(tmp_path, SEVERAL)
    configs = read_configs(path)
    assert list(configs) == ["small", "large-2"]
    small, large = configs.values()
    assert (small.model.path, small.model.device, small.model.arguments) == (
        Path("small.pt2"), "cpu", {"width": 8},
    )  # fmt: skip
    assert (large.model.path, large.model.device) == (Path("large.pt2"), "auto")
    assert large.model.arguments == {"width": 8, "depth": 2}
    assert small.model.classes == large.model.classes == ("no", "yes")
    assert small.data == large.data
    assert read_config(path, model="small") == small
    assert read_configs(written(tmp_path, LEAST)).keys() == {""}


def test_one_of_several_models_reads_as_a_file_of_its_own(tmp_path):
    alone = written(tmp_path, LEAST.replace("[data]", 'device = "cpu"\n[data]'))
    config = read_config(alone)
    both = '[models.x]\npath = "m.pt2"\n[models.y]\npath = "n.pt2"\n' + LEAST[LEAST.index("[data]") :]
    several = read_configs(written(tmp_path, '[model]\ndevice = "cpu"\n' + both))
    assert several["x"] == config
    assert several["x"].model_dump(mode="json") == config.model_dump(mode="json")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '"small.pt2"',
            '"small.pt2"\npahts = 1',
            "'models.small.pahts' is not a known key; the nearest is 'path'",
        ),
        ('device = "cpu"', 'device = "tpu"', "'model.device' = 'tpu' is wrong"),
        ('device = "auto"', 'device = "tpu"', "'models.large-2.device' = 'tpu' is wrong"),
        ('path = "small.pt2"', "", "'model.path' is missing"),
        ('[models."large-2"]', '[models."../up"]', "'models.../up' names no folder"),
        ('[models."large-2"]', '[models.".hidden"]', "'models..hidden' names no folder"),
    ],
)
def test_what_is_wrong_with_one_of_several_models_names_it(tmp_path, old, new, words):
    with pytest.raises(ConfigError) as caught:
        read_configs(written(tmp_path, SEVERAL.replace(old, new, 1)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models = 3\n" + LEAST, "'models' holds no model; write each as [models.NAME]"),
        (LEAST + "[models]\n", "'models' holds no model"),
        (LEAST + "[models]\na = 1\n", "'models.a' = 1 is wrong; write it as [models.a]"),
    ],
)
def test_models_that_are_none_are_refused(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        read_configs(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_model_must_be_named_where_there_are_several(tmp_path):
    path = written(tmp_path, SEVERAL)
    with pytest.raises(ConfigError, match="names several models, small, large-2; say which"):
        read_config(path)
    with pytest.raises(ConfigError, match=r"has no \[models\.smal\]; the nearest is 'small'"):
        read_config(path, model="smal")


@pytest.mark.parametrize("text", [LEAST, LEAST + RELATED, STATED, SEVERAL])
def test_what_is_handed_over_is_the_same_configuration(tmp_path, text):
    limits = (
        '[policy.limits."a.b"]\nx = [{ at_least = 0.5, where = { k = 1 } }]\n[system]\nsince = 2026-11-21\n'
    )
    for config in read_configs(written(tmp_path, text + limits)).values():
        told = json.loads(json.dumps(config.handed_over()))
        taken = Config.taken_over(told)
        assert taken.folder == config.folder == tmp_path
        assert taken.model_dump(mode="json") == config.model_dump(mode="json")
        assert (taken.model, taken.data, taken.policy) == (config.model, config.data, config.policy)
        assert taken.model.model_fields_set == config.model.model_fields_set
