"""Webhooks leave by the deployment's own proxy, to addresses that were checked, and by no other."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from apps.webhooks import queries
from apps.webhooks.adapters.sender import Sender
from apps.webhooks.rules import targets
from apps.webhooks.rules.retries import Outcome
from apps.webhooks.rules.targets import Policy, Proxy, Target
from tests.webhooks import receiver
from tests.webhooks.certificates import make_certificates
from tests.webhooks.egress import ConnectProxy
from tests.webhooks.factories import create_endpoint, deliver, deliveries, owe
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_sender import message

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "127.0.0.3"])

# The receiver's address, and not the proxy's: that one no network here allows.
RECEIVER = "127.0.0.2"
POLICY = Policy(allow_networks=targets.parse_networks([f"{RECEIVER}/32"]))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def far():
    with Receiver(host=RECEIVER) as far:
        yield far


def post(far, proxy, *, scheme="http", addresses=(RECEIVER,), count=1, **options):
    """Send through the proxy to hooks.example, which has these addresses."""
    target = Target(scheme=scheme, host="hooks.example", port=far.port, path="/hook")
    policy = replace(POLICY, proxy=proxy.address)
    one = Sender(policy=policy, resolver=lambda *_: list(addresses), **options)
    attempts = [one.send(message(target)) for _ in range(count)]
    one.close()
    return attempts[0] if count == 1 else attempts


class TestTheWayOut:
    def test_is_a_tunnel_to_the_checked_address(self, far):
        with ConnectProxy() as proxy:
            attempt = post(far, proxy)

        assert (attempt.outcome, attempt.address) == (Outcome.SUCCEEDED, RECEIVER)
        # By address: the proxy has no name to resolve to another one.
        there = f"{RECEIVER}:{far.port}"
        assert proxy.asked == [(f"CONNECT {there} HTTP/1.1", [f"Host: {there}"])]
        [request] = far.requests
        assert request.headers["host"] == f"hooks.example:{far.port}"

    def test_is_for_tls_by_the_name_of_the_receiver(self, certificates):
        server, client = certificates
        with ConnectProxy() as proxy, Receiver(host=RECEIVER, tls=server) as far:
            attempt = post(far, proxy, scheme="https", tls=client)

            assert attempt.succeeded
            assert len(far.requests) == 1

    def test_does_not_take_another_name_s_certificate(self, certificates):
        server, client = certificates
        with ConnectProxy() as proxy, Receiver(host=RECEIVER, tls=server) as far:
            target = Target(scheme="https", host="other.example", port=far.port, path="/")
            policy = replace(POLICY, proxy=proxy.address)
            one = Sender(policy=policy, resolver=lambda *_: [RECEIVER], tls=client)
            attempt = one.send(message(target))

            assert attempt.outcome is Outcome.TLS_ERROR
            assert far.requests == []

    def test_is_kept_for_the_next_message(self, far):
        with ConnectProxy() as proxy:
            attempts = post(far, proxy, count=3)

        assert [each.outcome for each in attempts] == [Outcome.SUCCEEDED] * 3
        assert (len(proxy.asked), len(far.requests)) == (1, 3)

    def test_is_asked_for_nothing_where_an_address_is_refused(self, far):
        with ConnectProxy() as proxy:
            attempt = post(far, proxy, addresses=[RECEIVER, "10.0.0.7"])

        assert attempt.outcome is Outcome.BLOCKED_ADDRESS
        assert proxy.asked == []

    def test_leads_on_to_the_second_address(self, far):
        policy = targets.parse_networks([f"{RECEIVER}/32", "127.0.0.3/32"])
        target = Target(scheme="http", host="hooks.example", port=far.port, path="/")
        with ConnectProxy() as proxy:
            # Nobody listens on the port at the first.
            one = Sender(
                policy=Policy(allow_networks=policy, proxy=proxy.address),
                resolver=lambda *_: ["127.0.0.3", RECEIVER],
            )
            attempt = one.send(message(target))
            one.close()

        assert (attempt.outcome, attempt.address) == (Outcome.SUCCEEDED, RECEIVER)
        assert len(proxy.asked) == 2


class TestAProxyThatDoesNot:
    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", Outcome.BLOCKED_ADDRESS),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Outcome.CONNECT_ERROR),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Outcome.CONNECT_ERROR),
            (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", Outcome.TIMEOUT),
            # The rest is no word about the receiver.
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Outcome.INTERNAL_ERROR),
            (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", Outcome.INTERNAL_ERROR),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Outcome.INTERNAL_ERROR),
            (b"", Outcome.INTERNAL_ERROR),
            (b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 10_000, Outcome.INTERNAL_ERROR),
        ],
    )
    def test_ends_the_attempt(self, far, answer, outcome):
        with ConnectProxy(refusal=answer) as proxy:
            attempt = post(far, proxy)

        assert (attempt.outcome, attempt.status_code) == (outcome, None)
        assert far.requests == []

    def test_and_waits_in_vain_is_the_receiver_s_timeout(self, far, monkeypatch):
        monkeypatch.setattr("apps.webhooks.adapters.sender.CONNECT_SECONDS_MAX", 0.2)
        with ConnectProxy(refusal=receiver.hang) as proxy:
            attempt = post(far, proxy)

        assert attempt.outcome is Outcome.TIMEOUT

    @pytest.mark.parametrize("host", ["127.0.0.1", "no-such-proxy.invalid"])
    def test_and_is_not_there_is_a_fault_of_ours(self, far, host):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            nobody = Proxy(host, taken.getsockname()[1])
        target = Target(scheme="http", host="hooks.example", port=far.port, path="/")
        one = Sender(policy=replace(POLICY, proxy=nobody), resolver=lambda *_: [RECEIVER])

        assert one.send(message(target)).outcome is Outcome.INTERNAL_ERROR
        # Never past it.
        assert far.connections == 0


class TestDelivering:
    def test_goes_by_the_proxy_of_the_settings(self, organization, far, settings):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        with ConnectProxy() as proxy:
            settings.WEBHOOK_EGRESS_PROXY = f"{proxy.address.host}:{proxy.address.port}"
            assert deliver() == 1

        assert len(proxy.asked) == len(far.requests) == 1
        assert [each.status for each in deliveries(organization)] == ["succeeded"]

    def test_is_tried_again_after_the_proxy_refused(self, organization, far, settings):
        create_endpoint(organization, far.url)
        owe(organization, "thing_1")
        with ConnectProxy(refusal=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
            settings.WEBHOOK_EGRESS_PROXY = f"{proxy.address.host}:{proxy.address.port}"
            assert deliver() == 1

        [delivery] = deliveries(organization)
        assert (delivery.status, delivery.attempts) == ("pending", 1)
        assert delivery.last_outcome == "blocked_address"
        assert far.requests == []

    @pytest.mark.parametrize("waived", ["", "none"])
    def test_without_one_goes_straight(self, settings, waived):
        settings.WEBHOOK_EGRESS_PROXY = waived

        assert queries.get_policy().proxy is None
