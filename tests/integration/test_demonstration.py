"""`dicom-node demo` from end to end: what `make demo` ends with, and what lies in its folder afterwards."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pydicom

from tests.integration.conftest import Study


def demo(output: Path, *arguments: str) -> tuple[int, list[str]]:
    """Its exit code and the lines that it printed."""
    command = [sys.executable, "-m", "dicom_node", "demo", "--output", str(output), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout.strip().splitlines()


def summary(output: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((output / "summary.json").read_text())
    schema = resources.files("dicom_node") / "schemas" / "summary.schema.json"
    jsonschema.validate(value, json.loads(schema.read_text()))
    return value


def test_the_demonstration_finds_what_is_in_its_phantoms(tmp_path: Path) -> None:
    code, lines = demo(tmp_path)
    assert code == 0
    assert lines[-3:-1] == ["truth=7 found=7", "oru=AA"]
    assert Path(lines[-1]).read_bytes().startswith(b"\x89PNG")
    entries = summary(tmp_path)["series"]
    assert {e["modality"]: e["status"] for e in entries if e["status"] != "passed_over"} == {
        "CT": "completed",
        "DX": "not_analysed",
    }
    ranked = json.loads((tmp_path / "debug" / "candidates.json").read_text())
    assert list(ranked) == [e["series_instance_uid"] for e in entries if e["status"] == "completed"]
    received = [pydicom.dcmread(f, stop_before_pixels=True) for f in (tmp_path / "pacs").glob("*.dcm")]
    assert sorted(d.Modality for d in received) == ["SEG", "SR"]
    assert len(list((tmp_path / "ehr").glob("*.hl7"))) == 1


def as_of_a_patient(dataset: pydicom.Dataset) -> None:
    """Without the words that say what was scanned: phantoms are read by a demonstration of its own phantom alone."""
    for element in dataset:
        if element.VR in ("PN", "LO", "SH") and "PHANTOM" in str(element.value).upper():
            element.value = "A1" if element.VR != "PN" else "A^B"


def test_somebody_elses_phantom_is_no_patient(tmp_path: Path, ct_study: Any) -> None:
    study: Study = ct_study("phantom")
    code, lines = demo(tmp_path / "out", "--input", str(study.files[0].parent))
    assert code == 0
    assert lines[-1] == "oru=none (no study gave a report)" or "oru=none (no study gave a report)" in lines[-2:]
    (entry,) = summary(tmp_path / "out")["series"]
    assert (entry["status"], entry["reason"]["code"]) == ("passed_over", "phantom")


def test_anybodys_own_files_go_the_same_way(tmp_path: Path, ct_study: Any) -> None:
    study: Study = ct_study("own", change=as_of_a_patient)
    (study.files[0].parent / "notes.txt").write_text("no DICOM")
    code, lines = demo(tmp_path / "out", "--input", str(study.files[0].parent))
    assert code == 0
    assert "oru=AA" in lines[-2:]
    assert not any(line.startswith("truth=") for line in lines)
    assert [e["study_instance_uid"] for e in summary(tmp_path / "out")["series"]] == [study.uid]
