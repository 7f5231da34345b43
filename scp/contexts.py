"""The presentation contexts that the node accepts.

The acceptor chooses one transfer syntax for each context: pynetdicom takes the first in our list
that the sender offers. A sender that offers several syntaxes in one context is asked for
uncompressed pixels, the quickest to read. A sender that offers a context for each syntax, or only
compressed ones, sends the pixels as it has them. Instances are stored as they arrive. Explicit VR
Big Endian (retired in 2006) is not accepted: no sender needs it, and many readers fail on it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from chestct.text import printable

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")

MULTI_FRAME_CLASSES = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

STORAGE_SOP_CLASSES = (CTImageStorage, *MULTI_FRAME_CLASSES)

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    HTJ2K,
)
_MAXIMUM_NAMED = 5
_TRANSFER_SYNTAX_REFUSED = 0x04
"""Result of a presentation context (PS3.8 table 9-18)."""


def supported_contexts() -> list[PresentationContext]:
    """Return verification and storage contexts (PS3.4 annexes A and B)."""
    verification = build_context(VERIFICATION, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    storage = [build_context(uid, list(TRANSFER_SYNTAXES)) for uid in STORAGE_SOP_CLASSES]
    return [verification, *storage]


def commitment_context() -> PresentationContext:
    """Return the context in which a PACS reports commitments (PS3.4 section J.3.3).

    The PACS requests that association and is still the SCP of the class: it proposes the SCP role
    for itself (PS3.7 section D.3.3.4). A PACS that proposes no role is accepted too.
    """
    context = build_context(STORAGE_COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    context.scu_role = False
    context.scp_role = True
    return context


def refused_classes(
    accepted: Iterable[PresentationContext], rejected: Iterable[PresentationContext]
) -> str:
    """Return the names of the SOP classes that are refused; empty where none is.

    A class is refused where none of its contexts was accepted. Where only the transfer syntax was
    refused, the first one that was offered is named too.
    """
    accepted_classes = {context.abstract_syntax for context in accepted}
    names: dict[UID, str] = {}
    for context in rejected:
        uid = UID(str(context.abstract_syntax))
        if uid in accepted_classes:
            continue
        name = printable(uid.name)
        if context.result == _TRANSFER_SYNTAX_REFUSED:
            name += f" as {printable(UID(context.transfer_syntax[0]).name)}"
        names.setdefault(uid, name)
    shown = list(names.values())[:_MAXIMUM_NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
