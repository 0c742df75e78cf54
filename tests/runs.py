"""Run folders made by hand: real checks measure made-up answers, so that what changed is known beforehand."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from audit.checks.fairness.calibration import calibration
from audit.checks.fairness.groups import groups
from audit.checks.performance.accuracy import accuracy
from audit.dataset import Dataset, Sensitive
from audit.judge import judge
from audit.measure import _with_evidence
from audit.policy import Policy, Verdict
from audit.products.predictions import Predictions
from audit.record import SCHEMA, Finding, Outcome, Planned, Record, write_record

CLASSES = ("no", "yes")


def people(rows, seed=0, shares=(0.6, 0.3, 0.1), fingerprint="f" * 64):
    """Rows with a label and two sensitive features, of which one has a small group."""
    random = np.random.default_rng(seed)
    sex, race = random.integers(0, 2, rows), random.choice(3, size=rows, p=shares)
    return Dataset(
        inputs=np.zeros((rows, 1), dtype=np.float32),
        labels=random.integers(0, 2, rows),
        modality="tabular",
        classes=CLASSES,
        favourable=1,
        sensitive={
            "sex": Sensitive(name="sex", groups=("f", "m"), codes=sex),
            "race": Sensitive(name="race", groups=("a", "b", "c"), codes=race),
        },
        fingerprint=fingerprint,
    )


def answered(data, right, seed=0):
    """Predictions that are right in the rows that are marked, each with a confidence of its own."""
    random = np.random.default_rng(seed)
    predicted = np.where(right, data.labels, 1 - data.labels)
    odds = random.gamma(2.0, 1.0, len(data)) + 0.01
    scores = np.zeros((len(data), 2), dtype=np.float32)
    scores[np.arange(len(data)), predicted] = odds
    return scored(data, scores)


def scored(data, scores):
    """Predictions from scores [N, 2]."""
    probabilities = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    predicted = scores.argmax(axis=1).astype(np.int64)
    return Predictions(
        scores=scores,
        probabilities=probabilities.astype(np.float32),
        predicted=predicted,
        correct=predicted == data.labels,
        finite=np.ones(len(data), dtype=np.bool_),
    )


MEASURED = {"performance.accuracy": (accuracy, {}), "fairness.groups": (groups, {"depth": 1})}
LIGHT_RUN = {"performance.accuracy": (accuracy, {})}
CALIBRATED = {"fairness.calibration": (calibration, {"depth": 1, "draws": 200})}


def finding_of(check, settings, data, predictions, folder):
    """What the check measures, as a run keeps it."""
    given = {"data": data, "predictions": predictions, "seed": 0}
    full = check.settings(settings)
    evidence = check.measure(**{key: given[key] for key in check.asks}, **full)
    empty = Finding(
        check=check.name, version=check.version, title=check.title, status="broken", settings=full
    )
    return _with_evidence(empty, evidence, folder)


def made_run(folder: Path, data, predictions, *, model="a", policy=None, checks=MEASURED, **facts):
    """A run folder with its record, as `model-audit run` would leave it; its record."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [finding_of(check, settings, data, predictions, folder) for check, settings in checks.values()]
    record = Record(
        schema=SCHEMA, tool={}, run={"id": model, "seed": 0, "model_state": model}, environment={},
        model={"file": f"{model}.pt2", "sha256": model * 8},
        data={"fingerprint": data.fingerprint, "rows": len(data)}, policy=policy or Policy(),
        plan=tuple(Planned(check=item.check, asked="name") for item in found), findings=tuple(found),
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )  # fmt: skip
    record = judge(replace(record, **facts))
    write_record(record, folder)
    return record
