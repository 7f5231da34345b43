"""The DICOM objects that report an analysis: SEG, SR and what accompanies them."""
