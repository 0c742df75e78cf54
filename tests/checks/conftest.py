"""Whatever a check measures in any test of checks must be a measure that it declares."""

import sys

import pytest

from audit.check import Check
from audit.evidence import Evidence
from audit.registry import installed_checks


def undeclared(measured, frame, checks):
    """What the innermost check that is at work measured and did not declare; `checks` by code object."""
    while frame is not None and frame.f_code not in checks:
        frame = frame.f_back
    if frame is None:
        return []
    item = checks[frame.f_code]
    return sorted({f"{item.name}: {m.name}" for m in measured if m.name not in item.measures})


@pytest.fixture(autouse=True)
def _declared(monkeypatch):
    checks = {c.measure.__code__: c for c in installed_checks().values() if isinstance(c, Check)}
    plain, found = Evidence.__init__, []

    def watched(self, *given, **named):
        plain(self, *given, **named)
        found.extend(undeclared(self.measures, sys._getframe(1), checks))

    monkeypatch.setattr(Evidence, "__init__", watched)
    yield
    assert found == [], "measured and not declared in @check(..., measures=...)"
