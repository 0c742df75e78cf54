"""Records to be written in every format: the golden one, an empty one, hostile ones, one of every verdict."""

import runpy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from audit.evidence import Figure, Measure, Table
from audit.judge import judge
from audit.policy import Limit, Policy, Verdict
from audit.record import SCHEMA, Cost, Finding, LeftOut, Outcome, Planned, Record
from audit.stats import proportion
from audit.waiver import Waiver, Waivers, fingerprint, model_digest

_BUILD = runpy.run_path(str(Path(__file__).parent / "golden" / "builder.py"))["build"]
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "]]><!-- ]]> --> &amp; &#0; <?xml ?>",
    "abc\u202edcba\u2066",
    "שלום עולם",
    "{{ 7 * 7 }}{0}[click](javascript:alert(4)) ![x](http://x)\n[a]: javascript:alert(5)",
    "nul\x00bell\x07esc\x1b[31m\r\n\ttab",
    "half \ud800 pair \udfff",
    "not a character \ufffe\uffff\u2028 \x85",
    "👩🏽\u200d🔬" * 40,
    "y" * 10_000,
    " \n ",
    "../../etc/passwd",
)
NOBODY = Outcome(verdict=Verdict.NOT_JUDGED, exit_code=2)


def golden(folder: Path) -> Record:
    """The record behind the golden page."""
    record: Record = _BUILD(folder)
    return record


def made(findings: tuple[Finding, ...] = (), **given: Any) -> Record:
    """A judged record of these findings."""
    plan = tuple(Planned(check=item.check, asked="pattern") for item in findings)
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "tool": {"name": "model-audit", "version": "0.1.0"},
        "run": {"id": "7" * 16, "seed": 0, "started": "2026-11-20T09:12:44+00:00"},
        "environment": {},
        "model": {"file": "m.pt2", "sha256": "a1" * 32, "loader": "pt2"},
        "data": {"file": "d.csv", "sha256": "b2" * 32, "rows": 100},
        "policy": Policy(),
        "plan": plan,
        "findings": findings,
        "verdict": NOBODY,
    }
    return judge(Record(**{**facts, **given}))


def empty() -> Record:
    """A record of nothing: no plan, no model, no time."""
    return made(tool={}, run={}, model={}, data={})


def stopped() -> Record:
    """A run that was interrupted before its one planned check, which no model was needed for."""
    model = {"file": "d.csv", "sha256": "b2" * 32, "loader": "none"}
    plan = (Planned(check="fairness.groups", asked="name"),)
    return made(plan=plan, model=model, run={"started": "yesterday", "interrupted": True})


def every_verdict(**policy: Any) -> Record:
    """One answer for each of the seven verdicts; `policy` says what each does."""
    right = {"fails": 10, "spans": 80, "passes": 99}
    findings = [
        Finding(check="a.measured", version="1", title="Measured", status="measured", measures=(
            *(proportion(name, x, 100) for name, x in right.items()), proportion("undefined", 0, 0)
        )),
        Finding(check="a.unjudged", version="1", title="Unjudged", status="measured",
                measures=(proportion("rate", 5, 10),)),
        Finding(check="b.broken", version="", title="Broken", status="broken", reason="it crashed"),
        Finding(check="b.misfit", version="1", title="Misfit", status="not_applicable", reason="no images"),
        Finding(check="b.pattern", version="1", title="Misfit", status="not_applicable", reason="no series"),
        Finding(check="b.silent", version="1", title="Silent", status="not_evaluable", reason="no rows"),
    ]  # fmt: skip
    names = ("fails", "spans", "passes", "undefined")
    limits = [Limit(check="a.measured", measure=name, at_least=0.8) for name in names]
    limits += [Limit(check="b.misfit", measure="rate", at_most=0.5)]
    return made(tuple(findings), policy=Policy(limits=tuple(limits), **policy))


def waived(record: Record, owner: str = "A. Lee", reason: str = "mended in v2") -> Record:
    """The record with a waiver for each of its broken limits."""
    given = tuple(
        Waiver(finding=fingerprint(finding.check, item), model=model_digest(record.model), owner=owner,
               reason=reason, expires=date(2026, 12, 1), check=finding.check, limit=item.limit)
        for finding in record.findings for item in finding.verdicts if item.verdict is Verdict.FAIL
    )  # fmt: skip
    return judge(record, waivers=Waivers(given=given, day=date(2026, 11, 21)))


def relaxed() -> Record:
    """A broken limit that is waived, checks that were left out, and a policy that lets the rest go."""
    let_go = dict.fromkeys(("on_inconclusive", "on_not_evaluable", "on_broken", "on_not_applicable"), "warn")
    out = (LeftOut(check="shift.noise", reason="the budget was spent"), LeftOut(check="b.c", reason=""))
    return waived(replace(every_verdict(**let_go), left_out=out))


def hostile(text: str) -> Record:
    """The record of every verdict with one text wherever a record may hold a text."""
    base = every_verdict()
    findings = tuple(_hostile_finding(item, text) for item in base.findings)
    measured = findings[0]
    limits = tuple(
        Limit(check=measured.check, measure=item.name, at_least=0.8, where=dict(item.settings),
              group=dict(item.group))
        for item in measured.measures
    )  # fmt: skip
    facts: dict[str, Any] = {"file": text, "loader": text, "sha256": text, "caveats": [text], "task": text}
    return made(
        findings,
        policy=Policy(limits=limits),
        plan=tuple(Planned(check=name, asked="name") for name in (text, *(f.check for f in findings))),
        tool={"name": text, "version": text},
        run={"id": text, "started": text, "finished": text, "config_sha256": text},
        model={**facts, "output": text},
        data={**facts, "rows": text, "modality": text},
        system={"name": text, "purpose": text},
    )


def _hostile_finding(finding: Finding, text: str) -> Finding:
    group, settings = {text: text, "sex": text}, {text: text, "epsilon": 0.1}
    measures = tuple(
        replace(m, name=f"{m.name} {text}", group=group, settings=settings, reason=text, unreliable=text,
                too_few="" if m.value else text, left_out=text, unit=text)
        for m in finding.measures
    )  # fmt: skip
    return replace(
        finding,
        check=f"fairness.{finding.check} {text}",
        version=text,
        title=text,
        text=text,
        reason=text if finding.reason else "",
        settings={text: text},
        measures=measures,
        tables=(Table(name=text, title=text, columns=[text], rows=[[text]]),),
        figures=(Figure(name=text, title=text, kind="bars", alt=text, data={text: text}),),
        caveats=(text,),
        cost=Cost(seconds=1.5),
    )


def large(findings: int) -> Record:
    """A record of this many findings with ten numbers each, two of them judged."""
    measures: tuple[Measure, ...] = tuple(
        proportion("rate", 60 + i, 100, group={"sex": f"group {i}"}) for i in range(10)
    )
    names = [f"fairness.check_{i}" for i in range(findings)]
    found = tuple(
        Finding(
            check=name, version="1", title=name, text="It asks. " * 20, status="measured", measures=measures
        )
        for name in names
    )
    limits = tuple(
        Limit(check=name, measure="rate", at_least=0.6, group={"sex": f"group {i}"})
        for name in names
        for i in (0, 9)
    )
    return made(found, policy=Policy(limits=limits))
