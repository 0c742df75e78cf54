"""Group metrics from counts, beside fairlearn in the same run. Run by hand; prints ratios of CPU time.

python benchmarks/fairness.py                       points and bootstrap at 1,000,000 rows
python benchmarks/fairness.py --rows 20000          the same, smaller
python benchmarks/fairness.py --slices              the search for the worst slices
python benchmarks/fairness.py --stream 100000000    rows streamed from Parquet, with peak memory: counted by
                                                    the function, and read as an audit.toml with stream = true
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audit.config import DataSection
from audit.groups import count_cells
from audit.read import load_data
from audit.readers.raw import coded
from audit.slices import Space, numeric_axis, search
from audit.stats import proportion
from audit.streaming import stream_cells

LEVELS = 7
GROUPS = LEVELS * LEVELS
GUESSED = 0.2
ERRORS = 0.15
REPLICATES = 1_000
ROW_GROUP = 1_000_000
BARS = {"strings": 150, "coded": 2_000, "bootstrap": 0.5, "peak": 2 * 2**30}


@dataclass(frozen=True)
class Population:
    """Rows of two sensitive features, as words and as codes, with labels and decisions."""

    words: pd.DataFrame
    codes: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray


def population(rows: int) -> Population:
    """Random rows in 7 x 7 groups; base rates and decisions differ by group."""
    random = np.random.default_rng(0)
    a, b = random.integers(0, LEVELS, rows), random.integers(0, LEVELS, rows)
    labels = (random.random(rows) < 0.3 + 0.05 * a).astype(np.int64)
    guessed = random.random(rows) < GUESSED
    predicted = np.where(guessed, random.integers(0, 2, rows), labels)
    words = {
        name: np.array([f"{name} {k}" for k in range(LEVELS)], dtype=object)[codes]
        for name, codes in (("first", a), ("second", b))
    }
    return Population(pd.DataFrame(words), np.stack([a, b]), labels, predicted)


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median CPU seconds of this process over `repeats` calls."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def fairlearn_values(people: Population) -> pd.DataFrame:
    """Six metrics by group, with differences and ratios, as its users ask for them."""
    from fairlearn import metrics as fl

    wanted = {
        "count": fl.count,
        "selection_rate": fl.selection_rate,
        "true_positive_rate": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate,
        "false_negative_rate": fl.false_negative_rate,
        "true_negative_rate": fl.true_negative_rate,
    }
    frame = fl.MetricFrame(
        metrics=wanted,
        y_true=people.labels,
        y_pred=people.predicted,
        sensitive_features=people.words,
    )
    frame.difference()
    frame.ratio()
    return frame.by_group


def rates(table: np.ndarray) -> np.ndarray:
    """[..., G, 6] the same six metrics from [..., G, 2, 2] counts, 0/0 as NaN."""
    tn, fp, fn, tp = (table[..., i, j].astype(np.float64) for i in (0, 1) for j in (0, 1))
    size, positive, negative = tn + fp + fn + tp, tp + fn, tn + fp
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [size, (tp + fp) / size, tp / positive, fp / negative, fn / positive, tn / negative]
    return np.stack(parts, axis=-1)


def spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference and ratio of each metric over the groups."""
    low, high = np.nanmin(values, axis=-2), np.nanmax(values, axis=-2)
    return high - low, low / high


def from_codes(people: Population) -> np.ndarray:
    """Points from columns that are codes already, as every check sees them."""
    codes = people.codes[0] * LEVELS + people.codes[1]
    values = rates(count_cells(codes, people.labels, people.predicted, GROUPS, 2))
    spread(values)
    return values


def from_words(people: Population) -> np.ndarray:
    """Points from columns of words."""
    first, second = (pd.factorize(people.words[name], sort=True)[0] for name in people.words)
    values = rates(count_cells(first * LEVELS + second, people.labels, people.predicted, GROUPS, 2))
    spread(values)
    return values


def read_words(people: Population) -> None:
    """Points from columns of words through the tool's own reader of columns."""
    first, second = (coded(people.words[name])[0] for name in people.words)
    spread(rates(count_cells(first * LEVELS + second, people.labels, people.predicted, GROUPS, 2)))


def with_intervals(people: Population) -> None:
    """The five rates of every group as measures with Wilson intervals."""
    codes = people.codes[0] * LEVELS + people.codes[1]
    for cell in count_cells(codes, people.labels, people.predicted, GROUPS, 2):
        (tn, fp), (fn, tp) = cell.tolist()
        pairs = [(tp + fp, tn + fp + fn + tp), (tp, tp + fn), (fp, fp + tn), (fn, tp + fn), (tn, fp + tn)]
        for x, n in pairs:
            proportion("rate", x, n)


def bootstrap(table: np.ndarray, replicates: int) -> np.ndarray:
    """Quantiles of every metric, difference and ratio over multinomial draws of the cells."""
    total = int(table.sum())
    random = np.random.default_rng(1)
    drawn = random.multinomial(total, table.ravel() / total, size=replicates)
    values = rates(drawn.reshape(replicates, *table.shape))
    difference, ratio = spread(values)
    every = np.concatenate([values.reshape(replicates, -1), difference, ratio], axis=1)
    return np.nanquantile(every, [0.025, 0.975], axis=0)


def line(name: str, seconds: float, against: float | None = None, bar: float | None = None) -> None:
    """One line of the result: CPU seconds, the ratio and whether it reaches its bar."""
    text = f"{name:<56}{seconds:>12.5f} s CPU"
    if against is not None:
        text += f"{against / seconds:>12,.0f} x"
    if against is not None and bar is not None:
        text += f"   bar {bar:,} x: {'reached' if against / seconds >= bar else 'MISSED'}"
    print(text)


def compare(rows: int) -> None:
    """Points and bootstrap beside fairlearn."""
    people = population(rows)
    small = population(5_000)
    print(f"{rows:,} rows, {LEVELS} x {LEVELS} groups, 6 metrics, difference and ratio")
    fairlearn_values(small)
    started = time.process_time()
    theirs = fairlearn_values(people)
    peer = time.process_time() - started
    ours, words = from_codes(people), from_words(people)
    gap = max(np.abs(theirs.to_numpy(np.float64) - mine).max() for mine in (ours, words))
    print(f"largest difference of a value to fairlearn's, over {theirs.size} values: {gap:.1e}")
    line("fairlearn MetricFrame, columns of words (1 run)", peer)
    line("counts, from columns of words", cpu_seconds(lambda: from_words(people), 5), peer, BARS["strings"])
    line("counts, from words by the tool's own reader", cpu_seconds(lambda: read_words(people), 3), peer)
    line("counts, from coded columns", cpu_seconds(lambda: from_codes(people), 15), peer, BARS["coded"])
    line(
        "counts, from coded columns, with Wilson intervals",
        cpu_seconds(lambda: with_intervals(people), 5),
        peer,
    )
    codes = people.codes[0] * LEVELS + people.codes[1]
    table = count_cells(codes, people.labels, people.predicted, GROUPS, 2)
    bootstrap(table, 10)
    taken = cpu_seconds(lambda: bootstrap(table, REPLICATES), 5)
    reached = "reached" if taken <= BARS["bootstrap"] else "MISSED"
    name = f"{REPLICATES:,} bootstrap replicates over cells, quantiles"
    print(f"{name:<56}{taken:>12.5f} s CPU   bar {BARS['bootstrap']} s: {reached}")


def search_slices(rows: int) -> None:
    """The worst slices of 20 features, all pairs, with their shuffles."""
    random = np.random.default_rng(2)
    values = random.normal(size=(20, rows))
    outcome = random.random(rows) < ERRORS
    sizes = []

    def once() -> None:
        axes = tuple(numeric_axis(f"f{k}", column, 8) for k, column in enumerate(values))
        found = search(Space(axes, 2, 30), outcome, shown=10, shuffles=99, seed=0)
        sizes.append((found.searched, found.shuffles))

    once()
    taken = cpu_seconds(once, 3)
    searched, shuffles = sizes[-1]
    line(f"{searched:,} slices of {rows:,} rows x 20 features, {shuffles} shuffles", taken)


def write_stream(rows: int, path: Path) -> None:
    """A Parquet file of four int8 columns, one row group of a million rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(3)
    names = {"first": LEVELS, "second": LEVELS, "label": 2, "predicted": 2}
    with pq.ParquetWriter(path, pa.schema([(name, pa.int8()) for name in names])) as writer:
        for start in range(0, rows, ROW_GROUP):
            count = min(ROW_GROUP, rows - start)
            columns = {name: random.integers(0, high, count, dtype=np.int8) for name, high in names.items()}
            writer.write_table(pa.table(columns))


def stream(rows: int) -> None:
    """Write a Parquet file, then count and read it, each in a process that reports its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_stream(rows, path)
        print(f"{rows:,} coded rows in Parquet: {path.stat().st_size / 2**20:,.0f} MiB on disk")
        for mode in ("--count", "--read"):
            subprocess.run([sys.executable, __file__, mode, str(path)], check=True)  # noqa: S603 - this program


def count_stream(path: Path) -> None:
    """Count the file at `path`; print rows a second and the peak memory of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    cells = stream_cells(path, ["first", "second"], "label", "predicted")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report_stream("counted", cells.rows, cells.counts.size, wall, cpu)


def read_stream(path: Path) -> None:
    """Read the file at `path` as `[data] stream = true` does."""
    section = DataSection(
        path=path, stream=True, target="label", sensitive=("first", "second"), favourable="1"
    )
    wall, cpu = time.perf_counter(), time.process_time()
    data = load_data(section, path.parent, predictions="predicted")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report_stream("read", data.size, len(data), wall, cpu)


def report_stream(verb: str, rows: int, cells: int, wall: float, cpu: float) -> None:
    """Rows a second, and the peak of this process beside its bar."""
    peak = peak_bytes()
    reached = "reached" if peak < BARS["peak"] else "MISSED"
    print(f"{verb} {rows:,} rows as {cells} cells: {wall:.1f} s wall, {cpu:.1f} s CPU")
    print(f"{rows / wall / 1e6:.1f} million rows a second; peak memory of the whole process")
    print(f"{peak / 2**20:,.0f} MiB, bar {BARS['peak'] / 2**30:.0f} GiB: {reached}")


def peak_bytes() -> int:
    """Greatest resident memory of this process; the kernel's own mark, as rusage may hold the parent's."""
    marks = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(mark.split()[1]) * 1024 for mark in marks if mark.startswith("VmHWM"))


def machine() -> str:
    """What the numbers were measured on, without names."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if os.name == "posix" else []
    model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "unknown CPU")
    versions = [f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow", "fairlearn")]
    return f"{os.cpu_count()} cores, {model}; Python {platform.python_version()}, {', '.join(versions)}"


def main() -> None:
    """Read the command line and run one mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slices", action="store_true")
    parser.add_argument("--stream", type=int, metavar="ROWS")
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read_stream(given.read)
        return
    if given.count:
        count_stream(given.count)
        return
    print(machine())
    if given.stream:
        stream(given.stream)
    elif given.slices:
        search_slices(min(given.rows, 100_000))
    else:
        compare(given.rows)


if __name__ == "__main__":
    main()
