"""Writes a sheet as a PDF (ISO 32000-1): its picture, and its text as a layer to select and search.

The letters of the text layer come from fonts without outlines (Type 3) and are invisible; their
widths are those of the drawn letters. The file has no date and no random identifier: the same
sheet gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import groupby

from rales.pictures.lettering import font
from rales.pictures.sheet import Sheet, Written

_POINTS = 72
_QUALITY = 92
_EM = 1000
"""Widths of letters are given in thousandths of the size of the font."""
_CODES = 256
"""A simple font has at most so many letters."""
_CATALOG, _PAGES, _PAGE, _CONTENT, _IMAGE, _INFO, _FIRST_FONT = 1, 2, 3, 4, 5, 6, 7

_Letter = tuple[str, bool]
"""A character, and whether it is bold."""


def as_pdf(sheet: Sheet, title: str, dpi: int) -> bytes:
    """Return a PDF file of one page; ``title`` names it in the window of the reader."""
    letters = list(dict.fromkeys((char, line.bold) for line in sheet.written for char in line.text))
    groups = [letters[first : first + _CODES] for first in range(0, len(letters), _CODES)]
    scale = _POINTS / dpi
    width, height = sheet.image.width * scale, sheet.image.height * scale
    numbers = [_FIRST_FONT + 3 * index for index in range(len(groups))]
    fonts = " ".join(f"/F{index} {number} 0 R" for index, number in enumerate(numbers))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            f"<< /Type /Page /Parent {_PAGES} 0 R /MediaBox [0 0 {width:.2f} {height:.2f}] "
            f"/Contents {_CONTENT} 0 R "
            f"/Resources << /XObject << /Picture {_IMAGE} 0 R >> /Font << {fonts} >> >> >>"
        ).encode(),
        _stream(_content(sheet, groups, scale)),
        _image(sheet),
        b"<< /Title " + _text(title) + b" >>",
    ]
    for number, group in zip(numbers, groups, strict=True):
        objects += _font(group, number)
    return _file(objects)


def _content(sheet: Sheet, groups: Sequence[Sequence[_Letter]], scale: float) -> bytes:
    """Return the page description: the picture, then each line of text."""
    width, height = sheet.image.width * scale, sheet.image.height * scale
    codes = {
        letter: (index, code)
        for index, group in enumerate(groups)
        for code, letter in enumerate(group)
    }
    parts = [f"q {width:.2f} 0 0 {height:.2f} 0 0 cm /Picture Do Q BT 3 Tr"]
    for line in sheet.written:
        at = f"1 0 0 1 {line.left * scale:.2f} {height - line.baseline * scale:.2f} Tm"
        parts.append(f"{at} {_shown(line, codes, line.size * scale)}")
    parts.append("ET")
    return "\n".join(parts).encode()


def _shown(line: Written, codes: dict[_Letter, tuple[int, int]], size: float) -> str:
    """Return the operators that show a line, one for each run of letters of one font."""
    placed = [codes[char, line.bold] for char in line.text]
    return " ".join(
        f"/F{index} {size:.2f} Tf <{''.join(f'{code:02x}' for _, code in run)}> Tj"
        for index, run in groupby(placed, key=lambda place: place[0])
    )


def _font(letters: Sequence[_Letter], number: int) -> list[bytes]:
    """Return the objects of a font: itself, its empty glyph, its map to Unicode."""
    names = [f"/g{code}" for code in range(len(letters))]
    widths = " ".join(f"{font(_EM, bold=bold).getlength(char):.0f}" for char, bold in letters)
    glyphs = " ".join(f"{name} {number + 1} 0 R" for name in names)
    return [
        (
            "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 0 0] /FontMatrix [0.001 0 0 0.001 0 0] "
            f"/FirstChar 0 /LastChar {len(letters) - 1} /Widths [{widths}] "
            f"/Encoding << /Type /Encoding /Differences [0 {' '.join(names)}] >> "
            f"/CharProcs << {glyphs} >> /Resources << >> /ToUnicode {number + 2} 0 R >>"
        ).encode(),
        _stream(b"0 0 d0"),
        _stream(_to_unicode(letters)),
    ]


def _to_unicode(letters: Sequence[_Letter]) -> bytes:
    rows = [
        f"<{code:02x}> <{char.encode('utf-16-be').hex()}>" for code, (char, _) in enumerate(letters)
    ]
    blocks = [rows[first : first + 100] for first in range(0, len(rows), 100)]
    mapped = "\n".join(
        f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks
    )
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CMapName /Text def\n/CMapType 2 def\n"
        "1 begincodespacerange\n<00> <ff>\nendcodespacerange\n"
        f"{mapped}\nendcmap\nend\nend"
    ).encode()


def _image(sheet: Sheet) -> bytes:
    """Return the picture as JPEG without colour subsampling, which would blur thin outlines."""
    buffer = BytesIO()
    sheet.image.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return _stream(
        buffer.getvalue(),
        f"/Type /XObject /Subtype /Image /Width {sheet.image.width} /Height {sheet.image.height} "
        "/ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode ",
    )


def _stream(content: bytes, entries: str = "") -> bytes:
    return f"<< {entries}/Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream"


def _text(text: str) -> bytes:
    return b"<" + ("\ufeff" + text).encode("utf-16-be").hex().encode() + b">"


def _file(objects: Sequence[bytes]) -> bytes:
    """Return a file of numbered objects with its table of their places."""
    content, places = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(content)
    content += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    content += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    content += (
        f"trailer\n<< /Size {len(objects) + 1} /Root {_CATALOG} 0 R /Info {_INFO} 0 R >>\n"
        f"startxref\n{table}\n%%EOF\n"
    ).encode()
    return bytes(content)
