"""Asks the archive how many images it has of each series that is being received.

A loop of its own asks about one series at a time, so that a slow or absent archive delays nothing
else. The answers are kept in memory only.
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
"""Seconds between two questions about a series whose count no longer changes."""
_SOONEST = 0.25
"""Fraction of the usual pause that must pass before the next question about the same series."""
_FIRST_REST, _LONGEST_REST = 5.0, 60.0
"""Seconds without a question after the archive could not be asked; doubled each time."""
_NO_NUMBER_REST = 60.0
_LONGEST_TROUBLE = 200

Ask = Callable[[Uid, Uid], int]
"""Returns the number of images of a series (study, series); raises as :func:`count_images`."""


@dataclass(slots=True, kw_only=True)
class _Question:
    """The state of the question about the series of one job; times are monotonic seconds."""

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
    """Keeps the archive's image counts of the series that are being received.

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
        """Call ``on_change`` after each answer, and when a question becomes due."""
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
        """Return the archive's answer about the series of a job that has ``count`` images here."""
        now = self._monotonic()
        with self._lock:
            question = self._questions.get(job.id)
            is_urgent = question is None
            if question is None:
                question = self._questions[job.id] = _Question(
                    study_uid=job.study_uid, series_uid=job.series_uid, due=now, pause=self._pause
                )
            question.arrivals = job.arrivals
            is_fresh = question.asked_arrivals == job.arrivals
            if question.count is not None and question.count <= count and not is_fresh:
                pause = self._pause * (_SOONEST if question.count == count else 1.0)
                soonest = max(now, question.asked_last + pause)
                if soonest < question.due:
                    question.due, is_urgent = soonest, True
            answer = ArchiveAnswer(
                name=self._name,
                count=question.count,
                unchanged_seconds=max(0.0, question.asked_last - question.answered_first),
                is_fresh=is_fresh,
                trouble=question.trouble or self._away,
            )
        if is_urgent:
            self._on_change()
        return answer

    def keep(self, jobs: Collection[int]) -> None:
        """Forget every series except those of ``jobs``."""
        with self._lock:
            for gone in self._questions.keys() - set(jobs):
                del self._questions[gone]

    def step(self, now: datetime) -> datetime | None:
        """Ask about the series that has been due longest; return when the next question is due."""
        with self._lock:
            question = min(self._questions.values(), key=lambda each: each.due, default=None)
            if question is None:
                return None
            began = self._monotonic()
            wait = max(question.due, self._resting_until) - began
            if wait > 0:
                return now + timedelta(seconds=wait)
            arrivals = question.arrivals
        try:
            count = self._ask(question.study_uid, question.series_uid)
        except NoCount as error:
            self._without_number(question, printable(str(error), _LONGEST_TROUBLE))
        except ArchiveUnavailable as error:
            self._unavailable(printable(str(error), _LONGEST_TROUBLE))
        else:
            self._answered(question, count, arrivals=arrivals, began=began)
        self._on_change()
        return now

    def _answered(self, question: _Question, count: int, *, arrivals: int, began: float) -> None:
        now = self._monotonic()
        with self._lock:
            is_back, self._away, self._rest = bool(self._away), "", _FIRST_REST
            if count != question.count:
                question.count, question.answered_first, question.pause = count, now, self._pause
            question.trouble = ""
            question.asked_last, question.asked_arrivals = began, arrivals
            lasted = began - question.answered_first
            if lasted >= self._pause:
                question.pause = min(2 * question.pause, max(_LONGEST_PAUSE, self._pause))
                question.due = now + question.pause
            else:  # ask again until the count has not changed for the whole pause
                question.due = max(now, question.answered_first + self._pause)
        if is_back:
            _LOG.info("archive %s says again how many images it has", self._name)

    def _without_number(self, question: _Question, trouble: str) -> None:
        with self._lock:
            self._away, self._rest = "", _FIRST_REST
            question.trouble = trouble
            question.due = self._monotonic() + _NO_NUMBER_REST
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
    """Return the counts of the configured archive; None where none is configured."""
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
