import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import compress
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from inference.elements import Values, read_to_pixels, tag_of
from inference.errors import CannotDecode, NoContent, NoPixels, NotForDisplay
from inference.pixels import display_grey, hu_of, read_hu, window
from tests.unit.inference.made import ct_dataset, patient, write

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes_give_the_same_hu(tmp_path: Path, syntax: str) -> None:
    hu, beyond = read_hu(write(ct_dataset(0, patient()), tmp_path / "x.dcm", syntax))
    assert beyond == 0
    assert np.array_equal(hu, patient())


def test_big_endian_gives_the_same_hu(tmp_path: Path) -> None:
    dataset = ct_dataset(0, patient(), PixelData=patient().astype(">i2").tobytes())
    assert np.array_equal(read_hu(write(dataset, tmp_path / "x.dcm", ExplicitVRBigEndian))[0], patient())


@pytest.mark.parametrize(
    ("syntax", "signed"),  # signed JPEG-LS is lidc-idri-0063's, in the tests of volumes
    [
        (RLELossless, True),
        (RLELossless, False),
        (JPEGLSLossless, False),
        (JPEG2000Lossless, True),
        (JPEG2000Lossless, False),
    ],
)
def test_lossless_syntaxes_give_the_same_hu_signed_and_unsigned(tmp_path: Path, syntax: str, signed: bool) -> None:
    stored = patient() if signed else (patient() + 1024).astype(np.uint16)
    dataset = ct_dataset(0, stored, RescaleIntercept="0" if signed else "-1024")
    path = write(dataset, tmp_path / "x.dcm")
    compress(dataset, syntax)
    dataset.save_as(path)
    assert np.array_equal(read_hu(path)[0], patient())


@pytest.mark.parametrize("signed", [True, False])
def test_only_the_stored_bits_are_the_value(tmp_path: Path, signed: bool) -> None:
    """Old scanners keep overlays in the upper four bits of a 12-bit image."""
    value = -5 if signed else 4091
    stored = np.full((32, 32), (value & 0x0FFF) | 0xA000, np.uint16)
    stored[0, 0] = 0x7000
    dataset = ct_dataset(0, stored, BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    hu, _ = read_hu(write(dataset, tmp_path / "x.dcm"))
    assert (hu[1, 1], hu[0, 0]) == (value, 0)


def test_a_high_bit_above_the_stored_bits_shifts_the_value(tmp_path: Path) -> None:
    stored = np.full((32, 32), 100 << 4, np.uint16)
    assert read_hu(write(ct_dataset(0, stored, BitsStored=12, HighBit=15), tmp_path / "x.dcm"))[0][0, 0] == 100


def test_hu_are_exact_for_whole_slopes_and_rounded_for_broken_ones() -> None:
    stored = np.array([[0, 1, 4095]], np.uint16)
    assert hu_of(stored, 1, -1024)[0].tolist() == [[-1024, -1023, 3071]]
    assert hu_of(stored, 2, -1000)[0].tolist() == [[-1000, -998, 7190]]
    assert hu_of(stored, 1, -0.4)[0].tolist() == [[0, 1, 4095]]
    assert hu_of(stored, 2.0002442, -4047)[0].tolist() == [[-4047, -4045, 4144]]
    assert hu_of(np.array([[65535, -5]], np.int32), 1, 0) == (pytest.approx(np.array([[32767, -5]])), 1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"PixelData": None}, NoPixels),
        ({"PixelData": patient().tobytes()[:-2]}, NoPixels),
        ({"Rows": 65535, "Columns": 65535}, NoPixels),
        ({"Rows": None}, NoPixels),
        ({"BitsAllocated": 32}, CannotDecode),
        ({"SamplesPerPixel": 3}, CannotDecode),
        ({"NumberOfFrames": 2}, CannotDecode),
    ],
)
def test_pixels_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        read_hu(write(ct_dataset(0, patient(), **changes), tmp_path / "x.dcm"))


def test_garbage_where_a_code_stream_should_be_is_refused(tmp_path: Path) -> None:
    path = write(ct_dataset(0, (patient() + 1024).astype(np.uint16)), tmp_path / "x.dcm")
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        dataset = ct_dataset(0, (patient() + 1024).astype(np.uint16))
        write(dataset, path)
        compress(dataset, syntax)
        dataset.PixelData = dataset.PixelData[:20] + b"\x55" * (len(dataset.PixelData) - 28) + dataset.PixelData[-8:]
        dataset.save_as(path)
        with pytest.raises(CannotDecode):
            read_hu(path)


# ---------------------------------------------------------------- radiographs


def ramp() -> np.ndarray:
    return np.linspace(0, 4095, 1024).astype(np.uint16).reshape(32, 32)


def grey(tmp_path: Path, pixels: np.ndarray | None = None, **changes: Any) -> np.ndarray:
    dataset = ct_dataset(
        0, ramp() if pixels is None else pixels, Modality="DX", RescaleSlope=None, RescaleIntercept=None
    )
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return display_grey(write(dataset, tmp_path / "x.dcm"))


def test_monochrome1_is_inverted_and_a_presentation_lut_that_says_so_too_counts_once(tmp_path: Path) -> None:
    window_of = {"WindowCenter": "2048", "WindowWidth": "4096"}
    plain = grey(tmp_path, **window_of)
    assert plain[0, 0] < 0.01 < 0.99 < plain[-1, -1]
    inverted = grey(tmp_path, PhotometricInterpretation="MONOCHROME1", **window_of)
    both = grey(tmp_path, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **window_of)
    assert np.allclose(inverted, 1 - plain)
    assert np.array_equal(both, inverted)
    other = grey(tmp_path, (4095 - ramp()).astype(np.uint16), PhotometricInterpretation="MONOCHROME1", **window_of)
    assert np.allclose(other, plain, atol=1e-3)


def test_windows_follow_their_function() -> None:
    values = np.array([0.0, 99.5, 100.0, 200.0])
    assert window(values, 100, 100).tolist() == pytest.approx([-0.505, 0.5, 0.50505, 1.515], abs=1e-3)
    assert window(values, 100, 100, "LINEAR_EXACT").tolist() == pytest.approx([-0.5, 0.495, 0.5, 1.5])
    assert window(values, 100, 100, "SIGMOID").tolist() == pytest.approx(
        [1 / (1 + math.e**4), 0.495, 0.5, 1 / (1 + math.e**-4)], abs=1e-3
    )
    assert np.isfinite(window(np.array([-1e9, 1e9]), 0, 1e-3, "SIGMOID")).all()


def test_a_voi_table_goes_before_the_window(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.LUTData = (4095 - np.arange(4096)).astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    found = grey(tmp_path, VOILUTSequence=Items([item]), WindowCenter="10", WindowWidth="5")
    assert found[0, 0] == 1.0
    assert found[-1, -1] == 0.0


def test_a_modality_table_goes_before_the_window(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [256, 10, 8]
    item.LUTData = np.arange(256, dtype=np.uint8)[::-1].tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    pixels = np.full((32, 32), 10, np.uint16)
    pixels[0, 0], pixels[0, 1] = 265, 5
    found = grey(tmp_path, pixels, ModalityLUTSequence=Items([item]), WindowCenter="128", WindowWidth="256")
    assert (found[5, 5], found[0, 0], found[0, 1]) == (1.0, 0.0, 1.0)  # below the table its first entry holds


def test_without_window_the_range_of_the_pixels_is_shown(tmp_path: Path) -> None:
    pixels = np.full((32, 32), 1000, np.uint16)
    pixels[8:20] = 1200
    found = grey(tmp_path, pixels)
    assert (found.min(), found.max()) == (0.0, 1.0)
    assert grey(tmp_path, pixels, WindowCenter="100", WindowWidth="0").max() == 1.0


def test_padding_is_black_whatever_the_polarity(tmp_path: Path) -> None:
    pixels = ramp()
    pixels[:4] = 4095
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        assert grey(tmp_path, pixels, PixelPaddingValue=4095, PhotometricInterpretation=photometric)[:4].max() == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, NotForDisplay),
        ({"PhotometricInterpretation": "RGB"}, NotForDisplay),
        ({"PixelData": bytes(2048)}, NoContent),
        ({"PixelData": bytes(1000)}, NoPixels),
    ],
)
def test_what_is_no_picture_to_look_at_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        grey(tmp_path, **changes)


def test_for_processing_is_taken_where_the_site_says_so(tmp_path: Path) -> None:
    path = write(ct_dataset(0, ramp(), PresentationIntentType="FOR PROCESSING"), tmp_path / "x.dcm")
    assert display_grey(path, for_processing=True).max() == 1.0


# ---------------------------------------------------------------- on public images


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "derived/cr_chest_bigendian",
        "derived/cr_chest_deflated",
        "derived/cr_chest_j2k_lossless",
        "derived/cr_chest_jpeglossless_sv1",
        "derived/cr_chest_jpegls_lossless",
        "derived/cr_chest_rle",
        "derived/dx_pres_mono1_inverse",
        "cr_dx/cr_chest_pa_mono1_nopreamble",
    ],
)
def test_one_radiograph_looks_the_same_in_every_form(shared_data: Path, name: str) -> None:
    original = display_grey(shared_data / "odd" / "cr_dx" / "cr_chest_pa_mono1_10bit.dcm")
    assert np.array_equal(display_grey(shared_data / "odd" / f"{name}.dcm"), original)


@pytest.mark.shared
def test_table_and_sigmoid_forms_of_one_radiograph_look_alike_and_the_wrong_polarity_is_its_negative(
    shared_data: Path,
) -> None:
    folder = shared_data / "odd" / "derived"
    original = display_grey(shared_data / "odd" / "cr_dx" / "cr_chest_pa_mono1_10bit.dcm").ravel()
    table, sigmoid, negative = (
        display_grey(folder / f"{name}.dcm").ravel()
        for name in ("dx_pres_voilut_sequence", "dx_pres_sigmoid", "cr_mono1_pixels_flagged_mono2")
    )
    assert np.abs(table - sigmoid).max() < 0.01
    assert np.corrcoef(table, original)[0, 1] > 0.97
    assert np.allclose(negative, 1 - original, atol=1e-6)


@pytest.mark.shared
def test_lungs_are_darker_than_the_middle_on_public_chest_images(shared_data: Path) -> None:
    folder = shared_data / "odd" / "cr_dx"
    for name in (
        "cr_chest_pa_mono1_10bit",
        "cr_chest_pa_mono1_j2k_lossy",
        "cr_mono1_8bit_jpeg_unknownpart",
        "sc_class_cr_chest_pa_62y",
    ):
        image = display_grey(folder / f"{name}.dcm")
        height, width = image.shape
        rows = slice(int(0.3 * height), int(0.5 * height))
        lungs = (
            np.median(image[rows, int(0.2 * width) : int(0.35 * width)]),
            np.median(image[rows, int(0.65 * width) : int(0.8 * width)]),
        )
        assert max(lungs) < np.median(
            image[int(0.5 * height) : int(0.7 * height), int(0.48 * width) : int(0.56 * width)]
        ), name


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("derived/cr_pixeldata_60percent", NoPixels),
        ("derived/cr_file_cut", NoPixels),
        ("derived/cr_flat_pixels", NoContent),
        ("derived/dx_for_processing", NotForDisplay),
        ("cr_dx/cr_mono1_no_pixeldata", NoPixels),
        ("cr_dx/sc_rgb_dx_veterinary_jpeg", NotForDisplay),
        ("cr_dx/cr_extremity_mono1_jpegextended12", CannotDecode),
        ("ct/ct_declared_jpegls_pixels_native", CannotDecode),
        ("ct/ct_jpeg_process10_12_retired", CannotDecode),
        ("ct/ct_elscint_pmsct_rle1", NoPixels),
        ("structure/claims_65535x65535", NoPixels),
        ("structure/mr_truncated", NoPixels),
    ],
)
def test_odd_pixels_end_in_a_reason(shared_data: Path, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        display_grey(shared_data / "odd" / f"{name}.dcm")


@pytest.mark.shared
def test_one_ct_slice_has_the_same_hu_in_every_lossless_form(shared_data: Path) -> None:
    folder = shared_data / "odd" / "ct"
    plain = read_hu(folder / "ct_big_endian.dcm")[0]
    for name in ("ct_jpegls_lossless", "ct_rle_fragments"):
        assert np.array_equal(read_hu(folder / f"{name}.dcm")[0], plain)
    assert np.abs(read_hu(folder / "ct_jpegls_near.dcm")[0] - plain).max() <= 10


@pytest.mark.shared
def test_a_jpeg_2000_stream_that_disagrees_about_its_sign_is_read_by_the_header_s(shared_data: Path) -> None:
    hu, _ = read_hu(shared_data / "odd" / "ct" / "ct_pixelrep_mismatch_j2k.dcm")
    assert hu.min() == -2000
    assert -1000 < np.median(hu[200:300, 200:300]) < 100


def test_the_pixel_reader_asks_for_few_elements(tmp_path: Path) -> None:
    path = write(ct_dataset(0, patient(), PatientName="A^B"), tmp_path / "x.dcm")
    opened = read_to_pixels(path, [tag_of("Rows")])
    values = Values(opened.dataset, opened.little_endian, [])
    opened.file.close()
    assert (values.short("Rows"), values.text("PatientName")) == (32, "")
