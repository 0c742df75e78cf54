"""Audit a saved neural network: measure, judge, render.

The names below are the whole public surface. Those that need torch are imported when they are first used,
so that a record can be judged and rendered on a machine without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from audit.check import Check, check
from audit.compare import compare
from audit.errors import AuditError, CheckError, ConfigError, LoadError, NotApplicable, NotEvaluable
from audit.evidence import Evidence, Figure, Measure, Table
from audit.judge import judge
from audit.policy import Judgement, Limit, Policy, Verdict
from audit.record import Finding, Record, read_record
from audit.render import render
from audit.stats import mean, proportion
from audit.verify import verify

if TYPE_CHECKING:
    from audit.dataset import Dataset
    from audit.model import Model, log_odds
    from audit.products.predictions import Predictions
    from audit.run import audit, load_data, load_model

_LATE = {
    "Dataset": "audit.dataset",
    "Model": "audit.model",
    "Predictions": "audit.products.predictions",
    "log_odds": "audit.model",
    "audit": "audit.run",
    "load_data": "audit.run",
    "load_model": "audit.run",
}


def __getattr__(name: str) -> Any:
    """Import a late name when it is first asked for."""
    if name not in _LATE:
        raise AttributeError(f"module 'audit' has no attribute '{name}'")
    value = getattr(import_module(_LATE[name]), name)
    globals()[name] = value
    return value


__all__ = [
    "AuditError",
    "Check",
    "CheckError",
    "ConfigError",
    "Dataset",
    "Evidence",
    "Figure",
    "Finding",
    "Judgement",
    "Limit",
    "LoadError",
    "Measure",
    "Model",
    "NotApplicable",
    "NotEvaluable",
    "Policy",
    "Predictions",
    "Record",
    "Table",
    "Verdict",
    "audit",
    "check",
    "compare",
    "judge",
    "load_data",
    "load_model",
    "log_odds",
    "mean",
    "proportion",
    "read_record",
    "render",
    "verify",
]
