"""The item that references a SOP Instance (SOP Instance Reference Macro, PS3.3 table 10-11)."""

from __future__ import annotations

from pydicom.dataset import Dataset


def sop_reference(
    sop_class_uid: str, sop_instance_uid: str, frames: list[int] | None = None
) -> Dataset:
    """Return the item; with ``frames``, counted from 1, it references only these."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if frames is not None:
        item.ReferencedFrameNumber = frames
    return item
