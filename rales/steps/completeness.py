"""Decides whether a series is complete: a pure function of what is known of it.

A PACS does not say when a series ends. The first evidence that holds decides: the archive has
exactly the received number of instances and gets no more; the sender announced a number and
exactly that many are here; or nothing came for the quiet time.

An archive that has more instances shows that more may come. Rales waits for them longer than the
quiet time, but not for ever: the archive also counts instances that Rales refused. A series that
is closed then has a ``shortfall``. An archive that has fewer instances gets them later than this
node: that proves nothing.

No attribute of an image reliably holds the sender's number: it may be the number of one moment, or
of a part, and some senders count up as they send. Rales believes it where all images that state it
agree and no image came beyond it, and not again once it proved wrong.

The quiet time is long because senders pause: between two associations, or between two images that
each come in an association of their own. It is shortened to the settle time when one association,
the only one so far, was released and brought a plausible whole: slices without a gap over the
length of a chest. A part looks the same if its sender was interrupted at the wrong place.

So a series that is complete before the quiet time, by whatever evidence, is held (``hold_until``):
until the quiet time has passed, the analysis too must find a whole.

A multi-frame image is a stack by itself: it counts like contiguous slices. The number that it
announces, the parts of its concatenation, is a minimum: a series may hold other images as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from chestct.geometry import resolution, usual_step

SHORTEST_CHEST_MM = 180.0
"""From the first to the last slice. The lungs of an adult are 200 to 300 mm high; the shortest real
chest that this limit was chosen on has 192 mm from centre to centre. A shorter chest, such as a
child's, waits the quiet time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAnswer:
    """What the archive answers about a series.

    Attributes:
        name: The name of the archive, for messages.
        count: The number of instances that it has; None: it has not answered yet.
        unchanged_seconds: The time from its first to its last answer with this number.
        is_fresh: No instance was received since the question.
        trouble: Why it does not answer now, for messages.
    """

    name: str
    count: int | None
    unchanged_seconds: float = 0.0
    is_fresh: bool = False
    trouble: str = ""

    @property
    def is_awaited(self) -> bool:
        """Return whether an answer about the present instances is expected soon."""
        return not self.is_fresh and not self.trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a series that is being received.

    Attributes:
        count: The number of received instances.
        expected: Number of Series Related Instances, if the sender states it; for multi-frame
            images, the parts of the longest concatenation.
        announcements_differ: Single-frame images state different numbers.
        positions: The position of each instance along the slice normal in mm; None if its header
            gives none.
        last_received_at: When the last instance was received.
        association_ended_at: When the last association that brought images of the series was
            released; None while one is open.
        multi_frame: Every instance is a multi-frame image.
        associations: The number of ended associations that brought images of the series.
        revised: Images came after the series had been complete once.
        busy: More of its study is arriving (:class:`scp.traffic.Traffic`).
        read_early: It was complete before the quiet time and could not be analysed then.
        archive: The archive's answer; None if no archive is asked.
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
        """Return why only the quiet time is evidence; empty: other evidence counts too."""
        if self.revised:
            return "images came after it had been complete"
        return "it could not be analysed as it was" if self.read_early else ""

    @property
    def why_not_counted(self) -> str:
        """Return why the sender's number is no evidence; empty: it is."""
        if why_not := self.why_not_early:
            return why_not
        if self.announcements_differ:
            return "the images announce different numbers"
        if self.expected is not None and self.count > self.expected and not self.multi_frame:
            return "more images are here than the sender announced"
        return ""

    @property
    def why_not_settled(self) -> str:
        """Return why the quiet time is not shortened; empty: it may be."""
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
    """How long to wait, in seconds; the module says for what."""

    settle_seconds: float = 2.0
    quiet_seconds: float = 30.0
    archive_wait_seconds: float = 120.0
    """After the last instance, for more instances of the archive; at least the quiet time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The series is complete; ``reason`` names the evidence.

    Until ``hold_until`` the analysis must find a whole too. ``shortfall`` says how many instances
    are missing, and who says so.
    """

    reason: str
    hold_until: datetime | None = None
    shortfall: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    """The series may be complete at ``at`` if no instance comes before."""

    at: datetime
    reason: str


def decide(evidence: Evidence, policy: CompletionPolicy, now: datetime) -> Complete | WaitUntil:
    """Decide on the evidence at ``now``; wait no longer than the evidence needs."""
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
    """Return the count by which every instance is here; empty: no count says so."""
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
    """Return what whole the instances look like; empty: a part."""
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
    """Return how many announced instances are missing; empty: none, or the number is doubtful.

    An archive that has exactly the received instances outweighs the announcement.
    """
    count, announced, archive = evidence.count, evidence.expected, evidence.archive
    if announced is None or announced <= count or evidence.multi_frame:
        return ""
    if evidence.announcements_differ or (archive is not None and archive.count == count):
        return ""
    return f"only {count} of {announced} images were received: the sender announced {announced}"


def is_plausible_whole(positions: tuple[float | None, ...]) -> bool:
    """Return whether slices lie without a gap over the length of a chest."""
    if not is_contiguous(positions):
        return False
    known = [position for position in positions if position is not None]
    return max(known) - min(known) >= SHORTEST_CHEST_MM


def is_contiguous(positions: tuple[float | None, ...]) -> bool:
    """Return whether two or more slices lie at even steps without a gap.

    The tolerance allows for positions that the sender rounded.
    """
    known = sorted(position for position in positions if position is not None)
    if len(known) < max(2, len(positions)):
        return False
    steps = [after - before for before, after in pairwise(known)]
    usual, allowed = usual_step(steps, resolution(known))
    return all(step > 0 and abs(step - usual) <= allowed for step in steps)
