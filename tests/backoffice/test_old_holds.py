"""Holds that were placed long ago are found without reading all that were placed since."""

import re
from datetime import timedelta

import pytest

from apps.core import clock
from apps.core.ids import decode_id, encode_id
from apps.ledger.models import Hold
from tests.backoffice.test_hold_screens import Books
from tests.ledger.test_lists_of_many import MANY, multiply
from tests.support import rows_read

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = 50
READ_MOST = 3 * PAGE


def test_are_read_page_by_page_in_the_order_of_placing_both_ways():
    books = Books()
    multiply("ledger_hold", decode_id("ho", books.place()), status="'voided'")
    # The older part of them, a minute apart.
    until = clock.now() - timedelta(minutes=MANY // 2)
    asked = {"status": "voided", "placed_until": f"{until:%Y-%m-%d}"}

    def page(**more: str) -> tuple[list[str], str]:
        before = rows_read("ledger_hold")
        listed = books.listed(**asked, **more)
        assert rows_read("ledger_hold") - before <= READ_MOST
        return listed, books.page(**asked, **more)

    def key(way: str, text: str) -> dict[str, str]:
        name = {"next": "after", "prev": "before"}[way]
        return {name: re.search(rf'rel="{way}" href="\?[^"]*{name}=([\w-]+)', text)[1]}

    first, text = page()
    second, beyond = page(**key("next", text))
    again, _ = page(**key("prev", beyond))

    day_after = until.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    every = Hold.objects.filter(status="voided", created_at__lt=day_after)
    ids = every.order_by("-created_at", "-id").values_list("id", flat=True)[: 2 * PAGE]
    assert first + second == [encode_id("ho", id_) for id_ in ids]
    assert again == first


def test_of_an_account_or_without_a_window_stand_in_the_order_of_their_ids():
    books = Books()
    now = clock.now()
    # Noted by a host whose clock is behind.
    earlier = [books.place(at=now - timedelta(hours=hours)) for hours in (1, 2)]
    window = {"placed_from": f"{now - timedelta(days=2):%Y-%m-%d}", "status": "all"}

    assert books.listed(**window) == earlier
    assert books.listed(status="all") == earlier[::-1]
    assert books.listed(**window, account=encode_id("la", books.ann)) == earlier[::-1]
