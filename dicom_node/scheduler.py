"""What is periodic, run by APScheduler; each task takes a lease in the ledger first, so that it may run in every process set.

A task that fails is logged and tried again at its next time; one that hangs stops the watchdog being fed.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from apscheduler.schedulers.background import BackgroundScheduler

from config.errors import NodeError
from config.settings import Settings
from dicom_node.logs import alarm, event
from storage.errors import LedgerCorrupt, LedgerMissing, LedgerReplaced
from storage.ledger import Ledger
from storage.spool import Spool
from storage.states import DeliveryState

HELD_ALARM_EVERY: Final = timedelta(minutes=5)
FAILURE_SAID_EVERY_S: Final = 60.0
TASK_S_MAX: Final = 900.0  # a retention sweep over a slow disk; longer is a hang
FATAL: Final = (LedgerReplaced, LedgerMissing, LedgerCorrupt)


@dataclass(frozen=True)
class Task:
    """One periodic piece of work: `run` gets now (aware UTC)."""

    name: str
    every_s: float
    run: Callable[[datetime], object]


class Periodic:
    """Runs tasks, each under its lease and never twice at a time."""

    def __init__(self, tasks: Sequence[Task], ledger: Ledger, *, owner: str, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._owner = owner
        self._clock = clock
        self._turned = threading.Event()
        self._said: dict[tuple[str, str], float] = {}
        self._running: dict[str, float] = {}
        self.failed: BaseException | None = None
        self._scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        for task in tasks:
            self._scheduler.add_job(
                self._run, "interval", seconds=task.every_s, args=[task], id=task.name, next_run_time=clock()
            )

    def start(self) -> None:
        """Start the threads."""
        self._scheduler.start()

    def stop(self) -> None:
        """Let running tasks end, start no more."""
        self._scheduler.shutdown(wait=True)

    def turned(self) -> bool:
        """Whether a task ended (or found its lease taken) since the last call, and none hangs; for the watchdog."""
        was = self._turned.is_set()
        self._turned.clear()
        return was and all(time.monotonic() - began < TASK_S_MAX for began in list(self._running.values()))

    def _run(self, task: Task) -> None:
        now = self._clock()
        self._running[task.name] = time.monotonic()
        try:
            if self._ledger.task_lease(task.name, self._owner, max(3 * task.every_s, 10.0), now):
                task.run(now)
        except FATAL as gone:
            self.failed = gone
        except Exception as fault:  # noqa: BLE001 - one task that fails must not end the others
            self._say_failed(task, fault)
        del self._running[task.name]
        self._turned.set()

    def _say_failed(self, task: Task, fault: Exception) -> None:
        """Once a minute for the same fault: a task that fails at every turn must not fill the log."""
        what, now = (task.name, type(fault).__name__), time.monotonic()
        if now - self._said.get(what, -FAILURE_SAID_EVERY_S) >= FAILURE_SAID_EVERY_S:
            self._said[what] = now
            # the text of an error that is not ours may hold a UID (a path, the parameters of a statement)
            why = fault.what if isinstance(fault, NodeError) else ""
            alarm("task_failed", error=type(fault).__name__, why=why, kind=task.name)


class Watch:
    """What an operator must hear of: held, failed, undelivered, waiting too long, a disk that fills."""

    def __init__(self, settings: Settings, spool: Spool, ledger: Ledger) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._said: dict[str, datetime] = {}

    def expire(self, now: datetime) -> None:
        """Leases of dead workers and couriers."""
        expired = self._ledger.expire_leases(now, backoff_s=0.0)
        if expired:
            event("leases.expired", logging.WARNING, count=expired)

    def give_up_old(self, now: datetime) -> None:
        """Deliveries that never got through."""
        dead = self._ledger.give_up_old(now - timedelta(hours=self._settings.delivery.age_h_max), now)
        if dead:
            alarm("deliveries_too_old", count=dead)

    def disk(self, now: datetime) -> None:
        """The watermark."""
        state = self._spool.disk_state()
        if state.used_share >= self._settings.disk.alarm_used or state.free_mib < self._settings.disk.free_mib_min:
            self._say("disk", now, free_mib=state.free_mib, used_share=state.used_share)

    def counts(self, now: datetime) -> None:
        """Held, failed and undelivered studies, and any that waits too long."""
        counts = self._ledger.counts(now)
        known = {p.name for p in self._settings.pacs} | {e.name for e in self._settings.ehr}
        waiting = self._ledger.deliveries(states=[DeliveryState.PENDING])
        for name, value in (
            ("held", counts.held),
            ("series_failed", counts.failed_series),
            ("dead_deliveries", counts.deliveries.get(DeliveryState.DEAD, 0)),
            ("destination_not_configured", sum(one.destination not in known for one in waiting)),
        ):
            if value:
                self._say(name, now, count=value)
        oldest = counts.oldest_waiting_at
        limit_s = self._settings.assembly.wait_s_max + self._settings.read.wall_s_max
        if oldest is not None and (now - oldest).total_seconds() > limit_s:
            self._say("waiting_too_long", now, age_s=(now - oldest).total_seconds())

    def parts(self, now: datetime) -> None:
        """Half-written files of dead receivers: nobody was told that they were kept."""
        removed = self._spool.remove_dead_parts()
        if removed:
            event("spool.parts_removed", logging.WARNING, count=removed)

    def _say(self, name: str, now: datetime, **fields: object) -> None:
        last = self._said.get(name)
        if last is None or now - last >= HELD_ALARM_EVERY:
            self._said[name] = now
            alarm(name, **fields)


def tasks_of(settings: Settings, spool: Spool, ledger: Ledger, retention: Callable[[datetime], object]) -> list[Task]:
    """The tasks of the scheduler's role."""
    watch = Watch(settings, spool, ledger)
    return [
        Task("expire", 2.0, watch.expire),
        Task("disk", 30.0, watch.disk),
        Task("counts", 60.0, watch.counts),
        Task("give_up_old", 300.0, watch.give_up_old),
        Task("parts", 600.0, watch.parts),
        Task("retention", 900.0, retention),
    ]
