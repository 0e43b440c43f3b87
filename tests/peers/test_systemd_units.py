"""The units: one for each role, all equally closed, and systemd itself finds nothing wrong with them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.service import ROLES

UNITS = Path(__file__).resolve().parents[2] / "systemd"
WITH_NETWORK = ("receiver", "courier")
EXPOSURE_MAX = 20  # tenths, on systemd's own scale from 0 to 10
CLOSED = {
    "User": "dicom-node",
    "UMask": "0077",
    "StateDirectory": "dicom-node",
    "StateDirectoryMode": "0700",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "Type": "notify",
    "Restart": "always",
}


def values(role: str) -> dict[str, list[str]]:
    """Every assignment of a unit; a key may stand more than once."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / f"dicom-node-{role}.service").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_every_role_has_a_unit_and_the_target_wants_each() -> None:
    assert {p.name for p in UNITS.glob("*.service")} == {f"dicom-node-{role}.service" for role in ROLES}
    wanted = re.findall(r"dicom-node-(\w+)\.service", (UNITS / "dicom-node.target").read_text(encoding="utf-8"))
    assert sorted(wanted) == sorted(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_unit_starts_its_role_and_is_closed(role: str) -> None:
    unit = values(role)
    assert unit["ExecStart"] == [
        f"/opt/dicom-node/bin/dicom-node --config /etc/dicom-node/config.toml serve --only {role}"
    ]
    assert {key: unit[key][0] for key in CLOSED} == CLOSED
    assert int(unit["WatchdogSec"][0]) >= 60


@pytest.mark.parametrize("role", ROLES)
def test_only_roles_with_sockets_have_a_network(role: str) -> None:
    unit = values(role)
    assert ("PrivateNetwork" in unit) == (role not in WITH_NETWORK)
    families = unit["RestrictAddressFamilies"][0].split()
    assert families == (["AF_UNIX", "AF_INET", "AF_INET6"] if role in WITH_NETWORK else ["AF_UNIX"])


def test_only_the_worker_may_make_code_and_see_devices() -> None:
    for role in ROLES:
        assert ("MemoryDenyWriteExecute" in values(role)) == (role != "worker")
        assert ("PrivateDevices" in values(role)) == (role != "worker")


@pytest.fixture
def copied(tmp_path: Path) -> list[str]:
    """The units with a program that is there, so that systemd has nothing to say of it."""
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.target")):
        text = unit.read_text(encoding="utf-8").replace("/opt/dicom-node/bin/dicom-node", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return sorted(map(str, tmp_path.iterdir()))


@pytest.mark.peer
def test_systemd_finds_no_fault(copied: list[str], peer_program: Callable[[str], str], tmp_path: Path) -> None:
    done = subprocess.run(
        [peer_program("systemd-analyze"), "verify", "--man=no", *copied], capture_output=True, text=True
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "dicom-node" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.peer
def test_systemd_sees_a_planted_fault(copied: list[str], peer_program: Callable[[str], str]) -> None:
    unit = Path(copied[0])
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strictly"))
    done = subprocess.run(
        [peer_program("systemd-analyze"), "verify", "--man=no", *copied], capture_output=True, text=True
    )
    assert "strictly" in done.stdout + done.stderr


@pytest.mark.peer
@pytest.mark.parametrize("role", ROLES)
def test_systemd_calls_every_unit_safe(role: str, copied: list[str], peer_program: Callable[[str], str]) -> None:
    unit = next(path for path in copied if role in path)
    command = [peer_program("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("role", [role for role in ROLES if role != "worker"])
def test_a_role_loads_where_no_code_may_be_made(role: str) -> None:
    """What MemoryDenyWriteExecute= asks of the kernel (Linux 6.3 and later; older ones say no and the test goes on)."""
    program = f"import ctypes; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); import dicom_node.service, dicom_node.node; import dicom_node.{role}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
