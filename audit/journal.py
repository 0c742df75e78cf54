"""Journal: one JSON line for each thing that happened in a run, on disk before the next one starts.

The journal, not the process, holds what was measured. A line torn by a kill is the last one and is left out.
"""

import os
from pathlib import Path
from typing import Any

from audit.errors import ConfigError
from audit.jsontext import parse_json
from audit.plainfile import plain_file
from audit.record import canonical

NAME = "journal.jsonl"


def append(run: Path, event: str, **fields: Any) -> None:
    """Append one line and wait until the disk has it."""
    line = canonical({"event": event, **fields}) + b"\n"
    with (run / NAME).open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(run: Path) -> list[dict[str, Any]]:
    """Every whole line of a run's journal, in order.

    Raises:
        ConfigError: there is no journal, or a line before the last is damaged.
    """
    path = run / NAME
    try:
        lines = plain_file(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist, so there is no run to go on with.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event = parse_json(line, str(path))
        except ConfigError:
            event = None
        if not isinstance(event, dict) or "event" not in event:
            raise ConfigError(f"{path} is damaged in line {number}; the run must be done again.")
        events.append(event)
    return events


def mend(run: Path) -> None:
    """Cut off a line that a kill left unfinished, so that the next one starts on a line of its own."""
    path = run / NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rfind(b"\n") + 1])
