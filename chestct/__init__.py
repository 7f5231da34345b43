"""The domain of Rales: chest CT series, their volumes, findings and results.

It needs only numpy and the standard library: no input or output, DICOM files, networks or models.
Every other package may import this package; it imports none of them.
"""
