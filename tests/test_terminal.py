"""What a person reads: on a terminal a bar and colours, elsewhere plain lines that can be searched."""

import io
from dataclasses import replace

from rich.console import Console

from audit.budget import Expected
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import SCHEMA, Cost, Finding, LeftOut, Outcome, Planned, Record
from audit.stats import proportion
from audit.terminal import Watch, show_list, show_outcome, show_overall


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


DEAR = LeftOut(check="a.d", reason="it should take 2 h, and 9 min of the budget were left")
OUT = LeftOut(check="a.c", reason="the profile quick leaves it out: [it] is dear")


def test_a_budget_is_told_before_anything_is_measured():
    out, stream = screen(terminal=False)
    with Watch(out) as watch:
        watch("plan", {"checks": ["a.a", "a.b", "a.d"], "done": [], "left_out": (OUT,), "profile": "quick"})
        watch(
            "budget",
            {
                "seconds": 600, "spent_before": 2.5, "planned_seconds": 35.2, "plan": ["a.a", "a.b"],
                "left_out": [DEAR],
                "source": "the run runs/[x]",
                "expected": [Expected(check="a.a", seconds=0.2, source=""),
                             Expected(check="a.b", seconds=35, source="")],
            },
        )  # fmt: skip
        watch("left_out", {"left_out": LeftOut(check="a.b", reason="the budget of 10 min was spent")})
    assert stream.getvalue().splitlines() == [
        "3 checks planned under the profile quick, 0 already measured, 1 left out",
        "budget 10 min, 2.5 s spent on loading: 2 checks should take 35 s, 1 do not fit; by the run runs/[x]",
        "  about      0.2 s  a.a",
        "  about       35 s  a.b",
        "  left out          a.d: it should take 2 h, and 9 min of the budget were left",
        "  left out          a.b: the budget of 10 min was spent",
    ]


def test_what_was_left_out_is_listed_as_not_tested():
    out, stream = screen(terminal=False)
    held = record(finding(measures=(proportion("accuracy", 95, 100),)))
    show_outcome(replace(held, left_out=(OUT,)), out)
    (line,) = [text for text in stream.getvalue().splitlines() if "a.c" in text]
    assert OUT.reason in line
    assert "not tested" in stream.getvalue()
    out, stream = screen(terminal=False)
    show_outcome(held, out)
    assert "not tested" not in stream.getvalue()


def test_several_models_get_a_line_each_and_one_for_all():
    out, stream = screen(terminal=False)
    show_overall([("a", "PASS", "out/a"), ("b[c]", "FAIL", "out/b"), ("d", "", "it is gone")], 1, out)
    lines = [text.split() for text in stream.getvalue().splitlines() if text]
    assert lines[1:4] == [
        ["●", "a", "PASS", "out/a"],
        ["◆", "b[c]", "FAIL", "out/b"],
        ["✖", "d", "no", "verdict", "it", "is", "gone"],
    ]
    assert " ".join(lines[4]) == "1 of 3 models PASS; exit code 1"
