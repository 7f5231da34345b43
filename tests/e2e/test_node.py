"""The main job: a series goes in by C-STORE, SEG and SR come back from the PACS."""

from __future__ import annotations

import email.parser
import email.policy
import json
import shutil
import urllib.request
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from ports import free_port
from pydicom.dataset import Dataset

from chestct.method import Method
from chestct.volume import Label
from inference.loading.loader import LoadingPolicy, load
from inference.networks.session import load_models
from inference.reading.analysis import analyse
from phantom import PhantomIdentity, Thorax, write_series
from rales.cli.scanning import scan
from rales.demo.pacs import Pacs, start_pacs

from .conftest import ShippedNode

pytestmark = [
    pytest.mark.dcmtk,
    pytest.mark.orthanc,
    pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed"),
    pytest.mark.skipif(
        not shutil.which("Orthanc", path="/usr/sbin:/usr/bin"), reason="orthanc is not installed"
    ),
]


def _retrieve(pacs: Pacs, study: str, series: str, instance: str) -> bytes:
    """Fetch one instance by WADO-RS (PS3.18 section 10.4)."""
    url = f"{pacs.url}/dicom-web/studies/{study}/series/{series}/instances/{instance}"
    request = urllib.request.Request(
        url, headers={"Accept": 'multipart/related; type="application/dicom"'}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
        body = answer.read()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    (part,) = message.iter_parts()
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def _results(pacs: Pacs, job: dict[str, object]) -> dict[str, bytes]:
    objects = job["result"]["objects"]  # type: ignore[index]
    return {
        item["role"]: _retrieve(
            pacs, item["study_uid"], item["series_uid"], item["sop_instance_uid"]
        )
        for item in objects
    }


def _segment_masks(content: bytes, folder: Path) -> dict[str, NDArray[np.bool_]]:
    """Read each segment on the grid of the source, placed by the positions of its frames."""
    seg = hd.seg.segread(BytesIO(content))
    heights = sorted(
        float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
        for path in folder.iterdir()
    )
    masks = {
        description.SegmentLabel: np.zeros((len(heights), seg.Rows, seg.Columns), dtype=bool)
        for description in seg.SegmentSequence
    }
    names = [description.SegmentLabel for description in seg.SegmentSequence]
    for plane, frame in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        height = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        index = int(np.argmin(np.abs(np.array(heights) - height)))
        assert abs(heights[index] - height) < 0.01
        masks[names[number - 1]][index] |= plane > 0
    return masks


def _check_round_trip(node: ShippedNode, pacs: Pacs, folder: Path) -> tuple[Dataset, Dataset]:
    """Send a series, and compare what the PACS has with what is computed here."""
    (series,) = scan(sorted(folder.iterdir())).series
    sent = node.send(folder)
    assert sent.returncode == 0, sent.stderr
    job = node.job(series.series_uid)
    assert job["state"] == "done", (job["reason"], job["message"], node.log())
    files = _results(pacs, job)
    volume = load(series, LoadingPolicy())
    models = load_models(threads=1)
    method = models.method(Method())
    analysis = analyse(volume, models, method, lambda _stage, _part: None)
    labels = analysis.lesion_map.labels
    masks = _segment_masks(files["seg"], folder)
    wanted = {
        "Left lung excluding opacities": labels == Label.LEFT_LUNG,
        "Right lung excluding opacities": labels == Label.RIGHT_LUNG,
        "Left ground-glass opacity": labels == Label.LEFT_GROUND_GLASS,
        "Right ground-glass opacity": labels == Label.RIGHT_GROUND_GLASS,
        "Left consolidation": labels == Label.LEFT_CONSOLIDATION,
        "Right consolidation": labels == Label.RIGHT_CONSOLIDATION,
    }
    for name, mask in wanted.items():
        found = masks.get(name, np.zeros_like(mask))
        assert np.array_equal(found, mask), name
    original = pydicom.dcmread(series.instances[0].path)
    seg, sr = (pydicom.dcmread(BytesIO(files[role])) for role in ("seg", "sr"))
    for result in (seg, sr):
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
            assert result[keyword].value == original[keyword].value
    assert seg.FrameOfReferenceUID == original.FrameOfReferenceUID
    assert json.loads(json.dumps(job["result"]))["findings"]["lung_ml"] > 1000
    return seg, sr


def test_the_phantom_makes_the_round_trip(
    node: ShippedNode, pacs: Pacs, small_series: Path
) -> None:
    seg, sr = _check_round_trip(node, pacs, small_series)
    assert seg.ContentQualification == "RESEARCH"
    assert (sr.PreliminaryFlag, sr.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


@pytest.mark.real
@pytest.mark.parametrize("name", ["cptac-lung-3mm-b70f", "lungdx-5mm"])
def test_a_real_series_makes_the_round_trip(
    node: ShippedNode, pacs: Pacs, shared_root: Path, name: str
) -> None:
    _check_round_trip(node, pacs, shared_root / "data" / "chest-ct" / name)


def test_a_resend_is_taken_and_makes_nothing_new(
    node: ShippedNode, pacs: Pacs, small_series: Path
) -> None:
    (series,) = scan(sorted(small_series.iterdir())).series
    node.send(small_series)
    node.job(series.series_uid)
    before = node.shown()
    assert node.send(small_series).returncode == 0
    node.send(small_series)
    assert [one["job"] for one in node.shown()] == [one["job"] for one in before]


def test_a_non_ascii_patient_comes_back_as_sent(
    node: ShippedNode, pacs: Pacs, healthy_thorax: Thorax, tmp_path: Path
) -> None:
    identity = PhantomIdentity(
        patient_name="Müller^Jörg", patient_id="ÄÖ-7", specific_character_set="ISO_IR 100"
    )
    write_series(healthy_thorax, tmp_path / "latin", identity)
    seg, sr = _check_round_trip(node, pacs, tmp_path / "latin")
    for result in (seg, sr):
        assert result.SpecificCharacterSet == "ISO_IR 100"
        assert str(result.PatientName) == "Müller^Jörg"


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("localizer", "localizer"),
        ("series_philips_gantry_tilt_16", "not-chest"),
        ("series_ge_gantry_tilt_var_spacing", "not-chest"),
    ],
)
def test_what_is_no_chest_ct_ends_rejected_with_its_reason(
    node: ShippedNode, shared_root: Path, folder: str, reason: str
) -> None:
    source = shared_root / "corpus" / folder
    (series, *_) = scan(sorted(source.iterdir())).series
    node.send(source)
    job = node.job(series.series_uid)
    assert (job["state"], job["reason"]) == ("rejected", reason)
    assert job["deliveries"] == []


def test_mixed_patients_under_one_series_uid_are_refused(
    node: ShippedNode, small_series: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    uid = "2.25.4711"
    for number, path in enumerate(sorted(small_series.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number}"
        if number == 30:
            dataset.PatientID = "SOMEBODY-ELSE"
        dataset.save_as(folder / path.name)
    assert node.send(folder).returncode == 0
    job = node.job(uid)
    assert (job["state"], job["reason"]) == ("rejected", "mixed-patients")


def test_a_kill_and_a_silent_pacs_lose_nothing(small_series: Path, tmp_path: Path) -> None:
    (series,) = scan(sorted(small_series.iterdir())).series
    node = ShippedNode(tmp_path, ("PACS", free_port()))
    node.start()
    assert node.send(small_series).returncode == 0
    node.cut_power()  # received, perhaps complete, perhaps being analysed
    with start_pacs(tmp_path / "pacs", "RALES") as pacs:
        node.start()

        sql = "SELECT attempts FROM deliveries WHERE attempts > 0"
        node.wait_for("a delivery that fails", lambda: node.rows(sql))
        node.cut_power()
        node.destination = (pacs.destination.ae_title, pacs.destination.port)
        node.start()
        job = node.job(series.series_uid)
        assert job["state"] == "done", node.log()
        assert {one["state"] for one in job["deliveries"]} == {"delivered"}
        assert set(_results(pacs, job)) == {"seg", "sr"}
    node.terminate()
