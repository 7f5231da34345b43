"""Decodes compressed frames in its own process, which a bad frame may end.

Decoders are native code that holds Python's lock. A few hundred bytes can keep a decoder busy for
hours, or make it abort its process. ``python -m inference.loading.decoding`` answers one request
after another; the kernel ends the process when a frame exceeds its time limit.
:class:`inference.loading.decoder_process.DecoderProcess` sends the requests.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
import sys
from dataclasses import asdict, dataclass
from typing import IO, Any

from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from chestct.text import printable

_PLUGINS = {
    HTJ2K: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    JPEGBaseline8Bit: "gdcm",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    RLELossless: "pylibjpeg",
}
"""The decoder of each transfer syntax, the fastest as measured. Where it fails, no other decoder is
tried: GDCM's JPEG 2000 decoder aborts on frames that OpenJPEG rejects."""

_LENGTHS = struct.Struct(">LQ")
"""Lengths of the JSON and of the bytes that follow."""
_MEMORY = 2 << 30
"""Limit of private memory in bytes; a frame of 4096 by 4096 takes a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameDescription:
    """The header attributes of a compressed frame (PS3.3 section C.7.6.3)."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric_interpretation: str


def write_message(pipe: IO[bytes], facts: dict[str, object], content: bytes) -> None:
    """Write a request or an answer."""
    text = json.dumps(facts).encode()
    pipe.write(_LENGTHS.pack(len(text), len(content)) + text)
    pipe.write(content)
    pipe.flush()


def read_message(pipe: IO[bytes]) -> tuple[dict[str, object], bytes]:
    """Read a request or an answer.

    Raises:
        EOFError: The other side has closed the pipe.
    """
    text_length, length = _LENGTHS.unpack(_take(pipe, _LENGTHS.size))
    facts: dict[str, object] = json.loads(_take(pipe, text_length))
    return facts, _take(pipe, length)


def request_of(
    description: FrameDescription, seconds: float, wall_seconds: float
) -> dict[str, object]:
    """Return the request to decode a frame within ``seconds`` of processor time."""
    return {"seconds": seconds, "wall_seconds": wall_seconds, "frame": asdict(description)}


def _take(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _decode(frame: bytes, described: FrameDescription) -> tuple[str, bytes]:
    """Return the data type and the values of a frame, row by row."""
    syntax = UID(described.transfer_syntax_uid)
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "rows": described.rows,
        "columns": described.columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": described.photometric_interpretation,
        "bits_allocated": described.bits_allocated,
        "bits_stored": described.bits_stored,
        "pixel_representation": int(described.signed),
        "pixel_keyword": "PixelData",
    }
    plugin = _PLUGINS[syntax]
    decoded, _ = get_decoder(syntax).as_array(
        encapsulate([frame]), raw=True, decoding_plugin=plugin, **options
    )
    return decoded.dtype.str, decoded.tobytes()


def _limit(seconds: float, wall_seconds: float) -> None:
    """Let the kernel end the process after this processor or wall-clock time; 0 lifts a limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)


def main() -> None:
    """Answer requests from standard input on standard output until the input is closed."""
    # The default action ends the process; a Python handler would wait for the decoder.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends this
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a decoder may print; the answers must not mix with it
    while True:
        try:
            facts, frame = read_message(requests)
        except EOFError:
            return
        _limit(float(str(facts["seconds"])), float(str(facts["wall_seconds"])))
        try:
            described = FrameDescription(**facts["frame"])  # type: ignore[arg-type]
            kind, values = _decode(frame, described)
        except BaseException as error:  # noqa: BLE001 - a decoder in Rust raises a BaseException
            refusal = printable(f"{type(error).__name__}: {error}")
            write_message(answers, {"error": refusal}, b"")
        else:
            write_message(answers, {"kind": kind}, values)
        finally:
            _limit(0.0, 0.0)


if __name__ == "__main__":
    main()
