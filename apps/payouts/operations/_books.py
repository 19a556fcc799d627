"""The ledger commands of a payout's life (the table in the app's README)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core.ids import encode_id, new_id
from apps.ledger import operations as ledger
from apps.ledger import queries as ledger_queries
from apps.ledger.operations import AccountSpec
from apps.ledger.queries import Dating
from apps.ledger.rules import AccountStatus, CaptureHold, Command, Leg, PlaceHold, PostEntry
from apps.payouts import queries
from apps.payouts.errors import NoLedgerAccount
from apps.payouts.models import Payout, PayoutAttempt

SUSPENSE_IN: Final = "suspense:in"
COSTS: Final = "costs:bank"


@dataclass(frozen=True, slots=True)
class Accounts:
    """The ledger accounts that payouts of one currency go through, and the customers' own."""

    in_transit: UUID
    fees: UUID
    suspense_in: UUID
    costs: UUID
    available: Mapping[UUID, UUID]


def open_accounts(
    *, organization_id: UUID, currency: str, customer_ids: Iterable[UUID], now: datetime
) -> Accounts:
    """
    Return the accounts, opening the organization's own ones where they are not there yet.

    :raises NoLedgerAccount: if a customer has no account in this currency
    """
    specs = [
        AccountSpec(queries.in_transit_code(currency), "liability", currency),
        AccountSpec(queries.fees_code(currency), "income", currency),
        AccountSpec(f"{SUSPENSE_IN}:{currency}", "liability", currency),
        AccountSpec(f"{COSTS}:{currency}", "expense", currency),
    ]
    ids = ledger.open_accounts(organization_id=organization_id, accounts=specs, now=now)
    codes = {
        queries.available_code(customer_id=customer_id, currency=currency): customer_id
        for customer_id in customer_ids
    }
    found = ledger_queries.account_ids(organization_id=organization_id, codes=codes)
    missing = codes.keys() - found.keys()
    if missing:
        raise NoLedgerAccount("The customer has no account in this currency.", currency=currency)
    return Accounts(
        in_transit=ids[specs[0].code],
        fees=ids[specs[1].code],
        suspense_in=ids[specs[2].code],
        costs=ids[specs[3].code],
        available={customer_id: found[code] for code, customer_id in codes.items()},
    )


def accounts_of(payouts: Sequence[Payout], *, now: datetime) -> Accounts:
    """Return the accounts of these payouts, which share organization and currency."""
    return open_accounts(
        organization_id=payouts[0].organization_id,
        currency=payouts[0].currency,
        customer_ids={payout.customer_id for payout in payouts},
        now=now,
    )


def closed_to_money(accounts: Accounts, *, organization_id: UUID) -> frozenset[UUID]:
    """
    Return the customers whose ledger account takes no posting now: frozen, or closed.

    Their money waits in suspense: a bank's word about one account must not be refused for ever,
    and everybody else's with it.
    """
    views = ledger_queries.list_balances(
        organization_id=organization_id, ids=list(accounts.available.values())
    )
    shut = {view.account_id for view in views if view.status != AccountStatus.OPEN}
    return frozenset(customer for customer, id_ in accounts.available.items() if id_ in shut)


def reserve(payout: Payout, accounts: Accounts) -> list[Command]:
    """Hold the amount for the bank, and the fee for us, both or neither."""
    available = accounts.available[payout.customer_id]
    commands: list[Command] = [
        PlaceHold(
            id=payout.hold_id,
            debit_account_id=available,
            credit_account_id=accounts.in_transit,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
            reference=reference(payout.id, "hold", prefix="po"),
            linked=payout.fee_hold_id is not None,
        )
    ]
    if payout.fee_hold_id is not None:
        commands.append(
            PlaceHold(
                id=payout.fee_hold_id,
                debit_account_id=available,
                credit_account_id=accounts.fees,
                amount_minor=payout.fee_minor,
                currency=payout.currency,
                reference=reference(payout.id, "fee_hold", prefix="po"),
            )
        )
    return commands


def capture(payout: Payout, attempt: PayoutAttempt, *, effective_at: datetime) -> list[Command]:
    """Post the holds: the money is on its way. Sets the entries' ids on the attempt."""
    attempt.capture_entry_id = new_id()
    commands: list[Command] = [
        CaptureHold(
            hold_id=payout.hold_id,
            entry_id=attempt.capture_entry_id,
            kind="payout.submit",
            reference=reference(attempt.id, "submit"),
            effective_at=effective_at,
            metadata={"payout": encode_id("po", payout.id)},
            linked=payout.fee_hold_id is not None,
        )
    ]
    if payout.fee_hold_id is not None:
        attempt.fee_capture_entry_id = new_id()
        commands.append(
            CaptureHold(
                hold_id=payout.fee_hold_id,
                entry_id=attempt.fee_capture_entry_id,
                kind="payout.fee",
                reference=reference(attempt.id, "fee"),
                effective_at=effective_at,
                metadata={"payout": encode_id("po", payout.id)},
            )
        )
    return commands


def uncapture(
    payout: Payout,
    attempt: PayoutAttempt,
    accounts: Accounts,
    *,
    to_suspense: bool = False,
    effective_at: datetime,
) -> list[Command]:
    """
    Reverse the captures: amount and fee are the customer's again. Sets the entry's id.

    `to_suspense`: the customer's account takes nothing, so both wait in suspense; the entries then
    are no reversals, since their legs are others.
    """
    available = accounts.suspense_in if to_suspense else accounts.available[payout.customer_id]
    attempt.reversal_entry_id = new_id()
    commands: list[Command] = [
        PostEntry(
            id=attempt.reversal_entry_id,
            legs=(
                Leg(accounts.in_transit, payout.amount_minor),
                Leg(available, -payout.amount_minor),
            ),
            currency=payout.currency,
            kind="payout.reject",
            reference=reference(attempt.id, "reject"),
            effective_at=effective_at,
            metadata={"payout": encode_id("po", payout.id)},
            reverses=None if to_suspense else attempt.capture_entry_id,
        )
    ]
    if attempt.fee_capture_entry_id is not None:
        commands.append(
            PostEntry(
                id=new_id(),
                legs=(Leg(accounts.fees, payout.fee_minor), Leg(available, -payout.fee_minor)),
                currency=payout.currency,
                kind="payout.reject",
                reference=reference(attempt.id, "reject_fee"),
                effective_at=effective_at,
                metadata={"payout": encode_id("po", payout.id)},
                reverses=None if to_suspense else attempt.fee_capture_entry_id,
            )
        )
    return commands


def settle(
    payout: Payout,
    attempt: PayoutAttempt,
    accounts: Accounts,
    *,
    money_account_id: UUID,
    dating: Dating,
) -> list[Command]:
    """The bank paid: what was in transit left our account. Sets the entry's id."""
    attempt.settle_entry_id = new_id()
    return [
        PostEntry(
            id=attempt.settle_entry_id,
            legs=(
                Leg(accounts.in_transit, attempt.amount_minor),
                Leg(money_account_id, -attempt.amount_minor),
            ),
            currency=attempt.currency,
            kind="payout.settle",
            reference=reference(attempt.id, "settle"),
            effective_at=dating.effective_at,
            metadata={"payout": encode_id("po", payout.id), **dating.metadata},
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnSplit:
    """How money that came back is divided; all in minor units, all zero or more."""

    to_customer: int
    to_suspense: int
    fee: int

    @property
    def came(self) -> int:
        return self.to_customer + self.to_suspense - self.fee


def give_back(
    payout: Payout,
    attempt: PayoutAttempt,
    accounts: Accounts,
    *,
    split: ReturnSplit,
    money_account_id: UUID,
    dating: Dating,
) -> list[Command]:
    """
    Credit what the bank sent back. Sets the entry's id, or none where nothing has to move.

    A small part that banks kept on the way is booked as our cost and then charged to the customer,
    so that the full amount and the fee both show.
    """
    available = accounts.available[payout.customer_id]
    legs = {money_account_id: split.came, accounts.costs: split.fee}
    legs[available] = legs.get(available, 0) - split.to_customer
    legs[accounts.suspense_in] = legs.get(accounts.suspense_in, 0) - split.to_suspense
    moved = tuple(Leg(account, amount) for account, amount in legs.items() if amount)
    if not moved:
        return []
    attempt.return_entry_id = new_id()
    meta = {"payout": encode_id("po", payout.id), **dating.metadata}
    commands: list[Command] = [
        PostEntry(
            id=attempt.return_entry_id,
            legs=moved,
            currency=payout.currency,
            kind="payout.return",
            reference=reference(attempt.id, "return"),
            effective_at=dating.effective_at,
            metadata=meta,
            linked=split.fee > 0,
        )
    ]
    if split.fee:
        commands.append(
            PostEntry(
                id=new_id(),
                legs=(Leg(available, split.fee), Leg(accounts.costs, -split.fee)),
                currency=payout.currency,
                kind="payout.return_fee",
                reference=reference(attempt.id, "return_fee"),
                effective_at=dating.effective_at,
                metadata=meta,
            )
        )
    return commands


def reference(id_: UUID, act: str, *, prefix: str = "pat") -> str:
    """Return the reference under which an act of a payout is posted once for ever."""
    return f"payout:{encode_id(prefix, id_)}:{act}"
