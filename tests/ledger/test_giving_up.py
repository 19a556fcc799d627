"""Serialization failures: what a client is told when the fifth try failed like the first."""

from contextlib import contextmanager

import pytest
from django.db import connection

from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxEvent
from apps.ledger.models import Hold, JournalEntry, Posting
from tests.ledger.clients import ApiClient, code_of, printed
from tests.ledger.factories import balance

pytestmark = pytest.mark.django_db(transaction=True)

# Postgres itself fails so many writes of a balance as it does where two transactions got into each
# other's way; what a sequence counts is not rolled back with them.
FAIL = """
    CREATE SEQUENCE failures_of_tests;
    CREATE FUNCTION fail_of_tests() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('failures_of_tests') <= {times} THEN
            RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER fail_of_tests AFTER UPDATE ON ledger_balance
        FOR EACH STATEMENT EXECUTE FUNCTION fail_of_tests();
"""
MEND = """
    DROP TRIGGER fail_of_tests ON ledger_balance;
    DROP FUNCTION fail_of_tests;
    DROP SEQUENCE failures_of_tests;
"""
COUNT = "SELECT last_value FROM failures_of_tests"


@contextmanager
def failing(*, times: int):
    """Fail the next writes of a balance; yield what says how many were tried."""

    def tried() -> int:
        with connection.cursor() as cursor:
            cursor.execute(COUNT)
            return cursor.fetchone()[0]

    with connection.cursor() as cursor:
        cursor.execute(FAIL.format(times=times))
    try:
        yield tried
    finally:
        with connection.cursor() as cursor:
            cursor.execute(MEND)


def books() -> tuple[int, ...]:
    kept = (JournalEntry, Posting, Hold, IdempotencyKey, OutboxEvent)
    return tuple(model.objects.count() for model in kept)


@pytest.fixture
def client():
    return ApiClient("ledger:read", "transfers:write", "holds:write")


def transfer(client) -> dict:
    return {"debit_account": printed(client.ann), "credit_account": printed(client.bob),
            "amount": 30_00, "currency": "EUR"}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        ("/v1/transfers", lambda body: body),
        ("/v1/transfers/batch", lambda body: {"transfers": [body]}),
        ("/v1/holds", lambda body: body),
    ],
)
class TestASerializationFailure:
    def test_five_times_is_503_with_a_time_and_nothing_written_and_the_key_is_as_new(
        self, client, path, wrap
    ):
        before = books()

        with failing(times=5) as tried:
            response = client.post(path, wrap(transfer(client)))
            assert tried() == 5

        assert code_of(response) == (503, "unavailable")
        assert 1 <= int(response["Retry-After"]) <= 10
        assert "same idempotency key" in response.json()["detail"]
        assert books() == before
        assert balance(client.organization, client.ann).available == 100_00

        again = client.post(path, wrap(transfer(client)))

        assert again.status_code == 201, again.content
        assert "Idempotent-Replayed" not in again
        assert balance(client.organization, client.ann).available == 70_00
        assert breaches() == []

    def test_four_times_is_not_seen_and_done_once(self, client, path, wrap):
        with failing(times=4) as tried:
            response = client.post(path, wrap(transfer(client)))
            assert tried() == 5

        assert response.status_code == 201, response.content
        assert balance(client.organization, client.ann).available == 70_00
        assert breaches() == []
