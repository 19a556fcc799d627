"""The screens of the books: the tree and the list of accounts, and an account's own page."""

import re
from html import unescape

import pytest
from django.utils.html import strip_tags

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import decode_id, encode_id, new_id
from apps.core.wall_clock import day_of
from apps.ledger import operations, queries
from apps.ledger.operations import AccountChange, HoldRequest
from apps.ledger.queries import _tree
from apps.ledger.rules import AccountStatus, CaptureHold, PlaceHold
from tests.backoffice.books import DAY, QUERIES_MAX, House
from tests.ledger.factories import committed, move, open_account, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


class TestTheTreeOfAccounts:
    def test_opens_with_its_first_level(self, house):
        text = house.page("ledger/ledgeraccount/")

        assert "customers" in text
        assert "95.00" in text
        assert "ann" not in text
        assert house.asked < QUERIES_MAX

    def test_opens_one_level_at_a_time(self, house):
        text = house.page("ledger/ledgeraccount/", under="customers")
        assert "ann" in text
        assert ":available" not in text

        text = house.page("ledger/ledgeraccount/", under="customers:bob:available")
        assert "USD" in text
        assert encode_id("la", house.dollars) in text
        assert house.asked < QUERIES_MAX

    def test_is_a_list_as_soon_as_something_is_looked_for(self, house):
        text = house.page("ledger/ledgeraccount/", code="customers:ann")

        assert encode_id("la", house.ann) in text
        assert encode_id("la", house.bob) not in text

    @pytest.mark.parametrize("query", [{"under": "a\x00b"}, {"from": "\x00"}, {"under": "::::"}])
    def test_of_a_branch_that_is_none_is_the_first_level(self, house, query):
        first = house.rows(house.page("ledger/ledgeraccount/"))

        shown = house.rows(house.page("ledger/ledgeraccount/", **query))

        assert shown == first
        assert [row[:5] for row in first] == [
            ["▸ bank", "asset", "1", "100.00 EUR", ""],
            ["▸ customers", "liability", "3", "", "95.00 EUR"],
            ["▸ fees", "income", "1", "", "5.00 EUR"],
            ["Sum", "", "", "100.00 EUR 0.00 USD", "100.00 EUR 0.00 USD"],
        ]

    def test_adds_up_all_first_branches_or_none(self, house, monkeypatch):
        """Some of them together are no sum of the books, whichever they are."""
        monkeypatch.setattr(_tree, "SEGMENTS_MAX", 2)

        for query, shown in (
            ({}, ["▸ bank", "▸ customers"]),
            ({"from": "customers"}, ["▸ fees"]),
            ({"under": "fees"}, ["▾ fees"]),
        ):
            first = [row[0] for row in house.rows(house.page("ledger/ledgeraccount/", **query))]
            assert first[: len(shown)] == shown
            assert "Sum" not in first

        monkeypatch.undo()
        for query in ({}, {"under": "customers"}, {"under": "customers", "from": "ann"}):
            page = house.page("ledger/ledgeraccount/", **query)
            assert house.rows(page)[-1][3] == "100.00 EUR 0.00 USD"

    def test_shows_what_is_pending_and_available_beside_what_is_posted(self, house):
        hold = HoldRequest(
            debit_account_id=house.ann, credit_account_id=house.bob, amount_minor=20_00,
            currency="EUR",
        )  # fmt: skip
        operations.place_hold(
            organization_id=house.id, hold=hold, idempotency_key="hold",
            actor=Actor.job("tests"), now=clock.now(),
        )  # fmt: skip
        levels = queries.list_levels(organization_id=house.id, now=clock.now(), path="customers")

        whole, (ann, bob) = levels[""].branches[1], levels["customers"].branches
        assert (whole.sums["EUR"], whole.sums["USD"]) == (-95_00, 0)
        assert (whole.pending_out["EUR"], whole.pending_in["EUR"]) == (20_00, 20_00)
        assert whole.available == {"EUR": 75_00, "USD": 0}
        assert (ann.available["EUR"], ann.pending_out["EUR"]) == (45_00, 20_00)
        assert (bob.available["EUR"], bob.pending_in["EUR"]) == (30_00, 20_00)
        text = house.page("ledger/ledgeraccount/")
        assert ">75.00&nbsp;" in text
        assert ">20.00&nbsp;" in text

    def test_adds_up_nothing_over_accounts_of_both_sides(self, house):
        for code, type_ in (("mixed:a:EUR", "asset"), ("mixed:l:EUR", "liability")):
            open_account(house.id, code, type_=type_, floor=None)

        text = house.page("ledger/ledgeraccount/")

        row = next(row for row in text.split("<tr>") if "?under=mixed" in row)
        assert row.count('class="k-none"') >= 3


class TestTheListOfAccounts:
    @staticmethod
    def codes(house, **query):
        text = house.page("ledger/ledgeraccount/", **query)
        found = re.findall(r"/admin/ledger/ledgeraccount/(la_\w+)/", text)
        rows = {
            encode_id("la", row.id): row.code for row in queries.accounts(organization_id=house.id)
        }
        return {rows[id_] for id_ in found if id_ in rows}

    def test_is_narrowed_by_status(self, house):
        assert self.codes(house, status="frozen") == set()
        committed(operations.change_account)(
            organization_id=house.id, account_id=house.bob,
            change=AccountChange(status=AccountStatus.FROZEN, reason="Asked for"),
            actor=Actor.job("tests"), now=clock.now(),
        )  # fmt: skip

        assert self.codes(house, status="frozen") == {"customers:bob:available:EUR"}
        assert "customers:bob:available:EUR" not in self.codes(house, status="open")

    def test_is_narrowed_to_what_stands_at_its_floor(self, house):
        full = open_account(house.id, "wallets:full:EUR", floor=0)
        open_account(house.id, "wallets:empty:EUR", floor=0)
        credit = open_account(house.id, "wallets:credit:EUR", floor=-10_00)
        post(house.id, move(house.bank, full, 10_00), move(credit, house.bob, 10_00))

        assert self.codes(house, floor="at") == {"wallets:empty:EUR", "wallets:credit:EUR"}
        assert self.codes(house, floor="below") == set()


class TestAnAccount:
    def test_leads_to_its_entries_in_the_journal(self, house):
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.fees)}/")

        query = f"?organization={house.id}&amp;account={encode_id('la', house.fees)}"
        assert f"/admin/ledger/journalentry/{query}" in text

    def test_of_a_bank_says_why_nobody_adjusts_it_by_hand(self, house):
        bank = open_account(house.id, "bank:ba_2:EUR", type_="asset", floor=None, internal=True)
        fees = open_account(house.id, "fees:g:EUR", type_="income", floor=None, internal=True)
        why = "bank:ba_2:EUR is moved by Kassa&#x27;s own acts only."

        assert why in house.page(f"ledger/ledgeraccount/{encode_id('la', bank)}/")
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', fees)}/")
        assert f"/admin/ledger/ledgeraccount/{encode_id('la', fees)}/act/adjust/" in text

    def test_shows_the_month_of_its_latest_posting(self, house):
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.ann)}/")

        assert "Statement, June 2026" in text
        assert "Opening balance" in text
        assert "70.00" in text
        assert "65.00" in text

    def test_does_not_open_in_the_future_for_what_is_dated_there(self, house):
        post(house.id, move(house.ann, house.bob, 1_00, effective_at=clock.now() + 900 * DAY))

        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.ann)}/")

        zone = Organization.objects.get(id=house.id).time_zone
        assert f"Statement, {day_of(instant=clock.now(), zone=zone):%B %Y}" in text

    def test_shows_what_its_client_says_of_it_account_numbers_masked(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"

        def said(text: str) -> str:
            [found] = re.findall(r"<dt>Metadata</dt><dd>(.*?)</dd>", text, re.DOTALL)
            return " ".join(unescape(strip_tags(found.replace("</", " </"))).split())

        assert said(house.page(url)) == "\u2014"
        committed(operations.change_account)(
            organization_id=house.id, account_id=house.ann,
            change=AccountChange(
                reason="Asked for",
                metadata={"crm": "<i>A-7", "iban": "DE89 3704 0044 0532 0130 00"},
            ),
            actor=Actor.job("tests"), now=clock.now(),
        )  # fmt: skip

        text = house.page(url)

        assert said(text) == "crm <i>A-7 , iban DE•• •••• 3000"
        assert "<i>" not in text
        assert "0532" not in text.replace(" ", "")

    @pytest.mark.parametrize("type_", ["liability", "asset"])
    def test_shows_what_reserves_its_money_and_nobody_elses(self, house, type_):
        """Of an asset money leaves by a credit, so that is the side a hold has to be on."""
        now = clock.now()
        mine = open_account(house.id, "wallets:mine:EUR", type_=type_, floor=None)
        other = open_account(house.id, "wallets:other:EUR", type_=type_, floor=None)

        def place(payer, payee, amount, **more) -> str:
            debit, credit = (payer, payee) if type_ == "liability" else (payee, payer)
            hold = PlaceHold(
                id=new_id(), debit_account_id=debit, credit_account_id=credit, currency="EUR",
                amount_minor=amount, **more,
            )  # fmt: skip
            post(house.id, hold)
            return encode_id("ho", hold.id)

        parts = place(mine, other, 20_00, multi_capture=True, reference="order 1")
        whole = place(mine, other, 3_00, expires_at=now + DAY)
        place(mine, other, 7_00, expires_at=now - DAY)
        place(other, mine, 5_00)
        post(house.id, CaptureHold(hold_id=decode_id("ho", parts), entry_id=new_id(), kind="x",
                                   amount_minor=4_00))  # fmt: skip

        text = house.page(f"ledger/ledgeraccount/{encode_id('la', mine)}/")

        held = [row for row in house.rows(text) if len(row) == 7]
        assert [(row[1], row[2], row[5], row[6]) for row in held] == [
            ("wallets:other:EUR", "\u2014", "0.00 EUR", "3.00 EUR"),
            ("wallets:other:EUR", "order 1", "4.00 EUR", "16.00 EUR"),
        ]
        assert [printed in text for printed in (whole, parts)] == [True, True]
        # What is pending out, by what reserved it.
        assert ">19.00&nbsp;" in text

    def test_shows_another_month_clock_and_kind(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"

        assert "Statement, May 2026" in house.page(url, period="2026-05", clock="recorded")
        assert "Nothing was posted here" in house.page(url, period="2026-05", kind="fee")
        for after in (
            "x",
            "2026-06-01T00:00:00~1",
            "2026-06-01T00:00:00+00:00~99999999999999999999",
            "2026-05-01T00:00:00+00:00~0",
            "0001-01-01T00:00:00+00:00~1",
            "0001-01-01T00:00:00+14:00~1",
        ):
            shown = house.rows(house.page(url, period="2026-06", after=after))
            # A place that is none is the first page.
            assert [row[-2:] for row in shown if row[2:3] in (["transfer"], ["fee"])] == [
                ["−30.00 EUR", "70.00 EUR"],
                ["−5.00 EUR", "65.00 EUR"],
            ]
        for after in ("2026-07-01T00:00:00+00:00~1", "9999-12-31T23:59:59.999999-14:00~1"):
            text = house.page(url, period="2026-06", after=after)
            assert "No further line in this month" in text
