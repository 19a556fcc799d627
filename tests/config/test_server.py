"""The HTTP server on the wire: which requests it reads in one way only, and how it ends."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest
from django.db import transaction

from apps.ledger.models import Balance, JournalEntry
from tests.config.test_express import Both
from tests.support import free_port, running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with serving(processes=1) as started:
        yield started


@contextlib.contextmanager
def serving(*, processes: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the server with so many processes; yield it and its port once one of them answers."""
    port = free_port()
    with running(
        "-m", "config.server",
        KASSA_ROLE="web", KASSA_BIND=f"127.0.0.1:{port}", WEB_CONCURRENCY=str(processes),
    ) as process:  # fmt: skip
        wait_until(lambda: answers(port), seconds=60)
        yield process, port


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def talk(port: int, raw: bytes, *, seconds: float = 5) -> tuple[list[int], bool]:
    """Send the bytes; return the statuses that came, and whether the server then hung up."""
    came, deadline = b"", time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.settimeout(1)
        wire.sendall(raw)
        while time.monotonic() < deadline:
            try:
                data = wire.recv(65536)
            except TimeoutError:
                return statuses(came), False
            except ConnectionResetError:
                data = b""
            if not data:
                return statuses(came), True
            came += data
    return statuses(came), False


def ask(port: int, raw: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """Return the answer to one request, and its body."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.settimeout(10)
        wire.sendall(raw)
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        return answer, answer.read()


def statuses(came: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", came)]


def post(*headers: bytes, body: bytes = b"") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST /v1/transfers HTTP/1.1\r\n" + HOST + lines + b"\r\n" + body


CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"


class TestOneReading:
    @pytest.mark.parametrize(
        "raw",
        [
            post(b"Content-Length: 2", b"Content-Length: 3", body=b"{}x"),
            post(b"Content-Length: 2, 2", body=b"{}"),
            post(b"Content-Length: +2", body=b"{}"),
            post(b"Content-Length: 0x2", body=b"{}"),
            post(b"Content-Length : 2", body=b"{}"),
            post(b"Transfer-Encoding: xchunked", body=CHUNKS),
            post(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
            post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS),
            post(b"X-A: b", b" c", b"Content-Length: 0"),
            post(b"X-A: b\rc", b"Content-Length: 0"),
            post(b"X-A: b\0c", b"Content-Length: 0"),
            post(b"X(A): b", b"Content-Length: 0"),
            b"GET /livez HTTP/1.2\r\n" + HOST + b"\r\n",
            b"GET /li vez HTTP/1.1\r\n" + HOST + b"\r\n",
        ],
        ids=ascii,
    )
    def test_what_two_servers_could_read_differently_is_400_and_ends_there(self, server, raw):
        assert talk(server[1], raw + post(b"Content-Length: 0")) == ([400], True)

    def test_a_length_beside_chunks_is_not_used_and_ends_there(self, server):
        raw = post(b"Content-Length: 40", b"Transfer-Encoding: chunked", body=CHUNKS)

        # What is left is a body without a length.
        assert talk(server[1], raw + post(b"Content-Length: 0")) == ([411], True)

    def test_a_body_nobody_read_is_not_the_next_request(self, server):
        hidden = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
        raw = post(b"Content-Length: %d" % len(hidden), body=hidden)

        came, _ended = talk(server[1], raw + b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n")

        assert 200 not in came[:1]
        assert len(came) <= 2

    @pytest.mark.parametrize("path", [b"/v1/me", b"/v1/transfers", b"/hooks/sandbox/pvc_1"])
    @pytest.mark.parametrize(
        "hosts",
        [b"", b"Host:\r\n", b"Host: a\r\n" + HOST, b"Host: a.example\r\n", b"Host: a b\r\n",
         b"Host: [\r\n"],
    )  # fmt: skip
    def test_two_hosts_or_a_strange_one_or_none_are_refused(self, server, path, hosts):
        answer, body = ask(server[1], b"POST " + path + b" HTTP/1.1\r\n" + hosts + b"\r\n")

        assert answer.status == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        said = json.loads(body)
        assert said["code"] == "invalid_request"
        assert said["request_id"] == answer.headers["Request-Id"]

    def test_before_hosts_there_were_none(self, server):
        assert ask(server[1], b"GET /livez HTTP/1.0\r\n\r\n")[0].status == 200

    @pytest.mark.parametrize("host", [b"", b"Host: a.example\r\n"])
    def test_a_strange_host_of_the_back_office_gets_a_page(self, server, host):
        answer, _body = ask(server[1], b"GET /admin/login/ HTTP/1.1\r\n" + host + b"\r\n")

        assert answer.status == 400
        assert answer.headers.get_content_type() == "text/html"

    def test_only_http_1_is_spoken(self, server):
        assert talk(server[1], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[0] in ([], [400])

    @pytest.mark.parametrize(
        "headers",
        [[b"X-%d: a" % number for number in range(120)], [b"X: " + b"a" * 100_000]],
        ids=["many", "long"],
    )
    def test_headers_beyond_bounds_are_refused(self, server, headers):
        assert talk(server[1], post(*headers)) == ([431], True)


class TestConnections:
    def test_that_say_nothing_keep_nobody_out(self, server):
        """More of them than a process once took; they would be closed after ten seconds."""
        _process, port = server
        with contextlib.ExitStack() as held:
            for _ in range(600):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))

            assert answers(port)


class TestEnd:
    def test_a_request_under_way_is_answered_and_the_process_ends(self):
        port = free_port()
        with running(
            "-m", "config.server",
            KASSA_ROLE="web", KASSA_BIND=f"127.0.0.1:{port}", WEB_CONCURRENCY="1",
        ) as process:  # fmt: skip
            wait_until(lambda: answers(port), seconds=60)
            with socket.create_connection(("127.0.0.1", port)) as wire:
                wire.settimeout(20)
                # A body on its way is a request under way.
                wire.sendall(b"POST /admin/login/ HTTP/1.1\r\n" + HOST)
                form = b"Content-Type: application/x-www-form-urlencoded\r\n"
                wire.sendall(form + b"Content-Length: 2\r\n\r\n")
                time.sleep(0.5)
                process.terminate()
                time.sleep(0.5)
                wire.sendall(b"a=")
                answer = wire.recv(65536)

            assert answer.startswith(b"HTTP/1.1 403")
            assert process.wait(timeout=20) == 0

    def test_who_sends_half_a_body_holds_it_up_no_longer_than_half_a_head(self):
        port = free_port()
        with running(
            "-m", "config.server",
            KASSA_ROLE="web", KASSA_BIND=f"127.0.0.1:{port}", WEB_CONCURRENCY="1",
        ) as process:  # fmt: skip
            wait_until(lambda: answers(port), seconds=60)
            with contextlib.ExitStack() as wires:
                for _ in range(3):
                    wire = wires.enter_context(socket.create_connection(("127.0.0.1", port)))
                    wire.sendall(post(b"Content-Length: 60000", body=b"{"))
                # They are under way: the last of them was read before this one was answered.
                assert answers(port)
                process.terminate()

                # What is killed with requests under way has had thirty seconds.
                assert process.wait(timeout=20) == 0

    def test_a_transfer_that_waits_for_another_one_is_answered_too(self):
        both, port = Both(), free_port()
        body = json.dumps(both.transfer()).encode()
        with running(
            "-m", "config.server",
            KASSA_ROLE="web", KASSA_BIND=f"127.0.0.1:{port}", WEB_CONCURRENCY="1",
        ) as process:  # fmt: skip
            wait_until(lambda: answers(port), seconds=60)
            with contextlib.ExitStack() as wires:
                with transaction.atomic():  # noqa: TID251  (a lock of the test's own)
                    # Somebody sits on the account: the first waits for its row, the second for it.
                    Balance.objects.select_for_update().get(id=both.ann)
                    asked = [
                        wires.enter_context(socket.create_connection(("127.0.0.1", port)))
                        for _ in range(2)
                    ]
                    for number, wire in enumerate(asked):
                        wire.settimeout(20)
                        wire.sendall(
                            post(
                                b"Content-Type: application/json",
                                b"Content-Length: %d" % len(body),
                                b"Authorization: Bearer " + both.token.encode(),
                                b"Idempotency-Key: ends-%d" % number,
                                body=body,
                            )
                        )
                        time.sleep(0.3)
                    process.terminate()
                    time.sleep(0.3)
                came = [wire.recv(65536) for wire in asked]

            assert [answer.split(b"\r\n", 1)[0] for answer in came] == [b"HTTP/1.1 201 Created"] * 2
            assert process.wait(timeout=20) == 0
        assert JournalEntry.objects.filter(organization=both.organization).count() == 3
