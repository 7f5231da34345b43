"""Which files of a public data set belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The files of one scan.

    Attributes:
        patient: Scans of one patient carry the same name: they are never split.
        lungs: Mask of the lungs; None: the set has none.
        lesion: Mask of the lesions; None: a radiologist found none.
        lesion_values: The values in ``lesion`` that are lesion.
        other_values: The values in ``lesion`` that are something else. Any further one is refused.
        slices_apart: The file is a pile of single slices of different patients.
    """

    name: str
    patient: str
    image: Path
    lungs: Path | None
    lesion: Path | None
    lesion_values: tuple[int, ...] = (1,)
    other_values: tuple[int, ...] = ()
    slices_apart: bool = False


class LayoutError(Exception):
    """The folder differs from the published data set; the message names the missing file."""


def covid_ct_seg(folder: Path) -> Iterator[Scan]:
    """COVID-19-CT-Seg: 20 volumes, lungs and infection (Ma et al., Zenodo 3757476).

    Radiopaedia's volumes are named after the case: two of one case are one patient.
    """
    images = _some(folder / "COVID-19-CT-Seg_20cases", "*.nii.gz")
    for image in images:
        name = image.name.removesuffix(".nii.gz")
        yield Scan(
            name=name,
            patient=re.sub(r"^(radiopaedia_\d+)_\d+_\d+$", r"\1", name),
            image=image,
            lungs=_there(folder / "Lung_Mask" / image.name),
            lesion=_there(folder / "Infection_Mask" / image.name),
        )


def mosmed(folder: Path) -> Iterator[Scan]:
    """MosMedData: CT-0 without findings, and the 50 studies of CT-1 that have masks."""
    for image in _some(folder / "studies" / "CT-0", "study_*.nii.gz"):
        name = image.name.removesuffix(".nii.gz")
        yield Scan(name=name, patient=name, image=image, lungs=None, lesion=None)
    for mask in _some(folder / "masks", "study_*_mask.nii.gz"):
        name = mask.name.removesuffix("_mask.nii.gz")
        image = _there(folder / "studies" / "CT-1" / f"{name}.nii.gz")
        yield Scan(name=name, patient=name, image=image, lungs=None, lesion=mask)


def medseg(folder: Path) -> Iterator[Scan]:
    """MedSeg: 100 single slices (tr_*) and nine volumes (rp_*); effusion is not a lesion here.

    The slices are of more than 40 patients, and nobody knows which: they stay together.
    """
    yield Scan(
        name="tr",
        patient="tr",
        image=_there(folder / "tr_im.nii.gz"),
        lungs=None,
        lesion=_there(folder / "tr_mask.nii.gz"),
        lesion_values=(1, 2),
        other_values=(3,),
        slices_apart=True,
    )
    for image in _some(folder / "rp_im", "*.nii.gz"):
        name = f"rp-{image.name.removesuffix('.nii.gz')}"
        yield Scan(
            name=name,
            patient=name,
            image=image,
            lungs=_there(folder / "rp_lung_msk" / image.name),
            lesion=_there(folder / "rp_msk" / image.name),
            lesion_values=(1, 2),
            other_values=(3,),
        )


def covid_19_20(folder: Path) -> Iterator[Scan]:
    """COVID-19-20 challenge: the training part."""
    for image in _some(folder / "Train", "*_ct.nii.gz"):
        name = image.name.removesuffix("_ct.nii.gz")
        mask = _there(image.with_name(f"{name}_seg.nii.gz"))
        yield Scan(
            name=name,
            # volume-covid19-A-0003_1 would be a second scan of A-0003
            patient=re.sub(r"_\d+$", "", name),
            image=image,
            lungs=None,
            lesion=mask,
        )


DATASETS: Mapping[str, Callable[[Path], Iterator[Scan]]] = {
    "covid-19-ct-seg": covid_ct_seg,
    "mosmed": mosmed,
    "medseg": medseg,
    "covid-19-20": covid_19_20,
}
"""By the name that ``prepare`` takes."""


def _some(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise LayoutError(f"there is no {pattern} in {folder}; see docs/model/datasets.md")
    return found


def _there(file: Path) -> Path:
    if not file.is_file():
        raise LayoutError(f"{file} is missing; see docs/model/datasets.md")
    return file
