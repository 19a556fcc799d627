"""Celery entry of banking: read files that came, fetch those the bank has for us."""

from datetime import datetime
from typing import Final, cast
from uuid import UUID

import structlog
from celery import shared_task

from apps.banking import operations, queries
from apps.banking.adapters import channel_of
from apps.banking.models import BankFileWork, ConnectionPoll
from apps.core import clock, work
from apps.core.actors import Actor, ActorKind
from apps.core.errors import OutsideCallError
from apps.core.transactions import outermost

log = structlog.get_logger("kassa.banking")

ACTOR: Final = Actor.job("banking")
_LEASE_SECONDS: Final = 120
_FILES_A_RUN: Final = 4
_POLLS_A_RUN: Final = 4


@shared_task(name="banking.import_due")
def import_due(**_: object) -> int:
    """Read files that wait; return how many."""
    claimed = work.claim_due(BankFileWork, limit=_FILES_A_RUN, lease_seconds=_LEASE_SECONDS)
    for row in claimed:
        try:
            operations.import_received_file(
                organization_id=row.organization_id,
                bank_file_id=row.bank_file_id,
                actor=_bringer(row),
                now=clock.now(),
            )
        # The boundary: one file that breaks us must not keep the others from being read. It is
        # tried again by its row, and paged about by its log line.
        except Exception as fault:
            log.exception("bank_file_not_read", bank_file_id=str(row.bank_file_id))
            _retry(row, error_code=type(fault).__name__[:64])
    return len(claimed)


def _bringer(row: BankFileWork) -> Actor:
    """Return who brought the file: what follows from it is theirs, and not theirs to approve."""
    file = queries.get_bank_file(organization_id=row.organization_id, bank_file_id=row.bank_file_id)
    kind, _, id_ = file.received_by.partition(":")
    return Actor(kind=cast("ActorKind", kind), id=id_, principal=file.received_principal)


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


@shared_task(name="banking.fetch_due")
def fetch_due(**_: object) -> int:
    """Ask the banks that are due for files; one that is away is asked again later."""
    taken = 0
    for poll in work.claim_due(ConnectionPoll, limit=_POLLS_A_RUN, lease_seconds=_LEASE_SECONDS):
        files, error_code = 0, ""
        try:
            files = fetch_files(
                organization_id=poll.organization_id,
                connection_id=poll.connection_id,
                now=clock.now(),
            )
        except OutsideCallError as fault:
            error_code = type(fault).__name__
            log.warning("bank_not_reached", connection_id=str(poll.connection_id), fault=error_code)
        # The boundary: a file that breaks us is logged and asked for again; others go on.
        except Exception as fault:
            error_code = type(fault).__name__[:64]
            log.exception("bank_files_not_fetched", connection_id=str(poll.connection_id))
        operations.record_poll(
            organization_id=poll.organization_id,
            poll_id=poll.id,
            lease_token=poll.lease_token,
            files=files,
            error_code=error_code,
        )
        taken += files
    return taken


def fetch_files(*, organization_id: UUID, connection_id: UUID, now: datetime) -> int:
    """
    Take over the files the bank has for us, each imported before the next; return how many.

    :raises OutsideCallError: if the bank cannot be reached
    """
    connection = queries.get_connection(
        organization_id=organization_id, connection_id=connection_id
    )
    ibans = queries.list_identifications(
        organization_id=organization_id, connection_id=connection_id
    )
    if not ibans:
        return 0
    taken = 0
    for fetched in channel_of(connection).fetch(after=connection.fetched_up_to, ibans=ibans):
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
