import pickle

import pytest
import torch
from hostile import Payload, plain_pickle, saved
from networks import MLP, seeded

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.pickle import load


def read(path, **keys):
    return load(path, ModelSection(path=path, **keys), path.parent)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_network_is_refused_without_trust_and_its_names_are_told(legacy, tmp_path):
    (tmp_path / "m.pt").write_bytes(saved(seeded(MLP), legacy=legacy))
    with pytest.raises(LoadError, match=r"is a pickle \(it names networks\.MLP"):
        read(tmp_path / "m.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:.*source code of class:Warning")  # the legacy layout compares sources
def test_a_trusted_network_answers_as_before(legacy, tmp_path):
    network, rows = seeded(MLP), torch.randn(3, 5)
    (tmp_path / "m.pt").write_bytes(saved(network, legacy=legacy))
    loaded = read(tmp_path / "m.pt", trust=True)
    assert torch.equal(loaded.module(rows), network(rows))
    assert "unpickled on trust" in loaded.caveats[0]
    assert "networks.MLP" in loaded.source["names"]


def test_classes_are_found_beside_audit_toml(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from torch import nn\nclass Net(nn.Linear):\n    pass\n")
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        from mine import Net

        (tmp_path / "m.pt").write_bytes(saved(Net(2, 2)))
        patched.delitem(__import__("sys").modules, "mine")
    assert type(read(tmp_path / "m.pt", trust=True).module).__name__ == "Net"


def test_a_class_that_is_nowhere_is_one_sentence(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"cnowhere_at_all\nNet\n(tR.")
    with pytest.raises(LoadError, match="No module named 'nowhere_at_all'"):
        read(tmp_path / "m.pkl", trust=True)


def test_nothing_of_a_hostile_file_runs(tmp_path):
    contents = (plain_pickle(tmp_path / "ran"), saved(Payload(tmp_path / "ran")))
    for content in (*contents, pickle.dumps([Payload(tmp_path / "ran")], protocol=0)):
        (tmp_path / "m.pkl").write_bytes(content)
        with pytest.raises(LoadError, match=r"it names posix\.mkdir") as refused:
            read(tmp_path / "m.pkl")
        assert refused.value.exit_code == 4
    assert not (tmp_path / "ran").exists()


def test_a_trusted_pickle_of_something_else_is_refused(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(LoadError, match="holds a dict with the keys a, not a state dict"):
        read(tmp_path / "m.pkl", trust=True)
