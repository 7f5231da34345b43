"""Series made to break the loader: each is rejected with a reason, or read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import hostile_series
import numpy as np
import pytest
from ct_series import SeriesMaker
from hostile_series import SERIES_SLICES, Harm
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from chestct.errors import RejectReason, SeriesRejected
from chestct.volume import Volume
from inference.loading import codestreams
from inference.loading import loader as loading
from inference.loading.decoder_process import DecoderProcess
from inference.loading.headers import LARGEST_SIDE
from inference.loading.loader import LoadingPolicy, load
from inference.loading.rules import EligibilityRules

pytestmark = pytest.mark.slow

POLICY = LoadingPolicy(rules=EligibilityRules(minimum_slices=SERIES_SLICES))
HARMS = hostile_series.harms()
KINDS = sorted({harm.kind for harm in HARMS})


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    """A decoder for all series: starting one for each would take half a second."""
    with DecoderProcess() as process:
        yield process


def outcome(harm: Harm, folder: Path, decoder: DecoderProcess) -> RejectReason | Volume:
    try:
        return load(hostile_series.write(harm, folder), POLICY, decoder=decoder)
    except SeriesRejected as rejection:
        return rejection.reason


def test_the_honest_series_is_read(tmp_path: Path, decoder: DecoderProcess) -> None:
    for syntax in {harm.syntax for harm in HARMS}:
        harm = Harm(name="none", kind="none", change=lambda _, _raw: None, syntax=syntax)
        assert isinstance(outcome(harm, tmp_path, decoder), Volume)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_each_harm_is_refused_or_harmless(
    kind: str, tmp_path: Path, decoder: DecoderProcess
) -> None:
    """A RuntimeWarning, as of an overflow, is an error here: the numbers would be wrong."""
    for harm in HARMS:
        if harm.kind != kind:
            continue
        found = outcome(harm, tmp_path, decoder)
        if isinstance(found, Volume):
            assert not harm.refused, harm.name
            assert found.hu.dtype == np.int16, harm.name
            assert all(map(math.isfinite, found.geometry.affine.ravel())), harm.name


def test_there_are_hundreds_and_no_name_twice() -> None:
    assert len(HARMS) > 500
    assert len({harm.name for harm in HARMS}) == len(HARMS)


def test_no_decoder_gets_a_codestream_larger_than_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: DecoderProcess
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(DecoderProcess, "decode", decoded)
    bombs = [harm for harm in HARMS if harm.name.startswith(("a stream of", "65535 x"))]
    assert len(bombs) > 10
    for harm in bombs:
        assert outcome(harm, tmp_path, decoder) in {RejectReason.BAD_PIXELS, RejectReason.TOO_LARGE}


@pytest.mark.parametrize("side", [LARGEST_SIDE + 1, 65535])
def test_an_image_that_is_too_large_is_rejected_with_the_limit(
    make_ct: SeriesMaker, side: int
) -> None:
    with pytest.raises(SeriesRejected, match="at most 4096x4096") as rejection:
        load(make_ct(lambda _, dataset: setattr(dataset, "Rows", side)), LoadingPolicy())
    assert rejection.value.reason is RejectReason.TOO_LARGE


def test_a_series_that_is_too_large_is_rejected_before_allocation(
    make_ct: SeriesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = make_ct()
    monkeypatch.setattr(loading, "MOST_VOXELS", 1000)
    with pytest.raises(SeriesRejected, match="at most 1000 are analysed") as rejection:
        load(series, LoadingPolicy())
    assert rejection.value.reason is RejectReason.TOO_LARGE


def _frame(*, rows: int, columns: int, components: int = 1) -> bytes:
    """Return the start of a lossless JPEG stream with a comment and fill bytes in it."""
    size = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    return b"\xff\xd8\xff\xfe\x00\x04hi\xff\xff\xc3\x00\x0b\x10" + size + bytes([components, 1])


@pytest.mark.parametrize(
    ("stream", "fits"),
    [
        (_frame(rows=40, columns=34), True),
        (_frame(rows=34, columns=40), False),
        (_frame(rows=40, columns=34, components=3), False),
        (_frame(rows=40, columns=34)[:14], False),
        (b"\xff\xd8\xff\xd9", False),
        (b"", False),
    ],
)
def test_the_size_of_a_jpeg_stream_is_that_of_the_header(stream: bytes, *, fits: bool) -> None:
    for syntax in (JPEGLosslessSV1, JPEGLSLossless):
        if fits:
            codestreams.check(stream, syntax, 40, 34)
        else:
            with pytest.raises(codestreams.CodestreamInvalid):
                codestreams.check(stream, syntax, 40, 34)


def test_a_jpeg_2000_stream_in_a_jp2_file_is_found() -> None:
    stream = next(raw.stream for _, _, raw in hostile_series.honest(JPEG2000Lossless))
    assert stream is not None
    codestreams.check(stream, JPEG2000Lossless, 40, 34)
    codestreams.check(b"\x00\x00\x00\x0cjP  " + bytes(70) + stream, JPEG2000Lossless, 40, 34)
    with pytest.raises(codestreams.CodestreamInvalid):
        codestreams.check(stream[:30], JPEG2000Lossless, 40, 34)
