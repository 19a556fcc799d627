"""Every move of a payout that is not in the table is refused by Postgres, asked in plain SQL."""

import pytest
from django.db import IntegrityError, connection, transaction

from apps.payouts.states import CLOSED, PAYOUT_MOVES, PayoutState
from tests.payouts import factories
from tests.payouts.factories import request

pytestmark = pytest.mark.django_db(transaction=True)

MOVE = """
    UPDATE payouts_payout SET state = %(state)s,
           closed_at = CASE WHEN %(closed)s THEN now() END,
           hold_reasons = CASE WHEN %(state)s = 'held' THEN '{x}' ELSE '{}' END::varchar[]
"""


def move(cursor, state):
    cursor.execute(MOVE, {"state": state, "closed": state in CLOSED})


def is_let(cursor, state):
    try:
        with transaction.atomic():  # noqa: TID251  (a savepoint of the test's own)
            move(cursor, state)
            transaction.set_rollback(True)
    except IntegrityError as refused:
        if refused.__cause__.diag.constraint_name != "payout_moves":
            raise
        return False
    return True


@pytest.mark.parametrize("old", PayoutState.values)
def test_only_the_moves_of_the_table_are_let(home, target, old):
    request(home, target, 100_00)

    with transaction.atomic(), connection.cursor() as cursor:  # noqa: TID251  (undone at the end)
        cursor.execute("SET LOCAL session_replication_role = replica")
        move(cursor, old)
        cursor.execute("SET LOCAL session_replication_role = origin")
        let = {new for new in PayoutState if new != old and is_let(cursor, new)}
        transaction.set_rollback(True)

    assert let == PAYOUT_MOVES[PayoutState(old)]
    factories.check_invariants()
