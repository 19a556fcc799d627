"""A group of which one fails in a way that has no SQLSTATE: only that one, unless all would."""

from functools import partial

import pytest
from django.db import DataError, IntegrityError, InterfaceError, OperationalError

from apps.core import transactions
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey
from apps.ledger.models import JournalEntry
from apps.ledger.operations import _grouping, _plain
from tests.ledger.factories import balance, create_organization, fund, open_account, post_transfer
from tests.ledger.threads import Asking, gather, sql

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    cat = open_account(organization, "wallets:cat:EUR")
    for account in (ann, cat):
        fund(organization, account, 1000)
    return organization, ann, bob, cat


def ask(books, *odd, count=6) -> list[Asking]:
    """Ask for some transfers and the odd ones in their middle as one group; without its leader."""
    organization, ann, bob, cat = books
    plain = [partial(post_transfer, organization, cat, bob, 1, key=f"k-{n}") for n in range(count)]
    first = partial(post_transfer, organization, ann, bob, 1, key="first")
    half = count // 2
    leader, *asked = gather(organization, ann, first, *plain[:half], *odd, *plain[half:])
    assert leader.fault is None
    return asked


class TestAValueThatNoStatementCarries:
    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("description", "nul \0"),
            ("reference", "nul \0"),
            ("key", "nul \0"),
            # Half a character: the key is sent as it is, the others are hashed with it before.
            ("key", "half \ud800"),
        ],
        ids=ascii,
    )
    def test_fails_its_own_transfer_alone(self, books, field, text):
        organization, _, bob, cat = books
        odd = partial(post_transfer, organization, cat, bob, 1, **({"key": "odd"} | {field: text}))

        asked = ask(books, odd)

        assert asked[3].fault is not None
        assert [one.fault for one in asked if one is not asked[3]] == [None] * 6
        assert balance(organization, bob).available == 7
        assert not IdempotencyKey.objects.filter(key="odd").exists()
        assert breaches() == []


# Postgres itself refuses, at the COMMIT and not before, an entry that says so.
REFUSE = """
    CREATE FUNCTION refuse_of_tests() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'refused at the commit' USING ERRCODE = 'check_violation';
    END $$;
    CREATE CONSTRAINT TRIGGER refuse_of_tests AFTER INSERT ON ledger_journal_entry
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.description = 'odd')
        EXECUTE FUNCTION refuse_of_tests();
"""
MEND = "DROP TRIGGER refuse_of_tests ON ledger_journal_entry; DROP FUNCTION refuse_of_tests;"


class TestACommitThatFails:
    def test_has_answered_nobody_and_fails_the_one_that_is_to_blame(self, books):
        """Had one of the group been told before, its entry would not be there."""
        organization, _, bob, cat = books
        odd = partial(post_transfer, organization, cat, bob, 1, key="odd", description="odd")

        sql(REFUSE)
        try:
            asked = ask(books, odd)
        finally:
            sql(MEND)

        assert [type(one.fault) for one in asked if one.fault] == [IntegrityError]
        assert isinstance(asked[3].fault, IntegrityError)
        told = {one.answer.entry_id for one in asked if one is not asked[3]}
        assert len(told) == 6
        assert JournalEntry.objects.filter(id__in=told).count() == 6
        assert balance(organization, bob).available == 7
        assert not IdempotencyKey.objects.filter(key="odd").exists()
        assert odd().outcome.status == "posted"
        assert breaches() == []


class TestIsAway:
    """What tells a way to Postgres that is gone from a fault of one value or one statement."""

    @pytest.mark.parametrize(
        ("fault", "state", "is_away"),
        [
            (OperationalError("The server closed the connection."), None, True),
            (InterfaceError("The connection is closed."), None, True),
            # The driver's own, before anything is sent.
            (DataError("A text cannot hold NUL."), None, False),
            (ValueError("No value of Postgres."), None, False),
            (OperationalError("Canceled on a lock's timeout."), "55P03", False),
            (OperationalError("Serialization failure."), "40001", False),
        ],
    )
    def test_knows_them_by_kind_and_state(self, fault, state, is_away):
        if state is not None:
            fault.__cause__ = Exception()
            fault.__cause__.sqlstate = state

        assert _grouping._is_away(fault) == is_away


class TestAWayThatIsGone:
    def test_is_found_once_and_told_to_each_and_nothing_is_posted(self, books, monkeypatch):
        """Each for itself would only wait for the same, one after the other."""
        organization, _, bob, _ = books
        tried = []

        def refuse_to_connect(organization_id, group):
            tried.append(len(group))
            raise OperationalError("Connection refused.")

        def post(**more):
            tried.append(len(more["group"]))
            return engine(**more)

        engine = _grouping._post
        monkeypatch.setattr(_plain, "post_together", refuse_to_connect)
        monkeypatch.setattr(_grouping, "_post", post)
        asked = ask(books)
        monkeypatch.undo()

        assert tried == [1, 6]
        assert {type(one.fault) for one in asked} == {OperationalError}
        assert {transactions.sqlstate(one.fault) for one in asked} == {""}
        assert JournalEntry.objects.filter(kind="transfer").count() == 2 + 1
        assert [row.key for row in IdempotencyKey.objects.all()] == ["first"]
        assert balance(organization, bob).available == 1
        assert breaches() == []
