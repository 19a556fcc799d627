"""What Postgres itself refuses, tried in SQL as the owner of the tables, round the ORM."""

import threading
from collections.abc import Callable
from datetime import datetime

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection

from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.ledger.models import Balance, JournalEntry, LedgerAccount, Posting
from tests.ledger.factories import NOW, create_organization, fund, open_account, post_transfer
from tests.support import race

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


def insert_entry(
    organization, *, id_=None, effective_at: object = "now", recorded_at: object = "now"
) -> object:
    id_ = id_ or new_id()
    sql(
        "INSERT INTO ledger_journal_entry (id, organization_id, kind, description, effective_at,"
        " recorded_at, actor, metadata) VALUES (%s, %s, 'x', '', %s, %s, 'psql', '{}')",
        id_,
        organization,
        effective_at,
        recorded_at,
    )
    return id_


def insert_postings(organization, entry, *legs: tuple[object, int, str], first: int = 1) -> None:
    """Write an entry's postings, each as the next one of its account, whose balance moves along."""
    accounts = [account for account, _, _ in legs]
    versions = dict(Balance.objects.filter(id__in=accounts).values_list("id", "version"))
    rows = [
        (organization, entry, number, account, amount, currency, versions[account] + 1, 0)
        for number, (account, amount, currency) in enumerate(legs, first)
    ]
    write_postings(*rows, moved=dict.fromkeys(accounts, 1))


def write_postings(
    *rows: tuple, moved: dict[object, int], times: tuple[datetime, datetime] | None = None
) -> None:
    """
    Write postings, and move their accounts' balances by so many versions, in one statement.

    A row has its own times, or these, or those of its entry.
    """
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
    sql(
        f"WITH moved AS ({MOVE}) INSERT INTO ledger_posting ({COLUMNS}) VALUES {values}",
        list(moved), list(moved.values()),
        *[value for row in rows for value in (*row, *(times or times_of(row[1])))[:10]],
    )  # fmt: skip


COLUMNS = (
    "organization_id, entry_id, number, account_id, amount_minor, currency, account_version,"
    " balance_after_minor, effective_at, recorded_at"
)
# Money on both sides, so that every floor holds.
MOVE = """
    UPDATE ledger_balance b
       SET version = version + n.by, posted_debits = posted_debits + n.by,
           posted_credits = posted_credits + n.by
      FROM unnest(%s::uuid[], %s::int[]) AS n(id, by) WHERE b.id = n.id
"""


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

    def test_merge_is_guarded_too(self, books):
        organization, ann, bob, _ = books
        entry = insert_entry(organization)
        at, by = times_of(entry)

        with pytest.raises(IntegrityError, match="is off by -1 EUR") as refused:
            sql(
                "MERGE INTO ledger_posting USING (VALUES (1, %s::uuid, 5), (2, %s::uuid, -6))"
                " AS leg(number, account, amount) ON false WHEN NOT MATCHED THEN INSERT"
                f" ({COLUMNS}) VALUES (%s, %s, number, account, amount, 'EUR', 900, 0, %s, %s)",
                ann, bob, organization, entry, at, by,
            )  # fmt: skip

        assert constraint(refused) == "journal_entry_is_balanced"

    def test_what_a_conflict_leaves_out_is_missed(self, books):
        """Whatever is not inserted balances nothing that is."""
        organization, ann, bob, _ = books
        entry = insert_entry(organization)
        at, by = times_of(entry)
        row = "(%s, %s, %s, %s, %s, 'EUR', %s, 0, %s, %s)"

        with pytest.raises(IntegrityError, match="is off by 5 EUR") as refused:
            sql(
                f"INSERT INTO ledger_posting ({COLUMNS}) VALUES {row}, {row}"
                " ON CONFLICT DO NOTHING",
                organization, entry, 1, ann, 5, 900, at, by,
                # Bob's first posting is there.
                organization, entry, 2, bob, -5, 1, at, by,
            )  # fmt: skip

        assert constraint(refused) == "journal_entry_is_balanced"

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


class TestVersions:
    """An account's postings are numbered 1, 2, 3 and so on, and Postgres refuses a gap."""

    def gap(self, written: Callable[[], None]) -> str:
        """Write what has to be refused; return what the refusal says."""
        before = list(Posting.objects.values_list("pk"))
        with pytest.raises(IntegrityError) as refused:
            written()
        diag = refused.value.__cause__.diag
        assert (diag.sqlstate, diag.constraint_name) == ("23514", "posting_versions_have_no_gap")
        assert list(Posting.objects.values_list("pk")) == before
        return diag.message_primary

    def rows(self, organization, account, other, *versions: int) -> list[tuple]:
        """Return an entry between two accounts: one posting of the first for each version."""
        entry = insert_entry(organization)
        begins = Balance.objects.get(id=other).version
        return [
            (organization, entry, number, *leg, 0)
            for number, leg in enumerate(
                [(account, 5, "EUR", version) for version in versions]
                + [(other, -5, "EUR", begins + place) for place in range(1, len(versions) + 1)],
                1,
            )
        ]

    def test_a_gap_in_the_middle_is_refused(self, books):
        organization, ann, bob, _ = books
        rows = self.rows(organization, ann, bob, 3, 4, 6)

        said = self.gap(lambda: write_postings(*rows, moved={ann: 4, bob: 3}))

        assert said.startswith("postings 3 to 6 of ledger account")

    @pytest.mark.parametrize("version", [0, 2])
    def test_the_first_is_number_one(self, books, version):
        organization, _, bob, _ = books
        cy = open_account(organization, "customers:cus_cy:available:EUR")

        self.gap(
            lambda: write_postings(
                *self.rows(organization, cy, bob, version), moved={cy: 1, bob: 1}
            )
        )
        write_postings(*self.rows(organization, cy, bob, 1), moved={cy: 1, bob: 1})

        assert Posting.objects.get(account_id=cy).account_version == 1

    def test_what_goes_on_behind_a_gap_is_refused(self, books):
        """In a second statement, with the balance where it stood, or moved as far as was posted."""
        organization, ann, bob, _ = books
        far = self.rows(organization, ann, bob, 4)

        self.gap(lambda: write_postings(*far, moved={bob: 1}))
        self.gap(lambda: write_postings(*far, moved={ann: 1, bob: 1}))
        write_postings(*self.rows(organization, ann, bob, 3, 4), moved={ann: 2, bob: 2})

        versions = Posting.objects.filter(account_id=ann).values_list("account_version", flat=True)
        assert sorted(versions) == [1, 2, 3, 4]

    def test_that_the_balance_does_not_count_are_refused(self, books):
        organization, ann, bob, _ = books
        rows = self.rows(organization, ann, bob, 3)

        self.gap(lambda: write_postings(*rows, moved={bob: 1}))

    def test_copy_is_guarded_too(self, books):
        organization, ann, bob, _ = books
        sql(MOVE, [ann, bob], [2, 2])
        copied = f"COPY ledger_posting ({COLUMNS}) FROM STDIN"

        def copy(*versions: int) -> None:
            rows = self.rows(organization, ann, bob, *versions)
            with connection.cursor() as cursor:
                copy_rows(
                    cursor, copied,
                    # Bob's balance has moved already.
                    *[(*row[:6], row[6] - 2 * (row[3] == bob), 0, *times_of(row[1]))
                      for row in rows],
                )  # fmt: skip

        with pytest.raises(psycopg.errors.CheckViolation, match="leave a gap"):
            copy(3, 5)
        copy(3, 4)

        assert Posting.objects.filter(account_id=ann).count() == 4

    def test_nobody_numbers_on_from_what_is_not_committed(self, books):
        """Two connections, neither of which waits for the other's balance."""
        organization, ann, bob, _ = books
        cy = open_account(organization, "customers:cus_cy:available:EUR")
        first = self.rows(organization, ann, bob, 3)
        second = self.rows(organization, ann, cy, 4)
        held, answered = threading.Event(), threading.Event()

        def hold_back() -> None:
            sql("BEGIN")
            write_postings(*first, moved={ann: 1, bob: 1})
            held.set()
            assert answered.wait(30)
            sql("ROLLBACK")

        def go_on() -> str:
            assert held.wait(30)
            try:
                return self.gap(lambda: write_postings(*second, moved={cy: 1}))
            finally:
                answered.set()

        _, said = race(hold_back, go_on)

        assert said.startswith("postings 4 to 4 of ledger account")
        assert Balance.objects.get(id=ann).version == 2

    def test_a_balance_moves_only_with_money(self, books):
        _, ann, *_ = books

        with pytest.raises(IntegrityError, match="goes from version 2 to 4, and not with what"):
            Balance.objects.filter(id=ann).update(version=4)
        with pytest.raises(IntegrityError, match="goes from version 2 to 1"):
            Balance.objects.filter(id=ann).update(version=1, posted_credits=200_00)

        assert Balance.objects.get(id=ann).version == 2

    @pytest.mark.parametrize(
        "what",
        [
            # Money that no posting is numbered for, on either side, and money that was.
            {"posted_credits": 100_01},
            {"posted_debits": 10_01},
            {"posted_credits": 99_99, "version": 3},
            {"posted_debits": 9_99, "version": 3},
        ],
    )
    def test_money_moves_only_with_a_version_and_never_back(self, books, what):
        _, ann, *_ = books

        with pytest.raises(IntegrityError) as refused:
            Balance.objects.filter(id=ann).update(**what)

        assert constraint(refused) == "balance_version_moves_with_money"
        stands = Balance.objects.get(id=ann)
        assert (stands.posted_debits, stands.posted_credits) == (10_00, 100_00)

    @pytest.mark.parametrize(
        "what",
        [
            {"version": 1},
            {"currency": "USD"},
            {"credit_normal": False},
            {"posted_debits": 1},
            {"posted_credits": 1},
            {"pending_debits": 1},
            {"pending_credits": 1},
            {"latest_effective_at": NOW},
        ],
    )
    def test_a_balance_begins_with_its_account(self, books, what):
        organization, *_ = books
        account = LedgerAccount.objects.create(
            organization_id=organization, code="wallets:new:EUR", type="liability", currency="EUR",
            created_at=NOW,
        )  # fmt: skip
        fine = {"id": account.id, "organization_id": organization, "currency": "EUR",
                "credit_normal": True, "internal": False}  # fmt: skip

        with pytest.raises(IntegrityError) as refused:
            Balance.objects.create(**fine | what)
        Balance.objects.create(**fine)

        assert constraint(refused) == "balance_begins_with_its_account"
        assert Balance.objects.get(id=account.id).version == 0

    def test_a_balance_begins_with_an_account_of_its_organization(self, books):
        organization, *_ = books
        account = LedgerAccount.objects.create(
            organization_id=organization, code="wallets:new:EUR", type="liability", currency="EUR",
            created_at=NOW,
        )  # fmt: skip

        with pytest.raises(IntegrityError) as refused:
            Balance.objects.create(
                id=account.id, organization_id=create_organization("Other"), currency="EUR",
                credit_normal=True, internal=False,
            )  # fmt: skip

        assert constraint(refused) == "balance_begins_with_its_account"

    def test_a_balance_that_moves_further_than_is_posted_is_found(self, books):
        """What Postgres does not refuse (ADR 0121), the invariant names."""
        organization, ann, bob, _ = books

        write_postings(*self.rows(organization, ann, bob, 4), moved={ann: 2, bob: 1})

        assert "ledger_balance_follows_its_postings" in {breach.name for breach in breaches()}


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
