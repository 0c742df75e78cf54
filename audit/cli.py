"""The command line: parse, call, print. Every failure becomes one sentence and an exit code.

Exit codes: 0 every limit held; 1 a limit was broken; 2 the audit cannot say yes; 3 the configuration or
the command line is wrong; 4 the model or the data could not be loaded.
"""

import os
import sys

import typer

from audit.commands.attest import attest
from audit.commands.checks import checks
from audit.commands.compare import compare
from audit.commands.demo import demo
from audit.commands.documents import documents
from audit.commands.fingerprint import fingerprint
from audit.commands.init import init
from audit.commands.judge import judge
from audit.commands.keygen import keygen
from audit.commands.options import complain
from audit.commands.render import render
from audit.commands.replay import replay
from audit.commands.reproduce import reproduce
from audit.commands.run import run
from audit.commands.schema import schema
from audit.commands.sign import sign
from audit.commands.verify import verify
from audit.commands.waive import waive
from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_CONFIG, EXIT_OK, AuditError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Audit a saved neural network: interpretability, fairness and robustness, judged and documented. "
    "`--debug`, anywhere, shows where an error came from.",
)

# typer carries click inside or beside itself, by version; its public BadParameter leads to the class.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_GATES = frozenset({"run", "judge", "compare", "verify", "reproduce", "replay", "demo"})
_EXAMPLES = (
    (demo, "model-audit demo my-demo"),
    (init, "model-audit init model.pt2 test.csv --target income --sensitive sex,race"),
    (run, "model-audit run audit.toml --out runs/today"),
    (fingerprint, "model-audit fingerprint audit.toml"),
    (checks, "model-audit checks robustness.pgd"),
    (documents, "model-audit documents"),
    (judge, "model-audit judge runs/today --policy strict.toml"),
    (compare, "model-audit compare runs/old runs/new --output comparison.html"),
    (waive, "model-audit waive runs/today 4f1d2c9a80b37e65 --owner Ann --reason later --expires 2027-01-31"),
    (render, "model-audit render runs/today --document technical-report"),
    (attest, "model-audit attest runs/today --document eu-ai-act-annex-iv"),
    (keygen, "model-audit keygen --out audit.key"),
    (sign, "model-audit sign runs/today --key audit.key"),
    (verify, "model-audit verify runs/today --key audit.pub"),
    (reproduce, "model-audit reproduce runs/today --out runs/again"),
    (replay, "model-audit replay runs/today/artifacts/980f5d885a66fcc9 --model fixed.pt2"),
    (schema, "model-audit schema > record.schema.json"),
)
for _command, _example in _EXAMPLES:
    app.command(epilog=f"Example: `{_example}`")(_command)


def main() -> None:
    """Run the command line and exit with the code that design and documentation promise."""
    debug = "--debug" in sys.argv
    arguments = [item for item in sys.argv[1:] if item != "--debug"] or ["--help"]
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="model-audit", standalone_mode=False)
    except AuditError as error:
        if debug:
            raise
        complain(str(error))
        code = error.exit_code
    except _UsageError as error:
        complain(str(error))
        code = EXIT_CONFIG
    except (typer.Abort, KeyboardInterrupt):
        complain("interrupted.")
        code = EXIT_CANNOT_SAY_YES
    except (Exception, SystemExit) as error:
        if debug:
            raise
        code = _unforeseen(error, arguments[0])
    sys.exit(code or EXIT_OK)


def _unforeseen(error: BaseException, command: str) -> int:
    """The exit code of what nobody expected; a reader such as `head` that has seen enough is no fault.

    It stands before the answer of a command that gates, though, so such a command must not say yes.
    """
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_CANNOT_SAY_YES if command in _GATES else EXIT_OK
    complain(f"a fault of this tool or of a plugin: {type(error).__name__}: {error}; --debug shows where.")
    return EXIT_CANNOT_SAY_YES
