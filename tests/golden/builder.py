"""The fixed record behind the golden page: an invented audit with every verdict and every kind of figure."""

import hashlib
import io
from pathlib import Path

import numpy as np

from audit.evidence import Figure, Measure, Table
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import SCHEMA, Artifact, Cost, Finding, Outcome, Planned, Record
from audit.stats import measure, proportion

TONES = {"light": (742, 611), "medium": (418, 331), "dark": (160, 97)}
ROBUST = {0.0039: 1074, 0.0078: 958, 0.0157: 551, 0.0314: 402}
ARTIFACT = "artifacts/interpretability.saliency.npz"


def build(folder: Path) -> Record:
    """The record; its one artifact is written below `folder`."""
    findings = (
        accuracy(), groups(), calibration(), pgd(), fgsm(), noise(), saliency(folder), gradients(),
        lime(), shap(),
    )  # fmt: skip
    unseen = ("robustness.autoattack",)
    plan = [Planned(check=item.check, asked="pattern", settings=item.settings) for item in findings]
    plan += [Planned(check=name, asked="name") for name in unseen]
    record = Record(
        schema=SCHEMA,
        tool={"name": "model-audit", "version": "0.1.0"},
        run=RUN,
        environment=ENVIRONMENT,
        model=MODEL,
        data=DATA,
        policy=POLICY,
        plan=tuple(plan),
        findings=findings,
        verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
    )
    return judge(record)


RUN = {
    "id": "4f2a9c1b77d0e835",
    "started": "2026-11-20T09:12:44+00:00",
    "finished": "2026-11-20T09:15:31+00:00",
    "seconds": 167.42,
    "seed": 0,
    "resumed": False,
    "interrupted": False,
    "config_sha256": "9d" * 32,
}
ENVIRONMENT = {
    "python": "3.12.4",
    "platform": "Linux-6.8-x86_64",
    "torch": "2.13.0",
    "device": "cuda:0",
    "cpu": "x86_64",
    "threads": 8,
    "packages": {"numpy": "2.3.1", "captum": "0.8.0", "scipy": "1.16.0"},
}
MODEL = {
    "path": "lesion_cnn.pt2",
    "sha256": "a1" * 32,
    "bytes": 1_184_332,
    "loader": "pt2",
    "trust": False,
    "device": "cuda:0",
    "task": "classification",
    "output": "logits",
    "classes": ["benign", "malignant"],
    "parameters": 272_474,
    "input_shape": [3, 32, 32],
    "input_range": [0.0, 1.0],
    "normalize": {"mean": [0.76, 0.55, 0.57], "std": [0.14, 0.15, 0.17]},
    "capabilities": ["gradients", "logits"],
    "ruled_out": [
        "modules: a .pt2 file holds a graph and no modules, so methods that hook a layer cannot run"
    ],
    "caveats": ["the export has a fixed batch of 64 rows, so the last batch was padded"],
    "preflight": [
        {"name": "identical calls agree", "passed": True, "detail": "largest difference 0"},
        {"name": "rows are independent", "passed": True, "detail": "largest difference 2.4e-07"},
        {"name": "outputs are logits", "passed": True, "detail": "rows do not sum to 1"},
    ],
    "batch": 256,
}
DATA = {
    "path": "lesions_test.npz",
    "sha256": "b2" * 32,
    "fingerprint": "c3" * 32,
    "rows": 1320,
    "modality": "image",
    "classes": {"benign": 1002, "malignant": 318},
    "features": 0,
    "sensitive": {"skin_tone": {"light": 742, "medium": 418, "dark": 160}},
    "caveats": ["12 rows without a skin tone were left out of group comparisons"],
}
POLICY = Policy(
    limits=(
        Limit(check="performance.accuracy", measure="accuracy", at_least=0.75),
        Limit(check="performance.accuracy", measure="expected_calibration_error", at_most=0.05),
        Limit(check="fairness.groups", measure="true_positive_rate", at_least=0.6, group="each"),
        Limit(check="fairness.groups", measure="impact_ratio", at_least=0.8, group="each"),
        Limit(check="robustness.pgd", measure="robust_accuracy", at_least=0.4, where={"epsilon": 0.0157}),
        Limit(check="robustness.pgd", measure="robust_accuracy", at_least=0.4, where={"epsilon": 0.0314}),
        Limit(check="fairness.calibration", measure="calibration_gap", at_most=0.05),
        Limit(check="interpretability.shap", measure="completeness_error", at_most=0.05),
    )
)


def accuracy() -> Finding:
    measures = [
        proportion("accuracy", 1104, 1320, better="higher"),
        measure(
            "expected_calibration_error",
            "student_t",
            {"n": 1320, "mean": 0.044, "sd": 0.14},
            n=1320,
            better="lower",
        ),
        proportion("accuracy", 878, 1002, group={"class": "benign"}, better="higher"),
        proportion("accuracy", 226, 318, group={"class": "malignant"}, better="higher"),
    ]
    rows = [["benign", 878, 124], ["malignant", 92, 226]]
    return Finding(
        check="performance.accuracy",
        version="1",
        title="Accuracy on the tested rows",
        status="measured",
        text="How often the class with the highest score is the labelled one.\n\nThe calibration error is "
        "the gap between the model's stated confidence and how often it is right, over 15 bins of equal "
        "width (Guo et al., 2017).",
        settings={"bins": 15},
        measures=measures,
        tables=[
            Table(
                name="confusion",
                title="Labels against predictions",
                columns=["label", "benign", "malignant"],
                rows=rows,
            )
        ],
        cost=Cost(forward_rows=1320, seconds=0.41, overhead=1.02),
    )


def groups() -> Finding:
    measures: list[Measure] = []
    reference = TONES["light"]
    for tone, (n, x) in TONES.items():
        measures.append(proportion("true_positive_rate", x, n, group={"skin_tone": tone}, better="higher"))
    for tone, (n, x) in TONES.items():
        if tone != "light":
            statistics = {"x1": x, "n1": n, "x0": reference[1], "n0": reference[0]}
            measures.append(
                measure(
                    "impact_ratio",
                    "koopman",
                    statistics,
                    n=n,
                    unit="ratio",
                    group={"skin_tone": tone},
                    better="one",
                )
            )
    for tone, (n, x) in TONES.items():
        measures.append(proportion("selection_rate", x // 2, n, group={"skin_tone": tone}))
    measures.append(proportion("false_positive_rate", 0, 0, group={"skin_tone": "very dark"}))
    return Finding(
        check="fairness.groups",
        version="2",
        title="Rates by group",
        status="measured",
        text="Compares the confusion matrix of each group.\n\nSettings:\n    reference: the group that "
        "ratios are taken to;\n        the largest one by default.\n    smallest: groups below this size are "
        "counted and not compared.\n\n"
        "Ratios carry Koopman's interval, rates Wilson's. See `shared` counts in the table.",
        settings={"reference": "light", "smallest": 30, "features": ["skin_tone"]},
        measures=measures,
        tables=[
            Table(
                name="cells",
                title="Rows by group",
                columns=["skin_tone", "rows", "correct", "share"],
                rows=[[tone, n, x, x / n] for tone, (n, x) in TONES.items()],
                note="Counts, from which every rate above can be computed again.",
            )
        ],
        caveats=["the group `dark` holds 160 rows, so its intervals are wide"],
        cost=Cost(seconds=0.02),
    )


def calibration() -> Finding:
    return Finding(
        check="fairness.calibration",
        version="1",
        title="Calibration by group",
        status="not_evaluable",
        reason="no group has 20 or more rows in every bin: the smallest cell holds 3",
        text="Compares stated confidence with how often it is right, for each group.",
        settings={"bins": 10},
    )


def pgd() -> Finding:
    measures = [
        proportion("robust_accuracy", x, 1320, settings={"epsilon": eps}, better="higher")
        for eps, x in ROBUST.items()
    ]
    measures += [
        proportion("attack_success_rate", 1104 - x, 1104, settings={"epsilon": eps}, better="lower")
        for eps, x in ROBUST.items()
    ]
    fooled = [[1104, 1061, 900, 513, 377], [1104, 1090, 1010, 700, 561]]
    names = ["PGD, 20 steps", "FGSM, one step"]
    xs = [0.0, *ROBUST]
    series = [curve_series(name, xs, counts) for name, counts in zip(names, fooled, strict=True)]
    return Finding(
        check="robustness.pgd",
        version="3",
        title="Accuracy under projected gradient descent",
        status="measured",
        text="Searches, inside a box of half-width epsilon around each picture, for a change that makes "
        "the model wrong (Madry et al., 2018).\n\nEvery changed picture is measured again here: it lies "
        "inside the box and inside the valid range, and it is really classified wrongly.\n\n"
        "- `steps` of the search\n- `restarts` from random points",
        settings={"epsilon": list(ROBUST), "steps": 20, "restarts": 2, "norm": "linf"},
        measures=measures,
        figures=[
            Figure(
                name="curve",
                title="Accuracy falls from 0.84 to 0.29 as the allowed change grows to 0.031",
                kind="curve",
                alt="Accuracy under attack falls with epsilon, for PGD faster than for FGSM.",
                data={
                    "x_label": "epsilon, in units of the input range",
                    "y_label": "Accuracy under attack",
                    "series": series,
                },
            )
        ],
        cost=Cost(
            forward_rows=211_200, backward_rows=105_600, seconds=41.7, overhead=1.06, peak_bytes=412_000_000
        ),
    )


def curve_series(name: str, xs: list[float], counts: list[int]) -> dict[str, object]:
    rates = [proportion("accuracy", x, 1320) for x in counts]
    return {
        "name": name,
        "x": xs,
        "y": [rate.value for rate in rates],
        "low": [rate.low for rate in rates],
        "high": [rate.high for rate in rates],
    }


def fgsm() -> Finding:
    return Finding(
        check="robustness.fgsm",
        version="1",
        title="Accuracy under the fast gradient sign method",
        status="measured",
        text="One step along the sign of the gradient (Goodfellow et al., 2015).",
        settings={"epsilon": [0.0314]},
        measures=[
            proportion("robust_accuracy", 561, 1320, settings={"epsilon": 0.0314}, better="higher"),
            proportion("attack_success_rate", 543, 1104, settings={"epsilon": 0.0314}, better="lower"),
        ],
        cost=Cost(forward_rows=1320, backward_rows=1320, seconds=0.9, overhead=1.04),
    )


def noise() -> Finding:
    return Finding(
        check="robustness.noise",
        version="",
        title="robustness.noise",
        status="broken",
        reason="the process was ended by signal 9 after 41 s; its memory had grown to 31 GB",
    )


def saliency(folder: Path) -> Finding:
    content = arrays()
    path = folder / ARTIFACT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    titles = [
        "benign, taken for benign",
        "malignant, taken for malignant",
        "malignant, taken for benign",
        "benign, taken for benign",
    ]
    return Finding(
        check="interpretability.saliency",
        version="1",
        title="Which pixels the prediction responds to",
        status="measured",
        text="The gradient of the predicted class with respect to each pixel, summed over colours "
        "(Simonyan et al., 2014).",
        settings={"rows": 4, "smooth": None},
        measures=[
            measure("insertion_gain", "student_t", {"n": 200, "mean": 0.117, "sd": 0.21}, n=200, unit="")
        ],
        figures=[
            Figure(
                name="maps",
                title="The model looks at the border of the mark, and in the third picture at the ruler",
                kind="heatmaps",
                alt="Attribution maps of four pictures of skin marks.",
                data={"captions": titles, "images": "images", "values": "values"},
            )
        ],
        artifacts=[Artifact(path=ARTIFACT, sha256=hashlib.sha256(content).hexdigest())],
        caveats=["two of three sanity checks held, so the maps are weak evidence"],
        cost=Cost(forward_rows=800, backward_rows=400, seconds=1.2, overhead=1.18),
    )


def arrays() -> bytes:
    """Four invented pictures of marks on skin, 32 x 32, and maps around their borders."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:32, 0:32]
    images, values = [], []
    for index in range(4):
        cx, cy, radius = 12 + 2.5 * index, 18 - 1.5 * index, 6 + index
        distance = np.hypot(x - cx, (y - cy) * (1 + 0.12 * index))
        inside = 1 / (1 + np.exp(distance - radius))
        skin, dark = np.array([224, 172, 150]), np.array([96, 54, 44])
        picture = skin + (dark - skin) * inside[..., None] + rng.normal(0, 6, (32, 32, 1))
        images.append(np.clip(picture, 0, 255).astype(np.uint8))
        border = np.exp(-(((distance - radius) / 2.2) ** 2)) - 0.5 * np.exp(
            -(((distance - radius - 6) / 2.0) ** 2)
        )
        values.append(border * rng.uniform(0.6, 1.2, (32, 32)))
    values[2][28:31] = 1.3
    images[2][28:31, ::2] = 240
    buffer = io.BytesIO()
    np.savez(buffer, images=np.stack(images), values=np.stack(values).round(3).astype(np.float32))
    return buffer.getvalue()


def gradients() -> Finding:
    names = [
        "border irregularity",
        "colour variance",
        "diameter",
        "asymmetry",
        "ruler in the picture",
        "hair",
        "lighting",
    ]
    means = [0.91, 0.64, 0.38, 0.22, 0.19, -0.11, -0.27]
    return Finding(
        check="interpretability.integrated_gradients",
        version="1",
        title="Which concepts weigh on the prediction",
        status="measured",
        text="Integrated gradients (Sundararajan et al., 2017), averaged over rows.",
        settings={"steps": 64, "baseline": "mean"},
        measures=[proportion("completeness_held", 1310, 1320)],
        figures=[
            Figure(
                name="global",
                title="An irregular border weighs most; the ruler in the picture should not weigh at all",
                kind="bars",
                alt="Mean attribution of seven concepts, from 0.91 for border irregularity to -0.27.",
                data={
                    "labels": names,
                    "values": means,
                    "low": [value - 0.05 - 0.02 * i for i, value in enumerate(means)],
                    "high": [value + 0.05 + 0.02 * i for i, value in enumerate(means)],
                },
            ),
            Figure(
                name="spread",
                title="A large diameter speaks for malignant in nearly every picture",
                kind="swarm",
                alt="Attributions of three concepts over rows; those of diameter grow with the diameter.",
                data={
                    "x_label": "attribution, in log-odds",
                    "labels": names[:3],
                    "edges": [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5],
                    "counts": [[0, 40, 380, 700, 200], [10, 210, 600, 400, 100], [0, 300, 620, 380, 20]],
                    "shades": [
                        [None, 0.2, 0.4, 0.6, 0.9],
                        [0.1, 0.5, 0.5, 0.6, 0.4],
                        [None, 0.1, 0.4, 0.7, 0.95],
                    ],
                },
            ),
        ],
        cost=Cost(forward_rows=84_480, backward_rows=84_480, seconds=8.8, overhead=1.11),
    )


def lime() -> Finding:
    return Finding(
        check="interpretability.lime",
        version="1",
        title="Local surrogate models",
        status="not_applicable",
        reason="it fits tabular rows and this data is images",
    )


def shap() -> Finding:
    return Finding(
        check="interpretability.shap",
        version="1",
        title="Shapley values",
        status="measured",
        text="Shapley values by weighted sampling of coalitions (Lundberg and Lee, 2017).",
        settings={"samples": 2048},
        measures=[
            measure(
                "completeness_error",
                "student_t",
                {"n": 200, "mean": 0.0489, "sd": 0.061},
                n=200,
                unit="",
                better="lower",
            )
        ],
        cost=Cost(forward_rows=409_600, seconds=30.2, overhead=1.21),
    )
