"""Runs the decode vectors through the parser of stomp.py and prints what it makes of each, as JSON lines.

Usage: python stomp_py.py PATH/TO/vectors.jsonl
"""

import json
import sys

from stomp.exception import ConnectionClosedException
from stomp.transport import BaseTransport
from stomp.utils import parse_frame


class Chunks(BaseTransport):
    """The transport's own splitting into frames, fed by hand."""

    def __init__(self, chunks):
        super().__init__()
        self.chunks = list(chunks)
        self.running = True

    def receive(self):
        return self.chunks.pop(0)

    def is_connected(self):
        return True


def run(vector):
    """What the parser makes of the vector's chunks."""
    events = []
    transport = Chunks(bytes.fromhex(chunk) for chunk in vector["chunks_hex"])
    try:
        while transport.chunks:
            for raw in transport._BaseTransport__read():
                frame = parse_frame(raw)
                if frame is None:
                    continue
                if frame.cmd == "heartbeat":
                    events.append({"eol": True})
                    continue
                body = frame.body or b""
                if isinstance(body, str):
                    body = body.encode()
                events.append(
                    {"frame": frame.cmd, "headers": dict(frame.headers), "body_hex": body.hex()}
                )
    except ConnectionClosedException:
        pass  # The chunks are used up: it waits for more.
    except Exception as error:  # noqa: BLE001: whatever it is, it is the result
        events.append({"error": f"{type(error).__name__}: {error}"[:60]})
    return events


with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        vector = json.loads(line)
        if vector["kind"] == "decode":
            print(json.dumps({"id": vector["id"], "events": run(vector)}, ensure_ascii=False))
