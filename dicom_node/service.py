"""Roles as processes: each built, run until told to stop, and stopped in order. `serve` without a role supervises all of them.

Every role feeds the watchdog by each finished turn of its loop. A role that loses its ledger (replaced, gone, corrupt) ends, and its
supervisor starts it again.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.errors import NodeError
from config.settings import Settings
from dicom_node import logs
from dicom_node.logs import alarm, event
from dicom_node.places import open_spool, utc_now
from dicom_node.processes import die_with_parent
from dicom_node.watchdog import Watchdog

if TYPE_CHECKING:
    from dicom_node.node import Node
    from dicom_node.scheduler import Task

ROLES: Final = ("receiver", "indexer", "assembler", "worker", "courier", "scheduler")
STOP_S_MAX: Final = 20.0
RESTART_S_MIN, RESTART_S_MAX = 0.5, 30.0
HEALTHY_S: Final = 60.0
FRAMES_SAID: Final = 8


@dataclass
class Role:
    """What a role's loop is given: when to stop, and how to say that it lives."""

    settings: Settings
    stop: threading.Event
    watchdog: Watchdog

    def turned(self) -> None:
        """A turn of the loop ended."""
        self.watchdog.feed()


def run_role(name: str, settings: Settings) -> int:
    """Run one role until SIGTERM or SIGINT; returns the exit code."""
    os.umask(0o077)  # whatever a library writes, it is ours alone
    logs.configure(settings.log.level, name)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    role = Role(settings, stop, Watchdog.from_environment())
    event("role.start", role=name, pid=os.getpid())
    try:
        _MAINS[name](role)
    except NodeError:
        raise  # the command line says it in a sentence, with its exit code
    except Exception as fault:  # noqa: BLE001 - said without its text, which may hold a UID or a name
        frames = traceback.extract_tb(fault.__traceback__)
        place = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-FRAMES_SAID:]))
        alarm("role_failed", role=name, error=type(fault).__name__, file=place)
        return 1
    finally:
        role.watchdog.stopping()
        event("role.stop", role=name, pid=os.getpid())
    return 0


def _loop(role: Role, turn: Callable[[], int], poll_s: float) -> None:
    """Turn after turn; a wait after an idle one."""
    role.watchdog.ready()
    while not role.stop.is_set():
        did = turn()
        role.turned()
        if not did:
            role.stop.wait(poll_s)


def _receiver(role: Role) -> None:
    from dicom_node.receiver import serve_receiver

    serve_receiver(
        role.settings, open_spool(role.settings), stop=role.stop, ready=role.watchdog.ready, heartbeat=role.turned
    )


def _indexer(role: Role) -> None:
    from dicom_node.indexer import Indexer
    from dicom_node.node import open_node

    node = open_node(role.settings, "indexer", waiting=role.turned)
    indexer = Indexer(role.settings, node.spool, node.ledger)
    try:
        _loop(role, lambda: indexer.turn(utc_now()), role.settings.index.poll_s)
    finally:
        indexer.close()
        node.close()


def _assembler(role: Role) -> None:
    from dicom_node.assembler import Assembler
    from dicom_node.node import open_node
    from dicom_node.scheduler import Task

    node = open_node(role.settings, "assembler", waiting=role.turned)
    assembler = Assembler(role.settings, node.spool, node.ledger)
    _periodic(role, node, [Task("assembly", role.settings.assembly.sweep_s, assembler.turn)])


def _scheduler(role: Role) -> None:
    from dicom_node.node import open_node
    from dicom_node.scheduler import tasks_of
    from storage.retention import Retention

    node = open_node(role.settings, "scheduler", waiting=role.turned)
    retention = Retention(role.settings.retention, node.spool, node.ledger)
    _periodic(role, node, tasks_of(role.settings, node.spool, node.ledger, retention.sweep))


def _periodic(role: Role, node: "Node", tasks: "Sequence[Task]") -> None:
    from dicom_node.scheduler import Periodic

    periodic = Periodic(tasks, node.ledger, owner=node.owner, clock=utc_now)
    periodic.start()
    role.watchdog.ready()
    try:
        while not role.stop.is_set():
            if periodic.failed is not None:
                raise periodic.failed
            if periodic.turned():
                role.turned()
            role.stop.wait(0.5)
    finally:
        periodic.stop()
        node.close()


def _worker(role: Role) -> None:
    from dicom_node.node import open_node
    from dicom_node.withdrawing import Withdrawer
    from dicom_node.worker import Worker
    from inference.decoder_check import failing_decoders

    node = open_node(role.settings, "worker", waiting=role.turned)

    class Stopped(BaseException):
        """Told to stop while a job runs."""

    def alive() -> None:
        role.turned()
        if role.stop.is_set():
            raise Stopped

    device = node.device()
    worker = Worker(role.settings, node.spool, node.ledger, owner=node.owner, device=device, clock=utc_now, alive=alive)
    withdrawer = Withdrawer(role.settings, node.spool, node.ledger, owner=node.owner, device=device, clock=utc_now)
    try:
        for fault in failing_decoders():
            alarm("decoder", why=fault)
        worker.warm()
        _loop(role, lambda: withdrawer.turn(utc_now()) or worker.turn(utc_now()), role.settings.read.poll_s)
    except Stopped:
        pass
    finally:
        worker.close()
        node.close()


def _courier(role: Role) -> None:
    from dicom_node.courier import Couriers
    from dicom_node.node import open_node

    node = open_node(role.settings, "courier", waiting=role.turned)
    couriers = Couriers(role.settings, node.spool, lambda: node.ledger, owner=node.owner, clock=utc_now)
    couriers.start()
    role.watchdog.ready()
    try:
        while not role.stop.is_set():
            if couriers.failed is not None:
                raise couriers.failed
            # a destination may hold its courier for as long as it may take to answer, and no longer
            if couriers.oldest_turn_s() < role.settings.delivery.lease_s + 10 * role.settings.delivery.timeout_s:
                role.turned()
            role.stop.wait(0.5)
    finally:
        couriers.stop(STOP_S_MAX)
        node.close()


_MAINS: Final[dict[str, Callable[[Role], None]]] = {
    "receiver": _receiver,
    "indexer": _indexer,
    "assembler": _assembler,
    "worker": _worker,
    "courier": _courier,
    "scheduler": _scheduler,
}


@dataclass
class _Child:
    role: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    wait_s: float = RESTART_S_MIN
    due: float = 0.0
    restarts: int = field(default=0)


class Supervisor:
    """All roles on one machine, a process each: starts again what ends, slower each time, and stops all in order."""

    def __init__(
        self, settings: Settings, command: Callable[[str], Sequence[str]], roles: Sequence[str] = ROLES
    ) -> None:
        """`command(role)` is the argv of a role's process."""
        self._settings = settings
        self._command = command
        self._children = [_Child(role) for role in roles]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        return {c.role: c.process.pid for c in self._children if c.process is not None}

    def run(self, stop: threading.Event, turned: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set."""
        try:
            while not stop.is_set():
                for child in self._children:
                    self._look_after(child)
                turned()
                stop.wait(0.2)
        finally:
            self._stop_all()

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and (code := child.process.poll()) is not None:
            lived = now - child.started
            child.wait_s = RESTART_S_MIN if lived > HEALTHY_S else min(child.wait_s * 2, RESTART_S_MAX)
            child.due = now + child.wait_s
            child.process = None
            child.restarts += 1
            alarm("role_ended", role=child.role, exit=code, seconds=lived, restarts=child.restarts)
        if child.process is None and now >= child.due:
            child.process = subprocess.Popen(
                self._command(child.role), stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )
            child.started = now

    def _stop_all(self) -> None:
        """Receiver first, so that nothing new comes; then the rest."""
        running = [c for c in self._children if c.process is not None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        deadline = time.monotonic() + STOP_S_MAX
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                event("role.killed", logging.WARNING, role=child.role)
                child.process.kill()
                child.process.wait()


def serve_all(settings: Settings, arguments: Sequence[str]) -> int:
    """`serve` without `--only`: every role in a process of its own. `arguments` are those of this command line that the roles need too."""
    logs.configure(settings.log.level, "serve")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from dicom_node.node import open_node

    watchdog = Watchdog.from_environment()
    open_node(settings, "serve").close()  # the ledger is made once, before the roles look for it
    supervisor = Supervisor(
        settings, lambda role: [sys.executable, "-m", "dicom_node", *arguments, "serve", "--only", role]
    )
    watchdog.ready()
    supervisor.run(stop, watchdog.feed)
    watchdog.stopping()
    return 0
