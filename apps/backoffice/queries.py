"""What a person needs to see at a glance. Every count has a bound; nothing here is written."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError
from django.db.models import Q, QuerySet, Sum
from django.urls import reverse

from apps.accounts.models import Customer, Organization
from apps.accounts.queries import for_staff
from apps.approvals.models import ApprovalRequest
from apps.approvals.states import RequestState
from apps.backoffice.errors import CorrectionNotFound
from apps.backoffice.models import Correction, DailyMetric, InvariantCheck
from apps.backoffice.states import CorrectionState
from apps.banking.models import BankLine
from apps.core import stuck, work
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.core.stuck import Standing
from apps.core.work import WorkRow
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


_TILES: Final[tuple[tuple[str, str, TileOf], ...]] = (
    ("Waiting for me", "payouts.approve_payout", waiting_for_me),
    ("Held payouts", "payouts.view_payout", held_payouts),
    ("Unmatched", "payments.view_payment", unmatched_money),
    ("In doubt", "payouts.freeze_batch", unknown_outcomes),
    ("Deliveries failing", "webhooks.view_delivery", endpoints_failing),
    ("Trial balance", "ledger.view_ledger", books_stand),
    ("Ledger verified", "ledger.view_ledger", invariants_hold),
    ("Stuck work", "core.requeue_work", stuck_work),
)


# --- Figures for charts -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one day."""

    day: date
    name: str
    currency: str
    value: int


def list_organization_ids() -> list[UUID]:
    """Return every organization's id."""
    return list(Organization.objects.order_by("id").values_list("id", flat=True))


def list_touched_days(*, organization_id: UUID, since: datetime) -> list[date]:
    """Return the booking days of the lines that were imported since then."""
    # Ids are UUIDv7: those of a time on are a range of the primary key.
    lines = BankLine.objects.filter(
        organization_id=organization_id, id__gte=_first_id(since), is_booked=True
    )
    return sorted(set(lines.order_by().values_list("booking_date", flat=True).distinct()))


def _first_id(at: datetime) -> UUID:
    return UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62)


def count_money(*, organization_id: UUID, days: Sequence[date]) -> list[Figure]:
    """Return what the bank booked in and out on these days, per currency."""
    lines = BankLine.objects.filter(
        organization_id=organization_id,
        booking_date__in=days,
        is_booked=True,
        source="statement",
    )
    summed = lines.values("booking_date", "currency").annotate(
        money_in=Sum("amount_minor", filter=Q(amount_minor__gt=0), default=0),
        money_out=Sum("amount_minor", filter=Q(amount_minor__lt=0), default=0),
    )
    return [
        Figure(row["booking_date"], name, row["currency"], int(value))
        for row in summed.order_by("booking_date", "currency")
        for name, value in (("money_in", row["money_in"]), ("money_out", -row["money_out"]))
    ]


@dataclass(frozen=True, slots=True)
class DayOfMoney:
    """What came in and went out on one day, in minor units."""

    day: date
    money_in: int
    money_out: int


def list_money(
    *, organization_ids: Sequence[UUID], today: date, days: int
) -> dict[str, list[DayOfMoney]]:
    """Return each day's money per currency, the currency that moved most first, gaps as zero."""
    first = today - timedelta(days=days - 1)
    rows = (
        DailyMetric.objects.filter(
            organization_id__in=organization_ids, day__gte=first, day__lte=today
        )
        .values_list("currency", "day", "name")
        .annotate(total=Sum("value"))
        .order_by()
    )
    found: dict[str, dict[tuple[date, str], int]] = {}
    for currency, day, name, total in rows:
        found.setdefault(currency, {})[day, name] = total
    span = [first + timedelta(days=n) for n in range(days)]
    by_size = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    return {
        currency: [
            DayOfMoney(day, of.get((day, "money_in"), 0), of.get((day, "money_out"), 0))
            for day in span
        ]
        for currency, of in by_size
    }


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many payouts are in a state, and how much per currency."""

    state: str
    number: int
    sums: Mapping[str, int]


PAYOUTS_COUNTED_MAX: Final = 10_000


def count_payout_states(
    *, organization_ids: Sequence[UUID], since: datetime
) -> tuple[list[StateCount], bool]:
    """Return the payouts asked for since then by state; true if only the newest were counted."""
    rows = Payout.objects.filter(organization_id__in=organization_ids, id__gte=_first_id(since))
    newest = rows.order_by("-id").values_list("state", "currency", "amount_minor")
    found: dict[str, dict[str, int]] = {}
    numbers: dict[str, int] = {}
    counted = 0
    for state, currency, amount in newest[: PAYOUTS_COUNTED_MAX + 1].iterator():
        counted += 1
        numbers[state] = numbers.get(state, 0) + 1
        sums = found.setdefault(state, {})
        sums[currency] = sums.get(currency, 0) + amount
    order = [state.value for state in PayoutState]
    states = [
        StateCount(state, numbers[state], found[state])
        for state in sorted(numbers, key=order.index)
    ]
    return states, counted > PAYOUTS_COUNTED_MAX


# --- A customer ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CustomerPage:
    """What the apps know of one customer."""

    balances: Sequence[ledger.BalanceView]
    holds: Sequence[ledger.HoldView]
    payouts: Sequence[Payout]
    payments: Sequence[Payment]
    destinations: Sequence[tuple[Destination, DestinationVersion]]


def customer_page(*, customer: Customer, limit: int, now: datetime) -> CustomerPage:
    """Return the customer's money, newest payouts and payments, and destinations."""
    owner = customer.organization_id
    prefix = f"customers:{encode_id('cus', customer.id)}:"
    balances = ledger.list_balances(organization_id=owner, code_prefix=prefix)
    destinations = list(
        payouts.list_destinations(organization_id=owner, customer_id=customer.id)[:limit]
    )
    versions = payouts.versions_by_destination(destinations)
    return CustomerPage(
        balances=balances,
        holds=ledger.list_open_holds(
            organization_id=owner,
            account_ids=[one.account_id for one in balances],
            now=now,
            limit=limit,
        ),
        payouts=list(
            payouts.list_payouts(organization_id=owner, customer_id=customer.id).select_related(
                "destination_version"
            )[:limit]
        ),
        payments=list(
            payments.list_payments(organization_id=owner, customer_id=customer.id).select_related(
                "virtual_reference"
            )[:limit]
        ),
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


def trial_balances(*, organization_id: UUID, code_prefix: str = "") -> list[CurrencyBalance]:
    """Return the trial balance per currency, accounts of one kind in one line."""
    by_currency: dict[str, list[ledger.TrialBalanceLine]] = {}
    found = ledger.trial_balance(organization_id=organization_id, code_prefix=code_prefix)
    for line in found:
        by_currency.setdefault(line.currency, []).append(line)
    totals = ledger.trial_balance_totals(found)
    return [
        CurrencyBalance(currency, _branches(lines), *totals[currency])
        for currency, lines in by_currency.items()
    ]


_ID_LENGTH_MIN: Final = 20


def _branches(lines: Iterable[ledger.TrialBalanceLine]) -> list[Branch]:
    grouped: dict[tuple[str, str], list[ledger.TrialBalanceLine]] = {}
    for line in lines:
        grouped.setdefault((_without_ids(line.code), line.type), []).append(line)
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


@dataclass(frozen=True, slots=True)
class MovedBranch:
    """
    A line of a month's trial balance: accounts whose codes differ in their ids only.

    `account_id` is there where it is one account. Balances are debits less credits.
    """

    code: str
    prefix: str
    type: str
    accounts: int
    opening: int
    debits: int
    credits: int
    account_id: UUID | None = None

    @property
    def closing(self) -> int:
        return self.opening + self.debits - self.credits

    @property
    def root(self) -> str:
        return self.code.split(":", maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class CurrencyMovement:
    """The trial balance of one currency in one month."""

    total: ledger.CurrencyTotal
    branches: Sequence[MovedBranch]

    def subtotal(self, root: str) -> MovedBranch | None:
        """Return the sum of a first segment's lines, if it has several."""
        own = [branch for branch in self.branches if branch.root == root]
        if len(own) == 1:
            return None
        return MovedBranch(
            f"All of {root}",
            f"{root}:",
            "",
            sum(branch.accounts for branch in own),
            sum(branch.opening for branch in own),
            sum(branch.debits for branch in own),
            sum(branch.credits for branch in own),
        )


def month_trial_balances(
    view: ledger.PeriodView, *, currency: str = "", code_prefix: str = ""
) -> list[CurrencyMovement]:
    """Return a month's trial balance per currency; of a closed month, as it was stored."""
    lines = ledger.movements_of(view, currency=currency, code_prefix=code_prefix)
    by_currency: dict[str, list[ledger.AccountMovement]] = {}
    for line in lines:
        by_currency.setdefault(line.currency, []).append(line)
    return [
        CurrencyMovement(total, _moved_branches(by_currency[total.currency]))
        for total in ledger.movement_totals(lines)
    ]


def _moved_branches(lines: Iterable[ledger.AccountMovement]) -> list[MovedBranch]:
    grouped: dict[tuple[str, str], list[ledger.AccountMovement]] = {}
    for line in lines:
        grouped.setdefault((_without_ids(line.code), line.type), []).append(line)
    return [
        MovedBranch(
            code=code,
            prefix=own[0].code if len(own) == 1 else code.split("*", maxsplit=1)[0],
            type=type_,
            accounts=len(own),
            opening=sum(line.opening for line in own),
            debits=sum(line.debits for line in own),
            credits=sum(line.credits for line in own),
            account_id=own[0].account_id if len(own) == 1 else None,
        )
        for (code, type_), own in sorted(grouped.items())
    ]


def _without_ids(code: str) -> str:
    return ":".join("*" if len(part) >= _ID_LENGTH_MIN else part for part in code.split(":"))


# --- Stuck work ---------------------------------------------------------------------------------


def scope_of(user: Any) -> list[UUID] | None:  # noqa: ANN401  (the signed-in person)
    """Return the organizations listed for this person, or None where they see all."""
    if user.sees_all_organizations:
        return None
    return list(user.scopes.values_list("organization_id", flat=True))


def find_work(
    *, kind_name: str, row_id: UUID, organization_ids: Collection[UUID] | None
) -> WorkRow | None:
    """Return a row of work of these organizations (None: of all), or of the platform itself."""
    kind = work.find_kind(kind_name)
    if kind is None:
        return None
    row = kind.model.objects.filter(id=row_id).first()
    owner: UUID | None = getattr(row, "organization_id", None)
    is_theirs = organization_ids is None or owner is None or owner in organization_ids
    return row if is_theirs else None


# --- Corrections --------------------------------------------------------------------------------


def get_correction(*, organization_id: UUID, correction_id: UUID) -> Correction:
    """
    Return one correction, unlocked.

    :raises CorrectionNotFound: if the organization has no such correction
    """
    found = Correction.objects.filter(organization_id=organization_id, id=correction_id).first()
    if found is None:
        raise CorrectionNotFound("There is no such correction.")
    return found


def get_correction_for_update(*, organization_id: UUID, correction_id: UUID) -> Correction:
    """
    Return one correction, locked.

    :raises CorrectionNotFound: if the organization has no such correction
    """
    # Serializes the decision about it with its being taken back.
    rows = Correction.objects.select_for_update(no_key=True)
    found = rows.filter(organization_id=organization_id, id=correction_id).first()
    if found is None:
        raise CorrectionNotFound("There is no such correction.")
    return found


def find_waiting_reversal(*, organization_id: UUID, entry_id: UUID) -> Correction | None:
    """Return what waits to undo this entry, if anything does."""
    return Correction.objects.filter(
        organization_id=organization_id, entry_id=entry_id, state=CorrectionState.WAITING
    ).first()


def corrections(*, organization_id: UUID, ids: Collection[UUID]) -> list[Correction]:
    """Return these corrections."""
    return list(Correction.objects.filter(organization_id=organization_id, id__in=ids))


def find_approval_of(correction: Correction) -> UUID | None:
    """Return the newest request about this correction."""
    rows = ApprovalRequest.objects.filter(
        organization_id=correction.organization_id,
        subject_type="correction",
        subject_id=correction.id,
    )
    return rows.order_by("-id").values_list("id", flat=True).first()


def sums_moved(correction: Correction) -> dict[str, int]:
    """Return what it moves per currency: its debits, which its credits equal."""
    sums: dict[str, int] = {}
    for leg in correction.legs:
        if leg["amount_minor"] > 0:
            sums[leg["currency"]] = sums.get(leg["currency"], 0) + leg["amount_minor"]
    return sums
