"""The moves, once more, written from the design and not from the tables."""

import pytest

from storage.states import DELIVERY_MOVES, STUDY_MOVES, DeliveryMove, DeliveryState, StudyMove, StudyState, diagram

S, M, D, V = StudyState, StudyMove, DeliveryState, DeliveryMove

ALLOWED = {
    (S.OPEN, M.CHOOSE, S.QUEUED),
    (S.OPEN, M.NOT_FOR_US, S.DONE),
    (S.OPEN, M.AS_BEFORE, S.DELIVERING),
    (S.QUEUED, M.CLAIM, S.READING),
    (S.READING, M.WRITE, S.DELIVERING),
    (S.READING, M.RETRY, S.QUEUED),
    (S.READING, M.WAIT, S.OPEN),
    (S.READING, M.NOT_FOR_US, S.DONE),
    (S.READING, M.AS_BEFORE, S.DELIVERING),
    (S.DELIVERING, M.DELIVERED, S.DONE),
    (S.DELIVERING, M.DEAD, S.UNDELIVERED),
    (S.UNDELIVERED, M.REPLAY, S.DELIVERING),
    (S.WITHDRAWN, M.ARRIVE, S.OPEN),
    *((state, M.CHANGE, S.OPEN) for state in S if state is not S.WITHDRAWN),
    *((state, M.WITHDRAW, S.WITHDRAWN) for state in S if state is not S.WITHDRAWN),
}
REFUSED = {(state, move) for state in S for move in M} - {(state, move) for state, move, _ in ALLOWED}

DELIVERY_ALLOWED = {
    (D.PENDING, V.START, D.SENDING),
    (D.PENDING, V.GIVE_UP, D.DEAD),
    (D.PENDING, V.SUPERSEDE, D.CANCELLED),
    (D.SENDING, V.ANSWERED, D.SENT),
    (D.SENDING, V.BACK_OFF, D.PENDING),
    (D.SENDING, V.GIVE_UP, D.DEAD),
    (D.SENT, V.COMMIT, D.COMMITTED),
    (D.SENT, V.COMMIT_SILENT, D.COMMIT_UNKNOWN),
    (D.SENT, V.COMMIT_REFUSED, D.PENDING),
    (D.SENT, V.SUPERSEDE, D.CANCELLED),
    (D.DEAD, V.REPLAY, D.PENDING),
    (D.DEAD, V.SUPERSEDE, D.CANCELLED),
}
DELIVERY_REFUSED = {(state, move) for state in D for move in V} - {(state, move) for state, move, _ in DELIVERY_ALLOWED}


def test_every_pair_of_state_and_move_is_either_allowed_or_refused() -> None:
    """The two tables together cover all pairs; every state has an entry."""
    assert set(STUDY_MOVES) == set(S)
    assert set(DELIVERY_MOVES) == set(D)
    assert {(state, move, to) for state, moves in STUDY_MOVES.items() for move, to in moves.items()} == ALLOWED
    assert {
        (state, move, to) for state, moves in DELIVERY_MOVES.items() for move, to in moves.items()
    } == DELIVERY_ALLOWED


@pytest.mark.parametrize(("state", "move"), sorted(REFUSED))
def test_a_study_refuses_what_the_design_does_not_name(state: StudyState, move: StudyMove) -> None:
    assert move not in STUDY_MOVES[state]


@pytest.mark.parametrize(("state", "move"), sorted(DELIVERY_REFUSED))
def test_a_delivery_refuses_what_the_design_does_not_name(state: DeliveryState, move: DeliveryMove) -> None:
    assert move not in DELIVERY_MOVES[state]


def test_the_diagram_shows_each_move_once() -> None:
    lines = diagram(STUDY_MOVES).splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> open"]
    assert len(lines) == 2 + len(ALLOWED)
    assert "    done --> open: changed" in lines
    assert "    committed --> [*]" in diagram(DELIVERY_MOVES)
