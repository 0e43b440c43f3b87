"""Child processes that talk in JSON lines: started by exec, watched, and killed with their whole group.

A child dies with its parent (PR_SET_PDEATHSIG on Linux), so a killed keeper leaves no reader behind that writes on.
"""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from dicom_node.errors import ChildDied

_PR_SET_PDEATHSIG: Final = 1
_LINE_BYTES_MAX: Final = 64 * 2**20
_LAST_WORDS_MAX: Final = 2000


def die_with_parent() -> None:
    """For preexec_fn: this process is killed when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class LineChild:
    """One child process; `send` a JSON line, `receive` one or None after the timeout."""

    def __init__(self, module: str, *arguments: str, cwd: Path | None = None) -> None:
        self.what = module
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
            env=environment,
            cwd=cwd,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
        self._buffer = bytearray()
        self._last_words = b""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def rss_mib(self) -> float:
        """Resident memory in MiB; 0 when the child is gone."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.NoSuchProcess:
            return 0.0

    def send(self, line: dict[str, Any] | str) -> None:
        """Write one line; raises ChildDied when nobody reads it."""
        text = line if isinstance(line, str) else json.dumps(line)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode("utf-8", "surrogateescape") + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as gone:
            raise self._died() from gone

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next JSON line, or None when none came in time. Raises ChildDied at the end of the output."""
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._buffered_line()
            if line is not None:
                return line
            left = deadline - time.monotonic()
            ready = self._selector.select(left) if left > 0 else []
            if not ready:
                return None
            self._hear_last_words()
            assert self._process.stdout is not None
            if all(key.fileobj is not self._process.stdout for key, _ in ready):
                continue
            piece = self._process.stdout.read(2**16)
            if piece is None:
                continue
            if not piece or len(self._buffer) > _LINE_BYTES_MAX:
                raise self._died()
            self._buffer += piece

    def _buffered_line(self) -> dict[str, Any] | None:
        """The first whole JSON object of the buffer; lines that are none (a library's chatter) are dropped."""
        while (end := self._buffer.find(b"\n")) >= 0:
            raw = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            try:
                value = json.loads(raw)
            except ValueError:
                continue
            if isinstance(value, dict):
                return value
        return None

    def _hear_last_words(self) -> None:
        """Take what it wrote to its standard error, and keep the end of it: nobody else reads that pipe."""
        pipe = self._process.stderr
        while pipe is not None and pipe in self._selector.get_map() and (piece := pipe.read(2**16)) is not None:
            self._last_words = (self._last_words + piece)[-_LAST_WORDS_MAX:]
            if not piece:
                self._selector.unregister(pipe)

    def _died(self) -> ChildDied:
        self.kill()
        self._hear_last_words()
        code = self._process.returncode
        how = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory, or killed)"
        lines = self._last_words.decode("utf-8", "replace").strip().splitlines()
        # a traceback may name files or people: it is for the ledger (`do`), never for a log line (`what`)
        return ChildDied(what=how, which=self.what, do=f"its last words: {lines[-1][:300]}" if lines else "")

    def kill(self) -> None:
        """End the child and all that it started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill, and give back the pipes."""
        self.kill()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
