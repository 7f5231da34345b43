"""Multi-frame series through the loader: which frames form the volume, and which are rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ct_series import COLUMNS, ROWS, SLICES, SeriesMaker, ct_slice, item, stored_values
from enhanced_ct import FrameOf, Layout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from chestct.errors import RejectReason, SeriesRejected
from chestct.series import Series
from chestct.uids import derive_uid
from chestct.volume import Volume
from inference.loading.decoder_process import DecoderProcess
from inference.loading.loader import LoadingPolicy, load
from inference.loading.rules import EligibilityRules

pytestmark = pytest.mark.slow

FRONTAL = (1, 0, 0, 0, 0, -1)
HU = np.maximum(stored_values() - 1024, -1024)


def slices(count: int = SLICES) -> list[Dataset]:
    """Return the slices of the plain series, feet first."""
    stored = stored_values(count)
    return [ct_slice(index, stored[index]) for index in range(count)]


def written(
    maker: SeriesMaker,
    layout: Layout,
    change: Callable[[list[Dataset]], object] = lambda _: None,
    syntax: UID = ExplicitVRLittleEndian,
) -> Series:
    """Write the plain series in a layout, its images changed by ``change``."""
    images = layout.apply(slices())
    change(images)
    return maker.write(images, syntax, layout.compress)


def refusal(series: Series, **rules: Any) -> tuple[RejectReason, str]:
    with pytest.raises(SeriesRejected) as caught:
        load(series, LoadingPolicy(rules=EligibilityRules(**rules)))
    return caught.value.reason, str(caught.value)


def require_plain(volume: Volume) -> None:
    """It is the volume of the plain series."""
    np.testing.assert_array_equal(volume.hu, HU)
    assert volume.geometry.shape[0] == SLICES


@pytest.mark.parametrize("own_groups", [False, True], ids=["shared", "per frame"])
def test_groups_may_be_shared_or_stand_with_each_frame(
    make_ct: SeriesMaker, *, own_groups: bool
) -> None:
    require_plain(load(written(make_ct, Layout(own_groups=own_groups)), LoadingPolicy()))


def test_every_frame_has_its_own_rescale(make_ct: SeriesMaker) -> None:
    require_plain(load(written(make_ct, Layout(rescales=True, seed=3)), LoadingPolicy()))


def test_a_legacy_converted_image_is_read(make_ct: SeriesMaker) -> None:
    require_plain(load(written(make_ct, Layout(legacy=True)), LoadingPolicy()))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**16),
    cuts=st.sets(st.integers(1, SLICES - 1), max_size=4),
    concatenated=st.booleans(),
    rescales=st.booleans(),
    own_groups=st.booleans(),
)
def test_order_and_split_change_nothing(
    make_ct: SeriesMaker, seed: int, cuts: set[int], **options: bool
) -> None:
    bounds = [0, *sorted(cuts), SLICES]
    sizes = tuple(int(size) for size in np.diff(bounds))
    series = written(make_ct, Layout(sizes=sizes, seed=seed, **options))
    volume = load(series, LoadingPolicy())
    require_plain(volume)
    places = _places(make_ct.written)
    for index, source in enumerate(volume.sources):
        assert places[source.sop_instance_uid, source.frame_number] == pytest.approx(
            volume.geometry.slice_position(index)
        )


def _places(images: Sequence[Dataset]) -> dict[tuple[str, int | None], list[float]]:
    """Return Image Position (Patient) by instance and frame number."""
    return {
        (image.SOPInstanceUID, number): [float(value) for value in place]
        for image in images
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence, start=1)
        for place in [groups.PlanePositionSequence[0].ImagePositionPatient]
    }


def test_every_frame_may_be_an_image_of_its_own(make_ct: SeriesMaker) -> None:
    require_plain(load(written(make_ct, Layout(sizes=(1,) * SLICES, seed=4)), LoadingPolicy()))


def every(change: Callable[[int, FrameOf], FrameOf]) -> Callable[[list[FrameOf]], list[FrameOf]]:
    """Change each frame by its number."""
    return lambda frames: [change(index, frame) for index, frame in enumerate(frames)]


def said(**content: Any) -> Callable[[FrameOf], FrameOf]:
    return lambda frame: replace(frame, content=frame.content | content)


def twice(
    first: Callable[[FrameOf], FrameOf], second: Callable[[FrameOf], FrameOf]
) -> Callable[[list[FrameOf]], list[FrameOf]]:
    """Return the frames two times, each time changed in another way."""
    return lambda frames: [*map(first, frames), *map(second, frames)]


def typed(*values: str, **content: Any) -> Callable[[FrameOf], FrameOf]:
    return lambda frame: replace(frame, frame_type=values, content=frame.content | content)


def frontal(frame: FrameOf) -> FrameOf:
    return replace(
        frame,
        cosines=FRONTAL,
        frame_type=("DERIVED", "PRIMARY", "VOLUME", "MPR"),
        content={"StackID": "2", "InStackPositionNumber": 1},
    )


def same(frame: FrameOf) -> FrameOf:
    return frame


SET_ASIDE = {
    "localizer frames": lambda frames: [
        *(typed("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE")(one) for one in frames[:3]),
        *frames,
    ],
    "frontal reformats": lambda frames: [*frames, *map(frontal, frames)],
    "a map with a Stack ID of its own": twice(
        said(StackID="1"), typed("DERIVED", "PRIMARY", "VOLUME", "MAT_SPECIFIC", StackID="2")
    ),
}


@pytest.mark.parametrize("name", SET_ASIDE)
def test_frames_that_declare_themselves_not_of_the_stack_are_set_aside(
    make_ct: SeriesMaker, name: str
) -> None:
    layout = Layout(frames=SET_ASIDE[name], own_groups=True)
    require_plain(load(written(make_ct, layout), LoadingPolicy()))


def test_frames_that_are_set_aside_are_not_decoded(
    make_ct: SeriesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = DecoderProcess.decode

    def counted(self: DecoderProcess, frame: bytes, *rest: Any) -> Any:
        decoded.append(len(frame))
        return decode(self, frame, *rest)

    monkeypatch.setattr(DecoderProcess, "decode", counted)
    layout = Layout(frames=SET_ASIDE["frontal reformats"], own_groups=True)
    require_plain(load(written(make_ct, layout, syntax=RLELossless), LoadingPolicy()))
    assert len(decoded) == SLICES, "each frame of the stack once, and no other"


REFUSED: dict[str, tuple[RejectReason, str, Any]] = {
    "two stacks": (
        RejectReason.SEVERAL_VOLUMES,
        "2 axial stacks in one image, of 24 to 24 frames",
        twice(said(StackID="1"), said(StackID="2")),
    ),
    "halves of two stacks": (
        RejectReason.SEVERAL_VOLUMES,
        "2 axial stacks in one image, of 10 to 14 frames",
        every(lambda index, frame: said(StackID="A" if index < 10 else "B")(frame)),
    ),
    "two moments": (
        RejectReason.SEVERAL_VOLUMES,
        "2 points in time",
        twice(said(TemporalPositionIndex=1), said(TemporalPositionIndex=2)),
    ),
    "two tube voltages": (
        RejectReason.SEVERAL_VOLUMES,
        "2 tube voltages",
        twice(lambda frame: replace(frame, kvp=80.0), lambda frame: replace(frame, kvp=140.0)),
    ),
    "the same frames twice": (
        RejectReason.DUPLICATE_POSITIONS,
        "24 slices lie at the position of another slice",
        twice(same, same),
    ),
    "a map without a Stack ID": (
        RejectReason.DERIVED,
        "VMI",
        twice(same, typed("DERIVED", "PRIMARY", "VOLUME", "VMI")),
    ),
    "a projection at the end": (
        RejectReason.DERIVED,
        "MAXIMUM",
        every(
            lambda index, frame: (
                typed("DERIVED", "PRIMARY", "VOLUME", "MAXIMUM")(frame) if index > 20 else frame
            )
        ),
    ),
    "a volume rendering": (
        RejectReason.DERIVED,
        "MAX_IP",
        every(
            lambda _, frame: replace(
                frame, properties=(("VolumeBasedCalculationTechnique", "MAX_IP"),)
            )
        ),
    ),
    "distorted": (
        RejectReason.DERIVED,
        "DISTORTED",
        every(lambda _, frame: replace(frame, properties=(("VolumetricProperties", "DISTORTED"),))),
    ),
    "localizers alone": (
        RejectReason.LOCALIZER,
        "LOCALIZER",
        every(lambda _, frame: typed("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE")(frame)),
    ),
    "frontal alone": (
        RejectReason.NOT_AXIAL,
        "",
        every(
            lambda index, frame: replace(
                frame, cosines=FRONTAL, position=(-31.0, 2.5 * index, 100.0)
            )
        ),
    ),
    "a frame too few": (
        RejectReason.MISSING_SLICES,
        "1 slice is missing",
        lambda frames: frames[:11] + frames[12:],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_series_without_a_single_complete_stack_is_rejected(
    make_ct: SeriesMaker, name: str
) -> None:
    reason, message, frames = REFUSED[name]
    found = refusal(written(make_ct, Layout(frames=frames, own_groups=True)))
    assert found[0] is reason
    assert message in found[1]


def test_derived_of_two_energies_is_analysed(make_ct: SeriesMaker) -> None:
    weighted = every(
        lambda _, frame: typed("DERIVED", "PRIMARY", "VOLUME", "ENERGY_PROP_WT")(frame)
    )
    require_plain(load(written(make_ct, Layout(frames=weighted)), LoadingPolicy()))


def test_a_scan_whose_every_frame_has_its_own_time_is_one_volume(make_ct: SeriesMaker) -> None:
    ticking = every(lambda index, frame: said(TemporalPositionIndex=index + 1)(frame))
    require_plain(load(written(make_ct, Layout(frames=ticking, seed=9)), LoadingPolicy()))


def test_stack_ids_of_images_that_share_no_dimensions_are_not_compared(
    make_ct: SeriesMaker,
) -> None:
    def apart(images: list[Dataset]) -> None:
        for number, image in enumerate(images):
            organization = item(DimensionOrganizationUID=derive_uid("own", str(number)))
            image.DimensionOrganizationSequence = [organization]

    halves = every(lambda index, frame: said(StackID="1" if index < 12 else "2")(frame))
    layout = Layout(sizes=(12, 12), frames=halves)
    require_plain(load(written(make_ct, layout, apart), LoadingPolicy()))
    assert refusal(written(make_ct, layout))[0] is RejectReason.SEVERAL_VOLUMES


def test_single_and_multi_frame_images_make_no_stack(make_ct: SeriesMaker) -> None:
    plain = slices()
    (image,) = Layout().apply(plain[:20])
    assert refusal(make_ct.write([image, *plain[20:]]))[0] is RejectReason.SEVERAL_VOLUMES


def test_pixels_of_another_unit_are_refused(make_ct: SeriesMaker) -> None:
    def change(images: list[Dataset]) -> None:
        groups = images[0].PerFrameFunctionalGroupsSequence[5]
        groups.PixelValueTransformationSequence[0].RescaleType = "MGML"

    reason, message = refusal(written(make_ct, Layout(), change))
    assert reason is RejectReason.BAD_RESCALE
    assert message.startswith("1 of ")
    assert message.endswith(" frame 6: Rescale Type is MGML: the pixels are not Hounsfield units")


def test_a_position_counts_in_its_own_group_alone(make_ct: SeriesMaker) -> None:
    def change(images: list[Dataset]) -> None:
        for groups in images[0].PerFrameFunctionalGroupsSequence:
            elsewhere = item(ImagePositionPatient=[1, 2, 3], RescaleSlope="7")
            groups.UnassignedPerFrameConvertedAttributesSequence = [elsewhere]
            groups.RealWorldValueMappingSequence = [elsewhere]

    require_plain(load(written(make_ct, Layout(), change), LoadingPolicy()))


def test_a_group_of_the_frame_takes_the_place_of_the_shared_one(make_ct: SeriesMaker) -> None:
    def change(images: list[Dataset]) -> None:
        for groups in images[0].PerFrameFunctionalGroupsSequence:
            groups.PixelMeasuresSequence = [item(SliceThickness="2.5")]

    reason, message = refusal(written(make_ct, Layout(), change))
    assert reason is RejectReason.BAD_GEOMETRY
    assert message.startswith("24 of 24 images: ")
    assert " frame 1: Pixel Spacing is " in message


def without(images: list[Dataset], number: int) -> None:
    del images[number - 1]


def other_part(image: Dataset) -> Dataset:
    """Return the same part as another instance."""
    other = deepcopy(image)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = derive_uid("other part")
    return other


PARTS: dict[str, tuple[Callable[[list[Dataset]], object], str]] = {
    "first": (lambda images: without(images, 1), "the first is part 1"),
    "middle": (lambda images: without(images, 2), "the first is part 2"),
    "last": (lambda images: without(images, 3), "the first is part 3"),
    "last two": (lambda images: images.__delitem__(slice(1, 3)), "2 of the 3 parts"),
    "twice": (
        lambda images: setattr(images[2], "InConcatenationNumber", 2),
        "the first is part 3",
    ),
    "without a number": (
        lambda images: images[0].__delattr__("InConcatenationNumber"),
        "the first is part 1",
    ),
    "one more": (
        lambda images: images.append(other_part(images[1])),
        "a multi-frame image of 3 parts came as 4 instances",
    ),
    "frames left out": (
        lambda images: setattr(images[2], "ConcatenationFrameOffsetNumber", 20),
        "begins with frame 21, not 17",
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_an_incomplete_concatenation_is_refused(make_ct: SeriesMaker, name: str) -> None:
    change, message = PARTS[name]
    layout = Layout(sizes=(8, 8, 8), concatenated=True)
    reason, found = refusal(written(make_ct, layout, change))
    assert reason is RejectReason.INCOMPLETE_CONCATENATION
    assert message in found


def test_a_part_without_the_total_shows_by_its_number(make_ct: SeriesMaker) -> None:
    def change(images: list[Dataset]) -> None:
        for image in images:
            del image.InConcatenationTotalNumber
        without(images, 1)

    layout = Layout(sizes=(8, 8, 8), concatenated=True)
    assert refusal(written(make_ct, layout, change))[0] is RejectReason.INCOMPLETE_CONCATENATION


@pytest.mark.parametrize(
    ("code", "meaning", "taken"),
    [
        ("51185008", "Brustkorb", True),
        ("416775004", "Chest, Abdomen and Pelvis", True),
        ("69536005", "Head", False),
        ("X1", "Thorax", True),
    ],
)
def test_the_anatomy_of_the_frames_counts(
    make_ct: SeriesMaker, code: str, meaning: str, *, taken: bool
) -> None:
    def change(images: list[Dataset]) -> None:
        region = item(CodeValue=code, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
        del images[0].BodyPartExamined
        shared = images[0].SharedFunctionalGroupsSequence[0]
        shared.FrameAnatomySequence = [item(AnatomicRegionSequence=[region])]

    series = written(make_ct, Layout(), change)
    if taken:
        require_plain(load(series, LoadingPolicy()))
    else:
        assert refusal(series) == (
            RejectReason.NOT_CHEST,
            "Body Part Examined is HEAD, accepted are CHEST, THORAX, LUNG",
        )


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda one: one.keyword)
@pytest.mark.parametrize(
    "layout",
    [Layout(), Layout(fragments=3), Layout(extended=True)],
    ids=["basic table", "fragments", "extended table"],
)
def test_compressed_frames_are_found(make_ct: SeriesMaker, layout: Layout, syntax: UID) -> None:
    require_plain(load(written(make_ct, layout, syntax=syntax), LoadingPolicy()))


def test_compressed_frames_without_a_table_are_found(make_ct: SeriesMaker) -> None:
    series = compressed(make_ct, lambda frames: {"PixelData": encapsulate(frames, has_bot=False)})
    require_plain(load(series, LoadingPolicy()))


def compressed(maker: SeriesMaker, change: Callable[[list[bytes]], dict[str, bytes]]) -> Series:
    """Write RLE frames with the pixel data elements that ``change`` makes of them."""
    (image,) = Layout().apply(slices())
    image.compress(RLELossless)
    frames = list(generate_frames(image.PixelData, number_of_frames=SLICES))
    for keyword, value in change(frames).items():
        setattr(image, keyword, value)
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    return maker.write([image], RLELossless, lambda _image, _syntax: None)


def exchanged(frames: list[bytes]) -> dict[str, bytes]:
    """Return pixel data whose basic offset table has two offsets exchanged."""
    content = bytearray(encapsulate(frames))
    content[12:16], content[16:20] = content[16:20], content[12:16]
    return {"PixelData": bytes(content)}


def beside(frames: list[bytes]) -> dict[str, bytes]:
    content = bytearray(encapsulate(frames))
    content[12:16] = (int.from_bytes(content[12:16], "little") + 2).to_bytes(4, "little")
    return {"PixelData": bytes(content)}


def extended_exchanged(frames: list[bytes]) -> dict[str, bytes]:
    content, offsets, lengths = encapsulate_extended(frames)
    return {
        "PixelData": content,
        "ExtendedOffsetTable": offsets[8:16] + offsets[:8] + offsets[16:],
        "ExtendedOffsetTableLengths": lengths,
    }


def cut_off(frames: list[bytes]) -> dict[str, bytes]:
    return {"PixelData": encapsulate([*frames[:5], frames[5][:40], *frames[6:]])}


@pytest.mark.parametrize(
    "harm",
    [
        exchanged,
        beside,
        extended_exchanged,
        cut_off,
        lambda frames: {"PixelData": encapsulate(frames[:-1])},
        lambda frames: {"PixelData": encapsulate([*frames, frames[0]])},
    ],
    ids=["exchanged", "beside", "extended", "cut off frame", "frame missing", "frame too many"],
)
def test_frames_that_may_be_exchanged_are_refused(make_ct: SeriesMaker, harm: Any) -> None:
    assert refusal(compressed(make_ct, harm))[0] is RejectReason.BAD_PIXELS


def test_one_frame_that_claims_to_be_huge_is_refused(make_ct: SeriesMaker) -> None:
    """A codestream's own size decides what a decoder allocates: every frame is looked at."""
    (image,) = Layout().apply(slices())
    image.compress(JPEGLSLossless)
    frames = list(generate_frames(image.PixelData, number_of_frames=SLICES))
    place = frames[17].index(b"\xff\xf7") + 5
    frames[17] = frames[17][:place] + b"\xff\xff\xff\xff" + frames[17][place + 4 :]
    image.PixelData = encapsulate(frames)
    series = make_ct.write([image], JPEGLSLossless, lambda _image, _syntax: None)
    reason, message = refusal(series)
    assert reason is RejectReason.BAD_PIXELS
    assert message == (
        f"{series.instances[0].sop_instance_uid}: "
        "the pixels cannot be decoded (JPEG-LS Lossless Image Compression): the codestream has "
        f"65535x65535 pixels of 1 components, the header says {ROWS}x{COLUMNS} of 1 component"
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    compressed=st.booleans(),
    splices=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)),
        min_size=1,
        max_size=6,
    ),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_multi_frame_files_are_read_or_refused(
    make_ct: SeriesMaker, splices: list[tuple[float, bytes]], *, compressed: bool
) -> None:
    """Bytes overwritten in the functional groups or the tables raise nothing else."""
    syntax = RLELossless if compressed else ExplicitVRLittleEndian
    layout = Layout(sizes=(2, 2), own_groups=True, concatenated=True)
    images = layout.apply(slices(4))
    series = make_ct.write(images, syntax, layout.compress)
    path = make_ct.folder / "0.dcm"
    content = bytearray(path.read_bytes())
    header = content.rindex(b"\xe0\x7f\x10\x00") if not compressed else len(content)
    for place, value in splices:
        start = 400 + int(place * (header - 400))
        content[start : start + len(value)] = value
    path.write_bytes(bytes(content))
    with suppress(SeriesRejected):
        load(series, LoadingPolicy(rules=EligibilityRules(minimum_slices=2)))


GROUPS = {
    "PixelMeasuresSequence": "PixelSpacing",
    "PlaneOrientationSequence": "ImageOrientationPatient",
    "PlanePositionSequence": "ImagePositionPatient",
    "PixelValueTransformationSequence": "RescaleSlope",
    "CTImageFrameTypeSequence": "FrameType",
    "FrameContentSequence": "StackID",
    "CTXRayDetailsSequence": "KVP",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vr", ["SQ", "OB", "FD", "PN", "US"])
@pytest.mark.parametrize("group", GROUPS)
def test_groups_of_another_representation_are_read_or_refused(
    make_ct: SeriesMaker, group: str, vr: str
) -> None:
    """A group, or the element in it, has the VR of something else and bytes of nothing."""
    tag, inner = (Tag(tag_for_keyword(keyword) or 0) for keyword in (group, GROUPS[group]))
    for value in (b"\x01\x02\x03\x04\x05\x06\x07\x08", b"abcdefg ", b""):
        for whole in (True, False):
            (image,) = Layout(own_groups=True).apply(slices())
            groups = image.PerFrameFunctionalGroupsSequence[3]
            if not whole:
                groups[tag] = DataElement(tag, "SQ", [Dataset()])
            into, place = (groups, tag) if whole else (groups[tag].value[0], inner)
            into._dict[place] = RawDataElement(
                place, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
            )
            with suppress(SeriesRejected):
                load(make_ct.write([image]), LoadingPolicy())
