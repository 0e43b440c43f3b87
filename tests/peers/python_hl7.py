"""Run by Debian's own Python (`/usr/bin/python3 -I`), which has the package python3-hl7; never imported by us.

The import name `hl7` is also that of our package, so the independent parser and receiver live in their own process.

    python_hl7.py parse < message          one JSON object: the message as python-hl7 sees it
    python_hl7.py receive FOLDER ANSWERS   an MLLP receiver

ANSWERS are comma separated, one a message, the last one stays: AA AE AR CA CE CR (that code in MSA-1), `wrong-id`
(AA for another control ID), `silent` (no answer, the connection stays open), `close` (no answer, the connection is
closed), `garbage` (a block that is no HL7). The receiver prints one JSON line when it listens and one for each message,
which it has by then written to FOLDER as it came.
"""

import asyncio
import json
import sys
from pathlib import Path

import hl7
import hl7.mllp

BLOCK_BYTES_MAX = 2**24  # the default of 64 KiB never lets a PDF through


def as_json(message: hl7.Message) -> dict[str, object]:
    """Segments in order; `fields[n]` is HL7's field n: repetitions of components of subcomponents, unescaped;
    `raw[n]` as it came.
    """

    def parts(field: object) -> list[list[list[str]]]:
        if not isinstance(field, hl7.Field):
            return [[[message.unescape(str(field))]]]
        found = []
        for repetition in field:
            components = repetition if isinstance(repetition, hl7.Repetition) else [repetition]
            found.append(
                [[message.unescape(str(s)) for s in (c if isinstance(c, hl7.Component) else [c])] for c in components]
            )
        return found

    segments = []
    for segment in message:
        name = str(segment[0])
        fields = [parts(f) for f in segment]
        if name == "MSH":  # its separators are no text to unescape or split
            fields[1], fields[2] = [[[str(segment[1])]]], [[[str(segment[2])]]]
        segments.append({"name": name, "fields": fields, "raw": [str(f) for f in segment]})
    return {"segments": segments}


def say(**fact: object) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


async def receive(folder: Path, answers: list[str]) -> None:
    count = 0

    async def serve(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                block = await reader.readblock()
                count += 1
                n, answer = count, answers[min(count, len(answers)) - 1]
                path = folder / f"{n:04d}.hl7"
                path.write_bytes(block)
                message = hl7.parse(block.decode("utf-8"))
                control_id = str(message.extract_field("MSH", 1, 10))
                if answer == "garbage":
                    writer.writeblock(b"no such thing")
                elif answer == "wrong-id":
                    other = message.create_ack("AA")
                    other.segment("MSA")[2] = "NOT-" + control_id
                    writer.writemessage(other)
                elif answer not in ("silent", "close"):
                    writer.writemessage(message.create_ack(answer))
                await writer.drain()
                say(event="message", n=n, answer=answer, control_id=control_id, file=str(path))
                if answer == "close":
                    break
        except asyncio.IncompleteReadError:
            pass  # the sender hung up
        finally:
            writer.close()

    server = await hl7.mllp.start_hl7_server(serve, "127.0.0.1", 0, limit=BLOCK_BYTES_MAX, encoding="utf-8")
    say(event="listening", port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    if sys.argv[1] == "parse":
        message = sys.stdin.buffer.read()
        sys.stdout.write(json.dumps(as_json(hl7.parse(message.decode("utf-8")))))
    else:
        asyncio.run(receive(Path(sys.argv[2]), sys.argv[3].split(",")))


if __name__ == "__main__":
    main()
