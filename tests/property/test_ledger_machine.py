"""Indexer, assembler, worker, couriers and people in any order: what must hold after every step."""

import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage.errors import IdentityNeeded, IllegalMove, LeaseLost, Stale, Superseded
from storage.rows import DeliveryClaim, NewDelivery, SeriesVerdict, StudyClaim, StudyView
from storage.states import DeliveryState, Outcome, SeriesState, StudyMove, StudyState
from tests.ledgers import ANNA, BERT, HIS, PACS, Books, arrival

STUDY_UIDS = ("1.2.840.1", "1.2.840.2")
STUDY_MOVES = {str(move) for move in StudyMove}
MEMORY = Path("/dev/shm")
studies = st.sampled_from((1, 2))
destinations = st.sampled_from(("pacs", "his"))
WAYS = st.sampled_from(((PACS, HIS), (PACS, replace(HIS, after=("pacs",))), (PACS,), ()))


class LedgerMachine(RuleBasedStateMachine):
    """Two studies, two destinations, two workers that may be dead without knowing it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.books = self.open_books()
        self.count = 0
        self.claims: list[StudyClaim] = []
        self.sending: list[DeliveryClaim] = []
        self.notes = 0
        for uid in STUDY_UIDS:
            self.books.file(arrival(0, study=uid, at=self.books.later(1)))

    def open_books(self) -> Books:
        return Books(self.folder)

    def teardown(self) -> None:
        self.books.close()
        shutil.rmtree(self.folder)

    @property
    def ledger(self):  # type: ignore[no-untyped-def]
        return self.books.ledger

    def views(self) -> list[StudyView]:
        return [self.books.view(number) for number in (1, 2)]

    # indexer
    @rule(
        study=studies,
        identity=st.sampled_from((ANNA, ANNA, BERT)),
        kind=st.sampled_from(("image", "image", "set_aside")),
    )
    def arrives(self, study: int, identity: object, kind: str) -> None:
        self.count += 1
        uid = STUDY_UIDS[study - 1]
        doubt = (("identity", "two patients"),) if identity is BERT else ()
        series = f"{uid}.{1 + self.count % 2}"
        at = self.books.later(1)
        self.books.file(arrival(self.count, study=uid, series=series, at=at, identity=identity, kind=kind, holds=doubt))

    @rule(study=studies)
    def comes_again(self, study: int) -> None:
        self.count += 1
        before = self.books.view(study).study
        again = replace(arrival(0, study=STUDY_UIDS[study - 1]), incoming=f"again{self.count}.dcm", verdict="duplicate")
        self.books.file(again)
        assert self.books.view(study).study.state is before.state

    @rule(study=studies, part=st.sampled_from(("one", "all")), code=st.sampled_from(("113001", "113039")))
    def rejects(self, study: int, part: str, code: str) -> None:
        self.notes += 1
        live = [one.sop_uid for row in self.books.view(study).series if row.kind == "image" for one in row.instances]
        named = live if part == "all" else live[:1]
        note = f"note{self.notes}"
        for _ in range(2):  # told twice
            answer = self.books.reject(*named, code=code, note=note, study=STUDY_UIDS[study - 1])
        if named and code == "113001":
            assert (answer.state is StudyState.WITHDRAWN) == (answer.left == 0)

    # assembler
    @rule(study=studies, wish=st.sampled_from((StudyMove.CHOOSE, StudyMove.CHOOSE, StudyMove.NOT_FOR_US)))
    def chooses(self, study: int, wish: StudyMove) -> None:
        if study not in self.ledger.open_studies(self.books.now):
            return
        self.books.complete(study)
        view = self.books.view(study)
        move = StudyMove.AS_BEFORE if view.may_be_as_before(digest(view)) else wish
        verdicts = [SeriesVerdict(row.id, Outcome.CHOSEN) for row in view.series if row.kind == "image"]
        self.ledger.choose(study, view.study.change_no, verdicts=verdicts, move=move, why="", now=self.books.now)

    @rule(study=studies)
    def chooses_what_it_saw_too_long_ago(self, study: int) -> None:
        change = self.books.view(study).study.change_no - 1
        with pytest.raises(Stale):
            self.ledger.choose(study, change, verdicts=[], move=StudyMove.CHOOSE, why="", now=self.books.now)

    @rule(study=studies, to=WAYS)
    def is_read(self, study: int, to: tuple[NewDelivery, ...]) -> None:
        """The common way, in one step: most stories go through it again and again."""
        view = self.books.view(study)
        if view.holds:
            self.ledger.release(study, by="me", why="", now=self.books.now, identity="p1")
        if study in self.ledger.open_studies(self.books.now) and any(row.instances for row in view.series):
            self.books.choose(study)
        while (claim := self.ledger.claim_study("worker", 60, self.books.now, attempts_max=3)) is not None:
            view = self.books.view(claim.study_number)
            self.books.commit(claim, to, digest=digest(view), identity=view.study.identity_chosen or "p1")

    @rule(destination=destinations)
    def is_sent(self, destination: str) -> None:
        """The other common way."""
        claim = self.books.due(destination)
        if claim is not None:
            self.ledger.connected(claim, self.books.now)
            self.ledger.answered(claim, "", self.books.now)

    # worker
    @rule()
    def claims_a_study(self) -> None:
        claim = self.ledger.claim_study("worker", 60, self.books.now, attempts_max=3)
        if claim is not None:
            view = self.books.view(claim.study_number)
            assert not view.holds
            assert not view.study.to_withdraw
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        what=st.sampled_from(
            ("commit", "commit", "commit", "start", "found", "fail", "retry", "wait", "not for us", "as before")
        ),
        to=WAYS,
    )
    def works(self, data: st.DataObject, what: str, to: tuple[NewDelivery, ...]) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        view = self.books.view(claim.study_number)
        alive = self.ledger.heartbeat(claim, 60, self.books.now)
        rows = [row for row in view.series if row.kind == "image" and row.instances] or list(view.series)
        try:
            if what == "commit":
                identity = view.study.identity_chosen or "p1"
                self.books.commit(claim, to, digest=digest(view), identity=identity)
            elif what == "start":
                self.ledger.start_series(claim, rows[0].id, self.books.now)
            elif what in ("found", "fail"):
                outcome = Outcome.FAILED if what == "fail" else Outcome.PASSED_OVER
                self.ledger.found(claim, rows[0].id, "found", outcome, "code", "", self.books.now)
            elif what in ("retry", "wait"):
                move = StudyMove.RETRY if what == "retry" else StudyMove.WAIT
                self.ledger.give_back(claim, move, not_before=None, counted=what == "retry", why="", now=self.books.now)
            else:
                move = StudyMove.NOT_FOR_US if what == "not for us" else StudyMove.AS_BEFORE
                self.ledger.end_without_result(claim, move, [], "", self.books.now)
        except LeaseLost:
            assert not alive, "a live token moves"
        else:
            assert alive, "a void token moves nothing"

    @rule()
    def withdraws(self) -> None:
        if any(view.study.to_withdraw for view in self.views()):
            claim = self.ledger.claim_withdrawal("worker", 60, self.books.later(1000))
            if claim is not None:
                self.ledger.give_back_withdrawal(claim, "once more", self.books.now)
                self.books.later(1000)
                self.notes += 1
                self.books.withdraw(f"withdrawal {self.notes}")

    # couriers
    @rule(destination=destinations, connects=st.booleans())
    def starts(self, destination: str, connects: bool) -> None:
        claim = self.books.due(destination)
        if claim is None:
            return
        view, row = self.books.view(claim.delivery.study_number), claim.delivery
        wire = [one for one in view.deliveries if one.destination == destination and one.state is DeliveryState.SENDING]
        assert [one.number for one in wire] == [row.number], "nothing else of the study is on the wire there"
        if not row.withdrawal:
            assert view.study.state is StudyState.DELIVERING
            assert row.result_key == view.study.current_key, "nothing of a superseded result starts"
            assert not view.holds
            assert not view.study.to_withdraw
        if connects:
            self.ledger.connected(claim, self.books.now)
        self.sending.append(claim)

    @precondition(lambda self: self.sending)
    @rule(data=st.data(), what=st.sampled_from(("answered", "answered", "back off", "give up")))
    def ends(self, data: st.DataObject, what: str) -> None:
        claim = data.draw(st.sampled_from(self.sending))
        before = {row.number: row for row in self.books.view(claim.delivery.study_number).deliveries}
        live = before[claim.delivery.number].state is DeliveryState.SENDING
        try:
            if what == "answered":
                self.ledger.answered(claim, "", self.books.now)
            elif what == "back off":
                self.ledger.back_off(claim, self.books.now, "busy", counted=True, now=self.books.now)
            else:
                self.ledger.give_up(claim, "no", self.books.now)
        except LeaseLost:
            return
        assert live
        self.sending.remove(claim)

    # people and time
    @rule(study=studies)
    def holds(self, study: int) -> None:
        self.ledger.hold(study, "person", "look", by="me", now=self.books.now)

    @rule(study=studies, identity=st.sampled_from((None, "p1", "p2")))
    def releases(self, study: int, identity: str | None) -> None:
        view = self.books.view(study)
        if identity is not None and identity not in {row.key for row in view.identities}:
            return
        try:
            self.ledger.release(study, by="me", why="", now=self.books.now, identity=identity)
        except IdentityNeeded:
            assert any(hold.reason == "identity" for hold in view.holds)
        else:
            assert not self.books.view(study).holds

    @rule(study=studies)
    def requeues(self, study: int) -> None:
        withdrawn = self.books.state(study) is StudyState.WITHDRAWN
        try:
            self.ledger.requeue(study, by="me", why="again", now=self.books.now)
        except IllegalMove:
            assert withdrawn
        else:
            assert not withdrawn

    @rule(destination=destinations)
    def replays(self, destination: str) -> None:
        self.ledger.replay(by="me", why="", now=self.books.now, destination=destination)

    @rule(number=st.integers(1, 6))
    def replays_one(self, number: int) -> None:
        rows = {row.number: row for view in self.views() for row in view.deliveries}
        if number in rows:
            try:
                self.ledger.replay(by="me", why="", now=self.books.now, number=number)
            except Superseded:
                assert rows[number].state is not DeliveryState.DEAD or rows[number].withdrawal

    @rule(seconds=st.sampled_from((1, 61, 121)))
    def time_passes(self, seconds: int) -> None:
        self.books.later(seconds)
        self.ledger.expire_leases(self.books.now)

    @rule()
    def ages(self) -> None:
        self.ledger.give_up_old(self.books.now - timedelta(hours=168), self.books.later(1))

    # what must hold
    @invariant()
    def every_move_left_its_event(self) -> None:
        for number in (1, 2):
            state = "open"
            for event in self.ledger.events(number):
                if event.what == "rebuilt":
                    state = event.to_state
                elif event.what in STUDY_MOVES and event.to_state in set(StudyState):
                    assert event.from_state == state, event
                    state = event.to_state
            assert state == self.books.state(number)

    @invariant()
    def states_agree_with_leases_and_deliveries(self) -> None:
        with self.books.database.read() as sql:
            rows = sql.exec_driver_sql("SELECT study_number, purpose FROM study_leases WHERE ended_at IS NULL").all()
        assert len({row[0] for row in rows}) == len(rows), "one live lease a study"
        reading = {row[0] for row in rows if row[1] == "reading"}
        for view in self.views():
            study = view.study
            assert (study.state is StudyState.READING) == (study.number in reading)
            ordinary = [row for row in view.deliveries if not row.withdrawal]
            current = [row for row in ordinary if row.result_key == study.current_key]
            for row in ordinary:
                if row.state in (DeliveryState.PENDING, DeliveryState.DEAD):
                    assert row.result_key == study.current_key, "what was replaced is cancelled"
            waiting = [row for row in current if row.state in (DeliveryState.PENDING, DeliveryState.SENDING)]
            dead = [row for row in current if row.state is DeliveryState.DEAD]
            if study.state is StudyState.DELIVERING:
                assert waiting
            if study.state in (StudyState.DONE, StudyState.UNDELIVERED) and not study.to_withdraw:
                assert not waiting
                assert bool(dead) == (study.state is StudyState.UNDELIVERED)
            if study.state is StudyState.WITHDRAWN:
                live = [one for row in view.series if row.kind == "image" for one in row.instances]
                assert not live
                assert study.to_withdraw or all(row.withdrawn_by for row in ordinary if row.may_have) or self.notes
            for row in view.series:
                if row.kind == "image":
                    assert (row.state is SeriesState.WITHDRAWN) <= (not row.instances)

    @invariant()
    def the_current_result_is_the_last(self) -> None:
        for view in self.views():
            made = [one for one in view.results if one.kind == "result"]
            assert [one.revision for one in made] == list(range(1, len(made) + 1))
            assert view.study.revision == len(made)
            if view.current is not None:
                assert view.current == made[-1]
            previous = ""
            for one in view.results:
                assert one.previous_key == previous
                previous = one.key

    @invariant()
    def the_journal_knows_what_a_rebuild_must_not_lose(self) -> None:
        committed = {line.fields["result"] for line in self.books.lines("commit")}
        started = {(line.fields["result"], line.fields["destination"]) for line in self.books.lines("delivery-start")}
        for view in self.views():
            assert committed >= {one.key for one in view.results}
            for row in view.deliveries:
                if row.may_have and row.first_connected_at is not None:
                    assert (row.result_key, row.destination) in started


def digest(view: StudyView) -> str:
    """What a choice of all images would be made from."""
    return " ".join(row.digest for row in view.series if row.kind == "image") + view.study.identity_chosen


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
