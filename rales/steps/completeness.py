"""Is this series complete? A pure decision on what is known of it.

A PACS does not say when a series ends. Ordered evidence, the first that holds counts:
an archive has just so many instances and gets no more; the sender stated the number and just so
many are here; or nothing came for the quiet time.

An archive that has more than is here says that more may come: that is waited for, longer than the
quiet time and not for ever, since it also counts what was refused here. What is closed then has a
``shortfall``. An archive that has less gets them later than this node: it proves nothing.

What the sender states is in no image by rights: it is the number of a moment, or of a part, and
some senders count as they go. It is believed where all images that state it agree and none came
beyond it, and not again once it proved wrong.

The quiet time is long, since senders pause: between two associations, or between two images
that come in an association each. It is shortened to the settle time where one association, the
only one so far, was released and brought a plausible whole: slices without a gap over the
length of a chest. A part looks like that too where its sender is interrupted at the wrong place.

What is complete before the quiet time, by whatever evidence, is only held to be
(``hold_until``): what the analysis says must speak for a whole as well until it has passed.

A multi-frame image is a stack by itself, so that one counts as contiguous slices do. What it
announces, the parts of its concatenation, is the least that is waited for: a series may hold
other images beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from chestct.geometry import resolution, usual_step

SHORTEST_CHEST_MM = 180.0
"""From the first to the last slice. The lungs of an adult are 200 to 300 mm high; the shortest of
the real chests that this was chosen on are 192 mm from centre to centre. A shorter one, as of a
child, waits the quiet time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAnswer:
    """What the archive says of a series.

    Attributes:
        name: Of the archive, for a person.
        count: How many instances it has; None: it has not said so.
        unchanged_seconds: From its first answer with this number to the last one.
        is_fresh: No instance came here since it was asked.
        trouble: Why it does not say now, for a person.
    """

    name: str
    count: int | None
    unchanged_seconds: float = 0.0
    is_fresh: bool = False
    trouble: str = ""

    @property
    def is_awaited(self) -> bool:
        """Tell whether it is to say soon what it has now."""
        return not self.is_fresh and not self.trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a series that is being received.

    Attributes:
        count: Instances that are here.
        expected: Number of Series Related Instances, where the sender states it; of multi-frame
            images, the parts of the longest concatenation.
        announcements_differ: Single-frame images state different numbers.
        positions: Of each instance, the distance along the slice normal in mm; None where
            its header gives none.
        last_received_at: When the last instance came.
        association_ended_at: When the last association that sent some of it ended; None
            while one is open.
        multi_frame: Every instance is a multi-frame image.
        associations: How many associations that brought some of it have ended.
        revised: Images came after the series had been complete once.
        busy: More of its study is coming (:class:`scp.traffic.Traffic`).
        read_early: It was complete before the quiet time, and could not be analysed so.
        archive: What the archive says; None where none is asked.
    """

    count: int
    expected: int | None
    positions: tuple[float | None, ...]
    last_received_at: datetime
    association_ended_at: datetime | None
    multi_frame: bool = False
    announcements_differ: bool = False
    associations: int = 1
    revised: bool = False
    busy: bool = False
    read_early: bool = False
    archive: ArchiveAnswer | None = None

    @property
    def why_not_early(self) -> str:
        """Return why nothing but the quiet time is evidence, or nothing."""
        if self.revised:
            return "images came after it had been complete"
        return "it could not be analysed as it was" if self.read_early else ""

    @property
    def why_not_counted(self) -> str:
        """Return why the number that the sender announced is no evidence, or nothing."""
        if why_not := self.why_not_early:
            return why_not
        if self.announcements_differ:
            return "the images announce different numbers"
        if self.expected is not None and self.count > self.expected and not self.multi_frame:
            return "more images are here than the sender announced"
        return ""

    @property
    def why_not_settled(self) -> str:
        """Return why the quiet time is not shortened, or nothing."""
        if why_not := self.why_not_counted:
            return why_not
        if self.associations > 1:
            return f"{self.associations} associations brought it"
        if self.association_ended_at is None:
            return "no association that brought it was released"
        if self.archive is not None and self.archive.is_awaited:
            return f"archive {self.archive.name} is being asked"
        return "more of its study is coming" if self.busy else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionPolicy:
    """How long to wait; see the module."""

    settle_seconds: float = 2.0
    quiet_seconds: float = 30.0
    archive_wait_seconds: float = 120.0
    """Since the last instance, for more that the archive has; at least the quiet time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The series is complete; ``reason`` says by which evidence.

    ``hold_until``: until then only as far as the analysis bears it out. ``shortfall`` says how
    many instances are missing, by whose word.
    """

    reason: str
    hold_until: datetime | None = None
    shortfall: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    """The series may be complete at ``at``, if nothing comes before."""

    at: datetime
    reason: str


def decide(evidence: Evidence, policy: CompletionPolicy, now: datetime) -> Complete | WaitUntil:
    """Decide on the evidence at ``now``; never waits longer than the evidence needs."""
    archive = evidence.archive
    if archive is not None and archive.count is not None and archive.count > evidence.count:
        return _until_more_came(evidence, archive.name, archive.count, policy, now)
    quiet_at = evidence.last_received_at + timedelta(seconds=policy.quiet_seconds)
    held = quiet_at if now < quiet_at else None
    if all_here := _all_here(evidence, policy):
        return Complete(reason=all_here, hold_until=held)
    whole = _whole(evidence)
    ended = evidence.association_ended_at
    why_not = evidence.why_not_settled or ("" if whole else _partial(evidence))
    if why_not or ended is None:
        if now >= quiet_at:
            return Complete(
                reason=f"nothing for {policy.quiet_seconds:g} s", shortfall=_shortfall(evidence)
            )
        without = (
            f"; archive {archive.name}: {archive.trouble}" if archive and archive.trouble else ""
        )
        return WaitUntil(
            at=quiet_at,
            reason=f"waits until nothing came for {policy.quiet_seconds:g} s: {why_not}{without}",
        )
    last = max(ended, evidence.last_received_at)
    settled_at = min(last + timedelta(seconds=policy.settle_seconds), quiet_at)
    if now < settled_at:
        return WaitUntil(at=settled_at, reason="waits the settle time")
    return Complete(reason=f"association ended, {whole}, settled", hold_until=held)


def _until_more_came(
    evidence: Evidence, name: str, count: int, policy: CompletionPolicy, now: datetime
) -> Complete | WaitUntil:
    seconds = max(policy.archive_wait_seconds, policy.quiet_seconds)
    at = evidence.last_received_at + timedelta(seconds=seconds)
    says = f"archive {name} says {count}"
    if now < at:
        here = f"{evidence.count} of {count} images, {says}"
        return WaitUntil(at=at, reason=f"{here}: waits until nothing came for {seconds:g} s")
    return Complete(
        reason=f"nothing for {seconds:g} s",
        shortfall=f"only {evidence.count} of {count} images were received: {says}",
    )


def _all_here(evidence: Evidence, policy: CompletionPolicy) -> str:
    """Return by which count every instance is here, or nothing."""
    count, announced, archive = evidence.count, evidence.expected, evidence.archive
    if (
        archive is not None
        and archive.count == count
        and archive.is_fresh
        and archive.unchanged_seconds >= policy.settle_seconds
        and (announced is None or announced <= count)
        and not evidence.why_not_early
    ):
        return f"all {count} instances that archive {archive.name} has"
    if evidence.multi_frame or announced is None or announced > count or evidence.why_not_counted:
        return ""
    return f"all {announced} instances that the sender announced"


def _whole(evidence: Evidence) -> str:
    """Return what the instances are if they may be a whole by themselves, or nothing."""
    announced = evidence.expected
    if evidence.multi_frame:
        is_whole = announced is None or evidence.count >= announced
        return "multi-frame image whole" if is_whole else ""
    is_whole = announced is None and is_plausible_whole(evidence.positions)
    return "slices contiguous over a chest" if is_whole else ""


def _partial(evidence: Evidence) -> str:
    if evidence.multi_frame:
        return "parts of a concatenation are missing"
    return "the slices are no whole chest yet"


def _shortfall(evidence: Evidence) -> str:
    """Say how many of the announced instances are missing, unless the announcement is doubtful.

    The archive, which has just those that are here, is believed more.
    """
    count, announced, archive = evidence.count, evidence.expected, evidence.archive
    if announced is None or announced <= count or evidence.multi_frame:
        return ""
    if evidence.announcements_differ or (archive is not None and archive.count == count):
        return ""
    return f"only {count} of {announced} images were received: the sender announced {announced}"


def is_plausible_whole(positions: tuple[float | None, ...]) -> bool:
    """Tell whether slices lie without a gap over the length of a chest."""
    if not is_contiguous(positions):
        return False
    known = [position for position in positions if position is not None]
    return max(known) - min(known) >= SHORTEST_CHEST_MM


def is_contiguous(positions: tuple[float | None, ...]) -> bool:
    """Tell whether slices lie at even steps without a gap; two at least are needed.

    As far as they can be told from positions that somebody rounded.
    """
    known = sorted(position for position in positions if position is not None)
    if len(known) < max(2, len(positions)):
        return False
    steps = [after - before for before, after in pairwise(known)]
    usual, allowed = usual_step(steps, resolution(known))
    return all(step > 0 and abs(step - usual) <= allowed for step in steps)
