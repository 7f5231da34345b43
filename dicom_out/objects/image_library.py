"""The image library of the report (TID 1600): every analysed image."""

from __future__ import annotations

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_out.objects import codes
from dicom_out.objects.sources import Sources

_PIXELS = "{pixels}"
_PER_IMAGE = frozenset(f"Image Position (Patient) {axis}" for axis in "XYZ")


def image_library(sources: Sources) -> hd.sr.ContainerContentItem:
    """Return the library: one group with the shared descriptors (TID 1602) and every image.

    The ``ImageLibrary`` of highdicom repeats all descriptors for every image. For a few hundred
    images that differ only in position, that takes seconds and a megabyte.
    """
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    group.ContentSequence = hd.sr.ContentSequence([*_shared(sources.stack[0]), *_images(sources)])
    library = _container(codes.IMAGE_LIBRARY)
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _shared(image: Dataset) -> list[hd.sr.ContentItem]:
    if "PixelSpacing" not in image:  # a multi-frame image has it in its functional groups
        image = _flat(image)
    descriptors = [
        item
        for item in hd.sr.ImageLibraryEntryDescriptors(image)
        if item.ConceptNameCodeSequence[0].CodeMeaning not in _PER_IMAGE
    ]
    for item in descriptors:
        if item.ValueType == "NUM" and item.unit.value == _PIXELS:
            (measured,) = item.MeasuredValueSequence
            measured.NumericValue = str(int(measured.NumericValue))  # highdicom: 512.0
    return descriptors


def _flat(image: Dataset) -> Dataset:
    """Return the first frame of a multi-frame image as a single-frame image."""
    flat = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "Modality"):
        setattr(flat, keyword, image[keyword].value)
    flat.Rows, flat.Columns = image.Rows, image.Columns
    (shared,) = image.SharedFunctionalGroupsSequence
    flat.update(shared.PixelMeasuresSequence[0])
    flat.update(shared.PlaneOrientationSequence[0])
    flat.update(image.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0])
    return flat


def _images(sources: Sources) -> list[hd.sr.ImageContentItem]:
    return [
        hd.sr.ImageContentItem(
            name=codes.SOURCE,
            referenced_sop_class_uid=image.SOPClassUID,
            referenced_sop_instance_uid=image.SOPInstanceUID,
            referenced_frame_numbers=sources.frames_used(image),
            relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
        )
        for image in sources.images
    ]


def _container(name: Code) -> hd.sr.ContainerContentItem:
    return hd.sr.ContainerContentItem(
        name=name, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
