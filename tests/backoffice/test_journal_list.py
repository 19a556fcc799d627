"""The journal's list tells entries apart: whose accounts, and what its maker said of each."""

import re
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from apps.core.ids import encode_id, new_id
from apps.ledger.rules import Leg, PostEntry
from tests.accounts import factories as accounts
from tests.ledger.factories import create_organization, move, open_account, post

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/ledger/journalentry/"
LONG = "Second part of the order of the Nordic lamp company, less what was paid before"


class Books:
    """Two customers whose codes differ in an id alone, and somebody from finance signed in."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.bank = open_account(self.id, "bank:ba_1:EUR", type_="asset", floor=None)
        self.owners = [encode_id("cus", new_id()) for _ in range(2)]
        self.customers = [
            open_account(self.id, f"customers:{owner}:available:EUR", floor=None)
            for owner in self.owners
        ]
        self.client = Client()
        self.client.force_login(accounts.create_staff("finance_maker"))

    def pay(self, customer: int, **more: object) -> str:
        """Pay in for a customer; return the entry's printed id."""
        [outcome] = post(self.id, move(self.bank, self.customers[customer], 1_00, **more))
        return encode_id("je", outcome.entry_id)

    def row(self, entry: str) -> str:
        """Return an entry's row of the list."""
        text = self.client.get(LIST).content.decode()
        [row] = [row for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL) if entry in row]
        return row


@pytest.fixture
def books() -> Books:
    return Books()


def read(row: str) -> str:
    return " ".join(unescape(strip_tags(row.replace("<wbr>", "").replace("<", " <"))).split())


class TestTheJournalsList:
    def test_shows_whose_each_side_is_and_leads_there(self, books):
        rows = [books.row(books.pay(customer)) for customer in (0, 1)]

        for row, owner, account in zip(rows, books.owners, books.customers, strict=True):
            assert f"customers:{owner[:8]}…{owner[-4:]}:available" in read(row)
            # Where there is no room for it all, a line ends before the id and never within.
            assert f">customers:<wbr>{owner[:8]}…{owner[-4:]}:available</a>" in row
            assert "bank:ba_1" in read(row)
            assert f'href="/admin/ledger/ledgeraccount/{encode_id("la", account)}/"' in row
        assert read(rows[0]) != read(rows[1])

    def test_counts_the_accounts_beyond_two(self, books):
        first, second = books.customers
        entry = PostEntry(
            id=new_id(),
            legs=(Leg(books.bank, 3_00), Leg(first, -2_00), Leg(second, -1_00)),
            currency="EUR",
            kind="split",
        )
        post(books.id, entry)

        assert "and 1 more" in read(books.row(encode_id("je", entry.id)))

    def test_shows_the_beginning_of_a_description_and_the_entry_the_whole(self, books):
        entry = books.pay(0, description=LONG, reference="order-7")

        row = read(books.row(entry))
        assert f"order-7 {LONG[:60].rstrip()}…" in row
        assert LONG not in row
        assert LONG in books.client.get(f"{LIST}{entry}/").content.decode()

    def test_masks_an_account_number_in_a_description(self, books):
        entry = books.pay(0, description="back to DE89370400440532013000, please")

        assert "DE89370400440532013000" not in books.row(entry)

    def test_asks_as_little_for_many_entries_as_for_one(self, books):
        books.pay(0)
        alone = self.asked(books)
        for number in range(20):
            books.pay(number % 2, description=f"Part {number}", reference=f"r-{number}")

        assert self.asked(books) == alone

    @staticmethod
    def asked(books: Books) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert books.client.get(LIST).status_code == 200
        return len(queries)
