"""
Matching: every booked line is posted once, at once, on what it is or on suspense.

A worker holds the account's queue row by lease and takes its lines in their order, 500 to a
transaction.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError

from apps.banking import operations as banking
from apps.banking import queries as banking_queries
from apps.banking.models import BankLine, LineQueue
from apps.core import transactions, work, working
from apps.core.actors import Actor
from apps.reconciliation.operations._chunk import Chunk
from apps.reconciliation.operations._units import units_of
from apps.reconciliation.rules import PARKED

log = structlog.get_logger("kassa.reconciliation")

# Not one line's fault: the database went away, or the time is over. The account's row tries again.
_NOBODYS_FAULT: Final = (OperationalError, InterfaceError, working.OutOfTime)

CHUNK: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a chunk did; `is_done` once no line is left, or another worker took the account."""

    matched: int = 0
    in_suspense: int = 0
    is_done: bool = False

    def plus(self, other: "Progress") -> "Progress":
        """Return both together, done as the later one is."""
        return Progress(
            matched=self.matched + other.matched,
            in_suspense=self.in_suspense + other.in_suspense,
            is_done=other.is_done,
        )


def match_bank_lines(
    *,
    organization_id: UUID,
    queue: LineQueue,
    seconds_max: float = working.TURN_SECONDS,
    actor: Actor,
    now: datetime,
) -> Progress:
    """
    Match the new lines of the account whose queue row was claimed, chunk by chunk.

    After so many seconds it is not done, and its row is to be due at once: a lease has its time,
    and whoever takes it next goes on in the same order.
    """
    ends = time.monotonic() + seconds_max
    step = partial(
        match_chunk,
        organization_id=organization_id,
        queue_id=queue.id,
        lease_token=queue.lease_token,
        actor=actor,
        now=now,
    )
    progress = _step_over(step, ends=ends)
    while not progress.is_done and time.monotonic() < ends:
        progress = progress.plus(_step_over(step, ends=ends))
    return progress


def _step_over(step: Callable[..., Progress], *, ends: float) -> Progress:
    """
    Take the next chunk; where a line of it cannot be taken, take its lines one by one.

    A line that fails alone goes to suspense with a break: one that nobody foresaw must not keep
    the account's others from their owners. What fails even so is raised.
    """
    try:
        return step()
    except _NOBODYS_FAULT:
        raise
    except Exception:
        log.exception("bank_lines_chunk_failed")
    progress = Progress()
    for _line in range(CHUNK):
        try:
            one = step(limit=1)
        except _NOBODYS_FAULT:
            raise
        except Exception:
            log.exception("bank_line_not_matched")
            one = step(limit=1, is_suspending=True)
        progress = progress.plus(one)
        if progress.is_done or time.monotonic() > ends:
            break
    return progress


@transactions.outermost
def match_chunk(
    *,
    organization_id: UUID,
    queue_id: UUID,
    lease_token: UUID | None,
    limit: int | None = None,
    is_suspending: bool = False,
    actor: Actor,
    now: datetime,
) -> Progress:
    """
    Match and post the account's next lines in one transaction.

    With no new line left, the next of those parked before are tried again: each once after new
    lines came, so that none is kept from its turn by others that never match. After the last one
    the account is done. `is_suspending` posts new lines to suspense without asking whose they are,
    and leaves parked ones as they are.

    Nothing happens once the lease is lost: another worker has the account.
    """
    queue = work.lock_leased(
        LineQueue, organization_id=organization_id, row_id=queue_id, lease_token=lease_token
    )
    if queue is None:
        return Progress(is_done=True)
    account = banking_queries.get_bank_account(
        organization_id=organization_id, bank_account_id=queue.bank_account_id
    )
    limit = limit or CHUNK
    lines = banking_queries.list_new_lines(
        organization_id=organization_id, bank_account_id=account.id, limit=limit
    )
    chunk = Chunk(account, actor=actor, now=now)
    if lines:
        take = chunk.suspend if is_suspending else chunk.match
        take(units_of(organization_id, lines))
        chunk.record(turn=queue.turn)
        banking.begin_turn(queue)
        return Progress(matched=chunk.matched, in_suspense=chunk.in_suspense)
    parked = _parked(queue, limit=limit)
    try_again = chunk.leave_parked if is_suspending else chunk.match_again
    try_again(parked)
    chunk.record(turn=queue.turn)
    is_done = len(parked) < limit
    if is_done:
        work.mark_done(queue)
    return Progress(matched=chunk.matched, in_suspense=chunk.in_suspense, is_done=is_done)


def _parked(queue: LineQueue, *, limit: int) -> list[BankLine]:
    return banking_queries.list_lines_in_suspense(
        organization_id=queue.organization_id,
        bank_account_id=queue.bank_account_id,
        reason=PARKED,
        turn=queue.turn,
        limit=limit,
    )
