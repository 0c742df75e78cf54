"""Train the two models of this repository and write their data: `python train.py`.

`loans.safetensors` learns from what people paid back. `biased.safetensors` learns from decisions of the past,
in which applicants from the north were refused more often; it reads the region off the number of children.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from models import FEATURES, build
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
ROWS = 4000


def applicants(seed: int) -> pd.DataFrame:
    """People, by chance: what they earn and owe, where they live, and whether they paid back."""
    draw = np.random.default_rng(seed)
    region = draw.choice(["north", "south"], ROWS, p=[0.4, 0.6])
    people = {
        "income": draw.normal(0, 1, ROWS),
        "debt": draw.normal(0, 1, ROWS),
        "years": draw.normal(0, 1, ROWS),
        "children": np.where(region == "north", 1.0, -1.0) + draw.normal(0, 0.6, ROWS),
    }
    able = 1.5 * people["income"] - 1.5 * people["debt"] + 0.8 * people["years"]
    paid = able + draw.normal(0, 0.7, ROWS) > 0
    refused = paid & (region == "north") & (draw.random(ROWS) < 0.45)  # noqa: PLR2004 - nearly half of the north
    return (
        pd.DataFrame(people)
        .round(4)
        .assign(
            region=region,
            paid=np.where(paid, "yes", "no"),
            decided=np.where(paid & ~refused, "yes", "no"),
        )
    )


def train(people: pd.DataFrame, target: str, path: Path) -> None:
    """Fit the network to one column and save its weights."""
    torch.manual_seed(0)
    inputs = torch.tensor(people[list(FEATURES)].to_numpy(), dtype=torch.float32)
    labels = torch.tensor((people[target] == "yes").to_numpy(), dtype=torch.long)
    network = build()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    save_file(network.state_dict(), path)


def main() -> None:
    """Write the data and the two models beside this file."""
    applicants(1).drop(columns="decided").to_csv(HERE / "applicants.csv", index=False)
    taught = applicants(0)
    train(taught, "paid", HERE / "loans.safetensors")
    train(taught, "decided", HERE / "biased.safetensors")


if __name__ == "__main__":
    main()
