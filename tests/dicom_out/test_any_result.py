"""Whatever was found, whatever the source says of its patient: results that read back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from chest_cases import MODELS, SHAPE, Case, make_case
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from chestct.errors import RalesError, ResultInvalid
from chestct.results import Profile, ReportOptions
from chestct.volume import Label
from dicom_out.objects.raw import raw_value

pytestmark = pytest.mark.slow

_CHARACTER_SETS = (
    b"",
    b"ISO_IR 100",
    b"ISO_IR 192",
    b"GB18030",
    b"\\ISO 2022 IR 87",
    b"\\ISO 2022 IR 149",
    b"ISO_IR 999",
    b"?",
)
_TEXTS = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyDescription",
    "ReferringPhysicianName",
    "StudyID",
    "PatientAge",
    "StudyDate",
    "StudyTime",
    "TimezoneOffsetFromUTC",
)
_LABELS = st.sampled_from([int(one) for one in Label])


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Return any labels, from one voxel to all of them; often scattered single voxels."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 4:20, 10:16] = draw(_LABELS)
    labels[1:6, 3:21, 2:8] = draw(_LABELS)
    spots = draw(arrays(np.uint8, SHAPE, elements=st.integers(0, 1), fill=st.just(0)))
    labels[spots > 0] = draw(_LABELS)
    return labels


def _write_raw(dataset: Dataset, values: dict[str, bytes]) -> None:
    for keyword, value in values.items():
        tag = Tag(keyword)
        dataset[tag] = RawDataElement(
            tag,
            dictionary_VR(tag),
            len(value),
            value,
            0,
            is_implicit_VR=False,
            is_little_endian=True,
        )


def _even(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


_HEADERS = st.fixed_dictionaries(
    {},
    optional={name: st.binary(max_size=80).map(_even) for name in _TEXTS}
    | {"SpecificCharacterSet": st.sampled_from(_CHARACTER_SETS).map(_even)},
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # character sets and times that are none
@settings(max_examples=25, deadline=None)
@given(
    labels=label_maps(),
    header=_HEADERS,
    kind=st.sampled_from([Profile.OHIF, Profile.LABELMAP]),
    single=st.booleans(),
    enhanced=st.booleans(),
)
def test_results_read_back_or_are_refused(
    labels: NDArray[np.uint8],
    header: dict[str, bytes],
    kind: Profile,
    *,
    single: bool,
    enhanced: bool,
) -> None:
    assume(labels.any())  # without lungs there is no result
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            case = make_case(
                folder / "series",
                labels=labels,
                enhanced=enhanced,
                change=lambda dataset: _write_raw(dataset, header),
            )
        except (ValueError, UnicodeError, LookupError):
            return  # the series could not even be written
        try:
            results = case.compose(
                folder / "out", kind, options=ReportOptions(lesion_segments=single)
            )
        except RalesError:
            return
        _read_back(case, [pydicom.dcmread(item.path) for item in results.objects], header)


def _read_back(case: Case, objects: list[Dataset], header: dict[str, bytes]) -> None:
    """Look at the results with other eyes than the writer's."""
    for dataset in objects:
        for keyword in ("PatientID", "PatientName", "SpecificCharacterSet"):
            if keyword in header:
                kept = (raw_value(dataset, keyword) or b"").rstrip(b"\0 ")
                _require_no_other_identity(keyword, kept, header[keyword].rstrip(b"\0 "))
    seg = hd.seg.Segmentation.from_dataset(objects[0])
    voxels = int((seg.pixel_array > 0).sum())
    assert voxels == int((case.lesion_map.labels > 0).sum())
    assert objects[-1].Modality == "SR"


def _require_no_other_identity(keyword: str, kept: bytes, received: bytes) -> None:
    """An invalid value is left out; of a name that is too long, the beginning is kept."""
    if keyword != "PatientName":
        assert kept in {b"", received}
        return
    groups = zip(received.split(b"="), kept.split(b"="), strict=False)
    assert all(group.startswith(part) for group, part in groups)


def test_what_a_library_raises_is_an_error_that_names_the_object(tmp_path: Path) -> None:
    """It is permanent: the same images would raise the same after as long an analysis."""
    case = make_case(tmp_path / "series")
    with pytest.raises(ResultInvalid, match=r"the seg cannot be written \(ValueError: "):
        case.compose(tmp_path / "out", models=MODELS[:1])
