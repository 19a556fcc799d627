"""A client's own webhook receiver: it checks each signature and remembers what came."""

import base64
import hmac
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, override


@dataclass
class Received:
    """What the receiver has: each event once by its id, and what was wrong."""

    secret: str = ""
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    deliveries: int = 0
    bad_signatures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def types(self) -> Counter[str]:
        with self.lock:
            return Counter(str(event["type"]) for event in self.events.values())

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Check the signature as Standard Webhooks 1.0.0 says; return the HTTP status."""
        id_, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        mac = hmac.digest(key, f"{id_}.{timestamp}.".encode() + body, sha256)
        expected = f"v1,{base64.b64encode(mac).decode()}"
        signatures = headers.get("webhook-signature", "").split()
        with self.lock:
            self.deliveries += 1
            if not any(hmac.compare_digest(expected, found) for found in signatures):
                self.bad_signatures += 1
                return 401
            self.events.setdefault(id_, json.loads(body))
        return 204


@contextmanager
def receiver() -> Iterator[tuple[str, Received]]:
    """Listen on loopback; yield the URL to register and what was received."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(received.take(headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal: the story tells what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks", received
    finally:
        server.shutdown()
        server.server_close()
