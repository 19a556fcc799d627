"""A client with every scope of the ledger, and each act of its API with a body that it accepts."""

from tests.ledger.clients import SCOPES, ApiClient, printed
from tests.ledger.factories import open_account

ALL_SCOPES = (*SCOPES, "holds:write", "history:write", "periods:write")


class Client(ApiClient):
    """A client with every scope of the ledger, an open hold of 20.00 and a transfer of 5.00."""

    def __init__(self, *scopes: str) -> None:
        super().__init__(*(scopes or ALL_SCOPES))
        self.dollars = open_account(self.organization, "wallets:ann:USD")

    def begin(self) -> None:
        held = self.post("/v1/holds", self.moved(20_00), key="begin-1").json()
        posted = self.post("/v1/transfers", self.moved(5_00), key="begin-2").json()
        self.hold, self.entry = held["hold"]["id"], posted["id"]

    def moved(self, amount: int, **more: object) -> dict[str, object]:
        return {
            "debit_account": printed(self.ann),
            "credit_account": printed(self.bob),
            "amount": amount,
            "currency": "EUR",
            **more,
        }

    def path(self, name: str) -> str:
        """Return the path of an act on what the client began with."""
        account = printed(self.ann)
        return {
            "account": f"/v1/ledger-accounts/{account}",
            "capture": f"/v1/holds/{self.hold}/capture",
            "void": f"/v1/holds/{self.hold}/void",
            "reversal": f"/v1/journal-entries/{self.entry}/reversal",
            "reversals": "/v1/journal-entries/reversals",
            "annotate": f"/v1/journal-entries/{self.entry}/metadata",
        }.get(name, f"/v1/{name}")

    def body(self, name: str) -> dict[str, object]:
        """Return a body that the act accepts."""
        posting = {"ledger_account": printed(self.ann), "amount": 1, "currency": "EUR"}
        other = {"ledger_account": printed(self.bob), "amount": -1, "currency": "EUR"}
        bodies: dict[str, dict[str, object]] = {
            "account": {"status": "frozen", "reason": "Asked by the bank"},
            "annotate": {"metadata": {"a": "b"}},
            "reversals": {"journal_entries": [self.entry]},
            "transfers": self.moved(1),
            "transfers/batch": {"transfers": [self.moved(1)]},
            "holds": self.moved(1),
            "journal-entries": {"postings": [posting, other]},
            "ledger-accounts": {"code": "shops:s", "type": "liability", "currency": "EUR"},
            "balance-monitors": {
                "ledger_account": printed(self.ann),
                "measure": "available",
                "direction": "below",
                "threshold": 1,
            },
            "fx-transfers": {
                "from_account": printed(self.ann),
                "to_account": printed(self.dollars),
                "amount": 10_00,
                "currency": "EUR",
                "bought_currency": "USD",
                "rate": "1.1",
                "source": "ecb",
                "quoted_at": "2026-11-02T09:30:00Z",
            },
            "periods/2026-05/close": {"reason": "It is over"},
            "periods/2026-05/reopen": {"reason": "A late fact"},
        }
        return bodies.get(name, {})


ACTS = (
    "account",
    "annotate",
    "balance-monitors",
    "capture",
    "fx-transfers",
    "holds",
    "journal-entries",
    "ledger-accounts",
    "periods/2026-05/close",
    "periods/2026-05/reopen",
    "reversal",
    "reversals",
    "transfers",
    "transfers/batch",
    "void",
)
