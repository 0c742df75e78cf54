"""The console script: it starts this tool's package, whatever else is called `audit` on the path.

It is installed as a top-level module of its own, as the pytest plugin is: with PYTHONPATH naming a repository
that has a package of that name, `import audit` would find theirs.
"""

import importlib
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_HOMES = (_HERE, _HERE.parent.parent)  # beside the package where it is installed, inside it in a checkout


def main() -> None:
    """Run `model-audit`."""
    root = next((home for home in _HOMES if (home / "audit" / "registry.py").is_file()), _HERE)
    sys.path.insert(0, str(root))
    try:
        importlib.import_module("audit")
    finally:
        sys.path.remove(str(root))
    importlib.import_module("audit.cli").main()
