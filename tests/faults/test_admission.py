"""Who gets in, and how many: address ranges, limits, crowds that say nothing, sizes."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ports import free_port
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from tiny_node import TinyNode, TinySeries, tiny_thorax, write_models, write_tiny_series
from waiting import wait_for

from scp.admission import Admission

_VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), tiny_thorax())


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> TinySeries:
    return write_tiny_series(tiny_thorax(), tmp_path_factory.mktemp("series"), "one")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[TinyNode]:
    """A node as it comes, but for its time-outs."""
    node = TinyNode(
        folder=tmp_path_factory.mktemp("node"),
        models=models,
        destinations=[],
        extra="[network]\nmaximum_instance_mb = 1\n",
    )
    node.start()
    yield node
    assert node.terminate() == 0


def _associate(port: int, *, title: str = "CT1", host: str = "127.0.0.1") -> Association:
    ae = AE(ae_title=title)
    ae.add_requested_context(_VERIFICATION)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 60
    return ae.associate(host, port, ae_title="RALES")


def _reason(association: Association) -> tuple[int, int, int]:
    assert association.is_rejected
    answer: Any = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def test_only_known_titles_from_their_addresses_get_in(tmp_path: Path, models: Path) -> None:
    node = TinyNode(
        folder=tmp_path,
        models=models,
        destinations=[],
        extra='[security]\nallowed_calling_ae = ["ANYWHERE"]\n'
        '[[security.peers]]\nae_title = "HERE"\naddresses = ["192.0.2.0/24", "127.0.0.0/8"]\n'
        '[[security.peers]]\nae_title = "ELSEWHERE"\naddresses = ["192.0.2.0/24"]\n',
    )
    node.launch()

    def up() -> bool:
        association = _associate(node.port, title="HERE")
        if association.is_established:
            association.release()
            return True
        return False

    wait_for("the node to answer", up)
    try:
        known = _associate(node.port, title="ANYWHERE")
        assert known.is_established
        known.release()
        for title in ("ELSEWHERE", "NOBODY"):
            assert _reason(_associate(node.port, title=title)) == (0x01, 0x01, 0x03)
        assert "ELSEWHERE@127.0.0.1 asking for RALES was rejected" in node.log()
    finally:
        assert node.terminate() == 0


_ADDRESSES = st.ip_addresses(v=4)


@given(address=_ADDRESSES, base=_ADDRESSES, bits=st.integers(0, 32))
def test_a_range_holds_what_its_bits_say(
    address: ipaddress.IPv4Address, base: ipaddress.IPv4Address, bits: int
) -> None:
    network = ipaddress.ip_network((int(base), bits), strict=False)
    admission = Admission(callers={"CT1": (network,)})
    shift = 32 - bits
    inside = int(address) >> shift == int(base) >> shift
    assert admission.permits("CT1", str(address)) is inside
    assert admission.permits("CT1", f"::ffff:{address}") is inside
    assert not admission.permits("CT2", str(address))
    assert Admission().permits("CT2", str(address))
    assert Admission(callers={"CT1": ()}).permits("CT1", "fe80::1%eth0")


def test_the_limits_are_told_and_pass(tmp_path: Path, models: Path) -> None:
    node = TinyNode(
        folder=tmp_path,
        models=models,
        destinations=[],
        extra="[network]\nmaximum_associations = 5\nmaximum_associations_per_address = 3\n",
    )
    node.start()
    try:
        held = [_associate(node.port) for _ in range(3)]
        assert all(one.is_established for one in held)
        assert _reason(_associate(node.port)) == (0x02, 0x03, 0x02)
        held[0].release()
        wait_for("the place to be free", lambda: _free(node.port, held))
    finally:
        for one in held:
            one.abort()
        assert node.terminate() == 0


def _free(port: int, held: list[Association]) -> bool:
    held.append(_associate(port))
    return held[-1].is_established


def test_64_associations_at_the_same_time_are_all_served(
    node: TinyNode, series: TinySeries
) -> None:
    datasets = [pydicom.dcmread(file) for file in series.files]
    together = threading.Barrier(64)
    statuses: list[list[int]] = [[] for _ in range(64)]

    def scanner(number: int) -> None:
        together.wait(60)
        association = _associate(node.port, title=f"CT{number}")
        if not association.is_established:
            return
        together.wait(120)  # all 64 stand at this moment
        statuses[number].append(association.send_c_echo().Status)
        statuses[number].append(association.send_c_store(datasets[number % 24]).Status)
        association.release()

    threads = [threading.Thread(target=scanner, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert statuses == [[0, 0]] * 64


def test_200_half_open_connections_keep_no_good_peer_out(node: TinyNode) -> None:
    """Silent ones, and slow ones that give an association request byte by byte."""
    silent = [socket.create_connection(("127.0.0.1", node.port), 30) for _ in range(200)]
    try:
        for slow in silent[::4]:
            slow.send(b"\x01\x00\x00")
        for _ in range(3):
            association = _associate(node.port)
            assert association.is_established
            assert association.send_c_echo().Status == 0
            association.release()
        # None is held for ever: ARTIM ends what the crowd did not.
        for one in (silent[0], silent[-1]):
            one.settimeout(60)
            assert one.recv(1) == b""
    finally:
        for one in silent:
            one.close()


def test_a_data_set_beyond_the_limit_is_refused_and_the_association_goes_on(
    node: TinyNode, series: TinySeries
) -> None:
    large = pydicom.dcmread(series.files[0])
    large.Rows = large.Columns = 1024
    large.PixelData = bytes(2 * 1024 * 1024)
    large.SOPInstanceUID = "1.2.3.4"
    large.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    association = _associate(node.port)
    answer = association.send_c_store(large)
    assert answer.Status == 0xC000
    assert "maximum_instance_mb" in answer.ErrorComment
    assert association.send_c_store(pydicom.dcmread(series.files[1])).Status == 0
    association.release()
    assert node.rows("SELECT 1 FROM instances WHERE sop_instance_uid = '1.2.3.4'") == []
    assert not list((node.folder / "data").rglob("*1.2.3.4*"))


def test_a_port_that_is_taken_is_told_with_the_remedy(tmp_path: Path, models: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        node = TinyNode(folder=tmp_path, models=models, destinations=[], port=port)
        node.launch()
        assert node.process is not None
        assert node.process.wait(60) != 0
    assert "node.port chooses another port" in node.log()
