"""Opening ledger accounts, and freezing or closing them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from typing import Final
from uuid import UUID

from apps.core import audit, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.wall_clock import print_instant
from apps.ledger import errors, events, queries, rules
from apps.ledger.models import Balance, LedgerAccount
from apps.ledger.operations import _engine
from apps.ledger.rules import CREDIT_NORMAL, AccountStatus, AccountType, BalanceState

# Branches of the tree that only Kassa's own acts open and post to.
RESERVED_BRANCHES: Final = frozenset(
    {
        "bank",
        "costs",
        "customers",
        "equity",
        "fees",
        "liquidity",
        "payouts",
        "providers",
        "refunds",
        "suspense",
    }
)


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """
    What an account is to be. `min_available_minor` is its floor (None: none, 0: no overdraft).

    An `internal` account is posted to by Kassa's own acts only; API transfers do not reach it.
    `metadata` is a client's own, and of an account that stands already it is left as it is.
    """

    code: str
    type: str
    currency: str
    min_available_minor: int | None = None
    internal: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


@transactions.required
def open_accounts(
    *, organization_id: UUID, accounts: Sequence[AccountSpec], now: datetime
) -> dict[str, UUID]:
    """
    Open these ledger accounts, and return the ids by code; those that stand already are returned.

    :raises LedgerAccountDiffers: if one stands with another type or currency
    """
    found = _find(organization_id, accounts)
    # In one order for everybody, so that of two callers one waits and neither deadlocks.
    missing = [spec for spec in sorted(accounts, key=attrgetter("code")) if spec.code not in found]
    if not missing:
        return {code: account.id for code, account in found.items()}
    rows = [_account(organization_id, new_id(), spec, now) for spec in missing]
    # Two callers may open one account at once: the first insert wins and both read it back.
    LedgerAccount.objects.bulk_create(rows, ignore_conflicts=True)
    found = _find(organization_id, accounts)
    ours = {row.id for row in rows} & {account.id for account in found.values()}
    specs = {spec.code: spec for spec in missing}
    opened = [account for account in found.values() if account.id in ours]
    Balance.objects.bulk_create([_balance(account, specs[account.code]) for account in opened])
    for account in opened:
        _publish_opened(account, Actor.job("ledger"), now)
    return {code: account.id for code, account in found.items()}


def standing_accounts(*, organization_id: UUID, accounts: Sequence[AccountSpec]) -> dict[str, UUID]:
    """
    Return the ids, by code, of those of these accounts that stand; for a dry run, which opens none.

    :raises LedgerAccountDiffers: if one stands with another type or currency
    """
    return {code: row.id for code, row in _find(organization_id, accounts).items()}


@transactions.outermost
def open_client_account(
    *,
    organization_id: UUID,
    account: AccountSpec,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> UUID:
    """
    Open a ledger account of a client's own, which API transfers reach; return its id.

    Replaying the key returns the account.

    :raises LedgerCodeReserved: if the code lies in a branch that Kassa keeps
    :raises LedgerCodeTaken: if an account with this code stands already
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "open_client_account", _parts(account), prefix="la"
    )
    if claim.replayed:
        return claim.resource_id
    if account.code.split(":", maxsplit=1)[0] in RESERVED_BRANCHES:
        raise errors.LedgerCodeReserved(
            "Codes of this branch are Kassa's own.", ledger_code=account.code
        )
    row = _account(organization_id, claim.resource_id, account, now)
    LedgerAccount.objects.bulk_create([row], ignore_conflicts=True)
    standing = LedgerAccount.objects.get(organization_id=organization_id, code=account.code)
    if standing.id != row.id:
        raise errors.LedgerCodeTaken(
            "A ledger account with this code stands already.",
            ledger_account=encode_id("la", standing.id),
        )
    Balance.objects.bulk_create([_balance(row, replace(account, internal=False))])
    _publish_opened(row, actor, now)
    return row.id


def _parts(account: AccountSpec) -> list[object]:
    """Return what makes two requests the same one."""
    parts: list[object] = [
        account.code, account.type, account.currency, account.min_available_minor,
    ]  # fmt: skip
    # Left out where there is none: keys of requests that did not know it still fit.
    return [*parts, dict(account.metadata)] if account.metadata else parts


def _find(organization_id: UUID, accounts: Sequence[AccountSpec]) -> dict[str, LedgerAccount]:
    rows = LedgerAccount.objects.filter(
        organization_id=organization_id, code__in=[spec.code for spec in accounts]
    )
    found = {row.code: row for row in rows}
    for spec in accounts:
        row = found.get(spec.code)
        if row is not None and (row.type, row.currency) != (spec.type, spec.currency):
            raise errors.LedgerAccountDiffers(
                "A ledger account with this code is of another type or currency.",
                ledger_code=spec.code,
                ledger_account=encode_id("la", row.id),
            )
    return found


def _account(organization_id: UUID, id_: UUID, spec: AccountSpec, now: datetime) -> LedgerAccount:
    return LedgerAccount(
        id=id_,
        organization_id=organization_id,
        code=spec.code,
        type=AccountType(spec.type),
        currency=spec.currency,
        metadata=dict(spec.metadata),
        created_at=now,
    )


def _balance(account: LedgerAccount, spec: AccountSpec) -> Balance:
    return Balance(
        id=account.id,
        organization_id=account.organization_id,
        currency=account.currency,
        credit_normal=account.type in CREDIT_NORMAL,
        internal=spec.internal,
        min_available_minor=spec.min_available_minor,
    )


def _publish_opened(account: LedgerAccount, actor: Actor, now: datetime) -> None:
    outbox.publish(
        events.LedgerAccountOpened(
            organization_id=account.organization_id,
            aggregate_id=encode_id("la", account.id),
            occurred_at=now,
            code=account.code,
            type=account.type,
            currency=account.currency,
        ),
        actor=actor,
        now=now,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """
    What is to change of an account: its status and metadata where given, its floor where asked.

    Metadata takes the place of all it had.
    """

    reason: str
    status: AccountStatus | None = None
    sets_floor: bool = False
    min_available_minor: int | None = None
    metadata: Mapping[str, str] | None = None


@transactions.outermost
def change_client_account(
    *,
    organization_id: UUID,
    account_id: UUID,
    change: AccountChange,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> None:
    """
    Change floor, status or metadata of a client's own account, from the next posting on.

    The floor is to hold from now on, as what is dated later comes in and goes out, and counts what
    holds reserve until their time is over. Replaying the key changes nothing.

    :raises LedgerAccountNotFound: if the organisation has no such account
    :raises LedgerCodeReserved: if the account is one of Kassa's own
    :raises FloorAboveAvailable: if less is available than the new floor, now or at a later time
    :raises LedgerAccountNotEmpty: if it is to be closed and something is posted or reserved on it,
        or dated later than now
    """
    parts: list[object] = [
        account_id, change.status, change.sets_floor, change.min_available_minor, change.reason,
    ]  # fmt: skip
    if change.metadata is not None:
        # Left out otherwise: keys of requests that did not know it still fit.
        parts.append(dict(change.metadata))
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "change_client_account",
        parts,
        prefix="la",
        acts_on=account_id,
    )
    if claim.replayed:
        return
    row = LedgerAccount.objects.filter(organization_id=organization_id, id=account_id).first()
    if row is None:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    if row.code.split(":", maxsplit=1)[0] in RESERVED_BRANCHES:
        raise errors.LedgerCodeReserved(
            "Accounts of this branch are Kassa's own.", ledger_code=row.code
        )
    change_account(
        organization_id=organization_id, account_id=account_id, change=change, actor=actor, now=now
    )


@transactions.required
def change_account(
    *,
    organization_id: UUID,
    account_id: UUID,
    change: AccountChange,
    actor: Actor,
    now: datetime,
) -> None:
    """
    Change an account's floor, status or metadata, under the lock that every posting takes.

    :raises LedgerAccountNotFound, FloorAboveAvailable, LedgerAccountNotEmpty: see
        `change_client_account`
    """
    # What is being posted ends first, what comes after decides by the new floor and status.
    found = queries.lock_balances(organization_id=organization_id, account_ids=[account_id])
    if account_id not in found:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    balance = found[account_id]
    status = balance.status if change.status is None else change.status
    floor = change.min_available_minor if change.sets_floor else balance.min_available_minor
    shown = encode_id("la", account_id)
    try:
        if change.sets_floor and floor is not None:
            _check_floor(organization_id, balance, floor, now=now)
        if status == AccountStatus.CLOSED and balance.status != status:
            _check_empty(balance, now=now)
    except Refusal:
        # What only holds that are over stand in the way of is decided once they are released.
        _engine.release_expired(organization_id=organization_id, account_ids=[account_id], now=now)
        raise
    row = LedgerAccount.objects.get(organization_id=organization_id, id=account_id)
    metadata = row.metadata if change.metadata is None else dict(change.metadata)
    standing = (balance.status, balance.min_available_minor, row.metadata)
    if (status, floor, metadata) == standing:
        return
    Balance.objects.filter(organization_id=organization_id, id=account_id).update(
        status=status, min_available_minor=floor
    )
    LedgerAccount.objects.filter(organization_id=organization_id, id=account_id).update(
        metadata=metadata, event_sequence=row.event_sequence + 1
    )
    audit.record(
        "ledger.change_account",
        ("ledger.ledgeraccount", str(account_id)),
        organization_id=organization_id,
        actor=actor,
        reason=change.reason,
        before=_told(*standing),
        after=_told(status, floor, metadata),
    )
    outbox.publish(
        events.LedgerAccountChanged(
            organization_id=organization_id,
            aggregate_id=shown,
            sequence=row.event_sequence + 1,
            occurred_at=now,
            status=status,
            min_available=floor,
        ),
        actor=actor,
        now=now,
    )


def _check_floor(
    organization_id: UUID, balance: BalanceState, floor: int, *, now: datetime
) -> None:
    since = _counted_from(balance, now)
    later = queries.later_balances(
        organization_id=organization_id,
        balances={balance.id: balance},
        instants={balance.id: [since]},
    )
    available, at = rules.lowest(later[balance.id], balance, since, now=since)
    if available < floor:
        raise errors.FloorAboveAvailable(
            "Less is available than the new floor.",
            ledger_account=encode_id("la", balance.id),
            available=available,
            available_at=print_instant(at),
            min_available=floor,
        )


def _check_empty(balance: BalanceState, *, now: datetime) -> None:
    latest = balance.latest_effective_at
    is_later = latest is not None and latest > _counted_from(balance, now)
    if balance.posted or balance.pending_out or balance.pending_in or is_later:
        raise errors.LedgerAccountNotEmpty(
            "An account is closed once nothing is left, dated later or reserved on it.",
            ledger_account=encode_id("la", balance.id),
            posted=balance.posted,
            pending_out=balance.pending_out,
            pending_in=balance.pending_in,
            latest_effective_at=latest and print_instant(latest),
        )


def _counted_from(balance: BalanceState, now: datetime) -> datetime:
    """Return since when an account counts: a server whose clock is ahead may have posted to it."""
    latest = balance.latest_effective_at
    return latest if latest is not None and now < latest <= now + rules.CLOCK_SKEW else now


def _told(status: str, floor: int | None, metadata: Mapping[str, str]) -> dict[str, object]:
    """Return what an account is like, for the audit trail; what a client writes is the client's."""
    return {"status": status, "min_available": floor, "metadata_keys": sorted(metadata)}
