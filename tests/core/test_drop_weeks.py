"""Weeks of events that go when nobody needs them, and what is said of those that stay."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError

from apps.core import clock, partitions, queries, retention
from apps.core.models import EventWork, FeedHead, OutboxBatch, OutboxEvent
from apps.core.partitions import EventsStillNeeded
from tests.core.events_of_tests import ORGANIZATION, OTHER, opened, publish, relay_and_consume
from tests.core.weeks_of_tests import (
    BATCHES,
    EVENTS,
    WEEK,
    at,
    begin_weeks,
    broken,
    happen,
    monday,
    part_of,
    parts,
    run,
)
from tests.support import past_the_guards, race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now, monkeypatch):
    begin_weeks(now, monkeypatch)


class TestDropWeeks:
    def test_drops_what_is_over_and_nothing_else(self, now):
        since = partitions.kept_since(now)
        for sequence, instant in enumerate(
            (since - 5 * WEEK, since - timedelta(seconds=1), since, now), 1
        ):
            happen(instant, opened(sequence=sequence))
        happen(since - WEEK, opened("x", organization_id=OTHER))

        partitions.drop_weeks("", now)

        left = OutboxEvent.objects.order_by("sequence").values_list("sequence", flat=True)
        assert list(left) == [3, 4]
        assert list(OutboxBatch.objects.order_by("id").values_list("position", flat=True)) == [3, 4]
        assert parts(EVENTS)[:2] == ["core_outbox_event_before", part_of(since)]
        heads = FeedHead.objects.filter(organization_id__in=[ORGANIZATION, OTHER])
        assert list(
            heads.order_by("organization_id").values_list("last_position", "dropped_position")
        ) == [(4, 2), (1, 1)]
        assert {head.kept_since for head in heads} == {since}
        assert broken() == []

    def test_is_over_when_nothing_is_left_to_drop(self, now):
        happen(now - 19 * WEEK)
        partitions.drop_weeks("", now)
        made = run("SELECT oid FROM pg_class WHERE relname = 'core_outbox_event_before'")

        partitions.drop_weeks("", now)

        assert run("SELECT oid FROM pg_class WHERE relname = 'core_outbox_event_before'") == made

    def test_takes_the_work_that_was_done_along(self, now):
        happen(now - 19 * WEEK)
        happen(now, opened(sequence=2))
        partitions.drop_weeks("", now)

        list(retention.purge_event_work("", now, ""))

        assert EventWork.objects.count() == 1
        assert broken() == []

    def test_waits_for_a_batch_that_has_no_position(self, now):
        at(now - 19 * WEEK, lambda: publish(opened()))

        with pytest.raises(EventsStillNeeded, match=r"core\.relay"):
            partitions.drop_weeks("", now)

        assert OutboxEvent.objects.count() == 1
        relay_and_consume()
        partitions.drop_weeks("", now)
        assert OutboxEvent.objects.count() == 0

    @pytest.mark.parametrize("state", ["pending", "leased", "failed", "quarantined", "paused"])
    def test_waits_for_a_consumer_that_is_not_done(self, now, state):
        happen(now - 19 * WEEK)
        EventWork.objects.update(state=state)

        with pytest.raises(EventsStillNeeded, match=r"core\.consume"):
            partitions.drop_weeks("", now)

        assert OutboxEvent.objects.count() == 1
        assert FeedHead.objects.get().dropped_position == 0

    def test_is_not_held_up_by_work_on_what_stays(self, now):
        happen(now - 19 * WEEK)
        happen(now - WEEK, opened(sequence=2))
        past_the_guards(
            "UPDATE core_event_work SET state = 'quarantined'"
            " WHERE batch_id = (SELECT id FROM core_outbox_batch WHERE position = 2)"
        )
        at(now, lambda: publish(opened(sequence=3)))

        partitions.drop_weeks("", now)

        assert OutboxEvent.objects.count() == 2

    def test_cuts_both_tables_at_one_place(self, now):
        run("ALTER TABLE core_outbox_batch DETACH PARTITION core_outbox_batch_before")
        run("DROP TABLE core_outbox_batch_before")
        week = part_of(monday(now) - 20 * WEEK, BATCHES)
        run(f'ALTER TABLE core_outbox_batch DETACH PARTITION "{week}"')
        run(f'DROP TABLE "{week}"')
        run("SELECT kassa_make_like('core_outbox_batch_before', 'core_outbox_batch_default')")
        # The end of the oldest week that is kept in part: on a Sunday that is a later one.
        beyond = monday(partitions.kept_since(now)) + WEEK
        later = monday(now) - 19 * WEEK
        while later < beyond:
            week = part_of(later, BATCHES)
            run(f'ALTER TABLE core_outbox_batch DETACH PARTITION "{week}"')
            run(f'DROP TABLE "{week}"')
            later += WEEK
        bound = run("SELECT kassa_first_id(%s)", beyond)[0][0]
        run(
            "ALTER TABLE core_outbox_batch ATTACH PARTITION core_outbox_batch_before"
            f" FOR VALUES FROM (MINVALUE) TO ('{bound}')"
        )
        happen(now - 19 * WEEK)

        partitions.drop_weeks("", now)

        # Its events would be in a week of their own; the batches lie in a part that is not over.
        assert (OutboxEvent.objects.count(), OutboxBatch.objects.count()) == (1, 1)
        assert broken() == []

    def test_goes_on_beside_those_who_write(self, now):
        happen(now - 19 * WEEK)

        race(
            partial(partitions.drop_weeks, "", now),
            *(partial(publish, opened(f"{number}")) for number in range(6)),
        )

        assert OutboxEvent.objects.count() == 6

    def test_never_drops_what_is_younger_than_a_month(self, now, settings):
        settings.EVENT_RETENTION_DAYS = 7
        happen(now - 3 * WEEK)

        with pytest.raises(IntegrityError) as refused:
            partitions.drop_weeks("", now)

        assert refused.value.__cause__.diag.constraint_name == "events_are_kept_for_a_month"
        assert OutboxEvent.objects.count() == 1


class TestInvariants:
    """What went with its week breaks nothing; what is missing behind it does."""

    @pytest.fixture
    def dropped(self, now):
        for sequence, weeks in enumerate((19, 18, 3, 2, 1), 1):
            happen(now - weeks * WEEK, opened(sequence=sequence))
        partitions.drop_weeks("", now)
        assert broken() == []

    @pytest.mark.parametrize(
        ("statement", "name"),
        [
            (
                """
                DELETE FROM core_outbox_event WHERE sequence = 4;
                UPDATE core_outbox_batch SET event_count = 0 WHERE position = 4
                """,
                "events_of_an_aggregate_have_no_hole",
            ),
            (
                "DELETE FROM core_outbox_batch WHERE position = 4",
                "feed_positions_have_no_hole",
            ),
            (
                "DELETE FROM core_outbox_batch WHERE position = 3",
                "feed_positions_have_no_hole",
            ),
        ],
    )
    def test_find_a_hole(self, dropped, statement, name):
        past_the_guards(statement)

        assert broken() == [name]

    def test_find_a_position_given_in_two_weeks(self, dropped):
        past_the_guards("UPDATE core_outbox_batch SET position = 4 WHERE position = 3")

        assert "feed_position_is_given_once" in broken()

    def test_let_clocks_differ_where_the_weeks_were_cut(self, now):
        since = partitions.kept_since(now)
        # The second of three was made by a machine whose clock is behind.
        happen(since + timedelta(seconds=1), opened(sequence=1))
        happen(since - timedelta(seconds=1), opened(sequence=2))
        happen(since + timedelta(seconds=2), opened(sequence=3))
        past_the_guards("UPDATE core_outbox_event SET recorded_at = kassa_made_at(id)")

        partitions.drop_weeks("", now)

        assert list(OutboxEvent.objects.order_by("id").values_list("sequence", flat=True)) == [1, 3]
        assert FeedHead.objects.get().dropped_position == 2
        assert broken() == []


class TestFollower:
    def test_of_the_feed_sees_every_kept_batch_in_order(self, now):
        for sequence, weeks in enumerate((19, 5, 4, 0), 1):
            happen(now - weeks * WEEK, opened(sequence=sequence))
        partitions.drop_weeks("", now)

        assert queries.get_dropped_position(organization_id=ORGANIZATION) == 1
        portion = queries.find_feed_portion(
            organization_id=ORGANIZATION, name="ledger.ledger_account.opened", after=1, limit=10
        )
        assert portion.last_position == 4
