"""Writes the SEGs and SRs of one analysed series, and reads each back before accepting it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.errors import RalesError, ResultInvalid
from chestct.results import Profile, ResultObject
from chestct.text import printable
from dicom_out.objects.seg import LESIONS, SegDocument, build_seg, tissues_document
from dicom_out.objects.seg_check import require_mask
from dicom_out.objects.seg_parts import MOST_FRAMES, split
from dicom_out.objects.segments import Segments, lesion_segments, tissue_segments
from dicom_out.objects.sources import Sources
from dicom_out.objects.sr import build_sr
from dicom_out.objects.sr_content import ReportContent, WrittenSeg, WrittenSegments
from dicom_out.objects.written import EncodedObject, encode, verify

_ERROR_CHARACTERS = 200
"""Characters quoted from the error of a library."""


def compose(
    analysed: AnalysedSeries, sources: Sources, folder: Path, profiles: Sequence[Profile]
) -> tuple[ResultObject, ...]:
    """Write the SEGs and SRs of ``profiles`` into ``folder``; return them, each SEG before its SR.

    Other profiles share SEGs of OHIF, so OHIF comes first. The same arguments write the same bytes.

    Raises:
        ResultInvalid: An object cannot be built, or does not read back as computed.
        OSError: The files cannot be written.
    """
    layers = tuple(_layers(analysed))
    shared: tuple[WrittenSegments, ...] = ()
    written: list[ResultObject] = []
    for profile in profiles:
        writer = _Writer(analysed=analysed, sources=sources, profile=profile)
        holding = _segments_of(profile, layers, shared, writer)
        if profile is Profile.WEASIS and not writer.encoded:
            continue  # no SEG is split: the objects of OHIF suit
        writer.add_report(holding)
        written += [item.write(folder) for item in writer.encoded]
        if profile is Profile.OHIF:
            shared = holding
    return tuple(written)


Layer = tuple[SegDocument, Segments]
"""Segments that do not overlap, and the SEG that holds them."""


def _layers(analysed: AnalysedSeries) -> Iterator[Layer]:
    findings = analysed.findings
    yield (
        tissues_document(findings),
        tissue_segments(analysed.lesion_map, findings.method),
    )
    if analysed.options.lesion_segments and analysed.measured:
        yield LESIONS, lesion_segments(analysed.lesion_map, analysed.measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    """Builds the objects of one profile, encodes them and reads them back."""

    analysed: AnalysedSeries
    sources: Sources
    profile: Profile
    encoded: list[EncodedObject] = field(default_factory=list)

    def add_seg(self, document: SegDocument, segments: Segments) -> WrittenSeg:
        """Add a SEG."""
        role = self.profile.role(document.object_role)
        with _naming(role):
            seg = build_seg(
                self.analysed,
                self.sources,
                document=document,
                profile=self.profile,
                segments=segments,
            )
            # Before anything reads elements of the SEG: pydicom encodes what was read anew.
            self._add(role, seg)
            content = self.encoded[-1].content
            if self.profile is Profile.LABELMAP:
                _require_numbers(content, segments, self.sources)
            else:
                require_mask(content, segments, self.sources, self.analysed.volume.geometry)
        return WrittenSeg(seg=seg, plans=segments.plans)

    def add_report(self, layers: Sequence[WrittenSegments]) -> None:
        """Add the SR on the tissues and, if they are segments, the largest lesions."""
        tissues, *others = layers
        content = ReportContent(
            analysed=self.analysed,
            profile=self.profile,
            tissues=tissues,
            lesions=others[0] if others else None,
        )
        role = self.profile.role("sr")
        with _naming(role):
            self._add(role, build_sr(content, self.sources))

    def _add(self, role: str, dataset: Dataset) -> None:
        self.encoded.append(encode(role, dataset))
        verify(self.encoded[-1], self.sources, self.analysed.volume)


def _segments_of(
    profile: Profile,
    layers: Sequence[Layer],
    shared: tuple[WrittenSegments, ...],
    writer: _Writer,
) -> tuple[WrittenSegments, ...]:
    """Return the segments that the SR of a profile may reference; write SEGs of its own."""
    match profile:
        case Profile.SLICER:
            return shared[:1]  # 3D Slicer expects the segments of one SEG
        case Profile.PLAIN:
            return tuple(WrittenSegments(segments=segments, parts=()) for _, segments in layers)
        case Profile.WEASIS:
            return tuple(
                _split(document, segments, writer) if segments.frames > MOST_FRAMES else whole
                for (document, segments), whole in zip(layers, shared, strict=True)
            )
        case Profile.OHIF | Profile.LABELMAP:
            return tuple(
                WrittenSegments(segments=segments, parts=(writer.add_seg(document, segments),))
                for document, segments in layers
            )


def _split(document: SegDocument, segments: Segments, writer: _Writer) -> WrittenSegments:
    """Write a SEG in parts."""
    parts = [
        writer.add_seg(replace(document, part=number, description=part.description), part.segments)
        for number, part in enumerate(split(segments), start=1)
    ]
    return WrittenSegments(segments=segments, parts=tuple(parts))


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


def _require_numbers(content: bytes, segments: Segments, sources: Sources) -> None:
    """Check voxel by voxel that a label map holds the segments, slice by source slice."""
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
