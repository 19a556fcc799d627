"""Postgres ends and comes back: what was answered stands, what was not may be asked again."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from apps.accounts.models import Customer
from apps.core import invariants, nudging
from apps.core.ids import decode_id, encode_id
from apps.webhooks.models import WebhookDelivery
from dev import _process, postgres, valkey
from tests.accounts.factories import create_organization, issue_key
from tests.chaos.house import PATIENCE_SECONDS, House
from tests.chaos.oracles import assert_delivered, end_leases, is_settled
from tests.ledger.factories import balance, open_account
from tests.own_postgres import connected_to, copy_tables, own_postgres
from tests.support import wait_until
from tests.webhooks.factories import create_endpoint

pytestmark = [pytest.mark.soak, pytest.mark.timeout(280)]


@pytest.fixture
def server(tmp_path_factory):
    """A Postgres of this test's own, with Kassa's tables."""
    folder = tmp_path_factory.mktemp("postgres")
    with own_postgres(folder) as record:
        yield _Server(folder, record)


class _Server:
    def __init__(self, folder, record):
        self.folder, self.record = folder, record

    def end(self, by):
        """End it by a signal: at once, or, by SIGINT, as for a restart (57P01 for whoever asks)."""
        pid = postgres.find_pid(self.record)
        os.kill(pid, by)
        wait_until(lambda: postgres.find_pid(self.record) is None)

    @contextlib.contextmanager
    def standing_still(self):
        """Have none of its processes run for the block; to its clients nothing is closed."""
        stopped = _process.list_servers(Path(self.record["data"]))
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    def come_back(self):
        assert postgres.start(self.folder, self.record)["url"] == self.record["url"]


@pytest.fixture
def house(server, tmp_path, monkeypatch, transactional_db):
    """As the other tests' house, and this process too is on that Postgres."""
    # First, so that nothing else was started if it fails.
    copy_tables(server.record)
    house = House(tmp_path, server.record["url"])
    house.start_broker()
    monkeypatch.setattr(nudging, "current_app", house.celery())
    monkeypatch.setattr(nudging, "_nudger", nudging.Nudger())
    # Here a commit has to outlive its server.
    with connected_to(house.database_url, monkeypatch, is_durable=True):
        try:
            yield house
        finally:
            house.kill_all()
            valkey.stop(house.broker)


def _is_settled_by_now(organization):
    try:
        return is_settled(organization)
    except OperationalError:
        # Its own connection was cut as well.
        connection.close()
        return False


class TestPostgresThatEnds:
    @pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=["killed", "restarted"])
    def test_loses_nothing_that_was_answered(self, house, server, by):
        organization, far = create_organization(), house.far_side()
        create_endpoint(organization, far.url(), event_types=["customer.created"])
        token = issue_key(organization, "customers:write").token
        web = house.web()
        fleet = [
            house.worker("money", "settlement", "events", "risk", "default"),
            house.sender(),
            house.beat(),
        ]
        made = {}

        def create(number):
            """Ask, with one key however often; say whether it was answered."""
            status, answer = web.ask(
                "POST", "/v1/customers", {"name": f"Customer {number}"},
                token=token, key=f"customer-{number}",
            )  # fmt: skip
            # Nothing but "later": 500 would be a fault of ours, 4xx the client's.
            assert status in {201, 503}, (status, answer)
            if status == 201:
                made.setdefault(number, set()).add(answer["id"])
            return status == 201

        for number in range(60):
            create(number)
            # Who finds no database waits three seconds for one: few are enough.
            if number in {15, 35}:
                server.end(by)
            if number in {18, 38}:
                server.come_back()
        connection.close()
        for number in range(60):
            wait_until(partial(create, number), seconds=PATIENCE_SECONDS)
        # What was under way when it died, and nobody could record.
        end_leases()
        wait_until(partial(_is_settled_by_now, organization), seconds=PATIENCE_SECONDS)

        # Each key made one customer, whether or not its first answer came.
        assert all(len(ids) == 1 for ids in made.values())
        customers = {decode_id("cus", id_) for ids in made.values() for id_ in ids}
        assert len(customers) == 60
        assert WebhookDelivery.objects.filter(organization=organization).count() == 60
        assert_delivered(organization, far)
        assert all(running.is_alive for running in [web.running, *fleet])


class TestPostgresThatStandsStill:
    """As behind a disk or a machine that hangs: nothing ends, and nothing is answered."""

    def test_keeps_no_request_and_no_thread(self, house, server):
        organization = create_organization()
        ann, bob = (
            open_account(organization.id, code, floor=None)
            for code in ("wallets:ann:EUR", "wallets:bob:EUR")
        )
        token = issue_key(organization, "customers:write", "transfers:write").token
        web = house.web()
        moved = {
            "debit_account": encode_id("la", bob),
            "credit_account": encode_id("la", ann),
            "amount": 1_00,
            "currency": "EUR",
        }

        def ask(number):
            """Ask by each of the two ways to Postgres, with one key however often."""
            path, body = [("/v1/customers", {"name": "Ann"}), ("/v1/transfers", moved)][number % 2]
            return web.ask("POST", path, body, token=token, key=f"key-{number}")[0]

        assert [ask(0), ask(1)] == [201, 201]
        with server.standing_still(), ThreadPoolExecutor(8) as clients:
            # Their own patience is a minute.
            while_it_stands = list(clients.map(ask, range(2, 10)))
            assert web.ask("GET", "/livez")[0] == 200
        for number in range(2, 10):
            wait_until(lambda number=number: ask(number) == 201, seconds=PATIENCE_SECONDS)

        assert set(while_it_stands) == {503}
        connection.close()
        assert Customer.objects.filter(organization=organization).count() == 5
        assert balance(organization.id, ann).posted == 5_00
        assert invariants.breaches() == []
