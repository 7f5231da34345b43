"""The image library of the report (TID 1600): every image that was analysed."""

from __future__ import annotations

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_out.objects import codes
from dicom_out.objects.sources import Sources

_ONE_BY_ONE = frozenset(f"Image Position (Patient) {axis}" for axis in "XYZ")


def image_library(sources: Sources) -> hd.sr.ContainerContentItem:
    """Return the library: one group, what all images share said once (TID 1602), then each image.

    highdicom's ``ImageLibrary`` says everything of every image, which takes seconds and a
    megabyte for a series of some hundred images that differ in their position alone.
    """
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    group.ContentSequence = hd.sr.ContentSequence([*_shared(sources.stack[0]), *_images(sources)])
    library = _container(codes.IMAGE_LIBRARY)
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _shared(image: Dataset) -> list[hd.sr.ContentItem]:
    if "PixelSpacing" not in image:  # it is in the functional groups of a multi-frame image
        image = _flat(image)
    return [
        item
        for item in hd.sr.ImageLibraryEntryDescriptors(image)
        if item.ConceptNameCodeSequence[0].CodeMeaning not in _ONE_BY_ONE
    ]


def _flat(image: Dataset) -> Dataset:
    """Return a multi-frame image as one of its frames would be alone."""
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
