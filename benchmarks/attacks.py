"""PGD beside raw passes of the same model and beside ART, Foolbox and torchattacks, all in one run.

python benchmarks/attacks.py                 a convolutional net at 32 x 32 and an MLP on 20 features
python benchmarks/attacks.py --device cuda   the same on an accelerator, with synchronised timers
python benchmarks/attacks.py --repeats 3     fewer repeats

A raw pass is a forward pass and the gradient with respect to the input, by `autograd.grad`, of the same
rows in the same batches. A ratio of 1 is the cost of the passes that the attack cannot do without.
"""

import argparse
import logging
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from audit.attack.loop import Pgd, pgd
from audit.attack.norm import Reach, ball
from audit.model import Model, Passes, state_hash

ROWS = 256
STEPS = 20
CLASSES = 10
BARS = {"image": (1.05, 0.45), "tabular": (1.2, 1.2)}
ART_DEFAULT_TIMES = 3.0
PEERS = ("torchattacks", "foolbox", "adversarial-robustness-toolbox")
Run = Callable[[], float | None]


@dataclass(frozen=True)
class Task:
    """A trained network, rows that it classifies correctly, and a radius at which it is not robust."""

    name: str
    network: nn.Module
    rows: Tensor
    labels: Tensor
    epsilon: float


def image_task(device: torch.device) -> Task:
    """Six blocks on 3 x 32 x 32 inputs, taught to tell ten noisy patterns apart."""
    widths = (3, 32, 32, 64, 64)
    blocks: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(widths)):
        blocks += [nn.Conv2d(inputs, outputs, 3, stride=1 + place % 2, padding=1), nn.ReLU()]
    network = nn.Sequential(
        *blocks, nn.Flatten(), nn.Linear(64 * 64, 128), nn.ReLU(), nn.Linear(128, CLASSES)
    )
    return _taught("image", network, (3, 32, 32), 8 / 255, device)


def tabular_task(device: torch.device) -> Task:
    """20 features to two hidden layers of 128."""
    layers = (nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    return _taught("tabular", nn.Sequential(*layers), (20,), 0.2, device)


def _taught(
    name: str, network: nn.Module, shape: tuple[int, ...], epsilon: float, device: torch.device
) -> Task:
    torch.manual_seed(0)
    for layer in network.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    random = torch.Generator().manual_seed(1)
    patterns = torch.rand(CLASSES, *shape, generator=random)
    labels = torch.randint(0, CLASSES, (4 * ROWS,), generator=random)
    rows = (0.3 * patterns[labels] + 0.7 * torch.rand(4 * ROWS, *shape, generator=random)).clamp(0, 1)
    network, rows, labels = network.to(device), rows.to(device), labels.to(device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(6):
        for part in torch.arange(4 * ROWS, device=device).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(rows[part]), labels[part]).backward()
            optimiser.step()
    optimiser.zero_grad()
    network.eval()
    with torch.no_grad():
        right = (network(rows).argmax(1) == labels).nonzero().flatten()[:ROWS]
    return Task(name, network, rows[right].contiguous(), labels[right], epsilon)


def raw_passes(task: Task, batch: int) -> Callable[[], None]:
    """What PGD cannot do without: a forward pass and an input gradient for each row and step."""

    def run() -> None:
        for part in torch.arange(len(task.rows), device=task.rows.device).split(batch):
            rows, labels = task.rows[part], task.labels[part]
            for _ in range(STEPS):
                leaf = rows.clone().requires_grad_()
                loss = nn.functional.cross_entropy(task.network(leaf), labels, reduction="sum")
                torch.autograd.grad(loss, leaf)

    return run


def ours(task: Task, batch: int, *, drop: bool) -> Callable[[], float]:
    """The audit's own loop; returns the share of rows that withstand."""
    model = Model(
        module=task.network,
        device=task.rows.device,
        input_range=(0.0, 1.0),
        passes=Passes(batch=batch),
    )
    one = torch.ones_like(task.rows[0])
    reach = Reach(one, one * 0, one)
    attack = Pgd(steps=STEPS, drop=drop)
    start = torch.rand(task.rows.shape, generator=torch.Generator().manual_seed(2)).to(task.rows) * 2 - 1

    def run() -> float:
        inside = ball(task.rows, task.epsilon, "linf", reach)
        return 1 - pgd(model, task.labels, inside, attack, start).fooled.float().mean().item()

    return run


def torchattacks_pgd(task: Task) -> Callable[[], float]:
    """All rows at once, which is how it works."""
    import torchattacks

    attack = torchattacks.PGD(
        task.network, eps=task.epsilon, alpha=2.5 * task.epsilon / STEPS, steps=STEPS, random_start=True
    )
    return lambda: _withstand(task, attack(task.rows, task.labels))


def foolbox_pgd(task: Task) -> Callable[[], float]:
    """All rows at once."""
    import foolbox

    model = foolbox.PyTorchModel(task.network, bounds=(0, 1), device=task.rows.device)
    attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / STEPS, steps=STEPS, random_start=True)
    return lambda: _withstand(task, attack(model, task.rows, task.labels, epsilons=task.epsilon)[1])


def art_pgd(task: Task, batch: int | None) -> Callable[[], float]:
    """ART's torch variant; None is its default batch of 32."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    shape = tuple(task.rows.shape[1:])
    kind = "gpu" if task.rows.is_cuda else "cpu"
    wrapped = PyTorchClassifier(
        task.network, nn.CrossEntropyLoss(), shape, CLASSES, clip_values=(0.0, 1.0), device_type=kind
    )
    attack = ProjectedGradientDescent(
        wrapped,
        eps=task.epsilon,
        eps_step=2.5 * task.epsilon / STEPS,
        max_iter=STEPS,
        num_random_init=1,
        verbose=False,
        **({} if batch is None else {"batch_size": batch}),
    )
    rows, labels = task.rows.cpu().numpy(), task.labels.cpu().numpy()

    def run() -> float:
        points = attack.generate(rows, np.eye(CLASSES, dtype=np.float32)[labels])
        return _withstand(task, torch.from_numpy(points).to(task.rows.device))

    return run


def _withstand(task: Task, points: Tensor) -> float:
    with torch.no_grad():
        return (task.network(points).argmax(1) == task.labels).float().mean().item()


def timed(
    runs: dict[str, Run], repeats: int, device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds of each, and what it left standing.

    The runs take turns, so that what disturbs one disturbs all; the first turn is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    left: dict[str, str] = {}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            _wait(device)
            started = time.perf_counter()
            share = run()
            _wait(device)
            left[name] = "" if share is None else f"{share:11.3f}"
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}, left


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(task: Task, batch: int, repeats: int) -> dict[str, float]:
    """Print one task's table and return its ratios to raw passes in the same batches."""
    device = task.rows.device
    whole = len(task.rows)
    before = state_hash(task.network)
    own: dict[str, Run] = {
        f"raw passes, batch {batch}": raw_passes(task, batch),
        "model-audit, every row walks on": ours(task, batch, drop=False),
        "model-audit": ours(task, batch, drop=True),
    }
    peers: dict[str, Run] = {
        f"raw passes, batch {whole}": raw_passes(task, whole),
        f"torchattacks, batch {whole}": torchattacks_pgd(task),
        f"Foolbox, batch {whole}": foolbox_pgd(task),
        f"ART, batch {whole}": art_pgd(task, whole),
        "ART, its default batch of 32": art_pgd(task, None),
    }
    run = own | peers
    untouched = all(_same(task.network, before, name, run[name]) for name in own)
    seconds, left = timed(run, repeats, device)
    raw = seconds[f"raw passes, batch {batch}"]
    shape = tuple(task.rows.shape[1:])
    print(f"\n{task.name}: {whole} rows of {shape}, {STEPS} steps, epsilon {task.epsilon:.4g}")
    print(f"{'':36}{'seconds':>10}{'to raw':>9}{'withstand':>11}")
    for name in run:
        print(f"{name:36}{seconds[name]:10.4f}{seconds[name] / raw:9.2f}{left[name]}")
    print(f"state of the network unchanged by our own: {untouched}")
    return {name: seconds[name] / raw for name in run}


def _same(network: nn.Module, before: str, name: str, run: Run) -> bool:
    run()
    same = state_hash(network) == before
    if not same:
        print(f"{name} changed the network")
    return same


def judge(task: Task, ratios: dict[str, float]) -> None:
    """Print each bar and whether it is kept."""
    stay, leave = BARS[task.name]
    mine = ratios["model-audit"]
    peers = [value for name, value in ratios.items() if name.startswith(("torch", "Fool", "ART"))]
    print(f"bar: every row walks on <= {stay}: {ratios['model-audit, every row walks on'] <= stay}")
    print(f"bar: fooled rows leave <= {leave}: {mine <= leave}")
    print(f"bar: never slower than any peer: {mine <= min(peers)}")
    if task.name == "tabular":
        times = ratios["ART, its default batch of 32"] / mine
        kept = times >= ART_DEFAULT_TIMES
        print(f"bar: >= {ART_DEFAULT_TIMES:g}x faster than ART at its defaults: {kept} ({times:.1f}x)")


def main() -> None:
    """Compare both tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="our batch of images on the CPU")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{where}; {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(", ".join(f"{name} {version(name)}" for name in PEERS))
    for build in (image_task, tabular_task):
        task = build(device)
        batch = len(task.rows) if device.type == "cuda" or task.name == "tabular" else arguments.batch
        judge(task, compare(task, batch, arguments.repeats))


if __name__ == "__main__":
    main()
