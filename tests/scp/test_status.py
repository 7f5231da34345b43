"""The one table from errors to DIMSE statuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chestct import errors
from scp.status import StoreStatus, answer, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotDicom("x"), 0xC000),
        (errors.InstanceRefused("x"), 0xC000),
        (errors.SopClassMismatch("x"), 0xA900),
        (errors.SopClassNotSupported("x"), 0x0122),
        (errors.OutOfResources("x"), 0xA700),
        (errors.GeometryError("x"), 0x0110),
        (ValueError("x"), 0x0110),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    assert status_of(error) == status


@given(st.text())
def test_a_comment_is_always_a_valid_long_string(message: str) -> None:
    comment = answer(errors.NotDicom(message)).ErrorComment
    assert len(comment) <= 64
    assert comment.isascii()
    assert "\\" not in comment
    assert comment == "" or comment.isprintable()


def test_what_nobody_foresaw_tells_nothing() -> None:
    dataset = answer(RuntimeError("Müller^Jörg"))
    assert dataset.Status == StoreStatus.PROCESSING_FAILURE
    assert dataset.ErrorComment == "internal error"
