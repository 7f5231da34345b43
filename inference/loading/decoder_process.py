"""Starts and asks the process that decodes frames; see :mod:`inference.loading.decoding`."""

from __future__ import annotations

import signal
import subprocess
import sys
from queue import LifoQueue
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from chestct.errors import AnalysisCrashed
from inference.loading.decoding import (
    FrameDescription,
    read_message,
    request_of,
    write_message,
)

_SECONDS = 10.0
_PIXELS_PER_SECOND = 1e6
"""A frame may take its pixels divided by this, and ten seconds; 512 by 512 take 0.05 s."""
_STANDSTILL = 10
"""Wall-clock limit of a frame, in multiples of its limit of processor time: on a busy machine a
good frame may wait."""


class FrameUndecodable(ValueError):
    """A compressed frame that its decoder rejected, crashed on, or did not finish."""


class FrameDecoder(Protocol):
    """Decodes compressed frames, as :class:`DecoderProcess` does."""

    @property
    def at_once(self) -> int:
        """The number of threads that may ask at the same time."""

    def decode(self, frame: bytes, description: FrameDescription) -> NDArray[np.integer[Any]]:
        """Return the stored values of one frame (row by row, flat)."""


class DecoderProcess:
    """A decoder process that starts with the first frame and ends with the ``with`` block.

    Args:
        seconds: Processor time that a frame may take in addition to the time for its size.
        standstill: Wall-clock limit of a frame, in multiples of its limit of processor time.
    """

    at_once = 1

    def __init__(self, seconds: float = _SECONDS, standstill: float = _STANDSTILL) -> None:
        self._seconds, self._standstill = seconds, standstill
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def decode(self, frame: bytes, description: FrameDescription) -> NDArray[np.integer[Any]]:
        """Return the stored values of one frame (row by row, flat).

        Raises:
            FrameUndecodable: The decoder rejected the frame, crashed on it or took too long.
            AnalysisCrashed: The decoder was killed or stood still; the frame may be fine.
            OSError: No process can be started.
        """
        seconds = self._seconds + description.rows * description.columns / _PIXELS_PER_SECOND
        wall_seconds = seconds * self._standstill
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write_message(process.stdin, request_of(description, seconds, wall_seconds), frame)
            facts, values = read_message(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise self._why_it_ended(seconds) from error
        if "error" in facts:
            raise FrameUndecodable(f"the decoder rejects it: {facts['error']}")
        return np.frombuffer(values, dtype=np.dtype(str(facts["kind"])))

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inference.loading.decoding"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _why_it_ended(self, seconds: float) -> FrameUndecodable | AnalysisCrashed:
        assert self._process is not None
        code = self._process.wait()
        self.close()
        if code == -signal.SIGPROF:
            return FrameUndecodable(
                f"the decoder did not finish within {seconds:.0f} s of processor time"
            )
        if code == -signal.SIGALRM:
            wall_seconds = seconds * self._standstill
            return AnalysisCrashed(f"the frame decoder stood still for {wall_seconds:.0f} s")
        if code == -signal.SIGKILL:
            return AnalysisCrashed("the frame decoder was killed, perhaps because memory ran out")
        return FrameUndecodable(f"the decoder crashed on it (exit status {code})")


class DecoderPool:
    """Several decoder processes, which start when they are needed and end with the ``with`` block.

    A frame that ends its process affects no other frame.
    """

    def __init__(self, processes: int, seconds: float = _SECONDS) -> None:
        """Use up to ``processes`` processes; ``seconds`` as in :class:`DecoderProcess`."""
        self.at_once = processes
        self._decoders = [DecoderProcess(seconds) for _ in range(processes)]
        self._idle: LifoQueue[DecoderProcess] = LifoQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the next frame starts one again."""
        for decoder in self._decoders:
            decoder.close()

    def decode(self, frame: bytes, description: FrameDescription) -> NDArray[np.integer[Any]]:
        """Decode as :meth:`DecoderProcess.decode` does, in the next idle process."""
        decoder = self._idle.get()
        try:
            return decoder.decode(frame, description)
        finally:
            self._idle.put(decoder)
