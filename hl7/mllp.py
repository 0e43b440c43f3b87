"""MLLP: bytes to frames and back; no socket (HL7 2.5.1 appendix C, transport specification MLLP release 1).

A frame is 0x0B, the message, 0x1C 0x0D. `Deframer` takes whatever a read brought: part of a frame, several frames,
bytes that belong to none. What lies outside frames is counted, never an error: some peers send line ends between.
"""

from typing import Final

from hl7.errors import FrameError

START: Final = b"\x0b"
END: Final = b"\x1c\x0d"
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024


def frame(message: bytes) -> bytes:
    """The message between start and end bytes. Raises FrameError when it holds one of them (none of ours does)."""
    if START in message or END[:1] in message:
        raise FrameError("the message holds 0x0B or 0x1C, MLLP's own bytes", do="strip control characters")
    return START + message + END


class Deframer:
    """Reassembles messages from the chunks of one connection.

    A second start byte inside an unfinished frame begins anew: the first was broken off. `stray` counts bytes outside
    frames. At most `bytes_max` bytes are held; a longer frame raises FrameError, and the connection should be closed.
    """

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._held = bytearray()
        self._bytes_max = bytes_max
        self.stray = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that this chunk completes, in order, without their framing bytes."""
        searched = max(0, len(self._held) - 1)  # an end may be split over two chunks
        self._held += chunk
        messages = []
        while (end := self._held.find(END, searched)) >= 0:
            before, start, message = self._held[:end].rpartition(START)
            del self._held[:end + len(END)]
            searched = 0
            self.stray += len(before) if start else end
            if start:
                messages.append(bytes(message))
        if len(self._held) > self._bytes_max:
            raise FrameError(f"{len(self._held)} bytes and no end of the frame; at most {self._bytes_max} are taken",
                             do="close the connection; if real messages are so long, raise the bound")
        return messages

    def rest(self) -> bytes:
        """What is held and no frame yet, without a start byte and a lone 0x1C: for peers that leave out framing."""
        return bytes(self._held).rpartition(START)[2].rstrip(END)
