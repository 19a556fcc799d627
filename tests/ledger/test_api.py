"""The ledger over HTTP: shapes, replays, refusals, tenants."""

import pytest
from django.test import Client

from apps.accounts.api.authentication import forget_cached_keys
from apps.core.ids import encode_id
from apps.core.wall_clock import print_instant
from apps.ledger import queries
from apps.ledger.models import JournalEntry, LedgerAccount
from tests.accounts.factories import create_customer, create_organization, issue_key
from tests.ledger.factories import balance, fund

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = ("ledger:read", "ledger:write", "transfers:write")


class Api:
    """One organisation's key, two customers, and money on the first one's account."""

    def __init__(self, *scopes: str) -> None:
        forget_cached_keys()
        self.organization = create_organization()
        self.token = issue_key(self.organization, *(scopes or SCOPES)).token
        self.ann, self.bob = (self._customer() for _ in range(2))

    def _customer(self):
        customer = create_customer(self.organization, currencies=["EUR"])
        code = f"customers:{encode_id('cus', customer.id)}:available:EUR"
        return queries.account_ids(organization_id=self.organization.id, codes=[code])[code]

    def post(self, path: str, body: object, *, key: str | None = "k-1", **headers: str):
        if key is not None:
            headers["Idempotency-Key"] = key
        return Client(headers={"Authorization": f"Bearer {self.token}", **headers}).post(
            path, body, content_type="application/json"
        )

    def get(self, path: str, **query: str):
        return Client(headers={"Authorization": f"Bearer {self.token}"}).get(path, query)

    @staticmethod
    def balance(account, version: int, posted: int) -> dict:
        """Return an account on which nothing is reserved, as an answer prints it."""
        shown = {"ledger_account": encode_id("la", account), "version": version}
        return shown | {"posted": posted, "available": posted}

    def transfer(self, amount: object = 30_00, **more: object) -> dict:
        return {
            "debit_account": encode_id("la", self.ann),
            "credit_account": encode_id("la", self.bob),
            "amount": amount,
            "currency": "EUR",
            **more,
        }


@pytest.fixture
def api():
    api = Api()
    fund(api.organization.id, api.ann, 100_00)
    return api


class TestPostTransfer:
    def test_answers_201_with_the_resulting_balances(self, api):
        response = api.post("/v1/transfers", api.transfer(reference="r-1", metadata={"a": "b"}))

        assert response.status_code == 201, response.content
        answer = response.json()
        assert answer["id"].startswith("je_")
        assert answer["balances"] == [
            api.balance(api.ann, 2, 70_00), api.balance(api.bob, 1, 30_00),
        ]  # fmt: skip
        assert answer["metadata"] == {"a": "b"}
        entry = api.get(f"/v1/journal-entries/{answer['id']}").json()
        assert [p["amount"] for p in entry["postings"]] == [30_00, -30_00]
        # By Postgres' clock, read from the row; the transfer's came with COMMIT's answer.
        assert answer["created_at"] == entry["created_at"]
        assert answer["effective_at"] == entry["effective_at"] != entry["created_at"]

    def test_dry_was_not_created_at_any_time(self, api):
        answer = api.post("/v1/transfers", api.transfer(dry_run=True)).json()

        assert (answer["id"], answer["created_at"]) == (None, None)

    def test_replayed_answers_the_same_and_says_so(self, api):
        first = api.post("/v1/transfers", api.transfer())
        second = api.post("/v1/transfers", api.transfer())

        assert second.status_code == first.status_code == 201
        assert second.json() == first.json()
        assert second["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first
        assert balance(api.organization.id, api.bob).available == 30_00

    def test_refused_for_funds_is_422_and_replayed_alike(self, api):
        first = api.post("/v1/transfers", api.transfer(100_01))
        second = api.post("/v1/transfers", api.transfer(100_01))

        for response in (first, second):
            assert response.status_code == 422
            assert response["Content-Type"] == "application/problem+json"
            assert response.json()["code"] == "insufficient_funds"
            assert response.json()["available"] == 100_00
        assert second["Idempotent-Replayed"] == "true"

    def test_under_a_key_of_another_request_is_422_and_names_it(self, api):
        first = api.post("/v1/transfers", api.transfer())

        reused = api.post("/v1/transfers", api.transfer(31_00))

        assert reused.status_code == 422
        assert reused.json()["code"] == "idempotency_key_reused"
        assert reused.json()["resource"] == first.json()["id"]
        # It is no answer that stood there before, and moved nothing.
        assert "Idempotent-Replayed" not in reused
        assert balance(api.organization.id, api.bob).available == 30_00

    def test_under_a_reference_that_stands_its_key_names_what_stands(self, api):
        first = api.post("/v1/transfers", api.transfer(reference="r-1"), key="a")
        second = api.post("/v1/transfers", api.transfer(reference="r-1"), key="b")

        reused = api.post("/v1/transfers", api.transfer(31_00), key="b")

        assert second.json()["id"] == first.json()["id"] == reused.json()["resource"]

    def test_dry_under_a_reference_that_stands_answers_what_stands_and_uses_no_key(self, api):
        asked = api.transfer(reference="r-1", description="Rent")
        stands = api.post("/v1/transfers", asked).json()
        api.post("/v1/transfers", api.transfer(5_00), key="between")

        again, other = (
            api.post("/v1/transfers", body | {"dry_run": True}, key="dry")
            for body in (asked, asked | {"amount": 1})
        )

        now = [api.balance(api.ann, 3, 65_00), api.balance(api.bob, 2, 35_00)]
        assert again.status_code == 200
        assert again.json() == stands | {"balances": now, "dry_run": True}
        assert (other.status_code, other.json()["code"]) == (422, "reference_reused")
        assert other.json()["journal_entry"] == stands["id"]
        fresh = api.post("/v1/transfers", api.transfer(1_00), key="dry")
        assert fresh.status_code == 201
        assert "Idempotent-Replayed" not in fresh

    @pytest.mark.parametrize(
        "amount", [-1, 0, 2**63, True, "10", 10.0, None, [], 10**13 + 1, "1_000"]
    )
    def test_with_no_amount_is_400_naming_the_field_and_leaves_no_row(self, api, amount):
        before = JournalEntry.objects.count()

        response = api.post("/v1/transfers", api.transfer(amount))

        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == "/amount"
        assert JournalEntry.objects.count() == before
        assert api.post("/v1/transfers", api.transfer()).status_code == 201

    @pytest.mark.parametrize(
        "instant", ["0001-01-01T00:00:00Z", "9999-12-31T23:00:00Z", "2026-11-02T09:30:00", 5]
    )
    def test_with_no_likely_effective_time_is_400_naming_the_field(self, api, instant):
        response = api.post("/v1/transfers", api.transfer(effective_at=instant))

        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == "/effective_at"

    @pytest.mark.parametrize("currency", ["JPY", "KWD"])
    def test_in_a_currency_of_no_or_three_decimals_moves_units_all_the_same(self, api, currency):
        opened = {
            name: api.post(
                "/v1/ledger-accounts",
                {"code": f"wallets:{name}:{currency}", "type": "liability", "currency": currency,
                 "min_available": -100},
                key=name,
            ).json()["id"]
            for name in ("debit", "credit")
        }  # fmt: skip
        moved = {f"{name}_account": id_ for name, id_ in opened.items()} | {"currency": currency}

        made = [
            api.post("/v1/transfers", api.transfer(amount) | moved, key=f"k-{amount}")
            for amount in (100, 1, 0.5)
        ]

        assert [one.status_code for one in made] == [201, 422, 400]
        assert [b["posted"] for b in made[0].json()["balances"]] == [-100, 100]
        assert made[1].json()["code"] == "insufficient_funds"

    def test_without_a_key_is_400(self, api):
        response = api.post("/v1/transfers", api.transfer(), key=None)

        assert response.status_code == 400
        assert response.json()["code"] == "idempotency_key_missing"

    def test_without_the_scope_is_403(self):
        response = Api("ledger:read").post("/v1/transfers", {})

        assert response.status_code == 403
        assert response.json()["code"] == "insufficient_scope"

    def test_to_the_bank_is_refused(self, api):
        bank = LedgerAccount.objects.get(code="bank:ba_1:EUR").id

        response = api.post(
            "/v1/transfers", {**api.transfer(), "credit_account": encode_id("la", bank)}
        )

        assert response.status_code == 422
        assert response.json()["code"] == "ledger_account_reserved"


class TestPostTransfers:
    def test_independent_answers_one_outcome_each(self, api):
        body = {"mode": "independent", "transfers": [api.transfer(60_00), api.transfer(60_00)]}

        first = api.post("/v1/transfers/batch", body)
        second = api.post("/v1/transfers/batch", body)

        assert first.status_code == 201, first.content
        assert [o["status"] for o in first.json()["outcomes"]] == ["posted", "refused"]
        assert first.json()["outcomes"][1]["code"] == "insufficient_funds"
        assert first.json()["balances"] == [
            api.balance(api.ann, 2, 40_00), api.balance(api.bob, 1, 60_00),
        ]  # fmt: skip
        assert second.json() == first.json()

    def test_answers_each_account_as_the_last_of_them_left_it(self, api):
        body = {"transfers": [api.transfer(60_00), api.transfer(30_00)]}

        dry = api.post("/v1/transfers/batch", body | {"dry_run": True})
        done = api.post("/v1/transfers/batch", body)

        left = [api.balance(api.ann, 3, 10_00), api.balance(api.bob, 2, 90_00)]
        assert dry.json()["balances"] == done.json()["balances"] == left

    def test_atomic_is_refused_with_the_index(self, api):
        response = api.post(
            "/v1/transfers/batch", {"transfers": [api.transfer(60_00), api.transfer(60_00)]}
        )

        assert response.status_code == 422
        assert response.json()["index"] == 1
        assert balance(api.organization.id, api.bob).available == 0

    def test_a_bad_line_is_named(self, api):
        response = api.post("/v1/transfers/batch", {"transfers": [api.transfer(), api.transfer(0)]})

        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == "/transfers/1/amount"


class TestReads:
    def test_accounts_are_listed_with_balances(self, api):
        page = api.get("/v1/ledger-accounts", code_prefix="customers:").json()

        assert sorted(row["available"] for row in page["data"]) == [0, 100_00]

    @pytest.mark.parametrize("path", ["ledger-accounts", "balances", "trial-balance"])
    @pytest.mark.parametrize("prefix", [":", "::", ":customers"])
    def test_no_branch_begins_with_a_colon(self, api, path, prefix):
        refused = api.get(f"/v1/{path}", code_prefix=prefix)

        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == "/code_prefix"

    def test_entries_of_an_account_newest_first(self, api):
        api.post("/v1/transfers", api.transfer())

        page = api.get("/v1/journal-entries", ledger_account=encode_id("la", api.ann)).json()

        assert [entry["postings"][0]["amount"] for entry in page["data"]] == [30_00, 100_00]

    def test_a_client_opens_accounts_outside_the_reserved_branches(self, api):
        body = {"code": "wallets:w_1:EUR", "type": "liability", "currency": "EUR"}

        first = api.post("/v1/ledger-accounts", body, key="a")
        again = api.post("/v1/ledger-accounts", body, key="a")
        taken = api.post("/v1/ledger-accounts", body, key="b")
        reserved = api.post("/v1/ledger-accounts", {**body, "code": "bank:x:EUR"}, key="c")

        assert first.status_code == 201, first.content
        assert again.json() == first.json()
        opened = LedgerAccount.objects.get(code="wallets:w_1:EUR")
        assert first.json()["created_at"] == print_instant(opened.created_at)
        assert (taken.status_code, taken.json()["code"]) == (409, "ledger_code_taken")
        assert (reserved.status_code, reserved.json()["code"]) == (422, "ledger_code_reserved")

    @pytest.mark.parametrize(
        "branch",
        [
            "bank", "costs", "customers", "equity", "fees", "liquidity", "payouts", "providers",
            "refunds", "suspense",
        ],
    )  # fmt: skip
    def test_no_client_opens_an_account_in_a_branch_of_kassas_own(self, api, branch):
        body = {"code": f"{branch}:x:EUR", "type": "liability", "currency": "EUR"}

        refused = api.post("/v1/ledger-accounts", body)

        assert (refused.status_code, refused.json()["code"]) == (422, "ledger_code_reserved")
        assert not LedgerAccount.objects.filter(code=body["code"]).exists()

    def test_an_account_that_would_begin_below_its_floor_is_400(self, api):
        body = {"code": "wallets:w_1:EUR", "type": "asset", "currency": "EUR", "min_available": 1}

        response = api.post("/v1/ledger-accounts", body)

        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == "/min_available"

    def test_a_filter_with_an_unseen_character_is_400(self, api):
        assert api.get("/v1/journal-entries", kind="a\x00b").status_code == 400


class TestTenancy:
    def test_another_organizations_rows_are_not_there(self, api):
        other = Api()
        entry = api.post("/v1/transfers", api.transfer()).json()["id"]

        assert other.get(f"/v1/journal-entries/{entry}").status_code == 404
        assert other.get(f"/v1/ledger-accounts/{encode_id('la', api.ann)}").status_code == 404
        assert other.get("/v1/journal-entries").json()["data"] == []
        stolen = other.post("/v1/transfers", api.transfer())
        assert (stolen.status_code, stolen.json()["code"]) == (422, "unknown_ledger_account")

    @pytest.mark.parametrize(
        ("id_", "status"), [("la_x", 400), ("je_01m83kxarafs59vshdy24d7s7c", 404)]
    )
    def test_ids_of_another_form_or_kind(self, api, id_, status):
        assert api.get(f"/v1/ledger-accounts/{id_}").status_code == status
