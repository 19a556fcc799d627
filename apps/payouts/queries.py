"""Reads of payouts, and the only place here that locks."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from apps.approvals import queries as approvals
from apps.banking import queries as banking
from apps.banking.states import AccountState
from apps.core import encryption
from apps.core.ids import encode_id
from apps.payouts.errors import BatchNotFound, DestinationNotFound, PayoutNotFound
from apps.payouts.models import (
    BankFact,
    Destination,
    DestinationVersion,
    Payout,
    PayoutAttempt,
    PayoutBatch,
    PayoutPrice,
    PayoutTransition,
)
from apps.payouts.rules import CutOff, PriceLine
from apps.payouts.states import BEFORE_FILE, BatchState, PayoutState

IBAN_COLUMN = "payouts_destination_version.iban"
HOLDER_COLUMN = "payouts_destination_version.holder"
ADDRESS_COLUMN = "payouts_destination_version.address"
SENT_COLUMN = "payouts_attempt.sent"

# --- Ledger accounts ----------------------------------------------------------------------------


def available_code(*, customer_id: UUID, currency: str) -> str:
    """Return the code of the ledger account that a customer's payouts leave from."""
    return f"customers:{encode_id('cus', customer_id)}:available:{currency}"


def in_transit_code(currency: str) -> str:
    return f"payouts:in_transit:{currency}"


def fees_code(currency: str) -> str:
    return f"fees:payouts:{currency}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayingAccount:
    """The bank account that payouts leave from, and when its bank closes."""

    id: UUID
    cut_off: CutOff


def find_paying_account(
    *, organization_id: UUID, currency: str, bank_account_id: UUID | None = None
) -> PayingAccount | None:
    """Return that account, or the oldest open one in the currency; None if there is none."""
    accounts = banking.list_bank_accounts(organization_id=organization_id).filter(
        currency=currency, state=AccountState.OPEN
    )
    if bank_account_id is not None:
        accounts = accounts.filter(id=bank_account_id)
    found = accounts.order_by("id").first()
    if found is None:
        return None
    return PayingAccount(id=found.id, cut_off=CutOff(at=found.cut_off, zone=found.zone))


# --- Destinations -------------------------------------------------------------------------------


def get_destination(*, organization_id: UUID, destination_id: UUID) -> Destination:
    """
    Return one destination.

    :raises DestinationNotFound: if the organization has no such destination
    """
    found = Destination.objects.filter(organization_id=organization_id, id=destination_id).first()
    if found is None:
        raise DestinationNotFound("There is no such destination.")
    return found


def get_destination_for_update(*, organization_id: UUID, destination_id: UUID) -> Destination:
    """
    Return one destination, locked: requests to it run one after the other, and so does a change.

    :raises DestinationNotFound: if the organization has no such destination
    """
    found = (
        Destination.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=destination_id)
        .first()
    )
    if found is None:
        raise DestinationNotFound("There is no such destination.")
    return found


def lock_destinations(
    *, organization_id: UUID, destination_ids: Collection[UUID]
) -> dict[UUID, Destination]:
    """Return these destinations by id, locked in ascending order."""
    # Two bank facts about one destination at once: the second sees what the first made of it.
    rows = Destination.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=destination_ids
    )
    return {row.id: row for row in rows.order_by("id")}


def list_destinations(
    *, organization_id: UUID, customer_id: UUID | None = None
) -> QuerySet[Destination]:
    """Return the organization's destinations, newest first."""
    found = Destination.objects.filter(organization_id=organization_id).order_by("-id")
    return found if customer_id is None else found.filter(customer_id=customer_id)


def get_version_in_use(destination: Destination) -> DestinationVersion:
    """Return the newest version: the one in use, or the last one of a disabled destination."""
    return DestinationVersion.objects.filter(
        organization_id=destination.organization_id, destination_id=destination.id
    ).order_by("-number")[0]


def versions_by_destination(
    destinations: Collection[Destination],
) -> dict[UUID, DestinationVersion]:
    """Return the newest version of each of these destinations, of one organization."""
    rows = DestinationVersion.objects.filter(
        organization_id__in={one.organization_id for one in destinations},
        destination_id__in=[one.id for one in destinations],
    )
    return {row.destination_id: row for row in rows.order_by("number")}


def list_versions(
    *, organization_id: UUID, version_ids: Collection[UUID]
) -> dict[UUID, DestinationVersion]:
    """Return these versions by id."""
    rows = DestinationVersion.objects.filter(organization_id=organization_id, id__in=version_ids)
    return {row.id: row for row in rows}


def find_destination_of(
    *, organization_id: UUID, customer_id: UUID, fingerprint: bytes
) -> UUID | None:
    """Return the destination in use with this fingerprint, or None."""
    return (
        DestinationVersion.objects.filter(
            organization_id=organization_id,
            customer_id=customer_id,
            fingerprint=fingerprint,
            retired_at__isnull=True,
        )
        .values_list("destination_id", flat=True)
        .first()
    )


class Clear:
    """Reads encrypted texts of one organization; who shows them to a person has logged that."""

    def __init__(self, organization_id: UUID) -> None:
        self._unseal = encryption.unsealer(organization_id)

    def iban(self, version: DestinationVersion) -> str:
        return self._unseal(IBAN_COLUMN, version.id, bytes(version.iban_sealed))

    def holder(self, version: DestinationVersion) -> str:
        return self._unseal(HOLDER_COLUMN, version.id, bytes(version.holder_sealed))

    def address(self, version: DestinationVersion) -> dict[str, Any]:
        """Return the holder's address as it was given, or an empty one."""
        if version.address_sealed is None:
            return {}
        found: dict[str, Any] = json.loads(
            self._unseal(ADDRESS_COLUMN, version.id, bytes(version.address_sealed))
        )
        return found

    def sent(self, attempt: PayoutAttempt) -> dict[str, Any]:
        """Return the texts of an attempt as the file has them."""
        found: dict[str, Any] = json.loads(
            self._unseal(SENT_COLUMN, attempt.id, bytes(attempt.sent_sealed))
        )
        return found


# --- Payouts ------------------------------------------------------------------------------------


def get_payout(*, organization_id: UUID, payout_id: UUID) -> Payout:
    """
    Return one payout, unlocked.

    :raises PayoutNotFound: if the organization has no such payout
    """
    found = Payout.objects.filter(organization_id=organization_id, id=payout_id).first()
    if found is None:
        raise PayoutNotFound("There is no such payout.")
    return found


def get_payout_for_update(*, organization_id: UUID, payout_id: UUID) -> Payout:
    """
    Return one payout, locked: it is not frozen, canceled or decided before this ends.

    :raises PayoutNotFound: if the organization has no such payout
    """
    found = (
        Payout.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=payout_id)
        .first()
    )
    if found is None:
        raise PayoutNotFound("There is no such payout.")
    return found


def lock_payouts(*, organization_id: UUID, payout_ids: Collection[UUID]) -> dict[UUID, Payout]:
    """Return these payouts by id, locked in ascending order."""
    # After the batch, before balances: the one order in which everything here waits.
    rows = Payout.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=payout_ids
    )
    return {row.id: row for row in rows.order_by("id")}


def lock_payouts_to(
    *, organization_id: UUID, destination_ids: Collection[UUID]
) -> Sequence[Payout]:
    """Return the payouts to destinations that are in no file yet, locked in ascending order."""
    rows = Payout.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id,
        destination_id__in=destination_ids,
        state__in=sorted(BEFORE_FILE),
    )
    return list(rows.order_by("id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchKey:
    """What payouts of one batch have in common."""

    organization_id: UUID
    bank_account_id: UUID
    currency: str
    rail: str
    execution_date: date


def lock_scheduled(*, key: BatchKey, limit: int) -> Sequence[Payout]:
    """
    Return the scheduled payouts of a batch key, locked in ascending order.

    A cancel that holds a payout's lock is waited for; what it canceled is no longer scheduled
    when Postgres looks at the row again, and is left out.
    """
    rows = Payout.objects.select_for_update(no_key=True).filter(
        organization_id=key.organization_id,
        bank_account_id=key.bank_account_id,
        currency=key.currency,
        rail=key.rail,
        execution_date=key.execution_date,
        state=PayoutState.SCHEDULED,
    )
    return list(rows.order_by("id")[:limit])


def list_batch_keys(*, until: date, organization_id: UUID | None = None) -> Sequence[BatchKey]:
    """Return the keys of every open batch whose day is `until` or earlier, oldest day first."""
    scheduled = Payout.objects.filter(state=PayoutState.SCHEDULED, execution_date__lte=until)
    if organization_id is not None:
        scheduled = scheduled.filter(organization_id=organization_id)
    names = ("organization_id", "bank_account_id", "currency", "rail", "execution_date")
    rows = scheduled.order_by("execution_date").values(*names).distinct()
    return [BatchKey(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch that has no row yet: what would be frozen now."""

    key: BatchKey
    count: int
    total_minor: int


def preview_batches(*, organization_id: UUID) -> Sequence[OpenBatch]:
    """Return the open batches of an organization: scheduled payouts by key, next day first."""
    names = ("organization_id", "bank_account_id", "currency", "rail", "execution_date")
    rows = (
        Payout.objects.filter(organization_id=organization_id, state=PayoutState.SCHEDULED)
        .values(*names)
        .annotate(count=Count("id"), total=Sum("amount_minor"))
        .order_by("execution_date")
    )
    return [
        OpenBatch(
            key=BatchKey(**{name: row[name] for name in names}),
            count=row["count"],
            total_minor=row["total"],
        )
        for row in rows
    ]


def list_payouts(
    *,
    organization_id: UUID,
    customer_id: UUID | None = None,
    state: str | None = None,
    external_id: str | None = None,
) -> QuerySet[Payout]:
    """Return the organization's payouts, newest first."""
    found = Payout.objects.filter(organization_id=organization_id).order_by("-id")
    if customer_id is not None:
        found = found.filter(customer_id=customer_id)
    if state is not None:
        found = found.filter(state=state)
    return found if external_id is None else found.filter(external_id=external_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutView:
    """A payout with what a reader sees beside it: its account masked, people, times."""

    payout: Payout
    version: DestinationVersion
    people: tuple[int, int] | None
    times: Mapping[str, datetime]


def view_payouts(payouts: Sequence[Payout]) -> list[PayoutView]:
    """Return views of these payouts of one organization, in a fixed number of queries."""
    if not payouts:
        return []
    organization_id = payouts[0].organization_id
    versions = list_versions(
        organization_id=organization_id,
        version_ids={payout.destination_version_id for payout in payouts},
    )
    asked = {one.approval_request_id for one in payouts if one.approval_request_id is not None}
    people = approvals.count_people_of(organization_id=organization_id, request_ids=asked)
    times: dict[UUID, dict[str, datetime]] = {}
    for move in PayoutTransition.objects.filter(
        organization_id=organization_id, payout_id__in=[payout.id for payout in payouts]
    ).order_by("payout_id", "number"):
        times.setdefault(move.payout_id, {})[move.to_state] = move.occurred_at
    return [
        PayoutView(
            payout=payout,
            version=versions[payout.destination_version_id],
            people=people.get(payout.approval_request_id) if payout.approval_request_id else None,
            times=times.get(payout.id, {}),
        )
        for payout in payouts
    ]


def find_by_external_id(*, organization_id: UUID, external_id: str) -> UUID | None:
    """Return the id of the payout with this external id, or None."""
    return (
        Payout.objects.filter(organization_id=organization_id, external_id=external_id)
        .values_list("id", flat=True)
        .first()
    )


def list_recent_references(
    *, organization_id: UUID, destination_id: UUID, amount_minor: int, since: datetime
) -> list[tuple[UUID, str]]:
    """Return payouts of this amount to a destination asked for since then, and their words."""
    found = Payout.objects.filter(
        organization_id=organization_id,
        destination_id=destination_id,
        requested_at__gt=since,
        requested_amount_minor=amount_minor,
    )
    # A canceled, declined or denied one left no trace: asking again at once is no duplicate.
    closed = (PayoutState.CANCELED, PayoutState.DECLINED, PayoutState.DENIED)
    rows = found.exclude(state__in=closed).order_by("id")
    return [
        (id_, remittance or reference)
        for id_, remittance, reference in rows.values_list("id", "remittance", "creditor_reference")
    ]


def list_cooled_down(*, now: datetime, limit: int = 500) -> Sequence[Payout]:
    """Return held payouts whose cooldown is over, of every organization."""
    return list(
        Payout.objects.filter(state=PayoutState.HELD, available_at__lte=now).order_by(
            "available_at", "id"
        )[:limit]
    )


def list_transitions(*, organization_id: UUID, payout_id: UUID) -> Sequence[PayoutTransition]:
    """Return a payout's history, oldest first."""
    return list(
        PayoutTransition.objects.filter(
            organization_id=organization_id, payout_id=payout_id
        ).order_by("number")
    )


def list_attempts(*, organization_id: UUID, payout_id: UUID) -> Sequence[PayoutAttempt]:
    """Return a payout's attempts, oldest first."""
    return list(
        PayoutAttempt.objects.filter(organization_id=organization_id, payout_id=payout_id).order_by(
            "id"
        )
    )


def list_prices(*, organization_id: UUID, now: datetime) -> Sequence[PriceLine]:
    """Return the prices in force, one per rail and currency."""
    rows = PayoutPrice.objects.filter(
        organization_id=organization_id, valid_from__lte=now
    ).order_by("valid_from")
    newest = {(row.rail, row.currency): row.fee_minor for row in rows}
    return [PriceLine(rail, currency, fee) for (rail, currency), fee in newest.items()]


def is_held_too_long(payout: Payout, *, now: datetime, span: timedelta) -> bool:
    """Say whether a held payout has waited longer than `span`."""
    return payout.state == PayoutState.HELD and now - payout.state_changed_at > span


# --- Batches and attempts -----------------------------------------------------------------------


def get_batch(*, organization_id: UUID, batch_id: UUID) -> PayoutBatch:
    """
    Return one batch, unlocked.

    :raises BatchNotFound: if the organization has no such batch
    """
    found = PayoutBatch.objects.filter(organization_id=organization_id, id=batch_id).first()
    if found is None:
        raise BatchNotFound("There is no such batch.")
    return found


def get_batch_for_update(*, organization_id: UUID, batch_id: UUID) -> PayoutBatch:
    """
    Return one batch, locked; batches are locked before their payouts.

    :raises BatchNotFound: if the organization has no such batch
    """
    # Sender, janitor, inbox and statement import all take this lock and look again: one wins.
    found = (
        PayoutBatch.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=batch_id)
        .first()
    )
    if found is None:
        raise BatchNotFound("There is no such batch.")
    return found


def lock_batches(*, organization_id: UUID, batch_ids: Collection[UUID]) -> dict[UUID, PayoutBatch]:
    """Return these batches by id, locked in ascending order."""
    # Before their payouts, as everywhere.
    rows = PayoutBatch.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=batch_ids
    )
    return {row.id: row for row in rows.order_by("id")}


def list_batches(*, organization_id: UUID) -> QuerySet[PayoutBatch]:
    """Return the organization's batches, newest first."""
    return PayoutBatch.objects.filter(organization_id=organization_id).order_by("-id")


def payouts_in_batches(*, organization_id: UUID, batch_ids: Collection[UUID]) -> set[UUID]:
    """Return the ids of the payouts that have an attempt in one of these batches."""
    rows = PayoutAttempt.objects.filter(organization_id=organization_id, batch_id__in=batch_ids)
    return set(rows.values_list("payout_id", flat=True))


def list_batch_attempts(
    *, organization_id: UUID, batch_id: UUID, payout_ids: Collection[UUID] | None = None
) -> Sequence[PayoutAttempt]:
    """Return a batch's attempts, of all or these payouts, in file order; their locks protect it."""
    rows = PayoutAttempt.objects.filter(organization_id=organization_id, batch_id=batch_id)
    if payout_ids is not None:
        rows = rows.filter(payout_id__in=payout_ids)
    return list(rows.order_by("number_in_file"))


def creditor_references(*, organization_id: UUID, batch_id: UUID) -> dict[UUID, str]:
    """Return the creditor references of a batch's payouts, by payout; most have none."""
    attempts = PayoutAttempt.objects.filter(organization_id=organization_id, batch_id=batch_id)
    rows = Payout.objects.filter(
        organization_id=organization_id, id__in=attempts.values("payout_id")
    ).exclude(creditor_reference="")
    return dict(rows.values_list("id", "creditor_reference"))


def list_attempts_by_id(
    *, organization_id: UUID, attempt_ids: Collection[UUID]
) -> Sequence[PayoutAttempt]:
    """Return these attempts, in ascending order."""
    return list(
        PayoutAttempt.objects.filter(organization_id=organization_id, id__in=attempt_ids).order_by(
            "id"
        )
    )


def attempts_of(
    *, organization_id: UUID, payout_ids: Iterable[UUID]
) -> dict[UUID, list[PayoutAttempt]]:
    """Return all attempts of these payouts, oldest first within each."""
    found: dict[UUID, list[PayoutAttempt]] = {}
    rows = PayoutAttempt.objects.filter(
        organization_id=organization_id, payout_id__in=list(payout_ids)
    )
    for row in rows.order_by("id"):
        found.setdefault(row.payout_id, []).append(row)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """An attempt as other apps see it; amounts in minor units."""

    attempt_id: UUID
    payout_id: UUID
    batch_id: UUID
    bank_account_id: UUID
    state: str
    amount_minor: int
    currency: str
    end_to_end_id: str
    execution_date: date


def find_attempts(
    *, organization_id: UUID, end_to_end_ids: Collection[str]
) -> dict[str, AttemptView]:
    """Return what these end-to-end ids mean, unlocked; one that is nobody's is missing."""
    rows = PayoutAttempt.objects.select_related("batch").filter(
        organization_id=organization_id, end_to_end_id__in=end_to_end_ids
    )
    return {
        row.end_to_end_id: AttemptView(
            attempt_id=row.id,
            payout_id=row.payout_id,
            batch_id=row.batch_id,
            bank_account_id=row.batch.bank_account_id,
            state=row.state,
            amount_minor=row.amount_minor,
            currency=row.currency,
            end_to_end_id=row.end_to_end_id,
            execution_date=row.batch.execution_date,
        )
        for row in rows
    }


def find_attempt(*, organization_id: UUID, end_to_end_id: str) -> AttemptView | None:
    """Return what this end-to-end id means, unlocked, or None."""
    found = find_attempts(organization_id=organization_id, end_to_end_ids=[end_to_end_id])
    return found.get(end_to_end_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch as other apps see it; the total in minor units."""

    batch_id: UUID
    bank_account_id: UUID
    state: str
    total_minor: int
    currency: str
    execution_date: date


def find_batches(*, organization_id: UUID, references: Collection[str]) -> dict[str, BatchView]:
    """Return the batches that these payment or message ids name, by the id that named them."""
    wanted = frozenset(references)
    rows = PayoutBatch.objects.filter(organization_id=organization_id)
    found: dict[str, BatchView] = {}
    for row in (
        *rows.filter(message_id__in=wanted),
        *rows.filter(payment_information_id__in=wanted),
    ):
        view = BatchView(
            batch_id=row.id,
            bank_account_id=row.bank_account_id,
            state=row.state,
            total_minor=row.total_minor,
            currency=row.currency,
            execution_date=row.execution_date,
        )
        found.update(
            {name: view for name in (row.message_id, row.payment_information_id) if name in wanted}
        )
    return found


def has_open_attempts(*, organization_id: UUID, batch_id: UUID) -> bool:
    """Say whether an attempt of a batch may still change by a word of the bank."""
    return PayoutAttempt.objects.filter(
        organization_id=organization_id,
        batch_id=batch_id,
        state__in=["created", "batched", "submitted", "unknown"],
    ).exists()


def list_unknown_batches(*, limit: int = 500) -> Sequence[PayoutBatch]:
    """Return the batches of which nobody knows whether the bank has them."""
    return list(PayoutBatch.objects.filter(state=BatchState.UNKNOWN).order_by("id")[:limit])


def count_code(*, organization_id: UUID, destination_id: UUID, codes: Collection[str]) -> int:
    """Return how many attempts to a destination ended with one of these codes."""
    return PayoutAttempt.objects.filter(
        organization_id=organization_id,
        destination_version__destination_id=destination_id,
        reason_code__in=codes,
    ).count()


def list_facts_to_look_at(*, organization_id: UUID | None = None) -> QuerySet[BankFact]:
    """Return what the bank said and people have to look at, oldest first."""
    facts = BankFact.objects.exclude(desk="nobody").filter(looked_at__isnull=True).order_by("id")
    return facts if organization_id is None else facts.filter(organization_id=organization_id)


def facts_of_lines(
    *, organization_id: UUID, kind: str, bank_line_id: UUID
) -> Mapping[int, BankFact]:
    """Return what was recorded of a bank line, by position."""
    rows = BankFact.objects.filter(
        organization_id=organization_id, kind=kind, bank_line_id=bank_line_id
    )
    return {row.position: row for row in rows}
