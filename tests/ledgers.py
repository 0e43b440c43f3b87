"""A real ledger on a real file with a real journal, and short words for what the services do to it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.database import Database, create_database
from storage.journal import Entry, Journal, read_all
from storage.ledger import Ledger
from storage.rows import (
    Arrival,
    DeliveryClaim,
    FileRef,
    Identity,
    NewDelivery,
    NewResult,
    Rejected,
    SeriesVerdict,
    StudyClaim,
    StudyView,
    WithdrawalClaim,
)
from storage.states import DeliveryState, Outcome, StudyMove, StudyState

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
STUDY = "1.2.840.1"
SERIES = "1.2.840.1.1"
ANNA = Identity("4711", "HOSP", "Anna^Test", "19500101", "F")
BERT = Identity("4712", "HOSP", "Bert^Test", "19600101", "M")


def arrival(
    number: int, *, study: str = STUDY, series: str | None = None, at: datetime = NOON, **values: object
) -> Arrival:
    """The nth image of a series as the indexer hands it over."""
    series = f"{study}.1" if series is None else series
    sop = f"{series}.{number}"
    made = Arrival(
        incoming=f"a1-{sop}.dcm",
        association="a1",
        calling_ae="PACS",
        received_at=at,
        study_uid=study,
        series_uid=series,
        sop_uid=sop,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        kind="image",
        file=f"images/{sop}.dcm",
        size=1000,
        sha256=f"digest of {sop}",
        header=f'{{"n":{number}}}',
        identity=ANNA,
        accession="ACC1",
        folder=f"studies/ab/{study}",
    )
    return replace(made, **values)  # type: ignore[arg-type]


_empty: list[bytes] = []


def _copy_of_an_empty_ledger(path: Path) -> Database:
    """The migrations run once; each test starts with a copy of what they lead to."""
    if path.exists():
        return Database(path)
    if not _empty:
        create_database(path).close()
        _empty.append(path.read_bytes())
    path.write_bytes(_empty[0])
    return Database(path)


class Books:
    """A ledger with its folder; `now` moves only when a test says so."""

    def __init__(self, folder: Path, who: str = "test") -> None:
        self.folder = folder
        self.database = _copy_of_an_empty_ledger(folder / "ledger.sqlite")
        self.journal = Journal(folder / "journal", "host", "boot", 1)
        self.ledger = Ledger(self.database, self.journal, who)
        self.now = NOON
        self.told = 0

    def close(self) -> None:
        self.database.close()
        self.journal.close()

    def later(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def lines(self, kind: str) -> list[Entry]:
        return [entry for entry in read_all(self.journal.path.parent).entries if entry.kind == kind]

    def file(self, *arrivals: Arrival) -> int:
        """File a batch, return the study's number."""
        return self.ledger.file_batch(arrivals, self.now)[0].study_number

    def view(self, study: int = 1) -> StudyView:
        return self.ledger.view(study)

    def state(self, study: int = 1) -> StudyState:
        return self.view(study).study.state

    def complete(self, study: int = 1) -> None:
        for row in self.view(study).series:
            if row.instances:
                self.ledger.complete_series(study, row.id, row.version, "quiet", self.now)

    def choose(
        self, study: int = 1, move: StudyMove = StudyMove.CHOOSE, hold: tuple[str, str] | None = None
    ) -> StudyState:
        self.complete(study)
        view = self.view(study)
        verdicts = [SeriesVerdict(row.id, Outcome.CHOSEN) for row in view.series if row.kind == "image"]
        return self.ledger.choose(
            study,
            view.study.change_no,
            verdicts=verdicts if move is StudyMove.CHOOSE else [],
            move=move,
            why="test",
            now=self.now,
            hold=hold,
        )

    def claim(self, owner: str = "worker", attempts_max: int = 3) -> StudyClaim:
        claim = self.ledger.claim_study(owner, 60, self.now, attempts_max=attempts_max)
        assert claim is not None
        return claim

    def commit(
        self,
        claim: StudyClaim,
        to: Sequence[NewDelivery] = (),
        *,
        key: str = "",
        digest: str = "choice",
        identity: str = "p1",
    ) -> int:
        view = self.view(claim.study_number)
        key = key or f"key {claim.study_number}.{len(view.results) + 1}"
        result = NewResult(
            key, "result", "completed", f"results/{key}/{claim.token}", view.previous_key, digest, identity, "{}", 2
        )
        verdicts = [SeriesVerdict(row.id, Outcome.READ) for row in view.series if row.kind == "image"]
        return self.ledger.commit_result(claim, result, verdicts, to, self.now)

    def read(self, study: int = 1, to: Sequence[NewDelivery] = (), **values: str) -> int:
        """From open to delivering: complete, chosen, claimed, read, committed."""
        self.choose(study)
        return self.commit(self.claim(), to, **values)

    def due(self, destination: str = "pacs") -> DeliveryClaim | None:
        return self.ledger.claim_delivery(destination, "courier", 120, self.now)

    def start(self, destination: str = "pacs") -> DeliveryClaim:
        claim = self.due(destination)
        assert claim is not None, f"nothing is due at {destination}"
        self.ledger.connected(claim, self.now)
        return claim

    def send(self, destination: str = "pacs") -> StudyState:
        return self.ledger.answered(self.start(destination), "0000H", self.now)

    def deliveries(self, study: int = 1) -> list[tuple[int, str, DeliveryState]]:
        return [(one.revision, one.destination, one.state) for one in self.view(study).deliveries]

    def reject(self, *sop_uids: str, code: str = "113001", note: str = "note 1", study: str = STUDY) -> Rejected:
        return self.ledger.reject(
            study, list(sop_uids), code=code, note=note, by="PACS", why="rejected", now=self.now, identity=ANNA
        )

    def withdraw(self, study_key: str = "withdrawal") -> WithdrawalClaim:
        claim = self.ledger.claim_withdrawal("worker", 60, self.now)
        assert claim is not None, "nothing is to be withdrawn"
        view = self.view(claim.study_number)
        result = NewResult(
            study_key,
            "withdrawal",
            "withdrawn",
            f"results/{study_key}/{claim.token}",
            view.previous_key,
            "",
            claim.sent[0].identity_key,
            "{}",
        )
        rows = [NewDelivery(name, "dicom", ()) for name in dict.fromkeys(one.destination for one in claim.sent)]
        self.ledger.commit_withdrawal(claim, result, rows, self.now)
        return claim


PACS = NewDelivery("pacs", "dicom", (FileRef("results/k/sr.dcm", "digest", "sr", "1.2", "1.3"),))
HIS = NewDelivery("his", "oru", (FileRef("results/k/oru.hl7", "digest"),), control_id="C1")
