"""Fails when pynetdicom changes what a guard replaces, calls or relies on.

When a test here fails after an update of pynetdicom: read the change, decide whether the guard
that the message names still works and is still needed (``docs/upstream/`` says what it is for),
then write the new digest into the table.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pynetdicom
import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
UPSTREAM = REPOSITORY / "docs" / "upstream"
USERS = ("pynetdicom_guard", "scp", "dicom_out/network")

RELIED_ON = {
    # What the guards replace.
    "pynetdicom.dul:DULServiceProvider._is_transport_event": (
        "8725ed03bb8f",
        "crash_guard, data_path",
    ),
    "pynetdicom.dul:DULServiceProvider._process_recv_primitive": ("4c0ebbb3e646", "crash_guard"),
    "pynetdicom.fsm:StateMachine.do_action": ("9a883f44c7f3", "crash_guard"),
    "pynetdicom.acse:ACSE.negotiate_association": ("a6f771214fa4", "crash_guard"),
    "pynetdicom.association:Association._run_reactor": (
        "f28838c5559e",
        "crash_guard, reactor_gate, data_path",
    ),
    "pynetdicom.transport:AssociationSocket.recv": ("6bc20a33b1b7", "sockets, requestor"),
    "pynetdicom.transport:AssociationSocket.send": ("1ea8158c0b51", "sockets"),
    "pynetdicom.ae:ApplicationEntity.active_associations": ("23da190dfcca", "limits"),
    "pynetdicom._handlers:standard_dimse_recv_handler": ("cfacb737b749", "limits"),
    "pynetdicom._handlers:standard_dimse_sent_handler": ("5702b6a66a3f", "limits"),
    "pynetdicom._handlers:standard_pdu_recv_handler": ("916f709ee3e0", "limits"),
    "pynetdicom._handlers:standard_pdu_sent_handler": ("5193cd6183c0", "limits"),
    "pynetdicom.transport:AssociationServer.get_request": ("925a4f3a3042", "listener"),
    "pynetdicom.transport:AssociationServer.process_request": ("4fa44ac5b54b", "listener"),
    "pynetdicom.transport:AssociationServer.service_actions": ("0a0853a3615a", "listener"),
    "pynetdicom.transport:AssociationServer.server_close": ("3fa1b358badb", "listener"),
    # Private methods that are called instead of a public one.
    "pynetdicom.association:Association._handle_no_response": (
        "6f3d62518395",
        "dicom_out.network.sender",
    ),
    "pynetdicom.association:Association._check_received_status": (
        "364c3ae215b5",
        "dicom_out.network.sender",
    ),
    "pynetdicom.association:Association.send_c_store": ("fa5a8127f349", "dicom_out.network.sender"),
    # What the data path does in its place for a plain C-STORE.
    "pynetdicom.association:Association._serve_request": ("2f24c1759cdf", "data_path"),
    "pynetdicom.service_class:StorageServiceClass.SCP": ("63afca7fc6c6", "data_path"),
    "pynetdicom.service_class:ServiceClass.validate_status": ("4c92e97ae31a", "data_path"),
    "pynetdicom.dimse:DIMSEServiceProvider.send_msg": ("a839cf2fb469", "data_path"),
    # What decides when the replaced methods run, and which attributes exist.
    "pynetdicom.association:Association.__init__": ("eb07516b8009", "crash_guard, requestor"),
    "pynetdicom.association:Association.kill": ("8f9713666a7f", "crash_guard, requestor"),
    "pynetdicom.association:Association.request": ("928cd0e3013c", "requestor"),
    "pynetdicom.association:Association.run_reactor": ("ed8bbbe3b3d6", "crash_guard, limits"),
    "pynetdicom.dul:DULServiceProvider.__init__": ("c82dafa9438d", "crash_guard, data_path"),
    "pynetdicom.dul:DULServiceProvider._read_pdu_data": (
        "19f2d4e38c13",
        "sockets, data_path, requestor",
    ),
    "pynetdicom.dul:DULServiceProvider.run_reactor": ("e3a10eb3a093", "crash_guard, data_path"),
    "pynetdicom.transport:AssociationSocket.connect": ("aeeeae413bd3", "requestor"),
    "pynetdicom.transport:AssociationSocket._shutdown_socket": (
        "e2b2628faa81",
        "limits, requestor",
    ),
    "pynetdicom.transport:RequestHandler._create_association": ("05c8d12b7986", "limits"),
    "pynetdicom.ae:ApplicationEntity.start_server": ("d3868a2df83d", "listener"),
    "pynetdicom.ae:ApplicationEntity.shutdown": ("3084723b79cf", "listener"),
    "pynetdicom.dimse:DIMSEServiceProvider.receive_primitive": ("5f99c86b14a1", "arrivals"),
    "pynetdicom.dimse_messages:DIMSEMessage.__init__": ("b9c44307ebf2", "arrivals"),
    "pynetdicom.dimse_messages:DIMSEMessage.decode_msg": (
        "f51c777e841a",
        "arrivals, limits, data_path",
    ),
    "pynetdicom.dimse_messages:DIMSEMessage.message_to_primitive": ("f8f43d34e434", "limits"),
}
"""Name in pynetdicom, first digits of the SHA-256 of its source, and the guards to look at."""

ATTRIBUTES = {
    "_idle_timer": "pynetdicom.dul:DULServiceProvider.__init__",
    "_kill": "pynetdicom.association:Association.__init__",
    "_kill_thread": "pynetdicom.dul:DULServiceProvider.__init__",
    "_reactor_checkpoint": "pynetdicom.association:Association.__init__",
    "_server": "pynetdicom.association:Association.__init__",
    "_servers": "pynetdicom.ae:ApplicationEntity.start_server",
}
"""Private attributes of instances, and the listed method whose source names them."""


def _source(name: str) -> str:
    module, _, path = name.partition(":")
    found = pkgutil.resolve_name(f"{module}:{path}")
    return inspect.getsource(found.fget if isinstance(found, property) else found)


@pytest.mark.parametrize("name", RELIED_ON)
def test_pynetdicom_is_what_the_guard_was_written_for(name: str) -> None:
    expected, guards = RELIED_ON[name]
    digest = hashlib.sha256(_source(name).encode()).hexdigest()[: len(expected)]
    assert digest == expected, f"{name} changed: look at {guards}"


@pytest.mark.parametrize(("attribute", "method"), ATTRIBUTES.items())
def test_a_private_attribute_exists(attribute: str, method: str) -> None:
    assert f"self.{attribute}" in _source(method)


def test_every_private_name_that_is_used_is_listed() -> None:
    listed = {name.rpartition(".")[2] for name in RELIED_ON} | set(ATTRIBUTES)
    used = {name for user in USERS for name in _private_names(REPOSITORY / user)}
    assert used
    assert used - listed == set()


def test_pynetdicom_is_pinned_to_the_version_that_the_guards_are_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = {line.name: line for line in map(Requirement, project["dependencies"])}
    assert str(requirements["pynetdicom"].specifier) == f"=={metadata.version('pynetdicom')}"


def _private_names(folder: Path) -> Iterator[str]:
    """Yield the private attributes that a package reads or replaces on objects of others."""
    for file in sorted(folder.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "pynetdicom" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and _is_foreign(node):
                yield node.attr
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_guard":
                (_, name, *_) = node.args
                assert isinstance(name, ast.Constant)
                yield str(name.value)


def _is_foreign(node: ast.Attribute) -> bool:
    is_private = node.attr.startswith("_") and not node.attr.endswith("__")
    owner = node.value
    is_own = isinstance(owner, ast.Name) and owner.id in {"self", "cls"}
    return is_private and not is_own


@pytest.mark.parametrize("file", sorted(UPSTREAM.glob("[0-9]*.md")), ids=lambda file: file.stem)
def test_the_patch_for_a_defect_applies_and_compiles(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    patch = text.partition("```diff\n")[2].partition("```\n")[0]
    package = Path(str(pynetdicom.__file__)).parent
    shutil.copytree(
        package, tmp_path / "pynetdicom", ignore=shutil.ignore_patterns("tests", "apps")
    )
    done = subprocess.run(
        ["git", "apply", "-"],
        input=patch,
        text=True,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in re.findall(r"(?m)^\+\+\+ b/(\S+)$", patch):
        compile((tmp_path / name).read_text(encoding="utf-8"), name, "exec")


def test_every_defect_is_in_the_index() -> None:
    index = (UPSTREAM / "README.md").read_text(encoding="utf-8")
    assert all(f"({file.name})" in index for file in UPSTREAM.glob("[0-9]*.md"))
