"""What people do all day, done in a browser."""

import csv
import re
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import expect

from apps.backoffice.models import Correction
from apps.core import clock
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.payouts.models import Payout
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from apps.webhooks.rules.retries import Outcome
from tests.backoffice.house import PASSWORD
from tests.browser.desk import Desk

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_person_signs_in_sees_money_at_a_glance_and_signs_out(sit_down):
    desk = sit_down()
    desk.go("/admin/").shoot("sign-in")
    desk.sign_in("noor")

    expect(desk.page.get_by_role("heading", name="Hello, Noor")).to_be_visible()
    expect(desk.page.locator(".k-tile").first).to_contain_text("Waiting for me")
    drawn = desk.page.evaluate(
        "Object.values(Chart.instances).map((chart) => chart.data.datasets[0].data.length)"
    )
    assert max(drawn) == 30
    desk.page.get_by_text("The same as numbers").click()
    expect(desk.page.get_by_role("region", name="Money in and out per day")).to_be_visible()
    desk.shoot("home")

    desk.page.locator(".k-person").click()
    desk.page.get_by_role("button", name="Sign out").click()
    desk.page.wait_for_url("**/admin/login/**")


def test_a_wrong_password_says_one_thing_whoever_it_is(sit_down):
    desk = sit_down()
    texts = []
    for email in ("noor@kassa.test", "nobody@kassa.test"):
        desk.go("/admin/login/")
        desk.page.get_by_label("E-mail").fill(email)
        desk.page.get_by_label("Password").fill("not the right passphrase")
        desk.page.get_by_role("button", name="Sign in").click()
        texts.append(desk.page.get_by_role("alert").inner_text())

    assert texts[0] == texts[1]


def test_two_people_pay_out_what_one_asked_for(sit_down, house):
    asker, decider = sit_down("noor"), sit_down("anton")

    # Who asked finds the request greyed, with the reason, and no link to its form.
    asker.page.get_by_role("link", name="Approvals", exact=True).click()
    own = asker.page.get_by_role("row").filter(has_text="1,790.00")
    expect(own).to_contain_text("your own: another decides")
    own.get_by_role("link").click()
    button = asker.page.locator(".k-button", has_text="Approve: pay out 1,790.00 EUR")
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(asker.page.get_by_text("You asked for this yourself.")).to_be_visible()
    asker.shoot("approval-of-my-own")

    # The second person reads what it is about, gives a reason, and decides.
    decider.page.locator(".k-tile", has_text="Waiting for me").click()
    decider.page.get_by_role("link", name="Pay out 1,790.00 EUR").click()
    expect(decider.page.get_by_text("As it was when it was asked for.")).to_be_visible()
    decider.shoot("approval")
    decider.page.get_by_role("link", name="Approve: pay out 1,790.00 EUR").click()
    decider.page.get_by_role("button", name="Known customer, usual amount.").click()
    decider.shoot("approval-form")
    decider.page.get_by_role("button", name="Approve: pay out 1,790.00 EUR").click()

    expect(decider.page.get_by_text("It is approved now.")).to_be_visible()
    assert Payout.objects.get(pk=house.payouts["own"].pk).state == "scheduled"


def test_two_people_correct_the_books_and_see_first_what_it_does(sit_down, house):
    asker, decider = sit_down("mara"), sit_down("anton")
    theirs = f"customers:{encode_id('cus', house.customers[1].id)}:available:EUR"

    # Who asks writes two postings, and is shown what stands after them before anything is asked.
    asker.go("/admin/ledger/journalentry/")
    asker.page.get_by_role("link", name="Adjust the books").click()
    for row, (account, side) in enumerate((("fees:payouts:EUR", "Debit"), (theirs, "Credit")), 1):
        asker.page.get_by_label(f"Account, posting {row}").fill(account)
        asker.page.get_by_label(f"{side}, posting {row}").fill("12.50")
    asker.page.get_by_label("Description").fill("Fee given back")
    asker.page.get_by_label("Reason").fill("The payout came two days late.")
    asker.page.get_by_role("button", name="Preview").click()
    preview = asker.page.get_by_role("region", name="What would be posted")
    expect(preview).to_contain_text("\u221212.50")
    assert not Correction.objects.filter(description="Fee given back").exists()
    asker.shoot("adjust-preview")
    asker.page.get_by_role("button", name="Adjust the books").click()
    expect(asker.page.get_by_text("Asked; the request is open")).to_be_visible()

    decider.go("/admin/approvals/approvalrequest/")
    decider.page.get_by_role("link", name="Adjust the books by 12.50 EUR").click()
    expect(decider.page.get_by_text("debit 12.50 EUR on fees:payouts:EUR")).to_be_visible()
    decider.page.get_by_role("link", name=re.compile("^Approve")).click()
    decider.page.get_by_label("Reason").fill("Looked at the payout.")
    decider.page.get_by_role("button", name=re.compile("^Approve")).click()

    expect(decider.page.get_by_text("It is approved now.")).to_be_visible()
    correction = Correction.objects.get(description="Fee given back")
    assert (correction.state, correction.posted_id is not None) == ("posted", True)
    decider.go("/admin/ledger/journalentry/?kind=adjustment")
    expect(decider.page.locator("#result_list tbody tr")).to_have_count(1)
    decider.shoot("journal-found")


def test_a_statement_is_taken_out_as_a_file(sit_down, house):
    desk = sit_down("ada")
    desk.go(
        f"/admin/ledger/ledgeraccount/?code=customers:{encode_id('cus', house.customers[0].id)}"
    )
    desk.page.locator("#result_list tbody tr a").first.click()
    desk.page.get_by_role("link", name="Export", exact=True).click()
    desk.page.get_by_role("button", name="For the auditors.").click()
    desk.takes_files = True
    with desk.page.expect_download() as taken:
        desk.page.get_by_role("button", name="Export the statement").click()

    lines = list(csv.reader(Path(taken.value.path()).read_text().splitlines()))
    assert taken.value.suggested_filename.startswith("statement-la_")
    assert lines[-1] == ["rows", str(len(lines) - 6)]
    assert AuditEvent.objects.filter(act="core.export").count() == 2


def test_a_refused_act_keeps_what_was_typed(sit_down, house):
    first, second = sit_down("anton"), sit_down("noor")
    for desk in (first, second):
        desk.go("/admin/approvals/approvalrequest/")
        desk.page.get_by_role("link", name="Pay out 1,250.00 EUR").click()
        desk.page.get_by_role("link", name=re.compile("^Deny")).click()
        desk.page.get_by_label("Reason").fill("Amount and invoice differ.")
    first.page.get_by_role("button", name=re.compile("^Deny")).click()
    first.page.wait_for_url("**/approvalrequest/apr_*/")
    second.expected.add(409)
    second.page.get_by_role("button", name=re.compile("^Deny")).click()

    expect(second.page.get_by_role("alert")).to_contain_text("approval_closed")
    expect(second.page.get_by_label("Reason")).to_have_value("Amount and invoice differ.")
    second.shoot("refused")


@pytest.mark.parametrize("signs_in_elsewhere", [False, True])
def test_a_session_that_ends_before_a_form_is_sent_leaves_what_was_typed(
    sit_down, house, signs_in_elsewhere
):
    url = f"/admin/payouts/payout/{encode_id('po', house.payouts['scheduled'].id)}/act/cancel/"
    desk = sit_down("liam").go(url)
    page = desk.page
    page.get_by_label("Reason").fill("The customer asked for it by phone.")
    token = page.locator("[name=form_token]")
    first_token = token.input_value()
    page.context.clear_cookies(name=settings.SESSION_COOKIE_NAME)
    if signs_in_elsewhere:
        Desk(page.context.new_page(), desk.base).sign_in("liam")
        desk.expected.add(403)

    page.get_by_role("button", name=re.compile("^Cancel")).click()
    if signs_in_elsewhere:
        expect(page.get_by_text("Nothing was done.")).to_be_visible()
        page.get_by_role("link", name="Open the form again").click()
    else:
        page.get_by_label("E-mail").fill("liam@kassa.test")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_text("It may not have arrived: look it over")).to_be_visible()
    expect(page.get_by_label("Reason")).to_have_value("The customer asked for it by phone.")
    # Where only the answer was lost, it is the same act that is sent again.
    assert token.input_value() == first_token
    assert Payout.objects.get(pk=house.payouts["scheduled"].pk).state == "scheduled"
    # What has arrived is not typed a second time.
    page.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.get_by_text("310.00 EUR is available to the customer again.")).to_be_visible()
    desk.go(url)
    expect(page.get_by_label("Reason")).to_have_value("")


def test_an_act_is_sent_once_and_its_form_says_that_it_is_on_its_way(sit_down, house):
    url = f"/admin/payouts/payout/{encode_id('po', house.payouts['scheduled'].id)}/act/cancel/"
    desk = sit_down("liam").go(url)
    sent = []
    desk.page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    desk.page.get_by_role("button", name="The customer asked for it.").click()

    # Both clicks in one breath, before the browser can leave the page.
    busy = desk.page.evaluate(
        """() => {
            const form = document.getElementById("act-form");
            form.querySelector("[type=submit]").click();
            form.querySelector("[type=submit]").click();
            return form.getAttribute("aria-busy");
        }"""
    )

    expect(desk.page.get_by_text("310.00 EUR is available to the customer again.")).to_be_visible()
    assert (busy, len(sent)) == ("true", 1)
    desk.page.go_back()
    expect(desk.page.get_by_text("there is nothing left to stop")).to_be_visible()
    expect(desk.page.locator("#act-form")).not_to_have_attribute("aria-busy", "true")


def test_an_import_that_is_refused_is_told_as_such(sit_down, tmp_path):
    file = tmp_path / "letter.xml"
    file.write_text("Dear Sir or Madam")
    desk = sit_down("mara").go("/admin/banking/bankfile/")
    desk.page.get_by_role("link", name="Import a statement").click()
    desk.page.get_by_label("Bank account").select_option(index=1)
    desk.page.get_by_label("File").set_input_files(file)
    desk.page.get_by_role("button", name="Downloaded from the bank's portal.").click()
    desk.page.get_by_role("button", name="Import a statement").click()

    told = desk.page.get_by_text("Refused, nothing was imported: letter.xml")
    expect(told).to_have_class(re.compile("red"))
    desk.shoot("import-refused")


def test_the_books_are_read_and_never_edited(sit_down):
    desk = sit_down("ada").go("/admin/ledger/ledgeraccount/?code=bank:")

    desk.page.get_by_role("link", name=re.compile("^bank:")).click()
    expect(desk.page.get_by_role("heading", name="Statement")).to_be_visible()
    desk.shoot("ledger-account")
    desk.page.locator(".k-table .k-id a").first.click()
    expect(desk.page.get_by_text("Debits equal credits")).to_be_visible()
    assert desk.page.locator("main form[method=post], #content form[method=post]").count() == 0
    assert desk.page.locator(".k-acts").count() == 0
    desk.shoot("journal-entry")

    desk.go("/admin/trial-balance/")
    expect(desk.page.get_by_text("Debits equal credits: the difference is zero")).to_be_visible()
    desk.shoot("trial-balance")


def test_what_is_held_is_followed_from_its_list_to_what_holds_it(sit_down):
    desk = sit_down("noor").go("/admin/ledger/hold/")

    desk.shoot("holds")
    desk.page.locator("#result_list .k-id a[href*='/hold/']").first.click()
    expect(desk.page.get_by_role("heading", name=re.compile("^Hold ho_"))).to_be_visible()
    expect(desk.page.get_by_role("region", name="Timeline")).to_contain_text("placed")
    desk.shoot("hold")
    desk.page.set_viewport_size({"width": 360, "height": 740})
    wide = desk.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0
    desk.page.set_viewport_size({"width": 1440, "height": 900})
    desk.page.locator("a.k-path", has_text="available").click()
    expect(desk.page.get_by_role("heading", name="Held")).to_be_visible()
    desk.page.get_by_role("link", name="Holds", exact=True).last.click()
    expect(desk.page.get_by_label("Status")).to_have_value("all")
    expect(desk.page.get_by_label("On money of")).to_have_value(re.compile("^la_"))


def test_a_call_about_a_customer_is_answered_from_one_page(sit_down):
    desk = sit_down("sofia")
    desk.page.keyboard.press("/")
    desk.page.keyboard.type("merchant-1003")
    desk.page.keyboard.press("Enter")

    expect(desk.page.get_by_role("heading", name="Customer merchant-1003")).to_be_visible()
    for title in ("Balances", "Payouts", "Payments in", "Destinations"):
        expect(desk.page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(desk.page.get_by_text("Nordwind")).to_have_count(0)
    desk.shoot("customer")


def test_the_search_opens_by_keyboard_where_the_menu_is_shut(sit_down):
    desk = sit_down("sofia", viewport={"width": 1024, "height": 768})
    find = desk.page.get_by_label("Find by id or reference")
    expect(find).to_be_hidden()

    desk.page.keyboard.press("Control+k")
    expect(find).to_be_focused()
    desk.page.keyboard.type("merchant-1003")
    desk.page.keyboard.press("Enter")

    expect(desk.page.get_by_role("heading", name="Customer merchant-1003")).to_be_visible()


def test_a_contact_is_told_of_one_thing_more(sit_down, house):
    desk = sit_down("liam").go("/admin/accounts/contact/")
    desk.page.locator("#result_list .k-id a").first.click()
    desk.page.get_by_role("link", name="Change this contact").click()
    asked = desk.page.get_by_role("group", name="Is told about")
    expect(asked.get_by_label("Technical")).to_be_checked()

    asked.get_by_label("Finance").check()
    desk.page.get_by_role("button", name="The client asked for it.").click()
    desk.shoot("contact-form")
    desk.page.get_by_role("button", name="Change this contact").click()

    for purpose in ("finance", "security", "technical"):
        expect(desk.page.locator(".k-facts .k-word", has_text=purpose)).to_be_visible()


def test_lists_are_walked_by_keyboard(sit_down):
    desk = sit_down("noor").go("/admin/payouts/payout/")
    for key in ("j", "j", "k", "j"):
        desk.page.keyboard.press(key)

    marked = desk.page.locator(".k-rows tr.k-at")
    expect(marked).to_have_count(1)
    href = marked.locator("a").first.get_attribute("href")
    desk.page.keyboard.press("Enter")
    desk.page.wait_for_url(f"**{href}")
    desk.page.keyboard.press("?")
    expect(desk.page.get_by_role("dialog", name="Keyboard")).to_be_visible()


def test_a_client_is_sent_what_they_missed(sit_down):
    desk = sit_down("sofia").go("/admin/webhooks/webhookdelivery/?status=succeeded")
    desk.page.locator(".k-table .k-id a").first.click()
    expect(desk.page.get_by_role("heading", name="Attempts")).to_be_visible()
    desk.shoot("delivery")
    desk.page.get_by_role("link", name="Send it again").click()
    desk.page.get_by_role("button", name="Their server was down.").click()
    desk.page.get_by_role("button", name="Send it again").click()

    expect(
        desk.page.get_by_text("It is owed again, with a new budget of attempts.")
    ).to_be_visible()


def test_an_endpoint_is_paused_and_enabled_with_what_was_owed_meanwhile(sit_down, house):
    endpoint = WebhookEndpoint.objects.get(description="Old accounting")
    owed = WebhookDelivery.objects.filter(endpoint=endpoint, status="pending").count()
    desk = sit_down("liam").go("/admin/webhooks/webhookendpoint/")
    desk.page.get_by_role("link", name="legacy.demo-markets.example").click()
    desk.page.get_by_role("link", name="Pause this endpoint").click()
    desk.page.get_by_role("button", name="Its server is being moved.").click()
    desk.page.get_by_role("button", name="Pause this endpoint").click()
    expect(desk.page.get_by_text("Paused. What is owed to it waits.")).to_be_visible()

    desk.page.get_by_role("link", name="Enable this endpoint").click()
    desk.page.get_by_label("What is paused").select_option("resume_since")
    desk.page.get_by_label("Since").fill("2026-01-01T12:00")
    desk.page.get_by_role("button", name="Its server answers again.").click()
    desk.shoot("endpoint-enable")
    desk.page.get_by_role("button", name="Enable this endpoint").click()

    expect(desk.page.get_by_text("Enabled, with a clean record.")).to_be_visible()
    desk.shoot("endpoint")
    again = WebhookDelivery.objects.filter(endpoint=endpoint, status="pending")
    assert again.count() == owed


def test_an_answer_is_read_and_never_run(sit_down, house):
    delivery = WebhookDelivery.objects.filter(status="pending").first()
    WebhookAttempt.objects.create(
        id=new_id(),
        organization_id=delivery.organization_id,
        delivery=delivery,
        endpoint_id=delivery.endpoint_id,
        number=99,
        started_at=clock.now(),
        duration_ms=12,
        outcome=Outcome.SERVER_ERROR,
        status_code=500,
        answer_head="<script>document.title = 'run'</script><img src=x onerror=alert(1)>",
    )

    desk = sit_down("rosa").go(f"/admin/webhooks/webhookdelivery/{encode_id('whd', delivery.id)}/")

    expect(desk.page.get_by_text("<script>document.title = 'run'</script>")).to_be_visible()
    assert desk.page.title() != "run"
    assert desk.page.locator(".k-table script, .k-table img").count() == 0


EVERY_SCREEN = (
    "",
    "approvals/approvalrequest/",
    "payments/unmatchedmoney/",
    "reconciliation/break/",
    "accounts/customer/",
    "payments/payment/",
    "payouts/payout/",
    "payouts/payoutbatch/",
    "payouts/destination/",
    "banking/bankaccount/",
    "banking/bankstatement/",
    "banking/bankline/",
    "banking/bankfile/",
    "banking/bankfile/act/import/",
    "ledger/ledgeraccount/",
    "ledger/journalentry/",
    "ledger/hold/",
    "backoffice/correction/",
    "trial-balance/",
    "ledger/period/",
    "ledger/balancemonitor/",
    "ledger/chainhead/",
    "accounts/organization/",
    "accounts/contact/",
    "accounts/apikey/",
    "webhooks/webhookendpoint/",
    "webhooks/webhookdelivery/",
    "webhooks/inboundevent/",
    "webhooks/providerconnection/",
    "core/outboxevent/",
    "core/jobrun/",
    "stuck-work/",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen_stands_in_light_and_dark_and_on_a_small_one(sit_down, scheme):
    desk = sit_down("noor", color_scheme=scheme)
    for path in EVERY_SCREEN:
        desk.go(f"/admin/{path}")
        name = path.strip("/").replace("/", "-") or "home"
        desk.shoot(f"{scheme}-{name}")
    if scheme == "light":
        desk.page.set_viewport_size({"width": 360, "height": 740})
        for path in ("", "payouts/payout/", "approvals/approvalrequest/", "ledger/hold/"):
            desk.go(f"/admin/{path}")
            wide = desk.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, path
            desk.shoot(f"small-{path.strip('/').replace('/', '-') or 'home'}")
