"""`.safetensors` and a factory.

What the format can execute: nothing. It is a JSON header and raw numbers. The factory that builds the
network is the user's own code and runs with the user's rights.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.factory import first_line
from audit.loaders.loaded import Loaded
from audit.loaders.weights import with_factory


def load(path: Path, section: ModelSection, folder: Path) -> Loaded:
    """Load weights and put them into the factory's network.

    Raises:
        LoadError: the file is damaged, or does not fit the network.
    """
    try:
        values = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise LoadError(f"{path} cannot be read as safetensors: {first_line(error)}.") from None
    return with_factory(values, section, folder, path)
