"""`model-audit judge`: hold a record against a policy again."""

from pathlib import Path
from typing import Annotated

import typer

from audit.commands.options import Json, Run, print_json
from audit.commands.writing import write_file


def judge(
    run: Run,
    policy: Annotated[Path | None, typer.Option(help="A TOML file with a [policy] section.")] = None,
    waivers: Annotated[
        Path | None, typer.Option(help="A waivers.toml; the record's own waivers by default, as of today.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier run that limits on change are held against.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the judged record here.")] = None,
    as_json: Json = False,
) -> int:
    """Judge a record again, under its own or another policy: no model, no data, no torch."""
    from audit.compare import compare
    from audit.config import read_policy
    from audit.judge import judge as judge_again
    from audit.record import canonical, plain, read_record
    from audit.terminal import console, show_outcome
    from audit.waiver import read_waivers, waived_today

    measured = read_record(run)
    given = read_waivers(waivers) if waivers else measured.waivers.given
    asked, held = read_policy(policy) if policy else None, waived_today(given)
    record = compare(baseline, run, asked, held) if baseline else judge_again(measured, asked, held)
    if output is not None:
        write_file(output, canonical(record))
    if as_json:
        print_json(plain(record.verdict))
    else:
        show_outcome(record, console())
    return record.verdict.exit_code
