"""Writes the DICOM Conformance Statement from the code and from objects that it has made."""
