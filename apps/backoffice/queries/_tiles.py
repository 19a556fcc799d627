"""What a person needs to see at a glance: tiles of the home page, each over a bounded count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError
from django.db.models import Q, QuerySet
from django.urls import reverse

from apps.accounts.queries import for_staff
from apps.approvals import queries as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.states import RequestState
from apps.backoffice.models import InvariantCheck
from apps.core import stuck
from apps.core.money import format_minor
from apps.core.stuck import Standing
from apps.ledger import queries as ledger
from apps.payments.models import UnmatchedMoney
from apps.payouts.models import Payout, PayoutBatch
from apps.payouts.states import BatchState, PayoutState
from apps.webhooks.models import WebhookEndpoint

log = structlog.stdlib.get_logger("kassa.backoffice")

COUNT_MAX: Final = 1000


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


def count(rows: QuerySet[Any]) -> int:
    """Count at most one more than the bound."""
    return rows.order_by().values("pk")[: COUNT_MAX + 1].count()


def counted(number: int) -> str:
    """Return a bounded count as people read it."""
    return f"{COUNT_MAX:,}+" if number > COUNT_MAX else f"{number:,}"


def list_tiles(glance: Glance) -> list[Tile]:
    """Return the tiles of one's roles; one that fails says so, and the others stand."""
    tiles = []
    for title, capabilities, made in _TILES:
        if not any(map(glance.user.has_perm, capabilities)):
            continue
        try:
            tiles.append(made(glance))
        # The boundary: a home page with one hole is of more use than none.
        except DatabaseError:
            log.exception("tile_failed", tile=title)
            tiles.append(Tile(title, "Not to be had now", "It was logged.", is_broken=True))
    return tiles


def requests_for(user: Any) -> QuerySet[ApprovalRequest]:  # noqa: ANN401  (the signed-in person)
    """Return the open requests this person may decide: asked of a role held, by somebody else."""
    asked = approvals.asks_for(user.role_names())
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
        url=reverse("admin:approvals_approvalrequest_changelist") + "?for=me",
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
        "In doubt",
        counted(number),
        "batches the bank may have" if number else "no batch is in doubt",
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
        "Unmatched",
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
        "off by " + ", ".join(off) if off else "debits equal credits",
        tone="bad" if off else "good",
        url=reverse("admin:trial_balance"),
    )


def find_last_check() -> InvariantCheck | None:
    """Return the last run of the invariants, if there was one."""
    return InvariantCheck.objects.order_by("-id").first()


def list_broken() -> list[str]:
    """Return the names of the invariants that did not hold when they were last looked at."""
    last = find_last_check()
    return list(last.broken) if last else []


def invariants_hold(_glance: Glance) -> Tile:
    """Say whether the last run of the invariants found anything, and how long ago that was."""
    last = find_last_check()
    if last is None:
        return Tile("Ledger verified", "Not yet", "the first check runs within 15 minutes")
    at = f"{last.checked_at:%d %b %H:%M} UTC"
    if last.broken:
        return Tile(
            "Ledger verified", f"{len(last.broken)} broken", f"{last.broken[0]} at {at}", tone="bad"
        )
    if last.unanswered:
        return Tile(
            "Ledger verified",
            f"{len(last.unanswered)} unanswered",
            f"{last.unanswered[0]} at {at}",
            tone="warn",
        )
    return Tile("Ledger verified", "All hold", f"{last.statement_count} rules at {at}", tone="good")


def stuck_work(glance: Glance) -> Tile:
    """Count the work that nobody gets done: quarantined, or due for long and not taken."""
    found = stuck.count_work(organization_ids=glance.organization_ids)
    quarantined = sum(kind.number(Standing.QUARANTINED) for kind in found)
    overdue = sum(kind.number(Standing.OVERDUE) for kind in found)
    told = [
        f"{counted(number)} {word}"
        for number, word in ((quarantined, "quarantined"), (overdue, "overdue"))
        if number
    ]
    return Tile(
        "Stuck work",
        counted(quarantined + overdue),
        ", ".join(told) or "all work goes on",
        tone="bad" if quarantined else "warn" if overdue else "good",
        url=reverse("admin:stuck_work"),
    )


def _of(rows: QuerySet[Any], glance: Glance) -> QuerySet[Any]:
    return rows.filter(organization_id__in=glance.organization_ids)


_TILES: Final[tuple[tuple[str, tuple[str, ...], TileOf], ...]] = (
    ("Waiting for me", ("payouts.approve_payout", "accounts.unfreeze_customer"), waiting_for_me),
    ("Held payouts", ("payouts.view_payout",), held_payouts),
    ("Unmatched", ("payments.view_payment",), unmatched_money),
    ("In doubt", ("payouts.freeze_batch",), unknown_outcomes),
    ("Deliveries failing", ("webhooks.view_delivery",), endpoints_failing),
    ("Trial balance", ("ledger.view_ledger",), books_stand),
    ("Ledger verified", ("ledger.view_ledger",), invariants_hold),
    ("Stuck work", ("core.requeue_work",), stuck_work),
)
