"""Endpoints, events and deliveries, made as the application makes them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from apps.accounts import operations as accounts
from apps.accounts.rules import CustomerDetails
from apps.core import clock, outbox, transactions, working
from apps.core.actors import Actor
from apps.core.events import Event
from apps.webhooks import operations, queries, tasks
from apps.webhooks.models import WebhookChange, WebhookDelivery, WebhookLane
from apps.webhooks.operations import EndpointTerms

if TYPE_CHECKING:
    from apps.webhooks.models import WebhookEndpoint

TESTS = Actor.job("tests")

_counter = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class ThingChanged(Event):
    """An event of this test's own; its type is `thing.changed`."""

    name: ClassVar[str] = "tests.thing.changed"
    aggregate_type: ClassVar[str] = "thing"
    read_scope: ClassVar[str] = "webhooks:read"

    text: str = ""


def create_endpoint(
    organization, url, *, event_types=("*",), **terms
) -> tuple[WebhookEndpoint, str]:
    """Create an endpoint; return it with its secret."""
    return operations.create_endpoint(
        organization_id=organization.id,
        terms=EndpointTerms(url=url, event_types=list(event_types), **terms),
        idempotency_key=f"endpoint-{next(_counter)}",
        actor=TESTS,
        now=clock.now(),
    )


@transactions.outermost
def publish(organization, *aggregates, sequence=1, text=""):
    """Commit one event per aggregate, in one transaction."""
    for aggregate in aggregates:
        event = ThingChanged(
            organization_id=organization.id,
            aggregate_id=aggregate,
            sequence=sequence,
            occurred_at=clock.now(),
            text=text,
        )
        outbox.publish(event, actor=TESTS, now=clock.now())


def relay():
    """What the events' workers do: number the batches and hand them to the consumers."""
    while outbox.relay():
        pass
    while outbox.consume():
        pass


def owe(organization, *aggregates, **event):
    """Publish events and have them fanned out."""
    publish(organization, *aggregates, **event)
    relay()


def carry_out_changes():
    """What a worker does about endpoints that were changed until nothing is due."""
    while working.work_due(tasks.CHANGES):
        pass


def deliver(*, is_slow=False, with_changes=True):
    """What workers do until nothing is due, changes before; return the attempts made."""
    made = 0
    if with_changes:
        carry_out_changes()
    while (lane := tasks.claim_lane(is_slow=is_slow)) is not None:
        made += tasks.work_lane(lane, policy=queries.get_policy())
    return made


def make_due(organization):
    """Let the time of every retry come."""
    WebhookDelivery.objects.filter(organization=organization, status="pending").update(
        next_attempt_at=clock.now()
    )
    for work in (WebhookLane, WebhookChange):
        work.objects.filter(organization=organization, state="pending").update(
            next_attempt_at=clock.now()
        )


def deliveries(organization, **conditions):
    """The organization's deliveries, oldest first."""
    return list(
        WebhookDelivery.objects.filter(organization=organization, **conditions).order_by("id")
    )


def create_customer(organization):
    """Cause a real event of another app: `customer.created`."""
    number = next(_counter)
    return accounts.create_customer(
        organization_id=organization.id,
        details=CustomerDetails(
            name="Ada Lovelace", email="ada@example.com", external_id=None, currencies=()
        ),
        idempotency_key=f"customer-{number}",
        actor=TESTS,
        now=clock.now(),
    )
