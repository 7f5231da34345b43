"""Reads and decodes the images of series that are still being received.

It only saves time: a series that was not read, or not wholly, is read when it is loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid
from inference.loading.decoder_process import DecoderPool
from inference.loading.parallel import THREADS
from inference.loading.stored_images import SeriesReader, StoredSeries

_LOG = logging.getLogger(__name__)
_FRAME_SECONDS = 1.0
"""Processor time that a frame may take in addition to the time for its size. A frame that needs
more is decoded when its series is loaded, with a longer limit."""
_BATCH = 2 * THREADS


class ReadAhead:
    """The series of one process that are read ahead."""

    def __init__(self) -> None:
        """Begin without a series."""
        self._readers: dict[Uid, SeriesReader] = {}
        self._decoder = DecoderPool(THREADS, _FRAME_SECONDS)

    def read(
        self,
        series_uid: Uid,
        instances: Sequence[ReceivedInstance],
        *,
        seconds: float,
        budget: int,
    ) -> int:
        """Read images of a series for about ``seconds``; return how many need no other call.

        Images that would not fit into ``budget`` bytes, with those of all series, are not read.
        """
        reader = self._readers.setdefault(series_uid, SeriesReader())
        end = time.monotonic() + seconds
        for first in range(0, len(instances), _BATCH):
            if time.monotonic() >= end:
                return first
            batch = instances[first : first + _BATCH]
            kept = sum(reader.size for reader in self._readers.values())
            if kept + sum(instance.size for instance in batch) > budget:
                break
            try:
                reader.read(batch, self._decoder)
            except Exception as error:  # noqa: BLE001 - the loading of the series meets it again
                _LOG.warning("series %s is not read ahead: %s", series_uid, type(error).__name__)
                self._readers.pop(series_uid, None)
                break
        return len(instances)

    def keep(self, series_uids: Collection[Uid]) -> None:
        """Forget every series but these."""
        self._readers = {uid: kept for uid, kept in self._readers.items() if uid in series_uids}
        if not self._readers:
            self._decoder.close()

    def stored(self, series: Series) -> StoredSeries:
        """Return the files of a complete series and forget the series; read what is not read."""
        reader = self._readers.pop(series.series_uid, None) or SeriesReader()
        if not self._readers:
            self._decoder.close()
        return reader.stored(series.instances)
