"""Drives stomp.py by JSON lines; README.md lists the commands and events."""

import json
import sys
import threading
from urllib.parse import urlsplit

import stomp

write_lock = threading.Lock()


def emit(event, frame=None):
    line = {
        "event": event,
        "headers": dict(frame.headers) if frame else {},
        "body": (frame.body or "") if frame else "",
    }
    with write_lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class Listener(stomp.ConnectionListener):
    def on_connected(self, frame):
        emit("connected", frame)

    def on_message(self, frame):
        emit("message", frame)

    def on_receipt(self, frame):
        emit("receipt", frame)

    def on_error(self, frame):
        emit("error", frame)

    def on_disconnected(self):
        emit("closed")


class Driver:
    def connect(self, url, version, login, passcode, headers=None, heartBeat=(0, 0), binary=False):
        self.version = version
        parts = urlsplit(url)
        options = {"host_and_ports": [(parts.hostname, parts.port)], "reconnect_attempts_max": 1}
        if version != "1.0":
            options["heartbeats"] = tuple(heartBeat)
        if parts.scheme == "ws":
            # The library's WebSocket transport speaks 1.2 only.
            assert version == "1.2", version
            self.connection = stomp.WSConnection(
                ws_path=parts.path, binary_mode=binary, **options
            )
        else:
            kind = {
                "1.0": stomp.Connection10,
                "1.1": stomp.Connection11,
                "1.2": stomp.Connection12,
            }[version]
            self.connection = kind(**options)
        self.connection.set_listener("", Listener())
        self.connection.connect(login, passcode, wait=False, headers=headers or {})

    def subscribe(self, id, destination, ack="auto", headers=None):
        self.connection.subscribe(destination, id=id, ack=ack, headers=headers or {})

    def unsubscribe(self, id, headers=None):
        self.connection.unsubscribe(id=id, headers=headers or {})

    def send(self, destination, body, headers=None):
        self.connection.send(destination, body, headers=headers or {})

    def acknowledge(self, verb, message, headers):
        receipt = (headers or {}).get("receipt")
        transaction = (headers or {}).get("transaction")
        method = getattr(self.connection, verb)
        if self.version == "1.2":
            method(message["ack"], transaction=transaction, receipt=receipt)
        elif self.version == "1.1":
            method(
                message["message-id"],
                message["subscription"],
                transaction=transaction,
                receipt=receipt,
            )
        else:
            method(message["message-id"], transaction=transaction, receipt=receipt)

    def ack(self, message, headers=None):
        self.acknowledge("ack", message, headers)

    def nack(self, message, headers=None):
        self.acknowledge("nack", message, headers)

    def begin(self, transaction):
        self.connection.begin(transaction)

    def commit(self, transaction):
        self.connection.commit(transaction)

    def abort(self, transaction):
        self.connection.abort(transaction)

    def disconnect(self):
        self.connection.disconnect()


def main():
    driver = Driver()
    for line in sys.stdin:
        command = json.loads(line)
        getattr(driver, command.pop("op"))(**command)


if __name__ == "__main__":
    main()
