"""`.pt`, `.pth`, `.th`: a state dict saved by `torch.save`, zip or the older layout, and a factory.

What the format can execute: a torch.save file is a pickle, and a pickle can run anything. It is read by
torch's restricted unpickler (`weights_only=True`), which builds tensors and plain containers and refuses
the rest, so nothing of the file is executed. The factory that builds the network is the user's own code.
"""

from pathlib import Path

from audit.config import ModelSection
from audit.loaders.loaded import Loaded
from audit.loaders.weights import read_weights, with_factory


def load(path: Path, section: ModelSection, folder: Path) -> Loaded:
    """Load weights onto the CPU, wherever they were saved, and put them into the factory's network.

    Raises:
        LoadError: the file holds more than weights, is damaged, or does not fit the network.
    """
    return with_factory(read_weights(path, str(path)), section, folder, path)
