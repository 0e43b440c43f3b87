"""Nothing that we ship gives away whom it learned from: no patient, no UID, no place of a nodule, in code, tables or weights."""

import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.contract.blind import WEIGHTS_BYTES_MAX, Secrets, offences, secrets_of

MADE = Secrets.of(["PATIENT-00017", "1.2.826.0.1.7"], [(-97.21, 40.06, -218.97)])
UID = "1.3.6.1.4.1." + "14519.5.2.1"
PLACE = [97.2, -40.1, 219.0]


def contents(wheel_file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel_file) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_the_wheel_has_no_id_no_uid_and_no_pickle_of_any_collection(wheel_file: Path) -> None:
    files = contents(wheel_file)
    assert len(files) > 100
    assert [said for name, content in files.items() for said in offences(name, content, Secrets())] == []


@pytest.mark.shared
def test_the_wheel_names_no_patient_and_no_nodule_of_the_data_folder(wheel_file: Path, shared_data: Path) -> None:
    secrets = secrets_of(shared_data)
    assert len(secrets.words) > 1000
    assert len(secrets.places) > 1000
    assert [said for name, content in contents(wheel_file).items() for said in offences(name, content, secrets)] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a/notes.toml", b"training = 'LIDC-IDRI-" + b"0017'"),
        ("a/notes.json", f'"{UID}.6279"'.encode()),
        ("a/code.py", b"UID = '1.2.840.113" + b"619.2.55.3.604688'"),
        ("a/code.py", b"UID = '2.25." + b"3" * 30 + b"'"),
        ("a/table.csv", b"x,PATIENT-00017_R_2,y"),
        ("a/table.csv", b"see PATIENT-00017."),
        ("a/table.json", hashlib.sha256(b"PATIENT-00017").hexdigest().encode()),
        ("a/table.csv", b"n1,97.21,-40.06,218.97,8.8"),
        ("a/code.py", b"SEEDS = [(-97.2, 40.1, -219.0)]"),
        ("a/model.pt", b"anything"),
        ("a/model.dat", pickle.dumps({"a": 1})),
        ("w.safetensors", save({"a": np.zeros(3, np.float32)}, {"patients": "LIDC-IDRI-" + "0017"})),
        ("w.safetensors", save({"a": np.array([[0.1, 0.2, 0.3], PLACE], np.float32)})),
        ("w.safetensors", save({"a": np.array([[0.1, 0.2, 0.3], PLACE], np.float16).T.copy()})),
        ("w.safetensors", save({"a": np.zeros(WEIGHTS_BYTES_MAX // 4, np.float32)})),
    ],
)
def test_each_of_these_would_be_seen(name: str, content: bytes) -> None:
    assert list(offences(name, content, MADE)) != []


def test_weights_and_salted_hashes_are_no_offence() -> None:
    weights = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float16)
    assert list(offences("w.safetensors", save({"layer.weight": weights}, {"format": "pt"}), MADE)) == []
    hashes = {"salt": "ab" * 16, "hashes": [hashlib.sha256(b"salt" + b"PATIENT-00017").hexdigest()]}
    assert list(offences("w.patients.json", json.dumps(hashes).encode(), MADE)) == []
