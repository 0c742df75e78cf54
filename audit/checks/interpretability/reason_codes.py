"""Reason codes: candidates for the principal reasons of unfavourable decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from audit.check import check
from audit.dataset import sample_rows
from audit.errors import ConfigError, NotApplicable, NotEvaluable, nearest
from audit.evidence import Evidence, Figure, Table
from audit.explain.summary import AtLeastOne
from audit.stats import mean, proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.dataset import Dataset, Floats, Ints
    from audit.evidence import Cell, Measure
    from audit.explain.kernel_shap import Bools
    from audit.explain.reasons import Runs
    from audit.model import Model

FLOOR = 10
DRAWN = 12
NOT_A_NOTICE = (
    "These are reason candidates, not a notice. 12 CFR 1002.9(b)(2) (Regulation B, under the Equal Credit "
    "Opportunity Act) asks the creditor for the specific principal reasons of an adverse action; whether "
    "these are the reasons, are told in words that a person can act on, and are accurate for that person, "
    "has to be reviewed and answered for by the creditor."
)


@dataclass(frozen=True)
class Found:
    """What was found for n unfavourable decisions.

    Attributes:
        names: [M] the features.
        protected: [M] whether each is protected.
        rows: [n] their indices in the data.
        places: [n, k] feature at each place, or `UNSTABLE` or `NONE`.
        runs: the Shapley values.
        searched: decisions that were looked at.
    """

    names: tuple[str, ...]
    protected: Bools
    rows: Ints
    places: Ints
    runs: Runs
    searched: int

    @property
    def complete(self) -> Bools:
        """[n] whether each decision has a reason at every place."""
        found: Bools = np.asarray((self.places >= 0).all(axis=1))
        return found


@check(
    "interpretability.reason_codes",
    needs={"logits"},
    modality={"tabular"},
    measures={
        "complete_reasons_share",
        "stable_reasons",
        "reason_share",
        "protected_attribution_share",
        "protected_among_leading",
    },
)
def reason_codes(
    model: Model,
    data: Dataset,
    seed: int,
    *,
    top: Annotated[int, Field(ge=1, le=10)] = 4,
    reference: Literal["favourable_mean", "favourable_median"]
    | Annotated[int, Field(ge=0)] = "favourable_mean",
    protected: tuple[str, ...] = (),
    runs: Annotated[int, Field(ge=2, le=20)] = 5,
    rows: AtLeastOne = 200,
    searched: AtLeastOne = 4000,
    samples: AtLeastOne = 512,
) -> Evidence:
    """Reason codes: candidates for the principal reasons of unfavourable decisions.

    For each unfavourable decision this shares out the difference between the model's answer for the person
    and its answer for a reference among the features (Shapley values). The features that pull the answer down
    most are the reason candidates, at most `top` of them: the commentary to Regulation B says that more than
    four are not likely to help. The reference is the typical favourable decision (mean of numbers, most
    common category), the median one, or a row of the data named by its number.

    Everything is done again in several runs, with other favourable decisions behind the reference and other
    combinations of features tried. A reason is kept only where every run puts it at the same place; otherwise
    that place stays empty. `complete_reasons_share` is the share of unfavourable decisions with a stable
    reason at every place, as a whole and by group, and `reason_share` how often a feature is one. The record
    holds counts only, no person's reasons.

    A sensitive feature of the data, and each feature named in `protected`, is never a reason. How much of the
    difference falls on them is counted: `protected_attribution_share`, and `protected_among_leading` for the
    share of decisions of which one would have been a leading reason. A model that rests on them cannot be
    explained honestly without them, and leaving them out of the list does not make it lawful. Features that
    stand in for a protected one are not recognised here; fairness.proxies looks for them.

    Reasons depend on the reference: against another one other features lead. They say what the model used,
    not what a person must change to be decided otherwise.

    Settings: `top` places, `reference`, `protected` features besides the sensitive ones, number of `runs`,
    unfavourable `rows` explained, decisions `searched` for them, `samples` of combinations.

    Lundberg, Lee: A Unified Approach to Interpreting Model Predictions, 2017. 12 CFR 1002.9 and its official
    interpretation. CFPB Circular 2022-03.
    """
    if data.favourable is None:
        raise NotApplicable("the data names no favourable outcome, so no decision is unfavourable.")
    found = _found(model, data, seed, top, reference, protected, runs, rows, searched, samples)
    return Evidence(
        measures=_measures(found, data),
        tables=_tables(found, top, runs),
        figures=[_figure(found, top)],
        caveats=_caveats(found, data, top, reference, runs),
    )


def _found(
    model: Model,
    data: Dataset,
    seed: int,
    top: int,
    reference: str | int,
    protected: Sequence[str],
    runs: int,
    rows: int,
    searched: int,
    samples: int,
) -> Found:
    import torch

    from audit.explain.features import layout
    from audit.explain.reasons import shapley_runs, stable_reasons

    parts = layout(data)
    barred = _barred(data, parts.names, protected)
    good, bad, looked = _decisions(model, data, seed, searched, rows)
    references = _references(data, good, reference, runs, seed)
    owner = torch.from_numpy(parts.owner).to(model.device)
    found = shapley_runs(
        model, model.tensor(data.inputs[bad]), model.tensor(references), owner, len(parts.names),
        int(data.favourable or 0), samples, seed,
    )  # fmt: skip
    fit: Bools = np.asarray(np.isfinite(found.values).all(axis=(0, 2)))
    if not fit.any():
        raise NotEvaluable(f"0 of {len(fit)} unfavourable decisions have finite shares.")
    kept = replace(found, values=found.values[:, fit], gaps=found.gaps[:, fit])
    return Found(parts.names, barred, bad[fit], stable_reasons(kept.values, ~barred, top), kept, looked)


def _barred(data: Dataset, names: Sequence[str], protected: Sequence[str]) -> Bools:
    for name in protected:
        if name not in names:
            raise ConfigError(
                f"'protected' names '{name}', which is not a feature of the data{nearest(name, names)}."
            )
    barred = {_plain(name) for name in (*data.sensitive, *protected)}
    found: Bools = np.array([_plain(name) in barred for name in names])
    if found.all():
        raise NotEvaluable(f"all {len(names)} features are protected, so none may be a reason.")
    return found


def _plain(name: str) -> str:
    """A name as it is compared: `Sex ` in one place and `sex` in another are the same attribute."""
    return name.strip().casefold()


def _decisions(model: Model, data: Dataset, seed: int, searched: int, rows: int) -> tuple[Ints, Ints, int]:
    """Rows decided favourably, up to `rows` decided otherwise, and how many were looked at."""
    index = sample_rows(data, searched, seed)
    if not len(index):
        raise NotEvaluable("the data hold 0 rows.")
    scores = model.predict(data.inputs[index])
    if scores.shape[1] < 2:  # noqa: PLR2004 - log-odds are of one class against the others
        raise NotApplicable("the model has one output and no classes, so there are no decisions to explain.")
    finite = scores.isfinite().all(dim=1).numpy()
    index = index[finite]
    favourable = scores.argmax(dim=1).numpy()[finite] == data.favourable
    good, bad = index[favourable], index[~favourable]
    if not len(good) or not len(bad):
        raise NotEvaluable(
            f"of {len(index)} decisions {len(good)} are favourable and {len(bad)} are not; both are needed."
        )
    chosen = np.random.default_rng(seed).permutation(len(bad))[:rows]
    return good, bad[np.sort(chosen)], len(index)


def _references(data: Dataset, good: Ints, reference: str | int, runs: int, seed: int) -> Floats:
    """[R, ...] reference of each run: the first from all favourable decisions, the others from a resample."""
    from audit.explain.partial import features_of
    from audit.explain.reasons import typical_row

    shape = data.inputs.shape[1:]
    if isinstance(reference, int):
        if reference >= len(data):
            raise ConfigError(
                f"'reference' = {reference} is not a row of the data; it has rows 0 to {len(data) - 1}."
            )
        return np.repeat(data.inputs[reference][None], runs, axis=0)
    flat = data.inputs.reshape(len(data), -1)[good]
    random = np.random.default_rng(seed)
    found = []
    for run in range(runs):
        drawn = flat if run == 0 else flat[random.integers(0, len(flat), len(flat))]
        centre: Literal["mean", "median"] = "mean" if reference == "favourable_mean" else "median"
        found.append(typical_row(features_of(data), drawn, centre))
    return np.stack(found).reshape(runs, *shape)


def _measures(found: Found, data: Dataset) -> list[Measure]:
    total, n = int(found.complete.sum()), len(found.rows)
    measures = [proportion("complete_reasons_share", total, n, better="higher")]
    for name, item in data.sensitive.items():
        codes = item.codes[found.rows]
        for code, group in enumerate(item.groups):
            inside = codes == code
            size = int(inside.sum())
            few = f"{size} unfavourable decisions, fewer than {FLOOR}" if 0 < size < FLOOR else ""
            share = int(found.complete[inside].sum())
            fields = {"group": {name: group}, "better": "higher", "too_few": few}
            measures.append(proportion("complete_reasons_share", share, size, **fields))
    stable = (found.places >= 0).sum(axis=1).astype(np.float64)
    return [
        *measures,
        mean("stable_reasons", stable.tolist(), unit="reasons", better="higher"),
        *(proportion("reason_share", count, n, group={"feature": name}) for name, count in _counted(found)),
        *_on_protected(found),
    ]


def _counted(found: Found) -> list[tuple[str, int]]:
    """How often each allowed feature is a stable reason, most often first."""
    counts = np.bincount(found.places[found.places >= 0], minlength=len(found.names))
    order = np.argsort(-counts, kind="stable").tolist()
    return [(found.names[i], int(counts[i])) for i in order if not found.protected[i]]


def _on_protected(found: Found) -> list[Measure]:
    from audit.explain.reasons import leading

    if not found.protected.any():
        return []
    values = found.runs.values.mean(axis=0)
    size = np.abs(values)
    total = size.sum(axis=1)
    shares = (size[:, found.protected].sum(axis=1)[total > 0] / total[total > 0]).tolist()
    first = leading(values, np.ones(len(found.names), dtype=np.bool_), found.places.shape[1])
    barred = found.protected[np.clip(first, 0, None)] & (first >= 0)
    among: Bools = np.asarray(barred.any(axis=1))
    return [
        mean("protected_attribution_share", shares, unit="share", better="lower"),
        proportion("protected_among_leading", int(among.sum()), len(among), better="lower"),
    ]


def _tables(found: Found, top: int, runs: int) -> list[Table]:
    from audit.explain.reasons import NONE, UNSTABLE

    rows: list[list[Cell]] = []
    for name, count in _counted(found):
        index = found.names.index(name)
        rows.append([name, *((found.places[:, p] == index).sum().item() for p in range(top)), count])
    for text, code in (
        ("no stable reason at this place", UNSTABLE),
        ("no further feature counted against", NONE),
    ):
        counts = [int((found.places[:, p] == code).sum()) for p in range(top)]
        rows.append([text, *counts, None])
    return [
        Table(
            name="reasons",
            title="How often each feature is a reason candidate, and at which place",
            columns=["feature", *(f"place {p + 1}" for p in range(top)), "any place"],
            rows=rows,
            note=f"Counts of {len(found.rows)} unfavourable decisions; a reason counts only where all "
            f"{runs} runs put it at that place.",
        )
    ]


def _figure(found: Found, top: int) -> Figure:
    n = len(found.rows)
    counted = [pair for pair in _counted(found) if pair[1]][:DRAWN]
    shares = [proportion("x", count, n) for _, count in counted]
    whole = int(found.complete.sum())
    word = "a stable reason" if top == 1 else f"{top} stable reasons"
    drawn = ", ".join(f"{name} {item.value:.0%}" for (name, _), item in zip(counted, shares, strict=True))
    return Figure(
        name="reasons",
        title=f"{whole} of {n} unfavourable decisions have {word}",
        kind="bars",
        alt=f"Bar chart of how often a feature is among the reasons: {drawn or 'none is'}.",
        data={
            "labels": [name for name, _ in counted],
            "values": [item.value for item in shares],
            "low": [item.low for item in shares],
            "high": [item.high for item in shares],
        },
    )


def _caveats(found: Found, data: Dataset, top: int, reference: str | int, runs: int) -> list[str]:
    against = {
        "favourable_mean": "the mean favourable decision, with the most common category of each feature",
        "favourable_median": "the median favourable decision, with the most common category of each feature",
    }
    what = against.get(str(reference), f"row {reference} of the data")
    from audit.explain.reasons import NONE

    sentences = [
        NOT_A_NOTICE,
        (
            f"Reasons are against {what}; {len(found.rows)} unfavourable decisions among {found.searched} "
            "drawn by the seed were explained. Against another reference other features lead."
        ),
    ]
    names = [name for name, bad in zip(found.names, found.protected, strict=True) if bad]
    inputs = {_plain(name) for name in found.names}
    absent = [name for name in data.sensitive if _plain(name) not in inputs]
    if names:
        sentences.append(f"Protected, and therefore never a reason: {', '.join(names)}.")
    if absent:
        sentences.append(
            f"No input of the model is called {', '.join(absent)}; an input that says the same under "
            "another name is not recognised unless 'protected' names it."
        )
    if (found.runs.reference <= 0).any():
        sentences.append("The model does not decide favourably for the reference itself in every run.")
    if found.runs.exact and isinstance(reference, int):
        sentences.append(f"All combinations were tried against one row, so the {runs} runs do not differ.")
    few = int((found.places == NONE).any(axis=1).sum())
    if few:
        sentences.append(f"In {few} decisions fewer than {top} features counted against the person.")
    return sentences
