"""The compressed transfer syntaxes in which results can be sent."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

_LABELMAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage; pydicom 3.0 has no name for it."""

_COMPRESSED: dict[str, tuple[UID, ...]] = {
    SegmentationStorage: (DeflatedExplicitVRLittleEndian,),
    _LABELMAP: (RLELossless, DeflatedExplicitVRLittleEndian),
}
"""By SOP Class, the best first. RLE needs whole bytes (PS3.5 annex G), so BINARY SEGs lack it."""
_PICTURES = frozenset(
    {SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage}
)
"""Of 69 MB, 88 frames, JPEG 2000 makes 21 MB, since most pixels are grey, and RLE 67 MB."""


def compressed_syntaxes(sop_class_uid: str, *, asked: bool) -> tuple[UID, ...]:
    """Return the compressed transfer syntaxes for a SOP Class, the best first.

    Pictures are large: JPEG 2000, which every archive of images knows, is offered for them even
    if compression was not ``asked`` for.
    """
    if sop_class_uid in _PICTURES:
        return (JPEG2000Lossless, *((DeflatedExplicitVRLittleEndian,) if asked else ()))
    return _COMPRESSED.get(sop_class_uid, ()) if asked else ()
