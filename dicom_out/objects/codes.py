"""Every code of the result objects.

A comment names the context group (CID) or template (TID) of a standard code;
docs/private-codes.md explains the private codes.

The codes are immutable ``Code`` objects of pydicom. A highdicom ``CodedConcept`` is a data set: a
modifier that one object adds to it would appear in every other object with the same code.
"""

from __future__ import annotations

from pydicom.sr.coding import Code

from chestct.findings import Outcome, Zone

PRIVATE_SCHEME = "99RALES"


def _sct(value: str, meaning: str) -> Code:
    return Code(value=value, meaning=meaning, scheme_designator="SCT")


def _dcm(value: str, meaning: str) -> Code:
    return Code(value=value, meaning=meaning, scheme_designator="DCM")


def _private(value: str, meaning: str) -> Code:
    return Code(value=value, meaning=meaning, scheme_designator=PRIVATE_SCHEME)


def _unit(value: str, meaning: str) -> Code:
    return Code(value=value, meaning=meaning, scheme_designator="UCUM")


# Document (TID 1500), image library (TID 1600)
IMAGING_MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")  # CID 7021
# CID 100 has no CT of the chest, and TID 1500 has one Procedure Reported. Body Part Examined states
# the region.
CT = Code(value="25045-6", meaning="CT unspecified body region", scheme_designator="LN")
COMMENT = _dcm("121106", "Comment")
DEVICE = _dcm("121007", "Device")  # CID 270
IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
SOURCE = _sct("260753009", "Source")
SOURCE_SERIES = _dcm("121232", "Source series for segmentation")
SOURCE_IMAGE = _dcm("121322", "Source image for image processing operation")  # CID 7202
OF_INTEREST = _dcm("113000", "Of Interest")  # CID 7010
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")  # CID 7005
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")  # CID 7162

# Findings and anatomy
LUNG = _sct("39607008", "Lung")
LEFT = _sct("7771000", "Left")  # CID 244
RIGHT = _sct("24028007", "Right")  # CID 244
BOTH = _sct("51440002", "Bilateral")  # CID 244
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")  # CID 7150
SPATIAL_CONCEPT = _sct("309825002", "Spatial and Relational Concept")  # CID 7150
ABNORMAL_STRUCTURE = _sct("49755003", "Morphologically Abnormal Structure")  # CID 7150
LESION = _sct("52988006", "Lesion")  # CID 7159
GROUND_GLASS = _dcm("112120", "Ground glass opacity")  # CID 6104
CONSOLIDATION = _sct("95436008", "Lung consolidation")

# Measurements
VOLUME = _sct("118565006", "Volume")  # CID 7469
VOXEL_SUM = _dcm("126030", "Sum of segmented voxel method for volume")  # CID 7474
ATTENUATION = _dcm("112031", "Attenuation Coefficient")  # CID 7469
MEAN = _sct("373098007", "Mean")  # CID 7464
LONG_AXIS = _sct("103339001", "Long Axis")  # CID 7470
SHORT_AXIS = _sct("103340004", "Short Axis")  # CID 7470
COUNT = _sct("246206008", "Number of lesions")
INVOLVED = _private("PCT_INVOLVED", "Percent of lung involved")
INVOLVED_LEFT = _private("PCT_LEFT_LUNG", "Percent of left lung involved")
INVOLVED_RIGHT = _private("PCT_RIGHT_LUNG", "Percent of right lung involved")
INVOLVED_UPPER = _private("PCT_UPPER_THIRD", "Percent of upper third of lung involved")
INVOLVED_MIDDLE = _private("PCT_MIDDLE_THIRD", "Percent of middle third of lung involved")
INVOLVED_LOWER = _private("PCT_LOWER_THIRD", "Percent of lower third of lung involved")
INVOLVED_PERIPHERAL = _private("PCT_PERIPHERAL", "Percent of peripheral lung involved")
INVOLVED_CENTRAL = _private("PCT_CENTRAL", "Percent of central lung involved")
INVOLVED_ZONES = {
    Zone.UPPER: INVOLVED_UPPER,
    Zone.MIDDLE: INVOLVED_MIDDLE,
    Zone.LOWER: INVOLVED_LOWER,
    Zone.PERIPHERAL: INVOLVED_PERIPHERAL,
    Zone.CENTRAL: INVOLVED_CENTRAL,
}
HIGH_OPACITY = _private("PCT_HIGH_OPACITY", "High-opacity share of lesion volume")
LUNG_VOLUME = _private("LUNG_VOLUME", "Volume of lung with its opacities, sum of segments")
LESION_VOLUME = _private("LESION_VOLUME", "Volume of opacities in lung, sum of segments")
PRESENCE_SCORE = _private("PRESENCE_SCORE", "Opacity presence score")

LESION_VOLUME_CHANGE = _private("LESION_ML_CHANGE", "Change of opacity volume since prior")
INVOLVED_CHANGE = _private("PCT_CHANGE", "Change of percent involved since prior")
INTERVAL = _private("INTERVAL", "Time since prior acquisition")

# Evaluations
LESION_PRESENCE = _private("LESION_PRESENCE", "Opacity presence")
PRESENT = _sct("52101004", "Present")  # CID 240
UNDETERMINED = _sct("373068000", "Undetermined")  # CID 240
NONE_MARKED = _private("NONE_MARKED", "None marked")
PRESENCES = {
    Outcome.FOUND: PRESENT,
    Outcome.NONE_MARKED: NONE_MARKED,
    Outcome.INDETERMINATE: UNDETERMINED,
}
"""The value of :data:`LESION_PRESENCE` for each outcome."""

# Units, in UCUM
MILLILITRE = _unit("ml", "milliliter")
MILLIMETRE = _unit("mm", "millimeter")
DAYS = _unit("d", "day")
PERCENT = _unit("%", "percent")
HOUNSFIELD = _unit("[hnsf'U]", "Hounsfield unit")
NO_UNITS = _unit("1", "no units")
LESIONS = _unit("{lesions}", "lesions")
