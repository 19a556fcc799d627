"""Batches and payouts on screen: what is offered can be done, and what is cut off says so."""

import re
from urllib.parse import quote

import pytest
from django.contrib import admin

from apps.core import clock
from apps.core.money import Money
from apps.payouts import operations
from apps.payouts.admin import _batches, _open_batches
from apps.payouts.models import PayoutBatch
from apps.payouts.operations import DestinationDetails
from tests.accounts import factories as accounts
from tests.backoffice.house import IBANS, JOB, NAMES
from tests.backoffice.test_acts import REASON, open_form, perform, url_of
from tests.payouts import factories as payouts

FREEZE = "/admin/payouts/payoutbatch/act/freeze/"
LIST = "/admin/payouts/payoutbatch/"


@pytest.fixture
def batch(house, db):
    """Return a batch of the one scheduled payout, frozen now."""
    frozen = operations.freeze_batch(
        key=payouts.key_of(house.payouts["scheduled"]), actor=JOB, now=clock.now()
    )
    assert frozen is not None
    return frozen


def offers(client, row, act):
    """Say whether the row's page has a button for the act that leads somewhere."""
    return url_of(row, act) in client.get(url_of(row)).content.decode()


def off_words(client, row, act):
    """Return why an act's button leads nowhere, or nothing if it has none."""
    label = next(one for one in admin.site._registry[type(row)].acts if one.name == act).label(row)
    text = client.get(url_of(row)).content.decode()
    found = re.search(rf'title="([^"]*)">{re.escape(label)}', text)
    return found[1] if found else ""


class TestVoiding:
    def test_is_offered_until_there_is_a_file(self, browse, batch):
        client = browse("anton")
        assert offers(client, batch, "void")
        perform(client, batch, "release")
        assert offers(client, batch, "void")

        perform(client, batch, "export")

        assert not offers(client, batch, "void")
        assert "It has a file" in off_words(client, batch, "void")

    def test_past_the_button_is_refused_and_changes_nothing(self, browse, batch):
        client = browse("anton")
        perform(client, batch, "release")
        perform(client, batch, "export")

        answer = perform(client, batch, "void")

        batch.refresh_from_db()
        assert (answer.status_code, batch.state) == (409, "exported")
        assert b"batch_may_have_been_sent" in answer.content

    def test_schedules_the_payouts_again(self, browse, house, batch):
        answer = perform(browse("anton"), batch, "void")

        batch.refresh_from_db()
        house.payouts["scheduled"].refresh_from_db()
        assert (answer.status_code, batch.state) == (302, "voided")
        assert house.payouts["scheduled"].state == "scheduled"

    def test_is_not_offered_to_who_may_not_decide_it(self, browse, batch):
        assert not offers(browse("mara"), batch, "void")
        assert off_words(browse("mara"), batch, "void") == "It is for a finance approver."
        assert perform(browse("mara"), batch, "void").status_code == 403


class TestReleasing:
    def held(self, house):
        customer = house.customers[0]
        target = operations.create_destination(
            organization_id=house.id,
            details=DestinationDetails(
                customer_id=customer.id,
                iban=IBANS[1],
                holder_name=NAMES[0],
                currency="EUR",
            ),
            idempotency_key="new-destination",
            actor=house.key,
            now=clock.now(),
        )
        ask = operations.PayoutDetails(
            customer_id=customer.id, destination_id=target.id, money=Money(10_00, "EUR")
        )
        return [
            operations.request_payout(
                organization_id=house.id,
                details=ask,
                idempotency_key=f"new-{number}",
                actor=house.key,
                now=clock.now(),
            )
            for number in range(2)
        ]

    def test_is_not_offered_where_the_cooldown_alone_holds(self, browse, house):
        cooling, _twin = self.held(house)

        assert cooling.hold_reasons == ["destination_cooldown"]
        assert not offers(browse("milo"), cooling, "release")
        assert "that ends by itself" in off_words(browse("milo"), cooling, "release")

    def test_offers_every_reason_but_the_cooldown(self, browse, house):
        _first, twin = self.held(house)
        form = browse("milo").get(url_of(twin, "release")).content.decode()

        assert re.findall(r'<option value="([^"]+)"', form) == ["duplicate_suspected"]
        assert (
            perform(browse("milo"), twin, "release", hold_reason="duplicate_suspected").status_code
            == 302
        )


class TestWhatIsNotFrozenYet:
    @pytest.fixture
    def elsewhere(self, house, db, settings):
        """Return a scheduled payout of an organization that came after many others."""
        settings.PAYOUT_COOLDOWN_HOURS = 0
        for _one in range(20):
            accounts.create_organization()
        home = payouts.world()
        target = payouts.destination(home, payouts.customer_with(home, 900_00))
        return payouts.request(home, target, 700_00, now=clock.now())

    def test_shows_that_of_every_organization(self, browse, elsewhere):
        text = browse("noor").get(LIST).content.decode()

        assert "700.00" in text
        assert elsewhere.organization.name in text
        assert "310.00" in text

    def test_is_frozen_by_hand_whosever_it_is(self, browse, elsewhere):
        client, key = browse("noor"), payouts.key_of(elsewhere)
        named = f"{key.bank_account_id}/{key.currency}/{key.rail}/{key.execution_date}"

        client.post(FREEZE, {**open_form(client, FREEZE), "batch": named, "reason": REASON})

        elsewhere.refresh_from_db()
        assert elsewhere.state == "batched"

    def test_says_that_there_is_more_and_leads_to_it(self, browse, house, elsewhere, monkeypatch):
        monkeypatch.setattr(_open_batches, "OPEN_SHOWN", 1)
        client = browse("noor")

        cut = client.get(LIST).content.decode()
        narrowed = [
            client.get(f"{LIST}?organization={one}").content.decode()
            for one in (house.id, elsewhere.organization_id)
        ]

        assert "The first 1: there may be more" in cut
        assert ("310.00" in narrowed[0], "700.00" in narrowed[1]) == (True, True)
        for payout in (elsewhere, house.payouts["scheduled"]):
            key = payouts.key_of(payout)
            named = f"{key.bank_account_id}/{key.currency}/{key.rail}/{key.execution_date}"
            form = client.get(f"{FREEZE}?batch={quote(named)}").content.decode()
            assert f'<option value="{named}" selected' in form

    def test_is_not_shown_to_who_may_not_see_it(self, client, house, elsewhere):
        person = accounts.create_staff(
            "finance_maker", organizations=[house.organization], sees_all=False
        )
        client.force_login(person)
        key = payouts.key_of(elsewhere)
        named = f"{key.bank_account_id}/{key.currency}/{key.rail}/{key.execution_date}"

        assert "700.00" not in client.get(LIST).content.decode()
        assert named not in client.get(f"{FREEZE}?batch={quote(named)}").content.decode()


class TestABatchOfMany:
    def test_says_where_the_rest_is(self, browse, house, monkeypatch):
        sent = PayoutBatch.objects.filter(attempt_count=2).latest("id")
        monkeypatch.setattr(_batches, "ATTEMPTS_SHOWN", 1)

        text = browse("noor").get(url_of(sent)).content.decode()

        assert "The first 1." in text
        url = f"/admin/payouts/payout/?batch={sent.id}"
        assert url in text
        rows = browse("noor").get(url).context["rows"]
        assert len(rows) == 2
