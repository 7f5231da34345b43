"""Measures the time from the last image of a series to its completion, with and without an archive.

A real Orthanc has the images before the node receives them, as when it forwards them. Settle and
quiet time have their defaults. Networks and phantoms are tiny: they do not affect the result.

    python bench/completion.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from tiny_node import (
    SLICES,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from dicom_out.network.destination import Destination
from rales.demo.pacs import MODALITY, Pacs, find_orthanc, has_dicomweb, start_pacs

_HALF = SLICES // 2
_CASES: dict[str, tuple[slice, ...]] = {
    "whole chest, one association": (slice(None),),
    "whole chest, two associations": (slice(_HALF), slice(_HALF, None)),
    "140 mm, one association": (slice(SLICES - 10),),
}
_LATENCY = (
    "SELECT e.at, (SELECT max(received_at) FROM instances i WHERE i.series_uid = j.series_uid)"
    " FROM job_events e JOIN jobs j ON j.id = e.job_id"
    " WHERE e.after = 'ready' AND j.series_uid = ?"
)


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if find_orthanc() is None:
        sys.exit("Orthanc is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with start_pacs(folder / "pacs", "RALES") as pacs:
            ways = {"none": "", "C-FIND": "pacs"} | ({"QIDO-RS": "web"} if has_dicomweb() else {})
            for way, archive in ways.items():
                _measure(folder / way, pacs, way, archive, rounds)


def _measure(folder: Path, pacs: Pacs, way: str, archive: str, rounds: int) -> None:
    thorax = tiny_thorax()
    folder.mkdir()
    node = TinyNode(
        folder,
        write_models(folder / "models", thorax),
        [pacs.destination],
        extra=f'[[destinations]]\nname = "web"\nurl = "{pacs.url}/dicom-web"\n',
        settle_seconds=2.0,
        quiet_seconds=30.0,
        completion=f'archive = "{archive}"\n' if archive else "",
    )
    try:
        node.start()
        for case, parts in _CASES.items():
            seconds = []
            for number in range(rounds):
                name = f"{way}-{len(case)}-{number}"
                series = write_tiny_series(thorax, folder / "in", name)
                pieces = [series.files[part] for part in parts]
                _store(pacs.destination, [file for piece in pieces for file in piece])
                for piece in pieces:
                    assert send_files(node.port, piece, set())
                ((ready, last),) = wait_for("it", lambda uid=series.uid: node.rows(_LATENCY, uid))
                seconds.append(
                    (datetime.fromisoformat(ready) - datetime.fromisoformat(last)).total_seconds()
                )
            middle, longest = statistics.median(seconds), max(seconds)
            print(f"archive {way:8} {case:32} median {middle:5.2f} s, longest {longest:5.2f} s")
    finally:
        node.end()


def _store(pacs: Destination, files: list[Path]) -> None:
    ae = AE(ae_title=MODALITY)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(pacs.host, pacs.port, ae_title=pacs.ae_title)
    assert association.is_established
    for file in files:
        assert association.send_c_store(pydicom.dcmread(file)).Status == 0
    association.release()


if __name__ == "__main__":
    main()
