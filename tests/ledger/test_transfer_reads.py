"""Reading a transfer, or a batch of them, back over the API."""

import pytest
from django.test import Client

from apps.core.ids import encode_id
from apps.ledger.models import JournalEntry, TransferBatch
from tests.ledger.clients import ApiClient, code_of, printed
from tests.ledger.factories import move, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api():
    return ApiClient()


@pytest.fixture
def transfer(api):
    body = {
        "debit_account": printed(api.ann), "credit_account": printed(api.bob), "amount": 30_00,
        "currency": "EUR", "reference": "r-1", "metadata": {"a": "b"},
    }  # fmt: skip
    return api.post("/v1/transfers", body).json()


class TestGetTransfer:
    def test_answers_what_posting_it_answered(self, api, transfer):
        response = api.get(f"/v1/transfers/{transfer['id']}")

        assert response.status_code == 200, response.content
        assert response.json() == transfer
        assert response["ETag"]

    def test_shows_the_balances_that_stand_now(self, api, transfer):
        post(api.organization, move(api.ann, api.bob, 10_00))

        balances = api.get(f"/v1/transfers/{transfer['id']}").json()["balances"]

        assert [balance["available"] for balance in balances] == [60_00, 40_00]

    def test_of_what_something_else_made_is_not_there(self, api, transfer):
        [entry] = post(api.organization, move(api.ann, api.bob, 1, kind="fx"))
        id_ = api.get("/v1/journal-entries", kind="fx").json()["data"][0]["id"]

        assert JournalEntry.objects.filter(id=entry.entry_id).exists()
        assert code_of(api.get(f"/v1/transfers/{id_}")) == (404, "transfer_not_found")

    def test_of_another_organization_is_not_there(self, api, transfer):
        response = ApiClient().get(f"/v1/transfers/{transfer['id']}")

        assert code_of(response) == (404, "transfer_not_found")

    def test_under_a_malformed_id_is_400(self, api):
        assert api.get("/v1/transfers/je_x").status_code == 400
        assert api.get(f"/v1/transfers/{printed(api.ann)}").status_code == 404


class TestGetTransferBatch:
    @pytest.fixture
    def batch(self, api):
        wish = {
            "debit_account": printed(api.ann), "credit_account": printed(api.bob), "amount": 60_00,
            "currency": "EUR",
        }  # fmt: skip
        body = {"mode": "independent", "transfers": [wish, wish, {**wish, "amount": 5_00}]}
        return api.post("/v1/transfers/batch", body).json()

    def test_answers_what_posting_it_answered(self, api, batch):
        response = api.get(f"/v1/transfers/batch/{batch['id']}")

        assert response.status_code == 200, response.content
        assert response.json() == batch
        assert [outcome["status"] for outcome in batch["outcomes"]] == [
            "posted", "refused", "posted",
        ]  # fmt: skip
        again = Client(headers={**api.headers, "If-None-Match": response["ETag"]})
        unchanged = again.get(f"/v1/transfers/batch/{batch['id']}")
        assert unchanged.status_code == 304
        # A cache would take it for that of the answer it has stored.
        assert "Content-Type" not in unchanged

    def test_shows_the_balances_that_stand_now(self, api, batch):
        post(api.organization, move(api.ann, api.bob, 10_00))

        found = api.get(f"/v1/transfers/batch/{batch['id']}").json()

        assert {one["ledger_account"]: one["available"] for one in found["balances"]} == {
            printed(api.ann): 25_00,
            printed(api.bob): 75_00,
        }
        assert found["outcomes"] == batch["outcomes"]

    def test_of_another_organization_is_not_there(self, batch):
        response = ApiClient().get(f"/v1/transfers/batch/{batch['id']}")

        assert code_of(response) == (404, "transfer_batch_not_found")

    def test_that_was_a_set_of_reversals_is_none_of_transfers(self, api, transfer):
        response = api.post(
            "/v1/journal-entries/reversals", {"journal_entries": [transfer["id"]]}, key="k-2"
        )
        assert response.status_code == 201, response.content
        id_ = encode_id("tb", TransferBatch.objects.get(mode="reversal").id)

        assert code_of(api.get(f"/v1/transfers/batch/{id_}")) == (404, "transfer_batch_not_found")

    def test_under_a_malformed_id_is_400(self, api):
        assert api.get("/v1/transfers/batch/tb_x").status_code == 400
        assert api.get(f"/v1/transfers/batch/{printed(api.ann)}").status_code == 404
