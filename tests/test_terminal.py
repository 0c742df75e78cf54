"""What a person reads: on a terminal a bar and colours, elsewhere plain lines that can be searched."""

import io
from dataclasses import replace

from rich.console import Console

from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import SCHEMA, Cost, Finding, Outcome, Planned, Record
from audit.stats import proportion
from audit.terminal import Watch, show_list, show_outcome


def screen(*, terminal):
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=100), stream


def finding(**fields):
    filled = {"check": "performance.accuracy", "version": "1", "title": "t", "status": "measured", **fields}
    return Finding(**filled)


def record(*findings):
    limit = Limit(check="performance.accuracy", measure="accuracy", at_least=0.8)
    return judge(
        Record(
            schema=SCHEMA, tool={}, run={}, environment={}, model={}, data={}, policy=Policy(limits=(limit,)),
            plan=tuple(Planned(check=f.check, asked="name") for f in findings), findings=findings,
            verdict=Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2),
        )
    )  # fmt: skip


def events(watch):
    watch("plan", {"checks": ["performance.accuracy"], "done": []})
    watch("ready", {"model": {"file": "[m].pt2", "device": "cpu"}, "data": {"rows": 9}})
    watch("start", {"check": "performance.accuracy"})
    watch("finding", {"finding": finding(cost=Cost(seconds=1.25))})
    watch("died", {"check": "x", "reason": "was killed by SIGKILL"})
    watch("finding", {"finding": finding(check="x", status="broken", reason="a [bold] reason")})


def test_plain_lines_where_nobody_watches():
    out, stream = screen(terminal=False)
    with Watch(out) as watch:
        events(watch)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "1 checks planned, 0 already measured",
        "loaded [m].pt2 on cpu, 9 rows",
        "   1.2 s  performance.accuracy",
        "x: was killed by SIGKILL",
        "          x  broken: a [bold] reason",
    ]


def test_a_bar_on_a_terminal():
    out, stream = screen(terminal=True)
    with Watch(out) as watch:
        events(watch)
    assert "\x1b" in stream.getvalue()
    assert "━" in stream.getvalue()
    assert "performance.accuracy" in stream.getvalue()


def test_the_outcome_is_told_by_word_and_shape():
    for x, word, mark in ((95, "PASS", "●"), (10, "FAIL", "◆"), (81, "INCONCLUSIVE", "○")):
        out, stream = screen(terminal=False)
        show_outcome(record(finding(measures=(proportion("accuracy", x, 100),))), out)
        assert f"{mark} {word}" in stream.getvalue()
        assert "1 of 1 planned checks measured" in stream.getvalue()


def test_a_number_of_too_few_rows_is_told_by_its_reason():
    out, stream = screen(terminal=False)
    show_outcome(record(finding(measures=(proportion("accuracy", 4, 4, too_few="4 of 4 rows: few"),))), out)
    (line,) = [text for text in stream.getvalue().splitlines() if "accuracy at least 0.8  " in text]
    assert "NOT_EVALUABLE" in line
    assert "4 of 4 rows: few" in line


def test_hostile_texts_are_neither_markup_nor_lost():
    out, stream = screen(terminal=False)
    broken = finding(status="broken", reason="[red]not a colour[/red]")
    show_outcome(record(broken), out)
    assert "[red]not a colour[/red]" in stream.getvalue()
    show_list([("[b]name[/b]", "text")], ("a", "b"), out)
    assert "[b]name[/b]" in stream.getvalue()


def test_many_reasons_are_cut_and_the_cut_is_told():
    many = [finding(check=f"c.{i}", status="broken", reason=f"reason {i}") for i in range(40)]
    out, stream = screen(terminal=False)
    show_outcome(replace(record(*many)), out)
    assert "more; the report lists them all" in stream.getvalue()
