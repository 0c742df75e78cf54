"""A small run folder as users have them: a real model, a real run, documents in several forms, signed."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from audit.commands.stated import chosen_document
from audit.commands.writing import machine_formats, write_file, write_format, write_page
from audit.config import read_config
from audit.formats.badge import badge
from audit.keys import generate
from audit.record import read_record
from audit.seal import seal
from audit.supervisor import run

FACTORY = "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
CONFIG = """
[model]
path = "m.safetensors"
factory = "digits_factory:build"
input_range = [0.0, 1.0]
device = "cpu"
[data]
path = "d.npz"
rows = 120
[checks]
run = ["performance.accuracy", "interpretability.saliency", "robustness.fgsm"]
[policy.limits."performance.accuracy"]
accuracy = { at_least = 0.6 }
[policy.limits."robustness.fgsm"]
robust_accuracy = { at_least = 0.9 }
"""


def digits(folder: Path) -> Path:
    """A linear model of scikit-learn's digits, fitted in closed form, its data and its audit.toml."""
    found = load_digits()
    images = (found.images / 16).astype(np.float32)
    flat, wanted = images.reshape(len(images), -1), np.eye(10, dtype=np.float32)[found.target]
    moved = np.hstack([flat, np.ones((len(flat), 1), np.float32)])
    weight = np.linalg.solve(moved.T @ moved + np.eye(65), moved.T @ wanted)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    network[1].weight.data = torch.tensor(10 * weight[:64].T).float().contiguous()
    network[1].bias.data = torch.tensor(10 * weight[64]).float().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "m.safetensors")
    np.savez(folder / "d.npz", images=images[:, None], labels=found.target)
    (folder / "digits_factory.py").write_text(FACTORY)
    (folder / "audit.toml").write_text(CONFIG)
    return folder / "audit.toml"


def documented(folder: Path) -> None:
    """A page, Markdown, files for programs and a badge."""
    for form in ("html", "md"):
        write_page(folder, chosen_document(None, None), None, (), form)
    for form in machine_formats(["junit", "sarif"]):
        write_format(folder, form, None)
    write_file(folder / "reports" / "badge.svg", badge(read_record(folder)))


def make(folder: Path) -> Path:
    """The whole of it below a folder: `run`, `a.key`, `a.pub` and the inputs of the run."""
    config = digits(folder)
    run(read_config(config), config, folder / "run")
    documented(folder / "run")
    generate(folder / "a.key")
    seal(folder / "run", folder / "a.key")
    return folder
