"""Closing a month, and opening it again."""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from structlog.testing import capture_logs

from apps.accounts.models import Organization
from apps.core import transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent, OutboxEvent
from apps.ledger import errors, operations, queries, tasks
from apps.ledger.models import Period, PeriodBalance
from apps.ledger.operations import _periods
from apps.ledger.queries import Dating, _chosen_accounts
from tests.ledger.factories import (
    balance,
    committed,
    create_organization,
    open_account,
    post_transfer,
)
from tests.ledger.histories import (
    Move,
    movements_between,
    movements_of,
    seal,
    write_history,
)
from tests.ledger.in_the_way import holders, was_held_up
from tests.ledger.rows import fingerprints
from tests.ledger.threads import Asking, is_waiting
from tests.support import is_serializable, race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
# June ends at midnight in Berlin, which is 22:00 of UTC.
JUNE_ENDS = datetime(2026, 6, 30, 22, tzinfo=UTC)
IN_JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
LATER = datetime(2026, 8, 3, 9, tzinfo=UTC)
MARA, ANTON = "staff:mara", "staff:anton"
ACTOR = Actor(kind="staff", id="anton", principal=ANTON)


class Books:
    """An organisation in Berlin with a bank, two wallets, and an entry in June."""

    def __init__(self, *, first: datetime = IN_JUNE) -> None:
        self.id = create_organization()
        Organization.objects.filter(id=self.id).update(time_zone="Europe/Berlin")
        self.bank = open_account(self.id, "bank:ba_1:EUR", type_="asset", floor=None)
        self.ann = open_account(self.id, "wallets:ann:EUR", floor=None)
        self.bob = open_account(self.id, "wallets:bob:EUR", floor=None)
        write_history(self.id, [Move(self.bank, self.ann, 100_00, first, first)])
        seal(self.id)

    def post(self, amount: int, at: datetime, *, key: str):
        return post_transfer(self.id, self.ann, self.bob, amount, key=key, effective_at=at)

    def begin(self, month: date = JUNE, *, now: datetime = LATER, by=(MARA, ANTON)) -> Period:
        return committed(self.ask_and_agree)(month, now=now, by=by)

    def ask_and_agree(
        self, month: date = JUNE, *, now: datetime = LATER, by=(MARA, ANTON)
    ) -> Period:
        period = operations.prepare_close(organization_id=self.id, month=month, now=now)
        return operations.begin_closing(
            organization_id=self.id, period_id=period.id, requested_by=by[0], approved_by=by[1],
            reason="June is done", actor=ACTOR, now=now,
        )  # fmt: skip

    def finish(self, month: date = JUNE) -> str:
        row = self.period(month)
        return operations.finish_closing(organization_id=self.id, period_id=row.id, now=LATER).state

    def close(self, month: date = JUNE) -> Period:
        self.begin(month)
        self.finish_for_sure(month)
        return self.period(month)

    def finish_for_sure(self, month: date = JUNE) -> None:
        """Finish; a try may be in vain only if others on this server were in the way of it."""

        def closed() -> bool:
            before = holders()
            if self.finish(month) == "closed":
                return True
            assert was_held_up(before, closing_after=self.period(month).closing_after)
            return False

        wait_until(closed)

    @committed
    def reopen(self, month: date = JUNE, *, by=(MARA, ANTON)) -> Period:
        period = operations.prepare_reopen(organization_id=self.id, month=month)
        return operations.reopen_period(
            organization_id=self.id, period_id=period.id, requested_by=by[0], approved_by=by[1],
            reason="An invoice came late", actor=ACTOR, now=LATER,
        )  # fmt: skip

    def period(self, month: date = JUNE) -> Period:
        return queries.find_period(organization_id=self.id, month=month)

    def stored(self, month: date = JUNE, closing: int | None = None) -> dict:
        """Return what was stored at one closing, by default the last: three amounts by account."""
        lines = PeriodBalance.objects.filter(
            organization_id=self.id, month=month, closing=closing or self.period(month).closings
        )
        return {
            line.account_id: (line.opening_minor, line.debits_minor, line.credits_minor)
            for line in lines
        }

    def events(self) -> list[str]:
        rows = OutboxEvent.objects.filter(organization_id=self.id, aggregate_type="period")
        return [row.name for row in rows.order_by("sequence")]


@pytest.fixture
def books() -> Books:
    return Books()


@contextmanager
def a_connection():
    """Open one more connection to the test's database, in a transaction of its own."""
    settings = connection.get_connection_params()
    settings = {
        name: settings[name] for name in ("host", "port", "user", "password") if name in settings
    }
    with psycopg.connect(dbname=connection.settings_dict["NAME"], **settings) as other:
        yield other


def insert_entry(cursor, books: Books, amount: int, at: datetime, *, id_: str) -> None:
    """Post in SQL, round the engine: only the trigger looks at the month."""
    cursor.execute(
        "INSERT INTO ledger_journal_entry (id, organization_id, kind, description, effective_at,"
        " recorded_at, actor, metadata) VALUES (%s, %s, 'x', '', %s, now(), 'psql', '{}')",
        [id_, books.id, at],
    )
    cursor.execute(
        "UPDATE ledger_balance SET version = version + 1, posted_debits = posted_debits"
        " + CASE WHEN id = %s THEN %s ELSE 0 END, posted_credits = posted_credits"
        " + CASE WHEN id = %s THEN %s ELSE 0 END WHERE id IN (%s, %s)",
        [books.bank, amount, books.ann, amount, books.bank, books.ann],
    )
    cursor.execute(
        "INSERT INTO ledger_posting (organization_id, entry_id, number, account_id, amount_minor,"
        " currency, account_version, balance_after_minor, effective_at, recorded_at)"
        " SELECT e.organization_id, e.id, n, a, m, 'EUR',"
        "        (SELECT version FROM ledger_balance WHERE id = a), 0, e.effective_at,"
        "        e.recorded_at"
        "   FROM ledger_journal_entry e, unnest(ARRAY[1, 2], ARRAY[%s, %s]::uuid[], ARRAY[%s, %s])"
        "        AS p(n, a, m)"
        "  WHERE e.organization_id = %s AND e.id = %s",
        [books.bank, books.ann, amount, -amount, books.id, id_],
    )


class TestClosing:
    def test_freezes_the_month_and_stores_its_trial_balance(self, books):
        books.post(30_00, IN_JUNE, key="a")
        books.post(5_00, JUNE_ENDS, key="july")
        seal(books.id)

        period = books.close()

        assert (period.state, period.closings) == ("closed", 1)
        assert (period.requested_by, period.approved_by) == (MARA, ANTON)
        assert books.stored() == {
            books.bank: (0, 100_00, 0),
            books.ann: (0, 30_00, 100_00),
            books.bob: (0, 0, 30_00),
        }
        assert books.events() == ["ledger.period.frozen", "ledger.period.closed"]
        trail = AuditEvent.objects.filter(act="ledger.close_period").order_by("id")
        assert [row.after["state"] for row in trail] == ["closing", "closed"]
        assert trail[0].reason == "June is done"

    @pytest.mark.parametrize("few", [200, 0], ids=["few accounts", "many"])
    def test_stores_what_the_postings_come_to(self, monkeypatch, few):
        books = Books(first=datetime(2026, 5, 15, tzinfo=UTC))
        quiet = open_account(books.id, "wallets:quiet:EUR", floor=None)
        books.post(30_00, IN_JUNE, key="june")
        post_transfer(
            books.id, books.bob, books.bank, 7_00, key="displaced", effective_at=IN_JUNE, force=True
        )
        post_transfer(books.id, books.ann, quiet, 1_00, key="july", effective_at=JUNE_ENDS)
        seal(books.id)
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", few)

        books.close()

        assert books.stored() == {
            books.bank: (100_00, 0, 7_00),
            books.ann: (-100_00, 30_00, 0),
            books.bob: (0, 7_00, 30_00),
        }
        since, until = queries.period_bounds(organization_id=books.id, month=JUNE)
        view = queries.view_period(organization_id=books.id, month=JUNE)
        assert movements_of(view) == movements_between(
            organization_id=books.id, since=since, until=until
        )

    def test_of_an_organization_without_an_account_stores_nothing(self):
        books = Books.__new__(Books)
        books.id = create_organization()

        assert books.close().state == "closed"

        assert books.stored() == {}

    def test_carries_balances_into_the_next_month(self, books):
        books.close()
        books.post(1_00, JUNE_ENDS, key="july")
        seal(books.id)

        books.close(JULY)

        assert books.stored(JULY)[books.ann] == (-100_00, 1_00, 0)

    def test_is_done_once_however_often_it_is_finished(self, books):
        period = books.close()
        before = list(PeriodBalance.objects.values_list("account_id", "closing"))

        assert books.finish() == "closed"
        list(tasks.close_periods("now", LATER))

        assert books.period().event_sequence == period.event_sequence
        assert list(PeriodBalance.objects.values_list("account_id", "closing")) == before

    @pytest.mark.parametrize("late", [timedelta(0), timedelta(minutes=59, seconds=59)])
    def test_of_a_month_that_is_not_over_for_an_hour_is_refused(self, books, late):
        with pytest.raises(errors.PeriodNotOver) as refused:
            books.begin(now=JUNE_ENDS + late)

        assert refused.value.details["closes_at"] == "2026-06-30T23:00:00Z"
        assert books.events() == []
        assert books.post(1, IN_JUNE, key="a").entry_id

    def test_an_hour_after_its_end_is_possible(self, books):
        assert books.begin(now=JUNE_ENDS + timedelta(hours=1)).state == "closing"

    def test_is_done_right_after_its_commit_where_nothing_is_in_the_way(self, books):
        before = []

        @committed
        def begin() -> None:
            # After the commit, and before what the closing itself does then.
            transactions.on_commit(lambda: before.append(holders()))
            books.ask_and_agree()

        def is_done_at_once() -> bool:
            begin()
            if books.period().state == "closed":
                return True
            # It was held up by others on this server, or it is at fault: once more.
            assert was_held_up(before.pop(), closing_after=books.period().closing_after)
            books.finish_for_sure()
            books.reopen()
            return False

        for _ in range(3):
            wait_until(is_done_at_once)
            assert books.period().closed_at == LATER
            assert books.events()[-2:] == ["ledger.period.frozen", "ledger.period.closed"]
            books.reopen()

    def test_goes_in_the_order_of_months(self, books):
        books.close(MAY)

        with pytest.raises(errors.PeriodOutOfOrder) as refused:
            books.begin(JULY)

        assert refused.value.details == {"period": "2026-06"}
        assert self.blockers(books, JULY) == ["period_out_of_order"]
        assert self.blockers(books, JUNE) == self.blockers(books, MAY) == []
        books.close()
        assert books.close(JULY).state == "closed"

    def blockers(self, books, month) -> list[str]:
        found = queries.period_blockers(organization_id=books.id, month=month, now=LATER)
        return [blocker.code for blocker in found]

    def test_of_any_month_first_closes_all_before_it(self, books):
        """One entry of a client is dated decades ago by a slip."""
        begun = datetime(1970, 1, 1, tzinfo=UTC)
        may = datetime(2026, 5, 15, tzinfo=UTC)
        Organization.objects.filter(id=books.id).update(time_zone="America/New_York")
        # Somebody asked for May, and then nobody agreed.
        committed(operations.prepare_close)(organization_id=books.id, month=MAY, now=LATER)
        books.post(2_00, begun, key="slip")
        seal(books.id)

        books.close()

        assert books.stored() == {
            books.bank: (0, 100_00, 0),
            books.ann: (2_00, 0, 100_00),
            books.bob: (-2_00, 0, 0),
        }
        for month in (date(1969, 12, 1), date(2000, 2, 1), MAY):
            view = queries.view_period(organization_id=books.id, month=month)
            assert (view.state, view.is_stored) == ("closed", False)
            assert movements_of(view)
            with pytest.raises(errors.PeriodClosedAlready):
                books.begin(month)
        for n, at in enumerate((begun, may)):
            with pytest.raises(errors.PeriodClosed):
                books.post(1, at, key=f"late-{n}")
            with pytest.raises(IntegrityError, match="is closed"), connection.cursor() as cursor:
                insert_entry(cursor, books, 5, at, id_=str(new_id()))
        listed = queries.list_periods(organization_id=books.id, now=LATER)
        assert len(listed) == 5 * 12 + 1
        assert (listed[-1].name, listed[3].name, listed[3].state) == (
            "2021-08", "2026-05", "closed",
        )  # fmt: skip
        [blocker] = queries.period_blockers(organization_id=books.id, month=MAY, now=LATER)
        assert blocker.code == "period_closed_already"

    def test_of_a_month_that_was_opened_again_comes_before_later_ones(self, books):
        books.close()
        books.close(JULY)
        books.reopen(JULY)
        books.reopen()

        with pytest.raises(errors.PeriodOutOfOrder) as refused:
            books.begin(JULY)

        assert refused.value.details == {"period": "2026-06"}
        assert queries.months_to_close(organization_id=books.id, now=LATER) == [JUNE]
        assert books.close().closings == 2

    def test_of_a_month_before_the_closed_one_is_refused_as_it_is_closed_with_it(self, books):
        books.close()

        with pytest.raises(errors.PeriodClosedAlready):
            books.begin(MAY)
        view = queries.view_period(organization_id=books.id, month=MAY)
        assert view.state == "closed"

    def test_wants_two_people(self, books):
        with pytest.raises(errors.TwoPeopleNeeded):
            books.begin(by=(MARA, MARA))

        assert books.period() is None

    def test_twice_is_refused(self, books):
        books.close()

        with pytest.raises(errors.PeriodClosedAlready):
            books.begin()

    def test_of_another_organizations_month_finds_none(self, books):
        stranger = Books()
        stranger.close()
        theirs = stranger.period()
        agreed = {
            "organization_id": books.id, "period_id": theirs.id, "requested_by": MARA,
            "approved_by": ANTON, "reason": "June is done", "actor": Actor.job("tests"),
            "now": LATER,
        }  # fmt: skip

        for act in (operations.begin_closing, operations.reopen_period):
            with pytest.raises(errors.PeriodNotFound):
                committed(act)(**agreed)
        with pytest.raises(errors.PeriodNotFound):
            operations.call_off_closing(
                organization_id=books.id, period_id=theirs.id, reason="No", idempotency_key="k",
                actor=Actor.job("tests"), now=LATER,
            )  # fmt: skip
        with pytest.raises(errors.PeriodNotFound):
            operations.finish_closing(organization_id=books.id, period_id=theirs.id, now=LATER)

        assert stranger.period().event_sequence == theirs.event_sequence

    def test_that_two_pairs_of_people_asked_for_is_agreed_to_once(self, books):
        """What was fit to be closed as it was asked for is looked at again as it is agreed to."""
        asked = committed(operations.prepare_close)(organization_id=books.id, month=JUNE, now=LATER)
        books.close()
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(errors.PeriodClosedAlready):
            committed(operations.begin_closing)(
                organization_id=books.id, period_id=asked.id, requested_by=MARA,
                approved_by=ANTON, reason="June is done", actor=ACTOR, now=LATER,
            )  # fmt: skip

        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before

    def test_of_the_next_month_waits_until_the_one_before_it_is_closed(self, books):
        books.post(1, IN_JUNE, key="unsealed")
        books.begin()

        for month in (JUNE, JULY):
            with pytest.raises(errors.PeriodClosing) as refused:
                books.begin(month, now=datetime(2026, 9, 3, tzinfo=UTC))
            assert refused.value.details == {"period": "2026-06"}

        assert queries.view_period(organization_id=books.id, month=JULY).state == "open"

    def test_waits_until_every_entry_of_it_is_sealed(self, books):
        books.post(30_00, IN_JUNE, key="a")

        books.begin()
        for _ in range(3):
            assert books.finish() == "closing"
        told = queries.period_blockers(organization_id=books.id, month=JUNE, now=LATER)
        assert [blocker.code for blocker in told][:1] == ["entries_unsealed"]

        seal(books.id)
        books.finish_for_sure()
        assert books.stored()[books.bob] == (0, 0, 30_00)

    @pytest.mark.parametrize("turn", range(5))
    def test_of_two_that_close_at_once_one_does(self, books, turn):
        outcomes = race(books.begin, books.begin)

        [refused] = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert isinstance(refused, errors.PeriodClosing | errors.PeriodClosedAlready)
        assert books.events().count("ledger.period.frozen") == 1

    def test_lost_after_its_first_step_is_taken_up_by_the_job(self, books):
        with a_connection() as other:
            other.execute("SELECT pg_current_xact_id()")
            books.begin()
            assert books.period().state == "closing"

        def closed() -> bool:
            list(tasks.close_periods("now", LATER))
            return books.period().state == "closed"

        wait_until(closed)


class TestClosePeriods:
    def test_closes_what_two_people_agreed_to_and_says_what_it_waits_for(self, books, capsys):
        """The command: what the job does each minute, now."""

        def told() -> str:
            call_command("close_periods")
            return capsys.readouterr().out.strip()

        assert told() == "No month is closing."
        with a_connection() as other:
            other.execute("SELECT pg_current_xact_id()")
            books.begin()
            waiting = told()
        assert waiting.startswith("2026-06: closing. ")
        assert "transaction" in waiting
        said = []
        wait_until(lambda: said.append(told()) or said[-1] == "2026-06: closed")
        assert books.period().state == "closed"
        assert told() == "No month is closing."

    def test_of_one_organization_that_fails_leaves_none_of_the_others_open(self):
        """It is named at the end, and is where it was."""
        first, second = sorted((Books(), Books()), key=lambda one: one.id)
        with a_connection() as other:
            other.execute("SELECT pg_current_xact_id()")
            for one in (first, second):
                one.begin()
        # As many as the column holds: no further one can be counted.
        Period.objects.filter(id=first.period().id).update(closings=2**31 - 1)
        said = []

        def second_is_closed_and_first_has_failed() -> bool:
            with capture_logs() as logs:
                try:
                    call_command("close_periods")
                # What others do on this server may hold up both for a moment.
                except CommandError as failed:
                    said.append((failed, logs))
            return bool(said) and second.period().state == "closed"

        wait_until(second_is_closed_and_first_has_failed)

        failed, logs = said[-1]
        period = first.period()
        assert str(failed) == (
            "Not closed, for a fault that the log has:"
            f" {encode_id('org', first.id)}, period {period.id}: DataError."
        )
        assert failed.returncode == 1
        [told] = [line for line in logs if line["event"] == "period_not_closed"]
        assert told["period_id"] == str(period.id)
        assert (period.state, period.closings) == ("closing", 2**31 - 1)
        assert first.stored() == {}


class TestAClosedMonth:
    def test_takes_no_entry_and_neither_does_what_lies_before(self, books):
        books.close()

        for number, at in enumerate([IN_JUNE, datetime(2025, 1, 1, tzinfo=UTC)]):
            with pytest.raises(errors.PeriodClosed) as refused:
                books.post(1, at, key=f"k{number}")
            assert refused.value.details["period"] == "2026-06"
        assert queries.get_balance(organization_id=books.id, account_id=books.bob).posted == 0
        assert books.post(1, JUNE_ENDS, key="july").entry_id

    @pytest.mark.parametrize(
        ("at", "is_taken"),
        [
            (JUNE_ENDS - timedelta(microseconds=1), False),
            (datetime(2020, 1, 1, tzinfo=UTC), False),
            (JUNE_ENDS, True),
        ],
    )
    def test_is_kept_by_postgres_itself(self, books, at, is_taken):
        books.close()

        with a_connection() as other, other.cursor() as cursor:
            if is_taken:
                insert_entry(cursor, books, 5, at, id_="0197a000-0000-7000-8000-000000000001")
            else:
                with pytest.raises(psycopg.errors.CheckViolation) as refused:
                    insert_entry(cursor, books, 5, at, id_="0197a000-0000-7000-8000-000000000001")
                name = refused.value.diag.constraint_name
                assert name == "journal_entry_is_in_an_open_period"

    def test_cannot_go_straight_from_open_to_closed_in_sql(self, books):
        books.close()
        books.reopen()

        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute(
                "UPDATE ledger_period SET state = 'closed', closed_at = now(), requested_by = 'a',"
                " approved_by = 'b', reopening_requested_by = '', reopening_approved_by = '',"
                " reopening_reason = ''"
            )

    def test_is_where_late_facts_begin(self, books):
        books.close()

        old = datetime(2020, 1, 1, tzinfo=UTC)
        last = JUNE_ENDS - timedelta(microseconds=1)
        dated = queries.date_facts(
            organization_id=books.id, instants={IN_JUNE, LATER, old, last, JUNE_ENDS}
        )

        for at in (JUNE_ENDS, LATER):
            assert dated[at] == Dating(at, {})
        for at in (IN_JUNE, old, last):
            kept = {"original_effective_at": at.isoformat()}
            assert dated[at] == Dating(JUNE_ENDS, kept)
            assert books.post(1, dated[at].effective_at, key=f"{at}").entry_id


class TestCallOff:
    def call_off(self, books, key="k"):
        return operations.call_off_closing(
            organization_id=books.id, period_id=books.period().id, reason="Not yet",
            idempotency_key=key, actor=Actor.job("tests"), now=LATER,
        )  # fmt: skip

    def test_lets_the_month_take_entries_again(self, books):
        books.post(1, IN_JUNE, key="unsealed")
        books.begin()
        with pytest.raises(errors.PeriodClosed):
            books.post(1, IN_JUNE, key="refused")

        assert self.call_off(books).state == "open"

        assert books.post(1, IN_JUNE, key="taken").entry_id
        assert books.events() == ["ledger.period.frozen", "ledger.period.reopened"]
        assert not PeriodBalance.objects.exists()

    def test_again_with_its_key_does_nothing(self, books):
        books.post(1, IN_JUNE, key="unsealed")
        books.begin()
        self.call_off(books)
        books.begin()

        assert self.call_off(books).state == "closing"

    def test_and_begun_again_is_another_closing_than_one_under_way_has_seen(self, books):
        books.post(1, IN_JUNE, key="unsealed")
        books.begin()
        seal(books.id)
        with a_connection() as other:
            other.execute("SELECT FROM ledger_period FOR UPDATE")
            finishing = Asking(books.finish)
            wait_until(is_waiting)
            # In SQL, under the lock that it waits for: both acts come between its two looks.
            for state in ("open", "closing"):
                other.execute(
                    "UPDATE ledger_period SET state = %s, event_sequence = event_sequence + 1,"
                    " closing_after = NULL",
                    [state],
                )

        answer = finishing.ended().answer
        if is_serializable():
            # Its whole transaction ran again, and has seen the closing that was begun again.
            assert answer == "closed"
            return
        assert answer == "closing"
        # It has not said who is to be waited for: that is for one that has seen this closing.
        assert books.period().closing_after is None
        assert not PeriodBalance.objects.exists()
        books.finish_for_sure()

    def test_of_a_closed_month_is_refused(self, books):
        books.close()

        with pytest.raises(errors.PeriodNotClosed):
            self.call_off(books)
        assert books.period().state == "closed"


class TestAPostingUnderWay:
    def test_that_saw_the_month_open_is_told_that_it_is_closed(self, books):
        """What is written is refused by Postgres; run again it is refused as any other."""
        with a_connection() as other:
            # Between what it reads and what it writes.
            other.execute("LOCK TABLE ledger_journal_entry IN SHARE MODE")
            posting = Asking(partial(books.post, 7_00, IN_JUNE, key="late"))
            wait_until(is_waiting)
            books.begin()

        posting.ended()
        if is_serializable():
            # Of before the freeze as a whole, and the second step has waited for it.
            assert posting.fault is None
            assert books.period().state == "closing"
            return
        assert isinstance(posting.fault, errors.PeriodClosed)
        assert posting.fault.details == {"period": "2026-06"}
        assert balance(books.id, books.bob).posted == 0


class TestReopening:
    def test_lets_entries_in_and_keeps_what_was_stored(self, books):
        books.close()
        first = books.stored()

        books.reopen()
        books.post(7_00, IN_JUNE, key="late invoice")
        seal(books.id)
        books.close()

        assert books.period().closings == 2
        assert books.stored(closing=1) == first
        assert books.stored()[books.bob] == (0, 0, 7_00)
        assert books.events() == [
            "ledger.period.frozen",
            "ledger.period.closed",
            "ledger.period.reopened",
            "ledger.period.frozen",
            "ledger.period.closed",
        ]

    def test_goes_from_the_last_month_back(self, books):
        books.close()
        books.close(JULY)

        with pytest.raises(errors.PeriodOutOfOrder) as refused:
            books.reopen()

        assert refused.value.details == {"period": "2026-07"}
        books.reopen(JULY)
        assert books.reopen().state == "open"

    @pytest.mark.parametrize("was_asked_for", [False, True])
    def test_of_a_month_that_a_later_one_closed_with_it_names_that_one(self, books, was_asked_for):
        """It reads as closed, whether or not somebody once asked to close it by itself."""
        if was_asked_for:
            committed(operations.prepare_close)(organization_id=books.id, month=JUNE, now=LATER)
        books.close(JULY)
        assert queries.view_period(organization_id=books.id, month=JUNE).state == "closed"

        with pytest.raises(errors.PeriodOutOfOrder) as refused:
            books.reopen()

        assert refused.value.details == {"period": "2026-07"}

    @pytest.mark.parametrize(
        ("meanwhile", "refusal"),
        [("reopen", errors.PeriodNotClosed), ("close", errors.PeriodOutOfOrder)],
    )
    def test_is_looked_at_again_as_it_is_agreed_to(self, books, meanwhile, refusal):
        """Others opened it since it was asked for, or closed the month after it."""
        books.close()
        asked = committed(operations.prepare_reopen)(organization_id=books.id, month=JUNE)
        books.reopen() if meanwhile == "reopen" else books.close(JULY)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(refusal):
            committed(operations.reopen_period)(
                organization_id=books.id, period_id=asked.id, requested_by=MARA,
                approved_by=ANTON, reason="A late fact", actor=ACTOR, now=LATER,
            )  # fmt: skip

        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before

    def test_of_an_open_month_is_refused(self, books):
        with pytest.raises(errors.PeriodNotFound):
            books.reopen()
        books.close()
        books.reopen()
        with pytest.raises(errors.PeriodNotClosed):
            books.reopen()

    def test_wants_two_people(self, books):
        books.close()

        with pytest.raises(errors.TwoPeopleNeeded):
            books.reopen(by=(MARA, MARA))
        assert books.period().state == "closed"

    def test_names_who_asked_who_agreed_and_why_until_the_month_is_closed_once_more(self, books):
        books.close()
        assert self.named(books) == ("", "", "")

        books.reopen(by=(ANTON, MARA))
        books.post(1, IN_JUNE, key="unsealed")
        seen = [self.named(books)]
        books.begin(by=("staff:eva", "staff:leo"))
        seen.append(self.named(books))

        assert seen == [(ANTON, MARA, "An invoice came late")] * 2
        seal(books.id)
        books.finish_for_sure()
        assert self.named(books) == ("", "", "")
        assert books.period().requested_by == "staff:eva"

    def test_that_names_nobody_is_refused_by_postgres(self, books, monkeypatch):
        """It is not enough that two people once closed it, whose names stand there."""
        books.close()
        monkeypatch.setattr(_periods, "_name_reopening", lambda *_: None)

        with pytest.raises(IntegrityError, match="who opens it again is said then"):
            books.reopen()
        assert books.period().state == "closed"

    @pytest.mark.parametrize("other", ["'staff:eva'", "''"])
    def test_names_for_good_who_did(self, books, other):
        books.close()
        books.reopen()

        with pytest.raises(IntegrityError, match="is said then"), connection.cursor() as cursor:
            cursor.execute(f"UPDATE ledger_period SET reopening_requested_by = {other}")

    def named(self, books) -> tuple[str, str, str]:
        row = books.period()
        return row.reopening_requested_by, row.reopening_approved_by, row.reopening_reason


class TestAPostingUnderWayAsTheMonthFreezes:
    """It is in the stored trial balance, or it is refused; there is no third."""

    def test_that_was_written_before_is_waited_for(self, books):
        with a_connection() as other, other.cursor() as cursor:
            insert_entry(cursor, books, 5, IN_JUNE, id_="0197a000-0000-7000-8000-000000000001")
            books.begin()

            assert [books.finish() for _ in range(3)] == ["closing"] * 3
            told = queries.period_blockers(organization_id=books.id, month=JUNE, now=LATER)
            assert [blocker.code for blocker in told] == ["transactions_open"]
            other.commit()

        assert books.finish() == "closing", "it is not sealed yet"
        seal(books.id)
        books.finish_for_sure()
        assert books.stored()[books.bank] == (0, 100_00 + 5, 0)

    def test_that_began_while_the_closing_was_uncommitted_is_waited_for_as_well(self, books):
        """Its number is above that of the transaction that said closing, which it cannot see."""
        said, go_on = threading.Event(), threading.Event()

        @committed
        def begin() -> Period:
            period = operations.prepare_close(organization_id=books.id, month=JUNE, now=LATER)
            begun = operations.begin_closing(
                organization_id=books.id, period_id=period.id, requested_by=MARA,
                approved_by=ANTON, reason="June is done", actor=ACTOR, now=LATER,
            )  # fmt: skip
            said.set()
            assert go_on.wait(30)
            return begun

        def post() -> None:
            assert said.wait(30)
            with a_connection() as other, other.cursor() as cursor:
                insert_entry(cursor, books, 5, IN_JUNE, id_="0197a000-0000-7000-8000-000000000001")
                go_on.set()
                wait_until(lambda: books.period() is not None and books.period().state == "closing")
                assert [books.finish() for _ in range(3)] == ["closing"] * 3
                other.commit()

        race(begin, post)

        seal(books.id)
        books.finish_for_sure()
        assert books.stored()[books.bank] == (0, 100_00 + 5, 0)

    def test_is_in_the_trial_balance_or_refused_however_they_meet(self):
        for run in range(20):
            # The first is there before, the last comes after, and those between meet it.
            books, first = Books(), threading.Event()

            def post(n: int, books: Books = books, run: int = run, first=first) -> int:
                if n == 5:
                    wait_until(lambda: books.period() is not None)
                time.sleep((n * 7 + run) % 10 / 1000)
                books.post(n, IN_JUNE, key=f"k{n}")
                if n == 1:
                    first.set()
                return n

            def close(books: Books = books, first=first) -> None:
                assert first.wait(30)
                books.begin()
                while books.finish() != "closed":
                    seal(books.id)

            outcomes = race(close, *(partial(post, n) for n in range(1, 6)))[1:]

            posted = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]
            refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
            assert {type(refusal) for refusal in refused} <= {errors.PeriodClosed}
            stored = books.stored().get(books.bob, (0, 0, 0))
            assert stored == (0, 0, sum(posted)), (run, outcomes)
            found = movements_between(
                organization_id=books.id, since=None, until=JUNE_ENDS, code_prefix="wallets:bob"
            )
            assert sum(line.credits for line in found) == sum(posted)
            assert posted
            assert refused


class TestTrail:
    def test_names_who_asked_and_who_agreed_at_each_move(self, books):
        books.close()
        books.reopen(by=(ANTON, MARA))

        trail = AuditEvent.objects.filter(subject_type="ledger.period").order_by("id")

        assert [
            (row.act, row.before["state"], row.after["state"],
             row.after["requested_by"], row.after["approved_by"])
            for row in trail
        ] == [
            ("ledger.close_period", "open", "closing", MARA, ANTON),
            ("ledger.close_period", "closing", "closed", MARA, ANTON),
            ("ledger.reopen_period", "closed", "open", ANTON, MARA),
        ]  # fmt: skip


class TestListPeriods:
    def test_goes_from_the_first_entry_to_now(self, books):
        books.close()

        found = queries.list_periods(organization_id=books.id, now=LATER)

        assert [(view.name, view.state) for view in found] == [
            ("2026-08", "open"),
            ("2026-07", "open"),
            ("2026-06", "closed"),
        ]
        assert found[2].ends_at == JUNE_ENDS
        assert queries.next_to_close(organization_id=books.id) == JULY

    def test_counts_months_of_the_organizations_own_zone(self):
        """In Berlin it is June since two hours, and August, when it is May and July by UTC."""
        books = Books(first=datetime(2026, 5, 31, 22, tzinfo=UTC))

        found = queries.list_periods(
            organization_id=books.id, now=datetime(2026, 7, 31, 22, tzinfo=UTC)
        )

        assert [view.name for view in found] == ["2026-08", "2026-07", "2026-06"]

    def test_offers_every_month_that_is_over_until_one_was_closed(self, books):
        assert queries.next_to_close(organization_id=books.id) is None
        assert queries.months_to_close(organization_id=books.id, now=LATER) == [JUNE, JULY]

    def test_of_books_without_an_entry_is_the_current_month(self):
        organization = create_organization()

        [view] = queries.list_periods(organization_id=organization, now=LATER)

        assert (view.name, view.state) == ("2026-08", "open")
