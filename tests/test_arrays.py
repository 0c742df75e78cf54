"""An `.npz` file from anywhere gives its arrays or one sentence, and never more memory than it is worth."""

import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.arrays import opened_arrays
from audit.errors import LoadError

ROWS = np.arange(12.0).reshape(3, 4)


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def member(content, *, said=None):
    """An archive of one member `x.npy`, whose directory may say another size than it has."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    made = bytearray(out.getvalue())
    if said is not None:
        size = made.index(b"PK\x01\x02") + 24
        made[size : size + 4] = said.to_bytes(4, "little")
    return bytes(made)


def header(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def read(content):
    with opened_arrays(io.BytesIO(content)) as arrays:
        return dict(arrays)


def test_arrays_are_read_by_name_when_they_are_asked_for(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(x=ROWS, y=np.array(["a", "b"])))
    with opened_arrays(tmp_path / "a.npz") as arrays:
        assert (list(arrays), len(arrays), "x" in arrays, "z" in arrays) == (["x", "y"], 2, True, False)
        np.testing.assert_array_equal(arrays["x"], ROWS)
        assert arrays["y"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is no .npz archive, or cut short"),
        (npz(x=ROWS)[:-30], "it is no .npz archive, or cut short"),
        (header("(1000000000000,)"), "it holds one array"),
        (npz(x=np.array([{}], dtype=object)), "array 'x' holds pickled objects, which are never opened"),
        (member(b"no array"), "'x' is no array"),
        (member(header("(9999999999999,)")), "array 'x' cannot be read: "),
        (member(header("(-1,)")), "array 'x' cannot be read: "),
        (member(header("(2305843009213693952, 8)")), "array 'x' cannot be read: "),
        (member(header("'x'")), "array 'x' cannot be read: "),
    ],
)
def test_a_damaged_file_is_one_kind_of_error(content, said):
    with pytest.raises(ValueError, match=said):
        read(content)


def test_a_small_file_that_would_fill_the_memory_is_not_inflated():
    with pytest.raises(ValueError, match=r"'x.npy' has 1200000000 bytes out of \d+; store what is so large"):
        read(member(bytes(2**22), said=1_200_000_000))
    assert read(member(npy(np.zeros(2**22))))["x"].shape == (2**22,)


def test_an_error_of_the_reader_itself_passes(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(x=ROWS))
    with pytest.raises(LoadError, match="not the one"), opened_arrays(tmp_path / "a.npz"):
        raise LoadError("not the one")


@pytest.mark.parametrize("what", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_said(tmp_path, what):
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    if what == "pipe":
        os.mkfifo(path)
    said = {"missing": "No such file", "folder": "Is a directory", "pipe": "it is a pipe"}[what]
    with pytest.raises(ValueError, match=said), opened_arrays(path):
        pass


@given(st.data())
def test_any_damage_is_the_arrays_or_one_kind_of_error(data):
    content = bytearray(npz(x=ROWS, y=np.arange(3)))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read(bytes(content))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - damage may also leave the arrays as they are
    else:
        assert all(isinstance(array, np.ndarray) for array in arrays.values())
