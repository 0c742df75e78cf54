import os
import tomllib
import warnings
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from audit.config import read_config
from audit.errors import ConfigError, LoadError
from audit.init import _comment, _key, _toml, model_format, write_config, write_decisions_config
from audit.read import load_data

ROWS = "income,sex_f,sex_m,grade,age,sex,decision\n" + "".join(
    f"{1000.5 * i},{i % 2},{1 - i % 2},{i % 4},{20 + i},{'f' if i % 2 else 'm'},{'no' if i % 3 else 'yes'}\n"
    for i in range(30)
)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(nn.Linear(5, 2).state_dict(), path)
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_the_file_parses_names_its_guesses_and_its_data_loads(tmp_path, weights, table):
    out = tmp_path / "audit.toml"
    text = write_config(weights, table, out)
    assert out.read_text(encoding="utf-8") == text
    config = read_config(out)
    assert config.data.target == "decision"
    assert config.data.sensitive == ("sex",)
    assert config.data.inputs == ("income", "sex_f", "sex_m", "grade", "age")
    assert config.model.classes == ("no", "yes")
    assert config.data.favourable == "yes"
    told = config.data.features
    assert told["sex"].kind == "categorical"
    assert told["sex"].columns == ("sex_f", "sex_m")
    assert told["sex"].immutable
    assert (told["grade"].kind, told["income"].kind) == ("ordinal", "numeric")
    assert told["age"].immutable
    assert not told["income"].immutable
    assert config.checks.run == ("*",)
    for key in ("reproducers", "outcomes"):
        told = next(found for found in text.splitlines() if found.startswith(f"{key} = true  # "))
        assert "false keeps none" in told
    (limit,) = config.policy.policy().limits
    assert (limit.check, limit.measure, limit.at_least) == ("performance.accuracy", "accuracy", 0.66)
    for line in ("target =", "sensitive =", "classes =", "favourable ="):
        assert "# guess" in next(found for found in text.splitlines() if found.startswith(line))
    for section in ("[model]", "[data]", "[data.features]", "[checks]", "[policy]", "[system]"):
        assert section in text.splitlines()
    assert "FILL IN" in text
    data = load_data(config.data, config.folder, classes=config.model.classes)
    assert len(data) == 30
    assert data.features[1].columns == (1, 2)


def test_what_the_user_says_is_no_guess(tmp_path, weights, table):
    out = tmp_path / "audit.toml"
    text = write_config(weights, table, out, target="grade", sensitive=("sex",), factory="nets:build")
    config = read_config(out)
    assert (config.data.target, config.model.factory) == ("grade", "nets:build")
    assert "# guess" not in next(line for line in text.splitlines() if line.startswith("target ="))
    assert "FILL IN" not in text
    assert config.data.favourable is None


def test_paths_are_relative_to_the_file(tmp_path, weights, table):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    out = tmp_path / "deep" / "er" / "audit.toml"
    write_config(weights, table, out)
    config = read_config(out)
    assert config.model.path.as_posix() == "../../model.safetensors"
    assert config.beside(config.data.path) == table.resolve()


def test_paths_of_the_command_line_start_where_it_runs(tmp_path, weights, table, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "audit.toml"
    write_config(*(type(table)(os.path.relpath(path)) for path in (weights, table)), out)
    assert read_config(out).data.path.as_posix() == "data.csv"


def test_a_file_that_exists_is_kept_unless_forced(tmp_path, weights, table):
    out = tmp_path / "audit.toml"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"audit\.toml already exists; --force"):
        write_config(weights, table, out)
    assert out.read_text(encoding="utf-8") == "mine"
    write_config(weights, table, out, force=True)
    assert read_config(out).data.target == "decision"


def test_what_is_not_there_is_named(tmp_path, weights, table):
    with pytest.raises(LoadError, match=r"gone\.pt does not exist"):
        write_config(tmp_path / "gone.pt", table, tmp_path / "audit.toml")
    with pytest.raises(LoadError, match=r"gone\.csv does not exist"):
        write_config(weights, tmp_path / "gone.csv", tmp_path / "audit.toml")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_config(weights, table, tmp_path / "no" / "such" / "audit.toml")


def test_data_that_does_not_load_yet_is_told_on_top(tmp_path, weights, table):
    table.write_text("job,label\ncook,0\nsmith,1\n", encoding="utf-8")
    out = tmp_path / "audit.toml"
    text = write_config(weights, table, out)
    assert "# PROBLEM: the data does not load yet: " in text
    assert "column 'job', row 1 holds 'cook'" in text
    assert read_config(out).data.target == "label"


def test_images(tmp_path, weights):
    np.savez(tmp_path / "i.npz", images=np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4), labels=[0, 1])
    out = tmp_path / "audit.toml"
    text = write_config(weights, tmp_path / "i.npz", out)
    config = read_config(out)
    assert config.model.input_range == (0, 1)
    assert config.data.target == "labels"
    assert "[data.features]" not in text


def test_many_columns_are_not_listed(tmp_path, weights):
    np.savez(tmp_path / "w.npz", x=np.random.default_rng(0).normal(size=(4, 200)), y=[0, 1, 0, 1])
    out = tmp_path / "audit.toml"
    text = write_config(weights, tmp_path / "w.npz", out)
    assert "200 columns are numeric features" in text
    assert len(text.splitlines()) < 60
    assert read_config(out).data.features == {}


def test_hostile_names_stay_text(tmp_path, weights):
    path = tmp_path / "data.csv"
    path.write_text('"a]b"" = 1\n[policy]","x # y",label\n1.5,2.5,</script>\n3,4,é\n', encoding="utf-8")
    out = tmp_path / "audit.toml"
    write_config(weights, path, out)
    config = read_config(out)
    assert config.data.inputs == ('a]b" = 1\n[policy]', "x # y")
    assert config.model.classes == ("</script>", "é")
    assert len(load_data(config.data, config.folder)) == 2


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_written_as_toml_that_reads_the_same(text):
    assert tomllib.loads(f"{_key(text)} = {_toml([text, {text: text}])}") == {text: [text, {text: text}]}
    assert tomllib.loads(_comment(text)) == {}


def test_a_model_file_is_told_by_its_content(tmp_path, weights):
    network = nn.Linear(5, 2)
    paths = {
        kind: tmp_path / f"{kind}.bin" for kind in ("state_dict", "pickle", "pt2", "torchscript", "unknown")
    }
    torch.save(network.state_dict(), paths["state_dict"])
    torch.save(network, paths["pickle"])
    torch.export.save(torch.export.export(network, (torch.zeros(2, 5),)), tmp_path / "m.pt2")
    (tmp_path / "m.pt2").rename(paths["pt2"])
    paths["unknown"].write_bytes(b"nothing that is known")
    with warnings.catch_warnings():
        # torch deprecates TorchScript, which is still a format that users hold
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(network, torch.zeros(2, 5)), str(paths["torchscript"]))
    assert {kind: model_format(path) for kind, path in paths.items()} == {kind: kind for kind in paths}
    assert model_format(weights) == "safetensors"


def test_a_pickle_is_never_opened_by_init(tmp_path, table):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = tmp_path / "model.pt"
    torch.save(Trap(), path)
    text = write_config(path, table, tmp_path / "audit.toml")
    assert not (tmp_path / "sprung").exists()
    assert "# trust = true" in text
    assert not read_config(tmp_path / "audit.toml").model.trust


def test_adult_takes_the_test_rows_and_the_encoder_beside_it(tmp_path, weights, shared_data):
    out = tmp_path / "audit.toml"
    write_config(weights, shared_data / "adult/adult.csv", out, sensitive=("sex", "race"))
    config = read_config(out)
    assert config.data.where == {"split": "test"}
    assert config.data.target == "income"
    assert config.data.sensitive == ("sex", "race")


def test_an_exported_model_is_loaded_and_told(tmp_path, table):
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    exported = torch.export.export(
        network, (torch.zeros(2, 5),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    torch.export.save(exported, tmp_path / "model.pt2")
    text = write_config(tmp_path / "model.pt2", table, tmp_path / "audit.toml")
    assert "# it loads: its output was recognised as " in text
    assert "PROBLEM" not in text


COUNTED = "sex,race,hired,earned,people,score\n" + "".join(
    f"{sex},{race},{hired},{earned},{40 + 7 * k},{k / 16}\n"
    for k, (sex, race, hired, earned) in enumerate(
        product(("F", "M"), ("A", "B"), ("no", "yes"), ("no", "yes"))
    )
)


@pytest.fixture
def counts(tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text(COUNTED, encoding="utf-8")
    return path


def test_a_table_of_decisions_gets_a_file_that_loads(tmp_path, counts):
    out = tmp_path / "audit.toml"
    text = write_decisions_config(counts, out, "hired", count="people", target="earned")
    assert out.read_text(encoding="utf-8") == text
    config = read_config(out)
    assert (config.model.predictions, config.model.path) == ("hired", None)
    assert (config.data.count, config.data.target) == ("people", "earned")
    assert config.data.sensitive == ("sex", "race")
    assert config.data.favourable == "yes"
    assert "\nreproducers = true  # " in text
    assert "\noutcomes = true  # " in text
    (limit,) = config.policy.policy().limits
    assert (limit.check, limit.measure, limit.at_least) == ("fairness.groups", "selection_rate_ratio", 0.8)
    data = load_data(config.data, config.folder, predictions=config.model.predictions)
    assert data.size == sum(40 + 7 * k for k in range(16))
    assert "PROBLEM" not in text
    assert "guess" in next(line for line in text.splitlines() if line.startswith("sensitive ="))


def test_scores_get_a_threshold_and_what_is_said_is_no_guess(tmp_path, counts):
    text = write_decisions_config(counts, tmp_path / "a.toml", "score", sensitive=("sex",))
    config = read_config(tmp_path / "a.toml")
    assert "threshold" in config.model.model_fields_set
    assert config.data.target is None
    assert config.data.count is None
    assert config.data.sensitive == ("sex",)
    assert "guess" not in next(line for line in text.splitlines() if line.startswith("sensitive ="))
    decided = write_decisions_config(counts, tmp_path / "b.toml", "hired")
    assert "threshold" not in read_config(tmp_path / "b.toml").model.model_fields_set
    assert "\n# threshold" in decided


def test_a_table_without_sensitive_columns_asks_nothing_of_groups(tmp_path):
    (tmp_path / "d.csv").write_text("hired,n\nyes,3\nno,2\n", encoding="utf-8")
    write_decisions_config(tmp_path / "d.csv", tmp_path / "audit.toml", "hired", count="n")
    config = read_config(tmp_path / "audit.toml")
    assert config.policy.policy().limits == ()
    assert config.data.sensitive == ()


def test_what_does_not_load_of_a_table_of_decisions_is_told_on_top(tmp_path, counts):
    text = write_decisions_config(counts, tmp_path / "audit.toml", "hired", count="score")
    assert "# PROBLEM: the data do not load yet" in text
    assert read_config(tmp_path / "audit.toml").data.count == "score"


def test_a_table_of_decisions_that_is_not_there_is_a_sentence(tmp_path, counts):
    with pytest.raises(LoadError, match=r"no column 'hire'.* which --predictions names.* 'hired'"):
        write_decisions_config(counts, tmp_path / "a.toml", "hire")
    with pytest.raises(LoadError, match=r"no column 'n'.* which --count names"):
        write_decisions_config(counts, tmp_path / "a.toml", "hired", count="n")
    with pytest.raises(LoadError, match="does not exist"):
        write_decisions_config(tmp_path / "no.csv", tmp_path / "a.toml", "hired")
    (tmp_path / "a.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="already exists"):
        write_decisions_config(counts, tmp_path / "a.toml", "hired")
    np.savez(tmp_path / "x.npz", inputs=np.zeros((2, 3)), hired=np.array([0, 1]))
    with pytest.raises(LoadError, match="holds arrays"):
        write_decisions_config(tmp_path / "x.npz", tmp_path / "b.toml", "hired")
