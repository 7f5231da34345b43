"""Objects that point at the source images: GSPS (PS3.3 A.33.1) and Key Objects (PS3.3 A.35.4)."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.results import Extra
from chestct.volume import LesionMap
from dicom_out.objects import codes
from dicom_out.objects.captures import Provenance
from dicom_out.objects.contours import outlines
from dicom_out.objects.identity import MANUFACTURER, RESEARCH, contributing_equipment, observer_uid
from dicom_out.objects.seg import stamp
from dicom_out.objects.sources import take_over

_LEAST_POINTS = 4
_RED = (255, 80, 60)
_LUNG_WINDOW = (-600.0, 1500.0)
_KEY_IMAGES = 5
"""So many slices are pointed out at the most."""
_APART_MM = 15.0
"""Slices nearer to one another than this show the same."""


def presentation_state(lesion_map: LesionMap, made: Provenance) -> Dataset | None:
    """Build a GSPS with the outlines of the lesions on the source images, in a lung window.

    None where there is nothing to outline, or where the images have not one rescale in common,
    which a GSPS needs (PS3.3 C.11.1); of several multi-frame images highdicom (0.28) sees none.
    """
    lesion = lesion_map.lesion()
    slices = [int(index) for index in np.flatnonzero(lesion.any(axis=(1, 2)))]
    images = _images_of(slices, made)
    several = made.sources.multi_frame and len(images) > 1
    if not slices or several or not _have_one_rescale(images, made):
        return None
    layer = hd.pr.GraphicLayer(
        "RALES_LESIONS",
        order=1,
        description="Lung opacities",
        display_color=hd.color.CIELabColor.from_rgb(*_RED),
    )
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        series_instance_uid=made.key.uid(f"{Extra.PRESENTATION_STATE}-series"),
        series_number=9707,
        sop_instance_uid=made.key.uid(Extra.PRESENTATION_STATE),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=made.software.name,
        software_versions=made.software.version,
        device_serial_number=made.software.station_name,
        content_label="LUNG_OPACITIES",
        content_description=f"Outlines of opacities ({RESEARCH})",
        graphic_layers=[layer],
        graphic_annotations=[_annotation(lesion[index], index, layer, made) for index in slices],
        voi_lut_transformations=[
            hd.pr.SoftcopyVOILUTTransformation(
                window_center=[_LUNG_WINDOW[0]],
                window_width=[_LUNG_WINDOW[1]],
                window_explanation=["LUNG"],  # highdicom makes a list of the letters of a str
            )
        ],
        contributing_equipment=contributing_equipment(made.models, made.software),
    )
    state.SeriesDescription = f"Rales outlines ({RESEARCH})"
    state.BodyPartExamined = "CHEST"
    _end(state, made)
    state.PresentationCreationDate, state.PresentationCreationTime = (
        state.ContentDate,
        state.ContentTime,
    )
    del state.ContentDate, state.ContentTime  # no part of this object
    return state


def key_objects(lesion_map: LesionMap, made: Provenance) -> Dataset | None:
    """Build a Key Object Selection of the source images that show most lesion.

    None where there is no lesion. Of an Enhanced CT the whole instance is pointed at: a
    key object names instances.
    """
    chosen = most_affected(lesion_map, _KEY_IMAGES)
    if not chosen:
        return None
    images = _images_of(chosen, made)
    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=observer_uid(made.models),
        name=made.software.station_name,
        manufacturer_name=MANUFACTURER,
        model_name=f"{made.software.name} {made.software.version}",
    )
    selection = hd.ko.KeyObjectSelection(
        document_title=hd.sr.CodedConcept.from_code(codes.OF_INTEREST),
        referenced_objects=images,
        observer_device_context=hd.sr.ObserverContext(
            observer_type=hd.sr.CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=attributes,
        ),
        description=f"Slices with most lung opacity. {RESEARCH}, not verified by a radiologist.",
    )
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=images,
        content=selection,
        series_instance_uid=made.key.uid(f"{Extra.KEY_OBJECTS}-series"),
        series_number=9708,
        sop_instance_uid=made.key.uid(Extra.KEY_OBJECTS),
        instance_number=1,
        manufacturer=MANUFACTURER,
        contributing_equipment=contributing_equipment(made.models, made.software),
    )
    document.ManufacturerModelName = made.software.name
    document.SoftwareVersions = made.software.version
    document.DeviceSerialNumber = made.software.station_name
    document.SeriesDescription = f"Rales key images ({RESEARCH})"
    return _end(document, made)


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


def _images_of(slices: list[int], made: Provenance) -> list[Dataset]:
    """Return the source instances of some slices, each once."""
    wanted = {made.sources.slices[index].sop_instance_uid for index in slices}
    return [image for image in made.sources.images if image.SOPInstanceUID in wanted]


def _have_one_rescale(images: list[Dataset], made: Provenance) -> bool:
    """Tell whether every slice of some images becomes HU in the same way."""
    uids = {image.SOPInstanceUID for image in images}
    found = {one.rescale for one in made.sources.slices if one.sop_instance_uid in uids}
    return len(found) == 1 and None not in found


def _annotation(
    lesion: NDArray[np.bool_], index: int, layer: hd.pr.GraphicLayer, made: Provenance
) -> hd.pr.GraphicAnnotation:
    return hd.pr.GraphicAnnotation(
        referenced_images=_images_of([index], made),
        referenced_frame_number=made.sources.slices[index].frame_number,
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


def _end(dataset: Dataset, made: Provenance) -> Dataset:
    dataset.ContentQualification = "RESEARCH"
    stamp(dataset, made.created, made.sources.original)
    take_over(made.sources.original, dataset)
    return dataset
