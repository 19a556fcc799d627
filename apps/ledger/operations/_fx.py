"""Changing money: two linked transfers through the organisation's own liquidity."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from apps.core import idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.ledger import errors, events, queries, rules
from apps.ledger.models import FxTransfer
from apps.ledger.operations._accounts import AccountSpec, open_accounts
from apps.ledger.operations._engine import post
from apps.ledger.rules import RESERVED_REFERENCES, AccountType, Leg, PostEntry, Quote

_KIND: Final = "fx"

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


@transactions.outermost
def exchange(
    *, organization_id: UUID, fx: FxRequest, idempotency_key: str, actor: Actor, now: datetime
) -> UUID:
    """
    Sell an amount of one currency for another, and return the FX transfer's id.

    The bought amount is rounded down: the remainder stays with `liquidity:<currency>`, an account
    of the organisation's own position, opened when it is first needed. Both transfers are posted
    or neither. Replaying the key, or asking again under the same reference, answers what stands.

    :raises FxSameCurrency: if both currencies are one
    :raises FxRateInvalid: if the rate is not positive, or has more digits than are kept
    :raises FxQuoteStale: if the quote is too old, or of the future
    :raises FxAmountTooSmall: if less than one minor unit would be bought
    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    :raises ReferenceReserved: if the reference begins as those of Kassa's own acts do
    :raises ReferenceReused: if the reference stands for another FX transfer
    :raises InsufficientFunds: if the sold amount is not there
    """
    claim = idempotency.claim(organization_id, idempotency_key, "exchange", _parts(fx), prefix="fx")
    if claim.replayed:
        return claim.resource_id
    known = _standing(organization_id, fx)
    if known is not None:
        # Its reference stood already: from now on the key stands for that FX transfer too.
        idempotency.answer_with(organization_id, idempotency_key, known)
        return known
    rules.check_fresh(quoted_at=fx.quoted_at, now=now)
    quoted = rules.quote(
        sold_minor=fx.sold_minor,
        sold_currency=fx.sold_currency,
        bought_currency=fx.bought_currency,
        rate=fx.rate,
    )
    sold, bought = _commands(organization_id, claim.resource_id, fx, quoted, now)
    # Both at once: the engine locks all four balances ascending in one statement, so exchanges of
    # one pair of currencies in both directions wait for each other and never deadlock.
    outcomes = post(organization_id=organization_id, commands=[sold, bought], actor=actor, now=now)
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
        effective_at=max(outcome.effective_at or now for outcome in outcomes),
        created_at=now,
    )
    outbox.publish(_posted(row), actor=actor, now=now)
    return row.id


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
    if fx.reference.startswith(RESERVED_REFERENCES):
        raise errors.ReferenceReserved("References that begin so are of Kassa's own acts.")
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


def _commands(
    organization_id: UUID, fx_id: UUID, fx: FxRequest, quoted: Quote, now: datetime
) -> tuple[PostEntry, PostEntry]:
    """Return the two linked transfers: one currency into liquidity, the other out of it."""
    credit_normal = _reachable(organization_id, fx)
    codes = {
        currency: f"liquidity:{currency}" for currency in (fx.sold_currency, fx.bought_currency)
    }
    # Credit-normal: above zero is what the organisation itself owns of a currency, below zero what
    # it has still to buy. There is no floor, since a position may be short.
    opened = open_accounts(
        organization_id=organization_id,
        accounts=[AccountSpec(code, AccountType.EQUITY, c) for c, code in codes.items()],
        now=now,
    )
    # What leaves an account is a debit where credits are normal, and a credit elsewhere.
    debit = {True: 1, False: -1}
    sold_legs = _legs(
        fx.from_account_id,
        opened[codes[fx.sold_currency]],
        debit[credit_normal.get(fx.from_account_id, True)] * fx.sold_minor,
    )
    bought_legs = _legs(
        fx.to_account_id,
        opened[codes[fx.bought_currency]],
        -debit[credit_normal.get(fx.to_account_id, True)] * quoted.bought_minor,
    )
    sold = PostEntry(
        id=new_id(),
        legs=sold_legs,
        currency=fx.sold_currency,
        kind=_KIND,
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
    Return which of a client's accounts are credit-normal; neither that nor `internal` changes.

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
