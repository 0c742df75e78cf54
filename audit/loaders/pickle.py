"""A whole network pickled by `torch.save(model)`, only with `trust = true`.

What the format can execute: anything. A pickle names functions and calls them while it is read, with the
user's rights. It is therefore never read unless the user sets `trust = true`, and the record then says so.
Save the weights alone instead, or export the network.
"""

from pathlib import Path

from torch import nn

from audit.config import ModelSection
from audit.errors import LoadError
from audit.loaders.archive import pickled_globals
from audit.loaders.factory import beside
from audit.loaders.loaded import Loaded
from audit.loaders.weights import trusted, with_factory


def load(path: Path, section: ModelSection, folder: Path) -> Loaded:
    """Unpickle a network that the user trusts; its classes are looked up beside audit.toml first.

    Raises:
        LoadError: it is not trusted, cannot be unpickled, or is neither a network nor a state dict.
    """
    names = pickled_globals(path)
    if not section.trust:
        said = f" (it names {', '.join(names[:3])})" if names else ""
        raise LoadError(
            f"{path} is a pickle{said}, which can run anything when it is read; save the weights alone or "
            "export the model, or set [model] trust = true if you trust its author with this machine."
        )
    with beside(folder):
        values = trusted(path)
    if isinstance(values, nn.Module):
        caveat = f"{path.name} was unpickled on trust: whatever it holds was executed."
        return Loaded(values, (caveat,), {"names": names[:20]})
    loaded = with_factory(values, section, folder, path)
    return Loaded(loaded.module, loaded.caveats, {**loaded.source, "names": names[:20]})
