"""The outbox: with the change or not at all, once each, in order, whoever dies on the way."""

import json
import threading
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apps.core import (
    clock,
    context,
    counters,
    invariants,
    outbox,
    queries,
    statements,
    transactions,
    work,
    working,
)
from apps.core.errors import InvariantBroken, RuleViolation
from apps.core.ids import first_id, new_id
from apps.core.models import EventWork, FeedHead, OutboxBatch, OutboxEvent
from apps.core.outbox import Consumer
from tests.core.events_of_tests import (
    ACTOR,
    NOW,
    ORGANIZATION,
    OTHER,
    asked,
    end_delays,
    make_due,
    opened,
    positions,
    publish,
    relay_and_consume,
    states,
)
from tests.core.weeks_of_tests import at
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Recorder:
    """A consumer that keeps what it is given, and breaks on what it is told to."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.poison: set[str] = set()
        self.fault: type[BaseException] = ZeroDivisionError

    @property
    def codes(self) -> list[str]:
        return [code for batch in self.batches for code in batch]

    def __call__(self, organization_id, events):
        codes = [event.data["code"] for event in events]
        if self.poison & set(codes):
            raise self.fault("poison")
        FeedHead.objects.create(organization_id=new_id(), last_position=len(codes))
        self.batches.append(codes)


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(outbox._consuming, "_consumers", {"recorder": Consumer(recorder)})
    return recorder


def check_core() -> list[Any]:
    return [
        breach
        for _, breach in invariants.check(invariants.collect(only_apps=frozenset({"core"})))
        if breach
    ]


class TestPublish:
    def test_writes_a_snapshot_with_the_change(self):
        context.begin(request_id="req_1", traceparent="00-trace")

        publish(opened("cash", sequence=3))

        event, batch = OutboxEvent.objects.get(), OutboxBatch.objects.get()
        assert (event.name, event.type) == (
            "ledger.ledger_account.opened",
            "ledger_account.opened",
        )
        assert event.data == {"code": "cash", "type": "liability", "currency": "EUR"}
        assert (event.aggregate_type, event.aggregate_id, event.sequence) == (
            "ledger_account",
            "la_cash",
            3,
        )
        assert (event.occurred_at, event.actor) == (NOW, "job:tests")
        assert (event.request_id, event.traceparent) == ("req_1", "00-trace")
        assert (event.organization_id, event.batch_id, event.ordinal) == (
            ORGANIZATION,
            batch.id,
            0,
        )
        assert (batch.state, batch.public, batch.event_count) == ("pending", True, 1)

    def test_leaves_nothing_of_what_was_refused(self):
        def refuse():
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            publish(opened(), then=refuse)

        assert not OutboxEvent.objects.exists()
        assert not OutboxBatch.objects.exists()

    def test_writes_ten_thousand_with_one_statement(self):
        events = [opened(str(n), about=f"la_{n}") for n in range(10_000)]

        with CaptureQueriesContext(connection) as queries:
            publish(*events)

        assert len([query for query in queries if "core_outbox" in query["sql"]]) == 1
        batch = OutboxBatch.objects.get()
        assert batch.event_count == OutboxEvent.objects.filter(batch_id=batch.id).count() == 10_000
        codes = OutboxEvent.objects.order_by("ordinal").values_list("data__code", flat=True)
        assert list(codes) == [str(n) for n in range(10_000)]

    def test_takes_the_snapshot_at_once(self):
        context.begin(request_id="req_1")
        known = ["then"]
        event = Odd(organization_id=ORGANIZATION, aggregate_id="x", occurred_at=NOW, odd=known)

        publish(event, then=lambda: (known.append("later"), context.begin(request_id="req_2")))

        told = OutboxEvent.objects.get()
        assert (told.data["odd"], told.request_id) == (["then"], "req_1")

    def test_writes_of_each_kind_what_it_is(self):
        later = Later(organization_id=ORGANIZATION, aggregate_id="x", occurred_at=NOW, odd=1)

        publish(opened("a"), asked(), later, opened("b"))

        columns = ("ordinal", "type", "public", "schema_version", "aggregate_id")
        assert list(OutboxEvent.objects.order_by("ordinal").values_list(*columns)) == [
            (0, "ledger_account.opened", True, 1, "la_a"),
            (1, "approval.requested", False, 1, "apr_1"),
            (2, "ledger_account.opened", True, 3, "x"),
            (3, "ledger_account.opened", True, 1, "la_b"),
        ]
        batch = OutboxBatch.objects.get()
        assert (batch.event_count, batch.public) == (4, True)

    def test_writes_it_after_every_lock_and_every_change(self):
        def lock_and_change():
            head = queries.lock_feed_head(organization_id=OTHER)
            head.save(update_fields=["last_position"])

        with CaptureQueriesContext(connection) as asked_for:
            publish(opened(), then=lock_and_change)

        of_it = [query["sql"] for query in asked_for if query["sql"] not in {"BEGIN", "COMMIT"}]
        assert "core_outbox_batch" in of_it[-1]
        assert len(of_it) == 4

    def test_is_refused_outside_a_transaction(self):
        with pytest.raises(InvariantBroken):
            outbox.publish(opened(), actor=ACTOR, now=NOW)

    def test_is_refused_for_two_organizations_at_once(self):
        with pytest.raises(InvariantBroken, match="one organisation"):
            publish(opened(), opened(organization_id=OTHER))

    @pytest.mark.parametrize("letter", ["x", "\u00e9", "\u20ac", "\U0001f4b6"])
    def test_is_refused_for_more_than_16_kb_of_whatever_letters(self, letter):
        rest = json.dumps(opened("").data(), separators=(",", ":"))
        most, over = divmod(16_000 - len(rest), len(letter.encode()))
        publish(opened(letter * most + "x" * over, about="la_1"))

        with pytest.raises(InvariantBroken, match="16000 bytes"):
            publish(opened(letter * most + "x" * (over + 1), about="la_1"))

        assert OutboxEvent.objects.count() == 1

    def test_is_refused_for_an_amount_as_a_float(self):
        with pytest.raises(InvariantBroken, match="float"):
            publish(Odd(organization_id=ORGANIZATION, aggregate_id="x", occurred_at=NOW, odd=0.5))

    def test_owes_nobody_an_internal_event(self):
        publish(asked())

        assert OutboxBatch.objects.get().state == "done"
        assert outbox.relay() == 0
        assert positions() == []

    def test_forgets_the_events_of_an_earlier_run(self):
        runs = []

        def fail_once():
            runs.append(1)
            if len(runs) == 1:
                fault = OperationalError("made up")
                fault.__cause__ = _deadlock()
                raise fault

        publish(opened(), then=fail_once)

        assert (len(runs), OutboxEvent.objects.count()) == (2, 1)


def _deadlock():
    import psycopg  # noqa: PLC0415  (this test alone needs it)

    return psycopg.errors.DeadlockDetected()


@dataclass(frozen=True, kw_only=True)
class Odd(type(opened())):
    """An event whose data has no JSON of its own."""

    code: str = ""
    type: str = ""
    currency: str = ""
    name: ClassVar[str] = "ledger.ledger_account.opened"
    odd: Any


@dataclass(frozen=True, kw_only=True)
class Later(Odd):
    """The same event, of a later version of its data."""

    schema_version: ClassVar[int] = 3


class TestSnapshot:
    def test_has_one_form_of_each_type(self):
        event = Odd(
            organization_id=ORGANIZATION,
            aggregate_id="x",
            occurred_at=NOW,
            odd={"at": NOW, "on": date(2026, 11, 2), "ids": (ORGANIZATION,), "none": None},
        )

        assert event.data()["odd"] == {
            "at": "2026-11-02T09:30:00Z",
            "on": "2026-11-02",
            "ids": [str(ORGANIZATION)],
            "none": None,
        }


class TestRelay:
    def test_numbers_batches_in_the_order_of_their_commit(self, recorder):
        for code in "abc":
            publish(opened(code))

        relay_and_consume()

        assert positions() == [1, 2, 3]
        assert recorder.codes == ["a", "b", "c"]
        assert set(OutboxBatch.objects.values_list("state", flat=True)) == {"done"}
        assert check_core() == []

    def test_goes_by_the_databases_clock_whatever_the_senders_say(self):
        for sequence, hours in enumerate((2, 0, -2), 1):
            at(
                clock.now() + timedelta(hours=hours),
                partial(publish, opened(sequence=sequence, about="x")),
            )
        by_id = OutboxEvent.objects.order_by("id").values_list("sequence", flat=True)
        assert list(by_id) == [3, 2, 1]

        outbox.relay()

        assert positions() == [1, 2, 3]
        assert check_core() == []

    def test_passes_over_no_batch_that_is_committed_after_later_ones(self, recorder):
        written, leave = threading.Event(), threading.Event()

        def stay_open():
            # The batch is there, with its id and its time, and nobody sees it yet.
            statements.flush()
            written.set()
            assert leave.wait(30)

        def publish_slowly():
            publish(
                opened("slow"),
                then=lambda: transactions.current().before_commit.append(stay_open),
            )

        def go_on_beside():
            written.wait(30)
            publish(opened("quick"))
            relay_and_consume()
            seen = queries.find_feed_portion(
                organization_id=ORGANIZATION, name="ledger.ledger_account.opened", after=0, limit=9
            )
            leave.set()
            return seen.last_position, seen.aggregate_ids

        _, seen = race(publish_slowly, go_on_beside)
        relay_and_consume()

        assert seen == (1, ("la_quick",))
        portion = queries.find_feed_portion(
            organization_id=ORGANIZATION, name="ledger.ledger_account.opened", after=1, limit=9
        )
        assert (portion.last_position, portion.aggregate_ids) == (2, ("la_slow",))
        assert recorder.codes == ["quick", "slow"]
        assert check_core() == []

    def test_counts_for_each_organization_alone(self):
        publish(opened())
        publish(opened(organization_id=OTHER))
        publish(opened())

        relay_and_consume()

        assert (positions(), positions(OTHER)) == ([1, 2], [1])

    def test_numbers_what_others_have_beside_a_backlog(self, recorder, monkeypatch):
        monkeypatch.setattr(outbox._relaying, "_PORTION", 20)
        for _ in range(210):
            publish(opened())
        publish(opened(organization_id=OTHER))

        outbox.relay(limit=10)

        # As the consumer's rows were made: after one portion of the backlog, not after all of it.
        owners = list(EventWork.objects.order_by("id").values_list("organization_id", flat=True))
        assert owners.index(OTHER) == 20
        assert (positions(), positions(OTHER)) == (list(range(1, 211)), [1])

    def test_gives_no_place_to_a_batch_without_public_events(self):
        publish(opened())
        publish(asked())
        publish(asked(), opened())

        relay_and_consume()

        assert positions() == [1, 2]

    def test_is_counted_by_batch_and_so_is_what_consumers_work(self, recorder, metrics_folder):
        publish(opened(), opened())
        publish(opened())
        publish(opened(organization_id=OTHER))

        relay_and_consume()

        found = counters.read()
        for kind in ("core.relay", "core.consume"):
            assert found[f'kassa_work_seconds_count{{kind="{kind}",outcome="done"}}'] == 3.0

    def test_of_a_feed_that_cannot_go_on_holds_up_no_other(self):
        publish(opened())
        outbox.relay()
        # Its head is behind: the next position was given already.
        FeedHead.objects.update(last_position=0)
        publish(opened())
        publish(opened(organization_id=OTHER))

        assert outbox.relay() == 2

        assert (positions(), positions(OTHER)) == ([1, None], [1])
        assert OutboxBatch.objects.get(position=None).state == "leased"
        FeedHead.objects.filter(organization_id=ORGANIZATION).update(last_position=1)
        make_due(OutboxBatch)
        outbox.relay()
        assert positions() == [1, 2]

    def test_by_two_at_once_leaves_no_hole_and_no_double(self, recorder):
        for n in range(60):
            publish(opened(str(n)))

        race(*[partial(outbox.relay, limit=7)] * 6)
        relay_and_consume()

        assert positions() == list(range(1, 61))
        assert sorted(map(int, recorder.codes)) == list(range(60))
        assert check_core() == []

    def test_while_others_publish_keeps_each_aggregates_order(self):
        def publish_all(about):
            for sequence in range(1, 16):
                publish(opened(sequence=sequence, about=about))

        stop = threading.Event()

        def relay_all():
            while not stop.is_set():
                outbox.relay(limit=3)

        def publish_then_stop():
            race(*(partial(publish_all, f"la_{n}") for n in range(4)))
            stop.set()

        race(publish_then_stop, relay_all, relay_all)
        relay_and_consume()

        placed = {batch.id: batch.position for batch in OutboxBatch.objects.all()}
        for n in range(4):
            events = OutboxEvent.objects.filter(aggregate_id=f"la_{n}").order_by("sequence")
            order = [placed[event.batch_id] for event in events]
            assert order == sorted(order)
            assert len(order) == 15
        assert check_core() == []

    def test_does_not_pass_over_the_batch_of_a_slow_or_dead_relay(self):
        publish(opened("first"))
        [held] = work.claim_due(OutboxBatch, limit=1, lease_seconds=60)
        publish(opened("second"))

        outbox.relay()

        assert positions() == [1, 2]
        held.refresh_from_db()
        assert (held.state, held.lease_token) == ("done", None)

    def test_again_by_the_slow_one_changes_nothing(self):
        publish(opened())
        work.claim_due(OutboxBatch, limit=1, lease_seconds=60)
        publish(opened())
        outbox.relay()

        outbox._relaying._relay_portion(organization_id=ORGANIZATION)

        assert positions() == [1, 2]
        assert EventWork.objects.count() == 2

    def test_works_a_backlog_in_portions(self, monkeypatch):
        monkeypatch.setattr(outbox._relaying, "_PORTION", 2)
        for _ in range(5):
            publish(opened())

        assert outbox.relay() == 5

        assert positions() == [1, 2, 3, 4, 5]

    def test_whose_time_is_over_gives_back_what_it_did_not_number(self, monkeypatch):
        monkeypatch.setattr(outbox._relaying, "_PORTION", 2)
        for _ in range(5):
            publish(opened())

        assert outbox.relay(seconds_max=-1) == 5

        # Due at once for whoever comes, and nothing is held against them.
        rows = OutboxBatch.objects.order_by("inserted_at")
        assert list(rows.values_list("position", "state", "attempts", "lapses")) == [
            (1, "done", 1, 0),
            (2, "done", 1, 0),
            *[(None, "pending", 0, 0)] * 3,
        ]
        assert outbox.relay() == 3
        assert positions() == [1, 2, 3, 4, 5]

    def test_gives_a_consumer_that_registers_later_what_comes_later(self, recorder):
        publish(opened("early"))
        outbox.relay()
        late = Recorder()
        outbox.register_consumer(name="late", handler=late)
        publish(opened("later"))

        relay_and_consume()

        assert recorder.codes == ["early", "later"]
        assert late.batches == [["later"]]


class TestConsume:
    def test_gives_the_public_events_of_a_batch_in_order(self, recorder):
        publish(opened("a"), asked(), opened("b"))

        relay_and_consume()

        assert recorder.batches == [["a", "b"]]

    def test_commits_effect_and_done_together(self, recorder, monkeypatch):
        publish(opened())
        outbox.relay()
        before = FeedHead.objects.count()

        def fail(_row):
            raise OperationalError("made up")

        monkeypatch.setattr(work, "mark_done", fail)
        outbox.consume()

        assert FeedHead.objects.count() == before
        assert states() == ["pending"]

    def test_by_many_at_once_works_each_batch_once(self, recorder):
        for n in range(40):
            publish(opened(str(n)))
        outbox.relay()

        race(*[partial(outbox.consume, limit=3)] * 6)
        relay_and_consume()

        assert sorted(map(int, recorder.codes)) == list(range(40))

    def test_delays_only_the_consumer_that_fails(self, recorder):
        broken = Recorder()
        broken.poison = {"a"}
        outbox.register_consumer(name="broken", handler=broken)
        publish(opened("a"))

        relay_and_consume()

        assert recorder.batches == [["a"]]
        row = EventWork.objects.get(consumer="broken")
        assert (row.state, row.attempts, row.last_error_code) == ("pending", 1, "consumer_failed")

    def test_leaves_the_poison_event_of_a_batch_alone(self, recorder):
        recorder.poison = {"bad"}
        publish(opened("a"), opened("bad"), asked(), opened("b"))
        relay_and_consume()
        assert (recorder.batches, states()) == ([], ["pending"])

        for _ in range(2):
            make_due(EventWork)
            relay_and_consume()

        assert sorted(recorder.batches) == [["a"], ["b"]]
        assert EventWork.objects.get(state="pending").ordinal == 1

        recorder.poison = set()
        make_due(EventWork)
        relay_and_consume()
        assert sorted(recorder.batches) == [["a"], ["b"], ["bad"]]

    def test_does_not_split_a_batch_because_the_database_was_away(self, recorder):
        recorder.poison, recorder.fault = {"a"}, OperationalError
        publish(opened("a"), opened("b"))

        for _ in range(3):
            relay_and_consume()
            make_due(EventWork)

        row = EventWork.objects.get()
        assert (row.ordinal, row.attempts) == (None, 3)

    def test_sets_a_poison_event_aside_after_the_twelfth_attempt(self, recorder):
        recorder.poison = {"bad"}
        publish(opened("bad"))

        for _ in range(14):
            make_due(EventWork)
            relay_and_consume()

        row = EventWork.objects.get()
        assert (row.state, row.attempts) == ("quarantined", 12)

    def test_sets_of_a_batch_only_the_event_aside_that_kills_its_worker(self, recorder):
        recorder.poison, recorder.fault = {"bad"}, KeyboardInterrupt
        given = []

        def count(organization_id, events):
            given.append(len(events))
            recorder(organization_id, events)

        outbox.register_consumer(name="recorder", handler=count)
        publish(*map(opened, ("a", "b", "bad", "c", "d")), opened("bad2", about="la_bad"))

        for _ in range(20):
            make_due(EventWork)
            try:
                relay_and_consume()
            except KeyboardInterrupt:
                continue

        # What killed its workers twice is not tried as a whole again.
        assert given[:2] == [6, 6]
        assert set(given[2:]) == {1}
        assert sorted(recorder.codes) == ["a", "b", "bad2", "c", "d"]
        row = EventWork.objects.get(state="quarantined")
        assert (row.ordinal, row.last_error_code) == (2, "lapsed")
        assert sorted(states()) == ["done"] * 6 + ["quarantined"]

    def test_waits_for_a_process_that_knows_the_consumer(self, recorder, monkeypatch):
        publish(opened("a"))
        outbox.relay()
        monkeypatch.setattr(outbox._consuming, "_consumers", {})

        outbox.consume()

        assert EventWork.objects.get().last_error_code == "consumer_unknown"
        monkeypatch.setattr(outbox._consuming, "_consumers", {"recorder": Consumer(recorder)})
        make_due(EventWork)
        outbox.consume()
        assert recorder.batches == [["a"]]

    def test_leaves_alone_what_another_worker_took_over(self, recorder):
        publish(opened("a"))
        outbox.relay()
        [claimed] = work.claim_due(EventWork, limit=1, lease_seconds=60)
        make_due(EventWork)
        [taken] = work.claim_due(EventWork, limit=1, lease_seconds=60)

        working.work_row(outbox.CONSUMING, claimed)
        assert (recorder.batches, EventWork.objects.get().state) == ([], "leased")

        working.work_row(outbox.CONSUMING, taken)
        assert recorder.batches == [["a"]]


class TestPortions:
    """A batch of any size ends: what one transaction takes is bounded, and noted with its work."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr(outbox._consuming, "_EVENTS_MAX", 4)

    def publish_ten(self):
        publish(*(opened(code) for code in "abcdefghij"))
        outbox.relay()

    def test_are_given_in_order_each_in_a_transaction_of_its_own(self, recorder):
        self.publish_ten()

        assert outbox.consume() == 1
        row = EventWork.objects.get()
        assert (row.state, row.next_ordinal, row.attempts) == ("pending", 4, 0)
        assert recorder.batches == [list("abcd")]
        relay_and_consume()

        assert recorder.batches == [list("abcd"), list("efgh"), list("ij")]
        assert states() == ["done"]

    def test_hold_250_public_events(self, recorder, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(outbox._consuming, "_consumers", {"recorder": Consumer(recorder)})
        publish(*(event for n in range(550) for event in (opened(str(n)), asked())))

        relay_and_consume()

        assert [len(batch) for batch in recorder.batches] == [250, 250, 50]
        assert [int(code) for batch in recorder.batches for code in batch] == list(range(550))

    def test_go_on_where_a_worker_died(self, recorder):
        self.publish_ten()
        outbox.consume()
        # It dies with the next portion in hand.
        work.claim_due(EventWork, limit=1, lease_seconds=60)
        assert outbox.consume() == 0
        make_due(EventWork)

        relay_and_consume()

        assert sorted("".join(code for batch in recorder.batches for code in batch)) == list(
            "abcdefghij"
        )
        assert states() == ["done"]

    def test_undo_nothing_of_those_before_when_one_fails(self, recorder):
        self.publish_ten()
        recorder.poison = {"f"}
        relay_and_consume()

        assert recorder.batches == [list("abcd")]
        row = EventWork.objects.get()
        assert (row.state, row.next_ordinal, row.attempts) == ("pending", 4, 1)

    def test_leave_the_poison_event_alone_and_go_on(self, recorder):
        self.publish_ten()
        recorder.poison = {"f"}
        for _ in range(3):
            make_due(EventWork)
            relay_and_consume()

        assert sorted("".join(code for batch in recorder.batches for code in batch)) == list(
            "abcdeghij"
        )
        assert EventWork.objects.get(state="pending").ordinal == 5
        assert check_core() == []

    def test_get_smaller_as_long_as_they_take_too_long(self, recorder):
        def cancel_if_large(organization_id, events):
            if len(events) > 1:
                raise OperationalError("canceling statement due to statement timeout")
            recorder(organization_id, events)

        outbox.register_consumer(name="recorder", handler=cancel_if_large)
        publish(opened("a"), opened("b"), opened("c"))

        for _ in range(7):
            relay_and_consume()
            make_due(EventWork)

        assert recorder.batches == [["a"], ["b"], ["c"]]
        assert states() == ["done"]

    def test_give_other_batches_their_turn(self, recorder):
        self.publish_ten()
        publish(opened("z"))
        outbox.relay()

        while outbox.consume(limit=1):
            pass

        assert recorder.batches == [list("abcd"), ["z"], list("efgh"), list("ij")]

    def test_by_many_at_once_are_worked_once_each(self, recorder):
        for _ in range(5):
            self.publish_ten()

        race(*[partial(outbox.consume, limit=2)] * 5)
        relay_and_consume()

        worked = sorted("".join(code for batch in recorder.batches for code in batch))
        assert worked == sorted("abcdefghij" * 5)


class TestOrdered:
    """A consumer that asks for it gets an aggregate's events in order, whoever works them."""

    @pytest.fixture(autouse=True)
    def _ordered(self, recorder):
        outbox.register_consumer(name="recorder", handler=recorder, ordered=True)

    def relayed(self, *events):
        publish(*events)
        outbox.relay()

    def hold(self):
        """Lease the row that is due, as a slow worker does."""
        [row] = work.claim_due(EventWork, limit=1, lease_seconds=60)
        return row

    def test_waits_for_the_earlier_one_that_another_worker_has(self, recorder):
        self.relayed(opened("a", sequence=1, about="x"))
        first = self.hold()
        self.relayed(opened("b", sequence=2, about="x"))

        outbox.consume()

        assert recorder.batches == []
        row = EventWork.objects.exclude(id=first.id).get()
        assert (row.state, row.last_error_code) == ("pending", "waits_for_earlier")
        working.work_row(outbox.CONSUMING, first)
        end_delays(EventWork)
        outbox.consume()
        assert recorder.batches == [["a"], ["b"]]
        assert states() == ["done", "done"]

    def test_has_all_its_tries_after_it_has_waited(self, recorder):
        recorder.poison = {"b"}
        self.relayed(opened("a", sequence=1, about="x"))
        first = self.hold()
        self.relayed(opened("b", sequence=2, about="x"))
        for _ in range(20):
            end_delays(EventWork)
            outbox.consume()
        working.work_row(outbox.CONSUMING, first)

        end_delays(EventWork)
        outbox.consume()

        row = EventWork.objects.exclude(id=first.id).get()
        assert (row.state, row.attempts, row.last_error_code) == ("pending", 1, "consumer_failed")

    def test_looks_again_after_as_long_as_it_has_waited(self):
        self.relayed(opened("a", sequence=1, about="x"))
        first = self.hold()
        self.relayed(opened("b", sequence=2, about="x"))
        waits = EventWork.objects.exclude(id=first.id)
        delays = []
        for seconds in (0, 3_600):
            waits.update(id=first_id(clock.now() - timedelta(seconds=seconds)))
            end_delays(EventWork)
            outbox.consume()
            delays.append((waits.get().next_attempt_at - clock.now()).total_seconds())

        assert delays[0] < delays[1] <= 30

    def test_does_not_wait_where_nobody_asked_for_order(self, recorder):
        outbox.register_consumer(name="recorder", handler=recorder)
        self.relayed(opened("a", sequence=1, about="x"))
        self.hold()
        self.relayed(opened("b", sequence=2, about="x"))

        outbox.consume()

        assert recorder.batches == [["b"]]

    def test_waits_neither_for_other_aggregates_nor_for_other_consumers(self, recorder):
        stuck = Recorder()
        stuck.poison = {"a"}
        outbox.register_consumer(name="stuck", handler=stuck, ordered=True)
        self.relayed(opened("a", sequence=1, about="x"))
        self.relayed(opened("b", sequence=2, about="x"), opened("c", sequence=2, about="y"))

        relay_and_consume()

        assert recorder.codes == ["a", "b", "c"]
        assert stuck.batches == [["c"]]

    def test_sets_apart_in_a_batch_what_waits(self, recorder):
        self.relayed(opened("a", sequence=1, about="x"))
        first = self.hold()
        self.relayed(opened("b", sequence=2, about="x"), opened("c", about="y"))

        outbox.consume()

        assert recorder.batches == [["c"]]
        assert EventWork.objects.get(state="pending").ordinal == 0
        working.work_row(outbox.CONSUMING, first)
        end_delays(EventWork)
        relay_and_consume()
        assert recorder.batches == [["c"], ["a"], ["b"]]
        assert set(states()) == {"done"}

    def test_holds_nothing_back_for_what_was_quarantined(self, recorder):
        recorder.poison = {"a"}
        self.relayed(opened("a", sequence=1, about="x"))
        self.relayed(opened("b", sequence=2, about="x"))
        for _ in range(11):
            relay_and_consume()
            make_due(EventWork)
        assert recorder.batches == []

        relay_and_consume()
        make_due(EventWork)
        relay_and_consume()

        assert sorted(states()) == ["done", "quarantined"]
        assert recorder.batches == [["b"]]

    def test_keeps_order_among_what_was_split_off_a_batch(self, recorder):
        recorder.poison = {"bad"}
        self.relayed(
            opened("bad", sequence=1, about="x"),
            opened("next", sequence=2, about="x"),
            opened("other", about="y"),
        )
        for _ in range(4):
            relay_and_consume()
            make_due(EventWork)
        assert recorder.batches == [["other"]]
        self.relayed(opened("last", sequence=3, about="x"))
        relay_and_consume()
        assert recorder.batches == [["other"]]

        recorder.poison = set()
        for _ in range(3):
            make_due(EventWork)
            relay_and_consume()

        assert recorder.codes == ["other", "bad", "next", "last"]

    def test_keeps_order_across_the_portions_of_a_batch(self, recorder, monkeypatch):
        monkeypatch.setattr(outbox._consuming, "_EVENTS_MAX", 2)
        self.relayed(*(opened(str(n), sequence=n, about="x") for n in range(1, 6)))
        first = self.hold()
        working.work_row(outbox.CONSUMING, first)
        held = self.hold()
        self.relayed(opened("6", sequence=6, about="x"))
        outbox.consume()
        assert recorder.batches == [["1", "2"]]

        working.work_row(outbox.CONSUMING, held)
        for _ in range(3):
            end_delays(EventWork)
            relay_and_consume()

        assert recorder.batches == [["1", "2"], ["3", "4"], ["5"], ["6"]]

    def test_counts_no_look_in_vain_as_a_try(self, recorder):
        self.relayed(opened("a", sequence=1, about="x"))
        first = self.hold()
        self.relayed(opened("b", sequence=2, about="x"))
        for _ in range(15):
            end_delays(EventWork)
            outbox.consume()
        working.work_row(outbox.CONSUMING, first)
        recorder.poison = {"b"}

        end_delays(EventWork)
        outbox.consume()

        row = EventWork.objects.exclude(id=first.id).get()
        assert (row.state, row.attempts, row.last_error_code) == ("pending", 1, "consumer_failed")

    def test_asks_nothing_more_for_the_first_event_of_an_aggregate(self, recorder):
        self.relayed(opened("a", about="x"))

        with CaptureQueriesContext(connection) as queries:
            outbox.consume()

        assert recorder.batches == [["a"]]
        assert not [query for query in queries if "nearest" in query["sql"]]

    def test_goes_on_at_once_with_all_that_waited_for_one_that_was_held_up(self, recorder):
        self.relayed(opened("1", sequence=1, about="x"))
        first = self.hold()
        for sequence in range(2, 7):
            self.relayed(opened(str(sequence), sequence=sequence, about="x"))
        # All wait as long as they may, each until a time of its own, the last ones first.
        outbox.consume()
        waits = EventWork.objects.exclude(id=first.id)
        for place, row in enumerate(waits.order_by("-id"), 1):
            row.next_attempt_at = clock.now() + timedelta(seconds=5 * place)
            row.save()

        working.work_row(outbox.CONSUMING, first)
        outbox.consume()

        assert recorder.batches == [["1"], ["2", "3", "4", "5", "6"]]
        assert set(states()) == {"done"}

    def test_goes_on_with_nothing_that_waits_for_another(self, recorder):
        self.relayed(opened("a1", sequence=1, about="x"))
        first = self.hold()
        self.relayed(opened("b1", sequence=1, about="y"))
        self.hold()
        self.relayed(opened("a2", sequence=2, about="x"))
        self.relayed(opened("b2", sequence=2, about="y"))
        outbox.consume()
        later = clock.now() + timedelta(seconds=30)
        EventWork.objects.filter(state="pending").update(next_attempt_at=later)

        working.work_row(outbox.CONSUMING, first)
        outbox.consume()

        assert recorder.batches == [["a1"], ["a2"]]
        assert EventWork.objects.get(state="pending").next_attempt_at == later

    @pytest.mark.parametrize("count", [20, pytest.param(50, marks=pytest.mark.soak)])
    def test_holds_for_four_workers_at_once(self, recorder, count):
        for sequence in range(1, count + 1):
            publish(*(opened(f"{n}:{sequence}", sequence=sequence, about=f"x{n}") for n in "abcd"))
        outbox.relay()

        def work_all():
            while EventWork.objects.exclude(state="done").exists():
                if not outbox.consume(limit=3):
                    end_delays(EventWork)

        race(*[work_all] * 4)

        worked = [code.split(":") for batch in recorder.batches for code in batch]
        for n in "abcd":
            rank = [int(sequence) for about, sequence in worked if about == n]
            assert rank == list(range(1, count + 1))


class TestHead:
    def test_is_locked_by_one_relay_at_a_time(self):
        publish(opened())
        outbox.relay()
        publish(opened())
        entered, leave = threading.Event(), threading.Event()

        @transactions.outermost
        def hold():
            head = queries.lock_feed_head(organization_id=ORGANIZATION)
            entered.set()
            assert leave.wait(30)
            head.last_position = 41
            head.save(update_fields=["last_position"])

        def relay():
            entered.wait(30)
            outbox.relay()

        def let_go():
            entered.wait(30)
            wait_until(_is_waited_for)
            leave.set()

        race(hold, relay, let_go)

        # Whoever read the head before it was given the lock would go on from where it stood then.
        assert positions() == [1, 42]
        assert FeedHead.objects.get(organization_id=ORGANIZATION).last_position == 42


def _is_waited_for() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )
        [(is_so,)] = cursor.fetchall()
    return bool(is_so)
