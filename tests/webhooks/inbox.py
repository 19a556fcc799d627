"""A provider's side of the inbox: connections, and messages signed by the standard's package."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from django.db.models import Sum
from django.test import Client
from standardwebhooks import Webhook

from apps.core import clock, invariants, work
from apps.core.ids import encode_id
from apps.webhooks import operations, tasks
from apps.webhooks.models import InboundEvent, RefusedCall
from apps.webhooks.rules import signing
from tests.support import past_the_guards
from tests.webhooks.factories import TESTS

if TYPE_CHECKING:
    from apps.webhooks.models import ProviderConnection

SECRET, NEXT, OTHERS = (signing.write_secret(bytes([number]) * 32) for number in range(3))
# What only the body holds.
PRIVATE = "Ada Lovelace of DE89370400440532013000"

_counter = itertools.count(1)


def connect(organization, *, secret=SECRET) -> ProviderConnection:
    """Connect the organization to the sandbox's provider."""
    return operations.add_provider_connection(
        organization_id=organization.id,
        provider="sandbox",
        name="Cards",
        secret=secret,
        idempotency_key=f"connection-{next(_counter)}",
        actor=TESTS,
        now=clock.now(),
    )


def replace_secret(connection, secret, *, overlap_seconds=3600):
    return operations.replace_provider_secret(
        organization_id=connection.organization_id,
        connection_id=connection.id,
        secret=secret,
        overlap_seconds=overlap_seconds,
        idempotency_key=f"secret-{next(_counter)}",
        actor=TESTS,
        now=clock.now(),
    )


def path_of(connection, *, provider="sandbox"):
    return f"/hooks/{provider}/{encode_id('pvc', connection.id)}"


def message(type_="thing.opened", key="thing_1", **more):
    data = {"id": key, "payer": PRIVATE} | more
    return json.dumps({"type": type_, "data": data}).encode()


def headers_of(body, *, message_id, secrets=(SECRET,), at=None):
    at = at or clock.now()
    made = [Webhook(secret).sign(message_id, at, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(made),
    }


def tell(connection, body=None, *, message_id=None, secrets=(SECRET,), at=None, **more):
    """Send one signed message to the connection's hook; return the answer."""
    body = message() if body is None else body
    message_id = message_id or f"msg_{next(_counter)}"
    signed = headers_of(body, message_id=message_id, secrets=secrets, at=at)
    return post(connection, body, headers=signed | more.pop("headers", {}), **more)


def post(connection, body, *, headers, **more):
    return Client().post(
        more.pop("path", path_of(connection)),
        body,
        content_type="application/json",
        headers=headers,
        **more,
    )


def refused():
    """How many calls were counted as refused, by reason."""
    # Over midnight there is a row for each day.
    return dict(RefusedCall.objects.values_list("reason").annotate(Sum("count")).order_by())


def kept():
    return list(InboundEvent.objects.order_by("id"))


def outcomes():
    return [event.outcome for event in kept()]


def say(connection, type_, key="thing_1", **more):
    """Have the provider send an event that is taken."""
    answer = tell(connection, message(type_, key), **more)
    assert answer.status_code == 200


def work_all():
    """What the workers of the queue do until nothing is due."""
    tasks.work_inbound()


def make_due():
    InboundEvent.objects.filter(state__in=work.OPEN).update(next_attempt_at=clock.now())


def age(*, hours):
    """Let the events have been received that much earlier, and be due."""
    past_the_guards(
        "UPDATE webhooks_inboundevent SET"
        f" received_at = received_at - interval '{hours} hours', next_attempt_at = now()"
    )


def broken():
    """The names of the invariants of all apps that do not hold."""
    return [breach.name for breach in invariants.breaches()]
