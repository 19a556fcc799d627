"""A statement that is read while others post to its account: its balances are of its lines."""

import threading
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count

import pytest
from django.db import connection

from apps.core import clock as clocks
from apps.ledger import queries
from apps.ledger.models import LedgerAccount
from apps.ledger.queries import LinesAsked, Position, _slices
from tests.ledger.clients import printed
from tests.ledger.factories import post_transfer
from tests.ledger.histories import seal
from tests.ledger.test_time_api import TimedClient
from tests.ledger.threads import Asking

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
# Before the window, in it, in it less than four days ago, and after it.
AHEAD = (-1 * HOUR, 2 * HOUR, 50 * HOUR, 105 * HOUR)
READS = 40


class Posted:
    """Bob pays Ann again and again, in the past of the real clock; the window is in it too."""

    def __init__(self) -> None:
        self.api = TimedClient()
        self.since = clocks.now() - 110 * HOUR
        self.until = self.since + 100 * HOUR
        self.numbers = count(1)
        for _ in range(2 * len(AHEAD)):
            self.post()
        seal(self.api.organization)
        for _ in range(2 * len(AHEAD)):
            self.post()

    def post(self) -> None:
        n = next(self.numbers)
        post_transfer(
            self.api.organization, self.api.bob, self.api.ann, n, key=f"k{n}",
            effective_at=self.since + AHEAD[n % len(AHEAD)] + timedelta(seconds=n % 7),
        )  # fmt: skip


@pytest.fixture(params=[20_000, 1], ids=["read whole", "read by days"])
def posted(request, monkeypatch) -> Posted:
    monkeypatch.setattr(_slices, "SLICE", request.param)
    return Posted()


@contextmanager
def posting(posted: Posted):
    """Somebody else posts all the while."""
    has_begun, is_over = threading.Event(), threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            posted.post()
            has_begun.set()

    asking = Asking(go_on)
    try:
        assert has_begun.wait(60)
        yield
    finally:
        is_over.set()
        assert asking.ended().fault is None


@contextmanager
def posting_between_statements(posted: Posted):
    """Somebody else posts, of each kind one, before every statement but the first."""
    begun = []

    def watch(execute, sql, params, many, context):
        if begun:
            asking = Asking(lambda: [posted.post() for _ in AHEAD])
            assert asking.ended().fault is None
        begun.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield
    assert len(begun) > 1


def assert_agrees(opening: int, closing: int, lines: list[tuple[int, int]]) -> None:
    """Ann's is a liability: what is credited, a negative amount, adds to her balance."""
    running = opening
    for amount, balance in lines:
        running -= amount
        assert balance == running
    assert closing == running


def assert_page_agrees(page: queries.Statement) -> None:
    assert (page.previous, page.next) == (None, None)
    assert_agrees(
        page.opening_minor, page.closing_minor,
        [(line.amount_minor, line.balance_after_minor) for line in page.lines],
    )  # fmt: skip


@pytest.mark.parametrize("clock", ["effective", "recorded"])
class TestAPage:
    def read(self, posted: Posted, clock: str, **place) -> queries.Statement:
        return queries.get_statement(
            organization_id=posted.api.organization, account_id=posted.api.ann,
            since=posted.since, until=self.until(posted, clock), clock=clock,
            ask=LinesAsked(100_000, **place),
        )  # fmt: skip

    @staticmethod
    def until(posted: Posted, clock: str):
        return posted.until if clock == "effective" else posted.until + 400 * HOUR

    def test_agrees_with_itself_while_others_post(self, posted, clock):
        with posting(posted):
            pages = [self.read(posted, clock) for _ in range(READS)]

        for page in pages:
            assert_page_agrees(page)
        assert len({page.closing_minor for page in pages}) > 3

    def test_is_of_what_stood_as_it_was_begun_whatever_is_posted_until_it_ends(self, posted, clock):
        before = self.read(posted, clock)

        with posting_between_statements(posted):
            page = self.read(posted, clock)

        if clock == "effective":
            assert page == before
        assert_page_agrees(page)
        assert self.read(posted, clock).closing_minor > page.closing_minor

    def test_agrees_backwards_too(self, posted, clock):
        with posting_between_statements(posted):
            page = self.read(posted, clock, before=Position(self.until(posted, clock), 10**9))

        assert_agrees(
            page.opening_minor, page.closing_minor,
            [(line.amount_minor, line.balance_after_minor) for line in page.lines],
        )  # fmt: skip

    def test_of_the_back_office_is_of_the_account_as_it_was_read(self, posted, clock):
        rows = LedgerAccount.objects.filter(id=posted.api.ann)

        with posting_between_statements(posted):
            page = queries.statement_of(
                queries.with_standing(rows).get(),
                since=posted.since, until=self.until(posted, clock), clock=clock, kind="",
                ask=LinesAsked(1_000),
            )  # fmt: skip

        assert_page_agrees(page)


def test_over_http_agrees_with_itself_while_others_post(posted):
    path = f"/v1/ledger-accounts/{printed(posted.api.ann)}/statement"
    window = {"since": posted.since.isoformat(), "until": posted.until.isoformat()}
    read = partial(posted.api.get, path, **window, limit="100")

    with posting_between_statements(posted):
        page = read().json()

    assert (page["previous"], page["next"]) == (None, None)
    assert len(page["data"]) > 8
    assert_agrees(
        page["opening_balance"], page["closing_balance"],
        [(line["amount"], line["balance"]) for line in page["data"]],
    )  # fmt: skip
