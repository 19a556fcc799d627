"""Weeks of events: there before they begin, guarded one by one, gone when nobody needs them."""

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module

import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError, connection
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext

from apps.core import clock, invariants, outbox, partitions, planner, queries, retention
from apps.core.models import EventWork, FeedHead, OutboxBatch, OutboxEvent
from apps.core.outbox import Consumer
from apps.core.partitions import EventsStillNeeded
from tests.core.events_of_tests import ORGANIZATION, OTHER, opened, publish, relay_and_consume
from tests.core.weeks_of_tests import (
    WEEK,
    at,
    ensure_weeks_from,
    monday,
    part_of,
    parts,
    run,
)
from tests.support import past_the_guards, race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS, BATCHES = "core_outbox_event", "core_outbox_batch"


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now, monkeypatch):
    """Parts from twenty weeks ago on; one consumer, and of the holders only the core's."""
    monkeypatch.setattr(
        outbox._consuming, "_consumers", {"recorder": Consumer(lambda _organization, _events: None)}
    )
    kept = {name: each for name, each in partitions._holders.items() if name.startswith("core.")}
    monkeypatch.setattr(partitions, "_holders", kept)
    ensure_weeks_from(monday(now) - 20 * WEEK)


def where(table=EVENTS):
    """Return which parts hold rows, by how many."""
    return dict(run(f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1"))


def happen(instant, *events):
    """Publish events at an instant, and have them worked."""
    at(instant, lambda: publish(*(events or (opened(),))))
    relay_and_consume()


def broken():
    return [breach.name for breach in invariants.breaches()]


class TestKeptSince:
    @pytest.mark.parametrize(
        ("now", "since"),
        [
            (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 8, 31, tzinfo=UTC)),
            (datetime(2026, 11, 29, tzinfo=UTC), datetime(2026, 8, 31, tzinfo=UTC)),
            (datetime(2026, 11, 28, 23, 59, tzinfo=UTC), datetime(2026, 8, 24, tzinfo=UTC)),
        ],
    )
    def test_is_the_monday_of_the_week_in_which_the_days_end(self, now, since, settings):
        settings.EVENT_RETENTION_DAYS = 90

        assert partitions.kept_since(now) == since


class TestKeepWeeks:
    def test_makes_four_weeks_ahead_and_no_more_a_second_time(self, now):
        later = now + 9 * WEEK

        partitions.keep_weeks("", later)

        for table in partitions.TABLES:
            made = parts(table)
            assert {part_of(later + n * WEEK, table) for n in range(5)} <= set(made)
            assert part_of(later + 5 * WEEK, table) not in made
            partitions.keep_weeks("", later)
            assert parts(table) == made

    def test_leaves_no_gap_between_weeks(self, now):
        partitions.keep_weeks("", now + 30 * WEEK)

        for table in partitions.TABLES:
            bounds = run(
                "SELECT pg_get_expr(relpartbound, oid) FROM pg_inherits"
                " JOIN pg_class ON oid = inhrelid WHERE inhparent = %s::regclass"
                " ORDER BY kassa_partition_beyond(inhrelid)",
                table,
            )
            edges = [bound.removeprefix("FOR VALUES FROM (").split(") TO (") for (bound,) in bounds]
            assert edges[-1] == ["DEFAULT"]
            assert edges[0][0] == "MINVALUE"
            assert [begins for begins, _ in edges[1:-1]] == [
                ends.removesuffix(")") for _, ends in edges[:-2]
            ]

    def test_rolls_over_where_the_week_ends(self, now):
        begins = monday(now) + 3 * WEEK

        at(begins - timedelta(milliseconds=1), lambda: publish(opened("a")))
        at(begins, lambda: publish(opened("b")))

        assert where() == {part_of(begins - WEEK): 1, part_of(begins): 1}
        assert where(BATCHES) == {
            part_of(begins - WEEK, BATCHES): 1,
            part_of(begins, BATCHES): 1,
        }

    def test_is_done_once_by_two_planners(self, now):
        race(*(partial(partitions.keep_weeks, "", now + 20 * WEEK) for _ in range(3)))

        for table in partitions.TABLES:
            assert parts(table).count(part_of(now + 24 * WEEK, table)) == 1

    def test_hinders_nobody_who_writes(self, now):
        race(
            partial(partitions.keep_weeks, "", now + 20 * WEEK),
            *(partial(publish, opened(f"{number}")) for number in range(6)),
        )

        assert OutboxEvent.objects.count() == 6


class TestDefault:
    def test_takes_what_nobody_made_a_week_for_and_becomes_a_part_of_it(self, now):
        late = now + 30 * WEEK
        happen(late, opened(sequence=1))
        happen(late + WEEK, opened(sequence=2))
        assert where() == {"core_outbox_event_default": 2}

        partitions.keep_weeks("", late + WEEK)

        # Of the first week that was not there; the rows lie where they lay.
        [(name, count)] = where().items()
        assert (name, count) == (part_of(monday(now) + 5 * WEEK), 2)
        assert run("SELECT count(*) FROM core_outbox_event_default") == [(0,)]
        happen(late + 2 * WEEK, opened(sequence=3))
        assert where()[part_of(late + 2 * WEEK)] == 1
        assert list(OutboxBatch.objects.order_by("id").values_list("position", flat=True)) == [
            1,
            2,
            3,
        ]
        assert broken() == []

    def test_keeps_what_is_too_far_ahead_and_weeks_go_on_below_it(self, now):
        at(now + 60 * WEEK, lambda: publish(opened()))

        partitions.keep_weeks("", now + 10 * WEEK)

        assert where() == {"core_outbox_event_default": 1}
        assert part_of(now + 14 * WEEK) in parts(EVENTS)

    def test_is_not_needed_for_what_is_older_than_everything(self, now):
        at(now - 200 * WEEK, lambda: publish(opened()))

        assert where() == {"core_outbox_event_before": 1}


class TestParts:
    @pytest.fixture
    def every_part(self, now):
        """Of each way in which a part is made."""
        happen(now - 19 * WEEK)
        partitions.drop_weeks("", now)
        happen(now + 30 * WEEK)
        partitions.keep_weeks("", now + 30 * WEEK)
        assert where() == {part_of(monday(now) + 5 * WEEK): 1}

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE {part} SET name = 'x'",
            "UPDATE {part} SET name = 'x' WHERE false",
            "DELETE FROM {part}",
            "TRUNCATE {part}",
        ],
    )
    def test_refuse_each_any_change_of_the_past(self, every_part, statement):
        for part in [EVENTS, *parts(EVENTS)]:
            with pytest.raises(IntegrityError) as refused:
                run(statement.format(part=f'"{part}"'))

            diagnosis = refused.value.__cause__.diag
            assert diagnosis.constraint_name == "events_are_append_only", part

        assert OutboxEvent.objects.count() == 1

    def test_are_all_stored_and_indexed_as_one_another(self, every_part):
        for table in partitions.TABLES:
            found = run(
                "SELECT reloptions, (SELECT array_agg(definition ORDER BY definition) FROM ("
                "  SELECT regexp_replace(indexdef, '^.* USING ', '') AS definition FROM pg_indexes"
                "   WHERE tablename = relname) AS of_it)"
                " FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = %s::regclass",
                table,
            )

            assert len(found) > 10
            assert all(one == found[0] for one in found)
        [(batches, _), *_] = run(
            "SELECT reloptions, 1 FROM pg_class WHERE relname = 'core_outbox_batch_default'"
        )
        assert "fillfactor=70" in batches

    def test_are_all_planned_as_one_another(self, every_part):
        for table in partitions.TABLES:
            found = run(
                "SELECT (SELECT array_agg(ARRAY[attname, attstattarget::text,"
                "                               array_to_string(attoptions, ',')] ORDER BY attname)"
                "          FROM pg_attribute WHERE attrelid = inhrelid AND attnum > 0)"
                " FROM pg_inherits WHERE inhparent = %s::regclass",
                table,
            )

            assert len(found) > 10
            assert all(one == found[0] for one in found)
            told = {name: (target, options) for name, target, options in found[0][0]}
            assert told["organization_id"] == (None, f"n_distinct={planner.ORGANIZATIONS}")
            # What nothing is looked for by is not looked at.
            assert table == BATCHES or told["data"] == ("0", None)

    def test_give_a_position_once_each(self, every_part, now):
        happen(now)
        happen(now)
        with pytest.raises(IntegrityError):
            run("UPDATE core_outbox_batch SET position = 3 WHERE position = 4")


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
        bound = run("SELECT kassa_first_id(%s)", monday(now) - 12 * WEEK)[0][0]
        for number in range(19, 12, -1):
            later = part_of(monday(now) - number * WEEK, BATCHES)
            run(f'ALTER TABLE core_outbox_batch DETACH PARTITION "{later}"')
            run(f'DROP TABLE "{later}"')
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


class TestAnalyzeWeeks:
    FILL = """
        WITH made AS (
            SELECT n, uuidv7(-n * interval '1 minute') AS id FROM generate_series(1, 20000) AS n
        ), batch AS (
            INSERT INTO core_outbox_batch (id, organization_id, public, event_count, position,
                   state, attempts, lapses, next_attempt_at, last_error_code, traceparent)
            SELECT id, %(org)s, TRUE, 2, 20001 - n, 'done', 1, 0, now(), '', '' FROM made
        )
        INSERT INTO core_outbox_event (id, organization_id, batch_id, ordinal, name, type, public,
               schema_version, aggregate_type, aggregate_id, sequence, occurred_at, actor,
               request_id, traceparent, data)
        SELECT uuidv7(-n * interval '1 minute' + (ordinal + 1) * interval '1 millisecond'), %(org)s,
               id, ordinal, 'x', 'x', TRUE, 1, 'x', 'x_' || n, 1, now(), '', '', '', '{}'
          FROM made CROSS JOIN generate_series(0, 1) AS ordinal
    """
    JOINED = """
        SELECT FROM core_outbox_batch AS batch
          JOIN core_outbox_event AS event ON event.organization_id = batch.organization_id
                                         AND event.batch_id = batch.id
         WHERE batch.organization_id = %s
    """

    def guess(self):
        """How many rows the planner takes a join of the two tables for."""
        [(plan,)] = run(f"EXPLAIN (FORMAT JSON) {self.JOINED}", ORGANIZATION)
        [whole] = plan if isinstance(plan, list) else json.loads(plan)
        return whole["Plan"]["Plan Rows"]

    def test_tells_the_planner_what_the_tables_are_as_a_whole(self, now):
        with connection.cursor() as cursor:
            cursor.execute(self.FILL, {"org": ORGANIZATION})
        # What autovacuum does.
        for table in partitions.TABLES:
            for part in parts(table):
                run(f'ANALYZE "{part}"')

        partitions.analyze_weeks("", now)

        for table in partitions.TABLES:
            known = run("SELECT attname FROM pg_stats WHERE tablename = %s AND inherited", table)
            assert {("id",), ("organization_id",)} <= set(known)
        assert 20_000 < self.guess() < 80_000

    def test_hinders_nobody_who_writes(self, now):
        race(
            partial(partitions.analyze_weeks, "", now),
            *(partial(publish, opened(f"{number}")) for number in range(6)),
        )

        assert OutboxEvent.objects.count() == 6


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


class TestRole:
    """The application's role owns no table (ADR 0076)."""

    @pytest.fixture
    def role(self, now):
        happen(now - 19 * WEEK)
        name = f"weeks_of_{connection.settings_dict['NAME']}"
        run(f"CREATE ROLE {name}")
        run(f"GRANT {name} TO CURRENT_USER WITH SET TRUE")
        run(f"GRANT USAGE ON SCHEMA public TO {name}")
        run(f"GRANT SELECT, INSERT ON core_outbox_event TO {name}")
        run(f"GRANT SELECT, INSERT, UPDATE ON core_outbox_batch, core_feed_head TO {name}")
        run(f"GRANT SELECT ON core_event_work TO {name}")
        try:
            yield name
        finally:
            run("RESET ROLE")
            run(f"DROP OWNED BY {name}")
            run(f"DROP ROLE {name}")

    def test_keeps_and_drops_weeks_through_what_it_is_given(self, role, now):
        run(
            "GRANT EXECUTE ON FUNCTION kassa_keep_weeks(text, timestamptz),"
            " kassa_drop_weeks(text, timestamptz), kassa_analyze_weeks(text)"
            f" TO {role}"
        )
        run(f"SET ROLE {role}")

        partitions.keep_weeks("", now + 9 * WEEK)
        partitions.drop_weeks("", now)
        partitions.analyze_weeks("", now)

        assert part_of(now + 13 * WEEK) in parts(EVENTS)
        assert OutboxEvent.objects.count() == 0

    @pytest.mark.parametrize(
        "act", [partitions.keep_weeks, partitions.drop_weeks, partitions.analyze_weeks]
    )
    def test_does_none_of_it_without(self, role, now, act):
        run(f"SET ROLE {role}")

        with pytest.raises(ProgrammingError, match="permission denied"):
            act("", now)

    def test_touches_no_part_by_its_name(self, role, now):
        run(f"SET ROLE {role}")

        for statement in ("DROP TABLE {}", "DELETE FROM {}", "SELECT FROM {}", "TRUNCATE {}"):
            with pytest.raises(ProgrammingError):
                run(statement.format("core_outbox_event_before"))


class TestReading:
    """What a consumer is given is looked for in the weeks of its batches alone."""

    @pytest.fixture
    def batches(self, now):
        """Return batches of eight weeks, the newest first, each with the part it lies in."""
        for number in range(8):
            happen(now - number * WEEK, opened(f"{number}a"), opened(f"{number}b"))
        return run(
            "SELECT batch_id, tableoid::regclass::text FROM core_outbox_event"
            " WHERE ordinal = 0 ORDER BY id DESC"
        )

    @staticmethod
    def looked_into(read):
        with CaptureQueriesContext(connection) as asked:
            read()
        [statement] = [each["sql"] for each in asked if 'FROM "core_outbox_event"' in each["sql"]]
        plan = "\n".join(line for (line,) in run(f"EXPLAIN {statement}"))
        return set(re.findall(r"Scan (?:using \w+ )?on (core_outbox_event_\w+)", plan))

    def test_one_batch(self, batches):
        batch_id, part = batches[5]

        looked_into = self.looked_into(
            lambda: queries.list_batch_events(
                organization_id=ORGANIZATION, batch_id=batch_id, first=0, limit=10
            )
        )

        assert looked_into == {part}
        events = queries.list_batch_events(
            organization_id=ORGANIZATION, batch_id=batch_id, first=1, limit=10
        )
        assert [event.data["code"] for event in events] == ["5b"]

    def test_several_batches(self, batches):
        chosen = dict(batches[2:5])
        read = partial(
            queries.list_events_of_rows,
            organization_id=ORGANIZATION,
            rows=[
                *(EventWork(batch_id=id_) for id_ in list(chosen)[:2]),
                EventWork(batch_id=list(chosen)[2], ordinal=1),
            ],
            events_max=5,
        )

        assert self.looked_into(read) == set(chosen.values())
        assert [[event.data["code"] for event in one] for one in read().values()] == [
            ["2a", "2b"],
            ["3a", "3b"],
            ["4b"],
        ]

    def test_no_batch_that_is_small_enough(self, batches):
        found = queries.list_events_of_rows(
            organization_id=ORGANIZATION, rows=[EventWork(batch_id=batches[0][0])], events_max=1
        )

        assert found == {}

    @pytest.mark.parametrize(
        "read", [partial(queries.find_feed_portion, limit=10), queries.count_feed_rest]
    )
    def test_what_follows_in_the_feed(self, now, batches, read):
        happen(now, opened("last"))
        read = partial(
            read, organization_id=ORGANIZATION, name="ledger.ledger_account.opened", after=8
        )

        with CaptureQueriesContext(connection) as asked:
            read()
        [statement] = [each["sql"] for each in asked]
        plan = [line for (line,) in run(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}")]

        of_events = re.compile(r"Scan (?:using \w+ )?on (core_outbox_event_\w+).*never executed")
        left_alone = {found[1] for line in plan if (found := of_events.search(line))}
        assert {part for _, part in batches[1:]} <= left_alone


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


class TestMigration:
    def test_takes_what_is_there_along_both_ways(self, now):
        for sequence, weeks in enumerate((30, 5, 0), 1):
            happen(now - weeks * WEEK, opened(sequence=sequence))
        before = list(OutboxEvent.objects.order_by("id").values())
        of_each = [run(f"SELECT * FROM {table} ORDER BY id") for table in partitions.TABLES]

        MigrationExecutor(connection).migrate([("core", "0008_weeks_of_events")])
        assert run("SELECT relkind FROM pg_class WHERE relname = 'core_outbox_event'") == [("r",)]
        assert [run(f"SELECT * FROM {table} ORDER BY id") for table in partitions.TABLES] == of_each
        for statement in ("UPDATE core_outbox_event SET name = ''", "TRUNCATE core_outbox_event"):
            with pytest.raises(IntegrityError):
                run(statement)

        self.go_on()
        assert list(OutboxEvent.objects.order_by("id").values()) == before
        assert where() == {"core_outbox_event_before": 3}
        assert part_of(now + 4 * WEEK) in parts(EVENTS)
        happen(now + 3 * WEEK, opened(sequence=4))
        assert where()[part_of(now + 3 * WEEK)] == 1
        assert broken() == []

    @pytest.fixture
    def before(self):
        """The tables as they were, and afterwards as they are."""
        MigrationExecutor(connection).migrate([("core", "0008_weeks_of_events")])
        yield
        self.go_on()

    @staticmethod
    def go_on():
        forward = MigrationExecutor(connection)
        forward.migrate(forward.loader.graph.leaf_nodes())
        # The command says so by itself, and other tests look for it.
        planner.after_migrations(using="default")

    @staticmethod
    def meet(monkeypatch, other):
        """Have `other` called by a thread once all that takes long is done, and go on with it."""
        migration = import_module("apps.core.migrations.0009_events_lie_in_weeks")
        ready, real = threading.Event(), migration._lock
        thread = threading.Thread(target=other, args=(ready,))

        def lock(execute):
            thread.start()
            assert ready.wait(30)
            real(execute)

        monkeypatch.setattr(migration, "_lock", lock)
        return thread

    @staticmethod
    def is_waiting():
        return run("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = %s::regclass", BATCHES)

    def test_waits_for_who_writes_who_waits_for_nobody(self, before, monkeypatch):
        faults = []

        def write(ready):
            try:
                run(f"BEGIN; LOCK TABLE {BATCHES} IN ROW EXCLUSIVE MODE")
                ready.set()
                wait_until(lambda: bool(self.is_waiting()))
                run(f"LOCK TABLE {EVENTS} IN ROW EXCLUSIVE MODE; COMMIT")
            except BaseException as fault:  # noqa: BLE001  (told by the thread of the test)
                faults.append(fault)
            finally:
                connection.close()

        writer = self.meet(monkeypatch, write)

        self.go_on()

        writer.join(30)
        assert faults == []
        assert run("SELECT relkind FROM pg_class WHERE relname = %s", EVENTS) == [("p",)]

    def test_gives_up_before_those_behind_it_do_and_can_be_run_again(self, before, monkeypatch):
        over = threading.Event()

        def read(ready):
            run(f"BEGIN; LOCK TABLE {BATCHES} IN ACCESS SHARE MODE")
            ready.set()
            over.wait(30)
            run("COMMIT")
            connection.close()

        reader = self.meet(monkeypatch, read)

        with pytest.raises(OperationalError, match="lock timeout"):
            self.go_on()

        assert run("SELECT relkind FROM pg_class WHERE relname = %s", EVENTS) == [("r",)]
        over.set()
        reader.join(30)
        monkeypatch.undo()
        self.go_on()
        assert run("SELECT relkind FROM pg_class WHERE relname = %s", EVENTS) == [("p",)]
