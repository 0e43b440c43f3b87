"""Headers read by a bounded child process: a file that hurts its reader hurts nobody else."""

import logging
from pathlib import Path

from dicom_node.errors import ChildDied, UnreadableHeader
from dicom_node.logs import event
from dicom_node.processes import LineChild
from inference.headers import Header

HEADER_MIB_MAX = 2048


class HeaderChild:
    """One resident child; a file gets `attempts_max` of them."""

    def __init__(self, timeout_s: float, attempts_max: int = 3) -> None:
        self._timeout_s = timeout_s
        self._attempts_max = attempts_max
        self._child: LineChild | None = None

    def read(self, path: Path) -> Header:
        """The header of a file. Raises UnreadableHeader."""
        for attempt in range(1, self._attempts_max + 1):
            try:
                return self._ask(path)
            except ChildDied as died:
                self.close()
                event("header.child_died", logging.WARNING, why=died.what, attempts=attempt)
        raise UnreadableHeader("kills_reader", f"reading it ended its process {self._attempts_max} times")

    def _ask(self, path: Path) -> Header:
        if self._child is None or not self._child.alive():
            self.close()
            self._child = LineChild("inference.headers", "--mib", str(HEADER_MIB_MAX))
        self._child.send(str(path))
        answer = self._child.receive(self._timeout_s)
        if answer is None:
            self.close()
            raise ChildDied(what=f"silent for {self._timeout_s:g} s", which="inference.headers")
        if "error" in answer:
            raise UnreadableHeader(str(answer["error"]["code"]), str(answer["error"]["text"]))
        return Header.from_json(answer["header"])

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None
