import warnings
import zipfile

import pytest
import torch
from hostile import scripted, with_records
from networks import CNN, MLP, seeded
from torch import nn

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.archive import read_archive
from audit.loaders.torchscript import _Sizes, load


def read(path, **keys):
    return load(path, ModelSection(path=path, **keys), path.parent)


class Saves(nn.Module):
    """Writes a file when it answers."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        torch.save(rows, self.marker)
        return rows


class SavesAtLoad(nn.Module):
    """Writes a file while it is loaded: TorchScript runs __setstate__."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.marker = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), state[0])

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


class Opens(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.from_file("somewhere", False, 5)


def test_a_scripted_network_answers_as_before(tmp_path):
    network, rows = seeded(CNN), torch.randn(3, 1, 8, 8)
    loaded = read(scripted(tmp_path / "m.pt", network))
    assert torch.allclose(loaded.module.eval()(rows), network(rows), atol=1e-6)
    assert loaded.source == {"inspection": "passed"}


def test_a_traced_network_is_loaded(tmp_path):
    network, rows = seeded(MLP), torch.randn(3, 5)
    with warnings.catch_warnings():
        # torch deprecates TorchScript; the files exist all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, rows).save(tmp_path / "m.pt")
    assert torch.allclose(read(tmp_path / "m.pt").module(rows), network(rows), atol=1e-6)


@pytest.mark.parametrize("network", [Saves, SavesAtLoad])
def test_code_that_writes_files_is_refused_before_it_runs(network, tmp_path):
    marker = tmp_path / "ran"
    path = scripted(tmp_path / "m.pt", network(str(marker)))
    marker.unlink(missing_ok=True)
    with pytest.raises(LoadError, match="uses 'save', which can reach files") as refused:
        read(path)
    assert refused.value.exit_code == 4
    assert not marker.exists()


def test_the_file_that_writes_at_load_really_does(tmp_path):
    marker = tmp_path / "ran"
    path = scripted(tmp_path / "m.pt", SavesAtLoad(str(marker)))
    marker.unlink(missing_ok=True)
    loaded = read(path, trust=True)
    assert marker.exists()
    assert "'save'" in loaded.caveats[0]


def test_code_that_opens_files_is_refused(tmp_path):
    with pytest.raises(LoadError, match="uses 'from_file'"):
        read(scripted(tmp_path / "m.pt", Opens()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"torch.save(", b"(torch).save("),
        (b"torch.save(", b"ops.aten.save("),
        (b"torch.relu(", b"ops.foreign.relu("),
        (b"torch.relu(", b"__torch__.torch.classes.foreign.Thing("),
    ],
)
def test_other_ways_to_say_it_are_refused(old, new, tmp_path):
    class Network(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            torch.save(rows, "x")
            return torch.relu(rows)

    path = scripted(tmp_path / "m.pt", Network())
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".py"))
        text = archive.read(name)
    assert old in text
    path = with_records(path, {name.partition("/")[2]: text.replace(old, new)})
    with pytest.raises(LoadError, match="can reach files or foreign code"):
        read(path)


@pytest.mark.parametrize("cut", [10, 600])
def test_a_cut_file_is_one_sentence(cut, tmp_path):
    path = scripted(tmp_path / "m.pt", seeded(MLP))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LoadError, match="damaged"):
        read(path)


def test_an_archive_without_code_is_one_sentence(tmp_path):
    path = scripted(tmp_path / "m.pt", seeded(MLP))
    with zipfile.ZipFile(path) as archive:
        code = next(n for n in archive.namelist() if "/code/__torch__" in n and n.endswith(".py"))
    broken = with_records(path, {code.partition("/")[2]: b"this is no code"})
    with pytest.raises(LoadError, match="cannot be loaded as TorchScript"):
        read(broken)


# torch deprecates TorchScript; the files exist all the same
_DEPRECATED = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Kept(nn.Module):
    """Keeps tensors of every layout: a view, a slice, an empty one, whole numbers, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.register_buffer("view", torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("part", torch.arange(10)[3:8:2])
        self.register_buffer("none", torch.zeros(0, 3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows) + torch.ones(5) + self.view.sum() + self.part.sum()


@_DEPRECATED
def test_tensors_of_every_layout_are_read(tmp_path):
    for module in (torch.jit.script(Kept()), torch.jit.trace(Kept(), torch.zeros(2, 4))):
        module.save(tmp_path / "m.pt")
        found = read(tmp_path / "m.pt").module
        assert torch.equal(found(torch.ones(2, 4)), module(torch.ones(2, 4)))


@_DEPRECATED
@pytest.mark.parametrize(("record", "left"), [("data/0", 0), ("data/1", 3)])
def test_a_tensor_whose_numbers_are_cut_off_is_one_sentence_and_no_crash(record, left, tmp_path):
    torch.jit.trace(Kept(), torch.zeros(2, 4)).save(tmp_path / "m.pt")
    with_records(tmp_path / "m.pt", {record: b"\0" * left})
    with pytest.raises(
        LoadError, match=rf"m\.pt is damaged: its record '{record}' is too short for its tensor"
    ):
        read(tmp_path / "m.pt")


@_DEPRECATED
@pytest.mark.parametrize(
    ("offset", "sizes", "strides"), [(7, (1,), (1,)), (0, (3, 3), (3, 1)), (6, (2,), (-1,))]
)
def test_a_tensor_that_reaches_beyond_its_numbers_is_one_sentence(offset, sizes, strides, tmp_path):
    torch.jit.script(Kept()).save(tmp_path / "m.pt")
    sized = _Sizes(read_archive(tmp_path / "m.pt"), "data")
    with pytest.raises(
        LoadError, match=r"a tensor of the shape .* reaches beyond the 6 numbers of its record"
    ):
        sized._fits(("data/0", 6), offset, sizes, strides)
    sized._fits(("data/0", 6), 1, (2, 2), (3, 1))
    sized._fits(("data/0", 0), 0, (0, 5), (5, 1))
