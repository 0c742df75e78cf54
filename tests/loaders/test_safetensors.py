import pytest
import torch
from hostile import plain_pickle, saved
from networks import MLP, seeded
from safetensors.torch import save

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.safetensors import load


def read(path, factory="networks:MLP"):
    return load(path, ModelSection(path=path, factory=factory), path.parent)


def test_weights_arrive_unchanged(tmp_path):
    network, rows = seeded(MLP, seed=3), torch.randn(4, 5)
    (tmp_path / "m.safetensors").write_bytes(save(network.state_dict()))
    loaded = read(tmp_path / "m.safetensors")
    assert torch.equal(loaded.module(rows), network(rows))
    assert loaded.source["factory"] == "networks:MLP"


def test_a_pickle_under_its_name_is_refused_and_not_run(tmp_path):
    for content in (plain_pickle(tmp_path / "ran"), saved(MLP())):
        (tmp_path / "m.safetensors").write_bytes(content)
        with pytest.raises(LoadError, match="cannot be read as safetensors"):
            read(tmp_path / "m.safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_cut_file_is_one_sentence(cut, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(save(seeded(MLP).state_dict())[:cut])
    with pytest.raises(LoadError, match="cannot be read as safetensors"):
        read(tmp_path / "m.safetensors")
