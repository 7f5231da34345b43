"""Reads real chest CT in Hounsfield units, and its lesion-free parts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from chestct.identity import patient_key
from chestct.orientation import canonical
from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid
from chestct.volume import Volume
from inference.loading.loader import LoadingPolicy, load
from inference.ports import SegmentationModel
from inference.reading.lungs import lung_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSeries:
    """An entry of the committed list of true-HU series.

    ``part`` is ``train`` or ``test``; ``parts`` are its lesion-free runs of slices, each the
    first and one past the last, counted from the feet.
    """

    name: str
    part: str
    parts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """A lesion-free run of slices of a real chest.

    Attributes:
        volume: HU.
        lungs: uint8 (slice, row, column), labels of :class:`chestct.volume.Label`, from the
            shipped lung network and its cleaning.
    """

    name: str
    volume: Volume
    lungs: NDArray[np.uint8]

    def inside(self) -> NDArray[np.bool_]:
        """Return the mask of both lungs."""
        return self.lungs > 0


def known_series() -> dict[str, KnownSeries]:
    """Return the committed list of true-HU series by Series Instance UID."""
    text = (resources.files("training") / "splits/true-hu.json").read_text()
    return {
        uid: KnownSeries(
            name=entry["name"],
            part=entry["part"],
            parts=tuple((first, last) for first, last in entry["parts"]),
        )
        for uid, entry in json.loads(text)["series"].items()
    }


def read_volume(folder: Path) -> Volume:
    """Read the only CT series in ``folder``, files in any order.

    Raises:
        ValueError: The folder is empty or holds several series.
        SeriesRejected: The series is no chest CT that Rales would analyse.
    """
    instances = [_instance(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return canonical(load(Series.of(instances), LoadingPolicy()))


def _instance(path: Path) -> ReceivedInstance:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return ReceivedInstance(
        path=path,
        sop_class_uid=Uid(header.SOPClassUID),
        sop_instance_uid=Uid(header.SOPInstanceUID),
        series_uid=Uid(header.SeriesInstanceUID),
        study_uid=Uid(header.StudyInstanceUID),
        patient_key=patient_key(str(header.get("PatientID", "")).encode(), b"", b""),
        transfer_syntax_uid=Uid(header.file_meta.TransferSyntaxUID),
        content_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        received_at=datetime.fromtimestamp(path.stat().st_mtime, tz=UTC),
        calling_ae="",
    )


def lesion_free_parts(volume: Volume, model: SegmentationModel) -> list[Chest]:
    """Return the lesion-free parts of a series of the committed list.

    Raises:
        ValueError: The list does not name the series.
    """
    known = known_series().get(volume.series_uid)
    if known is None:
        raise ValueError(
            f"series {volume.series_uid} is not in splits/true-hu.json, "
            "which says where a series is free of lesions"
        )
    lungs = lung_labels(volume, model)
    return [
        Chest(
            name=f"{known.name} {first}-{last - 1}",
            volume=cut(volume, first, last),
            lungs=lungs[first:last],
        )
        for first, last in known.parts
    ]


def cut(volume: Volume, first: int, last: int) -> Volume:
    """Return the slices ``first`` to ``last - 1`` as a volume."""
    rows, columns = volume.geometry.shape[1:]
    geometry = replace(
        volume.geometry,
        shape=(last - first, rows, columns),
        origin=volume.geometry.slice_position(first),
    )
    return replace(
        volume,
        hu=volume.hu[first:last],
        geometry=geometry,
        sources=volume.sources[first:last],
    )
