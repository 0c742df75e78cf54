"""robustness.feasible: changes that a person of a table could really make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from audit.attack.constraints import EPSILONS, constraints, features_of
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, robust_evidence
from audit.checks.robustness.self_checks import identity, monotone, unreliable, verified
from audit.errors import ConfigError, nearest
from audit.evidence import Evidence, Measure, Table
from audit.stats import proportion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from audit.attack.feasible import Search
    from audit.attack.result import AttackResult, Flags
    from audit.checks.robustness.self_checks import SelfCheck
    from audit.dataset import Dataset, Doubles, Feature, Floats, Ints
    from audit.model import Model
    from audit.products.adversaries import Adversaries

_FEATURES_SHOWN = 40
_NEEDED = (
    "feature",
    "rows changed",
    "of fooled rows",
    "share",
    "rows increased",
    "median increase",
    "rows decreased",
    "median decrease",
    "most frequent change",
)


@dataclass(frozen=True)
class _Setting:
    """What is attacked: the data, the attacks on its model, how many rows, the costs, and how hard."""

    data: Dataset
    adversaries: Adversaries
    rows: int | None
    epsilons: Sequence[float]
    search: Search

    def attack(self, protected: Sequence[str], stricter: Sequence[str] | None = None) -> AttackResult:
        """The attack with some features held, epsilon 0 included."""
        return self.adversaries.feasible(
            [0.0, *self.epsilons], self.search, rows=self.rows, protected=protected, stricter=stricter
        )


@check(
    "robustness.feasible",
    needs={"logits"},
    modality={"tabular"},
    measures={
        "clean_accuracy",
        "robust_accuracy",
        "attack_success_rate",
        "favourable_lost_rate",
        "favourable_gained_rate",
        "robust_accuracy_touching_protected",
        "fooled_by_protected_alone",
    },
)
def feasible(
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Radii | None = None,
    protected: list[str] | None = None,
    touch_protected: bool = False,
    beam: Annotated[int, Field(ge=1)] = 3,
    changes: Annotated[int, Field(ge=1)] = 4,
    candidates: Annotated[int, Field(ge=1)] = 256,
    steps: Annotated[int, Field(ge=0)] = 20,
    rows: Rows | None = 1000,
    justification: str = "",
) -> Evidence:
    """Accuracy when people change what they really can.

    Each row is changed as a person could change it: features that are immutable stay, a feature that may
    only grow grows, whole numbers stay whole, a category becomes another category of the same feature, every
    value stays in its range, and every stated relation between features holds. Every change has a cost (one
    standard deviation of a number, or one change of category, unless the configuration says otherwise), and
    the costs of all changes of a row add up to at most epsilon. We count how many rows are still classified
    correctly. A row broken at one cost is broken at every larger one; rows that were wrong before are not
    attacked and count as not robust. Every changed row is judged again by a second program that shares
    nothing with the search: it must be a possible person, within the cost, and really misclassified.

    Protected features (the sensitive ones unless `protected` names others; name their proxies too) are not
    touched. With `touch_protected` the attack is run a second time with them free, unless they are
    immutable, and both numbers are given. The tables say which features were changed most often to turn a
    decision, what turning it cost, and how often a favourable decision was lost or gained.

    It answers: how often can a person who knows the model turn its decision at this cost, without lying
    about what cannot be changed? It is a search, so it gives an upper bound on robustness: another search
    may find more. It knows only the constraints that are stated; one that is missing makes the model look
    less robust than it is. It does not say that a change would be honest, or that it would cause anything.

    Settings: `epsilon` (costs; 0.5, 1 and 2 unless given), `protected` (features not to touch),
    `touch_protected`, `beam` (points kept between two changes), `changes` (changes on top of each other),
    `candidates` (single changes tried from a point), `steps` (gradient steps over all numbers; 0 for none),
    `rows` (how many rows, drawn by the audit's seed; none for all), `justification` (why these costs).
    Sources: Simonetto et al., 2024, arXiv:2406.00775 (CAPGD); Ballet et al., 2019, arXiv:1911.03274.
    """
    from audit.attack.feasible import Search

    held = _protected(data, protected)
    told = constraints(data, held)
    search = Search(beam=beam, changes=changes, candidates=candidates, steps=steps)
    setting = _Setting(data, adversaries, rows, epsilon or EPSILONS, search)
    result, model = setting.attack(held), adversaries.model
    checks = [identity(result), monotone(result), verified(result)]
    evidence = robust_evidence(result, data, told.space, checks, setting.epsilons, justification)
    turned = _turned(model, result)
    measures = [*evidence.measures, *_directions(data, result, checks, turned, setting.epsilons)]
    tables = [_counts(result), _needed(data, result), _prices(data, result), *evidence.tables[1:]]
    caveats = [*evidence.caveats, *_search_caveats(model, data, protected)]
    if touch_protected:
        more, said = _touching(setting, result, held)
        measures += more
        caveats += said
    return replace(evidence, measures=measures, tables=tuple(tables), caveats=tuple(caveats))


def _protected(data: Dataset, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the features not to touch: those asked for, else the sensitive ones among the inputs."""
    known = [feature.name for feature in features_of(data)]
    if asked is None:
        return tuple(name for name in data.sensitive if name in known)
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"checks.settings.\"robustness.feasible\": protected names '{name}', which is not an input "
                f"feature{nearest(name, known)}."
            )
    return tuple(asked)


def _turned(model: Model, result: AttackResult) -> dict[float, Ints]:
    """For each cost, [R] the class that each fooled row got; -1 where the row stands."""
    new = np.full(len(result.rows), -1, dtype=np.int64)
    found = {}
    for entry in result.at:
        if len(entry.kept):
            new[entry.kept] = model.predict(entry.examples).numpy().argmax(axis=1)
        found[entry.epsilon] = new.copy()
    return found


def _directions(
    data: Dataset,
    result: AttackResult,
    checks: Sequence[SelfCheck],
    turned: Mapping[float, Ints],
    epsilons: Sequence[float],
) -> Iterator[Measure]:
    """How often the favourable decision is lost, and gained, of the whole and of each group."""
    if data.favourable is None:
        return
    had = data.labels[result.rows] == data.favourable
    for group, members in _groups(data, result):
        for epsilon in sorted(set(epsilons)):
            new = turned[epsilon]
            common: dict[str, Any] = {
                "group": group,
                "settings": {"epsilon": epsilon},
                "unreliable": unreliable(checks, epsilon),
            }
            yield _rate("favourable_lost_rate", members & result.correct & had, new >= 0, common)
            gained = new == data.favourable
            yield _rate("favourable_gained_rate", members & result.correct & ~had, gained, common)


def _rate(name: str, among: Flags, hit: Flags, common: Mapping[str, Any]) -> Measure:
    kind = "favourable" if "lost" in name else "unfavourable"
    reason = f"no row of a {kind} class is classified correctly, so none was attacked"
    return proportion(
        name, int((among & hit).sum()), int(among.sum()), better="lower", reason=reason, **common
    )


def _groups(data: Dataset, result: AttackResult) -> Iterator[tuple[dict[str, str], Flags]]:
    yield {}, np.ones(len(result.rows), dtype=np.bool_)
    for name, feature in data.sensitive.items():
        codes = feature.codes[result.rows]
        for code, group in enumerate(feature.groups):
            yield {name: group}, codes == code


def _touching(
    setting: _Setting, stricter: AttackResult, held: Sequence[str]
) -> tuple[list[Measure], list[str]]:
    """Robust accuracy with the protected features free, and what to say where none of them may move."""
    immutable = {feature.name for feature in features_of(setting.data) if feature.immutable}
    free = [name for name in held if name not in immutable]
    if not free:
        named = ", ".join(held) or "none"
        return [], [f"No protected feature may move ({named}), so there is no second number to compare."]
    result = setting.attack((), held)
    checks = [identity(result), monotone(result), verified(result)]
    measures = []
    for epsilon in sorted(set(setting.epsilons)):
        standing, total = int(result.robust(epsilon).sum()), len(result.rows)
        common: dict[str, Any] = {
            "settings": {"epsilon": epsilon},
            "unreliable": unreliable(checks, epsilon),
        }
        measures.append(
            proportion("robust_accuracy_touching_protected", standing, total, better="higher", **common)
        )
        more = int((result.at_epsilon(epsilon).fooled & ~stricter.at_epsilon(epsilon).fooled).sum())
        measures.append(
            proportion("fooled_by_protected_alone", more, result.attacked, better="lower", **common)
        )
    said = (
        f"With the protected features free ({', '.join(free)}), robust_accuracy_touching_protected counts; "
        "fooled_by_protected_alone is the share of attacked rows that fell only then."
    )
    return measures, [said]


def _counts(result: AttackResult) -> Table:
    reasons = list(result.at[0].rejected)
    rows = []
    for entry in result.at:
        fooled = int(entry.fooled.sum())
        wrong = len(result.rows) - result.attacked
        refused = [entry.rejected[reason] for reason in reasons]
        rows.append(
            (entry.epsilon, len(result.rows), wrong, fooled, result.attacked - fooled, sum(refused), *refused)
        )
    columns = ("epsilon", "rows", "already wrong", "fooled", "withstood", "claimed but rejected")
    return Table(
        name="counts",
        title="What became of the rows",
        columns=(*columns, *(f"rejected: {reason}" for reason in reasons)),
        rows=rows,
        note="Rows already wrong are not attacked and count as not robust. Each fooled row was judged again "
        "by a program that shares nothing with the search: possible, within the cost, misclassified.",
    )


def _needed(data: Dataset, result: AttackResult) -> Table:
    """Which features were changed in the rows that fell, the most frequent first."""
    last = max(entry.epsilon for entry in result.at)
    where, after = result.adversarial(last)
    before = data.inputs[where]
    lines = [line for f in features_of(data) if (line := _changes(f, before, after))]
    lines.sort(key=lambda line: (-int(line[1] or 0), str(line[0])))
    return Table(
        name="features changed",
        title="Which features the attack needed",
        columns=_NEEDED,
        rows=lines[:_FEATURES_SHOWN],
        note="Over all rows that fell at any epsilon, after changes that were not needed were undone. "
        "Medians are in the user's units, over the rows in which a number rose or fell.",
    )


def _changes(feature: Feature, before: Floats, after: Floats) -> tuple[float | int | str | None, ...]:
    """A line of the table, in the order of `_NEEDED`; empty where the feature did not change."""
    columns = list(feature.columns)
    old, new = before[:, columns], after[:, columns]
    changed = (old != new).any(axis=1)
    count = int(changed.sum())
    if not count:
        return ()
    head = (feature.name, count, len(changed), count / len(changed))
    if feature.kind == "categorical":
        return (*head, None, None, None, None, _most_frequent(feature, old[changed], new[changed]))
    moved = (new[changed, 0].astype(np.float64) - old[changed, 0]) * (feature.unit or 1.0)
    return (*head, *_median(moved[moved > 0]), *_median(-moved[moved < 0]), "")


def _median(sizes: Doubles) -> tuple[int, float | None]:
    return len(sizes), float(f"{np.median(sizes):.6g}") if len(sizes) else None


def _most_frequent(feature: Feature, old: Floats, new: Floats) -> str:
    """`A to B (12 rows)`."""
    names = [*(feature.categories or [f"column {c}" for c in feature.columns]), feature.dropped or "none"]
    pairs = np.stack([_category(old), _category(new)], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    best = int(counts.argmax())
    came, went = (names[int(code)] for code in found[best])
    return f"{came} to {went} ({int(counts[best])} rows)"


def _category(block: Floats) -> Ints:
    """[n] index of the column that is 1; the number of columns where none is."""
    none = block.sum(axis=1) == 0
    found: Ints = np.where(none, block.shape[1], block.argmax(axis=1)).astype(np.int64)
    return found


def _prices(data: Dataset, result: AttackResult) -> Table:
    """What turning a decision cost, of the rows that fell."""
    from audit.attack.possible import costs

    rows: list[tuple[float | int | None, ...]] = []
    for entry in result.at:
        where, after = result.adversarial(entry.epsilon)
        price = costs(data, where, after)
        shown = np.quantile(price, (0.25, 0.5, 0.75)).tolist() if len(price) else [None] * 3
        rows.append((entry.epsilon, len(price), *shown))
    return Table(
        name="costs",
        title="What turning a decision cost",
        columns=("epsilon", "fooled", "lower quartile", "median", "upper quartile"),
        rows=rows,
        note="The cheapest change found for each row that fell; a cheaper one may exist. Rows that withstood "
        "have no cost and are not in these numbers.",
    )


def _search_caveats(model: Model, data: Dataset, asked: Sequence[str] | None) -> Iterator[str]:
    if "gradients" not in model.capabilities:
        yield "The model gives no gradients, so changes were tried one by one and numbers not moved together."
    if any(item.low is not None and item.low == item.high for item in data.relations):
        yield "Features of an equation were moved in pairs that keep it, never three or more at once."
    inputs = {feature.name for feature in features_of(data)}
    absent = [name for name in data.sensitive if name not in inputs]
    if asked is None and absent:
        yield f"Sensitive, but no input of the model, so there was nothing to hold: {', '.join(absent)}."
