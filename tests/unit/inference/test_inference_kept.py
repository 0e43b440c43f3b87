"""A Reading on disk is the Reading that was made, or there is none."""

import dataclasses
import filecmp
import json
from pathlib import Path

import numpy as np
import pytest

from inference.errors import UnreadableReading
from inference.findings import (
    Algorithm,
    Candidate,
    Finding,
    Ground,
    KeySlice,
    LeftOut,
    MaskCrop,
    Nodule,
    NotRead,
    Reading,
    Reason,
    Report,
    Status,
)
from inference.kept import load_reading, report_from_json, report_to_json, save_reading

GROUND = Ground("calcified", 0.81, -0.2, (("calcium_share", 0.4, 1.5), ("diameter", 2.1, 0.1)), 0.05)


def reading() -> Reading:
    voxels = np.random.default_rng(1).random((5, 7, 11)) > 0.5
    nodule = Nodule(
        number=2, tracking_uid="2.25.7", centre_lps_mm=(1.5, -2.25, 0.1), mask=MaskCrop((1, 2, 3), voxels),
        key_slice=KeySlice("1.2.3", 4, (10.5, 11.5), 6.25), long_axis_mm=9.1, short_axis_mm=7.0, mean_diameter_mm=8.1,
        volume_mm3=301, mean_hu=-40, confidence=None, site="left lung", size_error_mm=1.1,
    )  # fmt: skip
    return Reading(
        series_instance_uid="1.2", modality="CT", status=Status.PARTIAL, reason=Reason("lungs_cut", "cut"),
        nodules=(nodule, dataclasses.replace(nodule, number=3, confidence=0.5, calcified=True, grounds=(GROUND,))), findings=None,
        algorithms=(Algorithm("detector", "hessian-dot", "1.0", "0" * 64, "demonstration"),),
        slices_read=("1.2.3", "1.2.4"), slices_left_out=(LeftOut("1.2.5", "twice"),), quality=("odd",), smallest_mm=4.0,
        candidates=(Candidate(1, (1.5, -2.25, 0.1), 120.1, 7.6, True),), seconds={"lungs": 1.25}, series_number="3",
    )  # fmt: skip


def same(one: Reading, other: Reading) -> bool:
    """Equal, masks by their voxels."""
    masks = [(n.mask.start, n.mask.voxels.tobytes(), n.mask.voxels.shape) for n in one.nodules or ()]
    others = [(n.mask.start, n.mask.voxels.tobytes(), n.mask.voxels.shape) for n in other.nodules or ()]
    bare = [dataclasses.replace(r, nodules=r.nodules and tuple(dataclasses.replace(n, mask=MASK) for n in r.nodules))
            for r in (one, other)]  # fmt: skip
    return masks == others and bare[0] == bare[1]


MASK = MaskCrop((0, 0, 0), np.ones((1, 1, 1), bool))


def test_what_was_kept_comes_back_whole(tmp_path: Path) -> None:
    save_reading(reading(), tmp_path / "r.json")
    assert same(load_reading(tmp_path / "r.json"), reading())


def test_looked_and_found_none_is_not_the_same_as_not_looked(tmp_path: Path) -> None:
    for nodules in ((), None):
        kept = dataclasses.replace(reading(), nodules=nodules)
        save_reading(kept, tmp_path / "r.json")
        assert load_reading(tmp_path / "r.json").nodules == nodules


def test_radiograph_findings_come_back(tmp_path: Path) -> None:
    finding = Finding("1.2.9", "Effusion", 0.125, True, True)
    save_reading(dataclasses.replace(reading(), findings=(finding,), nodules=None), tmp_path / "r.json")
    assert load_reading(tmp_path / "r.json").findings == (finding,)


def test_the_same_reading_is_the_same_bytes(tmp_path: Path) -> None:
    save_reading(reading(), tmp_path / "a")
    save_reading(load_reading(tmp_path / "a"), tmp_path / "b")
    assert filecmp.cmp(tmp_path / "a", tmp_path / "b", shallow=False)


def test_only_the_file_is_left_and_a_second_one_replaces_it(tmp_path: Path) -> None:
    save_reading(reading(), tmp_path / "r.json")
    save_reading(dataclasses.replace(reading(), series_number="9"), tmp_path / "r.json")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert load_reading(tmp_path / "r.json").series_number == "9"


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"[]", lambda b: b"\xff" + b])
def test_a_damaged_file_asks_for_another_reading(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "r.json"
    save_reading(reading(), file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UnreadableReading, match="read the series again"):
        load_reading(file)


def test_a_file_of_another_format_is_not_guessed_at(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    save_reading(reading(), file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(UnreadableReading, match="format 99"):
        load_reading(file)


def test_a_report_comes_back_from_plain_json() -> None:
    report = Report(
        study_instance_uid="1", software="dicom-node 0.1", readings=(reading(),), demonstration=True, notes=("age not judged",),
        not_read=(NotRead("1.5", "CT", "declined", Reason("gap", "32.5 mm"), "7"),), reason=None,
    )  # fmt: skip
    back = report_from_json(json.loads(json.dumps(report_to_json(report))))
    assert same(back.readings[0], report.readings[0])
    assert dataclasses.replace(back, readings=()) == dataclasses.replace(report, readings=())


def test_a_reading_kept_before_masses_were_measured_is_still_read(tmp_path: Path) -> None:
    save_reading(reading(), tmp_path / "r.json")
    old = json.loads((tmp_path / "r.json").read_text())
    for nodule in old["reading"]["nodules"]:
        for name in ("mass_mg", "volume_error_mm3", "mass_error_mg"):
            del nodule[name]
    (tmp_path / "r.json").write_text(json.dumps(old))
    assert same(load_reading(tmp_path / "r.json"), reading())
