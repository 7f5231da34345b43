"""What is fuzzed, by hypothesis in tests/faults and for hours by atheris in bench/fuzz.py.

A target takes any bytes. It lets nothing pass but the errors that its subject promises.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from ct_series import ct_slice, received, stored_values
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from chestct.errors import NotDicom, SeriesRejected
from chestct.series import Series
from inference.loading.loader import LoadingPolicy, load
from inference.loading.rules import EligibilityRules
from rales.steps.completeness import CompletionPolicy, Evidence, decide
from scp import headers
from scp.contexts import TRANSFER_SYNTAXES

CORPUS = Path(__file__).parents[1] / "corpus"
_SYNTAXES = (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless)
_POLICY = LoadingPolicy(rules=EligibilityRules(minimum_slices=2, maximum_thickness_mm=100.0))
_HEADER = 132


def receiver(data: bytes) -> None:
    """Parse the bytes as a data set in the transfer syntax that the first one names."""
    if not data:
        return
    syntax = TRANSFER_SYNTAXES[data[0] % len(TRANSFER_SYNTAXES)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = headers.parse(data[1:], syntax)
        except NotDicom:
            return
    assert len(header.patient_key) == 64
    assert header.slice_position is None or math.isfinite(header.slice_position)
    assert header.expected_instances is None or header.expected_instances > 0


def assembler(data: bytes) -> None:
    """Decide on positions, counts and times that the bytes hold."""
    words = [word for (word,) in struct.iter_unpack("<d", data[: len(data) // 8 * 8])]
    positions = tuple(None if math.isnan(one) else one for one in words[2:])
    now = datetime(2026, 1, 2, tzinfo=UTC)
    seconds = min(abs(words[0]), 1e6) if words and math.isfinite(words[0]) else 0.0
    evidence = Evidence(
        count=len(positions),
        expected=int(words[1]) if len(words) > 1 and 0 < words[1] < 1e9 else None,
        positions=positions,
        last_received_at=now - timedelta(seconds=seconds),
        association_ended_at=now if data[-1:] > b"\x80" else None,
        multi_frame=data[:1] > b"\xc0",
    )
    decision = decide(evidence, CompletionPolicy(), now)
    later = decide(evidence, CompletionPolicy(), now + timedelta(days=365))
    assert decision.reason
    assert type(later).__name__ == "Complete", "every series is complete in the end"


def loader(data: bytes) -> None:
    """Load a series one of whose files has the bytes written over it, at places that they name."""
    if not data:
        return
    files = list(_series(data[0] % len(_SYNTAXES)))
    changed = bytearray(files[1])
    for place, value in struct.iter_unpack("<HB", data[1 : 1 + (len(data) - 1) // 3 * 3]):
        changed[_HEADER + place % (len(changed) - _HEADER)] = value
    files[1] = bytes(changed)
    load_files(files)


def load_files(files: list[bytes]) -> None:
    """Load files as if a receiver had recorded them; only a refusal may be raised."""
    with TemporaryDirectory(prefix="rales-fuzz-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = []
        for number, (content, dataset) in enumerate(zip(files, _datasets(), strict=True)):
            path = Path(folder) / str(number)
            path.write_bytes(content)
            records.append(received(path, dataset))
        with suppress(SeriesRejected):
            load(Series.of(records), _POLICY)


@cache
def _datasets() -> tuple[Dataset, ...]:
    made = [ct_slice(index, stored) for index, stored in enumerate(stored_values(3))]
    for dataset in made:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return tuple(made)


@cache
def _series(kind: int) -> tuple[bytes, ...]:
    syntax = _SYNTAXES[kind]
    files = []
    for index, stored in enumerate(stored_values(3)):
        dataset = ct_slice(index, stored)
        if syntax.is_encapsulated:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = syntax
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
        files.append(buffer.getvalue())
    return tuple(files)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "receiver": receiver,
    "assembler": assembler,
    "loader": loader,
}


def packed(numbers: list[float]) -> bytes:
    """Return numbers as :func:`assembler` reads them."""
    return struct.pack(f"<{len(numbers)}d", *numbers)
