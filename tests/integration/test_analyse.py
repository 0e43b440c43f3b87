"""`dicom-node analyse`: a folder to results, without node, network or database."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import jsonschema

import dicom_node
from tests.integration.conftest import Study

PHANTOMS = {"DICOM_NODE__SELECT__PHANTOMS": "true"}


def test_a_folder_becomes_a_summary_objects_candidates_and_a_picture(
    tmp_path: Path, ct_study: Callable[..., Study]
) -> None:
    study = ct_study("analyse", companions=True)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dicom_node", "analyse", str(study.files[0].parent), "--output", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | PHANTOMS)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    schema = Path(dicom_node.__file__).parent / "schemas" / "summary.schema.json"
    jsonschema.validate(summary, json.loads(schema.read_text()))
    read = next(e for e in summary["series"] if e["status"] == "completed")
    assert sorted(e["status"] for e in summary["series"] if e is not read) == ["passed_over", "passed_over"]
    files = {r["kind"]: out / r["file"] for r in read["results"]}
    assert len(hd.seg.segread(files["seg"]).SegmentSequence) == len(read["nodules"]) >= 2
    assert b"The age of the study was not judged" in files["sr"].read_bytes()
    assert b"A phantom was read, no patient" in files["sr"].read_bytes()
    assert hd.sr.srread(files["sr"]).CompletionFlag == "COMPLETE"
    assert len(json.loads((out / "debug" / "candidates.json").read_text())[read["series_instance_uid"]]) >= len(
        read["nodules"]
    )
    assert list(out.rglob("*.png"))
    assert not (out / ".scratch").exists()


def test_a_phantom_is_no_patient_unless_the_site_says_that_it_is_read(
    tmp_path: Path, ct_study: Callable[..., Study]
) -> None:
    """What a node without the setting does with the phantom of the demonstration."""
    study = ct_study("phantom")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dicom_node", "analyse", str(study.files[0].parent), "--output", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((out / "summary.json").read_text())["series"]
    assert (entry["status"], entry["reason"]["code"], entry["nodules"]) == ("passed_over", "phantom", None)
    assert not list((out / "objects").rglob("*.dcm"))
