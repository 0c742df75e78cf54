import hashlib
import json

import numpy as np
import pytest
import torch
from hostile import Payload, exported, plain_pickle, saved, scripted
from networks import MLP, seeded
from safetensors.torch import save_file

from audit.config import ModelSection, Normalize
from audit.dataset import Dataset
from audit.errors import ConfigError, LoadError, NotApplicable
from audit.load import describe_model, fingerprint, load_model, no_model, read_classes
from audit.record import canonical

ROWS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
ROWS.setflags(write=False)


def loaded(path, rows=ROWS, **keys):
    keys.setdefault("device", "cpu")
    return load_model(ModelSection(path=path, **keys), path.parent, rows)


def _pt2(path):
    return exported(path.with_suffix(".pt2"), seeded(MLP)), {}


def _safetensors(path):
    path = path.with_suffix(".safetensors")
    save_file(seeded(MLP).state_dict(), path)
    return path, {"factory": "networks:MLP"}


def _state_dict(path):
    path.write_bytes(saved(seeded(MLP).state_dict()))
    return path, {"factory": "networks:MLP"}


def _legacy(path):
    path.write_bytes(saved(seeded(MLP).state_dict(), legacy=True))
    return path, {"factory": "networks:MLP"}


def _torchscript(path):
    return scripted(path, seeded(MLP)), {}


def _pickle(path):
    path.write_bytes(saved(seeded(MLP)))
    return path, {"trust": True}


FORMATS = {
    "pt2": _pt2,
    "safetensors": _safetensors,
    "state_dict": _state_dict,
    "legacy": _legacy,
    "torchscript": _torchscript,
    "pickle": _pickle,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_answers_and_says_how_it_was_read(name, tmp_path):
    path, keys = FORMATS[name](tmp_path / "m.pt")
    model = loaded(path, **keys)
    assert torch.allclose(model.predict(ROWS), seeded(MLP)(torch.tensor(ROWS)).detach(), atol=1e-6)
    assert model.loader == ("state_dict" if name == "legacy" else name)
    assert model.trust == (name == "pickle")
    assert model.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert ("modules" in model.capabilities) == (name not in {"pt2", "torchscript"})
    assert {"logits", "gradients"} <= model.capabilities
    facts = describe_model(model)
    assert json.loads(canonical(facts))["loader"] == model.loader
    assert facts["parameters"] == 5 * 16 + 16 + 16 * 3 + 3
    assert (facts["file"], facts["bytes"]) == (path.name, path.stat().st_size)
    assert facts["preflight"][0]["name"] == "evaluation mode"


@pytest.mark.parametrize("name", FORMATS)
def test_two_loads_describe_the_same(name, tmp_path):
    path, keys = FORMATS[name](tmp_path / "m.pt")
    assert canonical(describe_model(loaded(path, **keys))) == canonical(describe_model(loaded(path, **keys)))


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (plain_pickle, ".safetensors"),
        (lambda marker: saved(Payload(marker)), ".safetensors"),
        (plain_pickle, ".pt2"),
        (lambda marker: saved({"w": Payload(marker)}), ".pt2"),
        (lambda marker: saved({"w": Payload(marker)}, legacy=True), ".pt"),
        (lambda marker: saved({"w": Payload(marker)}), ".th"),
        (plain_pickle, ".pth"),
    ],
)
def test_nothing_of_a_hostile_file_runs_whatever_its_name(content, suffix, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / f"m{suffix}"
    path.write_bytes(content(marker))
    for keys in ({}, {"factory": "networks:MLP"}, {"loader": "state_dict", "factory": "networks:MLP"}):
        with pytest.raises(LoadError) as refused:
            loaded(path, **keys)
        assert refused.value.exit_code == 4
        assert "\n" not in str(refused.value)
    assert not marker.exists()


def test_a_name_that_says_another_format_is_refused_by_the_content(tmp_path):
    path = scripted(tmp_path / "m.pt2", seeded(MLP))
    with pytest.raises(LoadError, match=r"is a torchscript file by its content, but its name ends in '.pt2'"):
        loaded(path)
    assert loaded(path, loader="torchscript").loader == "torchscript"


def test_a_loader_that_does_not_fit_the_content_is_refused(tmp_path):
    path, keys = _safetensors(tmp_path / "m.pt")
    with pytest.raises(
        LoadError, match=r"is a safetensors file by its content, but \[model\] loader = 'pt2'"
    ):
        loaded(path, loader="pt2", **keys)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04" + b"0" * 50, saved(MLP().state_dict())[:900]]
)
@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".safetensors"])
def test_a_damaged_file_is_one_sentence(content, suffix, tmp_path):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(LoadError) as refused:
        loaded(path, factory="networks:MLP")
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    with pytest.raises(LoadError, match="does not exist"):
        loaded(tmp_path / "m.pt")
    with pytest.raises(LoadError, match="cannot be read"):
        loaded(tmp_path)


def test_a_loader_of_that_name_must_be_installed(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    with pytest.raises(ConfigError, match="loader = 'onnxx' is not installed"):
        loaded(path, loader="onnxx")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_an_absent_device_is_one_sentence(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    with pytest.raises(LoadError, match="no CUDA device"):
        loaded(path, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_runs_on_cuda(name, tmp_path):
    path, keys = FORMATS[name](tmp_path / "m.pt")
    model = loaded(path, device="cuda", **keys)
    assert {parameter.device.type for parameter in model.module.parameters()} == {"cuda"}
    assert torch.allclose(model.predict(ROWS), seeded(MLP)(torch.tensor(ROWS)).detach(), atol=1e-3)


def test_classes_are_given_or_read_one_a_line(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n dog \n\nfish\n", encoding="utf-8")
    path, _ = _pt2(tmp_path / "m.pt")
    assert loaded(path, classes="classes.txt").classes == ("cat", "dog", "fish")
    assert loaded(path, classes=("a", "b", "c")).classes == ("a", "b", "c")
    assert read_classes(ModelSection(path=path), tmp_path) == ()


def test_wrong_classes_are_told(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    with pytest.raises(LoadError, match=r"nowhere.txt' cannot be read as text"):
        loaded(path, classes="nowhere.txt")
    with pytest.raises(ConfigError, match="names 'a' twice"):
        loaded(path, classes=("a", "b", "a"))
    with pytest.raises(LoadError, match="puts out 3 outputs, but there are 2 classes"):
        loaded(path, classes=("a", "b"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"normalize": Normalize(mean=(0.5,), std=(0.5, 0.5))}, "1 means and 2 values of std"),
        ({"normalize": Normalize(mean=(0.5,), std=(0.0,))}, "each must be greater than 0"),
        ({"input_range": (1.0, 0.0)}, r"input_range = \[1.0, 0.0\] is wrong"),
    ],
)
def test_a_wrong_key_is_a_wrong_configuration(keys, said, tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    with pytest.raises(ConfigError, match=said):
        loaded(path, **keys)


def test_normalisation_and_range_arrive(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    model = loaded(path, normalize=Normalize(mean=(0.5,), std=(2.0,)), input_range=(-9.0, 9.0))
    expected = seeded(MLP)((torch.tensor(ROWS) - 0.5) / 2).detach()
    assert torch.allclose(model.predict(ROWS), expected, atol=1e-6)
    assert model.input_range == (-9.0, 9.0)


def test_a_given_batch_size_stands(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    assert loaded(path, batch_size=3).passes.batch == 3
    assert loaded(path).passes.batch == 8192


def test_without_rows_there_is_no_preflight(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    model = loaded(path, rows=None, output="log_probabilities")
    assert (model.preflight, model.output) == ((), "log_probabilities")
    with pytest.raises(LoadError, match="holds no rows"):
        loaded(path, rows=ROWS[:0])


def test_the_preflight_sees_rows_from_the_whole_data(tmp_path):
    """A row at the end that breaks the model is seen although the first 32 are sound."""
    path, _ = _pt2(tmp_path / "m.pt")
    rows = np.concatenate([ROWS] * 100)
    rows[-1] = 3e38
    with pytest.raises(LoadError, match="NaN or infinity for 1 of the 32 rows"):
        loaded(path, rows)


def test_real_models(shared_data):
    with np.load(shared_data / "mnist" / "mnist_test.npz") as data:
        images = data["images"][:, None].astype(np.float32) / 255
    path = shared_data / "mnist" / "lenet.pth"
    model = loaded(path, images, factory="networks:LeNet", input_range=(0.0, 1.0))
    assert model.output == "log_probabilities"
    assert model.capabilities == {"logits", "gradients", "modules"}
    assert all(item.passed for item in model.preflight)


def test_the_fingerprint_is_that_of_the_whole_file(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "m.bin").write_bytes(content)
    assert fingerprint(tmp_path / "m.bin") == hashlib.sha256(content).hexdigest()


def test_facts_are_json_without_a_preflight_too(tmp_path):
    path, _ = _pt2(tmp_path / "m.pt")
    facts = describe_model(loaded(path, rows=None))
    assert json.loads(canonical(facts))["preflight"] == []


def test_what_stands_for_a_model_has_no_network_and_says_so():
    data = Dataset(
        inputs=np.zeros((2, 0), np.float32), modality="tabular", classes=("no", "yes"), favourable=1,
        decisions=np.array([0, 1]), source={"file": "d.csv", "sha256": "ab" * 32},
    )  # fmt: skip
    model = no_model("score", data)
    facts = describe_model(model)
    assert (facts["sha256"], facts["file"], facts["parameters"]) == ("ab" * 32, "d.csv", 0)
    assert facts["capabilities"] == ["predictions"]
    assert "No model was run" in facts["caveats"][0]
    assert "which rules out logits, gradients and modules" in facts["ruled_out"][0]
    canonical(facts)
    with pytest.raises(NotApplicable, match="no model was run"):
        model.predict(data.inputs)


def test_a_section_without_a_path_loads_no_model(tmp_path):
    with pytest.raises(ConfigError, match="no model to load"):
        load_model(ModelSection(predictions="score"), tmp_path)
