"""HTJ2K from senders: frames of another implementation decode to the original pixels."""

from __future__ import annotations

import numpy as np
import pytest
from ct_series import COLUMNS, ROWS, SeriesMaker, ct_slice, stored_values
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2K, UID, HTJ2KLossless, HTJ2KLosslessRPCL

from inference.loading.loader import LoadingPolicy, load

imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs encodes HTJ2K")


def encoded(dataset: Dataset, syntax: UID) -> None:
    """Put the pixels of an image into an HTJ2K codestream, as OpenJPH makes it."""
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    pixels = np.frombuffer(dataset.PixelData, kind).reshape(ROWS, COLUMNS)
    stream = imagecodecs.htj2k_encode(pixels, reversible=True)
    dataset.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=lambda syntax: syntax.keyword
)
def test_htj2k_gives_the_volume_of_the_raw_pixels(
    make_ct: SeriesMaker, syntax: UID, *, signed: bool
) -> None:
    raw = load(make_ct(signed=signed), LoadingPolicy())
    stored = stored_values(signed=signed)
    datasets = [ct_slice(index, plane, signed=signed) for index, plane in enumerate(stored)]
    coded = load(make_ct.write(datasets, syntax, encoded), LoadingPolicy())
    np.testing.assert_array_equal(coded.hu, raw.hu)
