"""How many images the archive has of each series that is being received.

Asked in a loop of its own, a series at a time: an archive that is slow or away holds up neither
the completion of series nor anything else. What it said is known in memory only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from chestct.text import printable
from chestct.uids import Uid
from dicom_out.network.allowance import Conversations
from dicom_out.network.counting import NoCount, count_images
from dicom_out.network.query import ArchiveUnavailable
from rales.config.peers import destinations_of
from rales.config.sections import Config
from rales.runtime.loglimit import LogLimiter
from rales.state.store.job import Job
from rales.steps.completeness import ArchiveAnswer

_LOG = logging.getLogger(__name__)

_LONGEST_PAUSE = 15.0
"""Seconds between two questions about one series of which the archive says nothing new."""
_SOONEST = 0.25
"""Of the usual pause: so soon after a question the next one about the same series may follow."""
_FIRST_REST, _LONGEST_REST = 5.0, 60.0
"""Seconds without any question after the archive could not be asked; doubled each time."""
_NO_NUMBER_REST = 60.0
_LONGEST_TROUBLE = 200

Ask = Callable[[Uid, Uid], int]
"""Tells how many images a study's series has; raises what :func:`count_images` raises."""


@dataclass(slots=True, kw_only=True)
class _Question:
    """What is known of one job's series; times are monotonic seconds."""

    study_uid: Uid
    series_uid: Uid
    due: float
    pause: float
    arrivals: int = 0
    count: int | None = None
    answered_first: float = 0.0
    asked_last: float = 0.0
    asked_arrivals: int = -1
    trouble: str = ""


class ArchiveCounts:
    """Is told which series are being received, and tells what the archive says of them.

    A series is asked about when it begins, again and again until the number stops growing, and
    anew when as many images are here as the archive had. Safe to use from several threads.
    """

    def __init__(
        self,
        *,
        name: str,
        ask: Ask,
        pause_seconds: float,
        on_change: Callable[[], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call ``on_change`` after an answer, and when there is a question to ask."""
        self._name = name
        self._ask = ask
        self._pause = pause_seconds
        self._on_change = on_change
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._questions: dict[int, _Question] = {}
        self._away = ""
        self._rest = _FIRST_REST
        self._resting_until = 0.0
        self._limiter = LogLimiter(_LOG, seconds=monotonic)

    def answer_on(self, job: Job, count: int) -> ArchiveAnswer:
        """Return what the archive says of a job's series, of which ``count`` images are here."""
        now = self._monotonic()
        with self._lock:
            one = self._questions.get(job.id)
            is_urgent = one is None
            if one is None:
                one = self._questions[job.id] = _Question(
                    study_uid=job.study_uid, series_uid=job.series_uid, due=now, pause=self._pause
                )
            one.arrivals = job.arrivals
            is_fresh = one.asked_arrivals == job.arrivals
            if one.count is not None and one.count <= count and not is_fresh:
                pause = self._pause * (_SOONEST if one.count == count else 1.0)
                soonest = max(now, one.asked_last + pause)
                if soonest < one.due:
                    one.due, is_urgent = soonest, True
            answer = ArchiveAnswer(
                name=self._name,
                count=one.count,
                unchanged_seconds=max(0.0, one.asked_last - one.answered_first),
                is_fresh=is_fresh,
                trouble=one.trouble or self._away,
            )
        if is_urgent:
            self._on_change()
        return answer

    def keep(self, jobs: Collection[int]) -> None:
        """Forget every series but those of ``jobs``."""
        with self._lock:
            for gone in self._questions.keys() - set(jobs):
                del self._questions[gone]

    def step(self, now: datetime) -> datetime | None:
        """Ask about the series that is due longest; return when the next question is."""
        with self._lock:
            one = min(self._questions.values(), key=lambda each: each.due, default=None)
            if one is None:
                return None
            began = self._monotonic()
            wait = max(one.due, self._resting_until) - began
            if wait > 0:
                return now + timedelta(seconds=wait)
            arrivals = one.arrivals
        try:
            count = self._ask(one.study_uid, one.series_uid)
        except NoCount as error:
            self._without_number(one, printable(str(error), _LONGEST_TROUBLE))
        except ArchiveUnavailable as error:
            self._unavailable(printable(str(error), _LONGEST_TROUBLE))
        else:
            self._answered(one, count, arrivals=arrivals, began=began)
        self._on_change()
        return now

    def _answered(self, one: _Question, count: int, *, arrivals: int, began: float) -> None:
        now = self._monotonic()
        with self._lock:
            is_back, self._away, self._rest = bool(self._away), "", _FIRST_REST
            if count != one.count:
                one.count, one.answered_first, one.pause = count, now, self._pause
            one.trouble = ""
            one.asked_last, one.asked_arrivals = began, arrivals
            lasted = began - one.answered_first
            if lasted >= self._pause:
                one.pause = min(2 * one.pause, max(_LONGEST_PAUSE, self._pause))
                one.due = now + one.pause
            else:  # until it has lasted long enough to be believed
                one.due = max(now, one.answered_first + self._pause)
        if is_back:
            _LOG.info("archive %s says again how many images it has", self._name)

    def _without_number(self, one: _Question, trouble: str) -> None:
        with self._lock:
            self._away, self._rest = "", _FIRST_REST
            one.trouble = trouble
            one.due = self._monotonic() + _NO_NUMBER_REST
        self._warn(trouble)

    def _unavailable(self, trouble: str) -> None:
        with self._lock:
            self._away = trouble
            self._resting_until = self._monotonic() + self._rest
            self._rest = min(2 * self._rest, _LONGEST_REST)
        self._warn(trouble)

    def _warn(self, trouble: str) -> None:
        self._limiter.warning(
            f"archive {self._name} does not say how many images it has ({trouble}): "
            "series are complete without it"
        )


def archive_counts_of(
    config: Config, on_change: Callable[[], object], under_way: Conversations
) -> ArchiveCounts | None:
    """Return what asks the configured archive; None where none is configured."""
    completion = config.completion
    if not completion.archive:
        return None
    return ArchiveCounts(
        name=completion.archive,
        ask=partial(
            count_images,
            archive=destinations_of(config)[completion.archive],
            calling_ae=config.node.ae_title,
            timeout_seconds=completion.archive_timeout_seconds,
            under_way=under_way,
        ),
        pause_seconds=completion.settle_seconds,
        on_change=on_change,
    )
