"""Writes the result objects of one analysis, and trusts them only after reading them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.errors import RalesError, ResultInvalid
from chestct.evolution import Evolution
from chestct.findings import Findings
from chestct.results import (
    AnalysisKey,
    ModelIdentity,
    ReportOptions,
    ResultReference,
    ResultSet,
    SegKind,
)
from chestct.series import Series
from chestct.text import printable
from chestct.volume import LesionMap, Volume
from dicom_out.objects.identity import SoftwareIdentity
from dicom_out.objects.seg import LESIONS, build_seg, tissues_of
from dicom_out.objects.segments import Segments, lesion_segments, tissue_segments
from dicom_out.objects.sources import Sources, read_sources
from dicom_out.objects.sr import build_sr
from dicom_out.objects.sr_groups import Drawn, Reported
from dicom_out.objects.written import encode, verify, write

__all__ = ["SoftwareIdentity", "compose", "warm_up"]

_MOST_SAID = 200
"""Characters of what a library says of an error."""


def compose(
    *,
    series: Series,
    volume: Volume,
    lesion_map: LesionMap,
    findings: Findings,
    models: tuple[ModelIdentity, ...],
    key: AnalysisKey,
    predecessor: ResultReference | None,
    folder: Path,
    created: datetime,
    software: SoftwareIdentity,
    options: ReportOptions = ReportOptions(),  # noqa: B008 - frozen
    kind: SegKind = SegKind.BINARY,
    evolution: Evolution | None = None,
) -> ResultSet:
    """Write the SEG and the SR into ``folder`` and return them, each SEG before the SR.

    ``models`` are the lung and the lesion model. The same arguments give the same objects.

    Raises:
        ResultInvalid: An object cannot be built, or does not read back as what was computed.
        OSError: The files cannot be written.
    """
    sources = read_sources(series, volume)
    measured = findings.lesions[: options.measured_lesions]
    layers = [(tissues_of(findings.covers), tissue_segments(volume, lesion_map, findings.method))]
    if options.lesion_segments and measured:
        layers.append((LESIONS, lesion_segments(lesion_map, measured)))
    drawn: list[Drawn] = []
    encoded: list[tuple[str, bytes, Dataset]] = []
    for document, segments in layers:
        role = kind.role(document.role)
        with _named(role):
            seg = build_seg(
                document=document,
                kind=kind,
                sources=sources,
                segments=segments,
                models=models,
                parameters=parameters_of(findings),
                key=key,
                created=created,
                software=software,
            )
            content = encode(seg)  # before anything reads in it: what was read is encoded anew
            verify(content, sources, volume)
            _verify_mask(content, segments, sources)
        encoded.append((role, content, seg))
        drawn.append(Drawn(seg=seg, segments=segments))
    role = kind.role("sr")
    with _named(role):
        sr = build_sr(
            kind=kind,
            sources=sources,
            told=Reported(
                volume=volume,
                lesion_map=lesion_map,
                findings=findings,
                tissues=drawn[0],
                lesions=drawn[1] if len(drawn) > 1 else None,
                measured=measured,
                models=models,
                parameters=parameters_of(findings),
                key=key,
                evolution=evolution,
            ),
            predecessor=predecessor,
            created=created,
            software=software,
        )
        content = encode(sr)
        verify(content, sources, volume)
    encoded.append((role, content, sr))
    return ResultSet(
        key=key,
        objects=tuple(
            write(folder / f"{name}.dcm", name, content, dataset)
            for name, content, dataset in encoded
        ),
    )


@contextmanager
def _named(role: str) -> Iterator[None]:
    """Turn whatever the libraries raise over an object into an error that names it.

    It is permanent: the same images would raise the same again, after as long an analysis. What
    is handed to the libraries bears no patient, so that their words may be shown.
    """
    try:
        yield
    except (RalesError, OSError, MemoryError):
        raise
    except Exception as error:
        said = printable(f"{type(error).__name__}: {error}", _MOST_SAID)
        raise ResultInvalid(f"the {role} cannot be written ({said})") from error


def _verify_mask(content: bytes, segments: Segments, sources: Sources) -> None:
    """Check voxel by voxel that the SEG holds the segments, slice by source slice."""
    seg = hd.seg.segread(BytesIO(content))
    found = (_by_frame if sources.multi_frame else _by_instance)(seg, sources)
    if not np.array_equal(found, segments.numbers):
        raise ResultInvalid("the SEG does not hold the mask that was computed")


def _by_instance(seg: hd.seg.Segmentation, sources: Sources) -> NDArray[np.integer[Any]]:
    return seg.get_pixels_by_source_instance(
        [place.sop_instance_uid for place in sources.slices],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


def _by_frame(seg: hd.seg.Segmentation, sources: Sources) -> NDArray[np.integer[Any]]:
    found = np.zeros((len(sources.slices), seg.Rows, seg.Columns), np.uint8)
    for image in sources.images:
        own = sources.slices_of(str(image.SOPInstanceUID))
        found[[index for index, _ in own]] = seg.get_pixels_by_source_frame(
            image.SOPInstanceUID,
            [frame for _, frame in own],
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    return found


def warm_up() -> None:
    """Load highdicom's IOD tables now (0.6 s) rather than with the first result."""
    get_iod_module_map()
    get_module_attribute_map()


def parameters_of(findings: Findings) -> dict[str, str]:
    """Return what the lesion model's results were measured with (Algorithm Parameters)."""
    method = findings.method
    stated = {
        "high_opacity_hu": method.high_opacity_hu,
        "minimum_lesion_ml": method.minimum_lesion_ml,
        "minimum_lesion_hu": method.minimum_lesion_hu,
        "mild_percent": method.mild_percent,
        "moderate_percent": method.moderate_percent,
        "operating_point": findings.presence.operating_point,
    }
    return {name: f"{value:g}" for name, value in stated.items() if value is not None}
