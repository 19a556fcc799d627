"""Lists of what several organizations have, in an order that no index has without them."""

import re
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from apps.accounts.models import Organization
from apps.core import sifting
from apps.core.admin_base.lists import PAGE_ROWS, Keyset
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.ledger.models import JournalEntry
from tests.accounts import factories as accounts
from tests.backoffice.books import QUERIES_MAX, House
from tests.ledger.factories import create_organization, move, open_account, post
from tests.ledger.test_old_statistics import rows_read
from tests.ledger.threads import sql
from tests.support import count_rows_read, past_the_guards

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
    sql("ANALYZE")

    read = rows_read(partial(houses.page, "ledger/journalentry/"))

    # The fifty-first of each tells that there is more; what is shown is read by its id, twice.
    assert read["ledger_journal_entry"] <= 6 * (PAGE_ROWS + 1)
    assert houses.asked <= QUERIES_MAX


# More than are offered as a filter's choices, and more than a page has rows.
CROWD = 130
EVERY = timedelta(minutes=1)


@pytest.fixture
def crowd(houses) -> list[UUID]:
    """Organizations with five events each between each other's, and one with a thousand."""
    past_the_guards(
        "INSERT INTO accounts_organization (id, name, mode, time_zone, created_at)"
        f" SELECT uuidv7(-n * interval '1 day'), 'One of many ' || n, 'live', 'UTC', now()"
        f" FROM generate_series(1, {CROWD}) AS n"
    )
    # The first of them are offered.
    rows = Organization.objects.filter(name__startswith="One of many").order_by("id")
    ids = list(rows.values_list("id", flat=True))
    add_events([(ids[n % CROWD], "thing.done", n * EVERY) for n in range(5 * CROWD)])
    add_events([(ids[0], "thing.done", n * EVERY) for n in range(1000)])
    return ids


def add_events(events: list[tuple[UUID, str, timedelta]]) -> None:
    """Write events: whose, of which type, how long ago."""
    values = ", ".join(
        f"(uuidv7(interval '{-ago.total_seconds()} seconds'), '{owner}'::uuid, uuidv7(), '{type_}')"
        for owner, type_, ago in events
    )
    past_the_guards(
        "INSERT INTO core_outbox_event (id, organization_id, batch_id, ordinal, name, type, public,"
        " schema_version, aggregate_type, aggregate_id, sequence, occurred_at, recorded_at, actor,"
        " request_id, traceparent, data)"
        " SELECT id, organization_id, batch_id, 0, 'things.thing.done', type, true, 1, 'thing',"
        f" id::text, 1, now(), now(), 'job:tests', '', '', '{{}}' FROM (VALUES {values})"
        " AS told (id, organization_id, batch_id, type)"
    )


def events_read(act) -> int:
    """Return how many rows of all weeks' events were read."""
    return count_rows_read("core_outbox_event%", act)


def test_show_what_more_organizations_have_than_are_offered(houses, crowd):
    expected = OutboxEvent.objects.order_by("-id").values_list("id", flat=True)

    pages, last = walk(houses, "core/outboxevent", "evt", "after")
    back, _ = walk(houses, "core/outboxevent", "evt", "before", last)

    assert [id_ for page in pages for id_ in page] == [encode_id("evt", id_) for id_ in expected]
    assert [id_ for page in reversed(back) for id_ in page] == [
        id_ for page in pages for id_ in page
    ]


def test_ask_each_organization_for_its_first_row_and_few_for_more(houses, crowd):
    sql("VACUUM core_outbox_event")
    sql("ANALYZE")

    read = events_read(lambda: Keyset().page(OutboxEvent.objects.all(), owners=crowd))

    # Of those whose first row is among the first fifty-one: five each, and a page of one of them.
    assert read <= CROWD + 5 * (PAGE_ROWS + 1) + 2 * (PAGE_ROWS + 1)


class TestOneOfMoreOrganizationsThanAreOffered:
    @pytest.fixture
    def other(self, houses, crowd) -> UUID:
        """One that is not among the first hundred, which alone were offered."""
        assert f'value="{houses.other}"' not in houses.page("core/outboxevent/")
        return houses.other

    def events(self, houses, **query) -> set[str]:
        text = houses.page("core/outboxevent/", **query)
        return set(re.findall(r'href="/admin/core/outboxevent/(evt_\w+)/"', text))

    def of(self, owner: UUID, **which) -> set[str]:
        rows = OutboxEvent.objects.filter(organization_id=owner, **which)
        newest = rows.order_by("-id")[:PAGE_ROWS]
        return {encode_id("evt", row.id) for row in newest}

    def test_is_found_by_its_name_or_its_printed_id(self, houses, other):
        for whose in ("oThe", encode_id("org", other)):
            assert self.events(houses, whose=whose) == self.of(other)
        assert self.events(houses, whose="nobody's") == set()
        # Many are: the choice is narrowed to those.
        text = houses.page("core/outboxevent/", whose="of many 11")
        assert set(re.findall(r">(One of many \d+)</option>", text)) == {
            f"One of many {number}" for number in (11, *range(110, 120))
        }
        assert houses.asked <= QUERIES_MAX

    def test_is_not_found_by_who_may_not_see_it(self, houses, other, crowd):
        # A crowd of their own.
        theirs = list(Organization.objects.filter(id__in=crowd))
        one = accounts.create_staff("finance_maker", organizations=theirs, sees_all=False)
        houses.client = houses.signed_in(one)

        for query in ({"whose": "other"}, {"whose": encode_id("org", other)}):
            assert self.events(houses, **query) == set()
        text = houses.page("core/outboxevent/", organization=str(other))
        assert f'value="{other}"' not in text

    def test_stays_chosen(self, houses, other):
        selected = f'<option value="{other}" selected>Other</option>'
        houses.client = houses.signed_in(accounts.create_staff("finance_approver"))

        for path in ("core/outboxevent/", "ledger/journalentry/", "trial-balance/",
                     "stuck-work/", "ledger/ledgeraccount/", "ledger/period/", ""):  # fmt: skip
            text = houses.page(path, organization=str(other))
            assert selected in text, path
            assert 'name="whose"' in text, path

        assert self.events(houses, organization=str(other)) == self.of(other)

    def test_is_the_one_whose_journal_is_searched(self, houses, other):
        newest = OutboxEvent.objects.filter(organization_id=other).latest("id")

        found = self.events(houses, type=newest.type, whose="other")

        assert found == self.of(other, type=newest.type)

    def test_is_not_looked_for_where_all_are_offered(self, houses):
        text = houses.page("core/outboxevent/")

        assert f'value="{houses.other}"' in text
        assert 'name="whose"' not in text


class TestEventsOfAType:
    """They have no index: they are looked for in one organization's, so many at a time."""

    @pytest.fixture
    def rare(self, houses, crowd, monkeypatch) -> list[str]:
        add_events([(crowd[0], "thing.lost", n * 170 * EVERY) for n in range(6)])
        add_events([(crowd[1], "thing.lost", n * EVERY) for n in range(60)])
        monkeypatch.setattr(sifting, "SIFTED_ROWS", 100)
        monkeypatch.setattr(sifting, "PATIENCE_SECONDS", 0)
        return self.of(crowd[0])

    def of(self, owner: UUID) -> list[str]:
        rows = OutboxEvent.objects.filter(organization_id=owner, type="thing.lost")
        return [encode_id("evt", id_) for id_ in rows.order_by("-id").values_list("id", flat=True)]

    def test_are_found_page_by_page(self, houses, crowd, rare):
        query = f"?type=thing.lost&organization={crowd[0]}"

        pages, _ = walk(houses, "core/outboxevent", "evt", "after", query)

        assert [id_ for page in pages for id_ in page] == rare
        # A portion each; those in which there was nothing say so.
        assert len(pages) == 11
        assert any(page == [] for page in pages)

    def test_are_found_again_on_the_way_back(self, houses, crowd, rare):
        query = f"?type=thing.lost&organization={crowd[0]}"
        _, last = walk(houses, "core/outboxevent", "evt", "after", query)

        back, first = walk(houses, "core/outboxevent", "evt", "before", last)

        assert [id_ for page in reversed(back) for id_ in page] == rare
        assert any(page == [] for page in back[1:])
        # And from wherever one stands a link leads to the beginning.
        for place in (last, first):
            text = houses.client.get(f"/admin/core/outboxevent/{place}").content.decode()
            assert ">First</a>" in text or ">Previous</a>" not in text

    def test_say_where_one_stands_on_a_page_without_rows(self, houses, crowd, rare):
        asked = {"type": "thing.lost", "organization": str(crowd[0])}
        oldest = OutboxEvent.objects.filter(organization_id=crowd[0]).earliest("id")
        newest = OutboxEvent.objects.filter(organization_id=crowd[0]).latest("id")
        first = f'href="?type=thing.lost&amp;organization={crowd[0]}">First</a>'

        end = houses.page("core/outboxevent/", **asked, after=Keyset()._key(oldest))
        start = houses.page("core/outboxevent/", **asked, before=Keyset()._key(newest))

        assert "No row fits after the page that you came from." in end
        assert first in end
        assert ">Previous</a>" in end
        assert ">Next</a>" not in end
        assert "No row fits before the page that you came from." in start
        assert first in start
        assert ">Next</a>" in start

    def test_are_of_one_organization(self, houses, crowd, rare):
        query = f"?type=thing.lost&organization={crowd[1]}"

        pages, _ = walk(houses, "core/outboxevent", "evt", "after", query)

        assert [id_ for page in pages for id_ in page] == self.of(crowd[1])
        text = houses.page("core/outboxevent/", type="thing.lost")
        # Of none in particular it is the first that is offered.
        assert re.search(r'<option value="[0-9a-f-]{36}" selected>', text)

    def test_that_none_has_are_looked_for_no_further_than_a_portion(self, houses, crowd, rare):
        sql("VACUUM core_outbox_event")
        sql("ANALYZE")
        asked = {"type": "thing.odd", "organization": str(crowd[0])}

        read = events_read(lambda: houses.page("core/outboxevent/", **asked))

        assert read <= 2 * 100 + 10
        text = houses.page("core/outboxevent/", **asked)
        assert "the next page looks further back" in text
        assert "0 rows on this page" in text
