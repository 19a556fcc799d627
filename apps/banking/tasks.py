"""Celery entry of banking: read files that came, fetch those the bank has for us."""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, cast
from uuid import UUID

from apps.banking import operations, queries
from apps.banking.adapters import channel_of
from apps.banking.models import BankFileWork, ConnectionPoll
from apps.core import clock, working
from apps.core.actors import Actor, ActorKind
from apps.core.working import Record, Worker

ACTOR: Final = Actor.job("banking")
_FILES_A_RUN: Final = 4
_POLLS_A_RUN: Final = 4
# A call that begins just before the task's end has three times the channel's patience.
_FETCH_HARD_SECONDS: Final = 37
_FETCHING_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How many files a bank was asked for, and whether it has no more for us."""

    count: int
    is_all: bool


def _import(row: BankFileWork) -> None:
    operations.import_received_file(
        organization_id=row.organization_id,
        bank_file_id=row.bank_file_id,
        actor=_bringer(row),
        now=clock.now(),
    )


def _bringer(row: BankFileWork) -> Actor:
    """Return who brought the file: what follows from it is theirs, and not theirs to approve."""
    file = queries.get_bank_file(organization_id=row.organization_id, bank_file_id=row.bank_file_id)
    kind, _, id_ = file.received_by.partition(":")
    return Actor(kind=cast("ActorKind", kind), id=id_, principal=file.received_principal)


import_due: Final = working.register(
    Worker(
        kind=operations.FILES_KIND,
        model=BankFileWork,
        task="banking.import_due",
        queue="default",
        batch=_FILES_A_RUN,
        seconds_max=working.LONG_ROWS_SECONDS_MAX,
        perform=_import,
    )
)


def _fetch(poll: ConnectionPoll) -> Record[ConnectionPoll]:
    fetched = fetch_files(
        organization_id=poll.organization_id, connection_id=poll.connection_id, now=clock.now()
    )
    if not fetched.is_all:
        return operations.record_poll_unfinished
    return partial(operations.record_poll, files=fetched.count)


fetch_due: Final = working.register(
    Worker(
        kind=operations.POLLS_KIND,
        model=ConnectionPoll,
        task="banking.fetch_due",
        queue="default",
        hard_seconds=_FETCH_HARD_SECONDS,
        batch=_POLLS_A_RUN,
        seconds_max=working.LONG_ROWS_SECONDS_MAX,
        perform=_fetch,
        put_off=operations.record_poll_failed,
    )
)


def fetch_files(
    *,
    organization_id: UUID,
    connection_id: UUID,
    seconds_max: float = _FETCHING_SECONDS,
    now: datetime,
) -> Fetched:
    """
    Take over the files the bank has for us, each imported before the next, for so many seconds.

    :raises OutsideCallError: if the bank cannot be reached
    """
    connection = queries.get_connection(
        organization_id=organization_id, connection_id=connection_id
    )
    ibans = queries.list_identifications(
        organization_id=organization_id, connection_id=connection_id
    )
    if not ibans:
        return Fetched(count=0, is_all=True)
    ends = time.monotonic() + seconds_max
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
        if time.monotonic() > ends:
            return Fetched(count=taken, is_all=False)
    return Fetched(count=taken, is_all=True)


def seed_period(_period: str, now: datetime) -> None:
    """Keep the calendar five years ahead."""
    operations.seed_calendar(now=now)
