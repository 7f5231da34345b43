"""The error tree of Rales.

::

    RalesError
    ├── PermanentError                a retry cannot succeed
    │   ├── ConfigError               the configuration file cannot be used
    │   ├── InstanceRefused           a received instance is refused
    │   │   ├── NotDicom              the bytes are not a DICOM data set
    │   │   ├── SopClassMismatch      the data set differs from its C-STORE request
    │   │   └── SopClassNotSupported  this node does not store the SOP Class
    │   ├── SeriesRejected            the series cannot or must not be analysed
    │   ├── GeometryError             the voxel grid is impossible
    │   ├── ModelError                a model or its manifest breaks its contract
    │   ├── ResultInvalid             a result object does not read back as computed
    │   ├── ResultDamaged             a result file is missing or was changed
    │   ├── ReportInvalid             a storage commitment report is malformed
    │   └── NotificationImpossible    a notification cannot be composed
    └── RetryableError                a retry may succeed
        ├── OutOfResources            no disk space or no file handle
        ├── InputUnavailable          a received image is missing, damaged or unreadable
        ├── AnalysisCrashed           the analysis process died
        ├── AnalysisHung              the analysis process missed its time limit
        └── AnalysisStopped           the node stopped during the analysis

A permanent error ends the work that raised it; people see its message. The node retries after a
retryable error. Only :mod:`scp.status` maps the tree to DIMSE statuses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import StrEnum

from chestct.text import printable

_LONGEST = 500
"""Most characters of a message that may quote a received header."""


class RalesError(Exception):
    """Base of every error that Rales raises on purpose."""


class PermanentError(RalesError):
    """A retry of the same call cannot succeed."""


class RetryableError(RalesError):
    """A retry of the same call may succeed."""


class ConfigError(PermanentError):
    """The configuration cannot be used; the message names the key and the correction."""


class InstanceRefused(PermanentError):
    """A received instance is refused; the message is printable whatever it quotes."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, _LONGEST))


class NotDicom(InstanceRefused):
    """The bytes are not a DICOM data set (PS3.5)."""


class SopClassMismatch(InstanceRefused):
    """The SOP Class or SOP Instance UID differs from the C-STORE request (PS3.4 B.2.3)."""


class SopClassNotSupported(InstanceRefused):
    """This node does not store the SOP Class."""


class GeometryError(PermanentError):
    """The voxel grid is impossible: not orthogonal, not positive or not finite."""


class ModelError(PermanentError):
    """A model file or its manifest breaks its contract."""


class ResultInvalid(PermanentError):
    """A written result object does not read back as computed."""


class ResultDamaged(PermanentError):
    """A result file is missing, or its content changed after it was written."""


class ReportInvalid(PermanentError):
    """A storage commitment report is malformed (PS3.4 section J.3.3)."""


class NotificationImpossible(PermanentError):
    """A notification cannot be composed: the job lacks a value that it needs."""


class OutOfResources(RetryableError):
    """The object cannot be stored durably now: no disk space or no file handle."""


class InputUnavailable(RetryableError):
    """Acknowledged images are missing, damaged or unreadable.

    The fault lies with this node, so the series is not rejected: a resend restores the images.
    ``images`` are their SOP Instance UIDs.
    """

    def __init__(self, message: str, *, images: Collection[str]) -> None:
        super().__init__(printable(message, _LONGEST))
        self.images = tuple(images)

    def __reduce__(self) -> tuple[Callable[..., InputUnavailable], tuple[str, tuple[str, ...]]]:
        """Pickle both arguments: the error crosses a process boundary."""
        return _input_unavailable, (str(self), self.images)

    @classmethod
    def because_of(cls, error: OSError, image: str) -> InputUnavailable:
        """Return the error for an image whose file the operating system cannot read."""
        reason = error.strerror or type(error).__name__
        return cls(f"the file of image {image} cannot be read: {reason}", images=(image,))


def _input_unavailable(message: str, images: tuple[str, ...]) -> InputUnavailable:
    return InputUnavailable(message, images=images)


class AnalysisCrashed(RetryableError):
    """The analysis process ended without an answer."""


class AnalysisHung(RetryableError):
    """The analysis process did not answer within the time limit."""


class AnalysisStopped(RetryableError):
    """The analysis ended because the node stops; it costs the job no attempt."""


class RejectReason(StrEnum):
    """Why a series is not analysed. People and logs see the value."""

    NOT_CT = "not-ct"
    NOT_CHEST = "not-chest"
    NOT_AXIAL = "not-axial"
    LOCALIZER = "localizer"
    DERIVED = "derived-image"
    TOO_FEW_SLICES = "too-few-slices"
    TOO_THICK = "slices-too-thick"
    TOO_COARSE = "pixels-too-coarse"
    TOO_LARGE = "too-large"
    EXCLUDED_BY_RULE = "excluded-by-rule"
    MIXED_PATIENTS = "mixed-patients"
    MIXED_STUDIES = "mixed-studies"
    SEVERAL_VOLUMES = "several-volumes"
    INCOMPLETE_CONCATENATION = "incomplete-concatenation"
    MIXED_GEOMETRY = "mixed-geometry"
    MIXED_FRAMES_OF_REFERENCE = "mixed-frames-of-reference"
    NO_FRAME_OF_REFERENCE = "no-frame-of-reference"
    NO_POSITIONS = "no-positions"
    BAD_GEOMETRY = "bad-geometry"
    GANTRY_TILT = "gantry-tilt"
    DUPLICATE_POSITIONS = "duplicate-positions"
    MISSING_SLICES = "missing-slices"
    VARIABLE_SPACING = "variable-spacing"
    BAD_RESCALE = "bad-rescale"
    BAD_PIXELS = "bad-pixels"
    NO_LUNGS = "no-lungs-found"
    IMPLAUSIBLE_LUNGS = "implausible-lungs"
    LUNG_NOT_ASSESSABLE = "lung-not-assessable"


class SeriesRejected(PermanentError):
    """The series cannot or must not be analysed.

    ``reason`` is machine-readable. The message is one sentence for a person; it does not identify
    the patient and is printable whatever it quotes.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(printable(message, _LONGEST))
        self.reason = reason

    def __reduce__(self) -> tuple[type[SeriesRejected], tuple[RejectReason, str]]:
        """Pickle both arguments: the error crosses a process boundary."""
        return type(self), (self.reason, str(self))
