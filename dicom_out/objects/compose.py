"""Writes the SEGs and the SR of one analysed series, and reads each back before accepting it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from numpy.typing import NDArray

from chestct.analysed import AnalysedSeries
from chestct.errors import RalesError, ResultInvalid
from chestct.results import ResultObject, SegKind
from chestct.text import printable
from dicom_out.objects.seg import LESIONS, SegDocument, build_seg, tissues_document
from dicom_out.objects.segments import Segments, lesion_segments, tissue_segments
from dicom_out.objects.sources import Sources
from dicom_out.objects.sr import build_sr
from dicom_out.objects.sr_content import ReportContent, SegWithSegments
from dicom_out.objects.written import EncodedObject, encode, verify

_ERROR_CHARACTERS = 200
"""Characters quoted from the error of a library."""


def compose(
    analysed: AnalysedSeries, sources: Sources, folder: Path, kind: SegKind
) -> tuple[ResultObject, ...]:
    """Write the SEGs and the SR into ``folder`` and return them, each SEG before the SR.

    The same arguments write the same bytes.

    Raises:
        ResultInvalid: An object cannot be built, or does not read back as computed.
        OSError: The files cannot be written.
    """
    encoded: list[EncodedObject] = []
    segs: list[SegWithSegments] = []
    for document, segments in _layers(analysed):
        role = kind.role(document.role)
        with _naming(role):
            seg = build_seg(analysed, sources, document=document, kind=kind, segments=segments)
            # Before anything reads elements of the SEG: pydicom encodes what was read anew.
            encoded.append(encode(role, seg))
            verify(encoded[-1], sources, analysed.volume)
            _verify_mask(encoded[-1].content, segments, sources)
        segs.append(SegWithSegments(seg=seg, segments=segments))
    role = kind.role("sr")
    with _naming(role):
        content = ReportContent(
            analysed=analysed, tissues=segs[0], lesions=next(iter(segs[1:]), None)
        )
        encoded.append(encode(role, build_sr(content, sources, kind)))
        verify(encoded[-1], sources, analysed.volume)
    return tuple(item.write(folder) for item in encoded)


def _layers(analysed: AnalysedSeries) -> Iterator[tuple[SegDocument, Segments]]:
    """Yield each SEG to write with its segments."""
    findings = analysed.findings
    yield (
        tissues_document(findings.covers),
        tissue_segments(analysed.lesion_map, findings.method),
    )
    if analysed.options.lesion_segments and analysed.measured:
        yield LESIONS, lesion_segments(analysed.lesion_map, analysed.measured)


@contextmanager
def _naming(role: str) -> Iterator[None]:
    """Turn any exception of a library into an error that names the object.

    The error is permanent: the same images would raise it again, after another whole analysis.
    The libraries receive no patient data, so that their messages may be shown.
    """
    try:
        yield
    except (RalesError, OSError, MemoryError):
        raise
    except Exception as error:
        quoted = printable(f"{type(error).__name__}: {error}", _ERROR_CHARACTERS)
        raise ResultInvalid(f"the {role} cannot be written ({quoted})") from error


def _verify_mask(content: bytes, segments: Segments, sources: Sources) -> None:
    """Check voxel by voxel that the SEG holds the segments, slice by source slice."""
    seg = hd.seg.segread(BytesIO(content))
    numbers = (_by_frame if sources.multi_frame else _by_instance)(seg, sources)
    if not np.array_equal(numbers, segments.numbers):
        raise ResultInvalid("the SEG does not hold the mask that was computed")


def _by_instance(seg: hd.seg.Segmentation, sources: Sources) -> NDArray[np.integer[Any]]:
    return seg.get_pixels_by_source_instance(
        [source.sop_instance_uid for source in sources.slices],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


def _by_frame(seg: hd.seg.Segmentation, sources: Sources) -> NDArray[np.integer[Any]]:
    numbers = np.zeros((len(sources.slices), seg.Rows, seg.Columns), np.uint8)
    for image in sources.images:
        slices = sources.slices_of(str(image.SOPInstanceUID))
        numbers[[index for index, _ in slices]] = seg.get_pixels_by_source_frame(
            image.SOPInstanceUID,
            [frame for _, frame in slices],
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    return numbers


def warm_up() -> None:
    """Load the IOD tables of highdicom (0.6 s) before the first result needs them."""
    get_iod_module_map()
    get_module_attribute_map()
