"""The picture shows each nodule where it is, the right way round, and nobody's name."""

import filecmp
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.results.picture import TILE_PX, _ends, draw_key_slices, grades_of, rgb_of
from dicom_node.results.seg import COLOURS, colour_of
from inference.findings import Status
from inference.volume import Volume
from tests.result_sources import Series, ball, ct_reading, ct_series, graded


def volume_of(series: Series) -> Volume:
    affine = np.array([[0, 0, 0.8, -20], [0, 0.8, 0, -30], [1.25, 0, 0, 0], [0, 0, 0, 1.0]])
    hu = np.full(series.shape, -850, np.int16)
    hu[:, :, :4] = 40
    return Volume(hu, affine, series.uid, "CT", series.order)


def test_each_nodule_has_a_tile_with_an_outline_in_its_colour(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    nodules = [ball(series, n, (5, 10, 7 + 8 * n)) for n in (1, 2, 3)]
    draw_key_slices(ct_reading(series, nodules), volume_of(series), tmp_path / "key.png")
    picture = np.asarray(Image.open(tmp_path / "key.png").convert("RGB")).astype(int)
    tiles = picture[-(TILE_PX + 52) :, :]
    for n, nodule in enumerate(nodules):
        tile = tiles[:TILE_PX, 6 + n * (TILE_PX + 6) :][:, :TILE_PX]
        coloured = np.argwhere((tile == rgb_of(colour_of(nodule.number))).all(axis=2))
        assert coloured.mean(axis=0) == pytest.approx([TILE_PX / 2] * 2, abs=2)
        assert np.ptp(coloured, axis=0) == pytest.approx([5.6 * TILE_PX / 50] * 2, abs=3)  # 5.6 mm of 50 mm


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.PARTIAL])
def test_there_is_a_picture_without_nodules_too(tmp_path: Path, status: Status) -> None:
    series = ct_series(tmp_path / "ct")
    draw_key_slices(ct_reading(series, (), status), volume_of(series), tmp_path / "key.png")
    assert Image.open(tmp_path / "key.png").size[1] < 400


def test_more_nodules_than_fit_a_row_go_into_the_next(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", slices=20)
    nodules = [ball(series, n, (3 + 4 * (n // 4), 10, 8 + 8 * (n % 4)), radius=2) for n in range(1, 12)]
    draw_key_slices(ct_reading(series, nodules), volume_of(series), tmp_path / "key.png")
    assert Image.open(tmp_path / "key.png").size[1] > 300 + 3 * TILE_PX


def test_grades_have_a_line_under_their_nodule(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    plain = [ball(series, 1, (5, 20, 20))]
    for name, nodules in (("plain", plain), ("graded", [graded(plain[0], "part-solid", True)])):
        draw_key_slices(ct_reading(series, nodules), volume_of(series), tmp_path / f"{name}.png")
    heights = [Image.open(tmp_path / f"{name}.png").size[1] for name in ("plain", "graded")]
    assert heights[1] == heights[0] + 18
    assert grades_of(graded(plain[0], "part-solid", True)) == "part-solid, suspicion score 0.37, calcified"
    assert grades_of(plain[0]) == ""


def test_thirty_nodules_are_all_drawn_and_listed(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct", slices=40)
    nodules = [ball(series, n + 1, (2 + n, 10, 8 + 8 * (n % 4)), radius=1) for n in range(30)]
    draw_key_slices(ct_reading(series, nodules), volume_of(series), tmp_path / "key.png")
    picture = np.asarray(Image.open(tmp_path / "key.png").convert("RGB")).astype(int)
    assert picture.shape[0] == 306 + 8 * (TILE_PX + 46) + 12
    listed = picture[70:306, 800:]
    colours = {rgb_of(colour_of(n)) for n in range(1, 31)}
    assert all((listed == colour).all(axis=2).any() for colour in colours)
    bottom = np.argwhere(listed.max(axis=2) > 150).max(axis=0)[0] + 70
    assert bottom < 300  # nothing is cut at the end of the strip


def test_the_same_reading_gives_the_same_bytes_and_no_text_chunk(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    reading = ct_reading(series, [ball(series, 1, (5, 20, 20))])
    for name in ("a.png", "b.png"):
        draw_key_slices(reading, volume_of(series), tmp_path / name)
    assert filecmp.cmp(tmp_path / "a.png", tmp_path / "b.png", shallow=False)
    assert Image.open(tmp_path / "a.png").info == {}


def test_a_nodule_at_the_edge_of_the_image_is_drawn(tmp_path: Path) -> None:
    series = ct_series(tmp_path / "ct")
    reading = ct_reading(series, [replace(ball(series, 1, (0, 3, 44)), number=12)])
    draw_key_slices(reading, volume_of(series), tmp_path / "key.png")
    assert (tmp_path / "key.png").stat().st_size > 1000


def test_sides_are_named_by_the_directions_of_the_volume() -> None:
    assert _ends(np.array([0.8, 0, 0])) == ("R", "L")
    assert _ends(np.array([-0.8, 0.01, 0])) == ("L", "R")
    assert _ends(np.array([0, 0.8, 0])) == ("A", "P")
    assert _ends(np.array([0, 0, -1.0])) == ("H", "F")


def test_colours_are_told_apart_on_a_screen() -> None:
    colours = np.array([rgb_of(c) for c in COLOURS]).astype(int)
    distance = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(len(colours), dtype=int)
    assert distance.min() > 60
    assert rgb_of((100.0, 0.0, 0.0)) == pytest.approx((255, 255, 255), abs=2)
    assert rgb_of((0.0, 0.0, 0.0)) == (0, 0, 0)
