"""What a person needs to see at a glance. Every count has a bound; nothing here is written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError
from django.db.models import Q, QuerySet
from django.urls import reverse

from apps.accounts.models import Customer, Organization
from apps.accounts.queries import for_staff
from apps.approvals.models import ApprovalRequest
from apps.approvals.states import RequestState
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.ledger import queries as ledger
from apps.payments import queries as payments
from apps.payments.models import Payment, UnmatchedMoney
from apps.payouts import queries as payouts
from apps.payouts.models import Destination, DestinationVersion, Payout, PayoutBatch
from apps.payouts.states import BatchState, PayoutState
from apps.webhooks.models import WebhookEndpoint

log = structlog.stdlib.get_logger("kassa.backoffice")

COUNT_MAX: Final = 1000
ORGANIZATIONS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the home page, and the list behind it."""

    title: str
    value: str
    note: str = ""
    tone: str = "flat"
    url: str = ""
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class Glance:
    """Whose home page it is, and over which organizations."""

    user: Any
    organization_ids: tuple[UUID, ...]


type TileOf = Callable[[Glance], Tile]


def organizations_of(user: Any) -> list[Organization]:  # noqa: ANN401  (the signed-in person)
    """Return the organizations this person may see, live ones first, at most a hundred."""
    rows = for_staff(Organization.objects.order_by("mode", "id"), user)
    return list(rows[:ORGANIZATIONS_MAX])


def count(rows: QuerySet[Any]) -> int:
    """Count at most one more than the bound."""
    return rows.order_by().values("pk")[: COUNT_MAX + 1].count()


def counted(number: int) -> str:
    """Return a bounded count as people read it."""
    return f"{COUNT_MAX:,}+" if number > COUNT_MAX else f"{number:,}"


def list_tiles(glance: Glance) -> list[Tile]:
    """Return the tiles of one's roles; one that fails says so, and the others stand."""
    tiles = []
    for title, capability, made in _TILES:
        if not glance.user.has_perm(capability):
            continue
        try:
            tiles.append(made(glance))
        # The boundary: a home page with one hole is of more use than none.
        except DatabaseError:
            log.exception("tile_failed", tile=title)
            tiles.append(Tile(title, "Not to be had now", "It was logged.", is_broken=True))
    return tiles


# --- Tiles --------------------------------------------------------------------------------------


def requests_for(user: Any) -> QuerySet[ApprovalRequest]:  # noqa: ANN401  (the signed-in person)
    """Return the open requests this person may decide: asked of a role held, by somebody else."""
    asked = Q(pk__in=[])
    for role in user.role_names():
        asked |= Q(steps__contains=[{"role": role}])
    rows = ApprovalRequest.objects.filter(asked, state=RequestState.OPEN)
    return for_staff(rows.exclude(requester_principal=f"staff:{user.pk}"), user)


def waiting_for_me(glance: Glance) -> Tile:
    """Count what waits for one's own decision."""
    number = count(_of(requests_for(glance.user), glance))
    return Tile(
        "Waiting for me",
        counted(number),
        "approvals I may decide" if number else "nothing to decide",
        tone="busy" if number else "good",
        url=reverse("admin:approvals_approvalrequest_changelist"),
    )


def held_payouts(glance: Glance) -> Tile:
    """Count the payouts that something holds."""
    number = count(_of(Payout.objects.filter(state=PayoutState.HELD), glance))
    return Tile(
        "Held payouts",
        counted(number),
        "something holds them" if number else "nothing is held",
        tone="warn" if number else "good",
        url=reverse("admin:payouts_payout_changelist") + "?state=held&since=365",
    )


def unknown_outcomes(glance: Glance) -> Tile:
    """Count the batches of which nobody knows whether the bank has them."""
    number = count(_of(PayoutBatch.objects.filter(state=BatchState.UNKNOWN), glance))
    return Tile(
        "Unknown at the bank",
        counted(number),
        "batches in doubt" if number else "every batch is accounted for",
        tone="bad" if number else "good",
        url=reverse("admin:payouts_payoutbatch_changelist") + "?state=unknown",
    )


def unmatched_money(glance: Glance) -> Tile:
    """Count the money that came in and is nobody's yet, and say how much of which currency."""
    rows = _of(UnmatchedMoney.objects.filter(state="open"), glance)
    newest = rows.order_by("-id").values_list("currency", "amount_minor")[: COUNT_MAX + 1]
    sums: dict[str, int] = {}
    for currency, amount in newest:
        sums[currency] = sums.get(currency, 0) + amount
    number = len(newest)
    told = ", ".join(format_minor(amount, currency) for currency, amount in sorted(sums.items()))
    return Tile(
        "Unmatched money",
        counted(number),
        told or "every line has an owner",
        tone="warn" if number else "good",
        url=reverse("admin:payments_unmatchedmoney_changelist"),
    )


def endpoints_failing(glance: Glance) -> Tile:
    """Count the endpoints that have not answered well since a while, or were switched off."""
    number = count(
        _of(
            WebhookEndpoint.objects.filter(
                Q(first_failure_at__isnull=False, status="enabled") | Q(status="disabled")
            ),
            glance,
        )
    )
    return Tile(
        "Deliveries failing",
        counted(number),
        "endpoints failing or off" if number else "every endpoint answers",
        tone="warn" if number else "good",
        url=reverse("admin:webhooks_webhookendpoint_changelist"),
    )


def books_stand(glance: Glance) -> Tile:
    """Say whether debits equal credits in every currency."""
    off = [
        f"{format_minor(debit - credit, currency)}"
        for _, currency, debit, credit in ledger.currency_totals(
            organization_ids=glance.organization_ids
        )
        if debit != credit
    ]
    return Tile(
        "Trial balance",
        "Off" if off else "Zero",
        "off by " + ", ".join(off) if off else "debits equal credits in every currency",
        tone="bad" if off else "good",
        url=reverse("admin:trial_balance"),
    )


def _of(rows: QuerySet[Any], glance: Glance) -> QuerySet[Any]:
    return rows.filter(organization_id__in=glance.organization_ids)


_TILES: Final[tuple[tuple[str, str, TileOf], ...]] = (
    ("Waiting for me", "payouts.approve_payout", waiting_for_me),
    ("Held payouts", "payouts.view_payout", held_payouts),
    ("Unmatched money", "payments.view_payment", unmatched_money),
    ("Unknown at the bank", "payouts.freeze_batch", unknown_outcomes),
    ("Deliveries failing", "webhooks.view_delivery", endpoints_failing),
    ("Trial balance", "ledger.view_ledger", books_stand),
)


# --- A customer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomerPage:
    """What the apps know of one customer."""

    balances: Sequence[ledger.BalanceView]
    holds: Sequence[ledger.OpenHold]
    payouts: Sequence[Payout]
    payments: Sequence[Payment]
    destinations: Sequence[tuple[Destination, DestinationVersion]]


def customer_page(*, customer: Customer, limit: int) -> CustomerPage:
    """Return the customer's money, newest payouts and payments, and destinations."""
    whose = {"organization_id": customer.organization_id}
    prefix = f"customers:{encode_id('cus', customer.id)}:"
    balances = ledger.list_balances(**whose, code_prefix=prefix)
    destinations = list(payouts.list_destinations(**whose, customer_id=customer.id)[:limit])
    versions = payouts.versions_by_destination(destinations)
    return CustomerPage(
        balances=balances,
        holds=ledger.list_open_holds(**whose, account_ids=[one.account_id for one in balances]),
        payouts=payouts.list_payouts(**whose, customer_id=customer.id).select_related(
            "destination_version"
        )[:limit],
        payments=payments.list_payments(**whose, customer_id=customer.id).select_related(
            "virtual_reference"
        )[:limit],
        destinations=[(one, versions[one.id]) for one in destinations],
    )


# --- Trial balance ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of the trial balance: the accounts whose codes differ in their ids only."""

    code: str
    prefix: str
    type: str
    accounts: int
    debit: int
    credit: int


@dataclass(frozen=True, slots=True)
class CurrencyBalance:
    """The trial balance of one currency."""

    currency: str
    branches: Sequence[Branch]
    debit: int
    credit: int

    @property
    def residue(self) -> int:
        """Return by how much debits exceed credits: 0, or the books are wrong."""
        return self.debit - self.credit


def trial_balances(*, organization_id: UUID) -> list[CurrencyBalance]:
    """Return the trial balance per currency, accounts of one kind in one line."""
    by_currency: dict[str, list[ledger.TrialBalanceLine]] = {}
    for line in ledger.trial_balance(organization_id=organization_id):
        by_currency.setdefault(line.currency, []).append(line)
    return [
        CurrencyBalance(
            currency,
            _branches(lines),
            sum(line.debit for line in lines),
            sum(line.credit for line in lines),
        )
        for currency, lines in by_currency.items()
    ]


_ID_LENGTH_MIN: Final = 20


def _branches(lines: Iterable[ledger.TrialBalanceLine]) -> list[Branch]:
    grouped: dict[tuple[str, str], list[ledger.TrialBalanceLine]] = {}
    for line in lines:
        parts = ["*" if len(part) >= _ID_LENGTH_MIN else part for part in line.code.split(":")]
        grouped.setdefault((":".join(parts), line.type), []).append(line)
    return [
        Branch(
            code=code,
            prefix=own[0].code if len(own) == 1 else code.split("*", maxsplit=1)[0],
            type=type_,
            accounts=len(own),
            debit=sum(line.debit for line in own),
            credit=sum(line.credit for line in own),
        )
        for (code, type_), own in sorted(grouped.items())
    ]
