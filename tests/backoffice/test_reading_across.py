"""What leads from one screen to the next, and how a page says what it is about."""

from django.urls import reverse

from apps.core.models import AuditEvent
from apps.payouts.models import PayoutBatch
from tests.backoffice.test_acts import url_of


class TestACustomersPage:
    def test_leads_to_the_payouts_that_hold_money(self, browse, house):
        payout = house.payouts["waiting"]

        text = browse("sofia").get(url_of(payout.customer)).content.decode()

        held = text.split("<h2>Held</h2>", maxsplit=1)[1].split("</table>", maxsplit=1)[0]
        assert f'href="{url_of(payout)}"' in held

    def test_leads_to_the_books_where_one_may_see_them(self, browse, house):
        url, books = url_of(house.customers[0]), reverse("admin:ledger_ledgeraccount_changelist")

        assert f'href="{books}la_' in browse("noor").get(url).content.decode()
        text = browse("sofia").get(url).content.decode()
        assert "customers:available:EUR" in text
        assert books not in text


class TestTheAuditTrail:
    def test_leads_to_what_an_act_was_done_to(self, browse, house):
        act = AuditEvent.objects.get(act="payouts.cancel_payout")

        text = browse("ada").get(f"/admin/core/auditevent/?act={act.act}").content.decode()

        url = reverse("admin:payouts_payout_change", args=[act.subject_id])
        assert f'href="{url}"' in text
        assert browse("ada").get(url).status_code == 200

    def test_shows_what_has_no_screen_without_a_link(self, browse, house):
        act = AuditEvent.objects.filter(act="banking.add_bank_connection").get()

        text = browse("ada").get(f"/admin/core/auditevent/?act={act.act}").content.decode()

        assert f'<span title="{act.subject_id}">' in text


class TestTheTimeline:
    def test_names_the_states_that_an_event_does_not(self, browse, house):
        batch = PayoutBatch.objects.get(state="submitted")

        text = browse("noor").get(url_of(batch)).content.decode()

        assert "<b>moved: submitted</b>" in text
        assert "by job demo" in text
