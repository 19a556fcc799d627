"""What led to what: an event names the one that a consumer was working, and keeps its trace."""

import pytest

from apps.core import context, outbox, transactions
from apps.core.context import Cause
from apps.core.errors import InvariantBroken
from apps.core.ids import new_id
from apps.core.models import EventWork, OutboxBatch, OutboxEvent
from apps.core.outbox import Consumer
from apps.ledger import operations as ledger
from tests.core.events_of_tests import (
    ACTOR,
    NOW,
    asked,
    make_due,
    opened,
    publish,
    relay_and_consume,
)
from tests.ledger.factories import create_organization, move, open_account

pytestmark = pytest.mark.django_db(transaction=True)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Reacting:
    """A consumer that publishes an internal event for each that it is given."""

    names_causes = True
    fault: Exception | None = None

    def __call__(self, organization_id, events):
        if self.fault:
            raise self.fault
        for event in events:
            if self.names_causes:
                with context.because_of(Cause(event.id, event.traceparent)):
                    outbox.publish(asked(organization_id), actor=ACTOR, now=NOW)
            else:
                outbox.publish(asked(organization_id), actor=ACTOR, now=NOW)


@pytest.fixture(autouse=True)
def consumer(monkeypatch):
    reacting = Reacting()
    monkeypatch.setattr(outbox._consuming, "_consumers", {"reacting": Consumer(reacting)})
    # A worker's own context; what began the events is over by then.
    context.begin()
    return reacting


def publish_in(traceparent, *events):
    """Commit events as a request of this trace does."""
    context.begin(request_id="req_1", traceparent=traceparent)
    publish(*events)
    context.begin(request_id="task_1")


def effects():
    """Return of each event that the consumer published: what led to it, and its trace."""
    rows = OutboxEvent.objects.filter(public=False).order_by("id")
    return list(rows.values_list("causation_id", "traceparent"))


def given():
    """Return the events that the consumer was given, each as its own effect should name it."""
    rows = OutboxEvent.objects.filter(public=True).order_by("id")
    return list(rows.values_list("id", "traceparent"))


class TestCause:
    def test_is_the_event_that_the_consumer_works(self, consumer):
        consumer.names_causes = False
        publish_in(TRACE, opened("a"))

        relay_and_consume()

        assert effects() == given() == [(given()[0][0], TRACE)]

    def test_is_nothing_where_no_event_led_there(self):
        publish_in(TRACE, opened("a"))
        relay_and_consume()

        publish(asked())

        assert OutboxEvent.objects.get(public=True).causation_id is None
        assert effects()[-1] == (None, "")

    def test_of_several_is_the_one_that_the_consumer_names(self):
        publish_in(TRACE, opened("a"), opened("b"), opened("c"))

        relay_and_consume()

        assert effects() == given()
        assert len(effects()) == 3

    def test_of_batches_that_are_worked_together_is_never_guessed_either(self, consumer):
        consumer.names_causes = False
        publish_in(TRACE, opened("a"))
        publish_in(OTHER_TRACE, opened("b"))

        relay_and_consume()

        # Together none could be named; then each was worked for itself, and there was only one.
        assert effects() == given()

    def test_of_several_is_never_guessed(self, consumer):
        consumer.names_causes = False
        publish_in(TRACE, opened("a"), opened("b"), opened("c"))

        relay_and_consume()
        assert effects() == []
        assert EventWork.objects.get().last_error_code == "consumer_failed"

        # By then each is worked alone, and there is only one that it can be.
        for _ in range(2):
            make_due(EventWork)
            relay_and_consume()
        assert effects() == given()
        assert set(EventWork.objects.values_list("state", flat=True)) == {"done"}

    def test_is_named_by_what_the_ledger_posts_as_well(self, monkeypatch):
        organization_id = create_organization()
        bank = open_account(organization_id, "bank:EUR", type_="asset", floor=None)
        wallet = open_account(organization_id, "wallet:EUR")

        def pay_in(organization_id, events):
            [led] = [event for event in events if event.aggregate_id == "la_a"]
            with context.because_of(Cause(led.id, led.traceparent)):
                ledger.post(
                    organization_id=organization_id,
                    commands=[move(bank, wallet, 100), move(bank, wallet, 200)],
                    actor=ACTOR,
                    now=NOW,
                )

        monkeypatch.setattr(outbox._consuming, "_consumers", {"pay_in": Consumer(pay_in)})
        publish_in(TRACE, opened("a", organization_id=organization_id))
        [led] = OutboxEvent.objects.filter(aggregate_id="la_a").values_list("id", flat=True)

        outbox.relay()
        outbox.consume()

        entries = OutboxEvent.objects.filter(aggregate_type="journal_entry")
        assert list(entries.values_list("causation_id", "traceparent")) == [(led, TRACE)] * 2

    def test_is_forgotten_when_the_consumer_is_through_or_has_failed(self, consumer):
        consumer.fault = ZeroDivisionError()
        publish_in(TRACE, opened("a"))
        relay_and_consume()
        assert (context.current().causes, context.current().traceparent) == ((), "")

        consumer.fault = None
        make_due(EventWork)
        relay_and_consume()

        assert effects() == given()
        assert (context.current().causes, context.current().traceparent) == ((), "")
        assert context.current().request_id == "task_1"

    def test_may_be_said_by_any_operation(self):
        cause = new_id()

        with context.because_of(Cause(cause, TRACE)):
            publish(asked())

        assert effects() == [(cause, TRACE)]

    def test_that_is_open_leaves_nothing_behind(self):
        with (
            context.because_of(Cause(new_id()), Cause(new_id())),
            pytest.raises(InvariantBroken, match="say which one led here"),
        ):
            publish(asked())

        assert not OutboxBatch.objects.exists()
        assert not OutboxEvent.objects.exists()

    def test_may_differ_within_one_transaction(self):
        first, second = new_id(), new_id()

        @transactions.outermost
        def publish_three():
            outbox.publish(asked(), actor=ACTOR, now=NOW)
            for cause in (first, second):
                with context.because_of(Cause(cause)):
                    outbox.publish(asked(), actor=ACTOR, now=NOW)

        publish_three()

        rows = OutboxEvent.objects.order_by("ordinal").values_list("causation_id", flat=True)
        assert list(rows) == [None, first, second]


class TestTrace:
    def test_goes_from_the_request_to_the_work_of_each_consumer(self):
        publish_in(TRACE, opened("a"))

        outbox.relay()

        assert OutboxBatch.objects.get(public=True).traceparent == TRACE
        assert EventWork.objects.get().traceparent == TRACE

    def test_stays_with_events_that_are_set_apart(self, consumer):
        consumer.fault = ZeroDivisionError()
        publish_in(TRACE, opened("a"), opened("b"))
        for _ in range(2):
            relay_and_consume()
            make_due(EventWork)

        rows = EventWork.objects.order_by("id")
        assert list(rows.values_list("state", "traceparent")) == [
            ("done", TRACE),
            *[("pending", TRACE)] * 2,
        ]

    def test_of_several_batches_are_kept_apart(self):
        publish_in(TRACE, opened("a"))
        publish_in(OTHER_TRACE, opened("b"))
        publish_in("", opened("c"))

        relay_and_consume()

        assert effects() == given()
        assert [trace for _, trace in effects()] == [TRACE, OTHER_TRACE, ""]

    def test_is_that_of_the_row_while_it_is_worked(self, consumer, caplog):
        consumer.fault = ZeroDivisionError()
        publish_in(TRACE, opened("a"))
        publish_in(OTHER_TRACE, opened("b"))

        relay_and_consume()

        # A line of ours is a record of which the message is what was said.
        said = [record.msg for record in caplog.records if record.levelname == "ERROR"]
        named = sorted(line["trace_id"] for line in said if "trace_id" in line)
        assert named == [TRACE[3:35], OTHER_TRACE[3:35]]
