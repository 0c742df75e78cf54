"""Judge: hold a record's findings against a policy. Needs no torch and no model."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_LIMIT_BROKEN, EXIT_OK
from audit.evidence import Doubt, Measure
from audit.policy import Judgement, Leniency, Limit, Policy, Verdict, judge_measures, parts_of
from audit.record import Change, Finding, LeftOut, Outcome, Planned, Record
from audit.waiver import Waivers, fingerprint, remarks, waive

_GRAVITY = (
    Verdict.FAIL,
    Verdict.BROKEN,
    Verdict.NOT_EVALUABLE,
    Verdict.NOT_APPLICABLE,
    Verdict.INCONCLUSIVE,
    Verdict.PASS,
    Verdict.NOT_JUDGED,
)


def judge(record: Record, policy: Policy | None = None, waivers: Waivers | None = None) -> Record:
    """The same record under `policy` and `waivers` (its own when None): new verdicts, the same numbers."""
    policy = policy or record.policy
    waivers = record.waivers if waivers is None else waivers
    doubts = [doubt for finding in record.findings for doubt in finding.doubts]
    changed = record.baseline.changes if record.baseline else None
    findings = tuple(judge_finding(finding, policy, doubts, changed) for finding in record.findings)
    findings = tuple(
        replace(item, verdicts=waive(item.check, item.verdicts, waivers, record.model)) for item in findings
    )
    failed = [
        fingerprint(item.check, judged)
        for item in findings
        for judged in item.verdicts
        if judged.verdict is Verdict.FAIL
    ]
    told = remarks(waivers, record.model, failed)
    outcome = conclude(findings, policy, record.plan, told, record.left_out)
    return replace(record, policy=policy, waivers=waivers, findings=findings, verdict=outcome)


def judge_finding(
    finding: Finding,
    policy: Policy,
    doubts: Sequence[Doubt] = (),
    changes: Sequence[Change] | None = None,
) -> Finding:
    """A finding with one judgement for every limit on it.

    Args:
        finding: what was measured.
        policy: the limits.
        doubts: what all findings of the audit say against numbers of others; a number in doubt cannot pass.
        changes: how the audit differs from its baseline; None where it has none.
    """
    limits = [limit for limit in policy.limits if limit.check == finding.check]
    if finding.status == "measured":
        measures = [_doubted(item, finding.check, doubts) for item in finding.measures]
        mine = [item.measure for item in changes or () if item.check == finding.check]
        moved = None if changes is None else [_doubted(item, finding.check, doubts) for item in mine]
        verdicts = judge_measures(measures, limits, policy.family_wise_level, moved)
        return replace(finding, verdicts=verdicts)
    verdict = replace(finding, verdicts=()).verdict
    verdicts = tuple(
        Judgement(limit=str(limit), measure=limit.measure, verdict=verdict, reason=finding.reason)
        for limit in limits
    )
    return replace(finding, verdicts=verdicts)


def _doubted(item: Measure, check: str, doubts: Sequence[Doubt]) -> Measure:
    """The measure as it is judged: unreliable for its own reasons and those that other findings give."""
    against = [doubt.reason for doubt in doubts if doubt.speaks_of(check, item.name)]
    if not against:
        return item
    return replace(item, unreliable="; ".join(dict.fromkeys(filter(None, [item.unreliable, *against]))))


def conclude(
    findings: Sequence[Finding],
    policy: Policy,
    plan: Sequence[Planned],
    told: Sequence[str] = (),
    left_out: Sequence[LeftOut] = (),
) -> Outcome:
    """The answer of the whole audit: what was found, what was not, and the exit code that follows.

    Fails closed: a planned check without a finding, a limit on a check that was not planned, and an audit
    in which nothing was judged all forbid a yes.

    Args:
        findings: with their judgements.
        policy: how strict the answer is.
        plan: what was to be measured.
        told: sentences that change nothing and must be said.
        left_out: what was taken out of the plan, and why.
    """
    limited = {limit.check for limit in policy.limits}
    named = {item.check for item in plan if item.asked == "name"} | limited
    entries: list[_Entry] = []
    for finding in findings:
        entries += _entries(finding, required=finding.check in named)
    found = {finding.check for finding in findings}
    out = {item.check: item.reason for item in left_out}
    for check in sorted(({item.check for item in plan} | limited) - found):
        entries.append(_Entry(Verdict.BROKEN, _absent(check, out.get(check, "")), always=True))
    entries.sort(key=lambda entry: _GRAVITY.index(entry.verdict))
    counts = Counter(entry.verdict for entry in entries)
    code, reasons = _exit(counts, entries, policy)
    blocked = any(_leniency(e, policy) == "fail" for e in entries if e.verdict is Verdict.NOT_APPLICABLE)
    unlooked = _unlooked(findings, plan, out)
    shown = [v for v in _GRAVITY if counts[v] and (v is not Verdict.NOT_APPLICABLE or blocked)]
    return Outcome(
        verdict=shown[0] if shown else Verdict.NOT_JUDGED,
        exit_code=code,
        reasons=(*reasons, *(f"Warning: {sentence}" for sentence in (*told, *unlooked))),
        counts={verdict.value: counts[verdict] for verdict in Verdict},
        planned=len({item.check for item in plan}),
        measured=sum(finding.status == "measured" for finding in findings),
        waived=sum(entry.waived for entry in entries),
    )


def on_change(record: Record) -> Iterator[tuple[str, Judgement]]:
    """Check and judgement of each limit on a change since the baseline, those that found no number too.

    Args:
        record: judged, with its baseline. A limit whose check gave no number, or was not planned at all, has
            one judgement, which says why.
    """
    asked = [(item, part) for item in record.policy.limits for part in parts_of(item) if part.no_worse_than]
    found = {finding.check: finding for finding in record.findings}
    out = {item.check: item.reason for item in record.left_out}
    for finding in record.findings:
        texts = {str(part) for item, part in asked if item.check == finding.check}
        yield from ((finding.check, item) for item in finding.verdicts if item.limit in texts)
    for item, part in asked:
        known = found.get(item.check)
        if known is None:
            why = _absent(item.check, out.get(item.check, "")).rstrip(".")
            yield item.check, _unanswered(part, Verdict.BROKEN, why, matched=False)
        elif known.status != "measured" and item != part:
            yield item.check, _unanswered(part, known.verdict, known.reason, matched=True)


def _unanswered(limit: Limit, verdict: Verdict, why: str, *, matched: bool) -> Judgement:
    return Judgement(limit=str(limit), measure=limit.measure, verdict=verdict, reason=why, matched=matched)


def effect(item: Judgement, policy: Policy) -> Leniency:
    """What one judgement does: `fail` forbids a yes, `warn` is told, `pass` is not."""
    return _leniency(_Entry(item.verdict, "", always=not item.matched, waived=bool(item.waived)), policy)


@dataclass(frozen=True)
class _Entry:
    """One answer that counts: verdict, sentence, whether no policy may relax it, whether it is waived."""

    verdict: Verdict
    reason: str
    always: bool = False
    waived: bool = False


def _absent(check: str, why: str) -> str:
    because = f": {why.rstrip('.')}" if why else ""
    return f"{check} was asked for and not measured{because}."


def _unlooked(findings: Sequence[Finding], plan: Sequence[Planned], out: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each held limit whose number another check could have shown not to be relied on."""
    measured = {finding.check for finding in findings if finding.status == "measured"}
    why = {**out, **{finding.check: finding.reason for finding in findings}}
    planned = {item.check: item for item in plan}
    for finding in findings:
        held = {item.measure for item in finding.verdicts if item.verdict is Verdict.PASS}
        item = planned.get(finding.check)
        for other, about in item.unheard(held, measured) if item else ():
            because = f" ({why[other].rstrip('.')})" if why.get(other) else ""
            yield (
                f"no {other} was measured{because}, so beyond its own self-checks nothing shows that "
                f"{' and '.join(about)} of {finding.check} can be relied on."
            )


def _entries(finding: Finding, *, required: bool) -> list[_Entry]:
    if finding.status == "measured":
        judged = [
            _Entry(j.verdict, f"{finding.check}: {_sentence(j)}", always=not j.matched, waived=bool(j.waived))
            for j in finding.verdicts
        ]
        return judged or [_Entry(Verdict.NOT_JUDGED, "")]
    if finding.status == "not_applicable" and not required:
        return []
    return [_Entry(finding.verdict, f"{finding.check}: {finding.reason}")]


def _sentence(judgement: Judgement) -> str:
    whom = ", ".join(f"{k} = {v}" for k, v in judgement.group.items())
    needed = f"; about {judgement.needed_n} rows would settle it" if judgement.needed_n else ""
    waived = f"; {judgement.waived}" if judgement.waived else ""
    return f"{judgement.limit}{f' ({whom})' if whom else ''}: {judgement.reason}{needed}{waived}."


def _leniency(entry: _Entry, policy: Policy) -> Leniency:
    """What an answer does: `fail` forbids a yes, `warn` is told, `pass` is not."""
    if entry.waived:
        return "warn"
    if entry.always or entry.verdict is Verdict.FAIL:
        return "fail"
    asked: dict[Verdict, Leniency] = {
        Verdict.INCONCLUSIVE: policy.on_inconclusive,
        Verdict.NOT_EVALUABLE: policy.on_not_evaluable,
        Verdict.BROKEN: policy.on_broken,
        Verdict.NOT_APPLICABLE: policy.on_not_applicable,
    }
    return asked.get(entry.verdict, "pass")


def _exit(counts: Counter[Verdict], entries: Sequence[_Entry], policy: Policy) -> tuple[int, list[str]]:
    blocking = [entry.reason for entry in entries if _leniency(entry, policy) == "fail"]
    warnings = [f"Warning: {entry.reason}" for entry in entries if _leniency(entry, policy) == "warn"]
    if any(entry.verdict is Verdict.FAIL and not entry.waived for entry in entries):
        return EXIT_LIMIT_BROKEN, [*blocking, *warnings]
    if not counts[Verdict.PASS] + counts[Verdict.INCONCLUSIVE] + counts[Verdict.FAIL]:
        silent = "No limit was judged, so the audit cannot say yes."
        return EXIT_CANNOT_SAY_YES, [*blocking, *warnings, silent]
    return (EXIT_CANNOT_SAY_YES if blocking else EXIT_OK), [*blocking, *warnings]
