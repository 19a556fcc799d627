"""A page says once by whose clocks its times are."""

import re

import pytest
from django.test import Client

from apps.accounts.models import Organization
from apps.backoffice.models import Correction
from apps.core.ids import encode_id
from apps.ledger.models import JournalEntry
from tests.accounts import factories as accounts
from tests.backoffice import books, test_corrections
from tests.ledger.factories import move, post

pytestmark = pytest.mark.django_db(transaction=True)

BERLIN = "Times are by the clocks of Europe/Berlin; UTC on hover."
NOTE = re.compile(r"Times are by the clocks of [^<]*")


def notes(path: str, **query: str) -> list[str]:
    client = Client()
    client.force_login(accounts.create_staff("finance_maker"))
    answer = client.get(f"/admin/{path}", query)
    assert answer.status_code == 200
    return NOTE.findall(answer.content.decode().replace("&#x27;", "'"))


def live_in(organization_id, zone: str) -> None:
    Organization.objects.filter(id=organization_id).update(time_zone=zone)


@pytest.fixture
def house() -> test_corrections.House:
    made = test_corrections.House()
    live_in(made.id, "Europe/Berlin")
    made.goodwill()
    return made


def pages_of(house) -> list[str]:
    entry, account = encode_id("je", house.gift), encode_id("la", house.ann)
    return [
        "ledger/journalentry/", f"ledger/journalentry/{entry}/",
        f"ledger/journalentry/{entry}/act/reverse/", "ledger/journalentry/?kind=transfer",
        f"ledger/ledgeraccount/{account}/", "ledger/period/", "trial-balance/",
        "trial-balance/?period=2026-06", "backoffice/correction/",
        f"backoffice/correction/{Correction.objects.get().id}/",
    ]  # fmt: skip


class TestAPageOfTheBooks:
    def test_names_the_zone_of_its_times_once(self, house):
        found = {page: notes(page) for page in pages_of(house)}

        assert found == {page: [BERLIN] for page in found}

    def test_whose_times_say_utc_themselves_names_none(self, house):
        live_in(house.id, "UTC")

        assert [notes(page) for page in pages_of(house)] == [[]] * len(pages_of(house))

    def test_without_a_time_names_none(self, house):
        assert notes("ledger/ledgeraccount/", code="wallets") == []
        assert notes("ledger/journalentry/", kind="none") == []

    def test_over_organizations_of_several_zones_names_each(self, house):
        other = books.House()
        live_in(other.id, "Asia/Tokyo")
        post(other.id, move(other.bank, other.ann, 1_00))
        assert JournalEntry.objects.values("organization_id").distinct().count() == 2

        both = "Times are by the clocks of each row's organization (Asia/Tokyo, Europe/Berlin)"
        assert notes("ledger/journalentry/") == [f"{both}; UTC on hover."]
        assert notes("ledger/journalentry/", organization=str(house.id)) == [BERLIN]
