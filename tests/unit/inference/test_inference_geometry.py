from dataclasses import replace

import numpy as np
import pytest

from inference import geometry
from inference.errors import (
    MissingSlices,
    NoGeometry,
    NotOneVolume,
    OnlyLocalizer,
    SamePlace,
    Tilted,
    TooFewSlices,
    UnevenSpacing,
)
from inference.geometry import stack_headers
from inference.headers import Header
from tests.unit.inference.made import header, stack, uids


def moved(one: Header, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Header:
    assert one.position is not None
    return replace(one, position=(one.position[0] + x, one.position[1] + y, one.position[2] + z))


def test_slices_come_in_order_of_position_not_of_instance_number() -> None:
    headers = [replace(h, instance_number=100 - k) for k, h in enumerate(stack(5))]
    assert uids(stack_headers(headers[::-1])) == [f"1.2.3.{k}" for k in range(1, 6)]


def test_a_gap_names_its_length_and_both_positions() -> None:
    found = stack_headers([h for k, h in enumerate(stack(20)) if k not in (7, 8, 9)])
    assert [gap.mm for gap in found.gaps] == [4.0]
    with pytest.raises(MissingSlices, match=r"4\.0 mm between the slices at z = -294\.0 mm and z = -290\.0 mm"):
        geometry.need_whole(found)


def test_a_single_missing_slice_is_a_gap() -> None:
    assert len(stack_headers([h for h in stack(20) if h.instance_number != 9]).gaps) == 1


def test_positions_rounded_to_a_tenth_are_even_enough() -> None:
    headers = [header(k, position=(0.0, 0.0, round(0.625 * k, 1))) for k in range(40)]
    found = stack_headers(headers)
    geometry.need_whole(found)
    geometry.need_even(found)
    assert 0 < found.jitter_mm < 0.1


def test_a_step_that_changes_halfway_is_uneven() -> None:
    headers = [header(k, position=(0.0, 0.0, float(k) if k < 20 else 20 + (k - 20) * 1.25)) for k in range(40)]
    found = stack_headers(headers)
    geometry.need_whole(found)
    with pytest.raises(UnevenSpacing, match=r"varies from 1\.0 to 1\.25 mm"):
        geometry.need_even(found)


def test_gantry_tilt_is_told_from_an_oblique_stack() -> None:
    tilt = np.radians(12)
    oblique = (1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt)))
    tilted = stack_headers([header(k, orientation=oblique) for k in range(20)])
    assert tilted.tilt_deg == pytest.approx(12)
    with pytest.raises(Tilted, match=r"12\.0 degrees"):
        geometry.need_straight(tilted)
    normal = geometry.normal_of(oblique)
    straight = [header(k, orientation=oblique, position=tuple(float(v) for v in normal * k)) for k in range(20)]
    geometry.need_straight(stack_headers(straight))
    assert stack_headers(straight).off_axis_deg == pytest.approx(12)


def test_slices_shifted_sideways_are_no_volume() -> None:
    headers = [moved(h, x=3.0) if k == 9 else h for k, h in enumerate(stack(20))]
    with pytest.raises(NotOneVolume, match="sideways"):
        geometry.need_straight(stack_headers(headers))


def test_localizers_and_strays_of_another_orientation_are_left_out_with_a_note() -> None:
    scout = header(90, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    silent = header(91, orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0), rows=400)
    found = stack_headers([scout, *stack(20), silent])
    assert len(found.headers) == 20
    assert {left.sop_instance_uid: left.why for left in found.left_out} == {
        "1.2.3.91": "a localizer",
        "1.2.3.92": "of another orientation than the series",
    }


def test_two_orientations_of_many_slices_are_no_volume() -> None:
    sagittal = [header(100 + k, orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0)) for k in range(10)]
    with pytest.raises(NotOneVolume, match="2 orientations"):
        stack_headers([*stack(20), *sagittal])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"position": None}, NoGeometry),
        ({"position": (0.0, 0.0, 1e30)}, NoGeometry),
        ({"orientation": None}, NoGeometry),
        ({"pixel_spacing": None}, NoGeometry),
        ({"pixel_spacing": (0.0, 0.7)}, NoGeometry),
        ({"rows": None}, NoGeometry),
        ({"rows": 256}, NotOneVolume),
        ({"pixel_spacing": (0.8, 0.8)}, NotOneVolume),
    ],
)
def test_one_slice_without_a_place_or_of_another_grid_stops_the_series(
    changes: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        stack_headers([*stack(20), header(20, **changes)])


def test_an_orientation_of_no_unit_vectors_is_no_geometry() -> None:
    with pytest.raises(NoGeometry):
        stack_headers(stack(5, orientation=(1.0, 0.0, 0.0, 1.0, 0.0, 0.0)))


def test_nothing_and_localizers_alone_are_no_stack() -> None:
    with pytest.raises(TooFewSlices):
        stack_headers([])
    with pytest.raises(OnlyLocalizer):
        stack_headers(stack(2, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))
    with pytest.raises(TooFewSlices):
        geometry.need_even(stack_headers(stack(1)))


def same(one: Header, other: Header) -> bool:
    return one.pixel_sha256 == other.pixel_sha256


def test_a_slice_sent_twice_is_left_out_when_its_pixels_are_the_same() -> None:
    again = replace(header(4), sop_instance_uid="1.2.3.99", instance_number=99)
    found = geometry.without_repeats(stack_headers([again, *stack(20)]), same)
    assert len(found.headers) == 20
    assert [left.sop_instance_uid for left in found.left_out] == ["1.2.3.99"]


def test_another_picture_at_one_position_is_refused() -> None:
    other = replace(header(4), sop_instance_uid="1.2.3.99", pixel_sha256="other")
    with pytest.raises(SamePlace, match=r"z = -296\.0 mm"):
        geometry.without_repeats(stack_headers([other, *stack(20)]), same)


def test_two_phases_in_one_series_are_two_stacks() -> None:
    late = [
        replace(h, sop_instance_uid=f"1.2.4.{k}", pixel_sha256=f"late{k}", acquisition_number=2)
        for k, h in enumerate(stack(20))
    ]
    with pytest.raises(NotOneVolume, match="acquisitions 1, 2") as raised:
        geometry.without_repeats(stack_headers([*stack(20), *late]), same)
    assert raised.value.code == "not_one_acquisition"
    unnumbered = [replace(h, acquisition_number=None) for h in (*stack(20), *late)]
    with pytest.raises(NotOneVolume, match="20 of 20 positions"):
        geometry.without_repeats(stack_headers(unnumbered), same)


def test_acquisition_numbers_that_rise_with_each_rotation_are_one_stack() -> None:
    headers = [replace(h, acquisition_number=k // 4) for k, h in enumerate(stack(20))]
    assert geometry.without_repeats(stack_headers(headers), same).repeats == ()


def test_the_longest_part_without_a_gap_is_taken_and_the_rest_noted() -> None:
    found = geometry.largest_run(stack_headers([h for k, h in enumerate(stack(20)) if k != 12]))
    assert uids(found) == [f"1.2.3.{k + 1}" for k in range(12)]
    assert len(found.left_out) == 7
    geometry.need_whole(found)


def test_the_affine_puts_voxels_where_the_header_says() -> None:
    found = stack_headers(stack(11, pixel_spacing=(0.8, 0.6)))
    affine = geometry.affine_of(found)
    assert (affine @ [0, 0, 0, 1]).tolist() == [-180.0, -170.0, -300.0, 1.0]
    assert (affine @ [10, 0, 0, 1]).tolist() == pytest.approx([-180.0, -170.0, -290.0, 1.0])
    assert (affine @ [0, 1, 0, 1]).tolist() == pytest.approx([-180.0, -169.2, -300.0, 1.0])  # rows run along y
    assert (affine @ [0, 0, 1, 1]).tolist() == pytest.approx([-179.4, -170.0, -300.0, 1.0])


def test_feet_first_and_prone_orientations_give_right_handed_stacks() -> None:
    prone = stack_headers(stack(5, orientation=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)))
    assert uids(prone)[0] == "1.2.3.1"  # row x column still points up
    flipped = stack_headers(stack(5, orientation=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)))
    assert uids(flipped)[0] == "1.2.3.5"
    for found in (prone, flipped):
        assert np.linalg.det(geometry.affine_of(found)[:3, [2, 1, 0]]) > 0


def test_lengths_are_written_as_people_write_them() -> None:
    assert [geometry.number(v) for v in (3, 32.5, 1.25, -194, -0.001, 0.699)] == [
        "3.0",
        "32.5",
        "1.25",
        "-194.0",
        "0.0",
        "0.7",
    ]
