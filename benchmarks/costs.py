"""What each check costs on its own, as the tables of audit/costs.toml that `model-audit run --budget` reads.

python benchmarks/costs.py my-adult/audit.toml --table tabular --source "examples/adult, 2 cores"

Every check that fits is run by itself, so that what it asks for is made for it alone: in an audit the first
one that asks for a shared product pays for it. A check is counted in rows sent through the model, which
another model on another machine repeats, and in seconds beside them, which it does not.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from audit.budget import SIZES
from audit.check import Check
from audit.config import read_config
from audit.measure import Bench, measure, set_up
from audit.record import Finding
from audit.registry import installed_checks, installed_products
from audit.worker import load_both


def main() -> None:
    """Measure every installed check and print the table."""
    parser = argparse.ArgumentParser(description="What each check costs on its own.")
    parser.add_argument("config", type=Path, help="an audit.toml; its settings are used")
    parser.add_argument("--table", required=True, help="the name of the table, such as tabular")
    parser.add_argument("--source", required=True, help="what it was measured on")
    options = parser.parse_args()
    config = read_config(options.config)
    model, data = load_both(config)
    bench = set_up(model, data, config.seed, installed_products(), config.folder)
    print(f'[{options.table}]\nsource = "{options.source}"\ndata_rows = {len(data)}\n')
    for name, item in installed_checks().items():
        if isinstance(item, Check):
            settings = item.settings(config.checks.settings.get(name, {}))
            finding = measure(item, settings, replace(bench, made={}), None)
            print(f"{name}: {finding.status} {finding.cost.seconds:.2f} s", file=sys.stderr, flush=True)
            if finding.status == "measured":
                print(told(finding, bench, options.table), flush=True)


def told(finding: Finding, bench: Bench, table: str) -> str:
    """One check as a table of TOML."""
    cost = finding.cost
    passes = (cost.forward_rows - cost.backward_rows) * bench.row_seconds[0]
    passes += cost.backward_rows * bench.row_seconds[1]
    sizes = {key: finding.settings[key] for key in SIZES if isinstance(finding.settings.get(key), int)}
    at = ", ".join(f"{key} = {value}" for key, value in sizes.items())
    return (
        f'[{table}.checks."{finding.check}"]\nforward_rows = {cost.forward_rows}\n'
        f"backward_rows = {cost.backward_rows}\nother_seconds = {max(cost.seconds - passes, 0):.3f}\n"
        f"at = {{ {at} }}\n"
    )


if __name__ == "__main__":
    main()
