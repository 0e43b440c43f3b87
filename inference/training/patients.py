"""Which patients a model has seen, as salted hashes: enough to refuse an evaluation on them, useless as a list of names.

`<weights stem>.patients.json` beside the weights: {"salt", "hashes": [sha256(salt + patient id), ...]}. Written by a trainer,
read by the evaluation only. A hash hides no id from someone who can guess it; the ids are those of public collections.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inference.errors import InSample, ModelRefused
from inference.training.crops import patient_key


@dataclass(frozen=True)
class KnownPatients:
    """The patients of one training. `patient in known` asks for one."""

    salt: str
    hashes: frozenset[str]

    def __contains__(self, patient: str) -> bool:
        return _hash(self.salt, patient) in self.hashes

    def __len__(self) -> int:
        return len(self.hashes)


def _hash(salt: str, patient: str) -> str:
    return hashlib.sha256((salt + patient).encode()).hexdigest()


def patients_file(weights: Path) -> Path:
    """Where the patients of a weights file are kept; need not exist."""
    return weights.with_name(f"{weights.stem}.patients.json")


def write_patients(file: Path, patients: Iterable[str], salt: str = "") -> None:
    """Write the hashes of the ids as `patient_key` writes them, sorted, so that their order tells nothing. A salt is drawn where none is given."""
    salt = salt or secrets.token_hex(16)
    hashes = sorted({_hash(salt, patient_key(patient)) for patient in patients})
    file.write_text(json.dumps({"salt": salt, "hashes": hashes}, indent=1) + "\n", encoding="utf-8")


def read_patients(file: Path) -> KnownPatients:
    """The patients of a training.

    Raises:
        ModelRefused: the file is missing or is none of ours: then nobody knows whom the weights have seen.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return KnownPatients(str(content["salt"]), frozenset(map(str, content["hashes"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused(
            "the list of patients that the weights were trained on can't be read",
            file.name,
            "train again, which writes it",
        ) from error


def seen_among(weights: Path, patients: Iterable[str]) -> frozenset[str]:
    """Those of the patients that weights were trained on, however their ids are written (`patient_key`). Raises ModelRefused."""
    known = read_patients(patients_file(weights))
    return frozenset(patient for patient in patients if patient in known or patient_key(patient) in known)


def need_unseen(weights: Path, patients: Iterable[str], fold: int) -> None:
    """That the weights of a fold saw none of its patients. Raises InSample, ModelRefused."""
    if leaked := seen_among(weights, patients):
        raise InSample(
            f"{len(leaked)} patients of fold {fold} are among those of its weights", weights.name, "train them again"
        )


def weights_without(folder: Path, patients: Iterable[str]) -> Path | None:
    """The first weights of a folder, by name, that saw none of the patients; None where there are none. Raises ModelRefused."""
    everyone = frozenset(patients)
    return next((file for file in sorted(folder.glob("*.safetensors")) if not seen_among(file, everyone)), None)
