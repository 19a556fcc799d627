"""What a search reads: the rows of its lane and no others, whatever Postgres takes for rare."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core.ids import new_id
from apps.ledger import operations
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import TransferRequest
from apps.ledger.queries import Ask, Place, Search, Window, list_entries, list_postings
from apps.ledger.queries import _bounds as bounds
from apps.ledger.queries._entry_lanes import _Pace, _steps
from apps.ledger.rules import Leg, PostEntry
from tests.ledger.factories import ACTOR, NOW, create_organization, move, open_account, post
from tests.ledger.test_old_statistics import rows_read
from tests.ledger.test_search import check
from tests.ledger.threads import sql

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 1_000
# Whatever Postgres' own clock says, which is the one of `recorded`.
SINCE_A_WEEK = Window(NOW - timedelta(days=7), NOW + timedelta(days=9999))


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR", floor=None)
    bob = open_account(organization, "wallets:bob:EUR", floor=None)
    return organization, ann, bob


def post_some(organization, debit, credit, kind):
    for amount in (7, 8, 9):
        post(organization, move(debit, credit, amount, kind=kind))


def grow(organization, debit, credit, *, since=NOW, every=timedelta()):
    """Let it have many transfers, one after the other."""
    operations.post_transfers(
        organization_id=organization,
        transfers=[
            TransferRequest(
                debit_account_id=debit, credit_account_id=credit, amount_minor=1, currency="EUR",
                effective_at=since + number * every,
            )
            for number in range(MANY)
        ],
        mode="atomic",
        idempotency_key="grown",
        actor=ACTOR,
        now=NOW,
    )  # fmt: skip
    sql("ANALYZE")


def plans(search: Search, *off: str) -> list[str]:
    """Return Postgres' plan of each read of a page that looks for rows, with some ways closed."""
    found = []
    with CaptureQueriesContext(connection) as asked:
        list_entries(search=search, ask=Ask(10))
        list_postings(search=search, ask=Ask(10))
    with connection.cursor() as cursor:
        for way in off:
            cursor.execute(f"SET enable_{way} = off")
        try:
            for sql_ in [query["sql"] for query in asked.captured_queries]:
                # Not whether there are more than so many.
                if sql_.startswith("SELECT") and "ORDER BY" in sql_ and "OFFSET" not in sql_:
                    cursor.execute(f"EXPLAIN {sql_}")
                    found.append("\n".join(line for (line,) in cursor.fetchall()))
        finally:
            for way in off:
                cursor.execute(f"RESET enable_{way}")
    assert found
    return found


@pytest.mark.parametrize("clock", ["effective", "recorded"])
@pytest.mark.parametrize("more", [{}, {"actor": "staff:"}, {"amount_min": 1}], ids=str)
def test_of_a_window_never_goes_through_all_that_is_of_a_kind(books, monkeypatch, clock, more):
    post_some(*books, "fx")
    grow(*books)
    monkeypatch.setattr(bounds, "CANDIDATES_MAX", 2)
    search = Search(organization_id=books[0], now=NOW, kind="fx", **{clock: SINCE_A_WEEK}, **more)

    for plan in plans(search, "seqscan", "bitmapscan"):
        # By its id, of one posting, an entry may be looked up there as well as elsewhere.
        assert "entry_of_kind" not in plan or "(id = " in plan


@pytest.mark.parametrize("asked", [{"kind": "fx"}, {"actor": "staff:"}], ids=str)
def test_of_postings_never_begins_with_entries_of_all_time(books, monkeypatch, asked):
    """What is asked of their entries is looked up for each, and not joined."""
    post_some(*books, "fx")
    grow(*books)
    monkeypatch.setattr(bounds, "CANDIDATES_MAX", 2)
    organization, ann, _ = books

    for lane in ({"account_id": ann}, {"effective": SINCE_A_WEEK, "amount_min": 1}):
        search = Search(organization_id=organization, now=NOW, **lane, **asked)
        for plan in plans(search):
            assert "Join" not in plan
            assert "Nested Loop" not in plan


def test_of_a_kind_and_an_amount_reads_the_postings_of_that_kind(books):
    grow(*books)
    post_some(*books, "sweep")
    search = Search(organization_id=books[0], now=NOW, kind="sweep", amount_min=9)

    read = rows_read(lambda: list_postings(search=search, ask=Ask(10)))

    assert [row.amount_minor for row in list_postings(search=search, ask=Ask(10)).rows] == [9, -9]
    assert {table: count for table, count in read.items() if count > 30} == {}


@pytest.mark.parametrize("lane", ["account", "effective", "recorded"])
def test_of_a_rare_kind_finds_it_at_once_however_much_there_is_beside_it(books, monkeypatch, lane):
    """Without patience a page ends with its first portion; what is rare is named, wherever."""
    post_some(*books, "sweep")
    grow(*books)
    organization, ann, _ = books
    monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", 10)
    monkeypatch.setattr(bounds, "STEP_FIRST", timedelta(microseconds=1))
    monkeypatch.setattr(bounds, "PATIENCE_SECONDS", 0)
    asked = {"account_id": ann} if lane == "account" else {lane: SINCE_A_WEEK}
    search = Search(organization_id=organization, now=NOW, kind="sweep", **asked)

    found = list_entries(search=search, ask=Ask(10))

    assert [entry.kind for entry in found.rows] == ["sweep"] * 3
    assert found.older is None


def test_of_transfers_reads_a_page_and_not_a_portion_of_them(books, monkeypatch):
    grow(*books)
    monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", MANY // 2)
    search = Search(organization_id=books[0], now=NOW, kind="transfer")

    # Along the index, where a page ends with its last row; only a small table is read whole.
    found = [plan for plan in plans(search, "seqscan", "bitmapscan") if "posting" not in plan]
    assert found
    assert [plan for plan in found if "Sort" in plan or "Join" in plan or "Loop" in plan] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "transfer"},
        {"actor": "job:tests"},
        {"kind": "sweep", "actor": "job:tests"},
        {"kind": "sweep", "amount_min": 1},
        {"amount_min": 1},
    ],
    ids=str,
)
def test_passes_over_nothing_though_more_is_posted_while_it_is_looked_for(
    books, monkeypatch, asked
):
    """Between any two statements of a page: what stood before is shown, each row once."""
    organization, ann, bob = books
    kind = asked.get("kind", "fx")
    for _ in range(30):
        post(organization, move(ann, bob, 1, kind=kind))
    stood = [row.id for row in JournalEntry.objects.order_by("-id")]
    monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", 7)
    # Before each of the first statements; those of posting itself are none of them.
    left = [5]

    def post_more(execute, *call):
        if left and not connection.in_atomic_block:
            left[0] -= 1
            post(organization, *[move(ann, bob, 1, kind=kind) for _ in range(2)])
            if not left[0]:
                left.clear()
        return execute(*call)

    found, place = [], None
    search = Search(organization_id=organization, now=NOW, **asked)
    while True:
        with connection.execute_wrapper(post_more):
            page = list_entries(search=search, ask=Ask(50, place))
        found += [entry.id for entry in page.rows]
        if page.older is None:
            break
        place = page.older

    assert [id_ for id_ in found if id_ in stood] == stood
    assert len(set(found)) == len(found)


def test_of_amounts_finds_one_posting_of_each_entry_page_by_page(books, monkeypatch):
    """An entry of which one posting matches takes one row of a page, not two."""
    organization, ann, bob = books
    cy = open_account(organization, "wallets:cy:EUR", floor=None)
    legs = (Leg(ann, 3), Leg(bob, -1), Leg(cy, -2))
    for _ in range(12):
        post(organization, PostEntry(id=new_id(), kind="fx", currency="EUR", legs=legs))
    monkeypatch.setattr(bounds, "SCAN_ROWS_MAX", 2)
    search = Search(organization_id=organization, now=NOW, amount_min=3)

    for limit in (1, 2, 3, 5):
        assert check(search, limit) == 12


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("model", [JournalEntry, Posting])
def test_of_a_window_takes_no_long_step_into_busy_days(books, monkeypatch, model, newer):
    """Where nothing was for years the steps grow; the planner says where they must not."""
    organization, ann, bob = books
    monkeypatch.setattr(bounds, "STEP_ROWS_MAX", 100)
    begin = NOW - timedelta(days=900)
    grow(organization, ann, bob, since=begin, every=timedelta(minutes=10))
    search = Search(
        organization_id=organization, now=NOW,
        effective=Window(NOW - timedelta(days=2000), NOW),
    )  # fmt: skip
    # As one that was sent back to the oldest would go on, or as the first page is looked for.
    place = Place("effective_at", instant=begin - timedelta(days=800)) if newer else None
    pace = _Pace(model, search)

    counts = []
    for low, high in _steps(search, Ask(10, place, newer=newer), pace):
        within = model.objects.filter(organization_id=organization, effective_at__gte=low)
        counts.append(within.filter(effective_at__lt=high).count())
        pace.grow(seconds=0.0, left=60.0)

    assert sum(counts) == model.objects.filter(organization_id=organization).count()
    assert max(counts) <= 2 * bounds.STEP_ROWS_MAX
    assert len(counts) < 80
