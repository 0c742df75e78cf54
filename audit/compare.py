"""Compare: what changed between two runs, and what of it is more than the chance in drawing the rows.

Where both models were asked about the same rows and the answers to each row were kept, a difference rests on
the rows that they answer differently; elsewhere on the intervals of both records. All differences are held to
one family-wise level by Holm's procedure (1979). Rows that every model answers alike cannot tell two models
apart at any level, so a number that rests on them alone takes no part in the family (Tarone, 1990).
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_LIMIT_BROKEN, EXIT_OK
from audit.evidence import Measure
from audit.judge import effect, judge, on_change
from audit.paired import same_answers
from audit.policy import Policy, Verdict, parts_of
from audit.record import Baseline, Change, Finding, Record, canonical, read_record
from audit.stats import METHODS, bonferroni, from_records, interval_at, measure
from audit.waiver import Waivers

if TYPE_CHECKING:
    from audit.outcomes import Outcomes
    from audit.pairing import Pair

_MEASURED_SETTINGS = ("mean_score",)
_WORDS_ALONE = ("justification",)
_DIRECTIONS = {"zero": "lower", "one": "higher"}
_EXACT = "it was counted in full and carries no sampling error"
_ALONE = "not paired: it rests on the two records alone"


def compare(
    base: str | Path, new: str | Path, policy: Policy | None = None, waivers: Waivers | None = None
) -> Record:
    """The record of `new` with `base` as its baseline: what changed, judged again with the limits on change.

    Args:
        base: run folder, or record.json, of the earlier run.
        new: that of the later one.
        policy: what both are held against; that of `new` when None.
        waivers: those that the judgements are held against; those of `new` when None.

    Raises:
        ConfigError: a run cannot be read, or what it kept of each row was altered.
    """
    return compare_records(read_record(Path(base)), read_record(Path(new)), (base, new), policy, waivers)


def sha256_of(base: Record) -> str:
    """What a comparison calls its baseline by: the hash of its canonical record, its own baseline aside."""
    return hashlib.sha256(canonical(replace(base, baseline=None))).hexdigest()


def compare_records(
    base: Record,
    new: Record,
    runs: tuple[str | Path, str | Path],
    policy: Policy | None = None,
    waivers: Waivers | None = None,
) -> Record:
    """As `compare`, of records that are read.

    Args:
        base: the earlier one.
        new: the later one.
        runs: their run folders, where what became of each row is kept.
        policy: see `compare`.
        waivers: see `compare`.

    Raises:
        ConfigError: what a run kept of each row was altered.
    """
    folders = _folder(runs[0]), _folder(runs[1])
    old, later = (replace(record, baseline=None) for record in (base, new))
    policy = policy or later.policy
    levels = tuple(part for item in policy.limits for part in parts_of(item) if not part.no_worse_than)
    plain = replace(policy, limits=levels)
    both = _Both(judge(old, plain, Waivers()), judge(later, plain, Waivers()), *folders)
    settled, tested, alike = settle(list(_changes(both)), policy.family_wise_level)
    why = both.unpaired or (
        "" if both.paired else "what became of each row was not kept by both, so the two records alone speak"
    )
    baseline = Baseline(
        run=str(old.run.get("id", "")),
        record_sha256=sha256_of(old),
        model={key: old.model[key] for key in ("file", "sha256") if key in old.model},
        paired=bool(both.paired),
        why=why or _said_of_pairs(both),
        level=policy.family_wise_level,
        comparisons=tested,
        alike=alike,
        changes=tuple(settled),
    )
    return judge(replace(later, baseline=baseline), policy, waivers)


def pair_of(check: str, base: Path, new: Path) -> "Pair | None":
    """What both models did with the same rows in one check; None where `compare` could not pair them.

    Args:
        check: its full name.
        base: run folder, or record.json, of the earlier run.
        new: that of the later one.
    """
    both = _Both(read_record(base), read_record(new), _folder(base), _folder(new))
    old, later = (
        next((item for item in record.findings if item.check == check), None)
        for record in (both.old, both.new)
    )
    if old is None or later is None or both.unpaired or _unlike(old, later):
        return None
    return _pair(old, later, both)


def exit_code(record: Record, fail_on: str = "") -> int:
    """What a comparison answers: 0 nothing is worse, 1 something is, 2 nothing could be compared.

    Args:
        record: a record with a baseline.
        fail_on: `limits` holds the changes against the limits on change alone; `worse` also counts whatever
            is worse; empty means `limits` where there are any, else `worse`.
    """
    changes = record.baseline.changes if record.baseline else ()
    judged = [item for _, item in on_change(record)]
    if any(item.verdict is Verdict.FAIL and not item.waived for item in judged):
        return EXIT_LIMIT_BROKEN
    by_limits = fail_on == "limits" or (not fail_on and bool(judged))
    if not by_limits and any(item.moved == "worse" for item in changes):
        return EXIT_LIMIT_BROKEN
    if not any(item.moved for item in changes):
        return EXIT_CANNOT_SAY_YES
    blocked = any(effect(item, record.policy) == "fail" for item in judged)
    return EXIT_CANNOT_SAY_YES if blocked or (by_limits and not judged) else EXIT_OK


@dataclass(frozen=True)
class _Both:
    """Two judged records, their folders, and which checks could be paired."""

    old: Record
    new: Record
    old_folder: Path | None
    new_folder: Path | None
    paired: dict[str, int] = field(default_factory=dict)

    @property
    def unpaired(self) -> str:
        """Why no row of one run is a row of the other; empty where they are the same."""
        prints = [record.data.get("fingerprint") for record in (self.old, self.new)]
        if prints[0] and prints[0] == prints[1]:
            return ""
        return "the data differ (their fingerprints do), so each number has only its own rows to rest on"

    @property
    def same_model(self) -> bool:
        """Whether it is the same model on the same rows by the same seed, so that equal numbers are equal."""
        facts = [
            (record.model, record.run.get("model_state"), record.run.get("seed")) for record in self._two
        ]
        return bool(self.old.model) and not self.unpaired and facts[0] == facts[1]

    @property
    def _two(self) -> tuple[Record, Record]:
        return self.old, self.new


def _folder(run: str | Path) -> Path | None:
    path = Path(run)
    return path if path.is_dir() else path.parent


def _said_of_pairs(both: _Both) -> str:
    rows = max(both.paired.values())
    return f"the same {rows} rows were answered by both models, and what became of each was kept"


def _changes(both: _Both) -> Iterator[Change]:
    """One for each measure of either run, in the order of the later one; not yet settled."""
    olds = {finding.check: finding for finding in both.old.findings}
    news = {finding.check: finding for finding in both.new.findings}
    for check in [*news, *(name for name in olds if name not in news)]:
        old, new = olds.get(check), news.get(check)
        for change in _of_check(old, new, both):
            yield _told(change, old, new)


def _of_check(old: Finding | None, new: Finding | None, both: _Both) -> Iterator[Change]:
    if old is None or old.status != "measured":
        for item in new.measures if new else ():
            yield _alone(new, item, "added", f"the baseline did not measure it{_because(old)}")
        return
    if new is None or new.status != "measured":
        why = f"this run did not measure it{_because(new) or _left_out(both.new, old.check)}"
        yield from (_alone(old, item, "no longer tested", why) for item in old.measures)
        return
    unlike = _unlike(old, new)
    pair = None if unlike or both.unpaired else _pair(old, new, both)
    for before, after in _matched(old.measures, new.measures):
        if before is None or after is None:
            yield from _unmatched(new, before, after)
        elif unlike or not _taken_alike(before, after):
            yield _apart(new, before, after, unlike)
        else:
            yield _difference(new.check, before, after, pair, same=both.same_model)


def _because(finding: Finding | None) -> str:
    return f": {finding.reason}" if finding is not None and finding.reason else ""


def _left_out(record: Record, check: str) -> str:
    left = {item.check: item.reason for item in getattr(record, "left_out", ())}
    return f": {left[check]}" if check in left else ""


def _unlike(old: Finding, new: Finding) -> str:
    """How the check was run otherwise; empty where it was not."""
    if old.version != new.version:
        return f"the check is version {new.version} and was version {old.version}"
    mine, theirs = ({k: v for k, v in item.settings.items() if k not in _WORDS_ALONE} for item in (new, old))
    return _differing(theirs, mine)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in {**old, **new} if old.get(key, "") != new.get(key, "")]
    said = [f"'{key}' is {new.get(key, 'not set')} and was {old.get(key, 'not set')}" for key in keys]
    return "; ".join(said)


def _matched(
    old: Sequence[Measure], new: Sequence[Measure]
) -> Iterator[tuple[Measure | None, Measure | None]]:
    """Measures of the same name, group and settings; then those that differ in settings; then the others."""
    left: dict[bytes, list[Measure]] = defaultdict(list)
    for item in old:
        left[_key(item)].append(item)
    unmet = []
    for item in new:
        same = left[_key(item)]
        if same:
            yield same.pop(0), item
        else:
            unmet.append(item)
    gone: dict[bytes, list[Measure]] = defaultdict(list)
    for item in (item for same in left.values() for item in same):
        gone[_key(item, settings=False)].append(item)
    for item in unmet:
        same = gone[_key(item, settings=False)]
        yield (same.pop(0) if same else None), item
    yield from ((item, None) for same in gone.values() for item in same)


def _key(item: Measure, *, settings: bool = True) -> bytes:
    """Which number this is. Two groups are as far apart whichever of them is the reference."""
    if not settings:
        return canonical([item.name, item.group])
    kept = {k: v for k, v in item.settings.items() if k not in _MEASURED_SETTINGS}
    if "reference" not in kept or item.better not in _DIRECTIONS:
        return canonical([item.name, item.group, kept])
    both = sorted([", ".join(item.group.values()), str(kept.pop("reference"))])
    return canonical([item.name, sorted(item.group), both, kept])


def _taken_alike(old: Measure, new: Measure) -> bool:
    measured = [[item.settings.get(name) for name in _MEASURED_SETTINGS] for item in (old, new)]
    return _key(old) == _key(new) and measured[0] == measured[1]


def _nothing(item: Measure, reason: str) -> Measure:
    """The difference of a measure that was not compared."""
    kept = {"name": item.name, "group": item.group, "settings": item.settings, "n": item.n}
    return Measure(value=None, unit="difference", better=_better(item), reason=reason, **kept)  # type: ignore[arg-type]


def _better(item: Measure) -> Any:
    return _DIRECTIONS.get(item.better, item.better)


def _alone(finding: Finding | None, item: Measure, state: Any, reason: str) -> Change:
    values = {"new": item.value} if state == "added" else {"base": item.value}
    check = finding.check if finding else ""
    return Change(check=check, measure=_nothing(item, reason), state=state, reason=reason, **values)  # type: ignore[arg-type]


def _unmatched(finding: Finding, old: Measure | None, new: Measure | None) -> Iterator[Change]:
    if old is not None:
        yield _alone(finding, old, "no longer tested", "this run has no such measure")
    if new is not None:
        yield _alone(finding, new, "added", "the baseline has no such measure")


def _apart(finding: Finding, old: Measure, new: Measure, unlike: str) -> Change:
    """Two measures that were taken in different ways."""
    settings = [
        {k: v for k, v in item.settings.items() if k not in _MEASURED_SETTINGS} for item in (old, new)
    ]
    reason = unlike or _differing(settings[0], settings[1])
    state: Any = "not comparable" if reason else "not compared"
    reason = reason or "its bins are those of each model's own scores"
    both = {"base": old.value, "new": new.value}
    return Change(check=finding.check, measure=_nothing(new, reason), state=state, reason=reason, **both)  # type: ignore[arg-type]


def _difference(check: str, old: Measure, new: Measure, pair: "Pair | None", *, same: bool) -> Change:
    """The difference of one measure, with the statistics of its interval, or why there is none."""
    values = {"base": old.value, "new": new.value}
    lacking = _lacking(old, new)
    if lacking:
        return Change(check=check, measure=_nothing(new, lacking), reason=lacking, **values)  # type: ignore[arg-type]
    found = _statistics(check, old, new, pair, same=same)
    if found is None:
        why = _EXACT if "exact" in (old.method, new.method) else "it carries no interval"
        return Change(check=check, measure=_nothing(new, why), reason=why, **values)  # type: ignore[arg-type]
    method, statistics = found
    item = measure(
        new.name,
        method,
        statistics,
        n=new.n,
        group=new.group,
        settings=new.settings,
        unit="difference",
        better=_better(new),
        unreliable=new.unreliable or old.unreliable,
        left_out=new.left_out or old.left_out,
    )
    reason = _ALONE if method == "two_intervals" else ""
    return Change(check=check, measure=item, reason=reason, **values)  # type: ignore[arg-type]


def _lacking(old: Measure, new: Measure) -> str:
    """Why the two cannot be compared at all."""
    if new.value is None or old.value is None:
        where, item = ("now", new) if new.value is None else ("in the baseline", old)
        return f"undefined {where}: {item.reason or 'no reason was given'}"
    return new.too_few or old.too_few


def _statistics(
    check: str, old: Measure, new: Measure, pair: "Pair | None", *, same: bool
) -> tuple[str, dict[str, Any]] | None:
    """Method and statistics of a difference: exact, paired, or from the two records."""
    if new.value == old.value and (same or "exact" == old.method == new.method):
        return "exact", {"value": 0.0}
    if pair is not None:
        from audit.pairing import difference

        found = difference(check, old, new, pair)
        if found is not None:
            return found
    return from_records(old, new) if _can_vary(old) and _can_vary(new) else None


def _can_vary(item: Measure) -> bool:
    known = item.method in METHODS and item.method != "exact" and bool(item.statistics)
    return known and item.low is not None and item.high is not None


def _pair(old: Finding, new: Finding, both: _Both) -> "Pair | None":
    """What both models did with the same rows; None where that was not kept of the same ones."""
    from audit.outcomes import read
    from audit.pairing import Pair

    base, later = read(old.artifacts, both.old_folder), read(new.artifacts, both.new_folder)
    if base is None or later is None or not _same_rows(base, later):
        return None
    both.paired[new.check] = len(later)
    return Pair(base, later, new.settings)


def _same_rows(base: "Outcomes", new: "Outcomes") -> bool:
    """Whether the rows are the same ones, with the same outcomes and groups."""
    import numpy as np

    facts = {name for name in (*base.codes, *new.codes) if name == "label" or name.startswith("group ")}
    return np.array_equal(base.rows, new.rows) and all(
        name in base.codes
        and name in new.codes
        and base.codes[name][0] == new.codes[name][0]
        and np.array_equal(base.codes[name][1], new.codes[name][1])
        for name in facts
    )


def _told(change: Change, old: Finding | None, new: Finding | None) -> Change:
    was, now = _verdict(old, change.measure), _verdict(new, change.measure)
    return replace(change, was=was, now=now)


def _verdict(finding: Finding | None, item: Measure) -> str:
    """The worst that the limits on one measure gave; empty where none speaks of it."""
    judged = [
        judgement.verdict
        for judgement in (finding.verdicts if finding else ())
        if judgement.measure == item.name
        and dict(judgement.group) == dict(item.group)
        and dict(judgement.settings) == dict(item.settings)
    ]
    order = (Verdict.FAIL, Verdict.NOT_EVALUABLE, Verdict.INCONCLUSIVE, Verdict.PASS)
    return next((verdict.value for verdict in order if verdict in judged), "")


def settle(changes: Sequence[Change], level: float) -> tuple[list[Change], int, int]:
    """Which differences are more than chance, by Holm's procedure over all of them.

    Args:
        changes: with the statistics of each difference; whatever they were settled as before is forgotten.
        level: one minus the chance of any wrong `worse`, `better` or `changed`.

    Returns:
        The changes, each with the interval at which it was settled; how many shared the level; and how many
        more were compared and rest on rows that both models answer alike.
    """
    compared = [k for k, item in enumerate(changes) if item.measure.value is not None]
    alike = [k for k in compared if same_answers(changes[k].measure.method, changes[k].measure.statistics)]
    still = [k for k in compared if k not in set(alike)]
    tested, at = len(still), dict.fromkeys(compared, level)
    significant: set[int] = set()
    while still:
        each = bonferroni(level, len(still))
        at |= dict.fromkeys(still, each)
        found = {k for k in still if _beyond_zero(changes[k].measure, each)}
        significant |= found
        still = [k for k in still if k not in found]
        if not found:
            break
    settled = [
        _settled(item, at[k], significant=k in significant) if k in at else _stated(replace(item, moved=""))
        for k, item in enumerate(changes)
    ]
    return settled, tested, len(alike)


def _beyond_zero(item: Measure, level: float) -> bool:
    low, high = interval_at(item, level)
    return low is not None and high is not None and (low > 0 or high < 0)


def _settled(change: Change, level: float, *, significant: bool) -> Change:
    low, high = interval_at(change.measure, level)
    item = replace(change.measure, low=low, high=high, level=level)
    moved: Any = "unchanged"
    if significant:
        up = (item.value or 0.0) > 0
        moved = {"higher": ("worse", "better"), "lower": ("better", "worse")}.get(
            item.better, ("changed", "changed")
        )[up]
    return _stated(replace(change, measure=item, moved=moved))


def _stated(change: Change) -> Change:
    """The change with the state that a reader is told first."""
    state: Any = change.moved or change.state
    if change.now == Verdict.FAIL and change.was != Verdict.FAIL:
        state = "new"
    elif change.was == Verdict.FAIL and change.now == Verdict.PASS and change.moved:
        state = "fixed"
    return replace(change, state=state)
