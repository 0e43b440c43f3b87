"""The moves of studies, series and deliveries, as tables; pure. `moves.py` has no other opinion,
and docs/architecture.md prints its diagrams from here (`python -m storage.states`)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar


class StudyState(StrEnum):
    """Where a study stands. A hold is a list of reasons beside it, no state."""

    OPEN = "open"
    QUEUED = "queued"
    READING = "reading"
    DELIVERING = "delivering"
    DONE = "done"
    UNDELIVERED = "undelivered"
    WITHDRAWN = "withdrawn"


class StudyMove(StrEnum):
    """What can happen to a study."""

    CHOOSE = "chosen"
    NOT_FOR_US = "not for us"
    AS_BEFORE = "as before"
    CHANGE = "changed"
    CLAIM = "claim"
    WRITE = "written"
    RETRY = "retry"
    WAIT = "wait"
    DELIVERED = "all ended"
    DEAD = "ended with a dead one"
    REPLAY = "replay"
    WITHDRAW = "withdraw, nothing left"
    ARRIVE = "an image comes"


S, M = StudyState, StudyMove
STUDY_MOVES: Final[Mapping[StudyState, Mapping[StudyMove, StudyState]]] = {
    S.OPEN: {
        M.CHOOSE: S.QUEUED,
        M.NOT_FOR_US: S.DONE,
        M.AS_BEFORE: S.DELIVERING,
        M.CHANGE: S.OPEN,
        M.WITHDRAW: S.WITHDRAWN,
    },
    S.QUEUED: {M.CLAIM: S.READING, M.CHANGE: S.OPEN, M.WITHDRAW: S.WITHDRAWN},
    S.READING: {
        M.WRITE: S.DELIVERING,
        M.RETRY: S.QUEUED,
        M.WAIT: S.OPEN,
        M.NOT_FOR_US: S.DONE,
        M.AS_BEFORE: S.DELIVERING,
        M.CHANGE: S.OPEN,
        M.WITHDRAW: S.WITHDRAWN,
    },
    S.DELIVERING: {M.DELIVERED: S.DONE, M.DEAD: S.UNDELIVERED, M.CHANGE: S.OPEN, M.WITHDRAW: S.WITHDRAWN},
    S.DONE: {M.CHANGE: S.OPEN, M.WITHDRAW: S.WITHDRAWN},
    S.UNDELIVERED: {M.REPLAY: S.DELIVERING, M.CHANGE: S.OPEN, M.WITHDRAW: S.WITHDRAWN},
    S.WITHDRAWN: {M.ARRIVE: S.OPEN},
}


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    COMMITTED = "committed"
    COMMIT_UNKNOWN = "commit_unknown"
    DEAD = "dead"
    CANCELLED = "cancelled"


class DeliveryMove(StrEnum):
    """What can happen to a delivery."""

    START = "start"
    ANSWERED = "answered"
    BACK_OFF = "back off"
    GIVE_UP = "give up"
    REPLAY = "replay"
    SUPERSEDE = "superseded"
    COMMIT = "committed"
    COMMIT_SILENT = "no commitment in time"
    COMMIT_REFUSED = "commitment failed"


D, V = DeliveryState, DeliveryMove
DELIVERY_MOVES: Final[Mapping[DeliveryState, Mapping[DeliveryMove, DeliveryState]]] = {
    D.PENDING: {V.START: D.SENDING, V.GIVE_UP: D.DEAD, V.SUPERSEDE: D.CANCELLED},
    D.SENDING: {V.ANSWERED: D.SENT, V.BACK_OFF: D.PENDING, V.GIVE_UP: D.DEAD},
    D.SENT: {
        V.COMMIT: D.COMMITTED,
        V.COMMIT_SILENT: D.COMMIT_UNKNOWN,
        V.COMMIT_REFUSED: D.PENDING,
        V.SUPERSEDE: D.CANCELLED,
    },  # only while its commitment is still awaited
    D.COMMITTED: {},
    D.COMMIT_UNKNOWN: {},
    D.DEAD: {V.REPLAY: D.PENDING, V.SUPERSEDE: D.CANCELLED},
    D.CANCELLED: {},
}


class SeriesState(StrEnum):
    """Whether more of a series is expected."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    WITHDRAWN = "withdrawn"


class Outcome(StrEnum):
    """What became of a series; with a reason for all but `chosen` and a whole `read`."""

    PASSED_OVER = "passed_over"
    DECLINED = "declined"
    CHOSEN = "chosen"
    READ = "read"
    FAILED = "failed"
    SET_ASIDE = "set_aside"


AnyState = TypeVar("AnyState", StudyState, DeliveryState)
AnyMove = TypeVar("AnyMove", StudyMove, DeliveryMove)


def diagram(moves: Mapping[AnyState, Mapping[AnyMove, AnyState]]) -> str:
    """A table of moves as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(moves))}"]
    for state, leaving in moves.items():
        lines += [f"    {state} --> {target}: {move}" for move, target in leaving.items()]
        if not leaving:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(f"```mermaid\n{diagram(STUDY_MOVES)}\n```\n\n```mermaid\n{diagram(DELIVERY_MOVES)}\n```\n")
