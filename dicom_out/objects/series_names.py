"""Series Number and Series Description of results: both name the series that was analysed.

Two reconstructions of one study give results side by side in a list; these two attributes are what
the list shows.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum

from pydicom.dataset import Dataset

from chestct.uids import digest
from dicom_out.objects.patient_study import valid_text
from dicom_out.objects.raw import ascii_value

_LENGTH = 64
"""Characters of a Series Description (LO, PS3.5 section 6.2)."""
_MARKS = ("(Rales AI, research)", "(Rales AI)")
"""The end of a description; the first that leaves room for the rest."""
_TELLING = 16
"""Characters of the source's description that are worth more than the longer mark."""
_CODECS = {"": "latin-1", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
_KINDS = 100
_MOST = 9_999_999
"""The largest source number that the numbers of results contain."""
_OTHERS = (2**31 - 1) // _KINDS - 1 - _MOST
"""How many numbers above these an Integer String can still hold, with the kind behind it."""


class ResultKind(IntEnum):
    """The last two digits of the Series Number of a result."""

    SEG = 1
    REPORT = 2
    LESIONS = 3
    SUMMARY = 4
    OVERLAY = 5
    PDF = 6
    OUTLINES = 7
    KEY_IMAGES = 8


def series_number(original: Dataset, kind: ResultKind) -> int:
    """Return the number of a result series: that of the source times 100, plus the kind.

    A number from the Series Instance UID stands for a source number that is missing, not positive
    or too large. So the results of two such sources have different numbers.
    """
    number = _source_number(original)
    if number is None or number > _MOST:
        uid = ascii_value(original, "SeriesInstanceUID")
        number = _MOST + 1 + int(digest((uid,)), 16) % _OTHERS
    return number * _KINDS + kind


def series_description(words: str, original: Dataset, revision: int) -> str:
    """Return a description in ASCII: ``words``, source series, revision, and who made it.

    The description of the source is cut first, and ``words`` only when nothing else is left.
    """
    number = _source_number(original)
    source = "" if number is None else f"S{number}"
    later = f", rev {revision}" if revision > 1 else ""
    text = _source_description(original)
    fixed = len(f"{words}; {source} {later} ")
    wanted = fixed + min(len(text), _TELLING)
    mark = next((mark for mark in _MARKS if wanted + len(mark) <= _LENGTH), _MARKS[-1])
    room = _LENGTH - fixed - len(mark)
    named = f"{source} {_shortened(text, max(0, room))}".strip()
    end = f"; {named}{later} {mark}" if named else f"{later} {mark}"
    return _shortened(words, _LENGTH - len(end)) + end


def _shortened(text: str, length: int) -> str:
    """Return the words that fit into ``length`` characters; the start of a first word too long."""
    if len(text) <= length:
        return text
    whole, space, _ = text[: length + 1].rpartition(" ")
    return (whole if space else text[:length]).rstrip(" ,;:-/")


def _source_number(original: Dataset) -> int | None:
    """Return the Series Number of the source; None when it is missing, invalid or not positive."""
    text = valid_text(original, "SeriesNumber")
    number = int(text) if text else 0
    return number if number > 0 else None


def _source_description(original: Dataset) -> str:
    """Return the Series Description of the source in ASCII, which every character set has.

    Letters lose their accents; what has no ASCII letter is left out.
    """
    text = valid_text(original, "SeriesDescription")
    if "\x1b" in text:
        return ""  # an escape sequence: other letters encoded as ASCII
    codec = _CODECS.get(ascii_value(original, "SpecificCharacterSet"), "ascii")
    decoded = text.encode("latin-1").decode(codec, "ignore")
    letters = unicodedata.normalize("NFKD", decoded).encode("ascii", "ignore").decode()
    return " ".join(letters.replace("\\", "/").split())
