"""Acts: a form that shows, a POST that calls the one operation, and a refusal that is told."""

import re

import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.approvals.models import ApprovalRequest
from apps.banking.models import BankFile
from apps.core.models import AuditEvent
from apps.payouts.models import Payout, PayoutBatch
from apps.webhooks.models import WebhookDelivery
from tests.backoffice.house import OUR_IBAN
from tests.banking.statements import Entry, Made, camt053

REASON = "Checked against the invoice."


def url_of(row, act=None):
    url = admin.site.get_model_admin(type(row)).url_of(row)
    return f"{url}act/{act}/" if act else url


def open_form(client, url):
    """Open an act's form and return its hidden fields, as a browser would send them back."""
    text = client.get(url).content.decode()
    fields = re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', text)
    return {name: value for name, value in fields if name != "csrfmiddlewaretoken"}


def perform(client, row, act, **fields):
    url = url_of(row, act)
    return client.post(url, {**open_form(client, url), "reason": REASON, **fields})


def request_of(payout):
    payout.refresh_from_db()
    return ApprovalRequest.objects.get(pk=payout.approval_request_id)


class TestApproving:
    def test_by_a_second_person_schedules_the_payout(self, browse, house):
        payout = house.payouts["waiting"]

        answer = perform(browse("anton"), request_of(payout), "approve")

        payout.refresh_from_db()
        assert answer.status_code == 302
        assert payout.state == "scheduled"
        assert request_of(payout).state == "approved"

    def test_leaves_a_row_in_the_audit_trail_with_the_reason(self, browse, house):
        request = request_of(house.payouts["waiting"])

        perform(browse("anton"), request, "approve")

        row = AuditEvent.objects.get(subject_id=str(request.pk), act="payouts.approve_payout")
        assert (row.principal, row.reason) == (
            f"staff:{house.people['anton'].pk}",
            REASON,
        )

    def test_is_off_for_who_asked_and_says_why(self, browse, house):
        request = request_of(house.payouts["own"])

        text = browse("noor").get(url_of(request)).content.decode()

        assert "You asked for this yourself. Another person decides it." in text
        assert url_of(request, "approve") not in text

    def test_is_refused_to_who_asked_past_the_button(self, browse, house):
        request = request_of(house.payouts["own"])

        answer = perform(browse("noor"), request, "approve")

        assert answer.status_code == 403
        assert b"cannot_approve_own" in answer.content
        assert request_of(house.payouts["own"]).state == "open"

    def test_is_not_for_a_maker(self, browse, house):
        answer = browse("mara").get(url_of(request_of(house.payouts["waiting"]), "approve"))

        assert answer.status_code == 403
        assert b"payouts.approve_payout" in answer.content

    def test_a_second_time_with_the_same_form_is_the_first_outcome(self, browse, house):
        client, request = browse("anton"), request_of(house.payouts["waiting"])
        url = url_of(request, "approve")
        sent = {**open_form(client, url), "reason": REASON}

        first, second = client.post(url, sent), client.post(url, sent)

        assert (first.status_code, second.status_code) == (302, 302)
        assert len(request_of(house.payouts["waiting"]).steps) == 1

    def test_of_what_was_decided_meanwhile_is_told(self, browse, house):
        request = request_of(house.payouts["waiting"])
        url = url_of(request, "deny")
        client = browse("noor")
        sent = {**open_form(client, url), "reason": REASON}
        perform(browse("anton"), request, "approve")

        answer = client.post(url, sent)

        assert answer.status_code == 409
        assert b"approval_closed" in answer.content
        assert REASON in answer.content.decode()

    def test_denying_gives_the_money_back(self, browse, house):
        payout = house.payouts["waiting"]

        perform(browse("anton"), request_of(payout), "deny")

        payout.refresh_from_db()
        assert payout.state == "denied"


class TestTheForm:
    def test_shows_the_facts_and_changes_nothing(self, browse, house):
        payout = house.payouts["scheduled"]

        text = browse("liam").get(url_of(payout, "cancel")).content.decode()

        assert "Cancel 310.00 EUR" in text
        assert "BE•• •••• 7034" in text
        assert Payout.objects.get(pk=payout.pk).state == "scheduled"

    def test_is_off_for_others_in_plain_sight_and_says_whose_it_is(self, browse, house):
        text = browse("noor").get(url_of(house.payouts["waiting"])).content.decode()

        assert (
            "<b>Release 1,250.00 EUR</b> It belongs to: compliance, risk analyst, risk manager."
        ) in text

    @pytest.mark.parametrize("reason", ["", "no", "x" * 501])
    def test_wants_a_reason_of_5_to_500_characters(self, browse, house, reason):
        payout = house.payouts["scheduled"]

        answer = perform(browse("liam"), payout, "cancel", reason=reason)

        assert answer.status_code == 400
        assert Payout.objects.get(pk=payout.pk).state == "scheduled"

    @pytest.mark.parametrize(
        ("url", "control"),
        [
            ("/admin/banking/bankfile/act/import/", "reason"),
            ("/admin/ledger/journalentry/act/adjust/", "postings"),
        ],
    )
    def test_ties_what_is_wrong_and_the_help_to_the_control(self, browse, house, url, control):
        client = browse("mara")

        text = client.post(url, {**open_form(client, url), "reason": ""}).content.decode()

        [described] = re.findall(rf'id="id_{control}"[^>]* aria-describedby="([^"]+)"', text) or (
            re.findall(rf'aria-describedby="([^"]+)"[^>]* id="id_{control}"', text)
        )
        assert described.split() == [f"id_{control}_helptext", f"id_{control}_error"]
        assert all(text.count(f'id="{one}"') == 1 for one in described.split())
        assert text.count(f'id="id_{control}_label"') == 1

    def test_is_nothing_without_its_csrf_token(self, browse, house):
        payout = house.payouts["scheduled"]
        client = browse("liam", enforce_csrf_checks=True)

        answer = perform(client, payout, "cancel")

        assert answer.status_code == 403
        assert Payout.objects.get(pk=payout.pk).state == "scheduled"

    def test_tells_when_the_row_changed_since_it_was_opened(self, browse, house):
        payout = house.payouts["scheduled"]

        answer = perform(browse("liam"), payout, "cancel", expected_version="1")

        assert answer.status_code == 409
        assert b"changed_meanwhile" in answer.content
        assert REASON in answer.content.decode()

    def test_sent_twice_gives_the_first_outcome_though_the_row_moved(self, browse, house):
        client, payout = browse("liam"), house.payouts["scheduled"]
        url = url_of(payout, "cancel")
        sent = {**open_form(client, url), "reason": REASON}

        first, second = client.post(url, sent), client.post(url, sent)

        assert (first.status_code, second.status_code) == (302, 302)
        assert AuditEvent.objects.filter(subject_id=str(payout.pk), reason=REASON).count() == 1

    def test_after_a_refusal_carries_a_fresh_token(self, browse, house):
        client, url = browse("liam"), url_of(house.payouts["canceled"], "cancel")
        sent = {**open_form(client, url), "reason": REASON}

        text = client.post(url, sent).content.decode()

        fresh = re.search(r'name="form_token" value="([^"]+)"', text)[1]
        assert "not_cancelable" in text
        assert fresh != sent["form_token"]

    def test_escapes_what_people_type(self, browse, house):
        text = "<script>alert(1)</script> because"
        payout = house.payouts["scheduled"]
        perform(browse("liam"), payout, "cancel", reason=text)

        shown = browse("liam").get(url_of(payout)).content.decode()

        assert "<script>alert(1)</script>" not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt; because" in shown


class TestPayouts:
    def test_canceling_frees_the_money(self, browse, house):
        payout = house.payouts["scheduled"]

        answer = perform(browse("liam"), payout, "cancel")

        assert answer.status_code == 302
        assert Payout.objects.get(pk=payout.pk).state == "canceled"

    def test_at_the_bank_says_why_it_cannot_be_canceled(self, browse, house):
        text = browse("liam").get(url_of(house.payouts["sent"])).content.decode()

        assert "It was frozen into a batch; from then on the bank may have it." in text

    def test_of_a_day_are_frozen_released_and_written_by_hand(self, browse, house):
        client = browse("noor")
        url = "/admin/payouts/payoutbatch/act/freeze/"
        text = client.get(url).content.decode()
        value = re.search(r'<option value="([^"]+)"', text)[1]
        client.post(url, {**open_form(client, url), "batch": value, "reason": REASON})
        batch = PayoutBatch.objects.latest("id")

        states = []
        for act in ("release", "export", "sent"):
            perform(client, batch, act)
            batch.refresh_from_db()
            states.append(batch.state)

        assert states == ["released", "exported", "submitted"]


class TestTheRest:
    def test_freezes_a_customer_at_once(self, browse, house):
        customer = house.customers[2]

        perform(browse("sofia"), customer, "freeze")

        customer.refresh_from_db()
        assert customer.state == "frozen"

    def test_revokes_a_key(self, browse, house):
        from apps.accounts.models import ApiKey  # noqa: PLC0415  (needed here only)

        key = ApiKey.objects.get()

        perform(browse("sofia"), key, "revoke")

        key.refresh_from_db()
        assert key.revoked_at is not None

    def test_replays_a_delivery(self, browse, house):
        delivery = WebhookDelivery.objects.filter(status="succeeded").first()

        perform(browse("sofia"), delivery, "replay")

        delivery.refresh_from_db()
        assert delivery.status == "pending"

    def test_imports_a_statement_and_tells_a_refusal_by_its_reason(self, browse, house):
        client, url = browse("mara"), "/admin/banking/bankfile/act/import/"
        wrong = Made(
            entries=(Entry(amount=10_00),),
            opening=house.closing,
            closing=house.closing,
            iban=OUR_IBAN,
            statement_id="odd",
            sequence="99",
        )
        file = SimpleUploadedFile("odd.xml", camt053(wrong, message_id="ODD"))

        answer = client.post(
            url,
            {
                **open_form(client, url),
                "bank_account": str(house.bank_account.pk),
                "file": file,
                "reason": REASON,
            },
            follow=True,
        )

        [told] = answer.context["messages"]
        assert (told.level_tag, str(told)[:29]) == ("error", "Refused, nothing was imported")
        assert f"{house.bank_account}, Demo Markets</option>" in client.get(url).content.decode()
        assert "1 booked line of 10.00 EUR" in str(told)
        refused = BankFile.objects.get(name="odd.xml")
        assert refused.state == "refused"
        # The reason above, and what is wrong with its place, in the table of all that is.
        page = client.get(url_of(refused)).content.decode()
        assert page.count("The closing balance is off by 10.00 EUR") == 2
        assert '<td class="k-start">statement odd, line' in page
