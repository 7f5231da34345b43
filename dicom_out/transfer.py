"""The compressed forms in which a result may travel, for destinations that take them."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

_LABELMAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, which pydicom 3.0 does not know by name."""

_COMPRESSED: dict[str, tuple[UID, ...]] = {
    SegmentationStorage: (DeflatedExplicitVRLittleEndian,),
    _LABELMAP: (RLELossless, DeflatedExplicitVRLittleEndian),
}
"""By SOP class, the best first. RLE works on whole bytes (PS3.5 annex G): not for BINARY."""


def compressed_syntaxes(sop_class_uid: str) -> tuple[UID, ...]:
    """Return the transfer syntaxes in which an object gets small, the best first."""
    return _COMPRESSED.get(sop_class_uid, ())
