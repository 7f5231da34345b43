"""Describes a stored instance: when it is received, and again from its file."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info

from chestct.errors import NotDicom
from chestct.series import ReceivedInstance
from chestct.uids import Uid
from scp.headers import Header, parse
from scp.spool import GROUP_LENGTH_AT, Spooled


def instance_of(
    header: Header,
    spooled: Spooled,
    *,
    transfer_syntax: str,
    received_at: datetime,
    calling_ae: str,
) -> ReceivedInstance:
    """Return what the node keeps of an instance whose bytes are durable."""
    return ReceivedInstance(
        path=spooled.path,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        patient_key=header.patient_key,
        transfer_syntax_uid=Uid(transfer_syntax),
        content_digest=spooled.content_digest,
        value_digest=header.value_digest,
        size=spooled.size,
        written=spooled.written,
        received_at=received_at,
        calling_ae=calling_ae,
        slice_position=header.slice_position,
        expected_instances=header.expected_instances,
        accession_key=header.accession_key,
    )


def read_back(path: Path, *, calling_ae: str) -> ReceivedInstance:
    """Return the description of the instance in a spool file, when its record is lost.

    Digests, keys and positions are those of its reception, because the parsing is the same. The
    time of reception is the modification time of the file, or now if the clock was ahead then. The
    calling AE title is the Sending Application Entity Title of the file, or ``calling_ae`` if the
    file names none.

    Raises:
        NotDicom: The file is damaged: its name is not the digest of its content, or its content
            is not a data set.
        OSError: The file cannot be read.
    """
    whole = path.read_bytes()
    start = GROUP_LENGTH_AT + 4
    start += int.from_bytes(whole[GROUP_LENGTH_AT:start], "little")
    content = whole[start:]
    content_digest = hashlib.sha256(content).hexdigest()
    if content_digest != path.stem[: len(content_digest)]:
        raise NotDicom("the file name is not the digest of the content")
    meta = _file_meta(path)
    syntax = str(meta.TransferSyntaxUID)
    header = parse(content, syntax)
    return instance_of(
        header,
        Spooled(path=path, content_digest=content_digest, size=len(whole)),
        transfer_syntax=syntax,
        received_at=min(datetime.fromtimestamp(path.stat().st_mtime, UTC), datetime.now(UTC)),
        calling_ae=str(meta.get("SendingApplicationEntityTitle", "")) or calling_ae,
    )


def sop_instance_uid_of(path: Path) -> str:
    """Return the SOP Instance UID in the File Meta Information; empty if it cannot be read.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        return str(_file_meta(path).get("MediaStorageSOPInstanceUID", ""))
    except NotDicom:
        return ""


def _file_meta(path: Path) -> FileMetaDataset:
    """Return the File Meta Information of a file, with its transfer syntax."""
    try:
        meta = read_file_meta_info(path)
        meta.TransferSyntaxUID  # noqa: B018 - an AttributeError where it is missing
    except OSError:
        raise
    except Exception as error:  # a parser on damaged bytes raises anything
        raise NotDicom("the File Meta Information cannot be read") from error
    return meta
