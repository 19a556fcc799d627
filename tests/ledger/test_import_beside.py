"""What stands beside the entries of an imported journal: money changed, holds, monitors, months."""

import json
from collections import Counter
from datetime import date, datetime, timedelta
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.core import outbox
from apps.core.actors import Actor
from apps.core.invariants import breaches
from apps.core.models import OutboxEvent
from apps.ledger import errors, operations, queries
from apps.ledger.models import (
    BalanceMonitor,
    FxTransfer,
    Hold,
    Period,
    PeriodBalance,
)
from apps.ledger.operations import (
    _importing,
    _importing_state,
)
from tests.ledger.beside_entries import (
    ANN,
    BOB,
    DOLLARS,
    OCTOBER,
    TILL,
    beside,
    capture,
    closed,
    create_origin,
    ids_of,
    open_holds,
)
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    close_month,
    committed,
    create_organization,
    post_transfer,
)
from tests.ledger.journals import books_of, export, run_import
from tests.support import race, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def origin():
    return create_origin()


@pytest.fixture
def file(origin, tmp_path):
    return export(origin, tmp_path / "journal.jsonl")


NOVEMBER = date(2026, 11, 1)


@committed
def reopen_month(organization, month, *, by) -> None:
    period = operations.prepare_reopen(organization_id=organization, month=month)
    operations.reopen_period(
        organization_id=organization, period_id=period.id, requested_by=by[0], approved_by=by[1],
        reason="A late fact", actor=ACTOR, now=NOW,
    )  # fmt: skip


def create_two_opened_again(organization) -> list[tuple]:
    """Open October and November again, the former for the second time; return both months."""
    later = NOW + timedelta(days=30)
    reopen_month(organization, OCTOBER, by=("staff:vera", "staff:paul"))
    for month in (OCTOBER, NOVEMBER):
        close_month(organization, month, now=later)
    for month in (NOVEMBER, OCTOBER):
        reopen_month(organization, month, by=("staff:anton", "staff:mara"))
    months = beside(organization)["months"]
    assert [month[:3] for month in months] == [(OCTOBER, "open", 2), (NOVEMBER, "open", 1)]
    return months


def stored(organization) -> list[tuple]:
    """Return what was stored of all months, by the codes of accounts."""
    codes = {id_: code for code, id_ in ids_of(organization).items()}
    rows = PeriodBalance.objects.filter(organization_id=organization)
    return sorted(
        (row.closing, row.month, codes[row.account_id], row.opening_minor, row.debits_minor,
         row.credits_minor)
        for row in rows
    )  # fmt: skip


def lines_of_months(path) -> list[bytes]:
    """Return the file's lines of months, and of what was stored of them, in any order."""
    return sorted(line for line in path.read_bytes().splitlines() if b'"type":"period' in line)


class TestImport:
    def test_makes_the_same_books_and_all_that_stands_beside_them(self, origin, file):
        target = create_organization("Target")

        run_import(target, file)

        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        assert [row[2] for row in beside(target)["holds"]] == [5_00, 6_00, 12_00, 7_00]
        assert beside(target)["monitors"][0][-1] is False
        told = Counter(
            OutboxEvent.objects.filter(organization_id=target).values_list("type", flat=True)
        )
        assert told == {
            "ledger_account.opened": 7, "journal_entry.posted": 4, "fx_transfer.posted": 1,
            "hold.placed": 4, "period.frozen": 1, "period.closed": 1,
        }  # fmt: skip
        ann, was = (balance(one, ids_of(one)[ANN]) for one in (target, origin))
        assert (ann.posted, ann.pending_out, ann.available) == (81_99, 23_00, 58_99)
        assert (was.posted, was.pending_out, was.available) == (81_99, 23_00, 58_99)
        call_command("verify_ledger", quiet=True)
        assert breaches() == []

    def test_leaves_holds_that_are_captured_and_released_as_ever(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        first, second, parts, _till = open_holds(target)

        capture(target, first.id)
        capture(target, parts.id, 2_00)
        capture(target, parts.id, 10_00)
        with pytest.raises(errors.HoldAlreadyCaptured):
            capture(target, parts.id, 1)
        operations.void_hold(
            organization_id=target, hold_id=second.id, idempotency_key="v", actor=ACTOR, now=NOW
        )

        ann = balance(target, ids_of(target)[ANN])
        assert (ann.posted, ann.pending_out) == (64_99, 0)
        assert breaches() == []

    def test_leaves_holds_that_end_with_their_time(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)

        ended = operations.expire_holds(organization_id=target, now=NOW + timedelta(days=7))

        assert ended == 2
        assert balance(target, ids_of(target)[ANN]).pending_out == 12_00

    def test_watches_on(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        ids = ids_of(target)

        post_transfer(target, ids[ANN], ids[BOB], 9_00, key="k")

        [event] = OutboxEvent.objects.filter(
            organization_id=target, type="balance_monitor.triggered"
        )
        assert (event.data["threshold"], event.data["balance"]) == (50_00, 49_99)

    def test_keeps_closed_months_closed_by_the_same_two(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        ids = ids_of(target)

        with pytest.raises(errors.PeriodClosed):
            post_transfer(
                target,
                ids[ANN],
                ids[BOB],
                1,
                key="k",
                effective_at=datetime.combine(OCTOBER, NOW.timetz()),
            )

        [period] = queries.periods(organization_id=target)
        assert (period.requested_by, period.approved_by) == ("staff:mara", "staff:anton")

    def test_of_two_closed_months_only_the_later_one_can_be_called_off(self, origin, tmp_path):
        later = NOW + timedelta(days=30)
        close_month(origin, date(2026, 11, 1), now=later)
        path = export(origin, tmp_path / "two.jsonl")
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [line["month"] for line in lines if line["type"] == "period"] == [
            "2026-10-01", "2026-11-01",
        ]  # fmt: skip
        target = create_organization("Target")
        with path.open("rb") as file:
            content = file.readlines()
        # Without sealing, which the command does afterwards: both are frozen, none is closed yet.
        operations.import_journal(
            organization_id=target, read=lambda: iter(content), actor=ACTOR, now=later,
            on_progress=lambda *_: None,
        )  # fmt: skip

        def call_off(period):
            return operations.call_off_closing(
                organization_id=target, period_id=period.id, reason="Not yet",
                idempotency_key=str(period), actor=ACTOR, now=later,
            )  # fmt: skip

        first, second = queries.periods(organization_id=target)
        assert (first.state, second.state) == ("closing", "closing")
        with pytest.raises(errors.PeriodOutOfOrder):
            call_off(first)
        assert call_off(second).state == "open"
        assert call_off(second).state == "open"
        [first, _] = queries.periods(organization_id=target)
        assert first.state == "closing"

    def test_keeps_a_month_that_was_opened_again_in_turn(self, origin, tmp_path):
        later = NOW + timedelta(days=30)
        reopen_month(origin, OCTOBER, by=("staff:vera", "staff:paul"))
        ids = ids_of(origin)
        post_transfer(
            origin, ids[ANN], ids[BOB], 1, key="late",
            effective_at=datetime.combine(OCTOBER, NOW.timetz()),
        )  # fmt: skip
        close_month(origin, OCTOBER, now=later)
        reopen_month(origin, OCTOBER, by=("staff:anton", "staff:mara"))
        path = export(origin, tmp_path / "reopened.jsonl")
        target = create_organization("Target")

        run_import(target, path)
        run_import(target, path)

        for organization in (origin, target):
            [period] = queries.periods(organization_id=organization)
            assert (period.month, period.state, period.closings) == (OCTOBER, "open", 2)
            assert (period.requested_by, period.approved_by) == ("staff:mara", "staff:anton")
            assert (
                period.reopening_requested_by, period.reopening_approved_by,
                period.reopening_reason,
            ) == ("staff:anton", "staff:mara", "A late fact")  # fmt: skip
            assert queries.next_to_close(organization_id=organization) == OCTOBER
            with pytest.raises(errors.PeriodOutOfOrder):
                close_month(organization, NOVEMBER, now=later)
        assert stored(target) == stored(origin)
        assert {closing for closing, *_ in stored(target)} == {1, 2}
        assert books_of(target) == books_of(origin)
        again = export(target, tmp_path / "again.jsonl")
        assert lines_of_months(again) == lines_of_months(path)
        close_month(target, OCTOBER, now=later)
        close_month(target, NOVEMBER, now=later)
        assert [period.closings for period in queries.periods(organization_id=target)] == [3, 1]
        call_command("verify_ledger", quiet=True)
        assert breaches() == []

    def test_keeps_what_is_open_again_behind_what_is_closed(self, origin, tmp_path):
        later = NOW + timedelta(days=30)
        close_month(origin, NOVEMBER, now=later)
        reopen_month(origin, NOVEMBER, by=("staff:vera", "staff:paul"))
        path = export(origin, tmp_path / "reopened.jsonl")
        target = create_organization("Target")

        run_import(target, path)

        def october_is_closed() -> bool:
            call_command("close_periods")
            return queries.periods(organization_id=target)[0].state == "closed"

        wait_until(october_is_closed)
        assert [
            (period.month, period.state, period.closings)
            for period in queries.periods(organization_id=target)
        ] == [(OCTOBER, "closed", 1), (NOVEMBER, "open", 1)]
        assert queries.next_to_close(organization_id=target) == NOVEMBER
        assert breaches() == []

    def test_reads_the_file_in_no_transaction_and_once_for_all_that_are_open_again(
        self, origin, tmp_path
    ):
        """Postgres ends a transaction that stands still as long as a large file is read."""
        two = create_two_opened_again(origin)
        path = export(origin, tmp_path / "reopened.jsonl")
        target = create_organization("Target")
        done, begun = [""], Counter()

        def read():
            begun[done[-1]] += 1
            assert not connection.in_atomic_block
            with path.open("rb") as lines:
                for line in lines:
                    yield line
                    assert not connection.in_atomic_block

        operations.import_journal(
            organization_id=target, read=read, actor=ACTOR, now=NOW,
            on_progress=lambda what, _: done.append(what),
        )  # fmt: skip

        # The months, and what was stored of them.
        assert (begun["balances watched"], begun["months kept"]) == (2, 0)
        assert done[-2:] == ["months kept"] * 2
        assert beside(target)["months"] == two
        assert stored(target) == stored(origin)
        assert {(closing, month) for closing, month, *_ in stored(target)} == {
            (1, OCTOBER), (2, OCTOBER), (1, NOVEMBER),
        }  # fmt: skip

    def test_goes_on_after_the_first_of_two_that_are_open_again(
        self, origin, tmp_path, monkeypatch
    ):
        two = create_two_opened_again(origin)
        path = export(origin, tmp_path / "reopened.jsonl")
        target = create_organization("Target")
        real, months = _importing_state.restore_reopened, []

        def stop(*, stored, **values):
            months.append(values["period"].month)
            if len(months) == 2:
                # Cut off among its lines: nothing of the month stays, and nothing of it is missed.
                stored = chain(islice(stored, 1), exhausted())
            real(stored=stored, **values)

        def exhausted():
            raise KeyboardInterrupt
            yield

        with monkeypatch.context() as stopped:
            stopped.setattr(_importing_state, "restore_reopened", stop)
            with pytest.raises(KeyboardInterrupt):
                run_import(target, path)
        assert beside(target)["months"] == two[:1]
        assert {month for _, month, *_ in stored(target)} == {OCTOBER}

        run_import(target, path)

        assert months == [OCTOBER, NOVEMBER]
        assert beside(target)["months"] == two
        assert stored(target) == stored(origin)
        assert books_of(target) == books_of(origin)
        assert breaches() == []

    def test_takes_a_file_of_the_format_before(self):
        """One that a release before `kassa.journal.3` wrote, of a closed month and what is open."""
        file = Path(__file__).with_name("journal-2.jsonl")
        header = json.loads(file.read_bytes().splitlines()[0])
        assert (header["format"], header.get("period_balances")) == ("kassa.journal.2", None)
        target = create_organization("Target")

        run_import(target, file)

        wait_until(partial(closed, target))
        books, found = books_of(target), beside(target)
        assert books["chain"] == [(4, bytes.fromhex(header["hash"]))]
        assert [(row[0], row[1]) for row in books["entries"]] == [
            (1, "transfer"), (2, "fx"), (3, "fx"), (4, "capture"),
        ]  # fmt: skip
        balances = {code: balance(target, id_) for code, id_ in ids_of(target).items()}
        assert {
            code: (one.posted, one.pending_out, one.pending_in, one.available)
            for code, one in balances.items()
        } == {
            "bank:ba_1:EUR": (100_00, 0, 0, 100_00),
            "liquidity:EUR": (10_01, 0, 0, 10_01),
            "liquidity:USD": (-10_84, 0, 0, -10_84),
            TILL: (0, 0, 7_00, 0),
            ANN: (81_99, 23_00, 7_00, 58_99),
            DOLLARS: (10_84, 0, 0, 10_84),
            BOB: (8_00, 0, 23_00, 8_00),
        }
        assert [row[2:5] for row in found["holds"]] == [
            (5_00, "EUR", "ho-0"), (6_00, "EUR", "ho-1"), (12_00, "EUR", None), (7_00, "EUR", None),
        ]  # fmt: skip
        assert [row[:4] for row in found["fx"]] == [(ANN, DOLLARS, 10_01, 10_84)]
        assert found["monitors"] == [
            (ANN, "available", "below", 50_00, "Low", False),
            (ANN, "available", "below", 10_00, "Low", False),
        ]
        assert found["months"] == [(OCTOBER, "closed", 1, "staff:mara", "staff:anton")]
        assert stored(target) == [
            (1, OCTOBER, "bank:ba_1:EUR", 0, 100_00, 0), (1, OCTOBER, ANN, 0, 0, 100_00),
        ]  # fmt: skip
        call_command("verify_ledger", quiet=True)
        assert breaches() == []

    def test_exports_again_what_was_imported(self, origin, file, tmp_path):
        target = create_organization("Target")
        run_import(target, file)
        wait_until(partial(closed, target))

        again = export(target, tmp_path / "again.jsonl")

        def without_ids(path):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            return [{k: v for k, v in line.items() if k not in {"id", "organization"}}
                    for line in lines]  # fmt: skip

        assert without_ids(again) == without_ids(file)

    def test_again_changes_nothing(self, origin, file):
        target = create_organization("Target")
        run_import(target, file)
        before = books_of(target), beside(target)["holds"], OutboxEvent.objects.count()

        run_import(target, file)

        rows = Hold.objects, FxTransfer.objects, BalanceMonitor.objects, Period.objects
        counts = [one.filter(organization_id=target).count() for one in rows]
        assert counts == [4, 1, 2, 1]
        events = OutboxEvent.objects.count()
        assert (books_of(target), beside(target)["holds"]) == before[:2]
        # A month that could not be closed at once may have been closed by the second run.
        assert events - before[2] in {0, 1}

    def test_goes_on_though_time_has_ended_a_hold_that_stood_by_then(
        self, origin, file, monkeypatch
    ):
        target = create_organization("Target")

        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as stopped:
            stopped.setattr(_importing, "_finish", stop)
            with pytest.raises(KeyboardInterrupt):
                run_import(target, file)
        over = NOW + timedelta(days=7)
        assert operations.expire_holds(organization_id=target, now=over) == 2

        run_import(target, file)

        operations.expire_holds(organization_id=origin, now=over)
        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        # And again, over what it finished.
        run_import(target, file)
        assert books_of(target) == books_of(origin)
        assert breaches() == []

    @pytest.mark.parametrize("stops", range(1, 7))
    def test_goes_on_after_it_was_stopped(self, origin, file, monkeypatch, stops):
        target = create_organization("Target")
        monkeypatch.setattr(_importing_state, "PORTION", 2)
        real, calls = _importing_state._restore_portion, []

        def stop(*values):
            calls.append(values)
            if len(calls) == stops:
                raise KeyboardInterrupt
            real(*values)

        monkeypatch.setattr(_importing_state, "_restore_portion", stop)
        try:
            run_import(target, file)
        except KeyboardInterrupt:
            assert len(calls) == stops
        monkeypatch.setattr(_importing_state, "_restore_portion", real)

        run_import(target, file)

        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        assert breaches() == []

    def test_twice_at_once_is_imported_once(self, origin, file):
        def attempt(target) -> str:
            def read():
                with file.open("rb") as lines:
                    yield from lines

            try:
                operations.import_journal(
                    organization_id=target, read=read, actor=Actor.job("tests"), now=NOW,
                    on_progress=lambda *_: None,
                )  # fmt: skip
            except (
                errors.ImportUnderWay, errors.OrganizationNotEmpty, errors.JournalFileRefused,
            ):  # fmt: skip
                return "refused"
            return "done"

        for _ in range(3):
            target = create_organization("Target")

            outcomes = race(*[partial(attempt, target)] * 2)

            assert "done" in outcomes
            run_import(target, file)
            wait_until(partial(closed, target))
            assert books_of(target) == books_of(origin)
            assert beside(target) == beside(origin)

    def test_that_another_one_has_overtaken_adds_nothing_to_it(self, origin, file):
        target = create_organization("Target")

        def overtake(what, _):
            if what == "entries posted":
                run_import(target, file)

        with pytest.raises(errors.ImportUnderWay, match="it wrote FX transfers meanwhile"):
            operations.import_journal(
                organization_id=target, read=lambda: iter(file.read_bytes().splitlines()),
                actor=ACTOR, now=NOW, on_progress=overtake,
            )  # fmt: skip

        wait_until(partial(closed, target))
        assert books_of(target) == books_of(origin)
        assert beside(target) == beside(origin)
        assert breaches() == []


class TestExport:
    def test_of_books_that_are_not_sealed_is_refused_and_leaves_no_file(
        self, origin, tmp_path, monkeypatch
    ):
        ids = ids_of(origin)
        post_transfer(origin, ids[ANN], ids[BOB], 1, key="k")
        monkeypatch.setattr(outbox, "relay_organization", lambda **_: None)

        with pytest.raises(CommandError, match="posted faster than they are sealed"):
            export(origin, tmp_path / "journal.jsonl")

        assert not (tmp_path / "journal.jsonl").exists()
