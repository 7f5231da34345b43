"""The domain of Rales: what a chest CT series and its findings are.

Nothing here does input or output, and nothing here knows DICOM files, networks or
models: only numpy and the standard library. Every other package may import this one;
this one imports none of them.
"""
