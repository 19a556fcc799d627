from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import itertools
import select
import socket
import ssl
import threading
import time
from types import SimpleNamespace
from uuid import UUID

import httpx
import pytest

from apps.webhooks.adapters import _wire, addresses, sender
from apps.webhooks.adapters.addresses import Unresolvable
from apps.webhooks.adapters.sender import Message, Sender
from apps.webhooks.errors import UrlRefused
from apps.webhooks.rules import targets
from apps.webhooks.rules.retries import Outcome
from apps.webhooks.rules.targets import Policy, Target
from tests.webhooks import receiver
from tests.webhooks.certificates import make_certificates
from tests.webhooks.receiver import Receiver

LOCAL = Policy(allow_networks=targets.parse_networks(["127.0.0.1/32"]))
NOW = dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC)
# The one address that the kernel itself takes for another: who connects to it is at home.
ANYWHERE = str(ipaddress.IPv4Address(0))


def message(target, body=b'{"id":"evt_1"}'):
    return Message(
        delivery_id=UUID(int=1),
        number=1,
        target=target,
        headers={"webhook-id": "evt_1"},
        body=body,
        started_at=NOW,
    )


def post(url, *, policy=LOCAL, **options):
    """Send once to a URL with a sender of its own."""
    target = targets.parse_url(url, policy=policy)
    one = Sender(policy=policy, **options)
    try:
        return one.send(message(target))
    finally:
        one.close()


@contextlib.contextmanager
def never_accepting(host, port):
    """Have a port whose queue of callers is full: a further one hears nothing at all."""
    with contextlib.ExitStack() as held:
        held.enter_context(socket.create_server((host, port), backlog=0))
        while True:
            caller = held.enter_context(socket.socket())
            caller.settimeout(0)
            caller.connect_ex((host, port))
            if not select.select([], [caller], [], 1)[1]:
                break
        yield


def send_to(answer, **options):
    with Receiver(answers=[answer]) as far:
        return post(far.url, **options), far


class TestAnswers:
    def test_sends_the_bytes_with_their_headers(self):
        attempt, far = send_to(receiver.ok(b"thanks"))

        assert (attempt.outcome, attempt.status_code) == (Outcome.SUCCEEDED, 200)
        assert (attempt.address, attempt.head) == ("127.0.0.1", "thanks")
        [request] = far.requests
        assert request.request_line == "POST /hook HTTP/1.1"
        assert request.body == b'{"id":"evt_1"}'
        assert request.headers["webhook-id"] == "evt_1"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["host"] == f"127.0.0.1:{far.port}"
        assert "cookie" not in request.headers

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            ("204 No Content", Outcome.SUCCEEDED),
            ("400 Bad Request", Outcome.REFUSED),
            ("410 Gone", Outcome.GONE),
            ("500 Oh", Outcome.SERVER_ERROR),
        ],
    )
    def test_takes_the_status_for_the_answer(self, status, outcome):
        attempt, _ = send_to(receiver.answer(status))

        assert attempt.outcome is outcome

    def test_follows_no_redirect(self):
        with Receiver() as inner:
            attempt, far = send_to(
                receiver.answer("302 Found", headers=f"Location: {inner.url}\r\n")
            )

            assert attempt.outcome is Outcome.REDIRECTED
            assert len(far.requests) == 1
            assert inner.connections == 0

    def test_hands_on_retry_after(self):
        attempt, _ = send_to(
            receiver.answer("429 Too Many Requests", headers="Retry-After: 120\r\n")
        )

        assert (attempt.outcome, attempt.retry_after) == (Outcome.RATE_LIMITED, "120")

    def test_stores_two_kilobytes_of_the_answer_and_no_nul(self):
        attempt, _ = send_to(receiver.ok(b"a\x00b\xff" + b"x" * 10_000))

        assert attempt.head == "ab\ufffd" + "x" * 2044

    @pytest.mark.parametrize(
        ("body", "head"),
        [
            (b"Transfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n", "yes"),
            (b"Transfer-Encoding: chunked\r\n\r\nno number\r\n", ""),
            (b"Transfer-Encoding: chunked\r\n\r\n-5\r\nyes\r\n", ""),
            (b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 5_000 + b"\r\nyes", ""),
            (b"Transfer-Encoding: chunked\r\n\r\n3\r\nyes\r\nFF\r\ncut", ""),
            (b"Content-Length: 9\r\n\r\ncut", "cut"),
            (b"Content-Length: -9\r\n\r\nnone", "none"),
            (b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\nlong", "long"),
            # It is stored as it came: nothing is unpacked that could grow.
            (b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08", "\x1f\ufffd\x08"),
            (b"Content-Type: text/html; charset=utf-16\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ],
    )
    def test_takes_a_200_for_success_whatever_the_body(self, body, head):
        def answer(connected, _closing):
            connected.sendall(b"HTTP/1.1 200 OK\r\n" + body)
            return False

        attempt, far = send_to(answer)

        assert (attempt.outcome, attempt.status_code) == (Outcome.SUCCEEDED, 200)
        assert attempt.head == head
        assert len(far.requests) == 1

    @pytest.mark.parametrize(
        "interim",
        [
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" * 3,
        ],
    )
    def test_waits_for_the_final_answer(self, interim):
        attempt, far = send_to(interim + receiver.ok())

        assert (attempt.outcome, attempt.status_code) == (Outcome.SUCCEEDED, 200)
        assert attempt.head == "thanks"
        assert len(far.requests) == 1

    def test_speaks_no_other_protocol(self):
        attempt, _ = send_to(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + receiver.ok())

        assert (attempt.outcome, attempt.status_code) == (Outcome.PROTOCOL_ERROR, 101)

    @pytest.mark.parametrize(
        "answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\x00\x01\x02\r\n"]
    )
    def test_knows_what_is_not_http(self, answer):
        attempt, _ = send_to(answer)

        assert attempt.outcome is Outcome.PROTOCOL_ERROR

    def test_takes_a_hang_up_for_an_error(self):
        attempt, far = send_to(receiver.hang_up)

        assert attempt.outcome is Outcome.CONNECT_ERROR
        assert len(far.requests) == 1

    def test_cannot_reach_a_closed_port(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

        assert post(f"http://127.0.0.1:{port}/").outcome is Outcome.CONNECT_ERROR


def endless_interim(connected, closing):
    """Say again and again that an answer is on its way."""
    while not closing.is_set():
        connected.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)
    return False


class TestLimits:
    @pytest.fixture
    def wires(self, monkeypatch):
        """The connections that were made, each with what was read of it."""
        made, wire = [], sender.Wire

        def make(*args, **more):
            made.append(wire(*args, **more))
            return made[-1]

        monkeypatch.setattr(sender, "Wire", make)
        return made

    def test_are_those_that_receivers_are_told(self):
        assert addresses.RESOLVE_SECONDS_MAX == 2
        assert (sender.CONNECT_SECONDS_MAX, sender.ATTEMPT_SECONDS_MAX) == (3, 15)
        assert sender.BODY_SECONDS_MAX == 1

    @pytest.mark.parametrize(
        ("behavior", "outcome"),
        [
            (receiver.endless, Outcome.SUCCEEDED),
            (receiver.endless_headers, Outcome.SUCCEEDED),
            (endless_interim, Outcome.PROTOCOL_ERROR),
        ],
    )
    def test_end_an_endless_answer_after_twenty_kilobytes(self, wires, behavior, outcome):
        with Receiver(answers=[behavior]) as far:
            target = targets.parse_url(far.url, policy=LOCAL)
            one = Sender(policy=LOCAL)

            attempt = one.send(message(target))

            # By then, and not when the sender is closed.
            [wire] = wires
            assert (wire.received, wire.socket.fileno()) == (20 * 1024, -1)
            assert attempt.outcome is outcome

    def test_ends_at_its_deadline_where_nobody_answers(self, monkeypatch):
        monkeypatch.setattr(sender, "ATTEMPT_SECONDS_MAX", 0.4)

        attempt, _ = send_to(receiver.hang)

        assert attempt.outcome is Outcome.TIMEOUT
        assert attempt.duration_ms > 350

    @pytest.mark.parametrize(
        ("behavior", "outcome"),
        [(receiver.drip_head, Outcome.TIMEOUT), (receiver.drip, Outcome.SUCCEEDED)],
    )
    def test_ends_at_one_deadline_however_the_peer_drips(self, monkeypatch, behavior, outcome):
        """By a clock that goes on by a minute when it is looked at, however slow the machine is."""
        minutes = itertools.count()
        by_looks = SimpleNamespace(monotonic=lambda: 60.0 * next(minutes))
        for module in (sender, _wire):
            monkeypatch.setattr(module, "time", by_looks)
        for limit in ("ATTEMPT_SECONDS_MAX", "CONNECT_SECONDS_MAX", "BODY_SECONDS_MAX"):
            monkeypatch.setattr(sender, limit, 60.0 * 40)

        attempt, _ = send_to(behavior)

        assert attempt.outcome is outcome
        # The look that found it to be over, and the one that says how long it took.
        assert attempt.duration_ms == 60_000 * 41

    def test_ends_soon_after_the_answer_is_known_however_the_body_drips(self, monkeypatch):
        monkeypatch.setattr(sender, "BODY_SECONDS_MAX", 0.1)

        attempt, _ = send_to(receiver.drip)

        assert attempt.outcome is Outcome.SUCCEEDED
        assert attempt.duration_ms < 1000 * sender.ATTEMPT_SECONDS_MAX

    def test_end_a_handshake_that_nobody_answers(self, monkeypatch):
        monkeypatch.setattr(sender, "CONNECT_SECONDS_MAX", 0.2)
        # The kernel takes the connection, and nobody ever says a word on it.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            target = Target(scheme="https", host="hooks.example", port=port, path="/")
            one = Sender(policy=LOCAL, resolver=lambda *_: ["127.0.0.1"])

            attempt = one.send(message(target))

        assert (attempt.outcome, attempt.address) == (Outcome.TIMEOUT, "127.0.0.1")
        assert attempt.duration_ms < 1000 * sender.ATTEMPT_SECONDS_MAX

    def test_waits_for_a_slow_resolver_only_so_long(self, monkeypatch):
        released = threading.Event()
        monkeypatch.setattr(addresses, "RESOLVE_SECONDS_MAX", 0.1)
        monkeypatch.setattr(
            addresses.socket, "getaddrinfo", lambda *_, **__: [] * released.wait(30)
        )

        attempt = post("https://slow.example/")
        released.set()

        assert attempt.outcome is Outcome.DNS_ERROR


class TestAddresses:
    """The resolver is the far side here, so a test may answer in its place."""

    @pytest.mark.parametrize(
        "found", [["10.0.0.1"], ["8.8.8.8", "127.0.0.2"], ["100.64.0.1"], ["::ffff:127.0.0.2"]]
    )
    def test_sends_not_a_byte_where_one_address_is_refused(self, found):
        with Receiver() as far:
            attempt = post(
                f"https://rebind.example:{far.port}/",
                policy=Policy(ports=frozenset({far.port})),
                resolver=lambda *_: found,
            )

            assert (attempt.outcome, attempt.address) == (Outcome.BLOCKED_ADDRESS, found[0])
            assert far.connections == 0

    def test_catches_a_name_that_turns_inwards_after_the_save(self):
        with Receiver() as far:
            answers = iter([["93.184.216.34"], ["127.0.0.1"]])
            policy = Policy(ports=frozenset({far.port}))
            target = targets.parse_url(f"https://rebind.example:{far.port}/", policy=policy)

            addresses.check_at_save(target, policy=policy, resolver=lambda *_: next(answers))
            attempt = post(target.url, policy=policy, resolver=lambda *_: next(answers))

            assert attempt.outcome is Outcome.BLOCKED_ADDRESS
            assert far.connections == 0

    def test_refuses_at_save_what_has_no_or_no_good_address(self):
        target = targets.parse_url("https://inner.example/", policy=Policy())

        def unknown(*_):
            raise Unresolvable

        for resolver, reason in ((lambda *_: ["10.0.0.1"], "address"), (unknown, "unresolvable")):
            with pytest.raises(UrlRefused) as refused:
                addresses.check_at_save(target, policy=Policy(), resolver=resolver)
            assert refused.value.details == {"reason": reason}

    def test_connects_to_the_address_that_was_checked_and_resolves_once(self):
        asked = []

        def resolver(host, port):
            asked.append(host)
            return ["127.0.0.1"]

        with Receiver() as far:
            target = Target(scheme="http", host="hooks.example", port=far.port, path="/hook")
            one = Sender(policy=LOCAL, resolver=resolver)
            attempt = one.send(message(target))
            one.close()

            assert attempt.succeeded
            assert asked == ["hooks.example"]
            assert far.requests[0].headers["host"] == f"hooks.example:{far.port}"

    def test_resolves_a_real_name_of_this_machine(self):
        assert "127.0.0.1" in addresses.resolve("localhost", 80)
        with pytest.raises(Unresolvable):
            addresses.resolve("a" * 70 + ".example", 80)

    @pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    def test_leaves_the_second_its_time_where_the_first_answers_nothing(self):
        policy = Policy(allow_networks=targets.parse_networks(["127.0.0.0/8"]))
        with Receiver(host="127.0.0.3") as far, never_accepting("127.0.0.2", far.port):
            target = Target(scheme="http", host="hooks.example", port=far.port, path="/hook")
            one = Sender(policy=policy, resolver=lambda *_: ["127.0.0.2", "127.0.0.3"])
            attempt = one.send(message(target))
            one.close()

        assert (attempt.outcome, attempt.address) == (Outcome.SUCCEEDED, "127.0.0.3")

    @pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    def test_tries_no_third(self):
        policy = Policy(allow_networks=targets.parse_networks(["127.0.0.0/8"]))
        with Receiver() as far:
            target = Target(scheme="http", host="hooks.example", port=far.port, path="/hook")
            # Nobody listens on the port at the first two.
            one = Sender(policy=policy, resolver=lambda *_: ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
            attempt = one.send(message(target))
            one.close()

            assert (attempt.outcome, attempt.address) == (Outcome.CONNECT_ERROR, "127.0.0.3")
            assert far.connections == 0

    @pytest.mark.allow_hosts(["127.0.0.1", "::1", "::2"])
    def test_tries_one_of_each_family(self):
        policy = Policy(allow_networks=targets.parse_networks(["127.0.0.1/32", "::/126"]))
        with Receiver() as far:
            target = Target(scheme="http", host="hooks.example", port=far.port, path="/hook")
            # In this order where a process has no route outside; here nobody listens on IPv6.
            one = Sender(policy=policy, resolver=lambda *_: ["::1", "::2", "127.0.0.1"])
            attempt = one.send(message(target))
            one.close()

        assert (attempt.outcome, attempt.address) == (Outcome.SUCCEEDED, "127.0.0.1")

    @pytest.mark.allow_hosts(["127.0.0.1", ANYWHERE])
    def test_sends_not_a_byte_to_another_peer_than_the_one_checked(self):
        policy = Policy(allow_networks=targets.parse_networks([f"{ANYWHERE}/32"]))
        with Receiver() as far:
            target = Target(scheme="http", host="hooks.example", port=far.port, path="/hook")
            one = Sender(policy=policy, resolver=lambda *_: [ANYWHERE])
            attempt = one.send(message(target))
            one.close()

            assert (attempt.outcome, attempt.address) == (Outcome.CONNECT_ERROR, ANYWHERE)
            assert far.requests == []


class TestEnvironment:
    """Who runs the process may have set what every other client heeds."""

    @pytest.fixture
    def proxy(self, monkeypatch, tmp_path):
        """A proxy that the environment names for everything, and a netrc that knows every host."""
        netrc = tmp_path / ".netrc"
        netrc.write_text("default login kassa password hunter2\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(netrc))
        with Receiver() as proxy:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
                monkeypatch.setenv(name.upper(), proxy.url)
            for name in ("no_proxy", "NO_PROXY"):
                monkeypatch.delenv(name, raising=False)
            yield proxy

    def test_leads_another_client_through_the_proxy(self, proxy):
        with Receiver() as far:
            httpx.post(far.url, content=b"{}")

            assert (len(proxy.requests), far.requests) == (1, [])

    def test_leads_no_webhook_through_the_proxy_and_adds_nothing_to_it(self, proxy):
        attempt, far = send_to(receiver.ok())

        assert attempt.succeeded
        assert (proxy.connections, len(far.requests)) == (0, 1)
        assert (
            not {"authorization", "proxy-authorization", "cookie"} & far.requests[0].headers.keys()
        )

    def test_leads_no_tls_through_the_proxy_either(self, proxy, certificates):
        server, client = certificates
        with Receiver(tls=server) as far:
            target = Target(scheme="https", host="hooks.example", port=far.port, path="/")
            one = Sender(policy=LOCAL, resolver=lambda *_: ["127.0.0.1"], tls=client)
            attempt = one.send(message(target))
            one.close()

            assert attempt.succeeded
            assert proxy.connections == 0


class TestKeptConnections:
    def test_serve_the_next_message(self):
        with Receiver() as far:
            target = targets.parse_url(far.url, policy=LOCAL)
            one = Sender(policy=LOCAL)

            outcomes = [one.send(message(target)).outcome for _ in range(3)]
            one.close()

            assert outcomes == [Outcome.SUCCEEDED] * 3
            assert far.connections == 1

    def test_bring_no_cookie_back(self):
        asked = "Set-Cookie: session=1; Path=/\r\n"
        with Receiver(answers=[receiver.ok(headers=asked)]) as far:
            target = targets.parse_url(far.url, policy=LOCAL)
            one = Sender(policy=LOCAL)

            for _ in range(2):
                one.send(message(target))
            one.close()

            assert far.connections == 1
            assert ["cookie" in request.headers for request in far.requests] == [False, False]

    def test_are_dropped_once_their_peer_is_not_in_the_checked_set(self):
        found = [["127.0.0.1"], ["::1"]]
        policy = Policy(allow_networks=targets.parse_networks(["127.0.0.1/32", "::1/128"]))
        with Receiver() as far:
            target = Target(scheme="http", host="hooks.example", port=far.port, path="/")
            one = Sender(policy=policy, resolver=lambda *_: found.pop(0))

            first, second = (one.send(message(target)) for _ in range(2))
            one.close()

            assert first.succeeded
            # Nothing listens there, and the old connection was not used instead.
            assert (second.outcome, second.address) == (Outcome.CONNECT_ERROR, "::1")
            assert len(far.requests) == 1

    def test_that_went_stale_are_made_anew(self):
        def once(connected, closing):
            connected.sendall(receiver.ok())
            return False

        with Receiver(answers=[once, receiver.ok()]) as far:
            target = targets.parse_url(far.url, policy=LOCAL)
            one = Sender(policy=LOCAL)

            attempts = [one.send(message(target)) for _ in range(2)]
            one.close()

            assert all(attempt.succeeded for attempt in attempts)
            assert far.connections == 2

    def test_end_with_an_answer_that_was_cut(self):
        with Receiver(answers=[receiver.ok(b"x" * 50_000), receiver.ok()]) as far:
            target = targets.parse_url(far.url, policy=LOCAL)
            one = Sender(policy=LOCAL)

            attempts = [one.send(message(target)) for _ in range(2)]
            one.close()

            assert [attempt.head[:6] for attempt in attempts] == ["xxxxxx", "thanks"]
            assert far.connections == 2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


class TestTls:
    def send(self, host, server, client):
        with Receiver(tls=server) as far:
            target = Target(scheme="https", host=host, port=far.port, path="/")
            one = Sender(policy=LOCAL, resolver=lambda *_: ["127.0.0.1"], tls=client)
            attempt = one.send(message(target))
            one.close()
            return attempt, far

    def test_checks_the_certificate_by_name_and_says_it_first(self, certificates, monkeypatch):
        server, client = certificates
        asked = []
        monkeypatch.setattr(
            server, "sni_callback", lambda _socket, name, _context: asked.append(name)
        )

        attempt, far = self.send("hooks.example", server, client)

        assert attempt.succeeded
        assert asked == ["hooks.example"]
        assert far.requests[0].headers["host"].startswith("hooks.example:")

    @pytest.mark.parametrize("trusted", [True, False])
    def test_refuses_another_name_or_an_unknown_authority(self, certificates, trusted):
        server, client = certificates
        host, client = (
            ("other.example", client) if trusted else ("hooks.example", sender.default_tls())
        )

        attempt, far = self.send(host, server, client)

        assert attempt.outcome is Outcome.TLS_ERROR
        assert far.requests == []

    def test_refuses_tls_before_1_2(self):
        assert sender.default_tls().minimum_version is ssl.TLSVersion.TLSv1_2

    def test_knows_a_port_that_speaks_no_tls(self):
        with Receiver(answers=[receiver.ok()]) as far:
            target = Target(scheme="https", host="hooks.example", port=far.port, path="/")
            one = Sender(policy=LOCAL, resolver=lambda *_: ["127.0.0.1"])
            monotonic = time.monotonic()

            attempt = one.send(message(target))

            assert attempt.outcome in {Outcome.TLS_ERROR, Outcome.TIMEOUT, Outcome.CONNECT_ERROR}
            assert time.monotonic() - monotonic < 5
