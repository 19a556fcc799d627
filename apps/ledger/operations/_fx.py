"""Changing money: two linked transfers through the organisation's own liquidity."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from apps.core import idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.ledger import errors, events, queries, rules
from apps.ledger.models import FxTransfer
from apps.ledger.operations import _engine
from apps.ledger.operations._accounts import AccountSpec, open_accounts, standing_accounts
from apps.ledger.rules import (
    FX_KIND,
    AccountType,
    BalanceAfter,
    BalanceState,
    Leg,
    Outcome,
    PostEntry,
    Quote,
    checks,
)

# Two transactions may exchange under one new reference at once; the later one runs again and finds
# what the first one posted.
transactions.run_again_on_unique("fx_transfer_reference_is_unique")


@dataclass(frozen=True, slots=True, kw_only=True)
class FxRequest:
    """
    An exchange as a client asks for it: `sold_minor` > 0 leaves one account for another.

    `rate` is major units bought for one major unit sold, as `source` quoted it at `quoted_at`.
    """

    from_account_id: UUID
    to_account_id: UUID
    sold_minor: int
    sold_currency: str
    bought_currency: str
    rate: Decimal
    source: str
    quoted_at: datetime
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FxResult:
    """The FX transfer, and the balances of all its accounts right after; in a replay, now."""

    fx_transfer_id: UUID
    balances: tuple[BalanceAfter, ...]


@dataclass(frozen=True, slots=True)
class FxPreview:
    """
    What an exchange would come to: its quote, its business time, and its accounts' balances.

    `unopened` are liquidity accounts that it would open, under ids that nobody has yet.
    """

    quoted: Quote
    effective_at: datetime
    unopened: frozenset[UUID]
    balances: tuple[BalanceAfter, ...]


@transactions.outermost
def exchange(
    *, organization_id: UUID, fx: FxRequest, idempotency_key: str, actor: Actor, now: datetime
) -> FxResult:
    """
    Sell an amount of one currency for another.

    The bought amount is rounded down: the remainder stays with `liquidity:<currency>`, an account
    of the organisation's own position, opened when it is first needed. Both transfers are posted
    or neither. Replaying the key, or asking again under the same reference, answers what stands.
    Balances are of the two accounts, and then of liquidity in both currencies, sold before bought.

    :raises FxSameCurrency: if both currencies are one
    :raises FxRateInvalid: if the rate is not positive, or has more digits than are kept
    :raises FxQuoteStale: if the quote is too old, or too far ahead of our clock
    :raises FxAmountTooSmall: if less than one minor unit would be bought
    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    :raises ReferenceReserved: if the reference begins as those of Kassa's own acts do
    :raises ReferenceReused: if the reference stands for another FX transfer
    :raises InsufficientFunds, LaterBalanceBelowFloor: if the sold amount is not, or was not, there
    :raises PeriodClosed: if its month is closed
    """
    claim = idempotency.claim(organization_id, idempotency_key, "exchange", _parts(fx), prefix="fx")
    if claim.replayed:
        return _replayed(organization_id, claim.resource_id, fx)
    known = _standing(organization_id, fx)
    if known is not None:
        # Its reference stood already: from now on the key stands for that FX transfer too.
        idempotency.answer_with(organization_id, idempotency_key, known)
        return _replayed(organization_id, known, fx)
    quoted = _quote(fx, now)
    sides = _reachable(organization_id, fx)
    liquidity = open_accounts(organization_id=organization_id, accounts=_liquidity(fx), now=now)
    sold, bought = _commands(claim.resource_id, fx, quoted, sides=sides, liquidity=liquidity)
    # Both at once: the engine locks all four balances ascending in one statement, so exchanges of
    # one pair of currencies in both directions wait for each other and never deadlock.
    with of_the_whole():
        outcomes = _engine.post(
            organization_id=organization_id, commands=[sold, bought], actor=actor, now=now
        )
    row = FxTransfer.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        from_account_id=fx.from_account_id,
        to_account_id=fx.to_account_id,
        sold_minor=fx.sold_minor,
        sold_currency=fx.sold_currency,
        bought_minor=quoted.bought_minor,
        bought_currency=fx.bought_currency,
        rate=fx.rate,
        remainder_minor=quoted.remainder_minor,
        source=fx.source,
        quoted_at=fx.quoted_at,
        sold_entry_id=sold.id,
        bought_entry_id=bought.id,
        reference=fx.reference,
        description=fx.description,
        metadata=dict(fx.metadata),
        effective_at=_effective_at(outcomes, now),
        created_at=now,
    )
    outbox.publish(_posted(row), actor=actor, now=now)
    return FxResult(row.id, _balances_of(outcomes, fx, liquidity))


@transactions.snapshot()
def preview_exchange(
    *, organization_id: UUID, fx: FxRequest, now: datetime
) -> FxPreview | FxResult:
    """
    Return what `exchange` would come to, and write nothing; or what stands already.

    All of it is read as of one instant.

    :raises Refusal: as `exchange` does
    """
    known = _standing(organization_id, fx)
    if known is not None:
        return _replayed(organization_id, known, fx)
    quoted = _quote(fx, now)
    sides = _reachable(organization_id, fx)
    accounts = _liquidity(fx)
    liquidity = standing_accounts(organization_id=organization_id, accounts=accounts)
    missing = {spec.code: _new_balance(spec) for spec in accounts if spec.code not in liquidity}
    liquidity |= {code: balance.id for code, balance in missing.items()}
    sold, bought = _commands(new_id(), fx, quoted, sides=sides, liquidity=liquidity)
    _, outcomes = _engine.preview(
        organization_id=organization_id,
        commands=[sold, bought],
        now=now,
        reach_internal=True,
        opened=missing.values(),
    )
    with of_the_whole():
        _engine.raise_first(outcomes)
    return FxPreview(
        quoted,
        _effective_at(outcomes, now),
        frozenset(balance.id for balance in missing.values()),
        _balances_of(outcomes, fx, liquidity),
    )


def _replayed(organization_id: UUID, fx_transfer_id: UUID, fx: FxRequest) -> FxResult:
    liquidity = standing_accounts(organization_id=organization_id, accounts=_liquidity(fx))
    return FxResult(
        fx_transfer_id,
        queries.balances_now(
            organization_id=organization_id, account_ids=_accounts_of(fx, liquidity)
        ),
    )


def _quote(fx: FxRequest, now: datetime) -> Quote:
    rules.check_fresh(quoted_at=fx.quoted_at, now=now)
    return rules.quote(
        sold_minor=fx.sold_minor,
        sold_currency=fx.sold_currency,
        bought_currency=fx.bought_currency,
        rate=fx.rate,
    )


@contextmanager
def of_the_whole() -> Iterator[None]:
    """Take the place of a command out of a refusal: the client asked for one thing."""
    try:
        yield
    except Refusal as refusal:
        refusal.details.pop("index", None)
        raise


def _effective_at(outcomes: Sequence[Outcome], now: datetime) -> datetime:
    return max(outcome.effective_at or now for outcome in outcomes)


def _accounts_of(fx: FxRequest, liquidity: Mapping[str, UUID]) -> list[UUID]:
    """Return the client's two accounts and the organisation's own, what was sold before bought."""
    own = (liquidity[_liquidity_code(of)] for of in (fx.sold_currency, fx.bought_currency))
    return [fx.from_account_id, fx.to_account_id, *own]


def _balances_of(
    outcomes: Sequence[Outcome], fx: FxRequest, liquidity: Mapping[str, UUID]
) -> tuple[BalanceAfter, ...]:
    after = {balance.id: balance for outcome in outcomes for balance in outcome.balances}
    return tuple(after[id_] for id_ in _accounts_of(fx, liquidity))


@transactions.required
def restore_fx_transfers(*, rows: Sequence[FxTransfer], actor: Actor, now: datetime) -> None:
    """Keep the FX transfers of an imported journal, whose entries stand; each is told as if new."""
    FxTransfer.objects.bulk_create(rows, batch_size=1_000)
    for row in rows:
        outbox.publish(_posted(row), actor=actor, now=now)


def _parts(fx: FxRequest) -> dict[str, object]:
    """Return what makes two requests the same one; 1.10 and 1.1 are one rate."""
    return {**asdict(fx), "rate": rules.rate_text(fx.rate)}


def _standing(organization_id: UUID, fx: FxRequest) -> UUID | None:
    """
    Return what stands under the request's reference, if it is the same exchange.

    :raises ReferenceReserved: if the reference begins as those of Kassa's own acts do
    :raises ReferenceReused: if it is another exchange
    """
    if fx.reference is None:
        return None
    checks.reference(fx.reference, reach_internal=False)
    known = queries.find_fx_transfer(organization_id=organization_id, reference=fx.reference)
    if known is None:
        return None
    asked = (
        (fx.from_account_id, fx.sold_minor, fx.sold_currency),
        (fx.to_account_id, fx.bought_currency),
        (fx.rate, fx.source, fx.quoted_at),
    )
    stands = (
        (known.from_account_id, known.sold_minor, known.sold_currency),
        (known.to_account_id, known.bought_currency),
        (known.rate, known.source, known.quoted_at),
    )
    if asked != stands:
        raise errors.ReferenceReused(
            "This reference stands for another FX transfer.",
            fx_transfer=encode_id("fx", known.id),
        )
    return known.id


def _liquidity(fx: FxRequest) -> list[AccountSpec]:
    """
    Return the organisation's own position in both currencies.

    Credit-normal: above zero is what it owns of a currency, below zero what it has still to buy.
    There is no floor, since a position may be short.
    """
    return [
        AccountSpec(_liquidity_code(currency), AccountType.EQUITY, currency)
        for currency in (fx.sold_currency, fx.bought_currency)
    ]


def _liquidity_code(currency: str) -> str:
    return f"liquidity:{currency}"


def _new_balance(spec: AccountSpec) -> BalanceState:
    """Return the balance of an account that an exchange would open."""
    return BalanceState(id=new_id(), currency=spec.currency, credit_normal=True)


def _commands(
    fx_id: UUID,
    fx: FxRequest,
    quoted: Quote,
    *,
    sides: Mapping[UUID, bool],
    liquidity: Mapping[str, UUID],
) -> tuple[PostEntry, PostEntry]:
    """Return the two linked transfers: one currency into liquidity, the other out of it."""
    # What leaves an account is a debit where credits are normal, and a credit elsewhere.
    debit = {True: 1, False: -1}
    sold_legs = _legs(
        fx.from_account_id,
        liquidity[_liquidity_code(fx.sold_currency)],
        debit[sides.get(fx.from_account_id, True)] * fx.sold_minor,
    )
    bought_legs = _legs(
        fx.to_account_id,
        liquidity[_liquidity_code(fx.bought_currency)],
        -debit[sides.get(fx.to_account_id, True)] * quoted.bought_minor,
    )
    sold = PostEntry(
        id=new_id(),
        legs=sold_legs,
        currency=fx.sold_currency,
        kind=FX_KIND,
        description=fx.description,
        effective_at=fx.effective_at,
        metadata={"fx_transfer": encode_id("fx", fx_id)},
        linked=True,
    )
    bought = replace(sold, id=new_id(), legs=bought_legs, currency=fx.bought_currency, linked=False)
    return sold, bought


def _legs(account_id: UUID, liquidity_id: UUID, amount_minor: int) -> tuple[Leg, Leg]:
    return Leg(account_id, amount_minor), Leg(liquidity_id, -amount_minor)


def _reachable(organization_id: UUID, fx: FxRequest) -> dict[UUID, bool]:
    """
    Return which of a client's accounts are credit-normal; none becomes `internal` any more.

    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    """
    found = queries.account_sides(
        organization_id=organization_id, account_ids=[fx.from_account_id, fx.to_account_id]
    )
    for side in found:
        if side.internal:
            raise errors.LedgerAccountReserved(
                "This ledger account is posted to by Kassa's own acts only.",
                ledger_account=encode_id("la", side.account_id),
            )
    return {side.account_id: side.credit_normal for side in found}


def _posted(row: FxTransfer) -> events.FxTransferPosted:
    return events.FxTransferPosted(
        organization_id=row.organization_id,
        aggregate_id=encode_id("fx", row.id),
        occurred_at=row.created_at,
        from_account=encode_id("la", row.from_account_id),
        to_account=encode_id("la", row.to_account_id),
        amount=row.sold_minor,
        currency=row.sold_currency,
        bought_amount=row.bought_minor,
        bought_currency=row.bought_currency,
        rate=rules.rate_text(row.rate),
        source=row.source,
        quoted_at=row.quoted_at,
        reference=row.reference,
        effective_at=row.effective_at,
        sold_entry=encode_id("je", row.sold_entry_id),
        bought_entry=encode_id("je", row.bought_entry_id),
    )
