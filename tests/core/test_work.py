"""Work rows: leased, lapsed, put off, set aside; and one claim at a time."""

import random
from collections import Counter
from contextlib import closing
from datetime import timedelta
from functools import partial

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from structlog.testing import capture_logs

from apps.core import claiming, clock, transactions, work
from apps.core.errors import InvariantBroken
from apps.core.ids import new_id, new_ids
from apps.core.models import EventWork
from apps.core.work import Kind, _registry
from tests.core.events_of_tests import NOW, ORGANIZATION, OTHER
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

record = transactions.outermost


def add(count=1, *, organization_id=ORGANIZATION, due_seconds_ago=1, **more) -> list[EventWork]:
    due = clock.now() - timedelta(seconds=due_seconds_ago)
    return EventWork.objects.bulk_create(
        EventWork(
            organization_id=organization_id,
            batch_id=id_,
            consumer="tests",
            next_attempt_at=due + timedelta(microseconds=place),
            **more,
        )
        for place, id_ in enumerate(new_ids(count))
    )


def claim(limit=10, **more) -> list[EventWork]:
    return work.claim_due(EventWork, limit=limit, lease_seconds=60, **more)


def expire_leases() -> None:
    EventWork.objects.filter(state="leased").update(next_attempt_at=NOW)


def database_now():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


class TestClaim:
    def test_leases_what_is_due_oldest_first(self):
        [later] = add(due_seconds_ago=5)
        [first] = add(due_seconds_ago=10)
        add(due_seconds_ago=-60)

        assert [row.id for row in claim(limit=1)] == [first.id]
        assert [row.id for row in claim()] == [later.id]
        assert claim() == []

    def test_writes_the_lease_on_the_databases_clock(self):
        add()

        [row] = claim()

        stored = EventWork.objects.get()
        assert (stored.state, stored.attempts, stored.lapses) == ("leased", 1, 0)
        assert stored.lease_token == row.lease_token is not None
        assert stored.next_attempt_at == stored.lease_until
        assert timedelta(seconds=50) < stored.lease_until - database_now() <= timedelta(seconds=60)

    @pytest.mark.parametrize("state", ["done", "failed", "quarantined", "paused"])
    def test_passes_over_what_is_closed(self, state):
        add(state=state)

        assert claim() == []

    def test_takes_only_these(self):
        one, _ = add(2)

        assert [row.id for row in claim(only_ids=[one.id])] == [one.id]

    def test_by_many_at_once_leases_each_row_once(self):
        add(100)

        claims = race(*[partial(claim, limit=9)] * 8)

        taken = [row.id for rows in claims for row in rows]
        assert len(taken) == len(set(taken)) == 72

    def test_waits_for_nobody_who_has_a_row_locked(self):
        held, free = add(2)

        with closing(connection.copy()) as other:
            other.set_autocommit(False)
            with other.cursor() as cursor:
                cursor.execute("SELECT FROM core_event_work WHERE id = %s FOR UPDATE", [held.id])
            # The other one goes on only after this claim: who waited for it would wait for ever.
            assert [row.id for row in claim()] == [free.id]
            other.rollback()

        assert [row.id for row in claim()] == [held.id]

    def test_gives_one_organization_a_quarter_while_others_wait(self):
        add(40, due_seconds_ago=100)
        add(40, organization_id=OTHER, due_seconds_ago=10)
        add(40, organization_id=new_id(), due_seconds_ago=5)

        rows = claim(limit=12)

        counts = [sum(row.organization_id == id_ for row in rows) for id_ in (ORGANIZATION, OTHER)]
        # Three each, and the three places left over go to who waits longest.
        assert (counts, len(rows)) == ([6, 3], 12)

    def test_finds_the_others_behind_any_backlog(self):
        add(500, due_seconds_ago=100)
        add(3, organization_id=OTHER, due_seconds_ago=10)

        rows = claim(limit=12)

        assert len(rows) == 12
        assert sum(row.organization_id == OTHER for row in rows) == 3

    def test_gives_one_organization_no_more_than_a_quarter_while_others_wait_behind_it(self):
        add(1_000, due_seconds_ago=100)
        for _ in range(4):
            add(60, organization_id=new_id(), due_seconds_ago=10)

        rows = claim(limit=100)

        assert len(rows) == 100
        assert max(Counter(row.organization_id for row in rows).values()) == 25

    def test_prefers_who_has_waited_longest_behind_a_backlog(self):
        add(400, due_seconds_ago=100)
        waiting = [
            add(due_seconds_ago=ago, organization_id=new_id())[0] for ago in (20, 40, 10, 50, 30)
        ]

        rows = claim(limit=4)

        # One of the backlog, and the three that are due longest of the others.
        assert {row.id for row in rows} > {waiting[place].id for place in (3, 1, 4)}

    def test_looks_at_all_others_in_turn_where_they_are_too_many_for_one_look(self, monkeypatch):
        monkeypatch.setattr(claiming, "_WALK_MAX", 11)
        monkeypatch.setattr(claiming, "_walked", {})
        add(400, due_seconds_ago=100)
        others = [new_id() for _ in range(30)]
        for organization_id in others:
            add(organization_id=organization_id, due_seconds_ago=10)

        found = [row.organization_id for _ in range(4) for row in claim(limit=40)]

        assert sorted(set(found) - {ORGANIZATION}) == others
        assert len(found) == 160

    def test_passes_over_those_of_whom_nothing_is_due(self):
        add(400, due_seconds_ago=100)
        for _ in range(20):
            add(5, organization_id=new_id(), due_seconds_ago=-60)
        add(3, organization_id=OTHER, due_seconds_ago=10)

        rows = claim(limit=12)

        assert Counter(row.organization_id for row in rows) == {ORGANIZATION: 9, OTHER: 3}

    def test_by_many_at_once_leases_each_row_behind_a_backlog_once(self):
        add(1_000, due_seconds_ago=100)
        for _ in range(10):
            add(10, organization_id=new_id(), due_seconds_ago=10)

        claims = race(*[partial(claim, limit=12)] * 8)

        taken = [row.id for rows in claims for row in rows]
        assert len(taken) == len(set(taken)) == 96

    def test_gives_one_organization_all_when_nobody_else_waits(self):
        add(12)

        assert len(claim(limit=12)) == 12

    def test_commits_before_any_work(self):
        add()
        claim()

        assert race(lambda: EventWork.objects.get().state) == ["leased"]


@pytest.mark.parametrize("minutes", [10, -10])
class TestWrongClock:
    """A worker whose clock is off neither finds work early or late nor keeps it for too long."""

    @pytest.fixture
    def go_wrong(self, monkeypatch, minutes):
        def set_off():
            right, off = timezone.now, timedelta(minutes=minutes)
            monkeypatch.setattr(timezone, "now", lambda: right() + off)

        return set_off

    def test_finds_what_is_due_and_nothing_else(self, go_wrong):
        [due] = add()
        add(due_seconds_ago=-60)
        go_wrong()

        assert [kind.name for kind in work.due_kinds()] == ["core.consume"]
        assert [row.id for row in claim()] == [due.id]
        assert work.due_kinds() == []

    def test_leases_as_long_as_any_other(self, go_wrong):
        add()
        go_wrong()

        [row] = claim()

        assert 50 < (row.lease_until - database_now()).total_seconds() <= 60

    @pytest.mark.parametrize(
        "put_off",
        [
            partial(work.mark_retry, error_code="away", delay_seconds=30),
            partial(work.mark_waiting, error_code="waits", delay_seconds=30),
        ],
    )
    def test_puts_off_as_long_as_any_other(self, go_wrong, put_off):
        add()
        go_wrong()
        [row] = claim()

        record(lambda: put_off(row))()

        row.refresh_from_db()
        assert 20 < (row.next_attempt_at - database_now()).total_seconds() <= 30

    @pytest.mark.parametrize(
        "let_go",
        [
            lambda row: work.give_back(EventWork, [row]),
            lambda row: record(lambda: work.mark_continued(row))(),
            lambda row: record(lambda: work.mark_released(row))(),
            lambda _row: record(lambda: work.mark_all_released(EventWork.objects.all()))(),
        ],
        ids=["given back", "continued", "released", "all released"],
    )
    def test_lets_go_of_what_is_due_at_once(self, go_wrong, let_go):
        add()
        go_wrong()
        [row] = claim()

        let_go(row)

        assert [again.id for again in claim()] == [row.id]


class TestLapse:
    def test_is_counted_when_a_lease_ends_with_no_outcome(self):
        add()
        claim()
        expire_leases()

        [row] = claim()

        assert (row.attempts, row.lapses) == (2, 1)

    def test_gives_the_row_a_new_token(self):
        add()
        [first] = claim()
        expire_leases()

        [second] = claim()

        assert second.lease_token != first.lease_token

    def test_quarantines_the_row_the_fifth_time(self):
        add()
        for _ in range(5):
            assert len(claim()) == 1
            expire_leases()

        assert claim() == []

        row = EventWork.objects.get()
        assert (row.state, row.lapses, row.last_error_code) == ("quarantined", 5, "lapsed")
        assert (row.lease_token, row.lease_until) == (None, None)
        assert claim() == []

    def test_never_takes_those_along_that_only_stood_beside_the_killer(self):
        killer, *others = add(20)
        done = set()
        for _ in range(60):
            for row in claim():
                if row.id == killer.id:
                    break  # The process is gone, with all it has leased.
                done.add(row.id)
                record(lambda row=row: work.mark_done(row))()
            expire_leases()

        assert done == {row.id for row in others}
        assert EventWork.objects.get(id=killer.id).state == "quarantined"

    def test_comes_last_in_its_claim(self):
        [old] = add()
        claim()
        expire_leases()
        add(3)

        assert [row.id for row in claim()][-1] == old.id


class TestLockLeased:
    def test_returns_the_row_to_its_holder(self):
        add()
        [row] = claim()

        assert lock(row) == row

    def test_returns_none_to_who_lost_it(self):
        add()
        [row] = claim()
        expire_leases()
        claim()

        assert lock(row) is None

    def test_returns_the_row_though_the_lease_is_over_while_nobody_took_it(self):
        add()
        [row] = claim()
        expire_leases()

        assert lock(row) == row

    def test_returns_none_for_another_organizations_row(self):
        add()
        [row] = claim()

        assert lock(row, organization_id=OTHER) is None

    def test_returns_none_once_it_is_done(self):
        add()
        [row] = claim()
        record(lambda: work.mark_done(row))()

        assert lock(row) is None

    def test_is_refused_outside_an_operation(self):
        add()
        [row] = claim()

        with pytest.raises(InvariantBroken):
            work.lock_leased(
                EventWork, organization_id=None, row_id=row.id, lease_token=row.lease_token
            )


def lock(row, organization_id=ORGANIZATION):
    return record(
        lambda: work.lock_leased(
            EventWork,
            organization_id=organization_id,
            row_id=row.id,
            lease_token=row.lease_token,
        )
    )()


class TestMarks:
    @pytest.mark.parametrize(
        ("attempts", "seconds"),
        [(1, 1), (2, 5), (3, 30), (4, 120), (5, 600), (6, 1800), (7, 3600), (8, 3600), (11, 3600)],
    )
    def test_retry_waits_as_the_policy_says(self, attempts, seconds):
        [row] = add(attempts=attempts - 1)
        [row] = claim()
        before = database_now()

        record(lambda: work.mark_retry(row, error_code="away"))()

        row.refresh_from_db()
        waits = (row.next_attempt_at - before).total_seconds()
        assert 0.8 * seconds <= waits <= 1.2 * seconds + 1
        assert (row.state, row.lease_token, row.last_error_code) == ("pending", None, "away")

    @pytest.mark.parametrize(("end", "seconds"), [(0, 96), (1, 144)])
    def test_retry_is_spread_by_a_fifth_either_way(self, monkeypatch, end, seconds):
        monkeypatch.setattr(random, "uniform", lambda *ends: ends[end])
        add(attempts=3)
        [row] = claim()
        before = database_now()

        record(lambda: work.mark_retry(row, error_code="away"))()

        row.refresh_from_db()
        waits = row.next_attempt_at - before
        assert timedelta(0) <= waits - timedelta(seconds=seconds) < database_now() - before

    def test_retry_forgets_lapses(self):
        add(lapses=3)
        [row] = claim()

        record(lambda: work.mark_retry(row, error_code="away"))()

        assert EventWork.objects.get().lapses == 0

    def test_retry_sets_aside_after_the_twelfth_attempt(self):
        add(attempts=11)
        [row] = claim()

        record(lambda: work.mark_retry(row, error_code="away"))()

        row.refresh_from_db()
        assert (row.state, row.last_error_code) == ("quarantined", "away")

    def test_retry_with_a_delay_of_its_own_never_does(self):
        add(attempts=99)
        [row] = claim()

        record(lambda: work.mark_retry(row, error_code="away", delay_seconds=7))()

        assert EventWork.objects.get().state == "pending"

    def test_retry_of_a_row_never_claimed_waits_a_second(self):
        [row] = add()

        record(lambda: work.mark_retry(row, error_code="away"))()

        row.refresh_from_db()
        assert (row.next_attempt_at - database_now()).total_seconds() < 2

    def test_failed_is_the_end(self):
        add()
        [row] = claim()

        record(lambda: work.mark_failed(row, error_code="no"))()

        assert EventWork.objects.get().state == "failed"
        assert claim() == []

    def test_released_is_as_if_never_tried(self):
        add(state="quarantined", attempts=12, lapses=5)
        row = EventWork.objects.get()

        record(lambda: work.mark_released(row))()

        [row] = claim()
        assert (row.attempts, row.lapses) == (1, 0)

    @pytest.mark.parametrize(
        ("of_one", "of_many"),
        [
            (work.mark_done, work.mark_all_done),
            (
                partial(work.mark_waiting, error_code="held", delay_seconds=60),
                partial(work.mark_all_waiting, error_code="held", delay_seconds=60),
            ),
            (work.mark_released, lambda _, rows: work.mark_all_released(rows_of(rows))),
        ],
        ids=["done", "waiting", "released"],
    )
    def test_of_many_are_those_of_one(self, of_one, of_many):
        add(3, attempts=4, lapses=2, last_error_code="away")
        before = database_now()
        one, *many = claim()

        record(lambda: of_one(one))()
        record(lambda: of_many(EventWork, many))()

        columns = ("state", "attempts", "lapses", "last_error_code", "lease_until", "lease_token")
        assert len(set(rows_of([one, *many]).values_list(*columns))) == 1
        due = [
            at - before for at in rows_of([one, *many]).values_list("next_attempt_at", flat=True)
        ]
        assert len({at > timedelta(seconds=59) for at in due}) == 1


def rows_of(rows):
    return EventWork.objects.filter(id__in=[row.id for row in rows])


class TestKinds:
    def test_are_due_while_a_row_is(self):
        assert "core.consume" not in [kind.name for kind in work.due_kinds()]
        add(due_seconds_ago=-60)
        assert "core.consume" not in [kind.name for kind in work.due_kinds()]

        add()

        assert [kind.name for kind in work.due_kinds()] == ["core.consume"]

    def test_are_due_again_when_a_lease_ends(self):
        add()
        claim()
        assert work.due_kinds() == []

        expire_leases()

        assert [kind.task for kind in work.due_kinds()] == ["core.consume"]

    def test_are_hidden_by_none_that_cannot_be_looked_at(self, monkeypatch):
        broken = Kind("a.broken", EventWork, "a.task", "default", condition="no_such_column")
        monkeypatch.setattr(_registry, "_kinds", {broken.name: broken, **_registry._kinds})
        add()

        with capture_logs() as said:
            found = work.due_kinds()

        assert [kind.name for kind in found] == ["core.consume"]
        assert [(line["event"], line["kind"]) for line in said] == [
            ("kind_not_looked_at", "a.broken")
        ]

    def test_are_not_said_to_be_idle_where_there_is_no_database(self, monkeypatch):
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "NAME", "no_such_database")

        with pytest.raises(OperationalError):
            work.due_kinds()

    def test_unknown_are_not_nudged(self):
        with pytest.raises(InvariantBroken, match="registered"):
            work.nudge("core.nothing")
