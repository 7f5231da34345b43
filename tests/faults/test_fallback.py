"""A PACS that takes no SEG gets what is configured in its place, over real sockets, once."""

from __future__ import annotations

from pathlib import Path

from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

SR = "1.2.840.10008.5.1.4.1.1.88.34"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def test_a_pacs_without_seg_gets_the_page_once_also_over_a_restart(tmp_path: Path) -> None:
    thorax = tiny_thorax()
    old, new = StoringPacs(kinds=(SR, CAPTURE, PDF)), StoringPacs()
    plain, simple = new.start(), old.start()
    node = TinyNode(
        tmp_path,
        write_models(tmp_path / "models", thorax),
        [plain],
        extra=(
            f'[[destinations]]\nname = "old"\nae_title = "PACS"\nhost = "127.0.0.1"\n'
            f'port = {simple.port}\nextras = ["encapsulated-pdf"]\n'
            'fallback = ["secondary-capture", "key-objects"]\n'
        ),
    )
    series = write_tiny_series(thorax, tmp_path, "FALLBACK")
    try:
        node.start()
        assert send_files(node.port, series.files, set())
        wait_for("the page", lambda: len(old.datasets) == 3)
        assert node.ended(series.uid) == "done"
        node.kill()
        node.start()
        assert send_files(node.port, series.files, set())
        assert node.ended(series.uid) == "done"
        assert node.terminate() == 0
    finally:
        node.end()
        old.stop()
        new.stop()
    assert sorted(str(one.SOPClassUID) for one in old.datasets.values()) == sorted(
        [SR, CAPTURE, PDF]
    )
    assert sorted(str(one.Modality) for one in new.datasets.values()) == ["SEG", "SR"]
    assert set(old.times.values()) == set(new.times.values()) == {1}
    assert old.changed == new.changed == []
