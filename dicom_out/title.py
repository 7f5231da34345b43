"""What queries find the reports of Rales by: their SOP classes and their title."""

from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

TITLE = "Rales report"
"""The first words of the Series Description of every report."""
REPORT_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage)
"""The SOP classes of reports; the second is for destinations without SEG support."""
