"""Reads of events look into the weeks they are about alone, and are planned by the whole."""

import json
import re
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, partitions, queries
from apps.core.models import EventWork, OutboxEvent
from tests.core.events_of_tests import ORGANIZATION, opened, publish
from tests.core.weeks_of_tests import (
    WEEK,
    begin_weeks,
    happen,
    monday,
    parts,
    run,
)
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now, monkeypatch):
    begin_weeks(now, monkeypatch)


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


class TestReading:
    """What a consumer is given is looked for in the weeks of its batches alone."""

    @pytest.fixture
    def batches(self, now):
        """Return batches of eight weeks, the newest first, each with the part it lies in."""
        # In the middle of each: in the last hour of a week the next one is looked into as well.
        middle = monday(now) - WEEK / 2
        for number in range(8):
            happen(middle - number * WEEK, opened(f"{number}a"), opened(f"{number}b"))
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
