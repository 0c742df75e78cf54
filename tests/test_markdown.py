"""The Markdown says what the page says, and no text of a record becomes anything but text in it."""

import json
import math
import os
import re
import runpy
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import records
from markdown_it import MarkdownIt

from audit.attestation import Attestation
from audit.document import installed_documents
from audit.evidence import Measure
from audit.judge import judge
from audit.markdown import markdown, safe
from audit.policy import Limit, Policy
from audit.record import Finding, Record, read_record, write_record
from audit.stats import proportion

GOLDEN = Path(__file__).parent / "golden"
BUILD = runpy.run_path(str(GOLDEN / "builder.py"))["build"]
PACK = GOLDEN / "test-pack.toml"
HOSTILE = (
    "<script>alert(1)</script>",
    "| cell | `code` | <br> \\| \\",
    "# head\n## head\n\n- item\n---\n> quote",
    "[here](javascript:alert(1)) ![x](http://127.0.0.1/x.png) <http://127.0.0.1>",
    "@maintainers #12 GH-12 owner/repo#3 https://example.org www.example.org a@example.org",
    "$$x$$ ~~gone~~ **bold** _low_ &lt;b&gt; &#64;all",
    "1. one",
    "- one",
    "---\ntags: [evil]\n---",
    '"quoted": yes',
    "abc\u202edcba\u2066 nul\x00 \ud800",
    "```\nfence\n```",
    "y" * 10_000,
)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("run")
    write_record(BUILD(folder), folder)
    return read_record(folder)


def shown(text: str) -> list[tuple[str, str]]:
    """What a reader of Markdown makes of a text: each part's kind and its content."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    found: list[tuple[str, str]] = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(body):
        found += [(item.type, item.content) for item in (token, *(token.children or ()))]
    return found


def kinds(text: str) -> list[str]:
    return [kind for kind, _ in shown(text) if kind not in ("text", "html_inline", "text_special")]


def bare(text: str) -> str:
    """Without the fingerprint of the record, which hangs on the versions of libraries."""
    return re.sub(r"sha256 [0-9a-f]{64}", "sha256 0", text)


@pytest.mark.parametrize("name", ["technical-report", "model-card"])
def test_the_markdown_is_the_golden_one(name: str, record: Record) -> None:
    """After a wanted change: UPDATE_GOLDEN=1, read the file, and commit it."""
    text, golden = bare(markdown(record, name)), GOLDEN / f"{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert markdown(record, name) == markdown(record, name)


def test_every_comparison_stands_in_the_table_of_limits(record: Record) -> None:
    text = markdown(record)
    start = text.index("## Limits")
    rows = [line for line in text[start : text.index("## What was not")].splitlines() if line.startswith("|")]
    wanted = [item for finding in record.findings for item in finding.verdicts]
    assert len(rows) == 2 + len(wanted)
    assert all(line.count("|") == 7 for line in rows)
    for item in wanted:
        value = "–" if item.value is None else f"{item.value:.3f}"
        assert any(item.verdict.replace("_", " ") in row and f" {value} |" in row for row in rows[2:])
    assert rows[2].startswith("| **FAIL** |"), "the gravest first"


def test_what_was_not_tested_is_not_kept_back(record: Record) -> None:
    text = markdown(record)
    for said in ("robustness.autoattack: it was asked for", "ended by signal 9", "no group has 20",
                 "it fits tabular rows", "do not prove that no attack succeeds"):  # fmt: skip
        assert said in text


@pytest.mark.parametrize("name", [*installed_documents(), str(PACK)])
def test_every_document_is_short_enough_for_a_comment_and_well_formed(name: str, record: Record) -> None:
    text = markdown(record, name)
    assert len(text) < 65_536
    found = kinds(text)
    assert found.count("heading_open") == len(re.findall(r"^#{1,3} ", text, re.MULTILINE))
    assert "link_open" not in found
    assert markdown(records.empty(), name).startswith(("# ", "---\ntags:"))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:16]))
def test_a_text_stays_a_text(text: str) -> None:
    """What a reader sees of `safe` is the text; it is one paragraph, or one cell, and nothing else."""
    whole = safe(text, 20_000)
    for around, wanted in ((whole, ["paragraph_open", "inline", "paragraph_close"]), (f"- {whole}", None)):
        found = shown(around)
        tags = {content for kind, content in found if kind == "html_inline"}
        assert tags <= {"<!-- -->"}
        assert not {"html_block", "code_inline", "fence", "link_open", "image", "em_open", "strong_open",
                    "s_open", "hr", "heading_open"} & {kind for kind, _ in found}  # fmt: skip
        assert wanted is None or kinds(around) == wanted
        assert kinds(around).count("list_item_open") == (0 if wanted else 1)
    cells = shown(f"| a | b |\n| --- | --- |\n| {whole} | end |\n")
    assert [kind for kind, _ in cells].count("td_open") == 2
    if text.isprintable():
        seen = "".join(content for kind, content in shown(whole) if kind in ("text", "text_special"))
        assert seen == " ".join(text.split())


def test_nothing_that_a_hub_joins_is_left_joined() -> None:
    told = safe("@all #12 GH-3 https://example.org www.example.org a@b.org user/repo#4 x$y$", 500)
    assert "$" not in told, "no mark of mathematics"
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.", unescape(told), re.IGNORECASE)


@pytest.mark.parametrize("document", ["technical-report", "model-card"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:16]))
def test_a_hostile_record_is_built_like_a_plain_one(text: str, document: str) -> None:
    plain, said = (markdown(records.hostile(value), document) for value in ("plain", text))
    wanted, found = kinds(plain), kinds(said)
    assert [kind for kind in found if "softbreak" not in kind] == wanted
    assert {c for kind, c in shown(said) if kind == "html_inline"} <= {"<!-- -->", "<br>"}
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", said)
    assert len(said) < 65_536


def test_hostile_statements_stay_text(record: Record) -> None:
    for text in HOSTILE:
        stated = Attestation(
            document="test-pack", clause="1(a)", text=text, name=text, role=text, date=date(2026, 11, 20)
        )
        plain = replace(stated, text="x", name="x", role="x")
        assert kinds(markdown(record, PACK, attestations=[stated])) == kinds(
            markdown(record, PACK, attestations=[plain])
        )


def metadata(text: str) -> list[dict[str, Any]]:
    """The metrics in the front matter, read line by line: each value is JSON."""
    front = re.match(r"\A---\n(.*?)\n---\n", text, re.DOTALL)
    assert front is not None
    metrics: list[dict[str, Any]] = []
    for line in front[1].split("    metrics:\n")[1].splitlines():
        key, _, value = line.strip(" -").partition(": ")
        if key == "type":
            metrics.append({})
        if value:
            metrics[-1][key] = json.loads(value)
    return metrics


def test_the_model_card_begins_with_what_a_hub_reads(record: Record) -> None:
    text = markdown(record, "model-card")
    assert text.startswith("---\ntags:\n- model-audit\npipeline_tag: image-classification\nmodel-index:\n")
    first, *others = metadata(text)
    assert first["value"] == 1104 / 1320
    assert (first["type"], first["verified"], first["n"]) == ("accuracy", False, 1320)
    assert first["low"] < first["value"] < first["high"]
    names = {item["name"] for item in others}
    assert "Robust accuracy, epsilon 0.0314" in names
    assert not any("calibration_gap" in item["type"] for item in others), "undefined is not a number"
    assert not markdown(record).startswith("---"), "only the card has metadata"


def test_numbers_of_groups_and_of_too_few_rows_do_not_speak_for_the_model() -> None:
    measures = [
        proportion("accuracy", 3, 4, too_few="it is 3 of 4 rows"),
        proportion("accuracy", 30, 40, group={"sex": "x"}),
        Measure(name="auc", value=None, reason="one class"),
        Measure(name="tiny", value=1e-05, n=10),
    ]
    finding = Finding(
        check="performance.accuracy", version="1", title="A", status="measured", measures=measures
    )
    record = replace(records.empty(), findings=[finding], policy=Policy(limits=(
        Limit(check="performance.accuracy", measure="tiny", at_least=0.0),)))  # fmt: skip
    text = markdown(judge(record), "model-card")
    assert [item["name"] for item in metadata(text)] == ["Tiny"]
    assert "value: 1.0e-05" in text, "YAML 1.1 reads 1e-05 as a text"


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:16]))
def test_a_hostile_name_stays_one_value_of_the_metadata(text: str) -> None:
    finding = Finding(
        check="performance.accuracy", version="1", title="A", status="measured",
        measures=[proportion(text, 3, 4, settings={text: text})],
    )  # fmt: skip
    record = replace(
        records.empty(), findings=[finding], model={"path": text}, data={"path": text}, system={"name": text}
    )
    metrics = metadata(markdown(record, "model-card"))
    assert len(metrics) == 1
    assert metrics[0]["value"] == 0.75


def test_a_verdict_that_was_written_over_is_told(record: Record) -> None:
    altered = replace(record, verdict=replace(record.verdict, verdict="PASS", exit_code=0))
    text = markdown(altered)
    assert "do not follow from its numbers" in text
    assert "**FAIL.**" in text


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_the_metadata_hold_no_value_that_is_no_number(value):
    item = Measure(name="recall", value=value, reason="no one was positive")
    sound = proportion("accuracy", 9, 10)
    finding = Finding(
        check="performance.accuracy", version="1", title="t", status="measured", measures=(item, sound)
    )
    front = markdown(records.made((finding,)), "model-card").split("---")[1]
    assert "accuracy" in front
    assert "recall" not in front
