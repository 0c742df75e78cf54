"""Placeholder until the real module lands."""


def render(record, document="technical-report", *, artifacts=None):
    return ""
