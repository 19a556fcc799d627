"""Every column of the books is proved: altered in any row, past the guards, it is found."""

from contextlib import contextmanager, suppress
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection

from apps.core import outbox
from apps.core.ids import new_id
from apps.ledger import operations
from apps.ledger.rules import CaptureHold, PlaceHold
from tests.ledger.exchanges import exchange
from tests.ledger.factories import ACTOR, NOW, create_organization, fund, open_account, post
from tests.ledger.tampering import corrupt, faults
from tests.ledger.test_periods import IN_JUNE, Books

pytestmark = pytest.mark.django_db(transaction=True)

# By table, what nothing else in the books says: terms, labels and times of what stands beside the
# entries. The event that told of them does, as long as events are kept, and the audit trail.
SAID_ONCE = {
    "ledger_journal_entry": set(),
    "ledger_posting": set(),
    "ledger_chain_link": set(),
    "ledger_chain_head": {"id", "sealed_at"},
    "ledger_monthly_total": set(),
    "ledger_type_total": set(),
    "ledger_period_balance": set(),
    "ledger_period": {
        "approved_by", "closed_at", "closing_after", "ends_at", "event_sequence", "id",
        "reopening_approved_by", "reopening_reason", "reopening_requested_by", "requested_by",
        "starts_at",
    },
    "ledger_account": {"created_at", "event_sequence", "metadata"},
    "ledger_balance": {"internal", "min_available_minor", "monitored", "status"},
    "ledger_hold": {
        "created_at", "event_sequence", "expires_at", "keeps_reference", "metadata",
        "multi_capture", "reference",
    },
    "ledger_hold_event": {"id", "recorded_at"},
    "ledger_fx_transfer": {
        "created_at", "description", "effective_at", "id", "metadata", "quoted_at", "reference",
        "source",
    },
}  # fmt: skip
# The checks that are of a table itself: what is wrong there is named by one of them, and not only
# by what else it makes look wrong. Of the other tables any check will do.
OWN = {
    "ledger_chain_head": {"ledger_chain_has_no_gap", "ledger_chain_is_what_was_sealed"},
    "ledger_hold": {
        "ledger_hold_agrees_with_its_history", "ledger_capture_is_posted",
        "ledger_pending_equals_open_holds",
    },
    "ledger_hold_event": {"ledger_hold_agrees_with_its_history", "ledger_capture_is_posted"},
    "ledger_fx_transfer": {"ledger_exchange_is_what_was_posted"},
}  # fmt: skip
# A value that differs from the one that stands, whatever that is, by the column's type.
OTHER = {
    "bigint": "COALESCE({0}, 0) + 1",
    "boolean": "NOT {0}",
    "bytea": "sha256({0})",
    "character varying": "'altered'",
    "date": "{0} + 1",
    "integer": "{0} + 1",
    "jsonb": "'[1]'::jsonb",
    "numeric": "{0} + 1",
    "smallint": "{0} + 1",
    "timestamp with time zone": "COALESCE({0}, now()) + interval '1 microsecond'",
    "uuid": "gen_random_uuid()",
}
# Of words that are checked, one that may stand.
WORDS = {
    "clock": "CASE {0} WHEN 'recorded' THEN 'effective' ELSE 'recorded' END",
    "currency": "'GBP'",
    "sold_currency": "'GBP'",
    "bought_currency": "'GBP'",
    "status": "'voided'",
    "type": "'income'",
}


class Told(Books):
    """June is closed; there is a row of every kind, posted by acts, and all of it is sealed."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.ann = open_account(self.id, "wallets:ann:EUR", floor=None)
        self.bob = open_account(self.id, "wallets:bob:EUR", floor=None)
        fund(self.id, self.ann, 100_00, at=IN_JUNE)
        entry = self.post(30_00, IN_JUNE, key="a").entry_id
        captured, standing = (
            PlaceHold(
                id=new_id(), debit_account_id=self.ann, credit_account_id=self.bob,
                amount_minor=amount, currency="EUR",
            )
            for amount in (5_00, 2_00)
        )  # fmt: skip
        taken = CaptureHold(hold_id=captured.id, entry_id=new_id(), kind="x", amount_minor=3_00)
        post(self.id, captured, standing, taken)
        exchange(self.id, self.ann, open_account(self.id, "wallets:ann:USD"), 1_00)
        operations.reverse_entries(
            organization_id=self.id, entry_ids=[entry], at="now", reason="", actor=ACTOR, now=NOW,
            idempotency_key="undo",
        )  # fmt: skip
        outbox.relay_organization(organization_id=self.id)
        while operations.seal_entries(organization_id=self.id, now=NOW):
            pass
        self.close()


@pytest.fixture
def books() -> Told:
    return Told()


def columns_of(table: str) -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
            [table],
        )
        return cursor.fetchall()


def keys_of(table: str) -> list[dict]:
    """Return each row's primary key, in its order: a row is found by it wherever it was moved."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a"
            " ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
            " WHERE i.indrelid = %s::regclass AND i.indisprimary",
            [table],
        )
        names = [name for (name,) in cursor]
        cursor.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY {', '.join(names)}")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def faults_found() -> set[str]:
    """Return the names of the checks that fail."""
    told = StringIO()
    with suppress(SystemExit):
        call_command("verify_ledger", quiet=True, stdout=told)
    lines = told.getvalue().splitlines()
    return {line.removeprefix("FAULT ") for line in lines if line.startswith("FAULT ")}


@contextmanager
def past_the_guards():
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield cursor
        finally:
            cursor.execute("SET session_replication_role = DEFAULT")


def is_proved(table: str, column: str, other: str, key: dict) -> bool:
    """Alter a row's column, look for faults, and put it back; a constraint that refuses is one."""
    row = " AND ".join(f"{name} = %s" for name in key)
    with past_the_guards() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE {row}", [*key.values()])
        [was] = cursor.fetchone()
        try:
            cursor.execute(
                f"UPDATE {table} SET {column} = {other.format(column)} WHERE {row}"
                f" RETURNING ctid::text, {column}",
                [*key.values()],
            )
        except IntegrityError:
            return True
        [(at, altered)] = cursor.fetchall()
    assert altered != was
    try:
        found = faults_found()
    finally:
        with past_the_guards() as cursor:
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE ctid = %s::tid", [was, at])
            assert cursor.rowcount == 1
    return bool(found & OWN.get(table, found))


@pytest.mark.parametrize("table", SAID_ONCE)
def test_each_column_of_each_row(books, table):
    keys = keys_of(table)
    assert faults_found() == set()

    missed = [
        (column, place)
        for column, type_ in columns_of(table)
        if column not in SAID_ONCE[table]
        # The first row, the last, and those between where there are few.
        for place in {*range(min(len(keys), 3)), len(keys) - 1}
        if not is_proved(table, column, WORDS.get(column, OTHER[type_]), keys[place])
    ]

    assert missed == []
    assert faults_found() == set(), "all was put back"


class TestWhatIsGone:
    """A row taken out altogether, with nothing left of it."""

    def test_of_a_closed_month_which_then_would_be_open(self, books, capsys):
        corrupt("DELETE FROM ledger_period")

        assert "FAULT ledger_stored_month_has_its_period" in faults(capsys)

    @pytest.mark.parametrize("table", [table for table in SAID_ONCE if table != "ledger_period"])
    def test_of_each_table(self, books, table, capsys):
        corrupt(f"DELETE FROM {table} WHERE ctid = (SELECT MAX(ctid) FROM {table})")

        assert "FAULT" in faults(capsys)
