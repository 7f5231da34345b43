"""The presentation contexts that the node accepts.

The acceptor chooses one transfer syntax a context: pynetdicom takes the first of our list
below that the sender offers in it. So a sender that offers several syntaxes in one context
is asked for uncompressed pixels, the quickest to read; one that offers a context for each
syntax, or a compressed one alone, sends what it has. All is stored as it came. Explicit VR
big endian (retired in 2006) is not accepted: no sender needs it and every reader stumbles
over it.
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
_MOST_NAMED = 5
_TRANSFER_SYNTAX_REFUSED = 0x04
"""Result of a presentation context (PS3.8 table 9-18)."""


def supported_contexts() -> list[PresentationContext]:
    """Return verification and storage contexts (PS3.4 annexes A and B)."""
    verification = build_context(VERIFICATION, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    storage = [build_context(uid, list(TRANSFER_SYNTAXES)) for uid in STORAGE_SOP_CLASSES]
    return [verification, *storage]


def commitment_context() -> PresentationContext:
    """Return the context in which a PACS reports commitments (PS3.4 section J.3.3).

    The PACS opens that association and is still the SCP of the class: it proposes the SCP
    role for itself (PS3.7 section D.3.3.4). One that proposes no role is taken as well.
    """
    context = build_context(STORAGE_COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    context.scu_role = False
    context.scp_role = True
    return context


def not_taken(
    accepted: Iterable[PresentationContext], rejected: Iterable[PresentationContext]
) -> str:
    """Name the SOP classes that an association offers in vain; empty when there are none.

    A class counts only where no context of it was accepted; one that failed by its transfer
    syntax alone is named with the first that was offered.
    """
    taken = {context.abstract_syntax for context in accepted}
    names: dict[UID, str] = {}
    for context in rejected:
        uid = UID(str(context.abstract_syntax))
        if uid in taken:
            continue
        name = printable(uid.name)
        if context.result == _TRANSFER_SYNTAX_REFUSED:
            name += f" as {printable(UID(context.transfer_syntax[0]).name)}"
        names.setdefault(uid, name)
    shown = list(names.values())[:_MOST_NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
