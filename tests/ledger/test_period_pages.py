"""The list of months over the API, page by page."""

from datetime import UTC, date, datetime

import pytest

from apps.core.ids import new_id
from apps.ledger import queries
from apps.ledger.models import Period
from tests.ledger.clients import ApiClient
from tests.ledger.factories import NOW, fund, open_account

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api() -> ApiClient:
    return ApiClient()


class TestMonths:
    def test_are_walked_page_by_page_and_back(self, api):
        fund(api.organization, open_account(api.organization, "wallets:ann:JPY"), 7, "JPY",
             at=datetime(2021, 12, 31, 12, tzinfo=UTC))  # fmt: skip
        everything, page = [], api.get("/v1/periods", limit=100).json()
        assert (page["has_more"], page["next"], page["previous"]) == (False, None, None)
        months = [row["period"] for row in page["data"]]
        assert months == sorted(months, reverse=True)
        assert len(months) == len(set(months)) > 25

        # As many as of any list, where nobody says.
        page = api.get("/v1/periods").json()
        assert ([row["period"] for row in page["data"]], page["has_more"]) == (months[:25], True)
        page = api.get("/v1/periods", limit=7).json()
        assert page["previous"] is None
        everything += page["data"]
        while page["has_more"]:
            page = api.get("/v1/periods", limit=7, after=page["next"]).json()
            everything += page["data"]
        assert [row["period"] for row in everything] == months
        assert page["next"] is None

        back = list(reversed(page["data"]))
        while page["previous"]:
            page = api.get("/v1/periods", limit=7, before=page["previous"]).json()
            assert page["has_more"]
            assert page["data"]
            back += reversed(page["data"])
        assert [row["period"] for row in reversed(back)] == months

    def test_of_a_state_are_pages_of_their_own(self, api):
        closed = ["2026-05", "2026-04", "2026-03"]
        for name in closed:
            month = date.fromisoformat(f"{name}-01")
            since, until = queries.period_bounds(organization_id=api.organization, month=month)
            Period.objects.create(
                id=new_id(), organization_id=api.organization, month=month, starts_at=since,
                ends_at=until, state="closed", closings=1, requested_by="staff:mara",
                approved_by="staff:anton", closed_at=NOW,
            )  # fmt: skip

        found, page = [], api.get("/v1/periods", state="closed", limit=2).json()
        found += page["data"]
        while page["has_more"]:
            page = api.get("/v1/periods", state="closed", limit=2, after=page["next"]).json()
            found += page["data"]

        assert [row["period"] for row in found] == closed
        assert {row["state"] for row in found} == {"closed"}
        months = [row["period"] for row in api.get("/v1/periods", limit=100).json()["data"]]
        still_open = api.get("/v1/periods", state="open", limit=100).json()["data"]
        assert [row["period"] for row in still_open] == [m for m in months if m not in closed]

    @pytest.mark.parametrize(
        ("asked", "code"),
        [
            ({"after": "junk"}, "invalid_cursor"),
            ({"before": "MjAyNi0wNQ=="}, "invalid_cursor"),
            ({"limit": "0"}, "invalid_request"),
            ({"limit": "101"}, "invalid_request"),
            ({"state": "shut"}, "invalid_request"),
            ({"state": ""}, "invalid_request"),
            ({"colour": "red"}, "invalid_request"),
        ],
    )
    def test_refuse_what_no_list_takes(self, api, asked, code):
        refused = api.get("/v1/periods", **asked)

        assert (refused.status_code, refused.json()["code"]) == (400, code)
