"""A thorax phantom: CT series with exactly known lungs and lesions.

Independent of every other package of Rales, so that it can judge them: it makes its own
masks, its own geometry and its own DICOM files. ``python -m phantom --help``.
"""

from phantom.dicom import PhantomIdentity, write_series
from phantom.spec import (
    Kernel,
    LesionKind,
    LesionSpec,
    PhantomSpec,
    healthy_spec,
    sample_spec,
    small_spec,
)
from phantom.thorax import Thorax, make_thorax

__all__ = [
    "Kernel",
    "LesionKind",
    "LesionSpec",
    "PhantomIdentity",
    "PhantomSpec",
    "Thorax",
    "healthy_spec",
    "make_thorax",
    "sample_spec",
    "small_spec",
    "write_series",
]
