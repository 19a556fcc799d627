"""Celery entry of banking: read files that came, fetch those the bank has for us."""

from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from celery import shared_task

from apps.banking import operations
from apps.banking.adapters import channel_of
from apps.banking.models import BankConnection, BankFileWork
from apps.banking.states import Channel
from apps.core import clock, work
from apps.core.actors import Actor
from apps.core.errors import OutsideCallError
from apps.core.transactions import outermost

log = structlog.get_logger("kassa.banking")

ACTOR: Final = Actor.job("banking")
_LEASE_SECONDS: Final = 120
_FILES_A_RUN: Final = 4


@shared_task(name="banking.import_due")
def import_due(**_: object) -> int:
    """Read files that wait; return how many."""
    claimed = work.claim_due(BankFileWork, limit=_FILES_A_RUN, lease_seconds=_LEASE_SECONDS)
    for row in claimed:
        try:
            operations.import_received_file(
                organization_id=row.organization_id,
                bank_file_id=row.bank_file_id,
                actor=ACTOR,
                now=clock.now(),
            )
        # The boundary: one file that breaks us must not keep the others from being read. It is
        # tried again by its row, and paged about by its log line.
        except Exception as fault:
            log.exception("bank_file_not_read", bank_file_id=str(row.bank_file_id))
            _retry(row, error_code=type(fault).__name__[:64])
    return len(claimed)


@outermost
def _retry(row: BankFileWork, *, error_code: str) -> None:
    held = work.lock_leased(
        BankFileWork,
        organization_id=row.organization_id,
        row_id=row.id,
        lease_token=row.lease_token,
    )
    if held is not None:
        work.mark_retry(held, error_code=error_code)


def fetch_period(_period: str, now: datetime) -> None:
    """Fetch from every connection that can be asked; a bank that is away is asked again later."""
    rows = BankConnection.objects.exclude(channel=Channel.MANUAL).values_list(
        "organization_id", "id"
    )
    for organization_id, connection_id in rows:
        try:
            fetch_files(organization_id=organization_id, connection_id=connection_id, now=now)
        except OutsideCallError as fault:
            log.warning(
                "bank_not_reached",
                connection_id=str(connection_id),
                outcome=type(fault).__name__,
            )


def fetch_files(*, organization_id: UUID, connection_id: UUID, now: datetime) -> int:
    """
    Take over the files the bank has for us, each imported before the next; return how many.

    :raises OutsideCallError: if the bank cannot be reached
    """
    connection = BankConnection.objects.get(organization_id=organization_id, id=connection_id)
    taken = 0
    for fetched in channel_of(connection).fetch(after=connection.fetched_up_to):
        operations.import_bank_file(
            organization_id=organization_id,
            content=fetched.content,
            name=fetched.name,
            connection_id=connection_id,
            actor=ACTOR,
            now=now,
        )
        # After the import: a crash between the two brings the file again, which changes nothing.
        operations.advance_connection(
            organization_id=organization_id, connection_id=connection_id, up_to=fetched.number
        )
        taken += 1
    return taken


def seed_period(_period: str, now: datetime) -> None:
    """Keep the calendar five years ahead."""
    operations.seed_calendar(now=now)
