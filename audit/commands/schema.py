"""`model-audit schema`: the JSON schema of record.json."""

from audit.commands.options import print_json
from audit.errors import EXIT_OK


def schema() -> int:
    """Print the JSON schema of record.json."""
    from audit.record import json_schema

    print_json(json_schema())
    return EXIT_OK
