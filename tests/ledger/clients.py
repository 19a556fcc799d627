"""A client of the API: an organisation's key, wallets of its own, and money on them."""

from django.test import Client

from apps.accounts.api.authentication import forget_cached_keys
from apps.core.ids import encode_id
from tests.accounts.factories import create_organization, issue_key
from tests.ledger.factories import fund, open_account

SCOPES = ("ledger:read", "ledger:write", "transfers:write", "monitors:write", "fx:write")


class ApiClient:
    """One organisation's key, and Ann's and Bob's wallets in EUR; Ann's has 100.00."""

    def __init__(self, *scopes: str) -> None:
        forget_cached_keys()
        organization = create_organization()
        self.organization = organization.id
        self.token = issue_key(organization, *(scopes or SCOPES)).token
        self.ann = open_account(self.organization, "wallets:ann:EUR")
        self.bob = open_account(self.organization, "wallets:bob:EUR")
        fund(self.organization, self.ann, 100_00)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def post(self, path: str, body: object, *, key: str | None = "k-1"):
        headers = self.headers if key is None else {**self.headers, "Idempotency-Key": key}
        return Client(headers=headers).post(path, body, content_type="application/json")

    def get(self, path: str, **query: str):
        return Client(headers=self.headers).get(path, query)

    def delete(self, path: str):
        return Client(headers=self.headers).delete(path)


def printed(id_) -> str:
    """Return a ledger account's id as the API prints it."""
    return encode_id("la", id_)


def code_of(response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def pointers(response) -> list[str]:
    return [error["pointer"] for error in response.json().get("errors", [])]
