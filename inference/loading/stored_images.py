"""Reads the file of each instance of a series once: digest, header and, where plain, the pixels."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from chestct.errors import InputUnavailable, RejectReason, SeriesRejected
from chestct.series import ReceivedInstance, Series
from inference.loading.decoder_process import DecoderProcess
from inference.loading.elements import UNPARSABLE, value_of
from inference.loading.fill import fill_as_air
from inference.loading.frames import PER_FRAME, frames_of
from inference.loading.headers import SliceHeader, slice_headers
from inference.loading.parallel import THREADS
from inference.loading.pixels import StoredFrames, to_hu
from inference.loading.planes import Planes

MOST_VOXELS = 1 << 30
"""Largest series that is analysed, in voxels: 1024 slices of 1024 by 1024, 2 GiB of HU. A larger
series would run into the memory limit, three times, instead of being rejected with a reason."""
HEAD = struct.Struct("<140xL")
"""Preamble, prefix and the element (0002,0000): PS3.10 section 7.1."""
_PREFIX_AND_GROUP_LENGTH = b"DICM\x02\x00\x00\x00UL\x04\x00"
_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """The file of one instance as it was read.

    Attributes:
        size: Of the file, in bytes.
        meta: Preamble and File Meta Information; empty where the file has no group length.
        content_digest: SHA-256 of the data set; without File Meta Information, of the file.
        content: The data set, or why it cannot be read.
        is_decoded: The HU of the image are in the planes of its series; ``content`` lacks its
            pixels.
    """

    instance: ReceivedInstance
    size: int = 0
    meta: bytes = b""
    content_digest: str = ""
    content: Dataset | SeriesRejected | OSError
    is_decoded: bool = False

    @property
    def dataset(self) -> Dataset:
        """The data set.

        Raises:
            SeriesRejected: The file is not readable as DICOM.
            InputUnavailable: The file is missing or cannot be read now.
        """
        if isinstance(self.content, OSError):
            uid = self.instance.sop_instance_uid
            raise InputUnavailable.because_of(self.content, uid) from self.content
        if isinstance(self.content, SeriesRejected):
            raise self.content
        return self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeries:
    """The files of a series, in the order of its instances.

    ``planes`` holds the HU of decoded images at their index; None if no image is plain.
    """

    images: tuple[StoredImage, ...]
    planes: Planes | None


def read_series(series: Series) -> StoredSeries:
    """Read every file of a series once; what is wrong with a file is kept beside it.

    Uncompressed single-frame images become HU at once, so that their files are not in memory
    together. All other images keep their pixels as stored: decoding may take long, and the headers
    may show that the series is not eligible.
    """
    planes = _planes_of(series.instances)
    with ThreadPoolExecutor(THREADS) as pool:
        images = pool.map(lambda item: _read(item[1], planes, item[0]), enumerate(series.instances))
        return StoredSeries(images=tuple(images), planes=planes)


def begin_of_data_set(head: bytes) -> int:
    """Return where the data set begins in a file that begins with ``head``.

    This is the begin of the file where it has no File Meta Information with a group length.
    """
    if len(head) < HEAD.size or head[128:140] != _PREFIX_AND_GROUP_LENGTH:
        return 0
    (length,) = HEAD.unpack_from(head)
    return HEAD.size + int(length)


def _planes_of(instances: Sequence[ReceivedInstance]) -> Planes | None:
    """Return planes of the size of an image of the series; None if that image is not plain."""
    image = _read(instances[len(instances) // 2], None, 0)
    header = _plain_header(image.content) if isinstance(image.content, Dataset) else None
    if header is None or len(instances) * header.rows * header.columns > MOST_VOXELS:
        return None
    planes = Planes(header.rows, header.columns)
    planes.reserve(len(instances))
    return planes


def _read(instance: ReceivedInstance, planes: Planes | None, number: int) -> StoredImage:
    try:
        file = instance.path.read_bytes()
        content = _parsed(file)
    except OSError as error:
        return StoredImage(instance=instance, content=error)
    begin = begin_of_data_set(file)
    return StoredImage(
        instance=instance,
        size=len(file),
        meta=file[:begin],
        content_digest=hashlib.sha256(memoryview(file)[begin:]).hexdigest(),
        content=content,
        is_decoded=(
            planes is not None
            and isinstance(content, Dataset)
            and _is_decoded(content, planes, number)
        ),
    )


def _parsed(file: bytes) -> Dataset | SeriesRejected:
    try:
        dataset = pydicom.dcmread(BytesIO(file))
    except (InvalidDicomError, EOFError, *UNPARSABLE) as error:
        rejection = SeriesRejected(
            RejectReason.BAD_PIXELS, "the stored file is not readable as DICOM"
        )
        rejection.__cause__ = error
        return rejection
    dataset.buffer = None  # pydicom would keep the whole file in memory
    if not isinstance(value_of(dataset.file_meta, "TransferSyntaxUID"), str):
        return SeriesRejected(RejectReason.BAD_PIXELS, "the stored file has no Transfer Syntax UID")
    return dataset


def _plain_header(dataset: Dataset) -> SliceHeader | None:
    """Return the header of an uncompressed single-frame image; None for any other image."""
    try:
        if PER_FRAME in dataset or "PixelData" not in dataset:
            return None
        if UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated:
            return None
        (header,) = slice_headers(frames_of([dataset]))
    except (SeriesRejected, *UNPARSABLE):
        return None
    return header


def _is_decoded(dataset: Dataset, planes: Planes, number: int) -> bool:
    """Decode a plain image into its plane and drop its pixels; return whether it is decoded.

    An image that is not plain, or faulty, is left as it is: it is judged with its series.
    """
    header = _plain_header(dataset)
    if header is None or (header.rows, header.columns) != planes.shape:
        return False
    try:
        stored = StoredFrames(dataset, DecoderProcess()).values(0)
    except SeriesRejected:
        return False
    plane = planes.plane(number)
    to_hu(stored, header, plane)
    fill_as_air(plane)
    dataset[_PIXEL_DATA] = DataElement(_PIXEL_DATA, "OW", b"")
    return True
