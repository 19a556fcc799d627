"""Every rule that Postgres keeps of the books, broken in SQL as the owner of the tables."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection

from apps.core.ids import new_id
from apps.ledger import operations
from apps.ledger.operations import FxRequest, MonitorTerms, TransferRequest
from apps.ledger.rules import (
    CaptureHold,
    MonitorDirection,
    MonitorMeasure,
    PlaceHold,
    VoidHold,
)
from tests.ledger.breaking import BROKEN, TAKEN
from tests.ledger.factories import (
    ACTOR,
    NOW,
    close_month,
    create_organization,
    fund,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.support import past_the_guards

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    """An organisation with a row of each kind, made by operations, and a stranger's account."""
    organization, other = create_organization(), create_organization("Other")
    ann, bob, usd = (
        open_account(organization, f"wallets:{name}") for name in ("ann:EUR", "bob:EUR", "usd:USD")
    )
    owned = open_account(organization, "stock:EUR", type_="asset")
    stranger, theirs = (open_account(other, f"wallets:{name}:EUR") for name in "xy")
    fund(organization, ann, 1000)
    fund(other, stranger, 10)
    their_entry = post_transfer(other, stranger, theirs, 1, key="t").entry_id
    entry = post_transfer(organization, ann, bob, 10, key="a", reference="transfer-1").entry_id
    asked = {"organization_id": organization, "actor": ACTOR, "now": NOW}
    operations.reverse_entries(
        **asked, entry_ids=[entry], at="now", reason="sent in error", idempotency_key="b"
    )
    operations.annotate_entry(**asked, entry_id=entry, metadata={"order": "7"}, idempotency_key="c")
    holds(organization, ann, bob)
    operations.exchange(
        **asked, idempotency_key="d",
        fx=FxRequest(
            from_account_id=ann, to_account_id=usd, sold_minor=100, sold_currency="EUR",
            bought_currency="USD", rate=Decimal("1.1"), source="ecb", quoted_at=NOW,
            reference="fx-1",
        ),
    )  # fmt: skip
    terms = MonitorTerms(
        account_id=ann, measure=MonitorMeasure.AVAILABLE, direction=MonitorDirection.BELOW,
        threshold_minor=5,
    )  # fmt: skip
    operations.create_monitor(**asked, terms=terms, idempotency_key="e")
    transfer = TransferRequest(
        debit_account_id=ann, credit_account_id=bob, amount_minor=1, currency="EUR"
    )
    operations.post_transfers(**asked, transfers=[transfer], mode="atomic", idempotency_key="f")
    close_month(organization, date(2026, 9, 1), now=NOW)
    return {
        "ann": ann, "owned": owned, "other": other, "stranger": stranger,
        "their_entry": their_entry,
    }  # fmt: skip


def holds(organization, ann, bob) -> None:
    """Place those that stay open, bare, named or captured in part; one captured, one voided."""
    placed = [
        PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bob, amount_minor=10,
            currency="EUR", reference=reference, multi_capture=reference == "parts",
        )
        for reference in (None, "hold-1", None, None, "parts")
    ]  # fmt: skip
    post(
        organization, *placed,
        CaptureHold(hold_id=placed[2].id, entry_id=new_id(), kind="capture", amount_minor=8),
        VoidHold(hold_id=placed[3].id),
        CaptureHold(hold_id=placed[4].id, entry_id=new_id(), kind="capture", amount_minor=3),
    )  # fmt: skip


def broken_by(statement: str, values: dict) -> str:
    """Return the name of what refused the statement."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return f"taken, for {cursor.rowcount} rows"
    except DatabaseError as refused:
        return refused.__cause__.diag.constraint_name or str(refused)


class TestEveryRule:
    def test_is_kept_by_postgres_itself(self, books):
        before = fingerprints("ledger_", locks=False)

        found = [
            (name, statement, broken_by(statement, books))
            for names in BROKEN.values()
            for name, statements in names.items()
            for statement in statements
        ]

        assert [one for one in found if one[0] != one[2]] == []
        assert fingerprints("ledger_", locks=False) == before

    @pytest.mark.parametrize("statement", TAKEN)
    def test_leaves_references_to_other_organizations_and_to_what_has_ended(self, books, statement):
        """Foreign keys and triggers aside: whose accounts the copies name does not matter."""
        found = []
        past_the_guards(lambda: found.append(broken_by(statement, books)))

        assert found == ["taken, for 1 rows"]

    def test_that_is_in_the_catalogue_is_tried_here(self, db):
        """Whoever adds a rule learns here to try it; what Django makes of a field is left out."""
        with connection.cursor() as cursor:
            cursor.execute(_RULES)
            there = {name for (name,) in cursor.fetchall()}

        tried = {name for names in BROKEN.values() for name in names}
        # What a unique key of an id and its organisation refuses, the id's own does before.
        found = {name for name in there if not name.endswith(("_key", "_pkey"))}
        # The last two write, and refuse nothing.
        others = {
            "postings_are_balanced", "months_add_to_their_types", "months_change_their_types",
        }  # fmt: skip
        assert found - others == {
            name
            for name in tried
            if not name.endswith("_pkey") and not name.startswith("journal_entry_is_")
        } | {"journal_entry_is_reversed_once"}


_RULES = """
    SELECT conname FROM pg_constraint
     WHERE conrelid::regclass::text LIKE 'ledger\\_%' AND contype IN ('c', 'f', 'u')
       AND conname NOT SIMILAR TO '%(\\_fk\\_%|\\_check)'
     UNION
    SELECT indexrelid::regclass::text FROM pg_index
     WHERE indrelid::regclass::text LIKE 'ledger\\_%' AND indisunique AND NOT indisprimary
     UNION
    SELECT regexp_replace(tgname, '^pgtrigger_(.*)_[0-9a-f]{5}$', '\\1') FROM pg_trigger
     WHERE tgrelid::regclass::text LIKE 'ledger\\_%' AND NOT tgisinternal
"""
