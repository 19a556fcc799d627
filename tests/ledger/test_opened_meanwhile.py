"""Reads of all accounts while others are opened and posted to: each is of one instant."""

from contextlib import contextmanager
from datetime import UTC, date, datetime

import pytest
from django.db import connection

from apps.ledger import queries
from apps.ledger.queries import Shown
from tests.ledger.factories import create_organization, move, open_account, post
from tests.ledger.threads import Asking

pytestmark = pytest.mark.django_db(transaction=True)

AT = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def books():
    organization = create_organization()
    ann, bob = (
        open_account(organization, f"wallets:{who}:EUR", floor=None) for who in ("ann", "bob")
    )
    post(organization, move(ann, bob, 5_00))
    return organization, ann


@contextmanager
def once_accounts_are_chosen(act):
    """Let `act` commit in a thread of its own between a read of accounts and the next statement."""
    chosen = []

    def watch(execute, sql, params, many, context):
        if chosen and chosen[0]:
            chosen[0] = False
            assert Asking(act).ended().fault is None
        if not chosen and "ledger_account" in sql:
            chosen.append(True)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield
    assert chosen == [False]


def opening(organization, ann):
    def act() -> None:
        post(organization, move(ann, open_account(organization, "new:EUR", floor=None), 7_00))

    return act


def test_a_balance_sheet_is_of_one_instant(books):
    with once_accounts_are_chosen(opening(*books)):
        [sheet] = queries.balance_sheets(organization_id=books[0], at=AT)

    assert sheet.is_balanced


def test_a_months_lines_are_of_one_instant(books):
    month = date(2026, 11, 1)
    view = queries.view_period(organization_id=books[0], month=month)
    with once_accounts_are_chosen(opening(*books)):
        [one] = queries.lines_of(view, show=Shown(10, 10))

    assert (one.total.opening, one.total.debits) == (0, one.total.credits)
