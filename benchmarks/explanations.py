"""Explanations beside raw passes of the same model and beside captum, shap and lime, all in one run.

python benchmarks/explanations.py                 on the CPU, then on a CUDA accelerator where there is one
python benchmarks/explanations.py --device cpu    on one device; an accelerator's timers are synchronised
python benchmarks/explanations.py --only cnn      one of: small, middle, cnn
python benchmarks/explanations.py --repeats 3     fewer repeats
python benchmarks/explanations.py --no-peers      without captum, shap and lime

The networks are two MLPs on 20 features and a convolutional net at 32 x 32.
A raw pass is a forward pass of one row, for gradient methods with the gradient with respect to the input, at
the batch size that is fastest for this model among a few; the passes of a method are those that it counted.
A ratio is the median over turns of our time by that of the raw passes in the same turn, so that a load that
comes and goes weighs on both; 1 is the cost of the passes that a method cannot do without. Beside it stands
the ratio to raw passes in batches of the audit's own size: what is left when the choice of the batch is taken
out. Peers that loop over rows are timed on fewer rows, and their time is scaled to all of them.
"""

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.dataset import Dataset, Feature, Modality
from audit.explain.attribution import Attribution
from audit.model import Model, measured_batch, state_hash
from audit.products.attributions import Attributions

FEATURES = 20
PEERS = ("captum", "shap", "lime")
PEER_TIMES = 10.0
BATCHES = {
    ("tabular", "cpu"): (64, 256, 1024, 4096, 8192),
    ("image", "cpu"): (8, 16, 32, 64, 128),
    ("tabular", "cuda"): (1024, 8192, 32768, 131072),
    ("image", "cuda"): (64, 256, 1024, 4096, 8192),
}
Run = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """A network, the rows explained, and what each method may cost in raw passes.

    Attributes:
        name: for the reader.
        network: in eval mode on its device.
        data: the rows.
        rows: how many are explained.
        methods: settings by method.
        bars: largest ratio by method.
    """

    name: str
    network: nn.Module
    data: Dataset
    rows: int
    methods: dict[str, dict[str, Any]]
    bars: dict[str, float]


IG = {"steps": 50, "max_steps": 50, "baseline": "zero"}
TABLE = {
    "kernel_shap": {"samples": 200, "background": 1},
    "lime": {"samples": 1000},
    "integrated_gradients": IG,
    "expected_gradients": {"samples": 200},
}
IMAGE = {
    "integrated_gradients": IG,
    "smoothgrad": {},
    "occlusion": {},
    "rise": {},
    "kernel_shap": {},
    "lime": {},
}


def table(hidden: tuple[int, ...], rows: int, bar: float, device: torch.device) -> Task:
    """20 features to hidden layers and two logits."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in zip((FEATURES, *hidden), hidden, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(hidden[-1], 2)).to(device).eval()
    inputs = np.random.default_rng(0).normal(size=(1000, FEATURES)).astype(np.float32)
    name = f"MLP {FEATURES}-{'-'.join(map(str, hidden))}-2"
    bars = {method: bar for method in TABLE if method != "expected_gradients"}
    return Task(name, network, dataset(inputs, "tabular"), rows, TABLE, bars)


def image(device: torch.device) -> Task:
    """Three convolutions on 3 x 32 x 32 inputs."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10)),
    )
    inputs = np.random.default_rng(0).random((64, 3, 32, 32)).astype(np.float32)
    bars = dict.fromkeys(("integrated_gradients", "smoothgrad", "occlusion", "rise"), 1.15)
    return Task("CNN at 3 x 32 x 32", network.to(device).eval(), dataset(inputs, "image"), 8, IMAGE, bars)


def dataset(inputs: Any, modality: Modality) -> Dataset:
    """The rows as the audit has them, without meaning."""
    features = (
        () if modality == "image" else tuple(Feature(name=f"f{i}", columns=(i,)) for i in range(FEATURES))
    )
    classes = tuple(map(str, range(10 if modality == "image" else 2)))
    labels = np.zeros(len(inputs), dtype=np.int64)
    return Dataset(inputs=inputs, labels=labels, modality=modality, classes=classes, features=features)


def model_of(task: Task, device: torch.device) -> Model:
    """The audited model, its batch size measured as in an audit."""
    model = Model(module=task.network, device=device, classes=task.data.classes)
    model.passes.batch = measured_batch(model, model.tensor(task.data.inputs[:2]))
    return model


def ours(task: Task, model: Model, method: str) -> Callable[[], Attribution]:
    """One method through the audit's own contract, in a run of its own: rows are drawn and predicted too."""

    def run() -> Attribution:
        product = Attributions(model, task.data, 0)
        return product.of(method, rows=task.rows, **task.methods[method])

    return run


def raw(network: nn.Module, batch: Tensor, rows: int, *, gradient: bool) -> Run:
    """`rows` raw passes in batches of the given one."""

    def run() -> None:
        for start in range(0, rows, len(batch)):
            part = batch[: min(len(batch), rows - start)]
            if gradient:
                leaf = part.clone().requires_grad_()
                torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)
            else:
                with torch.no_grad():
                    network(part)

    return run


def rows_of(task: Task, count: int, device: torch.device) -> Tensor:
    """[count, ...] rows of the task on the device, over and over."""
    return torch.from_numpy(task.data.inputs[np.resize(np.arange(len(task.data)), count)]).to(device)


def best_batch(task: Task, device: torch.device, *, gradient: bool) -> Tensor:
    """Rows in the batch size with the least time a row."""
    sizes = BATCHES[task.data.modality, device.type]
    found = {}
    for size in sizes:
        batch = rows_of(task, size, device)
        run = raw(task.network, batch, max(sizes), gradient=gradient)
        found[seconds_of({"": run}, 3, device)[""]] = batch
    return found[min(found)]


def captum_kernel_shap(task: Task, device: torch.device, rows: int) -> Run:
    """All perturbations of a row in one pass, its fastest setting."""
    from captum.attr import KernelShap

    inputs = torch.from_numpy(task.data.inputs[:rows]).to(device)
    method = KernelShap(task.network)
    return lambda: method.attribute(inputs, target=0, n_samples=200, perturbations_per_eval=200)


def captum_lime(task: Task, device: torch.device, rows: int) -> Run:
    """All perturbations of a row in one pass, its fastest setting."""
    from captum.attr import Lime

    inputs = torch.from_numpy(task.data.inputs[:rows]).to(device)
    method = Lime(task.network)
    return lambda: method.attribute(inputs, target=0, n_samples=1000, perturbations_per_eval=1000)


def lime_tabular(task: Task, device: torch.device, rows: int) -> Run:
    """As it comes, 1000 samples."""
    from lime.lime_tabular import LimeTabularExplainer

    explainer = LimeTabularExplainer(task.data.inputs.astype(np.float64), random_state=0)

    def chances(values: Any) -> Any:
        with torch.no_grad():
            inputs = torch.from_numpy(values.astype(np.float32)).to(device)
            return task.network(inputs).softmax(dim=1).cpu().numpy()

    def run() -> None:
        for row in task.data.inputs[:rows].astype(np.float64):
            explainer.explain_instance(row, chances, num_samples=1000, num_features=FEATURES)

    return run


def shap_gradient(task: Task, device: torch.device, rows: int) -> Run:
    """200 samples of the first output."""
    import shap

    inputs = torch.from_numpy(task.data.inputs).to(device)
    explainer = shap.GradientExplainer(task.network, inputs[:100])
    return lambda: explainer.shap_values(inputs[:rows], nsamples=200, ranked_outputs=1)


def captum_ig(task: Task, device: torch.device, rows: int) -> Run:
    """50 steps, as it comes."""
    from captum.attr import IntegratedGradients

    inputs = torch.from_numpy(task.data.inputs[:rows]).to(device)
    return lambda: IntegratedGradients(task.network).attribute(inputs, target=0, n_steps=50)


PEER_RUNS: dict[str, tuple[Callable[[Task, torch.device, int], Run], str, int, bool]] = {
    "captum KernelShap": (captum_kernel_shap, "kernel_shap", 8, True),
    "captum Lime": (captum_lime, "lime", 4, True),
    "lime_tabular": (lime_tabular, "lime", 8, True),
    "shap GradientExplainer": (shap_gradient, "expected_gradients", 16, True),
    "captum IntegratedGradients": (captum_ig, "integrated_gradients", 64, False),
}


def seconds_of(runs: dict[str, Run], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each."""
    return {name: statistics.median(times) for name, times in turns_of(runs, repeats, device).items()}


def turns_of(runs: dict[str, Run], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each at every turn; the runs take turns, so that what disturbs one disturbs all."""
    clock = clock_of(device)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            _wait(device)
            started = clock()
            run()
            _wait(device)
            if turn:
                seconds[name].append(clock() - started)
    return seconds


def ratio_of(turns: dict[str, list[float]], name: str) -> float:
    """Median over the turns of our seconds by those of `name` in the same turn."""
    return statistics.median(a / b for a, b in zip(turns["ours"], turns[name], strict=True))


def clock_of(device: torch.device) -> Callable[[], float]:
    """Processor seconds where one thread does all the work, which others disturb less; else wall time."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(task: Task, repeats: int, device: torch.device) -> dict[str, float]:
    """Print each method's time beside that of its own raw passes; gives the seconds by method."""
    model = model_of(task, device)
    before = state_hash(task.network)
    found = {method: ours(task, model, method)() for method in task.methods}
    batches = {kind: best_batch(task, device, gradient=kind) for kind in (False, True)}
    sizes = ", ".join(
        f"{len(batch)} {'with' if kind else 'without'} gradients" for kind, batch in batches.items()
    )
    print(f"\n{task.name}: {task.rows} rows; audit's batch {model.passes.batch}; best raw batch {sizes}")
    print(f"{'':26}{'passes':>9}{'seconds':>10}{'us a raw row':>14}{'to raw':>8}{'own batch':>11}{'bar':>7}")
    spent = {}
    same = rows_of(task, model.passes.batch, device)
    for method, item in found.items():
        passes = max(item.passes) + task.rows
        gradient = item.passes[1] > 0
        pair = {
            "ours": ours(task, model, method),
            "raw": raw(task.network, batches[gradient], passes, gradient=gradient),
            "same": raw(task.network, same, passes, gradient=gradient),
        }
        turns = turns_of(pair, repeats, device)
        ratio, alike = ratio_of(turns, "raw"), ratio_of(turns, "same")
        seconds, each = (statistics.median(turns[name]) for name in ("ours", "raw"))
        bar = task.bars.get(method)
        held = "" if bar is None else f"{bar:7.2f} {'kept' if ratio <= bar else 'MISSED'}"
        each *= 1e6 / passes
        print(f"{method:26}{passes:9}{seconds:10.4f}{each:14.2f}{ratio:8.2f}{alike:11.2f}{held}")
        spent[method] = seconds
    print(f"state of the network unchanged: {state_hash(task.network) == before}")
    return spent


def against_peers(task: Task, spent: dict[str, float], repeats: int, device: torch.device) -> None:
    """Print how many times longer each peer takes for the same rows and samples."""
    print(f"\n{'peers, ' + task.name:40}{'rows':>6}{'seconds':>10}{'times ours':>12}")
    runs = {name: build(task, device, rows) for name, (build, _, rows, _) in PEER_RUNS.items()}
    seconds = seconds_of(runs, repeats, device)
    for name, (_, method, rows, barred) in PEER_RUNS.items():
        whole = seconds[name] * task.rows / rows
        times = whole / spent[method]
        bar = f"   >= {PEER_TIMES:g}: {'kept' if times >= PEER_TIMES else 'MISSED'}" if barred else ""
        print(f"{name + ' beside ' + method:40}{rows:6}{whole:10.3f}{times:12.1f}{bar}")


def machine(device: torch.device) -> str:
    """Name of what computes, as it calls itself."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"{name}; CUDA {torch.version.cuda}; {torch.cuda.device_count()} device(s)"
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"


def run_on(device: torch.device, only: str | None, repeats: int, *, peers: bool) -> None:
    """Print what the machine is, then compare the tasks on it."""
    print(f"\n{machine(device)}; {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    print(", ".join(f"{name} {version(name)}" for name in ("torch", *PEERS)))
    kind = "CPU seconds" if clock_of(device) is time.process_time else "wall seconds"
    print(f"{kind}, median of {repeats} turns; load {os.getloadavg()[0]:.1f} at the start")
    for name, build in TASKS.items():
        if only in (None, name):
            task = build(device)
            spent = compare(task, repeats, device)
            if name == "small" and peers:
                against_peers(task, spent, min(3, repeats), device)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


TASKS: dict[str, Callable[[torch.device], Task]] = {
    "small": lambda device: table((128, 128), 64, 2.0, device),
    "middle": lambda device: table((512, 512, 512), 16, 1.3, device),
    "cnn": image,
}


def main() -> None:
    """Compare all tasks on all devices, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--only", choices=tuple(TASKS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this torch sees no CUDA accelerator here; leave it out or say cpu.")
    warnings.simplefilter("ignore")
    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for name in [arguments.device] if arguments.device else there:
        run_on(torch.device(name), arguments.only, arguments.repeats, peers=not arguments.no_peers)


if __name__ == "__main__":
    main()
