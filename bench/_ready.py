"""Makes what the benchmarks of faults begin with; runs as a child."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from apps.core import clock, jobs, outbox
from apps.core.events import public_type
from apps.core.ids import new_id
from apps.ledger.events import JournalEntryPosted
from apps.webhooks import operations as webhooks
from apps.webhooks.rules import signing
from apps.webhooks.rules.inbound import Reading
from bench._events import ACTOR, OPENED, create_endpoint, open_organization, opened, publish

POSTED: Final = public_type(JournalEntryPosted.name)


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, object]]:
    """Return what makes an `endpoint` for an organization's entries, or rows that are `due`."""
    return partial({"endpoint": _open_endpoint, "due": _leave_due}[order["make"]], order)


def _open_endpoint(order: Mapping[str, Any]) -> dict[str, object]:
    create_endpoint(UUID(order["organization"]), order["url"], event_type=POSTED)
    return {}


def _leave_due(order: Mapping[str, Any]) -> dict[str, object]:
    """Leave work of each kind due, each in the state in which its worker finds it."""
    sending, consuming, relaying = (_open_with_endpoint(order["url"]) for _ in range(3))
    publish([opened(sending)])
    _relay()
    while outbox.consume():
        pass
    publish([opened(consuming)])
    _relay()
    publish([opened(relaying)])
    _receive(relaying)
    jobs.plan_due()
    return {}


def _open_with_endpoint(url: str) -> UUID:
    organization_id = open_organization()
    create_endpoint(organization_id, url, event_type=OPENED)
    return organization_id


def _relay() -> None:
    while outbox.relay():
        pass


def _receive(organization_id: UUID) -> None:
    """Have a provider tell something, as its hook keeps it."""
    connection = webhooks.add_provider_connection(
        organization_id=organization_id,
        provider="sandbox",
        name="Cards",
        secret=signing.write_secret(bytes(32)),
        idempotency_key=new_id().hex,
        actor=ACTOR,
        now=clock.now(),
    )
    body = json.dumps({"type": "card.moved", "data": {"id": "card_1"}}).encode()
    webhooks.receive_event(
        connection=connection,
        reading=Reading(type="card.moved", event_id="msg_1", object_key="card_1"),
        body=body,
        now=clock.now(),
    )
