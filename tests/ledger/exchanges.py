"""Money changed for a test, and where the house stands after it."""

from decimal import Decimal

from apps.ledger import operations, queries
from apps.ledger.operations import FxRequest
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
)


def exchange(organization, source, target, amount=100_00, /, *, key="k-1", **more):
    asked = {
        "from_account_id": source, "to_account_id": target, "sold_minor": amount,
        "sold_currency": "EUR", "bought_currency": "USD", "rate": Decimal("1.08456"),
        "source": "ecb", "quoted_at": NOW,
    }  # fmt: skip
    result = operations.exchange(
        organization_id=organization,
        fx=FxRequest(**(asked | more)),
        idempotency_key=key,
        actor=ACTOR,
        now=NOW,
    )
    return result.fx_transfer_id


def position(organization, currency) -> int:
    code = f"liquidity:{currency}"
    [account] = queries.account_ids(organization_id=organization, codes=[code]).values()
    return balance(organization, account).posted
