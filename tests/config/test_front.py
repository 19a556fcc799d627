"""The front on the wire: how bodies come in, and how answers that are not short go out."""

import contextlib
import json
import re
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import resolve, reverse

from apps.accounts import rules
from apps.accounts.models import Staff
from apps.backoffice.views.browsers import remember_browser
from apps.banking.api.uploads import FORM_BYTES_MAX
from apps.banking.api.views import BankFileCollection
from apps.banking.formats.secure_xml import FILE_BYTES_MAX as BANK_FILE_BYTES_MAX
from config import bodies, front
from tests.support import free_port, running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HOST = b"Host: localhost\r\n"


@dataclass
class Server:
    port: int
    said: Path

    def connect(self) -> socket.socket:
        wire = socket.create_connection(("127.0.0.1", self.port))
        wire.settimeout(10)
        return wire

    def ask(self, raw: bytes, *, method: str = "") -> tuple[int, bytes, bytes]:
        """Return status, headers and body of the answer to one request."""
        with self.connect() as wire:
            wire.sendall(raw)
            return read(wire, bodiless=method == "HEAD")


def read(wire: socket.socket, *, bodiless: bool = False) -> tuple[int, bytes, bytes]:
    came = b""
    while b"\r\n\r\n" not in came:
        part = wire.recv(65536)
        if not part:
            raise ConnectionResetError(came)
        came += part
    head, _, body = came.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while not bodiless and length and len(body) < int(length[1]):
        body += wire.recv(65536)
    while (
        not bodiless and b"transfer-encoding: chunked" in head and not body.endswith(b"0\r\n\r\n")
    ):
        body += wire.recv(65536)
    return int(head.split()[1]), head.lower(), body


def cookie_of_a_browser() -> bytes:
    """Return the header of a browser from which somebody of ours has signed in."""
    request, response = HttpRequest(), HttpResponse()
    request.user = Staff(email="ada@kassa.test")
    remember_browser(request, response)
    (cookie,) = response.cookies.values()
    return f"Cookie: a=b; {cookie.key}={cookie.coded_value}".encode()


def post(path: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n" + body


def get(path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(free_port(), tmp_path_factory.mktemp("front") / "said")
    server.said.touch()
    arguments = ("-m", "tests.config.front_server", str(server.port), str(server.said))
    with running(*arguments, KASSA_ROLE="web"):
        wait_until(lambda: is_there(server), seconds=60)
        yield server


def is_there(server: Server) -> bool:
    with contextlib.suppress(OSError):
        return server.ask(get(b"/there"))[0] == 200
    return False


# A key that could be one, and a session that could be: neither is.
TOKEN = rules.print_token(
    rules.make_token(mode="live", key_id_entropy=bytes(8), secret_entropy=bytes(32))
)
KEY = b"Authorization: Bearer " + TOKEN.encode()
SIGNED_IN = b"Cookie: " + settings.SESSION_COOKIE_NAME.encode() + b"=made-up"


class TestBodies:
    def test_a_short_one_a_long_one_and_one_in_chunks_arrive_whole(self, server):
        for length in (0, 1, 2**20, 2**20 + 1, 3 * 2**20):
            declared = b"Content-Length: %d" % length
            answer = server.ask(post(b"/taken", declared, SIGNED_IN, body=b"b" * length))
            assert answer[::2] == (200, b"/taken %d %d " % (length, length))

        chunked = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        answer = server.ask(post(b"/hooks/a", b"Transfer-Encoding: chunked", body=chunked))
        assert answer[::2] == (200, b"/hooks/a 5 5 ")

    def test_none_is_none(self, server):
        assert server.ask(get(b"/taken"))[::2] == (200, b"/taken 0 - ")

    def test_a_banks_file_may_be_longer_than_other_bodies_of_the_api(self, server):
        assert resolve(bodies.FILES).func.view_class is BankFileCollection
        assert bodies.BYTES_MAX > BANK_FILE_BYTES_MAX + FORM_BYTES_MAX

    @pytest.mark.parametrize(
        ("path", "length"),
        [
            (b"/taken", 3 * 2**20),
            (b"/v1/transfers", 2**20),
            (b"/v1/transfers/batch", 16 * 2**20),
            (b"/hooks/sandbox/pvc_1", 2**20),
        ],
    )
    def test_one_that_is_too_long_is_413_before_it_is_read(self, server, path, length):
        raw = post(path, b"Content-Length: %d" % (length + 1), b"Request-Id: longer-than-1")

        status, head, body = server.ask(raw)

        assert status == 413
        assert json.loads(body)["code"] == "body_too_large"
        assert b"content-type: application/problem+json" in head
        assert b"request-id: longer-than-1" in head

    def test_one_that_grows_too_long_in_chunks_is_413(self, server):
        begin = post(bodies.FILES.encode(), b"Transfer-Encoding: chunked", KEY)
        part = b"100000\r\n" + b"c" * 2**20 + b"\r\n"
        with server.connect() as wire, contextlib.suppress(ConnectionError):
            wire.sendall(begin)
            for _ in range(4):
                wire.sendall(part)
        with server.connect() as wire:
            wire.sendall(begin)
            for _ in range(3):
                wire.sendall(part)
            wire.sendall(b"1\r\nc\r\n")
            assert read(wire)[0] == 413

    @pytest.mark.parametrize("path", [b"/taken", b"/v1/transfers", b"/v1/transfers/batch"])
    @pytest.mark.parametrize("ends", [b"", b"0\r\n\r\n"])
    def test_one_without_a_length_is_411_since_nobody_could_tell_that_it_broke_off(
        self, server, path, ends
    ):
        with server.connect() as wire:
            wire.sendall(post(path, b"Transfer-Encoding: chunked", KEY, body=b"2\r\n{}\r\n" + ends))
            if not ends:
                wire.shutdown(socket.SHUT_WR)
            status, _head, body = read(wire)

        assert (status, json.loads(body)["code"]) == (411, "length_required")

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            (b"/v1/transfers/batch", ()),
            (b"/v1/transfers/batch", (b"Authorization: Bearer kassa_live_made_up",)),
            (b"/v1/bank_files", ()),
            (b"/taken", (b"Cookie: other=1",)),
        ],
    )
    def test_a_long_one_of_a_stranger_is_401_before_it_is_read(self, server, path, headers):
        small, long = bodies._SMALL_BYTES_MAX, bodies._SMALL_BYTES_MAX + 1

        status, _head, body = server.ask(post(path, b"Content-Length: %d" % long, *headers))
        read_through = server.ask(
            post(path, b"Content-Length: %d" % small, *headers, body=b"b" * small)
        )

        assert (status, json.loads(body)["code"]) == (401, "unauthenticated")
        assert read_through[0] == 200

    def test_in_chunks_of_a_stranger_is_401_and_of_a_provider_is_read(self, server):
        answer = server.ask(post(b"/v1/bank_files", b"Transfer-Encoding: chunked"))

        assert answer[0] == 401

    @pytest.mark.parametrize("path", [b"/taken", b"/v1/transfers"])
    @pytest.mark.parametrize("length", [10, 2**20])
    def test_one_that_breaks_off_is_400_to_whoever_still_reads(self, server, path, length):
        with server.connect() as wire:
            wire.sendall(post(path, b"Content-Length: %d" % length, SIGNED_IN, KEY, body=b"abc"))
            wire.shutdown(socket.SHUT_WR)
            status, head, body = read(wire)

        assert (status, json.loads(body)["code"]) == (400, "invalid_request")
        assert json.loads(body)["request_id"].encode() in head
        assert is_there(server)

    @pytest.mark.parametrize("path", [b"/taken", b"/v1/transfers", b"/v1/holds"])
    @pytest.mark.parametrize("other", [b"a", b"b"])
    def test_under_two_keys_is_400_whichever_they_are(self, server, path, other):
        keys = (b"Idempotency-Key: a", b"Idempotency-Key: " + other)

        status, _head, body = server.ask(post(path, *keys, b"Content-Length: 2", body=b"{}"))

        assert (status, json.loads(body)["code"]) == (400, "idempotency_key_invalid")

    @pytest.mark.parametrize("path", [b"/taken", b"/v1/transfers"])
    def test_one_that_does_not_come_is_408(self, server, path):
        slow = [server.connect() for _ in range(20)]
        for wire in slow:
            wire.sendall(post(path, b"Content-Length: 10", body=b"abc"))

        for wire in slow:
            status, _head, body = read(wire)
            assert (status, json.loads(body)["code"]) == (408, "request_timeout")
            wire.close()

    @pytest.mark.parametrize("path", [b"/taken", b"/v1/transfers"])
    def test_one_that_does_not_come_holds_nobody_up(self, server, path):
        """Of a long one it takes a minute until it is known, however slow the machine is."""
        declared = b"Content-Length: %d" % (bodies._SMALL_BYTES_MAX + 1)
        with contextlib.ExitStack() as wires:
            # There are four threads, and twenty who are slow.
            slow = [wires.enter_context(server.connect()) for _ in range(20)]
            for wire in slow:
                wire.sendall(post(path, declared, SIGNED_IN, KEY, body=b"abc"))

            assert is_there(server)

            assert select.select(slow, [], [], 0)[0] == [], "none of them was answered before"


class TestAddress:
    def test_one_that_is_too_long_is_414_before_anything_else(self, server):
        """Whatever the longest part of it, and whatever else is wrong with the request."""
        for path in (b"/", b"/v1/transfers/", b"/admin/?q=", b"/v1/events?"):
            longest = path + b"1" * (front._ADDRESS_MAX - len(path) + path.count(b"?"))
            assert server.ask(get(longest))[0] == 200

            status, head, body = server.ask(
                post(longest + b"1", b"Content-Length: 900000000", b"Content-Type: a/b; c*=d")
            )

            assert status == 414
            if path.startswith(b"/admin/"):
                assert b"<h1>That did not work</h1>" in body
                assert b"8192 characters" in body
            else:
                assert json.loads(body)["code"] == "address_too_long"
                assert b"content-type: application/problem+json" in head


class TestAnswers:
    def test_in_parts_arrives_whole_and_is_closed(self, server):
        closed = server.said.read_text().count("closed")

        status, head, body = server.ask(get(b"/parts?30"))

        assert status == 200
        assert b"content-length: 3000000" in head
        assert body == b"x" * 3_000_000
        wait_until(lambda: server.said.read_text().count("closed") == closed + 1)

    def test_in_parts_with_a_fault_in_the_middle_is_500_and_not_a_short_file(self, server):
        closed = server.said.read_text().count("closed")

        status, _head, body = server.ask(get(b"/parts-that-fail?30"))

        assert (status, json.loads(body)["code"]) == (500, "internal_error")
        wait_until(lambda: server.said.read_text().count("closed") == closed + 1)

    def test_that_nobody_takes_holds_nobody_up(self, server):
        closed = server.said.read_text().count("closed")
        slow = [server.connect() for _ in range(8)]
        for wire in slow:
            wire.sendall(get(b"/parts?300"))

        # There are four threads, and eight who take nothing of thirty megabytes.
        wait_until(lambda: server.said.read_text().count("closed") == closed + 8)
        assert is_there(server)
        for wire in slow[:2]:
            assert read(wire)[2] == b"x" * 30_000_000
        for wire in slow:
            wire.close()
        assert is_there(server)

    def test_a_client_that_goes_away_before_its_answer_disturbs_nobody(self, server):
        for path in (b"/taken", b"/v1/transfers"):
            for _ in range(20):
                with server.connect() as wire:
                    wire.sendall(post(path, b"Content-Length: 2", body=b"{}"))

        assert is_there(server)

    def test_to_head_and_without_a_body(self, server):
        status, head, body = server.ask(get(b"/taken", method=b"HEAD"), method="HEAD")
        assert (status, body) == (200, b"")
        assert b"content-length: 11" in head

        status, head, body = server.ask(get(b"/nothing"))
        assert (status, body) == (204, b"")
        assert b"transfer-encoding" not in head

    def test_a_fault_past_every_handler_is_500_without_a_word_of_it(self, server):
        status, _head, body = server.ask(get(b"/fault"))

        assert (status, json.loads(body)["code"]) == (500, "internal_error")
        assert b"own fault" not in body


class TestAKeyWhoseRequestsWait:
    def test_leaves_threads_to_all_others(self, server):
        """More requests than there are threads, none answered before those of others are."""
        server.said.with_name("go").unlink(missing_ok=True)
        key = b"Authorization: Bearer one"
        waiting = [server.connect() for _ in range(8)]
        for wire in waiting:
            wire.sendall(get(b"/stuck", key))

        others = [server.ask(get(b"/there", b"Authorization: Bearer two")) for _ in range(3)]
        others.append(server.ask(get(b"/there")))
        server.said.with_name("go").touch()
        answered = [read(wire)[0] for wire in waiting]

        assert [status for status, _head, _body in others] == [200] * 4
        assert answered == [200] * 8
        assert server.ask(get(b"/there", key))[0] == 200
        for wire in waiting:
            wire.close()

    def test_has_no_more_of_them_wait_than_it_may_have_at_once(self, server):
        """Four are begun and six wait; in whatever way the scheme is written."""
        server.said.with_name("go").unlink(missing_ok=True)
        waiting = [server.connect() for _ in range(14)]
        for place, wire in enumerate(waiting):
            scheme = b"Bearer" if place % 2 else b"bearer"
            wire.sendall(get(b"/stuck", b"Authorization: " + scheme + b" one"))
        wait_until(lambda: len(select.select(waiting, [], [], 0)[0]) == 4)

        other = server.ask(get(b"/there", b"Authorization: Bearer two"))
        server.said.with_name("go").touch()
        answered = [read(wire) for wire in waiting]

        assert other[0] == 200
        assert sorted(status for status, _head, _body in answered) == [200] * 10 + [429] * 4
        refused = next(answer for answer in answered if answer[0] == 429)
        assert json.loads(refused[2])["code"] == "rate_limited"
        assert b"retry-after: 1" in refused[1].lower()
        for wire in waiting:
            wire.close()


class TestSigningIn:
    def test_is_one_callers_whoever_asks_and_under_whatever_key(self, server):
        """Four are begun and eight wait, more than of a key; threads are left to all others."""
        assert reverse("admin:login") == front._SIGN_IN
        server.said.with_name("go").unlink(missing_ok=True)
        waiting = [server.connect() for _ in range(16)]
        for place, wire in enumerate(waiting):
            key = [b"Authorization: Bearer %d" % place] if place % 2 else []
            sender = b"X-Forwarded-For: 10.0.0.%d" % place
            wire.sendall(post(b"/admin/%6Cogin/", sender, *key))
        wait_until(lambda: len(select.select(waiting, [], [], 0)[0]) == 4)

        others = [
            server.ask(get(b"/there")),
            server.ask(get(b"/there", b"Authorization: Bearer 1")),
        ]
        server.said.with_name("go").touch()
        answered = [read(wire) for wire in waiting]

        assert [status for status, _head, _body in others] == [200] * 2
        assert sorted(status for status, _head, _body in answered) == [200] * 12 + [429] * 4
        # It is people who sign in.
        _status, head, page = next(answer for answer in answered if answer[0] == 429)
        assert b"<h1>Not just now</h1>" in page
        for line in (b"text/html", b"retry-after: 1", b"no-store", b"style-src 'self'"):
            assert line in head.lower()
        for wire in waiting:
            wire.close()

    def test_in_a_browser_that_is_known_has_turns_of_its_own(self, server):
        """Strangers have all theirs, also from its address; one who made up a cookie is one."""
        server.said.with_name("go").unlink(missing_ok=True)
        waiting = [server.connect() for _ in range(16)]
        for place, wire in enumerate(waiting):
            sender = b"X-Forwarded-For: 10.0.1.%d" % (place // 4)
            wire.sendall(post(b"/admin/login/", sender, b"Cookie: sessionid-device=a:b:c:d:e"))
        # Of slow ones fewer are begun, and more refused.
        wait_until(lambda: len(select.select(waiting, [], [], 0)[0]) >= 4)
        known, sender = [server.connect() for _ in range(3)], b"X-Forwarded-For: 10.0.1.1"
        for wire in known:
            wire.sendall(post(b"/admin/login/", sender, cookie_of_a_browser()))

        server.said.with_name("go").touch()
        answered = [[read(wire)[0] for wire in wires] for wires in (waiting, known)]

        assert set(answered[0]) == {200, 429}
        assert answered[1] == [200] * 3
        for wire in [*waiting, *known]:
            wire.close()

    def test_in_a_browser_that_is_known_is_bounded_for_each(self, server):
        server.said.with_name("go").unlink(missing_ok=True)
        cookie = cookie_of_a_browser()
        waiting = [server.connect() for _ in range(6)]
        for place, wire in enumerate(waiting):
            wire.sendall(post(b"/admin/login/", b"X-Forwarded-For: 10.0.2.%d" % place, cookie))
        wait_until(lambda: len(select.select(waiting, [], [], 0)[0]) == 2)

        server.said.with_name("go").touch()
        answered = [read(wire)[0] for wire in waiting]

        assert sorted(answered) == [200] * 4 + [429] * 2
        for wire in waiting:
            wire.close()

    def test_of_one_address_leaves_a_turn_to_all_others(self, server):
        """Four are begun, and all others of that address refused at once."""
        server.said.with_name("go").unlink(missing_ok=True)
        waiting = [server.connect() for _ in range(14)]
        for wire in waiting:
            wire.sendall(post(b"/admin/login/", b"X-Forwarded-For: 10.0.0.1"))
        wait_until(lambda: len(select.select(waiting, [], [], 0)[0]) == 10)
        other = server.connect()
        other.sendall(post(b"/admin/login/", b"X-Forwarded-For: 10.0.0.2"))

        server.said.with_name("go").touch()
        answered = [read(wire)[0] for wire in waiting]

        assert sorted(answered) == [200] * 4 + [429] * 10
        assert read(other)[0] == 200
        for wire in [*waiting, other]:
            wire.close()


class TestMethods:
    @pytest.mark.parametrize("method", [b"post", b"Post", b"head", b"get"])
    @pytest.mark.parametrize("path", [b"/taken", b"/admin/login/", b"/v1/transfers"])
    def test_in_small_letters_are_none_and_pass_no_turn_of_the_one_in_capitals(
        self, server, method, path
    ):
        server.said.with_name("go").touch()

        status, head, body = server.ask(get(path, b"Content-Length: 0", method=method))

        assert (status, b"Write the method in capitals." in body) == (400, True)
        assert b"request-id: " in head


class TestNames:
    def test_with_an_underscore_is_not_taken_for_the_one_with_a_hyphen(self, server):
        answer = server.ask(
            get(b"/taken", b"X_Forwarded_For: 6.6.6.6", b"X-Forwarded-For: 1.1.1.1")
        )

        assert answer[2] == b"/taken 0 - HTTP_X_FORWARDED_FOR=1.1.1.1"

    def test_on_two_lines_is_one_list(self, server):
        answer = server.ask(
            get(b"/taken", b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2")
        )

        assert answer[2] == b"/taken 0 - HTTP_X_FORWARDED_FOR=1.1.1.1,2.2.2.2"

    def test_of_a_path_and_a_query_beyond_ascii(self, server):
        asked = b"/r%C3%A9sum%C3%A9%20x?a=" + "€".encode()

        assert server.ask(get(asked))[2] == "/résumé xa=€ 0 - ".encode()

    @pytest.mark.parametrize("path", [b"/taken?a=b", b"/v1/transfers"])
    @pytest.mark.parametrize(
        "header",
        [
            b"Content-Type: application/json; charset*=bogus''%41",
            b"Content-Type: application/json; charset=zip",
            b'Content-Type: application/json; Charset = "utf-16"',
            b"Content-Type: application/json\r\nContent-Type: a/b; charset=zip",
        ],
    )
    def test_of_a_charset_that_is_no_text_of_ours_is_415(self, server, path, header):
        answer = server.ask(post(path, header, b"Content-Length: 2", body=b"{}"))

        assert (answer[0], json.loads(answer[2])["code"]) == (415, "unsupported_media_type")
        assert answer[1].count(b"content-security-policy: default-src 'none'") == 1
