"""Judge: hold a record's findings against a policy. Needs no torch and no model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_LIMIT_BROKEN, EXIT_OK
from audit.policy import Judgement, Policy, Verdict, judge_measures
from audit.record import Finding, Outcome, Planned, Record

_GRAVITY = (
    Verdict.FAIL,
    Verdict.BROKEN,
    Verdict.NOT_EVALUABLE,
    Verdict.NOT_APPLICABLE,
    Verdict.INCONCLUSIVE,
    Verdict.PASS,
    Verdict.NOT_JUDGED,
)


def judge(record: Record, policy: Policy | None = None) -> Record:
    """The same record under `policy` (its own when None): new verdicts, the same numbers."""
    policy = policy or record.policy
    findings = tuple(judge_finding(finding, policy) for finding in record.findings)
    outcome = conclude(findings, policy, record.plan)
    return replace(record, policy=policy, findings=findings, verdict=outcome)


def judge_finding(finding: Finding, policy: Policy) -> Finding:
    """A finding with one judgement for every limit on it."""
    limits = [limit for limit in policy.limits if limit.check == finding.check]
    if finding.status == "measured":
        return replace(finding, verdicts=judge_measures(finding.measures, limits, policy.family_wise_level))
    verdict = replace(finding, verdicts=()).verdict
    verdicts = tuple(
        Judgement(limit=str(limit), measure=limit.measure, verdict=verdict, reason=finding.reason)
        for limit in limits
    )
    return replace(finding, verdicts=verdicts)


def conclude(findings: Sequence[Finding], policy: Policy, plan: Sequence[Planned]) -> Outcome:
    """The answer of the whole audit: what was found, what was not, and the exit code that follows.

    Fails closed: a planned check without a finding, a limit on a check that was not planned, and an audit
    in which nothing was judged all forbid a yes.
    """
    limited = {limit.check for limit in policy.limits}
    named = {item.check for item in plan if item.asked == "name"} | limited
    entries: list[tuple[Verdict, str]] = []
    for finding in findings:
        entries += _entries(finding, required=finding.check in named)
    found = {finding.check for finding in findings}
    for check in sorted(({item.check for item in plan} | limited) - found):
        entries.append((Verdict.BROKEN, f"{check} was asked for and not measured."))
    counts = Counter(verdict for verdict, _ in entries)
    blocking = [(v, reason) for v, reason in entries if _blocks(v, policy)]
    blocking.sort(key=lambda entry: _GRAVITY.index(entry[0]))
    code, reasons = _exit(counts, blocking)
    shown = [v for v in _GRAVITY if counts[v] and (v is not Verdict.NOT_APPLICABLE or _blocks(v, policy))]
    return Outcome(
        verdict=shown[0] if shown else Verdict.NOT_JUDGED,
        exit_code=code,
        reasons=tuple(reasons),
        counts={verdict.value: counts[verdict] for verdict in Verdict},
        planned=len({item.check for item in plan}),
        measured=sum(finding.status == "measured" for finding in findings),
    )


def _entries(finding: Finding, *, required: bool) -> list[tuple[Verdict, str]]:
    if finding.status == "measured":
        judged = [(j.verdict, f"{finding.check}: {_sentence(j)}") for j in finding.verdicts]
        return judged or [(Verdict.NOT_JUDGED, "")]
    if finding.status == "not_applicable" and not required:
        return []
    return [(finding.verdict, f"{finding.check}: {finding.reason}")]


def _sentence(judgement: Judgement) -> str:
    whom = ", ".join(f"{k} = {v}" for k, v in judgement.group.items())
    needed = f"; about {judgement.needed_n} rows would settle it" if judgement.needed_n else ""
    return f"{judgement.limit}{f' ({whom})' if whom else ''}: {judgement.reason}{needed}."


def _blocks(verdict: Verdict, policy: Policy) -> bool:
    leniency = {
        Verdict.FAIL: "fail",
        Verdict.INCONCLUSIVE: policy.on_inconclusive,
        Verdict.NOT_EVALUABLE: policy.on_not_evaluable,
        Verdict.BROKEN: policy.on_broken,
        Verdict.NOT_APPLICABLE: policy.on_not_applicable,
    }
    return leniency.get(verdict) == "fail"


def _exit(counts: Counter[Verdict], blocking: list[tuple[Verdict, str]]) -> tuple[int, list[str]]:
    reasons = [reason for _, reason in blocking]
    if counts[Verdict.FAIL]:
        return EXIT_LIMIT_BROKEN, reasons
    judged = counts[Verdict.PASS] + counts[Verdict.INCONCLUSIVE] + counts[Verdict.NOT_EVALUABLE]
    if not judged:
        return EXIT_CANNOT_SAY_YES, [*reasons, "No limit was judged, so the audit cannot say yes."]
    return (EXIT_CANNOT_SAY_YES if blocking else EXIT_OK), reasons
