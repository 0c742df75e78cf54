import io
import json
import pickle
import struct
import zipfile

import pytest
import torch
from hostile import Payload, exported, plain_pickle, saved, scripted
from hypothesis import given
from hypothesis import strategies as st
from networks import MLP, seeded
from safetensors.torch import save

from audit.errors import LoadError
from audit.loaders.archive import format_of, pickled_globals, read_archive


def written(path, content):
    path.write_bytes(content)
    return path


def test_each_format_is_told_by_its_content_under_any_name(tmp_path):
    network = seeded(MLP)
    files = {
        "pt2": exported(tmp_path / "a.pt2", network).read_bytes(),
        "torchscript": scripted(tmp_path / "b.pt", network).read_bytes(),
        "safetensors": save(network.state_dict()),
        "state_dict": saved(network.state_dict()),
        "pickle": saved(network),
    }
    for number, (name, content) in enumerate(files.items()):
        assert format_of(written(tmp_path / f"{number}.bin", content)) == name


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"w": torch.zeros(2)}, "state_dict"),
        ({"state_dict": {"w": torch.nn.Parameter(torch.zeros(2))}, "epoch": 3}, "state_dict"),
        (MLP(), "pickle"),
    ],
)
def test_both_layouts_of_torch_save_are_told(value, name, legacy, tmp_path):
    assert format_of(written(tmp_path / "m.pt", saved(value, legacy=legacy))) == name


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_in_a_state_dict_is_seen_without_running_it(legacy, tmp_path):
    content = saved({"w": torch.zeros(2), "x": Payload(tmp_path / "ran")}, legacy=legacy)
    path = written(tmp_path / "m.pt", content)
    assert format_of(path) == "pickle"
    assert "posix.mkdir" in pickled_globals(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol_are_told(protocol, tmp_path):
    path = written(tmp_path / "m.pkl", pickle.dumps(Payload(tmp_path / "ran"), protocol=protocol))
    assert format_of(path) == "pickle"
    assert "posix.mkdir" in pickled_globals(path)


def test_an_older_exported_layout_is_pt2(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    assert format_of(tmp_path / "m.pt2") == "pt2"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"no model at all", "of no known model format"),
        (bytes(range(256)) * 4, "of no known model format"),
        (struct.pack("<Q", 10**9) + b"{" + b"x" * 100, "of no known model format"),
        (b"PK\x03\x04 and then nothing", "cannot be read"),
        (b"\x80\x02.", "of no known model format"),
    ],
)
def test_what_is_no_model_is_one_sentence(content, said, tmp_path):
    with pytest.raises(LoadError, match=said):
        format_of(written(tmp_path / "m.pt", content))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(LoadError, match=r"m\.pt does not exist"):
        format_of(tmp_path / "m.pt")


def test_a_zip_of_something_else_is_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(LoadError, match="of no known model format"):
        format_of(tmp_path / "m.pt")


def told(path):
    """The format, or the one sentence; any other exception fails the test."""
    try:
        return format_of(path)
    except LoadError as error:
        return str(error)


@given(st.binary(max_size=300))
def test_any_bytes_have_a_format_or_a_sentence(tmp_path_factory, content):
    path = written(tmp_path_factory.getbasetemp() / "any.bin", content)
    assert "\n" not in told(path)


@given(st.integers(1, 2000), st.sampled_from(["zip", "legacy", "safetensors"]))
def test_any_cut_of_a_model_has_a_format_or_a_sentence(tmp_path_factory, cut, kind):
    values = {"w": torch.arange(100.0)}
    whole = save(values) if kind == "safetensors" else saved(values, legacy=kind == "legacy")
    path = written(tmp_path_factory.getbasetemp() / "cut.bin", whole[: min(cut, len(whole) - 1)])
    answer = told(path)
    assert answer in {"state_dict", "safetensors", "pickle"} or answer.startswith(str(path))


def test_records_are_read_without_the_top_folder(tmp_path):
    archive = read_archive(exported(tmp_path / "model.pt2"))
    assert not archive.flat
    assert json.loads(archive.read("models/model.json"))["graph_module"]


def test_a_record_twice_is_refused(tmp_path):
    path = exported(tmp_path / "model.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/MODELS/model.json", "{}")
    with pytest.raises(LoadError, match=r"names the record 'model/MODELS/model.json' twice"):
        read_archive(path)


def test_a_second_top_folder_is_refused(tmp_path):
    path = exported(tmp_path / "model.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data/sample_inputs/other.pt", plain_pickle(tmp_path / "ran"))
    with pytest.raises(LoadError, match="an honest archive never does that"):
        read_archive(path)


def test_a_damaged_record_is_one_sentence(tmp_path):
    path = exported(tmp_path / "model.pt2")
    content = bytearray(path.read_bytes())
    content[content.index(b"graph_module")] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(LoadError, match=r"damaged at its record 'models/model.json'"):
        read_archive(path).read("models/model.json")


def test_an_archive_is_what_was_read_even_if_the_file_changes(tmp_path):
    path = exported(tmp_path / "model.pt2")
    archive = read_archive(path)
    path.write_bytes(b"swapped")
    assert zipfile.is_zipfile(io.BytesIO(archive.whole))
    assert archive.read("archive_format") == b"pt2"
