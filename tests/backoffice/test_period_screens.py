"""Months on the screen: how they are closed, and trial balances of them and of now."""

from datetime import date
from uuid import UUID

import pytest

from apps.approvals.models import ApprovalRequest
from apps.backoffice.queries import _trial_balances
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import operations, queries
from tests.accounts import factories as accounts
from tests.backoffice.books import JUNE, QUERIES_MAX, ROW, House
from tests.ledger.factories import NOW, committed, move, open_account, post
from tests.ledger.tampering import corrupt

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house() -> House:
    return House()


def url_of(period_id: UUID) -> str:
    return f"ledger/period/{encode_id('per', period_id)}/"


class TestPeriods:
    def test_list_every_month_and_what_the_next_one_waits_for(self, house):
        text = house.page("ledger/period/")

        assert "Next: May 2026" in text
        assert "Nothing: it can be closed now." in text
        assert "June 2026" in text
        assert house.asked <= QUERIES_MAX + 1

    def test_are_asked_to_be_closed(self, house):
        form = house.client.get("/admin/ledger/period/act/ask/")
        token = form.context["form"]["form_token"].value()

        answer = house.client.post(
            "/admin/ledger/period/act/ask/",
            {
                "period": f"{house.id}/2026-05",
                "reason": "May is reconciled",
                "form_token": token,
            },
        )

        assert answer.status_code == 302
        # Back to the months of those books, whichever organization comes first.
        assert answer.url == f"/admin/ledger/period/?organization={house.id}"
        waiting = ApprovalRequest.objects.get(act="ledger.close_period")
        assert waiting.requester_principal == f"staff:{house.maker.pk}"
        inbox = House.signed_in(accounts.create_staff("finance_approver"))
        assert "Close May 2026" in inbox.get("/admin/approvals/approvalrequest/").content.decode()

    def test_show_what_was_stored_and_ask_to_be_opened_again(self, house):
        house.close(date(2026, 5, 1))
        period = queries.find_period(organization_id=house.id, month=date(2026, 5, 1))
        url = f"ledger/period/{encode_id('per', period.id)}/"

        text = house.page(url)
        assert "As it was stored at closing 1" in text
        assert "debits equal credits" in text

        form = house.client.get(f"/admin/{url}act/reopen/")
        answer = house.client.post(
            f"/admin/{url}act/reopen/",
            {
                "reason": "A document came late",
                "form_token": form.context["form"]["form_token"].value(),
                "expected_version": period.event_sequence,
            },
        )
        assert answer.status_code == 302
        assert ApprovalRequest.objects.filter(act="ledger.reopen_period").exists()

    def test_name_who_opened_them_again_and_why_beside_who_closed_them(self, house):
        house.close(date(2026, 5, 1))
        asked, agreed = (accounts.create_staff("finance_approver") for _ in range(2))

        period = queries.find_period(organization_id=house.id, month=date(2026, 5, 1))
        assert "Opened again because" not in house.page(url_of(period.id))

        @committed
        def reopen() -> None:
            operations.reopen_period(
                organization_id=house.id, period_id=period.id,
                requested_by=f"staff:{asked.pk}", approved_by=f"staff:{agreed.pk}",
                reason="An invoice came late", actor=Actor.job("tests"), now=NOW,
            )  # fmt: skip

        reopen()
        text = house.page(url_of(period.id))

        for told in ("Reopening asked by", "Reopening agreed by", "Opened again because"):
            assert told in text
        assert "An invoice came late" in text
        assert str(asked) in text
        assert str(agreed) in text

    def test_that_are_out_of_turn_say_so_on_the_form(self, house):
        house.close(date(2026, 5, 1))
        period = queries.find_period(organization_id=house.id, month=date(2026, 5, 1))

        answer = house.client.get(f"/admin/ledger/period/{encode_id('per', period.id)}/act/close/")

        assert "It is closed already." in answer.content.decode()


class TestTheTrialBalance:
    def test_of_now_is_narrowed_to_a_branch(self, house):
        text = house.page("trial-balance/", code="customers:")

        assert "only the whole tree comes to zero" in text
        assert "bank:ba_1" not in text
        assert "95.00" in text

    @pytest.mark.parametrize("period", ["", "2026-06"])
    def test_of_a_branch_leaves_out_what_only_begins_alike(self, house, period):
        old = open_account(house.id, "customers_old:EUR", floor=None)
        post(house.id, move(house.ann, old, 7_00, effective_at=JUNE))

        for code in ("customers", "customers:"):
            text = house.page("trial-balance/", code=code, period=period)
            assert "customers:bob" in text
            assert "customers_old" not in text
        assert "customers_old" in house.page("trial-balance/", code="customers_old", period=period)

    @pytest.mark.parametrize("period", ["", "2026-06"])
    def test_of_one_currency_leaves_out_the_others(self, house, period):
        cash = open_account(house.id, "bank:ba_1:USD", type_="asset", floor=None)
        post(house.id, move(cash, house.dollars, 9_00, currency="USD", effective_at=JUNE))

        dollars = house.rows(house.page("trial-balance/", currency="usd", period=period))
        both = house.rows(house.page("trial-balance/", period=period))

        def currencies(rows: list[list[str]]) -> set[str]:
            return {cell[-3:] for row in rows for cell in row if "." in cell}

        assert (currencies(dollars), currencies(both)) == ({"USD"}, {"EUR", "USD"})
        assert "bank:ba_1:USD" in {row[0] for row in dollars if "9.00 USD" in row}

    def test_of_a_branch_that_is_none_says_so(self, house):
        assert "No account that moved fits this." in house.page("trial-balance/", code="nowhere:")

    @pytest.mark.parametrize("month", [{}, {"period": "2026-06"}])
    def test_shows_many_accounts_of_a_branch_in_one_line(self, house, month):
        many = [open_account(house.id, f"wallets:u{n}:EUR", floor=None) for n in range(51)]
        few = [open_account(house.id, f"wallets2:u{n}:EUR", floor=None) for n in range(2)]
        post(
            house.id,
            *(move(house.bank, one, 1_00, effective_at=JUNE) for one in (*many, *few)),
        )

        text = house.page("trial-balance/", **month)

        [line] = [row for row in ROW.findall(text) if ">wallets:…</a>" in row]
        assert ">51<" in line
        assert ">51.00&nbsp;" in line
        assert f"?organization={house.id}&amp;code=wallets%3A&amp;currency=EUR" in line
        assert "wallets:u7:EUR" not in text
        assert "wallets2:u1:EUR" in text
        assert "the difference is zero" in text

    def test_adds_up_what_is_beyond_its_last_line(self, house, monkeypatch):
        monkeypatch.setattr(_trial_balances, "LINES_MAX", 1)

        text = house.page("trial-balance/", currency="EUR")

        lines = [row for row in ROW.findall(text) if "<a href=" in row]
        assert [">bank:ba_1:EUR</a>" in lines[0], ">…</a>" in lines[1]] == [True, True]
        assert ">3<" in lines[1]
        assert ">100.00&nbsp;" in lines[1]
        assert "the difference is zero" in text

    def test_sums_up_a_first_segment_only_where_all_of_it_is_shown(self, house, monkeypatch):
        monkeypatch.setattr(_trial_balances, "LINES_MAX", 2)

        text = house.page("trial-balance/", period="2026-06", currency="EUR")

        assert [row[0:1] + row[2:] for row in house.rows(text)[:3]] == [
            ["bank:ba_1:EUR", "1", "100.00 EUR", "", "", "100.00 EUR"],
            ["…", "3", "−100.00 EUR", "35.00 EUR", "35.00 EUR", "−100.00 EUR"],
            ["Sum", "", "0.00 EUR", "35.00 EUR", "35.00 EUR", "0.00 EUR"],
        ]


class TestTheTrialBalanceOfAMonth:
    def test_shows_opening_movement_and_closing(self, house):
        text = house.page("trial-balance/", period="2026-06")

        assert "Trial balance, June 2026" in text
        assert "Debits equal credits" in text
        assert "a credit balance carries a minus" in text
        assert [row[0:1] + row[3:] for row in house.rows(text)[:6]] == [
            ["bank:ba_1:EUR", "100.00 EUR", "", "", "100.00 EUR"],
            ["customers:ann:available:EUR", "−100.00 EUR", "35.00 EUR", "", "−65.00 EUR"],
            ["customers:bob:available:EUR", "0.00 EUR", "", "30.00 EUR", "−30.00 EUR"],
            ["All of customers", "−100.00 EUR", "35.00 EUR", "30.00 EUR", "−95.00 EUR"],
            ["fees:f:EUR", "0.00 EUR", "", "5.00 EUR", "−5.00 EUR"],
            ["Sum", "0.00 EUR", "35.00 EUR", "35.00 EUR", "0.00 EUR"],
        ]
        # And three that begin and end the transaction by which it is of one instant.
        assert house.asked <= QUERIES_MAX + 3
        assert f"{encode_id('la', house.bank)}/?period=2026-06" in text

    def test_of_a_closed_month_is_the_stored_one(self, house):
        house.close(date(2026, 5, 1))
        # As only a superuser can, so that what was stored is told from what was posted.
        corrupt(
            "UPDATE ledger_period_balance SET debits_minor = 123_45 WHERE account_id = %s",
            house.bank,
        )

        text = house.page("trial-balance/", period="2026-05")

        assert "As it was stored when the month was closed." in text
        assert [row[4:6] for row in house.rows(text) if row[0] == "bank:ba_1:EUR"] == [
            ["123.45 EUR", ""]
        ]

    def test_of_a_currency_without_a_posting_does_not_say_that_nothing_was_posted(self, house):
        text = house.page("trial-balance/", period="2026-06", currency="USD")

        assert "No account that moved up to the end of this month fits this." in text
        assert 'period=2026-06">Show the whole</a>' in text
        assert "Nothing was posted" not in text

    def test_of_a_branch_says_that_it_is_one(self, house):
        text = house.page("trial-balance/", period="2026-06", code="customers:")

        assert "only the whole tree comes to zero" in text
        assert "bank:ba_1" not in text
