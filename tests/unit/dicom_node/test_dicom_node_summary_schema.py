"""summary.json has the shape of its schema, and the schema refuses what the interface forbids."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import dicom_node
from dicom_node.summary import SCHEMA_VERSION, series_entry
from inference.findings import Algorithm, KeySlice, LeftOut, MaskCrop, Nodule, Reading, Reason, Status

SCHEMA = Path(dicom_node.__file__).parent / "schemas" / "summary.schema.json"
NODULE = Nodule(
    number=1,
    tracking_uid="2.25.1",
    centre_lps_mm=(1.25, -2.5, 3.0),
    mask=MaskCrop((0, 0, 0), np.ones((1, 1, 1), bool)),
    key_slice=KeySlice("1.2.3.4", 0, (1.5, 1.5), 1.0),
    long_axis_mm=9.4,
    short_axis_mm=8.1,
    mean_diameter_mm=8.8,
    volume_mm3=301,
    mean_hu=-12,
    confidence=None,
    site="left lung",
)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def reading(**changes: Any) -> Reading:
    given: dict[str, Any] = {
        "series_instance_uid": "1.2.3",
        "modality": "CT",
        "status": Status.COMPLETED,
        "reason": None,
        "nodules": (NODULE,),
        "findings": None,
        "algorithms": (Algorithm("detect", "hessian-dot", "1", "0" * 64, "demonstration"),),
        "slices_read": ("1.2.3.4",),
        "slices_left_out": (LeftOut("1.2.3.5", "a duplicate"),),
        "seconds": {"decode": 1.25},
    }
    return Reading(**(given | changes))


def summary(status: str = "completed", reason: Reason | None = None, read: Reading | None = None) -> dict[str, Any]:
    one = series_entry(
        study_uid="1.2",
        series_uid="1.2.3",
        modality="CT",
        status=status,
        reason=reason,
        evidence="a folder of files",
        reading=read,
        results=[{"kind": "SEG", "sop_instance_uid": "2.25.9", "file": "objects/seg.dcm"}],
    )
    whole: dict[str, Any] = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, "series": [one]}))
    return whole


def test_a_read_series_and_one_that_was_not_fit_the_schema(validator: Draft202012Validator) -> None:
    validator.validate(summary(read=reading()))
    validator.validate(summary(read=reading(nodules=())))
    validator.validate(summary("partial", Reason("lungs_cut", "cut"), reading(status=Status.PARTIAL)))
    validator.validate(summary("not_analysed", Reason("gap", "32.5 mm are missing")))
    validator.validate(summary("waiting", Reason("waiting", "more may come")))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: one.update(reason={"code": "gap", "text": "but completed"}),
        lambda one: one.update(status="read"),
        lambda one: one.update(status="failed"),
        lambda one: one.pop("nodules"),
        lambda one: one["nodules"][0].pop("tracking_uid"),
        lambda one: one["nodules"][0].update(confidence=40),
        lambda one: one["nodules"][0].update(centre_lps_mm=[1.0, 2.0]),
        lambda one: one["seconds"].pop("deliver"),
        lambda one: one["slices_left_out"][0].pop("why"),
    ],
    ids=["reason", "word", "no-reason", "no-nodules", "tracking", "percent", "centre", "stage", "why"],
)
def test_what_the_interface_forbids_is_refused(
    validator: Draft202012Validator, spoil: Callable[[dict[str, Any]], object]
) -> None:
    """A reason beside completed, an unknown status, a missing key, a confidence in per cent, ..."""
    whole = summary(read=reading())
    spoil(whole["series"][0])
    assert not validator.is_valid(whole)


def test_new_keys_are_free(validator: Draft202012Validator) -> None:
    whole = summary(read=reading())
    whole["series"][0]["later"] = 1
    validator.validate(whole)
