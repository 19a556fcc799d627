"""Lists narrowed to the organizations of a name, and what is found in spite of it."""

import re
from html import unescape
from uuid import UUID

import pytest

from apps.accounts.models import Customer, Organization
from apps.core import clock, encryption
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.models import OutboxEvent
from apps.ledger import operations
from apps.ledger.rules import PlaceHold
from apps.webhooks.models import WebhookDelivery
from tests.accounts import factories as accounts
from tests.backoffice.books import House
from tests.backoffice.test_stuck_work import set_aside
from tests.ledger.factories import committed, open_account
from tests.ledger.threads import sql
from tests.support import count_rows_read, past_the_guards
from tests.webhooks.factories import create_endpoint, owe

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS, CUSTOMERS, HOLDS = "core/outboxevent/", "accounts/customer/", "ledger/hold/"
DELIVERIES = "webhooks/webhookdelivery/"
EMAIL = "ann@example.com"
# More than are offered.
CROWD = 130


class Town(House):
    """More organizations than are offered, and one that is not among the first hundred."""

    def __init__(self) -> None:
        super().__init__()
        add_organizations(CROWD)
        self.other: UUID = accounts.create_organization(name="Allianz").id

        self.sides = [
            open_account(self.other, f"customers:{who}:EUR", floor=None) for who in ("eve", "fay")
        ]

    @committed
    def hold(self, **more: object) -> UUID:
        """Reserve money of the other; return the hold's id."""
        debit, credit = self.sides
        hold = PlaceHold(
            id=new_id(), currency="EUR", amount_minor=1_00, debit_account_id=debit,
            credit_account_id=credit, **more,
        )  # fmt: skip
        operations.post(
            organization_id=self.other, commands=[hold], actor=Actor.staff(self.maker.pk),
            now=clock.now(),
        )  # fmt: skip
        return hold.id

    def listed(self, path: str, **query: str) -> list[str]:
        """Return the printed ids of a list's rows."""
        text = self.page(path, **query)
        found = re.findall(rf'href="/admin/{path}([a-z]+_\w+)/"', text)
        return list(dict.fromkeys(found))


def add_organizations(count: int) -> None:
    past_the_guards(
        "INSERT INTO accounts_organization (id, name, mode, time_zone, created_at)"
        f" SELECT uuidv7(-n * interval '1 day'), 'One of many ' || n, 'live', 'UTC', now()"
        f" FROM generate_series(1, {count}) AS n"
    )


def add_customers(owner: UUID, count: int, *, index: bytes = b"") -> list[str]:
    """Write customers as they stand, without their accounts; return their printed ids."""
    before = set(Customer.objects.values_list("id", flat=True))
    past_the_guards(
        "INSERT INTO accounts_customer (id, organization_id, name_sealed, email_index, state,"
        " frozen_by, metadata, event_sequence, created_at)"
        f" SELECT uuidv7(), '{owner}', '', '\\x{index.hex()}', 'open', '', '{{}}', 0, now()"
        f" FROM generate_series(1, {count})"
    )
    after = Customer.objects.exclude(id__in=before).values_list("id", flat=True)
    return [encode_id("cus", id_) for id_ in after]


@pytest.fixture
def town() -> Town:
    town = Town()
    assert f'value="{town.other}"' not in town.page(EVENTS)
    return town


class TestNarrowed:
    def test_a_list_reads_the_rows_of_those_alone(self, town):
        theirs = add_customers(town.other, 3)
        # Newer than theirs: in the order of the list they are met first.
        add_customers(Organization.objects.get(name="One of many 1").id, 60_000)
        sql("ANALYZE")

        found: list[str] = []
        read = count_rows_read(
            "accounts_customer", lambda: found.extend(town.listed(CUSTOMERS, whose="allianz"))
        )

        assert sorted(found) == sorted(theirs)
        assert read <= 20

    def test_by_a_text_all_of_whose_letters_count(self, town):
        """Where there are choices "all" lifts a filter; what is typed is a part of a name."""
        [theirs] = add_customers(town.other, 1)
        add_customers(town.id, 1)

        for whose in ("al", "all", "alli"):
            assert town.listed(CUSTOMERS, whose=whose) == [theirs]
        # The state is chosen: it is lifted.
        assert len(town.listed(CUSTOMERS, state="all")) == 2

    def test_all_is_a_text_of_any_filter_that_is_typed(self, town):
        path = "ledger/ledgeraccount/"

        assert town.listed(path, code="bank:") == [encode_id("la", town.bank)]
        assert town.listed(path, code="all") == []
        assert town.listed(path, currency="all") == []

    def test_by_the_text_that_narrows_the_choice_however_long(self, town):
        Organization.objects.filter(id=town.other).update(name="x" * 100)
        add_customers(town.other, 1)

        text = town.page(CUSTOMERS, whose="x" * 100 + "y")

        assert "/admin/accounts/customer/cus_" not in text
        assert f'value="{"x" * 100}y"' in text

    def test_no_name_is_asked_for_where_exactly_a_hundred_are_offered(self, town):
        hundred = list(Organization.objects.order_by("id")[:101])
        for count, is_asked in ((100, False), (101, True)):
            one = accounts.create_staff("support", organizations=hundred[:count], sees_all=False)
            town.client = town.signed_in(one)
            assert ('name="whose"' in town.page(CUSTOMERS)) is is_asked


NARROWED = ({}, {"whose": "of many"}, {"whose": "nobody's"})


class TestSought:
    """What is looked for by its id, or by a text, is found whatever the filters say."""

    @pytest.fixture
    def about(self, town) -> str:
        """What an event of the other is about, whose delivery is owed."""
        organization = Organization.objects.get(id=town.other)
        create_endpoint(organization, "https://hooks.example.com/kassa")
        owe(organization, printed := encode_id("po", new_id()))
        return printed

    @pytest.mark.parametrize("narrowed", NARROWED)
    def test_events_about_one_thing(self, town, about, narrowed):
        event = OutboxEvent.objects.get(aggregate_id=about)

        assert town.listed(EVENTS, q=about, **narrowed) == [encode_id("evt", event.id)]

    @pytest.mark.parametrize("narrowed", NARROWED)
    def test_deliveries_of_it(self, town, about, narrowed):
        event = OutboxEvent.objects.get(aggregate_id=about)
        owed = WebhookDelivery.objects.get(organization_id=town.other)

        for text in (about, encode_id("evt", event.id)):
            assert town.listed(DELIVERIES, q=text, **narrowed) == [encode_id("whd", owed.id)]

    @pytest.mark.parametrize("narrowed", NARROWED)
    def test_holds_with_a_reference(self, town, narrowed):
        hold = town.hold(reference="order 7")

        assert town.listed(HOLDS, q="order 7", **narrowed) == [encode_id("ho", hold)]

    def test_customers_with_an_e_mail(self, town):
        index = encryption.blind_index(town.other, "customer.email", EMAIL)
        [theirs] = add_customers(town.other, 1, index=index)

        found = town.client.post("/admin/find/", {"text": EMAIL})

        assert found.url == f"/admin/accounts/customer/{theirs}/"

    def test_nothing_of_who_may_not_be_seen(self, town, about):
        town.hold(reference="order 7")
        seen = list(Organization.objects.exclude(id=town.other).order_by("id")[:120])
        one = accounts.create_staff("finance_maker", "support", organizations=seen, sees_all=False)
        town.client = town.signed_in(one)

        for narrowed in ({}, {"whose": "allianz"}):
            assert town.listed(EVENTS, q=about, **narrowed) == []
            assert town.listed(HOLDS, q="order 7", **narrowed) == []


class TestLinks:
    """What leads on from a page that is narrowed shows what was counted there."""

    def test_of_stuck_work(self, town):
        accounts_of = Organization.objects.get(id=town.other)
        set_aside(accounts_of)

        text = unescape(town.page("stuck-work/", whose="allianz"))
        narrowed = unescape(town.page("stuck-work/", whose="allianz", state="quarantined"))

        assert 'href="?kind=core.consume&state=quarantined&whose=allianz"' in text
        assert '<a href="?whose=allianz">Show all that is stuck</a>' in narrowed

    def test_of_the_first_page(self, town):
        text = unescape(town.page("", whose="allianz", organization=str(town.other)))

        tiles = re.findall(r'href="(/admin/[^"]*\?[^"]*)"', text)
        led = [url for url in tiles if f"organization={town.other}" in url]
        assert led
        assert {url for url in led if "whose=allianz" not in url} == set()
