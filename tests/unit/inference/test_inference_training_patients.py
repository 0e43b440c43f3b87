"""Whom a model has seen is known by salted hashes alone."""

import hashlib
import json
from pathlib import Path

import pytest

from inference.errors import ModelRefused
from inference.training.patients import patients_file, read_patients, weights_without, write_patients


def test_a_patient_is_known_again_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "net.patients.json"
    write_patients(file, ["P-1", "P-2", "P-2"])
    known = read_patients(file)
    assert "P-1" in known
    assert "P-2" in known
    assert "P-3" not in known
    assert "p-1" not in known
    assert len(known) == 2


def test_the_file_holds_hashes_as_the_interface_says_and_no_id(tmp_path: Path) -> None:
    file = patients_file(tmp_path / "net.safetensors")
    assert file.name == "net.patients.json"
    write_patients(file, ["P-1"], salt="s")
    assert json.loads(file.read_text()) == {"salt": "s", "hashes": [hashlib.sha256(b"sP-1").hexdigest()]}
    assert "P-1" not in file.read_text()


def test_two_trainings_on_the_same_patients_share_no_hash(tmp_path: Path) -> None:
    for name in "ab":
        write_patients(tmp_path / name, ["P-1", "P-2"])
    assert not read_patients(tmp_path / "a").hashes & read_patients(tmp_path / "b").hashes


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"salt": "x"}', "\x00"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    """Without it nobody knows whom the weights have seen; an empty list would be a lie."""
    file = tmp_path / "net.patients.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ModelRefused):
        read_patients(file)


def test_weights_that_saw_none_of_the_patients_are_found_however_ids_are_written(tmp_path: Path) -> None:
    for name, patients in (("a", ["P-1", "P-2"]), ("b", ["P-1"]), ("c", ["P-3"])):
        (tmp_path / f"{name}.safetensors").touch()
        write_patients(tmp_path / f"{name}.patients.json", patients)
    assert weights_without(tmp_path, {" p-2"}) == tmp_path / "b.safetensors"
    assert weights_without(tmp_path, {"P-1"}) == tmp_path / "c.safetensors"
    assert weights_without(tmp_path, {"P-1", "p-3"}) is None
    assert weights_without(tmp_path / "nowhere", {"P-1"}) is None
    (tmp_path / "b.patients.json").unlink()
    with pytest.raises(ModelRefused):  # nobody knows whom these saw
        weights_without(tmp_path, {"P-2"})


def test_it_does_not_matter_on_which_side_an_id_is_written_otherwise(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").touch()
    write_patients(patients_file(tmp_path / "net.safetensors"), ["q-1 "])
    assert weights_without(tmp_path, ["Q-1"]) is None
    assert weights_without(tmp_path, ["q-1"]) is None
    assert weights_without(tmp_path, ["Q-2"]) is not None
