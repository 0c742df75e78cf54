"""The worker: one process that holds the model and measures the checks it is told to, one at a time.

It speaks JSON lines with its supervisor over its own standard input and output. Whatever libraries print
goes to standard error instead, which the supervisor keeps as `worker.log`. When the supervisor dies, the
input ends and the worker ends with it.
"""

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from audit.check import Check
from audit.config import Config
from audit.errors import AuditError, ConfigError, LoadError
from audit.record import plain


def main() -> None:
    """Load the model and data of the configuration that comes first, then measure until told to stop."""
    answers, words = _take_streams()
    first = words.readline()
    if not first:
        return
    config, folder = Config.taken_over(json.loads(first)), Path(sys.argv[1])
    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(words, orders), daemon=True).start()
    try:
        bench = _load(config, answers, folder)
    except AuditError as error:
        _say(answers, event="error", kind=type(error).__name__, message=str(error))
        return
    except Exception as error:  # noqa: BLE001 - any other failure to load is told in one sentence as well
        traceback.print_exc()
        _say(answers, event="error", kind="LoadError", message=_cannot_load(config, error))
        return
    _serve(orders, answers, bench, folder)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep standard output and input for the supervisor: a check prints to the log and reads nothing."""
    answers, words = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return answers, words


def _listen(words: BinaryIO, orders: "queue.Queue[dict[str, Any]]") -> None:
    for line in words:
        orders.put(json.loads(line))
    os._exit(0)


def _say(answers: BinaryIO, **message: Any) -> None:
    answers.write(json.dumps(plain(message), allow_nan=False).encode() + b"\n")
    answers.flush()


def _load(config: Config, answers: BinaryIO, folder: Path) -> Any:
    from audit.environment import describe_environment
    from audit.load import describe_model
    from audit.measure import set_up
    from audit.read import describe_data
    from audit.registry import installed_products
    from audit.reproducer import wanted

    compute_alike()
    model, data = load_both(config)
    reread = partial(read_more, config, model)
    bench = set_up(model, data, config.seed, installed_products(), config.folder, reread)
    bench = replace(bench, outcomes=config.checks.outcomes)
    if config.checks.reproducers:
        bench = replace(bench, wanted=wanted(config, folder))
    _say(
        answers,
        event="ready",
        model=describe_model(model),
        data=describe_data(data),
        environment=describe_environment(model.device),
        state=bench.state,
        row_seconds=bench.row_seconds,
    )
    return bench


def compute_alike() -> None:
    """Let torch compute the same from run to run, as far as the device has such algorithms."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)


def load_both(config: Config) -> tuple[Any, Any]:
    """The model and the data of a configuration; each may name what the other needs to know."""
    from audit.load import load_model, no_model, read_classes
    from audit.read import load_data

    classes = read_classes(config.model, config.folder)
    data = load_data(
        config.data,
        config.folder,
        classes=classes,
        input_range=config.model.input_range,
        predictions=config.model.predictions,
        threshold=config.model.threshold,
        task=config.model.task,
    )
    if config.model.predictions is not None:
        return no_model(config.model.predictions, data), data
    section = config.model if classes else config.model.model_copy(update={"classes": data.classes})
    return load_model(section, config.folder, data.inputs), data


def read_more(config: Config, model: Any, path: str, where: Mapping[str, Any]) -> Any:
    """Other rows, read by the reader and the encoder of `[data]`, without the sensitive features.

    Args:
        config: whose `[data]` says how.
        model: the loaded model.
        path: another file, relative to audit.toml; empty for the same one.
        where: the values that rows must have; it takes the place of that of `[data]`, and so do all rows
            that of its sample.
    """
    from audit.read import load_data

    bare = {"sensitive": (), "control": (), "bins": {}, "stream": False, "rows": None}
    file = {"path": Path(path)} if path else {}
    section = config.data.model_copy(update={**bare, **file, "where": dict(where)})
    limits = {"classes": model.classes, "input_range": config.model.input_range, "task": config.model.task}
    return load_data(section, config.folder, **limits)


def _cannot_load(config: Config, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    files = " with ".join(str(path) for path in (config.model.path, config.data.path) if path is not None)
    return (
        f"{files} could not be loaded: {type(error).__name__}: {text}; "
        "the run folder's worker.log holds the details."
    )


def _serve(orders: "queue.Queue[dict[str, Any]]", answers: BinaryIO, bench: Any, folder: Path) -> None:
    from audit.measure import is_untouched, measure
    from audit.registry import installed_checks

    checks = installed_checks()
    while True:
        order = orders.get()
        item = checks[order["check"]]
        if not isinstance(item, Check):
            raise TypeError(item.reason)
        finding = measure(item, order["settings"], bench, folder)
        halvings = bench.model.passes.halvings
        _say(answers, event="finding", finding=finding, halvings=halvings, changed=not is_untouched(bench))


_ERRORS: dict[str, type[AuditError]] = {"ConfigError": ConfigError, "LoadError": LoadError}


def error_from(message: dict[str, Any]) -> AuditError:
    """The error that an `error` message of a worker tells of."""
    return _ERRORS.get(message["kind"], LoadError)(message["message"])


if __name__ == "__main__":
    main()
