import sys

import pytest
import torch
from hostile import exported, saved, scripted, with_records
from hostile_program import EXECUTED, REFUSED, guard
from networks import CNN, MLP, seeded

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.batched import Batched
from audit.loaders.pt2 import load


def read(path, **keys):
    return load(path, ModelSection(path=path, device="cpu", **keys), path.parent)


def test_an_export_answers_as_the_network_did(tmp_path):
    network, rows = seeded(MLP), torch.randn(7, 5)
    loaded = read(exported(tmp_path / "model.pt2", network))
    assert torch.equal(loaded.module(rows), network(rows))
    assert loaded.caveats == ()
    assert loaded.source["inspection"] == "passed"
    assert loaded.source["exported_shape"] == [5]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_fixed_batch_is_run_in_parts_with_a_caveat(batch, count, tmp_path):
    network, rows = seeded(MLP), torch.randn(count, 5)
    loaded = read(exported(tmp_path / "model.pt2", network, batch))
    assert isinstance(loaded.module, Batched)
    assert torch.allclose(loaded.module(rows), network(rows), atol=1e-6)
    assert "row by row" in loaded.caveats[0] if batch == 1 else "4 rows at a time" in loaded.caveats[0]


def test_a_bounded_batch_is_never_exceeded(tmp_path):
    network, rows = seeded(MLP), torch.randn(50, 5)
    loaded = read(exported(tmp_path / "model.pt2", network, torch.export.Dim("batch", max=8)))
    assert torch.allclose(loaded.module(rows), network(rows), atol=1e-6)
    assert loaded.caveats == ()
    assert loaded.source["batch"] == [1, 8]


def test_an_export_in_training_mode_is_refused(tmp_path):
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(CNN().train(), (torch.zeros(2, 1, 8, 8),)), path)
    with pytest.raises(LoadError, match=r"training mode \(batch_norm, dropout active\); call model.eval"):
        read(path)


def test_two_inputs_are_refused(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, rows, other):
            return rows + other

    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Two(), (torch.zeros(2, 5), torch.zeros(2, 5))), path)
    with pytest.raises(LoadError, match=r"takes 2 inputs \(rows, other\); it must take one"):
        read(path)


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_nothing_of_a_hostile_file_runs(make, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    marker = tmp_path / "ran"
    path = make(tmp_path / "model.pt2", marker)
    with pytest.raises(LoadError) as refused:
        read(path)
    assert refused.value.exit_code == 4
    assert not marker.exists()


def test_a_hostile_guard_is_dropped(tmp_path):
    path = guard(tmp_path / "model.pt2", tmp_path / "ran")
    module = read(path).module
    module(torch.zeros(3, 5))
    assert not (tmp_path / "ran").exists()


def test_a_trusted_file_is_loaded_and_the_record_says_what_was_found(tmp_path):
    sample_inputs = EXECUTED[0]
    path = sample_inputs(tmp_path / "model.pt2", tmp_path / "ran")
    loaded = read(path, trust=True)
    assert (tmp_path / "ran").exists()
    assert "holds more than weights" in loaded.source["inspection"]
    assert loaded.caveats[0].startswith("Loaded on trust: ")


def test_trust_that_was_not_needed_changes_nothing(tmp_path):
    loaded = read(exported(tmp_path / "model.pt2"), trust=True)
    assert loaded.source["inspection"] == "passed"
    assert loaded.caveats == ()


@pytest.mark.parametrize("cut", [30, 500, 4000])
def test_a_cut_file_is_one_sentence(cut, tmp_path):
    path = exported(tmp_path / "model.pt2")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LoadError, match="damaged") as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_missing_weights_are_one_sentence(tmp_path):
    path = with_records(exported(tmp_path / "model.pt2"), {"data/weights/model.pt": saved({})})
    with pytest.raises(LoadError, match="cannot be loaded as an exported program"):
        read(path)


def test_torchscript_handed_to_this_loader_is_refused(tmp_path):
    path = scripted(tmp_path / "model.pt2", seeded(MLP))
    with pytest.raises(LoadError, match="unknown records can run anything"):
        read(path)
