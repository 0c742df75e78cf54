"""What can go wrong before a number is measured, as one tree.

AuditError                    every error that is told to the user as one sentence
├── ConfigError     exit 3    audit.toml, the command line or a document definition is wrong
├── LoadError       exit 4    the model or the data cannot be loaded
└── CheckError      -         raised inside a check; becomes a finding, never a crash
    ├── NotApplicable         the check does not fit this model or data
    └── NotEvaluable          the check fits, but the data cannot answer (0/0, no rows)

A message names the value, where it stands (file, line or key) and what would be right.
"""

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK = 0
EXIT_LIMIT_BROKEN = 1
EXIT_CANNOT_SAY_YES = 2
EXIT_CONFIG = 3
EXIT_LOAD = 4


class AuditError(Exception):
    """Base of every error told to the user as one sentence."""

    exit_code = EXIT_CANNOT_SAY_YES


class ConfigError(AuditError):
    """The configuration, the command line or a document definition is wrong."""

    exit_code = EXIT_CONFIG


class LoadError(AuditError):
    """The model or the data could not be loaded."""

    exit_code = EXIT_LOAD


class CheckError(AuditError):
    """Raised inside a check; turned into a finding by the run."""


class NotApplicable(CheckError):  # noqa: N818 - named after the status it leads to
    """The check does not fit this model or this data; the message says why."""


class NotEvaluable(CheckError):  # noqa: N818 - named after the status it leads to
    """The check fits, but this data cannot answer it; the message says why, with counts."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The middle of a sentence that names what was probably meant, or else the known words."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"; the nearest is '{close[0]}'"
    return f"; known are {', '.join(names)}" if names else ""
