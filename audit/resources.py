"""Where the shipped documents and templates live, in a wheel and in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE if (_PACKAGE / "templates").is_dir() else _PACKAGE.parent

REPORTS = _ROOT / "reports"
TEMPLATES = _ROOT / "templates"
