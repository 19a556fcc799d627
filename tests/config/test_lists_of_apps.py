"""Lists outside the books: what they are narrowed by, and that a page reads no more than it may."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from rest_framework import serializers

from apps.banking.models import BankLine
from apps.core import clock, sifting
from apps.core.api.fields import print_instant
from apps.core.ids import encode_id, new_id
from apps.payments.models import VirtualReference
from apps.payouts.models import Payout
from tests.accounts.factories import Api, create_organization
from tests.config.rows_of_lists import LISTS, MANY, Listed, fill
from tests.support import past_the_guards, rows_read

pytestmark = pytest.mark.django_db(transaction=True)

READ_MOST = 60
PORTION = 500


TIMED = [name for name, listed in LISTS.items() if listed.has_index]
RARE_ASKED = [name for name, listed in LISTS.items() if listed.rare]


@pytest.fixture
def owner():
    return create_organization()


@pytest.fixture
def api(owner):
    scopes = (
        "customers", "payouts", "payments", "virtual_references", "bank_files", "bank_statements",
        "bank_lines", "matches", "breaks", "webhooks", "events",
    )  # fmt: skip
    return Api(owner, *[f"{scope}:read" for scope in scopes])


class Lines(serializers.ListSerializer):
    def to_representation(self, data):
        return [str(row.pk) for row in data]


@pytest.fixture
def ids_alone(monkeypatch):
    """What else is shown of a row is read of what such rows do not have."""

    def narrow(listed: Listed) -> None:
        class Shape(serializers.Serializer):
            class Meta:
                list_serializer_class = Lines

        monkeypatch.setattr(listed.module, listed.shape, Shape)

    return narrow


def page(api: Api, path: str, *, most: int, **query: str) -> dict[str, Any]:
    """Return a page of which no more rows were read than that."""
    table = LISTS[path].table
    before = rows_read(table)
    answer = api.get(f"/v1/{path}?{urlencode({'limit': 10} | query)}")
    assert answer.status_code == 200, answer.content
    assert rows_read(table) - before <= most, query
    return answer.json()


def walk(api: Api, path: str, *, most: int, pages: int = 1000, **query: str) -> list[str]:
    """Return the ids of the first pages, in their order."""
    forth = [page(api, path, most=most, **query)]
    while len(forth) < pages and forth[-1]["next"] is not None:
        forth.append(page(api, path, most=most, **query, after=forth[-1]["next"]))
    return [id_ for found in forth for id_ in found["data"]]


def ages(name: str, oldest: float, newest: float) -> dict[str, str]:
    now, whole = clock.now(), timedelta(minutes=MANY)
    return {
        f"{name}_from": print_instant(now - oldest * whole),
        f"{name}_before": print_instant(now - newest * whole),
    }


@pytest.mark.parametrize("path", TIMED)
def test_a_window_is_entered_where_it_is(api, owner, ids_alone, path):
    listed = LISTS[path]
    fill(listed, [owner.id, new_id()])
    ids_alone(listed)

    for window in ((0.001, -1), (1.1, 0.999), (0.502, 0.5), (1.1, 0.5)):
        asked = ages(listed.names, *window)
        found = walk(api, path, most=READ_MOST, pages=3, **asked)

        assert found == sorted(found, reverse=True)
        assert 9 <= len(set(found)) == len(found) <= 30


@pytest.mark.parametrize("path", RARE_ASKED)
def test_what_is_rare_is_looked_for_so_far_at_a_time(api, owner, ids_alone, monkeypatch, path):
    """Without patience a page ends with its first portion, and the next one goes on behind it."""
    listed = LISTS[path]
    fill(listed, [owner.id, new_id()])
    ids_alone(listed)
    monkeypatch.setattr(sifting, "SIFTED_ROWS", PORTION)
    monkeypatch.setattr(sifting, "PATIENCE_SECONDS", 0)

    found = walk(api, path, most=2 * PORTION + READ_MOST, **listed.rare)

    assert len(found) == 2
    assert found == sorted(found, reverse=True)


# What is known to be there by the order of the ids alone, and what has no index at all.
BESIDE_AN_INDEX = {
    "webhook_deliveries": ages("created", 0.502, 0.5),
    "bank_lines": {"booked_from": "2000-01-01", "booked_before": "2026-01-01"},
}


@pytest.mark.parametrize("path", BESIDE_AN_INDEX)
def test_a_window_without_an_index_is_looked_for_so_far_at_a_time(
    api, owner, ids_alone, monkeypatch, path
):
    listed = LISTS[path]
    fill(listed, [owner.id, new_id()])
    if path == "bank_lines":
        past_the_guards(
            "UPDATE banking_line SET booking_date = '2025-06-30'"
            f" WHERE occurrence BETWEEN {MANY // 2} AND {MANY // 2 + 19}"
        )
    ids_alone(listed)
    monkeypatch.setattr(sifting, "SIFTED_ROWS", PORTION)
    monkeypatch.setattr(sifting, "PATIENCE_SECONDS", 0)

    found = walk(api, path, most=2 * PORTION + READ_MOST, **BESIDE_AN_INDEX[path])

    assert 19 <= len(set(found)) == len(found) <= 21
    assert found == sorted(found, reverse=True)


class TestWhatIsSifted:
    """By a window that an index leads into, and what is looked for inside it."""

    @pytest.fixture
    def shown(self, api, owner, ids_alone, monkeypatch):
        listed = LISTS["payouts"]
        fill(listed, [owner.id, new_id()], many=1000)
        # Thirty together and ninety between them: pages of seven that are full, and portions of
        # forty that have none. Scattered by chance, seven were once found in each portion.
        past_the_guards(
            "UPDATE payouts_payout SET state = 'approved' WHERE"
            f" organization_id = '{owner.id}' AND extract(epoch FROM requested_at) % 7200 < 1800"
        )
        ids_alone(listed)
        monkeypatch.setattr(sifting, "SIFTED_ROWS", 40)
        monkeypatch.setattr(sifting, "PATIENCE_SECONDS", 0)

        def pages(way: str, **query: str) -> list[dict[str, Any]]:
            link = {"after": "next", "before": "previous"}[way]
            found = []
            while True:
                asked = urlencode({"state": "approved", "limit": 7} | query)
                found.append(api.get(f"/v1/payouts?{asked}").json())
                if found[-1][link] is None:
                    return found
                query |= {way: found[-1][link]}

        return pages

    def ids(self, owner, *, days: float = 99) -> list[str]:
        rows = Payout.objects.filter(organization_id=owner.id, state="approved")
        rows = rows.filter(requested_at__gte=clock.now() - timedelta(days=days))
        return [str(row.pk) for row in rows.order_by("-requested_at", "-id")]

    @pytest.mark.parametrize("days", [99, 0.3])
    @pytest.mark.parametrize("is_timed", [True, False])
    def test_is_shown_once_each_and_the_same_on_the_way_back(self, owner, shown, days, is_timed):
        since = print_instant(clock.now() - timedelta(days=days))
        window = {"created_from": since} if is_timed else {}
        expected = self.ids(owner, days=days if is_timed else 99)

        forth = shown("after", **window)
        # From behind the last row that there is: back over all of it.
        last = next(page for page in reversed(forth) if page["previous"])
        back = shown("before", **window, before=last["previous"])

        assert [id_ for page in forth for id_ in page["data"]] == expected
        assert {len(page["data"]) < 7 for page in forth[:-1]} == {True, False}
        before_last = expected[: expected.index(last["data"][0])]
        assert [id_ for page in reversed(back) for id_ in page["data"]] == before_last

    def test_passes_over_nothing_though_more_is_made_meanwhile(self, owner, shown):
        expected = self.ids(owner)
        listed, left = LISTS["payouts"], [3]

        def make_more(execute, *call):
            if left and "LIMIT" in call[0] and "payouts_payout" in call[0]:
                left.pop()
                fill(listed, [owner.id], many=50)
            return execute(*call)

        with connection.execute_wrapper(make_more):
            found = [id_ for page in shown("after") for id_ in page["data"]]

        assert [id_ for id_ in found if id_ in expected] == expected
        assert len(set(found)) == len(found)


class TestOfOne:
    """A list of one customer, line or reference reads no more than is theirs."""

    def test_customers_payments_by_reference_are_looked_for_among_theirs(
        self, api, owner, ids_alone
    ):
        fill(LISTS["virtual_references"], [owner.id], many=1)
        [reference] = VirtualReference.objects.all()
        fill(LISTS["payments"], [owner.id, new_id()])
        past_the_guards(
            f"UPDATE payments_payment SET customer_id = '{reference.customer_id}' WHERE id IN"
            f" (SELECT id FROM payments_payment WHERE organization_id = '{owner.id}'"
            " ORDER BY id LIMIT 20)",
            f"UPDATE payments_payment SET virtual_reference_id = '{reference.id}' WHERE id IN"
            f" (SELECT id FROM payments_payment WHERE customer_id = '{reference.customer_id}'"
            " ORDER BY id LIMIT 15)",
        )
        ids_alone(LISTS["payments"])

        asked = {"virtual_reference": encode_id("vref", reference.id)}
        found = walk(api, "payments", most=READ_MOST, **asked)

        assert len(found) == 15
        window = {"created_before": print_instant(clock.now() - timedelta(days=9999))}
        assert walk(api, "payments", most=READ_MOST, **asked, **window) == []

    def test_lines_matches_are_read_alone(self, api, owner, ids_alone):
        fill(LISTS["matches"], [owner.id, new_id()])
        fill(LISTS["bank_lines"], [owner.id], many=1)
        [line] = BankLine.objects.all()
        past_the_guards(
            f"UPDATE reconciliation_match SET bank_line_id = '{line.id}', state = 'undone' WHERE id"
            f" = (SELECT id FROM reconciliation_match WHERE organization_id = '{owner.id}'"
            " ORDER BY id LIMIT 1)"
        )
        ids_alone(LISTS["matches"])

        found = walk(api, "matches", most=READ_MOST, bank_line=encode_id("bl", line.id))

        assert len(found) == 1

    def test_references_are_found_by_their_text(self, api, owner, ids_alone):
        fill(LISTS["virtual_references"], [owner.id])
        ids_alone(LISTS["virtual_references"])

        found = walk(api, "virtual_references", most=READ_MOST, reference=f"RF{77:020}")

        assert len(found) == 1
        assert walk(api, "virtual_references", most=READ_MOST, reference="RF1") == []


WRONG = [
    *((path, name, given) for path, listed in LISTS.items() if listed.has_index
      for name, given in ((f"{listed.names}_from", "yesterday"), (f"{listed.names}_before", ""))),
    *((path, "state", given) for path in LISTS if path not in {"payments", "webhook_deliveries"}
      for given in ("", "nonsense")),
    *(("webhook_deliveries", name, "") for name in ("status", "created_from", "created_before")),
    *(("bank_lines", name, given) for name in ("booked_from", "booked_before")
      for given in ("", "2026-02-30", "2026-01-01T00:00:00Z")),
    ("customers", "external_id", ""),
    ("payouts", "external_id", ""),
    ("virtual_references", "reference", ""),
    *((path, name, "x") for path in ("customers", "payouts") for name in ("metadata[]",)),
    ("breaks", "kind", ""),
]  # fmt: skip


def test_days_in_the_wrong_order_are_400_and_named(api):
    refused = api.get("/v1/bank_lines?booked_from=2026-07-01&booked_before=2026-06-30")

    assert (refused.status_code, refused.json()["parameter"]) == (400, "booked_before")


@pytest.mark.parametrize("given", ["2026-06-30 10:00:00Z", "2026-06-30T10:00:00.5 02:00"])
def test_blanks_in_an_instant_are_its_own_or_the_plus_of_its_offset(api, given):
    found = api.get(f"/v1/payouts?{urlencode({'created_from': given}, quote_via=quote)}")

    assert (found.status_code, found.json()["data"]) == (200, [])


def test_a_window_ends_before_its_end(api, owner, ids_alone):
    listed = LISTS["payouts"]
    fill(listed, [owner.id, new_id()], many=2)
    ids_alone(listed)
    first, second = Payout.objects.filter(organization_id=owner.id).order_by("requested_at")
    asked = urlencode({"created_before": print_instant(second.requested_at)})

    found = api.get(f"/v1/payouts?{asked}").json()["data"]

    assert found == [str(first.pk)]


def test_one_look_goes_on_through_portions_while_it_has_patience(
    api, owner, ids_alone, monkeypatch
):
    fill(LISTS["payouts"], [owner.id, new_id()], many=30)
    ids_alone(LISTS["payouts"])
    monkeypatch.setattr(sifting, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(sifting, "SIFTED_ROWS", 7)

    found = api.get("/v1/payouts?state=requested&limit=100").json()

    rows = Payout.objects.filter(organization_id=owner.id).order_by("-id")
    assert found["data"] == [str(one.pk) for one in rows]
    assert (len(rows), found["next"]) == (30, None)


@pytest.mark.parametrize(("path", "name", "given"), WRONG)
def test_what_means_nothing_is_400_and_named(api, path, name, given):
    answer = api.get(f"/v1/{path}?{urlencode({name: given})}")

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid_request")
    assert problem["parameter"] == name


@pytest.mark.parametrize("path", TIMED)
def test_a_window_that_ends_before_it_begins_is_400(api, path):
    names = LISTS[path].names
    window = {f"{names}_from": "2026-02-01T00:00:00Z", f"{names}_before": "2026-01-01T00:00:00Z"}

    problem = api.get(f"/v1/{path}?{urlencode(window)}").json()

    assert (problem["code"], problem["parameter"]) == ("invalid_request", f"{names}_before")
