"""Tree: one hash over many files, as RFC 6962 makes it.

Leaves and inner nodes are hashed under different first bytes, so that no inner node can pass for a leaf. A
leaf is the canonical JSON of one file's path and sha256: the root changes with a file's name as with its
bytes.
"""

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\x00", b"\x01"
ALGORITHM = "rfc6962-sha256"


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaves, in their order (RFC 6962, section 2.1).

    Returns:
        32 bytes; for no leaves the sha256 of nothing.
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(_LEAF + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(_NODE + root(leaves[:split]) + root(leaves[split:])).digest()
