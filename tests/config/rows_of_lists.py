"""Many rows of each list outside the books, written past the guards and the operations."""

from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from apps.accounts.api import serializers as accounts
from apps.banking.api import serializers as banking
from apps.payments.api import serializers as payments
from apps.payouts.api import serializers as payouts
from apps.reconciliation.api import serializers as reconciliation
from apps.webhooks.api import serializers as webhooks
from tests.support import past_the_guards

# Of the caller, and as many of somebody else between them: one of each a minute.
MANY = 10_000
# One of so many is what is looked for.
RARE = MANY // 2


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A list, its table, the shape of its rows, and how rows that are rare there are written."""

    table: str
    module: Any
    shape: str
    clock: str = "created_at"
    names: str = "created"
    # What each row has where the column's type alone does not say it.
    rows: dict[str, str] = field(default_factory=dict)
    # What is asked for, and how the rows that have it are written.
    rare: dict[str, str] = field(default_factory=dict)
    rarely: dict[str, str] = field(default_factory=dict)
    has_index: bool = True


LISTS = {
    "customers": Listed(
        table="accounts_customer", module=accounts, shape="Customer",
        rows={"state": "'open'"},
        rare={"metadata[plan]": "gold"}, rarely={"metadata": """'{"plan": "gold"}'::jsonb"""},
    ),
    "payouts": Listed(
        table="payouts_payout", module=payouts, shape="Payout", clock="requested_at",
        rows={"state": "'requested'", "amount_minor": "1", "requested_amount_minor": "1",
              "fee_minor": "0", "hold_id": "uuidv7()"},
        rare={"state": "approved"}, rarely={"state": "'approved'"},
    ),
    "destinations": Listed(
        table="payouts_destination", module=payouts, shape="Destination",
        rows={"state": "'unverified'"}, rare={"state": "disabled"}, rarely={"state": "'disabled'"},
    ),
    "payments": Listed(
        table="payments_payment", module=payments, shape="Payment",
        rows={"state": "'received'", "method": "'bank_transfer'", "amount_minor": "1",
              "bank_line_id": "uuidv7()"},
    ),
    "virtual_references": Listed(
        table="payments_virtual_reference", module=payments, shape="VirtualReference",
        rows={"state": "'active'", "reference": "'RF' || lpad(n::text, 20, '0')"},
        rare={"state": "disabled"}, rarely={"state": "'disabled'"},
    ),
    "unmatched_money": Listed(
        table="payments_unmatched_money", module=payments, shape="UnmatchedMoney",
        rows={"state": "'sent_back'", "closed_at": "now()", "amount_minor": "1",
              "bank_line_id": "uuidv7()"},
        rare={"state": "open"}, rarely={"state": "'open'", "closed_at": "NULL"},
    ),
    "bank_files": Listed(
        table="banking_file", module=banking, shape="BankFile",
        rows={"state": "'imported'", "direction": "'in'", "sha256": "sha256(int8send(n))"},
        rare={"state": "refused"}, rarely={"state": "'refused'", "reason_code": "'odd'"},
    ),
    "bank_statements": Listed(
        table="banking_statement", module=banking, shape="BankStatement",
        rows={"state": "'imported'", "source": "'notification'", "chain": "'none'",
              "bank_account_id": "uuidv7()", "position": "n"},
        rare={"state": "waiting"}, rarely={"state": "'waiting'"},
    ),
    "matches": Listed(
        table="reconciliation_match", module=reconciliation, shape="Match",
        rows={"state": "'live'", "rule": "'pay_in'", "bank_line_id": "uuidv7()"},
        rare={"state": "undone"}, rarely={"state": "'undone'"},
    ),
    "breaks": Listed(
        table="reconciliation_break", module=reconciliation, shape="Break",
        clock="first_seen_at", names="first_seen",
        rows={"state": "'resolved'", "resolved_at": "now()", "resolution": "'explained'",
              "kind": "'bank_only'", "bank_line_id": "uuidv7()"},
        rare={"state": "open"},
        rarely={"state": "'open'", "resolved_at": "NULL", "resolution": "''"},
    ),
    "bank_lines": Listed(
        table="banking_line", module=banking, shape="BankLine", has_index=False,
        rows={"booking_date": "current_date - n / 1440", "currency": "'EUR'", "occurrence": "n",
              "source": "'statement'"},
    ),
    "webhook_deliveries": Listed(
        table="webhooks_webhookdelivery", module=webhooks, shape="Delivery", has_index=False,
        rows={"status": "'succeeded'", "closed_at": "now()", "event_id": "uuidv7()"},
        rare={"status": "canceled"}, rarely={"status": "'canceled'"},
    ),
}  # fmt: skip
EMPTY = {
    "ARRAY": "'{}'", "bigint": "0", "boolean": "false", "bytea": "''", "character varying": "''",
    "date": "current_date", "integer": "0", "jsonb": "'{}'", "smallint": "0",
    "timestamp with time zone": "now()", "uuid": "uuidv7()",
}  # fmt: skip


def fill(listed: Listed, owners: list[Any], *, many: int = MANY) -> None:
    """Write rows of each owner, one a minute back from now; what else they have is nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns"
            " WHERE table_name = %s",
            [listed.table],
        )
        columns = {
            name: "NULL" if is_nullable else EMPTY[kind]
            for name, kind, is_nullable in cursor.fetchall()
        }
    for owner in owners:
        told = columns | {
            "id": "uuidv7(-n * interval '1 min')",
            "organization_id": f"'{owner}'",
            **listed.rows,
        }
        if listed.clock in columns:
            told[listed.clock] = "now() - n * interval '1 min'"
        for name, value in listed.rarely.items():
            told[name] = f"CASE WHEN n % {RARE} = 0 THEN {value} ELSE {told[name]} END"
        values = ", ".join(told.values())
        past_the_guards(
            f"INSERT INTO {listed.table} ({', '.join(told)}) SELECT {values}"
            f" FROM generate_series(1, {many}) AS n",
            "COMMIT",
        )
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM {listed.table}")
        # Of all tables: one that is joined, and was counted while it was empty, turns plans.
        cursor.execute("ANALYZE")
