"""Tables of the network: SOP classes, presentation contexts, statuses and limits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.presentation import PresentationContext

from chestct.errors import RejectReason
from conformance.markdown import named_uid, ranges, table, uid_name
from dicom_out.network import commitment, prior_reports, sender
from dicom_out.network.association import MAXIMUM_PDU
from dicom_out.network.commitment import ReportStatus
from dicom_out.network.outcome import OutcomeKind, outcome_of
from dicom_out.network.stow import outcome_of_refusal
from scp.contexts import commitment_context, supported_contexts
from scp.outline import most_elements
from scp.server import ACSE_SECONDS
from scp.status import StoreStatus, kinds_by_status

_DIMSE_STATUSES = range(1 << 16)
_HTTP_ERRORS = range(400, 600)
_LARGE_DATA_SET = 1 << 30
_ACTIONS = {
    OutcomeKind.DELIVERED: "delivered",
    OutcomeKind.FAILED: "tried again",
    OutcomeKind.NOT_ACCEPTED: "not accepted: tried again after long pauses",
    OutcomeKind.REFUSED: "refused: not tried again until `rales retry`",
}
_STORE_REASONS = {
    StoreStatus.SUCCESS: "The instance, or an identical one, is on stable storage and recorded.",
    StoreStatus.PROCESSING_FAILURE: "An unexpected error; the log has it.",
}
_REPORT_REASONS = {
    ReportStatus.SUCCESS: "recorded",
    ReportStatus.PROCESSING_FAILURE: "an unexpected error; the log has it",
    ReportStatus.INVALID_ARGUMENT_VALUE: (
        "the transaction was not requested, or the report cannot be understood"
    ),
    ReportStatus.RESOURCE_LIMITATION: "the report cannot be recorded now",
}


def limits() -> dict[str, str]:
    """Return the limits that are constants of the code, by their name in the template."""
    return {
        "implementation_uid": str(PYNETDICOM_IMPLEMENTATION_UID),
        "maximum_pdu": str(MAXIMUM_PDU),
        "acse_seconds": f"{ACSE_SECONDS:g}",
        "echo_seconds": f"{sender.ECHO_SECONDS:g}",
        "linger_seconds": f"{commitment.LINGER_SECONDS:g}",
        "association_mib": str(sender.MOST_BYTES >> 20),
        "commitment_mib": str(commitment.COMMITMENT_BYTES >> 20),
        "query_mib": str(prior_reports.QUERY_BYTES >> 20),
        "elements": f"{most_elements(0):,}",
        "elements_if_large": f"{most_elements(_LARGE_DATA_SET):,}",
        "reject_reasons": ", ".join(f"`{reason}`" for reason in RejectReason),
    }


def tables(created: Iterable[str]) -> dict[str, str]:
    """Return the tables by their name in the template; ``created`` are the SOP classes sent."""
    created = tuple(created)
    return {
        "overview": _overview(created),
        "accepted_contexts": _accepted_contexts(),
        "proposed_contexts": _proposed_contexts(created),
        "store_statuses": _store_statuses(),
        "delivery_statuses": table(
            ("Status", "What Rales does"),
            ranges(_DIMSE_STATUSES, lambda status: _ACTIONS[outcome_of(status).kind], _status),
        ),
        "commitment_reasons": _commitment_reasons(),
        "report_statuses": table(
            ("Status", "Meaning", "When"),
            [(_status(status), _words(status), _REPORT_REASONS[status]) for status in ReportStatus],
        ),
        "stow_statuses": table(
            ("HTTP status", "What Rales does"), ranges(_HTTP_ERRORS, _after_http_error, str)
        ),
    }


def _overview(created: tuple[str, ...]) -> str:
    accepted = _classes(supported_contexts())
    find, retrieve, *_ = prior_reports.query_contexts()
    own = [
        sender.echo_context(),
        *sender.storage_contexts(created),
        commitment.push_model_context(),
    ]
    used = _classes([*own, find, retrieve])
    rows = [
        (uid_name(uid), uid, "yes" if uid in used else "no", "yes" if uid in accepted else "no")
        for uid in dict.fromkeys([*accepted, *used, *_classes([commitment_context()])])
    ]
    return table(("SOP Class", "UID", "SCU", "SCP"), rows)


def _classes(contexts: Iterable[PresentationContext]) -> list[str]:
    return [str(context.abstract_syntax) for context in contexts]


def _accepted_contexts() -> str:
    rows = [_context(context, "SCP") for context in supported_contexts()]
    rows.append(_context(commitment_context(), "SCU", "SCP/SCU Role Selection"))
    joined = [
        ("<br>".join(row[0] for row in alike), *rest)
        for rest, alike in groupby(rows, key=lambda row: row[1:])
    ]
    return table(_CONTEXT_HEADS, joined)


_CONTEXT_HEADS = ("Abstract syntax", "Transfer syntaxes", "Role", "Extended negotiation")


def _proposed_contexts(created: tuple[str, ...]) -> str:
    find, retrieve, *reports = prior_reports.query_contexts()
    pictures = sender.compressed_contexts(created, asked=False)
    rows = [
        _context(sender.echo_context(), "SCU, for `rales echo`"),
        *(_context(context, "SCU") for context in sender.storage_contexts(created)),
        *(_context(context, "SCU") for context in pictures),
        *(
            _context(context, "SCU, with `compress`")
            for context in sender.compressed_contexts(created, asked=True)
            if context not in pictures
        ),
        _context(commitment.push_model_context(), "SCU, with `commitment`"),
        _context(find, "SCU, with `[priors]` or `completion.archive`"),
        _context(retrieve, "SCU, with `[priors]`"),
        *(_context(report, "SCP, with `[priors]`", "SCP/SCU Role Selection") for report in reports),
    ]
    return table(_CONTEXT_HEADS, rows)


def _context(
    context: PresentationContext, role: str, negotiation: str = "none"
) -> tuple[str, str, str, str]:
    syntaxes = "<br>".join(named_uid(UID(uid)) for uid in context.transfer_syntax)
    return named_uid(str(context.abstract_syntax)), syntaxes, role, negotiation


def _store_statuses() -> str:
    rows = [
        (
            _status(status),
            _words(status),
            _STORE_REASONS.get(status)
            or " ".join((kind.__doc__ or "").strip().splitlines()[0] for kind in kinds),
        )
        for status, kinds in kinds_by_status().items()
    ]
    return table(("Status", "Meaning", "When"), rows)


def _commitment_reasons() -> str:
    known = commitment.known_reasons()
    named = {
        **{reason: commitment.explain(reason) for reason in known},
        max(known) + 1: "any other",
    }
    rows = [
        (
            words,
            "refused" if commitment.is_final(reason) else "sent again, and requested again",
        )
        for reason, words in named.items()
    ]
    return table(("Failure Reason (0008,1197)", "What Rales does"), rows)


def _after_http_error(status: int) -> str:
    outcome = outcome_of_refusal(Dataset(), "", status)
    pause = "" if outcome.reached else "; nothing else is sent there until then"
    return f"{_ACTIONS[outcome.kind]}{pause}"


def _words(status: StoreStatus | ReportStatus) -> str:
    words = status.name.replace("_", " ").lower().replace("sop class", "SOP Class")
    return words[0].upper() + words[1:]


def _status(status: int) -> str:
    return f"0x{status:04X}"
