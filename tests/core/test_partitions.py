"""Weeks of events: there before they begin, one like another, and guarded one by one."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError, ProgrammingError, connection

from apps.core import clock, partitions, planner
from apps.core.models import OutboxBatch, OutboxEvent
from tests.core.events_of_tests import opened, publish
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
    where,
)
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now, monkeypatch):
    begin_weeks(now, monkeypatch)


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
        # As core 0014 has it, whichever week is made after it.
        [(events, _), *_] = run(
            "SELECT reloptions, 1 FROM pg_class WHERE relname = 'core_outbox_event_default'"
        )
        assert events == ["autovacuum_analyze_scale_factor=0.5"]

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
            if table == BATCHES:
                # By a small sample, as they change soon after they are written.
                assert {target for target, _ in told.values()} == {"20"}
            else:
                # What nothing is looked for by is not looked at.
                assert told["data"] == ("0", None)
                assert told["organization_id"][0] is None
            assert told["organization_id"][1] == f"n_distinct={planner.ORGANIZATIONS}"

    def test_give_a_position_once_each(self, every_part, now):
        happen(now)
        happen(now)
        with pytest.raises(IntegrityError):
            run("UPDATE core_outbox_batch SET position = 3 WHERE position = 4")


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
