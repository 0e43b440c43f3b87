"""Whether ledger and spool agree: every file that the ledger names is there, whole, and every result has its manifest."""

from collections.abc import Iterator
from pathlib import Path

from storage.disk import file_digest
from storage.ledger import Ledger
from storage.spool import Spool

STUDIES_MAX = 10_000_000


def verify_spool(spool: Spool, ledger: Ledger) -> Iterator[str]:
    """A sentence for each disagreement. Reads every file, so it takes as long as the disk does."""
    for study in ledger.studies(STUDIES_MAX):
        view = ledger.view(study.number, headers=False)
        folder = spool.study_folder(study.study_uid)
        for series in view.series:
            for instance in series.instances:
                if not instance.gone:
                    yield from _file(folder / instance.file, instance.sha256, f"study {study.number}, instance {instance.sop_uid}")
        for delivery in view.deliveries:
            for file in delivery.files:
                if delivery.ended_at is None:
                    yield from _file(folder / file.path, file.sha256, f"study {study.number}, delivery {delivery.number}")


def _file(path: Path, sha256: str, what: str) -> Iterator[str]:
    try:
        if file_digest(path) != sha256:
            yield f"{what}: {path.name} is not what was filed"
    except OSError as fault:
        yield f"{what}: {path.name}: {fault.strerror}"
