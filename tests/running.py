"""A node as its users run it: `dicom-node serve` in processes of its own, asked through its command line alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.peers.tools import free_port

QUICK = {
    "assembly": {"proof_quiet_s": 0.4, "quiet_s": 3, "aborted_quiet_s": 4, "wait_s_max": 60, "sweep_s": 0.2},
    "study": {"quiet_s": 0.5},
    "index": {"poll_s": 0.05},
    "read": {"poll_s": 0.1, "lease_s": 6, "backoff_s": 0.5},
    "delivery": {"poll_s": 0.1, "backoff_s_min": 0.3, "backoff_s_max": 2, "timeout_s": 10, "lease_s": 20},
    "disk": {"free_mib_min": 64, "used_max": 0.999, "alarm_used": 0.999, "reserve_mib": 32},
}


def toml(tables: dict[str, Any]) -> str:
    """Settings as TOML; lists of tables become [[...]]."""
    lines: list[str] = []
    for name, value in tables.items():
        for table in value if isinstance(value, list) else [value]:
            lines.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(v)}" for key, v in table.items()]
    return "\n".join(lines) + "\n"


class RunningNode:
    """`with RunningNode(folder, pacs=..., ehr=...) as node`: started, ready, stopped by SIGTERM."""

    def __init__(
        self,
        folder: Path,
        *,
        pacs: Sequence[dict[str, Any]] = (),
        ehr: Sequence[dict[str, Any]] = (),
        deliver: bool = True,
        **tables: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.ae_title = "NODNODE"
        self.config = folder / "config.toml"
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "site": {"timezone": "Europe/Zurich", "assigning_authority": "HOSP", "allow_unvalidated": True},
            "paths": {"state": str(folder / "state")},
            "receive": {"ae_title": self.ae_title, "host": "127.0.0.1", "port": self.port, "any_calling_ae": True},
            "select": {"age_h_max": 0, "phantoms": True},
            **{name: dict(values) for name, values in QUICK.items()},
        }
        if deliver:
            settings["delivery"] |= {"enabled": True, "intended_use": "test"}
        for name, values in tables.items():
            settings[name] = {**settings.get(name, {}), **values}
        if pacs:
            settings["pacs"] = list(pacs)
        if ehr:
            settings["ehr"] = list(ehr)
        self.config.write_text(toml(settings))
        self.process: subprocess.Popen[bytes] | None = None
        self.log_file = folder / "node.log"

    def start(self, *, role: str | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start all roles under one process, or one role alone."""
        command = [
            sys.executable,
            "-m",
            "dicom_node",
            "--config",
            str(self.config),
            "serve",
            *(["--only", role] if role else []),
        ]
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        if role is None:
            self.process = process
        return process

    def __enter__(self) -> Self:
        self.start()
        self.until(lambda: self.listening(), "the receiver to listen")
        return self

    def listening(self) -> bool:
        """Whether the receiver's port takes connections."""
        import socket

        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(40)
        self.process = None

    def role_pids(self, role: str) -> list[int]:
        """Process ids of one role, from /proc."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if str(self.config).encode() in words and role.encode() in words and b"--only" in words:
                    found.append(int(entry.name))
        return found

    def kill_role(self, role: str) -> None:
        """kill -9 of one role; returns once it runs again as another process."""
        pids = self.role_pids(role)
        assert pids, f"no process of role {role}"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.until(lambda: (now := self.role_pids(role)) and not set(now) & set(pids), f"{role} to run again")

    def command(self, *arguments: str, expect: int | None = 0) -> str:
        """Run `dicom-node ...`; returns its output. `expect`: the exit code, None for any."""
        command = [sys.executable, "-m", "dicom_node", "--config", str(self.config), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert expect is None or done.returncode == expect, (
            f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout + done.stderr

    def why(self, study: str) -> dict[str, Any] | None:
        """`status --why STUDY --json`; None while the node knows no such study."""
        done = subprocess.run(
            [sys.executable, "-m", "dicom_node", "--config", str(self.config), "status", "--why", study, "--json"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if not done.stdout.startswith("{"):  # no such study, or the ledger is being made again
            return None
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 120) -> Any:
        """The first true answer; what was waited for and the end of the log otherwise."""
        end = time.monotonic() + timeout_s
        while True:
            if answer := condition():
                return answer
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the node ended while waiting for {what}\n{self.log()[-3000:]}")
            if time.monotonic() > end:
                raise AssertionError(f"waited {timeout_s:g} s for {what}\n{self.log()[-4000:]}")
            time.sleep(0.1)

    def until_state(self, study: str, *states: str, revision: int = 0, timeout_s: float = 180) -> dict[str, Any]:
        """The story of a study once it is in one of the states (and has at least this revision)."""

        def there() -> dict[str, Any] | None:
            story = self.why(study)
            return (
                story
                if story and story["study"]["state"] in states and story["study"]["revision"] >= revision
                else None
            )

        story: dict[str, Any] = self.until(
            there, f"study to be {' or '.join(states)} at revision {revision}", timeout_s
        )
        return story

    def log(self) -> str:
        """Everything that the roles logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
