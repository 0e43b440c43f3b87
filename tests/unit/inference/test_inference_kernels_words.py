import pytest

from config.settings import Select
from inference.kernels import UNKNOWN, softness
from inference.words import calls_chest, names_other_part

GE, SIEMENS, PHILIPS, CANON = "GE MEDICAL SYSTEMS", "SIEMENS", "Philips", "TOSHIBA"


@pytest.mark.parametrize(
    ("maker", "softest_first"),
    [
        (GE, ["SOFT", "STANDARD", "DETAIL", "LUNG", "BONE"]),
        (GE, ["STANDARD", "BONEPLUS"]),
        (SIEMENS, ["B20f", "B31f", "B40f", "B50f", "B60f", "B80f"]),
        (SIEMENS, ["B30s", "B45f", "B70f"]),
        (SIEMENS, ["Br36d\\3", "Br49d\\3", "Bl57d\\3"]),
        (SIEMENS, ["I30f\\2", "I70f\\2"]),
        (SIEMENS, ["Br40", "Bl40"]),
        (PHILIPS, ["A", "B", "C", "D", "YE"]),
        (PHILIPS, ["B", "L"]),
        (CANON, ["FC08", "FC13", "FC51", "FC30"]),
        (CANON, ["FC12-H", "FC86"]),
        ("UIH", ["B_SOFT_C", "B_SHARP_C"]),
    ],
)
def test_soft_kernels_come_before_sharp_ones(maker: str, softest_first: list[str]) -> None:
    found = [softness(kernel, maker) for kernel in softest_first]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


def test_an_unknown_kernel_comes_between_soft_and_sharp() -> None:
    for unknown in ("", "11", "TEXTURE", "?\\?"):
        assert softness(unknown) == UNKNOWN
    assert softness("STANDARD") < UNKNOWN < softness("LUNG")


def test_a_letter_is_philips_language_but_not_ge_s() -> None:
    assert softness("B", PHILIPS) < softness("L", PHILIPS)


CHEST, OTHER = Select().words_chest, Select().words_other


@pytest.mark.parametrize(
    "text",
    [
        "CHEST",
        "CT Thorax w/Contrast",
        "AThoraxRoutine",
        "1_3mm_THORAX_W",
        "HRCHEST",
        "Lung 1.0 Bl57",
        "THORACIC",
        "CXR PA",
        "Thóràx",
        "low dose Lunge",
        "LUNGS",
    ],
)
def test_chest_is_recognised_in_what_people_write(text: str) -> None:
    assert calls_chest(text, CHEST)


@pytest.mark.parametrize("text", ["", "Darstellung Knie", "Behandlung", "ABDOMEN", "Head", "SERIES 5"])
def test_other_words_do_not_call_a_series_chest(text: str) -> None:
    assert not calls_chest(text, CHEST)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Head 5.0 H31s", "head"),
        ("7.1 L-Spine 3 Level", "lspine"),
        ("RT ANKLE", "ankle"),
        ("CTHeadRoutine", "head"),
        ("Handy", ""),
        ("ARMS DOWN", ""),
        ("Headphones", ""),
        ("Chest", ""),
    ],
)
def test_parts_without_lungs_are_named_by_whole_words(text: str, part: str) -> None:
    assert names_other_part(text, OTHER) == part
