"""
A webhook carries the status after commit, never the one before (case 11 of events.md).

Whoever is told something of a thing, and asks the API for it before he even answers, is shown the
status that he was told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.urls import get_resolver

from apps.core import clock, invariants
from apps.core.api.caller import declared_scopes
from apps.core.events import catalogued_events
from apps.core.ids import encode_id
from apps.ledger import operations as ledger
from apps.ledger.operations import AccountChange
from apps.ledger.rules import AccountStatus
from tests.accounts.factories import Api, create_customer, create_organization
from tests.banking import factories as banking
from tests.banking.statements import Entry, Made, camt053
from tests.ledger.factories import ACTOR, fund, open_account
from tests.payouts import factories as payouts
from tests.reconciliation import factories as reconciliation
from tests.webhooks import receiver
from tests.webhooks.acts import Acts
from tests.webhooks.factories import create_endpoint, deliver, relay
from tests.webhooks.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apps.accounts.models import Organization

    type Story = Callable[[Api], Iterator[None]]

pytestmark = pytest.mark.django_db(transaction=True)

# Every scope that a route asks for; complete once the URLs are loaded.
get_resolver().url_patterns  # noqa: B018  (loads them)
ALL = tuple(sorted(declared_scopes()))


# Each stops after each act, at which what it led to is delivered.


def a_customer(api):
    made = create_customer(api.organization)
    yield
    api.post(f"/v1/customers/{encode_id('cus', made.id)}/freeze", {"reason": "phone stolen"})
    yield


def a_destination(api):
    home = payouts.World(api.organization, None, ACTOR)
    customer = create_customer(api.organization, currencies=())
    made = payouts.destination(home, customer, now=payouts.today())
    yield
    api.post(f"/v1/destinations/{encode_id('dst', made.id)}/disable", {"reason": "lost"})
    yield


def a_payout(api):
    home = payouts.world(owner=api.organization)
    target = payouts.destination(home, payouts.customer_with(home, 500_00))
    payout = payouts.request(home, target, 100_00)
    yield
    batch = payouts.freeze(payout)
    yield
    payouts.export(batch)
    payouts.send(batch)
    yield
    payouts.settle(home, payouts.line(home, payout))
    yield


def a_hold(api):
    ann, bob = (open_account(api.organization.id, f"wallets:{name}:EUR") for name in ("ann", "bob"))
    fund(api.organization.id, ann, 100_00)
    asked = {
        "debit_account": encode_id("la", ann),
        "credit_account": encode_id("la", bob),
        "amount": 15_00,
        "currency": "EUR",
    }
    hold = api.post("/v1/holds", asked).json()["hold"]["id"]
    api.post(f"/v1/holds/{hold}/capture", {"amount": 13_00})
    yield


def a_ledger_account(api):
    ann = open_account(api.organization.id, "wallets:ann:EUR")
    ledger.change_client_account(
        organization_id=api.organization.id,
        account_id=ann,
        change=AccountChange(reason="left", status=AccountStatus.CLOSED),
        idempotency_key="close",
        actor=ACTOR,
        now=clock.now(),
    )
    yield


def a_payment(api):
    owner = api.organization.id
    banking.create_bank_account(owner)
    reference = reconciliation.create_reference(reconciliation.create_customer(owner)).reference
    banking.import_file(owner, camt053(Made(entries=(Entry(amount=1_00, reference=reference),))))
    reconciliation.match_all()
    yield


def an_endpoint(api):
    made, _ = create_endpoint(api.organization, "http://127.0.0.1:9/", event_types=["thing.*"])
    yield
    Acts(made).disable()
    yield
    Acts(made).enable()
    yield


# By aggregate: where it is shown, its story, and what is told of it last after each act.
STORIES: dict[str, tuple[str, Story, list[str]]] = {
    "customer": ("customers", a_customer, ["open", "frozen"]),
    "destination": ("destinations", a_destination, ["verified", "disabled"]),
    "hold": ("holds", a_hold, ["captured"]),
    "ledger_account": ("ledger-accounts", a_ledger_account, ["closed"]),
    "payment": ("payments", a_payment, ["received"]),
    "payout": ("payouts", a_payout, ["scheduled", "batched", "submitted", "settled"]),
    "webhook_endpoint": ("webhook_endpoints", an_endpoint, ["enabled", "disabled", "enabled"]),
}


def test_all_of_whom_a_status_is_told_are_here():
    told = {
        kind.aggregate_type
        for kind in catalogued_events()
        if kind.public and {"state", "status"} & set(kind.example)
    }

    assert told == set(STORIES)


@pytest.fixture
def organization(transactional_db, settings) -> Organization:
    settings.PAYOUT_COOLDOWN_HOURS = 0
    return create_organization()


@pytest.mark.parametrize("about", STORIES)
def test_who_is_told_and_asks_at_once_is_shown_what_he_was_told(organization, about):
    path, story, expected = STORIES[about]
    api, told, last_of_each_act = Api(organization, *ALL), [], []
    with Receiver() as far:
        # One lane, and each request is answered before the next is sent.
        create_endpoint(organization, far.url, max_in_flight=1)
        far.answers = [asking(far, api, f"/v1/{path}", about, told)]
        for _ in story(api):
            relay()
            deliver()
            last_of_each_act += told[-1:]
            told.clear()

    assert last_of_each_act == [(status, status) for status in expected]
    # The bank's side of a payout is not told here, so its books have none.
    checked = invariants.check(invariants.collect(only_apps=frozenset({"core", "webhooks"})))
    assert [name for name, breach in checked if breach] == []


def asking(far, api, path, about, told: list[Any]):
    """An answer before which the API is asked for what the request is about."""

    def answer(connected, _closing):
        body = json.loads(far.requests[-1].body)
        field = next((name for name in ("state", "status") if name in body["data"]), None)
        if body["aggregate"]["type"] == about and field:
            try:
                shown = api.get(f"{path}/{body['aggregate']['id']}").json()
            finally:
                connection.close()
            told.append((body["data"][field], shown[field]))
        connected.sendall(receiver.ok())

    return answer
