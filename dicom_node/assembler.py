"""Is a series complete, on what evidence; is the study ready; what is chosen from it. Moves are the ledger's, rules `choosing`'s.

Completeness is proof, or waiting (design: complete, then chosen). Proof: every association that brought an instance is closed with all
its files filed, the last was released, geometry and numbering have no gap, and `assembly.proof_quiet_s` passed. Waiting: the quiet
period, a longer one after an abort, never while `incoming/` holds files that came before its end; at most `assembly.wait_s_max`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from config.settings import Settings
from dicom_node.choosing import chosen_of, header_of, held_by_limits
from dicom_node.logs import alarm, event
from inference.selection import geometry_complete
from storage.errors import Stale
from storage.ledger import Ledger
from storage.rows import Priority, SeriesRow, StudyView
from storage.spool import Spool
from storage.states import SeriesState, StudyMove


def evidence_of(
    row: SeriesRow, study_changed_at: datetime, oldest_incoming: datetime | None, settings: Settings, now: datetime
) -> str:
    """The evidence that a series is complete, "" while it is not."""
    rules = settings.assembly
    if not row.quiet_only and _proved(row, settings, now):
        return "associations released, geometry and numbering without a gap"
    aborted = any(a.outcome == "aborted" for a in row.associations)
    quiet_s = rules.aborted_quiet_s if aborted else rules.quiet_s
    ends = row.last_at + timedelta(seconds=quiet_s)
    if now >= ends and (oldest_incoming is None or oldest_incoming > ends):
        return f"quiet for {quiet_s:g} s" + (" after an abort" if aborted else "")
    if now >= max(row.first_at, study_changed_at) + timedelta(seconds=rules.wait_s_max):
        return f"waited {rules.wait_s_max:g} s"
    return ""


def _proved(row: SeriesRow, settings: Settings, now: datetime) -> bool:
    if not row.associations or (now - row.last_at).total_seconds() < settings.assembly.proof_quiet_s:
        return False
    if (
        any(a.outcome == "open" or a.files != a.filed for a in row.associations)
        or row.associations[-1].outcome != "released"
    ):
        return False
    return bool(geometry_complete([header_of(i) for i in row.instances]))


class Assembler:
    """One turn looks at every open study."""

    def __init__(self, settings: Settings, spool: Spool, ledger: Ledger) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger

    def turn(self, now: datetime) -> int:
        """Complete what is complete, choose from what is ready; returns how many studies moved."""
        arrivals = self._spool.arrivals()
        oldest = arrivals[0].received_at if arrivals else None
        moved = 0
        for number in self._ledger.open_studies(now):
            try:
                moved += self._look_at(number, oldest, now)
            except Stale:
                continue  # it changed while we looked; the next sweep sees the new state
        return moved

    def _look_at(self, number: int, oldest_incoming: datetime | None, now: datetime) -> int:
        view = self._ledger.view(number)
        if view.study.to_withdraw:
            return 0
        completed = False
        for row in _waiting(view.series):
            evidence = evidence_of(row, view.study.changed_at, oldest_incoming, self._settings, now)
            if evidence:
                if not self._ledger.complete_series(number, row.id, row.version, evidence, now):
                    return 0  # it grew while we looked
                event("series.complete", study=number, series=row.id, instances=len(row.instances), evidence=evidence)
                completed = True
        if completed:
            view = self._ledger.view(number)
        if _waiting(view.series) or not self._quiet(view, now):
            return 0
        return self._choose(view, now)

    def _quiet(self, view: StudyView, now: datetime) -> bool:
        """Whether the study's own clock, which every instance restarts, has run out. A change by a person does not wait for it."""
        return bool(view.study.requeue_by) or (now - view.study.last_at).total_seconds() >= self._settings.study.quiet_s

    def _choose(self, view: StudyView, now: datetime) -> int:
        number = view.study.number
        chosen = chosen_of(view, self._settings)
        choice = chosen.choice
        why = "; ".join(
            f"series {v.series_id} {v.outcome}{': ' + v.reason_text if v.reason_text else ''}" for v in chosen.verdicts
        )
        hold = None
        if view.may_be_as_before(chosen.digest):
            move = StudyMove.AS_BEFORE
        elif choice.to_read or choice.report:
            move = StudyMove.CHOOSE
            hold = held_by_limits(view, self._settings, now)
        else:
            move = StudyMove.NOT_FOR_US
        priority = Priority.REQUEUED if view.study.requeue_by else Priority.NEW
        self._ledger.choose(
            number,
            view.study.change_no,
            verdicts=chosen.verdicts,
            move=move,
            why=why,
            priority=priority,
            hold=hold,
            now=now,
        )
        event(
            "study.chosen",
            study=number,
            move=move,
            count=len(choice.to_read),
            why=choice.reason.text if choice.reason else "",
        )
        if hold:
            alarm("held", study=number, why=hold[1])
        return 1


def _waiting(series: Sequence[SeriesRow]) -> list[SeriesRow]:
    return [row for row in series if row.kind == "image" and row.state is SeriesState.RECEIVING and row.instances]
