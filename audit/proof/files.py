"""Files: what lies in a run folder, and its hash tree, held against what was signed."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audit.proof.statement import Statements, counted, proved, wrong

SEAL = "seal.json"
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex, read in pieces."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            whole.update(piece)
    return whole.hexdigest()


def listing(folder: Path) -> tuple[list[str], list[str]]:
    """Files below a folder by their path in it, sorted, and what is there that is no plain file."""
    files, others, waiting = [], [], [(folder, "")]
    while waiting:
        place, prefix = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                    others.append(name)
                elif entry.is_dir():
                    waiting.append((Path(entry.path), f"{name}/"))
                else:
                    files.append(name)
    return sorted(files), sorted(others)


def files(folder: Path, sealed: Mapping[str, str], root: str) -> Statements:
    """Every file of the folder against its sealed hash, and the tree over all of them.

    Args:
        folder: the run folder.
        sealed: sha256 by path, as signed.
        root: the root of the tree, in hex, as signed.
    """
    found, others = listing(folder)
    found = [name for name in found if name != SEAL]
    faults = [wrong("files", "it is a link or no plain file.", name) for name in others]
    faults += [
        wrong("files", "it was added after the run was signed.", name) for name in found if name not in sealed
    ]
    faults += [
        wrong("files", "it was signed and is not there.", name) for name in sorted(set(sealed) - set(found))
    ]
    yield from faults
    hashes = {}
    for name in found:
        hashes[name] = sha256_of(folder / name)
        if sealed.get(name, hashes[name]) != hashes[name]:
            faults.append(wrong("files", "its bytes are not those that were signed.", name))
            yield faults[-1]
    if not faults and tree_root(sorted(hashes.items())).hex() != root:
        faults.append(wrong("files", "the root of the hash tree is not the one over these files.", SEAL))
        yield faults[-1]
    if not faults:
        yield proved(
            "files",
            f"{counted(len(found), 'file')}: each has the bytes that were signed; none was added or removed.",
        )


def tree_root(hashes: Sequence[tuple[str, str]]) -> bytes:
    """The root over (path, sha256), leaf after leaf: whole subtrees of one size are joined as they come up.

    RFC 6962 by the way of a growing log, while what signs splits the list from above.
    """
    subtrees: list[tuple[int, bytes]] = []
    for path, sha in hashes:
        node = (1, hashlib.sha256(b"\x00" + leaf(path, sha)).digest())
        while subtrees and subtrees[-1][0] == node[0]:
            size, left = subtrees.pop()
            node = (2 * size, hashlib.sha256(b"\x01" + left + node[1]).digest())
        subtrees.append(node)
    if not subtrees:
        return hashlib.sha256(b"").digest()
    _, top = subtrees.pop()
    while subtrees:
        top = hashlib.sha256(b"\x01" + subtrees.pop()[1] + top).digest()
    return top


def leaf(path: str, sha: str) -> bytes:
    """One file as the bytes of its leaf."""
    import rfc8785

    return rfc8785.dumps({"path": path, "sha256": sha})
