"""A folder of images with a CSV that names each file and its label."""

import warnings
from functools import partial
from pathlib import Path

import numpy as np

from audit.config import DataSection
from audit.dataset import Ints
from audit.errors import LoadError
from audit.plainfile import real_path
from audit.readers.csv import read_table
from audit.readers.raw import Array, Raw

_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
_WORDS = {"L": "grayscale", "RGB": "RGB"}


def read(path: Path, section: DataSection) -> Raw:
    """The images that a CSV names (`[data] labels`, or `labels.csv` in the folder), opened when asked for.

    The column `file`, or else the first, names an image inside the folder; `[data] target`, or `label`, or
    else the second column holds its label; other columns may be sensitive features.

    Raises:
        LoadError: `path` is not a folder, or the CSV cannot be read or has one column only.
    """
    if not path.is_dir():
        raise LoadError(f"{path} is not a folder; the reader 'images' takes a folder of image files.")
    listing = section.labels or path / "labels.csv"
    if not listing.is_file():
        raise LoadError(
            f"{listing} does not exist; [data] labels names the CSV with a file and a label in each row."
        )
    table = read_table(listing)
    columns = [str(name) for name in table.columns]
    file_column = "file" if "file" in columns else columns[0]
    others = [name for name in columns if name != file_column]
    if not others:
        raise LoadError(f"{listing} has the column '{file_column}' alone; add a column 'label'.")
    target = section.target or ("label" if "label" in others else others[0])
    opener = partial(_open_all, path, listing, file_column, table[file_column].to_list())
    return Raw(path=listing, table=table, target=target, inputs=opener, image=True)


def _open_all(folder: Path, listing: Path, column: str, names: list[str], positions: Ints) -> Array:
    """[len(positions), H, W, C] uint8 pixels, all of the first image's shape."""
    first = names[positions[0]]
    shape: tuple[int, ...] = ()
    pixels = np.empty(0, dtype=np.uint8)
    for index, position in enumerate(positions):
        where = f"{listing}, row {position + 1}, column '{column}': image '{names[position]}'"
        image = _open(folder, names[position], where)
        if not shape:
            shape = image.shape
            pixels = np.empty((len(positions), *shape), dtype=np.uint8)
        if image.shape != shape:
            raise LoadError(
                f"{where} is {_shape(image.shape)}, but '{first}' is {_shape(shape)}; "
                "every image must have the same shape."
            )
        pixels[index] = image
    return pixels


def _open(folder: Path, name: str, where: str) -> Array:
    from PIL import Image

    file = real_path(folder / name)
    if not file.is_relative_to(real_path(folder)):
        raise LoadError(f"{where} lies outside the folder {folder}; name a file inside it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.mode not in _MODES:
                    raise LoadError(f"{where} is stored as {image.mode}; save it as grayscale or RGB.")
                pixels = np.asarray(image.convert(_MODES[image.mode]), dtype=np.uint8)
    except FileNotFoundError:
        raise LoadError(f"{where} does not exist in {folder}.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise LoadError(f"{where} cannot be opened as an image: {error}.") from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _shape(shape: tuple[int, ...]) -> str:
    kind = _WORDS["L" if shape[2] == 1 else "RGB"]
    return f"{shape[0]} x {shape[1]} {kind}"
