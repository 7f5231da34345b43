"""A certificate authority for tests, and the files that TLS is configured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A self-signed authority that writes what it issues into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str) -> Pair:
        """Write NAME.pem and NAME.key, or replace them."""
        issued = self._ca.issue_cert(*(hosts or ("localhost", "127.0.0.1")))
        pair = Pair(certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
        pair.certificate.write_bytes(chain)
        issued.private_key_pem.write_to_path(pair.key)
        return pair
