"""The list of months over the API, page by page."""

from datetime import UTC, datetime

import pytest

from tests.ledger.clients import ApiClient
from tests.ledger.factories import fund, open_account

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

    @pytest.mark.parametrize(
        ("asked", "code"),
        [
            ({"after": "junk"}, "invalid_cursor"),
            ({"before": "MjAyNi0wNQ=="}, "invalid_cursor"),
            ({"limit": "0"}, "invalid_request"),
            ({"limit": "101"}, "invalid_request"),
            ({"state": "open"}, "invalid_request"),
        ],
    )
    def test_refuse_what_no_list_takes(self, api, asked, code):
        refused = api.get("/v1/periods", **asked)

        assert (refused.status_code, refused.json()["code"]) == (400, code)
