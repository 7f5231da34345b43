"""Frames that crash, block or confuse their decoder are rejected, and affect no other frame."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import hostile_series
import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from chestct.errors import AnalysisCrashed, RejectReason, SeriesRejected
from inference.loading import pixels
from inference.loading.decoder_process import DecoderProcess, FrameUndecodable
from inference.loading.decoding import FrameDescription

pytestmark = pytest.mark.slow

SYNTAXES = (JPEG2000Lossless, JPEGLSLossless, RLELossless)


@pytest.fixture
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess() as process:
        yield process


def _honest(syntax: UID) -> tuple[bytes, FrameDescription]:
    dataset, _, raw = hostile_series.honest(syntax)[0]
    assert raw.stream is not None
    return raw.stream, FrameDescription(
        transfer_syntax_uid=syntax,
        rows=dataset.Rows,
        columns=dataset.Columns,
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        signed=dataset.PixelRepresentation == 1,
        photometric_interpretation=dataset.PhotometricInterpretation,
    )


def _process(decoder: DecoderProcess) -> subprocess.Popen[bytes]:
    assert decoder._process is not None
    return decoder._process


def test_a_killed_decoder_does_not_condemn_the_frame(decoder: DecoderProcess) -> None:
    """The kernel or a person may kill a decoder: the frame is tried again."""
    stream, described = _honest(RLELossless)
    decoder.decode(stream, described)
    _process(decoder).kill()
    with pytest.raises(AnalysisCrashed, match="killed"):
        decoder.decode(stream, described)
    assert decoder.decode(stream, described).size


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: one.keyword)
def test_a_damaged_frame_is_refused_or_read_and_the_next_one_is_read(syntax: UID) -> None:
    """Some of these never end: CharLS searches for a missing marker."""
    with DecoderProcess(seconds=0.5, standstill=1000) as decoder:
        _damage(decoder, syntax)


def _damage(decoder: DecoderProcess, syntax: UID) -> None:
    stream, described = _honest(syntax)
    whole = decoder.decode(stream, described)
    assert whole.size == described.rows * described.columns
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(40):
        damaged = bytearray(stream)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            values = decoder.decode(bytes(damaged[: chance.randint(1, len(damaged))]), described)
        except FrameUndecodable:
            continue
        assert values.size == whole.size
    assert np.array_equal(decoder.decode(stream, described), whole)


def test_a_frame_that_takes_too_long_is_named_and_the_process_replaced() -> None:
    """The kernel ends the process: no Python code runs in it while the decoder does."""
    stream, described = _honest(JPEG2000Lossless)
    with DecoderProcess() as decoder:
        whole = decoder.decode(stream, described)
        os.kill(_process(decoder).pid, signal.SIGSTOP)  # as if it were busy
        os.kill(_process(decoder).pid, signal.SIGPROF)  # what its timer sends
        os.kill(_process(decoder).pid, signal.SIGCONT)
        with pytest.raises(FrameUndecodable, match="did not finish within 10 s of processor time"):
            decoder.decode(stream, described)
        assert np.array_equal(decoder.decode(stream, described), whole)


def test_a_stalled_decoder_does_not_condemn_the_frame() -> None:
    """The machine is so busy that the decoder gets no processor time."""
    stream, described = _honest(JPEG2000Lossless)
    with DecoderProcess(seconds=0.5) as decoder:
        whole = decoder.decode(stream, described)
        os.kill(_process(decoder).pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(decoder.decode, stream, described)
            os.kill(_process(decoder).pid, signal.SIGALRM)
            os.kill(_process(decoder).pid, signal.SIGCONT)
            with pytest.raises(AnalysisCrashed, match="stood still"):
                asked.result()
        assert np.array_equal(decoder.decode(stream, described), whole)


def test_the_timer_runs_while_a_frame_is_decoded() -> None:
    """Noise of 1024 by 1024 pixels takes many ticks of processor time."""
    noise = np.random.default_rng(1).integers(0, 1 << 16, (1024, 1024), dtype=np.uint16)
    _, small = _honest(JPEG2000Lossless)
    described = replace(small, rows=1024, columns=1024, bits_allocated=16, bits_stored=16)
    described = replace(described, signed=False)
    with (
        DecoderProcess(seconds=1e-3 - 1024 * 1024 / 1e6, standstill=1e5) as decoder,
        pytest.raises(FrameUndecodable, match="did not finish within 0 s"),
    ):
        decoder.decode(encode_array(noise), described)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crashed_decoder_makes_its_frame_undecodable(
    decoder: DecoderProcess, number: signal.Signals
) -> None:
    stream, described = _honest(JPEGLSLossless)
    whole = decoder.decode(stream, described)
    os.kill(_process(decoder).pid, number)
    with pytest.raises(FrameUndecodable, match=f"crashed on it .exit status -{number.value}"):
        decoder.decode(stream, described)
    assert np.array_equal(decoder.decode(stream, described), whole)


def test_no_process_stays_behind() -> None:
    stream, described = _honest(RLELossless)
    with DecoderProcess() as decoder:
        decoder.decode(stream, described)
        process = _process(decoder)
    assert process.returncode is not None


def test_no_process_starts_for_uncompressed_pixels() -> None:
    with DecoderProcess() as decoder:
        assert decoder._process is None


def test_the_reason_names_the_syntax_and_not_the_content() -> None:
    dataset, _, _ = hostile_series.honest(JPEG2000Lossless)[0]

    class Dying:
        at_once = 1

        def decode(self, *_: object) -> np.ndarray:
            raise FrameUndecodable("the decoder did not finish within 10 s")

    with pytest.raises(SeriesRejected, match=r"JPEG 2000 .* decoded: the decoder did") as found:
        pixels.StoredFrames(dataset, Dying()).values(0)
    assert found.value.reason is RejectReason.BAD_PIXELS
