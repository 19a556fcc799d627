"""The pages of corrections and of what they posted name who asked and who agreed, and when."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from apps.accounts.models import Staff
from apps.approvals import operations as approvals
from apps.approvals.states import Verdict
from apps.backoffice import operations
from apps.backoffice.models import Correction
from apps.core.ids import encode_id
from apps.ledger.models import FxTransfer
from tests.accounts import factories as accounts
from tests.backoffice.test_corrections import House
from tests.ledger.exchanges import exchange
from tests.ledger.factories import NOW, open_account

pytestmark = pytest.mark.django_db(transaction=True)

LATER = NOW + timedelta(hours=3)
LIST = "/admin/ledger/journalentry/"
QUERIES_MAX = 10


@pytest.fixture
def house() -> House:
    return House()


def opened(url: str) -> tuple[str, list[str]]:
    """Return a page and what was asked of Postgres for it."""
    client = Client()
    client.force_login(accounts.create_staff("finance_maker"))
    with CaptureQueriesContext(connection) as asked:
        text = client.get(url).content.decode()
    assert len(asked) <= QUERIES_MAX
    return text, [one["sql"] for one in asked]


def facts(url: str) -> dict[str, str]:
    """Return the facts of a page as they are read."""
    text, _ = opened(url)
    found = re.findall(r"<dt>(.*?)</dt>\s*<dd.*?>(.*?)</dd>", text, re.DOTALL)
    return {
        unescape(title): " ".join(unescape(strip_tags(value)).split()) for title, value in found
    }


def of_entry(entry) -> dict[str, str]:
    return facts(f"{LIST}{encode_id('je', entry)}/")


def decide(house, asked, verdict=Verdict.APPROVE) -> None:
    approvals.decide_approval(
        organization_id=house.id, request_id=asked.approval_id, verdict=verdict,
        reason="Looked at it", idempotency_key="decide", actor=house.approver, now=LATER,
    )  # fmt: skip


def named(actor, at) -> str:
    return f"{Staff.objects.get(pk=actor.id)}, {at:%d %b %Y} {at:%H:%M} UTC"


def both(house) -> tuple[str, str]:
    return named(house.maker, NOW), named(house.approver, LATER)


class TestAnEntryPostedByHand:
    def test_names_its_maker_beside_who_agreed(self, house):
        decide(house, house.goodwill())
        row = Correction.objects.get()

        shown = of_entry(row.posted_id)

        assert (shown["Asked by"], shown["Agreed by"]) == both(house)
        assert encode_id("cor", row.id)[-5:] in shown["Correction"]

    def test_that_undoes_another_does_too(self, house):
        decide(house, house.reverse())

        shown = of_entry(house.entries().get(reverses_id=house.gift).id)

        assert (shown["Asked by"], shown["Agreed by"]) == both(house)
        assert "Asked by" not in of_entry(house.gift)

    @pytest.mark.parametrize("side", ["sold", "bought"])
    def test_that_undoes_a_side_of_an_exchange_does_too_whichever_was_named(self, house, side):
        dollars = open_account(house.id, "wallets:ann:USD")
        fx = FxTransfer.objects.get(id=exchange(house.id, house.ann, dollars, 10_00))
        decide(house, house.reverse(entry=getattr(fx, f"{side}_entry_id")))

        for undone in (fx.sold_entry_id, fx.bought_entry_id):
            shown = of_entry(house.entries().get(reverses_id=undone).id)
            assert (shown["Asked by"], shown["Agreed by"]) == both(house)

    def test_by_other_people_is_not_mixed_up_with_it(self, house):
        decide(house, house.goodwill())
        other = House()
        decide(other, other.goodwill())

        shown = of_entry(Correction.objects.get(organization_id=other.id).posted_id)

        assert (shown["Asked by"], shown["Agreed by"]) == both(other)

    def test_is_on_a_list_of_one_as_on_a_list_of_many(self, house):
        """No column says who asked: it is not looked for, however few rows there are."""
        decide(house, house.goodwill())
        posted = house.entries().get(id=Correction.objects.get().posted_id)

        text, asked = opened(f"{LIST}?q={encode_id('je', posted.id)}")

        assert len(set(re.findall(rf'href="{LIST}(je_\w+)/"', text))) == 1
        assert not [sql for sql in asked if "backoffice_correction" in sql]


class TestACorrection:
    def test_names_both_with_their_times(self, house):
        decide(house, house.goodwill())

        shown = facts(f"/admin/backoffice/correction/{Correction.objects.get().id}/")

        assert (shown["Asked by"], shown["Agreed by"]) == both(house)

    def test_to_which_nobody_agreed_names_its_maker_alone(self, house):
        waits, denied = house.goodwill(), house.reverse(key="other")
        decide(house, denied, Verdict.DENY)
        assert waits.state == "open"

        for row in Correction.objects.all():
            shown = facts(f"/admin/backoffice/correction/{row.id}/")
            assert shown["Asked by"] == named(house.maker, NOW)
            assert shown["Agreed by"] == "\u2014"

    def test_withdrawn_says_when_it_was_closed(self, house):
        house.goodwill()
        row = Correction.objects.get()
        operations.withdraw_correction(
            organization_id=house.id, correction_id=row.id, reason="Not needed any more",
            idempotency_key="withdraw", actor=house.maker, now=LATER,
        )  # fmt: skip

        shown = facts(f"/admin/backoffice/correction/{row.id}/")

        assert (shown["Agreed by"], shown["Closed"][:11]) == ("\u2014", f"{LATER:%d %b %Y}")
