"""A folder of files to a C-STORE SCP: what is refused costs itself alone."""

import sys
from pathlib import Path

from dicom_node.net.send import Address, send_files
from tests.peers.tools import Peer, free_port
from tests.receivers import write_object

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
# in a process of its own: here, unrestricted storage is switched on for all
TAKES_CT_ALONE = """
import sys
from pynetdicom import AE, evt
ae = AE("PACS")
ae.add_supported_context(sys.argv[1])
ae.start_server(("127.0.0.1", int(sys.argv[2])), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)])
print("ready", flush=True)
sys.stdin.read()
import time
time.sleep(60)
"""


def test_a_class_that_the_peer_does_not_take_costs_only_its_own_files(tmp_path: Path) -> None:
    files = [
        write_object(tmp_path / f"{n}", b"\x08\x00\x60\x00CS\x02\x00CT", uid=f"1.2.3.{n}", sop_class=CT if n % 2 else MR)
        for n in range(6)
    ]
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    port = free_port()
    with Peer([sys.executable, "-c", TAKES_CT_ALONE, CT, str(port)]) as peer:
        peer.line(lambda line: line.strip() == "ready", "the PACS to listen")
        sent = send_files([*files, tmp_path / "rubbish"], Address("PACS", "127.0.0.1", port), calling_ae="TEST")
    assert (sent.stored, sent.refused, sent.skipped) == (3, 3, 1)
