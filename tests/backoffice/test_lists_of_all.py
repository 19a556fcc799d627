"""Lists of what several organizations have, in an order that no index has without them."""

import re
from functools import partial

import pytest

from apps.accounts.models import Organization
from apps.core.admin_base.lists import PAGE_ROWS, Keyset
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.ledger.models import JournalEntry
from tests.accounts import factories as accounts
from tests.backoffice.books import QUERIES_MAX, House
from tests.ledger.factories import create_organization, move, open_account, post
from tests.ledger.test_old_statistics import rows_read
from tests.ledger.threads import sql

pytestmark = pytest.mark.django_db(transaction=True)

LISTS = {
    "ledger/journalentry": (JournalEntry, "je"),
    "core/outboxevent": (OutboxEvent, "evt"),
}
# Of each of the two, by turns: three pages of both, and a fourth that is not full.
TURNS = (60, 3, 1, 40, 70)


class Houses(House):
    """Two organizations whose entries stand between each other's, and somebody who sees both."""

    def __init__(self) -> None:
        super().__init__()
        other = create_organization("Other")
        pair = [open_account(other, f"wallets:{name}:EUR", floor=None) for name in ("ann", "bob")]
        both = [(self.id, self.ann, self.bob), (other, *pair)]
        for turn, count in enumerate(TURNS):
            organization, debit, credit = both[turn % 2]
            post(organization, *[move(debit, credit, 1) for _ in range(count)])
        self.other = other


@pytest.fixture
def houses() -> Houses:
    return Houses()


def walk(houses: Houses, path: str, prefix: str, link: str, query: str = "?"):
    """Return the ids on each page from one on, as its links lead, and where the last one stands."""
    pages = []
    while True:
        text = houses.client.get(f"/admin/{path}/{query}").content.decode()
        found = re.findall(rf'href="/admin/{path}/({prefix}_\w+)/"', text)
        pages.append(list(dict.fromkeys(found)))
        links = re.findall(rf'href="(\?[^"]*{link}=[^"]*)"', text)
        if not links:
            return pages, query
        query = links[0].replace("&amp;", "&")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("whose", ["both", "one"])
def test_are_walked_newest_first_and_back(houses, path, whose):
    model, prefix = LISTS[path]
    rows = model.objects.filter(organization_id=houses.other) if whose == "one" else model.objects
    expected = [encode_id(prefix, id_) for id_ in rows.order_by("-id").values_list("id", flat=True)]
    query = f"?organization={houses.other}" if whose == "one" else "?"

    pages, last = walk(houses, path, prefix, "after", query)
    back, _ = walk(houses, path, prefix, "before", last)

    assert [id_ for page in pages for id_ in page] == expected
    assert {len(page) for page in pages[:-1]} <= {PAGE_ROWS}
    # Whoever goes back comes by pages that end where these did.
    assert [id_ for page in reversed(back) for id_ in page] == expected


@pytest.mark.parametrize("path", LISTS)
def test_show_nobody_what_others_have(houses, path):
    model, prefix = LISTS[path]
    other = Organization.objects.get(id=houses.other)
    one = accounts.create_staff("finance_maker", organizations=[other], sees_all=False)
    houses.client = houses.signed_in(one)

    pages, _ = walk(houses, path, prefix, "after")

    own = model.objects.filter(organization_id=houses.other).order_by("-id")
    assert [id_ for page in pages for id_ in page] == [encode_id(prefix, row.pk) for row in own]


def test_of_nothing_are_empty(houses):
    assert Keyset().page(OutboxEvent.objects.none(), owners=[houses.id]) == ([], "", "")
    assert Keyset().page(OutboxEvent.objects.all(), owners=[]) == ([], "", "")


def test_read_a_page_of_each_organization_and_not_all_that_they_have(houses):
    post(houses.id, *[move(houses.ann, houses.bob, 1) for _ in range(1000)])
    sql("ANALYZE ledger_journal_entry")

    read = rows_read(partial(houses.page, "ledger/journalentry/"))

    # The fifty-first of each tells that there is more; what is shown is read by its id, twice.
    assert read["ledger_journal_entry"] <= 6 * (PAGE_ROWS + 1)
    assert houses.asked <= QUERIES_MAX
