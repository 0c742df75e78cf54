import argparse
import zipfile

import pytest
import torch
from hostile import Payload, saved, with_records
from networks import MLP, LeNet, ResNet20, fgsm_trained, seeded

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.state_dict import load


def read(path, factory="networks:MLP", **keys):
    return load(path, ModelSection(path=path, factory=factory, **keys), path.parent)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_arrive_unchanged(legacy, tmp_path):
    network = seeded(MLP, seed=3)
    (tmp_path / "m.pth").write_bytes(saved(network.state_dict(), legacy=legacy))
    rows = torch.randn(4, 5)
    assert torch.equal(read(tmp_path / "m.pth").module(rows), network(rows))


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_saved_on_another_device_arrive_on_the_cpu(legacy, tmp_path):
    network, path = seeded(MLP, seed=3), tmp_path / "m.th"
    content = saved(network.state_dict(), legacy=legacy)
    path.write_bytes(content)
    # What torch.save writes for a CUDA tensor differs in the name of its device alone.
    here, there = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    if legacy:
        path.write_bytes(content.replace(here, there))
    else:
        with zipfile.ZipFile(path) as archive:
            pickled = archive.read("archive/data.pkl")
        with_records(path, {"data.pkl": pickled.replace(here, there)})
    assert b"cuda:0" in path.read_bytes()
    module = read(path).module
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    assert torch.equal(module.first.weight, network.first.weight)


def test_real_lenet(shared_data):
    module = read(shared_data / "mnist" / "lenet.pth", "networks:LeNet").module
    assert isinstance(module, LeNet)


def test_real_legacy_file(shared_data):
    loaded = read(shared_data / "mnist" / "fgsm_trained.pth", "networks:fgsm_trained")
    assert loaded.source["tensors"] == len(fgsm_trained().state_dict())


def test_real_checkpoint_with_a_state_dict_key_and_a_prefix(shared_data):
    loaded = read(shared_data / "cifar10" / "resnet20.th", "networks:ResNet20")
    assert isinstance(loaded.module, ResNet20)
    assert not torch.equal(loaded.module.conv1.weight, ResNet20().conv1.weight)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_of_a_hostile_file_runs(legacy, tmp_path):
    values = {**seeded(MLP).state_dict(), "extra": Payload(tmp_path / "ran")}
    (tmp_path / "m.pt").write_bytes(saved(values, legacy=legacy))
    with pytest.raises(LoadError, match="holds more than weights") as refused:
        read(tmp_path / "m.pt")
    assert refused.value.exit_code == 4
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_with_more_than_weights_needs_trust(tmp_path):
    values = {"state_dict": seeded(MLP).state_dict(), "args": argparse.Namespace(lr=0.1)}
    (tmp_path / "m.pt").write_bytes(saved(values))
    with pytest.raises(LoadError, match=r"it names argparse\.Namespace"):
        read(tmp_path / "m.pt")
    loaded = read(tmp_path / "m.pt", trust=True)
    assert loaded.caveats[0].startswith("Loaded on trust: ")
