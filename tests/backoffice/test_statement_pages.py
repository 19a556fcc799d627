"""A statement's screen goes on to later lines and back to earlier ones, by either clock."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core.ids import encode_id
from apps.ledger.admin._accounts import STATEMENT_ROWS
from tests.backoffice.books import JUNE, House
from tests.ledger.factories import open_account
from tests.ledger.histories import Move, write_history

pytestmark = pytest.mark.django_db(transaction=True)

_LINK = re.compile(r'rel="(prev|next)" href="\?([^"#]*(?:after|before)=[^"#]*)#statement"')
LINES = 2 * STATEMENT_ROWS + 5


@pytest.fixture
def house() -> House:
    house = House()
    house.shop = open_account(house.id, "shops:s:EUR", floor=None)
    house.till = open_account(house.id, "shops:till:EUR", type_="asset", floor=None)
    # Several of one instant, each of another amount; one of its own kind.
    write_history(
        house.id,
        [
            Move(
                house.till, house.shop, 1_00 + n, JUNE + timedelta(hours=n // 7), JUNE,
                kind="fee" if n == 0 else "transfer",
            )
            for n in range(LINES)
        ],
    )  # fmt: skip
    return house


class Screen:
    def __init__(self, house: House, query: str) -> None:
        url = f"/admin/ledger/ledgeraccount/{encode_id('la', house.shop)}/"
        with CaptureQueriesContext(connection) as asked:
            answer = house.client.get(f"{url}?{query}")
        assert answer.status_code == 200
        self.asked, self.text = len(asked), answer.content.decode()
        table = self.text[self.text.index('id="statement"') :]
        self.lines = [row[6:8] for row in House.rows(table) if len(row) == 8]
        self.links = {way: unescape(query) for way, query in _LINK.findall(table)}
        self.leads_to_first = ">First</a>" in table


@pytest.mark.parametrize("clock", ["effective", "recorded"])
class TestPages:
    def test_are_the_same_on_the_way_back(self, house, clock):
        forth = [Screen(house, f"period=2026-06&clock={clock}")]
        while "next" in forth[-1].links:
            forth.append(Screen(house, forth[-1].links["next"]))
        back = forth[-1:]
        while "prev" in back[-1].links:
            back.append(Screen(house, back[-1].links["prev"]))

        assert [page.lines for page in back[::-1]] == [page.lines for page in forth]
        assert [len(page.lines) for page in forth] == [STATEMENT_ROWS, STATEMENT_ROWS, 5]
        assert [page.leads_to_first for page in forth] == [False, True, True]
        # The first one reached from behind is like the first one.
        assert ("next" in back[-1].links, back[-1].leads_to_first) == (True, False)

    def test_take_eight_statements_each(self, house, clock):
        first = Screen(house, f"period=2026-06&clock={clock}")
        second = Screen(house, first.links["next"])
        again = Screen(house, second.links["prev"])

        assert (first.asked, second.asked, again.asked) == (8, 8, 8)

    def test_of_a_kind_stay_among_it(self, house, clock):
        page = Screen(house, f"period=2026-06&clock={clock}&kind=fee")

        assert (len(page.lines), page.links) == (1, {})
        beyond = Screen(house, f"period=2026-06&clock={clock}&kind=fee&after=2026-06-30T00:00Z~999")
        assert "No further line in this month." in beyond.text
        assert Screen(house, beyond.links["prev"]).lines == page.lines

    @pytest.mark.parametrize("place", ["", "x", "2026-06-15T12:00:00", "2026-06-15T12:00Z~x"])
    def test_before_no_place_are_the_first_one(self, house, clock, place):
        plain = Screen(house, f"period=2026-06&clock={clock}")

        page = Screen(house, f"period=2026-06&clock={clock}&before={place}")

        assert (page.lines, page.links) == (plain.lines, plain.links)

    def test_after_one_place_and_before_another_go_on_after_the_one(self, house, clock):
        second = Screen(house, f"period=2026-06&clock={clock}").links["next"]

        both = Screen(house, f"{second}&before=2026-06-15T12:00Z~1")

        assert both.lines == Screen(house, second).lines
