"""Reading is reading: nothing is written on GET, nothing leaks, and the queries are few."""

import re

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts import queries as accounts
from apps.accounts.models import Customer
from apps.core.ids import encode_id
from tests.backoffice.house import CONTACT_EMAIL, CONTACT_NAME, IBANS, OUR_IBAN
from tests.backoffice.screens import WRITES, pages

# Queries a page may make, the session, the person and their roles among them.
BUDGETS = {
    "home": 14,
    "trial_balance": 10,
    "stuck_work": 11,
    "list": 11,
    "row": 15,
    "act": 14,
}
BUDGET_OF_BOOKS = 10


class TestEveryPage:
    """Each page is drawn once per person, and all that must hold of it is looked at."""

    @pytest.mark.parametrize("login", ["noor", "cora"])
    def test_writes_nothing_leaks_nothing_and_asks_little(self, browse, house, login):
        client = browse(login)
        secrets = clear_texts(house)
        wrong = []

        for page in pages():
            with CaptureQueriesContext(connection) as queries:
                text = client.get(page.url).content.decode()
            wrong += [(page.name, one["sql"]) for one in queries if WRITES.search(one["sql"])]
            wrong += [(page.name, secret) for secret in secrets if secret in text]
            kind = page.name if page.name in BUDGETS else page.name.split()[1]
            is_of_books = page.name.startswith("ledger.") and kind != "act"
            if len(queries) > (BUDGET_OF_BOOKS if is_of_books else BUDGETS[kind]):
                wrong.append((page.name, len(queries)))

        assert wrong == []

    def test_masks_an_account_number_by_which_a_client_calls_its_customer(self, browse, house):
        customer = house.customers[0]
        Customer.objects.filter(id=customer.id).update(external_id="DE89370400440532013000")
        client = browse("noor")
        lists = ("accounts_customer", "payments_payment", "payouts_payout", "payouts_destination")
        urls = [reverse(f"admin:{label}_changelist") for label in lists]
        printed = encode_id("cus", customer.id)

        for url in (*urls, reverse("admin:accounts_customer_change", args=[printed])):
            text = client.get(url).content.decode()
            assert "DE•• •••• 3000" in text, url
            assert "0440532" not in text, url

    def test_of_the_search_answers_no_get(self, browse):
        assert browse("noor").get("/admin/find/?text=po_1").status_code == 405


class TestWhatIsLookedFor:
    @pytest.mark.parametrize("login", ["noor", "sofia", "bo"])
    def test_is_in_clear_on_no_answer(self, browse, house, login):
        client = browse(login)

        for secret in clear_texts(house)[:4]:
            found = client.post("/admin/find/", {"text": secret}, follow=True)
            listed = client.get("/admin/payouts/payout/", {"q": secret})
            for answer in (found, listed):
                text = answer.content.decode().replace(f'value="{secret}"', "")
                assert secret not in text


def clear_texts(house):
    """Return what must stand in clear on no page."""
    customer = house.customers[0]
    numbers = [OUR_IBAN, "FI2112345600000785", *IBANS]
    return [
        accounts.unseal_email(customer),
        accounts.unseal_name(customer),
        *numbers,
        CONTACT_NAME,
        CONTACT_EMAIL,
        *(f"{one[:4]} {one[4:8]} {one[8:12]}" for one in numbers),
    ]


class TestQueries:
    def test_are_as_many_for_a_full_page_as_for_a_short_one(self, browse, house):
        client = browse("noor")

        for label in ("payouts_payout", "ledger_journalentry", "banking_bankline"):
            url = reverse(f"admin:{label}_changelist")
            full, short = self.count(client, url), self.count(client, f"{url}?since=1")
            assert abs(full - short) <= 1, label

    @staticmethod
    def count(client, url):
        with CaptureQueriesContext(connection) as queries:
            client.get(url)
        return len(queries)


class TestFinding:
    def test_opens_the_row_of_a_printed_id(self, browse, house):
        payout = house.payouts["waiting"]
        printed = admin.site._registry[type(payout)].key_of(payout)

        answer = browse("noor").post("/admin/find/", {"text": f" {printed} "})

        assert answer.status_code == 302
        assert answer["Location"] == f"/admin/payouts/payout/{printed}/"

    def test_opens_the_customer_of_an_email_that_no_page_shows(self, browse, house):
        customer = house.customers[0]

        answer = browse("sofia").post(
            "/admin/find/", {"text": accounts.unseal_email(customer).upper()}
        )

        assert answer.status_code == 302
        assert "/admin/accounts/customer/cus_" in answer["Location"]

    def test_opens_the_customer_of_the_clients_own_id(self, browse, house):
        answer = browse("rosa").post("/admin/find/", {"text": "merchant-1001"})

        assert "/admin/accounts/customer/cus_" in answer["Location"]

    def test_says_so_when_there_is_nothing(self, browse):
        answer = browse("noor").post("/admin/find/", {"text": "no such thing"})

        assert b"No row that you may see" in answer.content


class TestStrangeAddresses:
    @pytest.mark.parametrize(
        "query",
        [
            "q=a%00b",
            "q=%F0%9F%92%B6",
            "code=%00",
            "currency=%00EUR",
            "after=%00",
            "after=WyJcdTAwMDAiXQ",
            "before=99999999999999999999",
            "bank_account_id=nonsense",
            "statement_id=%00",
            "endpoint_id=1",
            "organization=x",
            "since=x",
            "state=x",
            "count=1",
            "before_posting=99999999999999999999999999",
        ],
    )
    def test_are_answered_with_a_page(self, browse, query):
        client = browse("noor")

        for label in ("payouts/payout", "ledger/ledgeraccount", "banking/bankline"):
            assert client.get(f"/admin/{label}/?{query}").status_code == 200

    def test_of_a_statement_far_away_show_its_beginning(self, browse, house):
        from apps.ledger.models import LedgerAccount  # noqa: PLC0415  (a test may look)

        account = LedgerAccount.objects.filter(code__startswith="bank:").first()
        url = f"/admin/ledger/ledgeraccount/{account.pk}/?before_posting="

        for number in ("1", "0", "99999999999999999999999999", "-1", "x"):
            assert browse("noor").get(f"{url}{number}").status_code == 200

    def test_posted_to_the_search_are_answered(self, browse):
        for text in ("", "\x00", "po_", "a" * 5000, "%", "' OR 1=1 --"):
            assert browse("noor").post("/admin/find/", {"text": text}).status_code == 200


class TestHome:
    def test_shows_the_same_numbers_as_chart_and_as_table(self, browse, house):
        text = browse("noor").get("/admin/").content.decode()

        assert "data-chart=" in text
        assert "The same as numbers" in text
        assert "Money in and out" in text

    def test_counts_what_waits_for_me_and_not_my_own(self, browse):
        own_is_left_out = browse("noor").get("/admin/").content.decode()
        all_four = browse("anton").get("/admin/").content.decode()

        assert re.search(r"Waiting for me</span><b>3</b>", own_is_left_out)
        assert re.search(r"Waiting for me</span><b>4</b>", all_four)

    def test_leads_to_the_lists_of_the_organization_that_is_chosen(self, browse, house):
        client, chosen = browse("noor"), f"organization={house.id}"

        text = client.get(f"/admin/?{chosen}").content.decode()

        tiles = re.findall(r'<a href="([^"]+)" class="k-tile', text)
        assert len(tiles) > 5
        assert [url for url in tiles if not url.endswith(chosen)] == []
        assert "organization=" not in client.get("/admin/").content.decode()

    def test_shows_an_admin_of_staff_no_money(self, browse):
        text = browse("bo").get("/admin/").content.decode()

        assert "Money in and out" not in text
        assert "EUR" not in text

    def test_stands_when_one_tile_fails(self, browse, monkeypatch):
        from django.db import DatabaseError  # noqa: PLC0415  (this test's own fault)

        from apps.backoffice.queries import _tiles  # noqa: PLC0415

        def fails(_glance):
            raise DatabaseError

        tiles = [(t, c, fails if t == "Held payouts" else made) for t, c, made in _tiles._TILES]
        monkeypatch.setattr(_tiles, "_TILES", tiles)

        answer = browse("noor").get("/admin/")

        assert answer.status_code == 200
        assert b"Not to be had now" in answer.content
