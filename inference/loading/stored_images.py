"""Reads the file of each instance of a series once: digest, header and, where plain, the pixels."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from chestct.errors import AnalysisCrashed, InputUnavailable, RejectReason, SeriesRejected
from chestct.series import ReceivedInstance, Series
from inference.loading.decoder_process import DecoderProcess, FrameDecoder
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
        number: Of its plane.
        header: The header of the slice; None until its plane holds the HU. ``content`` then lacks
            the pixels.
        stamp: Identifies the file at the time of reading.
    """

    instance: ReceivedInstance
    number: int
    stamp: tuple[int, ...] = ()
    size: int = 0
    meta: bytes = b""
    content_digest: str = ""
    content: Dataset | SeriesRejected | OSError
    header: SliceHeader | None = None

    @property
    def is_decoded(self) -> bool:
        """Whether the plane of the image holds its HU."""
        return self.header is not None

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

    ``planes`` holds the HU of the decoded images; None if no image is decoded.
    """

    images: tuple[StoredImage, ...]
    planes: Planes | None


def read_series(series: Series) -> StoredSeries:
    """Read every file of a series once; what is wrong with a file is kept beside it."""
    return SeriesReader().stored(series.instances)


class SeriesReader:
    """Reads the files of one series, each once, in as many steps as its instances arrive in.

    Uncompressed single-frame images become HU at once, so that their files are not in memory
    together. An image that is not plain, or faulty, is left as it is: it is judged with its series.
    """

    def __init__(self) -> None:
        """Begin without a file."""
        self._images: dict[Path, StoredImage] = {}
        self._planes: Planes | None = None
        self._count = 0
        self._decodes = True

    @property
    def size(self) -> int:
        """The bytes of the HU, and of the files that are not decoded."""
        files = sum(image.size for image in self._images.values() if not image.is_decoded)
        return files + (self._planes.size if self._planes else 0)

    def stored(self, instances: Sequence[ReceivedInstance]) -> StoredSeries:
        """Return the files of ``instances`` as they are now; read the files not read yet.

        Compressed images that are not decoded yet stay so: decoding may take long, and the headers
        may show that the series is not eligible.
        """
        self.read(instances)
        images = [replace(self._images[instance.path], instance=instance) for instance in instances]
        return StoredSeries(images=tuple(images), planes=self._planes)

    def read(
        self, instances: Sequence[ReceivedInstance], decoder: FrameDecoder | None = None
    ) -> None:
        """Read the files of ``instances`` that were not read yet, or are other files by now.

        Args:
            instances: Instances of the series.
            decoder: Decodes compressed single-frame images, from several threads, until it rejects
                a frame. None: they stay compressed.
        """
        new = [instance for instance in instances if not self._holds(instance)]
        if not new:
            return
        decoder = decoder if self._decodes else None
        numbers = range(self._count, self._count + len(new))
        self._count = numbers.stop
        middle = len(new) // 2
        sample = None if self._planes else _read(new[middle], numbers[middle])
        if sample is not None:
            self._planes = _planes_for(sample, decoder)
        if self._planes and self._count * math.prod(self._planes.shape) <= MOST_VOXELS:
            self._planes.reserve(self._count)

        def step(instance: ReceivedInstance, number: int) -> StoredImage:
            is_sample = sample is not None and number == sample.number
            image = sample if sample and is_sample else _read(instance, number)
            return _decoded(image, self._planes, decoder)

        with ThreadPoolExecutor(THREADS) as pool:
            for image in pool.map(step, new, numbers):
                self._images[image.instance.path] = image
                if decoder and isinstance(image.content, Dataset) and not image.is_decoded:
                    self._decodes = False

    def _holds(self, instance: ReceivedInstance) -> bool:
        image = self._images.get(instance.path)
        if image is None or not image.stamp:
            return False
        try:
            return image.stamp == _stamp(instance.path.stat())
        except OSError:
            return False


def begin_of_data_set(head: bytes) -> int:
    """Return where the data set begins in a file that begins with ``head``.

    This is the begin of the file where it has no File Meta Information with a group length.
    """
    if len(head) < HEAD.size or head[128:140] != _PREFIX_AND_GROUP_LENGTH:
        return 0
    (length,) = HEAD.unpack_from(head)
    return HEAD.size + int(length)


def _read(instance: ReceivedInstance, number: int) -> StoredImage:
    try:
        with instance.path.open("rb") as opened:
            stamp = _stamp(os.fstat(opened.fileno()))
            file = opened.read()
        content = _parsed(file)
    except OSError as error:
        return StoredImage(instance=instance, number=number, content=error)
    begin = begin_of_data_set(file)
    return StoredImage(
        instance=instance,
        number=number,
        stamp=stamp,
        size=len(file),
        meta=file[:begin],
        content_digest=hashlib.sha256(memoryview(file)[begin:]).hexdigest(),
        content=content,
    )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _parsed(file: bytes) -> Dataset | SeriesRejected:
    try:
        dataset = pydicom.dcmread(BytesIO(file))
    except (InvalidDicomError, EOFError, zlib.error, *UNPARSABLE) as error:
        rejection = SeriesRejected(
            RejectReason.BAD_PIXELS, "the stored file is not readable as DICOM"
        )
        rejection.__cause__ = error
        return rejection
    dataset.buffer = None  # pydicom would keep the whole file in memory
    if not isinstance(value_of(dataset.file_meta, "TransferSyntaxUID"), str):
        return SeriesRejected(RejectReason.BAD_PIXELS, "the stored file has no Transfer Syntax UID")
    return dataset


def _header(dataset: Dataset) -> SliceHeader | None:
    """Return the header of a single-frame image; None for any other image."""
    if PER_FRAME in dataset or "PixelData" not in dataset:
        return None
    try:
        (header,) = slice_headers(frames_of([dataset]))
    except SeriesRejected:
        return None
    return header


def _is_compressed(dataset: Dataset) -> bool:
    """Return whether the pixels are compressed, or may be."""
    try:
        return UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated
    except ValueError:
        return True


def _planes_for(sample: StoredImage, decoder: FrameDecoder | None) -> Planes | None:
    """Return planes of the size of an image; None if the image cannot be decoded now."""
    header = _decodable(sample, decoder)
    return Planes(header.rows, header.columns) if header else None


def _decodable(image: StoredImage, decoder: FrameDecoder | None) -> SliceHeader | None:
    """Return the header of an image that can be decoded now; None for any other image."""
    if not isinstance(image.content, Dataset):
        return None
    if decoder is None and _is_compressed(image.content):
        return None
    return _header(image.content)


def _decoded(
    image: StoredImage, planes: Planes | None, decoder: FrameDecoder | None
) -> StoredImage:
    """Decode an image into its plane and drop its pixels; return it as it is if it cannot be."""
    header = _decodable(image, decoder)
    if header is None or planes is None or image.number >= planes.count:
        return image
    if (header.rows, header.columns) != planes.shape:
        return image
    dataset = image.dataset
    try:
        stored = StoredFrames(dataset, decoder or DecoderProcess()).values(0)
    except (SeriesRejected, AnalysisCrashed, OSError):
        return image
    plane = planes.plane(image.number)
    to_hu(stored, header, plane)
    fill_as_air(plane)
    dataset[_PIXEL_DATA] = DataElement(_PIXEL_DATA, "OW", b"")
    return replace(image, header=header)
