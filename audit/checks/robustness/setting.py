"""How an attack was set and what it cost: what somebody needs who wants to repeat or to judge it.

The settings of the check alone would not do: a value that was left open, such as the step size, is stated
here as it was used, and an attack that an earlier check has run already shows the rows that it took then.
"""

import json
from collections.abc import Mapping
from typing import Any

from audit.attack.result import AttackResult
from audit.evidence import Cell, Table

_DECIDES_NOTHING = frozenset({"drop"})
_WORDS = {"step_size": "step size (share of epsilon)", "epsilons": "epsilon"}


def setting(result: AttackResult) -> Table:
    """Every setting of one attack, the seed among them, and the model rows it sent forward and back."""
    rows: list[tuple[Cell, ...]] = [("attack", result.method)]
    rows += [(_WORDS.get(key, key.replace("_", " ")), value) for key, value in _values(result.settings)]
    rows += [("forward rows", result.forward_rows), ("backward rows", result.backward_rows)]
    return Table(
        name="setting",
        title="How the attack was set, and what it cost",
        columns=("setting", "value"),
        rows=rows,
        note="As used, whoever chose it. Rows are those that this attack sent through the model, whichever "
        "check asked for it first; the self-checks came on top.",
    )


def in_words(result: AttackResult) -> str:
    """The settings in one line: `loss margin, norm linf, restarts 1`; radii, rows and scale are left out."""
    apart = {"epsilons", "rows", "scale", "seed"}
    return ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in _values(result.settings) if key not in apart
    )


def _values(settings: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    return [(key, _cell(key, settings[key])) for key in sorted(settings) if key not in _DECIDES_NOTHING]


def _cell(key: str, value: Any) -> Cell:
    if value is None:
        return "all" if key == "rows" else "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True, default=str)
    return value if isinstance(value, bool | int | float | str) else str(value)
