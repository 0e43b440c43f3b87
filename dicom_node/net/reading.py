"""Reading PDUs from a socket that we don't trust: whole at once, in time, and never more than we can hold.

Takes the place of `recv` of pynetdicom's socket wrapper, which it calls for six bytes of a PDU's header and then for
its body. That one reads 4096 bytes a call, has no time limit, and takes a length of 4 GB at its word.
"""

import socket
import time
from typing import Final

PDU_BYTES_MAX: Final = 2**20
"""Longest PDU of any kind: 128 contexts of 45 syntaxes make an A-ASSOCIATE-RQ of about 200 KB."""
_HEADER_BYTES_MAX: Final = 2**20
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class TooMuch(OSError):
    """The peer sends more than we take; its connection ends."""


class PduReader:
    """Counts what one association brings.

    `taken` is written by the thread that reads, `served` by the one that files: what lies between is in memory, and
    bounded, also when a peer sends the next object before the answer to the last.
    """

    def __init__(self, line: socket.socket, *, pdu_bytes_max: int, held_bytes_max: int, timeout_s: float) -> None:
        self._line = line
        self._pdu_bytes_max = max(pdu_bytes_max, PDU_BYTES_MAX)
        self._held_bytes_max = held_bytes_max
        self._timeout_s = timeout_s
        self.taken = 0
        self.served = 0
        self.fault = ""
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.settimeout(timeout_s)  # for sends, too: an accepted socket has no limit of its own

    def recv(self, count: int) -> bytearray:
        """`count` bytes; fewer when the peer closed.

        Raises:
            TimeoutError: the peer began a PDU and did not end it in time.
            TooMuch: a PDU, or an object, larger than we take.
        """
        if count > self._pdu_bytes_max:
            raise self._too_much(f"a PDU of {count} bytes, at most {self._pdu_bytes_max} are taken")
        if self.taken + count - self.served > self._held_bytes_max:
            raise self._too_much(f"an object of more than {self._held_bytes_max // 2**20} MiB")
        buffer = bytearray(count)
        view = memoryview(buffer)
        got, end = 0, time.monotonic() + self._timeout_s
        while got < count:
            read = self._line.recv_into(view[got:])
            if read == 0:
                break
            got += read
            if got < count and time.monotonic() > end:
                raise TimeoutError(f"a PDU took longer than {self._timeout_s:g} s")
        if _QUICKACK is not None:
            self._line.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # a sender with Nagle waits 40 ms for it otherwise
        self.taken += got
        return buffer if got == count else buffer[:got]

    def filed(self, size: int) -> None:
        """An object of `size` bytes left memory. What was read beside it was headers, unless it is far more."""
        beside = self.taken - self.served - size
        self.served += size + (beside if beside <= size // 64 + _HEADER_BYTES_MAX else 0)

    def _too_much(self, what: str) -> TooMuch:
        self.fault = what
        return TooMuch(what)
