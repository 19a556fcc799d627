"""Prepared statements that go out together: what travels, when, and whose fault is whose."""

import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from django.db import (
    DataError,
    IntegrityError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.test.utils import CaptureQueriesContext
from psycopg import IsolationLevel

from apps.core import statements, transactions
from apps.core.copying import copy_rows
from apps.core.errors import InvariantBroken
from apps.core.models import FeedHead
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
ADD = "INSERT INTO core_feed_head (organization_id, last_position) VALUES (%(org)s, %(at)s)"
COUNT = "SELECT count(*) FROM core_feed_head"
FAIL = "SELECT 1 / %(zero)s"


def add(at: int = 0, *, org: UUID | None = None) -> None:
    statements.send(ADD, {"org": org or uuid4(), "at": at})


def djangos_add(at: int) -> None:
    FeedHead.objects.create(organization_id=uuid4(), last_position=at)


def positions() -> list[int]:
    return list(FeedHead.objects.order_by("last_position").values_list("last_position", flat=True))


def trips_of(call) -> int:
    before = statements.trips()
    call()
    return statements.trips() - before


class TestValues:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (uuid4(), "uuid"),
            ("Zoë, 'so' 🜚", "text"),
            ("", "text"),
            (2**63 - 1, "bigint"),
            (-(2**63), "bigint"),
            (True, "boolean"),
            (False, "boolean"),
            (NOON, "timestamp with time zone"),
            (NOON.replace(year=1723, microsecond=1), "timestamp with time zone"),
            (NOON.astimezone(timezone(timedelta(hours=-5))), "timestamp with time zone"),
            (b"\x00\xff", "bytea"),
        ],
    )
    def test_come_back_as_they_went(self, value, kind):
        [(back, name)] = statements.run(
            "SELECT %(value)s, pg_typeof(%(value)s)::text", {"value": value}
        )
        assert (back, type(back), name) == (value, type(value), kind)

    def test_of_none_are_null(self):
        assert statements.run("SELECT %(value)s::uuid", {"value": None}) == [(None,)]

    @pytest.mark.parametrize(
        ("array", "values"),
        [
            (statements.uuids, [uuid4(), None, uuid4()]),
            (statements.texts, ["a", None, "", "a", "ß"]),
            (statements.int8s, [0, -1, 2**63 - 1]),
            (statements.int4s, [0, -1, 2**31 - 1]),
            (statements.instants, [NOON, None, NOON + timedelta(microseconds=1)]),
            (statements.booleans, [True, False, True]),
            (statements.byteas, [b"", b"\x00", b"longer"]),
        ],
    )
    def test_in_columns_come_back_in_their_order(self, array, values):
        for column in (values, values[:1], []):
            [(back,)] = statements.run("SELECT %(column)s", {"column": array(column)})
            assert back == column

    def test_in_longer_columns_come_back_too(self):
        for array, values in [
            (statements.uuids, [uuid4(), None] * 4),
            (statements.texts, ["a", None] * 4),
            # Each of its own; so at first, and then one that is none or that was there; in UTF-8.
            (statements.texts, [f"{place}ß" for place in range(40)]),
            (statements.texts, [*map(str, range(40)), None, "0", ""]),
            (statements.texts, [*map(str, range(40)), *map(str, range(40))]),
            (statements.int8s, [2**63 - 1] * 8),
            (statements.int4s, [-(2**31)] * 8),
            (statements.instants, [NOON, None] * 4),
            (statements.booleans, [True, False] * 4),
            (statements.byteas, [b"\x00", b""] * 4),
        ]:
            [(back,)] = statements.run("SELECT %(column)s", {"column": array(values)})
            assert back == values

    def test_of_a_type_that_does_not_travel_are_refused_by_name(self):
        @transactions.outermost
        def act():
            add(1)
            with pytest.raises(TypeError, match="float is no type that a statement sends"):
                statements.ask("SELECT %(value)s", {"value": 1.5})

        act()

        assert positions() == [1]


ROWS = """
    SELECT r.place, r.name, r.org, r.at
      FROM unnest(%(names)s::text[], %(orgs)s::uuid[], %(times)s::timestamptz[])
           WITH ORDINALITY AS r(name, org, at, place)
     ORDER BY r.place
"""


class TestRows:
    """A statement says `unnest`; where the rows are few, each of their values is named in it."""

    @staticmethod
    def columns(count):
        names = [None if place % 3 == 2 else f"Zoë {place}" for place in range(count)]
        return names, [uuid4() for _ in names], [NOON + timedelta(days=at) for at in range(count)]

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 249, 250, 700])
    def test_are_the_same_however_many_they_are(self, count):
        names, orgs, times = self.columns(count)

        found = statements.run(
            ROWS,
            {
                "names": statements.texts(names),
                "orgs": statements.uuids(orgs),
                "times": statements.instants(times),
            },
        )

        assert found == list(zip(range(1, count + 1), names, orgs, times, strict=True))

    @pytest.mark.parametrize("count", [1, 4, 5])
    def test_have_nulls_in_a_column_that_is_not_there(self, count):
        names, orgs, _ = self.columns(count)
        values = {"names": statements.texts(names), "orgs": statements.uuids(orgs), "times": None}

        assert [row[3] for row in statements.run(ROWS, values)] == [None] * count

    @pytest.mark.parametrize("count", [2, 5])
    def test_may_share_a_column_with_the_rest_of_the_statement(self, count):
        _, orgs, _ = self.columns(count)

        [(matching,)] = statements.run(
            "SELECT count(*) FROM unnest(%(ids)s::uuid[]) AS r(id) WHERE r.id = ANY(%(ids)s)",
            {"ids": statements.uuids(orgs)},
        )

        assert matching == count

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT unnest(%(names)s::text[])",
            "SELECT name FROM unnest(%(names)s::text[]) AS name",
            "SELECT unnest FROM unnest(%(names)s::text[])",
            "SELECT r.name FROM unnest(%(names)s::text[]) AS r(name)",
        ],
    )
    def test_are_a_list_wherever_a_statement_has_them(self, sql):
        found = statements.run(sql, {"names": statements.texts(["a", "b"])})

        assert found == [("a",), ("b",)]

    def test_of_columns_of_different_lengths_are_filled_up_with_nulls(self):
        values = {
            "names": statements.texts(["a"]),
            "orgs": statements.uuids([uuid4(), uuid4()]),
            "times": statements.instants([NOON, NOON]),
        }

        assert [row[1] for row in statements.run(ROWS, values)] == ["a", None]

    @pytest.mark.parametrize(
        ("count", "made_by"),
        [(1, "Result"), (4, "Values"), (5, "Function Scan"), (250, "ProjectSet")],
    )
    def test_are_no_table_that_postgres_makes_first_if_they_are_few_or_many(self, count, made_by):
        names, orgs, times = self.columns(count)

        plan = str(
            statements.run(
                "EXPLAIN " + ROWS,
                {
                    "names": statements.texts(names),
                    "orgs": statements.uuids(orgs),
                    "times": statements.instants(times),
                },
            )
        )

        assert made_by in plan
        assert ("Function Scan" in plan) is (count == 5)

    @pytest.mark.parametrize("count", [9, 900])
    def test_of_many_in_columns_of_different_lengths_are_filled_up_with_nulls(self, count):
        names, orgs, times = self.columns(count)
        values = {
            "names": statements.texts(names),
            "orgs": statements.uuids(orgs[:5]),
            "times": statements.instants(times),
        }

        found = statements.run(ROWS, values)

        assert [row[2] for row in found] == [*orgs[:5], *[None] * (count - 5)]
        assert [row[0] for row in found] == list(range(1, count + 1))

    def test_are_prepared_once_for_each_number_of_them(self):
        def ask(count):
            names, orgs, times = self.columns(count)
            columns = {
                "names": statements.texts(names),
                "orgs": statements.uuids(orgs),
                "times": statements.instants(times),
            }
            statements.run(ROWS, columns)

        def prepared():
            text = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE %(like)s"
            return statements.run(text, {"like": "%r.place, r.name%"})

        statements.run("SELECT 1", {})
        before = len(prepared())
        for count in (1, 2, 1, 2, 5, 200, 1, 300, 900):
            ask(count)

        assert len(prepared()) - before == 4


class TestTrips:
    def test_are_one_for_what_is_asked_together_with_begin(self):
        @transactions.outermost
        def act():
            first = statements.ask("SELECT %(value)s", {"value": 1})
            second = statements.ask("SELECT %(value)s", {"value": "two"})
            assert trips_of(lambda: seen.extend([second.rows(), first.rows()])) == 1

        seen = []
        act()

        assert seen == [[("two",)], [(1,)]]

    def test_are_one_for_what_is_sent_together_with_commit(self):
        @transactions.outermost
        def act():
            for at in range(3):
                add(at)
            assert statements.trips() == before

        before = statements.trips()
        act()

        assert statements.trips() == before + 1
        assert positions() == [0, 1, 2]
        assert connection.connection.info.transaction_status.name == "IDLE"

    def test_have_the_rows_of_what_was_sent_when_it_is_committed(self):
        @transactions.outermost
        def act():
            return statements.send("SELECT %(value)s", {"value": 1})

        assert act().rows() == [(1,)]

    def test_come_before_a_statement_of_djangos_own(self):
        @transactions.outermost
        def act():
            add(1)
            seen.append(positions())
            FeedHead.objects.update(last_position=2)
            add(3)

        seen = []
        act()

        assert seen == [[1]]
        assert positions() == [2, 3]
        assert connection.execute_wrappers == []

    def test_come_before_a_copy(self):
        org = uuid4()

        @transactions.outermost
        def act():
            add(1, org=org)
            copy_rows([FeedHead(organization_id=org, last_position=2)])

        with pytest.raises(IntegrityError) as fault:
            act()

        # It is COPY that found the other row there.
        assert "COPY" in str(fault.value)

    def test_are_at_once_outside_a_transaction(self):
        assert trips_of(lambda: add(1)) == 1
        assert trips_of(lambda: statements.ask(COUNT, {})) == 1
        assert positions() == [1]

    def test_prepare_a_statement_once_and_again_where_that_was_undone(self):
        def prepared() -> int:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_prepared_statements")
                return cursor.fetchone()[0]

        @transactions.outermost
        def act():
            with pytest.raises(ProgrammingError, match="no_such_table"):
                statements.run("SELECT FROM no_such_table", {})
            with pytest.raises(InternalError, match="aborted"):
                statements.run(COUNT, {})
            raise LookupError

        with pytest.raises(LookupError):
            act()
        before = prepared()
        for _ in range(3):
            assert statements.run(COUNT, {}) == [(0,)]

        assert prepared() == before + 1

    def test_prepare_nothing_where_a_pooler_shares_connections(self):
        connection.ensure_connection()
        raw = connection.connection
        raw.prepare_threshold = None

        add(1)

        assert statements.run(COUNT, {}) == [(1,)]
        assert statements.run("SELECT count(*) FROM pg_prepared_statements", {}) == [(0,)]

    def test_are_seen_by_whatever_watches_djangos_statements(self):
        seen = []

        def watch(execute, sql, params, many, context):
            seen.append(sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(watch), CaptureQueriesContext(connection) as logged:
            statements.run(COUNT, {})

        assert seen == [COUNT]
        assert [query["sql"] for query in logged] == [COUNT]


class TestAFault:
    def test_is_of_its_statement_and_of_those_behind_it(self):
        @transactions.outermost
        def act():
            asked = [
                statements.ask("SELECT %(value)s", {"value": 1}),
                statements.ask(FAIL, {"zero": 0}),
                statements.ask("SELECT %(value)s", {"value": 3}),
            ]
            assert asked[0].rows() == [(1,)]
            for one in asked[1:]:
                with pytest.raises(DataError, match="division by zero") as fault:
                    one.rows()
                assert transactions.sqlstate(fault.value) == "22012"
            raise LookupError

        with pytest.raises(LookupError):
            act()

    def test_of_what_was_sent_shows_at_commit_and_nothing_is_written(self):
        @transactions.outermost
        def act():
            FeedHead.objects.create(organization_id=uuid4(), last_position=1)
            twice = uuid4()
            add(2, org=twice)
            add(3, org=twice)
            add(4)

        connection.ensure_connection()
        raw = connection.connection
        with pytest.raises(IntegrityError) as fault:
            act()

        assert transactions.constraint_name(fault.value) == "core_feed_head_pkey"
        assert positions() == []
        assert connection.connection is raw
        add(5)
        assert positions() == [5]

    def test_that_nobody_read_is_no_success(self):
        done = []

        @transactions.outermost
        def act(*, is_sent: bool):
            transactions.on_commit(lambda: done.append(1))
            FeedHead.objects.create(organization_id=uuid4(), last_position=1)
            first = statements.ask(COUNT, {})
            statements.ask(FAIL, {"zero": 0})
            if is_sent:
                assert first.rows() == [(1,)]

        with pytest.raises(DataError, match="division by zero"):
            act(is_sent=False)
        with pytest.raises(InternalError, match="rolled back"):
            act(is_sent=True)

        assert (positions(), done) == ([], [])

    def test_that_was_swallowed_before_commit_is_no_success(self):
        done = []

        @transactions.outermost
        def act(*, more: bool):
            transactions.on_commit(lambda: done.append(1))
            FeedHead.objects.create(organization_id=uuid4(), last_position=1)
            with pytest.raises(DataError, match="division by zero"):
                statements.run(FAIL, {"zero": 0})
            if more:
                add(2)

        with pytest.raises(InternalError, match="rolled back"):
            act(more=False)
        with pytest.raises(InternalError, match="aborted"):
            act(more=True)

        assert (positions(), done) == ([], [])

    def test_of_djangos_that_was_swallowed_is_no_success_and_leaves_nothing_waiting(self):
        @transactions.outermost
        def act():
            twice = uuid4()
            FeedHead.objects.create(organization_id=twice, last_position=1)
            with suppress(IntegrityError):
                FeedHead.objects.create(organization_id=twice, last_position=2)
            transaction.set_rollback(True)

        with pytest.raises(InvariantBroken, match="nothing of this may be committed"):
            act()
        add(3)

        assert positions() == [3]

    def test_of_another_one_is_not_met_by_who_reads_twice(self):
        @transactions.outermost
        def act():
            answer = statements.ask("SELECT %(value)s", {"value": 1})
            assert answer.rows() == [(1,)]
            twice = uuid4()
            add(2, org=twice)
            add(3, org=twice)
            assert answer.rows() == [(1,)]

        with pytest.raises(IntegrityError):
            act()

    def test_of_a_deferred_constraint_is_commits(self):
        with connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE core_feed_head ADD CONSTRAINT at_once_only"
                " UNIQUE (last_position) DEFERRABLE INITIALLY DEFERRED"
            )
        try:
            with pytest.raises(IntegrityError, match="at_once_only"):
                transactions.outermost(lambda: [add(1), add(1)])()
            assert positions() == []
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE core_feed_head DROP CONSTRAINT at_once_only")

    def test_in_python_drops_what_waits(self):
        @transactions.outermost
        def act():
            add(1)
            raise LookupError

        with pytest.raises(LookupError):
            act()
        transactions.outermost(lambda: add(2))()

        assert positions() == [2]


class TestWhatIsStarted:
    def test_is_under_way_before_its_answer_is_asked_for(self):
        @transactions.outermost
        def act():
            [(server,)] = statements.run("SELECT pg_backend_pid()", {})
            answer = statements.ask("SELECT 7 FROM pg_sleep(%(seconds)s::int)", {"seconds": 2})
            before = statements.trips()
            statements.start()
            wait_until(lambda: _is_at(server, "pg_sleep"))
            assert statements.trips() == before
            seen.extend(answer.rows())

        seen = []
        act()

        assert seen == [(7,)]

    def test_comes_first_and_commits_with_what_follows(self):
        @transactions.outermost
        def act():
            statements.run(COUNT, {})
            before = statements.trips()
            add(1)
            statements.start()
            add(2)
            statements.start()
            answer = statements.ask(COUNT, {})
            assert answer.rows() == [(2,)]
            assert statements.trips() == before + 1
            add(3)
            statements.start()

        act()

        assert positions() == [1, 2, 3]
        assert connection.connection.info.transaction_status.name == "IDLE"

    def test_begins_the_transaction_where_none_is_open(self):
        @transactions.outermost
        def act():
            add(1)
            statements.start()
            add(2)
            raise LookupError

        with pytest.raises(LookupError):
            act()

        assert positions() == []

    def test_is_seen_by_a_statement_of_djangos_own(self):
        @transactions.outermost
        def act():
            add(1)
            statements.start()
            seen.append(positions())

        seen = []
        act()

        assert seen == [[1]]

    def test_is_more_than_a_socket_takes_at_once(self):
        ids = [uuid4() for _ in range(200_000)]

        @transactions.outermost
        def act():
            statements.send(
                "INSERT INTO core_feed_head (organization_id, last_position)"
                " SELECT id, 1 FROM unnest(%(ids)s::uuid[]) AS n(id)",
                {"ids": statements.uuids(ids)},
            )
            statements.start()
            answer = statements.ask(
                "SELECT count(*), count(n.id) FROM core_feed_head"
                " JOIN unnest(%(ids)s::uuid[]) AS n(id) ON n.id = organization_id",
                {"ids": statements.uuids(ids)},
            )
            seen.extend(answer.rows())

        seen = []
        act()

        assert seen == [(len(ids), len(ids))]

    def test_has_its_fault_at_commit_and_nothing_is_written(self):
        @transactions.outermost
        def act():
            twice = uuid4()
            add(1, org=twice)
            add(2, org=twice)
            statements.start()
            add(3)

        connection.ensure_connection()
        raw = connection.connection
        with pytest.raises(IntegrityError) as fault:
            act()

        assert transactions.constraint_name(fault.value) == "core_feed_head_pkey"
        assert connection.connection is raw
        add(5)
        assert positions() == [5]

    @pytest.mark.parametrize("also_fails", [False, True])
    def test_is_rolled_back_with_what_is_refused_meanwhile(self, also_fails):
        @transactions.outermost
        def act():
            add(1)
            if also_fails:
                statements.send(FAIL, {"zero": 0})
            statements.start()
            add(2)
            raise LookupError

        connection.ensure_connection()
        raw = connection.connection
        with pytest.raises(LookupError):
            act()

        assert connection.connection is raw
        transactions.outermost(lambda: add(3))()
        assert positions() == [3]

    def test_on_a_server_that_hangs_up_is_lost_with_its_connection(self):
        @transactions.outermost
        def act():
            [(server,)] = statements.run("SELECT pg_backend_pid()", {})
            statements.send("SELECT pg_sleep(%(seconds)s::int)", {"seconds": 60})
            statements.start()
            wait_until(lambda: _is_at(server, "pg_sleep"))
            _end(server)
            add(1)

        with pytest.raises(OperationalError) as fault:
            act()

        assert transactions.sqlstate(fault.value) == "57P01"
        assert positions() == []
        add(2)
        assert positions() == [2]


class TestAlone:
    """A statement that is its own transaction, or CALLs what makes several."""

    def add(self, at: int | None) -> statements.Answer:
        return statements.alone(
            ADD + " RETURNING pg_current_xact_id()::text, %(at)s", {"org": uuid4(), "at": at}
        )

    def test_is_a_transaction_in_one_trip(self):
        seen: list[statements.Answer] = []

        assert trips_of(lambda: seen.append(self.add(1))) == 1

        [[(_, at)]] = [answer.rows() for answer in seen]
        assert at == 1
        assert positions() == [1]
        assert connection.connection.info.transaction_status.name == "IDLE"

    def test_may_be_prepared_as_it_fails(self):
        def ask(by: int) -> statements.Answer:
            return statements.alone("SELECT 2 / %(by)s AS a_text_of_its_own", {"by": by})

        bad, good = ask(0), ask(1)

        for _ in range(2):
            with pytest.raises(DataError):
                bad.rows()
        assert good.rows() == [(2,)]

    def test_whose_commit_fails_has_met_that(self):
        """Its row was answered, and then it does not stand."""
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE place (at int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        try:
            first, bad = [
                statements.alone("INSERT INTO place VALUES (%(at)s) RETURNING at", {"at": 1})
                for _ in range(2)
            ]
            stand = statements.run("SELECT at FROM place", {})
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE place")

        with pytest.raises(IntegrityError, match="place_at_key"):
            bad.rows()
        assert first.rows() == [(1,)]
        assert stand == [(1,)]

    def test_is_refused_inside_a_transaction(self):
        @transactions.outermost
        def act():
            self.add(1)

        with pytest.raises(InvariantBroken, match="of its own"):
            act()

        assert positions() == []

    def test_is_refused_where_statements_do_not_commit_by_themselves(self):
        connection.set_autocommit(False)
        try:
            with pytest.raises(InvariantBroken, match="of its own"):
                self.add(1)
        finally:
            connection.rollback()
            connection.set_autocommit(True)

    def test_is_seen_by_whatever_watches_djangos_statements(self):
        with CaptureQueriesContext(connection) as captured:
            self.add(1)

        assert [query["sql"].split(maxsplit=1)[0] for query in captured] == ["INSERT"]

    @pytest.mark.parametrize("moment", [1, 3])
    def test_of_which_a_server_hangs_up_is_not_known(self, moment, apart):
        answer = apart([1, 2, 3, 4], ends_at=moment)

        with pytest.raises(OperationalError):
            answer.rows()
        # On the next connection.
        assert positions() == [1, 2, 3, 4][: moment - 1]
        assert len(self.add(5).rows()) == 1

    def test_is_waited_for_as_long_as_a_server_is(self, monkeypatch):
        connection.close()
        connection.ensure_connection()
        monkeypatch.setattr(connection.connection, "answer_seconds_max", 0.5, raising=False)

        answer = statements.alone("SELECT pg_sleep(5)", {})

        with pytest.raises(OperationalError, match="says nothing"):
            answer.rows()
        assert positions() == []

    def test_is_prepared_once(self):
        connection.close()
        for at in range(2):
            statements.alone("SELECT %(at)s AS prepared_once_and_alone", {"at": at})

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s",
                ["SELECT $1%prepared_once_and_alone"],
            )
            assert cursor.fetchone() == (1,)

    @pytest.fixture
    def apart(self):
        """A procedure that adds places, a transaction each, and answers what each had."""
        with connection.cursor() as cursor:
            cursor.execute(
                """
                CREATE PROCEDURE add_apart(places int[], ends_at bigint,
                                           OUT xacts text[], OUT levels text[])
                LANGUAGE plpgsql AS $$
                BEGIN
                    FOR n IN 1 .. cardinality(places) LOOP
                        INSERT INTO core_feed_head (organization_id, last_position)
                             VALUES (gen_random_uuid(), NULLIF(places[n], -1));
                        IF n = ends_at THEN
                            PERFORM pg_terminate_backend(pg_backend_pid());
                        END IF;
                        xacts[n] := pg_current_xact_id()::text;
                        levels[n] := current_setting('transaction_isolation');
                        COMMIT;
                    END LOOP;
                END;
                $$
                """
            )
        yield lambda places, ends_at=0: statements.alone(
            "CALL add_apart(%(places)s, %(ends_at)s, NULL, NULL)",
            {"places": statements.int4s(places), "ends_at": ends_at},
            commits=True,
        )
        with connection.cursor() as cursor:
            cursor.execute("DROP PROCEDURE add_apart")

    def test_may_be_several_transactions(self, apart):
        assert trips_of(lambda: apart([1, 2])) == 1

        [(xacts, levels)] = apart([3, 4]).rows()

        assert len(set(xacts)) == 2
        assert len(set(levels)) == 1
        assert positions() == [1, 2, 3, 4]

    def test_of_which_one_has_a_fault_has_committed_those_before_it(self, apart):
        answer = apart([1, 2, -1, 3])

        with pytest.raises(IntegrityError, match="last_position"):
            answer.rows()
        assert positions() == [1, 2]

    def test_is_of_the_level_that_is_set(self, apart):
        connection.ensure_connection()
        raw, given = connection.connection, connection.connection.isolation_level
        raw.isolation_level = IsolationLevel.SERIALIZABLE
        try:
            [(_, levels)] = apart([1, 2]).rows()
            with pytest.raises(IntegrityError):
                apart([-1]).rows()
            raw.isolation_level = None
            [(_, after)] = apart([3]).rows()
        finally:
            raw.isolation_level = given

        assert levels == ["serializable"] * 2
        assert after == ["read committed"]
        assert positions() == [1, 2, 3]

    def test_that_commits_has_no_statement_timeout_and_leaves_the_sessions(self, apart):
        limits = "SELECT current_setting('statement_timeout')"
        [(given,)] = statements.run(limits, {})
        seen = [
            statements.alone(limits, {}, commits=commits).rows()[0][0] for commits in (True, False)
        ]
        with pytest.raises(IntegrityError):
            apart([-1]).rows()

        assert seen == ["0", given]
        assert given != "0"
        assert statements.run(limits, {}) == [(given,)]


class TestAnInterrupt:
    def test_ends_the_statement_and_the_connection(self):
        """As Ctrl-C does it: whoever waits goes on at once, and Postgres does not work in vain."""

        def interrupt(*_):
            raise InterruptedError

        connection.ensure_connection()
        server = connection.connection.info.backend_pid
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        started = time.monotonic()
        try:
            with pytest.raises(InterruptedError):
                transactions.outermost(lambda: statements.run("SELECT pg_sleep(30)", {}))()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

        assert time.monotonic() - started < 10
        wait_until(lambda: not _is_there(server))
        assert statements.run(COUNT, {}) == [(0,)]


class TestAServerThatHangsUp:
    def test_in_the_middle_is_an_operational_error_and_the_next_connection_works(self):
        with pytest.raises(OperationalError) as fault:
            transactions.outermost(
                lambda: [
                    add(1),
                    statements.run("SELECT pg_terminate_backend(pg_backend_pid())", {}),
                ]
            )()

        assert transactions.sqlstate(fault.value) == "57P01"
        assert positions() == []

    @pytest.mark.parametrize("by", [add, djangos_add], ids=["ours", "djangos"])
    def test_as_this_process_stood_still_is_one_too(self, by):
        """The driver calls it a fault of ours; a process that was stopped a while meets it."""

        @transactions.outermost
        def act():
            add(1)
            [(server,)] = statements.run("SELECT pg_backend_pid()", {})
            wait_until(lambda: not _is_there(server, other=True))
            by(2)

        # Of the session, which ends by it.
        with connection.cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = '500ms'")
        with pytest.raises(OperationalError) as fault:
            act()

        assert transactions.sqlstate(fault.value) == "25P03"
        assert positions() == []

    def test_between_two_trips_is_one_too(self):
        @transactions.outermost
        def act():
            [(server,)] = statements.run("SELECT pg_backend_pid()", {})
            _end(server)
            wait_until(lambda: not _is_there(server, other=True))
            add(1)

        with pytest.raises(OperationalError):
            act()

        assert positions() == []


def _is_there(server: int, *, other: bool = False) -> bool:
    sql, params = "SELECT FROM pg_stat_activity WHERE pid = %s", [server]
    if other:
        return bool(_elsewhere(sql, params))
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return bool(cursor.fetchall())


def _is_at(server: int, text: str) -> bool:
    return bool(
        _elsewhere(
            "SELECT FROM pg_stat_activity"
            " WHERE pid = %s AND state = 'active' AND query LIKE '%%' || %s || '%%'",
            [server, text],
        )
    )


def _end(server: int) -> None:
    _elsewhere("SELECT pg_terminate_backend(%s)", [server])


def _elsewhere(sql: str, params: list[object]) -> list[tuple[object, ...]]:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()
    finally:
        other.close()
