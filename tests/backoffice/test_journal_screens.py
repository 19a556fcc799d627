"""The journal on the screen: what is looked for, and an entry's own page."""

import base64
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Organization
from apps.core import clock, outbox
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import operations, queries
from apps.ledger.models import JournalEntry
from tests.accounts import factories as accounts
from tests.backoffice.books import JUNE, QUERIES_MAX, House
from tests.ledger.factories import capture_at_once, create_organization, move, open_account, post
from tests.ledger.histories import Move, write_history

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


class TestTheJournal:
    """Its filters: a row is shown exactly if all of them fit it."""

    @staticmethod
    def shown(house, **query):
        """Return which of the three entries are shown: the payment, the gift, the fee."""
        text = house.page("ledger/journalentry/", **query)
        rows = JournalEntry.objects.filter(organization_id=house.id).order_by("id")
        ids = (encode_id("je", row.id) for row in rows)
        return "".join(
            name
            for name, id_ in zip("pgf", ids, strict=True)
            if f"/admin/ledger/journalentry/{id_}/" in text
        )

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, "pgf"),
            ({"kind": "fee"}, "f"),
            ({"account": "customers:bob:available:EUR"}, "g"),
            ({"account": "customers:ann:available:EUR", "amount_from": "30"}, "pg"),
            ({"account": "bank:ba_1:EUR", "amount_to": "99.99"}, ""),
            ({"by": "job:"}, "pgf"),
            ({"by": "staff:"}, ""),
            ({"actor": "job:tests"}, "pgf"),
            ({"actor": "job:test"}, ""),
            ({"reference": "none"}, ""),
            ({"effective_from": "2026-06-15"}, "gf"),
            ({"effective_until": "2026-06-14"}, "p"),
            ({"effective_from": "2026-05-31", "effective_until": "2026-05-31"}, "p"),
            ({"recorded_from": "2026-06-15"}, "gf"),
            ({"recorded_until": "2026-05-31", "kind": "transfer"}, "p"),
        ],
    )
    def test_shows_what_fits_its_filters(self, house, query, found):
        assert self.shown(house, **query) == found
        # And two by which an account is found, and how often it moved.
        assert house.asked <= QUERIES_MAX + 2

    def test_looks_for_an_amount_of_a_currency_in_a_month(self, house):
        june = {"effective_from": "2026-06-01", "effective_until": "2026-06-30"}
        query = {"currency": "EUR", "amount_from": "5.00", "amount_to": "29.99"}

        assert self.shown(house, **query, **june) == "f"
        assert self.shown(house, **query | {"currency": "USD"}, **june) == ""

        text = house.page("ledger/journalentry/", **query, effective_until="2026-06-30")
        assert "Amounts are looked for on one account, or in 31 days" in text
        assert "here from 31 May 2026 on" in text

    def test_says_from_which_day_of_the_organization_amounts_are_looked_for(self, house):
        Organization.objects.filter(pk=house.id).update(time_zone="Europe/Berlin")

        text = house.page(
            "ledger/journalentry/", currency="EUR", amount_from="5.00", effective_until="2026-06-30"
        )

        # At 00:00 in Berlin it is another day by UTC.
        assert "here from 31 May 2026 on" in text

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ({"amount_from": "5"}, "of a currency, or of an account"),
            ({"amount_from": "x", "currency": "EUR"}, "not a plain decimal amount"),
            ({"amount_from": "0", "currency": "EUR"}, "more than zero"),
            ({"currency": "XXQ"}, "XXQ is no currency"),
            ({"account": "fees:none"}, "There is no account fees:none"),
            ({"effective_from": "yesterday"}, "no day such as"),
            ({"recorded_from": "2026-06-02", "recorded_until": "2026-06-01"}, "not before"),
        ],
    )
    def test_says_what_means_nothing_and_shows_no_row(self, house, query, said):
        assert self.shown(house, **query) == ""
        text = house.page("ledger/journalentry/", **query).replace("&#x27;", "'")
        assert said in text

    def test_is_walked_page_by_page(self, house):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        write_history(owner, [Move(ann, bob, 1_00, JUNE, JUNE) for _ in range(120)])
        seen, query = [], {"account": "wallets:a:EUR", "organization": str(owner)}
        after = ""
        while True:
            text = house.page("ledger/journalentry/", **query, after=after)
            seen += re.findall(r'href="/admin/ledger/journalentry/(je_\w+)/"', text)
            older = re.search(r'rel="next" href="\?[^"]*after=([\w-]+)', text)
            if older is None:
                break
            after = older[1]
        newer = re.search(r'rel="prev" href="\?[^"]*before=([\w-]+)', text)
        back = house.page("ledger/journalentry/", **query, before=newer[1])

        assert len(seen) == len(set(seen)) == 120
        assert re.findall(r'href="/admin/ledger/journalentry/(je_\w+)/"', back) == seen[50:100]

    @pytest.mark.parametrize("after", ["x", "%%%", "WyJ4Il0", "\x00"])
    def test_shows_its_first_page_for_a_place_that_is_not_its_own(self, house, after):
        assert self.shown(house, kind="fee", after=after) == "f"

    @pytest.mark.parametrize("year", ["0001", "9999"])
    def test_stays_up_for_a_place_at_an_end_of_time(self, house, year):
        place = f"effective_at|0|{year}-12-31T23:59:59.999999+00:00|{'0' * 32}|0".encode()
        after = base64.urlsafe_b64encode(place).decode().rstrip("=")

        found = self.shown(house, kind="fee", effective_from="2026-05-31", after=after)

        assert found == ("" if year == "0001" else "f")

    def test_is_searched_in_one_organization_that_one_sees(self, house):
        other = House()

        assert self.shown(other, kind="fee", organization=str(other.id)) == "f"
        assert self.shown(house, kind="fee", organization=str(other.id)) == ""
        narrow = accounts.create_staff(
            "finance_maker",
            organizations=[Organization.objects.get(id=other.id)],
            sees_all=False,
        )
        house.client = House.signed_in(narrow)
        assert self.shown(house, kind="fee", organization=str(house.id)) == ""


class TestAJournalEntry:
    def test_shows_its_seal_once_it_has_one(self, house):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        post(owner, move(ann, bob, 10_00))
        [entry] = JournalEntry.objects.filter(organization_id=owner)
        url = f"ledger/journalentry/{encode_id('je', entry.id)}/"
        assert "not yet sealed" in house.page(url)

        outbox.relay_organization(organization_id=owner)
        assert operations.seal_entries(organization_id=owner, now=clock.now()) == 1

        text = house.page(url)
        [(position, _, hash_)] = queries.list_links(organization_id=owner, after=0, limit=5)
        assert position == 1
        assert hash_.hex() in text

    def test_shows_the_hold_that_it_captured(self, house):
        hold, entry = capture_at_once(house.id, house.ann, house.bob)

        text = house.page(f"ledger/journalentry/{encode_id('je', entry)}/")

        assert "Captured of" in text
        assert encode_id("ho", hold) in text

    def test_shows_what_was_said_of_it_and_when_it_became_something_else(self, house):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        post(
            owner,
            move(
                ann, bob, 10_00,
                description="For DE89370400440532013000",
                metadata={"order": "7", "from": "DE89370400440532013000"},
            ),
        )  # fmt: skip
        [entry] = JournalEntry.objects.filter(organization_id=owner)
        url = f"ledger/journalentry/{encode_id('je', entry.id)}/"
        mara = Actor(kind="staff", id=str(house.maker.pk), principal=f"staff:{house.maker.pk}")

        def said() -> list[list[str]]:
            text = house.page(url)
            assert "DE89370400440532013000" not in text
            return [[row[0], *row[2:]] for row in house.rows(text[text.index(">Metadata<") :])]

        first = ["0", "job", "from DE•• •••• 3000 , order 7"]
        assert said() == [first]
        for key, metadata in (("1", {"order": "8"}), ("2", {})):
            operations.annotate_entry(
                organization_id=owner, entry_id=entry.id, metadata=metadata, idempotency_key=key,
                actor=mara, now=clock.now(),
            )  # fmt: skip

        assert said()[:3] == [
            ["2", str(house.maker), "taken away"],
            ["1", str(house.maker), "order 8"],
            first,
        ]

    @pytest.mark.parametrize(
        "reference",
        ["DE89370400440532013000", "de89-3704-0044-0532-0130-00", "rent:DE89 3704 00440532013000"],
    )
    def test_under_an_account_number_shows_it_nowhere_and_is_found_by_it(self, house, reference):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        post(owner, move(ann, bob, 10_00, reference=reference, effective_at=JUNE))
        [entry] = JournalEntry.objects.filter(organization_id=owner)
        printed = encode_id("je", entry.id)

        pages = [
            house.page(f"ledger/journalentry/{printed}/"),
            house.page("ledger/journalentry/", organization=str(owner)),
            house.page(f"ledger/ledgeraccount/{encode_id('la', ann)}/", period="2026-06"),
        ]

        for page in pages:
            assert "DE•• •••• 3000" in page
            assert "0532" not in page
        found = house.page("ledger/journalentry/", organization=str(owner), reference=reference)
        assert f"/admin/ledger/journalentry/{printed}/" in found

    def test_of_which_nothing_was_said_says_so(self, house):
        [entry] = JournalEntry.objects.filter(organization_id=house.id, kind="fee")

        text = house.page(f"ledger/journalentry/{encode_id('je', entry.id)}/")

        assert "Nothing was said of it." in text

    def test_is_looked_for_within_the_organizations_one_sees(self, house):
        owner = encode_id("la", house.ann)
        with CaptureQueriesContext(connection) as asked:
            house.client.post("/admin/find/", {"text": f"je_{owner.removeprefix('la_')}"})

        looked = [one["sql"] for one in asked if 'FROM "ledger_journal_entry"' in one["sql"]]
        assert looked
        assert all('"organization_id" IN (' in sql for sql in looked)
