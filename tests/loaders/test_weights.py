import os
from pathlib import Path

import pytest
import torch
from hostile import Payload, plain_pickle, saved
from networks import CNN, MLP, seeded

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.weights import read_weights, trusted, weights_only, with_factory

PATH = Path("m.pt")


def fitted(values, factory="networks:MLP", **arguments):
    return with_factory(values, ModelSection(path=PATH, factory=factory, arguments=arguments), Path(), PATH)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_checkpoint_is_unwrapped(key, prefix):
    network = seeded(MLP, seed=5)
    values = {prefix + name: value for name, value in network.state_dict().items()}
    loaded = fitted({key: values, "epoch": 4})
    assert torch.equal(loaded.module.first.weight, network.first.weight)
    assert loaded.source["factory"] == "networks:MLP"
    assert loaded.source["tensors"] == 4
    assert len(loaded.source["factory_sha256"]) == 64


def test_a_missing_name_is_told():
    values = seeded(MLP).state_dict()
    del values["last.bias"]
    with pytest.raises(LoadError, match=r"m\.pt does not fit .*'networks:MLP': it lacks last\.bias;"):
        fitted(values)


def test_unexpected_names_are_told_the_first_few():
    values = {**seeded(MLP).state_dict(), **{f"extra{i}": torch.zeros(1) for i in range(5)}}
    with pytest.raises(LoadError, match="has unexpected extra0, extra1, extra2 and 2 more"):
        fitted(values)


def test_a_wrong_shape_is_told_with_both():
    with pytest.raises(LoadError, match=r"last\.weight \[3, 16\] instead of \[2, 16\]"):
        fitted(seeded(MLP).state_dict(), outputs=2)


def test_checkpoints_older_than_the_batch_counter_are_taken():
    values = seeded(CNN).state_dict()
    del values["norm.num_batches_tracked"]
    assert torch.equal(fitted(values, "networks:CNN").module.conv.weight, values["conv.weight"])


def test_a_tied_weight_may_be_stored_once(tmp_path):
    (tmp_path / "tied.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))\n"
        "    net[1].weight = net[0].weight\n"
        "    return net\n"
    )
    section = ModelSection(path=PATH, factory="tied:network")
    loaded = with_factory({"0.weight": torch.eye(3)}, section, tmp_path, PATH)
    assert torch.equal(loaded.module[1].weight, torch.eye(3))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 3}, "holds a dict with the keys epoch, not a state dict"),
        ([1, 2], "holds a list, not a state dict"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
    ],
)
def test_what_is_no_state_dict_is_told(values, said):
    with pytest.raises(LoadError, match=said):
        fitted(values)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_are_read_in_both_layouts(legacy):
    seen = read_weights(saved({"w": torch.arange(3)}, legacy=legacy), "m.pt")
    assert torch.equal(seen["w"], torch.arange(3))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_is_named_and_not_run(legacy, tmp_path):
    content = saved({"w": Payload(tmp_path / "ran")}, legacy=legacy)
    with pytest.raises(LoadError, match=r"m\.pt holds more than weights \(it names posix\.mkdir\)"):
        read_weights(content, "m.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", saved({"w": torch.zeros(99)})[:200]])
def test_what_cannot_be_read_is_one_sentence(content):
    with pytest.raises(LoadError, match=r"^m\.pt ") as refused:
        read_weights(content, "m.pt")
    assert "\n" not in str(refused.value)


def test_inside_weights_only_no_caller_gets_more(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(saved(Payload(tmp_path / "ran")))
    before = dict(os.environ)
    with weights_only(), pytest.raises(Exception, match="posix"):
        torch.load(path, weights_only=False)
    assert not (tmp_path / "ran").exists()
    assert dict(os.environ) == before


def test_trust_runs_what_a_file_says(tmp_path):
    (tmp_path / "m.pkl").write_bytes(plain_pickle(tmp_path / "ran"))
    trusted(tmp_path / "m.pkl")
    assert (tmp_path / "ran").exists()
