"""Organisations with ledger accounts and money, made by the operations themselves."""

from datetime import UTC, date, datetime
from uuid import UUID

from apps.accounts.models import Organization
from apps.core import outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.ledger import operations, queries
from apps.ledger.operations import AccountSpec, TransferRequest
from apps.ledger.rules import CaptureHold, PlaceHold, PostEntry, Transfer
from tests.support import wait_until

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
ACTOR = Actor.job("tests")

committed = transactions.outermost


def create_organization(name: str = "Northwind") -> UUID:
    row = Organization.objects.create(id=new_id(), name=name, mode="live", created_at=NOW)
    return row.id


def open_account(
    organization_id: UUID,
    code: str,
    *,
    type_: str = "liability",
    floor: int | None = 0,
    internal: bool = False,
) -> UUID:
    currency = code.rpartition(":")[2] if code[-3:].isupper() else "EUR"
    spec = AccountSpec(code, type_, currency, floor, internal=internal)
    opened = committed(operations.open_accounts)(
        organization_id=organization_id, accounts=[spec], now=NOW
    )
    return opened[code]


def fund(
    organization_id: UUID,
    account_id: UUID,
    amount_minor: int,
    currency: str = "EUR",
    *,
    at: datetime | None = None,
) -> None:
    """Bring money in from the bank, as a pay-in does."""
    bank = open_account(
        organization_id, f"bank:ba_1:{currency}", type_="asset", floor=None, internal=True
    )
    post(organization_id, move(bank, account_id, amount_minor, currency=currency, effective_at=at))


def move(debit: UUID, credit: UUID, amount_minor: int, **more: object) -> PostEntry:
    more = {"currency": "EUR", **more}
    return Transfer(
        id=new_id(),
        debit_account_id=debit,
        credit_account_id=credit,
        amount_minor=amount_minor,
        **more,
    )


@committed
def post(organization_id: UUID, *commands: object) -> list:
    return operations.post(organization_id=organization_id, commands=commands, actor=ACTOR, now=NOW)


def capture_at_once(organization_id: UUID, debit: UUID, credit: UUID) -> tuple[UUID, UUID]:
    """Reserve money and take it in the same transaction; return the hold and the entry."""
    hold, entry = new_id(), new_id()
    post(
        organization_id,
        PlaceHold(
            id=hold, debit_account_id=debit, credit_account_id=credit, currency="EUR",
            amount_minor=5_00,
        ),
        CaptureHold(hold_id=hold, entry_id=entry, kind="x"),
    )  # fmt: skip
    return hold, entry


def post_transfer(
    organization_id: UUID, debit: UUID, credit: UUID, amount: int, *, key: str, **more: object
):
    request = TransferRequest(
        debit_account_id=debit,
        credit_account_id=credit,
        amount_minor=amount,
        **{"currency": "EUR", **more},
    )
    return operations.post_transfer(
        organization_id=organization_id,
        transfer=request,
        idempotency_key=key,
        actor=ACTOR,
        now=NOW,
    )


def close_month(organization_id: UUID, month: date, *, now: datetime) -> None:
    """Close a month as two people do, and wait until all that was posted is sealed."""

    @committed
    def begin() -> UUID:
        period = operations.prepare_close(organization_id=organization_id, month=month, now=now)
        return operations.begin_closing(
            organization_id=organization_id, period_id=period.id, requested_by="staff:mara",
            approved_by="staff:anton", reason="The month is done", actor=ACTOR, now=now,
        ).id  # fmt: skip

    period_id = begin()

    def is_closed() -> bool:
        outbox.relay_organization(organization_id=organization_id)
        while operations.seal_entries(organization_id=organization_id, now=now):
            pass
        period = operations.finish_closing(
            organization_id=organization_id, period_id=period_id, now=now
        )
        return period.state == "closed"

    # What others do on this server may hold it up for a moment.
    wait_until(is_closed)


def balance(organization_id: UUID, account_id: UUID) -> queries.BalanceView:
    return queries.get_balance(organization_id=organization_id, account_id=account_id)
