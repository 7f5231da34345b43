"""Writes the beginning of the files that hold received data sets."""

from __future__ import annotations

from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from scp.headers import Header


def file_start(header: Header, transfer_syntax: str) -> bytes:
    """Return preamble, prefix and File Meta Information for a data set (PS3.10 section 7.1)."""
    meta = create_file_meta(
        sop_class_uid=UID(header.sop_class_uid),
        sop_instance_uid=UID(header.sop_instance_uid),
        transfer_syntax=UID(transfer_syntax),
    )
    return bytes(128) + b"DICM" + encode_file_meta(meta)
