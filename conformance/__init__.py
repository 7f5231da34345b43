"""Writes the DICOM Conformance Statement from the code and from objects that the code wrote.

``make conformance`` writes ``docs/conformance.md``. For development: the wheel has none of it.
"""
