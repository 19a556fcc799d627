"""
A receiver of webhooks as a process of its own, which can be killed and come back with its notes.

    python far_side.py <port> <file of notes>

The path says how it behaves. Each request is noted before it is answered, as a line of JSON.
"""

import base64
import contextlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import override

ODD_BODY = b"<script>alert(1)</script>\x00\xff"

notes = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
seen: set[tuple[str, str]] = set()
known = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        message_id = self.headers["webhook-id"]
        body = self.rfile.read(int(self.headers["content-length"]))
        note = {
            "path": self.path,
            "id": message_id,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": base64.b64encode(body).decode(),
        }
        os.write(notes, (json.dumps(note) + "\n").encode())
        with known:
            self.is_new = (self.path, message_id) not in seen
            seen.add((self.path, message_id))
        behaviour, *details = self.path.strip("/").split("/")
        BEHAVIOURS.get(behaviour, Handler.answer_well)(self, *details)

    def answer_well(self, *_: str) -> None:
        self.answer(200)

    def answer_late(self, seconds: str, *_: str) -> None:
        time.sleep(float(seconds))
        self.answer(200)

    def fail(self, *_: str) -> None:
        self.answer(500)

    def fail_once(self, *_: str) -> None:
        self.answer(500 if self.is_new else 200)

    def be_gone(self, *_: str) -> None:
        self.answer(410)

    def send_elsewhere(self, *_: str) -> None:
        self.answer(302, location="/followed")

    def answer_oddly(self, *_: str) -> None:
        self.answer(200, ODD_BODY)

    def never_end(self, *_: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x" * 65536)

    def hang(self, *_: str) -> None:
        # Until the other side hangs up.
        self.rfile.read(1)
        self.close_connection = True

    def answer(self, status: int, body: bytes = b"ok", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the notes say more."""


BEHAVIOURS = {
    "slow": Handler.answer_late,
    "fails": Handler.fail,
    "flaky": Handler.fail_once,
    "gone": Handler.be_gone,
    "moved": Handler.send_elsewhere,
    "odd": Handler.answer_oddly,
    "endless": Handler.never_end,
    "hangs": Handler.hang,
}


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Think nothing of clients that hang up."""


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
