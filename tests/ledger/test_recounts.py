"""What stands beside the entries is recounted too: stored months, exchanges, monitors, metadata."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest
from django.db import connection

from apps.core import invariants
from apps.core.ids import encode_id, new_id
from apps.ledger.invariants import INVARIANTS, RECOUNTS
from apps.ledger.models import BalanceMonitor, FxTransfer, JournalEntry, PeriodBalance
from apps.ledger.rules import CaptureHold, PlaceHold, VoidHold
from tests.ledger.exchanges import exchange
from tests.ledger.factories import create_organization, fund, move, open_account, post
from tests.ledger.histories import seal
from tests.ledger.tampering import corrupt, faults
from tests.ledger.test_annotate_entry import annotate
from tests.ledger.test_monitors import watch
from tests.ledger.test_periods import (
    IN_JUNE,
    JULY,
    JUNE_ENDS,
    Books,
    a_connection,
    insert_entry,
)

pytestmark = pytest.mark.django_db(transaction=True)

IN_MAY = datetime(2026, 5, 20, 12, tzinfo=UTC)
IN_JULY = datetime(2026, 7, 20, 12, tzinfo=UTC)
IN_AUGUST = datetime(2026, 8, 1, 12, tzinfo=UTC)
STORED = "ledger_closed_month_is_what_was_stored"
POSTED = "ledger_exchange_is_what_was_posted"
AUDITED = "ledger_entry_metadata_is_as_audited"
KEPT = "ledger_stored_month_has_its_period"
HELD = "ledger_hold_agrees_with_its_history"
CAPTURED = "ledger_capture_is_posted"
RESERVED = "ledger_pending_equals_open_holds"
WATCHED = "ledger_monitor_stands_where_its_balance_does"


def broken(name: str, *, portion: int = invariants.PORTION) -> list[dict]:
    """Return the rows that break one invariant, walked by portions."""
    statement = {name: (INVARIANTS | RECOUNTS)[name]}
    steps = invariants.steps(statement, portion=portion)
    return [row for step in steps if step.breach for row in step.breach.rows]


class TestAClosedMonth:
    @pytest.fixture
    def books(self) -> Books:
        """June and July are closed, July for the second time; something moved in every month."""
        books = Books()
        for key, at, amount in (
            ("may", IN_MAY, 7_00), ("june", IN_JUNE, 30_00), ("july", JUNE_ENDS, 5_00),
            ("august", IN_AUGUST, 1_00),
        ):  # fmt: skip
            books.post(amount, at, key=key)
        seal(books.id)
        books.close()
        books.close(JULY)
        books.reopen(JULY)
        books.post(2_00, IN_JULY, key="late")
        seal(books.id)
        assert books.close(JULY).closings == 2
        return books

    @pytest.mark.parametrize("portion", [1, 2, 3, 100])
    def test_is_what_was_stored_whoever_else_closed_none(self, books, portion):
        other = create_organization("Other")
        fund(other, open_account(other, "wallets:x:EUR"), 5)

        assert broken(STORED, portion=portion) == []
        # What is compared: three accounts in June, once, and in July, twice.
        assert PeriodBalance.objects.count() == 9

    @pytest.mark.parametrize("portion", [1, 100])
    @pytest.mark.parametrize("column", ["opening_minor", "debits_minor", "credits_minor"])
    def test_whose_line_was_altered_is_named(self, books, column, portion):
        corrupt(
            f"UPDATE ledger_period_balance SET {column} = {column} + 1"
            " WHERE account_id = %s AND month = %s AND closing = 2", books.bob, JULY,
        )  # fmt: skip

        [row] = broken(STORED, portion=portion)

        assert (row["account"], row["period"]) == (encode_id("la", books.bob), "2026-07")
        assert row[column] == row[column.removesuffix("_minor")] + 1

    def test_whose_line_is_gone_is_named(self, books):
        corrupt("DELETE FROM ledger_period_balance WHERE account_id = %s", books.bank)

        rows = broken(STORED)

        assert {row["account"] for row in rows} == {encode_id("la", books.bank)}
        assert [(row["period"], row["opening"], row["debits"]) for row in rows] == [
            ("2026-06", 0, 100_00), ("2026-07", 100_00, 0),
        ]  # fmt: skip

    def test_with_a_line_of_an_account_that_never_moved_is_named(self, books):
        stranger = open_account(books.id, "wallets:cat:EUR")
        corrupt(
            "INSERT INTO ledger_period_balance VALUES (%s, %s, 2, %s, 0, 1, 1)",
            books.id, JULY, stranger,
        )  # fmt: skip

        [row] = broken(STORED)

        assert (row["account"], row["period"]) == (encode_id("la", stranger), "2026-07")

    @pytest.mark.parametrize(
        ("at", "periods"),
        [
            # Closed with June, which stands on it.
            (IN_MAY, {"2026-06", "2026-07"}),
            (IN_JUNE, {"2026-06", "2026-07"}),
            (IN_JULY, {"2026-07"}),
            (IN_AUGUST, set()),
        ],
    )
    def test_into_which_somebody_posted_past_every_guard_is_named(self, books, capsys, at, periods):
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            insert_entry(cursor, books, 3_00, at, id_=str(new_id()))
            cursor.execute("SET session_replication_role = DEFAULT")

        rows = broken(STORED)

        touched = {encode_id("la", id_) for id_ in (books.bank, books.ann)}
        assert {(row["account"], row["period"]) for row in rows} == {
            (account, period) for account in touched for period in periods
        }
        assert (f"FAULT {STORED}" in faults(capsys)) == bool(periods)

    @pytest.mark.parametrize("at", [IN_MAY, IN_JUNE])
    def test_into_which_somebody_wrote_who_saw_it_open_is_named(self, capsys, at):
        """
        In SQL, by a snapshot of before: the trigger sees what its transaction sees. It had written
        nothing until then, so nobody waited for it. No posting of Kassa's looks so far back.
        """
        books = Books()
        with a_connection() as other, other.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT FROM ledger_period")
            books.close()
            assert broken(STORED) == []
            insert_entry(cursor, books, 3_00, at, id_=str(new_id()))

        told = faults(capsys)

        named = {(row["account"], row["period"]) for row in broken(STORED)}
        assert named == {(encode_id("la", id_), "2026-06") for id_ in (books.bank, books.ann)}
        assert f"FAULT {STORED}" in told
        assert all(account in told for account, _ in named)

    def test_whose_entry_was_moved_into_the_next_one_is_named(self, books):
        for table in ("ledger_journal_entry", "ledger_posting"):
            corrupt(
                f"UPDATE {table} SET effective_at = %s WHERE effective_at = %s", JUNE_ENDS, IN_JUNE
            )

        assert {row["period"] for row in broken(STORED)} == {"2026-06", "2026-07"}

    def test_that_was_opened_again_is_compared_no_more(self, books):
        books.reopen(JULY)
        books.post(4_00, IN_JULY, key="again")
        seal(books.id)

        assert broken(STORED) == []


class TestMonthsThatWereStored:
    """Two organizations closed June once, and July twice."""

    @pytest.fixture
    def books(self) -> Books:
        for _ in range(2):
            books = Books()
            books.post(30_00, IN_JUNE, key="june")
            seal(books.id)
            books.close()
            books.close(JULY)
            books.reopen(JULY)
            assert books.close(JULY).closings == 2
        return books

    @pytest.mark.usefixtures("books")
    def test_have_their_periods(self):
        assert broken(KEPT) == []

    def test_are_named_one_by_one_where_these_are_gone(self, books):
        corrupt("DELETE FROM ledger_period WHERE organization_id = %s", books.id)

        rows = broken(KEPT)

        assert {row["organization_id"] for row in rows} == {books.id}
        assert [(row["period"], row["closing"]) for row in rows] == [
            ("2026-06", 1), ("2026-07", 1), ("2026-07", 2),
        ]  # fmt: skip

    def test_are_named_where_it_says_that_it_was_closed_less_often(self, books):
        corrupt("UPDATE ledger_period SET closings = 1 WHERE organization_id = %s", books.id)

        [row] = broken(KEPT)

        assert (row["period"], row["closing"], row["closings"]) == ("2026-07", 2, 1)


class TestAnExchange:
    @pytest.fixture
    def made(self) -> tuple[UUID, UUID]:
        """One between wallets, and one between what the organisation owns, on the other side."""
        organization = create_organization()
        euros = open_account(organization, "wallets:ann:EUR")
        dollars = open_account(organization, "wallets:ann:USD")
        fund(organization, euros, 1000_00)
        owned = [
            open_account(organization, f"wise:{currency}", type_="asset", floor=None)
            for currency in ("EUR", "USD")
        ]
        return (
            exchange(organization, euros, dollars),
            exchange(organization, *owned, key="k-2"),
        )

    def test_that_stands_is_what_was_posted(self, made):
        assert invariants.breaches() == []

    @pytest.mark.parametrize(
        ("sold", "bought", "rate"),
        [
            ("EUR", "JPY", "163.451234567891"), ("JPY", "EUR", "0.006118123457"),
            ("KWD", "JPY", "481.7"), ("JPY", "KWD", "0.002077"),
            ("CLF", "JPY", "5912.000000000001"), ("JPY", "CLF", "0.000169147123"),
            ("EUR", "USD", "9999999999.999999999999"),
        ],
    )  # fmt: skip
    def test_is_of_its_rate_whatever_the_decimals_of_its_currencies(self, sold, bought, rate):
        organization = create_organization()
        source, target = (
            open_account(organization, f"wise:{currency}", type_="asset", floor=None)
            for currency in (sold, bought)
        )
        fx = exchange(
            organization, source, target, 98_765, rate=Decimal(rate), sold_currency=sold,
            bought_currency=bought,
        )  # fmt: skip
        assert broken(POSTED) == []

        stood = FxTransfer.objects.get(id=fx)
        for change in ("rate = rate + 1e-12", "rate = rate * 10", "rate = rate / 10",
                       "remainder_minor = remainder_minor + 1e-20"):  # fmt: skip
            corrupt(f"UPDATE ledger_fx_transfer SET {change}")

            [row] = broken(POSTED)

            assert row["fx_transfer"] == encode_id("fx", fx)
            corrupt("UPDATE ledger_fx_transfer SET rate = %s, remainder_minor = %s",
                    stood.rate, stood.remainder_minor)  # fmt: skip
            assert broken(POSTED) == []

    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize(
        "change",
        [
            "sold_minor = sold_minor + 1",
            "bought_minor = bought_minor + 1",
            "sold_currency = 'GBP'",
            "bought_currency = 'GBP'",
            "from_account_id = to_account_id",
            "to_account_id = from_account_id",
            "sold_entry_id = bought_entry_id, bought_entry_id = sold_entry_id",
            "bought_entry_id = gen_random_uuid()",
        ],
    )
    def test_that_says_otherwise_is_named(self, made, change, which):
        corrupt(f"UPDATE ledger_fx_transfer SET {change} WHERE id = %s", made[which])

        [row] = broken(POSTED)

        assert row["fx_transfer"] == encode_id("fx", made[which])
        assert FxTransfer.objects.count() == 2


class TestMetadataOfAnEntry:
    @pytest.fixture
    def entries(self) -> list[UUID]:
        """Three, of which two were given other metadata, three times each."""
        organization = create_organization()
        ann = open_account(organization, "wallets:ann:EUR")
        for _ in range(3):
            fund(organization, ann, 5)
        found = JournalEntry.objects.filter(organization_id=organization).order_by("id")
        ids = list(found.values_list("id", flat=True))
        for id_ in ids[:2]:
            for number in "123":
                annotate(organization, id_, {"n": number}, key=f"{id_}-{number}")
        return ids

    @pytest.mark.parametrize("portion", [1, 2, 100])
    def test_is_numbered_without_a_gap(self, entries, portion):
        assert broken(AUDITED, portion=portion) == []

    @pytest.mark.parametrize("portion", [1, 2, 100])
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_of_which_a_version_is_gone_is_named(self, entries, number, portion):
        corrupt(
            "DELETE FROM ledger_entry_metadata WHERE entry_id = %s AND number = %s",
            entries[1], number,
        )  # fmt: skip

        [row] = broken(AUDITED, portion=portion)

        assert (row["entry"], row["versions"], row["last"]) == (encode_id("je", entries[1]), 2, 3)
        assert row["what"] == "a version is gone"

    @pytest.mark.parametrize("portion", [1, 2, 100])
    def test_of_which_all_is_gone_is_named(self, entries, portion):
        corrupt("DELETE FROM ledger_entry_metadata WHERE entry_id = %s", entries[0])

        [row] = broken(AUDITED, portion=portion)

        assert (row["entry"], row["versions"], row["last"]) == (encode_id("je", entries[0]), 0, 3)

    @pytest.mark.parametrize(
        "change",
        [
            """metadata = '{"n": "4"}'""",
            """metadata = '{"n": 3}'""",
            """metadata = metadata || '{"b": null}'""",
            "metadata = '{}'",
            "metadata = '[]'",
            "number = number + 3",
        ],
    )
    def test_that_was_written_anew_is_named(self, entries, change):
        corrupt(
            f"UPDATE ledger_entry_metadata SET {change} WHERE entry_id = %s AND number = 3",
            entries[1],
        )

        [row] = broken(AUDITED)

        assert row["entry"] == encode_id("je", entries[1])

    def test_of_which_a_version_was_never_said_is_named(self, entries):
        corrupt(
            "INSERT INTO ledger_entry_metadata"
            " (organization_id, entry_id, number, metadata, actor, recorded_at)"
            """ SELECT organization_id, entry_id, 4, '{"n": "forged"}', actor, recorded_at"""
            " FROM ledger_entry_metadata WHERE entry_id = %s AND number = 3",
            entries[0],
        )

        [row] = broken(AUDITED)

        assert (row["entry"], row["what"]) == (
            encode_id("je", entries[0]),
            "a version was never audited",
        )

    def test_is_proved_whatever_is_written_in_it(self, entries):
        odd = {
            "quoted": 'say "it" \\ / \b\f\n\r\t\x01\x1f\x7f', "Ü": "é\u2028😀", "a" * 40: "",
            "B": "1", "b": "2", "\uffff": "3", "😀": "4",
        }  # fmt: skip
        organization = JournalEntry.objects.get(id=entries[2]).organization_id
        annotate(organization, entries[2], odd, key="odd")
        annotate(organization, entries[2], {}, key="none")

        assert broken(AUDITED) == []


class TestAMonitor:
    @pytest.fixture
    def books(self):
        """Every measure and direction, on an account whose money leaves by debit, and by credit."""
        organization = create_organization()
        ann = open_account(organization, "wallets:ann:EUR", floor=None)
        bank = open_account(organization, "wise:EUR", type_="asset", floor=None)
        fund(organization, ann, 120)
        for account in (ann, bank):
            for measure in ("available", "posted"):
                for direction in ("below", "above"):
                    watch(
                        organization, account, 100, measure=measure, direction=direction,
                        key=f"{account}-{measure}-{direction}",
                    )  # fmt: skip
        return organization, ann, bank

    def test_stands_where_its_balance_does_after_every_act(self, books):
        organization, ann, bank = books
        holds = [
            PlaceHold(id=new_id(), debit_account_id=debit, credit_account_id=credit,
                      amount_minor=60, currency="EUR", multi_capture=True)
            for debit, credit in ((ann, bank), (bank, ann))
        ]  # fmt: skip
        entry = partial(CaptureHold, kind="x")

        for act in (
            move(ann, bank, 20), move(ann, bank, 1), move(bank, ann, 150), *holds,
            entry(hold_id=holds[0].id, entry_id=new_id(), amount_minor=30),
            entry(hold_id=holds[1].id, entry_id=new_id(), amount_minor=1),
            VoidHold(hold_id=holds[1].id), VoidHold(hold_id=holds[0].id), move(ann, bank, 300),
        ):  # fmt: skip
            post(organization, act)
            assert invariants.breaches() == []
        assert sorted(set(BalanceMonitor.objects.values_list("triggered", flat=True))) != [0]

    @pytest.mark.parametrize(
        "change",
        [
            "ledger_balance_monitor SET is_beyond = NOT is_beyond",
            # As if a posting that crossed had told nobody.
            "ledger_balance SET posted_debits = posted_debits + 50",
            "ledger_balance SET pending_debits = pending_debits + 50",
            "ledger_balance SET monitored = FALSE",
        ],
    )
    def test_that_was_passed_by_is_named(self, books, change):
        _, ann, _ = books
        column = "account_id" if "monitor SET" in change else "id"

        corrupt(f"UPDATE {change} WHERE {column} = %s", ann)

        mine = {encode_id("bm", id_) for id_ in BalanceMonitor.objects.filter(account_id=ann)
                .values_list("id", flat=True)}  # fmt: skip
        named = {row["monitor"] for row in broken(WATCHED)}
        assert named
        assert named <= mine

    def test_that_was_called_off_watches_nothing(self, books):
        corrupt("UPDATE ledger_balance_monitor SET is_active = FALSE, is_beyond = NOT is_beyond")

        assert broken(WATCHED) == []


@pytest.mark.parametrize("portion", [1, 2, 4, 100])
class TestAHold:
    """Walked by holds, each with its whole history."""

    @pytest.fixture
    def books(self):
        """Two organizations with three holds each: captured in two parts, in one, and voided."""
        return [self.held() for _ in range(2)]

    def held(self) -> tuple[UUID, list[UUID]]:
        organization = create_organization()
        ann, bob = (open_account(organization, f"wallets:{who}:EUR") for who in ("ann", "bob"))
        fund(organization, ann, 100_00)
        holds = [
            PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                      amount_minor=5_00, currency="EUR", multi_capture=True)
            for _ in range(3)
        ]  # fmt: skip
        captures = [
            CaptureHold(hold_id=holds[place].id, entry_id=new_id(), kind="x", amount_minor=amount)
            for place, amount in ((0, 2_00), (1, 5_00), (0, 3_00))
        ]
        post(organization, *holds, *captures, VoidHold(hold_id=holds[2].id))
        return organization, [hold.id for hold in holds]

    @pytest.mark.usefixtures("books")
    def test_is_sound(self, portion):
        assert broken(HELD, portion=portion) == broken(CAPTURED, portion=portion) == []

    @pytest.mark.parametrize("place", range(3))
    def test_that_is_otherwise_than_its_history_is_named(self, books, place, portion):
        hold = books[1][1][place]
        corrupt("UPDATE ledger_hold SET amount_minor = 6_00 WHERE id = %s", hold)

        [row] = broken(HELD, portion=portion)

        assert row["hold"] == encode_id("ho", hold)

    def test_whose_history_is_gone_with_all_of_its_organization_is_named(self, books, portion):
        organization, holds = books[1]
        corrupt("DELETE FROM ledger_hold_event WHERE organization_id = %s", organization)

        named = {row["hold"] for row in broken(HELD, portion=portion)}

        assert named == {encode_id("ho", hold) for hold in holds[: len(named)]} != set()

    @pytest.mark.parametrize(("place", "captures"), [(0, 2), (1, 1)])
    def test_whose_captures_went_elsewhere_is_named(self, books, place, captures, portion):
        hold = books[1][1][place]
        corrupt(
            "UPDATE ledger_hold SET debit_account_id = gen_random_uuid() WHERE id = %s",
            hold,
        )

        rows = broken(CAPTURED, portion=portion)

        assert [(row["hold"], row["debited"], row["credited"] == row["amount_minor"])
                for row in rows] == [(encode_id("ho", hold), 0, True)] * captures  # fmt: skip

    def test_that_is_gone_with_all_of_its_organization_is_named(self, books, portion):
        organization, holds = books[1]
        corrupt("DELETE FROM ledger_hold WHERE organization_id = %s", organization)

        named = {row["hold"] for row in broken(CAPTURED, portion=portion)}

        assert named <= {encode_id("ho", hold) for hold in holds}
        assert named


@pytest.mark.parametrize("portion", [1, 2, 100])
class TestWhatIsReserved:
    @pytest.fixture
    def books(self):
        """Two organizations: what is reserved stands on two accounts, in two holds; one is over."""
        return [self.reserved() for _ in range(2)]

    def reserved(self) -> tuple[UUID, UUID, UUID]:
        organization = create_organization()
        ann, bob = (
            open_account(organization, f"wallets:{who}:EUR", floor=None) for who in ("ann", "bob")
        )
        open_account(organization, "wallets:cat:EUR")
        fund(organization, ann, 100_00)
        holds = [
            PlaceHold(id=new_id(), debit_account_id=ann, credit_account_id=bob,
                      amount_minor=amount, currency="EUR")
            for amount in (5_00, 3_00, 1_00)
        ]  # fmt: skip
        post(organization, *holds, VoidHold(hold_id=holds[2].id))
        return organization, ann, bob

    @pytest.mark.usefixtures("books")
    def test_is_what_open_holds_say_a_portion_of_accounts_at_a_time(self, portion):
        steps = list(invariants.steps({RESERVED: INVARIANTS[RESERVED]}, portion=portion))

        assert [step.breach for step in steps if step.breach] == []
        # Four accounts an organization, and its last look beyond them; and the end of all.
        assert len(steps) == 2 * (4 // portion + 1) + 1

    @pytest.mark.parametrize("side", ["debits", "credits"])
    @pytest.mark.parametrize("of", [0, 1])
    @pytest.mark.parametrize("place", [1, 2])
    def test_that_a_counter_says_otherwise_is_named(self, books, side, of, place, portion):
        account = books[of][place]
        corrupt(f"UPDATE ledger_balance SET pending_{side} = pending_{side} + 1 WHERE id = %s",
                account)  # fmt: skip

        [row] = broken(RESERVED, portion=portion)

        assert row["account"] == encode_id("la", account)
        assert row[f"pending_{side}"] == row[f"held_{side}"] + 1

    def test_that_no_hold_says_any_more_is_named(self, books, portion):
        organization, ann, bob = books[1]
        corrupt("DELETE FROM ledger_hold WHERE organization_id = %s", organization)

        named = {row["account"] for row in broken(RESERVED, portion=portion)}

        assert named <= {encode_id("la", ann), encode_id("la", bob)}
        assert named
