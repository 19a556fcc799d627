"""An account's open holds are found by themselves, however many of its holds have ended."""

import pytest
from django.db import connection

from apps.core.ids import new_id
from apps.ledger import queries
from apps.ledger.models import Hold
from apps.ledger.rules import PlaceHold
from tests.ledger.factories import NOW, create_organization, open_account, post
from tests.support import rows_read

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 3000


def _make_ended_like(hold_id) -> None:
    _insert(
        "debit_account_id, credit_account_id, currency, amount_minor, 0, 'voided'", hold_id, MANY
    )


def _make_open_of_others(hold_id, accounts) -> None:
    _insert(
        "(%s::uuid[])[1 + number %% %s], (%s::uuid[])[1 + (number + 1) %% %s], currency,"
        " amount_minor, 0, 'open'",
        hold_id, MANY, accounts, len(accounts), accounts, len(accounts),
    )  # fmt: skip


def _insert(columns: str, hold_id, count: int, *values) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO ledger_hold (id, organization_id, debit_account_id, credit_account_id,
                currency, amount_minor, captured_minor, status, multi_capture, metadata,
                event_sequence, created_at)
            SELECT gen_random_uuid(), organization_id, {columns}, FALSE, '{{}}', 2, created_at
              FROM ledger_hold, generate_series(1, %s) AS number WHERE id = %s
            """,
            [*values, count, hold_id],
        )


@pytest.mark.parametrize("type_", ["asset", "liability"])
def test_of_either_side_are_read_alone(type_):
    organization = create_organization()
    held = open_account(organization, "held:EUR", type_=type_, floor=None)
    others = [open_account(organization, f"other_{n}:EUR", floor=None) for n in range(50)]
    # What leaves an account's normal side.
    debit, credit = (others[0], held) if type_ == "asset" else (held, others[0])
    command = PlaceHold(
        id=new_id(), debit_account_id=debit, credit_account_id=credit, amount_minor=5,
        currency="EUR",
    )  # fmt: skip
    post(organization, command)
    _make_ended_like(command.id)
    _make_open_of_others(command.id, others[1:])
    assert Hold.objects.filter(organization_id=organization).count() == 2 * MANY + 1
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")

    before = rows_read("ledger_hold")
    balance, holds, has_more = queries.balance_with_holds(
        organization_id=organization, account_id=held, now=NOW
    )
    read = rows_read("ledger_hold") - before

    assert [hold.id for hold in holds] == [command.id]
    assert (balance.posted - balance.available, has_more) == (5, False)
    assert read <= 10
