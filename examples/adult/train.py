"""Train an income model on UCI Adult, save it with its encoder, and write the audit.toml that audits it.

    python examples/adult/train.py adult.csv my-adult
    model-audit run my-adult/audit.toml --out my-adult/run

The CSV needs the usual Adult columns and a column `split` with the values `train` and `test`.
"""

import argparse
from pathlib import Path

import pandas as pd
import skops.io
import torch
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

NUMERIC = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
CATEGORICAL = ["workclass", "marital-status", "occupation", "relationship", "race", "sex", "native-country"]

CONFIG = """\
[model]
path = "model.pt2"
classes = ["<=50K", ">50K"]

[data]
path = "{data}"
where = {{ split = "test" }}
target = "income"
encoder = "encoder.skops"
sensitive = ["sex", "race"]
favourable = ">50K"

[data.features.age]
direction = "increase"      # nobody grows younger: only robustness.feasible moves it, and one way

[data.features.race]
kind = "categorical"
immutable = true

[data.features.sex]
kind = "categorical"
immutable = true

[checks]
run = ["performance.*", "fairness.*", "interpretability.*", "robustness.*", "reliability.*"]

[checks.settings."reliability.overfit"]
where = {{ split = "train" }}

[policy.limits."performance.accuracy"]
accuracy = {{ at_least = 0.83 }}

[policy.limits."fairness.groups"]
selection_rate_ratio = {{ at_least = 0.8 }}

[system]
name = "Income model on UCI Adult"
purpose = "Predicts from census answers whether a person earns more than 50,000 a year."
"""


def main() -> None:
    """Train, save, and write the configuration."""
    parser = argparse.ArgumentParser(description="Train an income model on UCI Adult.")
    parser.add_argument("data", type=Path, help="adult.csv with a `split` column")
    parser.add_argument("folder", type=Path, help="where the model and audit.toml go")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(options.data, keep_default_na=False)
    train = table[table["split"] == "train"]
    encoder = ColumnTransformer(
        [
            ("numeric", StandardScaler(), NUMERIC),
            ("category", OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORICAL),
        ]
    )
    inputs = torch.tensor(encoder.fit_transform(train), dtype=torch.float32)
    labels = torch.tensor((train["income"] == ">50K").to_numpy(dtype="int64"))
    network = fit(inputs, labels)
    shapes = ({0: torch.export.Dim("rows")},)
    torch.export.save(
        torch.export.export(network, (inputs[:2],), dynamic_shapes=shapes), options.folder / "model.pt2"
    )
    skops.io.dump(encoder, options.folder / "encoder.skops")
    (options.folder / "audit.toml").write_text(CONFIG.format(data=options.data.resolve().as_posix()))
    print(f"wrote {options.folder / 'audit.toml'}")


def fit(inputs: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """A small MLP, a few epochs, in eval mode."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(inputs.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(4):
        for rows in torch.randperm(len(inputs)).split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs[rows]), labels[rows]).backward()
            optimiser.step()
    return network.eval()


if __name__ == "__main__":
    main()
