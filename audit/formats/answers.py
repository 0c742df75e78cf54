"""Answers: everything that a record was asked, each with its verdict and what that does to the whole.

A format shows these and nothing else of its own making, so that no two formats can disagree. There is one
answer for each judgement, one for each check that gave none, and one for each planned check that left no
trace.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_LIMIT_BROKEN, EXIT_OK
from audit.formats.text import line, number, where
from audit.judge import judge
from audit.policy import Judgement, Leniency, Policy, Verdict
from audit.profile import STANDARD
from audit.record import Finding, Record, canonical, plain
from audit.waiver import fingerprint
from audit.wording import FINDING_WORDS, sentence

_EXIT_WORDS = {
    EXIT_OK: "every limit that was judged held, and nothing that was asked for is missing",
    EXIT_LIMIT_BROKEN: "a limit was broken",
    EXIT_CANNOT_SAY_YES: "no limit was broken, but the audit cannot say yes",
}
_UNJUDGED = "it was measured, and no limit was set on it, so there is no yes or no"
_LEFT_OUT = ("It was not tested in this run.", "run the audit without the option that left it out.")
_ABSENT = "it was asked for and not measured"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One thing asked, and the answer.

    Attributes:
        check: full name of the check.
        name: what was asked, on one line; unique within the check.
        verdict: the answer.
        reason: one sentence that explains it.
        leniency: what it does to the whole: `fail` forbids a yes, `warn` is told, `pass` is not.
        key: a sha256 of what was asked; the same in every run that asks it.
        finding: the finding it stands in; None where a planned check left none.
        judgement: the judgement; None where nothing was asked of the finding.
        asked: whether it was to be a yes or a no. False for what was measured and not judged, and for a
            check that only a pattern named and that did not fit.
    """

    check: str
    name: str
    verdict: Verdict
    reason: str
    leniency: Leniency
    key: str
    finding: Finding | None = None
    judgement: Judgement | None = None
    asked: bool = True


def exit_words(record: Record) -> str:
    """What the exit code of a record says. A limit that is waived, or let go by the policy, did not hold."""
    outcome = record.verdict
    said = _EXIT_WORDS.get(outcome.exit_code, f"exit code {outcome.exit_code}")
    if outcome.exit_code == EXIT_OK and outcome.verdict is not Verdict.PASS:
        said = "nothing stops a pipeline, and that is no yes: what did not hold is waived or let go"
    if outcome.exit_code == EXIT_CANNOT_SAY_YES and outcome.waived:
        said = "the audit cannot say yes, and every limit that was broken is waived"
    return said


def left_out(record: Record) -> tuple[str, ...]:
    """Every check that was taken out of the plan, as a sentence with the reason."""
    return tuple(
        f"{item.check} was left out of this run: {sentence(item.reason)}" for item in record.left_out
    )


def scope(record: Record) -> dict[str, str | int]:
    """How much was asked: the profile of the run, and how many checks were taken out of its plan."""
    profile = line(str(record.run.get("profile") or STANDARD))
    return {"profile": profile, "leftOut": len({item.check for item in record.left_out})}


def derived(record: Record) -> Record:
    """The record itself where its verdicts follow from its numbers, else the record judged again."""
    again = judge(record)
    return record if _verdicts(again) == _verdicts(record) else again


def _verdicts(record: Record) -> list[object]:
    """What a record was asked and answers, without intervals, whose decimals may differ between machines."""
    judged = [
        [(item.measure, item.verdict, item.at_least, item.at_most, item.matched) for item in finding.verdicts]
        for finding in record.findings
    ]
    return [record.verdict.verdict, record.verdict.exit_code, judged]


def record_sha256(record: Record) -> str:
    """sha256 of the record's canonical JSON, which is that of its `record.json`."""
    try:
        content = canonical(record)
    except ValueError:
        # Half a surrogate pair has no canonical form: its escape stands for it.
        content = repr(plain(record)).encode(errors="backslashreplace")
    return hashlib.sha256(content).hexdigest()


def answers(record: Record) -> tuple[Answer, ...]:
    """Every answer of a record, in the order of its findings; absent and left out checks come last."""
    limited = {limit.check for limit in record.policy.limits}
    required = {item.check for item in record.plan if item.asked == "name"} | limited
    found = {finding.check for finding in record.findings}
    given = [item for finding in record.findings for item in _of(finding, record.policy, required)]
    out = {item.check: item.reason for item in record.left_out}
    absent = sorted(({item.check for item in record.plan} | limited) - found)
    given += [_absent(check, out.pop(check, "")) for check in absent]
    given += [_left_out(check, reason) for check, reason in out.items() if check not in found]
    return tuple(_numbered(given))


def _of(finding: Finding, policy: Policy, required: set[str]) -> Iterator[Answer]:
    if not finding.verdicts:
        yield _without_judgement(finding, policy, required=finding.check in required)
    for item in finding.verdicts:
        name = _asked(item)
        leniency = _leniency(item.verdict, policy) if item.matched else "fail"
        leniency = "warn" if item.waived else leniency
        yield replace(_answer(finding, name, item.verdict, item.reason, leniency), judgement=item)


def _asked(item: Judgement) -> str:
    """The limit, and of whom and where it was asked as far as the limit itself does not say so."""
    facts = {**item.group, **item.settings}
    around = where({key: value for key, value in facts.items() if f"{key} = {value}" not in item.limit}, {})
    return f"{item.limit} ({around})" if around else item.limit


def _without_judgement(finding: Finding, policy: Policy, *, required: bool) -> Answer:
    verdict = finding.verdict
    misfit = verdict is Verdict.NOT_APPLICABLE and not required
    leniency = "pass" if misfit else _leniency(verdict, policy)
    name = "not judged" if finding.status == "measured" else "measured at all"
    answer = _answer(finding, name, verdict, finding.reason or _UNJUDGED, leniency)
    return replace(answer, asked=not misfit and verdict is not Verdict.NOT_JUDGED)


def _answer(finding: Finding, name: str, verdict: Verdict, reason: str, leniency: Leniency) -> Answer:
    return Answer(
        check=finding.check,
        name=line(name),
        verdict=verdict,
        reason=reason,
        leniency=leniency,
        key=_key(finding.check, name),
        finding=finding,
    )


def _absent(check: str, why: str = "") -> Answer:
    name = "measured at all"
    return Answer(
        check=check,
        name=name,
        verdict=Verdict.BROKEN,
        reason=f"{_ABSENT}: {why}" if why else _ABSENT,
        leniency="fail",
        key=_key(check, name),
    )


def _left_out(check: str, reason: str) -> Answer:
    name = "measured at all"
    return Answer(
        check=check,
        name=name,
        verdict=Verdict.NOT_APPLICABLE,
        reason=f"it was left out of this run: {reason}",
        leniency="pass",
        key=_key(check, name),
        asked=False,
    )


def _leniency(verdict: Verdict, policy: Policy) -> Leniency:
    asked: dict[Verdict, Leniency] = {
        Verdict.FAIL: "fail",
        Verdict.INCONCLUSIVE: policy.on_inconclusive,
        Verdict.NOT_EVALUABLE: policy.on_not_evaluable,
        Verdict.BROKEN: policy.on_broken,
        Verdict.NOT_APPLICABLE: policy.on_not_applicable,
    }
    return asked.get(verdict, "pass")


def _key(*asked: object) -> str:
    return hashlib.sha256(repr(asked).encode(errors="backslashreplace")).hexdigest()


def _numbered(given: Sequence[Answer]) -> Iterator[Answer]:
    """The same answers; one that is asked twice of a check gets a number."""
    seen: Counter[tuple[str, str]] = Counter()
    for item in given:
        seen[item.check, item.name] += 1
        times = seen[item.check, item.name]
        name, key = f"{item.name} #{times}", _key(item.key, times)
        yield replace(item, name=name, key=key) if times > 1 else item


def told(answer: Answer) -> str:
    """The answer as one sentence: the verdict, why, and how many rows would settle it."""
    item = answer.judgement
    needed = f"; about {item.needed_n} rows would settle it" if item and item.needed_n else ""
    waived = f"; {item.waived}" if item and item.waived else ""
    reason = answer.reason.rstrip(". \n") or "no reason is given"
    return f"{answer.verdict.replace('_', ' ')}: {reason}{needed}{waived}."


def advice(answer: Answer) -> str:
    """What such an answer means and what could be done next, for a reader who is no engineer."""
    left_out = answer.finding is None and not answer.asked
    means, then = _LEFT_OUT if left_out else FINDING_WORDS[answer.verdict]
    return f"{means} What could be done: {then}"


def numbers(answer: Answer) -> dict[str, str]:
    """The numbers behind an answer as texts, by name: value, interval, level, bound, and its fingerprint."""
    item = answer.judgement
    if item is None:
        return {}
    named = ("value", "low", "high", "level", "bound", "at_least", "at_most", "needed_n")
    texts = {name: number(getattr(item, name)) for name in named}
    texts["finding"] = fingerprint(answer.check, item)
    texts["comparisons"] = str(item.comparisons) if item.comparisons else ""
    return {name: text for name, text in texts.items() if text}
