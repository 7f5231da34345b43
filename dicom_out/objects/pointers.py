"""Objects that reference the source images: GSPS (PS3.3 A.33.1) and Key Objects (PS3.3 A.35.4)."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.results import Extra
from chestct.volume import LesionMap
from dicom_out.objects import codes
from dicom_out.objects.contours import outlines
from dicom_out.objects.finish import finish
from dicom_out.objects.identity import (
    MANUFACTURER,
    RESEARCH,
    contributing_equipment,
    device_observer,
    serial_number,
)
from dicom_out.objects.series_names import ResultKind, series_number
from dicom_out.objects.sources import Sources

_LEAST_POINTS = 4
_RED = (255, 80, 60)
_KEY_IMAGES = 5
"""Most slices that the key objects reference."""
_APART_MM = 15.0
"""Slices nearer to each other than this look alike."""


def presentation_state(analysed: AnalysedSeries, sources: Sources) -> Dataset | None:
    """Build a GSPS with the outlines of the lesions on the source images, in a lung window.

    Returns:
        None when there is no lesion; when the images differ in rescale, since a GSPS holds one
        rescale (PS3.3 C.11.1); and for several multi-frame images, which highdicom (0.28) does
        not support.
    """
    lesion = analysed.lesion_map.lesion()
    slices = [int(index) for index in np.flatnonzero(lesion.any(axis=(1, 2)))]
    images = _images_of(slices, sources)
    several = sources.multi_frame and len(images) > 1
    if not slices or several or not _share_rescale(images, sources):
        return None
    layer = _lesion_layer()
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        series_instance_uid=analysed.key.uid(f"{Extra.PRESENTATION_STATE}-series"),
        series_number=series_number(sources.original, ResultKind.OUTLINES),
        sop_instance_uid=analysed.key.uid(Extra.PRESENTATION_STATE),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=analysed.software.name,
        software_versions=analysed.software.version,
        device_serial_number=serial_number(analysed.models, analysed.software),
        content_label="LUNG_OPACITIES",
        content_description=f"Outlines of opacities ({RESEARCH})",
        graphic_layers=[layer],
        graphic_annotations=[_annotation(lesion[index], index, layer, sources) for index in slices],
        voi_lut_transformations=[_lung_window()],
        contributing_equipment=contributing_equipment(analysed.models, analysed.software),
    )
    finish(state, analysed, sources, described="Outlines of opacities")
    _rename_content_time(state)
    return state


def _lesion_layer() -> hd.pr.GraphicLayer:
    return hd.pr.GraphicLayer(
        "RALES_LESIONS",
        order=1,
        description="Lung opacities",
        display_color=hd.color.CIELabColor.from_rgb(*_RED),
    )


def _lung_window() -> hd.pr.SoftcopyVOILUTTransformation:
    return hd.pr.SoftcopyVOILUTTransformation(
        window_center=[-600.0],
        window_width=[1500.0],
        window_explanation=["LUNG"],  # highdicom makes a list of the letters of a str
    )


def _rename_content_time(state: Dataset) -> None:
    """Move Content Date and Time to the attributes that a presentation state has instead."""
    state.PresentationCreationDate, state.PresentationCreationTime = (
        state.ContentDate,
        state.ContentTime,
    )
    del state.ContentDate, state.ContentTime


def key_objects(analysed: AnalysedSeries, sources: Sources) -> Dataset | None:
    """Build a Key Object Selection of the source images that show most lesion.

    It references whole instances: of an Enhanced CT the image with all its frames.

    Returns:
        None when there is no lesion.
    """
    slices = most_affected(analysed.lesion_map, _KEY_IMAGES)
    if not slices:
        return None
    images = _images_of(slices, sources)
    selection = hd.ko.KeyObjectSelection(
        document_title=hd.sr.CodedConcept.from_code(codes.OF_INTEREST),
        referenced_objects=images,
        observer_device_context=device_observer(analysed.models, analysed.software),
        description=f"Slices with most lung opacity. {RESEARCH}, not verified by a radiologist.",
    )
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=images,
        content=selection,
        series_instance_uid=analysed.key.uid(f"{Extra.KEY_OBJECTS}-series"),
        series_number=series_number(sources.original, ResultKind.KEY_IMAGES),
        sop_instance_uid=analysed.key.uid(Extra.KEY_OBJECTS),
        instance_number=1,
        manufacturer=MANUFACTURER,
        contributing_equipment=contributing_equipment(analysed.models, analysed.software),
    )
    for item in document.ContentSequence:
        if item.ValueType == "IMAGE":  # its row in TID 2010 has no concept name
            del item.ConceptNameCodeSequence
    return finish(document, analysed, sources, described="Key images")


def most_affected(lesion_map: LesionMap, wanted: int) -> list[int]:
    """Return up to ``wanted`` slices with most lesion, some way apart, in slice order."""
    area = lesion_map.lesion().sum(axis=(1, 2))
    apart = max(1, round(_APART_MM / lesion_map.geometry.slice_spacing))
    chosen: list[int] = []
    for index in np.argsort(-area, kind="stable"):
        if len(chosen) == wanted or not area[index]:
            break
        if all(abs(int(index) - other) >= apart for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def _images_of(slices: list[int], sources: Sources) -> list[Dataset]:
    """Return the source images of some slices, each image once."""
    wanted = {sources.slices[index].sop_instance_uid for index in slices}
    return [image for image in sources.images if image.SOPInstanceUID in wanted]


def _share_rescale(images: list[Dataset], sources: Sources) -> bool:
    """Return whether all slices of some images have one known rescale."""
    uids = {image.SOPInstanceUID for image in images}
    rescales = {source.rescale for source in sources.slices if source.sop_instance_uid in uids}
    return len(rescales) == 1 and None not in rescales


def _annotation(
    lesion: NDArray[np.bool_], index: int, layer: hd.pr.GraphicLayer, sources: Sources
) -> hd.pr.GraphicAnnotation:
    return hd.pr.GraphicAnnotation(
        referenced_images=_images_of([index], sources),
        referenced_frame_number=sources.slices[index].frame_number,
        graphic_layer=layer,
        graphic_objects=[
            hd.pr.GraphicObject(
                graphic_type=hd.pr.GraphicTypeValues.POLYLINE,
                graphic_data=line.astype(np.float32),  # FL: what is written reads back
                units=hd.pr.AnnotationUnitsValues.PIXEL,
            )
            for line in outlines(lesion)
            if len(line) >= _LEAST_POINTS
        ],
    )
