"""What Postgres itself refuses, tried in SQL as the owner of the tables, round the ORM."""

from datetime import datetime

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection

from apps.core.ids import new_id
from apps.ledger.models import Balance, JournalEntry, LedgerAccount, Posting
from tests.ledger.factories import NOW, create_organization, fund, open_account, post_transfer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "customers:cus_ann:available:EUR")
    bob = open_account(organization, "customers:cus_bob:available:EUR")
    usd = open_account(organization, "customers:cus_ann:available:USD")
    fund(organization, ann, 100_00)
    post_transfer(organization, ann, bob, 10_00, key="k")
    return organization, ann, bob, usd


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(values))


def insert_entry(organization) -> object:
    id_ = new_id()
    sql(
        "INSERT INTO ledger_journal_entry (id, organization_id, kind, description, effective_at,"
        " recorded_at, actor, metadata) VALUES (%s, %s, 'x', '', now(), now(), 'psql', '{}')",
        id_,
        organization,
    )
    return id_


def insert_postings(organization, entry, *legs: tuple[object, int, str], first: int = 1) -> None:
    rows = [
        (organization, entry, number, account, amount, currency, 1000 + number, 0)
        for number, (account, amount, currency) in enumerate(legs, first)
    ]
    times = times_of(entry)
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
    sql(
        f"INSERT INTO ledger_posting ({COLUMNS}) VALUES {values}",
        *[value for row in rows for value in (*row, *times)],
    )


COLUMNS = (
    "organization_id, entry_id, number, account_id, amount_minor, currency, account_version,"
    " balance_after_minor, effective_at, recorded_at"
)


def times_of(entry) -> tuple[datetime, datetime]:
    found = JournalEntry.objects.filter(id=entry).values_list("effective_at", "recorded_at")
    return found.first() or (NOW, NOW)


def constraint(error: pytest.ExceptionInfo) -> str:
    return error.value.__cause__.diag.constraint_name


class TestDoubleEntry:
    def test_an_unbalanced_entry_is_refused(self, books):
        organization, ann, bob, _ = books
        entry = insert_entry(organization)

        with pytest.raises(IntegrityError, match="is off by 1 EUR") as refused:
            insert_postings(organization, entry, (ann, 5, "EUR"), (bob, -4, "EUR"))

        assert constraint(refused) == "journal_entry_is_balanced"
        assert not Posting.objects.filter(entry_id=entry).exists()

    def test_currencies_do_not_balance_each_other(self, books):
        organization, ann, _, usd = books

        with pytest.raises(IntegrityError) as refused:
            insert_postings(
                organization, insert_entry(organization), (ann, 5, "EUR"), (usd, -5, "USD")
            )

        assert constraint(refused) == "journal_entry_is_balanced"

    def test_a_balanced_one_is_taken(self, books):
        organization, ann, bob, _ = books

        insert_postings(organization, entry := insert_entry(organization),
                        (ann, 5, "EUR"), (bob, -5, "EUR"))  # fmt: skip

        assert Posting.objects.filter(entry_id=entry).count() == 2

    def test_copy_is_guarded_too(self, books):
        organization, ann, bob, _ = books
        entry = insert_entry(organization)

        with pytest.raises(psycopg.Error, match="is off by"), connection.cursor() as cursor:
            copy_rows(
                cursor,
                f"COPY ledger_posting ({COLUMNS}) FROM STDIN",
                (organization, entry, 1, ann, 5, "EUR", 900, 0, *times_of(entry)),
                (organization, entry, 2, bob, -6, "EUR", 900, 0, *times_of(entry)),
            )

    def test_an_old_entry_takes_no_second_statement(self, books):
        organization, ann, bob, _ = books
        old = JournalEntry.objects.latest("id").id

        with pytest.raises(IntegrityError) as numbered_on:
            insert_postings(organization, old, (ann, 5, "EUR"), (bob, -5, "EUR"), first=3)
        with pytest.raises(IntegrityError, match="duplicate key"):
            insert_postings(organization, old, (ann, 5, "EUR"), (bob, -5, "EUR"))

        assert constraint(numbered_on) == "journal_entry_is_written_once"

    def test_the_librarys_switch_is_no_switch(self, books):
        organization, ann, bob, _ = books
        entry = insert_entry(organization)
        switch = "{" + ",".join(guard_names()) + "}"
        sql("SELECT set_config('pgtrigger.ignore', %s, false)", switch)

        with pytest.raises(IntegrityError):
            insert_postings(organization, entry, (ann, 5, "EUR"), (bob, -4, "EUR"))

        assert "postings_are_balanced" in switch

    def test_another_organizations_account_is_refused(self, books):
        organization, ann, _, _ = books
        stranger = open_account(create_organization("Other"), "customers:cus_x:available:EUR")

        with pytest.raises(IntegrityError) as refused:
            insert_postings(
                organization, insert_entry(organization), (ann, 5, "EUR"), (stranger, -5, "EUR")
            )

        assert constraint(refused) == "posting_stays_in_its_organization"

    def test_an_entry_that_is_not_there_is_refused(self, books):
        organization, ann, bob, _ = books

        with pytest.raises(IntegrityError) as refused:
            insert_postings(organization, new_id(), (ann, 5, "EUR"), (bob, -5, "EUR"))

        assert constraint(refused) == "posting_stays_in_its_organization"

    def test_nothing_moves_nothing(self, books):
        organization, ann, bob, _ = books

        with pytest.raises(IntegrityError, match="posting_moves_money"):
            insert_postings(
                organization, insert_entry(organization), (ann, 0, "EUR"), (bob, 0, "EUR")
            )


def copy_rows(cursor, statement: str, *rows: tuple) -> None:
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def guard_names() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
            " AND tgrelid IN ('ledger_posting'::regclass, 'ledger_journal_entry'::regclass)"
        )
        return [row[0] for row in cursor.fetchall()]


ROUNDABOUT_ENTRY = """
    INSERT INTO ledger_journal_entry TABLE ledger_journal_entry
        ON CONFLICT (organization_id, id) DO UPDATE SET kind = 'other'
"""
ROUNDABOUT_POSTING = """
    INSERT INTO ledger_posting TABLE ledger_posting
        ON CONFLICT (organization_id, entry_id, number) DO UPDATE SET amount_minor = 1
"""


class TestAppendOnly:
    @pytest.mark.parametrize(
        "table",
        [
            "ledger_posting",
            "ledger_journal_entry",
            "ledger_hold_event",
            "core_outbox_event",
            "core_audit_event",
        ],
    )
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE {} SET organization_id = organization_id",
            "DELETE FROM {}",
            "TRUNCATE {} CASCADE",
            "UPDATE {} SET organization_id = NULL WHERE false",
        ],
    )
    def test_rows_neither_change_nor_go(self, books, table, statement):
        with pytest.raises(DatabaseError, match="append-only"):
            sql(statement.format(table))

    @pytest.mark.parametrize(
        "statement",
        [
            ROUNDABOUT_ENTRY,
            ROUNDABOUT_POSTING,
            "MERGE INTO ledger_posting USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
            "TRUNCATE accounts_organization CASCADE",
        ],
    )
    def test_no_roundabout_statement_changes_them(self, books, statement):
        with pytest.raises(DatabaseError, match=r"append-only|never deleted"):
            sql(statement)

    def test_the_orm_is_no_way_round(self, books):
        posting = Posting.objects.first()
        posting.amount_minor += 1

        with pytest.raises(DatabaseError, match="append-only"):
            posting.save()
        with pytest.raises(DatabaseError, match="append-only"):
            Posting.objects.update(amount_minor=1)
        with pytest.raises(DatabaseError, match="append-only"):
            Posting.objects.bulk_update([posting], ["amount_minor"])
        with pytest.raises(DatabaseError, match="append-only"):
            JournalEntry.objects.all().delete()

    @pytest.mark.parametrize("table", ["ledger_account", "ledger_balance", "ledger_hold"])
    def test_accounts_balances_and_holds_are_never_deleted(self, books, table):
        with pytest.raises(DatabaseError, match="never deleted"):
            sql(f"DELETE FROM {table}")

    @pytest.mark.parametrize(
        ("column", "value"), [("currency", "SEK"), ("code", "other:EUR"), ("type", "asset")]
    )
    def test_an_account_stays_what_it_was(self, books, column, value):
        with pytest.raises(DatabaseError, match="never change"):
            LedgerAccount.objects.update(**{column: value})


class TestBalance:
    def test_its_floor_is_postgres_own(self, books):
        _, ann, *_ = books

        with pytest.raises(IntegrityError, match="balance_keeps_its_floor"):
            Balance.objects.filter(id=ann).update(posted_debits=100_01)

    def test_a_hold_counts_against_the_floor(self, books):
        _, ann, *_ = books

        with pytest.raises(IntegrityError, match="balance_keeps_its_floor"):
            Balance.objects.filter(id=ann).update(pending_debits=90_01)

    def test_counters_are_not_negative(self, books):
        _, ann, *_ = books

        with pytest.raises(IntegrityError, match="balance_counters_are_not_negative"):
            Balance.objects.filter(id=ann).update(pending_debits=-1)
