"""Whether destinations can be reached: a C-ECHO for a PACS, a TCP connection for an EHR."""

import socket
from collections.abc import Iterator

from config.errors import NodeError
from config.settings import Settings
from dicom_node.net.scu import Sender


def reach(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and what is wrong ("" for nothing) of each destination."""
    sender = Sender(settings.receive.ae_title, min(settings.delivery.timeout_s, 10))
    for pacs in settings.pacs:
        try:
            sender.echo(pacs)
            yield pacs.name, ""
        except NodeError as fault:
            yield pacs.name, str(fault)
    for ehr in settings.ehr:
        try:
            with socket.create_connection((ehr.host, ehr.port), timeout=min(settings.delivery.timeout_s, 10)):
                yield ehr.name, ""
        except OSError as fault:
            yield ehr.name, f"no connection to {ehr.host}:{ehr.port}: {fault.strerror or fault}"
