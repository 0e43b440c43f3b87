"""Whatever the order of arrival: one volume, or one reason."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Select
from inference.errors import MissingSlices, NotDicom, NotOneVolume, ReadingError, SamePlace
from inference.headers import Header, read_header
from inference.selection import SeriesView, choose, geometry_complete
from inference.volume import Slice, Volume, assemble_volume
from tests.unit.inference.made import ct_dataset, header, patient, write

ORIENTATIONS = [  # supine and prone, head and feet first, as scanners and archives write them
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
]
counts = st.integers(4, 24)
steps = st.sampled_from([0.5, 0.625, 1.0, 1.25, 2.0, 2.5, 3.0])
seeds = st.integers(0, 2**32 - 1)


def series(count: int, step: float, orientation: tuple[float, ...] = ORIENTATIONS[0]) -> list[Slice]:
    """Slices that all differ; slice k holds k everywhere but for a corner that tells its rows from its columns."""
    made = []
    for k in range(count):
        hu = np.full((3, 5), k, np.int16)
        hu[0, 0], hu[0, 1], hu[1, 0] = 1000, 2000, 3000
        made.append(
            Slice(header(k, position=(5.0, -7.0, -100 + k * step), orientation=orientation, slice_thickness=step), hu)
        )
    return made


def shuffled(slices: list[Slice], seed: int) -> list[Slice]:
    return random.Random(seed).sample(slices, len(slices))


def equal(one: Volume, other: Volume) -> bool:
    return (
        np.array_equal(one.hu, other.hu)
        and np.array_equal(one.affine, other.affine)
        and (one.sop_instance_uids, one.odd, one.left_out) == (other.sop_instance_uids, other.odd, other.left_out)
    )


@given(counts, steps, st.sampled_from(ORIENTATIONS), seeds)
def test_any_order_of_arrival_gives_the_same_volume(
    count: int, step: float, orientation: tuple[float, ...], seed: int
) -> None:
    slices = series(count, step, orientation)
    assert equal(assemble_volume(shuffled(slices, seed)), assemble_volume(slices))


@given(counts, steps, st.sampled_from(ORIENTATIONS), seeds)
def test_every_voxel_lies_where_its_own_slice_says(
    count: int, step: float, orientation: tuple[float, ...], seed: int
) -> None:
    slices = series(count, step, orientation)
    volume = assemble_volume(shuffled(slices, seed))
    assert np.linalg.det(volume.affine[:3, [2, 1, 0]]) > 0  # k ascends along row x column
    by_uid = {s.header.sop_instance_uid: s for s in slices}
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    for k, uid in enumerate(volume.sop_instance_uids):
        one = by_uid[uid]
        assert np.array_equal(volume.hu[k], one.hu)
        for j, i in ((0, 0), (2, 4)):
            place = np.array(one.header.position) + row * i * 0.7 + column * j * 0.7
            assert np.allclose(volume.affine @ [k, j, i, 1], [*place, 1], atol=1e-6)


@given(counts, steps, seeds)
def test_a_flipped_stack_shows_the_same_patient(count: int, step: float, seed: int) -> None:
    """Two archives that write one scan with rows top down and bottom up agree about every point of the patient."""
    plain = assemble_volume(shuffled(series(count, step), seed))
    flipped = [
        Slice(
            replace(
                s.header,
                orientation=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
                position=(5.0, -7.0 + 2 * 0.7, s.header.position[2] if s.header.position else 0.0),
            ),
            s.hu[::-1].copy(),
        )
        for s in series(count, step)
    ]
    volume = assemble_volume(shuffled(flipped, seed))
    to_plain = np.linalg.inv(plain.affine) @ volume.affine
    for k, j, i in ((0, 0, 0), (count - 1, 2, 4), (1, 1, 0)):
        other = np.rint(to_plain @ [k, j, i, 1]).astype(int)[:3]
        assert volume.hu[k, j, i] == plain.hu[tuple(other)]


@given(st.integers(6, 24), st.sampled_from([1.0, 1.25, 2.5]), seeds)
def test_jitter_of_a_twentieth_of_a_step_is_tolerated(count: int, step: float, seed: int) -> None:
    chance = random.Random(seed)
    slices = [
        Slice(replace(s.header, position=(5.0, -7.0, -100 + k * step + chance.uniform(-1, 1) * step / 20)), s.hu)
        for k, s in enumerate(series(count, step))
    ]
    volume = assemble_volume(shuffled(slices, seed))
    assert volume.hu[:, 2, 4].tolist() == list(range(count))


@given(st.integers(8, 24), steps, st.integers(1, 3), seeds)
def test_missing_slices_are_always_found(count: int, step: float, missing: int, seed: int) -> None:
    slices = series(count, step)
    first = random.Random(seed).randrange(2, count - missing - 1)
    del slices[first : first + missing]
    with pytest.raises(MissingSlices) as raised:
        assemble_volume(shuffled(slices, seed))
    assert set(raised.value.which.split(" and ")) == {f"1.2.3.{first}", f"1.2.3.{first + missing + 1}"}
    assert geometry_complete([s.header for s in slices]) == ""
    verdict = choose([SeriesView("1.2.3", [s.header for s in slices])], Select()).verdicts[0]
    assert verdict.reason is not None
    assert verdict.reason.code == "gap"


@given(counts, steps, seeds)
def test_repeats_are_left_out_and_conflicts_refused(count: int, step: float, seed: int) -> None:
    slices = series(count, step)
    one = slices[random.Random(seed).randrange(count)]
    again = Slice(replace(one.header, sop_instance_uid="9.9", instance_number=999), one.hu.copy())
    volume = assemble_volume(shuffled([*slices, again], seed))
    assert volume.hu.shape[0] == count
    assert [left.sop_instance_uid for left in volume.left_out] == ["9.9"]
    other = Slice(again.header, one.hu + np.int16(1))
    with pytest.raises((SamePlace, NotOneVolume)):
        assemble_volume(shuffled([*slices, other], seed))


@given(
    st.lists(
        st.builds(
            lambda k, z, x, thickness, rows, number: header(
                k, position=(x, 0.0, z), slice_thickness=thickness, rows=rows, instance_number=number
            ),
            st.integers(0, 6),
            st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from([0.0, 0.1, 1e9]),
            st.sampled_from([None, 0.0, -1.0, 1.0, 1e300]),
            st.sampled_from([None, 0, 3, 512]),
            st.one_of(st.none(), st.integers(-5, 5)),
        ),
        max_size=8,
    )
)
def test_no_headers_make_choosing_fail(headers: list[Header]) -> None:
    choice = choose([SeriesView("1.2.3", headers)], Select())
    assert len(choice.verdicts) == 1
    assert geometry_complete(headers) is not None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 3000),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=6)), max_size=6),
)
def test_no_bytes_make_a_header_reader_fail(tmp_path: Path, cut: int, changes: list[tuple[int, bytes]]) -> None:
    whole = tmp_path / "whole.dcm"
    if not whole.exists():
        write(ct_dataset(0, patient(), PatientName="A^B", PatientAge="050Y"), whole)
    content = bytearray(whole.read_bytes())
    for at, new in changes:
        content[at : at + len(new)] = new
    path = tmp_path / "x.dcm"
    path.write_bytes(bytes(content[:cut] if cut % 3 == 0 else content))
    try:
        found = read_header(path)
    except NotDicom:
        return
    assert found.sop_instance_uid
    assert Header.from_json(found.to_json()) == found


def test_every_reason_has_an_outcome_that_a_series_can_have() -> None:
    found, leaves = [ReadingError], []
    while found:
        kind = found.pop()
        found += kind.__subclasses__()
        leaves.append(kind)
    assert {leaf.outcome for leaf in leaves} <= {"declined", "passed_over", "failed", "wait"}
    assert all(leaf.code for leaf in leaves)
