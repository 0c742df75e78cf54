"""`.pt`, `.pth`, `.th`: a state dict saved by `torch.save`, zip or the older layout, and a factory.

What the format can execute: a torch.save file is a pickle, and a pickle can run anything. It is read by
torch's restricted unpickler (`weights_only=True`), which builds tensors and plain containers and refuses
the rest, so nothing of the file is executed; only with `trust = true` is a file that it refuses unpickled
whole, and then the file can run anything. The factory that builds the network is the user's own code.
"""

from dataclasses import replace
from pathlib import Path

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.factory import beside
from audit.loaders.loaded import Loaded
from audit.loaders.weights import read_weights, trusted, with_factory


def load(path: Path, section: ModelSection, folder: Path) -> Loaded:
    """Load weights onto the CPU, wherever they were saved, and put them into the factory's network.

    Raises:
        LoadError: the file holds more than weights, is damaged, or does not fit the network.
    """
    try:
        values = read_weights(path, str(path))
    except LoadError as error:
        if not section.trust:
            raise
        with beside(folder):
            loaded = with_factory(trusted(path), section, folder, path)
        return replace(loaded, caveats=(f"Loaded on trust: {error}",))
    return with_factory(values, section, folder, path)
