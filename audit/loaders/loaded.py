"""Loaded: what a loader hands over."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Loaded:
    """A network read from a file.

    Attributes:
        module: the network, on the CPU unless the format fixes its device.
        caveats: sentences a reader must know, e.g. that a batch is run row by row.
        source: facts for the record, as JSON values, e.g. the factory or what the inspection found.
    """

    module: nn.Module
    caveats: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)
