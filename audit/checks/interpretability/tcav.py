"""TCAV: does a concept that people name push the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import UNKNOWN
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Cell, Evidence, Measure, Table
from audit.explain.summary import AtLeastOne
from audit.stats import DEFAULT_LEVEL, proportion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from audit.dataset import Dataset
    from audit.library.tcav import Concept, Pushes
    from audit.model import Model
    from audit.products.attributions import Attributions

_LEAST = 10
_MOST_CONTROLS = 200
_HALF = 0.5


@check(
    "interpretability.tcav",
    needs={"logits", "gradients", "modules"},
    measures={"concept_accuracy", "tcav_score"},
)
def tcav(
    model: Model,
    data: Dataset,
    attributions: Attributions,
    seed: int,
    folder: Path,
    *,
    concepts: dict[str, str] | None = None,
    rows: AtLeastOne | None = None,
    output: Literal["log_odds", "probability"] = "log_odds",
    target: Literal["auto", "predicted", "favourable"] = "auto",
    layer: str = "",
    controls: Annotated[int, Field(ge=20)] | None = None,
    examples: Annotated[int, Field(ge=15)] = 100,
) -> Evidence:
    """TCAV: does a concept that people name push the decision.

    A concept is given by examples. The check looks for the direction in which examples of the concept differ
    from other rows among the hidden values of one layer of the network (`concept_accuracy`: how well that
    direction tells held-out examples apart), and asks for each row whether a small step in that direction
    raises the model's answer for a class. `tcav_score` is the share of rows where it does: near 1 the concept
    speaks for the class, near 0 against it.

    Any direction pushes some way, so the same is done with random concepts (so many rows of the data against
    so many others). The score of a concept that pushes no more strongly than random ones, going as far as its
    examples lie from other rows, is marked as not to be relied on, and so is one whose concept the layer does
    not tell from other rows. Several concepts or classes make a chance finding more likely; the bar is raised
    for that (Bonferroni).

    It answers whether the model's inner direction of a concept is one that the decision follows. It does not
    show that the model uses the concept: something that goes with the examples can have the same direction.

    `concepts` names `.npz` files with an array `inputs` of examples, in the model's own units and relative to
    audit.toml, e.g. `{striped = "striped.npz"}`. Without them the groups of the sensitive features are the
    concepts: members against all others.

    Settings: `concepts`, `rows` explained (256, or 16 images), `output` and `target` that are explained (by
    default the favourable outcome where there is one), `layer` by its name in the network (when empty, the
    input of the last linear layer), `controls` random concepts (20 for each concept and class), `examples` at
    most of each concept.

    Kim et al.: Interpretability Beyond Feature Attribution: Testing with Concept Activation Vectors, 2018.
    """
    from audit.library.tcav import tcav as measure_pushes
    from audit.products.attributions import ROWS

    named = _given(concepts, folder, data) if concepts else _groups(data, examples)
    chosen = target if target != "auto" else ("predicted" if data.favourable is None else "favourable")
    explained = attributions.explained(rows=rows or ROWS[data.modality], output=output, target=chosen)
    targets = explained.classes.cpu().numpy()
    classes = _classes(targets)
    wanted = controls or min(_MOST_CONTROLS, 20 * len(named) * len(classes))
    found = measure_pushes(
        model, data, seed, explained, named, layer=layer, controls=wanted, examples=examples
    )
    lines = [line for name in named for line in _lines(name, found, targets, classes, data, len(named))]
    return Evidence(
        measures=[*(item for line in lines for item in line[0])],
        tables=[_table([line[1] for line in lines], found.place, wanted)],
        caveats=_caveats(found, targets, bool(concepts)),
    )


def _given(concepts: Mapping[str, str], folder: Path, data: Dataset) -> dict[str, Concept]:
    from audit.library.files import given_inputs
    from audit.library.tcav import Concept

    found = {name: given_inputs(folder, path, data) for name, path in concepts.items()}
    for name, rows in found.items():
        if len(rows) < _LEAST:
            raise NotEvaluable(f"concept '{name}' has {len(rows)} examples; at least {_LEAST} are needed.")
    return {name: Concept(rows, data.inputs) for name, rows in found.items()}


def _groups(data: Dataset, examples: int) -> dict[str, Concept]:
    """Each group of each sensitive feature that has enough members and others."""
    from audit.library.tcav import Concept

    if not data.sensitive:
        raise NotApplicable(
            "no concepts are given (setting 'concepts') and the data name no sensitive feature."
        )
    least = min(examples, 20)
    found = {}
    for item in data.sensitive.values():
        for code, group in enumerate(item.groups):
            inside = item.codes == code
            if group != UNKNOWN and least <= inside.sum() <= len(inside) - least:
                found[f"{item.name} = {group}"] = Concept(data.inputs[inside], data.inputs[~inside])
    if not found:
        raise NotEvaluable(f"no group of a sensitive feature has {least} members and {least} others.")
    return found


def _classes(targets: npt.NDArray[np.int64]) -> list[int]:
    """Classes that enough rows are explained for."""
    present, counts = np.unique(targets, return_counts=True)
    kept = [int(item) for item, count in zip(present, counts, strict=True) if count >= _LEAST]
    if not kept:
        raise NotEvaluable(f"no class is explained for {_LEAST} rows or more; {len(targets)} rows in all.")
    return kept


def _lines(
    name: str,
    found: Pushes,
    targets: npt.NDArray[np.int64],
    classes: list[int],
    data: Dataset,
    concepts: int,
) -> Iterator[tuple[list[Measure], list[Cell]]]:
    """Measures and the table's row of one concept, for each class."""
    held = found.directions[name]
    told = proportion("concept_accuracy", held.right, held.held_out, group={"concept": name}, better="higher")
    for place, wanted in enumerate(classes):
        inside = (targets == wanted) & (found.usable == 1)
        label = data.classes[wanted] if wanted < len(data.classes) else f"class {wanted}"
        n, pushed = int(inside.sum()), int(found.pushed[name][inside].sum())
        chance = found.controls[:, inside].mean(axis=1) if n else np.full(len(found.controls), np.nan)
        strength = float(found.strength[name][inside].mean()) if n else None
        p = 1.0 if strength is None else chance_share(strength, chance)
        doubt = _doubt(told, p, concepts * len(classes))
        group = {"concept": name, "class": label}
        score = proportion("tcav_score", pushed, n, group=group, unreliable=doubt)
        span = [float(chance.min()), float(chance.max())] if n else [None, None]
        numbers = [score.value, score.low, score.high, told.value, strength, *span, p]
        cells = [name, label, n, *numbers, doubt or "differs"]
        yield ([told, score] if place == 0 else [score]), cells


def chance_share(strength: float, chance: npt.NDArray[np.float64]) -> float:
    """Share of random concepts at least as strong, in either direction, the concept itself counted in."""
    as_strong = int((np.abs(chance) >= abs(strength)).sum())
    return (1 + as_strong) / (1 + len(chance))


def _doubt(told: Measure, p: float, comparisons: int) -> str:
    if told.low is None or told.low <= _HALF:
        return "the layer does not tell the concept's examples from other rows"
    if p * comparisons > 1 - DEFAULT_LEVEL:
        return "random concepts push as strongly"
    return ""


def _table(rows: list[list[Cell]], place: str, controls: int) -> Table:
    return Table(
        name="concepts",
        title="Share of rows that a step towards each concept pushes to the class, beside random concepts",
        columns=[
            *("concept", "class", "rows", "tcav_score", "low", "high", "concept_accuracy", "strength"),
            *("lowest_random", "highest_random", "chance", "conclusion"),
        ],
        rows=rows,
        note=f"Read at the {place}. Strength: mean change of the answer on the way from other rows to the "
        f"concept, to first order. Chance: share of {controls} random concepts, the concept counted in, that "
        "push at least as strongly.",
    )


def _caveats(found: Pushes, targets: npt.NDArray[np.int64], given: bool) -> list[str]:
    silent = int((found.usable == 0).sum())
    notes = [
        "A concept is what its examples have in common; something that goes with them pushes as well.",
        f"Hidden values are those of the {found.place}; another layer may answer otherwise.",
    ]
    if given:
        notes.append("Examples of a concept are told from rows of the audit's own data.")
    if silent:
        notes.append(f"{silent} of {len(targets)} rows have no finite slope there and are left out.")
    return notes
