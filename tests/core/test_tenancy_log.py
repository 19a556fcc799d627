"""
Whose rows each statement touches, read from the log of what is sent to Postgres.

The catalogue (test_tenancy_catalogue.py) says that a row can be found by its organization; here is
seen that it is: a transaction is of one organization, and what it changes or locks it names by it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

import pytest
from django.db import connection

from apps.core import clock, outbox, transactions
from apps.core.ids import new_id
from apps.core.wall_clock import print_instant
from apps.ledger import operations, queries
from apps.ledger.rules import PlaceHold, VoidHold
from tests.core.test_tenancy_catalogue import TENANT
from tests.ledger.acting import ACTS, Client
from tests.ledger.factories import ACTOR, NOW, close_month, fund, post

pytestmark = pytest.mark.django_db(transaction=True)

# What changes a table's rows, and what locks some. `DO UPDATE` is of a row that was to be inserted.
CHANGES = re.compile(r'(?<!DO )(?<!KEY )(?<!FOR )\bUPDATE\s+"?(\w+)|\bDELETE\s+FROM\s+"?(\w+)')
LOCKS = re.compile(r"\bFOR (?:NO KEY )?UPDATE\b")
TABLES = re.compile(r'\b(?:FROM|JOIN|UPDATE)\s+"?(\w+)')
# Whose they are, where it is asked and not where it is set.
NAMED = re.compile(r'(?:\bWHERE|\bAND|\bON|\(|\.)\s*"?organization_id"?\s*=')
# No month of a client's was closed that could be opened.
REFUSED = {"periods/2026-05/reopen": {409}}


@dataclass(frozen=True)
class Sent:
    """One statement, the run of an operation that it was part of, and whose ids it carried."""

    run: object
    sql: str
    organizations: frozenset[UUID]


def values_of(params: object) -> Iterator[object]:
    if isinstance(params, dict):
        params = list(params.values())
    if isinstance(params, list | tuple | set):
        for value in params:
            yield from values_of(value)
    else:
        yield params


@contextmanager
def logged(*organizations: UUID) -> Iterator[list[Sent]]:
    """Log all that this thread sends."""
    sent: list[Sent] = []

    def watch(execute, sql, params, many, context):
        named = frozenset(organizations) & {v for v in values_of(params) if isinstance(v, UUID)}
        sent.append(Sent(transactions._current.get(), sql, named))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield sent


def strays(sql: str) -> bool:
    """Say whether a statement changes or locks rows of tenants without naming whose they are."""
    tables = [one or other for one, other in CHANGES.findall(sql)]
    touched = [table for table in tables if table in TENANT]
    locks = LOCKS.findall(sql) if tenants_in(sql) else []
    return len(touched) + len(locks) > len(NAMED.findall(sql))


def tenants_in(sql: str) -> set[str]:
    """Return the tables of tenants that a statement names, but for those it only adds to."""
    return TENANT & set(TABLES.findall(sql))


def owners_of(sent: list[Sent]) -> set[frozenset[UUID]]:
    """Return whose the transactions are that were logged."""
    together: dict[int, set[UUID]] = {}
    for each in sent:
        # What is read outside of an operation is a transaction of its own.
        together.setdefault(id(each.run or each), set()).update(each.organizations)
    return {frozenset(owners) for owners in together.values()}


@pytest.mark.parametrize(
    ("sql", "is_stray"),
    [
        ('UPDATE "ledger_hold" SET "status" = %s WHERE "ledger_hold"."id" = %s', True),
        ('UPDATE "ledger_hold" SET "organization_id" = %s WHERE "ledger_hold"."id" = %s', True),
        ("DELETE FROM ledger_hold WHERE id = %s", True),
        ("SELECT id FROM ledger_hold WHERE id = %s FOR NO KEY UPDATE", True),
        ("SELECT id FROM ledger_hold WHERE organization_id = %s FOR UPDATE", False),
        ('UPDATE "ledger_hold" SET a = 1 WHERE "ledger_hold"."organization_id" = %s', False),
        ("UPDATE ledger_hold SET a = 1 WHERE organization_id = %s; DELETE FROM ledger_hold", True),
        ("INSERT INTO ledger_hold VALUES (%s) ON CONFLICT (id) DO UPDATE SET a = 1", False),
        ("UPDATE accounts_organization SET name = %s WHERE id = %s", False),
        ("SELECT id FROM accounts_organization WHERE id = %s FOR NO KEY UPDATE", False),
    ],
)
def test_a_stray_is_told(sql, is_stray):
    assert strays(sql) == is_stray


def test_a_transaction_of_two_is_told():
    one, other = new_id(), new_id()

    def look(*owners: UUID) -> None:
        for owner in owners:
            queries.has_expired_holds(organization_id=owner, account_ids=[owner], now=NOW)

    with logged(one, other) as sent:
        transactions.outermost(look)(one, other)
        transactions.outermost(look)(one)
        look(one, other)

    assert owners_of(sent) == {
        frozenset({one, other}), frozenset({one}), frozenset({other}),
    }  # fmt: skip


def acts_of(api: Client) -> Iterator[None]:
    """Do all that is done with one organization's books, and stop after each act."""
    owner = api.organization
    api.begin()
    yield
    for act in ACTS:
        # What the acts before have captured or undone is of no use to this one.
        api.hold = api.post("/v1/holds", api.moved(1), key=f"h-{act}").json()["hold"]["id"]
        api.entry = api.post("/v1/transfers", api.moved(1), key=f"t-{act}").json()["id"]
        if act == "account":
            continue
        body = api.body(act)
        if "quoted_at" in body:
            body["quoted_at"] = print_instant(clock.now())
        status = api.post(api.path(act), body, key=f"k-{act}").status_code
        assert status in REFUSED.get(act, {200, 201, 202}), act
        yield
    fund(owner, api.ann, 5_00)
    yield
    held = [
        PlaceHold(
            id=new_id(), debit_account_id=api.ann, credit_account_id=api.bob, amount_minor=1,
            currency="EUR", expires_at=expires_at,
        )
        for expires_at in (None, NOW + timedelta(seconds=1))
    ]  # fmt: skip
    post(owner, *held)
    post(owner, VoidHold(hold_id=held[0].id))
    yield
    later = NOW + timedelta(days=1)
    assert operations.expire_holds(organization_id=owner, now=later) == 1
    yield
    # Last, since it freezes the account that all others name.
    assert api.post(api.path("account"), api.body("account"), key="k").status_code == 200
    yield
    outbox.relay_organization(organization_id=owner)
    yield
    assert operations.seal_entries(organization_id=owner, now=NOW) > 0
    yield
    close_month(owner, date(2026, 9, 1), now=NOW)
    yield
    reopen(owner, date(2026, 9, 1))
    yield


@transactions.outermost
def reopen(owner: UUID, month: date) -> None:
    period = operations.prepare_reopen(organization_id=owner, month=month)
    operations.reopen_period(
        organization_id=owner, period_id=period.id, requested_by="staff:mara",
        approved_by="staff:anton", reason="A late fact", actor=ACTOR, now=NOW,
    )  # fmt: skip


def test_the_books_of_two_are_never_touched_together_nor_without_a_name():
    one, other = Client(), Client()
    with logged(one.organization, other.organization) as sent:
        for _ in zip(acts_of(one), acts_of(other), strict=True):
            pass

    assert owners_of(sent) == {
        frozenset(), frozenset({one.organization}), frozenset({other.organization}),
    }  # fmt: skip
    assert {each.sql for each in sent if strays(each.sql)} == set()
    # That all was seen: what a posting locks and writes, and what closes a month.
    written = {table for each in sent for pair in CHANGES.findall(each.sql) for table in pair}
    assert {"ledger_balance", "ledger_hold", "ledger_chain_head", "ledger_period"} < written
