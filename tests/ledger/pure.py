"""Commands and books of the pure core, as its worked examples have them."""

from datetime import UTC, datetime
from uuid import UUID

from apps.ledger.rules import (
    BalanceState,
    CaptureHold,
    PlaceHold,
    PostEntry,
    State,
    Transfer,
)

A, B, C, BANK = (UUID(int=n) for n in range(1, 5))
NOW = datetime(2026, 11, 2, tzinfo=UTC)
_ids = iter(range(1000, 10**9))


def fresh() -> UUID:
    return UUID(int=next(_ids))


def state(**balances: int) -> State:
    """Customers A, B and C with a floor of 0, and the bank, from which their money came."""
    money = {A: balances.get("a", 0), B: balances.get("b", 0), C: balances.get("c", 0)}
    accounts = {
        id_: BalanceState(id_, "EUR", credit_normal=True, min_available_minor=0,
                          posted_credits=amount)
        for id_, amount in money.items()
    }  # fmt: skip
    accounts[BANK] = BalanceState(
        BANK, "EUR", credit_normal=False, posted_debits=sum(money.values())
    )
    return State(accounts, now=NOW)


def move(debit: UUID, credit: UUID, amount: int, **more: object) -> PostEntry:
    return Transfer(
        id=fresh(), debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        currency="EUR", **more,
    )  # fmt: skip


def codes(outcomes: list) -> list[str]:
    return [o.refusal.code if o.refusal else o.status for o in outcomes]


def up_to(debit: UUID, credit: UUID, amount: int, **more: object) -> Transfer:
    return move(debit, credit, amount, up_to=True, **more)


def hold(amount: int, **more: object) -> PlaceHold:
    return PlaceHold(
        id=fresh(), debit_account_id=A, credit_account_id=B, amount_minor=amount, currency="EUR",
        **more,
    )  # fmt: skip


def capture(id_: UUID, amount: int | None = None, **more: object) -> CaptureHold:
    return CaptureHold(hold_id=id_, entry_id=fresh(), kind="capture", amount_minor=amount, **more)
