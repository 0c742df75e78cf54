"""The demo: two small models on data that needs no download, audited for real.

**Credit decisions, with a planted bias.** Applicants are generated. Whether a loan would be repaid depends
on income, debt, years in work and late payments, and on nothing else. The historical decisions that the
model learns from carry a planted injustice: applicants who moved here (`origin = newcomer`) were held to a
stricter line. The model never sees `origin`. It sees `district`, in which newcomers mostly live: a proxy.
An audit worth its name finds that newcomers are granted too few loans, and that women and men are treated
alike, because no bias was planted there.

**Handwritten digits.** A small convolutional network on scikit-learn's 8 x 8 digits.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audit.config import read_config
from audit.environment import patient
from audit.errors import ConfigError
from audit.record import Record, read_record
from audit.supervisor import run

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor, nn

PLANTED_PENALTY = 1.2
_APPLICANTS = 10_000
_TRAINED_ON = 6_000
_NEWCOMERS = 0.3
_FEATURES = ("income", "debt_ratio", "years_in_work", "late_payments", "district")
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Applicants:
    """Generated applicants.

    Attributes:
        inputs: [N, 5] income (thousands a year), debt ratio, years in work, late payments, district 0-3.
        granted: [N] historical decision, 1 for granted.
        origin: [N] `local` or `newcomer`; never shown to the model.
        sex: [N] `Female` or `Male`; never shown to the model.
    """

    inputs: Floats
    granted: Ints
    origin: list[str]
    sex: list[str]


def applicants(count: int, seed: int, penalty: float = PLANTED_PENALTY) -> Applicants:
    """Generate applicants whose historical decisions hold newcomers to a line stricter by `penalty`.

    Args:
        count: number of applicants.
        seed: seed of the generator.
        penalty: the planted injustice, in standard deviations of merit; 0 plants none.
    """
    random = np.random.default_rng(seed)
    newcomer = random.random(count) < _NEWCOMERS
    district = np.where(newcomer, random.choice(4, count, p=[0.05, 0.1, 0.35, 0.5]), 0)
    district = np.where(newcomer, district, random.choice(4, count, p=[0.5, 0.35, 0.1, 0.05]))
    income = random.lognormal(3.6, 0.4, count)
    debt = random.beta(2, 4, count)
    years = np.minimum(random.exponential(8, count), 45)
    late = random.poisson(1.0, count)
    merit = 1.6 * (np.log(income) - 3.6) / 0.4 - 6 * (debt - 0.33) + 0.06 * (years - 8) - 0.7 * (late - 1)
    line = merit / merit.std() + random.normal(0, 0.4, count) - penalty * newcomer
    inputs = np.stack([income, debt, years, late, district], axis=1).astype(np.float32)
    return Applicants(
        inputs=inputs,
        granted=(line > 0).astype(np.int64),
        origin=["newcomer" if item else "local" for item in newcomer],
        sex=["Female" if item else "Male" for item in random.integers(0, 2, count)],
    )


def make_demo(folder: Path, out: "Console") -> dict[str, Record]:
    """Make both models, audit them, and write reports and an index page.

    Args:
        folder: where everything goes; its `credit` and `digits` folders are made anew.
        out: where progress is told.

    Returns:
        The two records by name.

    Raises:
        ConfigError: the folder cannot be written.
    """
    from audit.terminal import Watch, show_outcome

    os.environ.update(patient())
    records = {}
    for name, prepare in (("credit", make_credit), ("digits", make_digits)):
        place = folder / name
        _renew(place)
        out.print(f"\n[bold]{name}[/]: training a model, saving it in {place}", highlight=False)
        prepare(place)
        with Watch(out) as watch:
            records[name] = run(
                read_config(place / "audit.toml"), place / "audit.toml", place / "run", notify=watch
            )
        show_outcome(records[name], out)
    _write_pages(folder, records)
    out.print(f"\nThe reports are written. Open this file in a browser:\n{(folder / 'index.html').resolve()}")
    return records


def _renew(place: Path) -> None:
    if place.exists() and not (place / "audit.toml").exists():
        raise ConfigError(f"{place} exists and is not a demo of this tool; name another folder.")
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{place} cannot be made: {error.strerror}; name another folder.") from None


def _write_pages(folder: Path, names: Iterable[str]) -> None:
    from audit.render import render, render_contents, render_index, rendered_beside

    entries = []
    titles = {"credit": "Credit decisions (with a planted bias)", "digits": "Handwritten digits"}
    for name in names:
        run_folder = folder / name / "run"
        record = read_record(run_folder)  # as it was written, so that the page is the one that `render` makes
        page = run_folder / "reports" / "technical-report.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text(render(record, artifacts=run_folder), encoding="utf-8")
        contents = render_contents(record, rendered_beside(page.parent))
        page.with_name("index.html").write_text(contents, encoding="utf-8")
        href = page.relative_to(folder).as_posix()
        entries.append((titles[name], href, record.verdict, record.system["purpose"]))
    (folder / "index.html").write_text(render_index(entries), encoding="utf-8")


def make_credit(folder: Path, penalty: float = PLANTED_PENALTY) -> None:
    """Write the credit model, its data and its audit.toml.

    Args:
        folder: an existing folder.
        penalty: the planted injustice; 0 makes the clean twin.
    """
    import pandas as pd
    import torch
    from torch import nn

    people = applicants(_APPLICANTS, seed=7, penalty=penalty)
    train = slice(0, _TRAINED_ON)
    inputs, labels = torch.from_numpy(people.inputs), torch.from_numpy(people.granted)
    torch.manual_seed(7)
    body = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))
    network = _standardised(body, inputs[train])
    _train(network, inputs[train], labels[train], epochs=12)
    _save(network, inputs[:2], folder / "model.pt2")
    table = pd.DataFrame(people.inputs, columns=list(_FEATURES))
    table["origin"], table["sex"] = people.origin, people.sex
    table["decision"] = ["granted" if item else "refused" for item in people.granted]
    table.iloc[_TRAINED_ON:].to_csv(folder / "applicants.csv", index=False)
    (folder / "audit.toml").write_text(_CREDIT, encoding="utf-8")


def make_digits(folder: Path) -> None:
    """Write the digits model, its test images and its audit.toml."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    digits = load_digits()
    order = np.random.default_rng(7).permutation(len(digits.target))
    images = torch.from_numpy(digits.images[order].astype(np.float32)[:, None])
    labels = torch.from_numpy(digits.target[order].astype(np.int64))
    torch.manual_seed(7)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    scaled = _standardised(network, images[:1000].reshape(-1, 1))
    _train(scaled, images[:1000], labels[:1000], epochs=12)
    _save(scaled, images[:2], folder / "model.pt2")
    np.savez_compressed(folder / "digits.npz", images=images[1000:].numpy(), labels=labels[1000:].numpy())
    (folder / "audit.toml").write_text(_DIGITS, encoding="utf-8")


def _standardised(network: "nn.Module", inputs: "Tensor") -> "nn.Module":
    """The network behind a fixed linear layer that takes raw units, so that raw units are what is audited."""
    from torch import nn

    class Standardise(nn.Module):
        mean: "Tensor"
        scale: "Tensor"

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", inputs.mean(dim=0))
            self.register_buffer("scale", inputs.std(dim=0))

        def forward(self, rows: "Tensor") -> Any:
            return (rows - self.mean) / self.scale

    return nn.Sequential(Standardise(), network)


def _train(network: "nn.Module", inputs: "Tensor", labels: "Tensor", epochs: int) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(7)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), 64):
            optimiser.zero_grad()
            cross_entropy(network(inputs[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def _save(network: "nn.Module", example: "Tensor", path: Path) -> None:
    import torch

    shapes = ({0: torch.export.Dim("rows")},)
    exported = torch.export.export(network.eval(), (example,), dynamic_shapes=shapes)
    torch.export.save(exported, path)


_CREDIT = """\
# The demo's credit model. Newcomers were held to a stricter line in the decisions it learned from.
[model]
path = "model.pt2"
task = "classification"
classes = ["refused", "granted"]

[data]
path = "applicants.csv"
target = "decision"
inputs = ["income", "debt_ratio", "years_in_work", "late_payments", "district"]
sensitive = ["origin", "sex"]        # the model sees neither; district gives origin away
favourable = "granted"

[data.features.late_payments]
kind = "ordinal"

[data.features.district]
kind = "ordinal"
immutable = true

[checks]
run = ["performance.*", "fairness.*", "interpretability.*", "robustness.*", "reliability.*"]

[checks.settings."robustness.pgd"]
epsilon = [0.05, 0.1, 0.2]
justification = "A tenth of a standard deviation is about 2,000 a year: less than incomes are misstated by."

[checks.settings."robustness.worst_case"]
epsilon = [0.1]
rows = 200
steps = 20
queries = 100

[policy]
on_inconclusive = "fail"
family_wise_level = 0.95

[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.75 }

[policy.limits."fairness.groups"]
selection_rate_ratio = { at_least = 0.8 }

[policy.limits."robustness.pgd"]
robust_accuracy = { at_least = 0.7, where = { epsilon = 0.1 } }

[system]
name = "Credit decisions of the demo"
purpose = "Decides whether a loan is granted. Generated applicants; newcomers were wronged on purpose."
"""

_DIGITS = """\
# The demo's digits model: 8 x 8 images, pixel values 0 to 16.
[model]
path = "model.pt2"
task = "classification"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
input_range = [0.0, 16.0]

[data]
path = "digits.npz"

[checks]
run = ["performance.*", "interpretability.*", "robustness.*", "reliability.*"]

[checks.settings."robustness.fgsm"]
epsilon = [0.5, 1.0, 2.0]

[checks.settings."robustness.worst_case"]
epsilon = [0.5, 1.0]
rows = 100
steps = 20
targets = 3
queries = 100

[checks.settings."robustness.attack_sanity"]
rows = 64

[checks.settings."robustness.art"]
rows = 20

[checks.settings."robustness.certified"]
rows = 50

[checks.settings."robustness.smoothing"]
rows = 30

[checks.settings."robustness.distance"]
rows = 100

[checks.settings."robustness.pgd"]
epsilon = [0.5, 1.0, 2.0]
justification = "One grey level of sixteen is the scanner's own noise."

[policy]
on_inconclusive = "fail"

[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.9 }

[policy.limits."robustness.pgd"]
robust_accuracy = [
  { at_least = 0.8, where = { epsilon = 0.5 } },
  { at_least = 0.5, where = { epsilon = 1.0 } },
]

[system]
name = "Digit reader of the demo"
purpose = "Reads one handwritten digit of 8 x 8 pixels. scikit-learn's digits, 797 held-out images."
"""
