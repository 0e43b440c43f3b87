"""hl7apy's own MLLP server in a process of its own; it closes the connection after every answer.

    hl7apy_receiver.py FOLDER      prints {"event": "listening", "port": ...}, then one line a message
"""

import json
import sys
from pathlib import Path

from hl7apy.core import Message
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message


def say(**fact: object) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


class Keep(AbstractHandler):  # type: ignore[misc]
    """Keeps what it parsed, answers AA."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder

    def reply(self) -> str:
        received = parse_message(self.incoming_message)
        control_id = received.msh.msh_10.value
        path = self.folder / f"{control_id}.hl7"
        path.write_bytes(self.incoming_message.encode())
        answer = Message("ACK", version="2.5.1")
        answer.msh.msh_9 = "ACK^R01^ACK"
        answer.msa.msa_1 = "AA"
        answer.msa.msa_2 = control_id
        patient = received.oru_r01_patient_result.oru_r01_patient.pid.pid_3.value
        say(event="message", control_id=control_id, patient=patient, file=str(path))
        return str(answer.to_mllp())


def main() -> None:
    server = MLLPServer("127.0.0.1", 0, {"ORU^R01^ORU_R01": (Keep, Path(sys.argv[1]))})
    say(event="listening", port=server.server_address[1])
    server.serve_forever()


if __name__ == "__main__":
    main()
