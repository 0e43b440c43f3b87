"""Reports, patients and settings for the tests of messages; everything made up."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from config.settings import Ehr, Oru
from hl7.context import Order, Patient, StudyRef
from hl7.oru import render_oru
from inference.findings import (
    Algorithm,
    Finding,
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

AT = datetime(2026, 1, 5, 10, 17, tzinfo=UTC)
SOFTWARE = "dicom-node 0.1.0"
STUDY_UID = "1.2.826.0.1.3680043.8.498.45787841905473114233124723359129632652"
SR_UID = "2.25.330011223344556677889900112233445566778"
PATIENT = Patient("P-1001", "HOSP", family="Phantom", given="Alma", birth_date="19600101", sex="F")
ORDER = Order("DN7F3A9C", accession_number="ACC1001", placer_number="PL77")
STUDY = StudyRef(STUDY_UID, "CT", datetime(2026, 1, 5, 10, 15, 30, tzinfo=UTC))
DETECTOR = Algorithm("detect", "hessian-dot", "1", "ab" * 32, "demonstration")


def ehr(**changes: Any) -> Ehr:
    return Ehr(**({"name": "his-main", "host": "127.0.0.1", "port": 2575} | changes))


def nodule(number: int, **changes: Any) -> Nodule:
    voxels = np.ones((1, 2, 2), bool)
    voxels.flags.writeable = False
    known: dict[str, Any] = {
        "number": number, "tracking_uid": f"2.25.{1000 + number}", "centre_lps_mm": (12.5, -30.0, 100.25),
        "mask": MaskCrop((1, 2, 3), voxels), "key_slice": KeySlice("1.2.3.4", 1, (10.5, 20.5), 4.0),
        "long_axis_mm": 9.4, "short_axis_mm": 7.0, "mean_diameter_mm": 8.2, "volume_mm3": 301, "mean_hu": -45,
        "confidence": None, "site": "right lung", "size_error_mm": 0.8,
        "mass_mg": 287, "volume_error_mm3": 60, "mass_error_mg": 57,
    }
    return Nodule(**(known | changes))


def reading(*nodules: Nodule, status: Status = Status.COMPLETED, reason: Reason | None = None,
            **changes: Any) -> Reading:
    known: dict[str, Any] = {
        "series_instance_uid": "1.2.3", "modality": "CT", "status": status, "reason": reason, "nodules": nodules,
        "findings": None, "algorithms": (DETECTOR,), "slices_read": ("1.2.3.4", "1.2.3.5"), "slices_left_out": (),
        "smallest_mm": 4.0, "series_number": "3",
    }
    return Reading(**(known | changes))


def report(*readings: Reading, **changes: Any) -> Report:
    known: dict[str, Any] = {
        "study_instance_uid": STUDY_UID, "software": SOFTWARE, "readings": readings, "not_read": (),
        "demonstration": True,
    }
    return Report(**(known | changes))


TWO_NODULES = report(
    reading(nodule(1, confidence=0.87, malignancy=0.37, texture="solid", calcified=False), nodule(4, site="left lung")))
NO_NODULE = report(reading())
PARTIAL = report(reading(status=Status.PARTIAL, reason=Reason("lungs_cut", "12 cm2 of lung on the last slice"),
                         slices_left_out=(LeftOut("1.2.3.9", "duplicate"),)))
GAP = Reason("gap", "32.5 mm between the slices at -120.0 and -152.5 mm")
NOT_ANALYSED = report(reason=GAP, not_read=(NotRead("1.2.3", "CT", "declined", GAP, "3"),), demonstration=False)
RADIOGRAPH = report(reading(
    modality="DX", nodules=None, smallest_mm=None,
    findings=(Finding("1.2.9", "Cardiomegaly", 0.71, reported=True, demonstration=True),
              Finding("1.2.9", "Hernia", 0.02, reported=False, demonstration=False),
              Finding("1.2.8", "Effusion", 0.66, reported=True, demonstration=False))))


def render(said: Report = TWO_NODULES, **changes: Any) -> bytes:
    known: dict[str, Any] = {
        "patient": PATIENT, "order": ORDER, "study": STUDY, "oru": Oru(), "ehr": ehr(), "control_id": "MSG00001",
        "at": AT,
        "sr_uid": SR_UID,
    }
    return render_oru(said, **(known | changes))
