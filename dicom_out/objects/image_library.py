"""The image library of the report (TID 1600): every analysed image."""

from __future__ import annotations

from collections.abc import Iterator

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_out.objects import codes
from dicom_out.objects.elements import (
    encoded_elements,
    encoded_reference,
    item,
    sequence_of_one,
    set_encoded,
    without,
)
from dicom_out.objects.sources import Sources

_PIXELS = "{pixels}"
_PER_IMAGE = frozenset(f"Image Position (Patient) {axis}" for axis in "XYZ")


def image_library(sources: Sources) -> hd.sr.ContainerContentItem:
    """Return the library: one group with the shared descriptors (TID 1602) and every image.

    The ``ImageLibrary`` of highdicom repeats all descriptors for every image. For a few hundred
    images that differ only in position, that takes seconds and a megabyte. The items are encoded
    here, because highdicom would copy and validate each of them.
    """
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    shared = [item(encoded_elements(descriptor)) for descriptor in _shared(sources.stack[0])]
    set_encoded(group, "ContentSequence", b"".join([*shared, *_images(sources)]))
    library = _container(codes.IMAGE_LIBRARY)
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _shared(image: Dataset) -> list[hd.sr.ContentItem]:
    if "PixelSpacing" not in image:  # a multi-frame image has it in its functional groups
        image = _flat(image)
    descriptors = [
        descriptor
        for descriptor in hd.sr.ImageLibraryEntryDescriptors(image)
        if descriptor.ConceptNameCodeSequence[0].CodeMeaning not in _PER_IMAGE
    ]
    for descriptor in descriptors:
        if descriptor.ValueType == "NUM" and descriptor.unit.value == _PIXELS:
            (measured,) = descriptor.MeasuredValueSequence
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


def _images(sources: Sources) -> Iterator[bytes]:
    """Yield the encoded item of each image; the items differ in the reference only."""
    template = hd.sr.ImageContentItem(
        name=codes.SOURCE,
        referenced_sop_class_uid=sources.images[0].SOPClassUID,
        referenced_sop_instance_uid=sources.images[0].SOPInstanceUID,
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )
    rest = encoded_elements(without(template, "ReferencedSOP"))
    for image in sources.images:
        frames = sources.frames_used(image)
        reference = encoded_reference(image.SOPClassUID, image.SOPInstanceUID, frames)
        yield item(sequence_of_one("ReferencedSOPSequence", reference) + rest)


def _container(name: Code) -> hd.sr.ContainerContentItem:
    return hd.sr.ContainerContentItem(
        name=name, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
