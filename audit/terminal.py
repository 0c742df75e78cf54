"""Terminal: what a person sees while a run goes on and when it has ended."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from audit.policy import Verdict
from audit.record import Finding, Record

_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.BROKEN: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_EVALUABLE: "yellow",
    Verdict.NOT_APPLICABLE: "dim",
    Verdict.NOT_JUDGED: "dim",
}
_MARKS = {
    Verdict.PASS: "●",
    Verdict.FAIL: "◆",
    Verdict.BROKEN: "✖",
    Verdict.INCONCLUSIVE: "○",
    Verdict.NOT_EVALUABLE: "-",
    Verdict.NOT_APPLICABLE: "·",
    Verdict.NOT_JUDGED: "·",
}
_SHOWN_REASONS = 12


class Watch:
    """Shows a run as it goes: a progress bar on a terminal, one plain line an event elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = 0
        self._done = 0
        self._progress: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(),
            )  # fmt: skip
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task("loading the model", total=None)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take note of one event of the supervisor."""
        if event == "plan":
            self._total, self._done = len(fields["checks"]), len(fields["done"])
            self._line(f"{self._total} checks planned, {self._done} already measured")
        elif event == "ready":
            model, data = fields["model"], fields["data"]
            self._line(
                f"loaded {escape(str(model.get('file', 'model')))} on {model.get('device')}, "
                f"{data.get('rows')} rows"
            )
        elif event == "start":
            self._describe(str(fields["check"]))
        elif event == "died":
            self._line(f"[bold red]{fields['check']}: {escape(str(fields['reason']))}[/]")
        elif event == "finding":
            self._finding(fields["finding"])

    def _describe(self, check: str) -> None:
        if self._progress:
            self._progress.update(self._task, description=check, total=self._total, completed=self._done)

    def _finding(self, finding: Finding) -> None:
        self._done += 1
        seconds = f"{finding.cost.seconds:6.1f} s" if finding.status == "measured" else "        "
        text = f"{seconds}  {finding.check}"
        if finding.status != "measured":
            text += f"  {finding.status.replace('_', ' ')}: {escape(finding.reason)}"
        self._line(text)

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def console(*, error: bool = False) -> Console:
    """A console that writes plain lines where nobody watches; wide enough not to break them."""
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 160)


def show_outcome(record: Record, out: Console) -> None:
    """The verdict, what each check said, and why."""
    rows = [row for finding in record.findings for row in _rows(finding)]
    out.print()
    _show_rows(rows, ("", "check", "verdict", "what was held against the limit"), out)
    outcome = record.verdict
    style = _STYLES[outcome.verdict]
    waived = f"{outcome.waived} broken limits waived; " if outcome.waived else ""
    out.print()
    out.print(
        f"[{style}]{_MARKS[outcome.verdict]} {outcome.verdict.value}[/]  "
        f"{outcome.measured} of {outcome.planned} planned checks measured; {waived}"
        f"exit code {outcome.exit_code}",
        highlight=False,
    )
    for reason in outcome.reasons[:_SHOWN_REASONS]:
        out.print(f"  {escape(reason)}", highlight=False, soft_wrap=True)
    if len(outcome.reasons) > _SHOWN_REASONS:
        out.print(f"  and {len(outcome.reasons) - _SHOWN_REASONS} more; the report lists them all")


def _rows(finding: Finding) -> list[tuple[str, str, str, str]]:
    if not finding.verdicts:
        verdict = finding.verdict
        said = finding.reason or "measured; no limit asks anything of it"
        return [(_MARKS[verdict], finding.check, f"[{_STYLES[verdict]}]{verdict.value}[/]", escape(said))]
    rows = []
    for item in finding.verdicts:
        whom = ", ".join(item.group.values())
        value = (
            ""
            if item.verdict is Verdict.NOT_EVALUABLE
            or item.value is None
            or item.low is None
            or item.high is None
            else (f"{item.value:.3f} [{item.low:.3f}, {item.high:.3f}]")
        )
        said = (item.limit, whom, value or item.reason, item.waived)
        text = escape("  ".join(part for part in said if part))
        label = f"[{_STYLES[item.verdict]}]{item.verdict.value}{', waived' if item.waived else ''}[/]"
        rows.append((_MARKS[item.verdict], finding.check, label, text))
    return rows


def show_list(rows: Sequence[Sequence[str]], headings: Sequence[str], out: Console) -> None:
    """A plain table of texts."""
    _show_rows([tuple(escape(cell) for cell in row) for row in rows], headings, out)


def _show_rows(rows: Sequence[Sequence[str]], headings: Sequence[str], out: Console) -> None:
    """A table that folds to the width of a terminal; elsewhere one row a line, however long."""
    if out.is_terminal:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*row)
        out.print(table)
        return
    texts = [list(headings), *([Text.from_markup(cell).plain for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings) - 1)]
    for row in texts:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        out.print("  ".join(cells).rstrip(), markup=False, highlight=False, soft_wrap=True)
