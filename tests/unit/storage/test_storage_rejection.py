"""What a rejection note takes out of reading, and what follows."""

from dataclasses import replace

from storage.rows import FileMove, Rejected
from storage.states import DeliveryState, SeriesState, StudyState
from tests.ledgers import ANNA, HIS, PACS, STUDY, Books, arrival


def sop(number: int) -> str:
    return f"{STUDY}.1.{number}"


def reject(books: Books, *numbers: int, code: str = "113001", note: str = "note 1") -> Rejected:
    return books.ledger.reject(
        STUDY, [sop(n) for n in numbers], code=code, note=note, by="PACS", why="rejected", now=books.now, identity=ANNA
    )


def test_what_remains_is_a_change_that_a_person_asked_for(books: Books) -> None:
    books.file(arrival(1), arrival(2))
    books.read(to=[PACS])
    answer = reject(books, 1)
    assert answer.moves == (FileMove(sop(1), f"images/{sop(1)}.dcm", f"withdrawn/{sop(1)}.dcm"),)
    assert (answer.left, answer.state, answer.to_withdraw) == (1, StudyState.OPEN, False)
    view = books.view()
    assert view.study.by_person
    assert [one.sop_uid for one in view.series[0].instances] == [sop(2)]
    assert books.due() is None, "nothing of the old result starts to leave"


def test_nothing_left_withdraws_what_was_sent_and_cancels_the_rest(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS, HIS])
    books.send("pacs")
    assert reject(books, 1).state is StudyState.WITHDRAWN
    view = books.view()
    assert view.study.to_withdraw
    assert view.series[0].state is SeriesState.WITHDRAWN
    books.ledger.hold(1, "person", "look", by="me", now=books.now)  # a withdrawal leaves under any hold
    claim = books.withdraw()
    assert [one.destination for one in claim.sent] == ["pacs"]
    assert books.deliveries() == [
        (1, "pacs", DeliveryState.SENT),
        (1, "his", DeliveryState.CANCELLED),
        (1, "pacs", DeliveryState.PENDING),
    ]
    assert not books.view().study.to_withdraw
    assert books.view().current is None
    assert books.send("pacs") is StudyState.WITHDRAWN


def test_nothing_sent_needs_no_withdrawal(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    assert not reject(books, 1).to_withdraw
    assert books.deliveries() == [(1, "pacs", DeliveryState.CANCELLED)]


def test_what_is_on_the_wire_counts_as_sent(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    on_the_wire = books.start()
    assert reject(books, 1).to_withdraw
    claim = books.withdraw()
    assert [one.number for one in claim.sent] == [on_the_wire.delivery.number]
    assert books.due() is None, "the withdrawal waits for what is on the wire there"
    books.ledger.back_off(on_the_wire, books.now, "refused", counted=True, now=books.now, may_have=False)
    assert books.view().deliveries[0].state is DeliveryState.CANCELLED
    assert books.due() is not None


def test_a_refusal_that_comes_before_the_withdrawal_is_made_makes_it_needless(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    on_the_wire = books.start()
    reject(books, 1)
    books.ledger.back_off(on_the_wire, books.now, "refused", counted=True, now=books.now, may_have=False)
    assert books.ledger.claim_withdrawal("worker", 60, books.now) is None
    assert not books.view().study.to_withdraw
    assert books.deliveries() == [(1, "pacs", DeliveryState.CANCELLED)]


def test_a_note_told_again_returns_the_same_moves_and_changes_nothing(books: Books) -> None:
    """A crash between the ledger and the files is mended by telling the note once more."""
    books.file(arrival(1), arrival(2))
    first = reject(books, 1)
    books.file(replace(arrival(1), incoming="b.dcm", file=f"images/{sop(1)}~2.dcm"))  # stored again under its own right
    events = len(books.ledger.events(1))
    assert reject(books, 1).moves == first.moves
    assert len(books.ledger.events(1)) == events
    assert len(books.view().series[0].instances) == 2


def test_a_taken_name_in_withdrawn_gets_a_number(books: Books) -> None:
    books.file(arrival(1), arrival(2))
    reject(books, 1)
    books.file(replace(arrival(1), incoming="b.dcm"))
    assert [move.target for move in reject(books, 1, note="note 2").moves] == [f"withdrawn/{sop(1)}~2.dcm"]


def test_an_unknown_instance_leaves_a_tombstone(books: Books) -> None:
    answer = books.ledger.reject(
        STUDY, ["9.9"], code="113038", note="n", by="PACS", why="w", now=books.now, identity=ANNA
    )
    assert (answer.unknown, answer.study_number) == (("9.9",), None)
    stone = books.ledger.tombstones(["9.9", "8.8"])["9.9"][0]
    assert (stone.code, stone.identity) == ("113038", ANNA)
    assert books.lines("rejection")[0].fields["unknown"] == ["9.9"]
    reject(books, 1)
    books.file(arrival(1, verdict="rejected", code="113001", file=f"withdrawn/{sop(1)}.dcm"))
    assert books.view().series[0].instances == ()
    assert books.view().series[0].state is SeriesState.WITHDRAWN


def test_retention_expired_at_the_sender_takes_nothing_from_what_was_read(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    answer = reject(books, 1, code="113039")
    assert (answer.moves, answer.state, answer.left) == ((), StudyState.DONE, 1)


def test_retention_expired_ends_what_is_not_yet_read(books: Books) -> None:
    books.file(arrival(1))
    answer = reject(books, 1, code="113039")
    assert (answer.state, answer.to_withdraw, len(answer.moves)) == (StudyState.WITHDRAWN, False, 1)


def test_our_own_objects_are_not_rejected(books: Books) -> None:
    books.file(arrival(1), arrival(2, series=f"{STUDY}.7", kind="own"))
    answer = books.ledger.reject(STUDY, [f"{STUDY}.7.2"], code="113001", note="n", by="PACS", why="w", now=books.now)
    assert (answer.moves, answer.left) == ((), 1)


def test_an_image_that_comes_to_a_withdrawn_study_opens_it_under_the_hold_asked_for(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    reject(books, 1)
    books.file(replace(arrival(1), incoming="b.dcm", holds=(("rejected_again", "came again"),)))
    view = books.view()
    assert (view.study.state, [hold.reason for hold in view.holds]) == (StudyState.OPEN, ["rejected_again"])
    assert books.ledger.open_studies(books.now) == [], "not chosen until the withdrawal is committed"
    books.withdraw()
    assert books.ledger.open_studies(books.now) == [1]


def test_a_withdrawal_that_cannot_be_made_waits_longer_each_time(books: Books) -> None:
    books.file(arrival(1))
    books.read(to=[PACS])
    books.send()
    reject(books, 1)
    claim = books.ledger.claim_withdrawal("worker", 60, books.now)
    assert claim is not None
    books.ledger.give_back_withdrawal(claim, "no room", books.now)
    assert books.ledger.claim_withdrawal("worker", 60, books.later(9)) is None
    again = books.ledger.claim_withdrawal("worker", 60, books.later(1))
    assert again is not None
    assert books.ledger.expire_leases(books.later(61)) == 1
    assert books.ledger.claim_withdrawal("worker", 60, books.later(1)) is not None
