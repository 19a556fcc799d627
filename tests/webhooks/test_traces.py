"""One trace from a client's request to what is sent because of it."""

from __future__ import annotations

import socket

from apps.core import context
from apps.core.ids import decode_id
from apps.core.models import EventWork, OutboxEvent
from apps.webhooks import operations, tasks
from apps.webhooks.models import WebhookDelivery
from tests.accounts.factories import Api
from tests.webhooks import receiver
from tests.webhooks.factories import create_endpoint, deliver, deliveries, make_due, owe, relay

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ask_for_customer(organization):
    """Make a customer over the API, in this trace; then be a worker of no trace."""
    answer = Api(organization, "customers:write").post(
        "/v1/customers", {"name": "Ada Lovelace", "currencies": []}, traceparent=TRACE
    )
    assert answer.status_code == 201, answer.content
    context.begin(request_id="task_1")


def test_goes_from_the_request_through_the_log_to_the_attempt(organization, far, monkeypatch):
    create_endpoint(organization, far.url, event_types=["customer.*"])
    seen = []
    connect = socket.create_connection

    def look(*args, **more):
        seen.append(context.current().traceparent)
        return connect(*args, **more)

    ask_for_customer(organization)
    relay()
    monkeypatch.setattr(socket, "create_connection", look)
    deliver()

    event = OutboxEvent.objects.get(type="customer.created")
    assert (event.traceparent, event.causation_id) == (TRACE, None)
    assert EventWork.objects.get(batch_id=event.batch_id).traceparent == TRACE
    assert WebhookDelivery.objects.get(event_id=event.id).status == "succeeded"
    assert seen == [TRACE]
    assert context.current().traceparent == ""


def test_is_known_for_each_delivery_of_a_lane(organization, far):
    create_endpoint(organization, far.url, max_in_flight=1)
    ask_for_customer(organization)
    relay()
    owe(organization, "thing_1")
    lane = tasks.claim_lane(is_slow=False)

    opened = operations.open_lane(lane=lane, limit=10, now=deliveries(organization)[0].created_at)

    traces = {
        item.traceparent: OutboxEvent.objects.get(id=decode_id("evt", item.message_id)).type
        for item in opened.owed
    }
    assert traces == {TRACE: "customer.created", "": "thing.changed"}


def test_ends_with_the_event_that_was_never_taken_as_the_cause(organization, far):
    far.answers = [receiver.answer(500)]
    create_endpoint(organization, far.url, event_types=["customer.*"])
    ask_for_customer(organization)
    relay()

    for _ in range(10):
        deliver()
        make_due(organization)

    event = OutboxEvent.objects.get(type="customer.created")
    exhausted = OutboxEvent.objects.get(type="webhook_delivery.exhausted")
    assert WebhookDelivery.objects.get(event_id=event.id).status == "failed"
    assert (exhausted.causation_id, exhausted.traceparent) == (event.id, TRACE)
