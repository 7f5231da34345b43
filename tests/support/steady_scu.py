"""Makes pynetdicom's own SCU, with which many tests send, lose no response.

Its reactor may take a response off the queue while the caller waits for it
(:mod:`pynetdicom_guard.reactor_gate`). The faster a receiver answers, the more often it does.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
from pynetdicom.association import Association

from pynetdicom_guard.reactor_gate import ReactorGate, park_reactor, put_gate


def park_before_requests(patch: pytest.MonkeyPatch) -> None:
    """Give every requestor a gate, and park its reactor before it sends a request."""
    create: Any = Association.__init__

    @wraps(create)
    def gated(self: Any, *arguments: Any, **options: Any) -> None:
        create(self, *arguments, **options)
        if self.is_requestor:
            put_gate(self)

    patch.setattr(Association, "__init__", gated)
    for name in ("send_c_echo", "send_c_find", "send_c_get", "send_c_store", "send_n_action"):
        patch.setattr(Association, name, _parked(getattr(Association, name)))


def _parked(send: Any) -> Any:
    @wraps(send)
    def parked(self: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(self._reactor_checkpoint, ReactorGate):
            park_reactor(self)
        return send(self, *arguments, **options)

    return parked
