"""The supervisor's watchdog: READY, WATCHDOG, STATUS and STOPPING to systemd over NOTIFY_SOCKET (sd_notify(3)).

Fed by each finished turn of a role's loop; without a socket everything is a no-op. A lost datagram is no fault of ours.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

FEED_S_MIN: Final = 1.0


class Watchdog:
    """Says how this process is. `feed` may be called as often as one likes: it sends at most once a second."""

    def __init__(self, address: str) -> None:
        """`address`: the value of NOTIFY_SOCKET; "@..." is an abstract socket, "" none at all."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._fed = 0.0
        self._ready = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Watchdog":
        """The supervisor that started this process, if any."""
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def ready(self) -> None:
        """Up and working (told once)."""
        if not self._ready:
            self._ready = True
            self._say("READY=1")

    def feed(self) -> None:
        """A turn ended."""
        now = time.monotonic()
        if now - self._fed >= FEED_S_MIN:
            self._fed = now
            self._say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; no identifiers."""
        self._say(f"STATUS={text.splitlines()[0] if text else ''}")

    def stopping(self) -> None:
        """On its way down."""
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.connect(self._address)
                line.sendall(text.encode())
