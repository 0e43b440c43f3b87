"""The ledger burns at any moment of any story: nothing is sent as new, nothing is lost, what was at rest stays at rest."""

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from storage.rows import StudyView
from storage.states import DeliveryState, StudyState
from tests.ledgers import Books
from tests.property.test_ledger_machine import LedgerMachine
from tests.spools import House

AT_REST = (StudyState.DELIVERING, StudyState.DONE, StudyState.UNDELIVERED, StudyState.WITHDRAWN)
ENDED = (DeliveryState.SENT, DeliveryState.DEAD, DeliveryState.CANCELLED)


@dataclass(frozen=True)
class Kept:
    """What a rebuild must bring back of a study."""

    state: StudyState
    held: bool
    to_withdraw: bool
    identity: str
    revision: int
    used_numbers: int
    current: str | None
    results: tuple[str, ...]
    deliveries: tuple[tuple[str, str, DeliveryState, bool, str], ...]
    instances: frozenset[tuple[str, str, str]]

    @classmethod
    def of(cls, view: StudyView) -> "Kept":
        study = view.study
        return cls(
            state=study.state if study.state in AT_REST else StudyState.OPEN,
            held=bool(view.holds),
            to_withdraw=study.to_withdraw,
            identity=study.identity_chosen,
            revision=study.revision,
            used_numbers=study.used_numbers,
            current=study.current_key,
            results=tuple(one.key for one in view.results),
            deliveries=tuple(
                (
                    row.result_key,
                    row.destination,
                    DeliveryState.PENDING if row.state is DeliveryState.SENDING else row.state,
                    row.may_have or (row.state is DeliveryState.SENDING and row.first_connected_at is not None),
                    row.withdrawn_by,
                )
                for row in view.deliveries
            ),
            instances=frozenset(
                (one.sop_uid, one.sha256, one.identity_key) for row in view.series for one in row.instances
            ),
        )


class BurningMachine(LedgerMachine):
    """The same services and people, on a ledger that is lost now and then."""

    def open_books(self) -> Books:
        return House(self.folder)

    @rule()
    def burns(self) -> None:
        assert isinstance(self.books, House)
        before = {view.study.study_uid: Kept.of(view) for view in self.views()}
        self.books.burn()
        self.claims.clear()
        self.sending.clear()
        for view in self.views():
            assert Kept.of(view) == before[view.study.study_uid]


TestRebuild = BurningMachine.TestCase
TestRebuild.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
