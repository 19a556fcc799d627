"""The balance sheet, below the trial balance that it is made of."""

from datetime import date, timedelta

import pytest

from apps.core import clock
from tests.backoffice.books import House
from tests.ledger.factories import move, open_account, post
from tests.ledger.tampering import corrupt

pytestmark = pytest.mark.django_db(transaction=True)

BALANCED = "balanced to the unit"


@pytest.fixture
def house() -> House:
    return House()


def sheet(house: House, **query: str) -> list[list[str]]:
    """Return the lines of the balance sheet: the only ones that begin with a currency."""
    rows = house.rows(house.page("trial-balance/", **query))
    return [row for row in rows if len(row[0]) == 3 and row[0].isupper()]


def line(currency: str, *sums: str, words: str = BALANCED) -> list[str]:
    """Return a line: assets, liabilities, equity, income, expenses, result."""
    return [currency, *(f"{one} {currency}" for one in sums), words]


class TestTheBalanceSheet:
    def test_of_a_month_is_as_of_its_end(self, house):
        assert sheet(house, period="2026-04") == []
        assert sheet(house, period="2026-05") == [
            line("EUR", "100.00", "100.00", "0.00", "0.00", "0.00", "0.00")
        ]
        assert sheet(house, period="2026-06") == [
            line("EUR", "100.00", "95.00", "0.00", "5.00", "0.00", "5.00")
        ]

    def test_of_now_is_of_what_the_trial_balance_counts_also_what_is_dated_later(self, house):
        later = clock.now() + timedelta(days=400)
        capital = open_account(house.id, "equity:owners:EUR", type_="equity", floor=None)
        costs = open_account(house.id, "costs:bank:EUR", type_="expense", floor=None)
        post(house.id, move(house.bank, capital, 7_00, effective_at=later))
        post(house.id, move(costs, house.bank, 1_00))

        text = house.page("trial-balance/")

        assert "also what is dated later" in text
        assert ["equity:owners:EUR", "equity", "1", "", "7.00 EUR"] in house.rows(text)
        assert sheet(house) == [line("EUR", "106.00", "95.00", "7.00", "5.00", "1.00", "4.00")]

    def test_has_a_line_for_each_currency_and_none_of_a_branch(self, house):
        cash = open_account(house.id, "bank:ba_1:USD", type_="asset", floor=None)
        post(house.id, move(cash, house.dollars, 9_00, currency="USD"))
        dollars = line("USD", "9.00", "9.00", "0.00", "0.00", "0.00", "0.00")

        assert [row[0] for row in sheet(house)] == ["EUR", "USD"]
        assert sheet(house, currency="usd") == [dollars]
        assert sheet(house, code="customers:") == []

    def test_of_a_closed_month_is_of_what_was_stored_and_says_that_it_is_off(self, house):
        house.close(date(2026, 5, 1))
        corrupt(
            "UPDATE ledger_period_balance SET debits_minor = debits_minor + 1"
            " WHERE account_id = %s",
            house.bank,
        )

        [found] = sheet(house, period="2026-05")

        assert (found[1:3], found[-1]) == (["100.01 EUR", "100.00 EUR"], "the books are off")
