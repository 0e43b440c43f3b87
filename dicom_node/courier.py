"""Couriers: a thread for each destination, so that none can delay another (promise 6).

One delivery at a time: claim, compare the digest of each file, connect, tell the ledger, send, tell the ledger. What failed before anything went
out counts against the destination's breaker, never against the delivery; a refusal or silence after sending counts against the delivery.
Past its lease, by its own monotonic clock, a courier sends nothing.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from config.errors import NodeError
from config.settings import Ehr, Pacs, Settings
from dicom_node.errors import NoAnswer, NotReached, Refused
from dicom_node.logs import alarm, event
from dicom_node.net.scu import BYTES_S_MIN, Sender
from hl7 import client
from hl7 import errors as hl7_errors
from hl7.ack import AnswerKind
from storage.disk import file_digest
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.rows import DeliveryClaim
from storage.spool import Spool

ERROR_CHARACTERS_MAX: Final = 300


class Corrupt(Exception):
    """A file of a result is not what was written."""


class Channel(Protocol):
    """One way to one destination."""

    name: str

    def send(self, files: Sequence[Path], control_id: str, on_connected: Callable[[], None]) -> str:
        """Send; returns what the peer said. Raises NotReached (nothing went out), Refused, NoAnswer."""


class DicomChannel:
    """C-STORE of a result's objects over one association."""

    def __init__(self, pacs: Pacs, settings: Settings) -> None:
        self.name = pacs.name
        self._peer = pacs
        self._sender = Sender(settings.receive.ae_title, settings.delivery.timeout_s)

    def send(self, files: Sequence[Path], control_id: str, on_connected: Callable[[], None]) -> str:
        """See Channel."""
        outcome = self._sender.store(files, self._peer, on_connected=on_connected)
        return "; ".join((f"{len(outcome.instances)} objects stored", *outcome.warnings))


class MllpChannel:
    """One HL7 message over MLLP."""

    def __init__(self, ehr: Ehr, settings: Settings) -> None:
        self.name = ehr.name
        self._ehr = ehr
        self._timeout_s = settings.delivery.timeout_s

    def send(self, files: Sequence[Path], control_id: str, on_connected: Callable[[], None]) -> str:
        """See Channel."""
        message = files[0].read_bytes()
        try:
            answer = client.send(
                self._ehr.host,
                self._ehr.port,
                message,
                control_id=control_id,
                timeout_s=self._timeout_s,
                on_connected=on_connected,
            )
        except hl7_errors.NotReached as fault:
            raise NotReached(fault.what, fault.which, fault.do) from fault
        except hl7_errors.NoAnswer as fault:
            raise NoAnswer(fault.what, fault.which, fault.do) from fault
        if answer.kind is AnswerKind.ACCEPTED:
            return answer.code
        if answer.kind is AnswerKind.REFUSED:
            raise Refused(
                what=f"{answer.code}: {answer.text}", which="final", do="the message is never sent again unchanged"
            )
        raise Refused(what=f"{answer.code}: {answer.text}", which="retry")


class Courier:
    """The courier of one destination; `turn` sends what is due and returns how many deliveries it handled."""

    def __init__(
        self,
        channel: Channel,
        settings: Settings,
        spool: Spool,
        ledger: Ledger,
        *,
        owner: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._channel = channel
        self._rules = settings.delivery
        self._spool = spool
        self._ledger = ledger
        self._owner = owner
        self._clock = clock

    def turn(self) -> int:
        """Handle one delivery."""
        claim = self._ledger.claim_delivery(self._channel.name, self._owner, self._rules.lease_s, self._clock())
        if claim is None:
            return 0
        if claim.overdue:
            alarm(
                "not_waited_longer",
                delivery=claim.delivery.number,
                destination=self._channel.name,
                why="the destination that it follows has not taken its part in time",
            )
        try:
            if claim.delivery.attempts >= self._rules.attempts_max:  # each cut off: by a dead courier, or by its lease
                self._bury(claim, claim.delivery.last_error, "too many attempts", None)
            else:
                self._deliver(claim)
        except StorageError as lost:
            event("delivery.lost", logging.WARNING, delivery=claim.delivery.number, why=lost.what)
        return 1

    def _deliver(self, claim: DeliveryClaim) -> None:
        started = time.monotonic()
        number = claim.delivery.number

        def connected() -> None:
            if time.monotonic() - started > self._rules.lease_s:
                raise NotReached(what="connecting took longer than the lease", which=self._channel.name)
            # as long as a slow line may take for these files, so that another does not send them beside us
            lease_s = self._rules.lease_s + sum(self._rules.timeout_s + f.stat().st_size / BYTES_S_MIN for f in files)
            if not self._ledger.extend_delivery(claim, lease_s, self._clock()):
                raise NotReached(what="the lease was lost while connecting", which=self._channel.name)
            self._ledger.connected(claim, self._clock())

        files: list[Path] = []
        try:
            files += self._files(claim)
            said = self._channel.send(files, claim.delivery.control_id, connected)
        except Corrupt as corrupt:
            self._ledger.give_up(claim, str(corrupt), self._clock(), may_have=False)
            alarm("delivery_dead", delivery=number, destination=self._channel.name, why=str(corrupt))
        except NotReached as fault:
            self._not_reached(claim, fault)
        except (Refused, NoAnswer) as fault:
            self._ledger.breaker_ok(self._channel.name)
            self._failed(claim, fault)
        except StorageError:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it was costs this delivery an attempt, and no other anything
            self._failed(claim, fault)
        else:
            self._ledger.breaker_ok(self._channel.name)
            state = self._ledger.answered(claim, said, self._clock())
            event(
                "delivery.sent",
                study=claim.delivery.study_number,
                delivery=number,
                destination=self._channel.name,
                status=said,
                state=state,
                seconds=time.monotonic() - started,
            )

    def _files(self, claim: DeliveryClaim) -> list[Path]:
        """The files, each with the digest that it was written with. Raises Corrupt."""
        paths = []
        for file in claim.delivery.files:
            path = self._spool.studies.parent / claim.folder / file.path
            try:
                digest = file_digest(path)
            except OSError as fault:
                raise Corrupt(f"a file of the result cannot be read: {fault.strerror}") from fault
            if digest != file.sha256:
                raise Corrupt("a file of the result is not what was written; `dicom-node requeue` makes it again")
            paths.append(path)
        return paths

    def _not_reached(self, claim: DeliveryClaim, fault: NotReached) -> None:
        now = self._clock()
        failures = self._ledger.breaker(self._channel.name).failures
        wait_s = self._wait_s(failures)
        failures = self._ledger.breaker_failed(self._channel.name, now + timedelta(seconds=wait_s), now)
        self._ledger.back_off(claim, now + timedelta(seconds=wait_s), _short(str(fault)), counted=False, now=now)
        level = logging.ERROR if failures in (1, 5) or failures % 50 == 0 else logging.INFO
        event(
            "alarm.not_reached" if level == logging.ERROR else "delivery.not_reached",
            level,
            destination=self._channel.name,
            why=_short(fault.what),
            count=failures,
        )

    def _failed(self, claim: DeliveryClaim, fault: Exception) -> None:
        now, attempts = self._clock(), claim.delivery.attempts + 1
        final = isinstance(fault, Refused) and fault.which == "final"
        # None: the peer may have it if it had connected
        may_have = isinstance(fault, NoAnswer) if isinstance(fault, Refused | NoAnswer) else None
        error = _short(str(fault.what) if isinstance(fault, NodeError) else f"{type(fault).__name__}: {fault}")
        # what a peer says may name a patient: it is kept in the ledger, never logged
        if final or attempts >= self._rules.attempts_max:
            self._bury(claim, error, "refused for good" if final else "too many attempts", may_have)
            return
        self._ledger.back_off(
            claim,
            now + timedelta(seconds=self._wait_s(attempts - 1)),
            error,
            counted=True,
            now=now,
            may_have=may_have,
        )
        event(
            "delivery.retry",
            logging.WARNING,
            study=claim.delivery.study_number,
            delivery=claim.delivery.number,
            destination=self._channel.name,
            attempts=attempts,
            error=type(fault).__name__,
        )

    def _bury(self, claim: DeliveryClaim, error: str, why: str, may_have: bool | None) -> None:
        self._ledger.give_up(claim, error, self._clock(), may_have=may_have)
        alarm(
            "delivery_dead",
            study=claim.delivery.study_number,
            delivery=claim.delivery.number,
            destination=self._channel.name,
            why=why,
        )

    def _wait_s(self, failures: int) -> float:
        """Doubled each time, with jitter so that many do not come back at once."""
        wait: float = min(self._rules.backoff_s_max, self._rules.backoff_s_min * 2 ** min(failures, 20))
        return wait * random.uniform(0.8, 1.2)


def _short(text: str) -> str:
    return " ".join(text.split())[:ERROR_CHARACTERS_MAX]


def channels_of(settings: Settings) -> list[Channel]:
    """A channel for each configured destination."""
    return [*(DicomChannel(p, settings) for p in settings.pacs), *(MllpChannel(e, settings) for e in settings.ehr)]


class Couriers:
    """All couriers of a process, a thread each. A courier that fails for good takes the process down, and its supervisor starts it again."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        ledger: Callable[[], Ledger],
        *,
        owner: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._poll_s = settings.delivery.poll_s
        self._stop = threading.Event()
        self.failed: BaseException | None = None
        self._turned: dict[str, float] = {}
        self._threads = [
            threading.Thread(
                target=self._run,
                name=f"courier-{channel.name}",
                daemon=True,
                args=(
                    channel.name,
                    Courier(channel, settings, spool, ledger(), owner=f"{owner}/{channel.name}", clock=clock),
                ),
            )
            for channel in channels_of(settings)
        ]

    def start(self) -> None:
        """Start all."""
        for thread in self._threads:
            thread.start()

    def stop(self, wait_s: float) -> None:
        """Finish what is on the wire, start nothing more."""
        self._stop.set()
        deadline = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def oldest_turn_s(self) -> float:
        """Seconds since the destination that turned longest ago; for the watchdog."""
        return max((time.monotonic() - at for at in self._turned.values()), default=0.0)

    def _run(self, name: str, courier: Courier) -> None:
        try:
            while not self._stop.is_set():
                self._turned[name] = time.monotonic()
                if not courier.turn():
                    self._stop.wait(self._poll_s)
        except BaseException as fault:  # noqa: BLE001 - the process must end, whatever it was
            self.failed = fault
            why = fault.what if isinstance(fault, NodeError) else ""  # other texts may hold a UID
            event("courier.failed", logging.ERROR, destination=name, error=type(fault).__name__, why=why)
