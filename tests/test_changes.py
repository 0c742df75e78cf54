import io
from dataclasses import replace

import numpy as np
import pytest
from records import HOSTILE
from rich.console import Console
from runs import LIGHT_RUN, answered, made_run, people

from audit.changes import comparison_of, who
from audit.compare import compare
from audit.markdown import comparison_markdown
from audit.policy import Limit, Policy
from audit.record import Baseline, Change, read_record
from audit.render import render_comparison
from audit.stats import measure
from audit.terminal import show_comparison


def change(group, lost, gained, name="accuracy", **more):
    statistics = {"both": 100, "base_only": lost, "new_only": gained, "neither": 0}
    item = measure(
        name, "paired_proportions", statistics, group=group, better="higher", n=100 + lost + gained
    )
    return Change(check="performance.accuracy", measure=item, base=0.9, new=0.7, **more)


def told(record, *changes, paired=True, **facts):
    known = {
        "run": "r",
        "record_sha256": "0" * 64,
        "model": {"file": "old.pt2"},
        "why": "as it is",
        "level": 0.95,
    }
    count = len(changes)
    return replace(
        record, baseline=Baseline(**known, paired=paired, comparisons=count, changes=changes, **facts)
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    data = people(40)
    return made_run(folder, data, answered(data, np.arange(40) % 5 > 0), checks=LIGHT_RUN)


def test_the_surest_loss_is_named_first_and_the_whole_is_not_forgotten(record):
    a = change({"race": "c"}, 20, 0, moved="worse", state="worse")
    b = change({"race": "b"}, 60, 1, moved="worse", state="worse")
    said = comparison_of(told(record, a, b)).said
    assert said[0] == (
        "Worse for 2 groups or classes: race = b (accuracy 0.900 to 0.700); "
        "race = c (accuracy 0.900 to 0.700). "
        "No number of the whole is worse: only these groups show it."
    )
    whole = change({}, 50, 0, moved="worse", state="worse")
    assert comparison_of(told(record, a, whole)).said[0].endswith("The whole is worse too.")
    assert "no group by itself" in comparison_of(told(record, whole)).said[0]
    many = [change({"race": str(k)}, 20, 0, moved="worse", state="worse") for k in range(8)]
    assert "and 3 more" in comparison_of(told(record, *many)).said[0]


def test_nothing_worse_and_nothing_compared_are_two_things(record):
    same = change({}, 3, 3, moved="unchanged", state="unchanged")
    assert comparison_of(told(record, same)).said[0] == "Nothing is worse by more than chance."
    none = change({}, 3, 3, state="added", reason="it is new")
    view = comparison_of(told(record, none, paired=False))
    assert view.said[0] == "Nothing could be compared."
    assert view.said[2] == "Not paired: As it is."
    assert view.tables[-1].rows == (("added", "performance.accuracy", "1", "it is new"),)


def test_differences_that_rest_on_two_records_are_counted(record):
    same = change({}, 3, 3, moved="unchanged")
    alone = replace(same, measure=replace(same.measure, method="two_intervals"))
    said = comparison_of(told(record, same, alone)).said[2]
    assert said == "Paired: As it is. Of all differences, 1 rest on the intervals of the two records alone."


def test_groups_stand_worst_first_and_those_that_did_not_move_are_shown(record):
    changes = [
        change({"race": "a"}, 1, 1, moved="unchanged"),
        change({"race": "b"}, 0, 30, moved="better"),
        change({"race": "c"}, 30, 0, moved="worse"),
        change({"race": "d"}, 5, 5, name="selection_rate", moved="unchanged"),
    ]
    table = comparison_of(told(record, *changes)).tables[0]
    assert [row[0] for row in table.rows] == ["race = c", "race = b", "race = a"]
    assert [row[table.columns.index("verdict")] for row in table.rows] == ["worse", "better", "unchanged"]


def test_who_is_meant_is_said_with_the_setting():
    item = change({"race": "a"}, 1, 0)
    assert who(item) == "race = a"
    attacked = replace(
        item, measure=replace(item.measure, group={}, settings={"epsilon": 0.1, "mean_score": 0.4})
    )
    assert who(attacked) == "everyone (epsilon 0.1)"


def test_limits_on_change_and_verdicts_that_turned_have_their_tables(tmp_path):
    data = people(800)
    right = np.random.default_rng(0).random(800) < 0.9
    lost = right & ~((data.sensitive["race"].codes == 2) & (np.arange(800) % 2 == 0))
    limits = (
        Limit(check="performance.accuracy", measure="accuracy", at_least=0.75, group={"race": "c"}),
        Limit(
            check="performance.accuracy", measure="accuracy", no_worse_than="baseline", group={"race": "c"}
        ),
    )
    for name, answer in (("a", right), ("b", lost)):
        made_run(tmp_path / name, data, answered(data, answer), model=name, policy=Policy(limits=limits))
    view = comparison_of(compare(tmp_path / "a", tmp_path / "b"))
    named = {table.title: table.rows for table in view.tables}
    assert named["Limits on change"][0][:2] == ("FAIL", "performance.accuracy")
    turned = named["Limits broken now and not before, and the other way round"]
    assert ("new", "race = c", "accuracy", "PASS", "FAIL", "performance.accuracy") in turned


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_of_a_record_acts_on_the_reader(record, text):
    item = change({text: text}, 30, 0, moved="worse", state="worse", reason=text)
    other = change({text: text}, 30, 0, name=text or "n", state="not compared", reason=text)
    hostile = replace(told(record, item, other), model={"file": text, "sha256": text})
    hostile = replace(hostile, baseline=replace(hostile.baseline, model={"file": text}, why=text, run=text))
    page = render_comparison(hostile)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    markdown = comparison_markdown(hostile)
    assert "<script>" not in markdown
    assert "<img" not in markdown
    screen = io.StringIO()
    show_comparison(hostile, Console(file=screen, width=160))
    assert not set("\x00\x07\x1b\u202e") & set(page + markdown + screen.getvalue())


def test_a_long_comparison_is_cut_on_the_screen_and_says_so(record):
    many = [change({"race": str(k)}, 20, 0, moved="worse", state="worse") for k in range(60)]
    screen = io.StringIO()
    show_comparison(told(record, *many), Console(file=screen, width=160))
    assert "and 20 more; --output FILE holds them all" in screen.getvalue()


def test_a_record_without_a_baseline_has_nothing_to_say(tmp_path, record):
    with pytest.raises(ValueError, match="no baseline"):
        comparison_of(record)
    data = people(40)
    made_run(tmp_path, data, answered(data, np.arange(40) % 5 > 0), checks=LIGHT_RUN)
    assert read_record(tmp_path).baseline is None
