"""Plain files: what is read is a file or the pipe of a shell, and a path of links has an end."""

import errno
import os
import stat
from pathlib import Path

_HANDED_OVER = (Path("/dev/fd"), Path("/proc/self/fd"))
_STDIN = Path("/dev/stdin")


def plain_file(path: Path) -> Path:
    """The path, unless reading it could go on for ever.

    A pipe that a shell hands over, as `<(command)` or /dev/stdin, is let through.

    Raises:
        OSError: a pipe, a socket or a device lies there. A path where nothing lies is let through.
    """
    if path == _STDIN or path.parent in _HANDED_OVER:
        return path
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return path  # who opens it says why that fails
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
    return path


def real_path(path: Path) -> Path:
    """The path without links, absolute; links that lead in a circle are left as they are.

    `Path.resolve` raises there, in some versions of Python.
    """
    return Path(os.path.realpath(path))
