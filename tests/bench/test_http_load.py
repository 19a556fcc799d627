"""The load driver against a server that misbehaves on purpose: what it says must be so."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from standardwebhooks import Webhook

from bench import http_load
from bench._requests import make_pools
from bench.http_load import Failure

ACCOUNTS = [f"la_{number}" for number in range(100)]
CREATED = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}"
TAKEN = CREATED.replace(b"201 Created", b"200 OK")
REFUSED = CREATED.replace(b"201 Created", b"422 Unprocessable")
LAST = CREATED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

type Answer = Callable[[int, bytes], bytes | None]


class Server:
    """Answers each whole request by `answer(number, request)`; None ends the connection instead."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.requests, self.lock = answer, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while request := self._read(connection):
                with self.lock:
                    self.requests.append(request)
                    number = len(self.requests)
                answer = self.answer(number, request)
                if answer is None:
                    return
                connection.sendall(answer)
                if b"Connection: close" in answer:
                    return

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                if not (more := connection.recv(1 << 16)):
                    return b""
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(1 << 16)
        except OSError:
            return b""
        return head + b"\r\n\r\n" + body


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    started: list[Server] = []

    def start(answer: Answer) -> Server:
        started.append(Server(answer))
        return started[-1]

    yield start
    for server in started:
        server.listener.close()


def drive(server: Server, **more: object) -> dict:
    order = {
        "port": server.port, "path": "/v1/transfers", "label": "t", "clients": 4, "seconds": 0.4,
        "rate": 0, "batch": 0, "hot": False, "tenants": [{"token": "key", "accounts": ACCOUNTS}],
    }  # fmt: skip
    return json.loads(http_load.run(order | more))


class TestClosedLoop:
    def test_sends_each_request_once_with_a_key_of_its_own(self, serve):
        server = serve(lambda _number, _request: CREATED)

        load = drive(server)

        keys = [
            request.split(b"Idempotency-Key: ")[1].split(b"\r\n")[0] for request in server.requests
        ]
        assert load["statuses"] == {"201": len(keys)}
        assert len(set(keys)) == len(keys) == load["sent"] > 10
        assert all(b"Authorization: Bearer key\r\n" in request for request in server.requests)

    def test_shows_an_answer_that_is_no_201(self, serve):
        server = serve(lambda number, _request: REFUSED if number == 7 else CREATED)

        load = drive(server)

        assert load["statuses"]["422"] == 1
        assert load["refused"].startswith("HTTP/1.1 422")

    def test_opens_a_new_connection_when_it_is_told_that_one_closes(self, serve):
        server = serve(lambda number, _request: LAST if number % 3 == 0 else CREATED)

        load = drive(server)

        assert load["statuses"] == {"201": len(server.requests)}
        assert load["resent"] <= load["sent"] // 3

    def test_sends_again_under_the_same_key_what_was_never_answered(self, serve):
        server = serve(lambda number, _request: None if number == 5 else CREATED)

        load = drive(server)

        assert load["resent"] == 1
        assert load["statuses"] == {"201": load["sent"]}
        assert len(server.requests) == load["sent"] + 1
        assert len(set(server.requests)) == load["sent"]

    def test_fails_where_a_connection_ends_in_the_middle_of_an_answer(self, serve):
        server = serve(lambda _number, _request: LAST[:-1])

        with pytest.raises(Failure, match="middle of an answer"):
            drive(server)


class TestHook:
    def hook(self, **more: object) -> dict:
        secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
        return {
            "path": "/hooks/a/b",
            "secret": secret,
            "count": 20_000,
            "type": "card.moved",
        } | more

    def test_sends_events_that_are_signed_as_the_standard_has_it(self, serve):
        hook = self.hook()
        server = serve(lambda _number, _request: TAKEN)

        load = drive(server, hook=hook, tenants=[], accepted="200", seconds=0.1)

        assert load["statuses"] == {"200": load["sent"]}
        assert load["refused"] == ""
        ids = set()
        for request in server.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line.split(": ") for line in head.decode().split("\r\n")[1:]]
            headers = dict(lines)
            Webhook(hook["secret"]).verify(body, headers)
            ids.add(headers["webhook-id"])
        told = {
            json.loads(request.split(b"\r\n\r\n")[1])["data"]["id"] for request in server.requests
        }
        assert len(told) == len(ids) == load["sent"]

    def test_shows_an_answer_that_is_not_the_one_accepted(self, serve):
        server = serve(lambda _number, _request: CREATED)

        load = drive(server, hook=self.hook(), tenants=[], accepted="200", seconds=0.1)

        assert load["refused"].startswith("HTTP/1.1 201")


class TestOpenLoop:
    def test_keeps_its_rate(self, serve):
        load = drive(serve(lambda _number, _request: CREATED), rate=100, seconds=0.5)

        assert load["statuses"] == {"201": 50}

    def test_counts_the_wait_of_those_that_a_stall_kept_back(self, serve):
        stalled = threading.Lock()

        def answer(number: int, _request: bytes) -> bytes:
            with stalled:
                if number == 20:
                    time.sleep(0.5)
            return CREATED

        load = drive(serve(answer), rate=200, seconds=1, clients=4)

        # A closed loop would have seen four slow answers; here a hundred requests were due.
        assert load["statuses"] == {"201": 200}
        assert load["slowest"] > 0.4
        assert load["p99"] > 0.4


class TestPools:
    def order(self, **more: object) -> dict:
        tenants = [{"token": "a", "accounts": ACCOUNTS}]
        return {"path": "/v1/transfers", "batch": 0, "hot": False, "tenants": tenants} | more

    def test_leave_every_balance_as_it_was_after_a_round(self):
        [pool] = make_pools(self.order())

        moved: dict[str, int] = {}
        for _, tail in pool:
            body = json.loads(tail.split(b"\r\n\r\n")[1])
            moved[body["debit_account"]] = moved.get(body["debit_account"], 0) - body["amount"]
            moved[body["credit_account"]] = moved.get(body["credit_account"], 0) + body["amount"]
        assert set(moved.values()) == {0}
        assert len(moved) == len(ACCOUNTS)

    def test_credit_one_account_when_it_is_to_be_hot(self):
        [pool] = make_pools(self.order(hot=True))

        bodies = [json.loads(tail.split(b"\r\n\r\n")[1]) for _, tail in pool]
        assert {body["credit_account"] for body in bodies} == {ACCOUNTS[0]}
        assert {body["debit_account"] for body in bodies} == set(ACCOUNTS[1:])

    def test_let_the_organisations_take_turns(self):
        tenants = [{"token": name, "accounts": ACCOUNTS[:4]} for name in ("a", "b", "c")]

        [pool] = make_pools(self.order(tenants=tenants))

        tokens = [head.split(b"Bearer ")[1][:1] for head, _ in pool]
        assert tokens[:6] == [b"a", b"b", b"c", b"a", b"b", b"c"]

    def test_give_each_half_of_the_accounts_batches_of_its_own(self):
        pools = make_pools(self.order(batch=80))

        for pool, half in zip(pools, (ACCOUNTS[:50], ACCOUNTS[50:]), strict=True):
            for _, tail in pool:
                batch = json.loads(tail.split(b"\r\n\r\n")[1])["transfers"]
                named = {row["debit_account"] for row in batch} | {
                    row["credit_account"] for row in batch
                }
                assert len(batch) == 80
                assert named <= set(half)
                assert all(row["debit_account"] != row["credit_account"] for row in batch)
