"""A public scan read by the trained detector with weights that never saw its patient."""

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from config.catalogue import find_entry
from config.settings import Read
from inference.chain import build_part
from inference.device import choose_device
from inference.nodule_net import NoduleNetDetector
from inference.reader import Chain, ReadLimits, read
from inference.training.patients import patients_file, read_patients
from inference.training.scans import load_scan
from tests.conftest import REPOSITORY
from tools.scan_out import outliner_of, weights_for
from tools.truth import truths

pytestmark = pytest.mark.shared


def test_nodules_of_a_patient_whom_the_weights_never_saw_are_in_the_result(shared_data: Path) -> None:
    folder, device = shared_data / "ct" / "lidc-idri-0003", choose_device("cpu")
    scan, entry = load_scan(folder), find_entry(Read().detector, "detector")
    weights = weights_for(scan.patient, REPOSITORY / "models" / "folds" / entry.name)
    assert scan.patient not in read_patients(patients_file(weights))
    chain = Chain(
        lungs=build_part(find_entry(entry.lungs, "lungs"), device),
        detector=NoduleNetDetector(entry, device, load_file(weights)),
        outliner=outliner_of(entry, lambda folds: weights_for(scan.patient, folds)),
    )
    nodules = read(scan.volume, chain, ReadLimits()).nodules or ()
    centres = [nodule.centre_lps_mm for nodule in nodules]
    marked = truths(folder)
    assert len(marked) == 3
    assert all(truth.hit_by(centres) >= 0 for truth in marked)
    assert len(nodules) <= 5
    assert all(0 < (nodule.confidence or 0) < 1 for nodule in nodules)
    assert len({tuple(map(math.floor, centre)) for centre in centres}) == len(centres)
