"""The receiver beside the benchmarks of webhooks: what it says came must be what came."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from bench.receiver import Receiver, receiver
from tests.support import wait_until


@pytest.fixture
def far() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def post(connection: http.client.HTTPConnection, path: str, id_: str) -> int:
    connection.request("POST", path, body=b"{}", headers={"webhook-id": id_})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def connect(far: Receiver) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", far.port, timeout=5))


def send(far: Receiver, path: str) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", far.port), timeout=5)
    connected.sendall(
        f"POST {path} HTTP/1.1\r\nwebhook-id: evt_1\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )
    return connected


class TestReceiver:
    def test_answers_again_and_again_over_one_connection(self, far):
        with connect(far) as connection:
            statuses = [post(connection, "/a", f"evt_{number}") for number in range(3)]

        assert statuses == [200, 200, 200]
        assert far.requests() == {"/a": 3}

    def test_counts_each_path_apart_and_each_id_once(self, far):
        with connect(far) as connection:
            for path, id_ in (("/a", "evt_1"), ("/b", "evt_1"), ("/b", "evt_1")):
                post(connection, path, id_)

        assert far.requests() == {"/a": 1, "/b": 2}
        assert {path: list(ids) for path, ids in far.arrivals().items()} == {
            "/a": ["evt_1"],
            "/b": ["evt_1"],
        }

    def test_says_when_an_id_came_first(self, far):
        before = time.time()
        with connect(far) as connection:
            post(connection, "/a", "evt_1")
            between = time.time()
            post(connection, "/a", "evt_1")

        assert before <= far.arrivals()["/a"]["evt_1"] <= between

    def test_takes_a_request_that_comes_in_pieces(self, far):
        with closing(socket.create_connection(("127.0.0.1", far.port), timeout=5)) as connected:
            for piece in (b"POST /a HTTP/1.1\r\nwebhook-", b"id: evt_1\r\nContent-", b"Length: 3"):
                connected.sendall(piece)
                time.sleep(0.02)
            connected.sendall(b"\r\n\r\n{}")
            time.sleep(0.02)
            assert far.requests() == {}
            connected.sendall(b"}")

            assert connected.recv(100).startswith(b"HTTP/1.1 200 OK")

    def test_lets_one_request_hang_and_answers_others(self, far):
        with closing(send(far, "/hang")) as hanging, connect(far) as connection:
            assert post(connection, "/a", "evt_1") == 200
            assert far.hanging() == 1

            far.release()

            assert hanging.recv(100) == b""
            assert far.hanging() == 0

    def test_answers_a_late_path_in_its_time_and_others_at_once(self, far):
        with closing(send(far, "/late/60")) as waiting, connect(far) as connection:
            assert post(connection, "/late/0.1", "evt_2") == 200
            assert post(connection, "/a", "evt_3") == 200
            assert far.hanging() == 1

            far.release()

            assert waiting.recv(100) == b""

    def test_answers_late_and_again_over_one_connection(self, far):
        with connect(far) as connection:
            statuses = [post(connection, "/late/0.05", f"evt_{number}") for number in range(3)]

        assert statuses == [200, 200, 200]
        assert (far.hanging(), far.requests()) == (0, {"/late/0.05": 3})

    def test_forgets_a_request_that_hung_once_its_sender_gave_up(self, far):
        send(far, "/hang").close()

        wait_until(lambda: far.requests().get("/hang") == 1 and far.hanging() == 0)

    def test_pours_an_answer_without_end_until_the_sender_has_enough(self, far):
        with closing(send(far, "/endless")) as connected:
            received = 0
            while received < 1 << 20:
                received += len(connected.recv(1 << 16))

        wait_until(lambda: far.endless_bytes() >= 1 << 20)
        with connect(far) as connection:
            assert post(connection, "/a", "evt_1") == 200

    def test_begins_anew_when_it_is_told_to_forget(self, far):
        with connect(far) as connection:
            post(connection, "/a", "evt_1")
            far.forget()
            post(connection, "/b", "evt_2")

        assert far.requests() == {"/b": 1}
        assert list(far.arrivals()) == ["/b"]
