"""Destinations of all profiles behind one node: each object once, references that resolve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)

PROFILES = {
    "pacs": "ohif",
    "slicer": "slicer",
    "second": "slicer",
    "weasis": "weasis",
    "archive": "plain",
}
PLAIN = (ComprehensiveSRStorage, SecondaryCaptureImageStorage)


@contextmanager
def running(pacs: dict[str, StoringPacs]) -> Iterator[str]:
    """Start each destination; yield the sections of the configuration file."""
    sections = ""
    try:
        for name, profile in PROFILES.items():
            port = pacs[name].start().port
            sections += (
                f'[[destinations]]\nname = "{name}"\nae_title = "PACS"\nhost = "127.0.0.1"\n'
                f'port = {port}\nprofile = "{profile}"\n'
            )
        yield sections
    finally:
        for destination in pacs.values():
            destination.stop()


def results_referenced(dataset: Dataset) -> set[str]:
    """Return the UIDs of the results (not the images) that an SR references as evidence."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
        if item.ReferencedSOPClassUID != CTImageStorage
    }


def test_each_destination_gets_the_objects_of_its_profile_once_also_over_a_restart(
    tmp_path: Path,
) -> None:
    thorax = tiny_thorax()
    pacs = {
        name: StoringPacs(kinds=PLAIN) if profile == "plain" else StoringPacs()
        for name, profile in PROFILES.items()
    }
    models = write_models(tmp_path / "models", thorax)
    series = write_tiny_series(thorax, tmp_path, "PROFILES")
    with running(pacs) as sections:
        node = TinyNode(tmp_path, models, [], extra=sections)
        try:
            node.start()
            assert send_files(node.port, series.files, set())
            assert node.ended(series.uid) == "done"
            (shown,) = node.shown()
            node.kill()
            node.start()
            assert send_files(node.port, series.files, set())
            assert node.ended(series.uid) == "done"
            assert node.terminate() == 0
        finally:
            node.end()
    got = {name: destination.datasets for name, destination in pacs.items()}
    kinds = {
        name: sorted(str(item.SOPClassUID) for item in datasets.values())
        for name, datasets in got.items()
    }
    both = [SegmentationStorage, Comprehensive3DSRStorage]
    assert kinds == dict.fromkeys(PROFILES, sorted(both)) | {"archive": sorted(PLAIN)}
    assert set(got["slicer"]) == set(got["second"])
    assert set(got["weasis"]) == set(got["pacs"]), "no SEG has 400 frames"
    assert len(set(got["slicer"]) & set(got["pacs"])) == 1, "the SEG"
    assert set(got["archive"]).isdisjoint({*got["pacs"], *got["slicer"]})
    for name, datasets in got.items():
        assert set(pacs[name].times.values()) == {1}
        assert pacs[name].changed == []
        for dataset in datasets.values():
            assert results_referenced(dataset) <= set(datasets), "it has all that it is told of"
    assert {item["role"] for item in shown["deliveries"]} == {
        "seg",
        "sr",
        "sr-slicer",
        "sr-plain",
        "secondary-capture",
    }
    assert {item["state"] for item in shown["deliveries"]} == {"delivered"}
