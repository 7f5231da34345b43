"""What the measurement groups of the report are written from, and the items that they share."""

from __future__ import annotations

from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.findings import Lesion
from chestct.results import Profile
from dicom_out.objects import codes
from dicom_out.objects.contours import outline, part_outlines
from dicom_out.objects.identity import reported_algorithm
from dicom_out.objects.segments import SegmentPlan, Segments


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSeg:
    """A SEG and the plans of the segments in it."""

    seg: Dataset
    plans: tuple[SegmentPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSegments:
    """Segments that do not overlap, and the SEGs that hold them: one, its parts, or none."""

    segments: Segments
    parts: tuple[WrittenSeg, ...]

    def reference(
        self, plan: SegmentPlan, source_series_uid: str
    ) -> hd.sr.ReferencedSegment | None:
        """Return the reference to a segment; None if no SEG holds the whole segment.

        ``ReferencedSegment.from_segmentation`` raises on a SEG with one segment (highdicom
        0.28.2).
        """
        holders = [
            (part.seg, held.number)
            for part in self.parts
            for held in part.plans
            if held.role == plan.role
        ]
        if len(holders) != 1:
            return None
        ((seg, number),) = holders
        source_series = hd.sr.SourceSeriesForSegmentation(source_series_uid)
        # highdicom 0.28.2 writes the meaning of an earlier edition of the standard.
        (name,) = source_series.ConceptNameCodeSequence
        name.CodeMeaning = codes.SOURCE_SERIES.meaning
        return hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=source_series,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """The analysed series and the SEGs that its report references.

    Attributes:
        tissues: The segments of lungs and opacities.
        lesions: The segments of the largest lesions; None when they were not asked for.
    """

    analysed: AnalysedSeries
    profile: Profile
    tissues: WrittenSegments
    lesions: WrittenSegments | None

    @property
    def measured(self) -> tuple[Lesion, ...]:
        """The lesions with groups of their own: none in a report that has segments only."""
        return () if self.profile is Profile.SLICER else self.analysed.measured

    @property
    def segs(self) -> list[Dataset]:
        """The SEGs that the report references."""
        layers = [self.tissues] if self.lesions is None else [self.tissues, self.lesions]
        return [part.seg for layer in layers for part in layer.parts]

    def tracking(self, role: str, label: str) -> hd.sr.TrackingIdentifier:
        """Return the identifier that a group shares with its segment, if it has one."""
        return hd.sr.TrackingIdentifier(uid=self.analysed.key.uid(role), identifier=label)

    def lung_algorithm(self) -> hd.sr.AlgorithmIdentification:
        """Return the lung model."""
        return reported_algorithm(self.analysed.models[0], {})

    def lesion_algorithm(self) -> hd.sr.AlgorithmIdentification:
        """Return the lesion model with its thresholds."""
        return reported_algorithm(self.analysed.models[1], self.analysed.algorithm_parameters)

    def lesion_segment(self, role: str) -> hd.sr.ReferencedSegment | None:
        """Return the reference to the segment of a lesion; None if no SEG holds it."""
        if self.lesions is None:
            return None
        (plan,) = (plan for plan in self.lesions.segments.plans if plan.role == role)
        return self.lesions.reference(plan, self.analysed.volume.series_uid)

    def region(self, plane: NDArray[np.bool_], index: int) -> hd.sr.ImageRegion:
        """Return the outline of the largest part of a mask (row, column) on slice ``index``."""
        return self._region(outline(plane), index)

    def regions(self, plane: NDArray[np.bool_], index: int) -> list[hd.sr.ImageRegion]:
        """Return the outline of each part of a mask (row, column) on slice ``index``."""
        return [self._region(line, index) for line in part_outlines(plane)]

    def _region(self, line: NDArray[np.float64], index: int) -> hd.sr.ImageRegion:
        source = self.analysed.volume.sources[index]
        return hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
            graphic_data=line,
            source_image=hd.sr.SourceImageForRegion(
                referenced_sop_class_uid=source.sop_class_uid,
                referenced_sop_instance_uid=source.sop_instance_uid,
                referenced_frame_numbers=[source.frame_number] if source.frame_number else None,
            ),
        )
