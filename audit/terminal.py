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

from audit.budget import told
from audit.changes import comparison_of
from audit.policy import Verdict
from audit.profile import STANDARD
from audit.record import Finding, LeftOut, Record
from audit.wording import visible

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
_SHOWN_CHANGES = 40


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
            self._plan(fields)
        elif event == "ready":
            model, data = fields["model"], fields["data"]
            self._line(
                f"loaded {escape(str(model.get('file', 'model')))} on {model.get('device')}, "
                f"{data.get('rows')} rows"
            )
        elif event == "budget":
            self._budget(fields)
        elif event == "left_out":
            self._total -= 1
            self._left_out([fields["left_out"]])
        elif event == "start":
            self._describe(str(fields["check"]))
        elif event == "died":
            self._line(f"[bold red]{fields['check']}: {escape(str(fields['reason']))}[/]")
        elif event == "finding":
            self._finding(fields["finding"])

    def _plan(self, fields: Mapping[str, Any]) -> None:
        self._total, self._done = len(fields["checks"]), len(fields["done"])
        left_out, profile = len(fields.get("left_out", ())), fields.get("profile", STANDARD)
        more = f", {left_out} left out" if left_out else ""
        under = f" under the profile {profile}" if profile != STANDARD else ""
        self._line(f"{self._total} checks planned{under}, {self._done} already measured{more}")

    def _budget(self, fields: Mapping[str, Any]) -> None:
        """What will be run and how long it should take, before anything is measured."""
        self._total = self._done + len(fields["plan"])
        spent, left_out = fields["spent_before"], fields["left_out"]
        self._line(
            f"budget {told(fields['seconds'])}, {told(spent)} spent on loading: {len(fields['plan'])} checks "
            f"should take {told(fields['planned_seconds'])}, {len(left_out)} do not fit; by "
            f"{escape(fields['source'])}"
        )
        for item in fields["expected"]:
            self._line(f"  about {told(item.seconds):>10}  {item.check}")
        self._left_out(left_out)

    def _left_out(self, items: Sequence[LeftOut]) -> None:
        for item in items:
            self._line(f"  left out          {item.check}: {escape(item.reason)}")

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
    if record.left_out:
        out.print()
        absent = [(_MARKS[Verdict.NOT_JUDGED], item.check, escape(item.reason)) for item in record.left_out]
        _show_rows(absent, ("", "not tested", "why"), out)
    outcome = record.verdict
    style = _STYLES[outcome.verdict]
    limits = "1 broken limit" if outcome.waived == 1 else f"{outcome.waived} broken limits"
    waived = f"{limits} waived; " if outcome.waived else ""
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


def show_comparison(record: Record, out: Console) -> None:
    """What changed between a record and its baseline: who got worse first."""
    told = comparison_of(record)
    for text in (told.title, *told.said):
        out.print(escape(visible(text)), highlight=False, soft_wrap=True)
    for table in told.tables:
        if table.rows:
            out.print(f"\n[bold]{escape(table.title)}[/]", highlight=False)
            rows = [[visible(cell) for cell in row] for row in table.rows[:_SHOWN_CHANGES]]
            show_list(rows, table.columns, out)
            if len(table.rows) > _SHOWN_CHANGES:
                out.print(f"  and {len(table.rows) - _SHOWN_CHANGES} more; --output FILE holds them all")
        elif table.empty:
            out.print(f"\n{escape(table.empty)}", highlight=False)


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
        parts = (item.limit, whom, value or item.reason, item.waived)
        text = escape("  ".join(part for part in parts if part))
        label = f"[{_STYLES[item.verdict]}]{item.verdict.value}{', waived' if item.waived else ''}[/]"
        rows.append((_MARKS[item.verdict], finding.check, label, text))
    return rows


def show_overall(results: Sequence[tuple[str, str, str]], code: int, out: Console) -> None:
    """One line for each model of several, and one for them all.

    Args:
        results: name, verdict (empty where there is none) and what is said of each.
        code: the exit code of all.
        out: where to.
    """
    out.print()
    rows = []
    for name, given, said in results:
        verdict = Verdict(given) if given else Verdict.BROKEN
        label = f"[{_STYLES[verdict]}]{given or 'no verdict'}[/]"
        rows.append((_MARKS[verdict], escape(name), label, escape(said)))
    _show_rows(rows, ("", "model", "verdict", "run"), out)
    held = sum(given == Verdict.PASS for _, given, _ in results)
    out.print(f"{held} of {len(results)} models PASS; exit code {code}", highlight=False)


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
