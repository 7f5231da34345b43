"""Tables of what goes over the network: SOP classes, presentation contexts, statuses, limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.presentation import PresentationContext

from chestct.errors import RalesError, RejectReason
from dicom_out.network.association import MAXIMUM_PDU
from dicom_out.network.commitment import (
    COMMITMENT_BYTES,
    LINGER_SECONDS,
    ReportStatus,
    explain,
    is_final,
    known_reasons,
    push_model_context,
)
from dicom_out.network.outcome import OutcomeKind, outcome_of
from dicom_out.network.query import QUERY_BYTES, query_contexts
from dicom_out.network.sender import (
    ECHO_SECONDS,
    MOST_BYTES,
    compressed_contexts,
    echo_context,
    storage_contexts,
)
from rales.config.sections import Config, NetworkConfig
from rales.conformance.markdown import named_uid, ranges, table, uid_name
from rales.conformance.samples import Sample, by_class
from scp.contexts import commitment_context, supported_contexts
from scp.outline import most_elements
from scp.server import ACSE_SECONDS
from scp.status import StoreStatus, kinds_by_status

_CONTEXT_HEADS = ("Abstract syntax", "Transfer syntaxes", "Role", "Extended negotiation")
_STATUSES = 1 << 16
_LARGE = 1 << 30
TOLD = {
    OutcomeKind.DELIVERED: "delivered",
    OutcomeKind.FAILED: "tried again",
    OutcomeKind.NOT_ACCEPTED: "not accepted at present: tried again after long pauses",
    OutcomeKind.REFUSED: "refused: not tried again, until `rales retry` asks for it",
}
"""What becomes of an object by the kind of its outcome."""
_STORED = "The object, or one that is the same, is on stable storage and recorded."
_UNFORESEEN = "An error that nobody foresaw; the log has it."
_REPORT_REASONS = {
    ReportStatus.SUCCESS: "recorded",
    ReportStatus.PROCESSING_FAILURE: "an error that nobody foresaw; the log has it",
    ReportStatus.INVALID_ARGUMENT_VALUE: (
        "a transaction that was not asked for, or a report that cannot be understood"
    ),
    ReportStatus.RESOURCE_LIMITATION: "it cannot be recorded now",
}


def result_classes(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the SOP classes of what is created."""
    return tuple(by_class(samples))


def overview(samples: Sequence[Sample]) -> str:
    """Return the table of services and SOP classes."""
    created = result_classes(samples)
    accepted = _classes(supported_contexts())
    query, retrieve, _ = query_contexts()
    asked = _classes(
        [echo_context(), *storage_contexts(created), push_model_context(), query, retrieve]
    )
    reported = _classes([commitment_context()])
    rows = [
        (uid_name(uid), uid, "yes" if uid in asked else "no", "yes" if uid in accepted else "no")
        for uid in dict.fromkeys([*accepted, *asked, *reported])
    ]
    return table(("SOP Class", "UID", "SCU", "SCP"), rows)


def _classes(contexts: Iterable[PresentationContext]) -> list[str]:
    return [str(context.abstract_syntax) for context in contexts]


def accepted_contexts() -> str:
    """Return the presentation contexts that the node accepts; like ones share their syntaxes."""
    rows = [(*_context(one), "SCP", "none") for one in supported_contexts()]
    rows.append((*_context(commitment_context()), "SCU", "SCP/SCU Role Selection"))
    return table(_CONTEXT_HEADS, _grouped(rows))


def proposed_contexts(samples: Sequence[Sample]) -> str:
    """Return the presentation contexts that the node proposes."""
    created = result_classes(samples)
    compressed = "SCU, with `compress`"
    query, retrieve, report = query_contexts()
    rows = [
        (*_context(echo_context()), "SCU, for `rales echo`", "none"),
        *((*_context(one), "SCU", "none") for one in storage_contexts(created)),
        *((*_context(one), compressed, "none") for one in compressed_contexts(created)),
        (*_context(push_model_context()), "SCU, with `commitment`", "none"),
        (*_context(query), "SCU, with `[priors]` or `completion.archive`", "none"),
        (*_context(retrieve), "SCU, with `[priors]`", "none"),
        (*_context(report), "SCP, with `[priors]`", "SCP/SCU Role Selection"),
    ]
    return table(_CONTEXT_HEADS, rows)


def _context(context: PresentationContext) -> tuple[str, str]:
    syntaxes = "<br>".join(named_uid(UID(one)) for one in context.transfer_syntax)
    return named_uid(str(context.abstract_syntax)), syntaxes


def _grouped(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Join neighbouring rows that differ in their abstract syntax alone."""
    return [
        ("<br>".join(row[0] for row in alike), *rest)
        for rest, alike in groupby(rows, key=lambda row: row[1:])
    ]


def store_statuses() -> str:
    """Return what the node answers to a C-STORE."""
    rows = [
        (_status(status), _words(status), _why(status, kinds))
        for status, kinds in kinds_by_status().items()
    ]
    return table(("Status", "Meaning", "When"), rows)


def _why(status: StoreStatus, kinds: Sequence[type[RalesError]]) -> str:
    if status is StoreStatus.SUCCESS:
        return _STORED
    if status is StoreStatus.PROCESSING_FAILURE:
        return _UNFORESEEN
    return " ".join(_first_line(kind) for kind in kinds)


def _first_line(kind: type[RalesError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _words(status: StoreStatus | ReportStatus) -> str:
    words = status.name.replace("_", " ").lower().replace("sop class", "SOP Class")
    return words[0].upper() + words[1:]


def _status(status: int) -> str:
    return f"0x{status:04X}"


def delivery_statuses() -> str:
    """Return what the node does with each status of a C-STORE response."""
    rows = ranges(range(_STATUSES), lambda status: TOLD[outcome_of(status).kind], _status)
    return table(("Status", "What Rales does"), rows)


def commitment_reasons() -> str:
    """Return what the node does with each Failure Reason of a commitment report."""
    rows = [(explain(reason), _after(reason)) for reason in known_reasons()]
    unknown = max(known_reasons()) + 1
    return table(
        ("Failure Reason (0008,1197)", "What Rales does"), [*rows, ("any other", _after(unknown))]
    )


def _after(reason: int) -> str:
    return "refused" if is_final(reason) else "sent again, and asked for again"


def report_statuses() -> str:
    """Return what the node answers to an N-EVENT-REPORT."""
    rows = [(_status(one), _words(one), _REPORT_REASONS[one]) for one in ReportStatus]
    return table(("Status", "Meaning", "When"), rows)


def general_parameters() -> str:
    """Return the parameters of associations, with the configuration's defaults."""
    config = Config()
    network, delivery, priors = config.network, config.delivery, config.priors
    rows = [
        ("Application Context Name", "1.2.840.10008.3.1.1.1", "1.2.840.10008.3.1.1.1"),
        ("Implementation Class UID", *[str(PYNETDICOM_IMPLEMENTATION_UID)] * 2),
        ("Implementation Version Name", *["`PYNETDICOM_` and its version without dots"] * 2),
        (
            "Maximum PDU received, bytes",
            f"{network.maximum_pdu_size} (`network.maximum_pdu_size`)",
            str(MAXIMUM_PDU),
        ),
        ("Associations at a time", _associations(network), "1 per delivery pass"),
        ("Asynchronous operations window", "1, not negotiated", "1, not negotiated"),
        (
            "Time for the association request",
            f"{ACSE_SECONDS:g} s",
            f"{delivery.timeout_seconds:g} s (`delivery.timeout_seconds`)",
        ),
        (
            "Time without traffic",
            f"{network.timeout_seconds:g} s (`network.timeout_seconds`)",
            f"{delivery.timeout_seconds:g} s (`delivery.timeout_seconds`)",
        ),
        (
            "Time for the whole association",
            "no limit: each PDU, and each silence, has the above",
            (
                "`delivery.timeout_seconds` for each object and twice more, and the time that they "
                f"take at {delivery.slowest_kilobytes_per_second:g} kB/s "
                f"(`delivery.slowest_kilobytes_per_second`); C-ECHO {ECHO_SECONDS:g} s; queries "
                f"{priors.timeout_seconds:g} s (`priors.timeout_seconds`)"
            ),
        ),
        (
            "What the peer may send in one association",
            "no limit: one message, one PDU has",
            (
                f"{MOST_BYTES >> 20} MiB; asked to commit {COMMITMENT_BYTES >> 20} MiB; in "
                f"answer to queries {QUERY_BYTES >> 20} MiB; no PDU longer than {MAXIMUM_PDU} bytes"
            ),
        ),
        (
            "Data set of one C-STORE",
            f"{network.maximum_instance_mb} MB (`network.maximum_instance_mb`)",
            "no limit",
        ),
        (
            "Data sets above 1 MB on their way, together",
            f"{network.maximum_arriving_mb} MB (`network.maximum_arriving_mb`); more: 0xA700",
            "-",
        ),
        (
            "Elements, items and fragments of one data set",
            f"{most_elements(0):,} and {most_elements(_LARGE):,} if large; more: 0xC000",
            "-",
        ),
        ("Wait for a commitment report on the same association", "-", f"{LINGER_SECONDS:g} s"),
        ("SOP Class Extended, Common Extended Negotiation", "no", "no"),
        ("User Identity Negotiation", "not asked for", "none"),
    ]
    return table(("Parameter", "As acceptor", "As initiator"), rows)


def _associations(network: NetworkConfig) -> str:
    return (
        f"{network.maximum_associations} (`network.maximum_associations`), of one address "
        f"{network.maximum_associations_per_address} (`network.maximum_associations_per_address`)"
    )


def reject_reasons() -> str:
    """Return the reasons for which a series is not analysed."""
    return ", ".join(f"`{reason}`" for reason in RejectReason)
