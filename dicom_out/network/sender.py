"""The storage SCU: sends result objects by C-STORE and returns one outcome per object."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from chestct.errors import ResultDamaged
from chestct.results import ResultObject
from dicom_out.encodings import data_set_of, in_syntax
from dicom_out.network.allowance import SLOWEST, Bounds, Conversations, whole_seconds
from dicom_out.network.association import Conversation, associated
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind, outcome_of
from dicom_out.result_file import read_whole
from dicom_out.transfer import compressed_syntaxes
from pynetdicom_guard.reactor_gate import gate_of, park_reactor

_LOG = logging.getLogger(__name__)

_VERIFICATION = UID("1.2.840.10008.1.1")
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_LOW_PRIORITY = 2
"""Priority of a C-STORE (PS3.7 section 9.3.1.1)."""
MOST_BYTES = 1 << 20
"""Bytes that a destination may send in one association; a response to a C-STORE has 200."""
ECHO_SECONDS = 10.0


def send_each(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    calling_ae: str,
    timeout_seconds: float,
    slowest: float = SLOWEST,
    under_way: Conversations | None = None,
) -> Iterator[Outcome]:
    """Send ``objects`` in one association; yield the outcome of each, in order, once it is known.

    Never raises for what the destination or the network does. Only the presentation contexts that
    the objects need are proposed. No silence may last longer than ``timeout_seconds``, and the
    association no longer than :func:`dicom_out.network.allowance.whole_seconds` for these objects
    over a line of ``slowest`` bytes per second.
    """
    classes = list(dict.fromkeys(item.sop_class_uid for item in objects))
    contexts = storage_contexts(classes)
    contexts += compressed_contexts(classes, asked=destination.compress)
    whole = whole_seconds(
        timeout_seconds,
        messages=len(objects),
        content=sum(_size(item) for item in objects),
        slowest=slowest,
    )
    bounds = Bounds(
        silence_seconds=timeout_seconds,
        whole_seconds=whole,
        most_bytes=MOST_BYTES,
        slowest=slowest,
        setting="delivery.timeout_seconds",
        under_way=under_way,
    )
    with associated(destination, contexts, calling_ae, bounds) as conversation:
        if conversation.association is None:
            yield from (conversation.failure for _ in objects)
        else:
            yield from _store_all(conversation, conversation.association, objects)


def _size(item: ResultObject) -> int:
    try:
        return item.path.stat().st_size
    except OSError:
        return 0  # reading the file reports the error


def storage_contexts(classes: Sequence[str]) -> list[PresentationContext]:
    """Return the contexts to propose for objects of these SOP classes, one each."""
    syntaxes: list[str | UID] = list(_PLAIN)
    return [build_context(UID(uid), syntaxes) for uid in classes]


def compressed_contexts(classes: Sequence[str], *, asked: bool) -> list[PresentationContext]:
    """Return the further contexts to propose for compressed objects, one for each syntax."""
    return [
        build_context(UID(uid), syntax)
        for uid in classes
        for syntax in compressed_syntaxes(uid, asked=asked)
    ]


def echo_context() -> PresentationContext:
    """Return the context to propose for a C-ECHO."""
    return build_context(_VERIFICATION, [ImplicitVRLittleEndian])


def echo(
    destination: Destination, *, calling_ae: str, timeout_seconds: float = ECHO_SECONDS
) -> Outcome:
    """Send a C-ECHO; the whole association may take ``timeout_seconds``."""
    bounds = Bounds(
        silence_seconds=timeout_seconds, whole_seconds=timeout_seconds, most_bytes=MOST_BYTES
    )
    with associated(destination, [echo_context()], calling_ae, bounds) as conversation:
        association = conversation.association
        if association is None:
            return conversation.failure
        park_reactor(association)
        try:
            response = association.send_c_echo()
        except (RuntimeError, ValueError) as error:
            return conversation.failed(f"no answer to C-ECHO: {error}")
        if "Status" not in response:
            return conversation.failed("no answer to C-ECHO")
        status = int(response.Status)
        if status:
            return Outcome(
                kind=OutcomeKind.REFUSED, status=status, message=f"C-ECHO status 0x{status:04X}"
            )
        return Outcome(kind=OutcomeKind.DELIVERED, status=0, message="answers C-ECHO")


def _store_all(
    conversation: Conversation, association: Association, objects: Sequence[ResultObject]
) -> Iterator[Outcome]:
    """Yield the outcome of each object; send no further object after one without an answer.

    pynetdicom notices a lost connection late, and would wait for the next answer in vain.
    """
    answered = True
    for item in objects:
        if answered and park_reactor(association):
            outcome = _store(conversation, association, item)
            answered = outcome is not None
            yield outcome or conversation.failed(
                "no answer to C-STORE: connection lost or timed out"
            )
        else:
            yield conversation.failed("the association ended before this object")


def _store(
    conversation: Conversation, association: Association, item: ResultObject
) -> Outcome | None:
    """Send an object and return its outcome; None without an answer."""
    context = _context_for(association, item)
    if context is None:
        return Outcome(
            kind=OutcomeKind.NOT_ACCEPTED,
            status=None,
            message=f"{UID(item.sop_class_uid).name} is not accepted by the destination",
        )
    try:
        data_set = data_set_of(read_whole(item))
        syntax = UID(context.transfer_syntax[0])
        content = data_set if syntax == ExplicitVRLittleEndian else in_syntax(data_set, syntax)
        association.dimse_timeout = conversation.answer_seconds(len(content))
        response = _send(association, item, context, content)
    except ResultDamaged as error:
        return Outcome(kind=OutcomeKind.DAMAGED, status=None, message=str(error))
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        return conversation.failed(f"could not be sent: {error}")
    if "Status" not in response:
        return None
    status = int(response.Status)
    if comment := response.get("ErrorComment"):
        # It may name the patient, so it goes into no outcome.
        _LOG.debug("the destination answers 0x%04X with the comment %r", status, str(comment))
    return outcome_of(status)


def _send(
    association: Any, item: ResultObject, context: PresentationContext, content: bytes
) -> Dataset:
    """Send an encoded data set, byte for byte; return the response, empty without an answer.

    pynetdicom's ``send_c_store`` would decode and encode it again.
    """
    request = C_STORE()
    request.MessageID = 1
    request.Priority = _LOW_PRIORITY
    request.AffectedSOPClassUID = UID(item.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(item.sop_instance_uid)
    request.DataSet = BytesIO(content)
    try:
        association.dimse.send_msg(request, context.context_id)
        _, response = association.dimse.get_msg(block=True)
    finally:
        gate_of(association).set()
    if response is None:
        association._handle_no_response()  # noqa: SLF001 - as send_c_store does
        return Dataset()
    answer: Dataset = association._check_received_status(response)  # noqa: SLF001 - likewise
    return answer


def _context_for(association: Association, item: ResultObject) -> PresentationContext | None:
    """Return the best accepted context for an object; None if no context was accepted.

    Each compressed syntax has a context of its own, so that its acceptance is visible: a peer may
    choose any one transfer syntax of a context.
    """
    accepted = {
        str(context.transfer_syntax[0]): context
        for context in association.accepted_contexts
        if str(context.abstract_syntax) == str(item.sop_class_uid) and context.as_scu
    }
    order = (*compressed_syntaxes(item.sop_class_uid, asked=True), *_PLAIN)
    return next((accepted[syntax] for syntax in order if syntax in accepted), None)
