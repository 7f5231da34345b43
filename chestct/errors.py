"""The one error tree of Rales.

::

    RalesError
    ├── PermanentError                trying again changes nothing
    │   ├── ConfigError               the configuration file cannot be used
    │   ├── InstanceRefused           one object cannot be taken in
    │   │   ├── NotDicom              the bytes are no DICOM data set
    │   │   ├── SopClassMismatch      the data set is not what the request announced
    │   │   └── SopClassNotSupported  an object of a kind that this node does not take
    │   ├── SeriesRejected            the series is not one that can be analysed
    │   ├── GeometryError             a grid that cannot exist
    │   ├── ModelError                a model or its manifest breaks its contract
    │   ├── ResultInvalid             a result object did not survive its own re-reading
    │   ├── ResultDamaged             the file of a result is gone, or not what was written
    │   ├── DeliveryRefused           the destination will never take this object
    │   ├── ReportInvalid             a storage commitment report that cannot be understood
    │   └── NotificationImpossible    a message that cannot be composed
    └── RetryableError                the same call may succeed later
        ├── OutOfResources            no space, no file handle: the object is not stored
        ├── InputUnavailable          a received image is missing, damaged or cannot be read
        ├── AnalysisCrashed           the analysis process died
        ├── AnalysisHung              the analysis process did not answer in time
        ├── AnalysisStopped           the node stops before the analysis has ended
        └── DeliveryFailed            the destination could not be reached or was busy

A permanent error ends what raised it and is shown to a person with its message; a
retryable one is tried again after a back-off. :mod:`scp.status` maps the tree to DIMSE
statuses; it is the only place that does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import StrEnum

from chestct.text import printable

_LONGEST = 500
"""Characters of a refusal: it quotes what came from outside."""


class RalesError(Exception):
    """Root of every error that Rales raises on purpose."""


class PermanentError(RalesError):
    """Trying the same thing again cannot succeed."""


class RetryableError(RalesError):
    """The same call may succeed later."""


class ConfigError(PermanentError):
    """The configuration cannot be used; the message names the key and the remedy."""


class InstanceRefused(PermanentError):
    """One composite instance cannot be taken in; the message is printable whatever it quotes."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, _LONGEST))


class NotDicom(InstanceRefused):
    """The bytes cannot be understood as a DICOM data set (PS3.5)."""


class SopClassMismatch(InstanceRefused):
    """The data set does not match the SOP Class or Instance of its request (PS3.4 B.2.3)."""


class SopClassNotSupported(InstanceRefused):
    """The SOP Class is none that this node stores."""


class GeometryError(PermanentError):
    """A voxel grid that cannot exist: not orthogonal, not positive, not finite."""


class ModelError(PermanentError):
    """A model file or its manifest breaks its contract."""


class ResultInvalid(PermanentError):
    """A written result object does not read back as what was computed."""


class ResultDamaged(PermanentError):
    """The file of a result object is gone, or is not what was written."""


class DeliveryRefused(PermanentError):
    """A destination refused an object for good; ``status`` is its DIMSE status."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ReportInvalid(PermanentError):
    """A storage commitment report that cannot be understood (PS3.4 section J.3.3)."""


class NotificationImpossible(PermanentError):
    """A message to another system cannot be composed of what is known."""


class OutOfResources(RetryableError):
    """The object could not be made durable."""


class InputUnavailable(RetryableError):
    """Images that were acknowledged are not there as they were received.

    Their sender is not to blame, so it is no reason to reject their series: sent again, they
    are whole again. ``images`` are the SOP Instance UIDs.
    """

    def __init__(self, message: str, *, images: Collection[str]) -> None:
        super().__init__(printable(message, _LONGEST))
        self.images = tuple(images)

    def __reduce__(self) -> tuple[Callable[..., InputUnavailable], tuple[str, tuple[str, ...]]]:
        """Pickle both arguments: the error crosses a process boundary."""
        return _input_unavailable, (str(self), self.images)

    @classmethod
    def because_of(cls, error: OSError, image: str) -> InputUnavailable:
        """Return what an error of the operating system means for the file of one image."""
        why = error.strerror or type(error).__name__
        return cls(f"the file of image {image} cannot be read: {why}", images=(image,))


def _input_unavailable(message: str, images: tuple[str, ...]) -> InputUnavailable:
    return InputUnavailable(message, images=images)


class AnalysisCrashed(RetryableError):
    """The process that analysed a series ended without an answer."""


class AnalysisHung(RetryableError):
    """The process that analysed a series did not answer within the time limit."""


class AnalysisStopped(RetryableError):
    """The analysis was ended because the node stops; no attempt is counted."""


class DeliveryFailed(RetryableError):
    """A destination could not be reached or could not take the object now."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RejectReason(StrEnum):
    """Why a series is not analysed. The value is what people and logs see."""

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

    ``reason`` is machine-readable; the message is one sentence for a person, without
    anything that identifies the patient, and printable whatever it quotes.
    """

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(printable(message, _LONGEST))
        self.reason = reason

    def __reduce__(self) -> tuple[type[SeriesRejected], tuple[RejectReason, str]]:
        """Pickle both arguments: the error crosses a process boundary."""
        return type(self), (self.reason, str(self))
