"""robustness.certified: what provably holds, beside what an attack could break."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audit.attack.space import Scale, Space
from audit.check import check
from audit.checks.robustness.curve import Radii, Rows, why
from audit.checks.robustness.self_checks import (
    SelfCheck,
    gradients,
    identity,
    monotone,
    table,
    unreliable,
    verified,
)
from audit.checks.robustness.setting import setting
from audit.dataset import Dataset
from audit.evidence import Evidence, Figure, Measure, Table
from audit.stats import measure, proportion

if TYPE_CHECKING:
    from audit.attack.result import AttackResult
    from audit.certify.bounds import Method
    from audit.certify.graph import Net
    from audit.model import Model
    from audit.products.adversaries import Adversaries

Flags = npt.NDArray[np.bool_]
_PROBED = 64
_WORDS: Mapping[str, str] = {
    "ibp": "intervals alone (IBP)",
    "crown_ibp": "linear bounds over intervals of the inner values (CROWN-IBP)",
    "crown": "linear bounds of every inner value (CROWN)",
}


@dataclass(frozen=True)
class _Rows:
    """What became of the R rows at each radius: provably safe, and fooled by the attack."""

    correct: Flags
    certified: Mapping[float, Flags]
    fooled: Mapping[float, Flags]

    def violations(self, epsilon: float) -> int:
        """Rows that are certified and were fooled all the same."""
        return int((self.certified[epsilon] & self.fooled[epsilon]).sum())


@check(
    "robustness.certified",
    needs={"logits", "gradients"},
    measures={"clean_accuracy", "certified_accuracy", "robust_accuracy", "certificate_violations"},
)
def certified(
    model: Model,
    data: Dataset,
    adversaries: Adversaries,
    *,
    epsilon: Radii | None = None,
    bounds: Literal["auto", "ibp", "crown_ibp", "crown"] = "auto",
    steps: Annotated[int, Field(ge=1)] = 20,
    step_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    rows: Rows | None = 250,
    scale: Scale = "auto",
    justification: str = "",
) -> Evidence:
    """Accuracy that no attack can go below (certified bounds).

    For each row we compute bounds on what the network can answer anywhere within epsilon of the input and
    inside the valid range, each coordinate moving by at most epsilon. Where the true class stays ahead of
    every other class by these bounds the row is certified: no change of that size, found or not, makes the
    network decide otherwise. Beside it stands the accuracy under an attack (PGD) on the same rows. The truth
    lies between the two: certified accuracy is at most, and accuracy under attack at least, the true robust
    accuracy of these rows.

    It answers: how much of the robustness is proven rather than not yet broken? A row that is not certified
    need not be vulnerable: the bounds are loose, more so for deep networks that were not trained for them.
    The proof is about the network in exact arithmetic; bounds are computed with ordinary rounding and
    widened by more than rounding loses. A row that is certified and was fooled all the same would show a
    mistake: these are counted (`certificate_violations`), and unless there are none no number here counts.

    Settings: `epsilon` (radii; raw input units for images, standard deviations of a column for tabular data),
    `bounds` (ibp: intervals; crown_ibp, crown: linear bounds, tighter and slower; auto: crown where the
    network is small enough), `steps`, `step_size` (of the attack, as in robustness.pgd), `rows` (how many
    rows, drawn by the audit's seed; none for all), `scale` (what epsilon counts), `justification` (why these
    radii). Source: Gowal et al., 2018, arXiv:1810.12715; Zhang et al., 2018, arXiv:1811.00866.
    """
    from audit.attack.loop import Pgd
    from audit.certify.bounds import affordable
    from audit.certify.graph import read

    space = adversaries.space(scale)
    asked = sorted(set(epsilon or space.epsilons))
    looked_at = adversaries.rows(rows)
    net = read(model, model.tensor(data.inputs[looked_at[:_PROBED]]))
    method = affordable(net) if bounds == "auto" else bounds
    attack = Pgd(norm="linf", steps=steps, step_size=step_size or 0.0)
    result = adversaries.pgd([0.0, *asked], attack, rows=rows, scale=scale)
    found = _Rows(
        result.correct,
        _certified(model, data, result, space, net, method, asked),
        {radius: result.at_epsilon(radius).fooled for radius in asked},
    )
    checks = [identity(result), gradients(result), monotone(result), verified(result)]
    measures = [
        item
        for group, members in _groups(result, data)
        for item in _measures(found, checks, asked, group, members)
    ]
    return Evidence(
        measures=measures,
        tables=(_counts(found, asked), table(checks, result.attacked), setting(result)),
        figures=(_curve(measures),),
        caveats=tuple(_caveats(found, method, bounds == "auto", space, justification))
        + _sampled(len(looked_at), len(data)),
        attack=result,
    )


def _certified(
    model: Model,
    data: Dataset,
    result: AttackResult,
    space: Space,
    net: Net,
    method: Method,
    asked: Sequence[float],
) -> dict[float, Flags]:
    """[R] which rows are certified at each radius, ascending; what fails at one is not tried beyond it."""
    import torch

    from audit.attack.norm import ball
    from audit.certify.bounds import margins, threshold
    from audit.certify.interval import Box

    above, reach = threshold(net, model.output), space.reach(model)
    standing, kept = result.correct.copy(), {}
    for epsilon in asked:
        at = np.flatnonzero(standing)
        if len(at):
            source = result.rows[at]
            inside = ball(model.tensor(data.inputs[source]), epsilon, "linf", reach)
            labels = torch.from_numpy(data.labels[source]).to(model.device)
            least = margins(net, Box(inside.low, inside.high), labels, method, above)
            standing[at] = (least > 0).cpu().numpy()
        kept[epsilon] = standing.copy()
    return kept


def _groups(result: AttackResult, data: Dataset) -> Iterator[tuple[dict[str, str], Flags]]:
    yield {}, np.ones(len(result.rows), dtype=bool)
    for name, feature in data.sensitive.items():
        codes = feature.codes[result.rows]
        for code, group in enumerate(feature.groups):
            yield {name: group}, codes == code


def _measures(
    found: _Rows, checks: Sequence[SelfCheck], asked: Sequence[float], group: dict[str, str], members: Flags
) -> Iterator[Measure]:
    total, broken = int(members.sum()), _broken(found, asked)
    correct = int((found.correct & members).sum())
    yield proportion("clean_accuracy", correct, total, group=group, better="higher")
    for epsilon in asked:
        held = int((found.certified[epsilon] & members).sum())
        standing = int((found.correct & ~found.fooled[epsilon] & members).sum())
        common: dict[str, Any] = {"group": group, "settings": {"epsilon": epsilon}, "better": "higher"}
        attacked = "; ".join(filter(None, (broken, unreliable(checks, epsilon))))
        yield proportion("certified_accuracy", held, total, unreliable=broken, **common)
        yield proportion("robust_accuracy", standing, total, unreliable=attacked, **common)
        if not group:
            yield measure(
                "certificate_violations",
                "exact",
                {"value": found.violations(epsilon)},
                n=total,
                settings={"epsilon": epsilon},
                unit="rows",
                better="zero",
                unreliable=broken,
            )


def _broken(found: _Rows, asked: Sequence[float]) -> str:
    """Why no number here counts; empty where no certified row was fooled."""
    worst = max(found.violations(epsilon) for epsilon in asked)
    return f"{worst} certified rows were fooled by the attack, so the certificate is wrong" if worst else ""


def _counts(found: _Rows, asked: Sequence[float]) -> Table:
    def counted(epsilon: float) -> tuple[float | int, ...]:
        held, fooled = int(found.certified[epsilon].sum()), int(found.fooled[epsilon].sum())
        attacked = int(found.correct.sum())
        between = int((found.correct & ~found.certified[epsilon] & ~found.fooled[epsilon]).sum())
        wrong = len(found.correct) - attacked
        return epsilon, len(found.correct), wrong, held, between, fooled, found.violations(epsilon)

    return Table(
        name="counts",
        title="What became of the rows",
        columns=("epsilon", "rows", "already wrong", "certified", "open", "fooled", "certified and fooled"),
        rows=[counted(epsilon) for epsilon in asked],
        note="Open rows are neither certified nor fooled: nobody knows whether a stronger attack would fool "
        "them or a tighter bound would certify them.",
    )


def _curve(measures: Sequence[Measure]) -> Figure:
    whole = [item for item in measures if not item.group and item.value is not None]
    clean = [(0.0, item) for item in whole if item.name == "clean_accuracy"]
    lines = {
        name: clean
        + [(float(m.settings["epsilon"]), m) for m in whole if m.name == key and m.settings["epsilon"]]
        for name, key in (("certified", "certified_accuracy"), ("under attack", "robust_accuracy"))
    }
    series = [
        {
            "name": name,
            "x": [epsilon for epsilon, _ in points],
            "y": [m.value for _, m in points],
            "low": [m.low for _, m in points],
            "high": [m.high for _, m in points],
        }
        for name, points in lines.items()
    ]
    told = "; ".join(
        f"{name}: " + ", ".join(f"{m.value:.3f} at {epsilon:.4g}" for epsilon, m in points)
        for name, points in lines.items()
    )
    ends = " and ".join(f"{points[-1][1].value:.3f} {name}" for name, points in lines.items())
    furthest = lines["certified"][-1][0]
    return Figure(
        name="certified_accuracy",
        title=f"The true robust accuracy lies between the lines: {ends} at epsilon {furthest:.4g}",
        kind="curve",
        alt=f"Accuracy over epsilon. {told}.",
        data={"x_label": "epsilon", "y_label": "accuracy", "series": series},
    )


def _caveats(found: _Rows, method: Method, chosen: bool, space: Space, justification: str) -> Iterator[str]:
    broken = _broken(found, list(found.certified))
    if broken:
        yield f"{broken[0].upper()}{broken[1:]}; none of these numbers may be relied on."
    yield (
        "Certified accuracy is a lower bound on the robust accuracy of these rows and accuracy under attack "
        "an upper bound; the intervals cover the choice of rows."
    )
    yield f"The bounds are {_WORDS[method]}, for the network in exact arithmetic."
    if chosen and method != "crown":
        yield "The network is too large for the tightest bounds by default; bounds = 'crown' asks for them."
    yield from space.caveats
    yield why(justification)


def _sampled(looked_at: int, total: int) -> tuple[str, ...]:
    if looked_at == total:
        return ()
    return (f"{looked_at} of {total} rows were looked at, drawn by the seed of the audit.",)
