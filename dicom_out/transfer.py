"""The compressed transfer syntaxes in which results can be sent."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

_LABELMAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage; pydicom 3.0 has no name for it."""

_COMPRESSED: dict[str, tuple[UID, ...]] = {
    SegmentationStorage: (DeflatedExplicitVRLittleEndian,),
    _LABELMAP: (RLELossless, DeflatedExplicitVRLittleEndian),
}
"""By SOP Class, the best first. RLE needs whole bytes (PS3.5 annex G), so BINARY SEGs lack it."""


def compressed_syntaxes(sop_class_uid: str) -> tuple[UID, ...]:
    """Return the compressed transfer syntaxes for a SOP Class, the best first."""
    return _COMPRESSED.get(sop_class_uid, ())
