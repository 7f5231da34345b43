"""Results of a phantom, sent to a real Orthanc and read back over DICOMweb."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from chest_cases import CREATED, MODELS, SOFTWARE
from pydicom.dataset import Dataset
from sending import send, store

from chestct.analysed import AnalysedSeries
from chestct.method import Method, Presence
from chestct.results import AnalysisKey, Profile, ResultObject, ResultSet
from chestct.volume import Label, LesionMap
from dicom_out.network.destination import WebDestination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.stow import ask
from dicom_out.objects.compose import compose
from dicom_out.objects.sources import read_sources
from inference.loading.loader import LoadingPolicy, load
from inference.reading.quantify import measure
from phantom import Thorax
from rales.cli.scanning import scan
from rales.demo.pacs import Pacs, start_pacs

pytestmark = pytest.mark.orthanc


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    if shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("Orthanc is not installed")
    with start_pacs(tmp_path_factory.mktemp("pacs") / "pacs", "RALES") as running:
        yield running


@pytest.fixture(scope="module")
def lesion_map(small_thorax: Thorax, small_series: Path) -> LesionMap:
    volume = load(scan(sorted(small_series.iterdir())).series[0], LoadingPolicy())
    labels = np.zeros(volume.geometry.shape, np.uint8)
    lesion = small_thorax.lesion > 0
    labels[small_thorax.left_lung] = Label.LEFT_LUNG
    labels[small_thorax.right_lung] = Label.RIGHT_LUNG
    labels[small_thorax.left_lung & lesion] = Label.LEFT_GROUND_GLASS
    labels[small_thorax.right_lung & lesion] = Label.RIGHT_GROUND_GLASS
    return LesionMap(labels=labels, geometry=volume.geometry)


@pytest.fixture(scope="module")
def results(
    small_series: Path, lesion_map: LesionMap, tmp_path_factory: pytest.TempPathFactory
) -> ResultSet:
    series = scan(sorted(small_series.iterdir())).series[0]
    volume = load(series, LoadingPolicy())
    presence = Presence(score=0.9, operating_point=0.5)
    key = AnalysisKey(
        series_uid=series.series_uid,
        instances_digest=series.digest,
        models_digest="m",
        config_digest="c",
    )
    analysed = AnalysedSeries(
        series=series,
        volume=volume,
        lesion_map=lesion_map,
        findings=measure(volume, lesion_map, presence, Method()),
        models=MODELS,
        software=SOFTWARE,
        key=key,
        created=CREATED,
    )
    folder = tmp_path_factory.mktemp("results")
    sources = read_sources(series, volume)
    return ResultSet(key=key, objects=compose(analysed, sources, folder, (Profile.OHIF,)))


def wado(pacs: Pacs, item: ResultObject) -> Dataset:
    """Fetch one instance over WADO-RS (PS3.18 section 10.4)."""
    path = f"/studies/{item.study_uid}/series/{item.series_uid}/instances/{item.sop_instance_uid}"
    request = urllib.request.Request(
        f"{pacs.url}/dicom-web{path}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        boundary = answer.headers.get_param("boundary")
        body = answer.read()
    part = body.split(b"--" + boundary.encode())[1]
    return pydicom.dcmread(BytesIO(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")))


def test_what_the_pacs_gives_back_is_what_was_computed(
    pacs: Pacs, results: ResultSet, lesion_map: LesionMap, small_series: Path
) -> None:
    outcomes = send(results.objects, pacs.destination, calling_ae="RALES", timeout_seconds=30.0)
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.DELIVERED] * 2
    seg_object, sr_object = results.objects
    for item in results.objects:
        assert wado(pacs, item) == pydicom.dcmread(item.path)
    seg = hd.seg.Segmentation.from_dataset(wado(pacs, seg_object))
    volume = seg.get_volume(combine_segments=True)
    wanted = np.array([0, 1, 2, 3, 3, 3, 3], np.uint8)[lesion_map.labels]
    matched = volume.match_geometry(_grid(lesion_map, seg.FrameOfReferenceUID))
    # How the lesion is split is held by test_seg.py; here it is where it was computed.
    kinds = {"Left lung excluding opacities": 1, "Right lung excluding opacities": 2}
    numbers = [kinds.get(segment.SegmentLabel, 3) for segment in seg.SegmentSequence]
    assert np.array_equal(np.array([0, *numbers], np.uint8)[matched.array], wanted)
    source = pydicom.dcmread(next(small_series.iterdir()), stop_before_pixels=True)
    for item in (seg, wado(pacs, sr_object)):
        assert item.PatientName == source.PatientName
        assert item.PatientID == source.PatientID
        assert item.StudyInstanceUID == source.StudyInstanceUID


def test_sending_again_makes_no_second_copy(pacs: Pacs, results: ResultSet) -> None:
    for _ in range(2):
        outcomes = send(results.objects, pacs.destination, calling_ae="RALES", timeout_seconds=30.0)
        assert [outcome.kind for outcome in outcomes] == [OutcomeKind.DELIVERED] * 2
    with urllib.request.urlopen(f"{pacs.url}/instances", timeout=60) as answer:
        assert answer.read().count(b'"') == 2 * len(results.objects)


def test_stow_rs_stores_the_same_once(
    results: ResultSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists():
        pytest.skip("Orthanc's DICOMweb plug-in is not installed")
    with start_pacs(tmp_path_factory.mktemp("web") / "pacs", "RALES") as running:
        destination = WebDestination(name="web", url=f"{running.url}/dicom-web")
        assert ask(destination, timeout_seconds=10.0).message == "answers QIDO-RS"
        for _ in range(2):
            outcomes = store(results.objects, destination, timeout_seconds=30.0)
            assert [one.kind for one in outcomes] == [OutcomeKind.DELIVERED] * 2
        for item in results.objects:
            assert wado(running, item) == pydicom.dcmread(item.path)
        with urllib.request.urlopen(f"{running.url}/instances", timeout=60) as answer:
            assert answer.read().count(b'"') == 2 * len(results.objects)


def _grid(lesion_map: LesionMap, frame_of_reference_uid: str) -> hd.VolumeGeometry:
    geometry = lesion_map.geometry
    return hd.VolumeGeometry(
        affine=geometry.affine,
        spatial_shape=geometry.shape,
        coordinate_system="PATIENT",
        frame_of_reference_uid=frame_of_reference_uid,
    )
