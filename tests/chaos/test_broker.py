"""The broker dies, forgets, comes back, or is full: requests do not fail, and nothing is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

import pytest
from redis.exceptions import (
    ConnectionError,  # noqa: A004  (theirs)
    OutOfMemoryError,
    ReadOnlyError,
)

from apps.core import counters, nudging
from apps.core.ids import encode_id
from apps.core.models import OutboxBatch
from tests.accounts.factories import issue_key
from tests.chaos.house import PATIENCE_SECONDS, Web
from tests.chaos.oracles import assert_delivered, is_settled
from tests.payouts import factories as payouts
from tests.support import wait_until
from tests.webhooks.factories import create_endpoint, publish, relay

PAYOUTS = 100


@pytest.fixture
def home(house):
    return payouts.world()


@pytest.fixture
def web(house, home):
    return house.web()


@pytest.fixture
def client(web, home):
    """What asks for payouts over the API, each time another, and calls them off."""
    customer = payouts.customer_with(home, 1_000_000)
    target = payouts.destination(home, customer, now=payouts.today())
    token = issue_key(home.organization, "payouts:read", "payouts:write").token
    return Client(web, token, encode_id("cus", customer.id), encode_id("dst", target.id))


@dataclass
class Client:
    """One key's requests for one customer's payouts."""

    web: Web
    token: str
    customer: str
    destination: str

    def request(self, number):
        """Ask for a payout; return the status of the answer, and the payout."""
        # No two are alike, or the second would be held as a duplicate.
        body = {
            "customer": self.customer,
            "destination": self.destination,
            "currency": "EUR",
            "amount": 100 + number,
        }
        return self._post("/v1/payouts", body, key=f"payout-{number}")

    def cancel(self, payout_id):
        """Call a payout off; return the status of the answer, and the payout."""
        body = {"reason": "The order was canceled."}
        return self._post(f"/v1/payouts/{payout_id}/cancel", body, key=f"cancel-{payout_id}")

    def _post(self, path, body, *, key):
        return self.web.ask("POST", path, body, token=self.token, key=key)


@pytest.fixture
def ask(client):
    """Ask for a payout over the API, each time another; return the status of the answer."""
    return lambda number: client.request(number)[0]


@pytest.fixture
def fleet(house):
    """Every process that works, and a second of each, so that there is somebody to go on."""
    return [
        house.worker("money", "settlement", "events", "risk", "default"),
        house.sender(),
        house.beat(),
    ]


class TestTransport:
    def test_frees_a_place_though_the_broker_does_not_hear_of_it(self, house):
        app = house.celery()
        app.send_task("core.sweep", queue="default")
        with app.connection_for_read() as connection, connection.SimpleQueue("default") as queue:
            message = queue.get(timeout=10)
            message.channel.qos.prefetch_count = 1
            assert not message.channel.qos.can_consume()
            house.kill_broker()

            with pytest.raises(ConnectionError):
                message.ack()

            # Else a worker that was full would never again look, and never notice.
            assert message.channel.qos.can_consume()


class TestFull:
    def test_fails_no_operation_and_is_counted(
        self, metrics_folder, house, organization, monkeypatch
    ):
        relay()
        monkeypatch.setattr(nudging, "_nudger", nudging.Nudger())
        house.ask_broker("CONFIG", "SET", "maxmemory", "1")

        publish(organization, "thing_1")

        assert counters.read()['kassa_publish_errors_total{queue="events"}'] == 1.0
        assert OutboxBatch.objects.get(position=None).state == "pending"
        relay()
        assert is_settled(organization)


def settle(organization):
    wait_until(partial(is_settled, organization), seconds=PATIENCE_SECONDS)


@pytest.mark.soak
@pytest.mark.timeout(280)
class TestBrokerThatIsAway:
    def test_fails_no_request_and_every_change_is_delivered_afterwards(
        self, house, home, far, client, fleet
    ):
        asked = [client.request(number) for number in range(PAYOUTS)]
        assert {status for status, _ in asked} == {201}
        create_endpoint(home.organization, far.url(), event_types=["payout.*"])
        settle(home.organization)
        house.kill_broker()

        answers = [client.cancel(payout["id"]) for _, payout in asked]

        assert {(status, payout["state"]) for status, payout in answers} == {(200, "canceled")}
        assert far.ids() == []
        house.start_broker()
        settle(home.organization)
        assert_delivered(home.organization, far)
        told = [json.loads(one.body) for one in far.received()]
        assert {(body["type"], body["data"]["id"], body["data"]["state"]) for body in told} == {
            ("payout.canceled", payout["id"], "canceled") for _, payout in asked
        }
        assert len({payout["id"] for _, payout in asked}) == PAYOUTS

    def test_killed_and_restarted_again_and_again_stops_nobody_for_good(
        self, house, home, far, ask, fleet
    ):
        create_endpoint(home.organization, far.url(), event_types=["payout.*"])
        for number in range(30):
            assert ask(number) == 201
            if number % 10 == 5:
                house.kill_broker()
            if number % 10 == 9:
                house.start_broker()

        # With no more requests that nudge: the workers read again, and beat writes.
        settle(home.organization)
        assert_delivered(home.organization, far)
        assert all(running.is_alive for running in fleet)


@pytest.mark.soak
@pytest.mark.timeout(280)
class TestBrokerThatForgets:
    def test_loses_hints_and_no_work(self, house, home, far, ask, fleet):
        create_endpoint(home.organization, far.url(), event_types=["payout.*"])
        for number in range(30):
            assert ask(number) == 201
            house.ask_broker("FLUSHALL")

        settle(home.organization)
        assert_delivered(home.organization, far)
        assert all(running.is_alive for running in fleet)


@pytest.mark.soak
@pytest.mark.timeout(280)
class TestBrokerThatOnlyAnswers:
    def test_fails_no_request_and_ends_nobody(self, house, home, far, web, ask, fleet):
        create_endpoint(home.organization, far.url(), event_types=["payout.*"])
        settle(home.organization)
        # As one that follows another: of a server that is not there, so what it holds stays.
        house.ask_broker("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ReadOnlyError):
            house.ask_broker("SET", "one", "more")

        answers = [ask(number) for number in range(PAYOUTS)]

        assert set(answers) == {201}
        assert "nudge_failed" in web.running.text
        # Each worker has met it by now, as it waits for messages.
        for worker in fleet[:2]:
            worker.wait_for("read only replica")
        house.ask_broker("REPLICAOF", "NO", "ONE")
        settle(home.organization)
        assert_delivered(home.organization, far)
        assert all(running.is_alive for running in fleet)

    def test_is_waited_for_by_those_who_start_meanwhile(self, house, organization, far):
        create_endpoint(organization, far.url(), event_types=["thing.*"])
        publish(organization, "thing_1", "thing_2")
        house.ask_broker("CONFIG", "SET", "maxmemory", "1")

        starting = [house.worker("events", "default"), house.sender(), house.beat()]

        for worker in starting[:2]:
            worker.wait_for("maxmemory")
        house.ask_broker("CONFIG", "SET", "maxmemory", "0")
        settle(organization)
        assert_delivered(organization, far)
        assert all(running.is_alive for running in starting)


@pytest.mark.soak
@pytest.mark.timeout(280)
class TestBrokerThatIsFull:
    def test_fails_no_request_and_is_counted(self, house, home, far, web, ask, fleet):
        create_endpoint(home.organization, far.url(), event_types=["payout.*"])
        settle(home.organization)
        house.ask_broker("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            house.ask_broker("SET", "one", "more")

        answers = [ask(number) for number in range(PAYOUTS)]

        assert set(answers) == {201}
        assert "nudge_failed" in web.running.text
        house.ask_broker("CONFIG", "SET", "maxmemory", "0")
        settle(home.organization)
        assert_delivered(home.organization, far)
        assert all(running.is_alive for running in fleet)
